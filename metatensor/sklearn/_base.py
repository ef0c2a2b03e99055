"""What estimators share: containers in and out, checks of labels, and matching X with y."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from array_api_compat import is_array_api_obj
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from metatensor import _arrays, _checks
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _alignment
from metatensor.sklearn.rows import Rows
from metatensor.tensor import TensorMap

Positions = npt.NDArray[np.intp]
Tensor: TypeAlias = TensorMap | Rows
Data: TypeAlias = Any  # TensorMap, Rows, or what scikit-learn takes as an array

#: what stands for the values among the names of gradients
VALUES = None

#: bytes of the float64 rows that are worked on at once
CHUNK_BYTES = 1 << 24


# ---- containers


def is_tensor(data: Data) -> bool:
    """Tell labelled data from arrays; refuse what scikit-learn makes of data it can not cut."""
    if (
        isinstance(data, (list, tuple))
        and data
        and isinstance(data[0], (TensorBlock, TensorMap, Rows))
    ):
        raise TypeError(
            f"got a {type(data).__name__} of {type(data[0]).__name__}; wrap the data with "
            "`X, y = as_rows(X, y, by='system')` before cross-validation"
        )
    if isinstance(data, TensorBlock):
        raise TypeError(
            "got a TensorBlock, a TensorMap is required; make one with "
            "`TensorMap(Labels.single(), [block])`"
        )
    return isinstance(data, (TensorMap, Rows))


def to_tensor(data: Tensor) -> TensorMap:
    """Return the labelled data themselves, with samples in any order."""
    return data._data if isinstance(data, Rows) else data


def like_container(data: Tensor, tensor: TensorMap) -> Tensor:
    """Return a result in the container of what it was made from."""
    if isinstance(data, Rows):
        return data if tensor is data._data else data._like(tensor)
    return tensor


def float_dtypes(X: Data) -> list[Any]:
    """Return the dtypes that arrays may have, of the library in which scikit-learn keeps them."""
    xp = _arrays.namespace(X) if is_array_api_obj(X) and get_config()["array_api_dispatch"] else np
    return [xp.float64, xp.float32]


def from_matrix(array: Any, property_name: str) -> TensorMap:
    """Return a 2-D array as a map with one block."""
    n_rows, n_columns = array.shape
    samples, properties = Labels.range("sample", n_rows), Labels.range(property_name, n_columns)
    return TensorMap._of(Labels.single(), [TensorBlock._of(array, samples, (), properties)])


def as_float(values: _arrays.Array) -> _arrays.Array:
    """Return real floating point values; integers become float64."""
    if _arrays.kind(values) == "complex":
        raise ValueError("complex values are not supported, real numbers are required")
    return _arrays.as_floating(values)


def to_float64(values: _arrays.Array) -> _arrays.Array:
    """Return the values in double precision, without their autograd history."""
    values = _arrays.detach(values)
    xp = _arrays.namespace(values)
    return xp.astype(as_float(values), xp.float64, copy=False)


def chunks(n_rows: int, row_bytes: int) -> Iterator[slice]:
    """Cut many rows into slices of a bounded size."""
    step = max(1, CHUNK_BYTES // max(row_bytes, 1))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def map_block(
    block: TensorBlock,
    properties: Labels,
    on_values: Callable[[_arrays.Array], _arrays.Array],
    on_gradients: Callable[[_arrays.Array], _arrays.Array],
) -> TensorBlock:
    """Apply a function of the properties to the values, and its linear part to the gradients."""
    gradients = {
        name: map_block(gradient, properties, on_gradients, on_gradients)
        for name, gradient in block._gradients.items()
    }
    values = on_values(as_float(block._values))
    return TensorBlock._of(values, block._samples, block._components, properties, gradients)


def times(array: _arrays.Array, matrix: _arrays.Array) -> _arrays.Array:
    """Multiply the last axis by a matrix, in one product however many axes there are."""
    xp = _arrays.namespace(array)
    rows = xp.reshape(array, (math.prod(array.shape[:-1]), array.shape[-1]))
    return xp.reshape(rows @ matrix, (*array.shape[:-1], matrix.shape[1]))


# ---- checks


def check_not_negative(value: Any, name: str, kinds: str) -> None:
    """Refuse a parameter that is not a finite number from zero on."""
    if not isinstance(value, (float, int, np.floating, np.integer)) or isinstance(value, bool):
        raise TypeError(f"`{name}` must be {kinds}, got {_checks.kind(value)}")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"`{name}` must be finite and not negative, got {value}")


def check_flags(estimator: BaseEstimator, *names: str) -> None:
    """Refuse parameters that are neither True nor False."""
    for name in names:
        value = getattr(estimator, name)
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"`{name}` must be True or False, got {value!r}")


def check_choice(value: Any, name: str, choices: Sequence[str]) -> None:
    """Refuse a parameter that is none of some strings."""
    if not (isinstance(value, str) and value in choices):
        *others, last = map(repr, choices)
        text = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"`{name}` must be {text}, got {value!r}")


def check_finite(tensor: TensorMap, name: str) -> None:
    """Refuse NaN and infinity in values and gradients."""
    for key, block in tensor.items():
        parts = [
            ("the values", block),
            *((f"the gradient {p!r}", g) for p, g in block._gradients.items()),
        ]
        for what, part in parts:
            values = as_float(_arrays.detach(part._values))
            xp = _arrays.namespace(values)
            with np.errstate(all="ignore"):
                if bool(xp.isfinite(xp.sum(values))) or bool(xp.all(xp.isfinite(values))):
                    continue
            raise ValueError(
                f"Input {name} contains NaN or infinity, in {what} of the block with key "
                f"{key.print()}"
            )


def is_invariant(key: LabelsEntry, block: TensorBlock) -> bool:
    """Tell whether values do not change when systems rotate, so that a mean has a meaning.

    That is: no component axis with more than one entry, and "o3_lambda" 0 and "o3_sigma" 1 where
    the key has them.
    """
    names = key._labels._names
    return (
        all(len(labels) == 1 for labels in block._components)
        and ("o3_lambda" not in names or int(key["o3_lambda"]) == 0)
        and ("o3_sigma" not in names or int(key["o3_sigma"]) == 1)
    )


class TensorEstimator(BaseEstimator):
    """Base of all estimators: remembers the labels of the properties that it was fitted on."""

    feature_labels_in_: dict[LabelsEntry, Labels]
    n_features_in_: int

    def _remember_features(self, tensor: TensorMap) -> None:
        if not len(tensor):
            raise ValueError(
                f"{type(self).__name__} needs at least one block, got a TensorMap without blocks"
            )
        self.__dict__.pop("feature_names_in_", None)  # of a fit to a data frame before
        self.feature_labels_in_ = {key: block._properties for key, block in tensor.items()}
        self.n_features_in_ = sum(len(block._properties) for block in tensor)

    def _forget_features(self) -> None:
        self.__dict__.pop("feature_labels_in_", None)  # of a fit to labelled data before

    def _check_container(self, X: Data) -> None:
        """Check that X is what the estimator was fitted on: labelled data, or an array."""
        check_is_fitted(self)
        fitted_on_tensors = hasattr(self, "feature_labels_in_")
        if is_tensor(X) != fitted_on_tensors:
            names = ("labelled data (TensorMap or Rows)", "plain arrays")
            fitted, got = names if fitted_on_tensors else names[::-1]
            raise TypeError(
                f"{type(self).__name__} was fitted on {fitted}, got {got}: {_checks.kind(X)}"
            )

    def _labelled_features(self, X: Data, reset: bool = False) -> Tensor:
        """Return X as labelled data, with the properties in the order they had in `fit`."""
        if not reset:
            self._check_container(X)
        if not is_tensor(X):
            X = validate_data(self, X, reset=reset, dtype=float_dtypes(X))
            if reset:
                self._forget_features()
            return from_matrix(X, "feature")
        if reset:
            if len(to_tensor(X)) and not any(len(block._samples) for block in to_tensor(X)):
                raise ValueError(f"{type(self).__name__} needs at least one sample in X, got none")
            self._remember_features(to_tensor(X))
        return like_container(X, self._aligned_features(to_tensor(X)))

    def _aligned_features(self, tensor: TensorMap) -> TensorMap:
        """Return the blocks with the properties in the order they had in `fit`."""
        blocks = []
        if self.feature_labels_in_ == {key: block._properties for key, block in tensor.items()}:
            return tensor
        for key, block in tensor.items():
            known = self.feature_labels_in_.get(key)
            if known is None:
                fitted = [key.print() for key in self.feature_labels_in_]
                raise ValueError(
                    f"X has a block with key {key.print()}, but {type(self).__name__} was fitted "
                    f"on blocks with the keys {_shortened(fitted)}"
                )
            if block._properties != known:
                self._check_properties(tensor, key, block, known)
            blocks.append(_alignment.take_properties(block, known))
        return TensorMap._of(tensor._keys, blocks, tensor._info)

    def _check_properties(
        self, tensor: TensorMap, key: LabelsEntry, block: TensorBlock, known: Labels
    ) -> None:
        name, got = type(self).__name__, block._properties
        if set(got._names) != set(known._names):
            raise ValueError(
                f"X has the property names {got.names}, but {name} was fitted on {known.names}"
            )
        missing = entries_text(known, _alignment.find(known, got) < 0)
        extra = entries_text(got, _alignment.find(got, known) < 0)
        if missing or extra:
            n_got = sum(len(block._properties) for block in tensor)
            raise ValueError(
                f"X has {n_got} features, but {name} is expecting {self.n_features_in_} features "
                f"as input; in the block with key {key.print()}, missing: {missing or 'none'}, "
                f"new: {extra or 'none'}. Use `KeysToProperties` as first step, which fills in "
                "missing properties"
            )


def entries_text(labels: Labels, mask: npt.NDArray[np.bool_] | None = None) -> str:
    """Print some entries of Labels, or all of them: the first few of many."""
    mask = np.ones(len(labels), bool) if mask is None else mask
    return _shortened(
        [labels.entry(int(position)).print() for position in np.flatnonzero(mask)[:4]],
        int(mask.sum()),
    )


def components_text(block: TensorBlock) -> str:
    """Print the components of a block, such as "xyz=[0, 1, 2]"."""
    texts = [f"{labels.names[0]}={labels._table[:, 0].tolist()}" for labels in block._components]
    return ", ".join(texts) or "none"


def _shortened(texts: Sequence[str], length: int | None = None) -> str:
    """Join texts, the first few of many."""
    length = len(texts) if length is None else length
    return ", ".join(texts[:3]) + (f" and {length - 3} more" if length > 3 else "")
