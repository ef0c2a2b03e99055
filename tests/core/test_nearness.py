"""Near numbers in one pass, against numpy's formula."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metatensor._core.nearness import near

DTYPES = ["float32", "float64"]


def expected(a, b, rtol, atol, equal_nan):
    """Compare with numpy, where infinities are close to themselves alone."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        close = (np.abs(a - b) <= atol + rtol * np.abs(b)) & np.isfinite(b)
    return bool((close | (a == b) | (equal_nan & np.isnan(a) & np.isnan(b))).all())


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_any_numbers(dtype, data):
    numbers = hnp.from_dtype(np.dtype(dtype))
    numbers |= st.sampled_from([0.0, -0.0, 1.0, np.inf, -np.inf, np.nan])
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    a = data.draw(hnp.arrays(dtype, shape, elements=numbers))
    b = a.copy()
    for _ in range(data.draw(st.integers(0, 3))):
        if a.size:
            b.flat[data.draw(st.integers(0, a.size - 1))] = data.draw(numbers)
    b.flags.writeable = data.draw(st.booleans())
    tolerances = st.sampled_from([0.0, 1e-13, 0.5, 1.0, 1e300])
    arguments = data.draw(tolerances), data.draw(tolerances), data.draw(st.booleans())
    assert near(a, b, *arguments) is expected(a, b, *arguments)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 2, 7, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("tolerance", [0.0, 1e-6])
def test_one_number_that_differs_is_found_anywhere(dtype, size, tolerance):
    a = np.random.default_rng(0).normal(size=size).astype(dtype)
    for position in {0, 1 % size, size // 2, size - 1}:
        b = a.copy()
        assert near(a, b, tolerance, tolerance, False)
        b[position] += 0.01
        assert not near(a, b, tolerance, tolerance, False)
        assert near(a, b, tolerance, 0.02, False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tolerance", [0.0, 1e-6])
@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (0.0, -0.0, True),
        (np.inf, np.inf, True),
        (np.inf, -np.inf, False),
        (np.inf, 1.0, False),
        (1.0, np.inf, False),
        (np.nan, 1.0, False),
        (1.0, np.nan, False),
        (np.nan, np.inf, False),
    ],
)
def test_special_numbers_among_others(dtype, tolerance, one, other, same):
    a = np.random.default_rng(0).normal(size=3000).astype(dtype)
    b = a.copy()
    a[1500], b[1500] = one, other
    assert near(a, b, tolerance, tolerance, False) is same
    assert near(a, b, tolerance, tolerance, True) is same


@pytest.mark.parametrize("tolerance", [0.0, 1e-6])
def test_nan(tolerance):
    a = np.full(3000, np.nan)
    assert near(a, a, tolerance, tolerance, True)
    assert not near(a, a, tolerance, tolerance, False)
    other_bits = -a  # another sign
    assert near(a, other_bits, tolerance, tolerance, True)


def test_the_tolerance_is_relative_to_the_second():
    one, ten = np.array([1.0]), np.array([10.0])
    assert near(one, ten, 0.9, 0.0, False)
    assert not near(ten, one, 0.9, 0.0, False)


def test_single_precision_is_compared_in_double_precision():
    a, b = np.float32([[3e38]]), np.float32([[-3e38]])
    assert near(a, b, 0.0, 6.1e38, False)
    assert not near(a, b, 0.0, 5.9e38, False)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones(3), np.ones(4)),
        (np.ones((2, 3)), np.ones((3, 2))),
        (np.ones(3), np.ones(3, np.float32)),
        (np.ones((4, 4)).T[1:], np.ones((4, 4)).T[1:]),
        (np.ones(6)[::2], np.ones(3)),
        (np.ones(3, ">f8"), np.ones(3, ">f8")),
        (np.ones(3, np.float16), np.ones(3, np.float16)),
        (np.ones(3, np.longdouble), np.ones(3, np.longdouble)),
        (np.ones(3, int), np.ones(3, int)),
        (np.ones(3, complex), np.ones(3, complex)),
    ],
)
def test_other_arrays_are_left_to_the_caller(a, b):
    assert near(a, b, 0.0, 0.0, False) is None


def test_only_arrays():
    with pytest.raises(TypeError):
        near([1.0], np.ones(1), 0.0, 0.0, False)
