"""Joins of blocks: plans over int32 tables, and their execution on the bytes of numpy arrays.

Parts are the arrays that are put together. An index says where the rows of a result, or its
properties, are in a part; the position past the last one stands for fill values.
"""
import numpy as np

cimport numpy as cnp
from libc.stdint cimport INT32_MAX
from libc.string cimport memcpy

from metatensor._core.tables cimport (
    new_positions, new_table, positions_of, start_of, view
)
from metatensor._core.typedefs cimport Table, int32_t

cnp.import_array()


# ------------------------------------------------------------------------------------------ plans

def stack(list tables not None, cnp.ndarray keys not None, bint keys_first):
    """Rows of all the tables below each other, each next to the row of `keys` of its table."""
    cdef Table key = view(keys), part
    cdef Py_ssize_t rows = 0, columns = -1, n_tables = len(tables)
    if n_tables == 0 or n_tables != key.rows:
        raise ValueError(f"there must be one key for each table, got {key.rows} and {n_tables}")
    for table in tables:
        part = view(<cnp.ndarray?> table)
        if columns >= 0 and part.columns != columns:
            raise ValueError(f"all tables must have {columns} columns, got {part.columns}")
        columns = part.columns
        rows += part.rows
    stacked = new_table(rows, columns + key.columns)
    cdef int32_t* target = <int32_t*> cnp.PyArray_DATA(stacked)
    for table in tables:
        part = view(<cnp.ndarray> table)
        with nogil:
            put_with_key(target, part, key, keys_first)
        target += part.rows * (columns + key.columns)
        key.start += key.columns
    return stacked


cdef void put_with_key(int32_t* target, Table table, Table key, bint key_first) noexcept nogil:
    cdef Py_ssize_t i, j, columns = table.columns
    cdef int32_t* row = target + (key.columns if key_first else 0)
    cdef int32_t* place = target + (0 if key_first else columns)
    for i in range(table.rows):
        for j in range(columns):
            row[j] = table.start[i * columns + j]
        for j in range(key.columns):
            place[j] = key.start[j]
        row += columns + key.columns
        place += columns + key.columns


def invert(cnp.ndarray positions not None, Py_ssize_t size):
    """Index of a result with `size` rows, where the rows of a part have the given positions."""
    cdef Py_ssize_t i, bad = -1, rows = cnp.PyArray_SIZE(positions)
    cdef const Py_ssize_t* position = positions_of(positions, rows)
    if size < 0:
        raise ValueError(f"`size` must not be negative, got {size}")
    index = new_positions(size)
    cdef Py_ssize_t* origin = start_of(index)
    with nogil:
        for i in range(size):
            origin[i] = rows
        for i in range(rows):
            if not 0 <= position[i] < size:
                bad = i
                break
            origin[position[i]] = i
    if bad >= 0:
        raise IndexError(f"positions must be in [0, {size}), got {position[bad]}")
    return index


def renumber(cnp.ndarray table not None, positions, Py_ssize_t start=0):
    """Table of gradient samples whose first column, the sample, became `positions[start + sample]`.

    Without positions, samples are only shifted by `start`.
    """
    cdef Table rows = view(table)
    cdef Py_ssize_t row = 0, size = <Py_ssize_t> INT32_MAX + 1
    cdef const Py_ssize_t* position = NULL
    cdef bint bad = False
    if rows.columns < 1:
        raise ValueError("gradient samples must have a first column, the sample")
    if positions is not None:
        position = positions_of(positions, -1)
        size = len(positions)
    renumbered = cnp.PyArray_NewCopy(table, cnp.NPY_CORDER)
    cdef int32_t* sample = <int32_t*> cnp.PyArray_DATA(renumbered)
    with nogil:
        for _row in range(rows.rows):
            row = start + sample[0]
            bad = not 0 <= row < size
            if not bad and position != NULL:
                row = position[row]
                bad = not 0 <= row <= INT32_MAX
            if bad:
                break
            sample[0] = <int32_t> row
            sample += rows.columns
    if bad:
        raise IndexError(f"samples must be in [0, {size}), and less than 2147483648, got {row}")
    return renumbered


# -------------------------------------------------------------------------------------- execution

cdef struct Run:
    # neighbouring properties of the result that are neighbours in the part as well, in bytes
    Py_ssize_t target
    Py_ssize_t origin  # -1 for fill values
    Py_ssize_t bytes


cdef struct Part:
    const char* start
    Py_ssize_t rows  # no rows for a part that is all fill values
    Py_ssize_t first  # position of the first row in the stack of all parts
    Py_ssize_t bytes  # of the properties of one row, for one component
    const Py_ssize_t* index  # of the rows
    const Run* runs
    Py_ssize_t n_runs


cdef struct Result:
    char* start
    Py_ssize_t rows
    Py_ssize_t components
    Py_ssize_t bytes  # of the properties of one row, for one component
    const char* fill


cdef cnp.ndarray new_memory(Py_ssize_t size):
    return np.empty(size, dtype=np.uint8)


cdef Part describe(values, Py_ssize_t components, cnp.ndarray fill) except *:
    """What to know about the values of a part, which must outlive it."""
    cdef Part part
    cdef cnp.ndarray array = <cnp.ndarray?> values
    if not (
        cnp.PyArray_NDIM(array) == 3
        and cnp.PyArray_ISCARRAY_RO(array)
        and cnp.PyArray_DIM(array, 1) == components
        and values.dtype == fill.dtype
        and not values.dtype.hasobject
    ):
        raise ValueError(
            f"parts must be C-contiguous arrays of numbers, (rows, {components}, properties) of "
            f"{fill.dtype}, got shape {values.shape} of {values.dtype}"
        )
    part.start = <const char*> cnp.PyArray_DATA(array)
    part.rows = cnp.PyArray_DIM(array, 0)
    part.bytes = cnp.PyArray_DIM(array, 2) * cnp.PyArray_ITEMSIZE(array)
    part.first = 0
    part.index = NULL
    part.runs = NULL
    part.n_runs = 0
    return part


cdef Result describe_result(cnp.ndarray values, cnp.ndarray fill) noexcept:
    cdef Result result
    result.start = <char*> cnp.PyArray_DATA(values)
    result.rows = cnp.PyArray_DIM(values, 0)
    result.components = cnp.PyArray_DIM(values, 1)
    result.bytes = cnp.PyArray_DIM(values, 2) * cnp.PyArray_ITEMSIZE(values)
    result.fill = <const char*> cnp.PyArray_DATA(fill)
    return result


def gather_columns(
    list parts not None, list indices not None, list widths not None,
    Py_ssize_t rows, Py_ssize_t components, cnp.ndarray fill not None,
):
    """Put parts next to each other.

    Parameters
    ----------
    parts : list of array or None, (n_rows, components, width)
        C-contiguous values; None for fill values alone
    indices : list of array of intp or None, (rows,)
        where each row of the result is in the part; None if it has the rows of the result
    widths : list of int
        number of properties of each part
    rows, components : int
        shape of the result
    fill : array, (at least the largest width,)
        fill values, of the dtype of all parts

    Returns
    -------
    array, (rows, components, sum of widths)

    """
    cdef Py_ssize_t i, n_parts = len(parts), width, bad
    cdef cnp.ndarray memory = new_memory(n_parts * sizeof(Part)), joined
    cdef Part* part = <Part*> cnp.PyArray_DATA(memory)
    cdef Result result
    if not len(indices) == len(widths) == n_parts:
        raise ValueError(f"{n_parts} parts need as many indices and widths")
    for i in range(n_parts):
        width = widths[i]
        if not 0 <= width <= len(fill):
            raise ValueError(f"widths must be in [0, {len(fill)}], got {width}")
        values = np.empty((0, components, width), fill.dtype) if parts[i] is None else parts[i]
        part[i] = describe(values, components, fill)
        if part[i].bytes != width * cnp.PyArray_ITEMSIZE(fill):
            raise ValueError(f"part {i} must have {width} properties, got shape {values.shape}")
        if parts[i] is None:
            part[i].start = NULL
        elif indices[i] is not None:
            part[i].index = positions_of(<cnp.ndarray?> indices[i], rows)
        elif part[i].rows != rows:
            raise ValueError(f"part {i} must have {rows} rows, got {part[i].rows}")
    joined = np.empty((rows, components, sum(widths)), dtype=fill.dtype)
    result = describe_result(joined, fill)
    with nogil:
        bad = copy_columns(&result, part, n_parts)
    if bad >= 0:
        raise IndexError(f"the index of part {bad} must be in [0, {part[bad].rows}]")
    return joined


cdef Py_ssize_t copy_columns(const Result* result, Part* parts, Py_ssize_t n_parts) noexcept nogil:
    """Write the result row by row; return a part whose index is bad, or -1."""
    cdef Py_ssize_t i, j, k, row, step
    cdef char* target = result.start
    cdef const char* origin
    cdef Part* part
    for i in range(result.rows):
        for k in range(n_parts):
            part = &parts[k]
            origin, step = result.fill, 0
            if part.start != NULL:
                row = i if part.index == NULL else part.index[i]
                if not 0 <= row <= part.rows:
                    return k
                if row < part.rows:
                    origin, step = part.start + row * result.components * part.bytes, part.bytes
            for j in range(result.components):
                memcpy(target + j * result.bytes, origin + j * step, part.bytes)
            target += part.bytes
        target += (result.components - 1) * result.bytes
    return -1


def gather_rows(
    list parts not None, list indices not None, order,
    Py_ssize_t components, cnp.ndarray fill not None,
):
    """Put parts below each other.

    Parameters
    ----------
    parts : list of array, (n_rows, components, n_properties)
        C-contiguous values
    indices : list of array of intp or None, (properties,)
        where each property of the result is in the part; None if it has those of the result
    order : array of intp or None, (sum of n_rows,)
        where each row of the result is in the stack of all parts; None to keep the order
    components : int
        number of components
    fill : array, (properties,)
        fill values, of the dtype of all parts

    Returns
    -------
    array, (sum of n_rows, components, properties)

    """
    cdef Py_ssize_t i, n_parts = len(parts), rows = 0, width = len(fill), bad
    cdef cnp.ndarray memory = new_memory(n_parts * sizeof(Part)), runs, owners, joined
    cdef Part* part = <Part*> cnp.PyArray_DATA(memory)
    cdef const Py_ssize_t* position = NULL
    cdef Result result
    if len(indices) != n_parts:
        raise ValueError(f"{n_parts} parts need as many indices")
    kept = []
    for i in range(n_parts):
        part[i] = describe(parts[i], components, fill)
        part[i].first = rows
        rows += part[i].rows
        if indices[i] is not None:
            runs = runs_of(<cnp.ndarray?> indices[i], parts[i].shape[2], fill)
            part[i].runs = <const Run*> cnp.PyArray_DATA(runs)
            part[i].n_runs = len(runs) // <Py_ssize_t> sizeof(Run)
            kept.append(runs)
        elif part[i].bytes != width * cnp.PyArray_ITEMSIZE(fill):
            raise ValueError(f"part {i} must have {width} properties, got {parts[i].shape[2]}")
    if order is not None:
        position = positions_of(<cnp.ndarray?> order, rows)
    owners = np.repeat(np.arange(n_parts, dtype=np.int32), [len(values) for values in parts])
    joined = np.empty((rows, components, width), dtype=fill.dtype)
    result = describe_result(joined, fill)
    with nogil:
        bad = copy_rows(&result, part, <const int32_t*> cnp.PyArray_DATA(owners), position)
    if bad >= 0:
        raise IndexError(f"the order must be in [0, {rows}), got {order[bad]}")
    return joined


cdef cnp.ndarray runs_of(cnp.ndarray index, Py_ssize_t columns, cnp.ndarray fill):
    """Runs of properties that can be copied at once."""
    cdef Py_ssize_t i, origin, n_runs = 0, itemsize = cnp.PyArray_ITEMSIZE(fill)
    cdef const Py_ssize_t* column = positions_of(index, len(fill))
    memory = new_memory(len(fill) * sizeof(Run))
    cdef Run* run = <Run*> cnp.PyArray_DATA(memory)
    for i in range(len(fill)):
        if not 0 <= column[i] <= columns:
            raise IndexError(f"an index of properties must be in [0, {columns}], got {column[i]}")
        origin = -1 if column[i] == columns else column[i] * itemsize
        if n_runs and origin == (-1 if run.origin < 0 else run.origin + run.bytes):
            run.bytes += itemsize
            continue
        run = <Run*> cnp.PyArray_DATA(memory) + n_runs
        run.target, run.origin, run.bytes = i * itemsize, origin, itemsize
        n_runs += 1
    return memory[: n_runs * sizeof(Run)]


cdef Py_ssize_t copy_rows(
    const Result* result, Part* parts, const int32_t* owners, const Py_ssize_t* order
) noexcept nogil:
    """Write the result row by row; return where the order is bad, or -1."""
    cdef Py_ssize_t i, position
    cdef Py_ssize_t bytes_of_row = result.components * result.bytes
    cdef char* target = result.start
    cdef const char* origin
    cdef Part* part
    for i in range(result.rows):
        position = i if order == NULL else order[i]
        if not 0 <= position < result.rows:
            return i
        part = &parts[owners[position]]
        origin = part.start + (position - part.first) * result.components * part.bytes
        if part.runs == NULL:
            memcpy(target, origin, bytes_of_row)
        else:
            copy_runs(target, origin, part, result)
        target += bytes_of_row
    return -1


cdef void copy_runs(
    char* target, const char* origin, const Part* part, const Result* result
) noexcept nogil:
    cdef Py_ssize_t k
    cdef const Run* run
    for _component in range(result.components):
        for k in range(part.n_runs):
            run = &part.runs[k]
            memcpy(
                target + run.target,
                result.fill if run.origin < 0 else origin + run.origin,
                run.bytes,
            )
        origin += part.bytes
        target += result.bytes
