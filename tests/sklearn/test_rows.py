"""Rows: what scikit-learn asks of data, and that samples and gradients stay together."""

import copy
import pickle

import joblib
import numpy as np
import pytest
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils.validation import _num_samples

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import KeysToProperties, Rows, SumOverSamples, as_rows


@pytest.fixture
def rows(X):
    return Rows(X, by="system")


def systems_of(tensor):
    return [set(block.samples["system"].tolist()) for block in tensor]


def check_gradients_follow(part, whole):
    """Every gradient row belongs to the sample it belonged to before, and none is lost."""
    for block, before in zip(part, whole):
        for name, gradient in block.gradients():
            old = before.gradient(name)
            rest = gradient.samples.values[:, 1:]
            for row, (sample, values) in enumerate(
                zip(gradient.samples["sample"], gradient.values)
            ):
                old_sample = before.samples.position(block.samples.values[sample])
                position = old.samples.position((old_sample, *rest[row]))
                np.testing.assert_array_equal(values, old.values[position])
            kept = np.isin(before.samples["system"], block.samples["system"])
            assert len(gradient) == np.count_nonzero(kept[old.samples["sample"]])


# ---- being cut


@pytest.mark.parametrize(
    "key",
    [
        [3, 0, 7],
        np.array([3, 0, 7]),
        np.array([], dtype=int),
        [],
        slice(2, 9, 3),
        slice(None, None, -1),
        np.arange(16) % 3 == 0,
        [-1, 4],
        5,
        np.int64(-2),
        (np.array([1, 2]), Ellipsis),
        ([1, 2], slice(None)),
    ],
)
def test_indexing_takes_samples_and_gradients(rows, X, key):
    part = rows[key]
    first = key[0] if isinstance(key, tuple) else key
    expected = np.atleast_1d(np.arange(16)[first])
    assert len(part) == part.shape[0] == len(expected)
    assert part.shape[1] == rows.shape[1] == 16
    np.testing.assert_array_equal(part.rows["system"], expected)
    for block, before in zip(part.tensor, X):
        there = [s for s in expected for t in before.samples["system"] if s == t]
        np.testing.assert_array_equal(block.samples["system"], there)
        for sample, values in zip(block.samples, block.values):
            np.testing.assert_array_equal(values, before.values[before.samples.position(sample)])
    check_gradients_follow(part.tensor, X)


def test_slices_of_slices(rows):
    part = rows[[9, 2, 5, 11]][[3, 1]]
    np.testing.assert_array_equal(part.rows["system"], [11, 2])
    assert part.tensor == rows[[11, 2]].tensor
    assert part.tensor is part.tensor  # gathered once


def test_slicing_is_lazy(rows):
    part = rows[:5]
    assert part._tensor is None
    assert part.shape == (5, 16)
    assert part._tensor is None


def test_gradients_of_gradients_follow(make):
    properties = Labels.range("n", 1)
    block = TensorBlock(np.arange(3.0)[:, None], Labels.range("system", 3), [], properties)
    samples = make.labels(["sample"], [[2], [0], [1]])
    gradient = TensorBlock(np.arange(3.0)[:, None], samples, [], properties)
    second = make.labels(["sample", "a"], [[0, 5], [2, 6], [1, 7]])
    gradient.add_gradient("h", TensorBlock(np.array([[5.0], [6.0], [7.0]]), second, [], properties))
    block.add_gradient("g", gradient)
    part = Rows(make.one_block(block))[[2, 1]].tensor.block()
    np.testing.assert_array_equal(part.gradient("g").samples.values, [[0], [1]])
    np.testing.assert_array_equal(part.gradient("g").values, [[0.0], [2.0]])
    nested = part.gradient("g").gradient("h")
    np.testing.assert_array_equal(nested.samples.values, [[0, 5], [1, 6]])
    np.testing.assert_array_equal(nested.values, [[5.0], [6.0]])


@pytest.mark.parametrize(
    ("key", "error", "match"),
    [
        (16, IndexError, "row 16 is out of bounds, there are 16 rows"),
        ([0, 16], IndexError, "positions of rows must be below 16"),
        ([-17], IndexError, "positions of rows must be below 16"),
        (np.ones(3, bool), IndexError, "a mask must have one value for each of the 16 rows, got 3"),
        ([0, 1, 0], ValueError, "rows can not be repeated"),
        ([0, -16], ValueError, "rows can not be repeated"),
        ([0.5], TypeError, "Rows can be indexed with positions"),
        ("system", TypeError, "Rows can be indexed with positions"),
        (([0], [1]), TypeError, "only the rows of Rows can be indexed"),
        (True, TypeError, "Rows can be indexed with positions"),
    ],
)
def test_bad_indices(rows, key, error, match):
    with pytest.raises(error, match=match):
        rows[key]


def test_values_of_torch_stay_and_can_be_differentiated(X):
    torch = pytest.importorskip("torch")
    blocks = [
        TensorBlock(torch.tensor(b.values, requires_grad=True), b.samples, [], b.properties)
        for b in X
    ]
    part = Rows(TensorMap(X.keys, blocks))[[3, 1]]
    sum(block.values.sum() for block in part.tensor).backward()
    for block in blocks:
        expected = np.isin(block.samples["system"], [1, 3]).astype(float)
        np.testing.assert_array_equal(block.values.grad[:, 0], expected)


def test_scikit_learn_sees_rows(rows):
    assert _num_samples(rows) == 16
    assert indexable(rows, None)[0] is rows
    assert _safe_indexing(rows, np.array([2, 1])).rows.values.tolist() == [[2], [1]]
    assert _safe_indexing(rows, np.arange(16) < 3).shape == (3, 16)
    assert [len(row) for row in rows] == [1] * 16


# ---- making rows


def test_rows_are_sorted_and_complete(make, X):
    rng = np.random.default_rng(0)
    assert Rows(make.permuted(X, rng)).rows == Rows(X).rows
    assert Rows(X).rows == Labels.range("system", 16)
    assert all(len(systems) < 16 for systems in systems_of(X))  # no block has them all


def test_several_dimensions_make_a_row(X):
    rows = Rows(X, by=("system", "atom"))
    assert rows.by == ("system", "atom")
    assert rows.rows.names == ["system", "atom"]
    part = rows[[4, 0]]
    found = {tuple(sample) for block in part.tensor for sample in block.samples.values.tolist()}
    assert found == set(map(tuple, part.rows.values.tolist()))
    np.testing.assert_array_equal(rows.groups("system"), rows.rows["system"])


def test_rows_without_samples_stay(X):
    rows = Rows(X, rows=Labels.range("system", 20))
    assert len(rows) == 20
    empty = rows[[18, 17]]
    assert all(len(block) == 0 for block in empty.tensor)
    assert len(empty) == 2


def test_groups(make):
    samples = make.labels(
        ["trajectory", "system", "atom"], [[7, 0, 0], [7, 0, 1], [7, 1, 0], [9, 2, 0]]
    )
    tensor = make.one_block(TensorBlock(np.zeros((4, 1)), samples, [], Labels.single()))
    rows = Rows(tensor)
    np.testing.assert_array_equal(rows.groups("trajectory"), [7, 7, 9])
    np.testing.assert_array_equal(rows[[2, 0]].groups("trajectory"), [9, 7])
    np.testing.assert_array_equal(rows[[2, 0]].groups("system"), [2, 0])
    with pytest.raises(
        ValueError, match=r"'atom' must be the same for all samples .* row \(system=0\)"
    ):
        rows.groups("atom")
    with pytest.raises(ValueError, match="`name` must be one of the sample names"):
        rows.groups("frame")
    with pytest.raises(ValueError, match=r"row \(system=3\) has none"):
        Rows(tensor, rows=Labels.range("system", 4)).groups("trajectory")


def test_bad_rows(X, make):
    with pytest.raises(TypeError, match="`tensor` must be a metatensor TensorMap"):
        Rows(np.zeros((3, 2)))
    with pytest.raises(
        ValueError, match=r"`by` must be sample names of the tensor, .*, got 'structure'"
    ):
        Rows(X, by="structure")
    with pytest.raises(ValueError, match="at least one sample dimension"):
        Rows(X, by=[])
    with pytest.raises(ValueError, match="`by` must have different names"):
        Rows(X, by=["system", "system"])
    with pytest.raises(TypeError):
        Rows(X) * "2"
    with pytest.raises(ValueError, match="all samples must belong to one of the 3 rows"):
        Rows(X, rows=Labels.range("system", 3))
    with pytest.raises(ValueError, match="`rows` must have the names in `by`"):
        Rows(X, rows=Labels.range("atom", 3))


# ---- several tensors


def test_as_rows_gives_common_rows(X, y):
    first, second = as_rows(X, y)
    assert first.rows == second.rows
    assert first.tensor is X
    assert second.tensor is y
    assert isinstance(as_rows(X), Rows)
    again = as_rows(first[[3, 1]], second[[1, 3]])
    assert [part.rows.values.tolist() for part in again] == [[[1], [3]]] * 2


def test_missing_rows(X, y):
    some = Rows(y)[[0, 2, 3, 11]].tensor
    with pytest.raises(
        ValueError, match=r"tensor 1 has none for 12 of 16 rows, the first is \(system=1\)"
    ):
        as_rows(X, some)
    first, second = as_rows(X, some, missing="drop")
    assert first.rows["system"].tolist() == second.rows["system"].tolist() == [0, 2, 3, 11]
    assert set.union(*systems_of(first.tensor)) == {0, 2, 3, 11}
    first, second = as_rows(X, some, missing="keep")
    assert len(first) == len(second) == 16
    assert second.tensor.block().samples["system"].tolist() == [0, 2, 3, 11]
    with pytest.raises(
        ValueError, match="`missing` must be 'raise', 'drop' or 'keep', got 'ignore'"
    ):
        as_rows(X, y, missing="ignore")


def test_lists_of_tensors_are_joined(X, y):
    X_rows, y_rows = as_rows(X, y)
    cuts = [slice(0, 1), slice(5, 16), slice(1, 5)]
    joined = as_rows([X_rows[cut].tensor for cut in cuts], [y_rows[cut].tensor for cut in cuts])
    for part, whole in zip(joined, (X_rows, y_rows)):
        assert part.rows == whole.rows
        assert part[:].tensor == whole[:].tensor
    with pytest.raises(ValueError, match="must be unique"):
        as_rows([X, X])
    with pytest.raises(
        TypeError, match="`as_rows` takes TensorMaps, or sequences of them, got numpy.ndarray"
    ):
        as_rows(X, np.zeros(3))
    with pytest.raises(TypeError, match="needs at least one tensor"):
        as_rows()


# ---- arrays


def test_rows_with_one_sample_each_are_arrays(features, y):
    X, y = as_rows(features, y)
    order = [3, 0, 8]
    expected = features.block().values[[features.block().samples.position([s]) for s in order]]
    with pytest.warns(UserWarning, match=r"lost their gradients \['positions', 'strain'\]"):
        array = np.asarray(X[order])
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(np.asarray(X), features.block().values)  # warns once
    with pytest.warns(UserWarning, match="lost their gradients"):
        assert np.asarray(y, dtype=np.float32).dtype == np.float32
    array = np.array(X)
    array[:] = 0
    assert (features.block().values != 0).any()
    with pytest.raises(ValueError, match="without a copy"):
        np.array(X, copy=False)


def test_other_rows_are_no_arrays(rows, make):
    with pytest.raises(
        TypeError, match="exactly one sample for each row, .*; use `SumOverSamples` first"
    ):
        np.asarray(Rows(make.features(make.systems(3), gradients=False)))
    block = TensorBlock(
        np.zeros((2, 3, 1)), Labels.range("system", 2), [Labels.range("xyz", 3)], Labels.single()
    )
    with pytest.raises(TypeError, match=r"no components, got \['xyz'\]"):
        np.asarray(Rows(make.one_block(block)))


def test_numpy_functions(make):
    X = Rows(make.energies(make.systems(6), gradients=False))
    whole = np.asarray(X)
    joined = np.concatenate([X[[4, 1]], X[[0, 2]]])
    assert isinstance(joined, Rows)
    assert joined.rows["system"].tolist() == [4, 1, 0, 2]
    np.testing.assert_array_equal(np.asarray(joined), whole[[4, 1, 0, 2]])
    np.testing.assert_array_equal(np.asarray(np.vstack([X[:2], X[2:]])), whole)
    np.testing.assert_array_equal(np.asarray(np.take(X, [3, 1], axis=0)), whole[[3, 1]])
    assert np.shape(X) == X.shape == (6, 1)
    assert np.ndim(X) == 2
    assert np.may_share_memory(X, X)
    assert not np.may_share_memory(X, X[:])
    assert np.mean(X) == whole.mean()
    np.testing.assert_array_equal(np.concatenate([X, whole]), np.concatenate([whole, whole]))
    np.testing.assert_array_equal(np.asarray(X * 2.5), whole * 2.5)


def test_concatenating_keeps_gradients(rows, X):
    joined = np.concatenate([rows[[4, 1]], rows[5:], rows[[0, 2, 3]]])
    check_gradients_follow(joined.tensor, X)
    assert joined[np.argsort(joined.rows["system"])].tensor == rows[:].tensor
    with pytest.raises(ValueError, match="must be unique"):
        np.concatenate([rows, rows])


def test_concatenating_needs_the_same_properties(features, y, make):
    X, y = as_rows(features, y)
    with pytest.raises(ValueError, match="same keys and the same properties"):
        np.concatenate([X[:3], y[3:]])
    block = TensorBlock(np.zeros((1, 1)), Labels.range("atom", 1), [], Labels.single())
    with pytest.raises(ValueError, match="by the same names"):
        np.concatenate([X[:3], Rows(make.one_block(block), by="atom")])


def test_properties_next_to_each_other(features, make):
    X = as_rows(features)
    block = features.block()
    assert np.hstack([X]).tensor == features
    halves = []
    for part in (slice(0, 9), slice(9, None)):
        properties = make.labels(block.properties.names, block.properties.values[part])
        half = TensorBlock(block.values[:, part], block.samples, [], properties)
        for name, gradient in block.gradients():
            values = gradient.values[..., part]
            half.add_gradient(
                name, TensorBlock(values, gradient.samples, gradient.components, properties)
            )
        halves.append(as_rows(make.one_block(half)))
    assert np.hstack(halves).tensor == features
    twice = np.hstack([X, X * 2]).tensor.block()
    assert twice.properties.names == ["joined_index", "property"]
    np.testing.assert_array_equal(twice.values, np.hstack([block.values, 2 * block.values]))
    for name, gradient in block.gradients():
        expected = np.concatenate([gradient.values, 2 * gradient.values], axis=-1)
        np.testing.assert_array_equal(twice.gradient(name).values, expected)
    with pytest.raises(ValueError, match="same rows in the same order"):
        np.hstack([X, X[::-1]])


# ---- copies


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_hold_the_slice_alone(rows, protocol):
    part = rows[[4, 2]]
    loaded = pickle.loads(pickle.dumps(part, protocol))
    assert loaded.rows == part.rows
    assert loaded.tensor == part.tensor
    assert len(pickle.dumps(part, protocol)) < len(pickle.dumps(rows, protocol)) / 3
    assert copy.deepcopy(part).tensor == part.tensor


def test_hashes_of_joblib_say_whether_data_are_the_same(rows):
    assert joblib.hash(rows) == joblib.hash(Rows(rows.tensor))
    assert joblib.hash(rows[[2, 1]]) == joblib.hash(rows[[2, 1]])
    assert joblib.hash(rows[[2, 1]]) != joblib.hash(rows[[1, 2]])


def test_text(rows):
    assert repr(rows[:2]).startswith("2 Rows by system of TensorMap with 4 blocks")


@pytest.mark.parametrize("sum_first", [False, True])
def test_results_are_in_the_order_of_the_rows(rows, sum_first):
    steps = [KeysToProperties(["center_type", "neighbor_type"]), SumOverSamples()]
    result = rows[[5, 2, 0]]
    for step in reversed(steps) if sum_first else steps:
        result = step.fit_transform(result)
        assert result.rows["system"].tolist() == [5, 2, 0]
        for block in result.tensor:
            assert list(dict.fromkeys(block.samples["system"].tolist())) == [5, 2, 0]


def test_samples_in_another_order_are_put_in_the_order_of_the_rows(rows):
    shuffled = rows[[5, 2, 0]].tensor
    part = Rows(shuffled)
    assert part.rows["system"].tolist() == [0, 2, 5]
    for block, before in zip(part.tensor, rows[[0, 2, 5]].tensor):
        assert block.samples == before.samples
    check_gradients_follow(part.tensor, shuffled)
