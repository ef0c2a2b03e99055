"""How arrays lie in memory."""

from __future__ import annotations

from metatensor import _arrays
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.operations._blockwise import Tensor, on_blocks, require_tensor

__all__ = [
    "is_contiguous",
    "is_contiguous_block",
    "make_contiguous",
    "make_contiguous_block",
]


@operation
def is_contiguous(tensor: Tensor) -> bool:
    """Tell whether all arrays are in C order, without gaps.

    Gradients: looked at as well, and gradients of gradients.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        with values of any library; those without an order in memory are contiguous

    Returns
    -------
    bool

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> metatensor.is_contiguous(metatensor.block_from_array(np.zeros((3, 4)).T))
    False

    """
    require_tensor(tensor)
    blocks = [tensor] if isinstance(tensor, TensorBlock) else tensor._blocks
    return all(_is_contiguous(block) for block in blocks)


is_contiguous_block = is_contiguous


def _is_contiguous(block: TensorBlock) -> bool:
    return _arrays.is_contiguous(block._values) and all(
        _is_contiguous(gradient) for gradient in block._gradients.values()
    )


@operation
def make_contiguous(tensor: Tensor) -> Tensor:
    """Return a tensor whose arrays are in C order, without gaps.

    Gradients: made contiguous as well, and gradients of gradients.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        with values of any library

    Returns
    -------
    TensorMap or TensorBlock
        with copies of the arrays that are not contiguous, and the others as they are

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.zeros((3, 4)).T)
    >>> metatensor.make_contiguous(block).values.flags.c_contiguous
    True

    """
    return on_blocks(lambda block: block._map(_contiguous), tensor)


make_contiguous_block = make_contiguous


def _contiguous(array: _arrays.Array) -> _arrays.Array:
    return array if _arrays.is_contiguous(array) else _arrays.copy(array)
