"""The first difference between Labels, blocks or maps, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metatensor.block import TensorBlock
from metatensor.labels import Labels

AXES = ("samples", "components", "properties")


def labels(first: Labels, second: Labels) -> str | None:
    """Return how two Labels differ, None if they do not; the order counts."""
    if first == second:
        return None
    if first._names != second._names:
        return f"names are {first.names} and {second.names}"
    found = [
        f"{len(rows)} only in the {where}, such as {rows[0].print()}"
        for rows, where in [
            (first.difference(second), "first"),
            (second.difference(first), "second"),
        ]
        if len(rows)
    ]
    if found or len(first) != len(second):
        return "; ".join([f"{len(first)} and {len(second)} entries", *found])
    position = int(np.argmax((first._table != second._table).any(axis=1)))
    return (
        f"the same entries in another order, {first[position].print()} and "
        f"{second[position].print()} at position {position}"
    )


def keys(first: Labels, second: Labels) -> str | None:
    """Return how two sets of keys differ; the order does not count."""
    alike = first._names == second._names and len(first) == len(second)
    if alike and (second._index.find_many(first._table) >= 0).all():
        return None
    return f"the keys differ: {labels(first, second)}"


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
    if "samples" in axes and (found := labels(first._samples, second._samples)):
        return f"the samples differ: {found}"
    if "components" in axes and first._components != second._components:
        return f"the components differ: {_components(first, second)}"
    if "properties" in axes and (found := labels(first._properties, second._properties)):
        return f"the properties differ: {found}"
    if gradients and (first._gradients or second._gradients):
        if first._gradients.keys() != second._gradients.keys():
            return f"the gradients differ: {first.gradients_list()} and {second.gradients_list()}"
        for name, gradient in first._gradients.items():
            if found := metadata(gradient, second._gradients[name], axes, gradients):
                return f"in the gradients {name!r}, {found}"
    return None


def _components(first: TensorBlock, second: TensorBlock) -> str | None:
    names = [[part._names[0] for part in block._components] for block in (first, second)]
    if names[0] != names[1]:
        return f"names are {names[0]} and {names[1]}"
    pairs = zip(first._components, second._components, strict=True)
    return next(found for one, other in pairs if (found := labels(one, other)))
