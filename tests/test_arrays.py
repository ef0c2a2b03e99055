"""The one file that knows array libraries apart."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatensor import Labels, TensorBlock, _array_conversion, _array_groups, _arrays

NUMBERS = np.arange(24.0).reshape(4, 3, 2)


def host(array):
    return np.asarray(_arrays.to_host(array))


# ---------------------------------------------------------------------------------- asking


def test_library(xp):
    array = xp.asarray(NUMBERS)
    assert _arrays.library(array) == xp.array_library
    assert _arrays.library(array) == xp.array_library  # remembered


def test_library_of_subclasses():
    class Subclass(np.ndarray):
        pass

    assert _arrays.library(NUMBERS.view(Subclass)) == "numpy"
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.ones(2))
    assert _arrays.library(parameter) == "torch"
    assert not _arrays.is_plain_tensor(parameter)
    assert _arrays.is_plain_tensor(torch.ones(2))
    assert not _arrays.is_plain_tensor(NUMBERS)


def test_library_of_tracers():
    jax = pytest.importorskip("jax")
    seen = []

    @jax.jit
    def double(array):
        seen.append(_arrays.library(array))
        block = TensorBlock(array, Labels.range("s", 2), [], Labels.range("p", 2))
        return block.copy().values * 2

    assert host(double(jax.numpy.ones((2, 2)))).tolist() == [[2.0, 2.0]] * 2
    assert seen == ["jax"]


def test_namespace(xp):
    array = xp.asarray(NUMBERS)
    namespace = _arrays.namespace(array, xp.asarray(NUMBERS))
    assert host(namespace.sum(array)) == NUMBERS.sum()
    assert _arrays.namespace(array) is namespace


def test_namespace_of_several_libraries():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"one library, got numpy\.ndarray, torch\.Tensor"):
        _arrays.namespace(torch.ones(2), NUMBERS)


def test_a_masked_array_is_refused_even_when_its_namespace_is_known():
    masked = np.ma.array([[1.0]])
    _arrays.namespace(masked)
    with pytest.raises(ValueError, match="masked"):
        _arrays.as_values(masked)


def test_what_numpy_holds_in_another_class():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(NUMBERS[0])
    assert type(_arrays.as_values(frame)) is np.ndarray
    np.testing.assert_array_equal(_arrays.as_values(frame), NUMBERS[0])


def test_difference(xp):
    first, other = xp.asarray(NUMBERS), xp.asarray(NUMBERS[:1])
    assert _arrays.difference(first, other) is None
    integers = xp.asarray(NUMBERS.astype(np.int32))
    assert _arrays.difference(first, integers) == ("dtype", first.dtype, integers.dtype)
    if xp.array_library != "numpy":
        assert _arrays.difference(first, NUMBERS) == ("array library", xp.array_library, "numpy")


# ---------------------------------------------------------------------------------- data


def test_to_host_and_back(xp):
    array = xp.asarray(NUMBERS)
    np.testing.assert_array_equal(_arrays.to_host(array), NUMBERS)
    back = _arrays.from_host(np.array([[1, 2]]), array)
    assert _arrays.library(back) == xp.array_library
    assert back.dtype == array.dtype
    assert host(back).tolist() == [[1.0, 2.0]]
    read_only = np.ones((1, 2))
    read_only.flags.writeable = False
    assert host(_arrays.from_host(read_only, array)).tolist() == [[1.0, 1.0]]
    reversed_axis = np.array([[1.0, 2.0]])[:, ::-1]
    assert host(_arrays.from_host(reversed_axis, array)).tolist() == [[2.0, 1.0]]


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        (np.bool_, "bool"),
        (np.int8, "integer"),
        (np.uint8, "integer"),
        (np.float32, "real"),
        (np.float64, "real"),
        (np.complex64, "complex"),
    ],
)
def test_floating_numbers(xp, dtype, kind):
    array = xp.asarray(NUMBERS.astype(dtype))
    assert _arrays.kind(array) == kind
    floating = _arrays.as_floating(array)
    assert (floating is array) == (kind in ("real", "complex"))
    assert host(floating).dtype == (dtype if floating is array else np.float64)
    np.testing.assert_array_equal(host(floating), NUMBERS.astype(dtype))


def test_floating_numbers_of_jax_without_64_bits(jax_x32):
    floating = _arrays.as_floating(jax_x32.numpy.asarray([1, 2]))
    assert floating.dtype == np.float32


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1),
        (1.5, 1.5),
        (1j, 1j),
        (True, 1),
        (np.float32(1.5), 1.5),
        (np.int8(-1), -1),
        (np.complex64(2j), 2j),
        (np.array(3), 3),
        (np.ones(1), None),
        (np.str_("1"), None),
        (np.array(None), None),
        ("1", None),
        ([1], None),
        (None, None),
    ],
)
def test_one_number(value, number):
    assert _arrays.as_number(value) == number


def test_numbers_like_an_array(xp):
    array = xp.asarray(NUMBERS.astype(np.float32))
    assert _arrays.number_like(2, array) == 2.0
    one = xp.asarray(NUMBERS.astype(np.int64))[0, 0, 1]
    found = _arrays.number_like(_arrays.as_number(one), array)
    assert found == 1
    if xp.array_library != "numpy":
        assert (_arrays.library(found), found.dtype) == (xp.array_library, array.dtype)
    with pytest.raises(TypeError, match="complex number can only be combined with complex values"):
        _arrays.number_like(1j, array)


def test_rows_of(xp):
    array = xp.asarray(NUMBERS)
    rows = _arrays.rows_of(array, np.array([3, 0, 3], dtype=np.int32), 5)
    assert tuple(rows.shape) == (3, 1, 1, 3, 2)
    np.testing.assert_array_equal(host(rows)[:, 0, 0], NUMBERS[[3, 0, 3]])
    none = _arrays.rows_of(array, np.zeros(0, dtype=np.int32), 4)
    assert tuple(none.shape) == (0, 1, 3, 2)


def test_copy_is_contiguous(xp):
    array = _arrays.namespace(xp.asarray(NUMBERS)).permute_dims(xp.asarray(NUMBERS), (2, 0, 1))
    copied = _arrays.copy(array)
    assert copied is not array
    assert type(copied) is type(array)
    assert _arrays.is_contiguous(copied)
    np.testing.assert_array_equal(host(copied), NUMBERS.transpose(2, 0, 1))
    if xp.array_library in ("numpy", "torch"):
        assert not _arrays.is_contiguous(array)
        copied[...] = 0
        assert host(array).max() == 23


def test_views_of_torch_that_are_not_in_memory_as_they_look():
    torch = pytest.importorskip("torch")
    array = torch.tensor([[1 + 2j, 3 - 1j]])
    assert host(array.conj()).tolist() == [[1 - 2j, 3 + 1j]]
    assert host(array.conj().imag).tolist() == [[-2.0, 1.0]]
    assert _arrays.near(array.conj(), np.array([[1 - 2j, 3 + 1j]]))
    sparse = torch.eye(2).to_sparse()
    assert _arrays.copy(sparse).to_dense().tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_a_history_is_not_lost_silently():
    torch = pytest.importorskip("torch")
    array = torch.ones(2, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match="requires grad"):
        _arrays.to_host(array)
    assert host(_arrays.detach(array)).tolist() == [[1.0, 1.0]] * 2
    assert _arrays.copy(array).requires_grad


def test_detach(xp):
    array = xp.asarray(NUMBERS)
    np.testing.assert_array_equal(host(_arrays.detach(array)), NUMBERS)


def test_take(xp):
    array = xp.asarray(NUMBERS)
    for axis, positions in [(0, [3, 0, 0]), (1, [2]), (2, [])]:
        taken = _arrays.take(array, np.array(positions, dtype=np.intp), axis=axis)
        np.testing.assert_array_equal(host(taken), NUMBERS.take(positions, axis=axis))


def test_full(xp):
    array = xp.asarray(NUMBERS.astype(np.float32))
    made = _arrays.full((2, 1), 7.5, array)
    assert made.dtype == array.dtype
    assert host(made).tolist() == [[7.5], [7.5]]


@given(st.lists(st.integers(0, 4), max_size=12))
def test_segment_sum_against_a_loop(groups):
    rows = np.arange(2.0 * len(groups)).reshape(-1, 2)
    expected = np.zeros((5, 2))
    for group, row in zip(groups, rows, strict=True):
        expected[group] += row
    positions = np.array(groups, dtype=np.intp)
    np.testing.assert_array_equal(_array_groups.segment_sum(rows, positions, 5), expected)


@pytest.mark.parametrize("groups", [[1, 1, 0, 4], [0, 0, 0, 0], [4, 3, 2, 1]])
def test_segment_sum_of_every_library(xp, groups):
    expected = np.zeros((5, 3, 2))
    np.add.at(expected, groups, NUMBERS)
    summed = _array_groups.segment_sum(xp.asarray(NUMBERS), np.array(groups), 5)
    np.testing.assert_array_equal(host(summed), expected)


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("groups", [[1, 1, 0, 2], [0, 0, 0, 0], [3, 0, 2, 1], [0] * 40 + [1] * 3])
@pytest.mark.parametrize("which", ["sum", "max", "min"])
def test_segments_along_an_axis(xp, which, groups, axis):
    groups = np.array(groups, dtype=np.intp)
    size = groups.max() + 1
    rows = np.random.default_rng(0).normal(size=(len(groups), 2, 3))
    rows[1, 1, 1] = np.nan
    expected = np.stack([getattr(rows[groups == g], which)(axis=0) for g in range(size)])
    if axis == -1:
        rows, expected = rows.transpose(1, 2, 0), expected.transpose(1, 2, 0)
    function = getattr(_array_groups, f"segment_{which}")
    found = host(function(xp.asarray(rows), groups, size, axis))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("which", ["sum", "max", "min"])
def test_segments_of_nothing(xp, which, axis):
    function = getattr(_array_groups, f"segment_{which}")
    found = function(xp.asarray(np.zeros((0, 0))), np.zeros(0, dtype=np.intp), 0, axis)
    assert tuple(found.shape) == (0, 0)


@pytest.mark.parametrize("dtype", ["bool", "int32", "uint8", "float32", "float64", "complex64"])
def test_kind(xp, dtype):
    array = xp.asarray(np.ones((2, 1), dtype))
    kinds = {"b": "bool", "i": "integer", "u": "integer", "f": "real", "c": "complex"}
    assert _arrays.kind(array) == kinds[np.dtype(dtype).kind]
    exact = np.dtype(dtype).kind in "biu"
    assert host(_arrays.as_floating(array)).dtype == (np.float64 if exact else dtype)


# ---------------------------------------------------------------------------------- equality


def test_equal_across_libraries_and_dtypes(xp):
    array = xp.asarray(NUMBERS)
    for other in (array, NUMBERS, NUMBERS.astype(np.float32), NUMBERS.astype(int)):
        assert _arrays.near(array, other) is True
        assert _arrays.near(other, array) is True
    changed = NUMBERS.copy()
    changed[-1, -1, -1] += 1
    for other in (xp.asarray(changed), changed, NUMBERS[:1], NUMBERS[:, :, :1]):
        assert _arrays.near(array, other) is False


def test_equal_of_what_numpy_has_not():
    torch = pytest.importorskip("torch")
    array = torch.ones(2, 2, dtype=torch.bfloat16)
    assert _arrays.near(array, array.clone()) is True
    assert _arrays.near(array, array * 2) is False
    assert _arrays.near(array, array[:1]) is False
    assert _arrays.near(array.requires_grad_(), array) is True


# ---------------------------------------------------------------------------------- moving


def test_target_of_positional_arguments():
    assert _array_conversion.parse_target() == _array_conversion.Target()
    target = _array_conversion.parse_target(
        None, np.float32, "cpu", arrays="numpy", non_blocking=True
    )
    assert target == _array_conversion.Target(np.float32, "cpu", "numpy", True)


def test_target_knows_torch_and_jax():
    torch = pytest.importorskip("torch")
    target = _array_conversion.parse_target(torch.device("cpu"), torch.float16)
    assert (target.device, target.dtype) == (torch.device("cpu"), torch.float16)
    jax = pytest.importorskip("jax")
    target = _array_conversion.parse_target(jax.devices()[0], jax.numpy.float16)
    assert (target.device, target.dtype) == (jax.devices()[0], jax.numpy.float16)


def test_target_of_what_is_there():
    assert _array_conversion.parse_target(True).non_blocking is True
    target = _array_conversion.parse_target(NUMBERS, copy=True)
    assert target == _array_conversion.Target(NUMBERS.dtype, "cpu", copy=True)


@pytest.mark.parametrize("value", [3, 1.0, [], (), object(), int.__add__, dict])
def test_target_refuses(value):
    with pytest.raises(TypeError, match="takes a device or a dtype"):
        _array_conversion.parse_target(value)


def test_same_array_when_nothing_changes(xp):
    array = xp.asarray(NUMBERS)
    assert _array_conversion.convert(array, _array_conversion.Target()) is array
    assert _array_conversion.convert(array, _array_conversion.Target(dtype=array.dtype)) is array


@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
def test_change_of_library(xp, name):
    pytest.importorskip(name)
    moved = _array_conversion.convert(xp.asarray(NUMBERS), _array_conversion.Target(arrays=name))
    assert _arrays.library(moved) == name
    np.testing.assert_array_equal(host(moved), NUMBERS)


@pytest.mark.parametrize("name", ["torch", "jax"])
@pytest.mark.parametrize("dtype", [">f8", ">i4", ">c16"])
def test_other_libraries_get_native_byte_order(name, dtype):
    pytest.importorskip(name)
    moved = _array_conversion.convert(NUMBERS.astype(dtype), _array_conversion.Target(arrays=name))
    np.testing.assert_array_equal(host(moved), NUMBERS)


def test_jax_does_not_narrow_silently(jax_x32):
    for values in (NUMBERS, np.array([[2**40]]), NUMBERS.astype(complex)):
        with pytest.raises(ValueError, match="jax would turn"):
            _array_conversion.convert(values, _array_conversion.Target(arrays="jax"))
    moved = _array_conversion.convert(
        NUMBERS, _array_conversion.Target(arrays="jax", dtype=np.float32)
    )
    assert isinstance(moved, jax_x32.Array)
    assert moved.dtype == np.float32


def test_devices_of_jax():
    jax = pytest.importorskip("jax")
    array = jax.numpy.ones((2, 2))
    for where in ("cpu", jax.devices()[0]):
        assert _arrays.device(
            _array_conversion.convert(array, _array_conversion.Target(device=where))
        ) in (jax.devices("cpu"))
    with pytest.raises(ValueError, match="jax has no device 'nowhere'"):
        _array_conversion.convert(array, _array_conversion.Target(device="nowhere"))


def test_devices_of_torch():
    torch = pytest.importorskip("torch")
    array = torch.ones(2, 2)
    for where in ("cpu", torch.device("cpu")):
        assert _array_conversion.convert(array, _array_conversion.Target(device=where)) is array
    assert (
        _array_conversion.convert(array, _array_conversion.Target(device="meta")).device.type
        == "meta"
    )
    with pytest.raises(ValueError, match="torch has no device 'float32'"):
        _array_conversion.convert(array, _array_conversion.Target(device="float32"))


def test_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match="needs the package 'cupy'"):
        _array_conversion.convert(NUMBERS, _array_conversion.Target(arrays="cupy"))
