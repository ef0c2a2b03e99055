"""Positions of the rows of an int32 table."""
import numpy as np

cimport numpy as cnp
from libc.string cimport memcmp

from metatensor._core.typedefs cimport Table, int32_t, uint32_t, uint64_t

cnp.import_array()


cdef Table view(cnp.ndarray table) except *:
    cdef Table rows
    if not (cnp.PyArray_NDIM(table) == 2 and cnp.PyArray_ISCARRAY_RO(table)
            and cnp.PyArray_ISSIGNED(table) and cnp.PyArray_ITEMSIZE(table) == 4):
        raise ValueError(
            f"a table must be a C-contiguous 2-D array of int32, got {table.ndim}-D {table.dtype}"
        )
    rows.start = <const int32_t*> cnp.PyArray_DATA(table)
    rows.rows = cnp.PyArray_DIM(table, 0)
    rows.columns = cnp.PyArray_DIM(table, 1)
    return rows


cdef cnp.ndarray new_positions(Py_ssize_t size):
    cdef cnp.npy_intp length = size
    return cnp.PyArray_EMPTY(1, &length, cnp.NPY_INTP, 0)


cdef int compare(const int32_t* a, const int32_t* b, Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(columns):
        if a[j] != b[j]:
            return -1 if a[j] < b[j] else 1
    return 0


cdef bint same_bytes(Table a, Table b) noexcept nogil:
    if a.rows != b.rows or a.columns != b.columns:
        return False
    return a.start == b.start or memcmp(a.start, b.start, 4 * a.rows * a.columns) == 0


cdef bint increasing(Table table) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(1, table.rows):
        if compare(table.start + (i - 1) * table.columns, table.start + i * table.columns, table.columns) >= 0:
            return False
    return True


cdef uint64_t mix(uint64_t code) noexcept nogil:
    code ^= code >> 32
    code *= <uint64_t> 0xD6E8FEB86659FD93
    code ^= code >> 32
    code *= <uint64_t> 0xD6E8FEB86659FD93
    return code ^ (code >> 32)


cdef uint64_t hashed(const int32_t* row, Py_ssize_t columns) noexcept nogil:
    cdef uint64_t code = 0x9E3779B97F4A7C15
    cdef Py_ssize_t j
    for j in range(columns):
        code = mix(code + <uint32_t> row[j])
    return code


cdef Py_ssize_t insert(Table table, uint32_t* slots, uint64_t mask, bint stop) noexcept nogil:
    """Fill the slots; return the first row that equals an earlier one, or -1."""
    cdef Py_ssize_t i, columns = table.columns
    cdef uint64_t slot
    for i in range(table.rows):
        slot = hashed(table.start + i * columns, columns) & mask
        while slots[slot]:
            if compare(table.start + i * columns, table.start + (slots[slot] - 1) * columns, columns) == 0:
                if stop:
                    return i
                break
            slot = (slot + 1) & mask
        if not slots[slot]:
            slots[slot] = i + 1
    return -1


cdef cnp.ndarray new_slots(Py_ssize_t rows):
    if rows >= 2**31:
        raise OverflowError(f"a table must have less than 2147483648 rows to be searched, got {rows}")
    return np.zeros(1 << (2 * rows).bit_length(), dtype=np.uint32)


def strictly_sorted(cnp.ndarray table not None):
    """Tell whether each row is larger than the one before it, hence unique."""
    return increasing(view(table))


def first_duplicate(cnp.ndarray table not None):
    """Smallest position of a row that equals an earlier row, -1 if all are unique."""
    cdef Table rows = view(table)
    if rows.rows < 2 or increasing(rows):
        return -1
    cdef cnp.ndarray slots = new_slots(rows.rows)
    return insert(rows, <uint32_t*> cnp.PyArray_DATA(slots), cnp.PyArray_DIM(slots, 0) - 1, True)


def same_rows(cnp.ndarray a not None, cnp.ndarray b not None):
    """Tell whether two tables have the same rows in the same order."""
    return same_bytes(view(a), view(b))


cdef class RowIndex:
    """Positions of the unique rows of a table.

    Sorted tables are searched by bisection; for others a hash is built at the first search.
    """

    def __init__(self, cnp.ndarray table not None, is_sorted=None):
        self.rows = view(table)
        self.table = table
        self.sorted_state = -1 if is_sorted is None else bool(is_sorted)

    cdef bint check_sorted(self):
        if self.sorted_state < 0:
            self.sorted_state = increasing(self.rows)
        return self.sorted_state

    cdef int prepare(self) except -1:
        if self.slots is None and not self.check_sorted():
            slots = new_slots(self.rows.rows)
            insert(self.rows, <uint32_t*> cnp.PyArray_DATA(slots), cnp.PyArray_DIM(slots, 0) - 1, False)
            self.slots = slots
        return 0

    cdef Py_ssize_t locate(self, const int32_t* row) noexcept nogil:
        cdef Py_ssize_t columns = self.rows.columns, low = 0, high = self.rows.rows, middle
        cdef uint32_t* slots
        cdef uint64_t slot, mask
        if self.sorted_state:
            while low < high:
                middle = (low + high) // 2
                if compare(self.rows.start + middle * columns, row, columns) < 0:
                    low = middle + 1
                else:
                    high = middle
            if low < self.rows.rows and compare(self.rows.start + low * columns, row, columns) == 0:
                return low
            return -1
        slots = <uint32_t*> cnp.PyArray_DATA(self.slots)
        mask = cnp.PyArray_DIM(self.slots, 0) - 1
        slot = hashed(row, columns) & mask
        while slots[slot]:
            if compare(row, self.rows.start + (slots[slot] - 1) * columns, columns) == 0:
                return slots[slot] - 1
            slot = (slot + 1) & mask
        return -1

    @property
    def is_sorted(self):
        """Whether the rows of the table are strictly increasing."""
        return bool(self.check_sorted())

    @property
    def nbytes(self):
        """Memory of the hash."""
        return 0 if self.slots is None else self.slots.nbytes

    def find(self, row):
        """Position of a row, a sequence of integers; -1 if the table has no such row."""
        row = np.asarray(row)
        if row.ndim != 1 or (row.dtype.kind not in "iu" and len(row) > 0):
            raise TypeError(f"a row must be a sequence of integers, got {row!r}")
        if len(row) != self.rows.columns:
            raise ValueError(f"a row of this table must have {self.rows.columns} entries, got {len(row)}")
        narrow = row.astype(np.int32)
        if not np.array_equal(narrow, row):
            return -1
        return int(self.find_many(narrow[None])[0])

    def find_many(self, cnp.ndarray table not None):
        """Position of each row of another table; -1 where this table has no such row."""
        cdef Table rows = view(table)
        cdef Py_ssize_t i
        if rows.columns != self.rows.columns:
            raise ValueError(
                f"rows to find must have {self.rows.columns} columns, got {rows.columns}"
            )
        self.prepare()
        positions = new_positions(rows.rows)
        cdef Py_ssize_t* found = <Py_ssize_t*> cnp.PyArray_DATA(positions)
        with nogil:
            for i in range(rows.rows):
                found[i] = self.locate(rows.start + i * rows.columns)
        return positions
