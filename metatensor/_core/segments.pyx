"""Sums over groups of rows."""
import numpy as np

cimport numpy as cnp
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cnp.import_array()

# Complex numbers are pairs of reals. Integers are added as unsigned ones, which have the same bits
# and a defined overflow.
ctypedef fused number:
    float
    double
    uint8_t
    uint16_t
    uint32_t
    uint64_t


cdef Py_ssize_t add_rows(
    const number* values, const Py_ssize_t* groups, number* sums,
    Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t size,
) noexcept nogil:
    """Add each row to the sum of its group, in order; return the first bad position, or -1."""
    cdef Py_ssize_t i, j, group
    cdef number* target
    for i in range(rows):
        group = groups[i]
        if not 0 <= group < size:
            return i
        target = sums + group * columns
        for j in range(columns):
            target[j] += values[j]
        values += columns
    return -1


def segment_sum(cnp.ndarray values not None, cnp.ndarray groups not None, Py_ssize_t size):
    """Sum the rows of each group.

    Rows are added in their order, so that the result is that of a sequential sum, bit by bit.
    Integers wrap around as they do in numpy.

    Parameters
    ----------
    values : array of float32, float64, complex64, complex128 or integers, (n_rows, n_columns)
        C-contiguous, may be read-only
    groups : array of intp, (n_rows,)
        number of the group of each row
    size : int
        how many groups there are

    Returns
    -------
    array of the same dtype, (size, n_columns)

    Raises
    ------
    IndexError
        if a group is not in [0, size)

    """
    cdef Py_ssize_t rows, columns, bad = -1
    cdef int itemsize = cnp.PyArray_ITEMSIZE(values)
    cdef bint is_float = cnp.PyArray_ISFLOAT(values) or cnp.PyArray_ISCOMPLEX(values)
    if not (cnp.PyArray_NDIM(values) == 2 and cnp.PyArray_ISCARRAY_RO(values)):
        raise ValueError(
            f"`values` must be a C-contiguous 2-D array, got {values.ndim}-D {values.dtype}"
        )
    rows, columns = cnp.PyArray_DIM(values, 0), cnp.PyArray_DIM(values, 1)
    if not (cnp.PyArray_TYPE(groups) == cnp.NPY_INTP and cnp.PyArray_NDIM(groups) == 1
            and cnp.PyArray_ISCARRAY_RO(groups) and cnp.PyArray_DIM(groups, 0) == rows):
        raise ValueError(
            f"`groups` must be {rows} intp, one for each row, got {groups.ndim}-D {groups.dtype}"
        )
    if size < 0:
        raise ValueError(f"`size` must not be negative, got {size}")
    cdef cnp.ndarray sums = np.zeros((size, columns), dtype=values.dtype)
    cdef const void* data = cnp.PyArray_DATA(values)
    cdef const Py_ssize_t* targets = <const Py_ssize_t*> cnp.PyArray_DATA(groups)
    cdef void* total = cnp.PyArray_DATA(sums)
    if cnp.PyArray_ISCOMPLEX(values):
        itemsize //= 2
        columns *= 2
    if is_float and itemsize == 4:
        with nogil:
            bad = add_rows(<const float*> data, targets, <float*> total, rows, columns, size)
    elif is_float and itemsize == 8:
        with nogil:
            bad = add_rows(<const double*> data, targets, <double*> total, rows, columns, size)
    elif not cnp.PyArray_ISINTEGER(values):
        raise TypeError(
            "`values` must be float32, float64, complex64, complex128 or integers, "
            f"got {values.dtype}"
        )
    elif itemsize == 1:
        with nogil:
            bad = add_rows(<const uint8_t*> data, targets, <uint8_t*> total, rows, columns, size)
    elif itemsize == 2:
        with nogil:
            bad = add_rows(<const uint16_t*> data, targets, <uint16_t*> total, rows, columns, size)
    elif itemsize == 4:
        with nogil:
            bad = add_rows(<const uint32_t*> data, targets, <uint32_t*> total, rows, columns, size)
    else:
        with nogil:
            bad = add_rows(<const uint64_t*> data, targets, <uint64_t*> total, rows, columns, size)
    if bad >= 0:
        raise IndexError(f"`groups` must be in [0, {size}), got {groups[bad]} at position {bad}")
    return sums
