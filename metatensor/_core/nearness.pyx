"""Whether two arrays hold nearly the same numbers, in one pass."""
cimport numpy as cnp
from libc.math cimport fabs, isfinite
from libc.stdint cimport uint64_t
from libc.string cimport memcmp

cnp.import_array()

ctypedef fused real:
    float
    double

cdef enum:
    CHUNK = 1024  # numbers that are compared without a branch

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #define EXPONENT_ONE ((uint64_t) 1 << 52)
    static inline uint64_t bits(double number) {
        uint64_t same;
        memcpy(&same, &number, sizeof(same));
        return same;
    }
    """
    const uint64_t EXPONENT_ONE
    uint64_t bits(double number) noexcept nogil


cdef inline bint all_near(
    const real* a, const real* b, Py_ssize_t size, double rtol, double atol
) noexcept nogil:
    """Compare numbers; False if there are infinities or NaN among them, even the same ones."""
    cdef Py_ssize_t i
    cdef uint64_t margin, far = 0
    for i in range(size):
        margin = bits(
            atol + rtol * fabs(<double> b[i]) - fabs(<double> a[i] - <double> b[i])
        )
        # the first bit is that of a number below zero, which adding one to the exponent of an
        # infinity or NaN sets as well; compilers have vectors of this, and not of comparisons
        far |= margin | (margin + EXPONENT_ONE)
    return far >> 63 == 0


cdef inline bint all_same(const real* a, const real* b, Py_ssize_t size) noexcept nogil:
    """Compare bytes; False if there are infinities or NaN among the numbers, or a zero differs."""
    cdef Py_ssize_t i
    cdef uint64_t far = 0
    if memcmp(a, b, size * sizeof(real)):
        return False
    for i in range(size):
        far |= bits(fabs(<double> a[i])) + EXPONENT_ONE
    return far >> 63 == 0


cdef inline bint each_near(
    const real* a, const real* b, Py_ssize_t size, double rtol, double atol, bint equal_nan
) noexcept nogil:
    """Compare any numbers, one by one."""
    cdef Py_ssize_t i
    cdef double x, y
    for i in range(size):
        x, y = a[i], b[i]
        if x == y or (equal_nan and x != x and y != y):
            continue
        if not (isfinite(y) and fabs(x - y) <= atol + rtol * fabs(y)):
            return False
    return True


cdef bint compare(
    const real* a, const real* b, Py_ssize_t size, double rtol, double atol, bint equal_nan
) noexcept nogil:
    cdef Py_ssize_t count, first = 0
    cdef bint near, exact = rtol == 0 and atol == 0
    while first < size:
        count = min(CHUNK, size - first)
        if exact:
            near = all_same(a + first, b + first, count)
        else:
            near = all_near(a + first, b + first, count, rtol, atol)
        if not (near or each_near(a + first, b + first, count, rtol, atol, equal_nan)):
            return False
        first += count
    return True


def near(
    cnp.ndarray a not None, cnp.ndarray b not None, double rtol, double atol, bint equal_nan
):
    """Tell whether all numbers are the same, or differ by at most ``atol + rtol * abs(b)``.

    Differences are those of float64. An infinity is near to itself alone, and NaN to nothing.

    Parameters
    ----------
    a, b : array of float32 or float64
        with the same shape and dtype, C-contiguous, may be read-only
    rtol, atol : float
        relative and absolute tolerance
    equal_nan : bool
        NaN is near to NaN

    Returns
    -------
    bool or None
        None for other arrays than that

    """
    cdef Py_ssize_t size = cnp.PyArray_SIZE(a)
    cdef int kind = cnp.PyArray_TYPE(a)
    cdef const void* first = cnp.PyArray_DATA(a)
    cdef const void* second = cnp.PyArray_DATA(b)
    cdef bint result
    if not (cnp.PyArray_SAMESHAPE(a, b) and cnp.PyArray_TYPE(b) == kind
            and cnp.PyArray_ISCARRAY_RO(a) and cnp.PyArray_ISCARRAY_RO(b)):
        return None
    if kind == cnp.NPY_DOUBLE:
        with nogil:
            result = compare(
                <const double*> first, <const double*> second, size, rtol, atol, equal_nan
            )
    elif kind == cnp.NPY_FLOAT:
        with nogil:
            result = compare(
                <const float*> first, <const float*> second, size, rtol, atol, equal_nan
            )
    else:
        return None
    return result
