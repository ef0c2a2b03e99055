cimport numpy as cnp

from metatensor._core.typedefs cimport Table, int32_t, uint32_t, uint64_t


cdef Table view(cnp.ndarray table) except *
cdef cnp.ndarray new_positions(Py_ssize_t size)
cdef int compare(const int32_t* a, const int32_t* b, Py_ssize_t columns) noexcept nogil
cdef bint same_bytes(Table a, Table b) noexcept nogil


cdef class RowIndex:
    cdef readonly cnp.ndarray table
    cdef Table rows
    cdef int sorted_state
    cdef cnp.ndarray slots

    cdef bint check_sorted(self)
    cdef int prepare(self) except -1
    cdef Py_ssize_t locate(self, const int32_t* row) noexcept nogil
