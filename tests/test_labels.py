"""Labels and their entries."""

import contextlib
import copy
import gc
import inspect
import pickle
import sys
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatensor import Labels, LabelsEntry, MetatensorError
from metatensor._core.base import EntryBase, LabelsBase
from metatensor.testing import labels as any_labels

SMALLEST, LARGEST = -(2**31), 2**31 - 1


def ab(rows):
    return Labels(["a", "b"], np.array(rows).reshape(-1, 2))


def rows_of(labels):
    return [tuple(row) for row in np.asarray(labels.values).tolist()]


# ---------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("a", ["a"]),
        ("abc", ["abc"]),
        ("", []),
        ([], []),
        (("a", "b"), ["a", "b"]),
        (["a", "b"], ["a", "b"]),
        ((name for name in "ab"), ["a", "b"]),
        ({"a": 1, "b": 2}.keys(), ["a", "b"]),
        ({"a": 1}, ["a"]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.str_("a"), ["a"]),
        (["_", "__", "a1", "A", "class", "sample", "_9"], None),
        ([f"n{i}" for i in range(63)], None),
    ],
)
def test_names(names, expected):
    labels = Labels.empty(names)
    if expected is None:
        expected = list(names)
    assert labels.names == expected
    assert all(type(name) is str for name in labels.names)
    assert labels.values.shape == (0, len(expected))


@pytest.mark.parametrize("name", ["a b", "a-b", "a.b", "é", "1a", "a\n", "a\0", "²", "Ａ", "a/b"])
def test_invalid_names_are_refused(name):
    with pytest.raises(MetatensorError, match="not a valid label name"):
        Labels([name], np.array([[0]]))
    with pytest.raises(MetatensorError, match="not a valid label name"):
        Labels.empty(name)


def test_empty_name_in_a_list_is_refused():
    with pytest.raises(MetatensorError, match="'' is not a valid label name"):
        Labels([""], np.array([[0]]))


def test_repeated_names_are_refused():
    with pytest.raises(MetatensorError, match="must be unique, got 'a' more than once"):
        Labels(["a", "b", "a"], np.zeros((1, 3), dtype=int))


@pytest.mark.parametrize("names", [None, 3, [3], ["a", None], [b"a"], [["a"], ["b"]], b"a", [[1]]])
def test_names_of_another_type_are_refused(names):
    with pytest.raises(TypeError, match="`names` must be a str or a sequence of str"):
        Labels(names, np.zeros((1, 1), dtype=int))


def test_names_are_a_new_list_each_time():
    labels = ab([[0, 1]])
    labels.names.append("c")
    labels[0].names.append("c")
    assert labels.names == labels[0].names == ["a", "b"]
    assert labels.names is not labels.names


def test_names_can_not_be_assigned():
    with pytest.raises(AttributeError):
        ab([[0, 1]]).names = ["c", "d"]
    with pytest.raises(AttributeError):
        ab([[0, 1]]).values = np.zeros((1, 2), dtype=np.int32)


# ---------------------------------------------------------------------------------- values

INTEGERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i2", ">i4", ">i8", ">u8", "?"]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_all_integers_become_int32(dtype):
    labels = Labels(["a", "b"], np.array([[0, 1], [1, 0]], dtype=dtype))
    assert labels.values.dtype == np.int32
    assert labels.values.dtype.isnative
    assert rows_of(labels) == [(0, 1), (1, 0)]


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8"])
def test_all_integers_of_torch_become_int32(dtype):
    torch = pytest.importorskip("torch")
    labels = Labels(["a", "b"], torch.tensor([[0, 1], [1, 0]], dtype=getattr(torch, dtype)))
    assert isinstance(labels.values, torch.Tensor)
    assert labels.values.dtype == torch.int32
    assert labels.values.tolist() == [[0, 1], [1, 0]]
    assert labels.device == torch.device("cpu")


def test_values_of_every_library(xp):
    values = xp.asarray([[3, 1], [-2, 1], [0, 0]])
    labels = Labels(["a", "b"], values)
    assert rows_of(labels) == [(3, 1), (-2, 1), (0, 0)]
    assert labels.position((-2, 1)) == 1
    assert str(labels.device) == "cpu"
    assert type(labels.values) is (type(values) if xp.name == "torch" else np.ndarray)
    assert labels == ab([[3, 1], [-2, 1], [0, 0]])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "U3", "O", "M8[s]", "m8[s]", "V4"])
def test_values_that_are_no_integers_are_refused(dtype):
    with pytest.raises(TypeError, match="must be integers, or convertible to integers"):
        Labels(["a"], np.array([[1], [2]]).astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "bool", "complex64"])
def test_tensors_that_are_no_integers_are_refused(dtype):
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="must be integers"):
        Labels(["a"], torch.ones((1, 1), dtype=getattr(torch, dtype)))


def test_tensors_that_labels_can_not_hold():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="require gradients"):
        Labels(["a"], torch.ones((1, 1), requires_grad=True))
    with pytest.raises(MetatensorError, match="meta"):
        Labels(["a"], torch.ones((1, 1), dtype=torch.int32, device="meta"))


@pytest.mark.parametrize(
    "values", [[[1, 2]], [], (), None, 3, "ab", np.int32(3), b"ab", {}, range(2), memoryview(b"ab")]
)
def test_what_is_no_array_is_refused(values):
    with pytest.raises(ValueError, match="must be a 2-D array"):
        Labels(["a", "b"], values)


@pytest.mark.parametrize("shape", [(), (3,), (1, 1, 1), (2, 1, 1, 1)])
def test_values_must_be_a_table(xp, shape):
    with pytest.raises(ValueError, match=f"2-D array, got {len(shape)} dimension"):
        Labels(["a"], xp.asarray(np.zeros(shape, dtype=int)) if shape else np.array(3))


@pytest.mark.parametrize("n_columns", [0, 1, 3])
def test_values_must_have_one_column_for_each_name(xp, n_columns):
    with pytest.raises(ValueError, match=rf"one column for each name .* got {n_columns} column"):
        Labels(["a", "b"], xp.asarray(np.zeros((1, n_columns), dtype=int)))


@pytest.mark.parametrize("dtype", [np.int32, np.float64, np.bool_, np.uint64, object, "U1"])
@pytest.mark.parametrize("shape", [(0,), (0, 2), (0, 5), (0, 0), (0, 1, 2)])
def test_no_rows_of_any_shape_and_type(shape, dtype):
    labels = Labels(["a", "b"], np.empty(shape, dtype=dtype))
    assert labels.values.shape == (0, 2)
    assert labels.values.dtype == np.int32
    assert labels == Labels.empty(["a", "b"])


@pytest.mark.parametrize("dtype", ["float32", "bool", "int64"])
def test_no_rows_of_torch(dtype):
    torch = pytest.importorskip("torch")
    labels = Labels(["a", "b"], torch.zeros((0, 7), dtype=getattr(torch, dtype)))
    assert tuple(labels.values.shape) == (0, 2)
    assert labels.values.dtype == torch.int32


@pytest.mark.parametrize("n_rows", [0, 1, 2, 5])
def test_rows_without_dimensions(n_rows):
    labels = Labels([], np.zeros((n_rows, 0), dtype=np.int32))
    assert len(labels) == n_rows
    assert labels.values.shape == (n_rows, 0)
    assert labels.names == []
    assert labels.position(()) == (0 if n_rows else None)
    assert [tuple(entry) for entry in labels] == [()] * n_rows
    assert labels == copy.copy(labels)
    assert labels != Labels([], np.zeros((n_rows + 1, 0), dtype=np.int32))
    assert isinstance(hash(labels), int)


def test_out_of_int32_is_refused_with_the_value():
    for value in (2**31, -(2**31) - 1, 2**40 + 3, -(2**63)):
        with pytest.raises(ValueError, match=f"got {value}$"):
            Labels(["a"], np.array([[0], [value]]))
    for value in (2**32 - 1, 2**31):
        with pytest.raises(ValueError, match=f"got {value}$"):
            Labels(["a"], np.array([[value]], dtype=np.uint32))
    with pytest.raises(ValueError, match=f"got {2**64 - 1}$"):
        Labels(["a"], np.array([[2**64 - 1]], dtype=np.uint64))


def test_out_of_int32_of_torch_is_refused_with_the_value():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=f"got {2**40}$"):
        Labels(["a"], torch.tensor([[2**40]]))


@pytest.mark.parametrize("dtype", ["i4", "i8", ">i4"])
def test_the_whole_range_of_int32(dtype):
    labels = Labels(["a"], np.array([[LARGEST], [SMALLEST], [0], [-1]], dtype=dtype))
    assert rows_of(labels) == [(LARGEST,), (SMALLEST,), (0,), (-1,)]
    assert [labels.position((value,)) for value in (SMALLEST, LARGEST, -1)] == [1, 0, 3]
    assert SMALLEST + 1 not in [value for (value,) in labels]


class Subclass(np.ndarray):
    pass


LAYOUTS = {
    "fortran": lambda table: np.asfortranarray(table),
    "transposed": lambda table: np.ascontiguousarray(table.T).T,
    "reversed": lambda table: table[::-1].copy()[::-1],
    "every other row": lambda table: np.repeat(table, 2, axis=0)[::2],
    "every other column": lambda table: np.repeat(table, 2, axis=1)[:, ::2],
    "read-only": lambda table: _read_only(table.copy()),
    "read-only view": lambda table: _read_only(table.copy())[:],
    "subclass": lambda table: table.view(Subclass),
    "record array": lambda table: table.view(np.recarray),
    "big-endian": lambda table: table.astype(">i4"),
    "int64 fortran": lambda table: np.asfortranarray(table.astype(np.int64)),
    "unaligned": lambda table: _unaligned(table),
}


def _read_only(table):
    table.flags.writeable = False
    return table


def _unaligned(table):
    memory = np.zeros(table.nbytes + 1, dtype=np.uint8)
    view = memory[1:].view(np.int32).reshape(table.shape)
    view[...] = table
    return view


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_in_memory(layout):
    table = np.array([[5, 1], [0, 7], [0, 2], [3, 3]], dtype=np.int32)
    labels = Labels(["a", "b"], LAYOUTS[layout](table))
    assert type(labels.values) is np.ndarray
    assert labels.values.flags.c_contiguous
    assert labels.values.flags.aligned
    assert rows_of(labels) == [(5, 1), (0, 7), (0, 2), (3, 3)]
    assert [labels.position(row) for row in rows_of(labels)] == [0, 1, 2, 3]


def test_masked_values_are_refused():
    with pytest.raises(ValueError, match=r"masked array.*filled"):
        Labels(["a"], np.ma.array([[1], [2]], mask=[[0], [1]]))


class OnlyDlpack:
    """An array of another library that can do nothing but be exported."""

    def __init__(self, array):
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def __dlpack__(self, **kwargs):
        return self._array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class OnlyNumpyProtocol:
    """An array of another library that numpy can read."""

    def __init__(self, array):
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def __array__(self, dtype=None, copy=None):
        return self._array if dtype is None else self._array.astype(dtype)


@pytest.mark.parametrize("wrap", [OnlyDlpack, OnlyNumpyProtocol])
def test_values_of_unknown_libraries(wrap):
    array = np.array([[4, 2], [1, 0]])
    labels = Labels(["a", "b"], wrap(array))
    assert rows_of(labels) == [(4, 2), (1, 0)]


class Failing(OnlyNumpyProtocol):
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("this array is broken")


def test_exceptions_inside_an_array_come_through():
    with pytest.raises(RuntimeError, match="this array is broken"):
        Labels(["a", "b"], Failing(np.array([[4, 2], [1, 0]])))


# ---------------------------------------------------------------------------------- unique rows


@pytest.mark.parametrize(
    ("rows", "first"),
    [
        ([[1, 1], [1, 1]], [1, 1]),
        ([[0, 1], [1, 1], [0, 2], [1, 1], [0, 1]], [1, 1]),
        ([[5, 5], [0, 0], [0, 0], [5, 5]], [0, 0]),
        ([[LARGEST, SMALLEST], [0, 0], [LARGEST, SMALLEST]], [LARGEST, SMALLEST]),
    ],
)
def test_the_first_repeated_row_is_named(xp, rows, first):
    with pytest.raises(MetatensorError, match=r"must be unique, got \[") as error:
        Labels(["a", "b"], xp.asarray(rows))
    assert str(first) in str(error.value)


def test_assume_unique_skips_the_check():
    rows = np.array([[1, 1], [0, 0], [1, 1]], dtype=np.int32)
    labels = Labels(["a", "b"], rows, assume_unique=True)
    assert len(labels) == 3
    assert labels.position((0, 0)) == 1
    assert labels.position((1, 1)) in (0, 2)


@given(st.lists(st.tuples(*[st.integers(-2, 2)] * 3), max_size=12))
def test_unique_or_not(rows):
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    if len(set(rows)) == len(rows):
        labels = Labels(["a", "b", "c"], table)
        assert [labels.position(row) for row in rows] == list(range(len(rows)))
    else:
        first = next(row for i, row in enumerate(rows) if row in rows[:i])
        with pytest.raises(MetatensorError, match="must be unique") as error:
            Labels(["a", "b", "c"], table)
        assert str(list(first)) in str(error.value)


# ---------------------------------------------------------------------------------- immutable


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_the_array_given_is_neither_frozen_nor_shared(dtype):
    table = np.array([[0, 1], [2, 3]], dtype=dtype)
    labels = Labels(["a", "b"], table)
    table[0, 0] = 9
    assert table.flags.writeable
    assert rows_of(labels) == [(0, 1), (2, 3)]
    assert labels.position((0, 1)) == 0


def test_a_view_given_does_not_let_its_owner_change_the_labels():
    owner = np.array([[0, 1], [2, 3]], dtype=np.int32)
    labels = Labels(["a", "b"], _read_only(owner[:]))
    owner[:] = 7
    assert rows_of(labels) == [(0, 1), (2, 3)]


def test_an_array_given_as_read_only_does_not_change_the_labels_later():
    owner = np.array([[0, 1], [2, 3]], dtype=np.int32)
    view = owner[:]
    labels = Labels(["a", "b"], _read_only(owner))
    view[0] = 7
    owner.flags.writeable = True
    owner[1] = 8
    assert rows_of(labels) == [(0, 1), (2, 3)]


def test_values_of_labels_are_shared_by_other_labels():
    labels = ab([[0, 1], [2, 3]])
    again = Labels(["x", "y"], labels.values)
    assert np.shares_memory(again.values, labels.values)
    for part in (labels.values[:1], labels.values[::-1]):
        assert not np.shares_memory(Labels(["x", "y"], part).values, labels.values)
        assert rows_of(Labels(["x", "y"], part)) == [tuple(row) for row in part.tolist()]


MISUSES = {
    "writeable": lambda values: setattr(values.flags, "writeable", True),
    "shape": lambda values: setattr(values, "shape", (4, 1)),
    "dtype": lambda values: setattr(values, "dtype", np.int8),
    "strides": lambda values: np.lib.stride_tricks.as_strided(values, (900, 2))[:1],
    "smaller": lambda values: values.resize((0, 2), refcheck=False),
    "larger": lambda values: values.resize((10**6, 2), refcheck=False),
    "byte order": lambda values: values.byteswap(inplace=True),
    "sort": lambda values: values.sort(axis=0),
}


@pytest.mark.parametrize("misuse", MISUSES)
@pytest.mark.filterwarnings("ignore:Setting the")
def test_what_is_done_to_the_values_does_not_reach_the_labels(misuse):
    labels = ab([[2, 3], [0, 1]])
    expected = copy.copy(labels), hash(labels), str(labels)
    with contextlib.suppress(ValueError):
        MISUSES[misuse](labels.values)
    assert len(labels) == 2
    assert [labels.position(row) for row in [(2, 3), (0, 1), (1, 0)]] == [0, 1, None]
    assert [tuple(entry[name] for name in "ab") for entry in labels] == [(2, 3), (0, 1)]
    assert (labels, hash(labels), str(labels)) == expected
    assert rows_of(labels.union(Labels.empty(["a", "b"])).permute([1, 0])) == [(3, 2), (1, 0)]


DERIVED = {
    "given": lambda labels: labels,
    "range": lambda labels: Labels.range("a", 3),
    "union": lambda labels: labels.union(ab([[9, 9]])),
    "intersection": lambda labels: labels.intersection(ab([[0, 3], [0, 1]])),
    "difference": lambda labels: labels.difference(ab([[0, 1]])),
    "permute": lambda labels: labels.permute([1, 0]),
    "permute one": lambda labels: Labels.range("a", 3).permute([0]),
    "insert": lambda labels: labels.insert(0, "c", np.arange(3)),
    "remove": lambda labels: labels.remove("a"),
    "rename": lambda labels: labels.rename("a", "c"),
    "copy": copy.deepcopy,
    "pickle": lambda labels: pickle.loads(pickle.dumps(labels)),
}


@pytest.mark.parametrize("how", DERIVED)
def test_values_are_read_only(how):
    labels = DERIVED[how](ab(FIRST))
    with pytest.raises(ValueError, match="read-only"):
        labels.values[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        labels.column(labels.names[0])[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        labels[0].values[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        labels.values.flags.writeable = True


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_tensors_can_not_change_the_labels(dtype):
    torch = pytest.importorskip("torch")
    given_tensor = torch.tensor([[0, 1], [2, 3]], dtype=getattr(torch, dtype))
    labels = Labels(["a", "b"], given_tensor)
    united = labels.union(ab([[4, 5]]))
    given_tensor[0, 0] = 9
    labels.values[0, 0] = 8
    united.values[0, 0] = 8
    for changed in (labels, united):
        assert changed.position((0, 1)) == 0
        assert changed.position((8, 1)) is None
    assert labels == ab([[0, 1], [2, 3]])


def test_values_are_the_same_object_each_time():
    labels = ab([[0, 1]])
    assert labels.values is labels.values
    assert copy.copy(labels).values is labels.values
    assert copy.deepcopy(labels).values is labels.values
    assert copy.copy(labels) is not labels


def test_the_constructor_can_not_be_called_again():
    labels = ab([[0, 1], [0, 0]])
    assert labels.position((0, 0)) == 1
    with pytest.raises(TypeError, match="can not be changed"):
        labels.__init__(["c"], np.array([[3]]))
    assert labels.names == ["a", "b"]
    assert labels.position((0, 0)) == 1


@pytest.mark.parametrize("kind", [Labels, LabelsBase])
def test_labels_made_without_the_constructor_are_empty(kind):
    labels = kind.__new__(kind)
    assert len(labels) == 0
    assert list(labels) == []
    assert labels == kind.__new__(kind)
    assert isinstance(hash(labels), int)
    with pytest.raises(IndexError):
        labels[0]


@pytest.mark.parametrize("kind", [LabelsEntry, EntryBase])
def test_an_entry_made_without_the_constructor_is_empty(kind):
    entry = EntryBase.__new__(kind)
    assert len(entry) == 0
    assert entry == EntryBase.__new__(kind)
    with pytest.raises(IndexError):
        entry[0]
    with pytest.raises(IndexError):
        _ = entry.values


def test_a_failed_constructor_leaves_nothing_behind():
    labels = Labels.__new__(Labels)
    with pytest.raises(MetatensorError):
        labels.__init__(["a"], np.array([[0], [0]]))
    assert len(labels) == 0
    labels.__init__(["a"], np.array([[4]]))
    assert labels.position((4,)) == 0


def test_signature_and_type_name():
    assert list(inspect.signature(Labels).parameters) == ["names", "values", "assume_unique"]
    assert str(Labels) == "<class 'metatensor.Labels'>"
    assert str(LabelsEntry) == "<class 'metatensor.LabelsEntry'>"
    keywords = Labels(names="a", values=np.array([[1]]), assume_unique=True)
    assert keywords == Labels("a", np.array([[1]]))


# ---------------------------------------------------------------------------------- making


def test_single():
    assert Labels.single() == Labels(["_"], np.array([[0]]))


def test_empty_takes_a_str_as_one_name():
    assert Labels.empty("abc").names == ["abc"]
    assert len(Labels.empty(["a", "b"])) == 0


@pytest.mark.parametrize(("end", "expected"), [(0, []), (-3, []), (1, [0]), (4, [0, 1, 2, 3])])
def test_range(end, expected):
    labels = Labels.range("n", end)
    assert labels.names == ["n"]
    assert labels.values.shape == (len(expected), 1)
    assert labels.column("n").tolist() == expected


def test_range_refuses():
    for name in (None, ["a"], 3):
        with pytest.raises(TypeError, match="`name` must be a str"):
            Labels.range(name, 3)
    with pytest.raises(MetatensorError, match="not a valid label name"):
        Labels.range("a b", 3)
    for end in (2.0, None, "3"):
        with pytest.raises(TypeError, match="`end` must be an int"):
            Labels.range("a", end)
    with pytest.raises(ValueError, match=str(2**31)):
        Labels.range("a", 2**31)


# ---------------------------------------------------------------------------------- indexing


@pytest.mark.parametrize(
    ("index", "row"),
    [(0, (0, 1)), (2, (0, 3)), (-1, (0, 3)), (-3, (0, 1)), (True + 0, (1, 2))]
    + [(kind(-1), (0, 3)) for kind in (np.int8, np.int16, np.int32, np.int64)],
)
def test_entries_by_position(index, row):
    labels = ab([[0, 1], [1, 2], [0, 3]])
    for entry in (labels[index], labels.entry(index)):
        assert isinstance(entry, LabelsEntry)
        assert tuple(entry) == row


@pytest.mark.parametrize("index", [3, -4, 2**31, 2**63, -(2**70), np.int64(5)])
def test_positions_out_of_range(index):
    labels = ab([[0, 1], [1, 2], [0, 3]])
    for access in (labels.__getitem__, labels.entry):
        with pytest.raises(IndexError, match=r"out of bounds for axis 0 with size 3|can ?not fit"):
            access(index)
    with pytest.raises(IndexError, match="out of bounds"):
        Labels.empty("a")[0]


@pytest.mark.parametrize(
    "index",
    [np.uint8(0), np.uint64(0), slice(0, 1), [0], (0,), 1.0, None, b"a", ..., np.array([0])],
)
def test_indices_of_another_type_are_refused(index):
    with pytest.raises(TypeError, match="indexed with int or str"):
        ab([[0, 1]])[index]


@pytest.mark.parametrize("index", [1.0, None, "a", [0], slice(0, 1)])
def test_entry_refuses_other_types(index):
    with pytest.raises(TypeError, match="`index` must be an int"):
        ab([[0, 1]]).entry(index)


@pytest.mark.parametrize("index", [True, False])
def test_bools_are_no_index(index):
    with pytest.raises(ValueError, match="bool"):
        ab([[0, 1], [1, 2]])[index]
    with pytest.raises(ValueError, match="bool"):
        ab([[0, 1], [1, 2]]).entry(index)


def test_columns():
    labels = ab([[0, 1], [1, 2], [0, 3]])
    assert labels["b"].tolist() == labels.column("b").tolist() == [1, 2, 3]
    assert np.shares_memory(labels["b"], labels.values)
    for access in (labels.__getitem__, labels.column):
        with pytest.raises(ValueError, match="'zz' is not a dimension"):
            access("zz")
    with pytest.raises(TypeError, match="`dimension` must be a str"):
        labels.column(0)


def test_iteration_and_unpacking():
    labels = ab([[5, 1], [1, 2]])
    assert [(int(a), int(b)) for a, b in labels] == [(5, 1), (1, 2)]
    assert len(list(labels)) == len(labels) == 2
    assert [entry["b"] for entry in labels] == [1, 2]
    entries = iter(labels)
    assert iter(entries) is entries
    del labels
    assert tuple(next(entries)) == (5, 1)
    assert tuple(next(entries)) == (1, 2)
    with pytest.raises(StopIteration):
        next(entries)
    with pytest.raises(StopIteration):
        next(entries)


def test_entries_reach_every_row_backwards():
    labels = ab([[5, 1], [1, 2], [0, 0]])
    assert [tuple(entry) for entry in reversed(labels)] == [(0, 0), (1, 2), (5, 1)]


def test_labels_survive_numpy_assertions():
    labels = ab([[5, 1], [1, 2]])
    np.testing.assert_equal(labels, ab([[5, 1], [1, 2]]))
    assert np.asarray(labels).shape == (2, 2)


# ---------------------------------------------------------------------------------- entries


def test_entry_members(xp):
    labels = Labels(["a", "b"], xp.asarray([[5, 1], [1, 2]]))
    entry = labels[1]
    assert entry.names == ["a", "b"]
    assert len(entry) == 2
    assert entry.values.tolist() == [1, 2]
    assert [int(entry[0]), int(entry[-1]), int(entry["a"])] == [1, 2, 1]
    assert [int(value) for value in entry] == [1, 2]
    assert 2 in entry
    assert 7 not in entry
    assert entry.device == labels.device
    assert entry.print() == "(a=1, b=2)"
    assert str(entry) == repr(entry) == "LabelsEntry(a=1, b=2)"


@pytest.mark.parametrize(("library", "kind"), [("numpy", np.int32), ("torch", int)])
def test_elements_of_entries_are_integers(library, kind):
    """Tensors would be equal to integers, but not the same keys of a dict."""
    if library == "torch":
        pytest.importorskip("torch")
    entry = ab([[5, 1]]).to(arrays=library)[0]
    for value in (entry["a"], entry[1], *entry):
        assert type(value) is kind
    assert {(5, 1): "found"}[tuple(entry)] == "found"
    assert type(entry.values).__module__ == library


@pytest.mark.parametrize(
    ("index", "error"),
    [
        ("zz", ValueError),
        (2, IndexError),
        (-3, IndexError),
        (2**70, IndexError),
        (np.int64(0), TypeError),
        ((0,), TypeError),
        ([0], TypeError),
        (None, TypeError),
        (1.0, TypeError),
        (True, TypeError),
        (slice(0, 1), TypeError),
    ],
)
def test_entry_indices_that_are_refused(index, error):
    with pytest.raises(error):
        ab([[5, 1]])[0][index]


def test_entries_compare_by_value_and_give_bool():
    labels = ab([[5, 1], [1, 2]])
    same = Labels(["a", "b"], np.array([[1, 2]]))[0]
    other_names = Labels(["a", "c"], np.array([[1, 2]]))[0]
    assert (labels[1] == same) is True
    assert (labels[1] != same) is False
    assert (labels[0] == same) is False
    assert (labels[1] == other_names) is False
    assert hash(labels[1]) == hash(same)
    assert len({labels[0], labels[1], same, other_names}) == 3


def test_entry_equals_nothing_else():
    """Upstream raises TypeError for another type."""
    entry = ab([[5, 1]])[0]
    for other in [None, (5, 1), [5, 1], "a", 3, np.array([5, 1]).tolist(), ab([[5, 1]])]:
        assert (entry == other) is False
        assert (entry != other) is True


def test_entry_keeps_its_labels_alive():
    entry = Labels("a", np.arange(10**5).reshape(-1, 1))[-1]
    gc.collect()
    assert int(entry["a"]) == 10**5 - 1


def test_entry_constructor():
    entry = LabelsEntry(["a", "b"], np.array([1, 2], dtype=np.int32))
    assert entry == ab([[1, 2]])[0]
    assert LabelsEntry([], np.array([], dtype=np.int32)).print() == "()"
    for values in [[1, 2], None, np.array([1, 2]), np.array([[1, 2]], dtype=np.int32), np.int32(1)]:
        with pytest.raises(ValueError, match="1-D array of int32"):
            LabelsEntry(["a", "b"], values)
    with pytest.raises(ValueError, match="one column for each name"):
        LabelsEntry(["a", "b"], np.array([1], dtype=np.int32))
    with pytest.raises(TypeError):
        LabelsEntry([1], np.array([1], dtype=np.int32))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_entry_pickle(protocol):
    entry = ab([[5, 1], [1, 2]])[1]
    assert pickle.loads(pickle.dumps(entry, protocol)) == entry
    assert copy.copy(entry) == copy.deepcopy(entry) == entry


# ---------------------------------------------------------------------------------- position

POSITIONS = {
    "tuple": tuple,
    "list": list,
    "range": lambda row: range(row[0], row[0] + 2),
    "numpy": np.array,
    "int8": lambda row: np.array(row, dtype=np.int8),
    "uint64": lambda row: np.array(row, dtype=np.uint64),
    "big-endian": lambda row: np.array(row, dtype=">i4"),
    "strided": lambda row: np.array([row, row]).T[:, 0],
    "generator": lambda row: (value for value in row),
    "numpy integers": lambda row: [np.uint8(value) for value in row],
    "bools": lambda row: [bool(value) for value in row],
    "dict keys": dict.fromkeys,
    "entry": lambda row: ab([row])[0],
    "entry of other names": lambda row: Labels(["x", "y"], np.array([row]))[0],
}


@pytest.mark.parametrize("kind", POSITIONS)
@pytest.mark.parametrize("ordered", [False, True])
def test_position_of_every_kind_of_argument(kind, ordered):
    labels = ab([[0, 1], [0, 2], [7, 0]] if ordered else [[7, 0], [0, 1], [0, 2]])
    found = labels.position(POSITIONS[kind]([0, 1]))
    assert found == (0 if ordered else 1)
    assert type(found) is int
    assert POSITIONS[kind]([0, 1]) in labels
    if kind not in ("range", "bools"):
        assert labels.position(POSITIONS[kind]([1, 7])) is None
        assert POSITIONS[kind]([1, 7]) not in labels


def test_position_of_tensors():
    torch = pytest.importorskip("torch")
    labels = ab([[7, 0], [0, 1], [0, 2]])
    assert labels.position(torch.tensor([0, 2])) == 2
    assert labels.position([torch.tensor(0), torch.tensor(2)]) == 2
    assert Labels(["a", "b"], torch.tensor([[7, 0], [0, 1]])).position((0, 1)) == 1
    with pytest.raises(TypeError):
        labels.position(torch.tensor([0.0, 2.0]))


@pytest.mark.parametrize("row", [(2**31, 0), (2**40, 1), (0, -(2**70)), (2**32, 2**32 + 1)])
@pytest.mark.parametrize("ordered", [False, True])
def test_values_out_of_int32_are_in_no_labels(row, ordered):
    labels = ab([[0, 1], [7, 0]] if ordered else [[7, 0], [0, 1]])
    assert labels.position(row) is None
    assert row not in labels
    if max(map(abs, row)) < 2**63:
        assert labels.position(np.array(row)) is None


@pytest.mark.parametrize("row", [(), (1,), (1, 2, 3), np.array([1]), [0] * 70])
def test_position_needs_one_value_for_each_name(row):
    with pytest.raises(MetatensorError, match=r"one value for each of the names \['a', 'b'\]"):
        ab([[0, 1]]).position(row)
    with pytest.raises(MetatensorError, match="one value for each"):
        ab([[0, 1]]).position(Labels.single()[0])


@pytest.mark.parametrize(
    "row",
    [
        (0.0, 1),
        ("a", "b"),
        (None, 1),
        "ab",
        b"ab",
        3,
        None,
        np.array([0.0, 1.0]),
        np.array([False, True]),
        np.array(3),
        np.array([[0, 1]]),
        [[0], [1]],
    ],
)
@pytest.mark.parametrize("ordered", [False, True])
def test_position_refuses_what_is_no_row_of_integers(row, ordered):
    labels = ab([[0, 1], [7, 0]] if ordered else [[7, 0], [0, 1]])
    with pytest.raises(TypeError):
        labels.position(row)


@given(any_labels(), st.data())
def test_position_against_a_list(labels, data):
    rows = rows_of(labels)
    value = st.integers(-4, 6) | st.sampled_from([SMALLEST, LARGEST])
    row = data.draw(st.tuples(*[value] * len(labels.names)))
    assert labels.position(row) == (rows.index(row) if row in rows else None)
    assert [labels.position(entry) for entry in labels] == list(range(len(rows)))


# ---------------------------------------------------------------------------------- sets

FIRST = [[0, 1], [1, 2], [0, 3]]
SECOND = [[0, 3], [1, 3], [1, 2]]


@pytest.mark.parametrize(
    ("operation", "rows", "maps"),
    [
        ("union", [[0, 1], [1, 2], [0, 3], [1, 3]], ([0, 1, 2], [2, 3, 1])),
        ("intersection", [[1, 2], [0, 3]], ([-1, 0, 1], [1, -1, 0])),
        ("difference", [[0, 1]], ([0, -1, -1],)),
    ],
)
def test_worked_examples_of_sets(xp, operation, rows, maps):
    first, second = Labels(["a", "b"], xp.asarray(FIRST)), Labels(["a", "b"], xp.asarray(SECOND))
    result, *mappings = getattr(first, f"{operation}_and_mapping")(second)
    assert result == ab(rows)
    assert getattr(first, operation)(second) == result
    assert type(result.values) is type(first.values)
    for mapping, expected in zip(mappings, maps, strict=True):
        assert mapping.tolist() == expected
        assert str(mapping.dtype).endswith("int64")
        assert type(mapping) is type(first.values)


def test_intersection_is_in_the_order_of_the_shorter():
    big, small = ab([[0, 3], [9, 9], [0, 1], [1, 2]]), ab([[1, 2], [0, 3]])
    assert big.intersection(small) == small.intersection(big) == ab([[1, 2], [0, 3]])
    tied, reverse = ab([[1, 2], [0, 3]]), ab([[0, 3], [1, 2]])
    assert tied.intersection(reverse) == tied


@given(st.data())
def test_sets_against_lists(data):
    row = st.tuples(*[st.integers(0, 2) | st.sampled_from([SMALLEST, LARGEST])] * 2)
    first, second = (data.draw(st.lists(row, unique=True, max_size=9)) for _ in range(2))
    if data.draw(st.booleans()):
        first, second = sorted(first), sorted(second)
    union = first + [row for row in second if row not in first]
    shorter, longer = (second, first) if len(second) < len(first) else (first, second)
    intersection = [row for row in shorter if row in longer]
    difference = [row for row in first if row not in second]

    def positions(rows, result):
        return [result.index(row) if row in result else -1 for row in rows]

    result, *maps = ab(first).union_and_mapping(ab(second))
    assert rows_of(result) == union
    assert [m.tolist() for m in maps] == [positions(first, union), positions(second, union)]
    result, *maps = ab(first).intersection_and_mapping(ab(second))
    assert rows_of(result) == intersection
    assert [m.tolist() for m in maps] == [
        positions(first, intersection),
        positions(second, intersection),
    ]
    result, mapping = ab(first).difference_and_mapping(ab(second))
    assert rows_of(result) == difference
    assert mapping.tolist() == positions(first, difference)
    assert [result.position(row) for row in difference] == list(range(len(difference)))


@pytest.mark.parametrize("operation", ["union", "intersection", "difference"])
def test_sets_need_the_same_names_in_the_same_order(operation):
    for other in [Labels(["b", "a"], np.array(FIRST)), Labels.single(), Labels.empty([])]:
        for form in (operation, f"{operation}_and_mapping"):
            with pytest.raises(MetatensorError, match=r"\['a', 'b'\]"):
                getattr(ab(FIRST), form)(other)


@pytest.mark.parametrize("other", [None, 3, [[0, 1]], np.array(FIRST), ab(FIRST)[0]])
@pytest.mark.parametrize("operation", ["union", "intersection", "difference", "select"])
def test_sets_refuse_other_types(operation, other):
    with pytest.raises(TypeError, match="must be a metatensor Labels"):
        getattr(ab(FIRST), operation)(other)


@pytest.mark.parametrize("operation", ["union", "intersection", "difference"])
def test_sets_with_empty_labels(operation):
    empty, some = Labels.empty(["a", "b"]), ab(FIRST)
    assert getattr(empty, operation)(empty) == empty
    assert getattr(some, operation)(empty) == (empty if operation == "intersection" else some)
    assert getattr(empty, operation)(some) == (some if operation == "union" else empty)


@pytest.mark.parametrize("operation", ["union", "intersection", "difference"])
def test_results_are_in_the_library_of_self(operation):
    torch = pytest.importorskip("torch")
    first = Labels(["a", "b"], torch.tensor(FIRST))
    assert isinstance(getattr(first, operation)(ab(SECOND)).values, torch.Tensor)
    assert isinstance(getattr(ab(SECOND), operation)(first).values, np.ndarray)


def test_union_with_itself_and_mappings():
    labels = ab(FIRST)
    union, first, second = labels.union_and_mapping(ab(FIRST))
    assert union == labels
    assert first.tolist() == second.tolist() == [0, 1, 2]


# ---------------------------------------------------------------------------------- select


def test_worked_examples_of_select(xp):
    labels = Labels(["a", "b"], xp.asarray(FIRST))
    whole = Labels(["a", "b"], xp.asarray([[0, 3], [7, 7], [0, 1]]))
    assert labels.select(whole).tolist() == [2, 0]
    assert labels.select(whole.permute([1, 0])).tolist() == [0, 2]
    assert labels.select(Labels("a", xp.asarray([[0]]))).tolist() == [0, 2]
    assert labels.select(Labels("b", xp.asarray([[3], [2]]))).tolist() == [1, 2]
    found = labels.select(whole)
    assert type(found) is type(labels.values)
    assert str(found.dtype) == ("torch.int64" if xp.name == "torch" else "uint64")


def test_select_by_nothing():
    labels = ab(FIRST)
    for selection in [Labels.empty([]), Labels([], np.zeros((1, 0), dtype=int))]:
        assert labels.select(selection).tolist() == [0, 1, 2]
        assert labels.select(selection).dtype == np.uint64
    for names in (["a"], ["a", "b"], ["b", "a"]):
        assert labels.select(Labels.empty(names)).tolist() == []
        assert labels.select(Labels.empty(names)).dtype == np.uint64
        assert Labels.empty(["a", "b"]).select(Labels.empty(names)).tolist() == []


def test_select_refuses_unknown_names():
    with pytest.raises(MetatensorError, match=r"among \['a', 'b'\], got 'z'"):
        ab(FIRST).select(Labels(["a", "z"], np.array([[0, 0]])))


@given(any_labels(["a", "b", "c"]), st.data())
def test_select_against_lists(labels, data):
    order = data.draw(st.permutations("abc"))
    names = order[: data.draw(st.integers(1, 3))]
    selection = data.draw(any_labels(names))
    columns = [labels.names.index(name) for name in names]
    rows = [tuple(row[column] for column in columns) for row in rows_of(labels)]
    if names == ["a", "b", "c"]:
        expected = [rows.index(row) for row in rows_of(selection) if row in rows]
    else:
        expected = [i for i, row in enumerate(rows) if row in rows_of(selection)]
    assert labels.select(selection).tolist() == expected


# ---------------------------------------------------------------------------------- dimensions


@pytest.mark.parametrize(
    ("index", "names"),
    [
        (0, "xab"),
        (1, "axb"),
        (2, "abx"),
        (-1, "axb"),
        (-2, "xab"),
        (np.int64(1), "axb"),
    ],
)
def test_insert(xp, index, names):
    labels = Labels(["a", "b"], xp.asarray(FIRST))
    changed = labels.insert(index, "x", np.array([7, 8, 9]))
    assert changed.names == list(names)
    assert type(changed.values) is type(labels.values)
    assert changed["x"].tolist() == [7, 8, 9]
    assert changed["a"].tolist() == [0, 1, 0]
    assert changed["b"].tolist() == [1, 2, 3]
    assert labels.names == ["a", "b"]
    assert changed.position([{"a": 1, "b": 2, "x": 8}[name] for name in names]) == 1


@pytest.mark.parametrize("n_rows", [0, 1, 2, 3, 5])
def test_append_is_last_whatever_the_number_of_rows(n_rows):
    """Upstream inserts at the number of rows."""
    labels = ab([[i, i + 1] for i in range(n_rows)])
    changed = labels.append("c", np.arange(n_rows))
    assert changed.names == ["a", "b", "c"]
    assert rows_of(changed) == [(i, i + 1, i) for i in range(n_rows)]


@pytest.mark.parametrize("dtype", [*INTEGERS, "f4", "f8"])
def test_inserted_values_become_int32(dtype):
    changed = ab([[0, 1], [1, 1]]).append("c", np.array([1, 0], dtype=dtype))
    assert changed.values.dtype == np.int32
    assert rows_of(changed) == [(0, 1, 1), (1, 1, 0)]


def test_inserted_floats_are_truncated():
    changed = ab([[0, 1], [1, 1]]).insert(0, "c", np.array([1.9, -1.9]))
    assert changed["c"].tolist() == [1, -1]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((3, "x", np.arange(3)), IndexError, "at most the number of dimensions, 2, got 3"),
        ((-3, "x", np.arange(3)), IndexError, "at most the number of dimensions"),
        ((1.0, "x", np.arange(3)), TypeError, "`index` must be an int"),
        ((0, "x", [0, 1, 2]), ValueError, "1-D array, got list"),
        ((0, "x", None), ValueError, "1-D array, got NoneType"),
        ((0, "x", np.zeros((3, 1), dtype=int)), ValueError, "1-D array"),
        ((0, "x", np.arange(2)), ValueError, "for each of the 3 entries, got 2"),
        ((0, "a", np.arange(3)), MetatensorError, "unique, got 'a'"),
        ((0, "a b", np.arange(3)), MetatensorError, "not a valid label name"),
        ((0, 3, np.arange(3)), TypeError, "must be a str"),
        ((0, "x", np.array([0, 1, 2**31])), ValueError, f"got {2**31}"),
        ((0, "x", np.array([0, 1, np.nan])), ValueError, "got nan"),
        ((0, "x", np.array([0, 1, np.inf])), ValueError, "got inf"),
        ((0, "x", np.array(["0", "1", "2"])), TypeError, "must be numbers"),
        ((0, "x", np.array([0, 1, 2j])), TypeError, "must be numbers"),
        ((0, "x", np.array([0, 1, None])), TypeError, "must be numbers"),
    ],
)
def test_insert_refuses(arguments, error, match):
    with pytest.raises(error, match=match):
        ab(FIRST).insert(*arguments)


@pytest.mark.parametrize("dtype", ["int64", "int32", "float64"])
def test_insert_takes_tensors(dtype):
    torch = pytest.importorskip("torch")
    column = torch.arange(3, dtype=getattr(torch, dtype))
    for labels in (ab(FIRST), ab(FIRST).to(arrays="torch")):
        wider = labels.insert(0, "x", column)
        assert wider == labels.insert(0, "x", np.arange(3))
        assert type(wider.values) is type(labels.values)


@pytest.mark.parametrize("order", [(1, 0), [-1, 0], np.array([1, 0]), [np.int64(1), -2], (1, -2)])
def test_permute(xp, order):
    labels = Labels(["a", "b"], xp.asarray(FIRST))
    changed = labels.permute(order)
    assert changed.names == ["b", "a"]
    assert rows_of(changed) == [(1, 0), (2, 1), (3, 0)]
    assert type(changed.values) is type(labels.values)
    assert changed.position((2, 1)) == 1


def test_permute_takes_only_positions(xp):
    labels = Labels(["a", "b"], xp.asarray(FIRST))
    assert labels.permute(index for index in (0, 1)) == labels
    for order, error in [
        ([0], ValueError),
        ([0, 1, 1], ValueError),
        ([], ValueError),
        ([0, 2], IndexError),
        ([-3, 0], IndexError),
        ([0, 0], MetatensorError),
        ([0, -2], MetatensorError),
        ([0.0, 1.0], TypeError),
        ("ab", TypeError),
        (None, TypeError),
        (3, TypeError),
    ]:
        with pytest.raises(error):
            labels.permute(order)


def test_remove(xp):
    labels = Labels(["a", "b"], xp.asarray(FIRST))
    changed = labels.remove("a")
    assert changed.names == ["b"]
    assert rows_of(changed) == [(1,), (2,), (3,)]
    assert type(changed.values) is type(labels.values)
    with pytest.raises(MetatensorError, match="must be unique"):
        labels.remove("b")
    with pytest.raises(ValueError, match="'z' is not a dimension"):
        labels.remove("z")


def test_removing_the_last_dimension_leaves_none():
    changed = Labels.range("a", 3).remove("a")
    assert changed.names == []
    assert changed.values.shape == (3, 0)


def test_rename(xp):
    labels = Labels(["a", "b"], xp.asarray(FIRST))
    changed = labels.rename("a", "z")
    assert changed.names == ["z", "b"]
    assert changed._table is labels._table
    assert changed.values.tolist() == labels.values.tolist()
    assert labels.rename("a", "a") == labels
    assert labels.names == ["a", "b"]
    for arguments, error in [
        (("z", "y"), ValueError),
        (("a", "b"), MetatensorError),
        (("a", "a b"), MetatensorError),
        (("a", ""), MetatensorError),
        (("a", 3), TypeError),
        ((3, "z"), ValueError),
    ]:
        with pytest.raises(error):
            labels.rename(*arguments)


def test_63_dimensions():
    rng = np.random.default_rng(0)
    names = [f"n{i}" for i in range(63)]
    table = rng.integers(-3, 4, (200, 63))
    labels = Labels(names, table)
    assert [labels.position(row) for row in table] == list(range(200))
    shuffled = Labels(names, rng.permutation(table))
    union, _, second = labels.union_and_mapping(shuffled)
    assert union == labels
    assert rows_of(labels) == [rows_of(shuffled)[list(second).index(i)] for i in range(200)]
    order = rng.permutation(63)
    assert labels.permute(order).permute(np.argsort(order)) == labels


# ---------------------------------------------------------------------------------- equality, hash


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        (ab(FIRST), True),
        (Labels(["a", "b"], np.array(FIRST, dtype=np.int8)), True),
        (ab(FIRST[::-1]), False),
        (ab(FIRST[:2]), False),
        (ab([*FIRST[:2], [0, 4]]), False),
        (Labels(["a", "c"], np.array(FIRST)), False),
        (Labels(["b", "a"], np.array(FIRST)), False),
        (Labels.empty(["a", "b"]), False),
        (Labels(["a"], np.array([[0], [1], [2], [3], [4], [5]])), False),
    ],
)
def test_equality(other, equal):
    labels = ab(FIRST)
    assert (labels == other) is equal
    assert (other == labels) is equal
    assert (labels != other) is not equal
    assert (hash(labels) == hash(other)) is equal


@pytest.mark.parametrize("other", [None, 3, "a", FIRST, ab(FIRST)[0], object(), Ellipsis])
def test_labels_equal_nothing_else(other):
    """Upstream raises TypeError for another type."""
    assert (ab(FIRST) == other) is False
    assert (ab(FIRST) != other) is True
    assert other not in [ab(FIRST)]


def test_equality_and_hash_across_libraries(xp):
    labels = Labels(["a", "b"], xp.asarray(FIRST))
    assert labels == ab(FIRST)
    assert ab(FIRST) == labels
    assert hash(labels) == hash(ab(FIRST))


def test_labels_are_keys_of_a_dict():
    found = {ab(FIRST): 1, Labels.single(): 2}
    assert found[ab(FIRST)] == 1
    assert found[Labels.single()] == 2
    assert Labels.empty("a") not in found
    assert len({ab(FIRST), copy.copy(ab(FIRST)), ab(SECOND)}) == 2


# ---------------------------------------------------------------------------------- to


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        ((), {}),
        (("cpu",), {}),
        ((None,), {}),
        ((), {"device": "cpu"}),
        ((), {"arrays": "numpy"}),
        ((), {"arrays": None, "device": None, "dtype": None}),
        ((), {"non_blocking": True}),
        ((), {"unknown": 3}),
    ],
)
def test_to_returns_self_when_nothing_changes(arguments, keywords):
    labels = ab(FIRST)
    assert labels.to(*arguments, **keywords) is labels


def test_to_torch_and_back():
    torch = pytest.importorskip("torch")
    labels = ab(FIRST)
    moved = labels.to(arrays="torch")
    assert isinstance(moved.values, torch.Tensor)
    assert moved.values.dtype == torch.int32
    assert moved == labels
    assert moved.device == torch.device("cpu")
    assert moved.to(torch.device("cpu")) is moved
    assert moved.to("cpu", arrays="torch") is moved
    back = moved.to(arrays="numpy")
    assert type(back.values) is np.ndarray
    assert back == labels
    assert moved.union(labels).values.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("arguments", "keywords", "error"),
    [
        (("cuda",), {}, ValueError),
        (("float32",), {}, ValueError),
        ((np.int32,), {}, ValueError),
        ((np.dtype("i4"),), {}, ValueError),
        ((float,), {}, ValueError),
        ((), {"dtype": np.int32}, ValueError),
        ((), {"arrays": "unknown"}, ValueError),
        (("cpu", "cpu"), {}, ValueError),
        (("cpu",), {"device": "cpu"}, ValueError),
        ((3,), {}, TypeError),
        (([],), {}, TypeError),
    ],
)
def test_to_refuses(arguments, keywords, error):
    with pytest.raises(error):
        ab(FIRST).to(*arguments, **keywords)


# ---------------------------------------------------------------------------------- pickle, copy


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "labels",
    [
        ab(FIRST),
        Labels.single(),
        Labels.empty(["a", "b"]),
        Labels.empty([]),
        Labels([], np.zeros((3, 0), dtype=int)),
        Labels("a", np.array([[LARGEST], [SMALLEST]])),
        Labels.range("a", 5000),
    ],
    ids=lambda labels: f"{labels.values.shape}",
)
def test_pickle(labels, protocol):
    back = pickle.loads(pickle.dumps(labels, protocol))
    assert back == labels
    assert hash(back) == hash(labels)
    assert not back.values.flags.writeable
    assert all(back.position(entry) == i for i, entry in enumerate(labels) if i < 10 and len(entry))


def test_pickle_out_of_band():
    labels = Labels.range("a", 5000)
    buffers = []
    data = pickle.dumps(labels, 5, buffer_callback=buffers.append)
    assert len(data) < 1000
    assert len(buffers) == 1
    assert pickle.loads(data, buffers=buffers) == labels


def test_pickle_of_torch_comes_back_as_torch():
    torch = pytest.importorskip("torch")
    labels = Labels(["a", "b"], torch.tensor(FIRST))
    back = pickle.loads(pickle.dumps(labels))
    assert isinstance(back.values, torch.Tensor)
    assert back == labels


# ---------------------------------------------------------------------------------- memory, threads


def test_labels_are_freed_without_collecting_cycles():
    gc.disable()
    try:
        labels = ab(FIRST)
        entry = labels[0]
        labels.position((0, 1))
        labels.union(labels)
        hash(labels)
        list(labels)
        alive = weakref.ref(labels)
        del labels
        assert alive() is not None  # the entry needs them
        del entry
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(sys, "getrefcount"), reason="CPython only")
def test_operations_leave_no_references():
    labels = ab(FIRST)
    before = sys.getrefcount(labels)
    for _ in range(3):
        labels.position((0, 1))
        labels.position(labels[0])
        labels.select(Labels("a", np.array([[0]])))
        labels.union(ab(SECOND))
        copy.copy(labels)
        [entry["a"] for entry in labels]
        assert labels == labels.rename("a", "a")
        with pytest.raises(IndexError):
            labels[9]
    assert sys.getrefcount(labels) == before


def test_the_table_is_not_leaked():
    table = _read_only(np.arange(10, dtype=np.int32).reshape(-1, 1).copy())
    before = sys.getrefcount(table)
    for _ in range(5):
        labels = Labels("a", table)
        labels.position((3,))
        with pytest.raises(MetatensorError):
            Labels("a b", table)
        with pytest.raises(ValueError, match="one column"):
            Labels(["a", "b"], table)
    del labels
    assert sys.getrefcount(table) == before


@pytest.mark.parametrize("ordered", [False, True])
def test_threads_share_the_labels_while_the_index_is_built(ordered):
    rng = np.random.default_rng(1)
    table = np.arange(20_000)[:, None] if ordered else rng.permutation(20_000)[:, None]
    other = Labels("a", rng.permutation(40_000)[:10_000, None])
    expected = {int(value): i for i, (value,) in enumerate(table)}
    failures = []

    for _ in range(5):
        labels = Labels("a", table)
        start = threading.Barrier(8)

        def read(seed, labels=labels, start=start):
            values = np.random.default_rng(seed).integers(0, 40_000, 200).tolist()
            start.wait()
            for value in values:
                if labels.position((value,)) != expected.get(value):
                    failures.append(value)
            if len(labels.intersection(other)) != len(other.intersection(labels)):
                failures.append("intersection")

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_a_million_rows():
    n_rows = 1_000_000
    rng = np.random.default_rng(2)
    rows = rng.permutation(n_rows)
    labels = Labels(["a", "b"], np.stack([rows // 1000 - 500, rows % 1000], axis=1))
    assert labels.position((rows[-1] // 1000 - 500, rows[-1] % 1000)) == n_rows - 1
    assert labels.position((500, 0)) is None
    evens = Labels(["a", "b"], labels.values[::2])
    assert np.array_equal(labels.select(evens), np.arange(0, n_rows, 2))
    assert len(labels.difference(evens)) == n_rows // 2
    with pytest.raises(MetatensorError, match="must be unique"):
        Labels(["a", "b"], np.concatenate([labels.values, labels.values[:1]]))
