"""Operators of blocks and maps: what they do is in :mod:`metatensor.operations`."""

from __future__ import annotations

from typing import Any, TypeVar

Either = TypeVar("Either", bound="Operators")


class Operators:
    """The operators that blocks and maps have in common.

    The other operand is a block or map of the same kind, or one number: of Python, numpy or torch.
    Comparisons give a block or map of bools, without gradients, which ``&``, ``|``, ``^`` and ``~``
    combine.
    """

    __slots__ = ()

    # numpy leaves operators to this class, instead of making arrays of objects
    __array_ufunc__ = None

    def __pos__(self: Either) -> Either:
        return self

    def __neg__(self: Either) -> Either:
        return _call("multiply", self, -1)  # type: ignore[no-any-return]

    def __abs__(self: Either) -> Either:
        return _call("abs", self)  # type: ignore[no-any-return]

    def __add__(self: Either, other: Any) -> Either:
        return _call("add", self, other) if _known(other) else NotImplemented

    def __radd__(self: Either, other: Any) -> Either:
        return _call("add", self, other) if _known(other) else NotImplemented

    def __sub__(self: Either, other: Any) -> Either:
        return _call("subtract", self, other) if _known(other) else NotImplemented

    def __rsub__(self: Either, other: Any) -> Either:
        return _call("subtract", other, self) if _known(other) else NotImplemented

    def __mul__(self: Either, other: Any) -> Either:
        return _call("multiply", self, other) if _known(other) else NotImplemented

    def __rmul__(self: Either, other: Any) -> Either:
        return _call("multiply", self, other) if _known(other) else NotImplemented

    def __truediv__(self: Either, other: Any) -> Either:
        return _call("divide", self, other) if _known(other) else NotImplemented

    def __rtruediv__(self: Either, other: Any) -> Either:
        return _call("divide", other, self) if _known(other) else NotImplemented

    def __pow__(self: Either, other: Any) -> Either:
        return _call("pow", self, other) if _known(other) else NotImplemented

    def __rpow__(self: Either, other: Any) -> Either:
        return _call("pow", other, self) if _known(other) else NotImplemented

    def __matmul__(self: Either, other: Any) -> Either:
        return _call("dot", self, other) if isinstance(other, Operators) else NotImplemented

    def __lt__(self: Either, other: Any) -> Either:
        return _call("compare", self, other, "<") if _known(other) else NotImplemented

    def __le__(self: Either, other: Any) -> Either:
        return _call("compare", self, other, "<=") if _known(other) else NotImplemented

    def __gt__(self: Either, other: Any) -> Either:
        return _call("compare", self, other, ">") if _known(other) else NotImplemented

    def __ge__(self: Either, other: Any) -> Either:
        return _call("compare", self, other, ">=") if _known(other) else NotImplemented

    def __and__(self: Either, other: Any) -> Either:
        return _call("connect", self, other, "&") if _is_condition(other) else NotImplemented

    def __or__(self: Either, other: Any) -> Either:
        return _call("connect", self, other, "|") if _is_condition(other) else NotImplemented

    def __xor__(self: Either, other: Any) -> Either:
        return _call("connect", self, other, "^") if _is_condition(other) else NotImplemented

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self: Either) -> Either:
        return _call("connect", self, True, "^")  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        # `1 < tensor < 2` asks for the truth of its first half
        if "bool" in str(self.dtype):  # type: ignore[attr-defined]
            raise ValueError(
                "the truth of many bools is ambiguous: combine conditions by `&` and `|`, or look "
                "at the values of blocks"
            )
        return len(self) > 0  # type: ignore[arg-type]


def _is_condition(other: Any) -> bool:
    return isinstance(other, (Operators, bool))


def _known(other: Any) -> bool:
    """Tell whether an operation says what is wrong with an operand, if anything is."""
    return isinstance(other, (Operators, int, float, complex)) or hasattr(other, "shape")


def _call(name: str, *operands: Any) -> Any:
    """Call an operation: the only look upwards, to a floor above this one."""
    from metatensor.operations import elementwise, linalg

    return getattr(linalg if name == "dot" else elementwise, name)(*operands)
