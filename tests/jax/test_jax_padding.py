"""Maps padded to a grid: entry by entry, through operations, and how often these are traced."""

import importlib

import numpy as np
import pytest

import metatensor
from metatensor import Labels, TensorBlock, TensorMap, testing

jax = pytest.importorskip("jax")
pad_samples = importlib.import_module("metatensor.jax").pad_samples

SIZES = {"system": 4, "atom": 5, "other": 6}
XYZ, N = Labels.range("xyz", 3), Labels.range("n", 2)


def labels(names, rows):
    names = names.split()
    return Labels(names, np.array(rows, dtype=np.int32).reshape(-1, len(names)))


def block_of(rng, atoms, first_system=0, dtype=np.float64):
    """Make a block of unsorted atoms, the gradients of which have rows for some of them."""
    atoms = rng.permutation(np.array(atoms, dtype=np.int32).reshape(-1, 2)) + [first_system, 0]
    block = TensorBlock(
        rng.normal(size=(len(atoms), 2)).astype(dtype), labels("system atom", atoms), [], N
    )
    rows = [
        [sample, system, other]
        for sample, (system, _) in enumerate(atoms)
        for other in (4, 1)
        if (sample + other) % 3
    ]
    rows = labels("sample system other", rows)
    values = rng.normal(size=(len(rows), 3, 2)).astype(dtype)
    block.add_gradient("positions", TensorBlock(values, rows, [XYZ], N))
    rows = labels("sample", range(len(atoms))[::2])
    values = rng.normal(size=(len(rows), 2)).astype(dtype)
    block.add_gradient("volume", TensorBlock(values, rows, [], N))
    return block


def batch(number, first_system=0, **parts):
    """Return a map of some of the atoms of one to four systems, the second block may be empty."""
    rng = np.random.default_rng(number)
    n_systems = 1 + number % 4
    chosen = [[s, a] for s in range(n_systems) for a in range(5) if rng.random() < 0.7]
    cut = rng.integers(len(chosen) + 1)
    keys = Labels("center_type", np.array([[1], [8]]))
    blocks = [block_of(rng, part, first_system, **parts) for part in (chosen[:cut], chosen[cut:])]
    tensor = TensorMap(keys, blocks)
    tensor.set_info("unit", "eV")
    return tensor


def entries(block):
    """Return the numbers by what they belong to, without those that are zero."""
    found = {}
    for row, values in zip(block.samples, np.asarray(block.values), strict=True):
        found[tuple(map(int, row))] = values
    for parameter, gradient in block.gradients():
        for row, values in zip(gradient.samples, np.asarray(gradient.values), strict=True):
            sample = tuple(map(int, block.samples[int(row[0])]))
            found[(parameter, sample, *map(int, tuple(row)[1:]))] = values
    return {what: values for what, values in found.items() if np.any(values != 0)}


def same_entries(result, expected):
    found, known = entries(result), entries(expected)
    assert found.keys() == known.keys()
    for what, values in found.items():
        np.testing.assert_allclose(values, known[what], rtol=1e-12, atol=1e-13)


def grid(*sizes):
    return np.stack([axis.ravel() for axis in np.indices(sizes)], axis=1)


@pytest.mark.parametrize("number", range(6))
def test_entries(number):
    tensor = batch(number)
    padded = pad_samples(tensor, SIZES)
    assert padded.info() == tensor.info()
    for block, other in zip(padded, tensor, strict=True):
        np.testing.assert_array_equal(block.samples.values, grid(4, 5))
        same_entries(block, other)
        rows = grid(4, 5, 6)
        expected = np.stack([rows[:, 0] * 5 + rows[:, 1], rows[:, 0], rows[:, 2]], axis=1)
        np.testing.assert_array_equal(block.gradient("positions").samples.values, expected)
        assert block.gradient("positions").samples.names == ["sample", "system", "other"]
        np.testing.assert_array_equal(
            block.gradient("volume").samples.values, np.arange(20)[:, None]
        )
    TensorMap(padded.keys, [checked(block) for block in padded])


@pytest.mark.parametrize(
    ("within", "n_rows"), [("system", 5), (("system", "atom"), 1), ((), 20), ("other", 20)]
)
def test_gradients_of_atoms_for_other_atoms(within, n_rows):
    atoms = labels("system atom", [[0, 2], [1, 0], [3, 4]])
    block = TensorBlock(np.arange(1.0, 7.0).reshape(3, 2), atoms, [], N)
    rows = [[0, 0, 2], [1, 1, 0], [2, 3, 4]]
    if within != ("system", "atom"):
        rows += [[0, 0, 4], [2, 3, 0]]
    rows = labels("sample system atom", rows)
    values = np.arange(1.0, 1 + 6 * len(rows)).reshape(-1, 3, 2)
    block.add_gradient("positions", TensorBlock(values, rows, [XYZ], N))
    padded = checked(pad_samples(block, {"system": 4, "atom": 5}, within=within))
    assert padded.gradient("positions").shape == (20 * n_rows, 3, 2)
    same_entries(padded, block)


def checked(block):
    """Make the block anew, by what checks that everything fits together."""
    axes = block.components, Labels(block.properties.names, np.array(block.properties.values))
    new = TensorBlock(
        block.values, Labels(block.samples.names, np.array(block.samples.values)), *axes
    )
    for parameter, gradient in block.gradients():
        new.add_gradient(parameter, checked(gradient))
    return new


@pytest.mark.parametrize("number", range(4))
def test_slice_takes_back_what_was_there(number):
    tensor = batch(number)
    padded = pad_samples(tensor, SIZES)
    for block, other in zip(padded, tensor, strict=True):
        result = metatensor.slice(block, "samples", other.samples)
        assert result.samples == other.samples
        same_entries(result, other)


OPERATIONS = {
    "sum": lambda t: metatensor.sum_over_samples(t * t, "atom"),
    "samples": lambda t: metatensor.sum_over_samples(
        metatensor.tanh(t).keys_to_samples("center_type"), ["atom", "center_type"]
    ),
    "properties": lambda t: metatensor.sum_over_samples(
        t.keys_to_properties("center_type") * t.keys_to_properties("center_type"), "atom"
    ),
    "values": lambda t: metatensor.sin(t),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_give_the_same(name):
    """Those that make zeros of zeros, and sums."""
    for number in range(4):
        tensor = batch(number)
        expected = OPERATIONS[name](tensor)
        result = OPERATIONS[name](pad_samples(tensor, SIZES))
        for block, other in zip(result, expected, strict=True):
            same_entries(block, other)


def test_what_functions_make_of_zeros_is_left_out():
    """A map of ones says what was there."""

    def energies(tensor, present):
        atoms = metatensor.exp(tensor)
        return metatensor.sum_over_samples(metatensor.where(present > 0, atoms, 0.0), "atom")

    for number in range(4):
        tensor = batch(number)
        ones = metatensor.ones_like(tensor, gradients=[])
        result = energies(pad_samples(tensor, SIZES), pad_samples(ones, SIZES))
        for block, other in zip(result, energies(tensor, ones), strict=True):
            same_entries(block, other)


def test_one_trace_for_all_batches():
    traces = []

    @jax.jit
    def step(tensor, factor):
        traces.append(tensor)

        def loss(factor):
            energies = OPERATIONS["samples"](tensor * factor)
            return sum(jax.numpy.sum(leaf**2) for leaf in jax.tree.leaves(energies)), energies

        return jax.grad(loss, has_aux=True)(factor)

    for number in range(15):
        tensor = batch(number, first_system=100 * number)
        systems = 100 * number + np.arange(4)
        derivative, energies = step(pad_samples(tensor, SIZES, numbers={"system": systems}), 2.0)
        expected = OPERATIONS["samples"](batch(number) * 2.0)
        same_entries(energies.block(), expected.block())

        def loss(factor, number=number):
            energies = OPERATIONS["samples"](batch(number) * factor)
            return sum(np.sum(leaf**2) for leaf in jax.tree.leaves(energies))

        difference = (loss(2.0 + 1e-6) - loss(2.0 - 1e-6)) / 2e-6
        np.testing.assert_allclose(derivative, difference, rtol=1e-6)
    assert len(traces) == 1


def test_numbers_in_any_order():
    tensor = batch(3, first_system=7)
    padded = pad_samples(tensor, SIZES, numbers={"system": [9, 7, 10, 8]})
    for block, other in zip(padded, tensor, strict=True):
        found = {
            (([9, 7, 10, 8][what[0]], what[1]) if isinstance(what[0], int) else what): values
            for what, values in entries(block).items()
        }
        for what, values in entries(other).items():
            if isinstance(what[0], int):
                np.testing.assert_array_equal(found[what], values)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_libraries_and_dtypes(library, dtype):
    pytest.importorskip(library)
    tensor = batch(2, dtype=dtype)
    padded = pad_samples(tensor.to(arrays=library), SIZES)
    assert str(padded.block(0).dtype).endswith(dtype)
    expected = pad_samples(tensor, SIZES)
    for block, other in zip(padded, expected, strict=True):
        testing.assert_equal(block.to(arrays="numpy"), other)


def test_jax_goes_through():
    tensor = batch(2).to(arrays="jax")

    @jax.jit
    @jax.grad
    def derivative(tensor):
        padded = pad_samples(tensor, SIZES)
        return sum(jax.numpy.sum(leaf**2) for leaf in jax.tree.leaves(padded))

    testing.assert_allclose(derivative(tensor), tensor * 2, rtol=1e-12)


@pytest.mark.parametrize("within", ["system", ["system"], ()])
def test_gradients_of_atoms_with_respect_to_atoms(within):
    """Both have the dimension "atom", which are other atoms in each."""
    rng = np.random.default_rng(0)
    atoms = labels("system atom", [[1, 0], [0, 0], [0, 2], [0, 1]])
    rows = labels("sample system atom", [[1, 0, 2], [0, 1, 0], [1, 0, 0], [3, 0, 1]])
    block = TensorBlock(rng.normal(size=(4, 2)), atoms, [], N)
    block.add_gradient("positions", TensorBlock(rng.normal(size=(4, 3, 2)), rows, [XYZ], N))
    padded = pad_samples(block, {"system": 2, "atom": 3}, within=within)
    same_entries(checked(padded), block)
    assert len(padded.gradient("positions")) == (18 if within else 36)
    # rows of zeros have atoms of their own in the parameter that gradients are attached to
    values = jax.numpy.ones((6, 3, 1))
    moved, cotangent = padded.to(arrays="jax"), jax.numpy.asarray(rng.normal(size=(6, 2)))

    def total(values):
        positions = TensorBlock(values, padded.samples, [XYZ], Labels.single())
        attached = metatensor.jax.attach_gradients(moved, {"positions": positions})
        return (attached.values * cotangent).sum()

    expected = np.zeros((6, 3, 1))
    for row, gradient in zip(rows, block.gradient("positions").values, strict=True):
        sample, system, atom = map(int, row)
        weight = cotangent[padded.samples.position(atoms[sample])]
        expected[3 * system + atom, :, 0] += gradient @ weight
    np.testing.assert_allclose(jax.grad(total)(values), expected, rtol=1e-12)


def test_functions_without_a_derivative_at_zero():
    tensor = metatensor.remove_gradients(batch(2))
    ones = pad_samples(metatensor.ones_like(tensor), SIZES).to(arrays="jax")

    def norms(tensor, present):
        filled = metatensor.where(present > 0, tensor, 1.0)
        arrays = [jax.numpy.linalg.norm(block.values, axis=1) for block in filled]
        return sum(
            (array * block.values[:, 0]).sum() for array, block in zip(arrays, present, strict=True)
        )

    derivative = jax.grad(norms)(pad_samples(tensor, SIZES).to(arrays="jax"), ones)
    for block, other in zip(derivative, tensor, strict=True):
        unit = other.values / np.linalg.norm(other.values, axis=1, keepdims=True)
        same_entries(block, TensorBlock(unit, other.samples, [], N))


def test_without_rows():
    empty = batch(1)
    empty = metatensor.slice(empty, "samples", labels("system", []))
    padded = pad_samples(empty, SIZES)
    assert [block.shape for block in padded] == [(20, 2), (20, 2)]
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(padded))
    nothing = pad_samples(empty, {"system": 0, "atom": 5, "other": 6})
    assert [block.shape for block in nothing] == [(0, 2), (0, 2)]
    assert len(pad_samples(TensorMap(Labels.empty("key"), []), SIZES)) == 0


def nested(tensor):
    block = tensor.block(0).copy()
    gradient = block.gradient("volume").copy()
    gradient.add_gradient(
        "volume", TensorBlock(gradient.values, Labels.range("sample", len(gradient)), [], N)
    )
    block.add_gradient("twice", gradient)
    return block


def other_system(tensor):
    block = metatensor.remove_gradients(tensor.block(0)).copy()
    rows = labels("sample system", [[0, block.samples["system"][0] + 1]])
    block.add_gradient("g", TensorBlock(np.ones((1, 2)), rows, [], N))
    return block


@pytest.mark.parametrize(
    ("change", "sizes", "numbers", "error", "match"),
    [
        (None, {"system": 4, "other": 6}, None, ValueError, "got none for 'atom'"),
        (None, {"system": 4, "atom": 5}, None, ValueError, "got none for 'other'"),
        (None, {**SIZES, "system": 3}, None, ValueError, r"in \[0, 3\) to be in the grid, got 3"),
        (None, SIZES, {"system": [0, 1]}, ValueError, "must have all of its values, got no [23]"),
        (None, SIZES, {"system": [0, 1, 1]}, ValueError, "must be unique"),
        (None, {**SIZES, "atom": 1.5}, None, TypeError, "size of 'atom'"),
        (None, {**SIZES, "atom": -1}, None, ValueError, "must not be negative"),
        (None, SIZES, {"system": [0.5, 1.0, 2.0, 3.0]}, TypeError, "must be integers"),
        (None, SIZES, {"system": 4}, TypeError, "in one dimension"),
        (None, SIZES, {"system": range(5)}, ValueError, "at most 4, its size, got 5"),
        (None, SIZES, {"structure": range(3)}, ValueError, "got none for 'structure'"),
        (None, [("system", 4)], None, TypeError, "must be dicts"),
        (nested, SIZES, None, NotImplementedError, "gradients of gradients"),
        (
            other_system,
            SIZES,
            None,
            ValueError,
            "'system' of their.*leave it out of `within`",
        ),
    ],
)
def test_refuses(change, sizes, numbers, error, match):
    tensor = batch(3)
    given = tensor if change is None else change(tensor)
    with pytest.raises(error, match=match):
        pad_samples(given, sizes, numbers=numbers)
