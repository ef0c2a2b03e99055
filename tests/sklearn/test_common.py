"""The contract of estimators: scikit-learn's checks on arrays, our own on labelled data."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from metatensor import TensorBlock, TensorMap
from metatensor.sklearn import (
    PCA,
    CURSelector,
    FPSSelector,
    KeysToProperties,
    KeysToSamples,
    MeanOverSamples,
    Normalizer,
    PolynomialFeatures,
    Ridge,
    Rows,
    StandardScaler,
    SumOverSamples,
    VarianceThreshold,
    as_rows,
)

KEYS = ["center_type", "neighbor_type"]
ESTIMATORS = [
    KeysToProperties(KEYS),
    KeysToSamples(KEYS),
    KeysToSamples("neighbor_type", unknown="ignore"),
    SumOverSamples(),
    MeanOverSamples(),
    Normalizer(),
    StandardScaler(),
    StandardScaler(with_std="block"),
    VarianceThreshold(),
    VarianceThreshold(threshold=0.3),
    PCA(n_components=3),
    PCA(n_components=0.9, whiten=True, svd_solver="full"),
    FPSSelector(n_to_select=3),
    CURSelector(),
    PolynomialFeatures(),
    Ridge(alpha=1e-3),
    Ridge(alpha=1e-3, gradient_weights="balanced", solver="lstsq"),
]
LABELS_ONLY = (KeysToProperties, KeysToSamples, SumOverSamples, MeanOverSamples)
STATELESS = (SumOverSamples, MeanOverSamples, Normalizer)
by_name = pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)


@parametrize_with_checks(
    [
        Normalizer(),
        StandardScaler(),
        StandardScaler(with_std="block"),
        VarianceThreshold(),
        PCA(),
        PCA(whiten=True, svd_solver="full"),
        FPSSelector(),
        CURSelector(),
        PolynomialFeatures(),
        PolynomialFeatures(degree=3, include_bias=True, interaction_only=True),
        Ridge(),
        Ridge(alpha=0.1, alpha_type="relative", solver="svd"),
        Ridge(solver="lstsq"),
        Ridge(solver="dual"),
    ]
)
def test_scikit_learn_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


@pytest.fixture
def data(estimator, X, features, y):
    """X and y that an estimator can be fitted to."""
    return (X if isinstance(estimator, LABELS_ONLY) else features), y


def output(estimator, X):
    """The prediction, or what X becomes."""
    return estimator.predict(X) if hasattr(estimator, "predict") else estimator.transform(X)


def assert_close(first, second, rtol=1e-12):
    assert first.keys == second.keys
    for a, b in zip(first, second):
        assert a.samples == b.samples
        assert a.properties == b.properties
        np.testing.assert_allclose(a.values, b.values, rtol=rtol, atol=rtol)
        assert set(a.gradients_list()) == set(b.gradients_list())
        for name, gradient in a.gradients():
            assert gradient.samples == b.gradient(name).samples
            np.testing.assert_allclose(
                gradient.values, b.gradient(name).values, rtol=rtol, atol=rtol
            )


def read_only(tensor):
    def block_of(block):
        values = block.values.copy()
        values.flags.writeable = False
        result = TensorBlock(values, block.samples, block.components, block.properties)
        for name, gradient in block.gradients():
            result.add_gradient(name, block_of(gradient))
        return result

    return TensorMap(tensor.keys, [block_of(block) for block in tensor])


@by_name
def test_parameters(estimator):
    copied = clone(estimator)
    assert repr(copied) == repr(estimator)
    assert type(estimator)(**estimator.get_params()).get_params() == estimator.get_params()
    for name, value in estimator.get_params().items():
        assert getattr(estimator, name) is value
        assert getattr(copied.set_params(**{name: value}), name) is value


@by_name
def test_fit_is_for_ever_the_same(estimator, data):
    X, y = data
    first = clone(estimator)
    assert first.fit(X, y) is first
    expected = output(first, X)
    assert_close(output(first.fit(X, y), X), expected, rtol=0)
    if hasattr(estimator, "transform"):
        assert_close(clone(estimator).fit_transform(X, y), expected, rtol=0)


@by_name
def test_a_second_fit_forgets_the_first(estimator, data, make):
    X, y = data
    X_rows, y_rows = as_rows(X, y)
    estimator = clone(estimator).fit(X_rows[:9], y_rows[:9])
    assert_close(output(estimator.fit(X, y), X), output(clone(estimator).fit(X, y), X), rtol=0)
    if not isinstance(estimator, LABELS_ONLY):
        array = np.random.default_rng(0).normal(size=(8, 3))
        estimator.fit(array, array[:, 0])
        assert estimator.n_features_in_ == 3
        assert output(estimator, array).shape[0] == 8
        assert_close(output(estimator.fit(X, y), X), output(clone(estimator).fit(X, y), X), rtol=0)


@by_name
def test_pickles_and_copies(estimator, data):
    X, y = data
    fitted = clone(estimator).fit(X, y)
    expected = output(fitted, X)
    for again in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        assert_close(output(again, X), expected, rtol=0)


@by_name
def test_nothing_given_is_changed(estimator, data):
    X, y = data
    before = X.copy(), y.copy()
    output(clone(estimator).fit(X, y), X)
    assert (X, y) == before
    fitted = clone(estimator).fit(read_only(X), read_only(y))
    assert_close(output(fitted, read_only(X)), output(clone(estimator).fit(X, y), X), rtol=0)


@by_name
def test_rows_are_the_tensors_in_them(estimator, data):
    X, y = data
    X_rows, y_rows = as_rows(X, y)
    found = output(clone(estimator).fit(X_rows, y_rows), X_rows)
    assert isinstance(found, Rows)
    assert found.rows == X_rows.rows
    expected = output(clone(estimator).fit(X, y), X)
    for block, other in zip(found.tensor, expected):
        positions = [block.samples.position(sample) for sample in other.samples]
        np.testing.assert_allclose(block.values[positions], other.values, rtol=1e-12, atol=1e-12)


@by_name
def test_subsets_give_subsets(estimator, data):
    X, y = data
    X_rows, y_rows = as_rows(X, y)
    fitted = clone(estimator).fit(X_rows, y_rows)
    order = [7, 2, 11]
    subset = output(fitted, X_rows[order])
    whole = output(fitted, X_rows)
    assert_close(subset[:].tensor, whole[order].tensor)  # slices are in the order of the rows


@by_name
def test_order_of_blocks_and_samples_does_not_count(estimator, data, make):
    X, y = data
    rng = np.random.default_rng(0)
    fitted = clone(estimator).fit(make.permuted(X, rng), make.permuted(y, rng))
    X_rows = as_rows(X)
    expected = output(clone(estimator).fit(X, y), X_rows)
    found = output(fitted, X_rows)
    for key, block in expected.tensor.items():
        other = found.tensor.block(key)
        columns = [other.properties.position(entry) for entry in block.properties]
        np.testing.assert_allclose(other.values[..., columns], block.values, rtol=1e-9, atol=1e-9)


@by_name
def test_labels_of_features_are_remembered(estimator, data):
    X, y = data
    fitted = clone(estimator).fit(X, y)
    assert fitted.n_features_in_ == sum(len(block.properties) for block in X)
    assert fitted.feature_labels_in_ == {key: block.properties for key, block in X.items()}
    assert not hasattr(fitted, "feature_names_in_")


@by_name
def test_fit_comes_first(estimator, data):
    X, _ = data
    if isinstance(estimator, STATELESS):
        return  # has nothing to learn
    with pytest.raises(NotFittedError):
        output(clone(estimator), X)


@by_name
def test_notebooks_show_estimators(estimator, data):
    X, y = data
    assert type(estimator).__name__ in clone(estimator).fit(X, y)._repr_html_()


@by_name
def test_torch(estimator, data):
    pytest.importorskip("torch")
    X, y = data
    fitted = clone(estimator).fit(X.to(arrays="torch"), y.to(arrays="torch"))
    found = output(fitted, X.to(arrays="torch"))
    expected = output(clone(estimator).fit(X, y), X)
    assert_close(found.to(arrays="numpy"), expected)
