"""From samples to batches."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import torch

from metatensor.learn.data import _named_tuples
from metatensor.learn.data._named_tuples import NamedTuple
from metatensor.operations.joining import join
from metatensor.tensor import TensorMap


def group(batch: Sequence[Any]) -> NamedTuple:
    """Collect the values of every field.

    Gradients: those of maps stay with them.

    Parameters
    ----------
    batch : list of named tuples
        samples with the same fields

    Returns
    -------
    Batch
        a named tuple with one tuple per field

    Raises
    ------
    TypeError
        if a sample is no named tuple
    ValueError
        if there are no samples, or they have different fields

    See Also
    --------
    group_and_join : also makes one map of many

    Examples
    --------
    >>> from metatensor.learn.data import Dataset, group
    >>> dataset = Dataset(x=[1, 2, 3], y=["a", "b", "c"])
    >>> group([dataset[0], dataset[2]])
    Batch(x=(1, 3), y=('a', 'c'))

    """
    if not len(batch):
        raise ValueError("a batch must have at least one sample, got none")
    fields = None
    for sample in batch:
        found = getattr(sample, "_fields", None)
        if not isinstance(sample, tuple) or found is None:
            raise TypeError(
                f"the samples of a batch must be named tuples, got {type(sample)}; for tuples and "
                "dicts use `collate_fn=metatensor.torch.collate`"
            )
        fields = found if fields is None else fields
        if found != fields:
            raise ValueError(
                f"all samples of a batch must have the same fields, got {fields} and {found}"
            )
    return _named_tuples.make("Batch", tuple(fields or ()), zip(*batch))


def group_and_join(
    batch: Sequence[Any],
    fields_to_join: Container[str] | None = None,
    join_kwargs: Mapping[str, Any] | None = None,
) -> NamedTuple:
    """Collect the values of every field, maps and tensors joined along the samples.

    Maps are joined with :func:`metatensor.operations.join`, so that their samples must tell systems
    apart; tensors with :func:`torch.vstack`, to which numbers and vectors are rows. All other
    values, and ``sample_id``, come as tuples.

    Gradients: joined with their maps; torch differentiates through the join.

    Parameters
    ----------
    batch : list of named tuples
        samples with the same fields
    fields_to_join : list of str, optional
        the only fields whose maps and tensors are joined; all of them by default. Names that are no
        field are ignored.
    join_kwargs : dict, optional
        ``different_keys`` and ``add_dimension`` of :func:`metatensor.operations.join`

    Returns
    -------
    Batch
        a named tuple with the fields of the samples

    Raises
    ------
    TypeError
        for ``axis`` in `join_kwargs`, and as :func:`group`
    ValueError
        as :func:`group`
    NotEqualError, MetatensorError
        as :func:`metatensor.operations.join`: unless `join_kwargs` say otherwise, maps must have
        the same keys, and samples of their own

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.learn.data import Dataset, group_and_join
    >>> one, n = Labels.single(), Labels.range("n", 3)
    >>> maps = []
    >>> for system in range(2):
    ...     samples = Labels("system", np.array([[system]]))
    ...     maps.append(TensorMap(one, [TensorBlock(np.ones((1, 3)), samples, [], n)]))
    >>> batch = group_and_join(list(Dataset(features=maps, name=["water", "ammonia"])))
    >>> batch.name
    ('water', 'ammonia')
    >>> batch.features.block().samples
    Labels
        system
          0
          1

    """
    join_kwargs = {} if join_kwargs is None else dict(join_kwargs)
    if "axis" in join_kwargs:
        raise TypeError("`join_kwargs` can not have 'axis': batches are joined along the samples")
    if isinstance(fields_to_join, str):
        fields_to_join = [fields_to_join]
    grouped = group(batch)
    joined = []
    for name, values in zip(grouped._fields, grouped):
        wanted = name != "sample_id" and (fields_to_join is None or name in fields_to_join)
        if wanted and isinstance(values[0], TensorMap):
            joined.append(join(values, axis="samples", **join_kwargs))
        elif wanted and isinstance(values[0], torch.Tensor):
            joined.append(torch.vstack(values))
        else:
            joined.append(values)
    return grouped._make(joined)
