"""Estimators for arrays, one for each block."""

import pickle

import numpy as np
import pytest
import sklearn.base
import sklearn.decomposition
import sklearn.ensemble
import sklearn.feature_selection
import sklearn.linear_model
import sklearn.neighbors
import sklearn.pipeline
import sklearn.preprocessing
from sklearn.model_selection import GridSearchCV

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.operations import remove_gradients
from metatensor.sklearn import (
    BlockwiseRegressor,
    BlockwiseTransformer,
    Ridge,
    StandardScaler,
    TransformedTarget,
    as_rows,
)
from metatensor.sklearn._affine import affine_map

Linear = sklearn.linear_model.LinearRegression
forest = sklearn.ensemble.RandomForestRegressor(n_estimators=5, random_state=0)
neighbors = sklearn.neighbors.KNeighborsRegressor(n_neighbors=2)


def two_blocks(rng, n_targets=1, components=0, linear=True):
    """X and y with two keys, and samples of y in another order."""
    keys = Labels(["center_type"], np.array([[1], [8]]))
    axes = [Labels.range("m", components)] if components else []
    sizes = (components,) if components else ()
    features, targets = [], []
    for n_samples, size in ((12, 2), (15, 3)):
        x = rng.normal(size=(n_samples, *sizes, size))
        values = x @ rng.normal(size=(size, n_targets))
        values = values if linear else np.sin(values)
        order = rng.permutation(n_samples)
        features.append(
            TensorBlock(x, Labels.range("system", n_samples), axes, Labels.range("n", size))
        )
        samples = Labels(["system"], order[:, None].astype(np.int32))
        targets.append(TensorBlock(values[order], samples, axes, Labels.range("e", n_targets)))
    return TensorMap(keys, features), TensorMap(keys, targets)


# ---- affine functions


@pytest.mark.parametrize(
    ("function", "is_affine"),
    [
        (lambda x: x @ np.arange(6.0).reshape(3, 2) + [1, -2], True),
        (lambda x: np.zeros((len(x), 1)), True),
        (lambda x: x[:, 0] - 1e6, True),
        (lambda x: 1e-3 * x[:, 1] - 1e6, True),
        (lambda x: 1e-3 * np.sign(x[:, 1]) - 1e6, False),
        (lambda x: x**2, False),
        (lambda x: np.abs(x), False),
        (lambda x: np.maximum(x, 0), False),
        (lambda x: np.clip(x, -1, 1), False),
        (lambda x: x[:, :1] * x[:, 1:2], False),
        (lambda x: np.full((len(x), 1), np.nan), False),
    ],
)
def test_affine_functions(function, is_affine):
    rows = np.random.default_rng(0).normal(size=(20, 3)) * [1, 100, 1e-3]
    found = affine_map(function, rows)
    assert (found is not None) == is_affine
    if found is not None:
        expected = function(rows).reshape(20, -1)
        np.testing.assert_allclose(rows @ found.matrix + found.shift, expected, atol=1e-8)


@pytest.mark.parametrize("function", [np.tanh, np.arcsinh, lambda x: x**3])
def test_odd_functions_of_one_row(function):
    """At 0, x and -x they are a line."""
    assert affine_map(function, np.array([[0.7, -2.0]])) is None


# ---- regressors


@pytest.mark.parametrize("estimator", [Linear(), neighbors, forest])
@pytest.mark.parametrize("n_targets", [1, 2])
def test_a_clone_for_each_block(estimator, n_targets):
    X, y = two_blocks(np.random.default_rng(0), n_targets, linear=False)
    model = BlockwiseRegressor(estimator).fit(X, y)
    prediction = model.predict(X)
    assert [*model.estimators_] == [*y.keys]
    for key, target in y.items():
        block = X[key]
        x = block.values[target.samples["system"]]
        values = target.values if n_targets > 1 else target.values[:, 0]
        alone = sklearn.base.clone(estimator).fit(x, values)
        expected = alone.predict(block.values).reshape(-1, n_targets)
        np.testing.assert_allclose(prediction[key].values, expected, rtol=1e-12)
        assert prediction[key].samples == block.samples
        assert prediction[key].properties == target.properties
    assert pickle.loads(pickle.dumps(model)).predict(X) == prediction


@pytest.mark.parametrize(
    "estimator",
    [
        Linear(),
        sklearn.linear_model.Lasso(1.0),
        sklearn.pipeline.make_pipeline(
            sklearn.preprocessing.StandardScaler(), sklearn.linear_model.Ridge()
        ),
    ],
)
def test_linear_regressors_have_gradients(features, y, estimator):
    model = BlockwiseRegressor(estimator).fit(features, y)
    prediction, block = model.predict(features).block(), features.block()
    (fitted,) = model.estimators_.values()
    matrix = fitted.predict(np.eye(16)) - fitted.predict(np.zeros((1, 16)))
    for name, gradient in prediction.gradients():
        expected = block.gradient(name).values @ matrix
        assert gradient.samples == block.gradient(name).samples
        np.testing.assert_allclose(gradient.values[..., 0], expected, rtol=1e-7, atol=1e-7)
    values = fitted.predict(block.values)
    np.testing.assert_allclose(prediction.values[:, 0], values, rtol=1e-12)


def test_others_refuse_gradients(features, y):
    with pytest.raises(ValueError, match="RandomForestRegressor is not linear.*Ridge"):
        BlockwiseRegressor(forest).fit(features, y)
    model = BlockwiseRegressor(forest, gradients="ignore").fit(features, y)
    assert model.predict(features).block().gradients_list() == []
    model = BlockwiseRegressor(forest).fit(features, remove_gradients(y))
    assert model.predict(features).block().gradients_list() == []
    with pytest.raises(ValueError, match="`gradients` must be"):
        BlockwiseRegressor(forest, gradients="drop").fit(features, y)


def test_components():
    X, y = two_blocks(np.random.default_rng(0), components=3)
    model = BlockwiseRegressor(Linear(fit_intercept=False)).fit(X, y)
    expected = Ridge(1e-13, fit_intercept=False).fit(X, y).predict(X)
    for block, other in zip(model.predict(X), expected):
        assert block.components == other.components
        np.testing.assert_allclose(block.values, other.values, rtol=1e-8, atol=1e-8)
    for estimator in (Linear(), neighbors):
        shifted = TensorMap(
            y.keys,
            [
                TensorBlock(block.values + 1, block.samples, block.components, block.properties)
                for block in y
            ],
        )
        with pytest.raises(ValueError, match=r"key \(center_type=1\) is not invariant"):
            BlockwiseRegressor(estimator).fit(X, shifted)


@pytest.mark.parametrize("key", [8, (8,), Labels(["center_type"], np.array([[8]])).entry(0)])
def test_regressors_for_some_keys(key):
    X, y = two_blocks(np.random.default_rng(0))
    model = BlockwiseRegressor(Linear(), per_key={key: neighbors}).fit(X, y)
    assert [type(part) for part in model.estimators_.values()] == [Linear, type(neighbors)]
    with pytest.raises(ValueError, match="`per_key` must have keys of y"):
        BlockwiseRegressor(Linear(), per_key={6: neighbors}).fit(X, y)


def test_weights():
    rng = np.random.default_rng(0)
    X, y = two_blocks(rng, components=2)
    X, y = as_rows(X, y, missing="drop")
    weights = rng.integers(0, 3, size=len(X)).astype(float)
    kept = np.flatnonzero(weights)
    estimator = sklearn.linear_model.Ridge(fit_intercept=False)
    model = BlockwiseRegressor(estimator).fit(X, y, sample_weight=weights)
    expected = BlockwiseRegressor(estimator).fit(X[kept], y[kept], sample_weight=weights[kept])
    for a, b in zip(model.predict(X).tensor, expected.predict(X).tensor):
        np.testing.assert_allclose(a.values, b.values, rtol=1e-10)
    with pytest.raises(ValueError, match="'estimator', KNeighborsRegressor, does not take"):
        BlockwiseRegressor(neighbors).fit(X, y, sample_weight=weights)
    with sklearn.config_context(enable_metadata_routing=True):
        estimator.set_fit_request(sample_weight=True)
        model.set_params(estimator=estimator).fit(X, y, sample_weight=weights)
    for a, b in zip(model.predict(X).tensor, expected.predict(X).tensor):
        np.testing.assert_allclose(a.values, b.values, rtol=1e-10)


def test_search(features, y):
    model = BlockwiseRegressor(sklearn.linear_model.Ridge(), gradients="ignore")
    X_rows, y_rows = as_rows(features, y)
    search = GridSearchCV(model, {"estimator__alpha": [1e-3, 1e5]}, cv=3).fit(X_rows, y_rows)
    assert search.best_params_["estimator__alpha"] in (1e-3, 1e5)
    assert search.best_estimator_.predict(X_rows).rows == X_rows.rows
    assert "Ridge" in model._repr_html_()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch(features, y, dtype):
    torch = pytest.importorskip("torch")
    X, y = (t.to(dtype=getattr(np, dtype)).to(arrays="torch") for t in (features, y))
    found = BlockwiseRegressor(sklearn.linear_model.Ridge()).fit(X, y).predict(X).block()
    assert found.values.dtype == found.gradient("strain").values.dtype == getattr(torch, dtype)
    scaler = BlockwiseTransformer(sklearn.preprocessing.StandardScaler())
    found = scaler.fit_transform(X).block()
    assert found.values.dtype == found.gradient("strain").values.dtype == getattr(torch, dtype)


# ---- transformers


@pytest.mark.parametrize("with_mean", [True, False])
def test_scaler_is_ours(X, make, with_mean):
    theirs = sklearn.preprocessing.StandardScaler(with_mean=with_mean)
    model, ours = BlockwiseTransformer(theirs).fit(X), StandardScaler(with_mean=with_mean).fit(X)
    permuted = make.permuted(X, np.random.default_rng(0))
    for tensor in (X, permuted):
        found, expected = model.transform(tensor), ours.transform(tensor)
        back = model.inverse_transform(found)
        for key, block in expected.items():
            assert found[key].properties == block.properties
            np.testing.assert_allclose(found[key].values, block.values, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(back[key].values, tensor[key].values, atol=1e-12)
            for name, gradient in block.gradients():
                other = found[key].gradient(name)
                assert other.samples == gradient.samples
                np.testing.assert_allclose(other.values, gradient.values, rtol=1e-8, atol=1e-10)
                np.testing.assert_allclose(
                    back[key].gradient(name).values, tensor[key].gradient(name).values, atol=1e-8
                )


def test_properties(features):
    pca = BlockwiseTransformer(sklearn.decomposition.PCA(2)).fit(features)
    block = pca.transform(features).block()
    assert block.properties == Labels.range("property", 2)
    (fitted,) = pca.estimators_.values()
    np.testing.assert_allclose(
        block.gradient("positions").values,
        features.block().gradient("positions").values @ fitted.components_.T,
        atol=1e-9,
    )
    assert list(pca.get_feature_names_out()) == ["property=0", "property=1"]
    values = features.block().values
    chosen = sklearn.feature_selection.VarianceThreshold(np.median(values.var(axis=0)))
    selected = BlockwiseTransformer(chosen).fit_transform(features).block()
    kept = np.flatnonzero(values.var(axis=0) > np.median(values.var(axis=0)))
    np.testing.assert_array_equal(
        selected.properties.values, features.block().properties.values[kept]
    )
    np.testing.assert_array_equal(selected.values, values[:, kept])


def test_nonlinear_transformers_refuse_gradients(features):
    model = BlockwiseTransformer(sklearn.preprocessing.PolynomialFeatures()).fit(features)
    with pytest.raises(ValueError, match="PolynomialFeatures is not linear"):
        model.transform(features)
    plain = remove_gradients(features)
    np.testing.assert_allclose(
        model.transform(plain).block().values,
        sklearn.preprocessing.PolynomialFeatures().fit_transform(plain.block().values),
    )
    assert not hasattr(model, "inverse_transform")


def test_transformers_refuse_components():
    X, _ = two_blocks(np.random.default_rng(0), components=3)
    with pytest.raises(ValueError, match="is not invariant to rotations.*KeysTransformer"):
        BlockwiseTransformer(sklearn.preprocessing.StandardScaler()).fit(X)


def test_targets_can_be_transformed(features, y):
    theirs = BlockwiseTransformer(sklearn.preprocessing.StandardScaler())
    found = TransformedTarget(Ridge(1e-2), theirs).fit(features, y).predict(features).block()
    ours = TransformedTarget(Ridge(1e-2), StandardScaler()).fit(features, y)
    expected = ours.predict(features).block()
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-8)
    np.testing.assert_allclose(
        found.gradient("positions").values, expected.gradient("positions").values, atol=1e-8
    )


def test_absent_blocks(X):
    model = BlockwiseTransformer(sklearn.preprocessing.StandardScaler()).fit(X)
    some = TensorMap(Labels(X.keys.names, X.keys.values[1:2]), [X.block_by_id(1).copy()])
    found, expected = model.transform(some).block(), model.transform(X).block_by_id(1)
    np.testing.assert_array_equal(found.values, expected.values)


# ---- what is no estimator, or loses samples


@pytest.mark.parametrize("make_step", [BlockwiseTransformer, BlockwiseRegressor])
@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (sklearn.linear_model.Ridge, "got the class Ridge"),
        (None, "got NoneType"),
        ("mean", "got str"),
        (sklearn.base.BaseEstimator(), "got sklearn.BaseEstimator"),
    ],
)
def test_what_is_no_estimator(features, y, make_step, estimator, message):
    with pytest.raises(TypeError, match=f"`estimator` must be an estimator.*{message}"):
        make_step(estimator).fit(features, y)


@pytest.mark.parametrize(
    ("per_key", "error", "message"),
    [
        ([sklearn.linear_model.Ridge()], TypeError, "`per_key` must be a dict of estimators"),
        ({"a": sklearn.linear_model.Ridge()}, ValueError, "must have keys of y"),
        ({0: sklearn.linear_model.Ridge}, TypeError, "estimator of `per_key` for 0 .*the class"),
    ],
)
def test_refused_regressors_of_keys(features, y, per_key, error, message):
    with pytest.raises(error, match=message):
        BlockwiseRegressor(sklearn.linear_model.Ridge(), per_key).fit(features, y)


class Shortened(sklearn.preprocessing.StandardScaler):
    def transform(self, X):
        return super().transform(X)[1:]


class ShortPredictions(sklearn.linear_model.Ridge):
    def predict(self, X):
        return super().predict(X)[1:]


def test_what_loses_samples(features, y):
    with pytest.raises(ValueError, match="Shortened.transform must give one row for each of the 1"):
        BlockwiseTransformer(Shortened()).fit_transform(features)
    model = BlockwiseRegressor(ShortPredictions(), gradients="ignore").fit(features, y)
    with pytest.raises(ValueError, match="ShortPredictions.predict must give .* 16 .* got 15"):
        model.predict(features)


def test_blocks_without_samples(features, y):
    none = as_rows(features)[0:0].tensor
    for step in (
        BlockwiseTransformer(sklearn.preprocessing.StandardScaler()),
        BlockwiseRegressor(sklearn.linear_model.Ridge()),
    ):
        with pytest.raises(ValueError, match="no samples to fit|at least one sample"):
            step.fit(none, as_rows(y)[0:0].tensor)
