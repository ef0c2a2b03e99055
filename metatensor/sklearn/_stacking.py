"""Least-squares rows made of the values and gradients of matched blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.sklearn import _base
from metatensor.sklearn._base import VALUES
from metatensor.sklearn._least_squares import NormalEquations, Term, TriangularRows

Positions = npt.NDArray[np.intp]
Array = npt.NDArray[np.float64]


class Stack(NamedTuple):
    """The rows of the values, or of one gradient: where they are in X, with targets and weights."""

    name: str | None
    features: TensorBlock
    targets: TensorBlock
    positions: Positions  # in the features, of each row of the targets; -1 for a row of zeros
    weights: Array  # broadcast to the targets

    @property
    def n_rows(self) -> int:
        """Number of rows that are not zero, one for each entry of the component axes."""
        n_entries = math.prod(self.targets._values.shape[1:-1])
        return int(np.count_nonzero(self.positions >= 0)) * int(n_entries)

    def add_to(self, problems: Sequence[Problem]) -> None:
        """Add the rows to the sums, a bounded number at once."""
        n_columns = len(self.features._properties) + len(self.targets._properties)
        row_bytes = 8 * n_columns * math.prod(self.targets._values.shape[1:-1])
        for chunk in _base.chunks(len(self.positions), row_bytes):
            positions = self.positions[chunk]
            targets = _arrays.to_host(_base.to_float64(self.targets._values[chunk, ...]))
            weights = self.weights[chunk]
            weights = np.broadcast_to(weights, (*targets.shape[:-1], weights.shape[-1]))
            absent = positions < 0
            if absent.any():
                for problem in problems:
                    problem.add_absent(self.name, _flat(targets[absent]), _flat(weights[absent]))
                positions, targets, weights = positions[~absent], targets[~absent], weights[~absent]
            if len(positions):
                rows = _flat(_base.to_float64(_rows_at(self.features._values, positions)))
                for problem in problems:
                    problem.add(self.name, rows, _flat(targets), _flat(weights))


class Unfolded(NamedTuple):
    """All rows of a block at once, those of the values first."""

    features: Array  # (n, n_features), zero where X has no row
    targets: Array  # (n, n_targets)
    weights: Array  # (n, 1 or n_targets)
    groups: Positions  # (n,), number of the group that each row belongs to
    terms: dict[str | None, slice]  # which rows are those of the values, or of one gradient
    n_entries: int  # rows of the values of one sample: the entries of the component axes

    def squares(self, centered: bool) -> dict[str | None, float]:
        """Return the weighted sums of squares of the targets, of values around their mean."""
        result = {}
        for name, rows in self.terms.items():
            targets, weights = self.targets[rows], self.weights[rows]
            if centered and name is VALUES and len(targets):
                targets = targets - weighted_mean(targets, weights)
            result[name] = float(np.sum(weights * targets**2))
        return result


def weighted_mean(rows: Array, weights: Array) -> Array:
    """Return the means of columns, zero without weights."""
    total = weights.sum(axis=0)
    return np.asarray((weights * rows).sum(axis=0) / np.where(total > 0, total, 1.0))


def unfold(stacks: Sequence[Stack], groups: Positions) -> Unfolded:
    """Put the rows of values and gradients below each other, on the host.

    Parameters
    ----------
    stacks : list of Stack
        the values come first
    groups : array of int
        number of the group of each sample of the targets

    """
    sizes = [math.prod(stack.targets._values.shape[:-1]) for stack in stacks]
    ends = np.cumsum([0, *sizes])
    features = np.zeros((ends[-1], len(stacks[0].features._properties)))
    targets = np.zeros((ends[-1], len(stacks[0].targets._properties)))
    weights = np.zeros((ends[-1], max(stack.weights.shape[-1] for stack in stacks)))
    numbers = np.zeros(ends[-1], dtype=np.intp)
    terms = {}
    for stack, start, end in zip(stacks, ends[:-1].tolist(), ends[1:].tolist()):
        terms[stack.name] = rows = slice(start, end)
        shape = stack.targets._values.shape
        targets[rows] = _flat(_arrays.to_host(_base.to_float64(stack.targets._values)))
        weights[rows] = _flat(np.broadcast_to(stack.weights, (*shape[:-1], weights.shape[1])))
        samples = (
            np.arange(shape[0])
            if stack.name is VALUES
            else stack.targets._samples._table[:, 0].astype(np.intp)
        )
        numbers[rows] = np.repeat(groups[samples], math.prod(shape[1:-1]))
        there = np.flatnonzero(stack.positions >= 0)
        if len(there):
            values = _base.to_float64(_rows_at(stack.features._values, stack.positions[there]))
            view = features[rows].reshape(*shape[:-1], features.shape[1])
            view[there] = _arrays.to_host(values)
    n_entries = math.prod(stacks[0].targets._values.shape[1:-1])
    return Unfolded(features, targets, weights, numbers, terms, n_entries)


def _rows_at(values: _arrays.Array, positions: Positions) -> _arrays.Array:
    """Return rows without a copy if they follow each other."""
    first, last = int(positions[0]), int(positions[-1])
    if last - first == len(positions) - 1 and (np.diff(positions) == 1).all():
        return values[first : last + 1, ...]
    return _arrays.take(values, positions)


def _flat(array: Any) -> Any:
    """Return rows x components as rows."""
    shape = (math.prod(array.shape[:-1]), array.shape[-1])
    return _arrays.namespace(array).reshape(array, shape)


class Problem:
    """The sums of all terms, for the targets of one block that have the same weights.

    Parameters
    ----------
    n_features : int
    targets : slice
        which properties of the block, with a start and a stop
    solver : str
        what the sums are for
    centered : bool
        whether there is an intercept

    """

    def __init__(
        self,
        n_features: int,
        targets: slice,
        solver: str,
        centered: bool,
    ) -> None:
        self.targets = targets
        self.solver = solver
        self._size = n_features, targets.stop - targets.start
        self._kind = NormalEquations if solver == "cholesky" else TriangularRows
        self.terms: dict[str | None, Term] = {VALUES: self._kind(*self._size, centered)}

    def add(self, name: str | None, rows: Any, targets: Array, weights: Array) -> None:
        """Add rows (n, n_features), all their targets, and weights: one, or one for each target."""
        targets = _arrays.from_host(targets[:, self.targets], rows)
        column = self._column(weights)
        given = None if (column == 1).all() else _arrays.from_host(column, rows)
        self._term(name).add(rows, targets, given)

    def add_absent(self, name: str | None, targets: Array, weights: Array) -> None:
        """Add rows whose features are zero."""
        self._term(name).add_absent(targets[:, self.targets], self._column(weights))

    def check_weights(self, stacks: Sequence[Stack]) -> None:
        """Refuse weights that differ between the targets."""
        for stack in stacks:
            weights = stack.weights[..., self.targets]
            if weights.shape[-1] > 1 and (weights != weights[..., :1]).any():
                raise ValueError(
                    "sample_weight must not differ between the properties of y after a first batch "
                    "in which it did not; give weights with all the properties from the first "
                    "batch on"
                )

    def _term(self, name: str | None) -> Term:
        if name not in self.terms:
            self.terms[name] = self._kind(*self._size, centered=False)
        return self.terms[name]

    def _column(self, weights: Array) -> Array:
        if weights.shape[1] == 1:
            return weights
        return weights[:, self.targets.start, None]
