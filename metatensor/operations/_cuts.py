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
from metatensor.operations._blockwise import Remembered

Positions = npt.NDArray[np.intp]


class Plan(NamedTuple):
    """Which rows each of several parts takes; those of part ``g`` start at ``bounds[g]``."""

    positions: Positions
    bounds: Positions


class Cuts:
    """Cut blocks into several parts; those with the same Labels share plans, and Labels of parts.

    Parameters
    ----------
    axis : {"samples", "properties"}
        what is cut
    selections : sequence of Labels or of positions
        what each part takes
    copier : Copier
        makes the arrays of the parts

    """

    def __init__(
        self, axis: str, selections: Sequence[Labels | Positions], copier: _arrays.Copier
    ) -> None:
        self._axis = axis
        self._selections = selections
        self._copier = copier
        self._known: Remembered[_Cut] = Remembered()

    def parts(self, block: TensorBlock) -> list[TensorBlock]:
        """Return new blocks with what each selection takes."""
        if not self._selections:
            return []
        if self._axis == "samples":
            return _cut_samples(
                block, self._known.get(block._samples, self._cut_of_samples), self._copier
            )
        cut = self._known.get(block._properties, self._cut_of_properties)
        return _cut_properties(block, cut, self._copier)

    def _cut_of_samples(self, samples: Labels) -> _Cut:
        return _Cut(samples, _plan(samples, self._selections))

    def _cut_of_properties(self, properties: Labels) -> _Cut:
        plan = cuts.ascending(*_plan(properties, self._selections))
        return _Cut(properties, Plan(*plan))


class _Cut:
    """The Labels of each part, and the positions of their entries; a slice where these are a run.

    Parameters
    ----------
    labels : Labels
        what is cut
    plan : Plan
        what each part takes
    samples : array of int, optional
        what the first column becomes: the new numbers of the samples of gradient rows

    """

    def __init__(self, labels: Labels, plan: Plan, samples: Positions | None = None) -> None:
        positions, bounds = plan
        ends = bounds.tolist()
        self.labels = [labels._like(table) for table in cuts.cut(labels._table, *plan, samples)]
        self.positions = [
            positions[begin:end] if start < 0 else slice(start, start + end - begin)
            for start, begin, end in zip(cuts.runs(positions, bounds), ends, ends[1:])
        ]
        self._size = len(labels)
        self._plan = plan
        self._gradients: Remembered[_Cut] = Remembered()

    def of_gradient(self, gradient: TensorBlock) -> _Cut:
        """Return where the gradient rows of the samples of each part go."""
        return self._gradients.get(gradient._samples, self._follow)

    def _follow(self, samples: Labels) -> _Cut:
        *rows, numbers = cuts.follow(samples._table, *self._plan, self._size)
        return _Cut(samples, Plan(*rows), numbers)


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


def _cut_samples(block: TensorBlock, cut: _Cut, copier: _arrays.Copier) -> list[TensorBlock]:
    """Take rows, and the gradient rows that belong to them."""
    parts = [
        TensorBlock._of(values, samples, block._components, block._properties)
        for values, samples in zip(_gather(block._values, cut, 0, copier), cut.labels)
    ]
    for name, gradient in block._gradients.items():
        for part, piece in zip(parts, _cut_samples(gradient, cut.of_gradient(gradient), copier)):
            part._gradients[name] = piece
    return parts


def _cut_properties(block: TensorBlock, cut: _Cut, copier: _arrays.Copier) -> list[TensorBlock]:
    parts = [
        TensorBlock._of(values, block._samples, block._components, properties)
        for values, properties in zip(_gather(block._values, cut, -1, copier), cut.labels)
    ]
    for name, gradient in block._gradients.items():
        for part, piece in zip(parts, _cut_properties(gradient, cut, copier)):
            part._gradients[name] = piece
    return parts


def _gather(
    values: _arrays.Array, cut: _Cut, axis: int, copier: _arrays.Copier
) -> list[_arrays.Array]:
    """Return copies of the entries of one axis that each part takes."""
    gathered = []
    for positions in cut.positions:
        if isinstance(positions, slice):
            run = values[positions, ...] if axis == 0 else values[..., positions]
            gathered.append(copier.copy(run))
        else:
            gathered.append(copier.take(values, positions, axis))
    return gathered
