"""Composition baselines against plain least squares on counts."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import CompositionRegressor, Rows, as_rows, rmse


def one_map(values, samples, properties=1, components=()):
    return TensorMap(
        Labels.single(),
        [TensorBlock(values, samples, list(components), Labels.range("energy", properties))],
    )


def atoms_by_type(types_of_systems, by="key", repeats=1):
    """Samples for each atom, once for each of some neighbours, without anything in them."""
    rows = [(s, a, t) for s, types in enumerate(types_of_systems) for a, t in enumerate(types)]
    table = np.array(rows, dtype=np.int32)
    n = Labels.range("n", 2)
    if by == "sample":
        samples = Labels(["system", "atom", "center_type"], table)
        return TensorMap(Labels.single(), [TensorBlock(np.ones((len(table), 2)), samples, [], n)])
    keys, blocks = [], []
    for center_type in np.unique(table[:, 2]):
        for neighbor_type in range(repeats):
            chosen = np.ascontiguousarray(table[table[:, 2] == center_type][:, :2])
            samples = Labels(["system", "atom"], chosen)
            keys.append((center_type, neighbor_type))
            blocks.append(TensorBlock(np.ones((len(samples), 2)), samples, [], n))
    return TensorMap(Labels(["center_type", "neighbor_type"], np.array(keys)), blocks)


def counts_of(types_of_systems, types):
    return np.array([[list(row).count(t) for t in types] for row in types_of_systems], float)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def types_of_systems(rng):
    return [rng.choice([1, 6, 8], size=rng.integers(2, 8)) for _ in range(12)]


@pytest.mark.parametrize("by", ["key", "sample"])
@pytest.mark.parametrize("properties", [1, 3])
def test_least_squares_on_counts(rng, types_of_systems, by, properties):
    X = atoms_by_type(types_of_systems, by, repeats=3)
    energies = rng.normal(size=(12, properties)) - 100
    y = one_map(energies, Labels.range("system", 12), properties)
    model = CompositionRegressor().fit(X, y)
    counts = counts_of(types_of_systems, [1, 6, 8])
    expected = np.linalg.lstsq(counts, energies, rcond=None)[0]
    np.testing.assert_array_equal(model.types_, [1, 6, 8])
    block = model.weights_.block()
    assert block.samples.names == ["center_type"]
    assert block.properties == y.block().properties
    np.testing.assert_allclose(block.values, expected, rtol=1e-11)
    prediction = model.predict(X).block()
    assert prediction.samples == y.block().samples
    np.testing.assert_allclose(prediction.values, counts @ expected, rtol=1e-11)


@pytest.mark.parametrize("alpha", [1e-3, 2.0])
def test_penalty_and_weights(rng, types_of_systems, alpha):
    X, counts = atoms_by_type(types_of_systems), counts_of(types_of_systems, [1, 6, 8])
    energies, weights = rng.normal(size=(12, 2)), rng.uniform(0, 2, size=12)
    y = one_map(energies, Labels.range("system", 12), 2)
    model = CompositionRegressor(alpha=alpha).fit(X, y, sample_weight=weights)
    gram = counts.T @ (weights[:, None] * counts) + alpha * np.eye(3)
    expected = np.linalg.solve(gram, counts.T @ (weights[:, None] * energies))
    np.testing.assert_allclose(model.weights_.block().values, expected, rtol=1e-10)
    # weights for each value
    each = rng.uniform(0, 2, size=(12, 2))
    model.fit(X, y, sample_weight=one_map(each, Labels.range("system", 12), 2))
    for n in range(2):
        gram = counts.T @ (each[:, [n]] * counts) + alpha * np.eye(3)
        expected = np.linalg.solve(gram, counts.T @ (each[:, n] * energies[:, n]))
        np.testing.assert_allclose(model.weights_.block().values[:, n], expected, rtol=1e-10)


def test_the_same_ratio_gives_the_shortest_solution():
    X = atoms_by_type([[1, 1, 8], [1, 1, 1, 1, 8, 8]])
    y = one_map(np.array([[-10.0], [-20.0]]), Labels.range("system", 2))
    model = CompositionRegressor().fit(X, y)
    np.testing.assert_allclose(model.weights_.block().values.ravel(), [-4, -2])
    np.testing.assert_allclose(model.predict(X).block().values.ravel(), [-10, -20])


def test_atoms_have_the_mean_of_their_type(rng):
    types = [[1, 8, 1], [8, 8]]
    X = atoms_by_type(types, repeats=2)
    table = np.array([(s, a) for s, row in enumerate(types) for a in range(len(row))])
    values = rng.normal(size=(5, 1))
    y = one_map(values, Labels(["system", "atom"], table))
    model = CompositionRegressor().fit(X, y)
    expected = [values[[0, 2]].mean(), values[[1, 3, 4]].mean()]
    np.testing.assert_allclose(model.weights_.block().values.ravel(), expected)
    found = model.predict(X).block()
    assert found.samples == y.block().samples
    np.testing.assert_allclose(found.values.ravel(), np.take(expected, [0, 1, 0, 1, 1]))


def test_blocks_of_y_by_type(rng, types_of_systems):
    X, counts = atoms_by_type(types_of_systems, repeats=2), counts_of(types_of_systems, [1, 6, 8])
    blocks, expected = [], []
    for column in range(3):
        systems = np.flatnonzero(counts[:, column])
        energies = rng.normal(size=(len(systems), 1))
        samples = Labels(["system"], systems[:, None].astype(np.int32))
        blocks.append(TensorBlock(energies, samples, [], Labels.range("energy", 1)))
        n = counts[systems, column]
        expected.append(n @ energies[:, 0] / (n @ n))
    y = TensorMap(Labels(["center_type"], np.array([[1], [6], [8]])), blocks)
    prediction = CompositionRegressor().fit(X, y).predict(X)
    for column, (block, found) in enumerate(zip(y, prediction)):
        assert found.samples == block.samples
        n = counts[block.samples["system"], column]
        np.testing.assert_allclose(found.values[:, 0], n * expected[column])


def test_what_is_fixed_is_not_fitted(rng, types_of_systems):
    X, counts = atoms_by_type(types_of_systems), counts_of(types_of_systems, [1, 6, 8])
    energies = rng.normal(size=(12, 1))
    y = one_map(energies, Labels.range("system", 12))
    model = CompositionRegressor(fixed={6: -3.5, 29: 7.0}).fit(X, y)
    expected = np.linalg.lstsq(counts[:, [0, 2]], energies + 3.5 * counts[:, [1]], rcond=None)[0]
    np.testing.assert_array_equal(model.types_, [1, 6, 8, 29])
    found = model.weights_.block().values.ravel()
    np.testing.assert_allclose(found, [expected[0, 0], -3.5, expected[1, 0], 7.0])
    copper = atoms_by_type([[29, 29, 1]])
    np.testing.assert_allclose(model.predict(copper).block().values, 14 + expected[0, 0])
    everything = CompositionRegressor(fixed={1: 1, 6: 2, 8: 3}).fit(X, y)
    np.testing.assert_allclose(everything.predict(X).block().values[:, 0], counts @ [1, 2, 3])


def test_types_never_seen(types_of_systems):
    X = atoms_by_type(types_of_systems)
    y = one_map(np.ones((12, 1)), Labels.range("system", 12))
    model = CompositionRegressor().fit(X, y)
    with pytest.raises(ValueError, match=r"center_type \[29\].*fixed=\{29"):
        model.predict(atoms_by_type([[29, 1]]))
    only_carbon = model.predict(atoms_by_type([[6], [6, 6]]))  # types may be missing
    carbon = model.weights_.block().values[1, 0]
    np.testing.assert_allclose(only_carbon.block().values.ravel(), [carbon, 2 * carbon])


def test_batches_are_the_whole(rng, types_of_systems):
    X = as_rows(atoms_by_type([*types_of_systems, [29, 1]]))
    y = as_rows(one_map(rng.normal(size=(13, 2)), Labels.range("system", 13), 2))
    expected = CompositionRegressor(alpha=1e-3).fit(X, y)
    model = CompositionRegressor(alpha=1e-3)
    for part in (slice(0, 1), slice(1, 5), slice(5, 13)):  # with new types in later batches
        model.partial_fit(X[part], y[part])
    np.testing.assert_array_equal(model.types_, expected.types_)
    np.testing.assert_allclose(
        model.weights_.block().values, expected.weights_.block().values, rtol=1e-11
    )
    again = pickle.loads(pickle.dumps(model)).partial_fit(X[:1], y[:1])
    assert again.weights_ != model.weights_
    model.fit(X[:4], y[:4])
    assert model.weights_ == clone(model).fit(X[:4], y[:4]).weights_


def test_no_weight_is_no_system(rng, types_of_systems):
    X = as_rows(atoms_by_type(types_of_systems))
    y = as_rows(one_map(rng.normal(size=(12, 1)), Labels.range("system", 12)))
    weights = np.array([1.0, 0, 2] * 4)
    kept = np.flatnonzero(weights)
    found = CompositionRegressor().fit(X, y, sample_weight=weights)
    expected = CompositionRegressor().fit(X[kept], y[kept], sample_weight=weights[kept])
    np.testing.assert_allclose(
        found.weights_.block().values, expected.weights_.block().values, rtol=1e-11
    )


def test_blocks_that_rotate_are_zero(rng, types_of_systems):
    X = atoms_by_type(types_of_systems)
    properties = Labels.range("p", 1)
    blocks = [
        TensorBlock(
            rng.normal(size=(12, m, 1)),
            Labels.range("system", 12),
            [Labels.range("m", m)],
            properties,
        )
        for m in (1, 3)
    ]
    y = TensorMap(Labels(["o3_lambda", "o3_sigma"], np.array([[0, 1], [1, 1]])), blocks)
    model = CompositionRegressor().fit(X, y)
    prediction = model.predict(X)
    counts = counts_of(types_of_systems, [1, 6, 8])
    expected = counts @ np.linalg.lstsq(counts, blocks[0].values[:, 0], rcond=None)[0]
    np.testing.assert_allclose(prediction[0].values[:, 0], expected)
    np.testing.assert_array_equal(prediction[1].values, np.zeros((12, 3, 1)))
    assert prediction[1].components == blocks[1].components
    np.testing.assert_array_equal(model.weights_[1].values, 0)


def test_gradients_are_zero(X, y, make):
    model = CompositionRegressor().fit(X, y)
    prediction = model.predict(X)
    assert prediction.block().gradients_list() == ["positions", "strain"]
    assert len(prediction.block().gradient("positions")) == 0
    assert (
        prediction.block().gradient("strain").components == y.block().gradient("strain").components
    )
    forces = y.block().gradient("positions").values
    error = rmse(y, prediction, gradient="positions")
    np.testing.assert_allclose(error, np.sqrt((forces**2).mean()))
    rng = np.random.default_rng(0)
    again = CompositionRegressor().fit(make.permuted(X, rng), make.permuted(y, rng))
    np.testing.assert_allclose(
        again.weights_.block().values, model.weights_.block().values, rtol=1e-10
    )


def test_rows_without_atoms_are_zero(X, y):
    X_rows, y_rows = as_rows(X, y)
    model = CompositionRegressor().fit(X_rows, y_rows)
    everything = Labels.range("system", 20)
    found = model.predict(Rows(X, rows=everything)).tensor.block()
    assert len(found) == 20
    np.testing.assert_array_equal(found.values[16:], 0)
    np.testing.assert_allclose(found.values[:16], model.predict(X_rows).tensor.block().values)
    array = CompositionRegressor().fit(X_rows, np.asarray(y_rows.tensor.block().values)[:, 0])
    np.testing.assert_allclose(array.predict(X_rows), found.values[:16, 0], rtol=1e-10)


def test_grid_search(X, y):
    search = GridSearchCV(CompositionRegressor(), {"alpha": [0.0, 1e3]}, cv=3)
    search.fit(*as_rows(X, y))
    assert search.best_params_ == {"alpha": 0.0}


def test_dtype_is_that_of_y(types_of_systems):
    torch = pytest.importorskip("torch")
    X = atoms_by_type(types_of_systems)
    y = one_map(np.linspace(-1e5, 1, 12)[:, None], Labels.range("system", 12))
    single = X.to(dtype=np.float32)
    found = CompositionRegressor().fit(single, y).predict(single).block().values
    assert found.dtype == np.float64
    X, y = X.to(arrays="torch"), y.to(arrays="torch")
    tensor = CompositionRegressor().fit(X, y).predict(X).block().values
    assert tensor.dtype == torch.float64
    np.testing.assert_allclose(tensor.numpy(), found)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"types": "species"}, "`types` must be a name of the keys or samples"),
        ({"types": "neighbor_type"}, "each atom must have one type"),
        ({"atoms": "center"}, "tell atoms apart"),
        ({"alpha": -1.0}, "`alpha` must be finite and not negative"),
        ({"fixed": {1: [1.0, 2.0]}}, "one finite number"),
    ],
)
def test_refusals(types_of_systems, parameters, message):
    X = atoms_by_type(types_of_systems, repeats=2)
    y = one_map(np.ones((12, 1)), Labels.range("system", 12))
    with pytest.raises(ValueError, match=message):
        CompositionRegressor(**parameters).fit(X, y)


@pytest.mark.parametrize(
    ("fixed", "error", "message"),
    [
        ([1.0], TypeError, "must be a dict of numbers by type, or None, got list"),
        ({"H": 1.0}, ValueError, "32-bit ints, got 'H'"),
        ({1.5: 1.0}, ValueError, "32-bit ints, got 1.5"),
        ({2**31: 1.0}, ValueError, "32-bit ints, got 2147483648"),
        ({1: "a"}, TypeError, "must have numbers for the types, got 'a' for type 1"),
        ({1: None}, TypeError, "must have numbers for the types, got None"),
    ],
)
def test_refused_numbers(types_of_systems, fixed, error, message):
    y = one_map(np.ones((12, 1)), Labels.range("system", 12))
    with pytest.raises(error, match=message):
        CompositionRegressor(fixed=fixed).fit(atoms_by_type(types_of_systems), y)


def test_more_refusals(types_of_systems):
    X = atoms_by_type(types_of_systems)
    y = one_map(np.ones((13, 1)), Labels.range("system", 13))
    with pytest.raises(ValueError, match="it has none for .*system=12"):
        CompositionRegressor().fit(X, y)
    with pytest.raises(TypeError, match="needs a TensorMap"):
        CompositionRegressor().fit(np.ones((3, 2)), np.ones(3))
    with pytest.raises(NotFittedError):
        CompositionRegressor().predict(X)
    with pytest.raises(ValueError, match="y must be given"):
        CompositionRegressor().fit(X, None)
