"""Standard deviations of predictions that others are made of."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.sklearn import _addition, _base
from metatensor.tensor import TensorMap

#: by how much a scale and a shift may miss what was transformed back
_TOLERANCE = 1e-7
_ROUNDING = 1e-12


def predict(estimator: Any, name: str, X: Any) -> tuple[Any, Any]:
    """Return a prediction and its standard deviation, or refuse estimators that have none."""
    last = estimator
    while isinstance(last, Pipeline):
        last = last.steps[-1][1]
    if "return_std" not in inspect.signature(last.predict).parameters:
        raise ValueError(
            f"the regressor {name!r} must have standard deviations for return_std=True, but "
            f"{type(last).__name__}.predict has no `return_std`; use one that has, such as "
            "Ridge(compute_std=True) or KernelRidge"
        )
    prediction, std = estimator.predict(X, return_std=True)
    return prediction, std


def scaled_back(transformer: Any, prediction: Any, std: Any) -> Any:
    """Return standard deviations times the scale with which a transformer goes back.

    Its scale and shift, for each value, are found from what it makes of zeros and ones; they must
    give what it makes of the prediction, and of numbers that differ between properties.
    """

    def back(parts: list[_arrays.Array]) -> Any:
        with np.errstate(all="ignore"):  # what is not finite is no scale and shift
            return transformer.inverse_transform(_with_parts(std, parts))

    given = [_base.to_float64(part) for part in _parts(std)]
    zeros = [_arrays.full(part.shape, 0, part) for part in given]
    origin = back(zeros)
    shifts = _on_host(origin)
    ones = _on_host(back([zero + 1 for zero in zeros]))
    scales = [one - shift for one, shift in zip(ones, shifts, strict=True)]
    uneven = [zero + _uneven(zero) for zero in zeros]
    centers = [_base.to_float64(part) for part in _parts(prediction)]
    for probe in (uneven, [-part for part in uneven], centers):
        for part, found, scale, shift in zip(
            probe, _on_host(back(probe)), scales, shifts, strict=True
        ):
            if found.shape != part.shape or not _is_near(
                found - shift, scale * _arrays.to_host(part), np.abs(found).max(initial=0.0)
            ):
                raise ValueError(
                    "return_std=True needs a transformer that scales and shifts each property, "
                    f"such as StandardScaler; {type(transformer).__name__} does something else"
                )
    scaled = [
        _arrays.from_host(np.abs(scale), part) * part
        for scale, part in zip(scales, given, strict=True)
    ]
    dtypes = [_base.as_float(part).dtype for part in _parts(std)]
    return _with_parts(
        origin,
        [
            _arrays.namespace(part).astype(part, dtype)
            for part, dtype in zip(scaled, dtypes, strict=True)
        ],
    )


def _uneven(like: _arrays.Array) -> _arrays.Array:
    """Return numbers, one for each property, that no sum or difference of makes another."""
    return _arrays.from_host(np.sqrt(np.arange(like.shape[-1]) + 2.0), like)


def _is_near(found: Any, expected: Any, largest: float) -> bool:
    limit = _TOLERANCE * np.abs(expected).max(initial=0.0) + _ROUNDING * largest
    return bool((np.abs(found - expected) <= limit).all())


def _parts(data: Any) -> list[_arrays.Array]:
    """Return the values of all blocks, or the array."""
    if not _base.is_tensor(data):
        return [data]
    return [block._values for block in _base.to_tensor(data)]


def _on_host(data: Any) -> list[Any]:
    return [_arrays.to_host(_base.to_float64(part)) for part in _parts(data)]


def _with_parts(data: Any, parts: list[_arrays.Array]) -> Any:
    """Return other values, without gradients, in the container and with the labels of data."""
    if not _base.is_tensor(data):
        return parts[0]
    tensor = _base.to_tensor(data)
    blocks = [
        TensorBlock._of(part, block._samples, block._components, block._properties)
        for part, block in zip(parts, tensor, strict=True)
    ]
    return _base.like_container(data, TensorMap._of(tensor._keys, blocks))


def labelled_like(total: Any, std: Any, who: str) -> Any:
    """Return standard deviations of a part of a sum, with the labels of the sum in their order."""
    zeros = _with_parts(total, [_arrays.full(part.shape, 0, part) for part in _parts(total)])
    tensors = _base.to_tensor(zeros), _base.to_tensor(std)
    return _base.like_container(total, _addition.total(*tensors, who))
