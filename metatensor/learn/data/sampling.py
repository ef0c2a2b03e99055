"""Which samples go into a batch together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from metatensor import _checks
from metatensor.tensor import TensorMap


class SizeBatchSampler(torch.utils.data.Sampler[list[int]]):
    """Batches whose samples have no more than a number of atoms, or of rows, in total.

    Memory and time of a step go with the number of atoms in a batch, not with that of systems. In
    the order of `sampler` samples are put into a batch as long as they fit.

    Parameters
    ----------
    sampler : iterable of int
        positions of samples, in the order in which they shall come: a sampler of torch, or a range
    sizes : array-like of int, shape (n_samples,)
        size of the sample at each position, as :func:`count_samples` finds it
    max_size : int
        what the sizes of a batch sum to at most
    max_samples : int, optional
        number of samples of a batch at most
    drop_last : bool, default=False
        leave out the last batch, which may be a small one

    Raises
    ------
    ValueError
        if a sample is larger than `max_size`, or a size negative

    Notes
    -----
    ``len`` is the number of batches of the next pass, which is laid out when it is asked for;
    passes of a random sampler differ.

    See Also
    --------
    DataLoader : takes it as `batch_sampler`

    Examples
    --------
    >>> from metatensor.learn.data import SizeBatchSampler
    >>> list(SizeBatchSampler(range(5), sizes=[3, 4, 2, 2, 8], max_size=8))
    [[0, 1], [2, 3], [4]]

    """

    def __init__(
        self,
        sampler: Iterable[int],
        sizes: Sequence[int] | npt.NDArray[np.integer[Any]],
        max_size: int,
        max_samples: int | None = None,
        drop_last: bool = False,
    ) -> None:
        super().__init__()
        found = np.asarray(sizes)
        if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
            raise ValueError(
                "`sizes` must be integers, one for each sample, got an array of shape "
                f"{found.shape} and dtype {found.dtype}"
            )
        self.max_size = _checks.require_int(max_size, "max_size")
        if (found < 0).any() or (found > self.max_size).any():
            position = int(np.argmax((found < 0) | (found > self.max_size)))
            raise ValueError(
                f"the size of a sample must be between 0 and `max_size`, {self.max_size}, got "
                f"{found[position]} at position {position}"
            )
        if max_samples is not None and _checks.require_int(max_samples, "max_samples") < 1:
            raise ValueError(f"`max_samples` must be at least 1, got {max_samples}")
        self.sampler, self.max_samples, self.drop_last = sampler, max_samples, bool(drop_last)
        self._sizes: list[int] = found.tolist()
        self._next: list[list[int]] | None = None

    def __len__(self) -> int:
        """Return the number of batches of the next pass."""
        if self._next is None:
            self._next = list(self._batches())
        return len(self._next)

    def __iter__(self) -> Iterator[list[int]]:
        """Iterate over the batches: lists of positions."""
        planned, self._next = self._next, None
        return self._batches() if planned is None else iter(planned)

    def _batches(self) -> Iterator[list[int]]:
        batch: list[int] = []
        total = 0
        for position in self.sampler:
            size = self._sizes[position]
            full = self.max_samples is not None and len(batch) >= self.max_samples
            if batch and (full or total + size > self.max_size):
                yield batch
                batch, total = [], 0
            batch.append(position)
            total += size
        if batch and not self.drop_last:
            yield batch


def count_samples(dataset: Any, field: str) -> npt.NDArray[np.intp]:
    """Count the samples that the maps of one field have, in all blocks.

    Parameters
    ----------
    dataset : iterable of named tuples
        the whole dataset, which is passed through once
    field : str
        name of the field: one with a sample for each atom counts atoms. What is no map tells its
        size by ``len``, as structures of ase do.

    Returns
    -------
    numpy.ndarray of shape (len(dataset),)
        for :class:`SizeBatchSampler`

    Raises
    ------
    ValueError
        if there is no such field

    Examples
    --------
    >>> from metatensor.learn.data import Dataset, count_samples
    >>> count_samples(Dataset(species=[[8, 1, 1], [7, 1, 1, 1]]), "species")
    array([3, 4])

    """
    sizes = []
    for sample in dataset:
        if field not in sample._fields:
            raise ValueError(f"`field` must be one of {list(sample._fields)}, got {field!r}")
        value = sample[sample._fields.index(field)]
        if isinstance(value, TensorMap):
            sizes.append(sum(len(block.samples) for block in value))
        else:
            sizes.append(len(value))
    return np.array(sizes, dtype=np.intp)
