"""PolynomialFeatures against scikit-learn and finite differences."""

import itertools

import numpy as np
import pytest
import sklearn.preprocessing
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import PolynomialFeatures, Ridge, StandardScaler, as_rows
from metatensor.testing import check_gradients


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("include_bias", [False, True])
@pytest.mark.parametrize("interaction_only", [False, True])
@pytest.mark.parametrize("n_columns", [1, 2, 5])
def test_arrays_give_what_scikit_learn_gives(degree, include_bias, interaction_only, n_columns):
    array = np.random.default_rng(0).normal(size=(7, n_columns))
    options = {"include_bias": include_bias, "interaction_only": interaction_only}
    ours = PolynomialFeatures(degree, **options)
    theirs = sklearn.preprocessing.PolynomialFeatures(degree, **options).fit(array)
    np.testing.assert_allclose(ours.fit_transform(array), theirs.transform(array), rtol=1e-12)
    assert ours.n_output_features_ == theirs.n_output_features_
    assert ours.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()
    names = list("abcde")[:n_columns]
    expected = theirs.get_feature_names_out(names).tolist()
    assert ours.get_feature_names_out(names).tolist() == expected
    assert ours.fit_transform(array.astype(np.float32)).dtype == np.float32
    assert ours.fit_transform(np.ones((2, n_columns), dtype=int)).dtype == np.float64


def test_products_of_properties(X):
    step = PolynomialFeatures(3, include_bias=True).fit(X)
    result = step.transform(X)
    assert result.keys == X.keys
    for block, before in zip(result, X):
        assert block.properties.names == ["degree", "k_1", "k_2", "k_3"]
        where = {int(k): n for n, k in enumerate(before.properties.values[:, 0])}
        for column, (degree, *factors) in enumerate(block.properties.values.tolist()):
            assert factors[degree:] == [-1] * (3 - degree)
            expected = np.ones(len(before))
            for factor in factors[:degree]:
                expected = expected * before.values[:, where[factor]]
            np.testing.assert_allclose(block.values[:, column], expected, rtol=1e-12)
        n_products = sum(
            len(list(itertools.combinations_with_replacement(range(4), degree)))
            for degree in range(4)
        )
        assert len(block.properties) == n_products
    names = step.get_feature_names_out()
    assert len(names) == step.n_output_features_
    assert names[6] == "center_type=1:neighbor_type=1:degree=2:k_1=3:k_2=4:k_3=-1"


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("include_bias", [False, True])
def test_gradients_are_derivatives(X, degree, include_bias):
    step = PolynomialFeatures(degree, include_bias=include_bias).fit(X)
    check_gradients(step.transform, X)


def invariant_part(spherical):
    keys = Labels(spherical.keys.names, spherical.keys.values[:1])
    return TensorMap(keys, [spherical[0].copy()])


def test_component_axes_of_one_entry_stay(spherical):
    X = invariant_part(spherical)
    step = PolynomialFeatures().fit(X)
    result = step.transform(X)[0]
    assert result.components == X[0].components
    order = np.argsort(X[0].properties.values[:, 0])  # factors are sorted by their labels
    expected = PolynomialFeatures().fit_transform(X[0].values[:, 0, order])
    np.testing.assert_allclose(result.values[:, 0], expected)
    check_gradients(step.transform, X)


def test_blocks_that_rotate_are_refused(spherical):
    message = r"got the block with key \(o3_lambda=1, o3_sigma=1\)"
    with pytest.raises(ValueError, match=message):
        PolynomialFeatures().fit(spherical)


def test_torch(X):
    torch = pytest.importorskip("torch")
    tensors = X.to(arrays="torch")
    found = PolynomialFeatures(3).fit_transform(tensors)
    for block, other in zip(found, PolynomialFeatures(3).fit_transform(X)):
        assert isinstance(block.values, torch.Tensor)
        np.testing.assert_allclose(block.values.numpy(), other.values, rtol=1e-12)
        for name, gradient in block.gradients():
            expected = other.gradient(name).values
            np.testing.assert_allclose(gradient.values.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_blocks_with_little_in_them(make):
    keys = make.labels(["a"], [[0], [1], [2]])
    shapes = [(0, 2), (1, 2), (3, 0)]
    blocks = [
        TensorBlock(np.full(shape, 2.0), Labels.range("s", shape[0]), [], Labels.range("n", size))
        for shape, size in zip(shapes, (2, 2, 0))
    ]
    X = TensorMap(keys, blocks)
    result = PolynomialFeatures().fit_transform(X)
    assert [block.values.shape for block in result] == [(0, 5), (1, 5), (3, 0)]
    np.testing.assert_array_equal(result[1].values, [[2, 2, 4, 4, 4]])
    result = PolynomialFeatures(include_bias=True).fit_transform(X)
    np.testing.assert_array_equal(result[2].values, np.ones((3, 1)))
    part = TensorMap(make.labels(["a"], [[1]]), [blocks[1].copy()])
    assert PolynomialFeatures().fit(X).transform(part)[0].values.shape == (1, 5)


def test_tools_of_scikit_learn(features, y):
    rows, target = as_rows(features, y)
    model = make_pipeline(PolynomialFeatures(), StandardScaler(), Ridge(alpha=1e-2))
    search = GridSearchCV(model, {"polynomialfeatures__degree": [1, 2]}, cv=3).fit(rows, target)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    check_gradients(search.best_estimator_.predict, features)


def test_values_of_all_libraries(make, xp):
    values = np.random.default_rng(0).normal(size=(5, 3))
    samples, properties = Labels.range("s", 5), Labels.range("n", 3)
    X = make.one_block(TensorBlock(xp.asarray(values), samples, [], properties))
    found = PolynomialFeatures(include_bias=True).fit_transform(X).block().values
    assert type(found) is type(X.block().values)
    expected = PolynomialFeatures(include_bias=True).fit_transform(values)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12)


def test_bad_input(X):
    with pytest.raises(ValueError, match="`degree` must be from 1 on, got 0"):
        PolynomialFeatures(0).fit(X)
    with pytest.raises(TypeError, match="`degree` must be an int"):
        PolynomialFeatures(2.5).fit(X)
    with pytest.raises(NotFittedError):
        PolynomialFeatures().transform(X)
    with pytest.raises(NotFittedError):
        PolynomialFeatures().get_feature_names_out()
