"""Operators of blocks and maps: what they do is in :mod:`metatensor.operations`."""

from __future__ import annotations

from typing import TypeVar

Either = TypeVar("Either", bound="Operators")


class Operators:
    """The operators that blocks and maps have in common.

    The other operand is a block or map of the same kind, or one number: of Python, numpy or torch.
    """

    __slots__ = ()

    # numpy leaves operators to this class, instead of making arrays of objects
    __array_ufunc__ = None

    def __pos__(self: Either) -> Either:
        return self
