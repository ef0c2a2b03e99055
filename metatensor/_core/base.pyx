"""What `Labels` and `LabelsEntry` are made of: a table of int32 rows with named columns.

The Python classes on top add the checks and their texts: `_check_names`, `_convert`,
`_refuse_duplicate` and `_refuse_row` are theirs.
"""
cimport numpy as cnp
from libc.stdint cimport int32_t
from libc.string cimport memcmp

import numpy as np

from metatensor._core.rows import RowIndex, first_duplicate

cnp.import_array()


cdef cnp.ndarray own(cnp.ndarray array):
    """An int32 table in C order that nobody else can write to."""
    if (
        cnp.PyArray_BASE(array) is NULL
        and not cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_WRITEABLE)
        and cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_C_CONTIGUOUS)
    ):
        return array
    return cnp.PyArray_NewCopy(array, cnp.NPY_CORDER)


cdef class LabelsBase:
    """Named columns and unique int32 rows."""

    cdef readonly tuple _names
    cdef readonly cnp.ndarray _table
    cdef readonly object values
    cdef object _rows
    cdef object _hash
    cdef object __weakref__

    def __init__(self, names, values, assume_unique=False):
        cdef cnp.ndarray array
        self._names = self._check_names(names)
        if (
            type(values) is cnp.ndarray
            and cnp.PyArray_TYPE(values) == cnp.NPY_INT32
            and cnp.PyArray_ISNOTSWAPPED(values)
            and cnp.PyArray_NDIM(values) == 2
            and cnp.PyArray_DIM(values, 1) == len(self._names)
        ):
            self._adopt(own(values), None)
        else:
            array, given = self._convert(values)
            self._adopt(array, given)
        if not assume_unique:
            duplicate = first_duplicate(self._table)
            if duplicate >= 0:
                self._refuse_duplicate(duplicate)

    cdef _adopt(self, cnp.ndarray table, object values):
        cnp.PyArray_CLEARFLAGS(table, cnp.NPY_ARRAY_WRITEABLE)
        self._table = table
        self.values = table if values is None else values

    @classmethod
    def _of(cls, tuple names, cnp.ndarray table, values=None):
        """Adopt a C-contiguous int32 table of unique rows; nothing is checked."""
        cdef LabelsBase labels = cls.__new__(cls)
        labels._names = names
        labels._adopt(table, values)
        return labels

    @property
    def _index(self):
        """The RowIndex of the table, made when first asked for."""
        if self._rows is None:
            self._rows = RowIndex(self._table)
        return self._rows

    def __len__(self):
        return cnp.PyArray_DIM(self._table, 0)

    def __iter__(self):
        cdef Py_ssize_t row
        for row in range(cnp.PyArray_DIM(self._table, 0)):
            yield entry_of(self, row)

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
        if isinstance(entry, EntryBase):
            entry = (<EntryBase> entry)._row_values()
        elif not isinstance(entry, (tuple, list)):
            entry = self._row(entry)
        if len(entry) != len(self._names):
            self._refuse_row(entry)
        found = self._index.find(entry)
        return None if found < 0 else found


cdef bint same(LabelsBase first, LabelsBase second):
    cdef cnp.ndarray a = first._table, b = second._table
    if first._names != second._names:
        return False
    if a is b:
        return True
    if cnp.PyArray_DIM(a, 0) != cnp.PyArray_DIM(b, 0):
        return False
    return memcmp(cnp.PyArray_DATA(a), cnp.PyArray_DATA(b), cnp.PyArray_NBYTES(a)) == 0


cdef class EntryBase:
    """One row of Labels, which keeps them alive."""

    cdef readonly LabelsBase _labels
    cdef readonly Py_ssize_t _row

    @property
    def names(self):
        """Names of the dimensions (list of str)."""
        return list(self._labels._names)

    @property
    def values(self):
        """The row (n_dimensions,), int32, in the array library of the Labels."""
        return self._labels.values[self._row]

    cdef object _row_values(self):
        return self._labels._table[self._row]

    def __len__(self):
        return len(self._labels._names)

    def __eq__(self, other):
        if not isinstance(other, EntryBase):
            return NotImplemented
        return same_entry(self, <EntryBase> other)

    def __ne__(self, other):
        if not isinstance(other, EntryBase):
            return NotImplemented
        return not same_entry(self, <EntryBase> other)

    def __hash__(self):
        return hash((self._labels._names, self._row_values().tobytes()))


cdef bint same_entry(EntryBase first, EntryBase second):
    cdef Py_ssize_t columns = len(first._labels._names)
    if first._labels._names != second._labels._names:
        return False
    return memcmp(row_data(first), row_data(second), columns * sizeof(int32_t)) == 0


cdef const char* row_data(EntryBase entry) noexcept:
    cdef cnp.ndarray table = entry._labels._table
    return <const char*> cnp.PyArray_DATA(table) + entry._row * cnp.PyArray_DIM(table, 1) * sizeof(int32_t)


cdef type entry_type = EntryBase


def use_entry_type(type kind):
    """Say which subclass of EntryBase iterating over Labels and indexing them gives."""
    global entry_type
    entry_type = kind


cdef EntryBase entry_of(LabelsBase labels, Py_ssize_t row):
    cdef EntryBase entry = EntryBase.__new__(entry_type)
    entry._labels = labels
    entry._row = row
    return entry


def entry_at(LabelsBase labels, Py_ssize_t row):
    """Return the entry at a position, which must be in range."""
    return entry_of(labels, row)
