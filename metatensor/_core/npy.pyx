"""Headers of .npy members: written as upstream does, read from the text of any writer.

The text is a Python dict with the keys 'descr', 'fortran_order' and 'shape'. The reader knows only
what arrays and tables need of Python's grammar, so nothing in a file is ever evaluated.
"""
import sys

import numpy as np

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport INT64_MAX, int64_t, uint8_t
from libc.string cimport memcmp

from metatensor._core.crc cimport crc32_of

MAGIC = b"\x93NUMPY"
cdef const char* magic = b"\x93NUMPY"

# what values can be, and what `descr` may say of them
CODES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
cdef dict DTYPES = {}
for _code in CODES:
    for _order in "<>=|" if _code[1:] == "1" else "<>=":
        DTYPES[(_order + _code).encode()] = np.dtype(_order + _code)

cdef str NATIVE_ORDER = "<" if sys.byteorder == "little" else ">"
cdef dict TABLE_ORDERS = {b"<i4": "<", b">i4": ">", b"=i4": NATIVE_ORDER}

cdef enum:
    MAX_DIMENSIONS = 64


# ---- writing

def values_header(dtype, shape):
    """The header of values (n_samples, ..., n_properties) with a little-endian dtype."""
    cdef str descr = dtype.kind + str(dtype.itemsize)
    return in_header(f"'<{descr}'", shape)


def table_header(names, Py_ssize_t rows):
    """The header of a table of int32 with these columns."""
    return in_header("[" + "".join([f"('{name}', '<i4'), " for name in names]) + "]", (rows,))


cdef bytes in_header(str descr, shape):
    cdef str sizes = "".join([f"{size}, " for size in shape])
    cdef str said = f"{{ 'descr': {descr}, 'fortran_order': False, 'shape': ({sizes}) }}"
    cdef bytes text = said.encode()
    cdef int prefix = 10 if len(text) + 11 < 65536 else 12
    cdef Py_ssize_t size = (prefix + len(text) + 64) // 64 * 64 - prefix
    cdef bytes version = b"\x01\x00" if prefix == 10 else b"\x02\x00"
    return MAGIC + version + size.to_bytes(prefix - 8, "little") + text.ljust(size - 1) + b"\n"


# ---- reading

cdef class Header:
    """What a .npy header says.

    `dtype` and `shape` of values, or `names` and the shape (rows, columns) of an int32 table;
    `swapped` when the bytes of numbers are in the other order; `size` and `crc` of the header, and
    `nbytes` of the data behind it.
    """


cdef struct Text:
    const uint8_t* at
    const uint8_t* end


cdef int64_t header_size(const uint8_t* start, int64_t available) except -1:
    """The size of the header that starts here; its first 12 bytes are enough to know it."""
    cdef int prefix, i
    cdef int64_t length = 0
    if available < 10 or memcmp(start, magic, 6) != 0:
        raise ValueError("it does not start with the magic bytes of a .npy array")
    if start[6] not in (1, 2, 3) or start[7] != 0:
        raise ValueError(f"version {start[6]}.{start[7]} of the .npy format is unknown")
    prefix = 10 if start[6] == 1 else 12
    if available < prefix:
        raise ValueError("its .npy header is truncated")
    for i in range(8, prefix):
        length |= <int64_t> start[i] << (8 * (i - 8))
    return prefix + length


cdef Header parse(bytes header_bytes):
    """Read a header that is as long as `header_size` told."""
    cdef Text text
    cdef const uint8_t* start = <const uint8_t*> PyBytes_AS_STRING(header_bytes)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(header_bytes)
    cdef Header header = Header()
    cdef bytes key
    cdef set seen = set()
    text.at = start + (10 if start[6] == 1 else 12)
    text.end = start + size
    expect(&text, b"{")
    while not ahead(&text, b"}"):
        key = string(&text)
        if key in seen:
            raise ValueError(f"the header has {key!r} more than once")
        seen.add(key)
        expect(&text, b":")
        if key == b"descr":
            read_descr(&text, header)
        elif key == b"fortran_order":
            header.fortran_order = read_bool(&text)
        elif key == b"shape":
            header.shape = read_shape(&text)
        else:
            raise ValueError(f"the header has the unknown key {key!r}")
        if not ahead(&text, b"}"):
            expect(&text, b",")
    expect(&text, b"}")
    blanks(&text)
    if text.at != text.end:
        raise ValueError("there is more text behind the dictionary of the header")
    if len(seen) != 3:
        raise ValueError("the header must have the keys 'descr', 'fortran_order' and 'shape'")
    header.size = size
    header.crc = crc32_of(start, size, 0)
    measure(header)
    return header


def header_length(head):
    """The size of the header of a file that begins with these bytes."""
    cdef const uint8_t[::1] view = head
    return header_size(&view[0] if view.shape[0] else NULL, view.shape[0])


def read_table_header(head, int64_t nbytes):
    """The names and shape of a table with that many bytes, and whether these are swapped."""
    cdef Header header = parse(bytes(head))
    if header.names is None:
        raise ValueError("it has values where a table with named columns is required")
    if header.nbytes != nbytes:
        raise ValueError(
            f"its shape {header.shape} asks for {header.nbytes} bytes, it has {nbytes}"
        )
    return header.names, header.shape, header.swapped


cdef int measure(Header header) except -1:
    """Work out the bytes of the data, and turn the shape of a table into rows and columns."""
    cdef int64_t count = 1, length
    if header.names is not None:
        if len(header.shape) != 1:
            raise ValueError(f"a table must have one dimension, got shape {header.shape}")
        header.shape = (header.shape[0], len(header.names))
    for length in header.shape:
        if length == 0:
            header.nbytes = 0
            return 0
        if count > INT64_MAX // 32 // length:
            raise ValueError(f"shape {header.shape} is too large")
        count *= length
    header.nbytes = count * (4 if header.names is not None else <int64_t> header.dtype.itemsize)
    return 0


cdef int read_descr(Text* text, Header header) except -1:
    cdef bytes code, order = None
    cdef list names = []
    if not ahead(text, b"["):
        code = string(text)
        header.dtype = DTYPES.get(code)
        if header.dtype is None:
            raise ValueError(f"values of type {code!r} can not be read")
        header.swapped = not header.dtype.isnative
        return 0
    expect(text, b"[")
    while not ahead(text, b"]"):
        expect(text, b"(")
        code = string(text)
        names.append(PyUnicode_DecodeUTF8(<const char*> code, len(code), NULL))
        expect(text, b",")
        code = string(text)
        if code not in TABLE_ORDERS or (order is not None and order != code):
            raise ValueError(
                f"the columns of a table must be all '<i4' or all '>i4', got {code!r}"
            )
        order = code
        end_of(text, b")")
        if not ahead(text, b"]"):
            expect(text, b",")
    expect(text, b"]")
    header.names = tuple(names)
    header.swapped = order is not None and TABLE_ORDERS[order] != NATIVE_ORDER
    return 0


cdef tuple read_shape(Text* text):
    cdef list shape = []
    cdef bint comma = True
    expect(text, b"(")
    while not ahead(text, b")"):
        if not comma or len(shape) == MAX_DIMENSIONS:
            raise ValueError("the shape of the header is not a tuple of sizes")
        shape.append(integer(text))
        comma = ahead(text, b",")
        if comma:
            expect(text, b",")
    expect(text, b")")
    if len(shape) == 1 and not comma:
        raise ValueError("the shape of the header is not a tuple of sizes")
    return tuple(shape)


cdef bint read_bool(Text* text) except -1:
    blanks(text)
    if text.end - text.at >= 4 and memcmp(text.at, b"True", 4) == 0:
        text.at += 4
        return True
    if text.end - text.at >= 5 and memcmp(text.at, b"False", 5) == 0:
        text.at += 5
        return False
    raise ValueError("'fortran_order' of the header must be True or False")


cdef void blanks(Text* text) noexcept:
    while text.at < text.end and text.at[0] in (b" ", b"\n", b"\t", b"\r"):
        text.at += 1


cdef bint ahead(Text* text, char character) noexcept:
    """Whether this character comes next, after blanks."""
    blanks(text)
    return text.at < text.end and text.at[0] == character


cdef int expect(Text* text, char character) except -1:
    if not ahead(text, character):
        raise ValueError(f"the header must have {chr(character)!r} where it has {excerpt(text)}")
    text.at += 1
    return 0


cdef int end_of(Text* text, char bracket) except -1:
    """The end of a tuple, which may have a comma before it."""
    if ahead(text, b","):
        expect(text, b",")
    return expect(text, bracket)


cdef bytes string(Text* text):
    cdef const uint8_t* start
    cdef uint8_t quote
    if not (ahead(text, b"'") or ahead(text, b'"')):
        raise ValueError(f"the header must have a quoted text where it has {excerpt(text)}")
    quote = text.at[0]
    text.at += 1
    start = text.at
    while text.at < text.end and text.at[0] != quote and text.at[0] != b"\\":
        text.at += 1
    if text.at == text.end or text.at[0] != quote:
        raise ValueError("the header has a quoted text that does not end, or that has escapes")
    text.at += 1
    return PyBytes_FromStringAndSize(<const char*> start, text.at - start - 1)


cdef int64_t integer(Text* text) except -1:
    cdef int64_t number = 0
    cdef const uint8_t* start
    blanks(text)
    start = text.at
    while text.at < text.end and b"0" <= text.at[0] <= b"9":
        if number > (INT64_MAX - 9) // 10:
            raise ValueError("the shape of the header is too large")
        number = 10 * number + (text.at[0] - <int> b"0")
        text.at += 1
    if text.at == start:
        raise ValueError(f"the header must have a size where it has {excerpt(text)}")
    return number


cdef str excerpt(Text* text):
    cdef Py_ssize_t size = min(text.end - text.at, 12)
    if size == 0:
        return "nothing more"
    return repr(PyBytes_FromStringAndSize(<const char*> text.at, size))[1:]
