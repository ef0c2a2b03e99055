"""Plans that cut tables into parts, against lists of Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatensor._core import cuts


@st.composite
def plans(draw, most=6):
    """A number of rows, and which of them each of several results takes."""
    size = draw(st.integers(0, most))
    part = st.lists(st.integers(0, size - 1), max_size=8) if size else st.just([])
    return size, draw(st.lists(part, max_size=4))


def arrays(parts):
    positions = np.array([row for part in parts for row in part], dtype=np.intp)
    return positions, np.cumsum([0, *map(len, parts)]).astype(np.intp)


def lists(positions, bounds):
    return [positions[a:b].tolist() for a, b in zip(bounds, bounds[1:], strict=False)]


@given(plans(), st.integers(0, 3))
def test_tables_are_cut(plan, columns):
    size, parts = plan
    table = np.arange(size * columns, dtype=np.int32).reshape(size, columns)
    tables = cuts.cut(table, *arrays(parts))
    assert [part.tolist() for part in tables] == [table[part].tolist() for part in parts]


@given(plans())
def test_positions_ascend_once(plan):
    _, parts = plan
    assert lists(*cuts.ascending(*arrays(parts))) == [sorted(set(part)) for part in parts]


@given(plans())
def test_runs_are_consecutive(plan):
    _, parts = plan
    for part, start in zip(parts, cuts.runs(*arrays(parts)), strict=True):
        if part == list(range(part[0] if part else 0, (part[0] if part else 0) + len(part))):
            assert start == (part[0] if part else 0)
        else:
            assert start == -1


@given(plans(), st.data())
def test_gradient_rows_follow_each_copy_of_their_row(plan, data):
    size, parts = plan
    owners = data.draw(st.lists(st.integers(0, size - 1), max_size=10)) if size else []
    table = np.array([[owner, 7 * i] for i, owner in enumerate(owners)], dtype=np.int32)
    table = table.reshape(-1, 2)
    positions, bounds, samples = cuts.follow(table, *arrays(parts), size)
    expected = [
        [
            (row, place)
            for row, owner in enumerate(owners)
            for place, taken in enumerate(part)
            if taken == owner
        ]
        for part in parts
    ]
    assert lists(positions, bounds) == [[row for row, _ in part] for part in expected]
    assert lists(samples, bounds) == [[place for _, place in part] for part in expected]
    for found, part in zip(cuts.cut(table, positions, bounds, samples), expected, strict=True):
        assert found.tolist() == [[place, 7 * row] for row, place in part]


@given(st.lists(st.integers(-5, 4), max_size=6))
def test_negative_positions_count_from_the_end(positions):
    given_positions = np.array(positions, dtype=np.intp)
    assert cuts.absolute(given_positions, 5).tolist() == [range(5)[i] for i in positions]


def positions_of(*values):
    return np.array(values, dtype=np.intp)


TABLE = np.zeros((3, 2), dtype=np.int32)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: cuts.absolute(positions_of(3), 3), IndexError, r"in \[-3, 3\), got 3"),
        (lambda: cuts.absolute(positions_of(-4), 3), IndexError, "got -4"),
        (lambda: cuts.absolute(np.zeros((2, 2), np.intp), 3), ValueError, "contiguous intp"),
        (lambda: cuts.absolute(np.zeros(2, np.int32), 3), ValueError, "contiguous intp"),
        (lambda: cuts.cut(TABLE, positions_of(3), positions_of(0, 1)), IndexError, "got 3"),
        (lambda: cuts.cut(TABLE, positions_of(-1), positions_of(0, 1)), IndexError, "got -1"),
        (lambda: cuts.cut(TABLE, positions_of(1), positions_of(0, 2)), ValueError, "from 0 to 1"),
        (lambda: cuts.cut(TABLE, positions_of(1), positions_of()), ValueError, "from 0 to 1"),
        (lambda: cuts.runs(positions_of(1, 2), positions_of(0, 3, 2)), ValueError, "not decrease"),
        (
            lambda: cuts.cut(TABLE, positions_of(1), positions_of(0, 1), positions_of(-1)),
            IndexError,
            "samples",
        ),
        (
            lambda: cuts.cut(
                TABLE[:, :0].copy(), positions_of(1), positions_of(0, 1), positions_of(0)
            ),
            ValueError,
            "first column",
        ),
        (
            lambda: cuts.follow(TABLE, positions_of(5), positions_of(0, 1), 2),
            IndexError,
            r"in \[0, 2\), got 5",
        ),
        (
            lambda: cuts.follow(TABLE + 4, positions_of(0), positions_of(0, 1), 2),
            IndexError,
            "samples of gradients must be in .0, 2., got 4",
        ),
        (
            lambda: cuts.follow(TABLE[:, :0].copy(), positions_of(), positions_of(0), 2),
            ValueError,
            "first column",
        ),
    ],
)
def test_bad_plans(call, error, match):
    with pytest.raises(error, match=match):
        call()
