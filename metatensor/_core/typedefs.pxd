"""C types of the compiled core."""
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define prefetch(address) __builtin_prefetch(address)
    #else
    #define prefetch(address) ((void) (address))
    #endif
    """
    void prefetch(const void* address) noexcept nogil


cdef struct Table:
    # the rows of an int32 table, one after the other
    const int32_t* start
    Py_ssize_t rows
    Py_ssize_t columns
