"""Numbers that stand for rows: their place in the box of the column ranges, or a hash.

A place is exact: two rows of the box are equal if and only if their places are. Boxes hold few
columns; a table with more of them is hashed, or sorted in parts.
"""
from metatensor._core.typedefs cimport Table, int32_t, int64_t, uint32_t, uint64_t


cdef enum:
    BLOCK = 256  # rows that are turned into numbers at a time
    LANES = 8  # rows that are measured side by side
    WIDEST = 16  # columns of the widest box
    KEYS = 16  # of a hash; wider rows use them again


cdef struct Box:
    int32_t low[WIDEST]
    uint64_t extent[WIDEST]
    uint64_t size


cdef struct Hash:
    uint64_t keys[KEYS]
    uint64_t offset


# ------------------------------------------------------------------------------ box of the ranges

cdef inline bint bound(
    Box* box, const int32_t* low, const int32_t* high, Py_ssize_t columns, uint64_t most
) noexcept nogil:
    """Set the box from the bounds of LANES rows; tell whether it has at most `most` places."""
    cdef Py_ssize_t j, lane
    cdef int32_t smallest, largest
    box.size = 1
    for j in range(columns):
        smallest, largest = low[j], high[j]
        for lane in range(1, LANES):
            smallest = min(smallest, low[lane * columns + j])
            largest = max(largest, high[lane * columns + j])
        box.low[j] = smallest
        box.extent[j] = <uint64_t> (<int64_t> largest - smallest) + 1
        if box.extent[j] > most // box.size:
            return False
        box.size *= box.extent[j]
    return True


cdef inline bint measure(Box* box, Table table, uint64_t most) noexcept nogil:
    """Find the box of a table that has rows; False as soon as it has more than `most` places."""
    cdef Py_ssize_t i, k, columns = table.columns, width = LANES * columns
    cdef const int32_t* row = table.start
    cdef int32_t low[LANES * WIDEST]
    cdef int32_t high[LANES * WIDEST]
    if columns > WIDEST:
        return False
    for i in range(LANES):
        for k in range(columns):
            low[i * columns + k] = high[i * columns + k] = row[k]
    for i in range(table.rows // LANES):
        for k in range(width):
            low[k] = row[k] if row[k] < low[k] else low[k]
            high[k] = row[k] if row[k] > high[k] else high[k]
        row += width
        if i % 512 == 0 and not bound(box, low, high, columns, most):
            return False
    for k in range(table.rows % LANES * columns):
        low[k] = min(low[k], row[k])
        high[k] = max(high[k], row[k])
    return bound(box, low, high, columns, most)


cdef inline void place_each(
    const Box* box, const int32_t* row, Py_ssize_t rows, Py_ssize_t columns, uint64_t* places
) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef uint64_t place
    cdef uint32_t step
    cdef bint inside
    for i in range(rows):
        place, inside = 0, True
        for j in range(columns):
            step = <uint32_t> row[j] - <uint32_t> box.low[j]
            inside &= step < box.extent[j]
            place = place * box.extent[j] + step
        places[i] = place if inside else box.size
        row += columns


cdef inline void place(
    const Box* box, const int32_t* row, Py_ssize_t rows, Py_ssize_t columns, uint64_t* places
) noexcept nogil:
    """Places of rows in lexicographic order; `box.size` for a row outside of the box."""
    if columns == 1:
        place_each(box, row, rows, 1, places)
    elif columns == 2:
        place_each(box, row, rows, 2, places)
    elif columns == 3:
        place_each(box, row, rows, 3, places)
    else:
        place_each(box, row, rows, columns, places)


# --------------------------------------------------------------------------------------- hashing

cdef inline uint64_t scramble(uint64_t number) noexcept nogil:
    number ^= number >> 32
    number *= <uint64_t> 0xD6E8FEB86659FD93
    return number ^ (number >> 32)


cdef inline void set_keys(Hash* hash, uint64_t seed) noexcept nogil:
    """Draw the keys of a hash function: other seeds make other rows collide."""
    cdef Py_ssize_t j
    for j in range(KEYS):
        seed += <uint64_t> 0x9E3779B97F4A7C15
        hash.keys[j] = scramble(scramble(seed))
    hash.offset = scramble(scramble(seed + <uint64_t> 0x9E3779B97F4A7C15))


cdef inline void hash_each(
    const Hash* hash, const int32_t* row, Py_ssize_t rows, Py_ssize_t columns, uint64_t* codes
) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef uint64_t code
    for i in range(rows):
        code = hash.offset
        for j in range(columns):
            code += hash.keys[j % KEYS] * <uint32_t> row[j]
            if j % KEYS == KEYS - 1:
                code = scramble(code)
        codes[i] = scramble(code)
        row += columns


cdef inline void hash_rows(
    const Hash* hash, const int32_t* row, Py_ssize_t rows, Py_ssize_t columns, uint64_t* codes
) noexcept nogil:
    """Hash rows: the sum of entries times keys, a universal family of functions, then scrambled."""
    if columns == 1:
        hash_each(hash, row, rows, 1, codes)
    elif columns == 2:
        hash_each(hash, row, rows, 2, codes)
    elif columns == 3:
        hash_each(hash, row, rows, 3, codes)
    else:
        hash_each(hash, row, rows, columns, codes)
