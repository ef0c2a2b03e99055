"""Blocks and entries in the order of their Labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks, merge
from metatensor._core import joins, rows, sets
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.operations._blockwise import Tensor, on_blocks, require_tensor
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
    require_tensor(tensor)
    copier = merge.copier_for([tensor] if isinstance(tensor, TensorBlock) else tensor._blocks)
    result = on_blocks(_sort_block, tensor, _Sorting(chosen, bool(descending), copier))
    if isinstance(result, TensorMap) and "keys" in chosen:
        keys, order = _sorted(result._keys, bool(descending))
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


class _Sorting(NamedTuple):
    """What is sorted, and how."""

    axes: frozenset[str]
    descending: bool
    copier: _arrays.Copier


def _sort_block(block: TensorBlock, sorting: _Sorting) -> TensorBlock:
    properties, order = block._properties, None
    if "properties" in sorting.axes:
        properties, order = _sorted(properties, sorting.descending)
    return _sort_parts(block, block._samples, properties, order, sorting)


def _sort_parts(
    block: TensorBlock, samples: Labels, properties: Labels, columns: Order, sorting: _Sorting
) -> TensorBlock:
    """Sort a block, or a gradient, whose samples were numbered anew."""
    renumbered, order = samples is not block._samples, None
    if "samples" in sorting.axes:
        samples, order = _sorted(samples, sorting.descending)
    components, orders = list(block._components), [order]
    for axis, labels in enumerate(block._components):
        moved = None
        if "components" in sorting.axes:
            components[axis], moved = _sorted(labels, sorting.descending)
        orders.append(moved)
    orders.append(columns)
    where = None if order is None else joins.invert(order, len(order))
    gradients = {}
    for name, gradient in block._gradients.items():
        numbered = gradient._samples
        if where is not None:
            numbered = numbered._like(joins.renumber(numbered._table, where))
        gradients[name] = _sort_parts(gradient, numbered, properties, columns, sorting)
    values = _take_all(block._values, orders, sorting.copier)
    if (
        values is block._values
        and not renumbered
        and all(gradient is block._gradients[name] for name, gradient in gradients.items())
    ):
        return block
    return TensorBlock._of(values, samples, tuple(components), properties, gradients)


def _take_all(values: _arrays.Array, orders: list[Order], copier: _arrays.Copier) -> _arrays.Array:
    """Put the entries of each axis in another order; only the last array made stays."""
    moves = [(axis, order) for axis, order in enumerate(orders) if order is not None]
    for axis, order in moves[:-1]:
        values = _arrays.take(values, order, axis)
    return copier.take(values, moves[-1][1], moves[-1][0]) if moves else values
