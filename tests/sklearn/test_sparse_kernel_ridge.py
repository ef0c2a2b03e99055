"""SparseKernelRidge against its steps, the formula of its coefficients, and finite differences."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.o3 import rotate
from metatensor.operations import remove_gradients, rename_dimension
from metatensor.sklearn import (
    KeysToProperties,
    MeanOverSamples,
    Nystroem,
    Ridge,
    Rows,
    SparseKernelRidge,
    SumOverSamples,
    _alignment,
    as_rows,
)

TYPES = ["center_type", "neighbor_type"]
KERNELS = {
    "rbf": {"gamma": 2.0},
    "poly": {"gamma": 0.5, "coef0": 0.3, "degree": 2},
    "linear": {},
    "cosine": {},
}
by_kernel = pytest.mark.parametrize("kernel", KERNELS)
by_weights = pytest.mark.parametrize("gradient_weights", [1.0, 0.1, "balanced"])


def sparse(kernel="rbf", **parameters):
    return SparseKernelRidge(
        **{"alpha": 1e-3, "kernel": kernel, "n_components": 5, **KERNELS[kernel], **parameters}
    )


def assert_close(first, second, tolerance=1e-8):
    """Compare maps whose samples may be in any order."""
    assert first.keys == second.keys
    for a, b in zip(first, second):
        assert len(a) == len(b)
        order = [a.samples.position(sample) for sample in b.samples]
        np.testing.assert_allclose(a.values[order], b.values, rtol=tolerance, atol=tolerance)
        assert a.gradients_list() == b.gradients_list()
        for name, gradient in b.gradients():
            other = a.gradient(name)
            table = gradient.samples.values.copy()
            table[:, 0] = np.array(order, int)[table[:, 0]]
            rows = [other.samples.position(row) for row in table]
            np.testing.assert_allclose(
                other.values[rows], gradient.values, rtol=tolerance, atol=tolerance
            )


def only_systems(tensor, systems):
    return as_rows(tensor)[[list(range(16)).index(s) for s in systems]].tensor


# ---- the same another way


@by_kernel
@by_weights
def test_is_the_pipeline_of_its_steps(X, y, kernel, gradient_weights):
    parameters = {"n_components": 8, **KERNELS[kernel]}
    steps = make_pipeline(
        Nystroem(kernel, **parameters),
        SumOverSamples(),
        KeysToProperties(TYPES),
        Ridge(1e-3, fit_intercept=False, gradient_weights=gradient_weights),
    )
    model = sparse(kernel, gradient_weights=gradient_weights, n_components=8)
    assert_close(model.fit(X, y).predict(X), steps.fit(X, y).predict(X))


def test_means_are_over_all_atoms(X, y):
    steps = make_pipeline(
        Nystroem(n_components=5, gamma=2.0),
        KeysToProperties(TYPES),
        MeanOverSamples(),
        Ridge(1e-3, fit_intercept=False),
    )
    found = sparse(aggregate="mean").fit(X, y).predict(X)
    assert_close(found, steps.fit(X, y).predict(X))


def test_with_alpha_in_units_of_the_features(X, y):
    steps = make_pipeline(
        Nystroem(n_components=5, gamma=2.0),
        SumOverSamples(),
        KeysToProperties(TYPES),
        Ridge(1e-3, alpha_type="relative", fit_intercept=False),
    )
    found = sparse(alpha_type="relative").fit(X, y).predict(X)
    assert_close(found, steps.fit(X, y).predict(X))


def rbf(x, z, gamma):
    return np.exp(-gamma * ((x - z) ** 2).sum())


def sums_of_kernels(model, X, y, gamma):
    """K_NM with explicit loops: a row for each value, and for each gradient value, of y."""
    target = y.block()
    columns = np.cumsum([0, *map(len, model.components_)])
    values = np.zeros((len(target), columns[-1]))
    gradients = {
        name: np.zeros((*gradient.values.shape[:-1], columns[-1]))
        for name, gradient in target.gradients()
    }
    for start, (key, inducing) in zip(columns, model.components_.items()):
        block = X.block(key)
        for column, z in enumerate(inducing.values, start):
            for sample, x in zip(block.samples, block.values):
                row = target.samples.position([sample["system"]])
                values[row, column] += rbf(x, z, gamma)
            for name, gradient in block.gradients():
                rows = target.gradient(name).samples
                for entry, dx in zip(gradient.samples, gradient.values):
                    x = block.values[entry["sample"]]
                    system = block.samples["system"][entry["sample"]]
                    row = rows.position([target.samples.position([system]), *list(entry)[1:]])
                    slope = 2 * gamma * rbf(x, z, gamma) * (z - x)
                    gradients[name][row, ..., column] += dx @ slope
    return values, gradients


def test_is_the_formula_for_its_coefficients(systems, make):
    gamma, alpha, weights = 2.0, 1e-3, {"positions": 0.3, "strain": 0.02}
    systems = systems[:9]
    X, y = make.features(systems), make.energies(systems)
    v = np.random.default_rng(0).uniform(0.5, 2.0, size=9)
    model = sparse(alpha=alpha, gradient_weights=weights, jitter=0.0).fit(X, y, sample_weight=v)
    values, gradients = sums_of_kernels(model, X, y, gamma)
    rows, targets, w = [values], [y.block().values[:, 0]], [v]
    for name, gradient in y.block().gradients():
        rows.append(gradients[name].reshape(-1, values.shape[1]))
        targets.append(gradient.values.ravel())
        n_each = gradient.values[0].size
        w.append(weights[name] * np.repeat(v[gradient.samples["sample"]], n_each))
    K, t, w = np.concatenate(rows), np.concatenate(targets), np.concatenate(w)
    blocks = [pairwise_kernels(z.values, metric="rbf", gamma=gamma) for z in model.components_]
    K_MM = np.zeros((len(K[0]), len(K[0])))
    start = 0
    for block in blocks:
        K_MM[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    c = np.linalg.solve(K.T @ (w[:, None] * K) + alpha * K_MM, K.T @ (w * t))
    found = np.concatenate([block.values[0] for block in model.coef_])
    np.testing.assert_allclose(found, c, rtol=1e-7, atol=1e-7)
    predicted = model.predict(X).block()
    np.testing.assert_allclose(predicted.values[:, 0], values @ c, rtol=1e-9, atol=1e-9)
    for name, gradient in predicted.gradients():
        order = [y.block().gradient(name).samples.position(row) for row in gradient.samples]
        expected = (gradients[name] @ c)[order]
        np.testing.assert_allclose(gradient.values[..., 0], expected, rtol=1e-9, atol=1e-9)


def test_with_all_environments_it_is_kernel_ridge(systems, make):
    X, y = (tensor(systems, gradients=False) for tensor in (make.features, make.energies))
    gamma, alpha = 2.0, 0.01
    K = np.zeros((len(systems), len(systems)))
    for block in X:
        k = pairwise_kernels(block.values, metric="rbf", gamma=gamma)
        owners = block.samples["system"]
        np.add.at(K, (owners[:, None], owners[None, :]), k)
    target = y.block().values[:, 0]
    expected = K @ np.linalg.solve(K + alpha * np.eye(len(K)), target)
    found = sparse(alpha=alpha, n_components=10**6).fit(X, y).predict(X).block().values[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_with_all_rows_of_an_array_it_is_scikit_learn_s_kernel_ridge():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    theirs = KernelRidge(alpha=0.1, kernel="rbf", gamma=0.5).fit(X, y)
    ours = SparseKernelRidge(0.1, gamma=0.5).fit(X, y)
    new = rng.normal(size=(7, 3))
    np.testing.assert_allclose(ours.predict(new), theirs.predict(new), rtol=1e-7, atol=1e-7)
    assert ours.coef_.shape == (2, 30)
    kernels = pairwise_kernels(new, ours.components_, metric="rbf", gamma=0.5)
    np.testing.assert_allclose(kernels @ ours.coef_.T, ours.predict(new), atol=1e-9)
    one = SparseKernelRidge(0.1, gamma=0.5).fit(X, y[:, 0])
    np.testing.assert_allclose(one.coef_, ours.coef_[0], atol=1e-9)
    np.testing.assert_allclose(one.predict(new), ours.predict(new)[:, 0], atol=1e-9)


def test_the_linear_kernel_is_ridge(X, features, y):
    ridge = Ridge(1e-3, fit_intercept=False, gradient_weights=0.1).fit(features, y)
    model = sparse("linear", n_components=50, gradient_weights=0.1, jitter=0).fit(X, y)
    assert_close(model.predict(X), ridge.predict(features))


# ---- gradients


@by_kernel
def test_predicted_gradients_are_those_of_the_energies(systems, X, y, make, kernel):
    model = sparse(kernel).fit(X, y)
    gradient = model.predict(X).block().gradient("positions")
    h, (system, atom) = 1e-4, (4, 2)
    for direction in range(3):
        energies = []
        for sign in (1, -1):
            moved = make.systems(len(systems))
            moved[system].positions[atom, direction] += sign * h
            values = model.predict(make.features(moved, gradients=False)).block()
            energies.append(values.values[values.samples.position([system]), 0])
        expected = (energies[0] - energies[1]) / (2 * h)
        names = gradient.samples.names[1:]
        row = np.flatnonzero((gradient.samples.values[:, 1:] == [system, atom]).all(axis=1))
        assert names == ["system", "atom"]
        np.testing.assert_allclose(gradient.values[row[0], direction, 0], expected, rtol=1e-5)


def test_rotated_systems_have_the_energies_and_rotated_forces(X, y):
    rotation = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    model = sparse().fit(X, y)
    expected = rotate(model.predict(X), rotation)
    assert_close(model.predict(rotate(X, rotation)), expected)
    again = clone(model).fit(rotate(X, rotation), rotate(y, rotation))
    assert_close(again.predict(rotate(X, rotation)), expected)


def test_gradients_may_count_nothing(X, y, make):
    energies = remove_gradients(y)
    expected = sparse().fit(remove_gradients(X), energies).predict(X)
    assert_close(sparse().fit(X, energies).predict(X), expected)
    assert_close(sparse(gradient_weights=0).fit(X, y).predict(X), expected)
    weights = {"positions": 1.0, "strain": 0.0}
    found = sparse(gradient_weights=weights).fit(X, y)
    expected = sparse().fit(remove_gradients(X, "strain"), remove_gradients(y, "strain"))
    assert_close(found.predict(X), expected.predict(X))
    assert list(found.gradient_weights_) == ["positions"]
    with pytest.raises(ValueError, match=r"gradients with respect to \['positions', 'strain'\]"):
        sparse().fit(remove_gradients(X), y)


def test_gradients_without_rows_say_nothing(X, y):
    block = y.block()
    lone = TensorBlock(block.values, block.samples, block.components, block.properties)
    for name, gradient in block.gradients():
        lone.add_gradient(name, _alignment.take_samples(gradient, np.arange(0)))
    found = sparse(compute_std=True).fit(X, TensorMap(y.keys, [lone]))
    expected = sparse(compute_std=True, gradient_weights=0).fit(X, y)
    for first, second in zip(
        found.predict(X, return_std=True), expected.predict(X, return_std=True), strict=True
    ):
        np.testing.assert_allclose(first.block().values, second.block().values, rtol=1e-9)


def test_a_function_as_kernel_learns_values(X, y):
    values, energies = remove_gradients(X), remove_gradients(y)
    found = sparse(n_components=3).set_params(kernel=lambda x, z: (1 + x @ z.T) ** 2)
    expected = sparse("poly", gamma=1, coef0=1, n_components=3).fit(values, energies)
    assert_close(found.fit(values, energies).predict(values), expected.predict(values))
    with pytest.raises(ValueError, match="no derivatives"):
        sparse().set_params(kernel=lambda x, z: x @ z.T).fit(X, y)


# ---- standard deviations


def test_standard_deviations_are_those_of_ridge(X, y):
    steps = make_pipeline(
        Nystroem(n_components=5, gamma=2.0), SumOverSamples(), KeysToProperties(TYPES)
    )
    ridge = Ridge(1e-3, fit_intercept=False, compute_std=True)
    phi = steps.fit_transform(X)
    expected = ridge.fit(phi, y).predict(phi, return_std=True)
    model = sparse(compute_std=True).fit(X, y)
    for found, other in zip(model.predict(X, return_std=True), expected):
        assert_close(found, other)
    assert_close(model.predict(X), expected[0])
    rows, targets = as_rows(X, y)
    deviation = model.fit(rows, targets).predict(rows[:3], return_std=True)[1]
    assert isinstance(deviation, Rows)
    assert_close(deviation.tensor, only_systems(expected[1], [0, 1, 2]))
    with pytest.raises(ValueError, match=r"SparseKernelRidge\(compute_std=True\)"):
        sparse().fit(X, y).predict(X, return_std=True)


def test_standard_deviations_of_arrays():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 2)), rng.normal(size=30)
    model = SparseKernelRidge(0.1, gamma=0.5, compute_std=True).fit(X, y)
    prediction, deviation = model.predict(X, return_std=True)
    assert prediction.shape == deviation.shape == (30,)
    # all rows are inducing points: the variance in the function space is that of kernel ridge
    kernels = pairwise_kernels(X, metric="rbf", gamma=0.5)
    variance = 0.1 + np.diag(0.1 * kernels @ np.linalg.inv(kernels + 0.1 * np.eye(30)))
    ratio = deviation / np.sqrt(variance)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


# ---- weights, batches


@by_weights
@pytest.mark.parametrize("selection", ["fps", "cur", "random"])
def test_no_weight_is_not_there(X, y, gradient_weights, selection):
    weights = np.ones(16)
    weights[[1, 7, 10]] = 0
    kept = np.flatnonzero(weights).tolist()
    model = sparse(
        gradient_weights=gradient_weights, selection=selection, n_components=3, random_state=0
    )
    expected = clone(model).fit(only_systems(X, kept), only_systems(y, kept))
    for sample_weight in (weights, like_weights(y, weights)):
        found = clone(model).fit(X, y, sample_weight=sample_weight)
        assert_close(found.predict(X), expected.predict(X))
    rows, targets = as_rows(X, y)
    found = clone(model).fit(rows, targets, sample_weight=weights)
    assert_close(found.predict(X), expected.predict(X))
    # systems of X that y has not
    found = clone(model).fit(X, only_systems(y, kept))
    assert_close(found.predict(X), expected.predict(X))


def like_weights(y, weights):
    """A map of weights, for the gradients as well."""
    block = y.block()
    result = TensorBlock(
        weights[block.samples["system"], None], block.samples, [], Labels.range("weight", 1)
    )
    for name, gradient in block.gradients():
        shape = gradient.values.shape
        values = weights[block.samples["system"]][gradient.samples["sample"]]
        values = np.broadcast_to(values.reshape(-1, *[1] * (len(shape) - 1)), shape)
        result.add_gradient(
            name,
            TensorBlock(values, gradient.samples, gradient.components, result.properties),
        )
    return TensorMap(y.keys, [result])


def test_batches_with_the_points_of_the_first(X, y):
    model = sparse(gradient_weights="balanced")
    numbers = [list(range(6)), list(range(6, 11)), list(range(11, 16))]
    for batch in numbers:
        model.partial_fit(only_systems(X, batch), only_systems(y, batch))
    steps = make_pipeline(
        clone(model).fit(only_systems(X, numbers[0]), only_systems(y, numbers[0])).nystroem_,
        SumOverSamples(),
        KeysToProperties(TYPES),
    )
    phi = steps[1:].fit_transform(steps[0].transform(X))
    ridge = Ridge(1e-3, fit_intercept=False, gradient_weights="balanced").fit(phi, y)
    assert_close(model.predict(X), ridge.predict(phi))


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_memory_is_bounded(X, y, monkeypatch, aggregate):
    expected = sparse(aggregate=aggregate).fit(X, y)
    monkeypatch.setattr("metatensor.sklearn.sparse_kernel_ridge.BATCH_BYTES", 20_000)
    found = sparse(aggregate=aggregate).fit(X, y)
    assert_close(found.predict(X), expected.predict(X))
    rows, targets = as_rows(X, y)
    assert len(list(found._batches(rows))) > 3
    found = sparse(aggregate=aggregate).fit(rows, targets).predict(rows)
    assert_close(found.tensor, expected.predict(rows).tensor)


# ---- blocks of X and y


def test_blocks_without_samples_contribute_nothing(X, y):
    model = sparse().fit(X, y)
    expected = only_systems(model.predict(X), [0])
    one = only_systems(X, [0])  # has atoms of one type alone
    assert [len(block) > 0 for block in one] == [True, False, False, False]
    assert_close(model.predict(one), expected)
    alone = TensorMap(Labels(X.keys.names, X.keys.values[:1]), [one.block_by_id(0)])
    assert_close(model.predict(alone), expected)
    assert_close(model.fit(alone, only_systems(y, [0])).predict(alone), model.predict(alone))
    with pytest.raises(
        ValueError, match=r"X has a block with key .*center_type=1, neighbor_type=8"
    ):
        model.predict(X)


def test_rows_without_atoms_are_zero(X, y):
    rows, targets = as_rows(X, y)
    model = sparse().fit(rows, targets)
    empty = Rows(TensorMap(X.keys, [block for block in rows[:0].tensor]), "system", rows[:2].rows)
    found = model.predict(empty)
    assert isinstance(found, Rows)
    np.testing.assert_array_equal(found.tensor.block().values, np.zeros((2, 1)))


def targets_by_type(X, make, scale=1.0):
    """A sum over the atoms of one type for each key, with gradients, in another order of keys."""
    summed = SumOverSamples().transform(X.keys_to_properties("neighbor_type"))
    blocks, keys = [], [[8], [1]]
    for key in keys:
        block = summed.block({"center_type": key[0]})
        n_columns = len(block.properties)
        matrix = np.random.default_rng(key[0]).normal(size=(n_columns, 2))
        properties = Labels.range("target", 2)
        result = TensorBlock(scale * block.values @ matrix, block.samples, [], properties)
        for name, gradient in block.gradients():
            values = scale * gradient.values @ matrix
            result.add_gradient(
                name, TensorBlock(values, gradient.samples, gradient.components, properties)
            )
        blocks.append(result)
    return TensorMap(make.labels(["center_type"], keys), blocks)


def test_blocks_of_y_have_blocks_of_x_of_their_own(X, make):
    y = targets_by_type(X, make)
    model = sparse("poly", n_components=6).fit(X, y)
    found = model.predict(X)
    assert found.keys == y.keys
    for key, block in y.items():
        center = X.keys["center_type"] == key["center_type"]
        numbers = np.flatnonzero(center)
        part = TensorMap(
            Labels(X.keys.names, X.keys.values[numbers]), [X.block_by_id(n) for n in numbers]
        )
        one = make.one_block(block)
        expected = sparse("poly", n_components=6).fit(part, one).predict(part)
        assert_close(make.one_block(found.block(key)), expected)
        assert found.block(key).properties == block.properties
    assert [len(block.samples) for block in model.coef_] == [2] * 4
    # all that is there of one block
    part = TensorMap(Labels(X.keys.names, X.keys.values[:2]), [X.block_by_id(n) for n in (0, 1)])
    alone = model.predict(part)
    assert alone.keys == y.keys
    assert len(alone.block_by_id(0)) == 0
    assert_close(make.one_block(alone.block_by_id(1)), make.one_block(found.block_by_id(1)))


def test_blocks_of_x_that_y_has_not_are_left_out(X, make):
    y = targets_by_type(X, make)
    y = TensorMap(Labels(y.keys.names, y.keys.values[:1]), [y.block_by_id(0)])
    model = sparse().fit(X, y)
    assert set(model.components_.keys["center_type"]) == {8}
    assert model.predict(X).keys == y.keys


def test_targets_of_atoms(X):
    moved = X.keys_to_properties("neighbor_type")
    y = TensorMap(
        moved.keys,
        [
            TensorBlock(
                np.sin(block.values.sum(axis=1, keepdims=True)),
                block.samples,
                [],
                Labels.range("charge", 1),
            )
            for block in moved
        ],
    )
    X = remove_gradients(moved)
    model = sparse(alpha=1e-6, n_components=20, gamma=0.3, aggregate=None).fit(X, y)
    found = model.predict(X)
    for block, other in zip(found, y):
        assert block.samples == other.samples
        assert np.abs(block.values - other.values).max() < 0.3
    assert_close(sparse(alpha=1e-6, n_components=20, gamma=0.3).fit(X, y).predict(X), found)
    alone = model.predict(TensorMap(Labels("center_type", np.array([[8]])), [X.block_by_id(1)]))
    assert len(alone.block_by_id(0)) == 0
    np.testing.assert_allclose(alone.block_by_id(1).values, found.block_by_id(1).values)


def vectors(make, n_systems=6):
    """Vectors of atoms, and what they add up to, with gradients."""
    rng = np.random.default_rng(0)
    axis = Labels("o3_mu", np.array([[-1], [0], [1]]))
    samples = make.labels(["system", "atom"], [[s, a] for s in range(n_systems) for a in range(3)])
    properties = Labels.range("n", 4)
    block = TensorBlock(rng.normal(size=(len(samples), 3, 4)), samples, [axis], properties)
    rows = [[n, s, b] for n, (s, _) in enumerate(samples) for b in range(3)]
    block.add_gradient(
        "positions",
        TensorBlock(
            rng.normal(size=(len(rows), 3, 3, 4)),
            make.labels(["sample", "system", "atom"], rows),
            [Labels.range("xyz", 3), axis],
            properties,
        ),
    )
    X = TensorMap(make.labels(["o3_lambda", "o3_sigma"], [[1, 1]]), [block])
    summed = SumOverSamples().transform(X).block()
    dipole = Labels.range("dipole", 1)
    weights = rng.normal(size=(4, 1))
    noise = rng.normal(size=(len(summed), 3, 1))
    target = TensorBlock(summed.values @ weights + noise, summed.samples, [axis], dipole)
    gradient = summed.gradient("positions")
    target.add_gradient(
        "positions",
        TensorBlock(gradient.values @ weights, gradient.samples, gradient.components, dipole),
    )
    return X, TensorMap(X.keys, [target])


@pytest.mark.parametrize("n_components", [2, 100])
def test_vectors_have_the_linear_kernel(make, n_components):
    X, y = vectors(make)
    model = sparse("linear", n_components=n_components, alpha=0.5).fit(X, y)
    summed = SumOverSamples().transform(X)
    ridge = Ridge(0.5, fit_intercept=False).fit(summed, y)  # two samples span all properties
    assert_close(model.predict(X), ridge.predict(summed))
    rotation = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    assert_close(model.predict(rotate(X, rotation)), rotate(model.predict(X), rotation))
    with pytest.raises(ValueError, match="use kernel='linear'"):
        sparse().fit(X, y)


# ---- containers, libraries, tools


def test_rows_are_searched(X, y):
    rows, targets = as_rows(X, y)
    grid = {"n_components": [2, 6], "gamma": [0.5, 2.0], "gradient_weights": ["balanced"]}
    search = GridSearchCV(sparse(), grid, cv=3).fit(rows, targets)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    predicted = search.predict(rows[[3, 0]])
    assert predicted.rows["system"].tolist() == [3, 0]
    assert predicted.tensor.block().has_gradient("positions")


def test_an_array_as_target(X, y):
    rows = as_rows(X)
    array = y.block().values[:, 0]
    found = sparse().fit(rows, array).predict(rows)
    expected = sparse().fit(remove_gradients(X), remove_gradients(y)).predict(X)
    np.testing.assert_allclose(found, expected.block().values[:, 0], rtol=1e-9)


@by_kernel
def test_torch(X, y, kernel):
    torch = pytest.importorskip("torch")
    model = sparse(kernel).fit(X.to(arrays="torch"), y.to(arrays="torch"))
    found = model.predict(X.to(arrays="torch"))
    assert isinstance(model.coef_.block_by_id(0).values, torch.Tensor)
    assert_close(found.to(arrays="numpy"), sparse(kernel).fit(X, y).predict(X))


def test_single_precision(systems, X, y, make):
    expected = sparse(alpha=0.1).fit(X, y).predict(X)
    narrow = [tensor(systems, dtype=np.float32) for tensor in (make.features, make.energies)]
    model = sparse(alpha=0.1).fit(*narrow)
    found = model.predict(narrow[0])
    assert found.block().values.dtype == np.float32
    assert model.coef_.block_by_id(0).values.dtype == np.float64
    assert_close(found, expected, tolerance=1e-3)


def test_pickles_and_second_fits(X, y):
    model = sparse().fit(X, y)
    expected = model.predict(X)
    assert_close(pickle.loads(pickle.dumps(model)).predict(X), expected, 0)
    assert_close(model.fit(X, y).predict(X), expected, 0)
    array = np.random.default_rng(0).normal(size=(8, 3))
    model.fit(array, array[:, 0])
    assert model.predict(array).shape == (8,)
    assert_close(model.fit(X, y).predict(X), expected, 0)


def test_order_of_blocks_and_samples_does_not_count(X, y, make):
    rng = np.random.default_rng(0)
    found = sparse().fit(make.permuted(X, rng), make.permuted(y, rng))
    assert_close(found.predict(X), sparse().fit(X, y).predict(X))


# ---- mistakes


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"aggregate": "max"}, ValueError, "`aggregate` must be 'sum', 'mean' or None"),
        ({"aggregate": None}, ValueError, r"X must have the sample names of y.*aggregate='sum'"),
        ({"alpha": -1.0}, ValueError, "`alpha` must be finite and not negative"),
        ({"kernel": "sigmoid"}, ValueError, "`kernel` must be one of"),
        ({"n_components": 0}, ValueError, "`n_components` must be an integer from 1 on"),
        ({"gradient_weights": -1}, ValueError, "`gradient_weights` must be finite"),
    ],
)
def test_parameters_are_checked(X, y, parameters, error, message):
    with pytest.raises(error, match=message):
        sparse().set_params(**parameters).fit(X, y)


def test_y_must_go_with_x(X, y, make):
    other = TensorMap(make.labels(["center_type"], [[3]]), [y.block()])
    with pytest.raises(ValueError, match=r"no block of X matches the key .*center_type=3"):
        sparse().fit(X, other)
    other = TensorMap(make.labels(["energy"], [[0]]), [y.block()])
    with pytest.raises(ValueError, match=r"key names of y must be among those of X"):
        sparse().fit(X, other)
    with pytest.raises(ValueError, match=r"X must have the sample names of y"):
        sparse().fit(rename_dimension(X, "samples", "system", "s"), y)


def test_fit_comes_first(X):
    for use in (lambda m: m.predict(X), lambda m: m.coef_, lambda m: m.components_):
        with pytest.raises(NotFittedError):
            use(sparse())
