"""Predictions that depend on the labels of X alone: which samples they have, and how they look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metatensor import _arrays
from metatensor._core import sets
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _alignment, _base
from metatensor.sklearn.rows import Rows
from metatensor.tensor import TensorMap

Array = npt.NDArray[np.float64]

#: dimensions of keys that say how values transform, not which samples they are for
_TRANSFORMATION = ("o3_lambda", "o3_sigma")


class Target(NamedTuple):
    """What a block of y looks like."""

    key: LabelsEntry
    sample_names: tuple[str, ...]
    components: tuple[Labels, ...]
    properties: Labels
    invariant: bool
    dtype: str  # name of the floating-point dtype of the values


def targets_of(y: TensorMap) -> list[Target]:
    """Describe the blocks of y."""
    return [
        Target(
            key,
            block._samples._names,
            block._components,
            block._properties,
            _base.is_invariant(key, block),
            str(_base.as_float(block._values).dtype).split(".")[-1],
        )
        for key, block in y.items()
    ]


def blocks_for(target: Target, tensor: TensorMap) -> list[tuple[LabelsEntry, TensorBlock]]:
    """Return the blocks of X that are about the same as a block of y, by their keys."""
    names = [
        name
        for name in target.key.names
        if name in tensor._keys._names and name not in _TRANSFORMATION
    ]
    return [
        (key, block)
        for key, block in tensor.items()
        if all(key[name] == target.key[name] for name in names)
    ]


def table_of(key: LabelsEntry, block: TensorBlock, names: Sequence[str]) -> npt.NDArray[np.int32]:
    """Return dimensions of the samples, or the key, of a block as a table."""
    known = block._samples._names
    columns = [
        block._samples._table[:, known.index(name)]
        if name in known
        else np.full(len(block._samples), key[name], np.int32)
        for name in names
    ]
    return np.ascontiguousarray(np.stack(columns, axis=1).astype(np.int32, copy=False))


def samples_for(target: Target, X: _base.Tensor) -> Labels:
    """Return the samples that a prediction for X has: all rows of Rows, or what X has samples of.

    The samples of X may have more dimensions than those of y.
    """
    names = target.sample_names
    if isinstance(X, Rows) and set(X.by) == set(names):
        return Labels._of(names, _alignment.columns(X.rows, names))
    tensor = _base.to_tensor(X)
    known = {*tensor.sample_names, *tensor._keys._names}
    if not set(names) <= known:
        raise ValueError(
            f"X must have the sample names of y, {list(names)}, got {tensor.sample_names}"
        )
    tables = [np.empty((0, len(names)), np.int32)]
    tables += [table_of(key, block, names) for key, block in blocks_for(target, tensor)]
    return Labels._of(names, sets.unique(np.concatenate(tables))[0])


def predicted(target: Target, tensor: TensorMap, samples: Labels, rows: Array) -> TensorBlock:
    """Return a prediction for X whose derivatives are zero.

    Parameters
    ----------
    target : Target
    tensor : TensorMap
        X, which gives library and device
    samples : Labels
    rows : array (n_samples or 1, n_properties)
        values of each sample, for all entries of components

    Returns
    -------
    TensorBlock
        of the dtype of y; with the gradients that X has, without rows, which stands for zero

    """
    blocks = [block for _, block in blocks_for(target, tensor)] or tensor._blocks
    first = blocks[0]
    xp = _arrays.namespace(first._values)
    like = xp.astype(_arrays.full((0,), 0, first._values), getattr(xp, target.dtype))
    shape = (*map(len, target.components), len(target.properties))
    flat = rows.reshape(len(rows), *[1] * len(target.components), len(target.properties))
    values = np.ascontiguousarray(np.broadcast_to(flat, (len(samples), *shape)))
    gradients = {}
    for name, gradient in first._gradients.items():
        own = gradient._components[: len(gradient._components) - len(first._components)]
        gradients[name] = TensorBlock._of(
            _arrays.full((0, *map(len, own), *shape), 0, like),
            Labels.empty(gradient._samples._names),
            own + target.components,
            target.properties,
        )
    values = _arrays.from_host(values, like)
    return TensorBlock._of(values, samples, target.components, target.properties, gradients)


def constants(targets: list[Target], keys: Labels, rows: list[Array], like: Any) -> TensorMap:
    """Return one number for each property as a map with the keys of y."""
    blocks = [
        TensorBlock._of(
            _arrays.from_host(row[None, :], like), Labels.single(), (), target.properties
        )
        for target, row in zip(targets, rows, strict=True)
    ]
    return TensorMap._of(keys, blocks)
