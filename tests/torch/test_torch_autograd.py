"""Stored gradients as functions that torch differentiates, and back."""

import re
import warnings

import numpy as np
import pytest
import torch

import metatensor
import metatensor.torch
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.learn import nn
from metatensor.testing import assert_allclose, assert_equal
from metatensor.torch import attach_gradients, store_gradients

ONE = Labels.single()
XYZ = Labels.range("xyz", 3)
NAMES = ["positions", "strain"]


def make_values(*shape, dtype=torch.float64, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape)).to(dtype)


def labels(names, rows):
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), -1))


SAMPLES = labels(["system", "atom"], [[0, 0], [0, 1], [-1, 0], [7, 2]])
ATOMS = labels(["system", "atom"], [[7, 2], [7, 3], [0, 0], [0, 1], [-1, 0]])
ROWS = [[0, 0, 0], [0, 0, 1], [1, 0, 1], [2, -1, 0], [3, 7, 3], [3, 7, 2]]
#: what of SAMPLES, which of ATOMS, which of the systems each of the rows belongs to
OWNERS, OF_ATOMS = [0, 0, 1, 2, 3, 3], [2, 3, 3, 4, 1, 0]
SYSTEMS = labels(["system"], [[0], [7], [-1]])
OF_SYSTEMS = [0, 0, 2, 1]


def example(dtype=torch.float64, components=(), seed=0):
    """Per-atom values with gradients; atom 3 of system 7 is no sample, sample 1 has one row."""
    sizes = [len(one) for one in components]
    properties = Labels.range("n", 2)
    block = TensorBlock(
        make_values(4, *sizes, 2, dtype=dtype, seed=seed), SAMPLES, list(components), properties
    )
    values = make_values(6, 3, *sizes, 2, dtype=dtype, seed=seed + 1)
    rows = labels(["sample", "system", "atom"], ROWS)
    block.add_gradient("positions", TensorBlock(values, rows, [XYZ, *components], properties))
    values = make_values(4, 3, 3, *sizes, 2, dtype=dtype, seed=seed + 2)
    own = [Labels.range("xyz_1", 3), Labels.range("xyz_2", 3)]
    rows = Labels.range("sample", 4)
    block.add_gradient("strain", TensorBlock(values, rows, [*own, *components], properties))
    return block


def parameters(dtype=torch.float64, requires_grad=True, seed=5):
    shapes = {"positions": (ATOMS, [XYZ]), "strain": (SYSTEMS, example().gradient("strain"))}
    blocks = {}
    for name, (samples, components) in shapes.items():
        if isinstance(components, TensorBlock):
            components = components.components
        shape = (len(samples), *map(len, components), 1)
        values = make_values(*shape, dtype=dtype, seed=seed).requires_grad_(requires_grad)
        blocks[name] = TensorBlock(values, samples, components, Labels.range(name, 1))
    return blocks


def arrays(blocks):
    return [block.values for block in blocks.values()]


def expected_product(block, cotangent):
    """Loop over gradient rows in plain numpy."""
    positions, strain = np.zeros((5, 3, 1)), np.zeros((3, 3, 3, 1))
    cotangent = cotangent.reshape(4, -1)
    values = block.gradient("positions").values.numpy().reshape(6, 3, -1)
    for row in range(6):
        positions[OF_ATOMS[row], :, 0] += values[row] @ cotangent[OWNERS[row]]
    values = block.gradient("strain").values.numpy().reshape(4, 3, 3, -1)
    for row in range(4):
        strain[OF_SYSTEMS[row], :, :, 0] += values[row] @ cotangent[row]
    return [positions, strain]


COMPONENTS = pytest.mark.parametrize(
    "components", [[], [Labels.range("o3_mu", 3)], [Labels.range("a", 2), Labels.range("b", 1)]]
)


# ---- attach


@COMPONENTS
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-5)])
def test_products_with_stored_gradients(components, dtype, tolerance):
    block, given = example(dtype, components), parameters(dtype)
    result = attach_gradients(block, given)
    assert torch.equal(result.values, block.values)
    assert result.gradients_list() == []
    cotangent = make_values(*block.shape, dtype=dtype, seed=9)
    found = torch.autograd.grad(result.values, arrays(given), cotangent)
    for one, expected in zip(found, expected_product(block, cotangent.numpy()), strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(one, expected, rtol=tolerance, atol=tolerance)


@COMPONENTS
def test_forward_mode(components):
    block, given = example(components=components), parameters(requires_grad=False)
    tangents = [make_values(*one.shape, seed=3) for one in arrays(given)]
    cotangent = make_values(*block.shape, seed=9)

    def values(*new):
        return attach_gradients(block, replaced(given, new)).values

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what torch does itself
        result, pushed = torch.func.jvp(values, tuple(arrays(given)), tuple(tangents))
    assert torch.equal(result, block.values)
    products = expected_product(block, cotangent.numpy())
    expected = sum((a * b.numpy()).sum() for a, b in zip(products, tangents, strict=True))
    np.testing.assert_allclose((pushed * cotangent).sum(), expected, rtol=1e-12)


def replaced(given, new):
    return {
        name: TensorBlock(values, block.samples, block.components, block.properties)
        for (name, block), values in zip(given.items(), new, strict=True)
    }


def linear(block, values, gradients, given):
    """What is differentiated: values plus gradients times the displacement, which is zero."""
    result = values
    for array, one, owners, rows in zip(
        gradients, given, [OWNERS, [0, 1, 2, 3]], [OF_ATOMS, OF_SYSTEMS], strict=True
    ):
        moved = (one - one.detach())[rows].reshape(len(rows), 1, -1)
        terms = (moved @ array.reshape(len(rows), moved.shape[2], -1)).reshape(-1, *block.shape[1:])
        result = result.index_add(0, torch.tensor(owners), terms)
    return result


@COMPONENTS
def test_derivatives_before_and_after(components):
    """Values and stored gradients that depend on weights, and a nonlinear model after them."""
    block, given = example(components=components), parameters()
    weights = make_values(*block.shape[1:], seed=8).requires_grad_()
    after = make_values(*block.shape[1:], seed=7).requires_grad_()

    def scaled():
        result = TensorBlock(block.values * weights, SAMPLES, components, block.properties)
        for name, gradient in block.gradients():
            result.add_gradient(
                name,
                TensorBlock(
                    gradient.values * weights,
                    gradient.samples,
                    gradient.components,
                    gradient.properties,
                ),
            )
        return result

    outcomes = []
    for attached in [True, False]:
        start = scaled()
        gradients = [start.gradient(name).values for name in NAMES]
        values = (
            attach_gradients(start, given).values
            if attached
            else linear(block, start.values, gradients, arrays(given))
        )
        total = (torch.tanh(values) * after).sum()
        wrt = [*arrays(given), weights, after]
        first = torch.autograd.grad(total, wrt, create_graph=True)
        # a loss on forces, with respect to weights; derivatives with respect to weights, again
        # with respect to parameters: both orders of the same
        loss = sum((one**2).sum() for one in first[:2])
        second = torch.autograd.grad(loss, [weights, after], retain_graph=True)
        mixed = torch.autograd.grad((first[2] ** 2).sum(), arrays(given), retain_graph=True)
        outcomes.append([*first, *second, *mixed])
    for one, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-13, atol=1e-13)


def test_gradcheck_of_values_and_stored_gradients():
    block, given = example(), parameters()
    inputs = [block.values.requires_grad_()]
    inputs += [block.gradient(name).values.requires_grad_() for name in NAMES]

    def products(values, positions, strain):
        """Forces, as functions of values and of what is stored."""
        new = TensorBlock(values, SAMPLES, [], block.properties)
        for name, array in zip(NAMES, [positions, strain], strict=True):
            old = block.gradient(name)
            new.add_gradient(name, TensorBlock(array, old.samples, old.components, old.properties))
        result = torch.tanh(attach_gradients(new, given).values).sum()
        return torch.autograd.grad(result, arrays(given), create_graph=True)

    assert torch.autograd.gradcheck(products, inputs)
    assert torch.autograd.gradgradcheck(products, inputs)
    block.values.requires_grad_(False)


NOT_STORED = "second derivatives with respect to parameters .* derivatives of stored gradients"


@pytest.mark.parametrize("first", NAMES)
@pytest.mark.parametrize("second", NAMES)
@pytest.mark.parametrize("power", [1, 2])
def test_second_derivatives_raise(first, second, power):
    """Those that are linear too: the missing term is that of the stored gradients."""
    block, given = example(), parameters()
    values = attach_gradients(block, given).values
    (force,) = torch.autograd.grad((values**power).sum(), given[first].values, create_graph=True)
    with pytest.raises(NotImplementedError, match=NOT_STORED):
        torch.autograd.grad(force.sum(), given[second].values)


def test_losses_on_forces_differentiate_with_respect_to_weights_alone():
    block, given = example(), parameters()
    weights = torch.nn.Parameter(make_values(2, 1))
    energies = torch.tanh(attach_gradients(block, given).values) @ weights
    (force,) = torch.autograd.grad(energies.sum(), given["positions"].values, create_graph=True)
    loss = (force**2).sum()
    with pytest.raises(NotImplementedError, match=re.escape("`loss.backward(inputs=")):
        loss.backward(retain_graph=True)
    loss.backward(inputs=[weights])
    assert weights.grad.abs().min() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast(dtype):
    """Stored gradients stay as exact as they are."""
    block, given = example(dtype), parameters(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = attach_gradients(block, given).values
        found = torch.autograd.grad(values.sum(), arrays(given), create_graph=True)
    for one, expected in zip(found, expected_product(block, np.ones(block.shape)), strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(one.detach(), expected, rtol=1e-5, atol=1e-6)


TRANSFORMS = {
    "grad": lambda f, x: torch.func.grad(lambda x: f(x).sum())(x),
    "jacrev": lambda f, x: torch.func.jacrev(f)(x).sum((0, 1)),
    "jacfwd": lambda f, x: torch.func.jacfwd(f)(x).sum((0, 1)),
    "vmap of grad": lambda f, x: torch.func.vmap(torch.func.grad(lambda x: f(x).sum()))(
        torch.stack([x, x + 1])
    )[1],
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch does itself
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms(transform):
    block, given = example(), parameters(requires_grad=False)

    def values(positions):
        return attach_gradients(block, replaced(given, [positions, given["strain"].values])).values

    result = TRANSFORMS[transform](values, given["positions"].values)
    expected = expected_product(block, np.ones(block.shape))[0]
    np.testing.assert_allclose(result, expected, rtol=1e-12)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "transform",
    [
        torch.func.hessian,
        lambda f: torch.func.jacrev(torch.func.jacrev(f)),
        lambda f: torch.func.jacrev(torch.func.jacfwd(f)),
        lambda f: torch.func.jacfwd(torch.func.jacfwd(f)),
        lambda f: lambda x: torch.func.vmap(torch.func.hessian(f))(x[None]),
    ],
)
def test_second_derivatives_raise_in_transforms(transform):
    block, given = example(), parameters(requires_grad=False)

    def energy(positions):
        new = replaced(given, [positions, given["strain"].values])
        return (attach_gradients(block, new).values ** 2).sum()

    with pytest.raises(NotImplementedError, match=NOT_STORED):
        transform(energy)(given["positions"].values)


def test_loss_on_forces_in_transforms():
    block, given = example(), parameters(requires_grad=False)
    weights = make_values(2, 1)

    def loss(weights):
        def energy(positions):
            new = replaced(given, [positions, given["strain"].values])
            return (torch.tanh(attach_gradients(block, new).values) @ weights).sum()

        return (torch.func.grad(energy)(given["positions"].values) ** 2).sum()

    result, step = torch.func.grad(loss)(weights), 1e-6
    for entry in range(2):
        move = torch.zeros(2, 1, dtype=torch.float64)
        move[entry] = step
        expected = (loss(weights + move) - loss(weights - move)) / (2 * step)
        assert float(result[entry]) == pytest.approx(float(expected), rel=1e-8)


def test_other_gradients_are_left_out():
    given = parameters()
    result = attach_gradients(example(), {"strain": given["strain"]})
    assert result.gradients_list() == []
    assert not result.is_view


@pytest.mark.parametrize(
    ("samples", "rows"),
    [
        (ONE, [0] * 6),
        (Labels.range("atom", 4), [0, 1, 1, 0, 3, 2]),
        (SYSTEMS, [0, 0, 0, 2, 1, 1]),
        (labels(["atom", "system"], ATOMS.values[:, ::-1]), OF_ATOMS),
    ],
)
def test_rows_share_parameters(samples, rows):
    block = example()
    given = TensorBlock(make_values(len(samples), 3, 1).requires_grad_(), samples, [XYZ], ONE)
    values = attach_gradients(block, {"positions": given}).values
    values.sum().backward()
    expected = np.zeros((len(samples), 3, 1))
    np.add.at(expected, rows, block.gradient("positions").values.numpy().sum(2, keepdims=True))
    np.testing.assert_allclose(given.values.grad, expected, rtol=1e-12)


def test_blocks_of_a_map_share_parameters():
    """Derivatives of all blocks are added; results can be used twice."""
    blocks = [example(seed=0), example(seed=20)]
    tensor = TensorMap(Labels.range("key", 2), blocks)
    tensor.set_info("units", "eV")
    given = parameters()
    maps = {name: TensorMap(ONE, [block]) for name, block in given.items()}
    result = attach_gradients(tensor, maps)
    assert result.info() == {"units": "eV"}
    for power in [1, 2]:
        found = torch.autograd.grad(
            sum((block.values**power).sum() for block in result),
            [one.block().values for one in maps.values()],
            retain_graph=True,
        )
        parts = [
            expected_product(block, power * block.values.numpy() ** (power - 1)) for block in blocks
        ]
        for one, first, second in zip(found, *parts, strict=True):
            np.testing.assert_allclose(one, first + second, rtol=1e-12, atol=1e-12)


def test_parameters_that_do_not_require_grad():
    block, given = example(), parameters(requires_grad=False)
    assert not attach_gradients(block, given).values.requires_grad
    given["strain"].values.requires_grad_()
    values = attach_gradients(block, given).values
    (found,) = torch.autograd.grad(values.sum(), given["strain"].values)
    np.testing.assert_allclose(found, expected_product(block, np.ones(block.shape))[1], rtol=1e-12)


def test_arrays_that_are_not_contiguous():
    block = example()
    values = block.gradient("positions").values
    strided = values.transpose(0, 2).contiguous().transpose(0, 2)
    other = TensorBlock(block.values.T.contiguous().T, SAMPLES, [], block.properties)
    gradient = block.gradient("positions")
    other.add_gradient(
        "positions",
        TensorBlock(strided, gradient.samples, gradient.components, gradient.properties),
    )
    given = parameters()["positions"]
    wide = torch.zeros(5, 3, 4, dtype=torch.float64, requires_grad=True)
    given = TensorBlock(wide[:, :, 1:2], given.samples, given.components, given.properties)
    attach_gradients(other, {"positions": given}).values.sum().backward()
    expected = expected_product(block, np.ones(block.shape))[0]
    np.testing.assert_allclose(wide.grad[:, :, 1:2], expected, rtol=1e-12)


@pytest.mark.parametrize("n_samples", [0, 1, 4])
def test_without_rows(n_samples):
    samples = Labels(["system", "atom"], SAMPLES.values[:n_samples])
    block = TensorBlock(torch.ones(n_samples, 2), samples, [], Labels.range("n", 2))
    rows = Labels.empty(["sample", "system", "atom"])
    block.add_gradient("positions", TensorBlock(torch.ones(0, 3, 2), rows, [XYZ], block.properties))
    given = parameters(torch.float32)["positions"]
    attach_gradients(block, {"positions": given}).values.sum().backward()
    assert torch.equal(given.values.grad, torch.zeros_like(given.values))
    empty = TensorBlock(torch.ones(0, 3, 1), Labels.empty(["system", "atom"]), [XYZ], ONE)
    assert attach_gradients(block, {"positions": empty}).values.shape == block.shape


def test_maps_without_blocks_and_no_parameters():
    tensor = TensorMap(Labels.empty("key"), [])
    assert len(attach_gradients(tensor, parameters())) == 0
    assert len(store_gradients(lambda _: tensor, parameters())) == 0
    assert_equal(attach_gradients(example(), {}), metatensor.remove_gradients(example()))


def block_of(*shape, samples=ATOMS, components=(XYZ,), properties=ONE, dtype=torch.float64):
    values = torch.zeros(*shape, dtype=dtype)
    return TensorBlock(values, samples, list(components), properties)


def nested():
    block = example()
    new = block.copy(deep=False)
    gradient = metatensor.remove_gradients(block.gradient("positions")).copy(deep=False)
    second = TensorBlock(
        torch.zeros(0, 3, 2, dtype=torch.float64), Labels.empty("sample"), [XYZ], block.properties
    )
    gradient.add_gradient("charge", second)
    new = metatensor.remove_gradients(block, "positions").copy(deep=False)
    new.add_gradient("positions", gradient)
    return new


MISSING = Labels(["system", "atom"], ATOMS.values[1:])
ERRORS = {
    "no dict": (example(), [1], TypeError, "must be a dict from names of gradients to blocks"),
    "name": (example(), {3: block_of(5, 3, 1)}, TypeError, "names as keys, got 3"),
    "kind": (example(), {"positions": torch.zeros(1)}, TypeError, "parameters['positions']"),
    "tensor": ("abc", {"positions": block_of(5, 3, 1)}, TypeError, "`tensor` must be a"),
    "numpy": (
        example(),
        {"positions": block_of(5, 3, 1).to(arrays="numpy")},
        TypeError,
        'must have torch values, got numpy; use `.to(arrays="torch")`',
    ),
    "numpy values": (
        example().to(arrays="numpy"),
        {"positions": block_of(5, 3, 1)},
        TypeError,
        "`tensor` must have torch values, got numpy",
    ),
    "integers": (
        example(),
        {"positions": block_of(5, 3, 1, dtype=torch.int64)},
        TypeError,
        "real floating point values, got torch.int64",
    ),
    "complex": (
        example(torch.complex128),
        {"positions": block_of(5, 3, 1)},
        TypeError,
        "`tensor` must have real floating point values, got torch.complex128",
    ),
    "dtype": (
        example(),
        {"positions": block_of(5, 3, 1, dtype=torch.float32)},
        ValueError,
        "must have the dtype of the values, torch.float64, got torch.float32",
    ),
    "device": (
        example(),
        {"positions": block_of(5, 3, 1).to(device="meta")},
        ValueError,
        "must have the device of the values, cpu, got meta",
    ),
    "gradient": (example(), {"cell": block_of(5, 3, 1)}, ValueError, "no gradient with respect to"),
    "properties": (
        example(),
        {"positions": block_of(5, 3, 2, properties=Labels.range("n", 2))},
        ValueError,
        "must have one property, got 2",
    ),
    "blocks": (
        example(),
        {"positions": TensorMap(Labels.range("k", 2), [block_of(5, 3, 1)] * 2)},
        ValueError,
        "must have one block, got 2",
    ),
    "components": (
        example(),
        {"positions": block_of(5, 3, 1, components=[Labels.range("axis", 3)])},
        ValueError,
        "must have the components of the gradient, ['xyz: [0, 1, 2]'], got ['axis: [0, 1, 2]']",
    ),
    "sample names": (
        example(),
        {"positions": block_of(3, 3, 1, samples=Labels.range("structure", 3))},
        ValueError,
        "must be among those of the gradient, ['system', 'atom'], and of the values",
    ),
    "rows": (
        example(),
        {"positions": block_of(4, 3, 1, samples=MISSING)},
        ValueError,
        "must have a row for each row of the gradient, got none for {'system': 7, 'atom': 2}",
    ),
    "nested": (
        nested(),
        {"positions": block_of(5, 3, 1)},
        NotImplementedError,
        "has gradients itself",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    tensor, given, error, text = ERRORS[case]
    with pytest.raises(error, match=re.escape(text)):
        attach_gradients(tensor, given)


def test_errors_say_on_which_key():
    tensor = TensorMap(Labels.range("key", 2), [example()] * 2)
    with pytest.raises(ValueError, match=r"in the block for key \(key=0\)"):
        attach_gradients(tensor, {"positions": block_of(4, 3, 1, samples=MISSING)})


# ---- forces


def radial_parameters(radial, requires_grad=True):
    values = {"positions": radial.positions[..., None], "strain": radial.strains[..., None]}
    blocks = {}
    for name, array in values.items():
        array = torch.tensor(array, requires_grad=requires_grad)
        blocks[name] = TensorBlock(array, *radial.labels(name))
    return blocks


def radial_map(radial, given):
    """The descriptor, followed by torch from the parameters."""
    values = radial(torch, given["positions"].values[..., 0], given["strain"].values[..., 0])
    blocks = [
        TensorBlock(array, block.samples, [], block.properties)
        for array, block in zip(values, radial.descriptor, strict=True)
    ]
    return TensorMap(radial.descriptor.keys, blocks)


def network_for(radial):
    torch.manual_seed(3)
    keys = radial.descriptor.keys_to_properties("neighbor_type").keys
    energy = [Labels.range("energy", 1)] * len(keys)
    n_features = 2 * (radial.N_RADIAL + 1)
    return nn.Sequential(
        keys,
        nn.Linear(keys, n_features, 8, dtype=torch.float64),
        nn.Tanh(keys),
        nn.Linear(keys, in_features=8, out_properties=energy, dtype=torch.float64),
    )


def energies_of(network, features):
    """Energies of systems, one block."""
    atoms = network(features.keys_to_properties("neighbor_type")).keys_to_samples("center_type")
    return metatensor.sum_over_samples(atoms, ["atom", "center_type"])


def loss_of(network, features, given):
    """A loss on energies, forces and stresses, and all that it is made of."""
    energies = energies_of(network, features).block().values
    forces = torch.autograd.grad(energies.sum(), arrays(given), create_graph=True)
    targets = [torch.ones_like(energies)] + [torch.zeros_like(force) for force in forces]
    parts = [energies, *forces]
    loss = sum(((a - b) ** 2).mean() for a, b in zip(parts, targets, strict=True))
    return loss, parts


def test_training_on_forces_is_that_of_autograd(radial):
    network, given = network_for(radial), radial_parameters(radial)
    weights = list(network.parameters())
    stored = attach_gradients(radial.descriptor.to(arrays="torch"), given)
    outcomes = []
    for features in [stored, radial_map(radial, given)]:
        loss, parts = loss_of(network, features, given)
        outcomes.append([loss, *parts, *torch.autograd.grad(loss, weights)])
    assert len(outcomes[0]) == 4 + 8
    for one, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-12, atol=1e-12)


def test_training_steps(radial):
    """The same weights, after steps of an optimiser."""
    outcomes = []
    for stored in [True, False]:
        network, given = network_for(radial), radial_parameters(radial)
        weights = list(network.parameters())
        optimizer = torch.optim.Adam(weights, lr=0.05)
        losses = []
        for _ in range(10):
            optimizer.zero_grad()
            tensor = radial.descriptor.to(arrays="torch")
            features = attach_gradients(tensor, given) if stored else radial_map(radial, given)
            loss, _ = loss_of(network, features, given)
            loss.backward(inputs=weights)
            optimizer.step()
            losses.append(loss.item())
        outcomes.append((losses, weights))
    assert outcomes[0][0][-1] < 0.3 * outcomes[0][0][0]
    np.testing.assert_allclose(*[losses for losses, _ in outcomes], rtol=1e-9)
    for one, expected in zip(*[weights for _, weights in outcomes], strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-8, atol=1e-8)


def test_forces_are_those_of_the_chain_rule(radial):
    network, given = network_for(radial), radial_parameters(radial)
    tensor = radial.descriptor.to(arrays="torch")
    energies = energies_of(network, attach_gradients(tensor, given)).block()
    found = torch.autograd.grad(energies.values.sum(), arrays(given))
    followed = metatensor.detach(energies_of(nn.ChainRule(network), tensor)).block()
    torch.testing.assert_close(energies.values, followed.values, rtol=1e-13, atol=1e-13)
    for name, one in zip(NAMES, found, strict=True):
        gradient = followed.gradient(name)
        rows = one
        if name == "positions":
            rows = one[given[name].samples.select(gradient.samples.remove("sample")).astype(int)]
        torch.testing.assert_close(rows, gradient.values, rtol=1e-12, atol=1e-12)


# ---- store


def test_stored_gradients_of_features(radial):
    """Those of the descriptor itself, which leaves out pairs of atoms that are far away."""
    given = radial_parameters(radial)
    expected = radial.descriptor.to(arrays="torch")
    tensor = radial_map(radial, given)
    dense = store_gradients(tensor, given)
    assert not any(block.values.requires_grad for block in dense)
    sizes = np.bincount(radial.system)
    for block in dense:
        rows = block.gradient("positions").samples
        assert rows.names == ["sample", "system", "atom"]
        assert len(rows) == sizes[block.samples["system"]].sum()
        np.testing.assert_array_equal(rows["system"], block.samples["system"][rows["sample"]])
        assert block.gradient("strain").samples == Labels.range("sample", len(block))
        assert not block.gradient("positions").values.requires_grad
    sparse = store_gradients(tensor, given, drop_zeros=True)
    assert_allclose(sparse, expected, rtol=1e-12, atol=1e-13)


def test_what_was_attached_is_stored(radial):
    expected = radial.descriptor.to(arrays="torch")
    given = radial_parameters(radial)
    found = store_gradients(attach_gradients(expected, given), given, drop_zeros=True)
    assert_equal(found, expected)


def test_what_was_stored_is_attached(radial):
    network, given = network_for(radial), radial_parameters(radial)
    tensor = radial_map(radial, given)
    outcomes = []
    for features in [tensor, attach_gradients(store_gradients(tensor, given), given)]:
        energies = energies_of(network, features).block().values
        outcomes.append(torch.autograd.grad(energies.sum(), arrays(given), retain_graph=True))
    for one, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-12, atol=1e-12)


def test_losses_on_stored_gradients(radial):
    """The same derivatives with respect to weights as those of losses on forces."""
    network, given = network_for(radial), radial_parameters(radial)
    weights = list(network.parameters())
    loss, (energies, *forces) = loss_of(network, radial_map(radial, given), given)
    expected = torch.autograd.grad(loss, weights)

    def predict(parameters):
        return energies_of(network, radial_map(radial, parameters))

    block = store_gradients(predict, given, differentiable=True).block()
    found = [block.gradient(name).values for name in NAMES]
    for one, force in zip(found, forces, strict=True):
        torch.testing.assert_close(one, force, rtol=1e-12, atol=1e-12)
    loss = ((block.values - 1) ** 2).mean() + sum((one**2).mean() for one in found)
    for one, other in zip(torch.autograd.grad(loss, weights), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)
    constant = store_gradients(predict, given).block()
    assert not constant.values.requires_grad
    assert not constant.gradient("positions").values.requires_grad
    assert_equal(constant, metatensor.detach(block))


def test_stored_gradients_against_finite_differences(radial):
    network, given = network_for(radial), radial_parameters(radial, requires_grad=False)

    def predict(parameters):
        return metatensor.detach(energies_of(network, radial_map(radial, parameters)))

    def moved(name, step):
        new = dict(given)
        old = given[name]
        new[name] = TensorBlock(old.values + step, old.samples, old.components, old.properties)
        return predict(new).block().values

    block = store_gradients(
        lambda parameters: energies_of(network, radial_map(radial, parameters)), given
    ).block()
    for name in NAMES:
        direction = make_values(*given[name].shape, seed=4)
        expected = (moved(name, 1e-5 * direction) - moved(name, -1e-5 * direction)) / 2e-5
        gradient = block.gradient(name)
        terms = (gradient.values * direction).sum(tuple(range(1, gradient.values.ndim - 1)))
        owners = torch.tensor(gradient.samples["sample"].astype(np.int64))
        found = torch.zeros_like(expected).index_add(0, owners, terms)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def quadratic(components, samples):
    """Values that depend on all rows of the parameter, and their derivatives."""
    sizes = [len(one) for one in components]
    matrix = make_values(len(samples), *sizes, 2, 5, 3, seed=6)

    def function(parameters):
        values = torch.einsum("...ad,ad->...", matrix, parameters["positions"].values[..., 0] ** 2)
        return TensorBlock(values, samples, list(components), Labels.range("n", 2))

    return function, lambda x: 2 * matrix * x[..., 0]


@COMPONENTS
@pytest.mark.parametrize("n_samples", [0, 1, 4])
def test_every_sample_can_depend_on_every_row(components, n_samples):
    samples = Labels(["system", "atom"], SAMPLES.values[:n_samples])
    given = {"positions": parameters()["positions"]}
    function, derivative = quadratic(components, samples)
    gradient = store_gradients(function, given, within=()).gradient("positions")
    assert gradient.components == [XYZ, *components]
    assert gradient.samples.names == ["sample", "system", "atom"]
    expected = derivative(given["positions"].values.detach())
    axes = (0, expected.ndim - 2, expected.ndim - 1, *range(1, expected.ndim - 2))
    expected = expected.permute(axes).reshape(n_samples * 5, 3, *expected.shape[1:-2])
    torch.testing.assert_close(gradient.values, expected)
    np.testing.assert_array_equal(gradient.samples["sample"], np.repeat(np.arange(n_samples), 5))
    shared = TensorBlock(given["positions"].values[:1], ONE, [XYZ], ONE)

    def of_shared(parameters):
        return function(
            {
                "positions": TensorBlock(
                    parameters["positions"].values.expand(5, 3, 1), ATOMS, [XYZ], ONE
                )
            }
        )

    gradient = store_gradients(of_shared, {"positions": shared}).gradient("positions")
    assert gradient.samples == Labels.range("sample", n_samples)
    assert gradient.values.shape == (n_samples, 3, *map(len, components), 2)


def test_rows_within_groups():
    """Rows of any order; samples without rows, rows without samples."""
    samples = labels(["atom", "system"], [[4, 7], [0, 0], [5, 7], [1, 3]])
    groups = {7: [0, 1], 0: [2, 3]}
    given = {"positions": parameters()["positions"]}
    factors = torch.tensor([[1.0], [2.0], [3.0], [4.0]], dtype=torch.float64)

    def function(parameters):
        squares = (parameters["positions"].values[..., 0] ** 2).sum(1)
        sums = [squares[groups.get(int(row["system"]), [])].sum() for row in samples]
        return TensorBlock(factors * torch.stack(sums)[:, None], samples, [], ONE)

    gradient = store_gradients(function, given).gradient("positions")
    rows = [[0, 7, 2], [0, 7, 3], [1, 0, 0], [1, 0, 1], [2, 7, 2], [2, 7, 3]]
    assert gradient.samples == labels(["sample", "system", "atom"], rows)
    values = 2 * given["positions"].values.detach()
    expected = torch.stack(
        [factors[row[0]] * values[ATOMS.position(row[1:]), :, 0] for row in rows]
    )
    torch.testing.assert_close(gradient.values[..., 0], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_samples", [1, 2, 3])
def test_systems_that_depend_on_each_other(dtype, n_samples):
    """As those that are normalised together do; derivatives of the sum of all are zero here."""
    samples = Labels(["system"], SYSTEMS.values[:n_samples])
    given = {"strain": parameters(dtype)["strain"]}

    def function(parameters):
        values = (parameters["strain"].values ** 2).sum((1, 2))
        values = (values - values.mean()) / values.std()
        return TensorBlock(values[:n_samples], samples, [], ONE)

    text = (
        r"only depend on rows of the parameter 'strain' with the same \['system'\].*`within=\(\)`"
    )
    with pytest.raises(ValueError, match=text):
        store_gradients(function, given)
    (expected,) = torch.autograd.functional.jacobian(
        lambda values: function(replaced(given, [values])).values, (given["strain"].values,)
    )
    found = store_gradients(function, given, within=()).gradient("strain").values
    expected = expected[:, 0, :, :, :, 0].reshape(-1, 3, 3, 1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_does_not_depend(dtype):
    given = parameters(dtype)
    samples = Labels.range("system", 2)

    def function(parameters):
        return TensorBlock(torch.ones(2, 1, dtype=dtype), samples, [], ONE)

    block = store_gradients(function, given)
    assert block.gradient("positions").values.dtype == dtype
    assert not block.gradient("positions").values.any()
    assert len(store_gradients(function, given, drop_zeros=True).gradient("strain")) == 0


def test_gradients_that_are_there_stay():
    block, given = example(), parameters()

    def function(blocks):
        result = attach_gradients(block, blocks)
        result.add_gradient("positions", block.gradient("positions"))
        return result

    assert_equal(store_gradients(function, {"strain": given["strain"]}), block)
    tensor = TensorMap(ONE, [attach_gradients(block, given)])
    tensor.set_info("units", "eV")
    assert store_gradients(tensor, given).info() == {"units": "eV"}
    assert store_gradients(lambda _: tensor, given).info() == {"units": "eV"}


def followed(given):
    return attach_gradients(metatensor.remove_gradients(example(), []), given)


STORE_ERRORS = {
    "no grad": (
        lambda given: example(),
        {"positions": block_of(5, 3, 1)},
        {},
        ValueError,
        "the parameter 'positions' must require grad before `tensor` is computed",
    ),
    "other tensor": (
        lambda given: attach_gradients(example(), parameters()),
        None,
        {},
        ValueError,
        "`tensor` does not depend on the values of the parameter 'positions'",
    ),
    "there": (
        lambda given: lambda _: example(),
        None,
        {},
        ValueError,
        "has a gradient 'positions' already; use `remove_gradients`",
    ),
    "zeros": (
        followed,
        None,
        {"drop_zeros": True, "differentiable": True},
        ValueError,
        "`drop_zeros` can not be used with `differentiable`",
    ),
    "kind": (lambda given: 3, None, {}, TypeError, "`tensor` must be a metatensor"),
    "result": (lambda given: lambda _: 3, None, {}, TypeError, "the result of `tensor`"),
    "within": (followed, None, {"within": 3}, TypeError, "`within` must be a str or a sequence"),
    "complex": (
        lambda given: lambda _: block_of(5, 3, 1, dtype=torch.complex128),
        None,
        {},
        TypeError,
        "the result must have real floating point values, got torch.complex128",
    ),
    "dtype": (
        lambda given: lambda _: block_of(5, 3, 1, dtype=torch.float32),
        None,
        {},
        ValueError,
        "must have the dtype of the values, torch.float32, got torch.float64",
    ),
}


@pytest.mark.parametrize("case", STORE_ERRORS)
def test_errors_of_store(case):
    make, given, options, error, text = STORE_ERRORS[case]
    given = parameters() if given is None else given
    with pytest.raises(error, match=re.escape(text)):
        store_gradients(make(given), given, **options)


# ---- compilers


def attached_energy(block, positions, strain):
    return torch.tanh(attach_gradients(block, {"positions": positions, "strain": strain}).values)


@pytest.mark.filterwarnings("ignore")  # of what compilers use themselves
def test_compiled():
    block, given = example(), parameters()
    expected = torch.autograd.grad(attached_energy(block, *given.values()).sum(), arrays(given))
    compiled = torch.compile(attached_energy, backend="aot_eager", fullgraph=True)
    found = torch.autograd.grad(compiled(block, *given.values()).sum(), arrays(given))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=1e-14)
    constant = replaced(given, [array.detach() for array in arrays(given)])
    result = compiled(block, *constant.values())
    assert torch.equal(result, attached_energy(block, *constant.values()))


@pytest.mark.filterwarnings("ignore")  # of what compilers use themselves
def test_transforms_in_compiled_functions_are_refused():
    """Torch would take the derivative of the identity, and say nothing."""
    block, given = example(), parameters()

    def forces(positions):
        def energy(new):
            moved = TensorBlock(new, ATOMS, [XYZ], Labels.range("positions", 1))
            return attached_energy(block, moved, given["strain"]).sum()

        return torch.func.grad(energy)(positions)

    positions = given["positions"].values.detach()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="`torch.func` inside `torch.compile`"):
        torch.compile(forces, backend="aot_eager", fullgraph=True)(positions)
    found = torch.compile(forces, backend="aot_eager")(positions)  # which leaves out this function
    torch.testing.assert_close(found, forces(positions), rtol=1e-14, atol=1e-14)


@pytest.mark.filterwarnings("ignore")  # of what compilers use themselves
def test_steps_that_are_compiled_for_all_batches():
    given, weights = parameters(), make_values(2).requires_grad_()

    def step(block, positions, strain, weights):
        energy = (attached_energy(block, positions, strain) * weights).sum()
        wrt = [positions.values, strain.values]
        forces = torch.autograd.grad(energy, wrt, create_graph=True)
        loss = energy**2 + sum((force**2).sum() for force in forces)
        return loss.detach(), torch.autograd.grad(loss, weights)[0]

    compiled = metatensor.torch.compile(step, backend="aot_eager")
    for seed in [0, 40]:
        arguments = example(seed=seed), *given.values(), weights
        for one, other in zip(compiled(*arguments), step(*arguments), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)
