"""Positions of rows and checks of uniqueness, against dict."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metatensor._core import rows
from metatensor._core.rows import RowIndex, first_duplicate, same_rows, strictly_sorted

LOW, HIGH = -(2**31), 2**31 - 1
entries = st.one_of(st.integers(0, 3), st.sampled_from([LOW, HIGH, -1]), st.integers(LOW, HIGH))

# Rows that the first hash function gives the same code: sums of these, whose entries times the
# keys of the function add up to zero.
COLLIDING = np.array(
    [
        [-5744, -2432, 2118, -2543, 156],
        [2612, 784, -5118, -4244, -778],
        [2782, -4485, 3064, 942, 1876],
        [1621, -4738, -356, 4910, -4606],
    ]
)


def rows_of(table):
    return [tuple(row) for row in table.tolist()]


def as_table(rows, columns):
    return np.array(list(rows), np.int32).reshape(len(rows), columns)


@st.composite
def tables(draw, columns=None):
    """Tables of few distinct entries, so that rows repeat."""
    columns = draw(st.integers(0, 5)) if columns is None else columns
    return draw(hnp.arrays(np.int32, (draw(st.integers(0, 12)), columns), elements=entries))


def unique_table(kind, size, columns, seed=0):
    """At most `size` distinct rows, one if there are no columns."""
    rng = np.random.default_rng(seed)
    if columns == 0:
        return np.empty((min(size, 1), 0), np.int32)
    if kind in ("sorted", "shuffled"):  # rows that nearly fill the box of their columns
        side = max(1, int(np.ceil((1.2 * size) ** (1 / columns))))
        places = np.sort(rng.choice(side**columns, size, replace=False))
        table = np.stack(np.unravel_index(places, (side,) * columns), axis=1) - side // 2
    else:
        low, high = {"random": (LOW, HIGH), "sparse": (-4 * size, 4 * size)}[kind]
        drawn = rng.integers(low, high, (size, columns), endpoint=True)
        if kind == "random":
            drawn[:1], drawn[1:2] = LOW, HIGH
        table = np.unique(drawn, axis=0)
    table = table.astype(np.int32)
    return table if kind == "sorted" else table[rng.permutation(len(table))]


KINDS = ["sorted", "shuffled", "random", "sparse"]
every_table = pytest.mark.parametrize(
    ("kind", "size", "columns"),
    [
        (kind, size, columns)
        for kind in KINDS
        for size in (0, 1, 2, 255, 257, 900)
        for columns in range(6)
    ]
    + [(kind, 300, columns) for kind in ("random", "sparse") for columns in (16, 17, 33, 70)],
)


def read_only(table):
    table.flags.writeable = False
    return table


# ------------------------------------------------------------------------------- checks of tables


@given(tables())
def test_checks_of_any_table(table):
    rows = rows_of(table)
    increasing = all(a < b for a, b in zip(rows[:-1], rows[1:], strict=True))
    repeated = next((i for i, row in enumerate(rows) if row in rows[:i]), -1)
    assert strictly_sorted(table) is increasing
    assert first_duplicate(table) == repeated


@every_table
def test_first_duplicate(kind, size, columns):
    table = unique_table(kind, size, columns)
    assert first_duplicate(read_only(table)) == -1
    for repeated, copy in [
        (0, 1),
        (0, len(table)),
        (len(table) - 1, len(table)),
        (len(table) // 2, 1),
    ]:
        if len(table) > 0:
            rows = rows_of(table)
            rows.insert(copy, rows[repeated])
            expected = next(i for i, row in enumerate(rows) if rows.index(row) < i)
            assert first_duplicate(as_table(rows, columns)) == expected


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 20])
@pytest.mark.parametrize("position", [0, 1, 254, 255, 256, 257, 511, 598])
def test_one_row_out_of_order(columns, position):
    table = unique_table("sorted", 600, columns)
    assert strictly_sorted(read_only(table))
    swapped = table.copy()
    swapped[[position, position + 1]] = table[[position + 1, position]]
    assert not strictly_sorted(swapped)
    assert not RowIndex(swapped).is_sorted
    swapped[position] = swapped[position + 1]
    assert not strictly_sorted(swapped)


@pytest.mark.parametrize("first", [(LOW, HIGH), (-1, HIGH), (0, LOW), (HIGH, LOW), (0, -1)])
@pytest.mark.parametrize("second", [(LOW, HIGH), (-1, HIGH), (0, LOW), (HIGH, LOW), (0, -1)])
def test_order_of_extremes_is_signed(first, second):
    table = as_table([first, second], 2)
    assert strictly_sorted(table) is (first < second)
    assert first_duplicate(table) == (1 if first == second else -1)


@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_rows_without_columns_are_equal(size):
    table = np.empty((size, 0), np.int32)
    assert strictly_sorted(table) is (size < 2)
    assert first_duplicate(table) == (1 if size > 1 else -1)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ([[1, 2], [3, 4]], True),
        ([[1, 2], [3, 5]], False),
        ([[1, 2]], False),
        ([[1, 2, 3, 4]], False),
        ([[1], [2], [3], [4]], False),
    ],
)
def test_same_rows(other, expected):
    table = read_only(np.array([[1, 2], [3, 4]], np.int32))
    assert same_rows(table, table)
    assert same_rows(table, np.array(other, np.int32)) is expected


@pytest.mark.parametrize(
    "table",
    [
        np.zeros((2, 2), np.int64),
        np.zeros((2, 2), np.uint32),
        np.zeros((2, 2), np.float32),
        np.zeros((2, 2), np.dtype(np.int32).newbyteorder()),
        np.zeros(2, np.int32),
        np.zeros((4, 4), np.int32)[:, ::2],
        np.zeros((4, 3), np.int32).T,
    ],
)
@pytest.mark.parametrize("use", [strictly_sorted, first_duplicate, RowIndex])
def test_other_arrays_are_refused(table, use):
    with pytest.raises(ValueError, match="C-contiguous 2-D array of int32"):
        use(table)


@pytest.mark.parametrize("use", [strictly_sorted, first_duplicate, RowIndex])
def test_more_rows_than_positions_can_count_are_refused(use):
    with pytest.raises(OverflowError, match="at most 2147483646 rows, got 2147483647"):
        use(np.empty((2**31 - 1, 0), np.int32))


# ------------------------------------------------------------------------------------- positions


@given(st.data(), tables())
def test_find_any_row(data, table):
    unique = list(dict.fromkeys(rows_of(table)))
    if data.draw(st.booleans()):
        unique = sorted(unique)
    table = as_table(unique, table.shape[1])
    others = np.concatenate([data.draw(tables(table.shape[1])), table])
    index = RowIndex(table)
    expected = [unique.index(row) if row in unique else -1 for row in rows_of(others)]
    assert index.find_many(others).tolist() == expected
    assert [index.find(row) for row in rows_of(others)] == expected


@every_table
@pytest.mark.parametrize("asked", ["all", "shuffled", "few", "other", "mixed", "none"])
def test_find_many(kind, size, columns, asked):
    table = unique_table(kind, size, columns)
    rng = np.random.default_rng(1)
    others = {
        "all": table.copy(),
        "shuffled": table[rng.permutation(len(table))],
        "few": table[rng.permutation(len(table))[: len(table) // 20]],
        "other": unique_table(kind, size, columns, seed=2),
        "mixed": np.concatenate([table[::2], unique_table("random", 100, columns)]),
        "none": table[:0],
    }[asked]
    positions = {row: i for i, row in enumerate(rows_of(table))}
    expected = [positions.get(row, -1) for row in rows_of(others)]
    index = RowIndex(read_only(table))
    found = index.find_many(read_only(others))
    assert found.dtype == np.intp
    assert found.tolist() == expected
    assert [index.find(row) for row in rows_of(others[:50])] == expected[:50]
    assert [index.find(row) for row in others[:50]] == expected[:50]
    assert index.find_many(others).tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("known", [True, False])
def test_index_of_known_order(kind, known):
    table = unique_table(kind, 300, 2)
    index = RowIndex(table, is_sorted=kind == "sorted") if known else RowIndex(table)
    assert index.is_sorted is (kind == "sorted")
    assert index.table is table
    assert index.nbytes == 0
    assert index.find(tuple(table[7])) == 7
    assert (index.nbytes == 0) == (kind == "sorted")
    assert index.nbytes <= 8 * len(table) + 2048


@pytest.mark.parametrize("make", [tuple, list, np.int32, np.int64, np.uint8, range, iter, "items"])
def test_kinds_of_rows(make):
    index = RowIndex(np.array([[5, 6], [0, 1], [3, 4]], np.int32))
    for position, row in enumerate([(5, 6), (0, 1), (3, 4), (1, 0)]):
        if make is range:
            given_row = range(row[0], row[0] + 2) if position < 3 else range(1, -1, -1)
        elif make == "items":
            given_row = [np.int64(row[0]), np.uint8(row[1])]
        elif make in (np.int32, np.int64, np.uint8):
            given_row = np.repeat(np.array(row, make), 2)[::2]
        else:
            given_row = make(row)
        assert index.find(given_row) == (position if position < 3 else -1)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ((1,), ValueError),
        ((1, 2, 3), ValueError),
        ((), ValueError),
        (np.zeros(3, np.int32), ValueError),
        (np.zeros((2, 2), np.int32), TypeError),
        (np.zeros((), np.int32), TypeError),
        (np.zeros(2), TypeError),
        ((1.0, 2.0), TypeError),
        ((2**40, 2.0), TypeError),
        (("a", "b"), TypeError),
        ("ab", TypeError),
        (None, TypeError),
        (3, TypeError),
    ],
)
def test_rows_that_can_not_be_found(row, error):
    with pytest.raises(error, match="rows of this table must have 2 entries|sequence of integers"):
        RowIndex(np.zeros((1, 2), np.int32)).find(row)


@pytest.mark.parametrize("entry", [HIGH + 1, LOW - 1, 2**32, 2**40, -(2**62), 2**64, -(2**100)])
def test_entries_beyond_int32_are_absent(entry):
    table = np.array([[0, 0], [-1, 0], [LOW, 0], [HIGH, 0]], np.int32)
    assert RowIndex(table).find((entry, 0)) == -1
    assert RowIndex(table).find((0, entry)) == -1


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match="must have 2 entries, got 3"):
        RowIndex(np.zeros((1, 2), np.int32)).find_many(np.zeros((1, 3), np.int32))


@pytest.mark.parametrize("kind", ["box", "hash"])
def test_repeated_rows_are_found_where_they_come_first(kind):
    table = np.array([[7, 1], [0, 0], [7, 1], [0, 0], [3, 2]], np.int32)
    if kind == "hash":
        table *= 10**8
    table = np.tile(table, (500, 1))
    assert RowIndex(table).find_many(table[:5]).tolist() == [0, 1, 0, 1, 4]


@pytest.mark.parametrize("first_tries", [0, 2])
def test_colliding_rows_are_spread_by_another_seed(monkeypatch, first_tries):
    draws = []

    def draw(size):  # the seed that collides at first, then another
        draws.append(size)
        return bytes(size) if len(draws) <= first_tries else b"\x01" * size

    monkeypatch.setattr(rows, "urandom", draw)
    steps = np.stack(np.meshgrid(*4 * [np.arange(8)]), axis=-1).reshape(-1, 4)
    table = (10**6 + steps @ COLLIDING).astype(np.int32)
    assert first_duplicate(table) == -1
    assert len(draws) == first_tries + 1
    assert first_duplicate(np.concatenate([table, table[5:6]])) == len(table)
    index = RowIndex(table)
    assert index.find_many(table[::-1].copy()).tolist() == list(range(len(table)))[::-1]
    assert set(index.find_many(table + 1).tolist()) == {-1}
