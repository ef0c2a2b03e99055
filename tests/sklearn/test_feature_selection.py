"""VarianceThreshold."""

import numpy as np
import pytest
import sklearn.feature_selection
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import Ridge, StandardScaler, VarianceThreshold, as_rows
from metatensor.testing import check_gradients

DEVIATIONS = np.array([3.0, 0.0, 0.01, 1.0, 0.0])


@pytest.fixture
def array():
    """Columns with these deviations, two of them constant and with rounding errors."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(50, 5)) * DEVIATIONS + [0.0, 0.1, 1e3, -2.0, 1e8 / 3]


@pytest.fixture
def blocks(make):
    """An invariant block, a vector, a pseudo-scalar; all three have a constant property."""
    rng = np.random.default_rng(1)
    samples, properties = Labels.range("system", 20), make.labels(["n"], [[4], [2], [7]])
    keys = make.labels(["o3_lambda", "o3_sigma"], [[0, 1], [1, 1], [0, -1]])
    parts = []
    for n_components in (1, 3, 1):
        components = [Labels.range("o3_mu", n_components)]
        values = rng.normal(size=(20, n_components, 3)) * [1.0, 0.0, 1e-2] + [5.0, 0.25, 0.0]
        block = TensorBlock(values, samples, components, properties)
        gradient = TensorBlock(
            rng.normal(size=(2, 2, n_components, 3)),
            make.labels(["sample"], [[3], [1]]),
            [Labels.range("xy", 2), *components],
            properties,
        )
        block.add_gradient("g", gradient)
        parts.append(block)
    return TensorMap(keys, parts)


# ---- arrays


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
@pytest.mark.parametrize("threshold", [0, 1e-5, 0.5, 2.0])
def test_arrays_give_what_scikit_learn_gives(array, threshold, dtype):
    array = array.astype(dtype)
    ours = VarianceThreshold(threshold)
    theirs = sklearn.feature_selection.VarianceThreshold(threshold).fit(array)
    found = ours.fit_transform(array)
    np.testing.assert_array_equal(found, theirs.transform(array))
    assert found.dtype == (np.float32 if dtype == np.float32 else np.float64)
    np.testing.assert_array_equal(ours.get_support(), theirs.get_support())
    np.testing.assert_array_equal(ours.support_, theirs.get_support())
    np.testing.assert_array_equal(ours.get_support(indices=True), theirs.get_support(True))
    assert ours.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()
    np.testing.assert_array_equal(ours.inverse_transform(found), theirs.inverse_transform(found))
    names = ["a", "b", "c", "d", "e"]
    expected = theirs.get_feature_names_out(names).tolist()
    assert ours.get_feature_names_out(names).tolist() == expected
    exact = array.astype(np.float64).var(axis=0) * (np.ptp(array, axis=0) > 0)
    np.testing.assert_allclose(ours.variances_, exact, rtol=1e-9)


def test_frames(array):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(array, columns=list("abcde"))
    step = VarianceThreshold(0.5).set_output(transform="pandas")
    pandas.testing.assert_frame_equal(step.fit_transform(frame), frame[["a", "d"]])


# ---- labelled data


def test_variance_or_mean_square_of_each_block(blocks):
    selector = VarianceThreshold().fit(blocks)
    values = [block.values for block in blocks]
    expected = [values[0][:, 0].var(axis=0), *((v**2).mean(axis=(0, 1)) for v in values[1:])]
    expected[0][1] = 0
    for variances, block, numbers in zip(selector.variances_, blocks, expected):
        assert variances.properties == block.properties
        np.testing.assert_allclose(variances.values, [numbers])
    assert selector.variances_.keys == blocks.keys
    # a constant has a mean square, and no variance
    kept = [labels.values.ravel().tolist() for labels in selector.support_.values()]
    assert kept == [[4, 7], [4, 2, 7], [4, 2, 7]]
    assert list(selector.support_) == list(blocks.keys)


def test_what_is_kept_is_kept_as_it_is(blocks):
    selector = VarianceThreshold(1e-2).fit(blocks)
    mask = [True, False, False, True, True, False, True, True, False]
    np.testing.assert_array_equal(selector.get_support(), mask)
    np.testing.assert_array_equal(selector.get_support(indices=True), np.flatnonzero(mask))
    selected = selector.transform(blocks)
    assert selected.keys == blocks.keys
    for block, before, kept in zip(selected, blocks, np.reshape(mask, (3, 3))):
        np.testing.assert_array_equal(block.properties.values, before.properties.values[kept])
        np.testing.assert_array_equal(block.values, before.values[..., kept])
        assert block.components == before.components
        gradient, whole = block.gradient("g"), before.gradient("g")
        np.testing.assert_array_equal(gradient.values, whole.values[..., kept])
        assert gradient.samples == whole.samples
        assert gradient.components == whole.components
    assert selector.get_feature_names_out().tolist() == [
        f"o3_lambda={degree}:o3_sigma={parity}:n={n}"
        for (degree, parity), n in [
            ((0, 1), 4),
            ((1, 1), 4),
            ((1, 1), 2),
            ((0, -1), 4),
            ((0, -1), 2),
        ]
    ]
    check_gradients(selector.transform, blocks)


def test_inverse_fills_in_zeros(blocks, make):
    selector = VarianceThreshold(1e-2).fit(blocks)
    selected = selector.transform(blocks)
    whole = selector.inverse_transform(selected)
    masks = selector.get_support().reshape(3, 3)
    for block, before, kept in zip(whole, blocks, masks):
        assert block.properties == before.properties
        np.testing.assert_array_equal(block.values, before.values * kept)
        expected = before.gradient("g").values * kept
        np.testing.assert_array_equal(block.gradient("g").values, expected)
    assert selector.transform(whole) == selected
    with pytest.raises(
        ValueError, match=r"\(o3_lambda=0, o3_sigma=1\) these are \(n=4\), got \(n=4\), \(n=2\)"
    ):
        selector.inverse_transform(blocks)
    other = TensorMap(make.labels(blocks.keys.names, [[7, 1]]), [selected.block_by_id(0)])
    with pytest.raises(ValueError, match="these are none, got"):
        selector.inverse_transform(other)
    with pytest.raises(ValueError, match="must have the 2 columns that `transform` gives, got 3"):
        VarianceThreshold().fit([[0, 1, 2], [0, 2, 4]]).inverse_transform([[1, 2, 3]])


def test_selection_does_not_change_with_rotations(blocks):
    rng = np.random.default_rng(2)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    vectors = blocks.block_by_id(1)
    turned = TensorBlock(
        np.einsum("ij,sjn->sin", rotation, vectors.values),
        vectors.samples,
        vectors.components,
        vectors.properties,
    )
    keys = Labels(blocks.keys.names, blocks.keys.values[1:2])
    first, second = (
        VarianceThreshold().fit(TensorMap(keys, [block])) for block in (vectors, turned)
    )
    np.testing.assert_allclose(
        first.variances_.block().values, second.variances_.block().values, rtol=1e-12
    )


def test_blocks_may_lose_all_properties(X, y, make):
    """They stay, and models can be fitted to what is left."""
    variances = np.concatenate([block.values.var(axis=0) for block in X])
    selector = VarianceThreshold(np.sort(variances)[-2]).fit(X)
    selected = selector.transform(X)
    assert selected.keys == X.keys
    assert sorted(len(block.properties) for block in selected) == [0, 0, 0, 1]
    scaled = StandardScaler().fit_transform(selected)
    assert [block.values.shape for block in scaled] == [b.values.shape for b in selected]
    assert selector.inverse_transform(selected).property_names == ["k"]


def test_pipelines_have_gradients(features, y):
    rows, target = as_rows(features, y)
    model = make_pipeline(VarianceThreshold(0.3), StandardScaler(), Ridge(alpha=1e-3))
    predicted = model.fit(rows, target).predict(rows)
    assert 0 < model[0].get_support().sum() < 16
    assert predicted.tensor.block().gradients_list() == ["positions", "strain"]
    check_gradients(model.predict, features)


def test_blocks_without_samples_have_no_variance(make):
    properties = Labels.range("n", 2)
    some = TensorBlock(np.array([[1.0, 2.0], [3.0, 2.0]]), Labels.range("s", 2), [], properties)
    none = TensorBlock(np.zeros((0, 2)), Labels.empty(["s"]), [], properties)
    X = TensorMap(make.labels(["a"], [[0], [1]]), [some, none])
    assert VarianceThreshold().fit(X).get_support().tolist() == [True, False, False, False]


def test_values_of_all_libraries(make, xp):
    values = np.array([[1.0, 2.0, 0.1], [1.0, 4.0, 0.1], [1.0, 0.0, 0.1]])
    block = TensorBlock(xp.asarray(values), Labels.range("s", 3), [], Labels.range("n", 3))
    selector = VarianceThreshold().fit(make.one_block(block))
    np.testing.assert_allclose(np.asarray(selector.variances_.block().values), [[0, 8 / 3, 0]])
    found = selector.transform(make.one_block(block)).block()
    np.testing.assert_array_equal(np.asarray(found.values), values[:, 1:2])
    assert type(found.values) is type(block.values)


def test_bad_input(X, array):
    with pytest.raises(ValueError, match="`threshold` must be finite and not negative, got -1"):
        VarianceThreshold(-1).fit(X)
    with pytest.raises(ValueError, match="no property of X has a variance above .*, 1000.0$"):
        VarianceThreshold(1000.0).fit(X)
    with pytest.raises(ValueError, match="X contains only one sample"):
        VarianceThreshold().fit(array[:1])
    broken = X.copy()
    broken.block_by_id(1).values[0, 1] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN or infinity, in the values"):
        VarianceThreshold().fit(broken)
    for method in ("get_support", "get_feature_names_out"):
        with pytest.raises(NotFittedError):
            getattr(VarianceThreshold(), method)()
