"""Joins of blocks: plans over int32 tables, and their execution on the bytes of numpy arrays.

Parts are the blocks that are merged into one. A plan says where each row comes from: an `index`
has one entry for each row of the result, the position of the row in its part; the number of rows
of the part stands for a row of fill values.
"""
import numpy as np

cimport numpy as cnp
from libc.stdint cimport INT32_MAX
from libc.string cimport memcpy

from metatensor._core.typedefs cimport int32_t

cnp.import_array()


cdef struct Run:
    # neighbouring properties of the result that are neighbours in the part as well
    Py_ssize_t target
    Py_ssize_t origin  # -1 for fill values
    Py_ssize_t bytes


cdef struct Part:
    const char* start
    Py_ssize_t rows
    Py_ssize_t first  # position of the first row among those of all parts
    Py_ssize_t bytes  # of the properties of one row, for one component
    const Py_ssize_t* index
    const Run* runs
    Py_ssize_t n_runs


cdef str kind_of(array):
    return "None" if array is None else f"{array.ndim}-D {array.dtype}"


cdef const int32_t* table_data(cnp.ndarray table) except NULL:
    if table is None or not (cnp.PyArray_TYPE(table) == cnp.NPY_INT32 and cnp.PyArray_NDIM(table) == 2 and cnp.PyArray_ISCARRAY_RO(table)):
        raise ValueError(f"a table must be a C-contiguous 2-D array of int32, got {kind_of(table)}")
    return <const int32_t*> cnp.PyArray_DATA(table)


cdef const Py_ssize_t* positions_data(cnp.ndarray positions) except NULL:
    if positions is None or not (cnp.PyArray_TYPE(positions) == cnp.NPY_INTP and cnp.PyArray_NDIM(positions) == 1 and cnp.PyArray_ISCARRAY_RO(positions)):
        raise ValueError(f"positions must be a contiguous 1-D array of intp, got {kind_of(positions)}")
    return <const Py_ssize_t*> cnp.PyArray_DATA(positions)


cdef void raise_position(Py_ssize_t position, Py_ssize_t size) except *:
    raise IndexError(f"positions must be in [0, {size}), got {position}")


# ---- plans


def stack(list tables not None, cnp.ndarray keys not None, bint keys_first):
    """Rows of all the tables below each other, each next to the row of `keys` of its table."""
    cdef const int32_t* key = table_data(keys)
    cdef const int32_t* row
    cdef int32_t* target
    cdef Py_ssize_t i, part, rows, n_rows = 0, n_keys = cnp.PyArray_DIM(keys, 1), columns = 0
    cdef cnp.ndarray table
    if not 0 < len(tables) == cnp.PyArray_DIM(keys, 0):
        raise ValueError(f"there must be one key for each table, got {len(tables)} and {len(keys)}")
    for i in range(len(tables)):
        table = tables[i]
        table_data(table)
        if i == 0:
            columns = cnp.PyArray_DIM(table, 1)
        elif cnp.PyArray_DIM(table, 1) != columns:
            raise ValueError(f"all tables must have {columns} columns, got {cnp.PyArray_DIM(table, 1)}")
        n_rows += cnp.PyArray_DIM(table, 0)
    cdef cnp.ndarray stacked = np.empty((n_rows, columns + n_keys), dtype=np.int32)
    target = <int32_t*> cnp.PyArray_DATA(stacked)
    for part in range(len(tables)):
        table = tables[part]
        row = <const int32_t*> cnp.PyArray_DATA(table)
        rows = cnp.PyArray_DIM(table, 0)
        with nogil:
            for i in range(rows):
                if keys_first:
                    memcpy(target, key, 4 * n_keys)
                    memcpy(target + n_keys, row, 4 * columns)
                else:
                    memcpy(target, row, 4 * columns)
                    memcpy(target + columns, key, 4 * n_keys)
                target += n_keys + columns
                row += columns
        key += n_keys
    return stacked


def invert(cnp.ndarray positions not None, Py_ssize_t size):
    """Index of a result with `size` rows, where the rows of a part have the given positions."""
    cdef const Py_ssize_t* position = positions_data(positions)
    cdef Py_ssize_t i, bad = -1, rows = cnp.PyArray_DIM(positions, 0)
    cdef cnp.ndarray index = np.empty(size, dtype=np.intp)
    cdef Py_ssize_t* origin = <Py_ssize_t*> cnp.PyArray_DATA(index)
    with nogil:
        for i in range(size):
            origin[i] = rows
        for i in range(rows):
            if not 0 <= position[i] < size:
                bad = i
                break
            origin[position[i]] = i
    if bad >= 0:
        raise_position(position[bad], size)
    return index


def renumber(cnp.ndarray table not None, positions, Py_ssize_t start=0):
    """Table of gradient samples whose first column, the sample, became `positions[start + sample]`.

    Without positions, samples are only shifted by `start`.
    """
    cdef const int32_t* row = table_data(table)
    cdef const Py_ssize_t* position = NULL
    cdef Py_ssize_t i, sample = 0, size = <Py_ssize_t> INT32_MAX + 1
    cdef Py_ssize_t rows = cnp.PyArray_DIM(table, 0), columns = cnp.PyArray_DIM(table, 1)
    if columns < 1:
        raise ValueError("gradient samples must have a first column, the sample")
    if positions is not None:
        position = positions_data(positions)
        size = cnp.PyArray_DIM(positions, 0)
    cdef cnp.ndarray renumbered = cnp.PyArray_NewCopy(table, cnp.NPY_CORDER)
    cdef int32_t* target = <int32_t*> cnp.PyArray_DATA(renumbered)
    cdef bint bad = False
    with nogil:
        for i in range(rows):
            sample = start + row[i * columns]
            bad = not 0 <= sample < size
            if bad:
                break
            if position != NULL:
                sample = position[sample]
                if not 0 <= sample <= INT32_MAX:
                    size = <Py_ssize_t> INT32_MAX + 1
                    bad = True
                    break
            target[i * columns] = <int32_t> sample
    if bad:
        raise_position(sample, size)
    return renumbered


# ---- execution


cdef Py_ssize_t fill_part(Part* part, cnp.ndarray values, cnp.ndarray fill, Py_ssize_t components) except -1:
    """Describe the values of a part, and return how many properties they have."""
    if fill.dtype.hasobject:
        raise TypeError(f"values must be numbers, got {fill.dtype}")
    if values is None or not (cnp.PyArray_NDIM(values) == 3 and cnp.PyArray_ISCARRAY_RO(values)
            and cnp.PyArray_DIM(values, 1) == components and values.dtype == fill.dtype):
        raise ValueError(
            f"values must be a C-contiguous array (rows, {components}, properties) of {fill.dtype}, "
            f"got {kind_of(values)} of shape {np.shape(values)}"
        )
    part.start = <const char*> cnp.PyArray_DATA(values)
    part.rows = cnp.PyArray_DIM(values, 0)
    part.first = 0
    part.bytes = cnp.PyArray_DIM(values, 2) * cnp.PyArray_ITEMSIZE(values)
    part.index = NULL
    part.runs = NULL
    part.n_runs = 0
    return cnp.PyArray_DIM(values, 2)


cdef cnp.ndarray new_parts(Py_ssize_t size):
    return np.empty(size * sizeof(Part), dtype=np.uint8)


def gather_columns(list parts not None, list indices not None, widths, Py_ssize_t rows, Py_ssize_t components, cnp.ndarray fill not None):
    """Put parts next to each other: (rows, components, sum of widths).

    Parameters
    ----------
    parts : list of array or None, (n_rows, components, width)
        C-contiguous values; None for a part that is all fill values
    indices : list of array of intp or None, (rows,)
        where each row of the result is in the part; None if it has the rows of the result
    widths : list of int
        number of properties of each part
    rows, components : int
        shape of the result
    fill : array, (at least the largest width,)
        fill values; the dtype of the result

    """
    cdef Py_ssize_t i, j, n_parts = len(parts), width = 0, largest = 0, bad = -1, itemsize = cnp.PyArray_ITEMSIZE(fill)
    cdef cnp.ndarray memory = new_parts(n_parts), index
    cdef Part* described = <Part*> cnp.PyArray_DATA(memory)
    if not len(indices) == len(widths) == n_parts:
        raise ValueError("there must be one index and one width for each part")
    for i in range(n_parts):
        width += widths[i]
        largest = max(largest, widths[i])
        if widths[i] < 0:
            raise ValueError(f"widths must not be negative, got {widths[i]}")
        if parts[i] is None:
            described[i].start = NULL
            described[i].rows = 0
            described[i].bytes = widths[i] * itemsize
            continue
        if fill_part(&described[i], parts[i], fill, components) != widths[i]:
            raise ValueError(f"part {i} must have {widths[i]} properties, got {parts[i].shape[2]}")
        if indices[i] is not None:
            index = indices[i]
            described[i].index = positions_data(index)
            if cnp.PyArray_DIM(index, 0) != rows:
                raise ValueError(f"an index must have one entry for each of {rows} rows, got {len(index)}")
        elif described[i].rows != rows:
            raise ValueError(f"part {i} must have {rows} rows, got {described[i].rows}")
    if cnp.PyArray_DIM(fill, 0) < largest:
        raise ValueError(f"there must be {largest} fill values, got {len(fill)}")
    cdef cnp.ndarray joined = np.empty((rows, components, width), dtype=fill.dtype)
    cdef char* target = <char*> cnp.PyArray_DATA(joined)
    cdef const char* filling = <const char*> cnp.PyArray_DATA(fill)
    with nogil:
        bad = copy_columns(target, described, n_parts, rows, components, width * itemsize, filling)
    if bad >= 0:
        raise IndexError(f"the index of part {bad} must be in [0, {described[bad].rows}]")
    return joined


cdef Py_ssize_t copy_columns(
    char* target, const Part* parts, Py_ssize_t n_parts,
    Py_ssize_t rows, Py_ssize_t components, Py_ssize_t row_bytes, const char* fill,
) noexcept nogil:
    cdef Py_ssize_t i, j, k, row, size
    cdef const char* origin
    cdef char* place
    for i in range(rows):
        for k in range(n_parts):
            size = parts[k].bytes
            place = target
            target += size
            row = i
            if parts[k].start == NULL:
                row = parts[k].rows
            elif parts[k].index != NULL:
                row = parts[k].index[i]
                if not 0 <= row <= parts[k].rows:
                    return k
            if parts[k].start == NULL or row == parts[k].rows:
                for j in range(components):
                    memcpy(place + j * row_bytes, fill, size)
            else:
                origin = parts[k].start + row * components * size
                for j in range(components):
                    memcpy(place + j * row_bytes, origin + j * size, size)
        target += (components - 1) * row_bytes
    return -1


cdef cnp.ndarray runs_of(cnp.ndarray index, Py_ssize_t columns, Py_ssize_t itemsize):
    """Runs of properties that can be copied in one piece."""
    cdef const Py_ssize_t* column = positions_data(index)
    cdef Py_ssize_t i, origin, n_runs = 0, size = cnp.PyArray_DIM(index, 0)
    cdef cnp.ndarray memory = np.empty(size * sizeof(Run), dtype=np.uint8)
    cdef Run* run = <Run*> cnp.PyArray_DATA(memory) - 1
    for i in range(size):
        if not 0 <= column[i] <= columns:
            raise IndexError(f"the index of properties must be in [0, {columns}], got {column[i]}")
        origin = -1 if column[i] == columns else column[i] * itemsize
        # a run of fill values, or of properties that are neighbours in the part
        if i > 0 and origin == (-1 if run.origin < 0 else run.origin + run.bytes):
            run.bytes += itemsize
            continue
        n_runs += 1
        run += 1
        run.target = i * itemsize
        run.origin = origin
        run.bytes = itemsize
    return memory[: n_runs * sizeof(Run)]


def gather_rows(list parts not None, list indices not None, order, Py_ssize_t components, cnp.ndarray fill not None):
    """Put parts below each other: (sum of rows, components, properties).

    Parameters
    ----------
    parts : list of array, (n_rows, components, n_properties)
        C-contiguous values
    indices : list of array of intp or None, (properties,)
        where each property of the result is in the part; None if it has those of the result
    order : array of intp or None, (sum of rows,)
        where each row of the result is in the stack of all parts; None to keep the order
    components : int
        shape of the result
    fill : array, (properties,)
        fill values; the dtype and the number of properties of the result

    """
    cdef Py_ssize_t i, n_parts = len(parts), rows = 0, bad = -1
    cdef Py_ssize_t itemsize = cnp.PyArray_ITEMSIZE(fill), width = cnp.PyArray_DIM(fill, 0), columns
    cdef cnp.ndarray memory = new_parts(n_parts), index
    cdef Part* described = <Part*> cnp.PyArray_DATA(memory)
    cdef list kept = []
    if len(indices) != n_parts:
        raise ValueError("there must be one index for each part")
    for i in range(n_parts):
        columns = fill_part(&described[i], parts[i], fill, components)
        described[i].first = rows
        rows += described[i].rows
        if indices[i] is not None:
            if len(indices[i]) != width:
                raise ValueError(f"an index must have one entry for each of {width} properties, got {len(indices[i])}")
            index = runs_of(indices[i], columns, itemsize)
            kept.append(index)
            described[i].runs = <const Run*> cnp.PyArray_DATA(index)
            described[i].n_runs = cnp.PyArray_DIM(index, 0) // sizeof(Run)
        elif columns != width:
            raise ValueError(f"part {i} must have {width} properties, got {columns}")
    cdef const Py_ssize_t* position = NULL
    cdef cnp.ndarray part_of_row
    cdef const int32_t* part = NULL
    if order is not None:
        index = order
        position = positions_data(index)
        if cnp.PyArray_DIM(index, 0) != rows:
            raise ValueError(f"the order must have {rows} entries, got {len(index)}")
    part_of_row = np.repeat(np.arange(n_parts, dtype=np.int32), [len(values) for values in parts])
    part = <const int32_t*> cnp.PyArray_DATA(part_of_row)
    cdef cnp.ndarray joined = np.empty((rows, components, width), dtype=fill.dtype)
    cdef char* target = <char*> cnp.PyArray_DATA(joined)
    cdef const char* filling = <const char*> cnp.PyArray_DATA(fill)
    with nogil:
        bad = copy_rows(target, described, part, position, rows, components, width * itemsize, filling)
    if bad >= 0:
        raise_position(position[bad], rows)
    return joined


cdef Py_ssize_t copy_rows(
    char* target, const Part* parts, const int32_t* part_of_row, const Py_ssize_t* order,
    Py_ssize_t rows, Py_ssize_t components, Py_ssize_t row_bytes, const char* fill,
) noexcept nogil:
    cdef Py_ssize_t i, j, k, position, size
    cdef const char* origin
    cdef const Part* part
    cdef const Run* run
    for i in range(rows):
        position = i if order == NULL else order[i]
        if not 0 <= position < rows:
            return i
        part = &parts[part_of_row[position]]
        origin = part.start + (position - part.first) * components * part.bytes
        if part.runs == NULL:
            memcpy(target, origin, components * row_bytes)
            target += components * row_bytes
            continue
        for j in range(components):
            for k in range(part.n_runs):
                run = &part.runs[k]
                memcpy(target + run.target, fill if run.origin < 0 else origin + run.origin, run.bytes)
            origin += part.bytes
            target += row_bytes
    return -1
