"""Plans and execution of block joins, against loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metatensor._core import joins

INT32 = st.one_of(st.integers(-2, 2), st.sampled_from([-(2**31), 2**31 - 1]))
DTYPES = ["float64", "float32", "float16", "complex128", "int8", "bool"]


def arrays(data, dtype, *shape, elements=None):
    return data.draw(hnp.arrays(dtype, shape, elements=elements))


def positions(*values):
    return np.array(values, dtype=np.intp)


@given(
    data=st.data(), columns=st.integers(0, 3), n_keys=st.integers(0, 2), keys_first=st.booleans()
)
def test_stack(data, columns, n_keys, keys_first):
    sizes = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    tables = [arrays(data, np.int32, size, columns, elements=INT32) for size in sizes]
    keys = arrays(data, np.int32, len(sizes), n_keys, elements=INT32)
    expected = []
    for table, key in zip(tables, keys.tolist(), strict=True):
        expected += [key + row if keys_first else row + key for row in table.tolist()]
    stacked = joins.stack(tables, keys, keys_first)
    assert stacked.dtype == np.int32
    assert stacked.shape == (sum(sizes), columns + n_keys)
    assert stacked.tolist() == expected


@given(data=st.data(), size=st.integers(0, 8))
def test_invert(data, size):
    order = data.draw(st.permutations(range(size)))
    taken = positions(*order[: data.draw(st.integers(0, size))])
    index = joins.invert(taken, size)
    assert index.tolist() == [
        taken.tolist().index(row) if row in taken else len(taken) for row in range(size)
    ]


def test_renumber():
    table = np.array([[1, 7], [0, -5], [1, 2]], dtype=np.int32)
    renumbered = joins.renumber(table, positions(9, 8, 7), 1)
    assert renumbered.tolist() == [[7, 7], [8, -5], [7, 2]]
    assert joins.renumber(table, None, 4).tolist() == [[5, 7], [4, -5], [5, 2]]
    assert table.tolist() == [[1, 7], [0, -5], [1, 2]]


@pytest.mark.parametrize("sample", [-1, 3, 2**31 - 1, -(2**31)])
def test_renumber_refuses_samples_out_of_range(sample):
    table = np.array([[0], [sample]], dtype=np.int32)
    with pytest.raises(IndexError, match=r"\[0, 3\)"):
        joins.renumber(table, positions(0, 1, 2))


def test_renumber_refuses_what_does_not_fit_in_int32():
    with pytest.raises(IndexError, match="2147483648"):
        joins.renumber(np.zeros((1, 1), dtype=np.int32), positions(2**31))
    with pytest.raises(IndexError, match="2147483648"):
        joins.renumber(np.ones((1, 1), dtype=np.int32), None, 2**31 - 1)


@given(
    data=st.data(),
    dtype=st.sampled_from(DTYPES),
    components=st.integers(0, 3),
    rows=st.integers(0, 6),
)
def test_gather_columns(data, dtype, components, rows):
    fill = arrays(data, dtype, 1)
    parts, indices, widths, expected = [], [], [], []
    for width in data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=4)):
        widths.append(width)
        kind = data.draw(st.sampled_from(["missing", "same rows", "other rows"]))
        size = rows if kind != "other rows" else data.draw(st.integers(0, 4))
        part = arrays(data, dtype, size, components, width)
        part.flags.writeable = data.draw(st.booleans())
        index = None
        if kind == "other rows":
            index = arrays(data, np.intp, rows, elements=st.integers(0, size))
        padded = np.concatenate([part, np.broadcast_to(fill, (1, components, width))])
        origin = [size] * rows if kind == "missing" else range(rows) if index is None else index
        expected.append(padded[np.array(origin, dtype=int)])
        parts.append(None if kind == "missing" else part)
        indices.append(index)
    filling = np.repeat(fill, max(widths))
    joined = joins.gather_columns(parts, indices, widths, rows, components, filling)
    assert joined.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(joined, np.concatenate(expected, axis=2))


@given(
    data=st.data(),
    dtype=st.sampled_from(DTYPES),
    components=st.integers(0, 3),
    width=st.integers(0, 9),
)
def test_gather_rows(data, dtype, components, width):
    fill = arrays(data, dtype, 1)
    parts, indices, expected = [], [], []
    for size in data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4)):
        columns = data.draw(st.one_of(st.none(), st.integers(0, 9)))
        part = arrays(data, dtype, size, components, width if columns is None else columns)
        index = None
        if columns is not None:
            index = arrays(data, np.intp, width, elements=st.integers(0, columns))
        padded = np.concatenate([part, np.broadcast_to(fill, (size, components, 1))], axis=2)
        expected.append(part if index is None else padded[:, :, index])
        parts.append(part)
        indices.append(index)
    stacked = np.concatenate(expected)
    order = data.draw(st.one_of(st.none(), st.permutations(range(len(stacked)))))
    if order is not None:
        order = positions(*order)
        stacked = stacked[order]
    joined = joins.gather_rows(parts, indices, order, components, np.repeat(fill, width))
    assert joined.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(joined, stacked)


ONE = np.ones((2, 1, 3))
FILL = np.zeros(3)
TABLE = np.zeros((2, 1), dtype=np.int32)
REFUSED = [
    (joins.stack, ([TABLE], np.zeros((2, 1), dtype=np.int32), True), ValueError),
    (joins.stack, ([], np.zeros((0, 1), dtype=np.int32), True), ValueError),
    (joins.stack, ([TABLE, TABLE[:, :0].copy()], TABLE, True), ValueError),
    (joins.stack, ([np.zeros((2, 1))], TABLE[:1], True), ValueError),
    (joins.stack, ([TABLE[::2]] * 2, TABLE, True), None),
    (joins.stack, ([np.zeros((4, 2), dtype=np.int32)[:, ::2]] * 2, TABLE, True), ValueError),
    (joins.stack, ([np.zeros(2, dtype=np.int32)] * 2, TABLE, True), ValueError),
    (joins.stack, ([None, TABLE], TABLE, True), TypeError),
    (joins.invert, (positions(0, 3), 3), IndexError),
    (joins.invert, (positions(-1), 3), IndexError),
    (joins.invert, (np.zeros(1, dtype=np.int32), 3), ValueError),
    (joins.renumber, (TABLE[:, :0].copy(), None), ValueError),
    (joins.gather_columns, ([ONE], [positions(0, 3)], [3], 2, 1, FILL), IndexError),
    (joins.gather_columns, ([ONE], [positions(0, -1)], [3], 2, 1, FILL), IndexError),
    (joins.gather_columns, ([ONE], [positions(0)], [3], 2, 1, FILL), ValueError),
    (joins.gather_columns, ([ONE], [None], [3], 3, 1, FILL), ValueError),
    (joins.gather_columns, ([ONE], [None], [2], 2, 1, FILL), ValueError),
    (joins.gather_columns, ([ONE], [None], [3], 2, 2, FILL), ValueError),
    (joins.gather_columns, ([ONE], [None], [3], 2, 1, FILL[:2]), ValueError),
    (joins.gather_columns, ([ONE], [None], [3], 2, 1, FILL.astype(np.float32)), ValueError),
    (joins.gather_columns, ([ONE[..., ::2]], [None], [2], 2, 1, FILL), ValueError),
    (joins.gather_columns, ([ONE], [], [3], 2, 1, FILL), ValueError),
    (joins.gather_columns, ([ONE[0]], [None], [3], 2, 1, FILL), ValueError),
    (joins.gather_columns, ([None], [None], [-1], 2, 1, FILL), ValueError),
    (joins.gather_columns, ([ONE], [None], [3], -2, 1, FILL), ValueError),
    (joins.gather_rows, ([ONE], [None], positions(0, 2), 1, FILL), IndexError),
    (joins.gather_rows, ([ONE], [None], positions(0, -1), 1, FILL), IndexError),
    (joins.gather_rows, ([ONE], [None], positions(0), 1, FILL), ValueError),
    (joins.gather_rows, ([ONE], [None], None, 1, FILL[:2]), ValueError),
    (joins.gather_rows, ([ONE], [positions(0, 1, 4)], None, 1, FILL), IndexError),
    (joins.gather_rows, ([ONE], [positions(0, 1)], None, 1, FILL), ValueError),
    (joins.gather_rows, ([None], [None], None, 1, FILL), TypeError),
    (joins.gather_rows, ([ONE.astype(object)], [None], None, 1, FILL.astype(object)), ValueError),
    (joins.gather_rows, ([ONE], [], None, 1, FILL), ValueError),
    (joins.gather_rows, ([ONE[0]], [None], None, 1, FILL), ValueError),
]


@pytest.mark.parametrize(("function", "arguments", "error"), REFUSED)
def test_refused(function, arguments, error):
    if error is None:
        function(*arguments)
        return
    with pytest.raises(error):
        function(*arguments)
