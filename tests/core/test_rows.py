"""RowIndex and the checks of uniqueness, against dict and set."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metatensor._core.rows import RowIndex, first_duplicate, same_rows, strictly_sorted

EXTREMES = [-(2**31), 2**31 - 1, -1, 0, 1]
entries = st.one_of(st.integers(0, 3), st.sampled_from(EXTREMES), st.integers(-(2**31), 2**31 - 1))


@st.composite
def tables(draw, columns=None):
    """Tables of few distinct entries, so that rows repeat."""
    shape = (draw(st.integers(0, 12)), draw(st.integers(0, 5)) if columns is None else columns)
    return draw(hnp.arrays(np.int32, shape, elements=entries))


def rows_of(table):
    return [tuple(row) for row in table.tolist()]


def unique_rows(table):
    rows = list(dict.fromkeys(rows_of(table)))
    return np.array(rows, np.int32).reshape(len(rows), table.shape[1])


@given(tables())
def test_first_duplicate(table):
    rows = rows_of(table)
    expected = next((i for i, row in enumerate(rows) if row in rows[:i]), -1)
    assert first_duplicate(table) == expected


@given(tables())
def test_strictly_sorted(table):
    rows = rows_of(table)
    expected = all(a < b for a, b in zip(rows[:-1], rows[1:], strict=True))
    assert strictly_sorted(table) is expected


@given(st.data(), tables())
def test_find(data, table):
    table = unique_rows(table)
    if data.draw(st.booleans()):
        table = np.array(sorted(rows_of(table)), np.int32).reshape(table.shape)
    others = np.concatenate([data.draw(tables(table.shape[1])), table])
    index = RowIndex(table)
    positions = {row: i for i, row in enumerate(rows_of(table))}
    expected = [positions.get(row, -1) for row in rows_of(others)]
    assert index.find_many(others).tolist() == expected
    assert [index.find(row) for row in rows_of(others)] == expected


@pytest.mark.parametrize("columns", range(6))
def test_read_only_inputs(columns):
    table = np.arange(4 * columns, dtype=np.int32).reshape(4, columns)[: 4 if columns else 1, :]
    table.flags.writeable = False
    index = RowIndex(table)
    assert index.find_many(table).tolist() == list(range(len(table)))
    assert first_duplicate(table) == -1
    assert same_rows(table, table.copy())


@pytest.mark.parametrize(
    ("row", "error"),
    [((1,), ValueError), ((1, 2, 3), ValueError), ((1.0, 2.0), TypeError), (("a", "b"), TypeError)],
)
def test_rows_that_can_not_be_found(row, error):
    with pytest.raises(error):
        RowIndex(np.zeros((1, 2), np.int32)).find(row)


@pytest.mark.parametrize("entry", [2**31, -(2**31) - 1, 2**40, -(2**62)])
def test_entries_beyond_int32_are_absent(entry):
    assert RowIndex(np.zeros((1, 1), np.int32)).find((entry,)) == -1


@pytest.mark.parametrize(
    "table", [np.zeros((2, 2), np.int64), np.zeros(2, np.int32), np.zeros((4, 4), np.int32)[:, ::2]]
)
def test_other_arrays_are_refused(table):
    with pytest.raises(ValueError, match="C-contiguous 2-D array of int32"):
        strictly_sorted(table)
