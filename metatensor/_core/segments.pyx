"""Sums over groups of rows or columns."""
import numpy as np

cimport numpy as cnp
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

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

cdef enum:
    SIDE_BY_SIDE = 8  # rows in which columns are added: a sum has to wait for the one before it


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


cdef void add_columns(
    const number* values, const Py_ssize_t* groups, number* sums,
    Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t size,
) noexcept nogil:
    """Add each column to the sum of its group, which must be in [0, size), in order."""
    cdef Py_ssize_t j, k
    cdef number* target
    while rows >= SIDE_BY_SIDE:
        for j in range(columns):
            target = sums + groups[j]
            for k in range(SIDE_BY_SIDE):
                target[k * size] += values[k * columns + j]
        values += SIDE_BY_SIDE * columns
        sums += SIDE_BY_SIDE * size
        rows -= SIDE_BY_SIDE
    while rows > 0:
        for j in range(columns):
            sums[groups[j]] += values[j]
        values += columns
        sums += size
        rows -= 1


ctypedef fused real:
    float
    double


cdef Py_ssize_t add_squares(
    const real* values, const Py_ssize_t* groups, const real* centres, real* sums,
    Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t size,
) noexcept nogil:
    """Add the squared distance of each row from the centre of its group; as `add_rows`."""
    cdef Py_ssize_t i, j, group
    cdef real square
    cdef const real* centre
    cdef real* target
    for i in range(rows):
        group = groups[i]
        if not 0 <= group < size:
            return i
        centre = centres + group * columns
        target = sums + group * columns
        for j in range(columns):
            # a statement of its own, so that no compiler fuses it with the sum
            square = (values[j] - centre[j]) * (values[j] - centre[j])
            target[j] += square
        values += columns
    return -1


cdef struct Weights:
    # which row of the weights belongs to each row of the values, and which centre to each weight
    const Py_ssize_t* rows
    const Py_ssize_t* centre_rows  # NULL without centres


cdef void add_products(
    const real* values, const Py_ssize_t* groups, real* sums,
    Py_ssize_t rows, Py_ssize_t repeats, Py_ssize_t columns,
    const real* weights, const real* centres, Weights chosen,
) noexcept nogil:
    """Add the product of each row with its weight; groups and positions must be good."""
    cdef Py_ssize_t i, _repeat, j
    cdef real product
    cdef const real* weight
    cdef const real* centre = NULL
    cdef real* target
    for i in range(rows):
        weight = weights + chosen.rows[i] * columns
        target = sums + groups[i] * repeats * columns
        if chosen.centre_rows != NULL:
            centre = centres + chosen.centre_rows[chosen.rows[i]] * columns
        for _repeat in range(repeats):
            if centre == NULL:
                for j in range(columns):
                    product = weight[j] * values[j]
                    target[j] += product
            else:
                for j in range(columns):
                    product = (weight[j] - centre[j]) * values[j]
                    target[j] += product
            values += columns
            target += columns


# ----------------------------------------------------------------------------------------- checks

cdef const Py_ssize_t* positions_of(
    cnp.ndarray positions, Py_ssize_t length, Py_ssize_t size, str name
) except? NULL:
    """The start of as many positions in [0, size) as required, after checking them."""
    cdef Py_ssize_t i
    cdef const Py_ssize_t* start
    check_positions(positions, length, name)
    start = <const Py_ssize_t*> cnp.PyArray_DATA(positions)
    for i in range(length):
        if not 0 <= start[i] < size:
            refuse(positions, i, size, name)
    return start


cdef check_positions(cnp.ndarray positions, Py_ssize_t length, str name):
    if not (cnp.PyArray_TYPE(positions) == cnp.NPY_INTP and cnp.PyArray_NDIM(positions) == 1
            and cnp.PyArray_ISCARRAY_RO(positions) and cnp.PyArray_DIM(positions, 0) == length):
        raise ValueError(
            f"`{name}` must be {length} intp, got {positions.ndim}-D {positions.dtype}"
        )


cdef refuse(cnp.ndarray positions, Py_ssize_t bad, Py_ssize_t size, str name):
    raise IndexError(f"`{name}` must be in [0, {size}), got {positions[bad]} at position {bad}")


cdef check_array(cnp.ndarray array, int n_axes, str name):
    if not (cnp.PyArray_NDIM(array) == n_axes and cnp.PyArray_ISCARRAY_RO(array)):
        raise ValueError(
            f"`{name}` must be a C-contiguous {n_axes}-D array, got {array.ndim}-D {array.dtype}"
        )


cdef check_reals(cnp.ndarray array, cnp.ndarray like, int n_axes, Py_ssize_t columns, str name):
    """Check an array of floats that goes along with another."""
    cdef int kind = cnp.PyArray_TYPE(array)
    check_array(array, n_axes, name)
    if kind != cnp.NPY_FLOAT and kind != cnp.NPY_DOUBLE or kind != cnp.PyArray_TYPE(like):
        raise TypeError(
            f"`{name}` must be float32 or float64 as the rest, got {array.dtype} and {like.dtype}"
        )
    if cnp.PyArray_DIM(array, n_axes - 1) != columns:
        raise ValueError(
            f"`{name}` must have {columns} columns as the rest, got {array.shape[n_axes - 1]}"
        )


cdef cnp.ndarray zeros(tuple shape, cnp.ndarray like):
    """Zeros that were written: pages that are read first are made twice."""
    cdef cnp.ndarray sums = np.empty(shape, dtype=like.dtype)
    memset(cnp.PyArray_DATA(sums), 0, cnp.PyArray_NBYTES(sums))
    return sums


cdef check_size(Py_ssize_t size):
    if size < 0:
        raise ValueError(f"`size` must not be negative, got {size}")


# ------------------------------------------------------------------------------------------- sums

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
    check_array(values, 2, "values")
    check_positions(groups, cnp.PyArray_DIM(values, 0), "groups")
    check_size(size)
    cdef cnp.ndarray sums = zeros((size, cnp.PyArray_DIM(values, 1)), values)
    bad = add_to(values, groups, sums, size, 0)
    if bad >= 0:
        refuse(groups, bad, size, "groups")
    return sums


def segment_sum_columns(cnp.ndarray values not None, cnp.ndarray groups not None, Py_ssize_t size):
    """Sum the columns of each group; as `segment_sum` along the other axis.

    Parameters
    ----------
    values : array of float32, float64, complex64, complex128 or integers, (n_rows, n_columns)
        C-contiguous, may be read-only
    groups : array of intp, (n_columns,)
        number of the group of each column
    size : int
        how many groups there are

    Returns
    -------
    array of the same dtype, (n_rows, size)

    Raises
    ------
    IndexError
        if a group is not in [0, size)

    """
    check_array(values, 2, "values")
    check_size(size)
    positions_of(groups, cnp.PyArray_DIM(values, 1), size, "groups")
    cdef cnp.ndarray sums = zeros((cnp.PyArray_DIM(values, 0), size), values)
    if cnp.PyArray_ISCOMPLEX(values):  # real and imaginary parts are columns then
        groups = (2 * groups[:, None] + np.arange(2, dtype=np.intp)).ravel()
    add_to(values, groups, sums, size, 1)
    return sums


cdef Py_ssize_t add_to(
    cnp.ndarray values, cnp.ndarray groups, cnp.ndarray sums, Py_ssize_t size, int axis
) except -2:
    """Add rows or columns to sums of zero; return the first bad group of rows, or -1."""
    cdef int itemsize = cnp.PyArray_ITEMSIZE(values)
    cdef Py_ssize_t rows = cnp.PyArray_DIM(values, 0), columns = cnp.PyArray_DIM(values, 1)
    cdef bint is_float = cnp.PyArray_ISFLOAT(values) or cnp.PyArray_ISCOMPLEX(values)
    if cnp.PyArray_ISCOMPLEX(values):
        itemsize //= 2
        columns *= 2
        size *= 2 if axis == 1 else 1
    if is_float and itemsize == 4:
        return add_along[float](0, values, groups, sums, rows, columns, size, axis)
    if is_float and itemsize == 8:
        return add_along[double](0, values, groups, sums, rows, columns, size, axis)
    if not cnp.PyArray_ISINTEGER(values):
        raise TypeError(
            "`values` must be float32, float64, complex64, complex128 or integers, "
            f"got {values.dtype}"
        )
    if itemsize == 1:
        return add_along[uint8_t](0, values, groups, sums, rows, columns, size, axis)
    if itemsize == 2:
        return add_along[uint16_t](0, values, groups, sums, rows, columns, size, axis)
    if itemsize == 4:
        return add_along[uint32_t](0, values, groups, sums, rows, columns, size, axis)
    return add_along[uint64_t](0, values, groups, sums, rows, columns, size, axis)


cdef Py_ssize_t add_along(
    number kind, cnp.ndarray values, cnp.ndarray groups, cnp.ndarray sums,
    Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t size, int axis,
) noexcept:
    """Add rows or columns, read as numbers of the type of `kind`."""
    cdef Py_ssize_t bad = -1
    cdef const number* data = <const number*> cnp.PyArray_DATA(values)
    cdef number* total = <number*> cnp.PyArray_DATA(sums)
    cdef const Py_ssize_t* targets = <const Py_ssize_t*> cnp.PyArray_DATA(groups)
    with nogil:
        if axis == 0:
            bad = add_rows(data, targets, total, rows, columns, size)
        else:
            add_columns(data, targets, total, rows, columns, size)
    return bad


def segment_sum_squares(
    cnp.ndarray values not None, cnp.ndarray groups not None, cnp.ndarray centres not None
):
    """Sum the squared distances of the rows of each group from its centre.

    Parameters
    ----------
    values : array of float32 or float64, (n_rows, n_columns)
        C-contiguous, may be read-only
    groups : array of intp, (n_rows,)
        number of the group of each row
    centres : array of the same dtype, (n_groups, n_columns)
        what is subtracted from the rows of each group

    Returns
    -------
    array of the same dtype, (n_groups, n_columns)

    Raises
    ------
    IndexError
        if a group is not in [0, n_groups)

    """
    check_array(values, 2, "values")
    cdef Py_ssize_t rows = cnp.PyArray_DIM(values, 0), columns = cnp.PyArray_DIM(values, 1), bad
    check_positions(groups, rows, "groups")
    check_reals(centres, values, 2, columns, "centres")
    cdef Py_ssize_t size = cnp.PyArray_DIM(centres, 0)
    cdef cnp.ndarray sums = zeros((size, columns), values)
    cdef const void* data = cnp.PyArray_DATA(values)
    cdef const void* centre = cnp.PyArray_DATA(centres)
    cdef const Py_ssize_t* targets = <const Py_ssize_t*> cnp.PyArray_DATA(groups)
    cdef void* total = cnp.PyArray_DATA(sums)
    cdef bint single = cnp.PyArray_TYPE(values) == cnp.NPY_FLOAT
    with nogil:
        if single:
            bad = add_squares(
                <const float*> data, targets, <const float*> centre, <float*> total,
                rows, columns, size,
            )
        else:
            bad = add_squares(
                <const double*> data, targets, <const double*> centre, <double*> total,
                rows, columns, size,
            )
    if bad >= 0:
        refuse(groups, bad, size, "groups")
    return sums


def segment_sum_products(
    cnp.ndarray values not None, cnp.ndarray groups not None, Py_ssize_t size,
    cnp.ndarray weights not None, cnp.ndarray rows not None,
    cnp.ndarray centres=None, cnp.ndarray centre_rows=None,
):
    """Sum ``(weights[rows[i]] - centres[centre_rows[rows[i]]]) * values[i]`` over each group.

    Parameters
    ----------
    values : array of float32 or float64, (n_rows, n_repeats, n_columns)
        C-contiguous, may be read-only
    groups : array of intp, (n_rows,)
        number of the group of each row
    size : int
        how many groups there are
    weights : array of the same dtype, (n_weights, n_columns)
        by which all repeats are multiplied
    rows : array of intp, (n_rows,)
        which row of the weights belongs to each row of the values
    centres : array of the same dtype, (n_centres, n_columns), optional
        what is subtracted from the weights, nothing by default
    centre_rows : array of intp, (n_weights,), optional
        which centre belongs to each row of the weights; required with `centres`

    Returns
    -------
    array of the same dtype, (size, n_repeats, n_columns)

    Raises
    ------
    IndexError
        if a group is not in [0, size), or a position refers to no row

    """
    check_array(values, 3, "values")
    cdef Py_ssize_t n_rows = cnp.PyArray_DIM(values, 0), repeats = cnp.PyArray_DIM(values, 1)
    cdef Py_ssize_t columns = cnp.PyArray_DIM(values, 2)
    cdef Weights chosen = Weights(NULL, NULL)
    cdef const void* data = cnp.PyArray_DATA(values)
    cdef const void* weight = cnp.PyArray_DATA(weights)
    cdef const void* centre = NULL
    check_size(size)
    check_reals(weights, values, 2, columns, "weights")
    cdef const Py_ssize_t* targets = positions_of(groups, n_rows, size, "groups")
    chosen.rows = positions_of(rows, n_rows, cnp.PyArray_DIM(weights, 0), "rows")
    if centres is not None:
        check_reals(centres, values, 2, columns, "centres")
        if centre_rows is None:
            raise ValueError("`centre_rows` is required with `centres`, got None")
        centre = cnp.PyArray_DATA(centres)
        chosen.centre_rows = positions_of(
            centre_rows, cnp.PyArray_DIM(weights, 0), cnp.PyArray_DIM(centres, 0), "centre_rows"
        )
    cdef cnp.ndarray sums = zeros((size, repeats, columns), values)
    cdef void* total = cnp.PyArray_DATA(sums)
    cdef bint single = cnp.PyArray_TYPE(values) == cnp.NPY_FLOAT
    with nogil:
        if single:
            add_products(
                <const float*> data, targets, <float*> total, n_rows, repeats, columns,
                <const float*> weight, <const float*> centre, chosen,
            )
        else:
            add_products(
                <const double*> data, targets, <double*> total, n_rows, repeats, columns,
                <const double*> weight, <const double*> centre, chosen,
            )
    return sums
