"""Constant predictions."""

import numpy as np
import pytest

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import DummyRegressor, as_rows


@pytest.mark.parametrize(
    ("strategy", "function"),
    [
        ("mean", np.mean),
        ("median", np.median),
        ("zero", lambda values, axis: np.zeros(values.shape[1])),
    ],
)
@pytest.mark.parametrize("n_rows", [7, 8])
def test_constants(strategy, function, n_rows):
    rng = np.random.default_rng(0)
    array, targets = rng.normal(size=(n_rows, 2)), rng.normal(size=(n_rows, 3))
    model = DummyRegressor(strategy).fit(array, targets)
    expected = function(targets, axis=0)
    np.testing.assert_allclose(model.constant_, expected, atol=1e-15)
    np.testing.assert_allclose(model.predict(array), np.tile(expected, (n_rows, 1)), atol=1e-15)
    assert model.fit(array, targets[:, 0]).predict(array).shape == (n_rows,)
    weights = rng.integers(0, 4, size=n_rows)
    model.fit(array, targets, sample_weight=weights)
    copies = function(np.repeat(targets, weights, axis=0), axis=0)
    np.testing.assert_allclose(model.constant_, copies, atol=1e-15)


@pytest.mark.parametrize("strategy", ["mean", "median"])
def test_labelled(X, y, features, strategy):
    expected = getattr(np, strategy)(y.block().values)
    for data in (X, features):  # of atoms, and of systems
        model = DummyRegressor(strategy).fit(data, y)
        np.testing.assert_allclose(model.constant_.block().values, [[expected]])
        prediction = model.predict(data)
        assert prediction.keys == y.keys
        block = prediction.block()
        assert block.samples == y.block().samples
        np.testing.assert_allclose(block.values, expected)
        assert block.gradients_list() == ["positions", "strain"]
        assert len(block.gradient("positions")) == len(block.gradient("strain")) == 0
        assert model.score(data, y) <= 0


def test_blocks_that_rotate_are_zero():
    rng = np.random.default_rng(0)
    keys = Labels(["o3_lambda", "o3_sigma"], np.array([[0, 1], [0, -1], [1, 1]]))
    samples, n = Labels.range("system", 5), Labels.range("n", 2)
    blocks = [
        TensorBlock(rng.normal(size=(5, m, 2)) + 1, samples, [Labels.range("m", m)], n)
        for m in (1, 1, 3)
    ]
    y = TensorMap(keys, blocks)
    prediction = DummyRegressor().fit(y, y).predict(y)
    np.testing.assert_allclose(prediction[0].values[0], blocks[0].values.mean(axis=0))
    for position in (1, 2):
        np.testing.assert_array_equal(
            prediction[position].values, np.zeros_like(blocks[position].values)
        )


def test_arrays_for_rows(X, y):
    rows, _ = as_rows(X, y)
    targets = y.block().values[:, 0]
    prediction = DummyRegressor().fit(rows, targets).predict(rows[:4])
    np.testing.assert_allclose(prediction, np.full(4, targets.mean()))


def test_refusals(features, y):
    with pytest.raises(ValueError, match="`strategy` must be one of"):
        DummyRegressor("mode").fit(features, y)
