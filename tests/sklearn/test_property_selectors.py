"""FPSSelector and CURSelector against selections that are written out."""

import pickle

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from metatensor import Labels, TensorBlock, TensorMap, o3
from metatensor.sklearn import CURSelector, FPSSelector, Ridge, StandardScaler, as_rows
from metatensor.testing import check_gradients

BOTH = pytest.mark.parametrize("selector", [FPSSelector, CURSelector])


@pytest.fixture
def array():
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 8)) * rng.uniform(0.1, 3, size=8) + rng.normal(size=8)


def fps(columns, n, first):
    """Chosen columns, and the distance of each to the nearest one before."""
    chosen, scores = [first], [np.inf]
    while len(chosen) < n:
        near = [min(np.linalg.norm(x - columns[c]) for c in chosen) for x in columns]
        chosen.append(int(np.argmax(near)))
        scores.append(max(near))
    return chosen, scores


def cur(columns, n):
    """Chosen columns, and their leverages."""
    matrix, chosen, scores = np.array(columns), [], []
    while len(chosen) < n:
        u, _, _ = np.linalg.svd(matrix, full_matrices=False)
        chosen.append(int(np.argmax(u[:, 0] ** 2)))
        scores.append(max(u[:, 0] ** 2))
        direction = matrix[chosen[-1]] / np.linalg.norm(matrix[chosen[-1]])
        matrix -= np.outer(matrix @ direction, direction)
    return chosen, scores


def reference(selector, block, n):
    columns = block.values.reshape(-1, len(block.properties)).T
    first = int(np.argmax((columns**2).sum(axis=1)))
    return fps(columns, n, first) if selector is FPSSelector else cur(columns, n)


@BOTH
@pytest.mark.parametrize("n", [1, 3, 8])
@pytest.mark.parametrize("n_samples", [30, 9])
def test_arrays(selector, array, n, n_samples):
    array = array[:n_samples]
    fitted = selector(n_to_select=n).fit(array)
    block = TensorBlock(array, Labels.range("s", n_samples), [], Labels.range("n", 8))
    chosen, scores = reference(selector, block, n)
    assert fitted.order_.tolist() == chosen
    np.testing.assert_allclose(fitted.scores_, scores, rtol=1e-8)
    assert fitted.get_support(indices=True).tolist() == sorted(chosen)
    assert fitted.support_.dtype == bool
    found = fitted.transform(array)
    np.testing.assert_array_equal(found, array[:, sorted(chosen)])
    assert fitted.get_feature_names_out().tolist() == [f"x{n}" for n in sorted(chosen)]
    restored = fitted.inverse_transform(found)
    np.testing.assert_array_equal(restored, array * fitted.get_support())
    assert selector(2).fit_transform(array.astype(np.float32)).dtype == np.float32


@BOTH
def test_blocks(selector, spherical):
    fitted = selector(n_to_select=3).fit(spherical)
    selected = fitted.transform(spherical)
    for key, block in spherical.items():
        chosen, scores = reference(selector, block, 3)
        kept = sorted(chosen)
        table = block.properties.values
        np.testing.assert_array_equal(fitted.order_[key].values, table[chosen])
        np.testing.assert_array_equal(fitted.support_[key].values, table[kept])
        assert fitted.scores_.block(key).properties == fitted.order_[key]
        np.testing.assert_allclose(fitted.scores_.block(key).values, [scores], rtol=1e-8)
        found = selected.block(key)
        np.testing.assert_array_equal(found.values, block.values[..., kept])
        expected = block.gradient("positions").values[..., kept]
        np.testing.assert_array_equal(found.gradient("positions").values, expected)
        assert found.properties == fitted.support_[key]
    check_gradients(fitted.transform, spherical)
    restored = fitted.inverse_transform(selected)
    assert fitted.transform(restored) == selected
    again = pickle.loads(pickle.dumps(fitted))
    assert again.transform(spherical) == selected
    assert again.scores_ == fitted.scores_


@BOTH
def test_selection_does_not_change_with_rotations(selector, spherical, rotation):
    rotated = o3.rotate(spherical, -rotation)
    first, second = (selector(3).fit(tensor) for tensor in (spherical, rotated))
    assert first.order_ == second.order_
    for block, other in zip(first.scores_, second.scores_):
        np.testing.assert_allclose(block.values, other.values, rtol=1e-9)


@BOTH
def test_torch(selector, spherical):
    torch = pytest.importorskip("torch")
    tensors = spherical.to(arrays="torch")
    fitted, expected = selector(3).fit(tensors), selector(3).fit(spherical)
    for block, other in zip(fitted.scores_, expected.scores_):
        assert isinstance(block.values, torch.Tensor)
        np.testing.assert_allclose(block.values.numpy(), other.values, rtol=1e-12)
    found = fitted.transform(tensors)
    for block, other in zip(found, expected.transform(spherical)):
        np.testing.assert_array_equal(block.values.numpy(), other.values)


@pytest.mark.parametrize(
    ("n_to_select", "expected"),
    [
        (None, [2, 1, 0, 0]),
        (3, [3, 2, 0, 1]),
        (0.75, [3, 1, 0, 1]),
        (0.01, [1, 1, 0, 1]),
        (1.0, [5, 2, 0, 1]),
        ({(0,): 4, (1,): 0.5, (2,): 0, (3,): None}, [4, 1, 0, 1]),
    ],
)
@BOTH
def test_numbers_of_properties(selector, make, n_to_select, expected):
    rng = np.random.default_rng(0)
    keys, samples = make.labels(["a"], [[0], [1], [2], [3]]), Labels.range("s", 10)
    blocks = [
        TensorBlock(rng.normal(size=(10, size)), samples, [], Labels.range("n", size))
        for size in (5, 2, 0, 1)
    ]
    selected = selector(n_to_select).fit_transform(TensorMap(keys, blocks))
    if n_to_select is None:
        expected = [2, 1, 0, 1]  # at least one of what there is
    assert [len(block.properties) for block in selected] == expected


def test_where_farthest_points_start(array, spherical):
    assert FPSSelector(3, initialize=5).fit(array).order_[0] == 5
    orders = [
        FPSSelector(3, initialize="random", random_state=seed).fit(array).order_.tolist()
        for seed in (0, 0, 1, 2, 3)
    ]
    assert orders[0] == orders[1]
    assert len({order[0] for order in orders}) > 1
    longest = np.argmax((array**2).sum(axis=0))
    assert FPSSelector().fit(array).order_[0] == longest
    first = FPSSelector(1, initialize=2).fit_transform(spherical)
    assert [block.properties.values.tolist() for block in first] == [[[3]]] * 4


def test_copies_are_not_chosen(array):
    twice = np.concatenate([array, array], axis=1)
    for selector in (FPSSelector, CURSelector):
        chosen = selector(16).fit(twice).get_support(indices=True)
        assert len(chosen) == 8
        assert sorted(chosen % 8) == list(range(8))
        assert chosen.max() < 8  # ties go to the first


@BOTH
def test_ties_do_not_depend_on_the_order(selector, array, make):
    """Of two properties that are the same, the one with the smaller label is kept."""
    labels, samples = np.arange(16)[::-1] % 8 + 8 * (np.arange(16) < 8), Labels.range("s", 30)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(16)
        values = array[:, labels % 8][:, order]
        block = TensorBlock(values, samples, [], make.labels(["n"], labels[order][:, None]))
        kept = selector(8).fit_transform(make.one_block(block)).block().properties
        assert sorted(kept.values[:, 0].tolist()) == list(range(8))


def test_blocks_without_samples(make):
    properties = Labels.range("n", 2)
    some = TensorBlock(np.array([[1.0, 2.0], [3.0, 2.0]]), Labels.range("s", 2), [], properties)
    none = TensorBlock(np.zeros((0, 2)), Labels.empty(["s"]), [], properties)
    X = TensorMap(make.labels(["a"], [[0], [1]]), [some, none])
    assert CURSelector(2).fit(X).get_support().tolist() == [True, True, False, False]
    assert FPSSelector(2).fit(X).get_support().tolist() == [True, True, True, False]
    with pytest.raises(ValueError, match="CURSelector needs properties that are not zero in X"):
        CURSelector().fit(np.zeros((3, 2)))


@BOTH
def test_pipelines_have_gradients(selector, features, y):
    rows, target = as_rows(features, y)
    model = make_pipeline(selector(), StandardScaler(), Ridge(alpha=1e-3))
    name = selector.__name__.lower()
    search = GridSearchCV(model, {f"{name}__n_to_select": [2, 0.5, None]}, cv=3).fit(rows, target)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    check_gradients(search.predict, features)


@BOTH
@pytest.mark.parametrize(
    ("n_to_select", "error", "message"),
    [
        (9, ValueError, "`n_to_select` must be between 1 and the number of properties, 8; got 9"),
        (0, ValueError, "`n_to_select` must be between 1"),
        (1.5, ValueError, "must be an int, a fraction between 0 and 1, None, or a dict"),
        (True, ValueError, "got True"),
        ("half", ValueError, "got 'half'"),
        ([3], ValueError, "must be an int, a fraction between 0 and 1, None, or a dict"),
        ({(1,): 3}, ValueError, "must have an entry for each key of X"),
    ],
)
def test_bad_numbers(selector, array, n_to_select, error, message):
    with pytest.raises(error, match=message):
        selector(n_to_select).fit(array)


@BOTH
def test_values_of_all_libraries(selector, make, xp, array):
    samples, properties = Labels.range("s", 30), Labels.range("n", 8)
    X = make.one_block(TensorBlock(xp.asarray(array), samples, [], properties))
    fitted = selector(3).fit(X)
    found = fitted.transform(X).block().values
    assert type(found) is type(X.block().values)
    np.testing.assert_array_equal(np.asarray(found), selector(3).fit_transform(array))


def test_bad_input(array, spherical):
    with pytest.raises(ValueError, match="`initialize` must be 'norm', 'random' or a position "):
        FPSSelector(initialize=8).fit(array)
    with pytest.raises(ValueError, match="`n_singular` must be from 1 on, got 0"):
        CURSelector(n_singular=0).fit(array)
    with pytest.raises(NotFittedError):
        FPSSelector().inverse_transform(array)
    with pytest.raises(ValueError, match="in the block with key .o3_lambda=1, o3_sigma=1.; got 5"):
        FPSSelector({tuple(map(int, key)): 4 + (key[0] == 1) for key in spherical.keys}).fit(
            spherical
        )
