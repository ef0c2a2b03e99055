"""Scaling of properties."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import OneToOneFeatureMixin

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.sklearn import _base, _matching
from metatensor.sklearn._transformation import TensorTransformer, feature_names
from metatensor.tensor import TensorMap

Array = npt.NDArray[np.float64]


class StandardScaler(OneToOneFeatureMixin, TensorTransformer):
    """Remove the mean of each property, and divide by its standard deviation.

    Gradients are divided by the same numbers, and no mean is removed from them: they stay the
    derivatives of the values. Blocks that are not invariant to rotations (with a component axis of
    more than one entry, "o3_lambda" other than 0 or "o3_sigma" other than 1) have no mean, and one
    scale for each property, its root mean square over samples and components.

    Plain 2-D arrays are taken as well, as in :class:`sklearn.preprocessing.StandardScaler`.

    Parameters
    ----------
    with_mean : bool, default=True
        remove the mean
    with_std : {"property", "block"} or bool, default="property"
        divide every property by its own standard deviation (as True does), all properties of
        a block by the root of their mean variance, or by nothing for False. Choose "block" for
        smooth features that die out, such as the tails of radial functions: their own tiny
        deviations would blow them up

    Attributes
    ----------
    mean_ : TensorMap or array (n_features,)
        weighted mean of each property, zero for blocks that are not invariant; a map has one sample
        in each block
    var_ : TensorMap or array (n_features,)
        weighted variance of each property around this mean
    scale_ : TensorMap, array (n_features,) or None
        what properties are divided by: 1 for those that are constant to rounding; None if not
        scaled
    n_samples_seen_ : array (n_blocks,), or float
        sum of the weights of the samples of each block, and of its component entries
    n_features_in_ : int
        number of properties of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block, for labelled data
    feature_names_in_ : array of str
        names of the columns, for data frames

    See Also
    --------
    sklearn.preprocessing.StandardScaler : the transformer for arrays

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import StandardScaler
    >>> block = TensorBlock(
    ...     np.array([[0.0], [4.0]]), Labels.range("system", 2), [], Labels.range("n", 1)
    ... )
    >>> X = TensorMap(Labels.single(), [block])
    >>> StandardScaler().fit_transform(X).block().values.ravel()
    array([-1.,  1.])

    """

    def __init__(
        self, *, with_mean: bool = True, with_std: Literal["property", "block"] | bool = "property"
    ) -> None:
        self.with_mean = with_mean
        self.with_std = with_std

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> StandardScaler:
        """Find means and scales.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            gradients do not count
        y : None
            not used
        sample_weight : array (n_rows,) or float, optional
            weight of each row

        Returns
        -------
        StandardScaler
            self, fitted

        """
        self.__dict__.pop("_moments", None)
        return self.partial_fit(X, y, sample_weight)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> StandardScaler:
        """Add a batch of data; the result is that of `fit` to all the data so far.

        Parameters
        ----------
        X, y, sample_weight
            as in :meth:`fit`; a batch may lack blocks

        Returns
        -------
        StandardScaler
            self

        """
        if not isinstance(self.with_std, bool) and self.with_std not in ("property", "block"):
            raise ValueError(
                f"`with_std` must be 'property', 'block', True or False, got {self.with_std!r}"
            )
        first = not hasattr(self, "_moments")
        X = self._labelled_features(X, reset=first)
        tensor = _base.to_tensor(X)
        _base.check_finite(tensor, "X")
        weights = _matching.row_weights(1.0 if sample_weight is None else sample_weight, X)
        if first:
            self._keys = tensor._keys
            self._moments = {
                key: _Moments(len(block._properties), _base.is_invariant(key, block))
                for key, block in tensor.items()
            }
            self._empty = _base.to_float64(_arrays.full((0,), 0, tensor._blocks[0]._values))
        for (key, block), weight in zip(tensor.items(), weights, strict=True):
            self._moments[key].add(block._values, weight)
        self._finish()
        return self

    def _finish(self) -> None:
        """Set what is learnt."""
        moments = self._moments.values()
        self.mean_ = self._to_container([part.mean for part in moments])
        self.var_ = self._to_container([part.variance for part in moments])
        self.scale_ = None
        if self.with_std:
            scales = [part.scale(shared=self.with_std == "block") for part in moments]
            self.scale_ = self._to_container(scales)
        seen = np.array([part.weight for part in moments])
        self.n_samples_seen_ = seen if hasattr(self, "feature_labels_in_") else float(seen[0])

    def _to_container(self, parts: list[Array]) -> Any:
        rows = [_arrays.from_host(part, self._empty) for part in parts]
        if not hasattr(self, "feature_labels_in_"):
            return rows[0]
        blocks = [
            TensorBlock._of(row[None, :], Labels.single(), (), properties)
            for row, properties in zip(rows, self.feature_labels_in_.values(), strict=True)
        ]
        return TensorMap._of(self._keys, blocks)

    def transform(self, X: Any) -> Any:
        """Remove the means, and divide by the scales.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            with the keys and properties of the X in `fit`; blocks may be absent

        Returns
        -------
        TensorMap, Rows or array
            like X; float32 stays float32, integers become float64

        """
        return self._mapped(
            X,
            on_values=lambda values, mean, scale: (values - mean) / scale,
            on_gradients=lambda values, scale: values / scale,
        )

    def inverse_transform(self, X: Any) -> Any:
        """Multiply by the scales, and add the means.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            what `transform` gives

        Returns
        -------
        TensorMap, Rows or array
            like X

        """
        return self._mapped(
            X,
            on_values=lambda values, mean, scale: values * scale + mean,
            on_gradients=lambda values, scale: values * scale,
        )

    def _mapped(
        self,
        X: Any,
        on_values: Callable[..., _arrays.Array],
        on_gradients: Callable[..., _arrays.Array],
    ) -> Any:
        """Apply functions of (values, mean, scale) and (values, scale) to all blocks."""
        tensor = _base.to_tensor(self._labelled_features(X))
        blocks = []
        for key, block in tensor.items():
            moments, like = self._moments[key], _base.as_float(block._values)
            mean = moments.mean if self.with_mean else np.zeros_like(moments.mean)
            scale = np.ones_like(moments.mean)
            if self.with_std:
                scale = moments.scale(shared=self.with_std == "block")
            mean, scale = _arrays.from_host(mean, like), _arrays.from_host(scale, like)
            blocks.append(
                _base.map_block(
                    block,
                    block._properties,
                    partial(on_values, mean=mean, scale=scale),
                    partial(on_gradients, scale=scale),
                )
            )
        if not _base.is_tensor(X):
            return blocks[0]._values
        return _base.like_container(X, TensorMap._of(tensor._keys, blocks))

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return the names of the properties, which are those of the input.

        Parameters
        ----------
        input_features : sequence of str, optional
            names of the columns of arrays; not used for labelled data

        Returns
        -------
        array of str, (n_features,)

        """
        if hasattr(self, "feature_labels_in_"):
            return feature_names(self.feature_labels_in_)
        names: npt.NDArray[np.object_] = super().get_feature_names_out(input_features)
        return names


class _Moments:
    """Weight, mean and sum of squares of rows that come in chunks.

    They are merged as in Chan, Golub and LeVeque, Am. Stat. 37, 242 (1983).
    """

    def __init__(self, n_properties: int, centered: bool) -> None:
        self.centered = centered
        self.weight = 0.0
        self.mean = np.zeros(n_properties)
        self._squares = np.zeros(n_properties)

    def add(self, values: _arrays.Array, weights: Array) -> None:
        """Add values (n_samples, ..., n_properties) with weights (n_samples,)."""
        row_size = math.prod(values.shape[1:])
        for chunk in _base.chunks(len(weights), 8 * row_size):
            part = _base.to_float64(values[chunk, ...])
            xp = _arrays.namespace(part)
            n_components = row_size // max(part.shape[-1], 1)
            rows = xp.reshape(part, (part.shape[0] * n_components, part.shape[-1]))
            column = _arrays.from_host(np.repeat(weights[chunk], n_components)[:, None], rows)
            self._add_rows(xp, rows, column)

    def _add_rows(self, xp: Any, rows: _arrays.Array, weights: _arrays.Array) -> None:
        weight = float(xp.sum(weights))
        if weight == 0:
            return
        total = self.weight + weight
        if self.centered:
            mean = xp.sum(weights * rows, axis=0) / weight
            rows = rows - mean
            shift = _arrays.to_host(mean) - self.mean
            self._squares += shift**2 * (self.weight * (weight / total))
            self.mean = self.mean + shift * (weight / total)
        self._squares += _arrays.to_host(xp.sum(weights * rows**2, axis=0))
        self.weight = total

    @property
    def variance(self) -> Array:
        return self._squares / max(self.weight, np.finfo(float).tiny)

    def scale(self, shared: bool) -> Array:
        """Return standard deviations, or one for all; 1 where there is only rounding error."""
        variance, epsilon = self.variance, np.finfo(np.float64).eps
        rounding = self.weight * epsilon * variance + (self.weight * epsilon * self.mean) ** 2
        constant = variance <= rounding
        if shared and variance.size:
            constant = np.full_like(constant, constant.all())
            variance = np.full_like(variance, variance.mean())
        return np.where(constant, 1.0, np.sqrt(variance))
