"""PCA against scikit-learn and plain numpy."""

import pickle

import numpy as np
import pytest
import sklearn.decomposition
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union

import metatensor
from metatensor import Labels, TensorBlock, TensorMap, o3
from metatensor.sklearn import PCA, FPSSelector, Ridge, Rows, as_rows, make_scorer, rmse
from metatensor.testing import check_gradients

SOLVERS = ["covariance_eigh", "full"]


@pytest.fixture
def array():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 6)) * [5, 3, 2, 1, 0.5, 0.1] @ rng.normal(size=(6, 6)) + 3


def reference(block, centered):
    """Mean, directions (rows, of any sign) and sums of squares of one block."""
    rows = block.values.reshape(-1, len(block.properties))
    mean = rows.mean(axis=0) if centered else np.zeros(rows.shape[1])
    _, singular, directions = np.linalg.svd(rows - mean, full_matrices=False)
    return mean, directions, singular


# ---- arrays


@pytest.mark.parametrize("svd_solver", SOLVERS)
@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("n_components", [None, 3, 0.9])
@pytest.mark.parametrize("shape", [(40, 6), (4, 6)])
def test_arrays_give_what_scikit_learn_gives(array, n_components, whiten, svd_solver, shape):
    array = array[: shape[0]]
    if shape[0] < shape[1] and n_components is None:
        n_components = 3  # there is no variance along the fourth direction, which is any
    ours = PCA(n_components, whiten=whiten, svd_solver=svd_solver)
    theirs = sklearn.decomposition.PCA(n_components, whiten=whiten, svd_solver="full").fit(array)
    found = ours.fit_transform(array)
    np.testing.assert_allclose(found, theirs.transform(array), rtol=1e-10, atol=1e-10)
    for name in (
        "components_",
        "mean_",
        "explained_variance_",
        "explained_variance_ratio_",
        "singular_values_",
        "n_components_",
    ):
        expected = getattr(theirs, name)
        np.testing.assert_allclose(getattr(ours, name), expected, rtol=1e-10, atol=1e-12)
    assert ours.n_samples_seen_ == len(array)
    expected = theirs.inverse_transform(found)
    np.testing.assert_allclose(ours.inverse_transform(found), expected, rtol=1e-10, atol=1e-10)
    assert ours.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()


def test_single_precision_is_summed_up_in_double(array):
    single = (array + 1e3).astype(np.float32)
    found = PCA(3).fit_transform(single)
    assert found.dtype == np.float32
    expected = PCA(3, svd_solver="full").fit_transform(single.astype(np.float64))
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert PCA().fit_transform(np.arange(6).reshape(3, 2)).dtype == np.float64


def test_small_variances_need_the_full_solver():
    rng = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    array = rng.normal(size=(60, 4)) * [1, 1e-3, 1e-6, 1e-10] @ rotation
    expected = np.linalg.svd(array - array.mean(axis=0), compute_uv=False)
    found = PCA(svd_solver="full").fit(array).singular_values_
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    found = PCA().fit(array).singular_values_
    np.testing.assert_allclose(found, expected[:3], rtol=1e-3)


def test_directions_without_variance_are_left_out_unless_asked_for(array):
    flat = np.concatenate([array, array[:, :2] - array[:, 3:5]], axis=1)
    for svd_solver in SOLVERS:
        assert PCA(svd_solver=svd_solver).fit_transform(flat).shape == (40, 6)
        found = PCA(8, whiten=True, svd_solver=svd_solver).fit_transform(flat)
        np.testing.assert_array_equal(found[:, 6:], np.zeros((40, 2)))
        np.testing.assert_allclose(found[:, :6].std(axis=0, ddof=1), 1)
    assert PCA().fit_transform(np.ones((5, 3))).tolist() == [[0.0]] * 5


def test_frames(array):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(array, columns=list("abcdef"))
    found = PCA(2).set_output(transform="pandas").fit_transform(frame)
    assert found.columns.tolist() == ["pca0", "pca1"]


# ---- labelled data


@pytest.mark.parametrize("svd_solver", SOLVERS)
def test_each_block_has_its_own_directions(spherical, svd_solver):
    pca = PCA(svd_solver=svd_solver).fit(spherical)
    projected = pca.transform(spherical)
    assert projected.keys == spherical.keys
    for number, (key, block) in enumerate(spherical.items()):
        centered = key["o3_lambda"] == 0
        mean, directions, singular = reference(block, centered)
        np.testing.assert_allclose(pca.mean_.block(key).values, [mean], atol=1e-12)
        components = pca.components_.block(key)
        assert components.properties == block.properties
        assert components.samples == Labels.range("component", 4)
        largest = np.abs(components.values).max(axis=1)
        assert (components.values.max(axis=1) == largest).all()
        signs = np.sign((components.values * directions).sum(axis=1))
        np.testing.assert_allclose(components.values, signs[:, None] * directions, atol=1e-10)
        np.testing.assert_allclose(pca.singular_values_.block(key).values, [singular], rtol=1e-9)
        n_rows = block.values.size // 4
        variance = singular**2 / (n_rows - centered)
        np.testing.assert_allclose(pca.explained_variance_.block(key).values, [variance])
        ratio = pca.explained_variance_ratio_.block(key)
        np.testing.assert_allclose(ratio.values, [variance / variance.sum()])
        assert ratio.properties == Labels.range("component", 4)
        assert pca.n_samples_seen_[number] == n_rows
        assert pca.n_components_[key] == 4
        values = (block.values - mean) @ components.values.T
        np.testing.assert_allclose(projected.block(key).values, values, atol=1e-12)
        assert projected.block(key).components == block.components
        gradient = block.gradient("positions").values @ components.values.T
        found = projected.block(key).gradient("positions").values
        np.testing.assert_allclose(found, gradient, atol=1e-12)
    assert pca.get_feature_names_out()[5] == "o3_lambda=1:o3_sigma=1:component=1"


@pytest.mark.parametrize("whiten", [False, True])
def test_gradients_are_derivatives(spherical, whiten):
    pca = PCA(3, whiten=whiten).fit(spherical)
    check_gradients(pca.transform, spherical)
    check_gradients(pca.inverse_transform, pca.transform(spherical))


@pytest.mark.parametrize("whiten", [False, True])
def test_inverse_is_the_inverse(spherical, whiten, make):
    pca = PCA(whiten=whiten).fit(spherical)
    shuffled = make.permuted(pca.transform(spherical), np.random.default_rng(0))
    for tensor in (pca.transform(spherical), shuffled):
        restored = pca.inverse_transform(tensor)
        for key, block in restored.items():
            before = spherical.block(key)
            positions = [before.samples.position(sample) for sample in block.samples]
            np.testing.assert_allclose(block.values, before.values[positions], atol=1e-10)
            assert block.properties == before.properties
            assert block.gradients_list() == ["positions"]


@pytest.mark.parametrize("improper", [1, -1])
def test_rotations_commute(spherical, rotation, improper):
    rotated = o3.rotate(spherical, improper * rotation)
    pca = PCA(3, whiten=True).fit(spherical)
    expected = o3.rotate(pca.transform(spherical), improper * rotation)
    for fitted in (pca, PCA(3, whiten=True).fit(rotated)):
        for block, other in zip(fitted.transform(rotated), expected):
            np.testing.assert_allclose(block.values, other.values, atol=1e-10)
            gradient, other = block.gradient("positions"), other.gradient("positions")
            np.testing.assert_allclose(gradient.values, other.values, atol=1e-10)


@pytest.mark.parametrize("svd_solver", SOLVERS)
def test_batches_give_what_all_data_give(X, svd_solver):
    rows = as_rows(X)
    pca = PCA(0.9, svd_solver=svd_solver)
    for part in (rows[:1], rows[1:7], rows[7:]):  # the first one lacks most types
        pca.partial_fit(part)
    whole = PCA(0.9, svd_solver=svd_solver).fit(rows)
    for name in ("mean_", "explained_variance_", "components_"):
        for block, other in zip(getattr(pca, name), getattr(whole, name)):
            np.testing.assert_allclose(block.values, other.values, rtol=1e-12, atol=1e-12)
    assert pca.n_components_ == whole.n_components_
    assert pickle.loads(pickle.dumps(pca)).partial_fit(rows).n_samples_seen_.sum() == 2 * sum(
        len(block) for block in X
    )
    few = PCA(3).partial_fit(rows.tensor[0].values[:2])
    assert few.n_components_ == 2
    assert few.partial_fit(rows.tensor[0].values).n_components_ == 3


def test_numbers_of_directions(spherical):
    n = dict(zip(spherical.keys, (1, 2, 0.5, None)))
    found = PCA(n).fit(spherical).n_components_
    ratio = PCA().fit(spherical).explained_variance_ratio_.block_by_id(2).values[0]
    half = 1 + int((ratio.cumsum() <= 0.5).sum())
    assert list(found.values()) == [1, 2, half, 4]
    by_tuples = {tuple(int(part) for part in key): value for key, value in n.items()}
    assert PCA(by_tuples).fit(spherical).n_components_ == found


@pytest.mark.parametrize(
    ("n_components", "message"),
    [
        (5, "`n_components` must be between 1 and the number of components, 4"),
        (0, "`n_components` must be between 1 and"),
        (1.5, "must be an int, a fraction of the variance between 0 and 1"),
        (True, "must be an int, a fraction"),
        ("mle", "must be an int, a fraction"),
        ({(0, 1): 2}, r"must have an entry for each key of X, \(o3_lambda=0, o3_sigma=1\),"),
    ],
)
def test_impossible_numbers(spherical, n_components, message):
    with pytest.raises(ValueError, match=message):
        PCA(n_components).fit(spherical)


def test_blocks_with_little_in_them(make):
    keys = make.labels(["a"], [[0], [1], [2], [3]])
    shapes = [(5, 3), (0, 3), (1, 3), (4, 0)]
    rng = np.random.default_rng(0)
    blocks = [
        TensorBlock(
            rng.normal(size=shape), Labels.range("s", shape[0]), [], Labels.range("n", shape[1])
        )
        for shape in shapes
    ]
    X = TensorMap(keys, blocks)
    for whiten in (False, True):
        for n_components, expected in [(None, [3, 0, 1, 0]), (2, [2, 0, 1, 0])]:
            pca = PCA(n_components, whiten=whiten).fit(X)
            assert list(pca.n_components_.values()) == expected
            projected = pca.transform(X)
            assert [block.values.shape[1] for block in projected] == expected
            np.testing.assert_array_equal(projected[2].values, [[0.0]])
            restored = pca.inverse_transform(projected)
            np.testing.assert_allclose(restored[2].values, X[2].values)
    assert list(PCA(0.99).fit(X).n_components_.values())[1:] == [0, 1, 0]


def test_blocks_may_be_absent(spherical):
    pca = PCA(2).fit(spherical)
    part = TensorMap(
        Labels(spherical.keys.names, spherical.keys.values[1:2]), [spherical[1].copy()]
    )
    np.testing.assert_array_equal(pca.transform(part)[0].values, pca.transform(spherical)[1].values)


def test_torch(spherical):
    torch = pytest.importorskip("torch")
    pca = PCA(2).fit(spherical.to(arrays="torch"))
    found, expected = pca.transform(spherical.to(arrays="torch")), PCA(2).fit_transform(spherical)
    for block, other in zip(found, expected):
        assert isinstance(block.values, torch.Tensor)
        np.testing.assert_allclose(block.values.numpy(), other.values, atol=1e-12)
    assert isinstance(pca.components_[0].values, torch.Tensor)
    single = spherical.to(arrays="torch", dtype=torch.float32)
    assert pca.transform(single)[1].values.dtype == torch.float32
    assert pca.transform(single)[1].gradient("positions").values.dtype == torch.float32


def test_tools_of_scikit_learn(features, y):
    rows, target = as_rows(features, y)
    union = make_union(PCA(2), FPSSelector(3))
    joined = union.fit_transform(rows)
    assert isinstance(joined, Rows)
    assert joined.shape == (len(rows), 5)
    model = make_pipeline(PCA(), Ridge(alpha=1e-3))
    search = GridSearchCV(
        model,
        {"pca__n_components": [1, 4, 0.999]},
        cv=3,
        scoring=make_scorer(rmse, greater_is_better=False),
    ).fit(rows, target)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    check_gradients(search.predict, features)


@pytest.mark.parametrize("svd_solver", SOLVERS)
def test_values_of_all_libraries(make, xp, array, svd_solver):
    def one_block(values):
        samples, properties = Labels.range("s", len(array)), Labels.range("n", array.shape[1])
        return make.one_block(TensorBlock(values, samples, [], properties))

    X = one_block(xp.asarray(array))
    pca = PCA(2, whiten=True, svd_solver=svd_solver).fit(X)
    found = pca.transform(X).block().values
    assert type(found) is type(X.block().values)
    expected = PCA(2, whiten=True).fit_transform(one_block(array)).block().values
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-10)
    restored = pca.inverse_transform(pca.transform(X)).block().values
    assert type(restored) is type(X.block().values)


def test_bad_input(spherical, array):
    with pytest.raises(ValueError, match="`svd_solver` must be 'auto', .* got 'arpack'"):
        PCA(svd_solver="arpack").fit(array)
    with pytest.raises(NotFittedError):
        PCA().inverse_transform(array)
    pca = PCA(2).fit(spherical)
    with pytest.raises(ValueError, match=r"must have the properties that `transform` gives"):
        pca.inverse_transform(spherical)
    with pytest.raises(ValueError, match="must have the 6 columns that `transform` gives, got 2"):
        PCA().fit(array).inverse_transform(array[:, :2])
    broken = spherical.copy()
    broken[0].values[0] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        PCA().fit(broken)


@pytest.mark.parametrize("svd_solver", SOLVERS)
def test_refused_batches_do_not_count(features, svd_solver):
    model = PCA(3, svd_solver=svd_solver).fit(features)
    variance = model.explained_variance_.block().values
    with pytest.raises(ValueError, match="`n_components` must be between 1 and"):
        model.set_params(n_components=99).partial_fit(features)
    nothing = metatensor.slice(features, "samples", Labels.empty(["system"]))
    model.set_params(n_components=3).partial_fit(nothing)
    np.testing.assert_allclose(model.explained_variance_.block().values, variance, rtol=1e-12)
    assert model.n_samples_seen_.tolist() == [16]
