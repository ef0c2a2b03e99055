"""Regressors made of others, against the same steps by hand."""

import pickle

import numpy as np
import pytest
import sklearn.compose
import sklearn.decomposition
import sklearn.dummy
import sklearn.linear_model
import sklearn.preprocessing
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import (
    AdditiveRegressor,
    BlockwiseTransformer,
    CompositionRegressor,
    DummyRegressor,
    KernelRidge,
    KeysToProperties,
    Normalizer,
    Ridge,
    Rows,
    StandardScaler,
    SumOverSamples,
    TransformedTarget,
    as_rows,
    get_scorer,
    rmse,
)

KEYS = ["center_type", "neighbor_type"]


def rest(alpha=1e-3, **parameters):
    return make_pipeline(
        KeysToProperties(KEYS), SumOverSamples(), Ridge(alpha, fit_intercept=False, **parameters)
    )


def potential(alpha=1e-3):
    return AdditiveRegressor([("atoms", CompositionRegressor()), ("rest", rest(alpha))])


def parts(tensor, name=None):
    blocks = tensor if name is None else [block.gradient(name) for block in tensor]
    return [block.values for block in blocks]


def assert_same(first, second, rtol=1e-10):
    for name in (None, *second.block_by_id(0).gradients_list()):
        for a, b in zip(parts(first, name), parts(second, name), strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


# ---- sums


def test_sum_is_that_by_hand(X, y, features):
    model = potential().fit(X, y)
    baseline = CompositionRegressor().fit(X, y)
    block, expected = y.block(), baseline.predict(X).block().values
    left = TensorBlock(block.values - expected, block.samples, [], block.properties)
    for name, gradient in block.gradients():  # a composition has no derivative
        left.add_gradient(name, gradient.copy())
    ridge = Ridge(1e-3, fit_intercept=False).fit(features, TensorMap(y.keys, [left]))
    np.testing.assert_allclose(
        model.named_regressors_.rest[-1].coef_.block().values,
        ridge.coef_.block().values,
        rtol=1e-10,
    )
    found, by_hand = model.predict(X).block(), ridge.predict(features).block()
    np.testing.assert_allclose(found.values, by_hand.values + expected, rtol=1e-12)
    assert found.gradients_list() == ["positions", "strain"]
    for name, gradient in found.gradients():
        assert gradient.samples == by_hand.gradient(name).samples
        np.testing.assert_allclose(gradient.values, by_hand.gradient(name).values, atol=1e-12)
    assert [type(part) for part in model.regressors_] == [CompositionRegressor, type(rest())]


def test_gradients_of_all_are_subtracted_and_added(features, y):
    """The second model is fitted to forces that the first leaves."""
    first, second = Ridge(10.0), Ridge(1e-3, fit_intercept=False)
    model = AdditiveRegressor([("first", first), ("second", second)]).fit(features, y)
    prediction = clone(first).fit(features, y).predict(features)
    block = y.block()
    left = TensorBlock(
        block.values - prediction.block().values, block.samples, [], block.properties
    )
    for name, gradient in block.gradients():
        given = prediction.block().gradient(name)
        values = gradient.values.copy()
        for row, sample in enumerate(gradient.samples):
            position = given.samples.position(sample)
            if position is not None:  # an atom that no feature depends on
                values[row] -= given.values[position]
        left.add_gradient(
            name,
            TensorBlock(values, gradient.samples, gradient.components, gradient.properties),
        )
    other = clone(second).fit(features, TensorMap(y.keys, [left]))
    np.testing.assert_allclose(
        model.regressors_[1].coef_.block().values, other.coef_.block().values, rtol=1e-9
    )
    found, expected = model.predict(features), other.predict(features)
    for name in (None, "positions", "strain"):
        (a,), (b,), (c,) = (parts(t, name) for t in (found, prediction, expected))
        np.testing.assert_allclose(a, b + c, atol=1e-11)


def test_gradients_are_those_of_energies(make, systems, X, y):
    """Finite differences of the predicted sum with respect to a position."""
    model = potential().fit(X, y)
    step, number, atom, axis = 1e-5, 3, 1, 2
    energies = []
    for sign in (1, -1):
        moved = make.systems(16)[number]
        moved.positions[atom, axis] += sign * step
        energies.append(model.predict(make.features([moved])).block().values[0, 0])
    gradient = model.predict(X).block().gradient("positions")
    row = gradient.samples.position((number, number, atom))
    slope = (energies[0] - energies[1]) / (2 * step)
    np.testing.assert_allclose(gradient.values[row, axis, 0], slope, rtol=1e-6)


def test_order_does_not_count(make, X, y):
    rng = np.random.default_rng(0)
    X_rows, y_rows = as_rows(X, y)
    expected = potential().fit(X, y).predict(X_rows).tensor
    found = potential().fit(make.permuted(X, rng), make.permuted(y, rng))
    assert_same(found.predict(X_rows).tensor, expected, rtol=1e-8)
    mixed = AdditiveRegressor(
        [("all", rest()), ("mean", DummyRegressor()), ("again", rest(1.0))]
    ).fit(X, y)
    assert_same(mixed.predict(as_rows(make.permuted(X, rng))).tensor, mixed.predict(X_rows).tensor)


def test_gradient_rows_are_united():
    """Of two predictions that have other rows, in another order of samples."""
    n, xyz = Labels.range("n", 1), Labels.range("xyz", 1)

    def one(samples, rows):
        samples = np.array(samples)[:, None]
        block = TensorBlock(samples * 1.0, Labels(["system"], samples), [], n)
        table = np.array([row[:2] for row in rows])
        values = np.array([row[2] for row in rows]).reshape(-1, 1, 1)
        labels = Labels(["sample", "atom"], table)
        block.add_gradient("positions", TensorBlock(values, labels, [xyz], n))
        return TensorMap(Labels.single(), [block])

    class Given(RegressorMixin, BaseEstimator):
        def __init__(self, prediction=None):
            self.prediction = prediction

        def fit(self, X, y):
            return self

        def predict(self, X):
            return self.prediction

    first = one([4, 7], [(0, 0, 1.0), (1, 3, 2.0)])
    second = one([7, 4], [(0, 2, 10.0), (1, 0, 20.0), (0, 3, 30.0)])
    y = one([4, 7], [(0, 0, 0.0)])
    model = AdditiveRegressor([("first", Given(first)), ("second", Given(second))]).fit(y, y)
    block = model.predict(y).block()
    np.testing.assert_array_equal(block.values.ravel(), [8.0, 14.0])
    found = {
        tuple(map(int, row)): float(value)
        for row, value in zip(
            block.gradient("positions").samples.values,
            block.gradient("positions").values.ravel(),
        )
    }
    assert found == {(0, 0): 21.0, (1, 3): 32.0, (1, 2): 10.0}


def test_rows_and_grid_search(X, y):
    X_rows, y_rows = as_rows(X, y)
    grid = {"rest__ridge__alpha": [1e-3, 1e3], "atoms__alpha": [0.0, 1e-6]}
    scoring = get_scorer("neg_rmse:positions")
    search = GridSearchCV(potential(), grid, cv=3, scoring=scoring).fit(X_rows, y_rows)
    assert search.best_params_["rest__ridge__alpha"] == 1e-3
    predicted = cross_val_predict(potential(), X_rows, y_rows, cv=3)
    assert isinstance(predicted, Rows)
    baseline = cross_val_predict(CompositionRegressor(), X_rows, y_rows, cv=3)
    with_forces, without = (rmse(y_rows, p, gradient="positions") for p in (predicted, baseline))
    assert with_forces < 0.8 * without


def test_parameters():
    model = potential()
    assert model.get_params()["rest__ridge__alpha"] == 1e-3
    model.set_params(rest__ridge__alpha=5.0, atoms="drop")
    assert model.regressors[0] == ("atoms", "drop")
    assert clone(model).regressors[1][1][-1].alpha == 5.0
    assert "CompositionRegressor" in repr(potential())
    assert "AdditiveRegressor" in potential()._repr_html_()
    with pytest.raises(NotFittedError):
        potential().predict(np.ones((2, 2)))


def test_one_can_be_left_out(features, y):
    model = AdditiveRegressor([("mean", "drop"), ("rest", Ridge(1e-3))]).fit(features, y)
    assert_same(model.predict(features), Ridge(1e-3).fit(features, y).predict(features))
    assert list(model.named_regressors_) == ["rest"]


@pytest.mark.parametrize(
    "make_model", [potential, lambda: TransformedTarget(rest(), StandardScaler(with_mean=False))]
)
def test_pickles_and_leaves_data_alone(X, y, make_model):
    before = X.copy(), y.copy()
    model = make_model().fit(X, y)
    expected = model.predict(X)
    assert (X, y) == before
    assert_same(pickle.loads(pickle.dumps(model)).predict(X), expected, rtol=0)
    assert model.n_features_in_ == 16
    assert model.feature_labels_in_ == {key: block.properties for key, block in X.items()}
    X_rows, y_rows = as_rows(X, y)
    half = make_model().fit(X_rows[:8], y_rows[:8])
    assert_same(half.fit(X, y).predict(X), expected, rtol=0)


@pytest.mark.parametrize("kind", ["sum", "target"])
def test_no_weight_is_no_system(X, y, kind):
    X_rows, y_rows = as_rows(X, y)
    weights = np.array([1.0, 0, 2, 1] * 4)
    kept = np.flatnonzero(weights)
    scaler = StandardScaler(with_mean=False)
    if kind == "target":  # the scale is that of all y, weighted or not
        scaler.set_params(with_std=False)
    model = potential() if kind == "sum" else TransformedTarget(rest(), scaler)
    found = clone(model).fit(X_rows, y_rows, sample_weight=weights).predict(X_rows)
    expected = clone(model).fit(X_rows[kept], y_rows[kept], sample_weight=weights[kept])
    assert_same(found.tensor, expected.predict(X_rows).tensor, rtol=1e-8)


def test_metadata_routing(X, y):
    X_rows, y_rows = as_rows(X, y)
    weights = np.array([1.0, 0, 2, 1] * 4)
    expected = potential().fit(X_rows, y_rows, sample_weight=weights).predict(X_rows).tensor
    with sklearn.config_context(enable_metadata_routing=True):
        composition = CompositionRegressor().set_fit_request(sample_weight=True)
        pipeline = rest()
        pipeline[-1].set_fit_request(sample_weight=True)
        model = AdditiveRegressor([("atoms", composition), ("rest", pipeline)])
        found = model.fit(X_rows, y_rows, sample_weight=weights).predict(X_rows).tensor
        target = TransformedTarget(pipeline, StandardScaler())
        target.fit(X_rows, y_rows, sample_weight=weights)
    assert_same(found, expected)


def test_missing_species(make, X, y):
    model = potential().fit(X, y)
    only_first = make.features(make.systems(1), [50])
    found = model.predict(only_first)

    np.testing.assert_allclose(
        found.block().values[0], model.predict(X).block().values[0], rtol=1e-12
    )


def test_torch(X, y):
    torch = pytest.importorskip("torch")
    expected = potential().fit(X, y).predict(X)
    X, y = X.to(arrays="torch"), y.to(arrays="torch")
    found = potential().fit(X, y).predict(X)
    assert isinstance(found.block().values, torch.Tensor)
    assert_same(found.to(arrays="numpy"), expected)
    scaled = TransformedTarget(rest(), StandardScaler()).fit(X, y).predict(X)
    assert isinstance(scaled.block().gradient("positions").values, torch.Tensor)


def test_targets_of_another_library(X, y):
    """The first prediction is a tensor of torch, which y is not."""
    pytest.importorskip("torch")
    expected = potential().fit(X, y).predict(X)
    X = X.to(arrays="torch")
    found = potential().fit(X, y).predict(X)
    assert_same(found.to(arrays="numpy"), expected)
    block = y.block()
    block = TensorBlock(np.round(block.values).astype(int), block.samples, [], block.properties)
    model = AdditiveRegressor([("mean", DummyRegressor()), ("rest", DummyRegressor())])
    model.fit(X, TensorMap(y.keys, [block]))
    rest = model.regressors_[1].constant_.block().values
    np.testing.assert_allclose(rest, 0, atol=1e-12)


class NoGradients(Ridge):
    def predict(self, X):
        block = super().predict(X).block()
        return TensorMap(
            Labels.single(),
            [TensorBlock(block.values, block.samples, block.components, block.properties)],
        )


def test_what_has_no_gradients_comes_last(features, y):
    model = AdditiveRegressor([("ridge", Ridge()), ("last", NoGradients(gradient_weights=0))])
    assert model.fit(features, y).predict(features).block().gradients_list() == []
    model = AdditiveRegressor([("first", NoGradients(gradient_weights=0)), ("ridge", Ridge())])
    with pytest.raises(ValueError, match="'first' has not.*put it last"):
        model.fit(features, y)


@pytest.mark.parametrize(
    ("regressors", "error", "message"),
    [
        ([], ValueError, "at least one"),
        ([("a", "drop")], ValueError, "at least one"),
        ([("a", Ridge()), ("a", Ridge())], ValueError, "not unique"),
        ([("a", Ridge)], TypeError, "must be an estimator"),
        ([("a", StandardScaler())], TypeError, "must be an estimator"),
        (Ridge(), TypeError, "list of"),
    ],
)
def test_refused_regressors(features, y, regressors, error, message):
    with pytest.raises(error, match=message):
        AdditiveRegressor(regressors).fit(features, y)


def test_refusals(X, y, features):
    model = AdditiveRegressor([("array", sklearn.linear_model.Ridge()), ("rest", Ridge())])
    rows = as_rows(features, y)
    with (
        pytest.warns(UserWarning, match="lost their gradients"),
        pytest.raises(TypeError, match="'array' must be labelled"),
    ):
        model.fit(*rows)
    knn = AdditiveRegressor([("mean", DummyRegressor()), ("gauss", NoWeights())])
    with pytest.raises(ValueError, match="'gauss', NoWeights, does not take `sample_weight`"):
        knn.fit(features, y, sample_weight=np.ones(16))
    with pytest.raises(ValueError, match="only with metadata routing"):
        potential().fit(X, y, groups=np.ones(16))


class NoWeights(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        return self

    def predict(self, X):
        return X


# ---- transformed targets


def test_targets_are_scaled_by_hand(features, y):
    block = y.block()
    mean, scale = block.values.mean(), block.values.std()
    scaled = TensorBlock((block.values - mean) / scale, block.samples, [], block.properties)
    for name, gradient in block.gradients():
        scaled.add_gradient(
            name,
            TensorBlock(
                gradient.values / scale, gradient.samples, gradient.components, block.properties
            ),
        )
    ridge = Ridge(1e-2).fit(features, TensorMap(y.keys, [scaled]))
    model = TransformedTarget(Ridge(1e-2), StandardScaler()).fit(features, y)
    np.testing.assert_allclose(
        model.regressor_.coef_.block().values, ridge.coef_.block().values, rtol=1e-9
    )
    found, expected = model.predict(features).block(), ridge.predict(features).block()
    np.testing.assert_allclose(found.values, scale * expected.values + mean, rtol=1e-10)
    for name, gradient in found.gradients():
        np.testing.assert_allclose(
            gradient.values, scale * expected.gradient(name).values, atol=1e-10
        )
    np.testing.assert_allclose(model.transformer_.scale_.block().values, scale)


def test_scikit_learn_drops_gradients(features, y):
    rows, targets = as_rows(features, y)
    theirs = sklearn.compose.TransformedTargetRegressor(
        Ridge(1e-2), transformer=sklearn.preprocessing.StandardScaler()
    )
    with pytest.warns(UserWarning, match="lost their gradients"):
        theirs.fit(rows, targets)
    assert isinstance(theirs.predict(rows), np.ndarray)
    ours = TransformedTarget(Ridge(1e-2), StandardScaler()).fit(rows, targets)
    assert ours.predict(rows).tensor.block().gradients_list() == ["positions", "strain"]
    assert rmse(targets, ours.predict(rows), gradient="positions") < 0.8 * rmse(
        targets, DummyRegressor().fit(rows, targets).predict(rows), gradient="positions"
    )
    energies = TransformedTarget(Ridge(1e-2, gradient_weights=0), StandardScaler())
    np.testing.assert_allclose(
        energies.fit(rows, targets).predict(rows).tensor.block().values,
        theirs.predict(rows),
        rtol=1e-8,
    )


def test_arrays_as_in_scikit_learn():
    rng = np.random.default_rng(0)
    array = rng.normal(size=(20, 3))
    for targets in (np.exp(array[:, 0]), np.exp(array[:, :2])):
        transformer = sklearn.preprocessing.PowerTransformer()
        ours = TransformedTarget(Ridge(), transformer).fit(array, targets).predict(array)
        theirs = sklearn.compose.TransformedTargetRegressor(
            sklearn.linear_model.Ridge(), transformer=transformer
        )
        np.testing.assert_allclose(ours, theirs.fit(array, targets).predict(array), rtol=1e-8)
        assert ours.shape == targets.shape


def test_nested_parameters(features, y):
    model = TransformedTarget(Ridge(), StandardScaler())
    search = GridSearchCV(
        model, {"regressor__alpha": [1e-3, 1e4], "transformer__with_mean": [True]}, cv=3
    )
    search.fit(*as_rows(features, y))
    assert search.best_params_["regressor__alpha"] == 1e-3
    assert "StandardScaler" in search.best_estimator_._repr_html_()


@pytest.mark.parametrize(
    ("regressor", "transformer", "message"),
    [
        (Ridge, StandardScaler(), "`regressor` must be an estimator with `fit` and `predict`"),
        (None, StandardScaler(), "`regressor` must be.*got NoneType"),
        (StandardScaler(), StandardScaler(), "`regressor` must be.*StandardScaler"),
        (Ridge(), StandardScaler, "`transformer` must be an estimator with .*got the class"),
        (Ridge(), None, "`transformer` must be"),
    ],
)
def test_what_is_no_estimator(features, y, regressor, transformer, message):
    with pytest.raises(TypeError, match=message):
        TransformedTarget(regressor, transformer).fit(features, y)


def test_refused_transformers(features, y):
    with pytest.raises(TypeError, match="`inverse_transform`, got"):
        TransformedTarget(Ridge(), Normalizer()).fit(features, y)
    rows = as_rows(features, y)
    with (
        pytest.warns(UserWarning, match="lost their gradients"),
        pytest.raises(TypeError, match="made numpy.ndarray of labelled y"),
    ):
        TransformedTarget(Ridge(), sklearn.preprocessing.StandardScaler()).fit(*rows)


# ---- standard deviations


@pytest.mark.parametrize(
    "make_last", [lambda: rest(compute_std=True), lambda: KernelRidge(1e-2, gradient_weights=0)]
)
def test_deviation_of_a_sum_is_that_of_the_last(X, y, make_last):
    model = AdditiveRegressor([("atoms", CompositionRegressor()), ("rest", make_last())])
    model.fit(X, y)
    for data in (X, as_rows(X, y)[0]):
        prediction, std = model.predict(data, return_std=True)
        assert type(std) is type(prediction) is type(data)
        _, expected = model.named_regressors_.rest.predict(data, return_std=True)
        assert_same(getattr(prediction, "tensor", prediction), model.predict(X))
        block, other = (getattr(part, "tensor", part).block() for part in (std, expected))
        assert block.samples == getattr(prediction, "tensor", prediction).block().samples
        assert block.gradients_list() == []
        np.testing.assert_array_equal(np.sort(block.values, 0), np.sort(other.values, 0))


@pytest.mark.parametrize(
    "transformer",
    [
        StandardScaler(),
        StandardScaler(with_mean=False),
        make_pipeline(StandardScaler(), StandardScaler(with_std=False)),
        BlockwiseTransformer(sklearn.preprocessing.MinMaxScaler((-5, 5))),
    ],
    ids=repr,
)
def test_deviations_are_scaled_as_values(X, y, transformer):
    """By the slope of what is transformed back, found here from two numbers."""
    regressor = AdditiveRegressor(
        [("atoms", CompositionRegressor()), ("rest", rest(compute_std=True))]
    )
    model = TransformedTarget(regressor, transformer).fit(X, y)
    prediction, std = model.predict(X, return_std=True)
    inner, expected = model.regressor_.predict(X, return_std=True)
    outer = prediction.block().values.ravel()
    slope = np.ptp(outer) / np.ptp(inner.block().values)
    np.testing.assert_allclose(std.block().values, slope * expected.block().values, rtol=1e-10)
    assert std.block().samples == prediction.block().samples
    assert std.block().properties == y.block().properties
    assert prediction.block().gradients_list() == ["positions", "strain"]
    assert std.block().gradients_list() == []


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(30,), (30, 1), (30, 2)])
def test_deviations_of_arrays(shape, dtype):
    rng = np.random.default_rng(0)
    array = rng.normal(size=(30, 3)).astype(dtype)
    targets = (rng.normal(size=(30, 2)) * [3.0, 500.0] + 1e4)[:, : shape[-1] if shape[1:] else 1]
    targets = targets.reshape(shape).astype(dtype)
    for scaler in (StandardScaler(), sklearn.preprocessing.StandardScaler()):
        model = TransformedTarget(Ridge(compute_std=True), scaler).fit(array, targets)
        prediction, std = model.predict(array, return_std=True)
        assert prediction.shape == std.shape == shape
        assert std.dtype == dtype
        _, expected = model.regressor_.predict(array, return_std=True)
        np.testing.assert_allclose(std, expected * targets.std(axis=0), rtol=1e-4)
        total = AdditiveRegressor([("mean", DummyRegressor()), ("rest", model)])
        assert total.fit(array, targets).predict(array, return_std=True)[1].shape == shape


NOT_SCALES = {
    "curve": sklearn.preprocessing.FunctionTransformer(np.arcsinh, np.sinh),
    "fold": sklearn.preprocessing.FunctionTransformer(None, np.abs, check_inverse=False),
    "steps": sklearn.preprocessing.QuantileTransformer(n_quantiles=5),
    "mixture": sklearn.decomposition.PCA(),
}


@pytest.mark.parametrize("name", NOT_SCALES)
def test_deviations_need_scales(name):
    array = np.random.default_rng(0).normal(size=(30, 2))
    model = TransformedTarget(Ridge(compute_std=True), NOT_SCALES[name]).fit(array, array)
    with pytest.raises(ValueError, match="transformer that scales and shifts each property"):
        model.predict(array, return_std=True)


def test_regressors_without_deviations(X, y):
    for model in (
        AdditiveRegressor([("rest", rest(compute_std=True)), ("atoms", CompositionRegressor())]),
        TransformedTarget(CompositionRegressor(), StandardScaler()),
    ):
        with pytest.raises(ValueError, match="CompositionRegressor.predict has no `return_std`"):
            model.fit(X, y).predict(X, return_std=True)
    with pytest.raises(ValueError, match="compute_std=True"):
        potential().fit(X, y).predict(X, return_std=True)


def test_deviations_through_pipelines(X, y):
    model = AdditiveRegressor([("rest", rest(compute_std=True))]).fit(X, y)
    _, expected = model.predict(X, return_std=True)
    _, std = make_pipeline("passthrough", model).predict(X, return_std=True)
    assert_same(std, expected)
    with sklearn.config_context(enable_metadata_routing=True):
        asking = rest(compute_std=True)
        asking[-1].set_predict_request(return_std=True)
        for inner in (
            AdditiveRegressor([("rest", asking)]),
            TransformedTarget(asking, StandardScaler(with_mean=False, with_std=False)),
        ):
            fitted = make_pipeline("passthrough", inner).fit(X, y)
            _, std = fitted.predict(X, return_std=True)
            np.testing.assert_allclose(std.block().values, expected.block().values, rtol=1e-8)
