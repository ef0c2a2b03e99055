"""scikit-learn's estimators for arrays, one for each block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import OneToOneFeatureMixin, clone
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from metatensor import _arrays, _checks
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _base, _baseline, _matching, _regression
from metatensor.sklearn._affine import AffineMap, affine_map, matrix_of
from metatensor.sklearn._base import VALUES
from metatensor.sklearn._delegation import fit_parameters, require
from metatensor.sklearn._matching import Pair
from metatensor.sklearn._transformation import TensorTransformer
from metatensor.sklearn.rows import Rows
from metatensor.tensor import TensorMap

if TYPE_CHECKING:
    from typing import Self

Array = npt.NDArray[np.float64]


def _matrix(block: TensorBlock) -> Array:
    """Return the values as float64 rows on the host, one for each entry of components."""
    values = _arrays.to_host(_base.to_float64(block._values))
    return values.reshape(math.prod(values.shape[:-1]), values.shape[-1])


def _like(rows: Array, block: TensorBlock) -> _arrays.Array:
    """Return rows as values of a block, with its library, dtype and device."""
    shape = (*block._values.shape[:-1], rows.shape[-1])
    host = np.ascontiguousarray(rows.reshape(shape))
    return _arrays.from_host(host, _base.as_float(block._values))


def _mapped_gradients(
    block: TensorBlock, found: AffineMap, properties: Labels
) -> dict[str, TensorBlock]:
    def on_values(values: _arrays.Array) -> _arrays.Array:
        return _base.times(values, _arrays.from_host(found.matrix, values))

    return {
        name: _base.map_block(gradient, properties, on_values, on_values)
        for name, gradient in block._gradients.items()
    }


def _applied_to(rows: Array, estimator: Any, method: str, key: LabelsEntry) -> Array:
    """Return what an estimator makes of rows, which must all be there."""
    values = matrix_of(getattr(estimator, method)(rows))
    if len(values) != len(rows):
        raise ValueError(
            f"{type(estimator).__name__}.{method} must give one row for each of the {len(rows)} in "
            f"the block with key {key.print()}, got {len(values)}"
        )
    return values


def _require_rows(rows: Array, estimator: Any, key: LabelsEntry) -> None:
    if not len(rows):
        raise ValueError(
            f"there are no samples to fit {type(estimator).__name__} to, in the block with key "
            f"{key.print()}; leave the block out"
        )


class BlockwiseRegressor(_regression.TensorRegressor):
    """Fit a clone of a regressor for arrays to each block.

    A block of y is predicted from the block of X with the same key, with samples matched by label.
    The regressor gets the values as float64 arrays on the host, a 1-D target if there is one
    property.

    Gradients: the regressor sees values alone. If it turns out to be linear, predictions have
    gradients, those of X times its matrix; otherwise they have none, and y with gradients is
    refused unless they shall be ignored. A regressor counts as linear if its predictions are an
    affine function at all rows it was fitted to, their mirror images, and along each feature.

    Blocks that are not invariant to rotations (with a component axis of more than one entry,
    "o3_lambda" other than 0 or "o3_sigma" other than 1) are refused, unless the regressor is linear
    and has no intercept. It then gets a row for each entry of the components.

    Parameters
    ----------
    estimator : estimator
        a regressor of scikit-learn, or of anyone else who follows its rules
    per_key : dict of LabelsEntry, tuple or int to estimator, optional
        other regressors for some keys of y
    gradients : {"error", "ignore"}, default="error"
        what to do if y has gradients and the regressor is not linear

    Attributes
    ----------
    estimators_ : dict of LabelsEntry to estimator
        the fitted clones, by the keys of y
    n_features_in_ : int
        number of properties of X, of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block of X, for labelled data
    feature_names_in_ : array of str
        names of the columns of X, for data frames

    See Also
    --------
    Ridge : fits gradients too
    BlockwiseTransformer : the same for transformers

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import BlockwiseRegressor
    >>> from sklearn.neighbors import KNeighborsRegressor
    >>> samples, energy = Labels.range("system", 3), Labels.range("energy", 1)
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> X = TensorBlock(x, samples, [], Labels.range("n", 1))
    >>> y = TensorBlock(3 * x + 1, samples, [], energy)
    >>> X, y = (TensorMap(Labels.single(), [block]) for block in (X, y))
    >>> model = BlockwiseRegressor(KNeighborsRegressor(n_neighbors=1)).fit(X, y)
    >>> model.predict(X).block().values.ravel()
    array([1., 4., 7.])

    """

    def __init__(
        self,
        estimator: Any,
        per_key: Mapping[Any, Any] | None = None,
        *,
        gradients: Literal["error", "ignore"] = "error",
    ) -> None:
        self.estimator = estimator
        self.per_key = per_key
        self.gradients = gradients

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, **fit_params: Any
    ) -> BlockwiseRegressor:
        """Fit a clone for each block of y.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            with one block for each block of y, with the same samples and components
        y : TensorMap, Rows, or array (n_samples,) or (n_samples, n_targets)
            targets
        sample_weight : array (n_rows,), TensorMap, Rows or float, optional
            weight of each row or, for a TensorMap with one property, of each sample
        **fit_params
            for metadata routing, passed to all clones

        Returns
        -------
        BlockwiseRegressor
            self, fitted

        Raises
        ------
        ValueError
            if X and y do not match, or y has gradients or components that the regressor is not fit
            for

        """
        if self.gradients not in ("error", "ignore"):
            raise ValueError(f"`gradients` must be 'error' or 'ignore', got {self.gradients!r}")
        require(self.estimator, ("fit", "predict"), "`estimator`")
        parameters = fit_parameters(self, {"estimator": self.estimator}, sample_weight, fit_params)
        arrays = not _base.is_tensor(X)
        X, y = self._labelled(X, y, first=True)
        features, targets = _base.to_tensor(X), _base.to_tensor(y)
        pairs = _matching.match(targets, features)
        if sample_weight is not None and isinstance(X, Rows) and not isinstance(y, Rows):
            y = X._like(y)  # its weights are those of the rows of X
        weights = _matching.term_weights(sample_weight, y, pairs)
        chosen = self._per_key(targets._keys)
        self._targets = _baseline.targets_of(targets)
        self._keys = targets._keys
        self._feature_keys = [pair.given_key for pair in pairs]
        self.estimators_, self._maps = {}, {}
        for pair, part in zip(pairs, weights, strict=True):
            passed = {
                name: _row_weights(part[VALUES], pair) if value is sample_weight else value
                for name, value in parameters["estimator"].items()
            }
            taken = _base.to_float64(_arrays.take(pair.given._values, pair.samples))
            rows = _arrays.to_host(taken).reshape(-1, taken.shape[-1])
            values = _matrix(pair.wanted)
            fitted = clone(chosen.get(pair.key, self.estimator))
            _require_rows(values, fitted, pair.key)
            fitted.fit(rows, values[:, 0] if values.shape[1] == 1 else values, **passed)
            self.estimators_[pair.key] = fitted
            self._maps[pair.key] = None if arrays else affine_map(fitted.predict, rows)
            self._check_map(pair, values)
        return self

    def _per_key(self, keys: Labels) -> dict[LabelsEntry, Any]:
        """Return the regressors that are for some keys alone."""
        if not isinstance(self.per_key, Mapping | None):
            raise TypeError(
                f"`per_key` must be a dict of estimators, or None, got {_checks.kind(self.per_key)}"
            )
        known = {tuple(row): position for position, row in enumerate(keys._table.tolist())}
        chosen = {}
        for key, estimator in (self.per_key or {}).items():
            row = tuple(key) if isinstance(key, (tuple, LabelsEntry)) else (key,)
            if row not in known:
                raise ValueError(
                    f"`per_key` must have keys of y, {_base.entries_text(keys)}, got {key}"
                )
            require(estimator, ("fit", "predict"), f"the estimator of `per_key` for {key}")
            chosen[keys.entry(known[row])] = estimator
        return chosen

    def _check_map(self, pair: Pair, values: Array) -> None:
        found, name = self._maps[pair.key], type(self.estimators_[pair.key]).__name__
        where = f"the block with key {pair.key.print()}"
        if pair.wanted._gradients and found is None and self.gradients == "error":
            raise ValueError(
                f"y has gradients with respect to {pair.wanted.gradients_list()}, but {name} is "
                f"not linear in {where}, and fits values alone; use `gradients='ignore'`, or a "
                "model that fits gradients, such as Ridge"
            )
        if _base.is_invariant(pair.key, pair.wanted):
            return
        if found is None or np.abs(found.shift).max(initial=0) > 1e-10 * np.abs(values).max(
            initial=0
        ):
            raise ValueError(
                f"{where} is not invariant to rotations, so that {name} can not be used, "
                "only linear regressors without intercept can; use Ridge, or leave the block out"
            )

    def predict(self, X: Any) -> Any:
        """Predict values; and gradients, where the regressors are linear.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            with the keys and properties of the X in `fit`

        Returns
        -------
        TensorMap, Rows or array
            labelled as X is, in blocks with the keys and properties of y; an array if y was one.
            Gradients are there if the regressors of all blocks are linear.

        """
        features = _base.to_tensor(self._labelled_features(X))
        differentiable = all(found is not None for found in self._maps.values())
        blocks = []
        for target, key in zip(self._targets, self._feature_keys, strict=True):
            position = features._keys.position(key)
            if position is None:
                raise ValueError(
                    f"X has no block with key {key.print()}, which the block {target.key.print()} "
                    "is predicted from"
                )
            block = features._blocks[position]
            rows = _matrix(block)
            size = len(target.properties)
            values = np.zeros((0, size))
            if len(rows):
                values = _applied_to(rows, self.estimators_[target.key], "predict", target.key)
            found = self._maps[target.key]
            gradients = {}
            if differentiable and found is not None:
                gradients = _mapped_gradients(block, found, target.properties)
            blocks.append(
                TensorBlock._of(
                    _like(values.reshape(len(rows), size), block),
                    block._samples,
                    block._components,
                    target.properties,
                    gradients,
                )
            )
        return self._to_container(X, TensorMap._of(self._keys, blocks))

    def get_metadata_routing(self) -> MetadataRouter:
        """Return which metadata are passed to the regressors.

        Returns
        -------
        MetadataRouter

        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return MetadataRouter(owner=self).add(estimator=self.estimator, method_mapping=mapping)


def _row_weights(weights: Array, pair: Pair) -> Array:
    """Return one weight for each row of values with folded components."""
    if weights.shape[-1] != 1:
        raise ValueError(
            "sample_weight must have one property for BlockwiseRegressor, got "
            f"{weights.shape[-1]} in the block with key {pair.key.print()}"
        )
    shape = (*pair.wanted._values.shape[:-1], 1)
    return np.ascontiguousarray(np.broadcast_to(weights, shape)).reshape(-1)


def _inverse(self: BlockwiseTransformer) -> bool:
    return hasattr(self.estimator, "inverse_transform")


class BlockwiseTransformer(TensorTransformer):
    """Apply a clone of a transformer for arrays to each block.

    The transformer gets the values as float64 arrays on the host. Properties keep their labels if
    it is one to one, are selected if it is a selector, and are counted otherwise.

    Gradients: those of X times the matrix of the transformer, if it is linear; a transformer counts
    as that if it is an affine function at all rows, their mirror images, and along each feature.
    With any other one, X with gradients is refused in `transform`.

    Blocks that are not invariant to rotations (with a component axis of more than one entry,
    "o3_lambda" other than 0 or "o3_sigma" other than 1) are refused.

    Parameters
    ----------
    estimator : transformer
        a transformer of scikit-learn, or of anyone else who follows its rules

    Attributes
    ----------
    estimators_ : dict of LabelsEntry to transformer
        the fitted clones, by the keys of X
    n_features_in_ : int
        number of properties of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block, for labelled data
    feature_names_in_ : array of str
        names of the columns, for data frames

    See Also
    --------
    StandardScaler, Normalizer, VarianceThreshold : know blocks and gradients
    BlockwiseRegressor : the same for regressors

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import BlockwiseTransformer
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> block = TensorBlock(
    ...     np.array([[1.0], [3.0], [2.0]]), Labels.range("system", 3), [], Labels.range("n", 1)
    ... )
    >>> X = TensorMap(Labels.single(), [block])
    >>> BlockwiseTransformer(MinMaxScaler()).fit_transform(X).block().values.ravel()
    array([0. , 1. , 0.5])

    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit a clone for each block.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
        y : None
            not used

        Returns
        -------
        BlockwiseTransformer
            self, fitted

        Raises
        ------
        ValueError
            if a block is not invariant to rotations, or there is NaN or infinity

        """
        require(self.estimator, ("fit", "transform"), "`estimator`")
        tensor = _base.to_tensor(self._labelled_features(X, reset=True))
        _base.check_finite(tensor, "X")
        self.estimators_, self._labels_out = {}, {}
        for key, block in tensor.items():
            if not _base.is_invariant(key, block):
                raise ValueError(
                    f"the block with key {key.print()} is not invariant to rotations, so that "
                    f"{type(self.estimator).__name__} can not be used; leave it out, or use "
                    "`KeysTransformer` for the others alone"
                )
            rows = _matrix(block)
            _require_rows(rows, self.estimator, key)
            fitted = clone(self.estimator).fit(rows)
            self.estimators_[key] = fitted
            size = matrix_of(fitted.transform(rows[:1])).shape[1]
            self._labels_out[key] = _properties_out(fitted, block._properties, size)
        return self

    def transform(self, X: Any) -> Any:
        """Transform each block.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            with the keys and properties of the X in `fit`; blocks may be absent

        Returns
        -------
        TensorMap, Rows or array
            like X

        Raises
        ------
        ValueError
            if X has gradients, and the transformer is not linear

        """
        check_is_fitted(self)
        features = _base.to_tensor(self._labelled_features(X))
        return self._applied(X, features, "transform", self._labels_out)

    @available_if(_inverse)  # type: ignore[untyped-decorator]
    def inverse_transform(self, X: Any) -> Any:
        """Transform each block back, if the transformer can.

        Parameters
        ----------
        X : TensorMap, Rows, or array
            what `transform` gives

        Returns
        -------
        TensorMap, Rows or array
            like X

        Raises
        ------
        ValueError
            if X has gradients, and the transformer is not linear

        """
        self._check_container(X)
        if not self._is_labelled:
            (fitted,) = self.estimators_.values()
            return fitted.inverse_transform(X)
        tensor = self._transformed(X, self._labels_out)
        return self._applied(X, tensor, "inverse_transform", self.feature_labels_in_)

    def _applied(
        self, X: Any, tensor: TensorMap, method: str, properties: dict[LabelsEntry, Labels]
    ) -> Any:
        blocks = []
        for key, block in tensor.items():
            estimator, labels = self.estimators_[key], properties[key]
            rows = _matrix(block)
            values = np.zeros((0, len(labels)))
            if len(rows):
                values = _applied_to(rows, estimator, method, key)
            gradients = {}
            if block._gradients:
                found = affine_map(getattr(estimator, method), rows)
                if found is None and len(rows):
                    raise ValueError(
                        f"X has gradients with respect to {block.gradients_list()}, but "
                        f"{type(self.estimator).__name__} is not linear in the block with key "
                        f"{key.print()}; take them away with `remove_gradients`"
                    )
                if found is None:
                    found = AffineMap(np.zeros((rows.shape[1], len(labels))), np.zeros(0))
                gradients = _mapped_gradients(block, found, labels)
            blocks.append(
                TensorBlock._of(
                    _like(values, block), block._samples, block._components, labels, gradients
                )
            )
        return self._in_container(X, tensor, blocks)

    def _column_names(self, input_features: Any) -> npt.NDArray[np.object_]:
        (fitted,) = self.estimators_.values()
        if input_features is None:
            input_features = getattr(self, "feature_names_in_", None)
        names: npt.NDArray[np.object_] = fitted.get_feature_names_out(input_features)
        return names


def _properties_out(fitted: Any, properties: Labels, size: int) -> Labels:
    """Return the labels of what a fitted transformer gives."""
    if hasattr(fitted, "get_support"):
        kept = np.flatnonzero(fitted.get_support())
        return properties._like(np.ascontiguousarray(properties._table[kept]))
    if isinstance(fitted, OneToOneFeatureMixin) and size == len(properties):
        return properties
    return Labels.range("property", size)
