"""What transformers share: labelled data come out labelled, whatever `set_output` says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted

from metatensor import _arrays, _checks
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _alignment, _base
from metatensor.tensor import TensorMap


class TensorTransformer(TransformerMixin, _base.TensorEstimator):
    """Base of transformers of labelled data or arrays.

    ``set_output`` wraps arrays in data frames, as for any transformer, and no labelled data.
    """

    #: the properties of each block after `transform`
    _labels_out: dict[LabelsEntry, Labels]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        keys = cls._sklearn_auto_wrap_output_keys
        # nothing is known about what is not fitted
        cls._sklearn_auto_wrap_output_keys = property(
            lambda self: set() if self._is_labelled or not hasattr(self, "n_features_in_") else keys
        )

    @property
    def _is_labelled(self) -> bool:
        """Whether it was fitted to labelled data, and not to an array."""
        return hasattr(self, "feature_labels_in_")

    def _learnt(
        self, keys: Labels, rows: list[_arrays.Array], labels: Iterable[Labels] | None = None
    ) -> Any:
        """Return what was learnt, a number for each property: as a map, or an array for arrays.

        The properties of a map are those of X, if there are no other labels for them.
        """
        if not self._is_labelled:
            return rows[0]
        labels = self.feature_labels_in_.values() if labels is None else labels
        blocks = [
            TensorBlock._of(row[None, :], Labels.single(), (), properties)
            for row, properties in zip(rows, labels, strict=True)
        ]
        return TensorMap._of(keys, blocks)

    def _transformed(self, X: Any, given: dict[LabelsEntry, Labels]) -> TensorMap:
        """Return what `transform` gave with these properties, which may come in any order."""
        self._check_container(X)
        if _base.is_tensor(X):
            return _with_given_properties(_base.to_tensor(X), given)
        matrix = check_array(X, dtype=_base.float_dtypes(X))
        (properties,) = given.values()
        if matrix.shape[1] != len(properties):
            raise ValueError(
                f"X must have the {len(properties)} columns that `transform` gives, got "
                f"{matrix.shape[1]}"
            )
        tensor = _base.from_matrix(matrix, "feature")
        block = _alignment.with_properties(tensor._blocks[0], properties)
        return TensorMap._of(tensor._keys, [block])

    def _in_container(self, X: Any, tensor: TensorMap, blocks: list[TensorBlock]) -> Any:
        """Return the blocks that X, which is this tensor, became, in the container of X."""
        if not _base.is_tensor(X):
            return blocks[0]._values
        return _base.like_container(X, TensorMap._of(tensor._keys, blocks, tensor._info))

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return the names of the properties after `transform`, such as "center_type=29:n=3".

        Parameters
        ----------
        input_features : sequence of str, optional
            names of the columns of arrays; not used for labelled data

        Returns
        -------
        array of str, (n_features_out,)

        """
        check_is_fitted(self)
        if self._is_labelled:
            return feature_names(self._output_labels())
        return self._column_names(input_features)

    def _output_labels(self) -> dict[LabelsEntry, Labels]:
        return self._labels_out

    def _column_names(self, input_features: Any) -> npt.NDArray[np.object_]:
        """Return the names of the columns for arrays: by default those of the input."""
        names: npt.NDArray[np.object_] = OneToOneFeatureMixin.get_feature_names_out(
            self, input_features
        )
        return names

    def set_output(self, *, transform: str | None = None) -> TensorTransformer:
        """Say in which container arrays come out; labelled data stay as they are.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, optional
            container of what `transform` and `fit_transform` give; None changes nothing

        Returns
        -------
        TensorTransformer
            self

        """
        if transform is not None:
            # not the inherited method, which is not there after a fit to labelled data
            config = getattr(self, "_sklearn_output_config", {})
            self._sklearn_output_config = {**config, "transform": transform}
        return self


class OneToOneTransformer(TensorTransformer):
    """Base of transformers of labelled data or arrays that keep the properties."""

    def _output_labels(self) -> dict[LabelsEntry, Labels]:
        return self.feature_labels_in_


class LabelTransformer(TransformerMixin, _base.TensorEstimator):
    """Base of transformers that need labels, and refuse arrays."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(auto_wrap_output_keys=None, **kwargs)

    def _tensor(self, X: Any) -> TensorMap:
        if not _base.is_tensor(X):
            raise TypeError(
                f"{type(self).__name__} needs a TensorMap, or Rows of one, since it works on "
                f"labels; got {_checks.kind(X)}"
            )
        return _base.to_tensor(X)

    def set_output(self, *, transform: str | None = None) -> LabelTransformer:
        """Do nothing: labelled data stay labelled.

        Parameters
        ----------
        transform : str, optional
            not used; here for pipelines, which pass it to all their steps

        Returns
        -------
        LabelTransformer
            self

        """
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags


class NamedLabelTransformer(LabelTransformer):
    """Base of those that have names for what they give."""

    def _output_labels(self) -> dict[LabelsEntry, Labels]:
        """Return the properties of each block after `transform`."""
        raise NotImplementedError

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return one string for each property of the result, such as "center_type=29:n=3".

        Parameters
        ----------
        input_features : None
            not used

        Returns
        -------
        array of str

        """
        check_is_fitted(self, "feature_labels_in_")
        return feature_names(self._output_labels())


def _with_given_properties(tensor: TensorMap, given: dict[LabelsEntry, Labels]) -> TensorMap:
    """Return the blocks with the properties in the order in which they were given."""
    blocks, none = [], Labels.empty(["_"])
    for key, block in tensor.items():
        properties, got = given.get(key, none), block._properties
        if not _alignment.same_entries(properties, got):
            raise ValueError(
                "X must have the properties that `transform` gives, in the block with key "
                f"{key.print()} these are {_base.entries_text(properties) or 'none'}, "
                f"got {_base.entries_text(got) or 'none'}"
            )
        blocks.append(_alignment.take_properties(block, properties))
    return TensorMap._of(tensor._keys, blocks, tensor._info)


def feature_names(features: dict[LabelsEntry, Labels]) -> npt.NDArray[np.object_]:
    """Return one string for each property, such as "center_type=29:n=3"."""
    names = [
        ":".join([*_parts(key), *_parts(entry)]) or "_=0"
        for key, properties in features.items()
        for entry in properties
    ]
    return np.array(names, dtype=object)


def _parts(entry: LabelsEntry) -> list[str]:
    return [f"{name}={value}" for name, value in zip(entry.names, entry) if name != "_"]
