"""Set operations on the rows of int32 tables, with the new position of every row."""
import numpy as np

cimport numpy as cnp
from libc.string cimport memcpy, memset

from metatensor._core.addresses cimport BLOCK, Box, measure, place
from metatensor._core.rows cimport RowIndex, Slots
from metatensor._core.tables cimport (
    compare, increasing, new_positions, new_table, same_bytes, sequence, start_of, view
)
from metatensor._core.typedefs cimport Table, int32_t, uint64_t

cnp.import_array()

cdef enum:
    DIGIT = 9


# ------------------------------------------------------------------------------- pairs of tables

def union(RowIndex a not None, RowIndex b not None):
    """Rows of `a`, then the rows of `b` that `a` does not have; new positions of both."""
    map_a, map_b = sequence(a.rows.rows), matches(a, b)
    cdef Py_ssize_t i, size = a.rows.rows
    cdef Py_ssize_t* new = start_of(map_b)
    with nogil:
        for i in range(b.rows.rows):
            if new[i] < 0:
                new[i] = size
                size += 1
    if size == a.rows.rows:
        return a.table, map_a, map_b
    table = new_table(size, a.rows.columns)
    memcpy(cnp.PyArray_DATA(table), a.rows.start, cnp.PyArray_NBYTES(a.table))
    put_rows(b.rows, new, a.rows.rows, table)
    return table, map_a, map_b


def intersection(RowIndex a not None, RowIndex b not None):
    """Rows of both, in the order of the shorter, `a` if equal; new positions, -1 if removed."""
    if b.rows.rows < a.rows.rows:
        table, map_b, map_a = intersection(b, a)
        return table, map_a, map_b
    map_a, map_b = matches(b, a), new_positions(b.rows.rows)
    cdef Py_ssize_t i, size = 0
    cdef Py_ssize_t* new_a = start_of(map_a)
    cdef Py_ssize_t* new_b = start_of(map_b)
    with nogil:
        for i in range(b.rows.rows):
            new_b[i] = -1
        for i in range(a.rows.rows):
            if new_a[i] >= 0:
                new_b[new_a[i]] = size
                new_a[i] = size
                size += 1
    return kept_rows(a, new_a, size), map_a, map_b


def difference(RowIndex a not None, RowIndex b not None):
    """Rows of `a` that `b` does not have; new positions of the rows of `a`, -1 if removed."""
    map_a = matches(b, a)
    cdef Py_ssize_t i, size = 0
    cdef Py_ssize_t* new = start_of(map_a)
    with nogil:
        for i in range(a.rows.rows):
            if new[i] >= 0:
                new[i] = -1
            else:
                new[i] = size
                size += 1
    return kept_rows(a, new, size), map_a


cdef cnp.ndarray matches(RowIndex a, RowIndex b):
    """Position in `a` of each row of `b`, -1 where `a` does not have it."""
    if a.rows.columns != b.rows.columns:
        raise ValueError(
            "both tables must have the same number of columns, "
            f"got {a.rows.columns} and {b.rows.columns}"
        )
    if same_bytes(a.rows, b.rows):
        return sequence(b.rows.rows)
    found = new_positions(b.rows.rows)
    cdef bint both_sorted = a.ascending() and b.ascending()
    if both_sorted or a.slots is not None or (b.slots is None and a.rows.rows <= b.rows.rows):
        a.locate(b.rows, both_sorted, start_of(found))
    else:
        inverse = new_positions(a.rows.rows)
        b.locate(a.rows, both_sorted, start_of(inverse))
        invert(start_of(inverse), a.rows.rows, start_of(found), b.rows.rows)
    return found


cdef void invert(
    const Py_ssize_t* positions, Py_ssize_t size, Py_ssize_t* inverse, Py_ssize_t inverse_size
) noexcept nogil:
    """Where each position stands, -1 if nowhere."""
    cdef Py_ssize_t i
    for i in range(inverse_size):
        inverse[i] = -1
    for i in range(size):
        if positions[i] >= 0:
            inverse[positions[i]] = i


cdef cnp.ndarray kept_rows(RowIndex index, const Py_ssize_t* new, Py_ssize_t size):
    if size == index.rows.rows:
        return index.table
    table = new_table(size, index.rows.columns)
    put_rows(index.rows, new, 0, table)
    return table


cdef void put_rows(Table rows, const Py_ssize_t* new, Py_ssize_t first, cnp.ndarray table):
    """Copy each row whose new position is `first` or larger there."""
    cdef Py_ssize_t i, j, columns = rows.columns
    cdef int32_t* start = <int32_t*> cnp.PyArray_DATA(table)
    with nogil:
        for i in range(rows.rows):
            if new[i] >= first:
                for j in range(columns):
                    start[new[i] * columns + j] = rows.start[i * columns + j]


# --------------------------------------------------------------------------------- order of rows

def lexsort(cnp.ndarray table not None):
    """Stable order of the rows, by the first column, then the second, ..."""
    cdef Table rows = view(table)
    cdef Box box
    cdef int bits = 0
    cdef cnp.ndarray keys
    if rows.rows < 2 or increasing(rows):
        return sequence(rows.rows)
    while rows.rows >> bits:
        bits += 1
    if not measure(&box, rows, ~<uint64_t> 0 >> bits):
        return sort_halves(table, rows.columns // 2)
    keys, order = np.empty(2 * rows.rows, np.uint64), new_positions(rows.rows)
    with nogil:
        sort_places(&box, rows, bits, <uint64_t*> cnp.PyArray_DATA(keys), start_of(order))
    return order


cdef object sort_halves(cnp.ndarray table, Py_ssize_t half):
    """Sort by the last columns, then by the first, where all do not fit in one number."""
    order = lexsort(np.ascontiguousarray(table[:, half:]))
    return order[lexsort(np.ascontiguousarray(table[order, :half]))]


cdef void sort_places(
    const Box* box, Table table, int shift, uint64_t* keys, Py_ssize_t* order
) noexcept nogil:
    """Sort by radix the places of the rows, each in one number with the position of its row."""
    cdef Py_ssize_t i, count, first = 0
    cdef int last = shift
    cdef uint64_t mask = (<uint64_t> 1 << shift) - 1
    cdef uint64_t* spare = keys + table.rows
    while first < table.rows:
        count = min(BLOCK, table.rows - first)
        place(box, table.start + first * table.columns, count, table.columns, keys + first)
        for i in range(first, first + count):
            keys[i] = keys[i] << shift | <uint64_t> i
        first += BLOCK
    while last < 64 and (box.size - 1) >> (last - shift):
        sort_digit(keys, spare, table.rows, last)
        keys, spare = spare, keys
        last += DIGIT
    for i in range(table.rows):
        order[i] = keys[i] & mask


cdef void sort_digit(
    const uint64_t* keys, uint64_t* result, Py_ssize_t size, int shift
) noexcept nogil:
    """Sort numbers by the DIGIT bits from `shift` on, otherwise keep their order."""
    cdef Py_ssize_t i, count, total = 0
    cdef Py_ssize_t[1 << DIGIT] start
    cdef uint64_t digit, mask = (1 << DIGIT) - 1
    memset(start, 0, sizeof(start))
    for i in range(size):
        start[keys[i] >> shift & mask] += 1
    for i in range(1 << DIGIT):
        count = start[i]
        start[i] = total
        total += count
    for i in range(size):
        digit = keys[i] >> shift & mask
        result[start[digit]] = keys[i]
        start[digit] += 1


# --------------------------------------------------------------------------------- groups of rows

def unique(cnp.ndarray table not None):
    """Sorted unique rows, and the position in them of every row of the table."""
    rows, groups = first_seen(table)
    return sorted_groups(rows, groups)


def merge(list tables not None, bint sort):
    """Union of several tables, in order of appearance or sorted.

    Also the new positions of the rows of each table, None for a table that is the union.
    """
    if not tables:
        raise ValueError("at least one table is required, got none")
    distinct, kinds, last = [], [], None
    for table in tables:
        if last is None or not same_bytes(view(<cnp.ndarray?> last), view(table)):
            distinct.append(table)
            last = table
        kinds.append(len(distinct) - 1)
    rows, groups = first_seen(distinct[0] if len(distinct) == 1 else np.concatenate(distinct))
    if sort:
        rows, groups = sorted_groups(rows, groups)
    maps, end = [], 0
    for table in distinct:
        start, end = end, end + len(table)
        maps.append(None if same_bytes(view(table), view(rows)) else groups[start:end])
    return rows, [maps[kind] for kind in kinds]


cdef tuple first_seen(cnp.ndarray table):
    """Distinct rows in order of appearance, and the position in them of every row."""
    cdef Table rows = view(table)
    cdef Py_ssize_t i, size = 0
    groups = new_positions(rows.rows)
    cdef Py_ssize_t* group = start_of(groups)
    cdef bint runs
    with nogil:
        runs = find_runs(rows, group)
    if not runs:
        Slots(table).fill(group)
    with nogil:
        for i in range(rows.rows):
            size += group[i] == i
    distinct = table if size == rows.rows else new_table(size, rows.columns)
    if size < rows.rows:
        with nogil:
            number_groups(rows, group, <int32_t*> cnp.PyArray_DATA(distinct))
    return distinct, groups


cdef bint find_runs(Table table, Py_ssize_t* owners) noexcept nogil:
    """Note the first row equal to each; False if the table is not sorted."""
    cdef Py_ssize_t i
    cdef int order
    cdef const int32_t* row = table.start
    if table.rows:
        owners[0] = 0
    for i in range(1, table.rows):
        order = compare(row, row + table.columns, table.columns)
        if order > 0:
            return False
        owners[i] = i if order else owners[i - 1]
        row += table.columns
    return True


cdef void number_groups(Table table, Py_ssize_t* owners, int32_t* distinct) noexcept nogil:
    """Replace first rows by the number of their group, and copy one row of each group."""
    cdef Py_ssize_t i, j, columns = table.columns, group = 0
    for i in range(table.rows):
        if owners[i] < i:
            owners[i] = owners[owners[i]]
            continue
        owners[i] = group
        for j in range(columns):
            distinct[group * columns + j] = table.start[i * columns + j]
        group += 1


cdef tuple sorted_groups(cnp.ndarray rows, cnp.ndarray groups):
    cdef Table table = view(rows)
    if increasing(table):
        return rows, groups
    order, rank = lexsort(rows), new_positions(table.rows)
    invert(start_of(order), table.rows, start_of(rank), table.rows)
    result = new_table(table.rows, table.columns)
    put_rows(table, start_of(rank), 0, result)
    return result, rank[groups]


# ------------------------------------------------------------------------------------- selection

def select(cnp.ndarray table not None, columns, cnp.ndarray selection not None):
    """Positions of the rows whose `columns` are a row of the selection, in increasing order."""
    cdef Table rows = view(table)
    cdef cnp.ndarray taken = np.ascontiguousarray(columns, np.intp)
    cdef Py_ssize_t j, size
    if taken.ndim != 1 or len(taken) != view(selection).columns:
        raise ValueError(
            f"a selection by the columns {columns} must have as many columns, "
            f"got {selection.shape[1]}"
        )
    for j in range(cnp.PyArray_SIZE(taken)):
        if not 0 <= start_of(taken)[j] < rows.columns:
            raise IndexError(f"columns must be in [0, {rows.columns}), got {columns}")
    cdef Slots slots = Slots(selection, rows.rows)
    slots.fill(NULL)
    part, positions = new_table(BLOCK, len(taken)), new_positions(rows.rows)
    cdef Table entries = view(part)
    with nogil:
        size = match_rows(slots, rows, start_of(taken), entries, start_of(positions))
    return positions[:size]


cdef Py_ssize_t match_rows(
    Slots slots, Table table, const Py_ssize_t* columns, Table part, Py_ssize_t* positions
) noexcept nogil:
    """Note the rows that have a slot, by the given columns, which are copied to `part`."""
    cdef Py_ssize_t i, j, first = 0, size = 0
    cdef Py_ssize_t[BLOCK] found
    cdef int32_t* entries = <int32_t*> part.start
    cdef const int32_t* row
    while first < table.rows:
        part.rows = min(BLOCK, table.rows - first)
        for i in range(part.rows):
            row = table.start + (first + i) * table.columns
            for j in range(part.columns):
                entries[i * part.columns + j] = row[columns[j]]
        slots.find(part, found)
        for i in range(part.rows):
            positions[size] = first + i  # without a branch to predict
            size += found[i] >= 0
        first += BLOCK
    return size
