"""Values and derivatives of the elementwise functions, as tables; gradients follow from them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from metatensor import _arrays
from metatensor._arrays import Array


class Unary(NamedTuple):
    """A function of one array, and of numbers in some cases.

    Without derivative and `linear`, it is one: gradients stay what they are.

    Parameters
    ----------
    value : callable
        ``value(xp, x, *numbers)``
    derivative : callable, optional
        ``derivative(xp, x, y, *numbers)`` with ``y = value(xp, x, *numbers)``: what gradients are
        multiplied by
    linear : callable, optional
        ``linear(gradient, *numbers)``, for gradients of gradients as well
    real_part : bool, default=False
        the gradient is the real part of the product with the conjugate of the derivative, for
        values that are real where `x` is complex
    integers : bool, default=False
        takes integers as they are; they become real numbers otherwise

    """

    value: Callable[..., Array]
    derivative: Callable[..., Array] | None = None
    linear: Callable[..., Array] | None = None
    real_part: bool = False
    integers: bool = False


class Binary(NamedTuple):
    """A function of two arrays of the same shape.

    Without derivatives it is linear: gradients are combined as values are.

    Parameters
    ----------
    value : callable
        ``value(xp, x, y)``
    derivatives : tuple of callable, optional
        ``derivative(xp, x, y, z)`` with ``z = value(xp, x, y)``: what the gradients of `x` and of
        `y` are multiplied by
    integers : bool, default=False
        takes integers as they are; they become real numbers otherwise

    """

    value: Callable[..., Array]
    derivatives: tuple[Callable[..., Array], Callable[..., Array]] | None = None
    integers: bool = False


def _sign(xp: Any, x: Array) -> Array:
    """``x / abs(x)``, zero at zero without warning."""
    return x / _arrays.nonzero(xp.abs(x)) if _arrays.kind(x) == "complex" else xp.sign(x)


def _power_derivative(xp: Any, x: Array, y: Array, power: Any) -> Array:
    """``power * x ** (power - 1)``, and zero for a power of zero, at x = 0 too."""
    if isinstance(power, (float, complex)) and power == 0:
        return xp.zeros_like(x)
    return power * x ** (power - 1)


def _base_derivative(xp: Any, x: Array, y: Array, base: Any) -> Array:
    """``base ** x * log(base)``, and zero for a base of zero."""
    if isinstance(base, (float, complex)):
        if base == 0:
            return xp.zeros_like(x)
        base = _arrays.full((), base, x)
    return y * xp.log(base)


UNARY = {
    "abs": Unary(
        lambda xp, x: xp.astype(xp.abs(x), x.dtype, copy=False),
        lambda xp, x, y: _sign(xp, x),
        real_part=True,
        integers=True,
    ),
    "exp": Unary(lambda xp, x: xp.exp(x), lambda xp, x, y: y),
    "log": Unary(lambda xp, x: xp.log(x), lambda xp, x, y: 1 / x),
    "sqrt": Unary(lambda xp, x: xp.sqrt(x), lambda xp, x, y: 0.5 / y),
    "tanh": Unary(lambda xp, x: xp.tanh(x), lambda xp, x, y: 1 - xp.square(y)),
    "sin": Unary(lambda xp, x: xp.sin(x), lambda xp, x, y: xp.cos(x)),
    "cos": Unary(lambda xp, x: xp.cos(x), lambda xp, x, y: -xp.sin(x)),
}

#: with a number on the right
NUMBER = {
    "add": Unary(lambda xp, x, number: x + number),
    "subtract": Unary(lambda xp, x, number: x - number),
    "multiply": Unary(lambda xp, x, number: x * number, linear=operator.mul),
    "divide": Unary(lambda xp, x, number: x / number, linear=operator.truediv),
    "pow": Unary(lambda xp, x, number: x**number, _power_derivative),
}

#: with a number on the left
NUMBER_FIRST = {
    "add": NUMBER["add"],
    "subtract": Unary(lambda xp, x, number: number - x, linear=lambda gradient, number: -gradient),
    "multiply": NUMBER["multiply"],
    "divide": Unary(lambda xp, x, number: number / x, lambda xp, x, y, number: -y / x),
    "pow": Unary(lambda xp, x, number: number**x, _base_derivative),
}

BINARY = {
    "add": Binary(lambda xp, x, y: x + y, integers=True),
    "subtract": Binary(lambda xp, x, y: x - y),
    "multiply": Binary(
        lambda xp, x, y: x * y,
        (lambda xp, x, y, z: y, lambda xp, x, y, z: x),
        integers=True,
    ),
    "divide": Binary(
        lambda xp, x, y: x / y,
        (lambda xp, x, y, z: 1 / y, lambda xp, x, y, z: -z / y),
    ),
}

COMPARISON: dict[str, Callable[[Array, Array], Array]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

#: of conditions; ``~`` is ``^`` with True
CONNECTIVE: dict[str, Callable[[Array, Array], Array]] = {
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
}
