"""Stored gradients as functions that torch differentiates, and back."""

import re
import warnings

import numpy as np
import pytest
import torch

import metatensor
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.learn import nn
from metatensor.testing import assert_allclose, assert_equal
from metatensor.torch.autograd import attach_gradients, store_gradients

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


def test_other_gradients_are_kept():
    block, given = example(), parameters()
    result = attach_gradients(block, {"strain": given["strain"]})
    assert result.gradients_list() == ["positions"]
    assert_equal(
        metatensor.detach(result.gradient("positions")),
        metatensor.detach(block).gradient("positions"),
    )
    with pytest.raises(NotImplementedError, match=NOT_STORED):
        torch.autograd.grad(result.gradient("positions").values.sum(), given["strain"].values)


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
    assert_equal(attach_gradients(example(), {}), example())


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
