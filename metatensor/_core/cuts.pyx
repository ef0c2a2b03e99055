"""Parts of tables: which rows go to each of several results, and what follows those rows.

Positions of all results come one after the other: those of result `g` are from `bounds[g]` to
`bounds[g + 1]`.
"""
cimport numpy as cnp
from libc.stdlib cimport qsort

from metatensor._core.tables cimport (
    LARGEST, new_positions, new_table, positions_of, start_of, view
)
from metatensor._core.typedefs cimport Table, int32_t

cnp.import_array()


cdef Py_ssize_t count_results(cnp.ndarray bounds, Py_ssize_t size) except -1:
    """Number of results, whose bounds must go from 0 to `size`."""
    cdef Py_ssize_t i, results = cnp.PyArray_SIZE(bounds) - 1
    cdef const Py_ssize_t* bound = positions_of(bounds, -1)
    cdef bint good = results >= 0 and bound[0] == 0 and bound[results] == size
    for i in range(results):
        good = good and bound[i] <= bound[i + 1]
    if not good:
        raise ValueError(f"bounds must not decrease, and go from 0 to {size}, got {bounds}")
    return results


def absolute(cnp.ndarray positions not None, Py_ssize_t size):
    """Positions from the start; negative ones count from the end."""
    cdef Py_ssize_t i, bad = -1, n = cnp.PyArray_SIZE(positions)
    cdef const Py_ssize_t* position = positions_of(positions, n)
    result = new_positions(n)
    cdef Py_ssize_t* target = start_of(result)
    with nogil:
        for i in range(n):
            target[i] = position[i] + (size if position[i] < 0 else 0)
            if not 0 <= target[i] < size:
                bad = i
                break
    if bad >= 0:
        raise IndexError(f"positions must be in [{-size}, {size}), got {position[bad]}")
    return result


def ascending(cnp.ndarray positions not None, cnp.ndarray bounds not None):
    """The positions of each result in increasing order, each of them once; and their bounds."""
    cdef Py_ssize_t i, g, size = 0, results = count_results(bounds, cnp.PyArray_SIZE(positions))
    cdef const Py_ssize_t* bound = start_of(bounds)
    sorted_positions = cnp.PyArray_NewCopy(positions, cnp.NPY_CORDER)
    new_bounds = new_positions(results + 1)
    cdef Py_ssize_t* position = start_of(sorted_positions)
    cdef Py_ssize_t* new_bound = start_of(new_bounds)
    with nogil:
        new_bound[0] = 0
        for g in range(results):
            if not increases(position + bound[g], bound[g + 1] - bound[g]):
                qsort(position + bound[g], bound[g + 1] - bound[g], sizeof(Py_ssize_t), &compare)
            for i in range(bound[g], bound[g + 1]):
                if i == bound[g] or position[i] != position[size - 1]:
                    position[size] = position[i]
                    size += 1
            new_bound[g + 1] = size
    return sorted_positions[:size], new_bounds


cdef bint increases(const Py_ssize_t* positions, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(1, size):
        if positions[i] <= positions[i - 1]:
            return False
    return True


cdef int compare(const void* a, const void* b) noexcept nogil:
    cdef Py_ssize_t first = (<const Py_ssize_t*> a)[0], second = (<const Py_ssize_t*> b)[0]
    return (first > second) - (first < second)


def runs(cnp.ndarray positions not None, cnp.ndarray bounds not None):
    """Where the positions of each result start if they are consecutive, -1 if they are not."""
    cdef Py_ssize_t i, g, first, results = count_results(bounds, cnp.PyArray_SIZE(positions))
    cdef const Py_ssize_t* position = positions_of(positions, -1)
    cdef const Py_ssize_t* bound = start_of(bounds)
    starts = []
    for g in range(results):
        first = position[bound[g]] if bound[g] < bound[g + 1] else 0
        for i in range(bound[g] + 1, bound[g + 1]):
            if position[i] != position[i - 1] + 1:
                first = -1
                break
        starts.append(first)
    return starts


def cut(cnp.ndarray table not None, cnp.ndarray positions not None, cnp.ndarray bounds not None,
        cnp.ndarray samples=None):
    """Tables of the rows of each result; their first column becomes `samples`, if given."""
    cdef Table rows = view(table)
    cdef Py_ssize_t g, size, bad, results = count_results(bounds, cnp.PyArray_SIZE(positions))
    cdef const Py_ssize_t* position = positions_of(positions, -1)
    cdef const Py_ssize_t* bound = start_of(bounds)
    cdef const Py_ssize_t* sample = NULL
    cdef int32_t* target
    if samples is not None:
        sample = positions_of(samples, cnp.PyArray_SIZE(positions))
        if rows.columns < 1:
            raise ValueError("gradient samples must have a first column, the sample")
    parts = []
    for g in range(results):
        size = bound[g + 1] - bound[g]
        part = new_table(size, rows.columns)
        target = <int32_t*> cnp.PyArray_DATA(part)
        with nogil:
            bad = put_rows(target, rows, position + bound[g], size)
            if bad < 0 and sample != NULL:
                bad = put_samples(target, rows.columns, sample + bound[g], size)
        if bad >= 0:
            raise IndexError(
                f"positions must be in [0, {rows.rows}), and samples less than {LARGEST}, "
                f"got {position[bound[g] + bad]}"
            )
        parts.append(part)
    return parts


cdef Py_ssize_t put_rows(
    int32_t* target, Table table, const Py_ssize_t* positions, Py_ssize_t size
) noexcept nogil:
    """Copy rows of a table; return where a position is bad, or -1."""
    cdef Py_ssize_t i, j
    for i in range(size):
        if not 0 <= positions[i] < table.rows:
            return i
        for j in range(table.columns):
            target[i * table.columns + j] = table.start[positions[i] * table.columns + j]
    return -1


cdef Py_ssize_t put_samples(
    int32_t* target, Py_ssize_t columns, const Py_ssize_t* samples, Py_ssize_t size
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(size):
        if not 0 <= samples[i] <= LARGEST:
            return i
        target[i * columns] = <int32_t> samples[i]
    return -1


cdef struct Takers:
    # which entries of the positions take each row: the first of them, -1 without, and the next
    Py_ssize_t rows
    Py_ssize_t* first
    Py_ssize_t* next
    Py_ssize_t* result  # that the entry belongs to
    const Py_ssize_t* bounds
    Py_ssize_t results


def follow(cnp.ndarray table not None, cnp.ndarray positions not None,
           cnp.ndarray bounds not None, Py_ssize_t size):
    """Which gradient rows go with the rows that several results take from a table of `size` rows.

    Each copy of a row takes all its gradient rows. They keep their order in each result.

    Returns
    -------
    positions, bounds : array of intp
        gradient rows that each result takes
    samples : array of intp
        position of the row in the result that each of them belongs to

    """
    cdef Table rows = view(table)
    cdef Py_ssize_t bad, n = cnp.PyArray_SIZE(positions)
    cdef Py_ssize_t results = count_results(bounds, n)
    cdef Takers takers
    if rows.columns < 1 or size < 0:
        raise ValueError("gradient samples must have a first column, and `size` not be negative")
    firsts, nexts, owners = new_positions(size), new_positions(n), new_positions(n)
    new_bounds, cursors = new_positions(results + 1), new_positions(results + 1)
    cdef Py_ssize_t* bound = start_of(new_bounds)
    takers.rows, takers.results, takers.bounds = size, results, start_of(bounds)
    takers.first, takers.next, takers.result = start_of(firsts), start_of(nexts), start_of(owners)
    with nogil:
        bad = find_takers(&takers, start_of(positions), n)
    if bad >= 0:
        raise IndexError(f"positions must be in [0, {size}), got {positions[bad]}")
    with nogil:
        bad = count_followers(&takers, rows, bound)
    if bad >= 0:
        raise IndexError(f"samples of gradients must be in [0, {size}), got {table[bad, 0]}")
    kept, samples = new_positions(bound[results]), new_positions(bound[results])
    with nogil:
        place_followers(&takers, rows, bound, start_of(cursors), start_of(kept), start_of(samples))
    return kept, new_bounds, samples


cdef Py_ssize_t find_takers(
    Takers* takers, const Py_ssize_t* positions, Py_ssize_t size
) noexcept nogil:
    cdef Py_ssize_t i, g
    for i in range(takers.rows):
        takers.first[i] = -1
    for g in range(takers.results - 1, -1, -1):
        for i in range(takers.bounds[g + 1] - 1, takers.bounds[g] - 1, -1):
            if not 0 <= positions[i] < takers.rows:
                return i
            takers.next[i] = takers.first[positions[i]]
            takers.first[positions[i]] = i
            takers.result[i] = g
    return -1


cdef Py_ssize_t count_followers(
    const Takers* takers, Table table, Py_ssize_t* bounds
) noexcept nogil:
    cdef Py_ssize_t i, g, row
    for g in range(takers.results + 1):
        bounds[g] = 0
    for row in range(table.rows):
        if not 0 <= table.start[row * table.columns] < takers.rows:
            return row
        i = takers.first[table.start[row * table.columns]]
        while i >= 0:
            bounds[takers.result[i] + 1] += 1
            i = takers.next[i]
    for g in range(takers.results):
        bounds[g + 1] += bounds[g]
    return -1


cdef void place_followers(
    const Takers* takers, Table table, const Py_ssize_t* bounds,
    Py_ssize_t* cursors, Py_ssize_t* kept, Py_ssize_t* samples,
) noexcept nogil:
    cdef Py_ssize_t i, g, row, place
    for g in range(takers.results):
        cursors[g] = bounds[g]
    for row in range(table.rows):
        i = takers.first[table.start[row * table.columns]]
        while i >= 0:
            g = takers.result[i]
            place = cursors[g]
            cursors[g] += 1
            kept[place] = row
            samples[place] = i - takers.bounds[g]
            i = takers.next[i]
