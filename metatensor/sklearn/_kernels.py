"""Kernels of two rows of features, and how they change along directions of either row.

With s = x.z, a = x.x and b = z.z, every kernel here is k(s, a, b). Along u at x and v at z

    dk  = A (u.z) + B (u.x)
    d2k = C (u.v) + D (u.z)(x.v) + E (u.x)(x.v) + F (u.z)(z.v) + G (u.x)(z.v)

and a kernel is the table of its value and of these coefficients, each of shape (n_x, n_z) or a
number. Directions come as rows of gradients: values (n_rows, n_features), and for each row the
position of the row of features that it belongs to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks
from metatensor.sklearn import _base

Array: TypeAlias = _arrays.Array
Positions = npt.NDArray[np.intp]


class First(NamedTuple):
    """Coefficients of the derivative along a direction at x."""

    z: Any  # A, of u.z
    x: Any  # B, of u.x


class Second(NamedTuple):
    """Coefficients of the mixed derivative, along u at x and v at z."""

    uv: Any  # C, of u.v
    zx: Any  # D, of (u.z)(x.v)
    xx: Any  # E, of (u.x)(x.v)
    zz: Any  # F, of (u.z)(z.v)
    xz: Any  # G, of (u.x)(z.v)


class _Products(NamedTuple):
    """Products of all pairs of rows, (n_x, n_z), and of rows with themselves."""

    s: Array
    a: Array  # (n_x, 1)
    b: Array  # (1, n_z)


@dataclass(frozen=True)
class Kernel:
    """A kernel with its parameters.

    Parameters
    ----------
    name : str
        one of the names in the table
    gamma, coef0, degree : float
        parameters, as in :mod:`sklearn.metrics.pairwise`

    """

    name: str
    gamma: float
    coef0: float
    degree: float

    @property
    def is_linear(self) -> bool:
        """Whether values of rows with components, which rotate, may be put in."""
        return self.name == "linear"

    def values(self, x: Array, z: Array) -> Array:
        """Return k of all pairs of rows, (n_x, n_z)."""
        value: Array = _TABLE[self.name].value(self, _products(x, z))
        return value

    def diagonal(self, x: Array) -> Array:
        """Return k of each row with itself, (n_x,)."""
        xp = _arrays.namespace(x)
        a = xp.sum(x * x, axis=1, keepdims=True)
        value: Array = _TABLE[self.name].value(self, _Products(a, a, a))
        return value[:, 0]

    def first(self, x: Array, z: Array, u: Array, rows: Positions) -> Array:
        """Return the derivatives along directions at x, (n_u, n_z).

        Parameters
        ----------
        x, z : array, (n_x, n_features) and (n_z, n_features)
        u : array, (n_u, n_features)
            directions
        rows : array of int, (n_u,)
            which row of x each direction belongs to

        """
        A, B = _TABLE[self.name].first(self, _products(x, z))
        xp = _arrays.namespace(x)
        result = _at(A, rows) * (u @ xp.matrix_transpose(z))
        if is_zero(B):
            return result
        return result + _at(B, rows) * xp.sum(u * _arrays.take(x, rows), axis=1, keepdims=True)

    def first_terms(self, x: Array, z: Array) -> First:
        """Return the coefficients of first derivatives, each (n_x, n_z) or 0.0."""
        return First(*_as_arrays(_TABLE[self.name].first(self, _products(x, z)), x, z))

    def second_terms(self, x: Array, z: Array) -> Second:
        """Return the coefficients of mixed derivatives, each (n_x, n_z) or 0.0."""
        return Second(*_as_arrays(_TABLE[self.name].second(self, _products(x, z)), x, z))


@dataclass(frozen=True)
class Custom:
    """A function that is a kernel, whose derivatives are not known.

    Parameters
    ----------
    function : callable
        of rows (n_x, n_features) and (n_z, n_features), returns (n_x, n_z)

    """

    function: Callable[[Array, Array], Array]

    def values(self, x: Array, z: Array) -> Array:
        """Return k of all pairs of rows, (n_x, n_z)."""
        values = self.function(x, z)
        shape, required = getattr(values, "shape", None), (x.shape[0], z.shape[0])
        if shape is None or tuple(shape) != required:
            raise ValueError(
                "`kernel` must return an array with one row for each row of its first argument and "
                f"one column for each row of its second one, {required}, got "
                f"{_checks.kind(values) if shape is None else tuple(shape)}"
            )
        if _arrays.library(values) != _arrays.library(x) or _arrays.kind(values) == "complex":
            raise TypeError(
                "`kernel` must return real numbers in an array of the same library as its "
                f"arguments, {_checks.kind(x)}, got {_checks.kind(values)} of {values.dtype}"
            )
        return rows_of(values)


def _products(x: Array, z: Array) -> _Products:
    xp = _arrays.namespace(x)
    return _Products(
        x @ xp.matrix_transpose(z), xp.sum(x * x, axis=1)[:, None], xp.sum(z * z, axis=1)[None, :]
    )


def is_zero(coefficient: Any) -> bool:
    """Tell whether a coefficient is zero for all pairs of rows."""
    return isinstance(coefficient, float) and coefficient == 0.0


def _at(coefficient: Any, rows: Positions) -> Any:
    if isinstance(coefficient, float):
        return coefficient
    return _arrays.take(coefficient, rows)


def _as_arrays(coefficients: tuple[Any, ...], x: Array, z: Array) -> list[Any]:
    """Return numbers other than zero as arrays."""
    return [
        _arrays.full((x.shape[0], z.shape[0]), c, x) if isinstance(c, float) and c != 0.0 else c
        for c in coefficients
    ]


# ---- the table


class _Rules(NamedTuple):
    value: Callable[[Kernel, _Products], Array]
    first: Callable[[Kernel, _Products], First]
    second: Callable[[Kernel, _Products], Second]


def _poly(kernel: Kernel, p: _Products, order: int = 0) -> Any:
    """Return a derivative of (gamma s + coef0)^degree with respect to s."""
    factor, power = 1.0, kernel.degree
    for _ in range(order):
        factor, power = factor * power * kernel.gamma, power - 1
    if factor == 0.0:
        return 0.0
    base = kernel.gamma * p.s + kernel.coef0
    if not power.is_integer() and bool(_arrays.namespace(base).any(base < 0)):
        raise ValueError(
            "kernel='poly' needs a `degree` that is a whole number where gamma x.z + coef0 is "
            f"negative, got {kernel.degree}; use another `degree`, or a larger `coef0`"
        )
    return factor * base**power


def _rbf(kernel: Kernel, p: _Products) -> Array:
    xp = _arrays.namespace(p.s)
    squares = p.a + p.b - 2 * p.s
    # rounding makes the square of small distances negative; what is no number stays so
    return xp.exp(-kernel.gamma * xp.where(squares < 0, xp.zeros_like(squares), squares))


def _rbf_second(kernel: Kernel, p: _Products) -> Second:
    k = _rbf(kernel, p)
    square = 4 * kernel.gamma**2 * k
    return Second(2 * kernel.gamma * k, square, -square, -square, square)


def _inverse_norms(p: _Products) -> tuple[Array, Array]:
    """Return 1/|x| and 1/|z|, zero for rows that are zero."""
    xp = _arrays.namespace(p.s)
    inverse = []
    for square in (p.a, p.b):
        safe = xp.where(square > 0, square, xp.ones_like(square))
        inverse.append(xp.where(square > 0, 1 / xp.sqrt(safe), xp.zeros_like(square)))
    return inverse[0], inverse[1]


def _cosine(kernel: Kernel, p: _Products) -> Array:
    x, z = _inverse_norms(p)
    return p.s * x * z


def _cosine_first(kernel: Kernel, p: _Products) -> First:
    x, z = _inverse_norms(p)
    return First(x * z, -p.s * x**3 * z)


def _cosine_second(kernel: Kernel, p: _Products) -> Second:
    x, z = _inverse_norms(p)
    return Second(x * z, 0.0, -(x**3) * z, -x * z**3, p.s * x**3 * z**3)


_TABLE: dict[str, _Rules] = {
    "linear": _Rules(
        lambda kernel, p: p.s,
        lambda kernel, p: First(1.0, 0.0),
        lambda kernel, p: Second(1.0, 0.0, 0.0, 0.0, 0.0),
    ),
    "poly": _Rules(
        _poly,
        lambda kernel, p: First(_poly(kernel, p, 1), 0.0),
        lambda kernel, p: Second(_poly(kernel, p, 1), _poly(kernel, p, 2), 0.0, 0.0, 0.0),
    ),
    "rbf": _Rules(
        _rbf,
        lambda kernel, p: First(
            2 * kernel.gamma * _rbf(kernel, p), -2 * kernel.gamma * _rbf(kernel, p)
        ),
        _rbf_second,
    ),
    "cosine": _Rules(_cosine, _cosine_first, _cosine_second),
}

#: names of kernels with derivatives
KERNELS = tuple(_TABLE)


# ---- arrays


def rows_of(values: Array) -> Array:
    """Return (n, ..., n_features) as rows in double precision, with their autograd history."""
    xp = _arrays.namespace(values)
    values = xp.astype(_base.as_float(values), xp.float64, copy=False)
    return _arrays.reshape(values, (math.prod(values.shape[:-1]), values.shape[-1]))


def moved(array: Array, like: Array) -> Array:
    """Return what was learnt in double precision, where ``like`` is."""
    array = _base.to_float64(array)
    if type(array) is type(like) and _arrays.device(array) == _arrays.device(like):
        return array
    return _arrays.from_host(_arrays.to_host(array), _base.to_float64(like[:0, ...]))


# ---- parameters of estimators

#: of rows (n_x, n_features) and (n_z, n_features) in double precision, returns (n_x, n_z)
Function: TypeAlias = Callable[[Array, Array], Array]


def check_parameters(kernel: Any, gamma: Any, coef0: Any, degree: Any, others: Any = ()) -> None:
    """Check the parameters that say which kernel an estimator has, maybe one of others."""
    names = [*KERNELS, *others]
    if not callable(kernel) and not (isinstance(kernel, str) and kernel in names):
        raise ValueError(f"`kernel` must be one of {names}, or a callable, got {kernel!r}")
    _base.check_not_negative(degree, "degree", "a number")
    if gamma is not None:
        _base.check_not_negative(gamma, "gamma", "a number or None")
    if not isinstance(coef0, (float, int, np.floating, np.integer)) or isinstance(coef0, bool):
        raise TypeError(f"`coef0` must be a number, got {_checks.kind(coef0)}")
    if not math.isfinite(coef0):
        raise ValueError(f"`coef0` must be finite, got {coef0}")


def of_parameters(
    kernel: str | Function, gamma: float | None, coef0: float, degree: float, n_features: int
) -> Kernel | Custom:
    """Return the kernel for a block; gamma is 1/n_features by default."""
    if callable(kernel):
        return Custom(kernel)
    gamma = 1 / max(n_features, 1) if gamma is None else gamma
    return Kernel(kernel, float(gamma), float(coef0), float(degree))
