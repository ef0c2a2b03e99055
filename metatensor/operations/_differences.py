"""The first difference between Labels, blocks or maps, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from metatensor import _arrays
from metatensor._arrays import EXACT, Tolerance
from metatensor.block import AXES, Difference, TensorBlock, first_difference
from metatensor.labels import Labels
from metatensor.tensor import TensorMap

Tensor = TypeVar("Tensor", TensorMap, TensorBlock)


class Words(NamedTuple):
    """How the two things that differ are called."""

    pair: str
    only_first: str
    only_second: str


BOTH = Words("{} and {}", "only in the first", "only in the second")
EXPECTED = Words("got {}, expected {}", "unexpected", "missing")


def labels(first: Labels, second: Labels, words: Words = BOTH) -> str | None:
    """Return how two Labels differ, None if they do not; the order counts."""
    if first == second:
        return None
    if first._names != second._names:
        return f"names: {words.pair.format(first.names, second.names)}"
    found = [
        f"{len(rows)} {where}, such as {rows[0].print()}"
        for rows, where in [
            (first.difference(second), words.only_first),
            (second.difference(first), words.only_second),
        ]
        if len(rows)
    ]
    if len(first) != len(second):
        found.insert(0, f"sizes: {words.pair.format(len(first), len(second))}")
    if found:
        return "; ".join(found)
    position = int(np.argmax((first._table != second._table).any(axis=1)))
    pair = words.pair.format(first[position].print(), second[position].print())
    hint = "; `metatensor.sort` puts both in one order" if words is BOTH else ""
    return f"the same entries in another order, {pair} at position {position}{hint}"


def metadata(
    first: TensorBlock,
    second: TensorBlock,
    axes: Sequence[str] = AXES,
    gradients: bool = True,
) -> str | None:
    """Return in which of the Labels two blocks differ.

    Parameters
    ----------
    first, second : TensorBlock
        two blocks
    axes : sequence of {"samples", "components", "properties"}
        which Labels count
    gradients : bool
        compare which gradients there are, and the same axes of each of them

    Returns
    -------
    str or None

    """
    found = first_difference(first, second, axes, gradients, None)
    return None if found is None else describe(found)


def describe(found: Difference, tolerance: Tolerance = EXACT, words: Words = BOTH) -> str:
    """Say in what two blocks, or maps, differ."""
    where = "".join(f"in the gradients {name!r}, " for name in found.gradients)
    if found.what == "values":
        return where + _values(found.first, found.second, tolerance, words)
    if found.what == "gradients":
        text: Any = words.pair.format(found.first, found.second)
    elif found.what == "components":
        text = _components(found.first, found.second, words)
    else:
        text = labels(found.first, found.second, words)
    return f"{where}the {found.what} differ: {text}"


def _components(first: tuple[Labels, ...], second: tuple[Labels, ...], words: Words) -> str | None:
    names = [[part._names[0] for part in components] for components in (first, second)]
    if names[0] != names[1]:
        return f"names: {words.pair.format(*names)}"
    for one, other in zip(first, second, strict=True):
        if found := labels(one, other, words):
            return f"{one._names[0]!r}, {found}"
    return None


def _values(first: TensorBlock, second: TensorBlock, tolerance: Tolerance, words: Words) -> str:
    one, other = _arrays.readable(first._values), _arrays.readable(second._values)
    if one.shape != other.shape:
        return f"the shapes differ: {words.pair.format(one.shape, other.shape)}"
    if tolerance.same_dtype and not _arrays.same_dtype(one, other):
        return f"the dtypes differ: {words.pair.format(one.dtype, other.dtype)}"
    differs = _arrays.far(one, other, tolerance)
    common = np.result_type(one, other, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        deviation = np.abs(one.astype(common) - other.astype(common))
    deviation[np.isnan(deviation)] = np.inf
    deviation[~differs] = -1.0
    place = tuple(int(i) for i in np.unravel_index(np.argmax(deviation), deviation.shape))
    entries = ", ".join(
        f"{name} {rows[i].print()}" for i, (name, rows) in zip(place, _axes(first), strict=True)
    )
    return (
        f"the values differ in {differs.sum()} of {differs.size} places, most at {list(place)}, "
        f"{entries}: {words.pair.format(one[place], other[place])}, "
        f"deviation {deviation[place]:.3g}"
    )


def _axes(block: TensorBlock) -> Iterator[tuple[str, Labels]]:
    yield "sample", block._samples
    for component in block._components:
        yield "component", component
    yield "property", block._properties


def of_tensors(
    first: Tensor,
    second: Tensor,
    axes: Sequence[str] = AXES,
    gradients: bool = True,
    tolerance: Tolerance | None = EXACT,
) -> tuple[str, Difference] | None:
    """Return where two blocks, or two maps, differ first: text for the key, and the difference.

    The other parameters are those of :func:`metatensor.block.first_difference`.
    """
    if isinstance(first, TensorBlock):
        found = first_difference(first, second, axes, gradients, tolerance)
        return None if found is None else ("", found)
    blocks = second._blocks_for(first._keys)
    if blocks is None:
        return "", Difference("keys", first._keys, second._keys)
    for position, (block, other) in enumerate(zip(first._blocks, blocks, strict=True)):
        found = first_difference(block, other, axes, gradients, tolerance)
        if found is not None:
            return f"in the block for key {first._keys.entry(position).print()}, ", found
    return None
