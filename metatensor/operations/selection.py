"""Parts of blocks and maps: slices, splits, chosen blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from metatensor import _checks, merge
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.operations._blockwise import (
    Tensor,
    on_blocks,
    require_tensor,
    say_where,
)
from metatensor.operations._cuts import Cuts, Positions
from metatensor.tensor import TensorMap

__all__ = [
    "drop_blocks",
    "drop_empty_blocks",
    "filter_blocks",
    "slice",
    "slice_block",
    "split",
    "split_block",
]

Selection = Labels | Sequence[int] | npt.NDArray[np.integer[Any]]


@operation
def slice(tensor: Tensor, axis: str, selection: Selection) -> Tensor:
    """Take some of the samples or properties.

    Gradients: the rows of the samples that are taken, in their order, or the same properties;
    gradients of gradients too.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to take from; the result is a copy
    axis : {"samples", "properties"}
        where to take from
    selection : Labels, list of int or array of int, (n,)
        what to take: entries of some of the dimensions, or positions, where negative ones count
        from the end. Samples come in the order of Labels that name all their dimensions, and of
        positions; in their own order for Labels with fewer names. Samples at repeated positions
        are repeated, each copy with its gradient rows; such samples are not unique, as other
        functions expect. Properties always keep their order, and are never repeated.

    Returns
    -------
    TensorMap or TensorBlock
        with no samples, or properties, where nothing matches

    Raises
    ------
    ValueError
        if `axis` is another one, or `selection` has other names
    TypeError
        if `selection` is something else, such as a boolean mask: use ``np.flatnonzero(mask)``
    IndexError
        if a position is out of range

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import slice
    >>> block = TensorBlock(
    ...     np.array([[1.0], [2.0], [3.0]]),
    ...     Labels(["system", "atom"], np.array([[0, 0], [0, 1], [1, 0]])),
    ...     [],
    ...     Labels.range("energy", 1),
    ... )
    >>> slice(block, "samples", Labels("system", np.array([[0]]))).values.ravel()
    array([1., 2.])
    >>> slice(block, "samples", [-1, 0]).values.ravel()
    array([3., 1.])

    """
    require_tensor(tensor)
    _check_axis(axis)
    selections = [_parse(selection, "selection")]
    _check_names(tensor, axis, selections)
    copier = merge.copier_for([tensor] if isinstance(tensor, TensorBlock) else tensor._blocks)
    cuts = Cuts(axis, selections, copier)
    return on_blocks(lambda block: cuts.parts(block)[0], tensor)


#: the same function, under the name it had for blocks
slice_block = slice


@operation
def split(tensor: Tensor, axis: str, selections: list[Selection]) -> list[Tensor]:
    """Take several parts of the samples or properties, in one pass over them.

    Gradients: as for :func:`slice`.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to take from; the results are copies
    axis : {"samples", "properties"}
        where to take from
    selections : list of Labels, of list of int, or of array of int
        what each part takes, as for :func:`slice`; parts may have entries in common

    Returns
    -------
    list of TensorMap or list of TensorBlock
        one for each selection

    Raises
    ------
    TypeError
        if `selections` is no list, or `axis` no str

    See Also
    --------
    join : the inverse

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import split
    >>> samples = Labels(["system", "atom"], np.array([[0, 0], [1, 0], [0, 1]]))
    >>> values = np.array([[1.0], [2.0], [3.0]])
    >>> block = TensorBlock(values, samples, [], Labels.range("energy", 1))
    >>> systems = [Labels("system", np.array([[system]])) for system in range(2)]
    >>> [part.values.ravel().tolist() for part in split(block, "samples", systems)]
    [[1.0, 3.0], [2.0]]

    """
    require_tensor(tensor)
    if not isinstance(axis, str):
        raise TypeError(f"`axis` must be a str, got {_checks.kind(axis)}")
    _check_axis(axis)
    if not isinstance(selections, list):
        raise TypeError(f"`selections` must be a list, got {_checks.kind(selections)}")
    parsed = [_parse(selection, "selections") for selection in selections]
    _check_names(tensor, axis, parsed)
    copier = merge.copier_for([tensor] if isinstance(tensor, TensorBlock) else tensor._blocks)
    cuts = Cuts(axis, parsed, copier)
    if isinstance(tensor, TensorBlock):
        return [part._seal(frozen=False) for part in cuts.parts(tensor)]
    parts: list[list[TensorBlock]] = []
    try:
        for block in tensor._blocks:
            parts.append([part._seal() for part in cuts.parts(block)])
    except Exception as error:
        say_where(error, tensor._keys, len(parts))
        raise
    blocks = zip(*parts) if parts else [()] * len(parsed)
    return [TensorMap._of(tensor._keys, list(chosen)) for chosen in blocks]


#: the same function, under the name it had for blocks
split_block = split


def _check_axis(axis: str) -> None:
    if axis not in ("samples", "properties"):
        raise ValueError(f"`axis` must be 'samples' or 'properties', got {axis!r}")


def _parse(selection: Any, name: str) -> Labels | Positions:
    """Return Labels, or an array of positions."""
    if isinstance(selection, Labels):
        return selection
    if not isinstance(selection, (list, np.ndarray)):
        raise TypeError(
            f"`{name}` must be Labels, list of int or 1-D array of int, "
            f"got {_checks.kind(selection)}"
        )
    try:
        positions = np.asarray(selection)
    except ValueError as error:
        raise ValueError(f"`{name}` must be 1-D, got a list of unequal parts") from error
    if positions.dtype.kind == "b":
        raise TypeError(f"`{name}` can not be a boolean mask, use positions: np.flatnonzero(mask)")
    if positions.ndim != 1:
        raise ValueError(f"`{name}` must be 1-D, got {positions.ndim} dimensions")
    if len(positions) == 0:
        return np.empty(0, dtype=np.intp)
    if positions.dtype.kind not in "iu":
        raise TypeError(f"`{name}` must be integers, got {positions.dtype}")
    if positions.dtype == np.uint64 and positions.max() > np.iinfo(np.intp).max:
        raise IndexError(f"`{name}` must be positions in a table, got {positions.max()}")
    positions = np.ascontiguousarray(positions, dtype=np.intp)
    return positions if positions.flags.aligned else positions.copy()


def _check_names(
    tensor: TensorMap | TensorBlock, axis: str, selections: list[Labels | Positions]
) -> None:
    block = tensor
    if isinstance(block, TensorMap):
        if not block._blocks:
            return
        block = block._blocks[0]
    labels = block._samples if axis == "samples" else block._properties
    for selection in selections:
        if isinstance(selection, Labels):
            for name in selection._names:
                if name not in labels._names:
                    _checks.refuse_selection(name, labels._names)


@operation
def drop_blocks(tensor: TensorMap, keys: Labels, copy: bool = False) -> TensorMap:
    """Remove the blocks whose keys match a selection.

    Gradients: those of the other blocks stay with them.

    Parameters
    ----------
    tensor : TensorMap
        a map
    keys : Labels
        entries of some of the dimensions of the keys; those without a block do not count
    copy : bool, default=False
        copy the arrays; otherwise the result shares them with `tensor`

    Returns
    -------
    TensorMap
        which may be empty

    Raises
    ------
    TypeError
        if `keys` are not Labels
    MetatensorError
        if `keys` have a name that the keys of `tensor` have not

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.operations import drop_blocks
    >>> block = TensorBlock(np.ones((1, 1)), Labels.single(), [], Labels.single())
    >>> tensor = TensorMap(Labels.range("center_type", 3), [block, block, block])
    >>> drop_blocks(tensor, Labels("center_type", np.array([[1]]))).keys["center_type"]
    array([0, 2], dtype=int32)

    """
    matches = _matching(tensor, keys, copy)
    kept = np.ones(len(tensor._keys), dtype=np.bool_)
    kept[matches] = False
    return _with_blocks(tensor, np.flatnonzero(kept), copy)


@operation
def filter_blocks(tensor: TensorMap, keys: Labels, copy: bool = False) -> TensorMap:
    """Keep the blocks whose keys match a selection.

    Gradients: those of the blocks stay with them.

    Parameters
    ----------
    tensor : TensorMap
        a map
    keys : Labels
        entries of some of the dimensions of the keys; those without a block do not count
    copy : bool, default=False
        copy the arrays; otherwise the result shares them with `tensor`

    Returns
    -------
    TensorMap
        which may be empty; in the order of `keys` if they have all dimensions, as
        :meth:`Labels.select` has it, otherwise in the order of `tensor`

    Raises
    ------
    TypeError
        if `keys` are not Labels
    MetatensorError
        if `keys` have a name that the keys of `tensor` have not

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.operations import filter_blocks
    >>> block = TensorBlock(np.ones((1, 1)), Labels.single(), [], Labels.single())
    >>> tensor = TensorMap(Labels.range("center_type", 3), [block, block, block])
    >>> filter_blocks(tensor, Labels("center_type", np.array([[1], [7]]))).keys["center_type"]
    array([1], dtype=int32)

    """
    return _with_blocks(tensor, _matching(tensor, keys, copy), copy)


@operation
def drop_empty_blocks(tensor: TensorMap, copy: bool = False) -> TensorMap:
    """Remove the blocks without samples or without properties.

    Gradients: those of the other blocks stay with them.

    Parameters
    ----------
    tensor : TensorMap
        a map
    copy : bool, default=False
        copy the arrays; otherwise the result shares them with `tensor`

    Returns
    -------
    TensorMap
        which may be empty

    Raises
    ------
    TypeError
        if `tensor` is no TensorMap, or `copy` no bool

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.operations import drop_empty_blocks
    >>> full = TensorBlock(np.ones((1, 1)), Labels.single(), [], Labels.single())
    >>> empty = TensorBlock(np.ones((0, 1)), Labels.empty("_"), [], Labels.single())
    >>> len(drop_empty_blocks(TensorMap(Labels.range("key", 2), [empty, full])))
    1

    """
    _check_map(tensor, copy)
    full = [len(block._samples) > 0 and len(block._properties) > 0 for block in tensor._blocks]
    return _with_blocks(tensor, np.flatnonzero(full), copy)


def _check_map(tensor: Any, copy: Any) -> None:
    _checks.require_type(tensor, TensorMap, "tensor")
    if not isinstance(copy, (bool, np.bool_)):
        raise TypeError(f"`copy` must be a bool, got {_checks.kind(copy)}")


def _matching(tensor: TensorMap, keys: Labels, copy: bool) -> Positions:
    _check_map(tensor, copy)
    _checks.require_type(keys, Labels, "keys")
    return tensor._keys._matches(keys)


def _with_blocks(tensor: TensorMap, positions: Positions, copy: bool) -> TensorMap:
    """Return a map of the blocks at some positions."""
    keys = tensor._keys._like(np.take(tensor._keys._table, positions, axis=0))
    blocks = [tensor._blocks[position] for position in positions.tolist()]
    chosen = TensorMap._of(keys, blocks)
    return chosen.copy() if copy else chosen
