"""Blocks: one array with Labels for every axis, and gradients."""

import copy
import gc
import pickle
import sys
import weakref

import numpy as np
import pytest
from hypothesis import given

from metatensor import Labels, MetatensorError, TensorBlock, TensorMap
from metatensor.testing import assert_equal
from metatensor.testing import blocks as any_blocks

XYZ = Labels.range("xyz", 3)
SAMPLES = Labels.range("s", 4)
PROPERTIES = Labels.range("p", 2)


def numbers(*shape):
    return np.arange(np.prod(shape), dtype=float).reshape(shape)


def make_block(n_samples=4, components=(XYZ,), properties=PROPERTIES, asarray=np.asarray):
    shape = (n_samples, *map(len, components), len(properties))
    samples = Labels.range("s", n_samples)
    return TensorBlock(asarray(numbers(*shape)), samples, components, properties)


def make_gradient(block, rows=((0, 1), (2, 1)), extra=(), asarray=np.asarray, **changes):
    rows = np.array(rows, dtype=int).reshape(len(rows), -1 if len(rows) else 2)
    parts = {
        "samples": Labels(["sample", "atom"][: rows.shape[1]], rows),
        "components": [*extra, *block.components],
        "properties": block.properties,
    } | changes
    shape = (len(rows), *map(len, parts["components"]), len(parts["properties"]))
    return TensorBlock(asarray(numbers(*shape)), **parts)


def with_gradient(**arguments):
    block = make_block(**arguments)
    block.add_gradient("g", make_gradient(block))
    return block


def with_nested_gradient(asarray=np.asarray):
    block = make_block(asarray=asarray)
    gradient = make_gradient(block, asarray=asarray)
    gradient.add_gradient("h", make_gradient(gradient, rows=[(1, 5)], asarray=asarray))
    block.add_gradient("g", gradient)
    return block


# ---------------------------------------------------------------------------------- constructor


@pytest.mark.parametrize("n_components", [0, 1, 2, 5])
def test_values_of_every_library_are_kept_as_they_are(xp, n_components):
    components = [Labels.range(f"c{i}", 2) for i in range(n_components)]
    values = xp.asarray(numbers(4, *[2] * n_components, 2))
    block = TensorBlock(values, SAMPLES, components, PROPERTIES)
    assert block.values is values
    assert tuple(block.shape) == (4, *[2] * n_components, 2)
    assert block.dtype == values.dtype
    if xp.array_library in ("numpy", "torch"):
        assert str(block.device) == "cpu"
    assert len(block) == 4
    assert block.samples is SAMPLES
    assert block.properties is PROPERTIES
    assert block.components == components
    assert block.gradients_list() == []
    assert not block.is_view


@pytest.mark.parametrize(
    "dtype",
    ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", ">f8"],
)
def test_all_dtypes(dtype):
    values = numbers(4, 3, 2).astype(dtype)
    block = TensorBlock(values, SAMPLES, [XYZ], PROPERTIES)
    assert block.values is values
    assert block.dtype == np.dtype(dtype)
    assert block.copy().dtype == np.dtype(dtype)
    assert TensorMap(Labels.single(), [block]).dtype == np.dtype(dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "complex64", "bool", "uint8"])
def test_all_dtypes_of_torch(dtype):
    torch = pytest.importorskip("torch")
    values = torch.ones(4, 2).to(getattr(torch, dtype))
    block = TensorBlock(values, SAMPLES, [], PROPERTIES)
    assert block.values is values
    assert block.dtype == getattr(torch, dtype)
    assert TensorMap(Labels.single(), [block]).dtype == getattr(torch, dtype)


@pytest.mark.parametrize("kind", ["O", "U3", "M8[s]", "V4"])
def test_dtypes_that_only_maps_refuse(kind):
    block = TensorBlock(np.zeros((4, 2)).astype(kind), SAMPLES, [], PROPERTIES)
    with pytest.raises(ValueError, match="bool, integers, real or complex"):
        TensorMap(Labels.single(), [block])


class Subclass(np.ndarray):
    pass


@pytest.mark.parametrize(
    "values",
    [
        np.asfortranarray(numbers(4, 2)),
        numbers(8, 4)[::2, ::2],
        numbers(4, 2)[::-1, ::-1],
        np.broadcast_to(1.0, (4, 2)),
        numbers(4, 2).view(Subclass),
        np.full((4, 2), np.nan),
    ],
    ids=["fortran", "strided", "negative strides", "broadcast", "subclass", "nan"],
)
def test_arrays_are_kept_by_identity(values):
    block = TensorBlock(values, SAMPLES, [], PROPERTIES)
    assert block.values is block.values is values
    assert block.copy(deep=False).values is values
    copied = block.copy().values
    assert copied.flags.c_contiguous
    assert copied.flags.writeable
    assert not np.shares_memory(copied, values)
    np.testing.assert_array_equal(copied, values)


def test_kinds_of_tensors_are_kept_by_identity():
    torch = pytest.importorskip("torch")
    for values in [
        torch.nn.Parameter(torch.ones(4, 2)),
        torch.ones(4, 2, requires_grad=True),
        torch.ones(4, 2).to_sparse(),
        torch.ones(2, 4).T,
        torch.ones(4, 2, device="meta"),
    ]:
        block = TensorBlock(values, SAMPLES, [], PROPERTIES)
        assert block.values is values
        assert TensorMap(Labels.single(), [block]).block().values is values


def test_editing_the_values_is_visible():
    values = numbers(4, 2)
    block = TensorBlock(values, SAMPLES, [], PROPERTIES)
    block.values[:] = 7
    assert values.min() == 7
    values[:] = 8
    assert block.values.min() == 8


@pytest.mark.parametrize(
    "values",
    [[[1.0, 2.0]], None, 3.0, "ab", np.float64(3), b"ab", {}, (), object(), memoryview(b"ab")],
    ids=repr,
)
def test_what_is_no_array_is_refused(values):
    with pytest.raises(ValueError, match="an array is required"):
        TensorBlock(values, SAMPLES, [], PROPERTIES)
    with pytest.raises(ValueError, match="an array is required"):
        TensorBlock(make_block(), SAMPLES, [], PROPERTIES)


def test_masked_arrays_are_refused():
    """Upstream keeps them, and drops the mask when they are saved."""
    masked = np.ma.array(numbers(4, 2), mask=numbers(4, 2) > 3)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"masked array.*filled"):
            TensorBlock(masked, SAMPLES, [], PROPERTIES)
    TensorBlock(masked.filled(0.0), SAMPLES, [], PROPERTIES)


class OnlyDlpack:
    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __dlpack__(self, **kwargs):
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class OnlyNumpyProtocol:
    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __array__(self, dtype=None, copy=None):
        return self.array


class OnlyInterface:
    def __init__(self, array):
        self.array, self.shape = array, array.shape
        self.__array_interface__ = array.__array_interface__


@pytest.mark.parametrize("wrap", [OnlyDlpack, OnlyNumpyProtocol, OnlyInterface])
def test_arrays_of_unknown_libraries_become_numpy(wrap):
    values = numbers(4, 2)
    block = TensorBlock(wrap(values), SAMPLES, [], PROPERTIES)
    assert isinstance(block.values, np.ndarray)
    assert np.shares_memory(block.values, values)
    np.testing.assert_array_equal(block.values, values)


def test_exceptions_inside_an_array_come_through():
    class Failing(OnlyNumpyProtocol):
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("this array is broken")

    class FailingShape:
        @property
        def shape(self):
            raise RuntimeError("this shape is broken")

    with pytest.raises(RuntimeError, match="this array is broken"):
        TensorBlock(Failing(numbers(4, 2)), SAMPLES, [], PROPERTIES)
    with pytest.raises(RuntimeError, match="this shape is broken"):
        TensorBlock(FailingShape(), SAMPLES, [], PROPERTIES)


@pytest.mark.parametrize(
    "components", [[XYZ], (XYZ,), iter([XYZ]), {XYZ: 1}, (labels for labels in [XYZ])]
)
def test_components_are_any_iterable(components):
    block = TensorBlock(numbers(4, 3, 2), SAMPLES, components, PROPERTIES)
    assert block.components == [XYZ]
    block.components.clear()
    assert block.components == [XYZ]


@pytest.mark.parametrize("components", [[], (), iter([]), {}, np.array([])])
def test_no_components(components):
    assert TensorBlock(numbers(4, 2), SAMPLES, components, PROPERTIES).components == []


@pytest.mark.parametrize(
    "parts",
    [
        {"samples": None},
        {"samples": np.arange(4)},
        {"samples": SAMPLES[0]},
        {"properties": [0, 1]},
        {"properties": "p"},
        {"components": XYZ},
        {"components": None},
        {"components": 3},
        {"components": "xyz"},
        {"components": [None]},
        {"components": [[XYZ]]},
        {"components": [XYZ[0]]},
    ],
    ids=str,
)
def test_axes_of_another_type_are_refused(parts):
    axes = {"samples": SAMPLES, "components": [XYZ], "properties": PROPERTIES}
    with pytest.raises(TypeError):
        TensorBlock(numbers(4, 3, 2), **axes | parts)


@pytest.mark.parametrize(
    ("shape", "components", "match"),
    [
        ((), [], "2 dimensions"),
        ((4,), [], "2 dimensions"),
        ((4, 3, 2), [], r"2 dimensions.*got shape \(4, 3, 2\)"),
        ((4, 2), [XYZ], "3 dimensions"),
        ((3, 3, 2), [XYZ], "axis 0 .* 4 samples"),
        ((4, 2, 2), [XYZ], r"axis 1 .* 3 component \[xyz\]"),
        ((4, 3, 1), [XYZ], "axis 2 .* 2 properties"),
        ((2, 4), [], "axis 0"),
        ((4, 0), [], "axis 1"),
        ((0, 2), [], "axis 0"),
    ],
)
def test_axes_must_fit_the_values(xp, shape, components, match):
    values = xp.asarray(numbers(*shape)) if shape else np.array(3.0)
    with pytest.raises(MetatensorError, match=match):
        TensorBlock(values, SAMPLES, components, PROPERTIES)


@pytest.mark.parametrize(
    ("components", "match"),
    [
        ([Labels(["a", "b"], np.array([[0, 0]]))], "exactly one dimension"),
        ([Labels.empty([])], "exactly one dimension"),
        ([Labels.empty("c")], "at least one entry, got none for 'c'"),
        ([XYZ, Labels.range("xyz", 2)], "distinct, got 'xyz'"),
        ([XYZ, Labels.range("a", 2), XYZ], "distinct, got 'xyz'"),
    ],
)
def test_components_must_have_one_name_each(components, match):
    with pytest.raises(MetatensorError, match=match):
        TensorBlock(numbers(4, *map(len, components), 2), SAMPLES, components, PROPERTIES)


@pytest.mark.parametrize(("n_samples", "n_properties"), [(0, 2), (4, 0), (0, 0), (1, 1)])
def test_blocks_without_samples_or_properties(n_samples, n_properties):
    properties = Labels.range("p", n_properties)
    block = make_block(n_samples, properties=properties)
    assert block.shape == (n_samples, 3, n_properties)
    assert bool(block) is (n_samples > 0)
    assert_equal(block.copy(), block)
    assert TensorMap(Labels.single(), [block]).block().shape == block.shape


def test_a_name_may_be_on_several_axes():
    n = Labels.range("n", 3)
    assert TensorBlock(numbers(3, 3, 3), n, [n], n).components == [n]


def test_most_dimensions_that_numpy_has():
    components = [Labels.range(f"c{i}", 1) for i in range(61)]
    block = TensorBlock(np.zeros((1,) * 63), Labels.single(), components, Labels.single())
    assert len(block.copy().components) == 61
    block.add_gradient("g", make_gradient(block, rows=[(0,)], extra=[Labels.range("x", 1)]))
    assert len(block.gradient("g").shape) == 64


def test_type_name_and_arguments():
    assert str(TensorBlock) == "<class 'metatensor.TensorBlock'>"
    block = TensorBlock(values=numbers(4, 2), samples=SAMPLES, components=[], properties=PROPERTIES)
    assert block.shape == (4, 2)
    with pytest.raises(TypeError):
        TensorBlock(numbers(4, 2), SAMPLES, [])


# ---------------------------------------------------------------------------------- members


@pytest.mark.parametrize(
    "name",
    ["values", "samples", "components", "properties", "shape", "dtype", "device", "is_view", "new"],
)
def test_attributes_can_not_be_assigned(name):
    with pytest.raises(AttributeError):
        setattr(make_block(), name, 3)


def test_blocks_are_no_sequences():
    with pytest.raises(TypeError):
        make_block()[0]
    with pytest.raises(TypeError):
        iter(make_block())
    with pytest.raises(TypeError):
        hash(make_block())


def test_labels_are_the_same_objects_each_time():
    block = with_gradient()
    for this in (block, block.gradient("g")):
        assert this.samples is this.samples
        assert this.properties.values is this.properties.values
        assert this.components[0] is this.components[0]


# ---------------------------------------------------------------------------------- gradients

X2 = Labels.range("x", 2)


@pytest.mark.parametrize(
    ("rows", "extra"),
    [
        ([], []),
        ([(0, 1)], []),
        ([(3, 0), (0, 0), (3, -1), (0, 7)], []),
        ([(2,), (0,)], []),
        ([(0, 1)], [X2]),
        ([(0, 1)], [X2, Labels.range("y", 1)]),
    ],
)
def test_gradients_that_fit(xp, rows, extra):
    block = make_block(asarray=xp.asarray)
    gradient = make_gradient(block, rows, extra, xp.asarray)
    block.add_gradient("g", gradient)
    added = block.gradient("g")
    assert block.gradients_list() == ["g"]
    assert added.values is gradient.values
    assert added.samples is gradient.samples
    assert added.components == [*extra, XYZ]
    assert added.properties is PROPERTIES
    assert added.is_view
    assert not block.is_view


@pytest.mark.parametrize("name", ["g", "", "a b", "a.b", "é", "a/b", "sample", "日本"])
def test_any_str_names_a_gradient(name):
    block = make_block()
    block.add_gradient(name, make_gradient(block))
    assert block.gradients_list() == [name]
    assert block.has_gradient(name)
    assert block.gradient(name).shape == (2, 3, 2)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"samples": Labels(["s", "atom"], np.array([[0, 0], [1, 0]]))}, "'sample' as first"),
        ({"samples": Labels(["atom", "sample"], np.array([[0, 0], [1, 0]]))}, "'sample' as first"),
        ({"samples": Labels(["Sample"], np.array([[0], [1]]))}, "'sample' as first"),
        ({"samples": Labels([], np.zeros((2, 0), dtype=int))}, "'sample' as first"),
        ({"samples": Labels(["sample"], np.array([[0], [4]]))}, "0 to 3, got 4"),
        ({"samples": Labels(["sample"], np.array([[-1], [3]]))}, "0 to 3, got -1"),
        ({"samples": Labels(["sample"], np.array([[0], [2**31 - 1]]))}, f"got {2**31 - 1}"),
        ({"components": []}, "components"),
        ({"components": [Labels.range("abc", 3)]}, "components"),
        ({"components": [Labels.range("xyz", 2)]}, "components"),
        ({"components": [Labels("xyz", np.array([[2], [1], [0]]))]}, "components"),
        ({"components": [XYZ, X2]}, "components"),
        ({"properties": Labels.range("q", 2)}, "properties"),
        ({"properties": Labels.range("p", 3)}, "properties"),
        ({"properties": Labels("p", np.array([[1], [0]]))}, "properties"),
    ],
    ids=str,
)
def test_gradients_that_do_not_fit(changes, match):
    block = make_block()
    gradient = make_gradient(block, rows=[(0,), (1,)], **changes)
    with pytest.raises(MetatensorError, match=match):
        block.add_gradient("g", gradient)
    assert block.gradients_list() == []


def test_gradients_have_the_components_of_the_block_last():
    block = make_block(components=[XYZ, X2])
    block.add_gradient("good", make_gradient(block, extra=[Labels.range("y", 2)]))
    for components in ([X2, XYZ], [X2], [XYZ], [XYZ, X2, Labels.range("y", 2)]):
        with pytest.raises(MetatensorError, match="components of its block as last"):
            block.add_gradient("bad", make_gradient(block, components=components))


def test_gradients_of_a_block_without_samples():
    block = make_block(n_samples=0)
    block.add_gradient("g", make_gradient(block, rows=[]))
    with pytest.raises(MetatensorError, match="got 0"):
        block.add_gradient("h", make_gradient(block, rows=[(0, 0)]))


def test_a_gradient_name_is_used_once():
    block = with_gradient()
    with pytest.raises(MetatensorError, match="'g' already exists"):
        block.add_gradient("g", make_gradient(block))


@pytest.mark.parametrize("parameter", [None, 3, b"g", ["g"]])
def test_gradient_names_of_another_type_are_refused(parameter):
    block = make_block()
    with pytest.raises(TypeError, match="`parameter` must be a str"):
        block.add_gradient(parameter, make_gradient(block))


def test_gradients_of_another_type_are_refused():
    block = make_block()
    for gradient in [None, 3, numbers(2, 3, 2), SAMPLES, TensorMap(Labels.single(), [block])]:
        with pytest.raises(TypeError, match="`gradient` must be a metatensor TensorBlock"):
            block.add_gradient("g", gradient)


def test_gradients_need_the_arrays_of_their_block():
    torch = pytest.importorskip("torch")
    block = make_block()
    for values, match in [
        (np.float32, "dtype of its block, float64, got float32"),
        (np.int64, "dtype"),
        (torch.asarray, "array library of its block, numpy, got torch"),
    ]:
        with pytest.raises(MetatensorError, match=match):
            block.add_gradient("g", make_gradient(block, asarray=values))
    on_host = make_block(asarray=torch.asarray)
    with pytest.raises(MetatensorError, match="device"):
        on_host.add_gradient(
            "g", make_gradient(on_host, asarray=lambda v: torch.asarray(v, device="meta"))
        )
    block.add_gradient("big-endian", make_gradient(block, asarray=lambda v: v.astype(">f8")))


def test_gradients_in_the_order_they_were_added():
    block = make_block()
    for name in ["z", "a", "m"]:
        block.add_gradient(name, make_gradient(block))
    assert block.gradients_list() == ["z", "a", "m"]
    assert [name for name, _ in block.gradients()] == ["z", "a", "m"]
    assert all(gradient is block.gradient(name) for name, gradient in block.gradients())
    for other in (block.copy(), block.copy(deep=False), block.to(np.float32)):
        assert other.gradients_list() == ["z", "a", "m"]
    block.gradients_list().clear()
    assert block.gradients_list() == ["z", "a", "m"]


@pytest.mark.parametrize("parameter", ["zz", None, 3, ["g"]])
def test_absent_gradients(parameter):
    block = with_gradient()
    assert block.has_gradient(parameter) is False
    with pytest.raises(MetatensorError, match=r"no gradient .*which has \['g'\]"):
        block.gradient(parameter)


def test_nested_gradients(xp):
    block = with_nested_gradient(xp.asarray)
    gradient = block.gradient("g")
    nested = gradient.gradient("h")
    assert nested.is_view
    assert tuple(nested.shape) == (1, 3, 2)
    assert nested.samples == Labels(["sample", "atom"], np.array([[1, 5]]))
    assert repr(nested).startswith("TensorBlock gradient for 'g/h', with shape (1, 3, 2)")
    for other in (block.copy(), copy.copy(block), TensorMap(Labels.single(), [block])[0]):
        inner = other.gradient("g").gradient("h")
        assert repr(inner) == repr(nested)
        assert inner == nested


def test_rows_of_a_nested_gradient_are_rows_of_the_gradient():
    block = make_block(n_samples=1)
    gradient = make_gradient(block, rows=[(0, i) for i in range(5)])
    gradient.add_gradient("h", make_gradient(gradient, rows=[(4, 0)]))
    with pytest.raises(MetatensorError, match="0 to 4, got 5"):
        gradient.add_gradient("bad", make_gradient(gradient, rows=[(5, 0)]))
    block.add_gradient("g", gradient)
    assert block.gradient("g").gradient("h").samples["sample"].tolist() == [4]


# ------------------------------------------------------------------------------ shared, not moved


def test_a_block_given_away_stays_usable():
    """Upstream empties a block that is put into a map or another block."""
    block, gradient = make_block(), None
    gradient = make_gradient(block)
    block.add_gradient("g", gradient)
    other = make_block()
    other.add_gradient("g", gradient)
    assert gradient.shape == (2, 3, 2)
    assert not gradient.is_view
    first = TensorMap(Labels.single(), [block])
    second = TensorMap(Labels.range("k", 2), [block, block])
    assert block.values is first[0].values is second[1].values
    assert not block.is_view
    assert repr(block).startswith("TensorBlock with shape (4, 3, 2)")


def test_a_block_inside_a_map_takes_no_gradients():
    tensor = TensorMap(Labels.single(), [make_block()])
    inside = tensor.block()
    assert inside.is_view
    with pytest.raises(ValueError, match=r"copy\(\)` first"):
        inside.add_gradient("g", make_gradient(inside))
    free = inside.copy(deep=False)
    free.add_gradient("g", make_gradient(free))
    assert free.values is inside.values
    assert inside.gradients_list() == []


@pytest.mark.parametrize("start", [make_block, with_gradient])
def test_gradients_added_later_do_not_reach_into_maps(start):
    block = start()
    tensor = TensorMap(Labels.single(), [block])
    before = tensor.block().gradients_list()
    block.add_gradient("later", make_gradient(block))
    assert tensor.block().gradients_list() == before
    assert block.has_gradient("later")
    shallow = block.copy(deep=False)
    block.add_gradient("last", make_gradient(block))
    assert not shallow.has_gradient("last")


def test_gradients_added_later_do_not_reach_into_other_blocks():
    block = make_block()
    gradient = make_gradient(block)
    block.add_gradient("g", gradient)
    gradient.add_gradient("later", make_gradient(gradient, rows=[(1, 0)]))
    assert block.gradient("g").gradients_list() == []
    with pytest.raises(ValueError, match="copy"):
        block.gradient("g").add_gradient("h", make_gradient(gradient, rows=[(1, 0)]))


def test_blocks_of_a_map_can_be_put_into_another():
    tensor = TensorMap(Labels.single(), [with_nested_gradient()])
    again = TensorMap(Labels.single(), [tensor.block()])
    assert again.block() is tensor.block()
    gradient = TensorMap(Labels.single(), [tensor.block().gradient("g")]).block()
    assert repr(gradient).startswith("TensorBlock with shape")
    assert repr(gradient.gradient("h")).startswith("TensorBlock gradient for 'h'")


def test_a_block_as_its_own_gradient():
    samples = Labels(["sample"], np.array([[1], [0]]))
    block = TensorBlock(numbers(2, 2), samples, [], PROPERTIES)
    for _ in range(3):
        block.add_gradient(f"g{len(block.gradients_list())}", block)
    assert block.gradients_list() == ["g0", "g1", "g2"]
    assert block.gradient("g0").gradients_list() == []
    assert block.gradient("g2").gradients_list() == ["g0", "g1"]
    assert_equal(block.copy(), block)
    assert "gradient" in repr(block)


def test_deep_nesting():
    block = TensorBlock(numbers(1, 1), Labels(["sample"], np.array([[0]])), [], Labels.single())
    for _ in range(40):
        outer = block.copy(deep=False)
        for name in outer.gradients_list():
            assert name == "g"
        outer = TensorBlock(block.values, block.samples, [], block.properties)
        outer.add_gradient("g", block)
        block = outer
    assert_equal(block.copy(), block)
    assert pickle.loads(pickle.dumps(block)) == block


# ---------------------------------------------------------------------------------- copy


def test_deep_and_shallow_copies(xp):
    block = with_nested_gradient(xp.asarray)
    for shallow in (block.copy(deep=False), copy.copy(block)):
        assert shallow is not block
        assert shallow.values is block.values
        assert shallow.gradient("g").values is block.gradient("g").values
    for deep in (block.copy(), copy.deepcopy(block), block.copy(deep=True)):
        assert_equal(deep, block)
        assert deep.values is not block.values
        assert type(deep.values) is type(block.values)
        assert deep.samples.values is block.samples.values
        assert deep.components[0].values is block.components[0].values
        assert deep.gradient("g").samples.values is block.gradient("g").samples.values
        assert deep.gradient("g").gradient("h").values is not (
            block.gradient("g").gradient("h").values
        )
        assert not deep.is_view
        assert deep.gradient("g").is_view


def test_deep_copies_of_numpy_are_independent():
    block = with_gradient()
    before = block.values.copy(), block.gradient("g").values.copy()
    deep = block.copy()
    deep.values[...] = -1
    deep.gradient("g").values[...] = -1
    np.testing.assert_array_equal(block.values, before[0])
    np.testing.assert_array_equal(block.gradient("g").values, before[1])


@given(any_blocks(depth=2))
def test_copies_are_the_same(block):
    assert_equal(block.copy(), block)
    assert block.copy() == block
    assert_equal(pickle.loads(pickle.dumps(block)), block)


# ---------------------------------------------------------------------------------- to


def test_to_without_change_is_a_new_block_with_the_same_arrays(xp):
    block = with_nested_gradient(xp.asarray)
    for other in (block.to(), block.to(None), block.to(dtype=block.dtype), block.to(unknown=3)):
        assert other is not block
        assert other.values is block.values
        assert other.gradient("g").gradient("h").values is (
            block.gradient("g").gradient("h").values
        )
        assert other.samples is block.samples


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        ((np.float32,), {}),
        ((np.dtype("f4"),), {}),
        (("cpu", np.float32), {}),
        ((np.float32, "cpu"), {}),
        ((), {"dtype": np.float32}),
        ((), {"dtype": "float32", "device": "cpu", "non_blocking": True}),
        ((np.float32,), {"arrays": "numpy", "unknown": 3}),
    ],
)
def test_to_another_dtype(arguments, keywords):
    block = with_nested_gradient()
    other = block.to(*arguments, **keywords)
    assert other.dtype == other.gradient("g").dtype == np.float32
    assert other.gradient("g").gradient("h").dtype == np.float32
    assert block.dtype == np.float64
    assert other == block


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(float, "float64"), (int, "int64"), (complex, "complex128"), (bool, "bool")],
)
def test_python_types_are_dtypes(dtype, expected):
    assert make_block().to(dtype).dtype == np.dtype(expected)
    torch = pytest.importorskip("torch")
    assert make_block(asarray=torch.asarray).to(dtype).dtype == getattr(torch, expected)


def test_to_between_numpy_and_torch():
    torch = pytest.importorskip("torch")
    block = with_nested_gradient()
    moved = block.to(arrays="torch")
    assert isinstance(moved.values, torch.Tensor)
    assert isinstance(moved.gradient("g").gradient("h").values, torch.Tensor)
    assert isinstance(moved.samples.values, torch.Tensor)
    assert isinstance(moved.components[0].values, torch.Tensor)
    assert moved.samples == block.samples
    moved.values[0, 0, 0] = 99.0
    assert block.values[0, 0, 0] == 99.0  # the memory is shared
    back = moved.to(arrays="numpy")
    assert type(back.values) is np.ndarray
    assert type(back.samples.values) is np.ndarray
    assert_equal(back, block)
    halves = block.to(torch.float16, arrays="torch", device="cpu")
    assert halves.dtype == halves.gradient("g").dtype == torch.float16


def test_read_only_arrays_are_copied_on_the_way_to_torch():
    torch = pytest.importorskip("torch")
    values = numbers(4, 2)
    values.flags.writeable = False
    moved = TensorBlock(values, SAMPLES, [], PROPERTIES).to(arrays="torch")
    moved.values[:] = 7
    assert isinstance(moved.values, torch.Tensor)
    np.testing.assert_array_equal(values, numbers(4, 2))


@pytest.mark.parametrize(
    "values", [numbers(4, 2)[::-1], np.asfortranarray(numbers(4, 2)), numbers(8, 2)[::2]]
)
def test_any_layout_on_the_way_to_torch(values):
    pytest.importorskip("torch")
    moved = TensorBlock(values, SAMPLES, [], PROPERTIES).to(arrays="torch")
    assert moved.values.tolist() == values.tolist()


def test_to_jax_and_back():
    jax = pytest.importorskip("jax")
    block = with_gradient()
    moved = block.to(arrays="jax")
    assert isinstance(moved.values, jax.Array)
    assert isinstance(moved.gradient("g").values, jax.Array)
    assert moved.samples is block.samples
    np.testing.assert_allclose(moved.to(arrays="numpy").values, block.values)


def test_labels_stay_on_the_host_when_tensors_move():
    torch = pytest.importorskip("torch")
    block = with_nested_gradient(torch.asarray)
    moved = block.to("meta")
    assert moved.device == torch.device("meta")
    assert moved.gradient("g").gradient("h").device == torch.device("meta")
    assert moved.samples is block.samples
    tensor = TensorMap(Labels.single(), [block]).to("meta")
    assert tensor.device == torch.device("meta")


@pytest.mark.parametrize(
    ("arguments", "keywords", "error"),
    [
        (("cuda",), {}, ValueError),
        (("float32",), {}, ValueError),
        ((np.float32, np.float64), {}, ValueError),
        ((np.float32,), {"dtype": np.float64}, ValueError),
        (("cpu", "cpu"), {}, ValueError),
        (("cpu",), {"device": "cpu"}, ValueError),
        ((), {"arrays": "unknown"}, ValueError),
        ((3,), {}, TypeError),
        (([],), {}, TypeError),
        ((str,), {}, TypeError),
        ((np.str_,), {}, TypeError),
        ((np.object_,), {}, TypeError),
        ((np.dtype("U3"),), {}, TypeError),
        ((), {"dtype": object}, TypeError),
        ((), {"dtype": "M8[s]"}, TypeError),
        ((), {"dtype": "unknown"}, TypeError),
    ],
)
def test_to_refuses(arguments, keywords, error):
    with pytest.raises(error):
        with_gradient().to(*arguments, **keywords)


def test_dtypes_belong_to_a_library():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"must be a torch\.dtype"):
        make_block().to(np.float32, arrays="torch")
    with pytest.raises(TypeError, match="must be a numpy dtype"):
        make_block().to(torch.float32)
    tracked = TensorBlock(torch.ones(4, 2, requires_grad=True), SAMPLES, [], PROPERTIES)
    with pytest.raises(RuntimeError, match="requires grad"):
        tracked.to(arrays="numpy")


def test_autograd_goes_through_to():
    torch = pytest.importorskip("torch")
    values = torch.ones(4, 2, requires_grad=True)
    moved = TensorBlock(values, SAMPLES, [], PROPERTIES).to(torch.float64)
    moved.copy().values.sum().backward()
    assert values.grad.tolist() == [[1.0, 1.0]] * 4


# ---------------------------------------------------------------------------------- equality

CHANGES = {
    "values": lambda block: _edited(block, lambda b: b.values.__setitem__((0, 0, 0), 9)),
    "gradient values": lambda block: _edited(
        block, lambda b: b.gradient("g").values.__setitem__((0, 0, 0), 9)
    ),
    "nested values": lambda block: _edited(
        block, lambda b: b.gradient("g").gradient("h").values.__setitem__((0, 0, 0), 9)
    ),
    "samples": lambda block: _rebuilt(block, samples=Labels.range("z", 4)),
    "components": lambda block: _rebuilt(block, components=[Labels.range("z", 3)]),
    "properties": lambda block: _rebuilt(block, properties=Labels.range("z", 2)),
    "no gradients": lambda block: _rebuilt(block),
    "nan": lambda block: _edited(block, lambda b: b.values.__setitem__((0, 0, 0), np.nan)),
}


def _edited(block, edit):
    block = block.copy()
    edit(block)
    return block


def _rebuilt(block, **parts):
    axes = {name: getattr(block, name) for name in ("samples", "components", "properties")}
    return TensorBlock(block.values, **axes | parts)


@pytest.mark.parametrize("change", CHANGES)
def test_inequality(change):
    block = with_nested_gradient()
    other = CHANGES[change](block)
    assert (block == other) is False
    assert (block != other) is True


def test_equality(xp):
    block = with_nested_gradient()
    other = with_nested_gradient(xp.asarray)
    assert (block == other) is True
    assert (block != other) is False
    assert block == block.to(np.float32)


def test_nan_is_not_equal_to_nan():
    block = TensorBlock(np.full((4, 2), np.nan), SAMPLES, [], PROPERTIES)
    assert block != block.copy()


@pytest.mark.parametrize("other", [None, 3, "a", SAMPLES, numbers(4, 3, 2).tolist()])
def test_blocks_equal_nothing_else(other):
    """Upstream raises AttributeError."""
    assert (make_block() == other) is False
    assert (make_block() != other) is True


# ---------------------------------------------------------------------------------- pickle, memory


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol):
    block = with_nested_gradient()
    back = pickle.loads(pickle.dumps(block, protocol))
    assert_equal(back, block)
    assert not back.is_view
    assert repr(back) == repr(block)
    back.add_gradient("new", make_gradient(back))


def test_pickle_of_torch_comes_back_as_torch():
    torch = pytest.importorskip("torch")
    back = pickle.loads(pickle.dumps(with_gradient(asarray=np.asarray).to(arrays="torch")))
    assert isinstance(back.values, torch.Tensor)
    assert_equal(back.to(arrays="numpy"), with_gradient())


def test_parts_outlive_their_block():
    values = numbers(4, 3, 2)
    block = TensorBlock(values, SAMPLES, [XYZ], PROPERTIES)
    block.add_gradient("g", make_gradient(block))
    gradient, samples = block.gradient("g"), block.gradient("g").samples
    del block
    gc.collect()
    assert gradient.shape == (2, 3, 2)
    del gradient
    assert samples["sample"].tolist() == [0, 2]


def test_arrays_are_freed_without_collecting_cycles():
    gc.disable()
    try:
        values = numbers(4, 3, 2)
        alive = weakref.ref(values)
        block = TensorBlock(values, SAMPLES, [XYZ], PROPERTIES)
        block.add_gradient("g", make_gradient(block))
        tensor = TensorMap(Labels.single(), [block])
        others = tensor.copy(), block.copy(deep=False), block.to(np.float32), tensor == tensor
        inside = tensor.block()
        assert_equal(tensor, others[0])
        del values, block, tensor, others
        assert alive() is not None
        del inside
        assert alive() is None
    finally:
        gc.enable()


def test_nothing_refers_to_a_block_afterwards():
    block = with_nested_gradient()
    before = sys.getrefcount(block)
    for _ in range(3):
        TensorMap(Labels.single(), [block])
        block.copy()
        block.to(np.float32)
        assert block == block.copy()
        repr(block)
        with pytest.raises(MetatensorError):
            block.add_gradient("g", block)
    assert sys.getrefcount(block) == before


def test_results_of_operations_leave_the_names_of_shared_gradients_alone():
    block = with_second_derivatives()
    gradient = block.gradient("g")
    shifted = gradient + 1.0
    assert shifted.gradient("h")._parameter == "h"
    assert gradient.gradient("h")._parameter == "g/h"


def with_second_derivatives():
    axes = Labels("sample", np.array([[0]])), [], Labels.range("p", 1)
    gradient = TensorBlock(np.ones((1, 1)), *axes)
    gradient.add_gradient("h", TensorBlock(np.ones((1, 1)), *axes))
    block = TensorBlock(np.ones((1, 1)), Labels.range("s", 1), [], Labels.range("p", 1))
    block.add_gradient("g", gradient)
    return block
