"""Stored gradients as functions that jax differentiates, and back."""

import functools
import re
import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    jax = pytest.importorskip("jax")

import jax.numpy as jnp

import metatensor
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.jax import attach_gradients, store_gradients
from metatensor.testing import assert_equal

ONE = Labels.single()
XYZ = Labels.range("xyz", 3)
NAMES = ["positions", "strain"]


def make_values(*shape, dtype=np.float64, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def labels(names, rows):
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), -1))


SAMPLES = labels(["system", "atom"], [[0, 0], [0, 1], [-1, 0], [7, 2]])
ATOMS = labels(["system", "atom"], [[7, 2], [7, 3], [0, 0], [0, 1], [-1, 0]])
ROWS = [[0, 0, 0], [0, 0, 1], [1, 0, 1], [2, -1, 0], [3, 7, 3], [3, 7, 2]]
#: what of SAMPLES, which of ATOMS, which of the systems each of the rows belongs to
OWNERS, OF_ATOMS = [0, 0, 1, 2, 3, 3], [2, 3, 3, 4, 1, 0]
SYSTEMS = labels(["system"], [[0], [7], [-1]])
OF_SYSTEMS = [0, 0, 2, 1]
LABELS = {
    "positions": (ATOMS, [XYZ], Labels.range("positions", 1)),
    "strain": (SYSTEMS, [Labels.range("xyz_1", 3), Labels.range("xyz_2", 3)], ONE),
}
COMPONENTS = pytest.mark.parametrize(
    "components", [[], [Labels.range("o3_mu", 3)], [Labels.range("a", 2), Labels.range("b", 1)]]
)


def block_with(values, gradients, components=()):
    properties = Labels.range("n", 2)
    block = TensorBlock(values, SAMPLES, list(components), properties)
    rows = [labels(["sample", "system", "atom"], ROWS), Labels.range("sample", 4)]
    for name, array, samples in zip(NAMES, gradients, rows, strict=True):
        own = LABELS[name][1]
        block.add_gradient(name, TensorBlock(array, samples, [*own, *components], properties))
    return block


def example(components=(), dtype=np.float64, seed=0):
    sizes = [*map(len, components), 2]
    values = make_values(4, *sizes, dtype=dtype, seed=seed)
    gradients = [
        make_values(6, 3, *sizes, dtype=dtype, seed=seed + 1),
        make_values(4, 3, 3, *sizes, dtype=dtype, seed=seed + 2),
    ]
    return values, gradients


def make_parameters(dtype=np.float64):
    shapes = [(5, 3, 1), (3, 3, 3, 1)]
    return [make_values(*shape, dtype=dtype, seed=5) for shape in shapes]


def blocks_of(parameters):
    return {
        name: TensorBlock(array, *LABELS[name])
        for name, array in zip(NAMES, parameters, strict=True)
    }


def attached(parameters, values, gradients, components=()):
    block = block_with(values, gradients, components)
    return attach_gradients(block, blocks_of(parameters)).values


def expected_product(gradients, cotangent):
    """Loop over gradient rows in plain numpy."""
    positions, strain = np.zeros((5, 3, 1)), np.zeros((3, 3, 3, 1))
    cotangent = np.asarray(cotangent).reshape(4, -1)
    values = np.asarray(gradients[0]).reshape(6, 3, -1)
    for row in range(6):
        positions[OF_ATOMS[row], :, 0] += values[row] @ cotangent[OWNERS[row]]
    values = np.asarray(gradients[1]).reshape(4, 3, 3, -1)
    for row in range(4):
        strain[OF_SYSTEMS[row], :, :, 0] += values[row] @ cotangent[row]
    return [positions, strain]


def linear(parameters, values, gradients, components=()):
    """What is differentiated: values plus gradients times the displacement, which is zero."""
    plans = [(OWNERS, OF_ATOMS), ([0, 1, 2, 3], OF_SYSTEMS)]
    result = values
    for array, one, (owners, rows) in zip(gradients, parameters, plans, strict=True):
        moved = (one - jax.lax.stop_gradient(one))[np.array(rows)].reshape(len(rows), 1, -1)
        terms = moved @ array.reshape(len(rows), moved.shape[2], -1)
        result = result.at[np.array(owners)].add(terms.reshape(-1, *values.shape[1:]))
    return result


def assert_close(found, expected, tolerance=1e-12):
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


# ---- attach


@COMPONENTS
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 1e-5)])
def test_products_with_stored_gradients(components, dtype, tolerance):
    """Backwards and forwards."""
    values, gradients = example(components, dtype)
    parameters = make_parameters(dtype)
    cotangent = make_values(*values.shape, dtype=dtype, seed=9)
    tangents = [make_values(*one.shape, dtype=dtype, seed=3) for one in parameters]

    @jax.jit
    def products(parameters):
        def function(new):
            return attached(new, values, gradients, components)

        result, pull = jax.vjp(function, parameters)
        return result, pull(cotangent)[0], jax.jvp(function, (parameters,), (tangents,))[1]

    result, pulled, pushed = products(parameters)
    np.testing.assert_array_equal(result, values)
    assert all(one.dtype == dtype for one in [*pulled, pushed])
    expected = expected_product(gradients, cotangent)
    assert_close(pulled, expected, tolerance)
    total = sum((a * b).sum() for a, b in zip(expected, tangents, strict=True))
    np.testing.assert_allclose((pushed * cotangent).sum(), total, rtol=100 * tolerance)


def test_derivatives_before_and_after():
    """Values and stored gradients that depend on weights, and a nonlinear model after them."""
    components = [Labels.range("o3_mu", 3)]
    values, gradients = example(components)
    parameters = make_parameters()
    before, after = [make_values(*values.shape[1:], seed=seed) for seed in (8, 7)]

    def derivatives(function, modes, parameters, before, after):
        def energy(parameters, before, after):
            scaled = [array * before for array in gradients]
            result = function(parameters, values * before, scaled, components)
            return (jnp.tanh(result) * after).sum()

        def of_forces(before, after):
            forces = jax.grad(energy)(parameters, before, after)
            return sum((one**2).sum() for one in forces)

        def of_slopes(parameters):
            return (jax.grad(energy, 1)(parameters, before, after) ** 2).sum()

        return (
            jax.grad(energy, (0, 1, 2))(parameters, before, after),
            [mode(of_forces, (0, 1))(before, after) for mode in modes],
            jax.grad(of_slopes)(parameters),
        )

    compiled = jax.jit(derivatives, static_argnums=(0, 1))
    first, second, third = compiled(attached, (jax.grad, jax.jacfwd), parameters, before, after)
    expected = compiled(linear, (jax.grad,), parameters, before, after)
    for one in second:
        assert_close((first, [one], third), expected)


NOT_STORED = "second derivatives with respect to parameters .* derivatives of stored gradients"


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("second", [0, 1])
@pytest.mark.parametrize("modes", [(a, b) for a in ("rev", "fwd") for b in ("rev", "fwd")])
@pytest.mark.parametrize("power", [1, 2])
def test_second_derivatives_raise(first, second, modes, power):
    values, gradients = example()
    parameters = make_parameters()

    def energy(*parameters):
        return (attached(parameters, values, gradients) ** power).sum()

    inner, outer = [getattr(jax, f"jac{mode}") for mode in modes]
    for compiled in [lambda f: f, jax.jit]:
        with pytest.raises(NotImplementedError, match=NOT_STORED):
            jax.eval_shape(outer(compiled(inner(energy, first)), second), *parameters)


def test_transforms():
    values, gradients = example()
    parameters = make_parameters()
    expected = expected_product(gradients, np.ones(values.shape))

    def rows(parameters):
        return attached(parameters, values, gradients)

    def energy(parameters):
        return rows(parameters).sum()

    @jax.jit
    def derivatives(parameters):
        moved = jax.tree.map(lambda one: jnp.stack([one, one + 1]), parameters)
        jacobians = [function(rows)(parameters) for function in (jax.jacrev, jax.jacfwd)]
        return [
            jax.grad(jax.jit(energy))(parameters),
            jax.tree.map(lambda one: one[1], jax.vmap(jax.grad(energy))(moved)),
            jax.grad(jax.checkpoint(energy))(parameters),
            *jax.tree.map(lambda one: one.sum((0, 1)), jacobians),
        ]

    for found in [*derivatives(parameters), jax.grad(energy)(parameters)]:
        assert_close(found, expected)


def test_steps_of_a_compiled_loop():
    """Training on forces inside of `scan`, where only weights change."""
    values, gradients = example()
    parameters = make_parameters()

    def loss(weights, function):
        def energy(parameters):
            return (jnp.tanh(function(parameters, values, gradients)) @ weights).sum()

        return sum((one**2).sum() for one in jax.grad(energy)(parameters))

    results = []
    for function in [attached, linear]:

        def step(weights, _, function=function):
            return weights - 1e-3 * jax.grad(loss)(weights, function), None

        results.append(
            jax.jit(lambda w, step=step: jax.lax.scan(step, w, length=5)[0])(jnp.ones(2))
        )
    assert_close(*results)


@pytest.mark.parametrize(
    ("samples", "rows"),
    [
        (ONE, [0] * 6),
        (Labels.range("atom", 4), [0, 1, 1, 0, 3, 2]),
        (SYSTEMS, [0, 0, 0, 2, 1, 1]),
    ],
)
def test_rows_share_parameters(samples, rows):
    values, gradients = example()
    block = block_with(values, gradients)

    def energy(array):
        given = {"positions": TensorBlock(array, samples, [XYZ], ONE)}
        return attach_gradients(block, given).values.sum()

    expected = np.zeros((len(samples), 3, 1))
    np.add.at(expected, rows, np.asarray(gradients[0]).sum(2, keepdims=True))
    assert_close(jax.jit(jax.grad(energy))(make_values(len(samples), 3, 1)), expected)


def test_blocks_of_a_map_share_parameters():
    examples = [example(seed=seed) for seed in (0, 20)]
    tensor = TensorMap(Labels.range("key", 2), [block_with(*one) for one in examples])
    tensor.set_info("units", "eV")

    def energy(parameters):
        maps = {name: TensorMap(ONE, [block]) for name, block in blocks_of(parameters).items()}
        result = attach_gradients(tensor, maps)
        assert result.info() == {"units": "eV"}
        return sum((block.values**2).sum() for block in result)

    parts = [expected_product(gradients, 2 * values) for values, gradients in examples]
    expected = [first + second for first, second in zip(*parts, strict=True)]
    assert_close(jax.jit(jax.grad(energy))(make_parameters()), expected)


@pytest.mark.parametrize("n_samples", [0, 1, 4])
def test_without_rows(n_samples):
    samples = Labels(["system", "atom"], SAMPLES.values[:n_samples])
    block = TensorBlock(jnp.ones((n_samples, 2)), samples, [], Labels.range("n", 2))
    rows = Labels.empty(["sample", "system", "atom"])
    block.add_gradient("positions", TensorBlock(jnp.ones((0, 3, 2)), rows, [XYZ], block.properties))

    def energy(array):
        given = {"positions": TensorBlock(array, *LABELS["positions"])}
        return attach_gradients(block, given).values.sum()

    assert_close(jax.jit(jax.grad(energy))(jnp.ones((5, 3, 1))), np.zeros((5, 3, 1)))


def test_maps_without_blocks_and_no_parameters():
    tensor = TensorMap(Labels.empty("key"), [])
    given = blocks_of(make_parameters())
    assert len(attach_gradients(tensor, given)) == 0
    assert len(store_gradients(lambda _: tensor, given)) == 0
    block = block_with(*example())
    assert_equal(attach_gradients(block, {}), metatensor.remove_gradients(block))


def block_of(*shape, components=(XYZ,), dtype=np.float64):
    return TensorBlock(jnp.zeros(shape, dtype=dtype), ATOMS, list(components), ONE)


ERRORS = {
    "numpy": (
        lambda: {"positions": block_of(5, 3, 1).to(arrays="numpy")},
        TypeError,
        'must have jax values, got numpy; use `.to(arrays="jax")`',
    ),
    "dtype": (
        lambda: {"positions": block_of(5, 3, 1, dtype=np.float32)},
        ValueError,
        "must have the dtype of the values, float64, got float32",
    ),
    "complex": (
        lambda: {"positions": block_of(5, 3, 1, dtype=np.complex128)},
        TypeError,
        "real floating point values, got complex128",
    ),
    "components": (
        lambda: {"positions": block_of(5, 3, 1, components=[Labels.range("axis", 3)])},
        ValueError,
        "must have the components of the gradient",
    ),
    "gradient": (lambda: {"cell": block_of(5, 3, 1)}, ValueError, "no gradient with respect to"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, error, text = ERRORS[case]
    with pytest.raises(error, match=re.escape(text)):
        attach_gradients(block_with(*example()), make())


# ---- forces


def radial_map(radial, given):
    """The descriptor, followed by jax from the parameters."""
    values = radial(jnp, given["positions"].values[..., 0], given["strain"].values[..., 0])
    blocks = [
        TensorBlock(array, block.samples, [], block.properties)
        for array, block in zip(values, radial.descriptor, strict=True)
    ]
    return TensorMap(radial.descriptor.keys, blocks)


def radial_parameters(radial):
    values = {"positions": radial.positions[..., None], "strain": radial.strains[..., None]}
    return {
        name: TensorBlock(jnp.asarray(array), *radial.labels(name))
        for name, array in values.items()
    }


def make_weights(radial):
    n_features = 2 * (radial.N_RADIAL + 1)
    return [
        (0.3 * make_values(n_features, 8, seed=seed), make_values(8, 1, seed=seed + 1))
        for seed in (1, 3)
    ]


def energies_of(weights, features):
    """Energies of systems, one block, by one network for each type of atom."""
    blocks = []
    features = features.keys_to_properties("neighbor_type")
    for (first, second), block in zip(weights, features, strict=True):
        values = jnp.tanh(block.values @ first) @ second
        blocks.append(TensorBlock(values, block.samples, [], Labels.range("energy", 1)))
    atoms = TensorMap(features.keys, blocks).keys_to_samples("center_type")
    return metatensor.sum_over_samples(atoms, ["atom", "center_type"])


def loss_of(weights, describe, given):
    """A loss on energies, forces and stresses, and all that it is made of."""

    def total(values):
        blocks = {
            name: TensorBlock(array, block.samples, block.components, block.properties)
            for (name, block), array in zip(given.items(), values, strict=True)
        }
        energies = energies_of(weights, describe(blocks)).block().values
        return energies.sum(), energies

    values = [block.values for block in given.values()]
    forces, energies = jax.grad(total, has_aux=True)(values)
    return ((energies - 1) ** 2).mean() + sum((one**2).mean() for one in forces), (energies, forces)


def test_training_on_forces_is_that_of_jax(radial):
    given, weights = radial_parameters(radial), make_weights(radial)
    tensor = radial.descriptor.to(arrays="jax")
    outcomes = []
    for describe in [
        lambda blocks: attach_gradients(tensor, blocks),
        lambda blocks: radial_map(radial, blocks),
    ]:

        def loss(weights, describe=describe):
            return loss_of(weights, describe, given)

        outcomes.append(jax.jit(jax.value_and_grad(loss, has_aux=True))(weights))
    assert_close(*outcomes)


# ---- store


def stored_arrays(function, parameters):
    """Values and gradients of all blocks, compiled; and what they belong to."""
    results = []

    @jax.jit
    def compute(values):
        blocks = {
            name: TensorBlock(array, block.samples, block.components, block.properties)
            for (name, block), array in zip(parameters.items(), values, strict=True)
        }
        results.append(store_gradients(function, blocks))
        return [
            [block.values, *(gradient.values for _, gradient in block.gradients())]
            for block in results[0]
        ]

    return compute([block.values for block in parameters.values()]), results[0]


def test_stored_gradients_of_features(radial):
    """Those of the descriptor, which leaves out pairs of atoms that do not see each other."""
    arrays, tensor = stored_arrays(
        lambda blocks: radial_map(radial, blocks), radial_parameters(radial)
    )
    for found, block, expected in zip(arrays, tensor, radial.descriptor, strict=True):
        assert_close(found[0], expected.values)
        for name, array in zip(NAMES, found[1:], strict=True):
            samples = block.gradient(name).samples
            rows = samples.select(expected.gradient(name).samples).astype(int)
            dense = np.zeros(array.shape)
            dense[rows] = expected.gradient(name).values
            assert_close(array, dense)


def test_what_was_attached_is_stored():
    tensor = TensorMap(Labels.range("key", 2), [block_with(*example(seed=k)) for k in (0, 20)])
    tensor.set_info("units", "eV")
    given = blocks_of(make_parameters())
    found = store_gradients(
        lambda blocks: attach_gradients(tensor, blocks), given, within=(), drop_zeros=True
    )
    for block, expected in zip(found, tensor, strict=True):
        assert_equal(block.gradient("positions").samples, sorted_rows(expected))
        assert_close(
            block.gradient("positions").values[jnp.array(ORDER)],
            expected.gradient("positions").values,
        )
        strain = block.gradient("strain")
        assert strain.samples.names == ["sample", "system"]
        assert_close(strain.values, expected.gradient("strain").values)
    assert found.info() == {"units": "eV"}


#: where ROWS are when the rows of ATOMS are taken in order for each sample
ORDER = [0, 1, 2, 3, 5, 4]


def sorted_rows(block):
    table = block.gradient("positions").samples.values[np.argsort(ORDER)]
    return Labels(["sample", "system", "atom"], table)


def test_losses_on_stored_gradients(radial):
    """The same derivatives with respect to weights as those of losses on forces."""
    given, weights = radial_parameters(radial), make_weights(radial)

    def describe(blocks):
        return radial_map(radial, blocks)

    def loss(weights):
        block = store_gradients(lambda new: energies_of(weights, describe(new)), given).block()
        assert block.gradient("strain").samples == Labels.range("sample", 3)
        forces = [block.gradient(name).values for name in NAMES]
        total = ((block.values - 1) ** 2).mean() + sum((one**2).mean() for one in forces)
        return total, (block.values, forces)

    found = jax.jit(jax.value_and_grad(loss, has_aux=True))(weights)
    expected = jax.jit(jax.value_and_grad(lambda new: loss_of(new, describe, given), has_aux=True))(
        weights
    )
    assert_close(found, expected)


@pytest.mark.parametrize("components", [[], [Labels.range("o3_mu", 3)]])
@pytest.mark.parametrize("n_samples", [0, 1, 4])
def test_every_sample_can_depend_on_every_row(components, n_samples):
    samples = Labels(["system", "atom"], SAMPLES.values[:n_samples])
    matrix = make_values(n_samples, *map(len, components), 2, 5, 3, seed=6)

    def function(blocks):
        values = jnp.einsum("...ad,ad->...", matrix, blocks["positions"].values[..., 0] ** 2)
        return TensorBlock(values, samples, components, Labels.range("n", 2))

    given = {"positions": TensorBlock(make_parameters()[0], *LABELS["positions"])}
    stored = jax.jit(lambda given: store_gradients(function, given, within=()))(given)
    gradient = stored.gradient("positions")
    assert gradient.components == [XYZ, *components]
    expected = np.asarray(2 * matrix * given["positions"].values[..., 0])
    expected = np.moveaxis(expected, (-2, -1), (1, 2))
    assert_close(gradient.values, expected.reshape(n_samples * 5, *expected.shape[2:]))


def test_systems_that_depend_on_each_other():
    given = {"strain": TensorBlock(make_parameters()[1], *LABELS["strain"])}

    def function(blocks):
        values = (blocks["strain"].values ** 2).sum((1, 2))
        return TensorBlock(values - values.mean(), SYSTEMS, [], ONE)

    text = (
        r"only depend on rows of the parameter 'strain' with the same \['system'\].*`within=\(\)`"
    )
    with pytest.raises(ValueError, match=text):
        store_gradients(function, given)
    stored = jax.jit(lambda given: store_gradients(function, given, within=()))(given)
    found = stored.gradient("strain").values
    factors = (np.eye(3) - 1 / 3)[:, :, None, None, None]
    assert_close(found, (2 * given["strain"].values * factors).reshape(9, 3, 3, 1))


def test_gradients_that_are_there_stay():
    block, given = block_with(*example()), blocks_of(make_parameters())

    def function(blocks):
        result = attach_gradients(block, blocks)
        gradient = block.gradient("positions")
        zero = 0 * blocks["strain"].values.sum()  # followed by jax, as the values are
        axes = gradient.samples, gradient.components, gradient.properties
        result.add_gradient("positions", TensorBlock(gradient.values + zero, *axes))
        return result

    stored = jax.jit(functools.partial(store_gradients, function))
    assert_equal(stored({"strain": given["strain"]}), block)


def test_arrays_that_are_shared():
    """Blocks with the same values and other gradients; parameters with the same values."""
    values, gradients = example()
    others = example(seed=20)[1]
    tensor = TensorMap(
        Labels.range("key", 2), [block_with(values, gradients), block_with(values, others)]
    )
    given = {"strain": TensorBlock(make_parameters()[1], *LABELS["strain"])}
    stored = jax.jit(store_gradients, static_argnums=0)
    found = stored(lambda blocks: attach_gradients(tensor, blocks), given)
    for block, expected in zip(found, [gradients, others], strict=True):
        assert_close(block.gradient("strain").values, expected[1])

    def function(blocks):
        sums = 2 * blocks["a"].values + 3 * blocks["b"].values
        return TensorBlock(sums[..., 0], Labels.range("system", 2), [], ONE)

    one = TensorBlock(jnp.ones((2, 1, 1)), Labels.range("system", 2), [Labels.range("x", 1)], ONE)
    block = stored(function, {"a": one, "b": one})
    assert float(block.gradient("a").values.sum()) == 4
    assert float(block.gradient("b").values.sum()) == 6


STORE_ERRORS = {
    "function": (3, TypeError, "`function` must be callable, got int"),
    "result": (lambda _: 3, TypeError, "the result of `function`"),
    "there": (
        lambda _: block_with(*example()),
        ValueError,
        "has a gradient 'positions' already; use `remove_gradients`",
    ),
    "numpy": (
        lambda _: block_of(5, 3, 1).to(arrays="numpy"),
        TypeError,
        "the result must have jax values, got numpy",
    ),
}


@pytest.mark.parametrize("case", STORE_ERRORS)
def test_errors_of_store(case):
    function, error, text = STORE_ERRORS[case]
    with pytest.raises(error, match=re.escape(text)):
        store_gradients(function, blocks_of(make_parameters()))
