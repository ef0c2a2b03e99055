"""Several tensors into one, along the samples or the properties."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks, merge
from metatensor._checks import NotEqualError
from metatensor._core import joins, rows, sets
from metatensor._core.base import counting
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.operations._blockwise import (
    Tensor,
    assemble,
    check_same,
    require_tensor,
    same_keys,
)
from metatensor.tensor import TensorMap

__all__ = ["concatenate", "join", "join_blocks"]

Table = npt.NDArray[np.int32]


@operation
def join(
    tensors: Sequence[Tensor],
    axis: str,
    different_keys: str = "error",
    add_dimension: str | None = None,
) -> Tensor:
    """Put tensors below each other, along the samples, or next to each other, along properties.

    ``concatenate`` is another name of this function. Values are copied.

    Gradients: joined likewise, gradients of gradients too. Along the samples, their rows are
    numbered anew. Along properties they have the rows of all tensors, where values that a tensor
    has not are zero.

    Parameters
    ----------
    tensors : list or tuple of TensorMap, or of TensorBlock
        what to join, block by block with the same key. All other axes must be the same. Sample
        dimensions may come in another order, and are put in that of the first tensor.
    axis : {"samples", "properties"}
        which axis becomes longer, in the order of the list; entries are not sorted
    different_keys : {"error", "intersection", "union"}
        what to do if maps have different keys: raise; keep what all have; or keep all, where a
        missing block counts as empty
    add_dimension : str, optional
        name of a new dimension, the last, of the joined axis, with the position in `tensors`;
        makes entries unique which occur in several tensors. Gradient rows do not need it.

    Returns
    -------
    TensorMap or TensorBlock
        the only element of `tensors` itself if there is one. The dtype is what the library
        promotes those of all tensors to. Properties whose names differ between tensors become
        ``joined_index``, the position in `tensors`, and ``property``, the position there.

    Raises
    ------
    TypeError
        if `tensors` are no list or tuple of maps, or of blocks
    ValueError
        if there are none, for an unknown `axis` or `different_keys`, or if sample names differ
    NotEqualError
        if keys, gradients, or axes that are not joined differ
    MetatensorError
        if entries of the joined axis occur in several tensors: use `add_dimension`

    See Also
    --------
    split : the inverse

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import join
    >>> energy = Labels.range("energy", 1)
    >>> first = TensorBlock(np.array([[1.0], [2.0]]), Labels.range("atom", 2), [], energy)
    >>> second = TensorBlock(np.array([[3.0]]), Labels.range("atom", 1), [], energy)
    >>> both = join([first, second], "samples", add_dimension="system")
    >>> both.values.ravel()
    array([1., 2., 3.])
    >>> both.samples
    Labels
        atom  system
         0      0
         1      0
         0      1

    """
    _check_arguments(tensors, axis, different_keys, add_dimension)
    first = tensors[0]
    if len(tensors) == 1:
        return first
    if isinstance(first, TensorBlock):
        lists, joining = _prepare([[block] for block in tensors], axis, add_dimension)
        block = _join_blocks([blocks[0] for blocks in lists], counting(len(lists)), joining)
        return block._seal(frozen=False)
    lists, joining = _prepare([tensor._blocks for tensor in tensors], axis, add_dimension)
    keys, groups = _align(tensors, lists, different_keys)
    return assemble(keys, groups, lambda blocks, numbers: _join_blocks(blocks, numbers, joining))


#: as numpy calls it
concatenate = join


@operation
def join_blocks(
    blocks: Sequence[TensorBlock], axis: str, add_dimension: str | None = None
) -> TensorBlock:
    """Put blocks below or next to each other: :func:`join` with the arguments it had for blocks.

    Gradients: as for :func:`join`.

    Parameters
    ----------
    blocks : list or tuple of TensorBlock
        what to join
    axis : {"samples", "properties"}
        which axis becomes longer
    add_dimension : str, optional
        name of a new dimension of this axis with the position in `blocks`

    Returns
    -------
    TensorBlock

    Raises
    ------
    TypeError, ValueError, NotEqualError, MetatensorError
        as :func:`join`

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import join_blocks
    >>> samples = Labels.range("atom", 2)
    >>> blocks = [
    ...     TensorBlock(np.ones((2, 1)), samples, [], Labels("n", np.array([[n]])))
    ...     for n in range(3)
    ... ]
    >>> join_blocks(blocks, "properties").shape
    (2, 3)

    """
    return join(blocks, axis, "error", add_dimension)


def _check_arguments(tensors: Any, axis: Any, different_keys: Any, add_dimension: Any) -> None:
    if not isinstance(tensors, (list, tuple)):
        raise TypeError(f"`tensors` must be a list or a tuple, got {_checks.kind(tensors)}")
    if not tensors:
        raise ValueError("`tensors` must have at least one element, got none")
    require_tensor(tensors[0], "tensors")
    kind = TensorMap if isinstance(tensors[0], TensorMap) else TensorBlock
    for tensor in tensors:
        _checks.require_type(tensor, kind, "tensors")
    if axis not in ("samples", "properties"):
        raise ValueError(f"`axis` must be 'samples' or 'properties', got {axis!r}")
    if different_keys not in ("error", "intersection", "union"):
        raise ValueError(
            f"`different_keys` must be 'error', 'intersection' or 'union', got {different_keys!r}"
        )
    if add_dimension is not None and not isinstance(add_dimension, str):
        raise TypeError(f"`add_dimension` must be a str, got {_checks.kind(add_dimension)}")


# ---- what belongs together


class _Joining(NamedTuple):
    """How the blocks for each key are joined."""

    axis: str
    names: tuple[str, ...]  # of the joined axis
    number: str = ""  # where the position of the tensor goes: "first" or "last", or nowhere


def _prepare(
    lists: list[list[TensorBlock]], axis: str, add_dimension: str | None
) -> tuple[list[list[TensorBlock]], _Joining]:
    """Give all blocks the sample names and the dtype of the result; decide what its names are."""
    firsts = [blocks[0] for blocks in lists if blocks]
    if not firsts:
        return lists, _Joining(axis, ())
    first = firsts[0]
    if not all(_checks.same_names(first, block) for block in firsts):
        lists = [[_with_names(block, first) for block in blocks] for blocks in lists]
    lists = _with_dtype(lists, firsts)
    names = first._samples._names if axis == "samples" else first._properties._names
    other = next((block for block in firsts if block._properties._names != names), first)
    if axis == "properties" and other is not first:
        if add_dimension is not None:
            raise ValueError(
                "`add_dimension` can not be used when properties have different names, "
                f"{list(names)} and {other._properties.names}: they are replaced"
            )
        return lists, _Joining(axis, ("joined_index", "property"), "first")
    if add_dimension is None:
        return lists, _Joining(axis, names)
    return lists, _Joining(axis, Labels._checked((*names, add_dimension)), "last")


def _with_names(block: TensorBlock, first: TensorBlock) -> TensorBlock:
    """Return the block with its sample names, and those of gradients, in the order of the first."""
    names, samples = first._samples._names, block._samples
    if set(samples._names) != set(names):
        raise NotEqualError(f"the names of samples differ: {list(names)} and {samples.names}")
    if _checks.component_names(block) != _checks.component_names(first):
        raise NotEqualError(
            f"the names of components differ: {_checks.component_names(first)} and "
            f"{_checks.component_names(block)}"
        )
    if block._gradients.keys() != first._gradients.keys():
        raise NotEqualError(
            f"the gradients differ: {first.gradients_list()} and {block.gradients_list()}"
        )
    if samples._names != names:
        samples = samples.permute([samples._names.index(name) for name in names])
    gradients = {
        name: _with_names(block._gradients[name], gradient)
        for name, gradient in first._gradients.items()
    }
    return TensorBlock._of(block._values, samples, block._components, block._properties, gradients)


def _with_dtype(
    lists: list[list[TensorBlock]], firsts: list[TensorBlock]
) -> list[list[TensorBlock]]:
    """Return the blocks with the dtype that those of all tensors are promoted to."""
    values, promote = [block._values for block in firsts], False
    for other in values:
        if difference := _arrays.difference(values[0], other):
            if difference[0] != "dtype":
                _checks.refuse_arrays("every tensor to join", "the first one", *difference)
            promote = True
    if not promote:
        return lists
    xp = _arrays.namespace(*values)
    dtype = xp.result_type(*values)
    return [
        [block._map(lambda array: xp.astype(array, dtype, copy=False)) for block in blocks]
        for blocks in lists
    ]


def _align(
    tensors: Sequence[TensorMap], lists: list[list[TensorBlock]], different_keys: str
) -> tuple[Labels, list[tuple[list[TensorBlock], Table]]]:
    """Return the keys of the result; for each the blocks, and the positions of their tensors."""
    keys = tensors[0]._keys
    if all(tensor._keys == keys for tensor in tensors):
        numbers = counting(len(tensors))
        return keys, [(list(blocks), numbers) for blocks in zip(*lists)]
    for tensor in tensors:
        if different_keys == "error":
            same_keys(tensors[0], tensor)
        else:
            keys._check_same_names(tensor._keys, different_keys)
    if different_keys == "intersection":
        for tensor in tensors:
            keys = keys.intersection(tensor._keys)
    else:
        keys = keys._like(sets.merge([tensor._keys._table for tensor in tensors], False)[0])
    groups: list[tuple[list[TensorBlock], list[list[int]]]] = [([], []) for _ in range(len(keys))]
    for number, (tensor, blocks) in enumerate(zip(tensors, lists)):
        positions = keys._index.find_many(tensor._keys._table)
        for block, position in zip(blocks, positions.tolist()):
            if position >= 0:
                groups[position][0].append(block)
                groups[position][1].append([number])
    return keys, [(blocks, np.array(numbers, dtype=np.int32)) for blocks, numbers in groups]


# ---- the blocks for one key


def _join_blocks(blocks: list[TensorBlock], numbers: Table, joining: _Joining) -> TensorBlock:
    first = blocks[0]
    for block in blocks:
        _check_alike(first, block, joining.axis)
    if joining.axis == "samples":
        return _stack(blocks, _join_labels([block._samples for block in blocks], numbers, joining))
    labels = [block._properties for block in blocks]
    columns = merge.Columns(
        _join_labels(labels, numbers, joining), list(range(len(blocks))), list(map(len, labels))
    )
    return merge.side_by_side(blocks, first._samples, [None] * len(blocks), columns, 0, sort=False)


def _check_alike(first: TensorBlock, block: TensorBlock, axis: str) -> None:
    """Check that blocks differ in nothing but the axis along which they are joined."""
    if axis == "samples":
        same = first._properties == block._properties
    else:
        same = first._samples == block._samples
    if not (same and first._components == block._components):
        kept = "properties" if axis == "samples" else "samples"
        check_same(first, block, (kept, "components"), gradients=False)
    if first._gradients:
        check_same(first, block, ("components",))


def _join_labels(labels: list[Labels], numbers: Table, joining: _Joining) -> Labels:
    tables = [part._table for part in labels]
    if joining.number:
        if joining.number == "first":
            tables = [counting(len(table)) for table in tables]
        table = joins.stack(tables, numbers, joining.number == "first")
    else:
        table = np.concatenate(tables)
        if (duplicate := rows.first_duplicate(table)) >= 0:
            _checks.invalid(
                f"the {joining.axis} of joined tensors must be unique, got "
                f"{dict(zip(joining.names, table[duplicate].tolist()))} more than once; use "
                "`add_dimension` to tell those of each tensor apart"
            )
    return labels[0]._like(table, joining.names)


def _stack(blocks: list[TensorBlock], samples: Labels) -> TensorBlock:
    """Put blocks below each other, and the rows of their gradients."""
    first = blocks[0]
    arrays = [block._values for block in blocks]
    values = _arrays.namespace(*arrays).concat(arrays, axis=0)
    gradients = {}
    if first._gradients:
        starts = list(accumulate([0, *(len(block._samples) for block in blocks[:-1])]))
    for name in first._gradients:
        parts = [block._gradients[name] for block in blocks]
        tables = [
            joins.renumber(part._samples._table, None, start) for part, start in zip(parts, starts)
        ]
        rows_of_all = parts[0]._samples._like(np.concatenate(tables))
        gradients[name] = _stack(parts, rows_of_all)
    return TensorBlock._of(values, samples, first._components, first._properties, gradients)
