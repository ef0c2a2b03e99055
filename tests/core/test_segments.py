"""Sums over groups of rows or columns, against loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metatensor._core.segments import (
    segment_sum,
    segment_sum_columns,
    segment_sum_products,
    segment_sum_squares,
)

DTYPES = [
    "float32", "float64", "complex64", "complex128",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
]  # fmt: skip


def sum_in_order(values, groups, size):
    sums = np.zeros((size, values.shape[1]), dtype=values.dtype)
    for row, group in zip(values, groups, strict=True):
        sums[group] += row
    return sums


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_is_the_sequential_sum_bit_by_bit(dtype, data):
    dtype = np.dtype(dtype)
    shape = data.draw(st.tuples(st.integers(0, 20), st.integers(0, 9)))
    elements = None
    if dtype.kind in "fc":
        elements = hnp.from_dtype(dtype, allow_nan=False, allow_infinity=False)
    values = data.draw(hnp.arrays(dtype, shape, elements=elements))
    values.flags.writeable = data.draw(st.booleans())
    size = data.draw(st.integers(1, 6))
    groups = data.draw(hnp.arrays(np.intp, shape[0], elements=st.integers(0, size - 1)))
    with np.errstate(over="ignore", invalid="ignore"):
        expected = sum_in_order(values, groups, size)
    sums = segment_sum(values, groups, size)
    assert sums.dtype == dtype
    np.testing.assert_array_equal(sums, expected)


def test_order_of_addition_shows():
    values = np.array([[1.0], [1e16], [-1e16]])
    assert segment_sum(values, np.zeros(3, dtype=np.intp), 1) == 0
    assert segment_sum(values[[1, 2, 0]], np.zeros(3, dtype=np.intp), 1) == 1


def test_no_rows_and_no_groups():
    assert segment_sum(np.ones((0, 3)), np.zeros(0, dtype=np.intp), 2).tolist() == [[0] * 3] * 2
    assert segment_sum(np.ones((0, 3)), np.zeros(0, dtype=np.intp), 0).shape == (0, 3)


@pytest.mark.parametrize("group", [-1, 2, 2**62, -(2**63)])
def test_bad_group(group):
    with pytest.raises(IndexError, match=rf"\[0, 2\), got {group} at position 1"):
        segment_sum(np.ones((3, 2)), np.array([0, group, 0]), 2)


@pytest.mark.parametrize(
    ("values", "groups", "error"),
    [
        (np.ones(3), np.zeros(3, dtype=np.intp), ValueError),
        (np.ones((3, 4))[:, ::2], np.zeros(3, dtype=np.intp), ValueError),
        (np.ones((3, 2)), np.zeros(2, dtype=np.intp), ValueError),
        (np.ones((3, 2)), np.zeros(3, dtype=np.int32), ValueError),
        (np.ones((3, 2), dtype=">f8"), np.zeros(3, dtype=np.intp), ValueError),
        (np.ones((3, 2), dtype=np.float16), np.zeros(3, dtype=np.intp), TypeError),
        (np.ones((3, 2), dtype=bool), np.zeros(3, dtype=np.intp), TypeError),
        (np.ones((3, 2), dtype=object), np.zeros(3, dtype=np.intp), TypeError),
        (np.ones((3, 2), dtype=np.longdouble), np.zeros(3, dtype=np.intp), TypeError),
    ],
)
def test_refused(values, groups, error):
    with pytest.raises(error):
        segment_sum(values, groups, 3)


def test_negative_size():
    with pytest.raises(ValueError, match="negative"):
        segment_sum(np.ones((1, 1)), np.zeros(1, dtype=np.intp), -1)


def floats(*shape, dtype=np.float64, seed=0):
    values = np.random.default_rng(seed).normal(size=shape).astype(dtype)
    values.flags.writeable = False
    return values


def positions(*numbers):
    return np.array(numbers, dtype=np.intp)


# ---- columns


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_sum_of_columns_is_that_of_rows_of_the_transpose(dtype, data):
    shape = data.draw(st.tuples(st.integers(0, 20), st.integers(0, 9)))  # eight rows at a time
    values = (100 * np.random.default_rng(0).random(shape)).astype(dtype)
    size = data.draw(st.integers(1, 6))
    groups = data.draw(hnp.arrays(np.intp, shape[1], elements=st.integers(0, size - 1)))
    sums = segment_sum_columns(values, groups, size)
    assert sums.dtype == dtype
    np.testing.assert_array_equal(sums, sum_in_order(values.T, groups, size).T)


@pytest.mark.parametrize("group", [-1, 2, 2**62, -(2**63)])
@pytest.mark.parametrize("rows", [0, 3, 9])
def test_bad_group_of_columns(group, rows):
    with pytest.raises(IndexError, match=rf"\[0, 2\), got {group} at position 1"):
        segment_sum_columns(np.ones((rows, 3)), positions(0, group, 0), 2)


@pytest.mark.parametrize(
    ("values", "groups", "size", "error"),
    [
        (np.ones(3), positions(0, 0, 0), 1, ValueError),
        (np.ones((3, 4))[:, ::2], positions(0, 0), 1, ValueError),
        (np.ones((2, 3)), positions(0, 0), 1, ValueError),
        (np.ones((2, 3)), np.zeros(3, dtype=np.int32), 1, ValueError),
        (np.ones((2, 3)), positions(0, 0, 0), -1, ValueError),
        (np.ones((2, 3), dtype=np.float16), positions(0, 0, 0), 1, TypeError),
    ],
)
def test_refused_columns(values, groups, size, error):
    with pytest.raises(error):
        segment_sum_columns(values, groups, size)


# ---- squares


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(groups=st.lists(st.integers(0, 3), max_size=12), columns=st.integers(0, 5))
def test_squares_against_a_loop_bit_by_bit(dtype, groups, columns):
    values, centres = floats(len(groups), columns, dtype=dtype), floats(4, columns, dtype=dtype)
    expected = np.zeros((4, columns), dtype=dtype)
    for row, group in zip(values, groups, strict=True):
        expected[group] += (row - centres[group]) ** 2
    sums = segment_sum_squares(values, positions(*groups), centres)
    assert sums.dtype == dtype
    np.testing.assert_array_equal(sums, expected)


@pytest.mark.parametrize("group", [-1, 2, 2**62, -(2**63)])
def test_bad_group_of_squares(group):
    with pytest.raises(IndexError, match=rf"\[0, 2\), got {group} at position 1"):
        segment_sum_squares(floats(3, 2), positions(0, group, 0), floats(2, 2))
    with pytest.raises(IndexError):
        segment_sum_squares(floats(1, 2), positions(0), floats(0, 2))


@pytest.mark.parametrize(
    ("values", "groups", "centres", "error"),
    [
        (floats(3), positions(0, 0, 0), floats(1, 3), ValueError),
        (floats(3, 2), positions(0, 0), floats(1, 2), ValueError),
        (floats(3, 2), positions(0, 0, 0), floats(1, 3), ValueError),
        (floats(3, 2), positions(0, 0, 0), floats(2), ValueError),
        (floats(3, 2), positions(0, 0, 0), floats(1, 2, dtype=np.float32), TypeError),
        (np.ones((3, 2), int), positions(0, 0, 0), np.ones((1, 2), int), TypeError),
        (np.ones((3, 2), complex), positions(0, 0, 0), np.ones((1, 2), complex), TypeError),
    ],
)
def test_refused_squares(values, groups, centres, error):
    with pytest.raises(error):
        segment_sum_squares(values, groups, centres)


# ---- products


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("centred", [False, True])
@given(
    pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=12),
    shape=st.tuples(st.integers(0, 3), st.integers(0, 5)),
)
def test_products_against_a_loop_bit_by_bit(dtype, centred, pairs, shape):
    values = floats(len(pairs), *shape, dtype=dtype)
    weights, centres = floats(5, shape[1], dtype=dtype, seed=1), floats(2, shape[1], dtype=dtype)
    centre_rows = positions(0, 1, 1, 0, 1)
    expected = np.zeros((4, *shape), dtype=dtype)
    for row, (group, weight) in zip(values, pairs, strict=True):
        centre = centres[centre_rows[weight]] if centred else dtype(0)
        expected[group] += (weights[weight] - centre) * row
    sums = segment_sum_products(
        values,
        positions(*[group for group, _ in pairs]),
        4,
        weights,
        positions(*[weight for _, weight in pairs]),
        *([centres, centre_rows] if centred else []),
    )
    assert sums.dtype == dtype
    np.testing.assert_array_equal(sums, expected)


PRODUCTS = {
    "values": floats(3, 2, 4),
    "groups": positions(0, 1, 0),
    "size": 2,
    "weights": floats(5, 4),
    "rows": positions(4, 0, 1),
    "centres": floats(3, 4),
    "centre_rows": positions(0, 1, 2, 0, 1),
}


@pytest.mark.parametrize(("name", "size"), [("groups", 2), ("rows", 5), ("centre_rows", 3)])
@pytest.mark.parametrize("bad", [-1, 2**62, -(2**63), None])
def test_bad_position_of_products(name, size, bad):
    numbers = PRODUCTS[name].copy()
    numbers[1] = size if bad is None else bad
    text = rf"`{name}` must be in \[0, {size}\), got {numbers[1]} at position 1"
    with pytest.raises(IndexError, match=text):
        segment_sum_products(**{**PRODUCTS, name: numbers})


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"values": floats(3, 8)}, ValueError),
        ({"values": floats(3, 2, 8)[:, :, ::2]}, ValueError),
        ({"values": floats(3, 2, 4, dtype=np.float32)}, TypeError),
        ({"values": np.ones((3, 2, 4), complex), "weights": np.ones((5, 4), complex)}, TypeError),
        ({"weights": floats(5, 3)}, ValueError),
        ({"weights": floats(5)}, ValueError),
        ({"centres": floats(3, 3)}, ValueError),
        ({"centre_rows": None}, ValueError),
        ({"centre_rows": positions(0, 1, 2)}, ValueError),
        ({"rows": positions(0, 1)}, ValueError),
        ({"groups": positions(0, 1)}, ValueError),
        ({"size": -1}, ValueError),
    ],
)
def test_refused_products(changed, error):
    with pytest.raises(error):
        segment_sum_products(**{**PRODUCTS, **changed})
