"""Different transformers for different keys."""

import pickle

import numpy as np
import pytest
import sklearn.preprocessing
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import (
    BlockwiseTransformer,
    KeysToProperties,
    KeysTransformer,
    Normalizer,
    Ridge,
    Rows,
    StandardScaler,
    SumOverSamples,
    as_rows,
)

KEYS = ["center_type", "neighbor_type"]
FIRST = {"center_type": 1, "neighbor_type": 1}
SECOND = {"center_type": 1, "neighbor_type": 8}


def table(tensor):
    return tensor.keys.values.tolist()


def some(tensor, positions):
    keys = Labels(tensor.keys.names, tensor.keys.values[positions])
    return TensorMap(keys, [tensor.block_by_id(n).copy() for n in positions])


def step(**parameters):
    return KeysTransformer(
        [("scale", StandardScaler(), {"center_type": 8}), ("norm", Normalizer(), FIRST)],
        **parameters,
    )


@pytest.mark.parametrize(
    ("selection", "positions"),
    [
        ({"center_type": 8}, [2, 3]),
        ({"center_type": 1, "neighbor_type": 8}, [1]),
        (Labels(["neighbor_type"], np.array([[1]])), [0, 2]),
        (Labels(KEYS, np.array([[1, 1], [8, 8]])), [0, 3]),
        (Labels(KEYS, np.array([[1, 8]])).entry(0), [1]),
        (lambda key: key["center_type"] == key["neighbor_type"], [0, 3]),
        ([{"center_type": 8}, FIRST], [0, 2, 3]),
    ],
    ids=str,
)
def test_selections(X, selection, positions):
    model = KeysTransformer([("scale", StandardScaler(), selection)])
    found = model.fit_transform(X)
    expected = StandardScaler().fit_transform(some(X, positions))
    assert table(found) == table(expected)
    assert found == expected
    assert model.transform(X) == expected
    left = KeysTransformer([("none", "drop", selection)], remainder="passthrough").fit_transform(X)
    assert left == some(X, [n for n in range(4) if n not in positions])


def test_blocks_come_in_the_order_of_transformers(X):
    kept = step(remainder="passthrough").fit(X)
    assert table(kept.transform(X)) == [[8, 1], [8, 8], [1, 1], [1, 8]]
    assert [name for name, _, _ in kept.transformers_] == ["scale", "norm", "remainder"]
    assert kept.transformers_[0][2] == some(X, [2, 3]).keys
    assert isinstance(kept.named_transformers_.norm, Normalizer)
    found = kept.transform(X)
    assert some(found, [2]) == Normalizer().transform(some(X, [0]))
    assert some(found, [3]) == some(X, [1])
    assert table(step().fit_transform(X)) == [[8, 1], [8, 8], [1, 1]]
    scaled = step(remainder=StandardScaler(with_mean=False)).fit_transform(X)
    assert some(scaled, [3]) == StandardScaler(with_mean=False).fit_transform(some(X, [1]))
    assert len(kept.get_feature_names_out()) == 16
    assert kept.get_feature_names_out()[0] == "center_type=8:neighbor_type=1:k=3"


def test_blocks_may_be_absent(X):
    model = step(remainder="passthrough").fit(X)
    assert model.transform(some(X, [3, 1])) == some(model.transform(X), [1, 3])
    partly = step().fit(some(X, [0, 1, 3]))
    with pytest.raises(ValueError, match="neighbor_type=1.*was fitted on"):
        partly.transform(X)


def test_rows_parameters_pickles(X, y):
    X_rows, y_rows = as_rows(X, y)
    model = step(remainder="passthrough")
    found = clone(model).fit_transform(X_rows, y_rows)
    assert isinstance(found, Rows)
    assert found.rows == X_rows.rows
    assert found.tensor == model.fit_transform(X_rows.tensor)
    assert pickle.loads(pickle.dumps(model)).transform(X) == model.transform(X)
    assert "StandardScaler" in model._repr_html_()
    assert model.get_params()["scale__with_mean"] is True
    model.set_params(scale__with_mean=False, norm="passthrough")
    assert model.transformers[0][1].with_mean is False
    assert model.transformers[1][1:] == ("passthrough", FIRST)
    pipeline = make_pipeline(
        step(remainder="passthrough"), KeysToProperties(KEYS), SumOverSamples(), Ridge(1e-3)
    )
    grid = {"keystransformer__scale__with_mean": [True, False]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X_rows, y_rows)
    assert len(search.cv_results_["params"]) == 2


def test_parts_that_rotate():
    """What can not be for all blocks is for those that are invariant."""
    rng = np.random.default_rng(0)
    keys = Labels(["o3_lambda", "o3_sigma"], np.array([[0, 1], [1, 1]]))
    samples, n = Labels.range("system", 6), Labels.range("n", 2)
    blocks = [
        TensorBlock(rng.normal(size=(6, m, 2)), samples, [Labels.range("m", m)], n) for m in (1, 3)
    ]
    X = TensorMap(keys, blocks)
    scale = BlockwiseTransformer(sklearn.preprocessing.RobustScaler())
    model = KeysTransformer([("robust", scale, {"o3_lambda": 0})], remainder="passthrough")
    found = model.fit_transform(X)
    expected = sklearn.preprocessing.RobustScaler().fit_transform(blocks[0].values[:, 0])
    np.testing.assert_allclose(found[0].values[:, 0], expected)
    np.testing.assert_array_equal(found[1].values, blocks[1].values)


def test_torch(X):
    pytest.importorskip("torch")
    found = step().fit_transform(X.to(arrays="torch"))
    expected = step().fit_transform(X)
    for block, other in zip(found.to(arrays="numpy"), expected):
        np.testing.assert_allclose(block.values, other.values, rtol=1e-12)


@pytest.mark.parametrize(
    ("transformers", "error", "message"),
    [
        (
            [("a", StandardScaler(), FIRST), ("b", Normalizer(), FIRST)],
            ValueError,
            "'a' and 'b' both give",
        ),
        ([("a", StandardScaler(), FIRST), ("a", Normalizer(), SECOND)], ValueError, "not unique"),
        (
            [("a", Ridge(), FIRST)],
            TypeError,
            "must be an estimator with `fit` and `transform`, or 'drop'",
        ),
        ([("a", StandardScaler())], TypeError, "list of .*, got \\('a'"),
        ([(3, StandardScaler(), FIRST)], TypeError, "got the name 3 in it"),
        (StandardScaler(), TypeError, "list of .*, got metatensor.StandardScaler"),
        ([("a", StandardScaler(), 0)], TypeError, "must select keys with a dict"),
        ([("a", StandardScaler(), "center_type")], TypeError, "must select keys with a dict"),
        ([("a", "drop", FIRST)], ValueError, "no block is left"),
        (
            [("a", StandardScaler(), FIRST), ("b", KeysToProperties("neighbor_type"), SECOND)],
            ValueError,
            "must give the same key names; 'a' gives",
        ),
    ],
)
def test_refusals(X, transformers, error, message):
    with pytest.raises(error, match=message):
        KeysTransformer(transformers).fit(X)


def test_more_refusals(X):
    with pytest.raises(TypeError, match="needs a TensorMap"):
        step().fit(np.ones((3, 2)))
    with pytest.raises(NotFittedError):
        step().transform(X)
