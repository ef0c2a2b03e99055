"""Changing the dimensions of Labels; values stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import index as as_index
from typing import Any, Literal

import numpy as np

from metatensor import _arrays, _checks
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.operations._blockwise import Remembered, Tensor, on_blocks, require_tensor
from metatensor.tensor import TensorMap

__all__ = [
    "append_dimension",
    "insert_dimension",
    "permute_dimensions",
    "remove_dimension",
    "rename_dimension",
]

Axis = Literal["keys", "samples", "components", "properties"]
Change = Callable[[Labels], Labels]


@operation
def append_dimension(
    tensor: Tensor,
    axis: Literal["keys", "samples", "properties"],
    name: str,
    values: int | _arrays.Array,
) -> Tensor:
    """Add a dimension after the others, to the keys, or to the samples or properties of each block.

    Gradients: kept. Their properties are those of their block, their samples stay as they are.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        whose Labels to change
    axis : {"keys", "samples", "properties"}
        which of them; components have always one dimension
    name : str
        name of the new dimension
    values : int or array of int, (n_entries,)
        values of the new dimension, the same for every entry, or for every block

    Returns
    -------
    TensorMap or TensorBlock
        with the same arrays

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if `axis` is another one, or `values` is something else, has not one value for each entry,
        or does not fit in int32
    MetatensorError
        if `name` is not valid, or there is such a dimension already

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.zeros((2, 1)), sample_names="atom")
    >>> metatensor.append_dimension(block, "samples", "type", np.array([1, 8])).samples
    Labels
        atom  type
         0     1
         1     8

    """
    if axis == "components":
        raise ValueError("`axis` must be 'keys', 'samples' or 'properties', got 'components'")
    insert = _insertion(name, values)
    return _change(tensor, axis, lambda labels: insert(labels, len(labels._names)))


@operation
def insert_dimension(
    tensor: Tensor, axis: Axis, index: int, name: str, values: int | _arrays.Array
) -> Tensor:
    """Add a dimension before another, to the keys, or to the samples or properties of each block.

    Gradients: kept. Their properties are those of their block, their samples stay as they are.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        whose Labels to change
    axis : {"keys", "samples", "properties", "components"}
        which of them; nothing happens to components, which have always one dimension
    index : int
        position of the new dimension, negative ones count from the end as in ``list.insert``
    name : str
        name of the new dimension
    values : int or array of int, (n_entries,)
        values of the new dimension, the same for every entry, or for every block

    Returns
    -------
    TensorMap or TensorBlock
        with the same arrays

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if `axis` is another one, or `values` is something else, has not one value for each entry,
        or does not fit in int32
    IndexError
        if `index` is larger than the number of dimensions
    MetatensorError
        if `name` is not valid, or there is such a dimension already

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.zeros((2, 1)), sample_names="atom")
    >>> metatensor.insert_dimension(block, "samples", 0, "system", 4).samples
    Labels
        system  atom
          4      0
          4      1

    """
    insert = _insertion(name, values)
    index = _checks.require_int(index, "index")
    return _change(tensor, axis, lambda labels: insert(labels, index))


@operation
def permute_dimensions(tensor: Tensor, axis: Axis, dimensions_indexes: Sequence[int]) -> Tensor:
    """Put the dimensions of the keys, or of samples or properties, in another order.

    Gradients: kept. Their properties are those of their block, their samples stay as they are.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        whose Labels to change
    axis : {"keys", "samples", "properties", "components"}
        which of them; nothing happens to components, which have always one dimension
    dimensions_indexes : sequence of int, (n_dimensions,)
        present position of each dimension of the result, negative ones count from the end

    Returns
    -------
    TensorMap or TensorBlock
        with the same arrays

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if `axis` is another one, or there is not one position for each dimension
    IndexError
        if a position is out of range
    MetatensorError
        if a position is repeated

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.zeros((2, 2, 1)), sample_names=["system", "atom"])
    >>> metatensor.permute_dimensions(block, "samples", [1, 0]).samples.names
    ['atom', 'system']

    """
    if not isinstance(dimensions_indexes, Iterable):
        raise TypeError(
            "`dimensions_indexes` must be a sequence of int, got "
            f"{_checks.kind(dimensions_indexes)}"
        )
    positions = list(dimensions_indexes)
    return _change(tensor, axis, lambda labels: labels.permute(positions))


@operation
def remove_dimension(tensor: Tensor, axis: Axis, name: str) -> Tensor:
    """Leave out a dimension of the keys, or of the samples or properties of each block.

    Gradients: kept. Their properties are those of their block, their samples stay as they are.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        whose Labels to change
    axis : {"keys", "samples", "properties", "components"}
        which of them; nothing happens to components, which have always one dimension
    name : str
        name of the dimension

    Returns
    -------
    TensorMap or TensorBlock
        with the same arrays

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if `axis` is another one, or there is no such dimension
    MetatensorError
        if it is the only one, or entries are no longer unique without it

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.zeros((1, 2, 1)), sample_names=["system", "atom"])
    >>> metatensor.remove_dimension(block, "samples", "system").samples
    Labels
        atom
         0
         1

    """

    def remove(labels: Labels) -> Labels:
        if labels._names == (name,):
            _checks.invalid(f"the only dimension {name!r} of the {axis} can not be removed")
        return labels.remove(name)

    return _change(tensor, axis, remove)


@operation
def rename_dimension(tensor: Tensor, axis: Axis, old: str, new: str) -> Tensor:
    """Give another name to a dimension of the keys, or of samples, components or properties.

    Gradients: kept. A dimension of that name is renamed in their samples and components too, but
    not their first one, "sample", which tells to which sample a row belongs.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        whose Labels to change
    axis : {"keys", "samples", "components", "properties"}
        which of them
    old, new : str
        present and future name of the dimension

    Returns
    -------
    TensorMap or TensorBlock
        with the same arrays

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if `axis` is another one, or has no dimension `old`; which is no error for components
    MetatensorError
        if `new` is not valid, or there is such a dimension already

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.zeros((2, 3)))
    >>> metatensor.rename_dimension(block, "properties", "property", "n").properties.names
    ['n']

    """

    def rename(labels: Labels) -> Labels:
        return labels.rename(old, new)

    if axis == "components":
        return on_blocks(_rename_components, tensor, _remembered(rename), old)
    if axis == "samples":
        return on_blocks(_rename_samples, tensor, _remembered(rename), old)
    return _change(tensor, axis, rename)


def _insertion(name: str, values: int | _arrays.Array) -> Callable[[Labels, int], Labels]:
    """Return the function that inserts a dimension in Labels at a position."""
    if hasattr(values, "shape") and values.shape:
        column = _arrays.to_host(values)
        return lambda labels, position: labels.insert(position, name, column)
    try:
        value = as_index(values)
    except TypeError:
        raise ValueError(
            f"`values` must be an int, or a 1-D array of integers, got {_checks.kind(values)}"
        ) from None
    limits = np.iinfo(np.int32)
    if not limits.min <= value <= limits.max:
        raise ValueError(f"`values` must fit in int32, got {value}")
    return lambda labels, position: labels.insert(
        position, name, np.full(len(labels), value, dtype=np.int32)
    )


def _change(tensor: Tensor, axis: str, change: Change) -> Tensor:
    """Change the keys, or the Labels of one axis of every block; components stay as they are."""
    require_tensor(tensor)
    if axis not in ("keys", "samples", "components", "properties"):
        raise ValueError(f"`axis` must be 'keys', 'samples' or 'properties', got {axis!r}")
    if axis == "samples":
        return on_blocks(_change_samples, tensor, _remembered(change))
    if axis == "properties":
        return on_blocks(_change_properties, tensor, _remembered(change))
    if axis == "components":
        return on_blocks(lambda block: block, tensor)
    if isinstance(tensor, TensorMap):
        return TensorMap._of(change(tensor._keys), tensor._blocks)
    raise ValueError("`axis` must be 'samples' or 'properties' for a TensorBlock, got 'keys'")


def _remembered(change: Change) -> Change:
    """Change Labels that several blocks have once, so that they share the result."""
    known: Remembered[Labels] = Remembered()
    return lambda labels: known.get(labels, change)


def _change_samples(block: TensorBlock, change: Change) -> TensorBlock:
    return _with(block, dict(block._gradients), samples=change(block._samples))


def _change_properties(block: TensorBlock, change: Change) -> TensorBlock:
    gradients = {name: _change_properties(part, change) for name, part in block.gradients()}
    return _with(block, gradients, properties=change(block._properties))


def _rename_components(block: TensorBlock, rename: Change, old: str) -> TensorBlock:
    gradients = {name: _rename_components(part, rename, old) for name, part in block.gradients()}
    components = tuple(
        [rename(labels) if labels._names == (old,) else labels for labels in block._components]
    )
    _checks.check_components(components)
    return _with(block, gradients, components=components)


def _rename_samples(
    block: TensorBlock, rename: Change, old: str, in_gradient: bool = False
) -> TensorBlock:
    gradients = {name: _rename_samples(part, rename, old, True) for name, part in block.gradients()}
    samples = block._samples
    if not in_gradient or old in samples._names[1:]:
        samples = rename(samples)
    return _with(block, gradients, samples=samples)


def _with(block: TensorBlock, gradients: dict[str, TensorBlock], **labels: Any) -> TensorBlock:
    """Return a block with the same array and other Labels."""
    return TensorBlock._of(
        block._values,
        labels.get("samples", block._samples),
        labels.get("components", block._components),
        labels.get("properties", block._properties),
        gradients,
    )
