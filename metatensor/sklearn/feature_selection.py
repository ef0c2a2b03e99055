"""Selection of properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.validation import check_array, check_is_fitted

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _alignment, _base
from metatensor.sklearn._moments import Moments
from metatensor.sklearn._transformation import TensorTransformer, feature_names
from metatensor.tensor import TensorMap

Array = npt.NDArray[np.float64]


class VarianceThreshold(TensorTransformer, SelectorMixin):
    """Keep the properties whose variance exceeds a threshold.

    Component axes are folded into rows, so that all components of a property stay or go. Blocks
    that are not invariant to rotations (with a component axis of more than one entry, "o3_lambda"
    other than 0 or "o3_sigma" other than 1) have no mean: what counts is the mean square over
    samples and components. Blocks stay, if need be without properties.

    Gradients: the same properties are kept; they do not count in `fit`.

    Plain 2-D arrays are taken as well, as in :class:`sklearn.feature_selection.VarianceThreshold`.

    Parameters
    ----------
    threshold : float, default=0.0
        properties with this variance or less are left out: by default, what is the same in all
        samples

    Attributes
    ----------
    variances_ : TensorMap or array (n_features,)
        variance, or mean square, of each property; a map has one sample in each block
    support_ : dict of LabelsEntry to Labels, or array of bool (n_features,)
        the properties of each block that are kept; a mask for arrays
    n_features_in_ : int
        number of properties of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block, for labelled data
    feature_names_in_ : array of str
        names of the columns, for data frames

    See Also
    --------
    sklearn.feature_selection.VarianceThreshold : the transformer for arrays

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import VarianceThreshold
    >>> block = TensorBlock(
    ...     np.array([[1.0, 0.1], [1.0, 0.3]]), Labels.range("system", 2), [], Labels.range("n", 2)
    ... )
    >>> X = TensorMap(Labels.single(), [block])
    >>> VarianceThreshold().fit_transform(X).block().properties
    Labels
        n
        1

    """

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = threshold

    def fit(self, X: Any, y: Any = None) -> VarianceThreshold:
        """Find the variances, and with them the properties to keep.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            without NaN; gradients do not count
        y : None
            not used

        Returns
        -------
        VarianceThreshold
            self, fitted

        Raises
        ------
        ValueError
            if no property has a variance above the threshold

        """
        if not self.threshold >= 0:
            raise ValueError(f"`threshold` must be a number from 0 on, got {self.threshold!r}")
        tensor = _base.to_tensor(self._labelled_features(X, reset=True))
        _base.check_finite(tensor, "X")
        variances = [_variance(key, block) for key, block in tensor.items()]
        masks = [variance > self.threshold for variance in variances]
        if not any(mask.any() for mask in masks):
            n_samples = sum(len(block._samples) for block in tensor)
            raise ValueError(
                f"no property of X has a variance above the threshold, {self.threshold}"
                + (" (X contains only one sample)" if n_samples == 1 else "")
            )
        like = _base.to_float64(tensor._blocks[0]._values[:0, ...])
        self.variances_ = self._learnt(
            tensor._keys, [_arrays.from_host(variance, like) for variance in variances]
        )
        self._mask = np.concatenate(masks)
        self._properties = {key: block._properties for key, block in tensor.items()}
        self._kept = {
            key: properties._like(properties._table[mask])
            for (key, properties), mask in zip(self._properties.items(), masks, strict=True)
        }
        self.support_ = self._kept if self._is_labelled else self._mask
        return self

    def get_support(self, indices: bool = False) -> npt.NDArray[Any]:
        """Return which properties are kept, those of all blocks one after the other.

        Parameters
        ----------
        indices : bool, default=False
            give their positions instead of a mask

        Returns
        -------
        array of bool (n_features,), or of int (n_kept_features,)

        """
        support: npt.NDArray[Any] = super().get_support(indices)
        return support

    def _get_support_mask(self) -> npt.NDArray[np.bool_]:
        check_is_fitted(self)
        return self._mask.copy()

    def transform(self, X: Any) -> Any:
        """Leave out properties.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            with the keys and properties of the X in `fit`; blocks may be absent

        Returns
        -------
        TensorMap, Rows or array
            like X

        """
        tensor = _base.to_tensor(self._labelled_features(X))
        return self._with_properties(X, tensor, self._kept)

    def inverse_transform(self, X: Any) -> Any:
        """Fill in zeros for the properties that were left out.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_kept_features)
            what `transform` gives

        Returns
        -------
        TensorMap, Rows or array
            like X

        """
        self._check_container(X)
        if _base.is_tensor(X):
            tensor = _base.to_tensor(X)
            self._check_kept(tensor)
        else:
            tensor = self._kept_columns(X)
        return self._with_properties(X, tensor, self._properties)

    def _with_properties(
        self, X: Any, tensor: TensorMap, properties: dict[LabelsEntry, Labels]
    ) -> Any:
        blocks = [
            _alignment.take_properties(block, properties[key]) for key, block in tensor.items()
        ]
        if not _base.is_tensor(X):
            return blocks[0]._values
        return _base.like_container(X, TensorMap._of(tensor._keys, blocks, tensor._info))

    def _check_kept(self, tensor: TensorMap) -> None:
        none = Labels.empty(["_"])
        for key, block in tensor.items():
            kept, got = self._kept.get(key, none), block._properties
            if not _alignment.same_entries(kept, got):
                raise ValueError(
                    "X must have the properties that `transform` gives, in the block with key "
                    f"{key.print()} these are {_base.entries_text(kept) or 'none'}, "
                    f"got {_base.entries_text(got) or 'none'}"
                )

    def _kept_columns(self, X: Any) -> TensorMap:
        """Return an array as a map with one block, whose properties are those that are kept."""
        matrix = check_array(X, dtype=_base.float_dtypes(X))
        (kept,) = self._kept.values()
        if matrix.shape[1] != len(kept):
            raise ValueError(
                f"X must have the {len(kept)} columns that `transform` gives, got {matrix.shape[1]}"
            )
        tensor = _base.from_matrix(matrix, "feature")
        block = _alignment.with_properties(tensor._blocks[0], kept)
        return TensorMap._of(tensor._keys, [block])

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return the names of the properties that are kept.

        Parameters
        ----------
        input_features : sequence of str, optional
            names of the columns of arrays; not used for labelled data

        Returns
        -------
        array of str, (n_kept_features,)

        """
        check_is_fitted(self)
        if self._is_labelled:
            return feature_names(self._kept)
        names: npt.NDArray[np.object_] = super().get_feature_names_out(input_features)
        return names


def _variance(key: LabelsEntry, block: TensorBlock) -> Array:
    """Return the variance of each property, or the mean square if there is no mean."""
    moments = Moments(len(block._properties), _base.is_invariant(key, block))
    moments.add(block._values, np.ones(len(block._samples)))
    if not moments.centered:
        return moments.variance
    values = _arrays.detach(block._values)
    axes = tuple(range(values.ndim - 1))
    constant = _arrays.namespace(values).all(values == values[:1, ...], axis=axes)
    # what is constant may have a variance by rounding
    return np.where(_arrays.to_host(constant), 0.0, moments.variance)
