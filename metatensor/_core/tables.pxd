"""Tables as C sees them: the view of an array, and the order of its rows."""
cimport numpy as cnp
from libc.string cimport memcmp

from metatensor._core.typedefs cimport Table, int32_t


cdef enum:
    LARGEST = 2147483646  # so that positions plus one fit in 31 bits


cdef inline bint holds_int32(cnp.ndarray array) noexcept:
    """Tell whether the entries of an array are int32, one after the other."""
    return (
        cnp.PyArray_ISCARRAY_RO(array)
        and cnp.PyArray_ISSIGNED(array)
        and cnp.PyArray_ITEMSIZE(array) == sizeof(int32_t)
    )


cdef inline Table view(cnp.ndarray array) except *:
    """The rows of an array, which must outlive the view."""
    if cnp.PyArray_NDIM(array) != 2 or not holds_int32(array):
        raise ValueError(
            "a table must be a C-contiguous 2-D array of int32, "
            f"got shape {(<object> array).shape} of {array.dtype}"
        )
    if cnp.PyArray_DIM(array, 0) > LARGEST:
        raise OverflowError(
            f"a table must have at most {LARGEST} rows, got {cnp.PyArray_DIM(array, 0)}"
        )
    cdef Table table
    table.start = <const int32_t*> cnp.PyArray_DATA(array)
    table.rows = cnp.PyArray_DIM(array, 0)
    table.columns = cnp.PyArray_DIM(array, 1)
    return table


cdef inline cnp.ndarray new_table(Py_ssize_t rows, Py_ssize_t columns):
    cdef cnp.npy_intp[2] shape = [rows, columns]
    return cnp.PyArray_EMPTY(2, shape, cnp.NPY_INT32, 0)


cdef inline cnp.ndarray new_positions(Py_ssize_t size):
    cdef cnp.npy_intp length = size
    return cnp.PyArray_EMPTY(1, &length, cnp.NPY_INTP, 0)


cdef inline Py_ssize_t* start_of(cnp.ndarray positions) noexcept nogil:
    return <Py_ssize_t*> cnp.PyArray_DATA(positions)


cdef inline const Py_ssize_t* positions_of(cnp.ndarray positions, Py_ssize_t size) except NULL:
    """Start of an array of positions, which must have `size` entries unless that is negative."""
    if not (
        cnp.PyArray_NDIM(positions) == 1
        and cnp.PyArray_TYPE(positions) == cnp.NPY_INTP
        and cnp.PyArray_ISCARRAY_RO(positions)
        and (size < 0 or cnp.PyArray_DIM(positions, 0) == size)
    ):
        raise ValueError(
            f"positions must be contiguous intp, {'any number' if size < 0 else size} of them, "
            f"got shape {(<object> positions).shape} of {positions.dtype}"
        )
    return start_of(positions)


cdef inline cnp.ndarray sequence(Py_ssize_t size):
    """The positions 0, 1, ..."""
    cdef Py_ssize_t i
    positions = new_positions(size)
    cdef Py_ssize_t* start = start_of(positions)
    for i in range(size):
        start[i] = i
    return positions


cdef inline int compare(const int32_t* a, const int32_t* b, Py_ssize_t columns) noexcept nogil:
    """Negative, zero or positive as row `a` is before, equal to or after row `b`."""
    cdef Py_ssize_t j
    for j in range(columns):
        if a[j] != b[j]:
            return -1 if a[j] < b[j] else 1
    return 0


cdef inline bint equal(const int32_t* a, const int32_t* b, Py_ssize_t columns) noexcept nogil:
    """Tell whether two rows are equal, without branches."""
    cdef Py_ssize_t j
    cdef int32_t difference = 0
    for j in range(columns):
        difference |= a[j] ^ b[j]
    return difference == 0


cdef inline bint same_bytes(Table a, Table b) noexcept nogil:
    if a.rows != b.rows or a.columns != b.columns:
        return False
    return a.start == b.start or memcmp(a.start, b.start, 4 * a.rows * a.columns) == 0


cdef inline bint ascend(const int32_t* start, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """Tell whether each of the rows is before the next one, without branches."""
    cdef Py_ssize_t i, j
    cdef const int32_t* row
    cdef bint less, all_less = True
    for i in range(rows):
        row = start + i * columns
        less = False
        for j in range(columns - 1, -1, -1):
            less = (row[j] < row[j + columns]) | ((row[j] == row[j + columns]) & less)
        all_less &= less
    return all_less


cdef inline bint increasing(Table table) noexcept nogil:
    """Tell whether each row is before the next one; stop soon after the first that is not."""
    cdef Py_ssize_t first, count
    cdef bint less = True
    for first in range(0, table.rows - 1, 256):
        count = min(256, table.rows - 1 - first)
        if table.columns == 1:
            less = ascend(table.start + first, count, 1)
        elif table.columns == 2:
            less = ascend(table.start + 2 * first, count, 2)
        elif table.columns == 3:
            less = ascend(table.start + 3 * first, count, 3)
        elif table.columns == 4:
            less = ascend(table.start + 4 * first, count, 4)
        else:
            less = ascend(table.start + table.columns * first, count, table.columns)
        if not less:
            return False
    return True
