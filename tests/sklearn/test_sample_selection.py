"""SampleSelector against selections that are written out."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from metatensor import Labels, TensorBlock, TensorMap, o3
from metatensor.sklearn import Ridge, Rows, SampleSelector, SumOverSamples, as_rows
from metatensor.sklearn._selection import farthest_points, leverage
from metatensor.testing import check_gradients

METHODS = pytest.mark.parametrize("method", ["fps", "cur"])


def reference(method, block, n):
    rows = block.values.reshape(len(block), -1)
    if method == "cur":
        return leverage(rows, n)
    chosen, squares = farthest_points(rows, n, int(np.argmax((rows**2).sum(axis=1))))
    return chosen, np.sqrt(squares)


@METHODS
def test_samples_and_their_gradients_are_kept(spherical, method):
    selector = SampleSelector(method, 4)
    selected = selector.fit_transform(spherical)
    for key, block in spherical.items():
        chosen, scores = reference(method, block, 4)
        kept = np.sort(chosen)
        found = selected.block(key)
        np.testing.assert_array_equal(found.values, block.values[kept])
        np.testing.assert_array_equal(selector.support_[key].values, block.samples.values[kept])
        np.testing.assert_array_equal(selector.order_[key].values, block.samples.values[chosen])
        np.testing.assert_allclose(selector.scores_.block(key).values, scores[:, None])
        assert selector.scores_.block(key).samples == selector.order_[key]
        gradient, before = found.gradient("positions"), block.gradient("positions")
        there = np.flatnonzero(np.isin(before.samples.values[:, 0], kept))
        there = there[np.argsort(before.samples.values[there, 0], kind="stable")]
        np.testing.assert_array_equal(gradient.values, before.values[there])
        table = gradient.samples.values.copy()
        table[:, 0] = kept[table[:, 0]]
        np.testing.assert_array_equal(table, before.samples.values[there])
    check_gradients(selector.transform, spherical)
    for again in (pickle.loads(pickle.dumps(selector)), copy.deepcopy(selector)):
        assert again.transform(spherical) == selected
    assert selector.fit(spherical).transform(spherical) == selected
    assert clone(selector).get_params() == selector.get_params()


@METHODS
def test_selection_does_not_change_with_rotations(spherical, rotation, method):
    rotated = o3.rotate(spherical, -rotation)
    selector = SampleSelector(method, 5).fit(rotated)
    assert SampleSelector(method, 5).fit(spherical).order_ == selector.order_
    expected = o3.rotate(selector.transform(spherical), -rotation)
    for block, other in zip(selector.transform(rotated), expected):
        np.testing.assert_allclose(block.values, other.values, atol=1e-12)


@METHODS
def test_order_of_blocks_and_samples_does_not_count(spherical, make, method):
    shuffled = make.permuted(spherical, np.random.default_rng(0))
    selector = SampleSelector(method, 4).fit(shuffled)
    expected = SampleSelector(method, 4).fit(spherical)
    assert selector.order_ == expected.order_
    selected = selector.transform(spherical)
    assert selected == expected.transform(spherical)


@METHODS
def test_torch(spherical, method):
    torch = pytest.importorskip("torch")
    tensors = spherical.to(arrays="torch")
    selector, expected = (SampleSelector(method, 4).fit(t) for t in (tensors, spherical))
    for block, other in zip(selector.transform(tensors), expected.transform(spherical)):
        assert isinstance(block.values, torch.Tensor)
        np.testing.assert_array_equal(block.values.numpy(), other.values)
    for block, other in zip(selector.scores_, expected.scores_):
        np.testing.assert_allclose(block.values.numpy(), other.values, rtol=1e-12)
    single = spherical.to(dtype=np.float32)
    assert SampleSelector(method, 4).fit_transform(single)[1].values.dtype == np.float32


def test_rows_stay_rows(X):
    rows = as_rows(X)
    n_samples = {tuple(map(int, key)): 2 for key in X.keys}
    selected = SampleSelector(n_to_select=n_samples).fit_transform(rows)
    assert isinstance(selected, Rows)
    assert selected.rows == rows.rows
    assert [len(block) for block in selected.tensor] == [2, 2, 2, 2]
    tensor = SampleSelector(n_to_select=2).fit_transform(X)
    assert [len(block) for block in tensor] == [2, 2, 2, 2]


def test_there_is_no_y(X, y):
    model = make_pipeline(SampleSelector(), SumOverSamples(), Ridge())
    with pytest.raises(TypeError, match="would still be in y; use it before the pipeline"):
        model.fit(*as_rows(X, y))
    with pytest.raises(TypeError, match="would still be in y"):
        SampleSelector().fit_transform(X, y)


def test_where_it_starts(spherical):
    first = SampleSelector(n_to_select=1, initialize=7).fit(spherical)
    assert [labels.values.tolist() for labels in first.support_.values()] == [[[2, 1]]] * 4
    orders = [
        SampleSelector(n_to_select=3, initialize="random", random_state=seed).fit(spherical).order_
        for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]


def test_blocks_with_little_in_them(make):
    keys = make.labels(["a"], [[0], [1], [2]])
    blocks = [
        TensorBlock(np.ones((size, 2)), Labels.range("s", size), [], Labels.range("n", 2))
        for size in (0, 1, 5)
    ]
    for method in ("fps", "cur"):
        selected = SampleSelector(method, 3).fit_transform(TensorMap(keys, blocks))
        assert [len(block) for block in selected] == [0, 1, 1]  # the others coincide


def test_values_of_all_libraries(make, xp):
    values = np.random.default_rng(0).normal(size=(9, 4))
    samples, properties = Labels.range("s", 9), Labels.range("n", 4)
    X = make.one_block(TensorBlock(xp.asarray(values), samples, [], properties))
    found = SampleSelector(n_to_select=3).fit_transform(X).block().values
    assert type(found) is type(X.block().values)
    chosen, _ = reference("fps", TensorBlock(values, samples, [], properties), 3)
    np.testing.assert_array_equal(np.asarray(found), values[np.sort(chosen)])


def test_other_data(spherical):
    selector = SampleSelector(n_to_select=3).fit(spherical)
    keys = Labels(spherical.keys.names, spherical.keys.values[2:3])
    part = TensorMap(keys, [spherical[2].copy()])
    assert len(selector.transform(part)[0]) == 3
    with pytest.raises(ValueError, match=r"X must have all the samples that were chosen, .* lacks"):
        selector.transform(as_rows(spherical)[:1])
    with pytest.raises(NotFittedError):
        SampleSelector().transform(spherical)
    with pytest.raises(TypeError, match="SampleSelector needs a TensorMap, or Rows of one"):
        SampleSelector().fit(np.ones((3, 2)))
    with pytest.raises(ValueError, match="`method` must be 'fps' or 'cur', got 'random'"):
        SampleSelector("random").fit(spherical)
    with pytest.raises(ValueError, match="between 1 and the number of samples, 11; got 12"):
        SampleSelector(n_to_select=12).fit(spherical)
