"""Finding and taking parts of blocks by their labels, never by where they happen to be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from metatensor import _arrays
from metatensor._core.rows import RowIndex, first_duplicate
from metatensor.block import TensorBlock
from metatensor.labels import Labels

Positions = npt.NDArray[np.intp]


def columns(labels: Labels, names: Sequence[str]) -> npt.NDArray[np.int32]:
    """Return some columns of Labels as a table."""
    if labels._names == tuple(names):
        return labels._table
    return np.ascontiguousarray(labels._table[:, [labels._names.index(name) for name in names]])


def find(wanted: Labels, given: Labels) -> Positions:
    """Return where the entries of ``wanted`` are in ``given``, -1 for those that are not.

    The names must be the same, in any order.
    """
    if wanted is given or wanted == given:
        return np.arange(len(given))
    return given._index.find_many(columns(wanted, given._names))


def same_entries(first: Labels, second: Labels) -> bool:
    """Tell whether Labels have the same names and the same entries, both in any order."""
    return (
        set(first._names) == set(second._names)
        and len(first) == len(second)
        and bool((find(first, second) >= 0).all())
    )


def find_gradient_rows(wanted: TensorBlock, given: TensorBlock, samples: Positions) -> Positions:
    """Return where the rows of one gradient are in another one, -1 for those that are not.

    Parameters
    ----------
    wanted, given : TensorBlock
        gradients with respect to the same parameter; rows match if their samples do and the names
        that both have are equal
    samples : array of int
        position, among the samples ``given`` refers to, of each sample that ``wanted`` refers to

    """
    names = [name for name in given._samples._names if name in wanted._samples._names]
    index = given._samples._index
    if len(names) < len(given._samples._names):
        index = RowIndex(_told_apart(given._samples, names))
    table = _told_apart(wanted._samples, names).copy()
    table[:, 0] = samples[table[:, 0]]
    return index.find_many(table)


def _told_apart(samples: Labels, names: list[str]) -> npt.NDArray[np.int32]:
    """Return some columns of gradient samples, which must still be unique."""
    table = columns(samples, names)
    if table.shape[1] < len(samples._names) and (duplicate := first_duplicate(table)) >= 0:
        others = [name for name in samples._names if name not in names]
        raise ValueError(
            f"gradients are matched by the sample names that both have, {names}; there is more "
            f"than one row {table[duplicate].tolist()}, which only {others} tell apart"
        )
    return table


def take_samples(block: TensorBlock, positions: Positions) -> TensorBlock:
    """Return the samples at different positions, with the gradient rows that belong to them."""
    new = np.full(len(block._samples), -1)
    new[positions] = np.arange(len(positions))
    gradients = {}
    for name, gradient in block._gradients.items():
        rows = new[gradient._samples._table[:, 0]]
        kept = kept_in_order(rows)
        part = take_samples(gradient, kept)
        table = part._samples._table.copy()
        table[:, 0] = rows[kept]
        gradients[name] = TensorBlock._of(
            part._values,
            part._samples._like(table),
            part._components,
            part._properties,
            part._gradients,
        )
    return TensorBlock._of(
        _arrays.take(block._values, positions),
        block._samples._like(block._samples._table[positions]),
        block._components,
        block._properties,
        gradients,
    )


def spread_samples(block: TensorBlock, samples: Labels) -> TensorBlock:
    """Return all of some samples in their order; those that are not there are zero."""
    if samples == block._samples:
        return block
    positions = find(samples, block._samples)
    absent = positions < 0
    if not absent.any():
        return with_samples(take_samples(block, positions), samples)
    there = take_samples(block, positions[~absent])
    new = np.flatnonzero(~absent)
    gradients = {}
    for name, gradient in there._gradients.items():
        table = gradient._samples._table.copy()
        table[:, 0] = new[table[:, 0]]
        gradients[name] = with_samples(gradient, gradient._samples._like(table))
    fill = _arrays.full((1, *block._values.shape[1:]), 0, block._values)
    values = _arrays.namespace(fill).concat([there._values, fill], axis=0)
    rows = np.full(len(samples), len(new))
    rows[new] = np.arange(len(new))
    values = _arrays.take(values, rows)
    return TensorBlock._of(values, samples, block._components, block._properties, gradients)


def kept_in_order(new: Positions) -> Positions:
    """Return the positions whose new position is not -1, in the order of the new positions."""
    kept = np.flatnonzero(new >= 0)
    order = new[kept]
    if len(order) > 1 and (order[1:] < order[:-1]).any():
        kept = kept[np.argsort(order, kind="stable")]
    return kept


def take_properties(block: TensorBlock, properties: Labels) -> TensorBlock:
    """Return some properties, in values and gradients; those that are not there become zero."""
    if block._properties == properties:
        return block
    return _take_columns(block, find(properties, block._properties), properties)


def _take_columns(block: TensorBlock, positions: Positions, properties: Labels) -> TensorBlock:
    values, taken = block._values, positions
    if (positions < 0).any():
        fill = _arrays.full((*values.shape[:-1], 1), 0, values)
        values = _arrays.namespace(values).concat([values, fill], axis=-1)
        taken = np.where(positions < 0, len(block._properties), positions)
    gradients = {
        name: _take_columns(gradient, positions, properties)
        for name, gradient in block._gradients.items()
    }
    return TensorBlock._of(
        _arrays.take(values, taken, axis=-1),
        block._samples,
        block._components,
        properties,
        gradients,
    )


def with_samples(block: TensorBlock, samples: Labels) -> TensorBlock:
    """Return the same data under other names of samples."""
    return TensorBlock._of(
        block._values, samples, block._components, block._properties, block._gradients
    )


def with_properties(block: TensorBlock, properties: Labels) -> TensorBlock:
    """Return the same data under other names of properties, in the gradients too."""
    gradients = {
        name: with_properties(gradient, properties) for name, gradient in block._gradients.items()
    }
    return TensorBlock._of(block._values, block._samples, block._components, properties, gradients)


def with_gradients(block: TensorBlock, names: Sequence[str]) -> TensorBlock:
    """Return the same values with some of their gradients."""
    gradients = {name: block._gradients[name] for name in names}
    return TensorBlock._of(
        block._values, block._samples, block._components, block._properties, gradients
    )
