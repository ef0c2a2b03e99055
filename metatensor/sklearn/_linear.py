"""What a linear model does with one block: rows of a least-squares problem, and predictions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _base, _matching
from metatensor.sklearn._base import VALUES
from metatensor.sklearn._least_squares import Model
from metatensor.sklearn._matching import Pair
from metatensor.sklearn._stacking import Stack

Array = npt.NDArray[np.float64]


class Target(NamedTuple):
    """A block of y, and the block of X that it is predicted from."""

    position: int
    key: LabelsEntry
    feature_key: LabelsEntry
    properties: Labels
    features: Labels
    centered: bool


def stacks_of(pair: Pair, parameters: list[str], weights: dict[str | None, Array]) -> list[Stack]:
    """Return the rows of values and gradients."""
    stacks = [Stack(VALUES, pair.given, pair.wanted, pair.samples, weights[VALUES])]
    for name in parameters:
        rows = pair.gradient_rows(name, _matching.X_AND_Y)
        features, targets = pair.given._gradients[name], pair.wanted._gradients[name]
        stacks.append(Stack(name, features, targets, rows, weights[name]))
    return stacks


def predicted(block: TensorBlock, model: Model, properties: Labels) -> TensorBlock:
    """Apply a linear model to values and gradients."""
    values = _base.as_float(block._values)
    matrix = _arrays.from_host(np.ascontiguousarray(model.coefficients.T), values)
    shift = _arrays.from_host(model.intercept, values)
    return _base.map_block(
        block,
        properties,
        on_values=lambda array: _base.times(array, matrix) + shift,
        on_gradients=lambda array: _base.times(array, matrix),
    )


def deviation_order(model: Model) -> npt.NDArray[np.intp]:
    """Return where each target is among those of the deviations."""
    return np.argsort(np.concatenate([part.targets for part in model.deviations]))


def standard_deviation(block: TensorBlock, model: Model, properties: Labels) -> TensorBlock:
    """Return the standard deviation of values, computed in double precision."""
    given = _base.as_float(block._values)
    xp = _arrays.namespace(given)
    values = xp.astype(given, xp.float64, copy=False)
    parts = []
    for part in model.deviations:
        mean, root, scale = (
            _arrays.from_host(array, values) for array in (part.mean, part.root, part.scale)
        )
        square = xp.sum(_base.times(values - mean, root) ** 2, axis=-1)
        parts.append(xp.sqrt(1 + part.constant + square)[..., None] * scale)
    result = _arrays.take(xp.concat(parts, axis=-1), deviation_order(model), axis=-1)
    result = xp.astype(result, given.dtype, copy=False)
    return TensorBlock._of(result, block._samples, block._components, properties)


def unseen_entries(block: TensorBlock, model: Model) -> str:
    """Print the properties that are not zero here, and were in all rows of the fit."""
    columns = np.flatnonzero(model.unseen)
    if not len(columns):
        return ""
    values = _arrays.take(_arrays.detach(block._values), columns, axis=-1)
    found = _arrays.namespace(values).any(values != 0, axis=tuple(range(values.ndim - 1)))
    mask = np.zeros(len(model.unseen), dtype=bool)
    mask[columns] = _arrays.to_host(found)
    return _base.entries_text(block._properties, mask)
