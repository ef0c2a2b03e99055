"""Blocks and entries in the order of their Labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks
from metatensor._core import joins, rows, sets
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.operations._blockwise import Tensor, on_blocks
from metatensor.tensor import TensorMap

__all__ = ["sort", "sort_block"]

Order = npt.NDArray[np.intp] | None  # None for what is in order already


@operation
def sort(tensor: Tensor, axes: str | Sequence[str] = "all", descending: bool = False) -> Tensor:
    """Sort the entries of axes by their Labels: by the first dimension, then the second...

    Gradients: their rows are sorted with the samples, and their other axes as those of the values;
    gradients of gradients too.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to sort
    axes : {"all", "keys", "samples", "components", "properties"} or list of them
        what to sort; a TensorBlock has no keys
    descending : bool, default=False
        put the largest entry first

    Returns
    -------
    TensorMap or TensorBlock
        which shares the arrays that are sorted already

    Raises
    ------
    TypeError
        if `axes` is neither a str nor a list
    ValueError
        if there is no such axis

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import sort
    >>> samples = Labels("atom", np.array([[2], [0], [1]]))
    >>> block = TensorBlock(np.array([[3.0], [1.0], [2.0]]), samples, [], Labels.single())
    >>> sort(block).values.ravel()
    array([1., 2., 3.])
    >>> sort(block, "samples", descending=True).values.ravel()
    array([3., 2., 1.])

    """
    chosen = _parse(axes, isinstance(tensor, TensorMap))
    result = on_blocks(_sort_block, tensor, chosen, bool(descending))
    if "keys" in chosen and isinstance(tensor, TensorMap):
        keys, order = _sorted(tensor._keys, bool(descending))
        if order is not None:
            return TensorMap._of(keys, [result._blocks[position] for position in order.tolist()])
    return result


#: the same function, under the name it had for blocks
sort_block = sort


def _parse(axes: str | Sequence[str], has_keys: bool) -> frozenset[str]:
    allowed = ["samples", "components", "properties"]
    if has_keys:
        allowed.append("keys")
    if not isinstance(axes, (str, list)):
        raise TypeError(f"`axes` must be a str or a list of str, got {_checks.kind(axes)}")
    if axes == "all":
        return frozenset(allowed)
    chosen = [axes] if isinstance(axes, str) else axes
    for axis in chosen:
        if axis not in allowed:
            raise ValueError(f"`axes` must be 'all' or among {allowed}, got {axis!r}")
    return frozenset(chosen)


def _sorted(labels: Labels, descending: bool) -> tuple[Labels, Order]:
    """Return sorted Labels, and where each of their entries was."""
    table = labels._table
    if len(table) < 2 or (not descending and rows.strictly_sorted(table)):
        return labels, None
    order = sets.lexsort(table)
    if descending:
        order = order[::-1].copy()
        if rows.strictly_sorted(order[:, None].astype(np.int32)):
            return labels, None
    return labels._like(np.take(table, order, axis=0)), order


def _sort_block(block: TensorBlock, axes: frozenset[str], descending: bool) -> TensorBlock:
    properties, order = block._properties, None
    if "properties" in axes:
        properties, order = _sorted(properties, descending)
    return _sort_parts(block, block._samples, (properties, order), axes, descending)


def _sort_parts(
    block: TensorBlock,
    samples: Labels,
    properties: tuple[Labels, Order],
    axes: frozenset[str],
    descending: bool,
) -> TensorBlock:
    """Sort a block, or a gradient, whose samples were numbered anew."""
    given, order = samples, None
    if "samples" in axes:
        samples, order = _sorted(samples, descending)
    components = list(block._components)
    values = _take(block._values, order, 0)
    if "components" in axes:
        for axis, labels in enumerate(components):
            components[axis], moved = _sorted(labels, descending)
            values = _take(values, moved, axis + 1)
    values = _take(values, properties[1], -1)
    where = None if order is None else joins.invert(order, len(order))
    gradients = {}
    for name, gradient in block._gradients.items():
        numbered = gradient._samples
        if where is not None:
            numbered = numbered._like(joins.renumber(numbered._table, where))
        gradients[name] = _sort_parts(gradient, numbered, properties, axes, descending)
    if (
        values is block._values
        and given is block._samples
        and all(part is block._gradients[name] for name, part in gradients.items())
    ):
        return block
    return TensorBlock._of(values, samples, tuple(components), properties[0], gradients)


def _take(values: _arrays.Array, order: Order, axis: int) -> _arrays.Array:
    return values if order is None else _arrays.take(values, order, axis)
