"""What linear models share: X and y as rows of a least-squares problem, and predictions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import NotFittedError

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _base, _gradient_weights, _matching, _regression
from metatensor.sklearn._gradient_weights import Factors, GradientWeights
from metatensor.sklearn._leave_out import Deviation
from metatensor.sklearn._matching import VALUES, Pair
from metatensor.sklearn._stacking import Stack
from metatensor.sklearn.rows import Rows
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


class Model(NamedTuple):
    """What was learnt for one block of y."""

    coefficients: Array  # (n_targets, n_features)
    intercept: Array  # (n_targets,)
    factors: Factors
    unseen: npt.NDArray[np.bool_]  # (n_features,)
    condition: float = 1.0
    deviations: Sequence[Deviation] = ()


class LinearRegressor(_regression.TensorRegressor):
    """Base of linear models; parameters `fit_intercept` and `compute_std` are those of all."""

    fit_intercept: bool
    compute_std: bool
    _fitted: list[Model] | None

    # ---- fitting

    def _gradient_options(self) -> Sequence[GradientWeights]:
        """Return the weights of gradients that are tried."""
        raise NotImplementedError

    def _check_parameters(self) -> None:
        for weights in self._gradient_options():
            _gradient_weights.check(weights)

    def _open(
        self, X: Any, y: Any, sample_weight: Any, first: bool
    ) -> tuple[list[list[Stack]], _base.Tensor]:
        """Check a batch of data, and return the rows for each block of y, and y as labelled."""
        self._check_parameters()
        X, y = self._labelled(X, y, first)
        features, targets = _base.to_tensor(X), _base.to_tensor(y)
        parameters = self._parameters(features, targets)
        pairs = _matching.match(targets, features)
        if sample_weight is not None and isinstance(X, Rows) and not isinstance(y, Rows):
            y = X._like(y)  # its weights are those of the rows of X
        weights = _matching.term_weights(sample_weight, y, pairs)
        if first:
            self._remember_targets(pairs, targets._keys)
        batch: list[list[Stack]] = [[] for _ in self._targets]
        for pair, weight in zip(pairs, weights, strict=True):
            batch[self._target_of(pair).position] = _stacks(pair, parameters, weight)
        return batch, y

    def _parameters(self, features: TensorMap, targets: TensorMap) -> list[str]:
        """Return the names of the gradients whose rows are needed."""
        return _gradient_weights.used(self._gradient_options(), features, targets)

    def _remember_targets(self, pairs: list[Pair], keys: Labels) -> None:
        self._target_keys = keys
        self._targets = [
            Target(
                position=position,
                key=pair.key,
                feature_key=pair.given_key,
                properties=pair.wanted._properties,
                features=pair.given._properties,
                centered=self.fit_intercept and _base.is_invariant(pair.key, pair.wanted),
            )
            for position, pair in enumerate(pairs)
        ]
        # tells library, dtype and device of the coefficients
        self._empty = _arrays.full((0,), 0, _base.as_float(pairs[0].given._values))

    def _target_of(self, pair: Pair) -> Target:
        """Return what the first batch had under the same key."""
        for target in self._targets:
            if target.key == pair.key and target.properties == pair.wanted._properties:
                return target
        raise ValueError(
            "y must have the keys and properties of the first batch, got other ones under the key "
            f"{pair.key.print()}"
        )

    # ---- results

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    @property
    def _models(self) -> list[Model]:
        """What was learnt for each block of y."""
        if getattr(self, "_fitted", None) is None:
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet, call `fit` first"
            )
        return self._fitted or []

    def _to_map(self, parts: list[Array], samples: list[Labels], properties: list[Labels]) -> Any:
        values = [_arrays.from_host(part, self._empty) for part in parts]
        blocks = [
            TensorBlock._of(v, s, (), p)
            for v, s, p in zip(values, samples, properties, strict=True)
        ]
        return TensorMap._of(self._target_keys, blocks)

    def _per_target(self, parts: list[Array]) -> Any:
        """Return a number for each property of y: as a map, or for arrays an array or a float."""
        if not hasattr(self, "feature_labels_in_"):
            values = _arrays.from_host(parts[0], self._empty)
            return float(values[0]) if self._target_ndim == 1 else values
        rows = [part[None, :] for part in parts]
        properties = [target.properties for target in self._targets]
        return self._to_map(rows, [Labels.single() for _ in rows], properties)

    @property
    def coef_(self) -> Any:
        """Coefficients."""
        coefficients = [model.coefficients for model in self._models]
        if not hasattr(self, "feature_labels_in_"):
            values = _arrays.from_host(coefficients[0], self._empty)
            return values[0] if self._target_ndim == 1 else values
        properties = [target.properties for target in self._targets]
        return self._to_map(coefficients, properties, [target.features for target in self._targets])

    @property
    def intercept_(self) -> Any:
        """Intercepts, zero for blocks that are not invariant."""
        return self._per_target([model.intercept for model in self._models])

    @property
    def gradient_weights_(self) -> dict[str, Array]:
        """Weights of the gradients for each block."""
        factors = [model.factors for model in self._models]
        names = sorted({name for block in factors for name in block if name is not None})
        return {name: np.array([block.get(name, 0.0) for block in factors]) for name in names}

    @property
    def scale_(self) -> Any:
        """Scale of the standard deviation for each block and property."""
        models = self._models
        if not self._has_deviations:
            raise AttributeError(
                f"`scale_` of {type(self).__name__} is there after a `fit` with compute_std=True"
            )
        return self._per_target(
            [
                np.concatenate([part.scale for part in model.deviations])[_order(model)]
                for model in models
            ]
        )

    @property
    def _has_deviations(self) -> bool:
        return all(model.deviations for model in self._models)

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict values, and gradients if X has them.

        Gradients: those of the predicted values, :math:`D w`. The standard deviation has none.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            with the keys and properties of the X in `fit`; other properties are refused
        return_std : bool, default=False
            whether to return the standard deviation of the values too, after a `fit` with
            ``compute_std=True``

        Returns
        -------
        TensorMap, Rows or array
            labelled as X is, in blocks with the keys and properties of y; an array if y was one
        TensorMap, Rows or array
            with ``return_std=True``: the standard deviation that a new value of weight one has
            around its prediction, noise included, labelled like the values

        Raises
        ------
        ValueError
            if keys or properties differ from those in `fit`, or there is no standard deviation
        TypeError
            if X is an array and was not in `fit`, or the other way round

        Warns
        -----
        UserWarning
            if properties that were zero in all rows of `fit`, and so have no coefficient, are not
            zero in X

        """
        data = self._labelled_features(X)
        models = self._models
        if return_std and not self._has_deviations:
            raise ValueError(
                f"a standard deviation needs {type(self).__name__}(compute_std=True) and `fit`, "
                "since it is found from the rows of X, which are not kept"
            )
        blocks = [self._block_for(target, _base.to_tensor(data)) for target in self._targets]
        self._warn_of_unseen(blocks)
        predictions = [
            _predicted(block, model, target.properties)
            for block, model, target in zip(blocks, models, self._targets, strict=True)
        ]
        prediction = self._to_container(data, TensorMap._of(self._target_keys, predictions))
        if not return_std:
            return prediction
        deviations = [
            _standard_deviation(block, model, target.properties)
            for block, model, target in zip(blocks, models, self._targets, strict=True)
        ]
        return prediction, self._to_container(data, TensorMap._of(self._target_keys, deviations))

    def _block_for(self, target: Target, features: TensorMap) -> TensorBlock:
        position = features._keys.position(target.feature_key)
        if position is None:
            raise ValueError(
                f"X has no block with key {target.feature_key.print()}, which the block "
                f"{target.key.print()} is predicted from"
            )
        return features._blocks[position]

    def _warn_of_unseen(self, blocks: list[TensorBlock]) -> None:
        texts = []
        for target, model, block in zip(self._targets, self._models, blocks, strict=True):
            columns = np.flatnonzero(model.unseen)
            if len(columns):
                values = _arrays.take(_arrays.detach(block._values), columns, axis=-1)
                xp = _arrays.namespace(values)
                found = xp.any(values != 0, axis=tuple(range(values.ndim - 1)))
                mask = np.zeros(len(model.unseen), dtype=bool)
                mask[columns] = _arrays.to_host(found)
                if mask.any():
                    entries = _base.entries_text(target.features, mask)
                    texts.append(f"{entries} of the block with key {target.feature_key.print()}")
        if texts:
            warnings.warn(
                f"X has properties that were zero in all rows that {type(self).__name__} was "
                f"fitted to, and do not count in predictions: {'; '.join(texts)}",
                UserWarning,
                stacklevel=3,
            )


def _stacks(pair: Pair, parameters: list[str], weights: dict[str | None, Array]) -> list[Stack]:
    """Return the rows of values and gradients."""
    stacks = [Stack(VALUES, pair.given, pair.wanted, pair.samples, weights[VALUES])]
    for name in parameters:
        rows = pair.gradient_rows(name, _matching.X_AND_Y)
        features, targets = pair.given._gradients[name], pair.wanted._gradients[name]
        stacks.append(Stack(name, features, targets, rows, weights[name]))
    return stacks


def _predicted(block: TensorBlock, model: Model, properties: Labels) -> TensorBlock:
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


def _order(model: Model) -> npt.NDArray[np.intp]:
    """Return where each target is among those of the deviations."""
    return np.argsort(np.concatenate([part.targets for part in model.deviations]))


def _standard_deviation(block: TensorBlock, model: Model, properties: Labels) -> TensorBlock:
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
    result = _arrays.take(xp.concat(parts, axis=-1), _order(model), axis=-1)
    result = xp.astype(result, given.dtype, copy=False)
    return TensorBlock._of(result, block._samples, block._components, properties)
