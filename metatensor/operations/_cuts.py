"""Several parts of one block in a single pass: a plan on the host, then gathers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metatensor import _arrays
from metatensor._core import cuts, sets
from metatensor._core.rows import RowIndex
from metatensor.block import TensorBlock
from metatensor.labels import Labels

Positions = npt.NDArray[np.intp]


class Plan(NamedTuple):
    """Which rows each of several parts takes; those of part ``g`` start at ``bounds[g]``."""

    positions: Positions
    bounds: Positions


def cut_block(
    block: TensorBlock,
    axis: str,
    selections: Sequence[Labels | Positions],
    copier: _arrays.Copier,
) -> list[TensorBlock]:
    """Return new blocks with what each selection takes from the samples or the properties."""
    if not selections:
        return []
    if axis == "samples":
        return _cut_samples(block, _plan(block._samples, selections), copier)
    plan = Plan(*cuts.ascending(*_plan(block._properties, selections)))
    tables = cuts.cut(block._properties._table, *plan)
    properties = [block._properties._like(table) for table in tables]
    return _cut_properties(block, plan, properties, copier)


# ---- plans


def _plan(labels: Labels, selections: Sequence[Labels | Positions]) -> Plan:
    first = selections[0]
    if len(selections) == 1:
        positions = _select(labels, first)
        return Plan(positions, np.array([0, len(positions)]))
    if isinstance(first, Labels) and all(
        isinstance(selection, Labels) and selection._names == first._names
        for selection in selections
    ):
        tables = [selection._table for selection in selections]  # type: ignore[union-attr]
        if first._names == labels._names:
            return _find(labels, tables)
        if first._names:
            return _match(labels, first._names, tables)
    return _joined([_select(labels, selection) for selection in selections])


def _select(labels: Labels, selection: Labels | Positions) -> Positions:
    """Return the positions of what one selection takes."""
    if not isinstance(selection, Labels):
        return cuts.absolute(selection, len(labels))
    names, table = selection._names, selection._table
    if not names:
        return np.arange(len(labels))
    if names != labels._names:
        return sets.select(labels._table, _columns(labels._names, names), table)
    positions = labels._index.find_many(table)
    return positions[positions >= 0]


def _joined(parts: list[Positions]) -> Plan:
    return Plan(np.concatenate(parts), _bounds(parts))


def _bounds(parts: Sequence[npt.NDArray[np.integer]]) -> Positions:
    return np.array([0, *accumulate(map(len, parts))], dtype=np.intp)


def _find(labels: Labels, tables: list[npt.NDArray[np.int32]]) -> Plan:
    """Look for whole rows; each part has the order of its selection."""
    positions = labels._index.find_many(np.concatenate(tables))
    found = positions >= 0
    counts = np.concatenate([[0], np.cumsum(found)])
    return Plan(positions[found], counts[_bounds(tables)])


def _match(labels: Labels, names: tuple[str, ...], tables: list[npt.NDArray[np.int32]]) -> Plan:
    """Look for rows by some of their dimensions; each part has the order of the labels."""
    distinct, (entries,) = sets.merge([np.concatenate(tables)], False)
    if entries is None:
        entries = np.arange(len(distinct))
    part = np.ascontiguousarray(labels._table[:, _columns(labels._names, names)])
    found = RowIndex(distinct).find_many(part)
    rows = np.flatnonzero(found >= 0)
    matches = found[rows].astype(np.int32)[:, None]
    kept, bounds, _ = cuts.follow(matches, entries, _bounds(tables), len(distinct))
    return Plan(rows[kept], bounds)


@lru_cache(maxsize=256)
def _columns(names: tuple[str, ...], selected: tuple[str, ...]) -> Positions:
    columns = np.array([names.index(name) for name in selected], dtype=np.intp)
    columns.flags.writeable = False
    return columns


# ---- gathers


def _cut_samples(
    block: TensorBlock,
    plan: Plan,
    copier: _arrays.Copier,
    samples: Positions | None = None,
) -> list[TensorBlock]:
    """Take rows, and the gradient rows that belong to them, whose samples are numbered anew."""
    tables = cuts.cut(block._samples._table, *plan, samples)
    parts = [
        TensorBlock._of(values, block._samples._like(table), block._components, block._properties)
        for values, table in zip(_gather(block._values, plan, 0, copier), tables)
    ]
    for name, gradient in block._gradients.items():
        *rows, positions = cuts.follow(gradient._samples._table, *plan, len(block._samples))
        for part, piece in zip(parts, _cut_samples(gradient, Plan(*rows), copier, positions)):
            part._gradients[name] = piece
    return parts


def _cut_properties(
    block: TensorBlock, plan: Plan, properties: list[Labels], copier: _arrays.Copier
) -> list[TensorBlock]:
    parts = [
        TensorBlock._of(values, block._samples, block._components, labels)
        for values, labels in zip(_gather(block._values, plan, -1, copier), properties)
    ]
    for name, gradient in block._gradients.items():
        for part, piece in zip(parts, _cut_properties(gradient, plan, properties, copier)):
            part._gradients[name] = piece
    return parts


def _gather(
    values: _arrays.Array, plan: Plan, axis: int, copier: _arrays.Copier
) -> list[_arrays.Array]:
    """Return copies of the entries of one axis that each part takes."""
    positions, bounds = plan
    ends = bounds.tolist()
    gathered = []
    for start, begin, end in zip(cuts.runs(positions, bounds), ends, ends[1:]):
        if start < 0:
            gathered.append(copier.take(values, positions[begin:end], axis))
            continue
        stop = start + end - begin
        run = values[start:stop, ...] if axis == 0 else values[..., start:stop]
        gathered.append(copier.copy(run))
    return gathered
