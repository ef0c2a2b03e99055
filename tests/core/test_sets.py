"""Set operations on tables, against dict and numpy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metatensor._core import sets
from metatensor._core.rows import RowIndex

EXTREMES = [-(2**31), 2**31 - 1, -1]
entries = st.one_of(st.integers(0, 2), st.sampled_from(EXTREMES))


@st.composite
def several_tables(draw, number=2, distinct=True):
    """Tables with the same number of columns that share rows."""
    columns = draw(st.integers(0, 4))
    tables = []
    for _ in range(number):
        table = draw(hnp.arrays(np.int32, (draw(st.integers(0, 12)), columns), elements=entries))
        if distinct:
            table = as_table(dict.fromkeys(rows_of(table)), columns)
        if draw(st.booleans()):
            table = as_table(sorted(rows_of(table)), columns)
        tables.append(table)
    return tables


def rows_of(table):
    return [tuple(row) for row in table.tolist()]


def as_table(rows, columns):
    return np.array(list(rows), np.int32).reshape(len(rows), columns)


def positions(rows, result):
    return [result.index(row) if row in result else -1 for row in rows]


@given(several_tables())
def test_union_intersection_difference(tables):
    a, b = map(rows_of, tables)
    indices = [RowIndex(table) for table in tables]

    table, map_a, map_b = sets.union(*indices)
    expected = list(dict.fromkeys(a + b))
    assert rows_of(table) == expected
    assert map_a.tolist() == positions(a, expected)
    assert map_b.tolist() == positions(b, expected)

    table, map_a, map_b = sets.intersection(*indices)
    expected = (
        [row for row in a if row in b] if len(a) <= len(b) else [row for row in b if row in a]
    )
    assert rows_of(table) == expected
    assert map_a.tolist() == positions(a, expected)
    assert map_b.tolist() == positions(b, expected)

    table, map_a = sets.difference(*indices)
    expected = [row for row in a if row not in b]
    assert rows_of(table) == expected
    assert map_a.tolist() == positions(a, expected)


@given(several_tables(number=1, distinct=False))
def test_lexsort_and_unique(tables):
    rows = rows_of(tables[0])
    assert sets.lexsort(tables[0]).tolist() == sorted(range(len(rows)), key=rows.__getitem__)
    table, groups = sets.unique(tables[0])
    assert rows_of(table) == sorted(set(rows))
    assert groups.tolist() == positions(rows, rows_of(table))


@given(several_tables(number=3, distinct=False), st.booleans())
def test_merge(tables, sort):
    rows = [row for table in tables for row in rows_of(table)]
    table, maps = sets.merge(tables, sort)
    expected = sorted(set(rows)) if sort else list(dict.fromkeys(rows))
    assert rows_of(table) == expected
    for part, new in zip(tables, maps, strict=True):
        if new is None:
            assert rows_of(part) == expected
        else:
            assert new.tolist() == positions(rows_of(part), expected)


@given(st.data(), several_tables(number=1, distinct=False))
def test_select(data, tables):
    table = tables[0]
    columns = data.draw(st.permutations(range(table.shape[1])))
    columns = np.array(columns[: data.draw(st.integers(0, len(columns)))], np.intp)
    selection = data.draw(hnp.arrays(np.int32, (3, len(columns)), elements=entries))
    selection = as_table(dict.fromkeys(rows_of(selection)), len(columns))
    expected = [i for i, row in enumerate(rows_of(table[:, columns])) if row in rows_of(selection)]
    assert sets.select(table, columns, selection).tolist() == expected
