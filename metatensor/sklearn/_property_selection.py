"""What selectors of properties share, whatever they select by."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.validation import check_is_fitted

from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _alignment, _base
from metatensor.sklearn._transformation import TensorTransformer
from metatensor.tensor import TensorMap

Mask = npt.NDArray[np.bool_]


class PropertySelector(TensorTransformer, SelectorMixin):
    """Base of what keeps some properties of each block, in values and gradients."""

    support_: dict[LabelsEntry, Labels] | Mask

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_labels_out")

    def _keep(self, tensor: TensorMap, masks: list[Mask]) -> None:
        """Remember which properties of each block are kept."""
        self._mask = np.concatenate(masks)
        self._properties = {key: block._properties for key, block in tensor.items()}
        self._labels_out = {
            key: properties._like(properties._table[mask])
            for (key, properties), mask in zip(self._properties.items(), masks, strict=True)
        }
        self.support_ = self._labels_out if self._is_labelled else self._mask

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
        return self._with_properties(X, tensor, self._labels_out)

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
        check_is_fitted(self)
        tensor = self._transformed(X, self._labels_out)
        return self._with_properties(X, tensor, self._properties)

    def _column_names(self, input_features: Any) -> npt.NDArray[np.object_]:
        names: npt.NDArray[np.object_] = SelectorMixin.get_feature_names_out(self, input_features)
        return names

    def _with_properties(
        self, X: Any, tensor: TensorMap, properties: dict[LabelsEntry, Labels]
    ) -> Any:
        blocks = [
            _alignment.take_properties(block, properties[key]) for key, block in tensor.items()
        ]
        return self._in_container(X, tensor, blocks)
