"""What other compiled modules use of `rows`."""
cimport numpy as cnp

from metatensor._core.addresses cimport Box, Hash
from metatensor._core.typedefs cimport Table, int32_t, uint32_t, uint64_t


cdef class Slots:
    cdef cnp.ndarray array, memory
    cdef Table table
    cdef bint boxed
    cdef Box box
    cdef Hash hash
    cdef uint32_t* slots
    cdef uint64_t capacity
    cdef uint32_t tags

    cdef Py_ssize_t fill(self, Py_ssize_t* owners) except -2
    cdef Py_ssize_t try_to_fill(self, Py_ssize_t* owners) except? -2
    cdef Py_ssize_t fill_places(self, Py_ssize_t* owners) noexcept nogil
    cdef Py_ssize_t fill_probes(self, Py_ssize_t* owners) noexcept nogil
    cdef void find(self, Table rows, Py_ssize_t* found) noexcept nogil
    cdef void find_places(self, Table rows, Py_ssize_t* found) noexcept nogil
    cdef void find_probes(self, Table rows, Py_ssize_t* found) noexcept nogil


cdef class RowIndex:
    cdef readonly cnp.ndarray table
    cdef Table rows
    cdef Slots slots
    cdef int order

    cdef bint ascending(self) noexcept
    cdef Slots filled(self)
    cpdef Py_ssize_t find(self, row) except -2
    cdef Py_ssize_t find_entries(self, const int32_t* entries) except -2
    cdef int locate(self, Table others, bint both_sorted, Py_ssize_t* found) except -1
