from libc.stdint cimport int64_t, uint8_t, uint32_t


cdef class Header:
    cdef readonly object dtype
    cdef readonly tuple names
    cdef readonly tuple shape
    cdef readonly bint fortran_order
    cdef readonly bint swapped
    cdef readonly uint32_t crc
    cdef readonly int64_t size
    cdef readonly int64_t nbytes


cdef int64_t header_size(const uint8_t* start, int64_t available) except -1
cdef Header parse(bytes text)
