"""Sums over groups of rows, against a loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metatensor._core.segments import segment_sum

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
