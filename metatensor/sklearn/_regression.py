"""What regressors share: X and y in, predictions in the container of y out."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_array, check_consistent_length, validate_data

from metatensor import _checks
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.sklearn import _base, metrics
from metatensor.sklearn.rows import Rows
from metatensor.tensor import TensorMap


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
        if not any(len(block._samples) for block in _base.to_tensor(y)):
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
                f"{_checks.kind(X)}, and {_checks.kind(y)} for y"
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
            1 for a perfect prediction; see :func:`metatensor.sklearn.metrics.r2`

        """
        if _base.is_tensor(y):
            r2: Any = metrics.r2(y, self.predict(X), sample_weight=sample_weight)
            return float(r2)
        return float(super().score(X, y, sample_weight))


def labelled_target(X: _base.Tensor, y: Any) -> tuple[_base.Tensor, int | None]:
    """Return labelled y, and its dimensions if it was an array that goes with labelled X."""
    if y is not None and _base.is_tensor(y):
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
