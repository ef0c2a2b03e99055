"""Zip archives of .npy members, laid out for writing.

Members are STORED with zip64 sizes in their local headers, as upstream writes them, so that small
archives are the same bytes. In front of arrays of 4 KiB and more an extra field of the local header
makes them start at a multiple of 64 bytes; it holds the CRC-32 of the .npy header, so that this
header can be checked without reading the array.
"""
import sys

import numpy as np

cimport numpy as cnp
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from metatensor._core.crc cimport crc32_of
from metatensor._core.zip_format cimport (
    ALIGNMENT_FIELD, CENTRAL_SIGNATURE, END64_SIGNATURE, END_SIGNATURE, FULL16, FULL32,
    LOCAL_SIGNATURE, LOCATOR_SIGNATURE, PIECE, UTF8_FLAG, ZIP64_FIELD, put,
)

cnp.import_array()

cdef enum:
    DATE = 0x2821  # 2000-01-01
    ALIGNMENT = 64
    ALIGNED_FROM = 4096
    COPIED_BELOW = 1 << 16

cdef bint little_endian = sys.byteorder == "little"


cdef inline bint is_plain(cnp.ndarray array):
    return little_endian and cnp.PyArray_ISCARRAY_RO(array)


def chunks(cnp.ndarray array not None):
    """The elements in C order and little-endian: contiguous arrays, valid one at a time."""
    if is_plain(array):
        return (array,)
    return np.nditer(
        array,
        ["external_loop", "buffered", "zerosize_ok"],
        [["readonly", "contig"]],
        order="C",
        op_dtypes=[array.dtype.newbyteorder("<")],
        casting="equiv",
        buffersize=PIECE // max(1, array.itemsize),
    )


cdef uint8_t* extend(bytearray buffer, Py_ssize_t size) except NULL:
    cdef Py_ssize_t old = PyByteArray_GET_SIZE(buffer)
    PyByteArray_Resize(buffer, old + size)
    return <uint8_t*> PyByteArray_AS_STRING(buffer) + old


cdef class ArchiveWriter:
    """Lays out an archive.

    `sink` is called with its parts one after the other: bytes, or arrays whose `chunks` are bytes.
    """

    cdef object _sink
    cdef bytearray _pending, _directory
    cdef uint64_t _position
    cdef uint64_t _members

    def __init__(self, sink):
        self._sink = sink
        self._pending = bytearray()
        self._directory = bytearray()

    def add(self, str name, bytes header, cnp.ndarray array=None):
        """Add one member: a header, and the elements of an array behind it."""
        cdef bytes encoded = name.encode()
        cdef uint64_t size = PyBytes_GET_SIZE(header), nbytes = 0
        cdef uint32_t header_crc = crc32_of(<const uint8_t*> PyBytes_AS_STRING(header), size, 0)
        cdef uint32_t crc = header_crc
        cdef cnp.ndarray chunk
        cdef const uint8_t* data
        if PyBytes_GET_SIZE(encoded) > FULL16:
            raise ValueError(f"names of members have {FULL16} bytes at most, got {len(encoded)}")
        if array is not None:
            nbytes = cnp.PyArray_NBYTES(array)
            for chunk in (array,) if is_plain(array) else chunks(array):
                data = <const uint8_t*> cnp.PyArray_DATA(chunk)
                crc = crc32_of(data, cnp.PyArray_NBYTES(chunk), crc)
        self._catalogue(encoded, crc, size + nbytes)
        self._open(encoded, crc, size, nbytes, header_crc)
        memcpy(extend(self._pending, size), PyBytes_AS_STRING(header), size)
        self._position += size + nbytes
        if nbytes == 0:
            pass
        elif nbytes < COPIED_BELOW:
            for chunk in (array,) if is_plain(array) else chunks(array):
                size = cnp.PyArray_NBYTES(chunk)
                memcpy(extend(self._pending, size), cnp.PyArray_DATA(chunk), size)
        else:
            self._flush()
            self._sink(array)
        if PyByteArray_GET_SIZE(self._pending) > PIECE:
            self._flush()

    cdef int _open(
        self, bytes name, uint32_t crc, uint64_t size, uint64_t nbytes, uint32_t header_crc
    ) except -1:
        """Write a local header, so long that a large array behind it is aligned."""
        cdef Py_ssize_t length = PyBytes_GET_SIZE(name), padding = 0
        cdef uint64_t start = self._position + 30 + length + 20 + 8 + size
        cdef uint8_t* at
        if nbytes >= ALIGNED_FROM:
            padding = 8 + (ALIGNMENT - start % ALIGNMENT) % ALIGNMENT
        at = extend(self._pending, 30 + length + 20 + padding)
        put(at, LOCAL_SIGNATURE, 4)
        put_common(at + 4, crc, name.isascii())
        put(at + 18, FULL32, 4)
        put(at + 22, FULL32, 4)
        put(at + 26, length, 2)
        put(at + 28, 20 + padding, 2)
        memcpy(at + 30, PyBytes_AS_STRING(name), length)
        at += 30 + length
        put(at, ZIP64_FIELD, 2)
        put(at + 2, 16, 2)
        put(at + 4, size + nbytes, 8)
        put(at + 12, size + nbytes, 8)
        if padding:
            at += 20
            put(at, ALIGNMENT_FIELD, 2)
            put(at + 2, padding - 4, 2)
            put(at + 4, header_crc, 4)
            memset(at + 8, 0, padding - 8)
        self._position += 30 + length + 20 + padding
        return 0

    cdef int _catalogue(self, bytes name, uint32_t crc, uint64_t size) except -1:
        """Write the entry of the central directory."""
        cdef Py_ssize_t length = PyBytes_GET_SIZE(name), extra = 0
        cdef bint long_size = size >= FULL32, far = self._position >= FULL32
        cdef uint8_t* at
        if long_size or far:
            extra = 4 + 16 * long_size + 8 * far
        at = extend(self._directory, 46 + length + extra)
        put(at, CENTRAL_SIGNATURE, 4)
        put(at + 4, 0x032E, 2)
        put_common(at + 6, crc, name.isascii())
        if extra:
            put(at + 6, 45, 2)
        put(at + 20, min(size, <uint64_t> FULL32), 4)
        put(at + 24, min(size, <uint64_t> FULL32), 4)
        put(at + 28, length, 2)
        put(at + 30, extra, 2)
        put(at + 32, 0, 6)
        put(at + 38, <uint64_t> 0o100644 << 16, 4)
        put(at + 42, min(self._position, <uint64_t> FULL32), 4)
        memcpy(at + 46, PyBytes_AS_STRING(name), length)
        if extra:
            at += 46 + length
            put(at, ZIP64_FIELD, 2)
            put(at + 2, extra - 4, 2)
            at += 4
            if long_size:
                put(at, size, 8)
                put(at + 8, size, 8)
                at += 16
            if far:
                put(at, self._position, 8)
        self._members += 1
        return 0

    def finish(self):
        """Write the central directory."""
        cdef uint64_t size = PyByteArray_GET_SIZE(self._directory)
        cdef bint large = self._members >= FULL16 or size >= FULL32 or self._position >= FULL32
        cdef uint8_t* at
        self._pending += self._directory
        at = extend(self._pending, 98 if large else 22)
        if large:
            put(at, END64_SIGNATURE, 4)
            put(at + 4, 44, 8)
            put(at + 12, 46, 2)
            put(at + 14, 46, 2)
            put(at + 16, 0, 8)
            put(at + 24, self._members, 8)
            put(at + 32, self._members, 8)
            put(at + 40, size, 8)
            put(at + 48, self._position, 8)
            at += 56
            put(at, LOCATOR_SIGNATURE, 4)
            put(at + 4, 0, 4)
            put(at + 8, self._position + size, 8)
            put(at + 16, 1, 4)
            at += 20
        put(at, END_SIGNATURE, 4)
        put(at + 4, 0, 4)
        put(at + 8, min(self._members, <uint64_t> FULL16), 2)
        put(at + 10, min(self._members, <uint64_t> FULL16), 2)
        put(at + 12, min(size, <uint64_t> FULL32), 4)
        put(at + 16, min(self._position, <uint64_t> FULL32), 4)
        put(at + 20, 0, 2)
        self._flush()

    cdef int _flush(self) except -1:
        if PyByteArray_GET_SIZE(self._pending):
            self._sink(bytes(self._pending))
            PyByteArray_Resize(self._pending, 0)
        return 0


cdef void put_common(uint8_t* at, uint32_t crc, bint ascii_name) noexcept:
    """The 14 bytes that local and central headers share, from the version to the check sum."""
    put(at, 20, 2)
    put(at + 2, 0 if ascii_name else UTF8_FLAG, 2)
    put(at + 4, 0, 4)
    put(at + 8, DATE, 2)
    put(at + 10, crc, 4)
