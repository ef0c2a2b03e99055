"""How many of something each block gets: parameters that are a number, or a number by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from operator import index
from typing import Any

import numpy as np

from metatensor.labels import Labels
from metatensor.sklearn import _base


def by_key(parameter: Any, keys: Labels, name: str) -> list[Any]:
    """Return what a parameter says for each key: the same for all, if it is no dict."""
    if not isinstance(parameter, Mapping):
        return [parameter] * len(keys)
    try:
        given = {tuple(map(index, key)): value for key, value in parameter.items()}
    except TypeError:  # keys that are no tuples of integers
        given = {}
    wanted = [tuple(row) for row in keys._table.tolist()]
    if set(given) != set(wanted):
        raise ValueError(
            f"`{name}` must have an entry for each key of X, {_base.entries_text(keys)}, and no "
            f"others; got {list(parameter)}"
        )
    return [given[key] for key in wanted]


def limited(parameter: Any, keys: Labels, limits: Sequence[int], name: str, what: str) -> list[Any]:
    """Return how many each block gets, a whole number where the parameter has one.

    A number that is for all blocks must be possible in one of them, the others get what they have;
    a number by key must be possible.

    Parameters
    ----------
    parameter : int, float, None, str, or dict of these by key
    keys : Labels
        of the blocks
    limits : sequence of int
        how many there are in each block
    name : str
        of the parameter
    what : str
        what is counted, in messages

    Returns
    -------
    list
        ints up to the limit, and whatever is no int as it is

    """
    wanted = by_key(parameter, keys, name)
    differ = isinstance(parameter, Mapping)
    largest = limits if differ else [max(limits, default=0)] * len(limits)
    counts = []
    for key, count, most, limit in zip(keys, wanted, largest, limits, strict=True):
        if isinstance(count, (int, np.integer)) and not isinstance(count, bool):
            if not min(1, most) <= count <= most:
                where = f", in the block with key {key.print()}" if differ else ""
                raise ValueError(
                    f"`{name}` must be between 1 and the number of {what}, {most}{where}; "
                    f"got {count}"
                )
            count = min(int(count), limit)
        counts.append(count)
    return counts


def is_fraction(number: Any) -> bool:
    """Tell whether this is a number above 0 and up to 1."""
    return isinstance(number, Real) and not isinstance(number, bool) and 0 < float(number) <= 1


def fractions(
    parameter: Any, keys: Labels, limits: Sequence[int], name: str, what: str
) -> list[int]:
    """Return how many each block gets, where floats are fractions, and None is the half."""
    counts = []
    for count, limit in zip(limited(parameter, keys, limits, name, what), limits, strict=True):
        count = 0.5 if count is None else count
        if type(count) is not int:
            if not is_fraction(count):
                raise ValueError(
                    f"`{name}` must be an int, a fraction between 0 and 1, None, or a dict of "
                    f"these by key; got {count!r}"
                )
            count = min(limit, max(1, int(limit * count)))
        counts.append(count)
    return counts
