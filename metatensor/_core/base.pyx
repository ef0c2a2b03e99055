"""What `Labels` and `LabelsEntry` are made of: a table of int32 rows with named columns.

The Python classes on top add the checks and their texts: `_check_names`, `_convert`,
`_as_tensor`, `_get`, `_row` and the `_refuse_...` methods are theirs.
"""
cimport cython
cimport numpy as cnp
from cpython.number cimport PyNumber_AsSsize_t
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int32_t
from libc.string cimport memcmp

import numpy as np

from metatensor._core.rows cimport RowIndex
from metatensor._core.rows import first_duplicate

cnp.import_array()


cdef cnp.ndarray NO_TABLE = np.empty((0, 0), dtype=np.int32)
NO_TABLE.flags.writeable = False

cdef tuple NO_ARGUMENTS = ()

cdef dict known_names = {}
cdef Py_ssize_t MOST_NAMES = 4096


cdef tuple checked_names(type kind, names):
    """Names as a tuple; each tuple is checked once, and remembered."""
    found = None
    if type(names) is list:
        names = tuple(names)
    if type(names) is tuple:
        try:
            found = known_names.get(names)
        except TypeError:
            pass  # an element that can not be hashed: the check says what is wrong
    if found is None:
        found = kind._check_names(names)
        if len(known_names) >= MOST_NAMES:
            known_names.clear()
        known_names[found] = found
    return found


# The base of tables: numpy then never makes them writeable or resizes them, and they are known
# again when the values of Labels are used for others.
cdef object TABLE_BASE = object()


cdef cnp.ndarray own(cnp.ndarray array):
    """The table of which an int32 array shows all, or a copy that nobody else can write to."""
    cdef object base = cnp.get_array_base(array)  # None without one
    if cnp.PyArray_Check(base) and cnp.get_array_base(base) is TABLE_BASE:
        if (
            cnp.PyArray_DATA(base) == cnp.PyArray_DATA(array)
            and cnp.PyArray_NBYTES(base) == cnp.PyArray_NBYTES(array)
            and cnp.PyArray_DIM(base, 0) == cnp.PyArray_DIM(array, 0)
            and cnp.PyArray_IS_C_CONTIGUOUS(array)
        ):
            return base
    return cnp.PyArray_NewCopy(array, cnp.NPY_CORDER)


def counting(Py_ssize_t rows):
    """A table with one column that counts from 0."""
    cdef cnp.npy_intp[2] shape = [rows, 1]
    cdef cnp.ndarray table = cnp.PyArray_EMPTY(2, shape, cnp.NPY_INT32, 0)
    cdef int32_t* entries = <int32_t*> cnp.PyArray_DATA(table)
    cdef Py_ssize_t row
    for row in range(rows):
        entries[row] = <int32_t> row
    return table


cdef object made(type base, type kind):
    """What `base.__new__(kind)` returns, without the cost of a call from Python."""
    return (<PyTypeObject*> base).tp_new(kind, <PyObject*> NO_ARGUMENTS, NULL)


cdef class LabelsBase:
    """Named columns and unique int32 rows."""

    cdef readonly tuple _names
    cdef readonly cnp.ndarray _table
    # the values as users see them, a view or a tensor that is made when first asked for: whoever
    # sets their shape or dtype in place does not reach the table
    cdef readonly object _view
    # where the tensor is, None if the values are those of numpy
    cdef readonly object _device
    cdef RowIndex _rows
    cdef object _hash
    cdef object __weakref__

    def __cinit__(self):
        self._names = ()
        self._table = NO_TABLE

    def __init__(self, names, values, assume_unique=False):
        cdef cnp.ndarray array
        cdef tuple checked
        if self._table is not NO_TABLE:
            raise TypeError("Labels can not be changed, and `__init__` not be called again")
        checked = checked_names(type(self), names)
        if (
            type(values) is cnp.ndarray
            and cnp.PyArray_TYPE(values) == cnp.NPY_INT32
            and cnp.PyArray_ISNOTSWAPPED(values)
            and cnp.PyArray_NDIM(values) == 2
            and cnp.PyArray_DIM(values, 1) == len(checked)
        ):
            array = own(values)
            device = None
        else:
            array, device = self._convert(checked, values)
        if not assume_unique and checked:
            duplicate = first_duplicate(array)
            if duplicate >= 0:
                self._refuse_duplicate(array[duplicate])
        self._names = checked
        self._adopt(array, device)

    cdef _adopt(self, cnp.ndarray table, object device):
        cnp.PyArray_CLEARFLAGS(table, cnp.NPY_ARRAY_WRITEABLE)
        if cnp.PyArray_BASE(table) is NULL:
            cnp.set_array_base(table, TABLE_BASE)
        self._table = table
        self._device = device

    @classmethod
    def _of(cls, tuple names, cnp.ndarray table, device=None, view=None):
        """Adopt a C-contiguous int32 table of unique rows; nothing is checked.

        `device` is None, or the torch.device of the tensor that shows the table. `view` is the
        `_view` of other Labels with the same table and device.
        """
        cdef LabelsBase labels = made(LabelsBase, cls)
        labels._names = names
        labels._adopt(table, device)
        labels._view = view
        return labels

    @property
    def values(self):
        """The rows (n_entries, n_dimensions), int32: read-only in numpy, a copy in torch."""
        if self._view is None:
            self._view = self._table.view() if self._device is None else self._as_tensor()
        return self._view

    @classmethod
    def _checked(cls, names):
        """Return names as a tuple that passed `_check_names`."""
        return checked_names(cls, names)

    @property
    def names(self):
        """Names of the dimensions (list of str), a new list each time."""
        return list(self._names)

    @property
    def _index(self):
        """The RowIndex of the table, made when first asked for."""
        return index_of(self)

    def __len__(self):
        return cnp.PyArray_DIM(self._table, 0)

    def __iter__(self):
        cdef EntryIterator entries = EntryIterator.__new__(EntryIterator)
        entries.labels = self
        return entries

    def __getitem__(self, index):
        if type(index) is int:
            return entry_at(self, index)
        return self._get(index)

    def __eq__(self, other):
        if self is other:
            return True
        if not isinstance(other, LabelsBase):
            return NotImplemented
        return same(self, <LabelsBase> other)

    def __ne__(self, other):
        if self is other:
            return False
        if not isinstance(other, LabelsBase):
            return NotImplemented
        return not same(self, <LabelsBase> other)

    def __hash__(self):
        if self._hash is None:
            shape = (cnp.PyArray_DIM(self._table, 0), cnp.PyArray_DIM(self._table, 1))
            self._hash = hash((self._names, shape, self._table.tobytes()))
        return self._hash

    def __contains__(self, entry):
        return self.position(entry) is not None

    def position(self, entry):
        """Return the position of a row, or None.

        Parameters
        ----------
        entry : LabelsEntry or sequence of int, (n_dimensions,)
            the values to look for; the names of an entry do not count.

        Returns
        -------
        int or None

        Raises
        ------
        MetatensorError
            if `entry` has not one value per dimension.
        TypeError
            if `entry` is no sequence of integers.

        """
        cdef Py_ssize_t found
        if not isinstance(entry, (tuple, list, EntryBase)):
            entry = self._row(entry)
        if len(entry) != len(self._names):
            self._refuse_row(entry)
        if isinstance(entry, EntryBase):
            found = index_of(self).find_entries(row_start(<EntryBase> entry))
        else:
            found = index_of(self).find(entry)
        return None if found < 0 else found


cdef RowIndex index_of(LabelsBase labels):
    if labels._rows is None:
        labels._rows = RowIndex(labels._table)
    return labels._rows


cdef bint same(LabelsBase first, LabelsBase second):
    cdef cnp.ndarray a = first._table, b = second._table
    if first._names != second._names:
        return False
    if a is b:
        return True
    if cnp.PyArray_DIM(a, 0) != cnp.PyArray_DIM(b, 0):
        return False
    return memcmp(cnp.PyArray_DATA(a), cnp.PyArray_DATA(b), cnp.PyArray_NBYTES(a)) == 0


@cython.no_gc
cdef class EntryBase:
    """One row of Labels, which keeps them alive."""

    cdef readonly LabelsBase _labels
    cdef readonly Py_ssize_t _row

    def __cinit__(self):
        self._labels = NO_LABELS

    @property
    def names(self):
        """Names of the dimensions (list of str)."""
        return list(self._labels._names)

    @property
    def values(self):
        """The row (n_dimensions,), int32, in the array library of the Labels."""
        return self._labels.values[self._row]

    def __len__(self):
        return len(self._labels._names)

    def __iter__(self):
        # tensors would be equal to integers, but not the same keys of a dict
        row = self._labels._table[self._row]
        return iter(row if self._labels._device is None else row.tolist())

    def __getitem__(self, index):
        cdef LabelsBase labels = self._labels
        cdef Py_ssize_t column = column_of(self, index)
        if labels._device is None:
            return cnp.PyArray_ToScalar(<void*> (row_start(self) + column), labels._table)
        return row_start(self)[column]

    def __eq__(self, other):
        if not isinstance(other, EntryBase):
            return NotImplemented
        return same_entry(self, <EntryBase> other)

    def __ne__(self, other):
        if not isinstance(other, EntryBase):
            return NotImplemented
        return not same_entry(self, <EntryBase> other)

    def __hash__(self):
        return hash((self._labels._names, self._labels._table[self._row].tobytes()))


cdef LabelsBase NO_LABELS = LabelsBase.__new__(LabelsBase)


cdef const int32_t* row_start(EntryBase entry) noexcept:
    cdef cnp.ndarray table = entry._labels._table
    return <const int32_t*> cnp.PyArray_DATA(table) + entry._row * cnp.PyArray_DIM(table, 1)


cdef bint same_entry(EntryBase first, EntryBase second):
    cdef Py_ssize_t columns = len(first._labels._names)
    if first._labels._names != second._labels._names:
        return False
    return memcmp(row_start(first), row_start(second), columns * sizeof(int32_t)) == 0


cdef Py_ssize_t column_of(EntryBase entry, index) except -1:
    """Position of the dimension that an index, or a name, of an entry means."""
    cdef tuple names = entry._labels._names
    cdef Py_ssize_t column, columns = len(names)
    if isinstance(index, str):
        for column in range(columns):
            if names[column] == index:
                return column
        return entry._labels._position_of_name(index)
    if not isinstance(index, int) or isinstance(index, bool):
        entry._refuse_index(index)
    column = PyNumber_AsSsize_t(index, IndexError)
    if not -columns <= column < columns:
        raise IndexError(
            f"index {index} is out of bounds for an entry with {columns} dimension(s)"
        )
    return column + columns if column < 0 else column


cdef type entry_type = EntryBase


def use_entry_type(type kind):
    """Say which subclass of EntryBase iterating over Labels and indexing them gives."""
    global entry_type
    entry_type = kind


cdef EntryBase entry_of(LabelsBase labels, Py_ssize_t row):
    cdef EntryBase entry = made(EntryBase, entry_type)
    entry._labels = labels
    entry._row = row
    return entry


def entry_at(LabelsBase labels not None, index):
    """Return the entry at a position, negative ones count from the end."""
    cdef Py_ssize_t row = PyNumber_AsSsize_t(index, IndexError)
    cdef Py_ssize_t rows = cnp.PyArray_DIM(labels._table, 0)
    if not -rows <= row < rows:
        raise IndexError(f"index {index} is out of bounds for axis 0 with size {rows}")
    return entry_of(labels, row + rows if row < 0 else row)


cdef class EntryIterator:
    """The entries of Labels, one after the other."""

    cdef LabelsBase labels
    cdef Py_ssize_t row

    def __cinit__(self):
        self.labels = NO_LABELS

    def __iter__(self):
        return self

    def __length_hint__(self):
        return len(self.labels) - self.row

    def __next__(self):
        if self.row >= cnp.PyArray_DIM(self.labels._table, 0):
            raise StopIteration
        self.row += 1
        return entry_of(self.labels, self.row - 1)
