"""Batches for the data loaders of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import default_collate

from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.operations.joining import join, join_blocks
from metatensor.tensor import TensorMap


def collate(
    batch: Sequence[Any], different_keys: str = "error", add_dimension: str | None = None
) -> Any:
    """Make one batch of samples, for ``torch.utils.data.DataLoader(..., collate_fn=collate)``.

    Maps and blocks are joined along their samples, which must tell systems apart, also inside
    dicts, lists and tuples. Labels come as a list, everything else as
    :func:`torch.utils.data.default_collate` has it: tensors and numbers are stacked.

    Gradients: joined with their maps; torch differentiates through the join.

    Parameters
    ----------
    batch : list
        samples of one kind
    different_keys : {"error", "intersection", "union"}, default="error"
        what to do with keys that not all maps have, as in :func:`metatensor.join`
    add_dimension : str, optional
        name of a sample dimension that counts the maps, as in :func:`metatensor.join`

    Returns
    -------
    TensorMap, TensorBlock, torch.Tensor, or a dict, list or tuple as the samples are
        the batch

    Raises
    ------
    NotEqualError, MetatensorError
        as :func:`metatensor.join`
    ValueError
        if lists or tuples differ in length

    See Also
    --------
    metatensor.learn.DataLoader : for named tuples

    Examples
    --------
    >>> import torch
    >>> import metatensor.torch as mts
    >>> n, dataset = mts.Labels.range("n", 3), []
    >>> for system in range(4):
    ...     samples = mts.Labels("system", torch.tensor([[system]]))
    ...     block = mts.TensorBlock(torch.ones(1, 3), samples, [], n)
    ...     dataset.append((mts.TensorMap(mts.Labels.single(), [block]), float(system)))
    >>> loader = torch.utils.data.DataLoader(dataset, batch_size=2, collate_fn=mts.collate)
    >>> for features, energies in loader:
    ...     print(features.block().samples.column("system"), energies)
    tensor([0, 1], dtype=torch.int32) tensor([0., 1.], dtype=torch.float64)
    tensor([2, 3], dtype=torch.int32) tensor([2., 3.], dtype=torch.float64)

    """
    first = batch[0]
    if isinstance(first, TensorMap):
        return join(batch, "samples", different_keys=different_keys, add_dimension=add_dimension)
    if isinstance(first, TensorBlock):
        return join_blocks(batch, "samples", add_dimension=add_dimension)
    if isinstance(first, Labels):
        return list(batch)

    def together(values: Sequence[Any]) -> Any:
        return collate(values, different_keys, add_dimension)

    if isinstance(first, Mapping):
        return {name: together([sample[name] for sample in batch]) for name in first}
    if isinstance(first, (list, tuple)):
        columns = map(together, zip(*batch, strict=True))
        if hasattr(first, "_make"):
            return first._make(columns)
        return list(columns) if isinstance(first, list) else tuple(columns)
    return default_collate(list(batch))
