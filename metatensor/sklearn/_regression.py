"""What regressors share: X and y in, predictions in the container of y out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_array, check_consistent_length, validate_data

from metatensor import _arrays, _checks
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.sklearn import _base, _gradient_weights, _linear, _matching, metrics
from metatensor.sklearn._gradient_weights import GradientWeights
from metatensor.sklearn._least_squares import Model
from metatensor.sklearn._linear import Target
from metatensor.sklearn._matching import Pair
from metatensor.sklearn._stacking import Stack
from metatensor.sklearn.rows import Rows, is_called_by
from metatensor.tensor import TensorMap

Array = npt.NDArray[np.float64]


class TensorRegressor(
    RegressorMixin,
    MultiOutputMixin,
    _base.TensorEstimator,
):
    """Base of regressors: labelled data or arrays for X, and the same or arrays for y."""

    #: dimensions of y if it was an array in `fit`, None if it was labelled
    _target_ndim: int | None

    def _labelled(self, X: Any, y: Any, first: bool) -> tuple[_base.Tensor, _base.Tensor]:
        """Return X and y of a batch as labelled data, with the properties of X in known order."""
        if _base.is_tensor(X):
            X = self._labelled_features(X, reset=first)
            y, ndim = labelled_target(X, y)
        else:
            X, y, ndim = self._labelled_arrays(X, y, first)
        if first:
            self._target_ndim = ndim
        elif ndim != self._target_ndim:
            raise TypeError(
                "y must be of the same kind as in the first batch: labelled, 1-D or 2-D array"
            )
        if first and not any(len(block._samples) for block in _base.to_tensor(y)):
            raise ValueError("y must have at least one sample, got none")
        _base.check_finite(_base.to_tensor(X), "X")
        _base.check_finite(_base.to_tensor(y), "y")
        return X, y

    def _target_for_others(self, X: Any, y: Any) -> Any:
        """Remember the labels of X, which is passed on as it is, and return y, checked."""
        if not _base.is_tensor(X):
            _, y = self._checked_arrays(X, y, first=True)
            self._target_ndim = y.ndim
            return y
        self._remember_features(_base.to_tensor(X))
        labelled, self._target_ndim = labelled_target(X, y)
        if self._target_ndim is not None:
            return check_array(y, dtype=_base.float_dtypes(y), ensure_2d=False, input_name="y")
        _base.check_finite(_base.to_tensor(labelled), "y")
        return labelled

    def _checked_arrays(self, X: Any, y: Any, first: bool) -> tuple[Any, Any]:
        if y is not None and _base.is_tensor(y):
            raise TypeError(
                "y can only be labelled if X is, got an array (or the like) for X, "
                f"{_checks.kind(X)}, and {_checks.kind(y)} for y; transformers of "
                "scikit-learn make arrays of Rows, use those of metatensor.sklearn before this step"
            )
        if not first:
            self._check_container(X)
        dtypes = _base.float_dtypes(X)
        X, y = validate_data(
            self, X, y, reset=first, dtype=dtypes, multi_output=True, y_numeric=True
        )
        if first:
            self._forget_features()
        return X, y

    def _labelled_arrays(self, X: Any, y: Any, first: bool) -> tuple[TensorMap, TensorMap, int]:
        X, y = self._checked_arrays(X, y, first)
        features = _base.from_matrix(X, "feature")
        return features, _target_map(y, features.block_by_id(0)._samples), y.ndim

    def _to_container(self, X: Any, prediction: TensorMap) -> Any:
        """Return a prediction for X in the container that y had."""
        if self._target_ndim is None:
            return _base.like_container(X, prediction)
        block = prediction.block_by_id(0)
        values = X._like(prediction)._matrix(block) if isinstance(X, Rows) else block._values
        return values[:, 0] if self._target_ndim == 1 else values

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the coefficient of determination of all predicted values together.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
        y : TensorMap, Rows, or array (n_samples,) or (n_samples, n_targets)
            the true values; gradients do not count
        sample_weight : array (n_rows,), optional

        Returns
        -------
        float
            1 for a perfect prediction; see :func:`metatensor.sklearn.r2`

        """
        if _base.is_tensor(y):
            r2: Any = metrics.r2(y, self.predict(X), sample_weight=sample_weight)
            return float(r2)
        return float(super().score(X, y, sample_weight))


class LinearRegressor(TensorRegressor):
    """Base of linear models; parameters `fit_intercept` and `compute_std` are those of all."""

    fit_intercept: bool
    compute_std: bool
    _fitted: list[Model] | None

    # ---- fitting

    def _gradient_options(self) -> Sequence[GradientWeights]:
        """Return the weights of gradients that are tried."""
        raise NotImplementedError

    def _check_parameters(self) -> None:
        _base.check_flags(self, "fit_intercept", "compute_std")
        for weights in self._gradient_options():
            _gradient_weights.check(weights)

    def _open(
        self, X: Any, y: Any, sample_weight: Any, first: bool
    ) -> tuple[list[list[Stack]], _base.Tensor]:
        """Check a batch of data, and return the rows for each block of y, and y as labelled."""
        self._check_parameters()
        X, y = self._labelled(X, y, first)
        features, targets = _base.to_tensor(X), _base.to_tensor(y)
        for key, block in targets.items():
            if not len(block._properties):
                raise ValueError(
                    f"y must have properties, the block with key {key.print()} has none"
                )
        parameters = self._parameters(features, targets)
        pairs = _matching.match(targets, features)
        if sample_weight is not None and isinstance(X, Rows) and not isinstance(y, Rows):
            y = X._like(y)  # its weights are those of the rows of X
        weights = _matching.term_weights(sample_weight, y, pairs)
        if first:
            self._remember_targets(pairs, targets._keys)
        batch: list[list[Stack]] = [[] for _ in self._targets]
        for pair, weight in zip(pairs, weights, strict=True):
            batch[self._target_of(pair).position] = _linear.stacks_of(pair, parameters, weight)
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
                np.concatenate([part.scale for part in model.deviations])[
                    _linear.deviation_order(model)
                ]
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
            zero in X; not in cross-validation, where scores tell

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
            _linear.predicted(block, model, target.properties)
            for block, model, target in zip(blocks, models, self._targets, strict=True)
        ]
        prediction = self._to_container(data, TensorMap._of(self._target_keys, predictions))
        if not return_std:
            return prediction
        deviations = [
            _linear.standard_deviation(block, model, target.properties)
            for block, model, target in zip(blocks, models, self._targets, strict=True)
        ]
        return prediction, self._to_container(data, TensorMap._of(self._target_keys, deviations))

    def to_torch(self) -> Any:
        """Return the model as module of torch, which can be trained further.

        Gradients: those of the predicted values, without the intercept, as from :meth:`predict`.

        Returns
        -------
        metatensor.learn.nn.ChainRule
            with a :class:`torch.nn.Linear` for each key, of the dtype of X in `fit`. Maps for it
            hold torch tensors; they have the properties of X in `fit` in the same order, which is
            not checked.

        Raises
        ------
        ValueError
            if the blocks of y and X do not have the same keys
        TypeError
            if X was an array
        ImportError
            if torch is not installed

        """
        from metatensor.learn.nn import chain_rule, linear

        models = self._models
        if not hasattr(self, "feature_labels_in_"):
            raise TypeError(
                f"`to_torch` needs labels, this {type(self).__name__} was fitted to arrays"
            )
        for target in self._targets:
            if target.feature_key != target.key:
                raise ValueError(
                    "`to_torch` needs the same keys in X and y, the block "
                    f"{target.key.print()} of y is predicted from {target.feature_key.print()} of X"
                )
        layers = linear.from_weights(
            self._target_keys,
            [_arrays.from_host(model.coefficients, self._empty) for model in models],
            [
                _arrays.from_host(model.intercept, self._empty) if target.centered else None
                for model, target in zip(models, self._targets)
            ],
            [target.properties for target in self._targets],
        )
        return chain_rule.ChainRule(layers)

    def _block_for(self, target: Target, features: TensorMap) -> TensorBlock:
        position = features._keys.position(target.feature_key)
        if position is None:
            raise ValueError(
                f"X has no block with key {target.feature_key.print()}, which the block "
                f"{target.key.print()} is predicted from"
            )
        return features._blocks[position]

    def _warn_of_unseen(self, blocks: list[TensorBlock]) -> None:
        texts = [
            f"{entries} of the block with key {target.feature_key.print()}"
            for target, model, block in zip(self._targets, self._models, blocks, strict=True)
            if (entries := _linear.unseen_entries(block, model))
        ]
        if texts and not is_called_by("sklearn.model_selection"):
            warnings.warn(
                f"X has properties that were zero in all rows that {type(self).__name__} was "
                f"fitted to, and do not count in predictions: {'; '.join(texts)}",
                UserWarning,
                stacklevel=3,
            )


def labelled_target(X: _base.Tensor, y: Any) -> tuple[_base.Tensor, int | None]:
    """Return labelled y, and its dimensions if it was an array that goes with labelled X."""
    if y is None:
        raise ValueError("y must be given, labelled data or an array, got None")
    if _base.is_tensor(y):
        if isinstance(X, Rows) and isinstance(y, Rows):
            _check_same_rows(X, y)
        return y, None
    y = check_array(y, dtype=_base.float_dtypes(y), ensure_2d=False, input_name="y")
    if isinstance(X, Rows):
        check_consistent_length(X, y)
        return Rows(_target_map(y, X.rows), X.by, X.rows), y.ndim
    if len(X) != 1:
        raise ValueError(
            f"y can only be an array if X has one block, got {len(X)}; use `KeysToProperties`, or "
            "labels for y"
        )
    samples = X.block_by_id(0)._samples
    check_consistent_length(samples, y)
    return _target_map(y, samples), y.ndim


def _check_same_rows(X: Rows, y: Rows) -> None:
    check_consistent_length(X, y)
    absent = y.rows.difference(X.rows) if X.by == y.by else y.rows
    if len(absent):
        raise ValueError(
            f"X and y must have the same rows; y has rows by {list(y.by)} that X, by {list(X.by)}, "
            f"has not: {_base.entries_text(absent)}; make both with "
            "`as_rows(X, y)`"
        )


def _target_map(y: npt.NDArray[Any], samples: Labels) -> TensorMap:
    """Return array targets as a map with one block."""
    matrix = y[:, None] if y.ndim == 1 else y
    properties = Labels.range("target", matrix.shape[1])
    return TensorMap._of(Labels.single(), [TensorBlock._of(matrix, samples, (), properties)])
