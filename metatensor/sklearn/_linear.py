"""What a linear model does with one block: rows of a least-squares problem, and predictions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _alignment, _base, _matching
from metatensor.sklearn._base import VALUES
from metatensor.sklearn._least_squares import Model
from metatensor.sklearn._matching import Pair
from metatensor.sklearn._stacking import Stack
from metatensor.tensor import TensorMap

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


def alpha_for(alpha: float | TensorMap, target: Target, keys: Labels) -> Array:
    """Return the penalties for one of the blocks of y with some keys.

    Returns
    -------
    array, (1 or n_targets, n_features)

    """
    if not isinstance(alpha, TensorMap):
        return np.full((1, len(target.features)), float(alpha))
    names = _matching.Names("y", "alpha")
    block = alpha._blocks[_matching.match_keys(keys, alpha._keys, names)[target.position]]
    columns = _find_all(target.features, block._properties, "properties")
    rows = np.arange(1)
    if len(block._samples) != 1:
        rows = _find_all(target.properties, block._samples, "samples")
    values = _arrays.to_host(_arrays.detach(block._values)).astype(np.float64)
    if values.ndim != 2 or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(
            "`alpha` must have values that are finite and not negative, and no components"
        )
    return values[np.ix_(rows, columns)]


def _find_all(wanted: Labels, given: Labels, what: str) -> npt.NDArray[np.intp]:
    if set(wanted._names) != set(given._names):
        raise ValueError(
            f"the {what} of `alpha` must have the names {wanted.names}, got {given.names}"
        )
    positions = _alignment.find(wanted, given)
    if len(positions) and positions.min() < 0:
        raise ValueError(
            f"the {what} of `alpha` must be those of the coefficients, there is none for "
            f"{_base.entries_text(wanted, positions < 0)}"
        )
    return positions


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
