"""Blocks with Labels of torch."""

from __future__ import annotations

from collections.abc import Sequence

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.operations import creation


def block_from_array(
    array: _arrays.Array,
    sample_names: str | Sequence[str] | None = None,
    component_names: str | Sequence[str] | None = None,
    property_names: str | Sequence[str] | None = None,
) -> TensorBlock:
    """Make a block of a tensor, as :func:`metatensor.block_from_array`, with Labels of torch.

    Gradients: the block has none; torch differentiates through its values.

    Parameters
    ----------
    array : torch.Tensor, (n_samples, ..., n_properties)
        the values; arrays of other libraries are converted
    sample_names, component_names, property_names : str or sequence of str, optional
        as for :func:`metatensor.block_from_array`

    Returns
    -------
    TensorBlock
        whose Labels are on the device of the tensor

    Examples
    --------
    >>> import torch
    >>> import metatensor.torch as mts
    >>> mts.block_from_array(torch.zeros(2, 3)).samples.values.T
    tensor([[0, 1]], dtype=torch.int32)

    """
    block = creation.block_from_array(array, sample_names, component_names, property_names)
    return block.to(arrays="torch", device=block.device)
