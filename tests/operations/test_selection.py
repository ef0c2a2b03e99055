"""Slices, splits and chosen blocks against worked examples."""

import numpy as np
import pytest

import metatensor
from metatensor import Labels, MetatensorError, TensorBlock, TensorMap
from metatensor.operations import (
    drop_blocks,
    drop_empty_blocks,
    filter_blocks,
    slice_block,
    split,
    split_block,
)

# not into the names of this module, where it would hide Python's
slice_of = metatensor.operations.slice


def labels(names, rows):
    names = [names] if isinstance(names, str) else names
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), -1))


def example(xp, dtype=np.float64):
    """Four samples, three properties, a component; gradients miss the second sample."""
    samples = labels(["i", "j"], [[0, 0], [1, 0], [0, 1], [2, 2]])
    components, properties = [Labels.range("c", 2)], labels("p", [[5], [3], [1]])
    values = np.arange(24).reshape(4, 2, 3).astype(dtype)
    block = TensorBlock(xp.asarray(values), samples, components, properties)
    rows = labels(["sample", "a"], [[2, 0], [0, 1], [2, 5], [3, 1], [0, 0]])
    gradient = TensorBlock(
        xp.asarray(100 + np.arange(90).reshape(5, 3, 2, 3).astype(dtype)),
        rows,
        [Labels.range("d", 3), *components],
        properties,
    )
    second = TensorBlock(
        xp.asarray(1000 + np.arange(54).reshape(3, 3, 2, 3).astype(dtype)),
        labels(["sample", "z"], [[4, 0], [1, 0], [0, 9]]),
        gradient.components,
        properties,
    )
    gradient.add_gradient("h", second)
    block.add_gradient("g", gradient)
    return block


SELECTIONS = [
    # the rows that are taken from the samples of the example
    (labels(["i", "j"], [[0, 1], [9, 9], [0, 0]]), [2, 0]),
    (labels("i", [[0]]), [0, 2]),
    (labels(["j", "i"], [[1, 0], [0, 0]]), [0, 2]),
    (labels("j", [[2], [0]]), [0, 1, 3]),
    (labels("i", [[-1], [7]]), []),
    (Labels.empty(["i"]), []),
    (Labels([], np.zeros((0, 0), dtype=np.int32)), [0, 1, 2, 3]),
    ([2, 0], [2, 0]),
    ([-1, -4], [3, 0]),
    ([], []),
    ([1, 2, 3], [1, 2, 3]),
    (np.array([3, 1], dtype=np.uint8), [3, 1]),
    (np.array([-2], dtype=np.int8), [2]),
    (np.array([3, 1], dtype=np.uint64), [3, 1]),
    (np.array([]), []),
    (np.array([0, 9, 1])[::2], [0, 1]),
]


def check_rows(part, whole, rows, samples=()):
    """Check a block against rows of another, none of them twice, and their gradients."""
    expected = whole.samples.values[rows]
    if len(samples):
        expected[:, 0] = samples
    assert part.samples.names == whole.samples.names
    assert part.samples.values.tolist() == expected.tolist()
    np.testing.assert_array_equal(np.asarray(part.values), np.asarray(whole.values)[rows])
    assert part.properties == whole.properties
    assert part.components == whole.components
    assert part.gradients_list() == whole.gradients_list()
    for name, gradient in whole.gradients():
        owners = gradient.samples.values[:, 0].tolist()
        kept = [row for row, owner in enumerate(owners) if owner in rows]
        samples = [rows.index(owners[row]) for row in kept]
        check_rows(part.gradient(name), gradient, kept, samples)


@pytest.mark.parametrize(("selection", "rows"), SELECTIONS)
def test_samples(xp, selection, rows):
    block = example(xp)
    check_rows(slice_of(block, "samples", selection), block, rows)


@pytest.mark.parametrize(
    ("selection", "columns"),
    [
        ([2, 0], [0, 2]),
        (labels("p", [[1], [5]]), [0, 2]),
        (labels("p", [[1], [8]]), [2]),
        ([-1, 0, -1], [0, 2]),
        ([1, 2], [1, 2]),
        ([], []),
    ],
)
def test_properties_keep_their_order(xp, selection, columns):
    block = example(xp)
    part = slice_of(block, "properties", selection)
    for found, whole in [
        (part, block),
        (part.gradient("g"), block.gradient("g")),
        (part.gradient("g").gradient("h"), block.gradient("g").gradient("h")),
    ]:
        assert found.samples == whole.samples
        assert found.components == whole.components
        assert found.properties.values.tolist() == whole.properties.values[columns].tolist()
        np.testing.assert_array_equal(
            np.asarray(found.values), np.asarray(whole.values)[..., columns]
        )


def test_each_copy_of_a_repeated_sample_has_its_gradient_rows(xp):
    part = slice_of(example(xp), "samples", [2, 1, 2])
    assert part.samples.values.tolist() == [[0, 1], [1, 0], [0, 1]]
    gradient = part.gradient("g")
    assert gradient.samples.values.tolist() == [[0, 0], [2, 0], [0, 5], [2, 5]]
    whole = np.asarray(example(xp).gradient("g").values)
    np.testing.assert_array_equal(np.asarray(gradient.values), whole[[0, 0, 2, 2]])
    assert gradient.gradient("h").samples.values.tolist() == [[0, 9], [1, 9]]


def tensor_of(block, count=2):
    tensor = TensorMap(Labels.range("key", count), [block] * count)
    tensor.set_info("unit", "eV")
    return tensor


@pytest.mark.parametrize("axis", ["samples", "properties"])
def test_maps(xp, axis):
    block, selection = example(xp), [2, 0]
    part = slice_of(tensor_of(block), axis, selection)
    assert part.keys == Labels.range("key", 2)
    assert part.info() == {"unit": "eV"}
    assert part.block(1) == slice_block(block, axis, selection)
    first, second = split(tensor_of(block), axis, [selection, [1]])
    assert first.block(0) == part.block(0)
    assert second.block(1) == slice_block(block, axis, [1])
    assert second.info() == {"unit": "eV"}


SPLITS = [
    [labels("i", [[0]]), labels("i", [[2], [1]]), labels("i", [[5]])],
    [labels("i", [[0]]), labels("i", [[1], [0]])],  # the same rows in both
    [labels(["i", "j"], [[0, 1], [0, 0]]), labels(["i", "j"], [[3, 3], [2, 2]])],
    [labels("i", [[0]]), labels("j", [[0]]), [3]],
    [[0, 1], [3], []],
    [Labels([], np.zeros((0, 0), dtype=np.int32))] * 2,
    [Labels.empty("i"), labels("i", [[0]])],
    [Labels.empty("i"), Labels.empty("i")],
    [[1]],
    [],
]


@pytest.mark.parametrize("axis", ["samples", "properties"])
@pytest.mark.parametrize("selections", SPLITS)
def test_splits_are_slices(xp, axis, selections):
    block = example(xp)
    if axis == "properties":
        block = TensorBlock(
            xp.asarray(np.arange(8.0).reshape(2, 4)), Labels.range("s", 2), [], block.samples
        )
    parts = split(block, axis, selections)
    assert len(parts) == len(selections)
    for part, selection in zip(parts, selections, strict=True):
        assert part == slice_of(block, axis, selection)


def test_many_systems():
    n_systems, n_atoms = 300, 7
    order = np.random.default_rng(0).permutation(n_systems * n_atoms)
    rows = np.stack([order // n_atoms, order % n_atoms], axis=1).astype(np.int32)
    block = TensorBlock(rows[:, :1] * 1.0, Labels(["s", "a"], rows), [], Labels.single())
    parts = split(block, "samples", [labels("s", [[system]]) for system in range(n_systems)])
    for system, part in enumerate(parts):
        assert part.samples.values.tolist() == rows[rows[:, 0] == system].tolist()
        assert (part.values == system).all()


@pytest.mark.parametrize("rows", [[0, 1], [1, 3]])
def test_results_are_copies(xp, rows):
    block = example(xp)
    before = block.copy()
    parts = [slice_of(block, "samples", rows), *split(block, "samples", [rows, rows])]
    if xp.name == "numpy":
        for part in parts:
            assert not np.shares_memory(part.values, block.values)
            assert not np.shares_memory(part.gradient("g").values, block.gradient("g").values)
        parts[1].values[:] = -1
        assert (parts[2].values >= 0).all()
    assert block == before


def test_parts_that_share_memory_do_not_overlap():
    block = TensorBlock(
        np.random.default_rng(0).random((9000, 64)),
        Labels.range("s", 9000),
        [],
        Labels.range("p", 64),
    )
    chosen = [list(range(n, n + 9)) for n in range(0, 9000, 9)] + [[5, 3, 3]]
    parts = split(block, "samples", chosen)
    for part in parts[::2]:
        part.values[:] = -1
    for part, rows in list(zip(parts, chosen, strict=True))[1::2]:
        np.testing.assert_array_equal(part.values, block.values[rows])
    np.testing.assert_array_equal(
        slice_of(block, "properties", [7, 2]).values, block.values[:, [2, 7]]
    )


def test_empty_maps():
    tensor = TensorMap(Labels.empty("key"), [])
    assert slice_of(tensor, "samples", labels("i", [[0]])) == tensor
    assert split(tensor, "samples", [[0], [1]]) == [tensor, tensor]
    assert drop_blocks(tensor, Labels.empty("key")) == tensor
    assert drop_empty_blocks(tensor) == tensor


def test_block_without_samples(xp):
    block = slice_of(example(xp), "samples", [])
    again = slice_of(block, "samples", labels("i", [[0]]))
    assert again == block
    assert tuple(again.gradient("g").gradient("h").values.shape) == (0, 3, 2, 3)
    with pytest.raises(IndexError, match=r"positions must be in \[0, 0\), got 0"):
        slice_of(block, "samples", [0])


def test_autograd_flows_through():
    torch = pytest.importorskip("torch")
    values = torch.arange(8, dtype=torch.float64).reshape(4, 2).requires_grad_()

    def total(values):
        block = TensorBlock(values, Labels.range("s", 4), [], Labels.range("p", 2))
        first, second = split(block, "samples", [[3, 0], [1, 2]])
        return first.values**2 + slice_of(second, "properties", [1]).values

    assert torch.autograd.gradcheck(total, values)


def test_dimensions_of_torch_labels():
    torch = pytest.importorskip("torch")
    samples = Labels("s", torch.arange(3)[:, None])
    block = TensorBlock(torch.ones(3, 1), samples, [], Labels.single())
    part = slice_of(block, "samples", [2])
    assert isinstance(part.samples.values, torch.Tensor)
    assert part.samples.values.tolist() == [[2]]


@pytest.mark.parametrize(
    ("axis", "selection", "error", "match"),
    [
        ("samples", [4], IndexError, r"in \[-4, 4\), got 4"),
        ("samples", [-5], IndexError, "got -5"),
        ("samples", np.array([2**64 - 1], dtype=np.uint64), IndexError, "18446744073709551615"),
        ("samples", (0, 1), TypeError, "`selection` must be Labels, list of int .*, got tuple"),
        ("samples", 3, TypeError, "got int"),
        ("samples", [0.0], TypeError, "must be integers, got float64"),
        ("samples", ["i"], TypeError, "must be integers"),
        ("samples", np.array([[0]]), ValueError, "must be 1-D, got 2 dimensions"),
        ("samples", np.ones(4, dtype=bool), TypeError, "boolean mask.*flatnonzero"),
        ("samples", [True, False, True, True], TypeError, "boolean mask"),
        ("samples", labels("k", [[0]]), ValueError, r"among \['i', 'j'\], got 'k'"),
        ("properties", labels("i", [[0]]), ValueError, r"among \['p'\], got 'i'"),
        ("components", [0], ValueError, "`axis` must be 'samples' or 'properties'"),
    ],
)
def test_what_can_not_be_taken(axis, selection, error, match):
    tensor = tensor_of(example(np))
    with pytest.raises(error, match=match):
        slice_of(tensor, axis, selection)
    with pytest.raises(error, match=match.replace("selection", "selections")):
        split_block(tensor, axis, [[0], selection])


def test_errors_say_for_which_block():
    tensor = TensorMap(Labels.range("key", 2), [example(np), slice_of(example(np), "samples", [0])])
    for call in (lambda: slice_of(tensor, "samples", [2]), lambda: split(tensor, "samples", [[2]])):
        with pytest.raises(IndexError, match=r"\(in the block for key \(key=1\)\)"):
            call()


@pytest.mark.parametrize("function", [slice_of, split])
def test_only_tensors(function):
    with pytest.raises(TypeError, match="`tensor` must be a metatensor TensorMap or TensorBlock"):
        function(np.zeros((2, 2)), "samples", [])


def test_arguments_of_split():
    with pytest.raises(TypeError, match="`selections` must be a list, got tuple"):
        split(example(np), "samples", ([0],))
    with pytest.raises(TypeError, match="`axis` must be a str, got int"):
        split(example(np), 3, [])


# ---- chosen blocks


def numbered(n_blocks=4):
    """Blocks that hold the number of their key; keys (k, l)."""
    keys = labels(["k", "l"], [[number // 2, number % 2] for number in range(n_blocks)])
    blocks = [
        TensorBlock(np.full((1, 1), number), Labels.single(), [], Labels.single())
        for number in range(n_blocks)
    ]
    tensor = TensorMap(keys, blocks)
    tensor.set_info("unit", "eV")
    return tensor


def numbers(tensor):
    for key, block in tensor.items():
        assert 2 * key["k"] + key["l"] == block.values.item()
    return [block.values.item() for block in tensor]


@pytest.mark.parametrize(
    ("keys", "kept", "left"),
    [
        (labels("k", [[1]]), [2, 3], [0, 1]),
        (labels("l", [[1], [0]]), [0, 1, 2, 3], []),
        (labels(["k", "l"], [[1, 1], [7, 7], [0, 0]]), [3, 0], [1, 2]),
        (labels(["l", "k"], [[1, 1], [0, 0]]), [0, 3], [1, 2]),
        (labels("k", [[-1]]), [], [0, 1, 2, 3]),
        (Labels.empty("k"), [], [0, 1, 2, 3]),
    ],
)
@pytest.mark.parametrize("copy", [True, False])
def test_chosen_blocks(keys, kept, left, copy):
    tensor = numbered()
    found, dropped = filter_blocks(tensor, keys, copy=copy), drop_blocks(tensor, keys, copy=copy)
    assert numbers(found) == kept
    assert numbers(dropped) == left
    for part in (found, dropped):
        assert part.info() == {"unit": "eV"}
        for key, block in part.items():
            assert (block.values is tensor[key].values) == (not copy)


def test_blocks_without_samples_or_properties():
    full = example(np)
    blocks = [full, slice_of(full, "samples", []), slice_of(full, "properties", []), full]
    tensor = TensorMap(Labels.range("key", 4), blocks)
    kept = drop_empty_blocks(tensor)
    assert kept.keys.values.ravel().tolist() == [0, 3]
    assert kept.block(1).gradient("g").gradient("h").values is (
        full.gradient("g").gradient("h").values
    )
    copied = drop_empty_blocks(tensor, copy=True)
    assert copied == kept
    assert copied.block(0).values is not full.values


@pytest.mark.parametrize(
    ("axis", "selection"),
    [("samples", labels("i", [[0]])), ("samples", [1, 0]), ("properties", [2, 0])],
)
def test_blocks_with_the_same_labels_are_alike_afterwards(axis, selection):
    blocks = [example(np), example(np), slice_of(example(np), "samples", [0, 3]), example(np)]
    tensor = TensorMap(Labels.range("key", 4), blocks)
    parts = slice_of(tensor, axis, selection)
    for block, part in zip(blocks, parts.blocks(), strict=True):
        assert part == slice_of(block, axis, selection)
    for first, other in [(parts[0], parts[1]), (parts[0].gradient("g"), parts[3].gradient("g"))]:
        assert getattr(first, axis) is getattr(other, axis)


@pytest.mark.parametrize("function", [drop_blocks, filter_blocks])
def test_what_are_no_keys(function):
    tensor = numbered()
    with pytest.raises(TypeError, match="`keys` must be a metatensor Labels, got list"):
        function(tensor, [0])
    with pytest.raises(TypeError, match="`keys` must be a metatensor Labels"):
        function(tensor, tensor.keys[0])
    with pytest.raises(MetatensorError, match=r"among \['k', 'l'\], got 'm'"):
        function(tensor, labels("m", [[0]]))
    with pytest.raises(TypeError, match="`copy` must be a bool, got int"):
        function(tensor, tensor.keys, copy=1)
    with pytest.raises(TypeError, match="`tensor` must be a metatensor TensorMap"):
        function(tensor.block(0), tensor.keys)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: metatensor.slice(tensor, "samples", [0]),
        lambda tensor: metatensor.sum_over_samples(tensor, "b"),
        lambda tensor: metatensor.rename_dimension(tensor, "samples", "b", "c"),
    ],
    ids=["slice", "sum_over_samples", "rename_dimension"],
)
def test_blocks_share_no_labels_of_another_library(change):
    """Equal Labels share their plan, and each keeps the library of its values."""
    torch = pytest.importorskip("torch")
    rows = np.array([[0, 1], [1, 0]], dtype=np.int32)
    values, properties = torch.ones(2, 1), Labels.range("p", 1)
    blocks = [
        TensorBlock(values, Labels(["a", "b"], kind(rows)), [], properties)
        for kind in (np.array, torch.tensor)
    ]
    changed = change(TensorMap(Labels.range("k", 2), blocks))
    assert [type(block.samples.values) for block in changed] == [np.ndarray, torch.Tensor]
