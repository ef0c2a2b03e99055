"""Set operations on tables, against dict and numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metatensor._core import sets
from metatensor._core.rows import RowIndex

LOW, HIGH = -(2**31), 2**31 - 1
entries = st.one_of(st.integers(0, 2), st.sampled_from([LOW, HIGH, -1]))


def rows_of(table):
    return [tuple(row) for row in table.tolist()]


def as_table(rows, columns):
    return np.array(list(rows), np.int32).reshape(len(rows), columns)


def positions(rows, result):
    where = {row: i for i, row in enumerate(result)}
    return [where.get(row, -1) for row in rows]


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


def check_pair(a, b):
    rows_a, rows_b = rows_of(a.table), rows_of(b.table)
    in_a, in_b = set(rows_a), set(rows_b)

    table, map_a, map_b = sets.union(a, b)
    expected = list(dict.fromkeys(rows_a + rows_b))
    assert rows_of(table) == expected
    assert map_a.tolist() == positions(rows_a, expected)
    assert map_b.tolist() == positions(rows_b, expected)

    table, map_a, map_b = sets.intersection(a, b)
    shorter, others = (rows_a, in_b) if len(rows_a) <= len(rows_b) else (rows_b, in_a)
    expected = [row for row in shorter if row in others]
    assert rows_of(table) == expected
    assert map_a.tolist() == positions(rows_a, expected)
    assert map_b.tolist() == positions(rows_b, expected)

    table, map_a = sets.difference(a, b)
    expected = [row for row in rows_a if row not in in_b]
    assert rows_of(table) == expected
    assert map_a.tolist() == positions(rows_a, expected)


def check_groups(table):
    rows = rows_of(table)
    order = sets.lexsort(table)
    assert order.dtype == np.intp
    assert order.tolist() == sorted(range(len(rows)), key=rows.__getitem__)
    unique, groups = sets.unique(table)
    assert rows_of(unique) == sorted(set(rows))
    assert groups.tolist() == positions(rows, rows_of(unique))


def check_merge(tables, sort):
    rows = [row for table in tables for row in rows_of(table)]
    expected = sorted(set(rows)) if sort else list(dict.fromkeys(rows))
    table, maps = sets.merge(tables, sort)
    assert rows_of(table) == expected
    for part, new in zip(tables, maps, strict=True):
        assert (new is None) == (rows_of(part) == expected)
        if new is not None:
            assert new.tolist() == positions(rows_of(part), expected)


# ----------------------------------------------------------------------------- against any table


@given(several_tables())
def test_any_pair(tables):
    check_pair(*map(RowIndex, tables))


@given(several_tables(number=1, distinct=False))
def test_groups_of_any_table(tables):
    check_groups(tables[0])


@given(several_tables(number=3, distinct=False), st.booleans())
def test_merge_of_any_tables(tables, sort):
    check_merge(tables, sort)


@given(st.data(), several_tables(number=1, distinct=False))
def test_select_from_any_table(data, tables):
    table = tables[0]
    columns = data.draw(st.permutations(range(table.shape[1])))
    columns = columns[: data.draw(st.integers(0, len(columns)))]
    shape = (data.draw(st.integers(0, 3)), len(columns))
    selection = data.draw(hnp.arrays(np.int32, shape, elements=entries))
    expected = [i for i, row in enumerate(rows_of(table[:, columns])) if row in rows_of(selection)]
    assert sets.select(table, np.array(columns, np.intp), selection).tolist() == expected


# ---------------------------------------------------------------------------------- larger tables


def parts(kind, size, columns):
    """Two tables of distinct rows, a part of which they share, and the number that they do not."""
    rng = np.random.default_rng(size + columns)
    if kind == "sparse":
        table = np.unique(rng.integers(LOW, HIGH, (2 * size, columns), dtype=np.int32), axis=0)
        table = table[rng.permutation(len(table))]
    else:
        places = np.unravel_index(np.arange(2 * size), (2 * size,) + (4,) * (columns - 1))
        table = np.stack(places, axis=1).astype(np.int32) - 3
        if columns > 1:
            table = table[np.lexsort(table.T[::-1])]
    a, b = table[: size + size // 3], table[size // 2 :]
    if kind == "shuffled":
        a, b = a[rng.permutation(len(a))], b[rng.permutation(len(b))]
    if kind == "half sorted":
        b = b[rng.permutation(len(b))]
    return a.copy(), b.copy()


every_size = [
    (kind, size, columns)
    for kind in ("sorted", "shuffled", "half sorted", "sparse")
    for size in (1, 3, 200, 700)
    for columns in (1, 2, 3, 4)
]


@pytest.mark.parametrize(("kind", "size", "columns"), every_size)
@pytest.mark.parametrize("searched", ["neither", "first", "second", "both"])
def test_pairs(kind, size, columns, searched):
    a, b = parts(kind, size, columns)
    for table in (a, b):
        table.flags.writeable = False
    a, b = RowIndex(a), RowIndex(b)
    for index, name in [(a, "first"), (b, "second")]:
        if searched in (name, "both"):
            index.find_many(index.table[::-1].copy())
    check_pair(a, b)
    check_pair(b, a)


@pytest.mark.parametrize(("kind", "size", "columns"), every_size)
def test_pairs_of_unequal_size(kind, size, columns):
    a, b = parts(kind, size, columns)
    check_pair(RowIndex(a), RowIndex(b[: len(b) // 30].copy()))
    check_pair(RowIndex(a[: len(a) // 30].copy()), RowIndex(b))
    check_pair(RowIndex(a), RowIndex(b[:0]))


@pytest.mark.parametrize("kind", ["sorted", "shuffled", "sparse"])
def test_equal_tables_are_not_copied(kind):
    table, _ = parts(kind, 300, 2)
    index, other = RowIndex(table), RowIndex(table.copy())
    for pair in [(index, index), (index, other)]:
        check_pair(*pair)
        for operation in (sets.union, sets.intersection):
            assert operation(*pair)[0] is table
        assert len(sets.difference(*pair)[0]) == 0
    assert index.nbytes == 0
    assert other.nbytes == 0


@pytest.mark.parametrize("operation", [sets.union, sets.intersection, sets.difference])
def test_pairs_of_different_width_are_refused(operation):
    with pytest.raises(ValueError, match="same number of columns, got [23] and [23]"):
        operation(RowIndex(np.zeros((1, 2), np.int32)), RowIndex(np.zeros((1, 3), np.int32)))


@pytest.mark.parametrize(("kind", "size", "columns"), every_size)
@pytest.mark.parametrize("times", [1, 3])
def test_groups(kind, size, columns, times):
    a, b = parts(kind, size, columns)
    check_groups(np.concatenate([a, b] * times))
    check_groups(np.repeat(a, times, axis=0))


@pytest.mark.parametrize("columns", [1, 2, 3, 16, 17, 35])
@pytest.mark.parametrize("highest", [1, 3, 2**20, HIGH])
def test_order_of_wide_tables(columns, highest):
    rng = np.random.default_rng(columns)
    table = rng.integers(-highest - 1, highest, (600, columns), dtype=np.int32, endpoint=True)
    table[100:300] = table[:200]
    table[300:500, : columns // 2] = table[:200, : columns // 2]
    table[0], table[1] = LOW, HIGH
    check_groups(table)


@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_groups_of_rows_without_columns(size):
    check_groups(np.empty((size, 0), np.int32))


@pytest.mark.parametrize(("kind", "size", "columns"), every_size)
@pytest.mark.parametrize("sort", [True, False])
def test_merge(kind, size, columns, sort):
    a, b = parts(kind, size, columns)
    check_merge([a, b], sort)
    check_merge([a, a.copy(), a], sort)
    check_merge([a, a, b, b, a[:0], b[::-1].copy()], sort)
    check_merge([np.concatenate([a, b]), a], sort)


@pytest.mark.parametrize("sort", [True, False])
def test_merge_of_equal_sorted_tables_copies_nothing(sort):
    table, _ = parts("sorted", 300, 3)
    merged, maps = sets.merge([table, table.copy(), table], sort)
    assert merged is table
    assert maps == [None, None, None]


def test_merge_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one table"):
        sets.merge([], False)


@pytest.mark.parametrize(("kind", "size", "columns"), every_size)
def test_select(kind, size, columns):
    table, _ = parts(kind, size, columns)
    rng = np.random.default_rng(0)
    for chosen in [[0], [columns - 1], list(range(columns)), list(range(columns))[::-1]]:
        part = table[:, chosen]
        for selection in (part[rng.integers(len(part), size=len(part) // 3)], part[:1], part + 1):
            selection = np.ascontiguousarray(selection)
            wanted = set(rows_of(selection))
            expected = [i for i, row in enumerate(rows_of(part)) if row in wanted]
            assert sets.select(table, np.array(chosen), selection).tolist() == expected


@pytest.mark.parametrize(
    ("columns", "width", "error"),
    [([0, 1], 1, ValueError), ([0], 2, ValueError), ([2], 1, IndexError), ([-1], 1, IndexError)],
)
def test_selections_that_do_not_fit(columns, width, error):
    with pytest.raises(error, match="columns"):
        sets.select(np.zeros((3, 2), np.int32), np.array(columns), np.zeros((1, width), np.int32))
