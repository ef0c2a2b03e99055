"""Joins of maps and blocks, against worked examples."""

import numpy as np
import pytest

from metatensor import Labels, MetatensorError, NotEqualError, TensorBlock, TensorMap
from metatensor.operations import concatenate, join, join_blocks


def labels(names, rows):
    names = [names] if isinstance(names, str) else names
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), -1))


def block_of(xp, samples, properties, first=0.0, gradient_rows=None, dtype=np.float64):
    """Count from a number on; gradients count from ten times it, those of them from 100 times."""
    components = [Labels.range("c", 2)]
    shape = (len(samples), 2, len(properties))
    values = (first + np.arange(np.prod(shape))).reshape(shape).astype(dtype)
    block = TensorBlock(xp.asarray(values), samples, components, properties)
    if gradient_rows is not None:
        shape = (len(gradient_rows), 3, *shape[1:])
        numbers = (10 * first + np.arange(np.prod(shape))).reshape(shape).astype(dtype)
        components = [Labels.range("d", 3), *components]
        gradient = TensorBlock(xp.asarray(numbers), gradient_rows, components, properties)
        rows = labels(["sample", "z"], [[row, 7] for row in range(len(gradient_rows))])
        gradient.add_gradient(
            "h", TensorBlock(xp.asarray(10 * numbers), rows, components, properties)
        )
        block.add_gradient("g", gradient)
    return block


P = Labels.range("p", 2)
ROWS = (
    labels(["sample", "a"], [[1, 0], [0, 3]]),
    labels(["sample", "a"], [[0, 0], [0, 3], [1, 1]]),
)


def two_systems(xp, names=("s", "t")):
    return [
        block_of(xp, labels(names, [[5, 0], [1, 1]]), P, 1, ROWS[0]),
        block_of(xp, labels(names, [[0, 0], [2, 7], [1, 0]]), P, 100, ROWS[1]),
    ]


def test_samples(xp):
    first, second = two_systems(xp)
    both = join_blocks([first, second], "samples")
    assert both.samples.names == ["s", "t"]
    assert both.samples.values.tolist() == [[5, 0], [1, 1], [0, 0], [2, 7], [1, 0]]
    assert both.properties == P
    assert both.components == first.components
    parts = [np.asarray(block.values) for block in (first, second)]
    np.testing.assert_array_equal(np.asarray(both.values), np.concatenate(parts))
    gradient = both.gradient("g")
    assert gradient.samples.values.tolist() == [[1, 0], [0, 3], [2, 0], [2, 3], [3, 1]]
    parts = [np.asarray(block.gradient("g").values) for block in (first, second)]
    np.testing.assert_array_equal(np.asarray(gradient.values), np.concatenate(parts))
    inner = gradient.gradient("h")
    assert inner.samples.values.tolist() == [[0, 7], [1, 7], [2, 7], [3, 7], [4, 7]]
    np.testing.assert_array_equal(np.asarray(inner.values), 10 * np.asarray(gradient.values))


def test_samples_with_a_dimension_for_the_tensor(xp):
    first, second = two_systems(xp)
    both = join([first, second, first], "samples", add_dimension="tensor")
    assert both.samples.names == ["s", "t", "tensor"]
    assert both.samples["tensor"].tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert both.samples.values[5:, :2].tolist() == first.samples.values.tolist()
    assert both.gradient("g").samples.names == ["sample", "a"]
    assert both.gradient("g").samples.values[-2:].tolist() == [[6, 0], [5, 3]]


def test_properties(xp):
    samples = labels("s", [[4], [0]])
    first = block_of(xp, samples, labels("p", [[3], [1]]), 1, ROWS[0])
    second = block_of(xp, samples, labels("p", [[0], [2], [5]]), 100, ROWS[1])
    both = join_blocks((first, second), "properties")
    assert both.samples == samples
    assert both.properties == labels("p", [[3], [1], [0], [2], [5]])
    expected = np.concatenate([np.asarray(first.values), np.asarray(second.values)], axis=-1)
    np.testing.assert_array_equal(np.asarray(both.values), expected)
    # gradient rows of both, in the order in which they appear; zero where a block has no such row
    gradient = both.gradient("g")
    rows = [(1, 0), (0, 3), (0, 0), (1, 1)]
    assert gradient.samples.values.tolist() == [list(row) for row in rows]
    assert gradient.properties == both.properties
    expected = np.zeros((4, 3, 2, 5))
    for block, columns in ((first, slice(0, 2)), (second, slice(2, 5))):
        for row, values in zip(
            block.gradient("g").samples.values.tolist(),
            np.asarray(block.gradient("g").values),
            strict=True,
        ):
            expected[rows.index(tuple(row)), ..., columns] = values
    np.testing.assert_array_equal(np.asarray(gradient.values), expected)
    inner = gradient.gradient("h")
    assert inner.samples.values.tolist() == [[0, 7], [1, 7], [2, 7], [3, 7]]
    np.testing.assert_array_equal(np.asarray(inner.values), 10 * expected)


def test_properties_with_a_dimension_for_the_tensor(xp):
    samples = Labels.range("s", 2)
    blocks = [block_of(xp, samples, labels("p", [[p]])) for p in (0, 4, 0)]
    both = join_blocks(blocks, "properties", "t")
    assert both.properties == labels(["p", "t"], [[0, 0], [4, 1], [0, 2]])


@pytest.mark.parametrize("names", [["q"], ["p", "q"]])
def test_properties_with_other_names(xp, names):
    samples = Labels.range("s", 2)
    rows = [[3] * len(names), [1] * len(names)]
    blocks = [block_of(xp, samples, labels("p", [[7]])), block_of(xp, samples, labels(names, rows))]
    both = join(blocks, "properties")
    assert both.properties == labels(["joined_index", "property"], [[0, 0], [1, 0], [1, 1]])
    with pytest.raises(ValueError, match="`add_dimension` can not be used when properties have"):
        join(blocks, "properties", add_dimension="t")


def map_of(keys, blocks, info=None):
    tensor = TensorMap(labels("k", [[key] for key in keys]), blocks)
    if info:
        tensor.set_info("unit", info)
    return tensor


def two_maps(xp):
    """Return maps with keys 0, 1 and 2, 0; the blocks of each have samples of their own."""
    first = [block_of(xp, labels("s", [[0], [1]]), P, 1), block_of(xp, labels("s", [[7]]), P, 50)]
    second = [block_of(xp, labels("s", [[9]]), P, 100), block_of(xp, labels("s", [[0]]), P, 200)]
    return [map_of([0, 1], first, "eV"), map_of([2, 0], second, "eV")]


def test_common_keys(xp):
    joined = join(two_maps(xp), "samples", "intersection", add_dimension="tensor")
    assert joined.keys == labels("k", [[0]])
    assert joined.info() == {"unit": "eV"}
    assert joined.block(0).samples == labels(["s", "tensor"], [[0, 0], [1, 0], [0, 1]])


def test_all_keys(xp):
    tensors = two_maps(xp)
    joined = join(tensors, "samples", different_keys="union", add_dimension="tensor")
    assert joined.keys == labels("k", [[0], [1], [2]])
    assert joined.block(k=1).samples == labels(["s", "tensor"], [[7, 0]])
    assert joined.block(k=2).samples == labels(["s", "tensor"], [[9, 1]])
    for block, given in [
        (joined.block(k=1), tensors[0].block(k=1)),
        (joined.block(k=2), tensors[1].block(k=2)),
    ]:
        np.testing.assert_array_equal(np.asarray(block.values), np.asarray(given.values))


def test_all_keys_along_properties(xp):
    samples = Labels.range("s", 2)
    tensors = [
        map_of([0, 1], [block_of(xp, samples, labels("p", [[0]])) for _ in range(2)]),
        map_of([1, 2], [block_of(xp, samples, labels("q", [[5]]), 9) for _ in range(2)]),
    ]
    joined = join(tensors, "properties", different_keys="union")
    assert [block.properties.values.tolist() for block in joined] == [
        [[0, 0]],
        [[0, 0], [1, 0]],
        [[1, 0]],
    ]
    assert joined.property_names == ["joined_index", "property"]


def test_permuted_keys(xp):
    first = map_of([0, 1], [block_of(xp, labels("s", [[k]]), P, k) for k in (0, 1)])
    second = map_of([1, 0], [block_of(xp, labels("s", [[2 + k]]), P, k) for k in (1, 0)])
    joined = join([first, second], "samples")
    assert joined.keys == first.keys
    assert [block.samples.values.ravel().tolist() for block in joined] == [[0, 2], [1, 3]]


def test_keys_that_differ():
    with pytest.raises(NotEqualError, match="the keys differ"):
        join(two_maps(np), "samples")
    other = TensorMap(Labels.range("z", 1), [two_maps(np)[0].block(0)])
    for different_keys in ("error", "union", "intersection"):
        with pytest.raises(ValueError, match="names"):
            join([two_maps(np)[0], other], "samples", different_keys)


def test_maps_without_blocks():
    empty, (first, _) = TensorMap(Labels.empty("k"), []), two_maps(np)
    assert join([empty, empty], "samples") == empty
    assert join([empty, first], "samples", "intersection") == empty
    joined = join([empty, first], "samples", "union", "tensor")
    assert joined.block(1).samples == labels(["s", "tensor"], [[7, 1]])


def test_permuted_sample_names(xp):
    """Elsewhere the columns are put below each other as they come."""
    first, second = two_systems(xp)[0], two_systems(xp, ("t", "s"))[1]
    both = join([first, second], "samples")
    assert both.samples.names == ["s", "t"]
    assert both.samples.values.tolist() == [[5, 0], [1, 1], [0, 0], [7, 2], [0, 1]]
    assert second.samples.names == ["t", "s"]
    np.testing.assert_array_equal(np.asarray(both.values)[2:], np.asarray(second.values))


@pytest.mark.parametrize("axis", ["samples", "properties"])
def test_permuted_names_of_gradient_rows(axis):
    blocks = []
    for number, names in enumerate((["sample", "a", "b"], ["sample", "b", "a"])):
        samples = labels("s", [[number if axis == "samples" else 0]])
        block = TensorBlock(np.ones((1, 1)), samples, [], labels("p", [[0]]))
        rows = labels(names, [[0, 1, 2]])
        block.add_gradient("g", TensorBlock(np.ones((1, 1)), rows, [], block.properties))
        blocks.append(block)
    joined = join(blocks, axis, add_dimension="tensor")
    rows = [[0, 1, 2], [1, 2, 1]] if axis == "samples" else [[0, 1, 2], [0, 2, 1]]
    assert joined.gradient("g").samples == labels(["sample", "a", "b"], rows)


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ((np.float32, np.float64), np.float64),
        ((np.float64, np.float32), np.float64),
        ((np.int32, np.float64), np.float64),
        ((np.float32, np.complex64), np.complex64),
    ],
)
@pytest.mark.parametrize("axis", ["samples", "properties"])
def test_dtypes_are_promoted(axis, dtypes, expected):
    rows = labels(["sample", "a"], [[0, 0]])
    blocks = [
        block_of(np, labels("s", [[0]]), P, n + 1, rows, dtype) for n, dtype in enumerate(dtypes)
    ]
    tensors = [map_of([n, 5], [block, block]) for n, block in enumerate(blocks)]
    joined = join(tensors, axis, "union", add_dimension="tensor")
    assert len(joined) == 3
    for block in joined:
        assert block.dtype == expected
        assert block.gradient("g").gradient("h").dtype == expected
    assert [block.dtype for block in blocks] == list(dtypes)


def test_libraries_are_not_mixed():
    torch = pytest.importorskip("torch")
    first = block_of(np, labels("s", [[0]]), P)
    second = block_of(np, labels("s", [[1]]), P).to(arrays="torch")
    assert isinstance(second.values, torch.Tensor)
    with pytest.raises(MetatensorError, match="must have the array library .* numpy, got torch"):
        join([first, second], "samples")


def test_one_tensor_is_itself():
    tensor = two_maps(np)[0]
    assert join([tensor], "samples", add_dimension="tensor") is tensor
    assert join_blocks([tensor.block(0)], "properties") is tensor.block(0)


def test_names_numpy_has():
    assert concatenate is join
    block = block_of(np, labels("s", [[0]]), P)
    assert join_blocks(blocks=[block, block], axis="samples", add_dimension="n").shape == (2, 2, 2)


def test_results_are_copies(xp):
    tensors = two_maps(xp)
    before = [tensor.copy() for tensor in tensors]
    joined = join(tensors, "samples", "union", "tensor")
    if xp.name == "numpy":
        for block in joined:
            block.values[:] = -1
    assert tensors == before


def test_autograd_flows_through():
    torch = pytest.importorskip("torch")
    values = torch.arange(8, dtype=torch.float64).reshape(4, 2).requires_grad_()

    def joined(values):
        samples = [Labels.range("s", 2), labels("s", [[5], [6]])]
        first, second = (
            TensorBlock(part, rows, [], Labels.range("p", 2))
            for part, rows in zip((values[:2], values[2:]), samples, strict=True)
        )
        below = join([first, second], "samples")
        beside = join([first, first], "properties", add_dimension="n")
        return below.values**2, beside.values**3

    assert torch.autograd.gradcheck(joined, values)


def test_entries_that_occur_twice():
    first = block_of(np, labels(["s", "t"], [[0, 1], [2, 3]]), P)
    with pytest.raises(MetatensorError, match="samples .*must be unique.*'s': 2, 't': 3.*add_dim"):
        join([first, block_of(np, labels(["s", "t"], [[2, 3]]), P)], "samples")
    with pytest.raises(MetatensorError, match="properties .*must be unique.*'p': 0.*add_dimension"):
        join([first, first], "properties")
    with pytest.raises(MetatensorError, match=r"key \(k=4\)"):
        join([map_of([4], [first])] * 2, "samples")


def change(block, **parts):
    old = {
        "values": block.values,
        "samples": block.samples,
        "components": block.components,
        "properties": block.properties,
    }
    return TensorBlock(**{**old, **parts})


BLOCK = block_of(np, labels("s", [[0], [3]]), P)
WITH_GRADIENT = block_of(np, labels("s", [[0], [3]]), P, 0, ROWS[0])


@pytest.mark.parametrize(
    ("other", "axis", "match"),
    [
        (change(BLOCK, properties=labels("p", [[1], [0]])), "samples", "properties differ"),
        (change(BLOCK, properties=Labels.range("q", 2)), "samples", "properties differ"),
        (change(BLOCK, components=[labels("c", [[1], [0]])]), "samples", "components differ"),
        (change(BLOCK, components=[Labels.range("d", 2)]), "samples", "components differ"),
        (change(BLOCK, components=[labels("c", [[1], [0]])]), "properties", "components differ"),
        (change(BLOCK, samples=Labels.range("t", 2)), "samples", "names of samples differ"),
        (change(BLOCK, samples=Labels.range("t", 2)), "properties", "names of samples differ"),
        (change(BLOCK, samples=labels("s", [[3], [0]])), "properties", "samples differ"),
        (WITH_GRADIENT, "samples", "gradients differ"),
        (WITH_GRADIENT, "properties", "gradients differ"),
    ],
)
def test_what_does_not_fit(other, axis, match):
    for tensors in ([BLOCK, other], [map_of([0], [BLOCK]), map_of([0], [other])]):
        with pytest.raises(NotEqualError, match=match):
            join(tensors, axis, add_dimension="tensor")


@pytest.mark.parametrize("axis", ["samples", "properties"])
def test_gradients_with_other_components(axis):
    first, second = change(BLOCK), change(BLOCK)
    for block, entries in ((first, [[0], [1], [2]]), (second, [[0], [2], [1]])):
        gradient = WITH_GRADIENT.gradient("g")
        components = [labels("d", entries), *gradient.components[1:]]
        block.add_gradient("g", change(gradient, components=components))
    with pytest.raises(NotEqualError, match="in the gradients 'g', the components differ"):
        join([first, second], axis, add_dimension="tensor")


@pytest.mark.parametrize(
    ("args", "error", "match"),
    [
        (({BLOCK.dtype: BLOCK}, "samples"), TypeError, "must be a list or a tuple, got dict"),
        (([], "samples"), ValueError, "at least one element, got none"),
        (([BLOCK, 3], "samples"), TypeError, "`tensors` must be a metatensor TensorBlock, got int"),
        (([3], "samples"), TypeError, "`tensors` must be a metatensor TensorMap or TensorBlock"),
        (([BLOCK, map_of([0], [BLOCK])], "samples"), TypeError, "got metatensor.TensorMap"),
        (([BLOCK], "rows"), ValueError, "`axis` must be 'samples' or 'properties', got 'rows'"),
        (([BLOCK], "samples", "all"), ValueError, "`different_keys` must be 'error'.*got 'all'"),
        (([BLOCK] * 2, "samples", "error", 3), TypeError, "`add_dimension` must be a str, got int"),
        (([BLOCK] * 2, "samples", "error", "s"), MetatensorError, "'s' more than once"),
        (([BLOCK] * 2, "samples", "error", "a b"), MetatensorError, "not a valid label name"),
    ],
)
def test_arguments(args, error, match):
    with pytest.raises(error, match=match):
        join(*args)
