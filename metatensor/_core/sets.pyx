"""Set operations on the rows of int32 tables, with the new position of every row."""
import numpy as np

cimport numpy as cnp

from metatensor._core.rows cimport RowIndex

cnp.import_array()


def union(RowIndex a not None, RowIndex b not None):
    """Rows of `a`, then the rows of `b` that are not in `a`; new positions of both."""
    map_b = a.find_many(b.table)
    new = np.flatnonzero(map_b < 0)
    size = len(a.table)
    map_b[new] = np.arange(size, size + len(new))
    return np.concatenate([a.table, b.table[new]]), np.arange(size), map_b


def intersection(RowIndex a not None, RowIndex b not None):
    """Rows in both, in the order of the shorter table (of `a` if equally long); -1 elsewhere."""
    if len(b.table) < len(a.table):
        table, map_b, map_a = intersection(b, a)
        return table, map_a, map_b
    positions = b.find_many(a.table)
    map_a = np.full(len(a.table), -1)
    map_b = np.full(len(b.table), -1)
    common = np.flatnonzero(positions >= 0)
    map_a[common] = map_b[positions[common]] = np.arange(len(common))
    return a.table[common], map_a, map_b


def difference(RowIndex a not None, RowIndex b not None):
    """Rows of `a` that are not in `b`, and the new positions of the rows of `a`, -1 if removed."""
    kept = np.flatnonzero(b.find_many(a.table) < 0)
    map_a = np.full(len(a.table), -1)
    map_a[kept] = np.arange(len(kept))
    return a.table[kept], map_a


def select(cnp.ndarray table not None, columns, cnp.ndarray selection not None):
    """Positions of the rows whose `columns` match any row of the selection, in order."""
    part = np.ascontiguousarray(table[:, columns])
    return np.flatnonzero(RowIndex(selection).find_many(part) >= 0)


def lexsort(cnp.ndarray table not None):
    """Stable order of the rows, by the first column, then the second, ..."""
    if table.shape[1] == 0:
        return np.arange(table.shape[0])
    return np.lexsort(table.T[::-1])


def unique(cnp.ndarray table not None):
    """Sorted unique rows, and the position in them of every row of the table."""
    rows, maps = merge([table], True)
    groups = maps[0]
    return rows, np.arange(len(table)) if groups is None else groups


def merge(list tables not None, bint sort):
    """Union of tables, in order of appearance or sorted.

    Also the new positions of the rows of each table: None for a table that equals the union.
    """
    stacked = np.concatenate(tables)
    positions = {}
    groups = np.array([positions.setdefault(row.tobytes(), len(positions)) for row in stacked], np.intp)
    rows = stacked[np.unique(groups, return_index=True)[1]]
    if sort:
        order = lexsort(rows)
        rank = np.empty(len(order), np.intp)
        rank[order] = np.arange(len(order))
        rows, groups = rows[order], rank[groups]
    ends = np.cumsum([len(table) for table in tables])[:-1]
    maps = [None if np.array_equal(table, rows) else part
            for table, part in zip(tables, np.split(groups, ends))]
    return rows, maps
