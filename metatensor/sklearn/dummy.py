"""Predictions that do not depend on features, to compare others with."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from metatensor import _arrays
from metatensor.sklearn import _base, _baseline, _matching, _regression
from metatensor.sklearn._base import VALUES
from metatensor.sklearn._matching import Pair
from metatensor.sklearn.rows import Rows
from metatensor.tensor import TensorMap

Array = npt.NDArray[np.float64]

_STRATEGIES = ("mean", "median", "zero")


class DummyRegressor(_regression.TensorRegressor):
    """Predict the same for all samples: what every model has to do better than.

    Gradients of a constant are zero: predictions have the gradients that X has, without rows, since
    rows that are absent count as zero; gradients of y do not count. Blocks of y that are not
    invariant to rotations (with a component axis of more than one entry, "o3_lambda" other than 0
    or "o3_sigma" other than 1) are predicted as zero, whatever the strategy.

    Plain 2-D arrays are taken as well, as in :class:`sklearn.dummy.DummyRegressor`.

    Parameters
    ----------
    strategy : {"mean", "median", "zero"}, default="mean"
        what to predict for invariant blocks: the mean or the median of each property of y, weighted
        by the sample weights, or zero

    Attributes
    ----------
    constant_ : TensorMap, array (n_targets,) or float
        the predictions, in blocks with the keys and properties of y
    n_features_in_ : int
        number of properties of X, of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block of X, for labelled data
    feature_names_in_ : array of str
        names of the columns of X, for data frames

    See Also
    --------
    CompositionRegressor : the baseline for energies, which grow with the system
    sklearn.dummy.DummyRegressor : the model for arrays

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import DummyRegressor
    >>> samples, energy = Labels.range("system", 3), Labels.range("energy", 1)
    >>> X = TensorBlock(np.ones((3, 2)), samples, [], Labels.range("n", 2))
    >>> y = TensorBlock(np.array([[1.0], [2.0], [6.0]]), samples, [], energy)
    >>> X, y = (TensorMap(Labels.single(), [block]) for block in (X, y))
    >>> DummyRegressor().fit(X, y).predict(X).block().values.ravel()
    array([3., 3., 3.])

    """

    constant_: Any

    def __init__(self, strategy: Literal["mean", "median", "zero"] = "mean") -> None:
        self.strategy = strategy

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> DummyRegressor:
        """Find the constants.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            only its labels are remembered
        y : TensorMap, Rows, or array (n_samples,) or (n_samples, n_targets)
            targets; gradients do not count
        sample_weight : array (n_rows,), TensorMap, Rows or float, optional
            weight of each row, or of each value for a TensorMap like y

        Returns
        -------
        DummyRegressor
            self, fitted

        Raises
        ------
        ValueError
            if the strategy is none of those above, or there is NaN or infinity

        """
        if self.strategy not in _STRATEGIES:
            raise ValueError(f"`strategy` must be one of {_STRATEGIES}, got {self.strategy!r}")
        X, y = self._labelled(X, y, first=True)
        if sample_weight is not None and isinstance(X, Rows) and not isinstance(y, Rows):
            y = X._like(y)  # its weights are those of the rows of X
        tensor = _base.to_tensor(y)
        pairs = [
            Pair(key, key, block, block, np.arange(len(block._samples)))
            for key, block in tensor.items()
        ]
        weights = _matching.term_weights(sample_weight, y, pairs)
        self._targets = _baseline.targets_of(tensor)
        self._keys = tensor._keys
        self._constants = [
            self._constant_of(target, pair, part[VALUES])
            for target, pair, part in zip(self._targets, pairs, weights, strict=True)
        ]
        like = _base.as_float(_arrays.full((0,), 0, tensor._blocks[0]._values))
        self.constant_ = _baseline.constants(self._targets, self._keys, self._constants, like)
        if self._target_ndim is not None:
            values = self.constant_.block().values[0, :]
            self.constant_ = float(values[0]) if self._target_ndim == 1 else values
        return self

    def _constant_of(self, target: _baseline.Target, pair: Pair, weights: Array) -> Array:
        size = len(target.properties)
        if self.strategy == "zero" or not target.invariant or not weights.any():
            return np.zeros(size)
        rows = _arrays.to_host(_base.to_float64(pair.wanted._values)).reshape(-1, size)
        weights = np.broadcast_to(weights.reshape(len(rows), -1), rows.shape)
        if self.strategy == "mean":
            total = np.maximum(weights.sum(axis=0), np.finfo(float).tiny)
            return np.asarray((weights * rows).sum(axis=0) / total)
        return np.array([_median(*column) for column in zip(rows.T, weights.T, strict=True)])

    def predict(self, X: Any) -> Any:
        """Predict the constants.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            with the keys and properties of the X in `fit`; blocks may be absent

        Returns
        -------
        TensorMap, Rows or array
            in blocks with the keys and properties of y, for all rows of Rows, or for what X has
            samples of; an array if y was one

        """
        check_is_fitted(self)
        features = self._labelled_features(X)
        tensor = _base.to_tensor(features)
        blocks = [
            _baseline.predicted(
                target, tensor, _baseline.samples_for(target, features), constant[None, :]
            )
            for target, constant in zip(self._targets, self._constants, strict=True)
        ]
        return self._to_container(X, TensorMap._of(self._keys, blocks))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags


def _median(values: Array, weights: Array) -> float:
    """Return the weighted median, the middle of the lower and the upper one."""
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    lower = np.searchsorted(below, below[-1] / 2, side="left")
    upper = np.searchsorted(below, below[-1] / 2, side="right")
    return float((values[order[lower]] + values[order[upper]]) / 2)
