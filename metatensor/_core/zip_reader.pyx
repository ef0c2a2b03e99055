"""Zip archives of .npy members, checked byte by byte when read."""
import zlib

import numpy as np

cimport numpy as cnp
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from metatensor._core.crc cimport crc32_of
from metatensor._core.npy cimport Header, header_size, parse
from metatensor._core.zip_format cimport (
    ALIGNMENT_FIELD, CENTRAL_SIGNATURE, DEFLATED, DESCRIPTOR_FLAG, END64_SIGNATURE, FULL16, FULL32,
    LOCAL_SIGNATURE, LOCATOR_SIGNATURE, PIECE, UTF8_FLAG, ZIP64_FIELD, get,
)

cdef extern from "Python.h":
    int PyBUF_READ
    int PyBUF_WRITE

cnp.import_array()

cdef enum:
    KNOWN_FLAGS = 0x080E  # of a descriptor, of UTF-8, and the level of compression
    WINDOW = 1 << 17
    HEAD = 4096
    MAX_INFLATION = 1032  # deflate makes at most this of one byte

cdef str WRONG_CRC = "its data does not have the check sum that the file says, it is damaged"


cdef struct Member:
    uint64_t offset  # of the local header
    uint64_t end  # where the next member or the directory starts
    uint64_t stored  # bytes of the data in the file
    uint64_t size  # bytes of the data
    Py_ssize_t name  # where the name is in the directory
    uint32_t crc
    uint16_t name_size
    uint16_t flags
    uint16_t method
    bint checked  # whether the local header was compared with the directory


cdef class ArchiveReader:
    """Reads an archive of `size` bytes, in `data`, or brought by `readinto(offset, buffer)`.

    Everything that says where or how large something is gets compared with the second place that
    says it, and with the size of the file, before it is used; members must follow each other
    without gaps. Errors are ValueErrors; `current` is the member that was read last.
    """

    cdef readonly dict names
    cdef public object current
    cdef object _readinto, _window
    cdef const uint8_t* _start
    cdef uint64_t _window_offset, _window_size
    cdef bytes _directory
    cdef bytearray _storage
    cdef Member* _members
    cdef dict _headers, _tables
    cdef uint64_t _members_end, _data_offset
    cdef bytes _content
    cdef bint _is_vouched

    def __init__(self, uint64_t size, data=None, readinto=None):
        self.names = {}
        self._headers = {}
        self._tables = {}
        self._readinto = readinto
        if data is not None:
            self._look_at(np.frombuffer(data, dtype=np.uint8, count=size), 0)
        self._read_directory(size)

    def __contains__(self, name):
        return name in self.names

    # ---- bytes of the file

    cdef int _look_at(self, cnp.ndarray window, uint64_t offset) except -1:
        self._window = window
        self._start = <const uint8_t*> cnp.PyArray_DATA(window)
        self._window_offset = offset
        self._window_size = cnp.PyArray_NBYTES(window)
        return 0

    cdef bint _has(self, uint64_t offset, uint64_t size) noexcept:
        """Whether these bytes of the file are in memory."""
        cdef uint64_t end = self._window_offset + self._window_size
        return offset >= self._window_offset and offset + size <= end

    cdef const uint8_t* _at(self, uint64_t offset, uint64_t size, uint64_t ahead=0) except NULL:
        """Where `size` bytes of the file are in memory, until the next call.

        The caller has compared offset and size with the size of the file. Where the bytes have to
        be brought into memory, so are as many as `ahead` behind them.
        """
        if not self._has(offset, size):
            window = np.empty(size + ahead, dtype=np.uint8)
            self._readinto(offset, window)
            self._look_at(window, offset)
        return self._start + (offset - self._window_offset)

    cdef int _copy(self, uint64_t offset, uint8_t* target, uint64_t size, uint32_t* crc) except -1:
        """Copy bytes of the file, and go on with their check sum."""
        cdef uint64_t part
        cdef bint here = self._has(offset, size)
        while size:
            part = min(size, <uint64_t> PIECE)
            if here:
                memcpy(target, self._start + (offset - self._window_offset), part)
            else:
                self._readinto(offset, PyMemoryView_FromMemory(<char*> target, part, PyBUF_WRITE))
            crc[0] = crc32_of(target, part, crc[0])
            offset += part
            target += part
            size -= part
        return 0

    # ---- the directory

    cdef int _read_directory(self, uint64_t size) except -1:
        """Find the central directory at the end of the file, and read all its entries."""
        cdef uint64_t tail = min(size, <uint64_t> (22 + FULL16)), offset, length, count, end
        cdef const uint8_t* at
        cdef Py_ssize_t found
        cdef bytes ending
        if size < 22:
            raise ValueError("the file is too short for a zip archive")
        at = self._at(size - tail, tail)
        ending = PyBytes_FromStringAndSize(<const char*> at, tail)
        found = ending.rfind(b"PK\x05\x06", 0, tail - 18)
        while found >= 0 and found + 22 + get(at + found + 20, 2) != tail:
            found = ending.rfind(b"PK\x05\x06", 0, found + 3)
        if found < 0:
            raise ValueError(
                "there is no end of a central directory, the file is truncated or no zip archive"
            )
        at += found
        end = size - tail + found
        if get(at + 4, 4) != 0 or get(at + 8, 2) != get(at + 10, 2):
            raise ValueError("the archive has several parts")
        count, length, offset = get(at + 10, 2), get(at + 12, 4), get(at + 16, 4)
        if end >= 20 and get(self._at(end - 20, 4), 4) == LOCATOR_SIGNATURE:
            end = self._read_directory64(end - 20, &count, &length, &offset)
        if length > end or offset != end - length or count > length // 46:
            raise ValueError("the central directory is not where the end of the archive says")
        self._directory = PyBytes_FromStringAndSize(NULL, length)
        if length:
            memcpy(<void*> PyBytes_AS_STRING(self._directory), self._at(offset, length), length)
        self._storage = bytearray(count * sizeof(Member))
        self._members = <Member*> PyByteArray_AS_STRING(self._storage)
        self._read_entries(count)
        return self._place_members(count, offset)

    cdef uint64_t _read_directory64(
        self, uint64_t locator, uint64_t* count, uint64_t* length, uint64_t* offset
    ) except 0:
        """Read the zip64 form of the end; the short form must say the same, or that it can not."""
        cdef uint64_t start = get(self._at(locator, 20) + 8, 8)
        cdef const uint8_t* at = self._at(locator, 20)
        cdef uint64_t long_count, long_length, long_offset
        if get(at + 4, 4) != 0 or get(at + 16, 4) != 1 or locator < 56 or start > locator - 56:
            raise ValueError("the zip64 locator is wrong")
        at = self._at(start, 56)
        if (
            get(at, 4) != END64_SIGNATURE
            or get(at + 4, 8) != locator - start - 12
            or get(at + 16, 8) != 0
        ):
            raise ValueError("the zip64 end of the central directory is wrong")
        if get(at + 24, 8) != get(at + 32, 8):
            raise ValueError("the archive has several parts")
        long_count, long_length, long_offset = get(at + 32, 8), get(at + 40, 8), get(at + 48, 8)
        if (
            count[0] not in (long_count, FULL16)
            or length[0] not in (long_length, FULL32)
            or offset[0] not in (long_offset, FULL32)
        ):
            raise ValueError("the two ends of the central directory differ")
        count[0], length[0], offset[0] = long_count, long_length, long_offset
        return start

    cdef int _read_entries(self, Py_ssize_t count) except -1:
        cdef const uint8_t* start = <const uint8_t*> PyBytes_AS_STRING(self._directory)
        cdef const uint8_t* end = start + PyBytes_GET_SIZE(self._directory)
        cdef const uint8_t* at = start
        cdef Member* member
        cdef Py_ssize_t position, extra, comment
        for position in range(count):
            if end - at < 46 or get(at, 4) != CENTRAL_SIGNATURE:
                raise ValueError("the central directory is damaged")
            member = self._members + position
            member.flags, member.method = get(at + 8, 2), get(at + 10, 2)
            member.crc, member.offset = get(at + 16, 4), get(at + 42, 4)
            member.stored, member.size = get(at + 20, 4), get(at + 24, 4)
            member.name, member.name_size = at + 46 - start, get(at + 28, 2)
            extra, comment = get(at + 30, 2), get(at + 32, 2)
            if end - at < 46 + member.name_size + extra + comment or get(at + 34, 2) != 0:
                raise ValueError("the central directory is damaged")
            name = member_name(at + 46, member.name_size, member.flags & UTF8_FLAG)
            if self.names.setdefault(name, position) != position:
                raise ValueError(f"the archive has two members {name!r}")
            at += 46 + member.name_size
            read_extra(at, extra, &member.size, &member.stored, &member.offset)
            at += extra + comment
        if at != end:
            raise ValueError("the central directory has more bytes than entries")
        return 0

    cdef int _place_members(self, Py_ssize_t count, uint64_t directory) except -1:
        """Find where each member ends: where the next one in the file starts."""
        cdef Py_ssize_t position, previous = -1
        cdef Member* member
        self._members_end = directory
        offsets = [self._members[position].offset for position in range(count)]
        for position in sorted(range(count), key=offsets.__getitem__):
            if previous >= 0:
                self._members[previous].end = self._members[position].offset
            elif self._members[position].offset != 0:
                raise ValueError("the archive does not start with a member")
            previous = position
        if previous >= 0:
            self._members[previous].end = directory
        elif directory != 0:
            raise ValueError("the archive does not start with a member")
        for position in range(count):
            member = self._members + position
            if member.end < member.offset or member.end - member.offset < 30:
                raise ValueError("members of the archive overlap")
        return 0

    # ---- members

    cdef Member* _find(self, str name) except NULL:
        """The entry of a member whose data can be read."""
        cdef Member* member
        position = self.names.get(name)
        if position is None:
            raise ValueError(f"{name!r} is missing")
        self.current = name
        member = self._members + <Py_ssize_t> position
        if member.flags & ~KNOWN_FLAGS:
            raise ValueError("it is encrypted, or uses features of zip that can not be read")
        if member.method not in (0, DEFLATED):
            raise ValueError(f"its compression {member.method} is neither stored nor deflated")
        if member.method == 0 and member.size != member.stored:
            raise ValueError("it is not compressed, yet has two sizes")
        if member.size // MAX_INFLATION > member.stored:
            raise ValueError(f"its {member.stored} bytes can not hold the declared {member.size}")
        return member

    def check_others(self, names=None):
        """Compare the local headers of members that were not read: the name might be damaged.

        All of them, or those that are named.
        """
        cdef uint32_t header_crc
        for name in self.names if names is None else names:
            position = self.names[name]
            if not self._members[<Py_ssize_t> position].checked:
                self.current = name
                self._data(self._members + <Py_ssize_t> position, &header_crc)

    cdef uint64_t _data(self, Member* member, uint32_t* header_crc) except 0:
        """Compare the local header with the directory; where the data starts.

        `header_crc` becomes the CRC-32 of the .npy header where the local header tells it, else 0.
        """
        cdef uint64_t extent = member.end - member.offset, length, size, stored, gap, none = 0
        cdef uint64_t window = min(<uint64_t> WINDOW, self._members_end - member.offset)
        cdef const uint8_t* at
        if extent > window:
            at = self._at(member.offset, HEAD)
        else:
            at = self._at(member.offset, extent, window - extent)
        length = 30 + get(at + 26, 2) + get(at + 28, 2)
        if get(at, 4) != LOCAL_SIGNATURE or length > extent or member.stored > extent - length:
            raise ValueError("its local header is damaged")
        gap = extent - length - member.stored
        if gap and not (member.flags & DESCRIPTOR_FLAG and gap in (12, 16, 20, 24)):
            raise ValueError("there are bytes around it that belong to no member")
        at = self._at(member.offset, length)
        if (
            get(at + 6, 2) != member.flags
            or get(at + 8, 2) != member.method
            or get(at + 26, 2) != member.name_size
            or memcmp(at + 30, self._name(member), member.name_size) != 0
        ):
            raise ValueError("its local header differs from the central directory")
        stored, size = get(at + 18, 4), get(at + 22, 4)
        same_crc = get(at + 14, 4) == member.crc
        at += 30 + member.name_size
        header_crc[0] = read_extra(at, length - 30 - member.name_size, &size, &stored, &none)
        if not member.flags & DESCRIPTOR_FLAG and not (
            same_crc and size == member.size and stored == member.stored
        ):
            raise ValueError("its local header differs from the central directory")
        member.checked = True
        return member.offset + length

    cdef const char* _name(self, Member* member) noexcept:
        return PyBytes_AS_STRING(self._directory) + member.name

    cdef bytes _inflated(self, Member* member, uint64_t start, bint whole):
        """The data of a deflated member, as much as is declared; or its first bytes, unchecked."""
        cdef uint64_t stored = member.stored if whole else min(member.stored, <uint64_t> WINDOW)
        cdef const uint8_t* at = self._at(start, stored)
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        compressed = PyMemoryView_FromMemory(<char*> at, stored, PyBUF_READ)
        try:
            data = inflater.decompress(compressed, member.size + 1 if whole else HEAD)
        except zlib.error as error:
            raise ValueError(f"its compressed data is damaged: {error}") from None
        if not whole:
            return data
        if <uint64_t> len(data) != member.size or not inflater.eof or inflater.unused_data:
            raise ValueError("its compressed data does not have the declared size")
        if crc32_of(<const uint8_t*> PyBytes_AS_STRING(data), member.size, 0) != member.crc:
            raise ValueError(WRONG_CRC)
        return data

    cdef Header _open(self, str name, bint whole=True):
        """Read the headers of an array, and leave its data in `_content` or at `_data_offset`."""
        cdef Member* member = self._find(name)
        cdef uint32_t header_crc
        cdef uint64_t start = self._data(member, &header_crc), available = member.size
        cdef const uint8_t* at
        cdef int64_t size
        cdef Header header
        self._content = None
        if member.method == DEFLATED:
            self._content = self._inflated(member, start, whole)
            available = PyBytes_GET_SIZE(self._content)
            at = <const uint8_t*> PyBytes_AS_STRING(self._content)
            size = header_size(at, available)
        else:
            size = header_size(self._at(start, min(available, <uint64_t> 12)), available)
        if <uint64_t> size > available:
            raise ValueError("its .npy header is longer than its data")
        if self._content is None:
            at = self._at(start, size)
        text = PyBytes_FromStringAndSize(<const char*> at, size)
        header = self._headers.get(text)
        if header is None:
            header = self._headers[text] = parse(text)
        if header_crc and header_crc != header.crc:
            raise ValueError(WRONG_CRC)
        if <uint64_t> (header.size + header.nbytes) != member.size:
            raise ValueError(
                f"its shape {header.shape} asks for {header.nbytes} bytes, "
                f"it has {<int64_t> member.size - header.size}"
            )
        self._is_vouched = header_crc != 0
        self._data_offset = start + size
        return header

    cdef int _fill(self, Header header, cnp.ndarray array) except -1:
        """Copy the data of the member that was opened last into a contiguous array."""
        cdef uint8_t* target = <uint8_t*> cnp.PyArray_DATA(array)
        cdef Member* member = self._find(self.current)
        cdef uint32_t crc = header.crc
        if self._content is not None:
            memcpy(target, PyBytes_AS_STRING(self._content) + header.size, header.nbytes)
            self._content = None
            return 0
        self._copy(self._data_offset, target, header.nbytes, &crc)
        if crc != member.crc:
            raise ValueError(WRONG_CRC)
        return 0

    def shape(self, str name):
        """The shape that the header of values tells."""
        return self._values_header(name, False).shape

    cdef Header _values_header(self, str name, bint whole=True):
        cdef Header header = self._open(name, whole)
        if header.dtype is None:
            raise ValueError("it is a table where values are required")
        return header

    def values(self, str name):
        """A new array with the values, native in byte order, in the file's order of elements."""
        cdef Header header = self._values_header(name)
        shape = header.shape[::-1] if header.fortran_order else header.shape
        array = np.empty(shape, header.dtype)
        self._fill(header, array)
        if header.swapped:
            array = array.byteswap(inplace=True).view(header.dtype.newbyteorder())
        if header.dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
            raise ValueError("it has booleans that are neither 0 nor 1")
        return array.T if header.fortran_order else array

    def view(self, str name):
        """The values as a read-only view of the data where that is possible, otherwise a copy.

        The check sum of the member is compared only where the file has none for the .npy header:
        it takes reading all the data.
        """
        cdef Header header = self._values_header(name, False)
        cdef Member* member = self._find(name)
        cdef uint32_t crc = header.crc
        cdef const uint8_t* at
        if (
            member.method == DEFLATED
            or header.swapped
            or header.dtype.kind == "b"
            or self._data_offset % header.dtype.alignment
        ):
            array = self.values(name)
            array.flags.writeable = False
            return array
        if not self._is_vouched:
            at = self._at(self._data_offset, header.nbytes)
            if crc32_of(at, header.nbytes, crc) != member.crc:
                raise ValueError(WRONG_CRC)
        array = self._window[self._data_offset : self._data_offset + header.nbytes]
        array = array.view(header.dtype).reshape(
            header.shape, order="F" if header.fortran_order else "C"
        )
        array.flags.writeable = False
        return array

    def table(self, str name, make):
        """What `make(names, table)` gives for a table, once for all that have the same bytes."""
        cdef Header header = self._open(name)
        cdef Member* member = self._find(name)
        cdef cnp.ndarray table, known
        if header.names is None:
            raise ValueError("it has values where a table with named columns is required")
        table = np.empty(header.shape, np.int32)
        self._fill(header, table)
        found = self._tables.get((member.crc, header))
        if found is not None:
            known, made = found
            if memcmp(cnp.PyArray_DATA(known), cnp.PyArray_DATA(table), header.nbytes) == 0:
                return made
        if header.swapped:
            table.byteswap(inplace=True)
        table.flags.writeable = False
        made = make(header.names, table)
        if not header.swapped:
            self._tables[(member.crc, header)] = (table, made)
        return made

    def size(self, str name):
        """How many bytes the content of a member has."""
        return self._find(name).size

    def content(self, str name):
        """The bytes of a member."""
        cdef Member* member = self._find(name)
        cdef uint32_t header_crc, crc = 0
        cdef uint64_t start = self._data(member, &header_crc)
        cdef bytes content
        if member.method == DEFLATED:
            return self._inflated(member, start, True)
        content = PyBytes_FromStringAndSize(NULL, member.size)
        self._copy(start, <uint8_t*> PyBytes_AS_STRING(content), member.size, &crc)
        if crc != member.crc:
            raise ValueError(WRONG_CRC)
        return content


cdef str member_name(const uint8_t* start, Py_ssize_t size, bint utf8):
    """The name of a member; as zipfile does, other than UTF-8 is taken for code page 437."""
    cdef bytes encoded = PyBytes_FromStringAndSize(<const char*> start, size)
    return encoded.decode() if utf8 or encoded.isascii() else encoded.decode("cp437")


cdef uint32_t read_extra(
    const uint8_t* at, Py_ssize_t length, uint64_t* size, uint64_t* stored, uint64_t* offset
) except? 1:
    """Read extra fields: 64-bit numbers for those that are full, and the CRC-32 of our own."""
    cdef const uint8_t* end = at + length
    cdef Py_ssize_t field
    cdef uint32_t header_crc = 0
    cdef bint done = False
    while end - at >= 4:
        field = get(at + 2, 2)
        if field > end - at - 4:
            raise ValueError("an extra field of its header is damaged")
        if get(at, 2) == ZIP64_FIELD and not done:
            done = True
            read_zip64(at + 4, field, size, stored, offset)
        elif get(at, 2) == ALIGNMENT_FIELD and field >= 4:
            header_crc = get(at + 4, 4)
        at += 4 + field
    if not done and FULL32 in (size[0], stored[0], offset[0]):
        raise ValueError("its header has no 64-bit sizes")
    return header_crc


cdef int read_zip64(
    const uint8_t* at, Py_ssize_t length, uint64_t* size, uint64_t* stored, uint64_t* offset
) except -1:
    cdef uint64_t* numbers[3]
    cdef int i
    numbers[:] = [size, stored, offset]
    for i in range(3):
        if numbers[i][0] == FULL32:
            if length < 8:
                raise ValueError("the 64-bit sizes of its header are damaged")
            numbers[i][0] = get(at, 8)
            at += 8
            length -= 8
    return 0
