"""Scaling of properties and samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.operations._blockwise import on_blocks, refuse_nested
from metatensor.sklearn import _base, _matching
from metatensor.sklearn._moments import Moments
from metatensor.sklearn._transformation import OneToOneTransformer

Array = npt.NDArray[np.float64]


class StandardScaler(OneToOneTransformer):
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
        _base.check_flags(self, "with_mean")
        if not isinstance(self.with_std, (bool, np.bool_)) and not (
            isinstance(self.with_std, str) and self.with_std in ("property", "block")
        ):
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
                key: Moments(len(block._properties), _base.is_invariant(key, block))
                for key, block in tensor.items()
            }
            self._empty = _base.to_float64(_arrays.full((0,), 0, tensor._blocks[0]._values))
        for (key, block), weight in zip(tensor.items(), weights, strict=True):
            self._moments[key].add(block._values, weight)
        self._finish()
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_moments")

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
        self.n_samples_seen_ = seen if self._is_labelled else float(seen[0])

    def _to_container(self, parts: list[Array]) -> Any:
        return self._learnt(self._keys, [_arrays.from_host(part, self._empty) for part in parts])

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
        return self._in_container(X, tensor, blocks)


class Normalizer(OneToOneTransformer):
    """Divide each sample by its norm, over all components and properties of its block.

    The norm does not change when systems rotate, so that this is for all kinds of blocks. Samples
    that are zero stay zero.

    Gradients: ``(gradient - u * sum(u * gradient)) / |x|`` with the normalized values ``u``, where
    the sum is over components and properties; zero for samples that are zero.

    Plain 2-D arrays are taken as well, as in :class:`sklearn.preprocessing.Normalizer`.

    Parameters
    ----------
    norm : {"l2"}, default="l2"
        the root of the sum of squares; no other norm has a meaning when systems rotate

    Attributes
    ----------
    n_features_in_ : int
        number of properties of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block, for labelled data
    feature_names_in_ : array of str
        names of the columns, for data frames

    See Also
    --------
    sklearn.preprocessing.Normalizer : the transformer for arrays

    Notes
    -----
    As there is nothing to learn, `transform` needs no `fit` before, and takes labelled data with
    any keys and properties. A property that is absent counts as zero.

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import Normalizer
    >>> block = TensorBlock(
    ...     np.array([[3.0, 4.0], [0.0, 2.0]]), Labels.range("atom", 2), [], Labels.range("n", 2)
    ... )
    >>> Normalizer().transform(TensorMap(Labels.single(), [block])).block().values
    array([[0.6, 0.8],
           [0. , 1. ]])

    """

    def __init__(self, norm: Literal["l2"] = "l2") -> None:
        self.norm = norm

    def fit(self, X: Any, y: Any = None) -> Normalizer:
        """Check X; there is nothing to learn.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
        y : None
            not used

        Returns
        -------
        Normalizer
            self

        """
        _base.check_choice(self.norm, "norm", ("l2",))
        X = self._labelled_features(X, reset=True)
        _base.check_finite(_base.to_tensor(X), "X")
        return self

    def transform(self, X: Any) -> Any:
        """Divide each sample by its norm.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)

        Returns
        -------
        TensorMap, Rows or array
            like X; float32 stays float32, integers become float64

        Raises
        ------
        NotImplementedError
            for gradients of gradients

        """
        if not hasattr(self, "n_features_in_"):
            return clone(self).fit(X).transform(X)
        self._check_container(X)
        tensor = _base.to_tensor(X if _base.is_tensor(X) else self._labelled_features(X))
        return self._in_container(X, tensor, on_blocks(_normalized, tensor)._blocks)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags


def _normalized(block: TensorBlock) -> TensorBlock:
    refuse_nested(block, "Normalizer")
    values = _base.as_float(block._values)
    xp = _arrays.namespace(values)
    rows = _arrays.reshape(values, (values.shape[0], math.prod(values.shape[1:])))
    wide = xp.astype(rows, xp.float64, copy=False)
    norm = _arrays.root_of_new(xp.sum(wide * wide, axis=1, keepdims=True))
    # autograd too gives a derivative of zero where the norm is zero
    unit = xp.astype(xp.where(norm == 0, norm, wide / _arrays.nonzero(norm)), values.dtype)
    divisor = xp.astype(xp.where(norm == 0, xp.full_like(norm, xp.inf), norm), values.dtype)
    gradients = {
        name: _normalized_gradient(gradient, unit, divisor)
        for name, gradient in block._gradients.items()
    }
    unit = _arrays.reshape(unit, values.shape)
    return TensorBlock._of(unit, block._samples, block._components, block._properties, gradients)


def _normalized_gradient(
    gradient: TensorBlock, unit: _arrays.Array, norm: _arrays.Array
) -> TensorBlock:
    """Return the gradient of ``u = x / |x|`` from that of x.

    Parameters
    ----------
    gradient : TensorBlock
    unit : array, (n_samples, n_values)
        u, with all components and properties in one axis
    norm : array, (n_samples, 1)
        ``|x|``, infinite where it is zero

    Returns
    -------
    TensorBlock

    """
    samples = gradient._samples._table[:, 0]
    u, norm = (_arrays.rows_of(part, samples, 3) for part in (unit, norm))

    def quotient_rule(values: _arrays.Array) -> _arrays.Array:
        n_values = math.prod(u.shape[1:])
        n_directions = math.prod(values.shape[1:]) // max(n_values, 1)
        rows = _arrays.reshape(_base.as_float(values), (len(samples), n_directions, n_values))
        along = rows @ _arrays.namespace(u).matrix_transpose(u)
        return _arrays.reshape(_arrays.divide_new(rows - along * u, norm), tuple(values.shape))

    return gradient._map(quotient_rule)
