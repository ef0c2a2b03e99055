"""Moving keys and components, against nested loops over labelled numbers."""

import importlib
import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metatensor import Labels, MetatensorError, TensorBlock, TensorMap

# ---- the model: a block is its labels, and a dict of numbers by their labels


def rows_of(labels):
    return [tuple(row) for row in np.asarray(labels.values).tolist()]


def numbers_of(block):
    """All numbers of a block, by sample, entries of the components, and property."""
    axes = [rows_of(labels) for labels in (block.samples, *block.components, block.properties)]
    return dict(zip(itertools.product(*axes), to_numpy(block.values).ravel().tolist(), strict=True))


def dense(numbers, axes, fill):
    values = [numbers.get(labels, fill) for labels in itertools.product(*axes)]
    return np.array(values).reshape([len(axis) for axis in axes])


def to_numpy(values):
    return np.asarray(values.detach() if hasattr(values, "detach") else values)


def split_keys(tensor, moved):
    """Groups of (moved values, block), by the other values of their keys."""
    names = tensor.keys.names
    groups = {}
    for key, block in zip(rows_of(tensor.keys), tensor, strict=True):
        key = dict(zip(names, key, strict=True))
        rest = tuple(value for name, value in key.items() if name not in moved) or (0,)
        groups.setdefault(rest, []).append((tuple(key[name] for name in moved), block))
    return groups


def merged_gradient(parts, name, new_sample, new_property, samples, properties, fill):
    """The gradient `name` of merged parts, whose samples and properties have new labels."""
    numbers, rows = {}, set()
    for key, block in parts:
        gradient, old_samples = block.gradient(name), rows_of(block.samples)

        def new_row(row, key=key, old_samples=old_samples):
            return (samples.index(new_sample(key, old_samples[row[0]])), *row[1:])

        rows |= {new_row(row) for row in rows_of(gradient.samples)}
        for (row, *components, old), number in numbers_of(gradient).items():
            numbers[(new_row(row), *components, new_property(key, old))] = number
    rows = sorted(rows)
    components = [rows_of(labels) for labels in parts[0][1].gradient(name).components]
    return rows, dense(numbers, [rows, *components, properties], fill)


def assert_merged(block, parts, samples, properties, new_sample, new_property, fill):
    assert rows_of(block.samples) == samples
    assert rows_of(block.properties) == properties
    numbers = {}
    for key, part in parts:
        for (sample, *components, old), number in numbers_of(part).items():
            numbers[(new_sample(key, sample), *components, new_property(key, old))] = number
    components = [rows_of(labels) for labels in parts[0][1].components]
    assert block.components == parts[0][1].components
    np.testing.assert_array_equal(
        to_numpy(block.values), dense(numbers, [samples, *components, properties], fill)
    )
    assert block.gradients_list() == sorted(parts[0][1].gradients_list())
    for name, gradient in block.gradients():
        rows, values = merged_gradient(
            parts, name, new_sample, new_property, samples, properties, fill
        )
        assert rows_of(gradient.samples) == rows
        assert gradient.properties == block.properties
        assert gradient.components == parts[0][1].gradient(name).components
        np.testing.assert_array_equal(to_numpy(gradient.values), values)


def in_order(rows, sort):
    rows = list(dict.fromkeys(rows))
    return sorted(rows) if sort else rows


def assert_moved_to_samples(tensor, moved, fill, sort):
    result = tensor.keys_to_samples(moved, fill_value=fill, sort_samples=sort)
    groups = split_keys(tensor, moved)
    assert rows_of(result.keys) == list(groups)
    for block, parts in zip(result, groups.values(), strict=True):
        samples = [sample + key for key, part in parts for sample in rows_of(part.samples)]
        properties = [row for _, part in parts for row in rows_of(part.properties)]
        assert block.samples.names == tensor.sample_names + moved
        assert block.properties.names == tensor.property_names
        assert_merged(
            block, parts, in_order(samples, sort), in_order(properties, False),
            lambda key, sample: sample + key, lambda key, old: old, fill,
        )  # fmt: skip


def assert_moved_to_properties(tensor, moved, fill, sort, entries=None):
    groups = split_keys(tensor, moved)
    keys_to_move = moved if entries is None else labels_of(moved, entries)
    result = tensor.keys_to_properties(keys_to_move, fill_value=fill, sort_samples=sort)
    assert rows_of(result.keys) == list(groups)
    for block, parts in zip(result, groups.values(), strict=True):
        if entries is None:
            properties = [key + row for key, part in parts for row in rows_of(part.properties)]
        else:
            properties = [key + row for key in entries for row in rows_of(parts[0][1].properties)]
        samples = [sample for _, part in parts for sample in rows_of(part.samples)]
        assert block.samples.names == tensor.sample_names
        assert block.properties.names == moved + tensor.property_names
        assert_merged(
            block, parts, in_order(samples, sort), properties,
            lambda key, sample: sample, lambda key, old: key + old, fill,
        )  # fmt: skip


# ---- random maps

INTEGERS = st.one_of(st.integers(-1, 3), st.sampled_from([-(2**31), 2**31 - 1]))


def row_lists(columns, at_least=0, at_most=5, elements=INTEGERS):
    row = st.tuples(*[elements] * columns)
    return st.lists(row, unique=True, min_size=at_least, max_size=at_most)


def labels_of(names, rows):
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), len(names)))


class Counter:
    """Makes arrays of numbers that do not repeat."""

    def __init__(self, asarray):
        self.asarray, self.count = asarray, 0

    def __call__(self, labels):
        shape = tuple(map(len, labels))
        numbers = np.arange(np.prod(shape, dtype=int), dtype=float) + self.count + 1
        self.count += numbers.size
        return self.asarray(numbers.reshape(shape))


@st.composite
def tensors(draw, asarray=np.asarray, same_properties=False):
    array = Counter(asarray)
    keys = draw(row_lists(2, at_least=1, at_most=6, elements=st.integers(-1, 1)))
    n_samples, n_properties = draw(st.integers(0, 2)), draw(st.integers(1, 2))
    sample_names, property_names = ["s", "t"][:n_samples], ["p", "q"][:n_properties]
    shape = draw(st.sampled_from([{}, {"c": 2}, {"c": 1, "d": 3}, {"c": 2, "d": 3, "e": 2}]))
    components = [Labels.range(name, size) for name, size in shape.items()]
    gradients = draw(st.lists(st.sampled_from(["zeta", "alpha"]), unique=True))
    extra = [Labels.range("xyz", 3)] if draw(st.booleans()) else []
    properties = draw(row_lists(n_properties, at_most=3))
    samples = draw(row_lists(n_samples)) if draw(st.booleans()) else None
    blocks = []
    for _ in keys:
        if not same_properties and draw(st.booleans()):
            properties = draw(row_lists(n_properties, at_most=3))
        rows = samples if samples is not None else draw(row_lists(n_samples))
        axes = [labels_of(sample_names, rows), *components, labels_of(property_names, properties)]
        block = TensorBlock(array(axes), axes[0], components, axes[-1])
        for name in gradients:
            numbers = row_lists(1, at_most=2)
            gradient_rows = [(i, *row) for i in range(len(rows)) for row in draw(numbers)]
            gradient_rows = draw(st.permutations(gradient_rows))
            axes[0] = labels_of(["sample", "i"], gradient_rows)
            gradient_axes = [axes[0], *extra, *axes[1:]]
            gradient = TensorBlock(array(gradient_axes), axes[0], gradient_axes[1:-1], axes[-1])
            block.add_gradient(name, gradient)
        blocks.append(block)
    tensor = TensorMap(labels_of(["a", "b"], keys), blocks)
    tensor.set_info("origin", "test")
    return tensor


moves = st.sampled_from([["a"], ["b"], ["b", "a"], ["a", "b"], []])
fills = st.sampled_from([0.0, -1.0, 0.5])
each_library = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


# ---- moving keys


@each_library
@given(data=st.data(), moved=moves, fill=fills, sort=st.booleans())
def test_keys_to_samples_is_nested_loops(xp, data, moved, fill, sort):
    assert_moved_to_samples(data.draw(tensors(xp.asarray)), moved, fill, sort)


@each_library
@given(data=st.data(), moved=moves, fill=fills, sort=st.booleans())
def test_keys_to_properties_is_nested_loops(xp, data, moved, fill, sort):
    assert_moved_to_properties(data.draw(tensors(xp.asarray)), moved, fill, sort)


@each_library
@given(data=st.data(), moved=moves, fill=fills, sort=st.booleans())
def test_keys_to_properties_with_entries_is_nested_loops(xp, data, moved, fill, sort):
    tensor = data.draw(tensors(xp.asarray, same_properties=True))
    entries = data.draw(row_lists(len(moved), at_least=1, at_most=3, elements=st.integers(-1, 2)))
    assert_moved_to_properties(tensor, moved, fill, sort, entries)


def table(names, rows):
    return Labels(names, np.array(rows))


def example_block(library, samples, properties, values, gradient_rows, gradient_values):
    properties = table(["p"], properties)
    block = TensorBlock(library.asarray(values), table(["s"], samples), [], properties)
    samples = table(["sample", "d"], gradient_rows)
    block.add_gradient("g", TensorBlock(library.asarray(gradient_values), samples, [], properties))
    return block


def two_blocks(library):
    """Two blocks with different samples and properties."""
    return TensorMap(
        table(["a", "z"], [[9, 1], [2, 1]]),
        [
            example_block(
                library, [[4], [0]], [[5], [3]], [[1.0, 2.0], [3.0, 4.0]],
                [[1, 7], [0, 7]], [[10.0, 20.0], [30.0, 40.0]],
            ),
            example_block(library, [[0]], [[3], [8]], [[5.0, 6.0]], [[0, 2]], [[50.0, 60.0]]),
        ],
    )  # fmt: skip


EXAMPLES = {
    "A": (
        lambda tensor: tensor.keys_to_samples("a"),
        {"s": [0, 0, 4], "a": [2, 9, 9]},
        {"p": [5, 3, 8]},
        [[0, 5, 6], [3, 4, 0], [1, 2, 0]],
        [[0, 2], [1, 7], [2, 7]],
        [[0, 50, 60], [10, 20, 0], [30, 40, 0]],
    ),
    "A, not sorted": (
        lambda tensor: tensor.keys_to_samples("a", sort_samples=False),
        {"s": [4, 0, 0], "a": [9, 9, 2]},
        {"p": [5, 3, 8]},
        [[1, 2, 0], [3, 4, 0], [0, 5, 6]],
        [[0, 7], [1, 7], [2, 2]],
        [[30, 40, 0], [10, 20, 0], [0, 50, 60]],
    ),
    "B": (
        lambda tensor: tensor.keys_to_properties("a"),
        {"s": [0, 4]},
        {"a": [9, 9, 2, 2], "p": [5, 3, 3, 8]},
        [[3, 4, 5, 6], [1, 2, 0, 0]],
        [[0, 2], [0, 7], [1, 7]],
        [[0, 0, 50, 60], [10, 20, 0, 0], [30, 40, 0, 0]],
    ),
    "B, not sorted": (
        lambda tensor: tensor.keys_to_properties("a", sort_samples=False, fill_value=-1),
        {"s": [4, 0]},
        {"a": [9, 9, 2, 2], "p": [5, 3, 3, 8]},
        [[1, 2, -1, -1], [3, 4, 5, 6]],
        [[0, 7], [1, 2], [1, 7]],
        [[30, 40, -1, -1], [-1, -1, 50, 60], [10, 20, -1, -1]],
    ),
}


def assert_block(block, samples, properties, values, gradient_rows, gradient_values):
    for labels, columns in ((block.samples, samples), (block.properties, properties)):
        assert labels.names == list(columns)
        np.testing.assert_array_equal(labels.values, np.array(list(columns.values())).T)
    np.testing.assert_array_equal(to_numpy(block.values), values)
    np.testing.assert_array_equal(block.gradient("g").samples.values, gradient_rows)
    np.testing.assert_array_equal(to_numpy(block.gradient("g").values), gradient_values)


@pytest.mark.parametrize("example", EXAMPLES)
def test_worked_example(xp, example):
    move, *expected = EXAMPLES[example]
    result = move(two_blocks(xp))
    assert result.keys == table(["z"], [[1]])
    assert_block(result.block(), *expected)


def test_worked_example_with_entries(xp):
    """C: the samples of a block whose key is not among the entries stay."""
    blocks = [
        example_block(
            xp, [[4], [0]], [[5], [3]], [[1.0, 2.0], [3.0, 4.0]], [[1, 7]], [[10.0, 20.0]]
        ),
        example_block(xp, [[1]], [[5], [3]], [[5.0, 6.0]], [[0, 2]], [[50.0, 60.0]]),
    ]
    tensor = TensorMap(table(["a", "z"], [[9, 1], [2, 1]]), blocks)
    result = tensor.keys_to_properties(table(["a"], [[2], [3]]))
    assert_block(
        result.block(),
        {"s": [0, 1, 4]},
        {"a": [2, 2, 3, 3], "p": [5, 3, 5, 3]},
        [[0, 0, 0, 0], [5, 6, 0, 0], [0, 0, 0, 0]],
        [[0, 7], [1, 2]],
        [[0, 0, 0, 0], [50, 60, 0, 0]],
    )


def test_new_keys_are_in_order_of_appearance():
    block = TensorBlock(np.ones((1, 1)), Labels.single(), [], Labels.single())
    tensor = TensorMap(table(["a", "z"], [[9, 5], [2, 1], [3, 5]]), [block] * 3)
    for moved in (tensor.keys_to_samples("a"), tensor.keys_to_properties("a")):
        assert moved.keys == table(["z"], [[5], [1]])
    moved = tensor.keys_to_samples(["z", "a"])
    assert moved.keys == Labels.single()
    assert moved.sample_names == ["_", "z", "a"]


@pytest.mark.parametrize("move", ["keys_to_samples", "keys_to_properties"])
def test_moving_keys_keeps_info_and_leaves_the_tensor_alone(move):
    tensor = two_blocks(HostLibrary)
    tensor.set_info("b", "1")
    tensor.set_info("a", "2")
    before = tensor.copy()
    for names in ("a", [], Labels.empty("a"), ("z", "a")):
        result = getattr(tensor, move)(names)
        assert result.info() == {"b": "1", "a": "2"}
        for block, old in itertools.product(result, tensor):
            assert not np.shares_memory(block.values, old.values)
            assert not np.shares_memory(block.gradient("g").values, old.gradient("g").values)
    assert tensor == before


class HostLibrary:
    asarray = staticmethod(np.array)


FILLS = [
    # dtype, fill value, what it becomes
    ("float64", None, np.nan),
    ("float64", np.nan, np.nan),
    ("float64", "3", 3.0),
    ("float32", 1.5, 1.5),
    ("float32", np.float64(2), 2.0),
    ("float16", -1, -1.0),
    ("complex128", 1 + 2j, 1 + 2j),
    ("complex64", np.array(3), 3.0),
    ("int64", 2**63 - 1, 2**63 - 1),
    ("int32", -7, -7),
    ("int16", True, 1),
    ("int8", -128, -128),
    ("uint8", 255, 255),
    ("uint16", 300.0, 300),
    ("uint32", 7, 7),
    ("uint64", 2**64 - 1, 2**64 - 1),
    ("bool", 1, True),
    (">f8", 1.5, 1.5),
    (">i2", 258, 258),
]


@pytest.mark.parametrize(("dtype", "fill_value", "expected"), FILLS)
@pytest.mark.parametrize("move", ["keys_to_samples", "keys_to_properties"])
def test_dtypes_and_fill_values(move, dtype, fill_value, expected):
    blocks = [
        TensorBlock(np.ones((1, 1), dtype=dtype), table(["s"], [[i]]), [], table(["p"], [[i]]))
        for i in range(2)
    ]
    result = getattr(TensorMap(table(["a"], [[0], [1]]), blocks), move)("a", fill_value=fill_value)
    expected = np.array([[1, expected], [expected, 1]], dtype=np.dtype(dtype).newbyteorder("="))
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result.block().values, expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "complex64", "int8", "uint8", "bool"])
@pytest.mark.parametrize("move", ["keys_to_samples", "keys_to_properties"])
def test_torch_dtypes(move, dtype):
    torch = pytest.importorskip("torch")
    blocks = [
        TensorBlock(
            torch.ones((1, 1), dtype=getattr(torch, dtype)),
            table(["s"], [[i]]),
            [],
            table(["p"], [[i]]),
        )
        for i in range(2)
    ]
    result = getattr(TensorMap(table(["a"], [[0], [1]]), blocks), move)("a", fill_value=0)
    assert result.dtype == getattr(torch, dtype)
    np.testing.assert_array_equal(result.block().values.to(torch.complex128), np.eye(2))


BAD_FILLS = [
    ("int64", np.nan, ValueError),
    ("int32", np.inf, ValueError),
    ("uint8", 256, ValueError),
    ("uint8", -1, ValueError),
    ("int64", 0.5, ValueError),
    ("int64", None, TypeError),
    ("float64", 1j, TypeError),
    ("float64", [1.0], MetatensorError),
    ("float64", np.ones(1), MetatensorError),
    ("float64", "x", ValueError),
]


@pytest.mark.parametrize(("dtype", "fill_value", "error"), BAD_FILLS)
@pytest.mark.parametrize("move", ["keys_to_samples", "keys_to_properties"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_bad_fill_values(library, move, dtype, fill_value, error):
    module = pytest.importorskip(library)
    values = module.ones((1, 1), dtype=getattr(module, dtype))
    block = TensorBlock(values, Labels.single(), [], Labels.range("p", 1))
    tensor = TensorMap(table(["a"], [[0]]), [block])
    with pytest.raises(error):
        getattr(tensor, move)("a", fill_value=fill_value)


def one_block(components=(), gradient_components=(), nested=False, name="n"):
    """A block with components of these sizes; samples and properties have the same name."""
    labels = [Labels.range(f"c{i}", size) for i, size in enumerate(components)]
    extra = [Labels.range(f"x{i}", size) for i, size in enumerate(gradient_components)]
    samples, properties = Labels.range(name, 1), Labels.range(name, 1)

    def block(samples, components):
        shape = [1, *map(len, components), 1]
        return TensorBlock(np.ones(shape), samples, components, properties)

    result = block(samples, labels)
    gradient = block(Labels.range("sample", 1), extra + labels)
    if nested:
        gradient.add_gradient("h", block(Labels.range("sample", 1), extra + labels))
    result.add_gradient("g", gradient)
    return result


def pair(*shapes, **kwargs):
    """A map of two blocks, which have these components."""
    first, second = shapes or ((), ())
    blocks = [one_block(first, **kwargs), one_block(second, **kwargs)]
    return TensorMap(table(["a", "b"], [[0, 0], [1, 0]]), blocks)


def pair_of_gradients():
    blocks = [one_block(gradient_components=[size]) for size in (2, 3)]
    return TensorMap(table(["a", "b"], [[0, 0], [1, 0]]), blocks)


def empty():
    return TensorMap(Labels.empty("a"), [])


REFUSED_BY_BOTH = [
    # tensor, names, error, text
    (pair, "q", MetatensorError, "names of the keys"),
    (pair, "", MetatensorError, "names of the keys"),
    (pair, ["a", "a"], MetatensorError, "repeat"),
    (pair, 3, TypeError, "str"),
    (pair, [3], TypeError, "str"),
    (empty, "a", MetatensorError, "empty TensorMap"),
    (empty, [], MetatensorError, "empty TensorMap"),
    (lambda: pair([2], [3]), "a", MetatensorError, "components_to_properties"),
    (pair_of_gradients, "a", MetatensorError, "gradients 'g'"),
    (lambda: pair(nested=True), "a", MetatensorError, "gradients themselves"),
    (lambda: pair(name="a"), "a", MetatensorError, "rename"),
]


@pytest.mark.parametrize("move", ["keys_to_samples", "keys_to_properties"])
@pytest.mark.parametrize(("tensor", "names", "error", "text"), REFUSED_BY_BOTH)
def test_keys_that_can_not_move(move, tensor, names, error, text):
    with pytest.raises(error, match=text):
        getattr(tensor(), move)(names)


def test_entries_need_properties_that_are_the_same():
    tensor = two_blocks(HostLibrary)
    with pytest.raises(MetatensorError, match="without entries"):
        tensor.keys_to_samples(table(["a"], [[2]]))
    with pytest.raises(MetatensorError, match="same properties"):
        tensor.keys_to_properties(table(["a"], [[2]]))


COMPONENTS_REFUSED = [
    (pair, "c0", MetatensorError, "'c0'"),
    (lambda: pair([2], [2]), [], MetatensorError, "at least one"),
    (lambda: pair([2], [2]), ["c0", "c0"], MetatensorError, "'c0'"),
    (lambda: pair([2], [2], gradient_components=[3]), "x0", MetatensorError, "'x0'"),
    (lambda: pair([2], [2], name="c0"), "c0", MetatensorError, "rename"),
    (lambda: pair([2], [2]), 3, TypeError, "str"),
]


@pytest.mark.parametrize(("tensor", "dimensions", "error", "text"), COMPONENTS_REFUSED)
def test_components_that_can_not_move(tensor, dimensions, error, text):
    with pytest.raises(error, match=text):
        tensor().components_to_properties(dimensions)


# ---- moving components


@each_library
@given(data=st.data())
def test_components_to_properties_is_relabelling(xp, data):
    tensor = data.draw(tensors(xp.asarray))
    moved = data.draw(st.permutations(tensor.component_names))
    moved = moved[: data.draw(st.integers(1, len(moved)))] if moved else []
    if not moved:
        return
    result = tensor.components_to_properties(moved)
    assert result.keys == tensor.keys
    assert result.info() == tensor.info()
    assert result.property_names == moved[::-1] + tensor.property_names
    assert result.component_names == [name for name in tensor.component_names if name not in moved]
    for block, old in zip(result, tensor, strict=True):
        assert block.samples == old.samples
        assert_relabelled(block, old, moved)
        assert block.gradients_list() == old.gradients_list()
        for name, gradient in block.gradients():
            assert gradient.samples == old.gradient(name).samples
            assert gradient.properties == block.properties
            assert_relabelled(gradient, old.gradient(name), moved)


def assert_relabelled(block, old, moved):
    names = [labels.names[0] for labels in old.components]
    expected = {}
    for (sample, *components, properties), number in numbers_of(old).items():
        entries = dict(zip(names, components, strict=True))
        new_property = sum([entries.pop(name) for name in moved][::-1], ()) + properties
        expected[(sample, *entries.values(), new_property)] = number
    assert numbers_of(block) == expected


def test_components_that_follow_the_moved_one_keep_their_order(xp):
    shape = (1, 2, 3, 4, 1)
    values = np.arange(24.0).reshape(shape)
    components = [Labels.range(name, size) for name, size in zip("abc", shape[1:4], strict=True)]
    block = TensorBlock(xp.asarray(values), Labels.range("s", 1), components, Labels.range("p", 1))
    result = TensorMap(Labels.single(), [block]).components_to_properties("a").block()
    np.testing.assert_array_equal(result.values, np.moveaxis(values, 1, 3).reshape(1, 3, 4, 2))
    result = TensorMap(Labels.single(), [block]).components_to_properties(["a", "b"]).block()
    assert result.properties.names == ["b", "a", "p"]
    expected = values.transpose(0, 3, 2, 1, 4).reshape(1, 4, 6)
    np.testing.assert_array_equal(result.values, expected)
    assert rows_of(result.properties)[:3] == [(0, 0, 0), (0, 1, 0), (1, 0, 0)]


def test_components_of_nested_gradients_move_too():
    tensor = TensorMap(Labels.single(), [one_block([2], [3], nested=True)])
    result = tensor.components_to_properties("c0").block()
    assert result.gradient("g").gradient("h").values.shape == (1, 3, 2)
    assert result.gradient("g").gradient("h").properties == result.properties


def test_components_to_properties_copies_and_takes_no_blocks():
    tensor = TensorMap(Labels.single(), [one_block([2])])
    result = tensor.components_to_properties("c0")
    assert not np.shares_memory(result.block().values, tensor.block().values)
    assert len(empty().components_to_properties("c")) == 0


@pytest.mark.parametrize("dtype", ["float64", ">f4", "int8"])
def test_components_of_large_maps(dtype):
    """Copies of more than 4 MB share memory, in pieces of 16 MB at most."""
    components = [Labels.range("a", 2), Labels.range("b", 3)]
    properties = Labels.range("p", 31)
    blocks = []
    for number, size in enumerate([0, 40_000, 1, *[3000] * 20, 2]):
        values = np.random.default_rng(number).integers(0, 100, (size, 2, 3, 31)).astype(dtype)
        samples = Labels.range("s", size)
        block = TensorBlock(values, samples, components, properties)
        gradient = TensorBlock(values[::2], samples_of_every_other(size), components, properties)
        block.add_gradient("g", gradient)
        blocks.append(block)
    tensor = TensorMap(Labels.range("k", len(blocks)), blocks)
    result = tensor.components_to_properties("a")
    arrays = []
    for block, old in zip(result, blocks, strict=True):
        for values, before in (
            (block.values, old.values),
            (block.gradient("g").values, old.gradient("g").values),
        ):
            expected = before.transpose(0, 2, 1, 3).reshape(len(before), 3, 62)
            np.testing.assert_array_equal(values, expected)
            assert values.dtype == before.dtype
            assert values.flags.c_contiguous
            assert values.flags.writeable
            assert values.nbytes > 2**22 or memory_of(values).nbytes <= 2**24
            arrays.append(values)
    assert not any(np.shares_memory(a, b) for a, b in itertools.pairwise(arrays))


def memory_of(array):
    return array if array.base is None else memory_of(array.base)


def samples_of_every_other(size):
    return Labels("sample", np.arange(0, size, 2).reshape(-1, 1))


# ---- derivatives and compilers

METHODS = {
    "keys_to_samples": lambda tensor: tensor.keys_to_samples("a"),
    "keys_to_properties": lambda tensor: tensor.keys_to_properties("a", sort_samples=False),
    "entries": lambda tensor: tensor.keys_to_properties(table(["a"], [[2], [5]])),
    "components_to_properties": lambda tensor: tensor.components_to_properties("c"),
}


def from_arrays(arrays):
    """A map of two blocks with sparse samples, one component, and one gradient each."""
    blocks = []
    properties = table(["p"], [[5], [3]])
    components = [Labels.range("c", 2)]
    for number, samples in enumerate(([[4], [0]], [[0]])):
        block = TensorBlock(arrays[number], table(["s"], samples), components, properties)
        gradient = TensorBlock(
            arrays[2 + number], Labels.range("sample", 1), components, properties
        )
        block.add_gradient("g", gradient)
        blocks.append(block)
    return TensorMap(table(["a", "z"], [[9, 1], [2, 1]]), blocks)


def all_arrays(tensor):
    return tuple(
        values for block in tensor for values in (block.values, block.gradient("g").values)
    )


def example_arrays(library):
    shapes = [(2, 2, 2), (1, 2, 2), (1, 2, 2), (1, 2, 2)]
    return [library.asarray(np.random.default_rng(0).normal(size=shape)) for shape in shapes]


@pytest.mark.parametrize("method", METHODS)
def test_torch_derivatives(method):
    torch = pytest.importorskip("torch")
    arrays = [array.requires_grad_() for array in example_arrays(torch)]

    def function(*arrays):
        return all_arrays(METHODS[method](from_arrays(arrays)))

    assert torch.autograd.gradcheck(function, arrays)
    assert torch.autograd.gradgradcheck(function, arrays)


@pytest.mark.parametrize("method", METHODS)
def test_jax_jit(method, jax_numpy):
    jax = importlib.import_module("jax")
    arrays = example_arrays(jax_numpy)

    def function(arrays):
        return all_arrays(METHODS[method](from_arrays(arrays)))

    for got, expected in zip(jax.jit(function)(arrays), function(arrays), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.fixture
def jax_numpy():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    return jax.numpy
