"""Gradients that are left out, and the record that torch keeps of computations."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from metatensor import _arrays, _checks
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.operations._blockwise import Tensor, on_blocks

__all__ = [
    "detach",
    "detach_block",
    "remove_gradients",
    "remove_gradients_block",
    "requires_grad",
    "requires_grad_block",
]


@operation
def remove_gradients(tensor: Tensor, remove: str | Sequence[str] | None = None) -> Tensor:
    """Return a tensor without its gradients, or without some of them.

    Gradients: those that are kept are the same, with the gradients that they have.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        with any gradients, or none
    remove : str or sequence of str, optional
        names of the gradients to leave out, all of them by default; names that a block has not
        are ignored

    Returns
    -------
    TensorMap or TensorBlock
        with the same arrays

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.zeros((4, 3)))
    >>> block.add_gradient("g", metatensor.block_from_array(np.zeros((4, 3))))
    >>> metatensor.remove_gradients(block).gradients_list()
    []

    """
    names = None if remove is None else _checks.names_tuple(remove, "remove")
    return on_blocks(_without, tensor, names)


remove_gradients_block = remove_gradients


def _without(block: TensorBlock, names: tuple[str, ...] | None) -> TensorBlock:
    kept = {}
    if names is not None:
        kept = {name: part for name, part in block._gradients.items() if name not in names}
    return TensorBlock._of(
        block._values, block._samples, block._components, block._properties, kept
    )


@operation
def detach(tensor: Tensor) -> Tensor:
    """Return a tensor with the same data, without the record of how they were computed.

    Gradients: detached as well, and gradients of gradients.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        whose values automatic differentiation may go through: those of torch, or jax
        (``stop_gradient``); those of other libraries are shared as they are

    Returns
    -------
    TensorMap or TensorBlock

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.zeros((4, 3)))
    >>> metatensor.detach(block).values is block.values
    True

    """
    return on_blocks(lambda block: block._map(_arrays.detach), tensor)


detach_block = detach


@operation
def requires_grad(tensor: Tensor, requires_grad: bool = True) -> Tensor:
    """Return a tensor with the same data, from which on torch records what is done with them.

    Gradients: record as well, and gradients of gradients. What torch records leads to derivatives
    with respect to the values; it is separate from the gradients that a block holds.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        with torch values; nothing happens to those of other libraries, with a UserWarning
    requires_grad : bool, default=True
        record, or not

    Returns
    -------
    TensorMap or TensorBlock
        with tensors that share their data and are leaves: what led to them is not part of the
        record. A UserWarning says so where there was such a record.

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock

    Examples
    --------
    >>> import torch
    >>> import metatensor
    >>> block = metatensor.block_from_array(torch.ones(2, 3))
    >>> metatensor.requires_grad(block).values.requires_grad
    True

    """
    found: dict[str, None] = {}

    def record(array: _arrays.Array) -> _arrays.Array:
        if requires_grad:
            found[_warning(array)] = None
        return _arrays.requires_grad(array, requires_grad)

    result = on_blocks(lambda block: block._map(record), tensor)
    for text in filter(None, found):
        warnings.warn(text, UserWarning, stacklevel=3)
    return result


requires_grad_block = requires_grad


def _warning(array: _arrays.Array) -> str:
    library = _arrays.library(array)
    if library != "torch":
        return f"`requires_grad=True` does nothing for {library} arrays"
    if array.requires_grad:
        return "values that require gradients already are detached from what led to them"
    return ""
