"""Reductions: samples that agree in all but some dimensions become one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks
from metatensor._core import sets
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.operations._blockwise import Tensor, on_blocks, require_tensor
from metatensor.tensor import TensorMap

__all__ = ["sum_over_samples", "sum_over_samples_block"]


@operation
def sum_over_samples(tensor: Tensor, sample_names: str | Sequence[str]) -> Tensor:
    """Sum the samples that agree in all dimensions but ``sample_names``.

    Gradients: summed likewise. Gradient rows whose samples fall together, and which agree in all
    their other dimensions, are added.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to sum; works for all numbers, and gradients of gradients
    sample_names : str or sequence of str
        names of the sample dimensions to remove. Names that a block has not are ignored for a
        TensorBlock, and an error for a TensorMap.

    Returns
    -------
    TensorMap or TensorBlock
        with the remaining sample dimensions, samples and gradient rows sorted; one sample named
        "_" if no dimension remains

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if a TensorMap has no such sample dimension

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import sum_over_samples
    >>> block = TensorBlock(
    ...     np.array([[1.0], [2.0], [4.0]]),
    ...     Labels(["system", "atom"], np.array([[0, 0], [0, 1], [1, 0]])),
    ...     [],
    ...     Labels.range("energy", 1),
    ... )
    >>> total = sum_over_samples(block, "atom")
    >>> total.values.ravel()
    array([3., 4.])
    >>> total.samples
    Labels
        system
          0
          1

    """
    removed = _checks.names_tuple(sample_names, "sample_names")
    require_tensor(tensor)
    if isinstance(tensor, TensorMap) and len(tensor):
        for name in removed:
            if name not in tensor.sample_names:
                raise ValueError(
                    f"`sample_names` must be among the samples of this map {tensor.sample_names}, "
                    f"got {name!r}"
                )
    return on_blocks(_sum_block, tensor, removed)


#: the same function, under the name it had for blocks
sum_over_samples_block = sum_over_samples


def _sum_block(block: TensorBlock, removed: tuple[str, ...]) -> TensorBlock:
    samples = block._samples
    kept = [position for position, name in enumerate(samples._names) if name not in removed]
    if kept:
        table, groups = sets.unique(np.ascontiguousarray(samples._table[:, kept]))
        names = tuple(samples._names[position] for position in kept)
    else:
        size = min(len(samples), 1)
        table, groups = np.zeros((size, 1), np.int32), np.zeros(len(samples), np.intp)
        names = ("_",)
    return _sum_groups(block, samples._like(table, names), groups)


def _sum_groups(block: TensorBlock, samples: Labels, groups: npt.NDArray[np.intp]) -> TensorBlock:
    """Add the samples of each group, and the gradient rows that fall together then."""
    gradients = {}
    for name, gradient in block._gradients.items():
        table = gradient._samples._table.copy()
        table[:, 0] = groups[table[:, 0]]
        rows, row_groups = sets.unique(table)
        gradients[name] = _sum_groups(gradient, gradient._samples._like(rows), row_groups)
    values = _arrays.segment_sum(block._values, groups, len(samples))
    return TensorBlock._of(values, samples, block._components, block._properties, gradients)
