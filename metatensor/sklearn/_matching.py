"""Which block, sample and gradient row of one tensor goes with which of another one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _alignment, _base
from metatensor.sklearn._base import VALUES
from metatensor.sklearn.rows import Rows, row_numbers
from metatensor.tensor import TensorMap

Positions = npt.NDArray[np.intp]
Array = npt.NDArray[np.float64]


class Names(NamedTuple):
    """What messages call the tensor that says what is wanted, and the one that has to give it."""

    wanted: str
    given: str


X_AND_Y = Names("y", "X")


class Pair(NamedTuple):
    """A block, the block that goes with it, and the positions of its samples there."""

    key: LabelsEntry
    given_key: LabelsEntry
    wanted: TensorBlock
    given: TensorBlock
    samples: Positions

    def gradient_rows(self, parameter: str, names: Names) -> Positions:
        """Return where the wanted gradient rows are in the given gradient; -1 for absent ones."""
        wanted, given = self.wanted._gradients[parameter], self.given._gradients[parameter]
        if wanted._components != given._components:
            raise ValueError(
                f"{names.wanted} and {names.given} must have the same components in the gradient "
                f"{parameter!r} of the block with key {self.key.print()}, got "
                f"{_base.components_text(wanted)} and {_base.components_text(given)}"
            )
        return _alignment.find_gradient_rows(wanted, given, self.samples)


def agreeing_keys(wanted: Labels, given: Labels, names: Names) -> list[Positions]:
    """Return for each key the positions of all keys that agree in all its dimensions.

    A lone dimension "_" says nothing, and agrees with every key.
    """
    dimensions = [] if wanted._names == ("_",) else wanted.names
    unknown = [name for name in dimensions if name not in given._names]
    if unknown:
        raise ValueError(
            f"the key names of {names.wanted} must be among those of {names.given}, {given.names}, "
            f"got {wanted.names}"
        )
    positions = []
    table = _alignment.columns(given, dimensions)
    for entry, row in zip(wanted, _alignment.columns(wanted, dimensions)):
        found = np.flatnonzero((table == row).all(axis=1))
        if len(found) == 0:
            keys = _base.entries_text(given)
            raise ValueError(
                f"no block of {names.given} matches the key {entry.print()} of {names.wanted}, "
                f"there are: {keys}"
            )
        positions.append(found)
    return positions


def match_keys(wanted: Labels, given: Labels, names: Names) -> list[int]:
    """Return for each key the position of the one key that agrees in all its dimensions."""
    positions = []
    for entry, found in zip(wanted, agreeing_keys(wanted, given, names)):
        if len(found) > 1:
            others = [name for name in given._names if name not in wanted._names]
            raise ValueError(
                f"{len(found)} blocks of {names.given} match the key {entry.print()} of "
                f"{names.wanted}, exactly one is required; move {others} to the properties with "
                f"`KeysToProperties({others})`"
            )
        positions.append(int(found[0]))
    return positions


def match(wanted: TensorMap, given: TensorMap, names: Names = X_AND_Y) -> list[Pair]:
    """Pair the blocks of two tensors, and their samples; all that is wanted must be there."""
    pairs = []
    for position, (key, block) in zip(match_keys(wanted._keys, given._keys, names), wanted.items()):
        other = given._blocks[position]
        samples = _match_samples(key, block, other, names)
        pairs.append(Pair(key, given._keys.entry(position), block, other, samples))
    return pairs


def _match_samples(
    key: LabelsEntry, wanted: TensorBlock, given: TensorBlock, names: Names
) -> Positions:
    extra = [name for name in given._samples._names if name not in wanted._samples._names]
    lacking = [name for name in wanted._samples._names if name not in given._samples._names]
    if extra or lacking:
        advice = f"; sum over them with `SumOverSamples({extra})`" if extra and not lacking else ""
        raise ValueError(
            f"{names.given} must have the sample names of {names.wanted}, {wanted._samples.names}, "
            f"got {given._samples.names}{advice}"
        )
    if wanted._components != given._components:
        raise ValueError(
            f"{names.wanted} and {names.given} must have the same components in the block with key "
            f"{key.print()}, got {_base.components_text(wanted)} and "
            f"{_base.components_text(given)}"
        )
    positions = _alignment.find(wanted._samples, given._samples)
    if len(positions) and positions.min() < 0:
        raise ValueError(
            f"{names.given} must have all the samples of {names.wanted}, the block with key "
            f"{key.print()} lacks {_base.entries_text(wanted._samples, positions < 0)}"
        )
    return positions


# ---- weights of samples


def row_weights(
    sample_weight: Any, data: TensorMap | Rows, name: str = "sample_weight"
) -> list[Array]:
    """Return the weight of each sample in each block, from one weight for each row."""
    try:
        weights = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name} must be a number, or one for each row, got {_checks.kind(sample_weight)}"
        ) from None
    _checked(weights, name)
    if not (weights > 0).any():
        raise ValueError(f"{name} must have an entry above zero, all are zero")
    tensor = _base.to_tensor(data)
    if weights.ndim == 0:
        return [np.full(len(block._samples), weights) for block in tensor]
    if weights.ndim != 1:
        raise ValueError(f"Sample weights must be 1D array or scalar, got {weights.ndim}D array.")
    rows = common_rows(data, name)
    if len(weights) != len(rows):
        raise ValueError(
            f"{name} must have one entry for each row, {len(rows)}, got {len(weights)}"
        )
    if not isinstance(data, Rows):
        return [weights for _ in tensor]
    return [weights[row_numbers(block._samples, rows)] for block in tensor]


def any_weight(weights: Array) -> npt.NDArray[np.bool_]:
    """Tell for each sample or gradient row whether one of its weights is above zero."""
    found: npt.NDArray[np.bool_] = np.any(weights > 0, axis=tuple(range(1, weights.ndim)))
    return found


def common_rows(data: TensorMap | Rows, name: str) -> Labels:
    """Return the rows that the entries of an array belong to: for a TensorMap, its samples."""
    if isinstance(data, Rows):
        return data.rows
    first = data._blocks[0]._samples
    for key, block in data.items():
        if block._samples != first:
            raise ValueError(
                f"{name} for the rows of a TensorMap needs blocks with the same samples, those "
                f"of the block with key {key.print()} are not those of the first one; make rows "
                "with `as_rows`"
            )
    return first


def _checked(weights: Array, name: str = "sample_weight") -> Array:
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"{name} must be finite and not negative")
    return weights


def term_weights(
    sample_weight: Any, data: TensorMap | Rows, pairs: list[Pair]
) -> list[dict[str | None, Array]]:
    """Return the weights of values and gradients of each block, broadcasting to their shapes.

    Parameters
    ----------
    sample_weight : None, number, array (n_rows,), TensorMap or Rows
        one weight for each row, which multiplies its gradients too; or as many as there are values
        or samples and, in its own gradients, gradient rows
    data : TensorMap or Rows
        what the weights are for
    pairs : list of Pair
        the blocks of the data

    """
    if sample_weight is None:
        sample_weight = 1.0
    if _base.is_tensor(sample_weight):
        return _tensor_weights(_base.to_tensor(sample_weight), _base.to_tensor(data))
    weights: list[dict[str | None, Array]] = []
    for pair, values in zip(pairs, row_weights(sample_weight, data)):
        parts: dict[str | None, Array] = {VALUES: _with_axes(values, pair.wanted)}
        for name, gradient in pair.wanted._gradients.items():
            parts[name] = _with_axes(values[gradient._samples._table[:, 0]], gradient)
        weights.append(parts)
    return weights


def _with_axes(weights: Array, block: TensorBlock) -> Array:
    return weights.reshape(-1, *[1] * (len(block._values.shape) - 1))


def _tensor_weights(sample_weight: TensorMap, tensor: TensorMap) -> list[dict[str | None, Array]]:
    """Align weights with blocks; gradients without weights count as they are."""
    names = Names("y", "sample_weight")
    weights: list[dict[str | None, Array]] = []
    for pair in match(tensor, sample_weight, names):
        parts: dict[str | None, Array] = {
            VALUES: _aligned_weights(pair.wanted, pair.given, pair.samples)
        }
        for name, gradient in pair.wanted._gradients.items():
            if name in pair.given._gradients:
                rows = pair.gradient_rows(name, names)
                if len(rows) and rows.min() < 0:
                    raise ValueError(
                        f"sample_weight must have all the rows of the gradient {name!r} of y, in "
                        f"the block with key {pair.key.print()} it lacks "
                        f"{_base.entries_text(gradient._samples, rows < 0)}"
                    )
                parts[name] = _aligned_weights(gradient, pair.given._gradients[name], rows)
            else:
                parts[name] = _with_axes(np.ones(len(gradient._samples)), gradient)
        weights.append(parts)
    if not any(part.any() for parts in weights for part in parts.values()):
        raise ValueError("sample_weight must have an entry above zero, all are zero")
    return weights


def _aligned_weights(wanted: TensorBlock, given: TensorBlock, rows: Positions) -> Array:
    values = _arrays.to_host(_arrays.detach(given._values))[rows].astype(np.float64)
    if len(given._properties) != 1:
        columns = _alignment.find(wanted._properties, given._properties)
        if len(columns) and columns.min() < 0:
            raise ValueError(
                "sample_weight must have one property, or those of y, "
                f"{_base.entries_text(wanted._properties, columns < 0)} is missing"
            )
        values = values[..., columns]
    return _checked(values)
