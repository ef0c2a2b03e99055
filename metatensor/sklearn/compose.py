"""Regressors made of others: sums, and targets that are transformed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sklearn.base import clone
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import check_is_fitted

from metatensor import _checks
from metatensor.sklearn import _addition, _base, _deviations, _regression
from metatensor.sklearn._delegation import fit_parameters, require, require_named


class AdditiveRegressor(_regression.TensorRegressor, _BaseComposition):
    """Fit each of several regressors to what those before it leave, and predict the sum.

    The usual pair is a baseline such as :class:`CompositionRegressor` and a model for the rest.

    Gradients: those of the predictions are subtracted from those of y as well, so that each
    regressor is fitted to the gradients of what is left; those of the sum are the sum, for the
    gradients that all predictions have. Gradient rows that a prediction has not are zero. Blocks of
    all kinds can be added; what can be fitted is up to the regressors.

    The standard deviation of a prediction is that of the last regressor, which makes one object of
    a baseline, taken as exact, and a model that knows its uncertainty.

    Values, samples and gradient rows are matched by label. X is passed on as it is, so that each
    regressor can be a pipeline with transformers of its own. Plain arrays are taken as well.

    Parameters
    ----------
    regressors : list of (str, estimator)
        names, and the regressors in the order in which they are fitted; "drop" instead of an
        estimator leaves it out. Parameters of a regressor can be set by its name, as in
        ``set_params(rest__alpha=1e-3)``.

    Attributes
    ----------
    regressors_ : list of estimators
        the fitted regressors, without those that are left out
    named_regressors_ : Bunch
        the same by name
    n_features_in_ : int
        number of properties of X, of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block of X, for labelled data
    feature_names_in_ : array of str
        names of the columns of X, for data frames

    See Also
    --------
    CompositionRegressor, DummyRegressor : baselines
    sklearn.ensemble.StackingRegressor : makes features of predictions

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import AdditiveRegressor, DummyRegressor, Ridge
    >>> samples, energy = Labels.range("system", 3), Labels.range("energy", 1)
    >>> x = np.array([[-1.0], [0.0], [1.0]])
    >>> X = TensorBlock(x, samples, [], Labels.range("n", 1))
    >>> y = TensorBlock(3 * x - 100, samples, [], energy)
    >>> X, y = (TensorMap(Labels.single(), [block]) for block in (X, y))
    >>> model = AdditiveRegressor(
    ...     [("mean", DummyRegressor()), ("rest", Ridge(1e-12, fit_intercept=False))]
    ... )
    >>> model.fit(X, y).predict(X).block().values.ravel().round(6)
    array([-103., -100.,  -97.])
    >>> model.named_regressors_.rest.coef_.block().values.round(6)
    array([[3.]])

    """

    def __init__(self, regressors: Sequence[tuple[str, Any]]) -> None:
        self.regressors = regressors

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, and those of the regressors by their names.

        Parameters
        ----------
        deep : bool, default=True
            whether to return those of the regressors

        Returns
        -------
        dict

        """
        parameters: dict[str, Any] = self._get_params("regressors", deep=deep)
        return parameters

    def set_params(self, **params: Any) -> AdditiveRegressor:
        """Set parameters, regressors by their names, or parameters of them.

        Parameters
        ----------
        **params
            ``name=regressor`` or ``name__parameter=value``

        Returns
        -------
        AdditiveRegressor
            self

        """
        self._set_params("regressors", **params)
        return self

    def _used(self) -> list[tuple[str, Any]]:
        """Check the regressors, and return those that are not left out."""
        require_named(self.regressors, ("name", "estimator"), "`regressors`")
        self._validate_names([name for name, _ in self.regressors])
        used = [
            (name, regressor)
            for name, regressor in self.regressors
            if not (isinstance(regressor, str) and regressor == "drop")
        ]
        if not used:
            raise ValueError("`regressors` must have at least one that is not 'drop', got none")
        for name, regressor in used:
            require(regressor, ("fit", "predict"), f"the regressor {name!r}", ", or 'drop'")
        return used

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, **fit_params: Any
    ) -> AdditiveRegressor:
        """Fit one regressor after the other.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
        y : TensorMap, Rows, or array (n_samples,) or (n_samples, n_targets)
            targets, with or without gradients
        sample_weight : optional
            passed to all regressors, to the last step of those that are pipelines
        **fit_params
            for metadata routing

        Returns
        -------
        AdditiveRegressor
            self, fitted

        Raises
        ------
        ValueError
            if a regressor does not take the weights that there are, or does not predict all
            samples and gradients of y and is not the last one

        """
        used = self._used()
        parameters = fit_parameters(self, dict(used), sample_weight, fit_params)
        rest = self._target_for_others(X, y)
        fitted = []
        for position, (name, regressor) in enumerate(used):
            fitted.append(clone(regressor).fit(X, rest, **parameters[name]))
            if position + 1 < len(used):
                rest = self._without(rest, fitted[-1].predict(X), name)
        self.regressors_ = fitted
        self._names = [name for name, _ in used]
        return self

    @property
    def named_regressors_(self) -> Bunch:
        """The fitted regressors by name."""
        check_is_fitted(self)
        return Bunch(**dict(zip(self._names, self.regressors_, strict=True)))

    def _without(self, y: Any, prediction: Any, name: str) -> Any:
        if self._target_ndim is not None:
            return y - prediction.reshape(y.shape)
        _require_labels(prediction, name)
        tensor = _addition.residual(_base.to_tensor(y), _base.to_tensor(prediction), repr(name))
        return _base.like_container(y, tensor)

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict the sum.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
        return_std : bool, default=False
            whether to return the standard deviation of the values too: that of the last regressor,
            as what those before it predict is taken as exact

        Returns
        -------
        prediction : TensorMap, Rows or array
            with the samples that all predictions must have
        std : TensorMap, Rows or array
            the standard deviations, labelled like the values; only with `return_std`

        Raises
        ------
        ValueError
            if predictions differ in samples or properties, or the last regressor has no standard
            deviation

        """
        self._check_container(X)
        result: Any = None
        std: Any = None
        for name, regressor in zip(self._names, self.regressors_, strict=True):
            if return_std and name == self._names[-1]:
                prediction, std = _deviations.predict(regressor, name, X)
            else:
                prediction = regressor.predict(X)
            result = self._plus(result, prediction, name)
        if not return_std:
            return result
        if self._target_ndim is not None:
            return result, std.reshape(result.shape)
        return result, _deviations.labelled_like(result, std, repr(self._names[-1]))

    def _plus(self, result: Any, prediction: Any, name: str) -> Any:
        """Add a prediction to the sum of those before, if there are any."""
        if self._target_ndim is not None:
            # some regressors of scikit-learn drop a lone column
            shape = (len(prediction), *[-1] * (self._target_ndim - 1))
            prediction = prediction.reshape(shape)
            return prediction if result is None else result + prediction
        _require_labels(prediction, name)
        if result is None:
            return prediction
        tensors = _base.to_tensor(result), _base.to_tensor(prediction)
        return _base.like_container(result, _addition.total(*tensors, repr(name)))

    def get_metadata_routing(self) -> MetadataRouter:
        """Return which metadata are passed to which regressor.

        Returns
        -------
        MetadataRouter

        """
        router = MetadataRouter(owner=self)
        used = self._used()
        for name, regressor in used:
            mapping = MethodMapping().add(caller="fit", callee="fit")
            if name == used[-1][0]:
                mapping.add(caller="predict", callee="predict")
            router.add(**{name: regressor}, method_mapping=mapping)
        return router


def _require_labels(prediction: Any, name: str) -> None:
    if not _base.is_tensor(prediction):
        raise TypeError(
            f"the prediction of {name!r} must be labelled as y is, got "
            f"{_checks.kind(prediction)}; wrap estimators for arrays in `BlockwiseRegressor`"
        )


class TransformedTarget(_regression.TensorRegressor):
    """Fit a regressor to transformed targets, and transform its predictions back.

    Gradients: the transformer transforms them along with the values, and back: with
    :class:`StandardScaler` both are divided by the same scale. scikit-learn's
    :class:`sklearn.compose.TransformedTargetRegressor` makes an array of y, and drops them. Blocks
    with components are up to the transformer, which must leave directions alone.

    The standard deviation of a prediction is that of the regressor times the scale of the
    transformer: one of :math:`a y + b` is :math:`|a|` times that of y.

    Plain arrays are taken as well, with transformers of scikit-learn too.

    Parameters
    ----------
    regressor : estimator
        a clone of it is fitted
    transformer : transformer
        with `inverse_transform`; a clone of it is fitted to y. For labelled data, one of this
        package, such as ``StandardScaler(with_mean=False)``.

    Attributes
    ----------
    regressor_, transformer_ : estimator
        the fitted clones
    n_features_in_ : int
        number of properties of X, of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block of X, for labelled data
    feature_names_in_ : array of str
        names of the columns of X, for data frames

    See Also
    --------
    StandardScaler : the usual transformer
    sklearn.compose.TransformedTargetRegressor : the same for arrays

    Notes
    -----
    If y has a block for each of several properties with different units, every block gets a scale
    of its own, so that one penalty serves all of them.

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import Ridge, StandardScaler, TransformedTarget
    >>> samples, energy = Labels.range("system", 3), Labels.range("energy", 1)
    >>> x = np.array([[-1.0], [0.0], [1.0]])
    >>> X = TensorBlock(x, samples, [], Labels.range("n", 1))
    >>> y = TensorBlock(3e5 * x, samples, [], energy)
    >>> X, y = (TensorMap(Labels.single(), [block]) for block in (X, y))
    >>> model = TransformedTarget(Ridge(1e-12), StandardScaler()).fit(X, y)
    >>> model.predict(X).block().values.ravel().round(3)
    array([-300000.,      0.,  300000.])

    """

    def __init__(self, regressor: Any, transformer: Any) -> None:
        self.regressor = regressor
        self.transformer = transformer

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, **fit_params: Any
    ) -> TransformedTarget:
        """Fit the transformer to y, and the regressor to transformed y.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
        y : TensorMap, Rows, or array (n_samples,) or (n_samples, n_targets)
            targets, with or without gradients
        sample_weight : optional
            passed to the regressor, to its last step if it is a pipeline; the transformer gets no
            weights
        **fit_params
            for metadata routing

        Returns
        -------
        TransformedTarget
            self, fitted

        Raises
        ------
        TypeError
            if `regressor` or `transformer` is none, or transformed y has lost its labels
        ValueError
            if the regressor does not take the weights that there are

        """
        require(self.regressor, ("fit", "predict"), "`regressor`")
        require(self.transformer, ("fit", "transform", "inverse_transform"), "`transformer`")
        estimators = {"regressor": self.regressor}
        parameters = fit_parameters(self, estimators, sample_weight, fit_params)
        y = self._target_for_others(X, y)
        target = y[:, None] if self._target_ndim == 1 else y
        self.transformer_ = clone(self.transformer).fit(target)
        target = self.transformer_.transform(target)
        if self._target_ndim is None and not _base.is_tensor(target):
            raise TypeError(
                f"{type(self.transformer).__name__} made {_checks.kind(target)} of labelled y, "
                "without gradients; use a transformer of metatensor.sklearn"
            )
        if self._target_ndim == 1 and target.shape[1] == 1:
            target = target[:, 0]
        self.regressor_ = clone(self.regressor).fit(X, target, **parameters["regressor"])
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict, and transform back.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
        return_std : bool, default=False
            whether to return the standard deviation of the values too: that of the regressor, times
            the scale of the transformer, which must do nothing but scale and shift each property

        Returns
        -------
        prediction : TensorMap, Rows or array
        std : TensorMap, Rows or array
            the standard deviations, labelled like the values; only with `return_std`

        Raises
        ------
        ValueError
            with `return_std`, if the regressor has no standard deviation, or the transformer does
            something else

        """
        self._check_container(X)
        if not return_std:
            return self._back(self.transformer_.inverse_transform, self.regressor_.predict(X))
        prediction, std = _deviations.predict(self.regressor_, "regressor", X)
        scaled = self._back(
            lambda matrix: _deviations.scaled_back(self.transformer_, _matrix(prediction), matrix),
            std,
        )
        return self._back(self.transformer_.inverse_transform, prediction), scaled

    def _back(self, function: Callable[[Any], Any], prediction: Any) -> Any:
        """Apply a function of labelled data or matrices to a prediction."""
        if self._target_ndim is None:
            _require_labels(prediction, "regressor")
            return function(prediction)
        values = function(_matrix(prediction))
        return values[:, 0] if self._target_ndim == 1 else values

    def get_metadata_routing(self) -> MetadataRouter:
        """Return which metadata are passed to the regressor.

        Returns
        -------
        MetadataRouter

        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        mapping.add(caller="predict", callee="predict")
        return MetadataRouter(owner=self).add(regressor=self.regressor, method_mapping=mapping)


def _matrix(prediction: Any) -> Any:
    """Return a 1-D array as a matrix with one column, and all else as it is."""
    return prediction[:, None] if getattr(prediction, "ndim", 2) == 1 else prediction
