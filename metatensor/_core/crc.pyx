"""Check sums of zip members."""
import zlib

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint8_t, uint32_t

cdef extern from "Python.h":
    int PyBUF_READ

cdef extern from "crc32.h" nogil:
    void crc32_fill_table()
    bint crc32_is_fast()
    uint32_t folded_crc32(const uint8_t* bytes, size_t size, uint32_t state)

crc32_fill_table()
cdef bint is_fast = crc32_is_fast()


cdef uint32_t crc32_of(const uint8_t* start, size_t size, uint32_t value) except? 0:
    if not is_fast:
        return zlib.crc32(PyMemoryView_FromMemory(<char*> start, size, PyBUF_READ), value)
    if size < 65536:
        return ~folded_crc32(start, size, ~value)
    with nogil:
        value = ~folded_crc32(start, size, ~value)
    return value


def crc32(data, uint32_t value=0):
    """The CRC-32 of bytes that follow bytes with the CRC-32 `value`, as `zlib.crc32`."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
    try:
        return crc32_of(<const uint8_t*> buffer.buf, buffer.len, value)
    finally:
        PyBuffer_Release(&buffer)
