"""Checks of what must not matter: orders, orientations, copies; and of derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import SkipTest

import numpy as np

from metatensor import o3, testing
from metatensor._checks import MetatensorError
from metatensor.sklearn.rows import as_rows
from metatensor.sklearn.testing import _data
from metatensor.sklearn.testing._data import Data
from metatensor.sklearn.testing._outcome import assert_same, converted, fitted, outputs, rounding
from metatensor.tensor import TensorMap

Change = Callable[[TensorMap, np.random.Generator], TensorMap]


# ---- orders


def check_sample_order(estimator: Any, data: Data) -> None:
    """The order of samples does not count, and is another one in X and y."""
    _check_order(estimator, data, _each_block(_data.with_rows_permuted))


def check_block_order(estimator: Any, data: Data) -> None:
    """The order of blocks does not count."""
    _check_order(estimator, data, _data.with_blocks_permuted)


def check_property_order(estimator: Any, data: Data) -> None:
    """The order of properties does not count, and is another one in each block."""
    _check_order(estimator, data, _each_block(_data.with_properties_permuted))


def check_gradient_row_order(estimator: Any, data: Data) -> None:
    """The order of the rows of gradients does not count."""
    _check_order(estimator, data, _each_block(_data.with_gradient_rows_permuted))


def _each_block(change: Callable[..., Any]) -> Change:
    return lambda tensor, rng: TensorMap(tensor.keys, [change(block, rng) for block in tensor])


def _check_order(estimator: Any, data: Data, change: Change) -> None:
    rng = np.random.default_rng(0)
    model = fitted(estimator, data.X, data.y)
    expected = outputs(model, data.X)
    X = change(data.X, rng)
    assert_same(outputs(model, X), expected, 1e-9, "of X in another order")
    other = fitted(estimator, X, None if data.y is None else change(data.y, rng))
    assert_same(outputs(other, data.X), expected, 1e-7, "after `fit` to X and y in another order")


def check_subsets(estimator: Any, data: Data) -> None:
    """Some rows give the same alone as among others, in any order; also a single one."""
    X, y = data.rows()
    model = fitted(estimator, X, y)
    whole = outputs(model, X)
    for rows in ([0], [7, 2, 5]):
        expected = {method: result[rows] for method, result in whole.items()}
        assert_same(outputs(model, X[rows]), expected, 1e-9, f"of the rows {rows} alone")


# ---- weights


def check_weights_of_one(estimator: Any, data: Data) -> None:
    """Weights that are all one are no weights."""
    X, y = data.rows()
    expected = outputs(fitted(estimator, X, y), X)
    found = outputs(fitted(estimator, X, y, sample_weight=np.ones(len(X))), X)
    assert_same(found, expected, 1e-7, "with `sample_weight` of one")


def check_weights_of_zero(estimator: Any, data: Data) -> None:
    """A row of weight zero does not count, with all its gradients."""
    X, y = data.rows()
    weights = np.ones(len(X))
    weights[[0, 3, 4]] = 0
    kept = np.flatnonzero(weights)
    expected = outputs(fitted(estimator, X[kept], None if y is None else y[kept]), X[kept])
    found = outputs(fitted(estimator, X, y, sample_weight=weights), X[kept])
    assert_same(found, expected, 1e-7, "with `sample_weight` of zero")


def check_weights_are_copies(estimator: Any, data: Data) -> None:
    """A row of weight k is as good as k copies, with all its gradients."""
    X, y = data.rows()
    weights = np.arange(len(X)) % 3 + 1
    found = outputs(fitted(estimator, X, y, sample_weight=weights), X)
    copies = [_copies(tensor, weights, data) for tensor in (X, y) if tensor is not None]
    expected = outputs(fitted(estimator, *copies), X)
    assert_same(found, expected, 1e-6, "with `sample_weight` that counts copies")


def _copies(rows: Any, weights: Any, data: Data) -> Any:
    """Return every row as often as its weight says."""
    name = rows.by[0]
    shift = int(rows.rows.values[:, 0].max()) + 1
    batches = [
        _data.renumbered(rows[weights > number].tensor, number * shift, name)
        for number in range(int(weights.max()))
    ]
    return as_rows(batches, by=data.by)


# ---- derivatives


def check_gradients(estimator: Any, data: Data) -> None:
    """Gradients of what comes out are the derivatives of its values, along those of X."""
    if not data.X.block_by_id(0).gradients_list():
        raise SkipTest("X has no gradients")
    model = fitted(estimator, data.X, data.y)
    for method, result in outputs(model, data.X).items():
        has_gradients = any(block.gradients_list() for block in result)
        if not has_gradients and _is_constant(getattr(model, method), data.X, result):
            continue
        try:
            testing.check_gradients(getattr(model, method), data.X)
        except AssertionError as error:
            raise AssertionError(f"`{method}`: {error}") from None


def _is_constant(function: Callable[[Any], Any], X: TensorMap, result: TensorMap) -> bool:
    """Tell whether values of X do not count, so that there is no need of gradients."""
    moved = function(converted(X, lambda values: values * 1.25))
    return all(np.array_equal(a.values, b.values) for a, b in zip(moved, result))


# ---- rotations


def check_rotations(estimator: Any, data: Data) -> None:
    """What comes of rotated data is what comes of the data, rotated; proper and improper."""
    model = fitted(estimator, data.X, data.y)
    tolerance = max(1e-9, 10 * rounding(estimator, data))
    for X, _, expected in _rotated(data, outputs(model, data.X)):
        assert_same(outputs(model, X), expected, tolerance, "of rotated X")


def check_rotated_fit(estimator: Any, data: Data) -> None:
    """The orientation of what an estimator is fitted to does not count."""
    plain = outputs(fitted(estimator, data.X, data.y), data.X)
    tolerance = max(1e-7, 10 * rounding(estimator, data))
    for X, y, expected in _rotated(data, plain):
        other = outputs(fitted(estimator, X, y), X)
        assert_same(other, expected, tolerance, "after `fit` to rotated X and y")


def _rotated(
    data: Data, plain: dict[str, Any]
) -> Iterator[tuple[TensorMap, TensorMap | None, dict[str, Any]]]:
    """Yield X, y and outputs in other orientations."""
    try:
        o3.check(data.X)
        if data.y is not None:
            o3.check(data.y)
    except MetatensorError as error:
        raise SkipTest(f"the data can not be rotated: {error}") from None
    for rotation in testing._random_rotations(2, 0, improper=True):
        yield (
            o3.rotate(data.X, rotation),
            None if data.y is None else o3.rotate(data.y, rotation),
            {method: o3.rotate(result, rotation) for method, result in plain.items()},
        )
