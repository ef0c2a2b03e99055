"""Batches of datasets, by worker processes if wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from metatensor.learn.data.collation import group_and_join


class DataLoader(torch.utils.data.DataLoader[Any]):
    """Batches of a dataset whose samples are named tuples, their maps joined.

    This is :class:`torch.utils.data.DataLoader` with another default of `collate_fn`. Worker
    processes, started by fork or spawn, ``persistent_workers``, ``pin_memory``, samplers and batch
    samplers of torch work; tensors of torch come from workers in shared memory, so that they should
    be preferred to numpy arrays where there are workers.

    Gradients: joined with their maps by the default `collate_fn`.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        whose samples are named tuples: :class:`Dataset`, :class:`IndexedDataset`,
        :class:`DiskDataset`, and subsets of these
    collate_fn : callable, default=group_and_join
        makes a batch of a list of samples
    **kwargs
        ``batch_size``, ``shuffle``, ``num_workers`` and the other options of
        :class:`torch.utils.data.DataLoader`

    See Also
    --------
    group_and_join, group : functions for `collate_fn`
    SizeBatchSampler : batches of about the same number of atoms

    Examples
    --------
    >>> from metatensor.learn import DataLoader, Dataset
    >>> for batch in DataLoader(Dataset(x=[1, 2, 3], y=[4, 5, 6]), batch_size=2):
    ...     print(batch)
    Batch(x=(1, 2), y=(4, 5))
    Batch(x=(3,), y=(6,))

    """

    def __init__(
        self,
        dataset: Any,
        collate_fn: Callable[[list[Any]], Any] | None = group_and_join,
        **kwargs: Any,
    ) -> None:
        super().__init__(dataset, collate_fn=collate_fn, **kwargs)
