"""Ridge against plain numpy, and the rules it must keep."""

import pickle

import numpy as np
import pytest
import scipy.linalg
import sklearn.linear_model
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

import metatensor
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import (
    KeysToProperties,
    Ridge,
    RidgeCV,
    StandardScaler,
    SumOverSamples,
    _base,
    as_rows,
)

SOLVERS = ["auto", "cholesky", "dual", "svd", "lstsq"]


def stacked(X, y, g, v=None, intercept=True):
    """Rows, targets and weights of the problem for one block, written out with loops."""
    x, t = X.block(), y.block()
    v = np.ones(len(t)) if v is None else v
    where = {tuple(row): n for n, row in enumerate(x.samples.values.tolist())}
    rows, targets, weights = [], [], []
    for n, sample in enumerate(t.samples.values.tolist()):
        rows.append(np.append(x.values[where[tuple(sample)]], float(intercept)))
        targets.append(t.values[n])
        weights.append(v[n])
    for name, weight in g.items():
        there = {tuple(row): n for n, row in enumerate(x.gradient(name).samples.values.tolist())}
        for n, (sample, *rest) in enumerate(t.gradient(name).samples.values.tolist()):
            position = there.get((where[tuple(t.samples.values[sample].tolist())], *rest))
            components = t.gradient(name).values[n].reshape(-1, len(t.properties))
            for c, target in enumerate(components):
                row = np.zeros(len(x.properties) + 1)
                if position is not None:
                    row[:-1] = x.gradient(name).values[position].reshape(-1, len(row) - 1)[c]
                rows.append(row)
                targets.append(target)
                weights.append(weight * v[sample])
    return np.array(rows), np.array(targets), np.array(weights)


def reference(X, y, alpha, g, v=None, intercept=True):
    """Coefficients (n_targets, n_features) and intercept of one block."""
    rows, targets, weights = stacked(X, y, g, v, intercept)
    root = np.sqrt(weights)[:, None]
    penalty = np.diag(np.append(np.sqrt(np.broadcast_to(alpha, rows.shape[1] - 1)), 0.0))
    matrix = np.vstack([root * rows, penalty])
    right = np.vstack([root * targets, np.zeros((len(penalty), targets.shape[1]))])
    solution = np.linalg.lstsq(matrix, right, rcond=None)[0]
    return solution[:-1].T, solution[-1]


def balanced(y, v=None, intercept=True):
    block = y.block()
    v = np.ones(len(block)) if v is None else v
    energies = block.values[:, 0]
    mean = v @ energies / v.sum() if intercept else 0.0
    weights = {}
    for name, gradient in block.gradients():
        squares = (gradient.values**2).reshape(len(gradient), -1).sum(axis=1)
        weights[name] = v @ (energies - mean) ** 2 / (v[gradient.samples.values[:, 0]] @ squares)
    return weights


def check_same(model, coefficients, intercept, rtol=1e-9):
    scale = np.abs(coefficients).max()
    np.testing.assert_allclose(model.coef_.block().values, coefficients, atol=rtol * scale)
    np.testing.assert_allclose(model.intercept_.block().values[0], intercept, atol=rtol * scale)


def assert_same_models(first, second, rtol=1e-9):
    assert first.coef_.keys == second.coef_.keys
    for a, b in zip(first.coef_, second.coef_):
        np.testing.assert_allclose(
            a.values, b.values, atol=rtol * max(np.abs(b.values).max(), 1e-300)
        )
    for a, b in zip(first.intercept_, second.intercept_):
        np.testing.assert_allclose(a.values, b.values, rtol=rtol, atol=rtol)


# ---- the solution


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("gradient_weights", "g"),
    [
        (1.0, {"positions": 1.0, "strain": 1.0}),
        (0, {}),
        ({"positions": 0.3, "strain": 0.0}, {"positions": 0.3}),
        ({"positions": 0.0, "strain": 2.5}, {"strain": 2.5}),
        ("balanced", None),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [True, False])
def test_solution_is_that_of_the_stacked_rows(
    features, y, solver, gradient_weights, g, weighted, intercept
):
    v = np.random.default_rng(0).uniform(0, 2, size=len(y.block())) if weighted else None
    g = balanced(y, v, intercept) if g is None else g
    model = Ridge(
        alpha=1e-3, gradient_weights=gradient_weights, solver=solver, fit_intercept=intercept
    )
    assert model.fit(features, y, sample_weight=v) is model
    coefficients, constant = reference(features, y, 1e-3, g, v, intercept)
    check_same(model, coefficients, constant)
    for name, weights in model.gradient_weights_.items():
        np.testing.assert_allclose(weights, [g[name]])
    assert model.coef_.block().samples == y.block().properties
    assert model.coef_.block().properties == features.block().properties


@pytest.mark.parametrize("solver", ["cholesky", "svd", "lstsq"])
@pytest.mark.parametrize("alpha", [1e-3, 10.0])
def test_condition_number(features, y, solver, alpha):
    rows, _, _ = stacked(features, y, {"positions": 1.0, "strain": 1.0})
    rows, n = rows[:, :-1], len(y.block())
    rows[:n] -= rows[:n].mean(axis=0)
    matrix = rows.T @ rows + alpha * np.eye(rows.shape[1])
    expected = np.linalg.cond(matrix)
    found = Ridge(alpha=alpha, solver=solver).fit(features, y).condition_
    if solver == "cholesky":  # an estimate, in another norm
        assert expected / 5 < found[0] < expected * 5
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("empty", ["samples", "properties"])
def test_blocks_without_samples_or_properties(make, solver, empty):
    rng = np.random.default_rng(14)
    keys = make.labels(["k"], [[0], [1]])
    n_samples, n_features = (0, 3) if empty == "samples" else (8, 0)
    blocks = {
        name: [
            TensorBlock(
                rng.normal(size=(n, m)), Labels.range("system", n), [], Labels.range("n", m)
            )
            for n, m in shapes
        ]
        for name, shapes in {
            "X": [(8, 3), (n_samples, n_features)],
            "y": [(8, 2), (n_samples, 2)],
        }.items()
    }
    X, y = (TensorMap(keys, part) for part in blocks.values())
    model = Ridge(alpha=0.1, solver=solver).fit(X, y)
    prediction = model.predict(X).block(k=1)
    assert prediction.shape == (n_samples, 2)
    if empty == "properties":
        mean = y.block(k=1).values.mean(axis=0)
        np.testing.assert_allclose(prediction.values, np.tile(mean, (8, 1)))
    else:
        assert (model.coef_.block(k=1).values == 0).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_fewer_rows_than_properties(features, y, solver):
    rows = as_rows(features, y)
    X, y = (part[:7].tensor for part in rows)
    model = Ridge(alpha=1e-4, gradient_weights=0, solver=solver).fit(X, y)
    check_same(model, *reference(X, y, 1e-4, {}), rtol=1e-8)


def test_rows_are_worked_on_in_chunks(features, y, monkeypatch):
    at_once = Ridge(alpha=1e-3).fit(features, y)
    monkeypatch.setattr(_base, "CHUNK_BYTES", 1000)
    for solver in ("cholesky", "lstsq"):
        assert_same_models(Ridge(alpha=1e-3, solver=solver).fit(features, y), at_once)
    scaled = StandardScaler().fit(features)
    monkeypatch.undo()
    np.testing.assert_allclose(
        scaled.scale_.block().values, StandardScaler().fit(features).scale_.block().values
    )


@pytest.mark.parametrize("solver", ["auto", "cholesky", "dual", "svd", "lstsq"])
def test_alpha_for_each_property(features, y, make, solver):
    rng = np.random.default_rng(1)
    properties = features.block().properties
    alpha = rng.uniform(1e-4, 1e-2, size=(1, len(properties)))
    order = rng.permutation(len(properties))
    shuffled = make.labels(properties.names, properties.values[order])
    tensor = make.one_block(TensorBlock(alpha[:, order], Labels.single(), [], shuffled))
    model = Ridge(alpha=tensor, solver=solver).fit(features, y)
    check_same(model, *reference(features, y, alpha[0], {"positions": 1.0, "strain": 1.0}))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("per_property", [False, True])
@pytest.mark.parametrize("intercept", [True, False])
def test_everything_together(features, y, make, solver, relative, per_property, intercept):
    rng = np.random.default_rng(18)
    properties, n = features.block().properties, len(y.block())
    alpha = rng.uniform(1e-5, 1e-3, size=16) if per_property else np.full(16, 1e-4)
    v = rng.uniform(0, 2, size=n)
    g = balanced(y, v, intercept)
    rows, targets, weights = stacked(features, y, g, v, intercept)
    if intercept:  # on centered rows and by normal equations, unlike `reference`
        mean = np.average(rows[:n, :-1], axis=0, weights=v)
        target_mean = np.average(targets[:n], axis=0, weights=v)
        rows[:n, :-1] -= mean
        targets[:n] -= target_mean
    rows = np.sqrt(weights)[:, None] * rows[:, :-1]
    gram = rows.T @ rows
    penalty = alpha * (np.trace(gram) / 16 if relative else 1.0)
    moment = rows.T @ (np.sqrt(weights)[:, None] * targets)
    expected = np.linalg.solve(gram + np.diag(penalty), moment)
    constant = target_mean - mean @ expected if intercept else np.zeros(1)

    if per_property:
        alpha = make.one_block(TensorBlock(alpha[None, :], Labels.single(), [], properties))
    model = Ridge(
        alpha=alpha if per_property else 1e-4,
        alpha_type="relative" if relative else "absolute",
        fit_intercept=intercept,
        gradient_weights="balanced",
        solver=solver,
    ).fit(features, y, sample_weight=v)
    check_same(model, expected.T, constant, rtol=1e-8)


def two_targets(y, make):
    """The energies, and half of them plus one, as two properties."""
    block = y.block()
    properties = Labels.range("energy", 2)

    def both(values):
        return np.concatenate([values, values**2], axis=-1)

    result = TensorBlock(both(block.values), block.samples, [], properties)
    for name, gradient in block.gradients():
        values = TensorBlock(
            both(gradient.values), gradient.samples, gradient.components, properties
        )
        result.add_gradient(name, values)
    return make.one_block(result)


def one_target(y, n, make):
    block = y.block()
    properties = make.labels(["energy"], [[n]])
    result = TensorBlock(block.values[..., n : n + 1], block.samples, [], properties)
    for name, gradient in block.gradients():
        values = gradient.values[..., n : n + 1]
        result.add_gradient(
            name, TensorBlock(values, gradient.samples, gradient.components, properties)
        )
    return make.one_block(result)


@pytest.mark.parametrize("alpha", [1e-3, "targets"])
def test_targets_are_independent(features, y, make, alpha):
    y = two_targets(y, make)
    alphas = [1e-3, 1e-3]
    if alpha == "targets":
        alphas = [1e-2, 1e-4]
        properties = features.block().properties
        values = np.repeat(alphas, len(properties)).reshape(2, -1)
        alpha = make.one_block(TensorBlock(values, Labels.range("energy", 2), [], properties))
    model = Ridge(alpha=alpha).fit(features, y)
    for n in range(2):
        expected = reference(
            features, one_target(y, n, make), alphas[n], {"positions": 1.0, "strain": 1.0}
        )
        np.testing.assert_allclose(model.coef_.block().values[[n]], expected[0], rtol=1e-8)
        np.testing.assert_allclose(model.intercept_.block().values[:, n], expected[1], rtol=1e-8)


def test_relative_alpha_does_not_depend_on_units(features, y):
    model = Ridge(alpha=1e-6, alpha_type="relative").fit(features, y)
    block = features.block()
    scaled = TensorBlock(1e3 * block.values, block.samples, [], block.properties)
    for name, gradient in block.gradients():
        scaled.add_gradient(
            name,
            TensorBlock(
                1e3 * gradient.values, gradient.samples, gradient.components, block.properties
            ),
        )
    other = Ridge(alpha=1e-6, alpha_type="relative", solver="lstsq").fit(
        TensorMap(features.keys, [scaled]), y
    )
    np.testing.assert_allclose(
        1e3 * other.coef_.block().values, model.coef_.block().values, rtol=1e-7
    )
    rows, _, weights = stacked(features, y, {"positions": 1.0, "strain": 1.0})
    rows = rows[:, :-1]
    rows[: len(block)] -= rows[: len(block)].mean(axis=0)
    alpha = 1e-6 * np.sum(rows**2) / rows.shape[1]
    assert_same_models(model, Ridge(alpha=alpha).fit(features, y), rtol=1e-6)


@pytest.mark.parametrize("rank", ["full", "deficient"])
def test_no_penalty_is_least_squares(features, y, make, rank):
    if rank == "deficient":
        block = features.block()
        properties = Labels.range("n", 2 * len(block.properties))
        doubled = TensorBlock(np.hstack([block.values] * 2), block.samples, [], properties)
        for name, gradient in block.gradients():
            values = np.concatenate([gradient.values] * 2, axis=-1)
            doubled.add_gradient(
                name, TensorBlock(values, gradient.samples, gradient.components, properties)
            )
        features = make.one_block(doubled)
    rows, targets, _ = stacked(features, y, {"positions": 1.0, "strain": 1.0})
    rows, n = rows[:, :-1], len(y.block())
    rows[:n] -= rows[:n].mean(axis=0)
    targets[:n] -= targets[:n].mean(axis=0)
    expected = np.linalg.lstsq(rows, targets, rcond=1e-12)[0].T
    model = Ridge(alpha=0).fit(features, y)
    np.testing.assert_allclose(model.coef_.block().values, expected, rtol=1e-6)


def test_auto_falls_back_when_the_matrix_is_singular(features, y, make):
    block = features.block()
    properties = Labels.range("n", 2)
    values = block.values[:, :1] * np.array([[1.0, 1.0]])
    X = make.one_block(TensorBlock(values, block.samples, [], properties))
    model = Ridge(alpha=1e-30, gradient_weights=0).fit(X, y)
    first, second = model.coef_.block().values[0]
    assert first == pytest.approx(second, rel=1e-6)
    with pytest.raises(scipy.linalg.LinAlgError, match="use a larger .*, or solver='lstsq'"):
        Ridge(alpha=1e-30, gradient_weights=0, solver="cholesky").fit(X, y)


def test_large_offsets_do_not_spoil_the_intercept(features, y, make):
    block, shift = features.block(), 1e7
    shifted = TensorBlock(block.values + shift, block.samples, [], block.properties)
    model = Ridge(alpha=1e-3, gradient_weights=0)
    expected = model.fit(features, y).coef_.block().values
    found = (
        Ridge(alpha=1e-3, gradient_weights=0).fit(make.one_block(shifted), y).coef_.block().values
    )
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


# ---- weights of samples


def test_weight_zero_is_dropping_the_system(features, y):
    X, y = as_rows(features, y)
    weights = np.ones(len(X))
    weights[[2, 5, 9]] = 0
    kept = np.flatnonzero(weights)
    for gradient_weights in (1.0, "balanced"):
        model = Ridge(alpha=1e-3, gradient_weights=gradient_weights)
        weighted = model.fit(X, y, sample_weight=weights)
        dropped = Ridge(alpha=1e-3, gradient_weights=gradient_weights).fit(X[kept], y[kept])
        assert_same_models(weighted, dropped)


def test_integer_weights_are_copies(features, y, make):
    X, y = as_rows(features, y)
    weights = np.arange(len(X)) % 3
    parts = [
        [
            make.renumbered(part[np.flatnonzero(weights > copy)].tensor, 1000 * copy)
            for copy in range(2)
        ]
        for part in (X, y)
    ]
    copied = as_rows(*parts)
    for gradient_weights in (1.0, "balanced"):
        weighted = Ridge(alpha=1e-3, gradient_weights=gradient_weights).fit(
            X, y, sample_weight=weights
        )
        model = Ridge(alpha=1e-3, gradient_weights=gradient_weights).fit(*copied)
        assert_same_models(weighted, model)


def test_weights_can_be_those_of_values_and_gradients(features, y, make):
    rng = np.random.default_rng(3)
    block = y.block()
    properties = Labels.single()
    weights = TensorBlock(rng.uniform(size=(len(block), 1)), block.samples, [], properties)
    energy_only = make.one_block(weights.copy())
    v = weights.values[:, 0]

    rows, targets, _ = stacked(features, y, {"positions": 0.5, "strain": 0.5})
    expected_weights = np.append(v, np.full(len(rows) - len(v), 0.5))
    root = np.sqrt(expected_weights)[:, None]
    penalty = np.diag(np.append(np.full(rows.shape[1] - 1, np.sqrt(1e-3)), 0.0))
    right = np.vstack([root * targets, np.zeros((len(penalty), 1))])
    solution = np.linalg.lstsq(np.vstack([root * rows, penalty]), right, rcond=None)[0]
    model = Ridge(alpha=1e-3, gradient_weights=0.5).fit(features, y, sample_weight=energy_only)
    check_same(model, solution[:-1].T, solution[-1])

    for name, gradient in block.gradients():
        values = np.ones((*gradient.values.shape[:-1], 1))
        values[:] = v[gradient.samples.values[:, 0]].reshape(-1, *[1] * (values.ndim - 1))
        weights.add_gradient(
            name, TensorBlock(values, gradient.samples, gradient.components, properties)
        )
    everything = make.permuted(make.one_block(weights), rng)
    model = Ridge(alpha=1e-3).fit(features, y, sample_weight=everything)
    assert_same_models(model, Ridge(alpha=1e-3).fit(features, y, sample_weight=v))


def test_weights_can_differ_between_targets(features, y, make):
    y = two_targets(y, make)
    block = y.block()
    values = np.random.default_rng(4).uniform(size=(len(block), 2))
    weights = make.one_block(TensorBlock(values, block.samples, [], block.properties))
    model = Ridge(alpha=1e-3, gradient_weights=0).fit(features, y, sample_weight=weights)
    for n in range(2):
        expected = reference(features, one_target(y, n, make), 1e-3, {}, values[:, n])
        np.testing.assert_allclose(model.coef_.block().values[[n]], expected[0], rtol=1e-8)


# ---- labels decide


def test_order_does_not_count(X, y, make):
    rng = np.random.default_rng(5)
    pipeline = make_pipeline(
        KeysToProperties(["center_type", "neighbor_type"]),
        SumOverSamples(),
        StandardScaler(),
        Ridge(alpha=1e-4),
    )
    expected = pipeline.fit(X, y).predict(X).block()
    for n in range(3):
        first = X if n == 0 else make.permuted(X, rng)
        second = y if n == 1 else make.permuted(y, rng)
        found = pipeline.fit(first, second).predict(X).block()
        assert found.samples == expected.samples
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-10)
        for name, gradient in expected.gradients():
            assert found.gradient(name).samples == gradient.samples
            np.testing.assert_allclose(found.gradient(name).values, gradient.values, atol=1e-10)


def test_gradient_rows_that_X_has_not_are_rows_of_zeros(features, y, make):
    block = features.block()
    gradient = block.gradient("positions")
    samples = y.block().gradient("positions").samples
    assert len(samples) > len(gradient.samples)  # the isolated atom, and atoms without neighbours
    values = np.zeros((len(samples), 3, len(block.properties)))
    for row, entry in zip(gradient.values, gradient.samples):
        values[samples.position(entry)] = row
    filled = TensorBlock(block.values, block.samples, [], block.properties)
    filled.add_gradient(
        "positions", TensorBlock(values, samples, gradient.components, block.properties)
    )
    filled.add_gradient("strain", block.gradient("strain"))
    for gradient_weights in (1.0, "balanced"):
        first = Ridge(alpha=1e-3, gradient_weights=gradient_weights).fit(features, y)
        second = Ridge(alpha=1e-3, gradient_weights=gradient_weights).fit(make.one_block(filled), y)
        assert_same_models(first, second)
        np.testing.assert_allclose(
            first.gradient_weights_["positions"], second.gradient_weights_["positions"]
        )


def test_gradient_rows_that_y_has_not_say_nothing(features, y, make):
    block = y.block()
    gradient = block.gradient("positions")
    kept = np.flatnonzero(np.random.default_rng(6).uniform(size=len(gradient)) > 0.3)
    partial = TensorBlock(block.values, block.samples, [], block.properties)
    samples = make.labels(gradient.samples.names, gradient.samples.values[kept])
    partial.add_gradient(
        "positions",
        TensorBlock(gradient.values[kept], samples, gradient.components, block.properties),
    )
    y = make.one_block(partial)
    model = Ridge(alpha=1e-3).fit(features, y)
    check_same(model, *reference(features, y, 1e-3, {"positions": 1.0}))
    assert set(model.predict(features).block().gradients_list()) == {"positions", "strain"}


def test_gradient_names_that_only_one_has_do_not_count_if_rows_stay_unique(features, y, make):
    block = y.block()
    gradient = block.gradient("positions")
    renamed = TensorBlock(block.values, block.samples, [], block.properties)
    samples = make.labels(["sample", "atom"], gradient.samples.values[:, [0, 2]])
    renamed.add_gradient(
        "positions", TensorBlock(gradient.values, samples, gradient.components, block.properties)
    )
    renamed.add_gradient("strain", block.gradient("strain"))
    assert_same_models(Ridge().fit(features, make.one_block(renamed)), Ridge().fit(features, y))


def test_X_may_have_more_samples(features, y):
    X, y = as_rows(features, y)
    some = [3, 1, 8, 12, 4, 6]
    assert_same_models(Ridge().fit(features, y[some].tensor), Ridge().fit(X[some], y[some]))


def equivariant(make, rng, n_systems=40):
    """Vectors that are a linear function of others, with the same coefficients for x, y and z."""
    samples, xyz = Labels.range("system", n_systems), Labels.range("xyz", 3)
    vectors = rng.normal(size=(n_systems, 3, 5)) + 1
    coefficients = rng.normal(size=(2, 5))
    X = TensorBlock(vectors, samples, [xyz], Labels.range("n", 5))
    y = TensorBlock(vectors @ coefficients.T, samples, [xyz], Labels.range("target", 2))
    return make.one_block(X), make.one_block(y), coefficients


def test_components_share_coefficients_and_have_no_intercept(make):
    X, y, coefficients = equivariant(make, np.random.default_rng(7))
    model = Ridge(alpha=1e-10, fit_intercept=True).fit(X, y)
    np.testing.assert_allclose(model.coef_.block().values, coefficients, rtol=1e-9)
    assert (model.intercept_.block().values == 0).all()
    prediction = model.predict(X).block()
    np.testing.assert_allclose(prediction.values, y.block().values, atol=1e-8)
    assert prediction.components == y.block().components


def test_rotations_of_features_rotate_predictions(make):
    rng = np.random.default_rng(8)
    X, y, _ = equivariant(make, rng)
    y.block().values[:] += rng.normal(size=y.block().values.shape)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]

    def rotated(tensor):
        block = tensor.block()
        values = np.einsum("ab,sbp->sap", rotation, block.values)
        return make.one_block(
            TensorBlock(values, block.samples, block.components, block.properties)
        )

    pipeline = make_pipeline(StandardScaler(), Ridge(alpha=0.1)).fit(X, y)
    expected = rotated(pipeline.predict(X)).block().values
    np.testing.assert_allclose(pipeline.predict(rotated(X)).block().values, expected, atol=1e-12)
    again = make_pipeline(StandardScaler(), Ridge(alpha=0.1)).fit(rotated(X), rotated(y))
    np.testing.assert_allclose(
        again[-1].coef_.block().values, pipeline[-1].coef_.block().values, atol=1e-12
    )


@pytest.mark.parametrize(
    ("names", "key", "has_intercept"),
    [
        (["o3_lambda", "o3_sigma"], [0, 1], True),
        (["o3_lambda", "o3_sigma"], [0, -1], False),
        (["o3_lambda", "o3_sigma"], [2, 1], False),
        (["center_type"], [8], True),
    ],
)
@pytest.mark.parametrize("with_component", [False, True])
def test_only_invariant_blocks_have_an_intercept(make, names, key, has_intercept, with_component):
    rng = np.random.default_rng(9)
    samples = Labels.range("system", 30)
    x = rng.normal(size=(30, 2))
    y = x @ [[1.0], [2.0]] + 5
    components = [Labels.range("o3_mu", 1)] if with_component else []
    shape = (30, 1, -1) if with_component else (30, -1)
    X, y = (
        TensorMap(
            make.labels(names, [key]),
            [
                TensorBlock(
                    values.reshape(shape), samples, components, Labels.range("n", values.shape[-1])
                )
            ],
        )
        for values in (x, y)
    )
    intercept = Ridge(alpha=1e-8).fit(X, y).intercept_.block().values
    if has_intercept:
        np.testing.assert_allclose(intercept, 5, rtol=1e-6)
    else:
        assert (intercept == 0).all()


def test_each_block_is_a_model_of_its_own(make):
    rng = np.random.default_rng(10)
    keys = make.labels(["center_type", "o3_lambda"], [[1, 0], [8, 0], [8, 1]])
    samples = Labels.range("system", 20)
    X_blocks, y_blocks, slopes = [], [], [2.0, -3.0, 7.0]
    for slope in slopes:
        x = rng.normal(size=(20, 1))
        X_blocks.append(TensorBlock(x, samples, [], Labels.range("n", 1)))
        y_blocks.append(TensorBlock(slope * x, samples, [], Labels.range("t", 1)))
    X = TensorMap(keys, X_blocks)
    order = [2, 0, 1]
    y = TensorMap(make.labels(keys.names, keys.values[order]), [y_blocks[n] for n in order])
    model = Ridge(alpha=1e-9).fit(X, y)
    assert model.n_features_in_ == 3
    assert model.coef_.keys == y.keys
    np.testing.assert_allclose(
        [b.values[0, 0] for b in model.coef_], [slopes[n] for n in order], rtol=1e-6
    )
    assert model.predict(X).keys == y.keys


# ---- batches


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("gradient_weights", [1.0, "balanced", {"positions": 0.1, "strain": 3.0}])
def test_batches_are_as_good_as_all_at_once(features, y, solver, gradient_weights):
    X, y = as_rows(features, y)
    weights = np.random.default_rng(11).uniform(size=len(X))
    options = {"alpha": 1e-3, "solver": solver, "gradient_weights": gradient_weights}
    at_once = Ridge(**options).fit(X, y, sample_weight=weights)
    model = Ridge(**options)
    for batch in (slice(0, 3), slice(3, 4), slice(4, 12), slice(12, None)):
        assert model.partial_fit(X[batch], y[batch], sample_weight=weights[batch]) is model
    assert_same_models(model, at_once, rtol=1e-10)
    np.testing.assert_allclose(
        model.predict(X).tensor.block().values, at_once.predict(X).tensor.block().values
    )


def test_batches_can_come_from_a_generator(features, y):
    X, y = as_rows(features, y)
    weights = np.linspace(0.5, 1, 16)
    model = Ridge(alpha=1e-3).fit(X[:3], y[:3])  # is forgotten
    assert model.fit_batches((X[n : n + 5], y[n : n + 5]) for n in range(0, 16, 5)) is model
    assert_same_models(model, Ridge(alpha=1e-3).fit(X, y), rtol=1e-10)
    parts = [slice(0, 9), slice(9, 16)]
    model.fit_batches([(X[part], y[part], weights[part]) for part in parts])
    assert_same_models(model, Ridge(alpha=1e-3).fit(X, y, sample_weight=weights), rtol=1e-10)
    with pytest.raises(ValueError, match="must have at least one"):
        Ridge().fit_batches([])


def test_batches_can_follow_a_fit_until_it_is_pickled(features, y):
    X, y = as_rows(features, y)
    model = Ridge(alpha=1e-3).fit(X[:10], y[:10])
    saved = pickle.loads(pickle.dumps(model))
    assert_same_models(saved, model, rtol=0)
    assert len(pickle.dumps(model)) < 10_000
    assert_same_models(model.partial_fit(X[10:], y[10:]), Ridge(alpha=1e-3).fit(X, y))
    assert_same_models(pickle.loads(pickle.dumps(model)), model, rtol=0)
    with pytest.raises(ValueError, match="can not add to the result of a `fit` that was pickled"):
        saved.partial_fit(X[10:], y[10:])


def test_batches_with_and_without_forces(features, y, make):
    """Energies of all systems, forces of some: the gradient of y has fewer rows."""
    X, y_rows = as_rows(features, y)
    model = Ridge(alpha=1e-3, gradient_weights={"positions": 0.5, "strain": 2.0})
    model.partial_fit(X[:6], changed(y_rows[:6].tensor))
    model.partial_fit(X[6:], y_rows[6:])
    block, forces = (
        y.block(),
        TensorBlock(y.block().values, y.block().samples, [], y.block().properties),
    )
    for name, gradient in block.gradients():
        kept = np.flatnonzero(gradient.samples["sample"] >= 6)
        samples = make.labels(gradient.samples.names, gradient.samples.values[kept])
        forces.add_gradient(
            name, TensorBlock(gradient.values[kept], samples, gradient.components, block.properties)
        )
    expected = Ridge(alpha=1e-3, gradient_weights={"positions": 0.5, "strain": 2.0})
    assert_same_models(model, expected.fit(features, make.one_block(forces)))


def test_a_refused_batch_changes_nothing(features, y, make):
    X, y = as_rows(features, y)
    model = Ridge(alpha=1e-3).partial_fit(X[:8], y[:8])
    broken = y[8:].tensor.copy()
    broken.block().values[3] = np.nan
    with pytest.raises(ValueError, match="Input y contains NaN or infinity, in the values"):
        model.partial_fit(X[8:], broken)
    model.partial_fit(X[8:], y[8:])
    assert_same_models(model, Ridge(alpha=1e-3).fit(X, y))


# ---- predictions


def test_predicted_gradients_are_derivatives_of_predicted_values(make, X, y):
    pipeline = make_pipeline(
        KeysToProperties(["center_type", "neighbor_type"]),
        SumOverSamples(),
        StandardScaler(),
        Ridge(alpha=1e-6, gradient_weights="balanced"),
    ).fit(X, y)
    prediction = pipeline.predict(make.features(make.systems(5, seed=1))).block()
    step = 1e-5

    def slope(change):
        """Central difference of the predicted energies."""
        energies = []
        for sign in (1, -1):
            moved = make.systems(5, seed=1)
            change(moved, sign * step)
            block = pipeline.predict(make.features(moved, gradients=False)).block()
            assert block.samples == prediction.samples
            energies.append(block.values[:, 0])
        return (energies[0] - energies[1]) / (2 * step)

    gradient = prediction.gradient("positions")
    for row, (sample, number, atom) in enumerate(gradient.samples.values):
        for axis in range(3):

            def displace(moved, step, where=(number, atom, axis)):
                moved[where[0]].positions[where[1:]] += step

            expected = slope(displace)[sample]
            assert gradient.values[row, axis, 0] == pytest.approx(expected, abs=1e-7)

    for a, b in np.ndindex(3, 3):

        def strain(moved, step, a=a, b=b):
            for system in moved:
                system.positions[:, b] += step * system.positions[:, a].copy()

        found = prediction.gradient("strain").values[:, a, b, 0]
        np.testing.assert_allclose(found, slope(strain), atol=1e-7)


def test_predictions_come_in_the_container_of_y(features, y):
    X_rows, y_rows = as_rows(features, y)
    energies = y.block().values[:, 0]
    expected = Ridge().fit(features, y).predict(features).block()
    assert isinstance(Ridge().fit(features, y).predict(features), TensorMap)
    rows = Ridge().fit(X_rows, y_rows).predict(X_rows)
    assert rows.rows == y_rows.rows
    np.testing.assert_array_equal(rows.tensor.block().values, expected.values)
    no_forces = Ridge(gradient_weights=0).fit(features, y).predict(features).block().values
    for X in (features, X_rows):
        flat = Ridge().fit(X, energies).predict(X)
        assert flat.shape == energies.shape
        np.testing.assert_allclose(flat, no_forces[:, 0], rtol=1e-12)
        column = Ridge().fit(X, energies[:, None])
        assert column.predict(X).shape == (len(energies), 1)
        assert column.score(X, energies[:, None]) == pytest.approx(
            Ridge(gradient_weights=0).fit(features, y).score(features, y)
        )


def test_predictions_keep_the_dtype_of_X(make, systems, features, y):
    single = features.to(np.float32)
    model = Ridge(alpha=1e-3).fit(single, y.to(np.float32))
    prediction = model.predict(single).block()
    assert prediction.values.dtype == np.float32
    assert prediction.gradient("positions").values.dtype == np.float32
    assert model.coef_.dtype == np.float32
    expected = Ridge(alpha=1e-3).fit(features, y).predict(features).block()
    np.testing.assert_allclose(prediction.values, expected.values, rtol=1e-4)


def test_integers_are_numbers_too(make):
    samples = Labels.range("system", 4)
    X, y = (
        make.one_block(TensorBlock(np.array(v).reshape(4, 1), samples, [], Labels.range("n", 1)))
        for v in ([0, 1, 2, 5], [1, 3, 5, 11])
    )
    np.testing.assert_allclose(
        Ridge(alpha=1e-9).fit(X, y).predict(X).block().values, y.block().values, atol=1e-6
    )


# ---- array libraries


def moved(tensor, xp):
    """The same data in another array library."""

    def block_of(block):
        result = TensorBlock(
            xp.asarray(block.values), block.samples, block.components, block.properties
        )
        for name, gradient in block.gradients():
            result.add_gradient(name, block_of(gradient))
        return result

    return TensorMap(tensor.keys, [block_of(block) for block in tensor])


def test_every_array_library_gives_the_same(X, y, xp):
    def pipeline():
        return make_pipeline(
            KeysToProperties(["center_type", "neighbor_type"]),
            SumOverSamples(),
            StandardScaler(),
            Ridge(alpha=1e-3),
        )

    expected = pipeline().fit(X, y)
    model = pipeline().fit(moved(X, xp), moved(y, xp))
    assert type(model[-1].coef_.block().values) is type(xp.asarray(np.zeros(1)))
    first, second = expected.predict(X).block(), model.predict(moved(X, xp)).block()
    np.testing.assert_allclose(np.asarray(second.values), first.values, rtol=1e-12)
    for name, gradient in first.gradients():
        found = np.asarray(second.gradient(name).values)
        np.testing.assert_allclose(found, gradient.values, atol=1e-12)
    # a model goes with whatever X it is given
    mixed = expected.predict(moved(X, xp)).block()
    np.testing.assert_allclose(np.asarray(mixed.values), first.values, rtol=1e-12)


def test_predictions_can_be_differentiated_by_torch(features, y):
    torch = pytest.importorskip("torch")
    model = Ridge(alpha=1e-3).fit(features, y)
    block = features.block()
    values = torch.tensor(block.values, requires_grad=True)
    X = TensorMap(features.keys, [TensorBlock(values, block.samples, [], block.properties)])
    model.predict(X).block().values.sum().backward()
    expected = np.repeat(model.coef_.block().values, len(block), axis=0)
    np.testing.assert_allclose(values.grad.numpy(), expected)
    assert (
        not Ridge(gradient_weights=0)
        .fit(X, y.to(arrays="torch"))
        .coef_.block()
        .values.requires_grad
    )


def test_nothing_given_is_changed(features, y):
    before = features.copy(), y.copy()
    weights = np.linspace(0, 1, len(y.block()))
    Ridge().fit(features, y, sample_weight=weights).predict(features)
    StandardScaler().fit_transform(features)
    assert (features, y) == before
    np.testing.assert_array_equal(weights, np.linspace(0, 1, len(y.block())))


# ---- plain arrays


@pytest.mark.parametrize("shape", [(60,), (60, 3)])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_arrays_give_what_scikit_learn_gives(shape, fit_intercept):
    rng = np.random.default_rng(12)
    X, y, weights = rng.normal(size=(60, 5)) + 1, rng.normal(size=shape), rng.uniform(size=60)
    ours = Ridge(alpha=0.7, fit_intercept=fit_intercept).fit(X, y, sample_weight=weights)
    theirs = sklearn.linear_model.Ridge(alpha=0.7, fit_intercept=fit_intercept, solver="svd")
    theirs.fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(ours.coef_, theirs.coef_)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-12)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X))
    assert ours.score(X, y, weights) == pytest.approx(theirs.score(X, y, weights))


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"alpha": -1.0}, ValueError, "`alpha` must be finite and not negative, got -1.0"),
        ({"alpha": "1"}, TypeError, "`alpha` must be a number or a TensorMap, got str"),
        (
            {"alpha": np.ones(3)},
            TypeError,
            "`alpha` must be a number or a TensorMap, got numpy.ndarray",
        ),
        (
            {"alpha_type": "half"},
            ValueError,
            "`alpha_type` must be 'absolute' or 'relative', got 'half'",
        ),
        ({"solver": "qr"}, ValueError, "`solver` must be 'auto', .*, got 'qr'"),
        (
            {"gradient_weights": -0.5},
            ValueError,
            "`gradient_weights` must be finite and not negative",
        ),
        ({"gradient_weights": "equal"}, TypeError, "a dict of numbers, or 'balanced', got str"),
        ({"gradient_weights": {"positions": 1.0}}, ValueError, "must name all the gradients of y"),
        (
            {"gradient_weights": {"positions": 1.0, "strain": -1}},
            ValueError,
            r"gradient_weights\['strain'\]",
        ),
        ({"alpha": 0.0, "solver": "dual"}, ValueError, "solver='dual' needs `alpha` > 0"),
    ],
)
def test_bad_parameters(features, y, options, error, match):
    with pytest.raises(error, match=match):
        Ridge(**options).fit(features, y)


def changed(tensor, **parts):
    """The one block of a map, without gradients and with other parts."""
    block = tensor.block()
    parts = {
        "values": block.values,
        "samples": block.samples,
        "properties": block.properties,
        **parts,
    }
    return TensorMap(parts.pop("keys", tensor.keys), [TensorBlock(components=[], **parts)])


def test_bad_pairs_of_X_and_y(X, features, y, make):
    n = len(y.block())
    plain = changed(y)
    cases = [
        (X, plain, "4 blocks of X match the key .* move .* with `KeysToProperties"),
        (
            changed(features),
            y,
            r"y has gradients with respect to \['positions', 'strain'\], but X has not",
        ),
        (
            features,
            changed(y, samples=Labels.range("structure", n)),
            "X must have the sample names of y",
        ),
        (
            features,
            changed(y, samples=make.labels(["system"], [[9 + i] for i in range(n)])),
            "X must have all the samples of y, .* lacks",
        ),
        (
            features,
            changed(y, keys=make.labels(["o3_lambda"], [[0]])),
            "the key names of y must be among those of X",
        ),
        (features, changed(y, values=np.full((n, 1), np.inf)), "Input y contains NaN or infinity"),
        (
            changed(features, values=np.full(features.block().shape, np.nan)),
            plain,
            "Input X contains NaN",
        ),
        (
            features,
            changed(y, values=np.zeros((0, 1)), samples=Labels.empty(["system"])),
            "at least one sample",
        ),
        (
            changed(features, values=features.block().values + 0j),
            plain,
            "complex values are not supported",
        ),
    ]
    for first, second, match in cases:
        with pytest.raises(ValueError, match=match):
            Ridge().fit(first, second)
    atoms = X.keys_to_properties(["center_type", "neighbor_type"])
    with pytest.raises(ValueError, match=r"sum over them with `SumOverSamples\(\['atom'\]\)`"):
        Ridge().fit(atoms, y)


def test_bad_containers(features, y):
    array = np.ones((len(y.block()), 1))
    with pytest.raises(TypeError, match="y can only be labelled if X is"):
        Ridge().fit(array, y)
    with pytest.raises(TypeError, match="was fitted on labelled data .*, got plain arrays"):
        Ridge().fit(features, y).predict(array)
    with pytest.raises(TypeError, match="was fitted on plain arrays, got labelled data"):
        Ridge().fit(array, array[:, 0]).predict(features)
    with pytest.raises(
        TypeError, match=r"wrap the data with `X, y = as_rows\(X, y, by='system'\)`"
    ):
        Ridge().fit([features.block()], [y.block()])
    with pytest.raises(TypeError, match="a TensorMap is required"):
        Ridge().fit(features.block(), y)
    with pytest.raises(TypeError, match="same kind as in the first batch"):
        Ridge().partial_fit(features, y).partial_fit(features, y.block().values[:, 0])


def test_rows_of_X_and_y_must_be_the_same(features, y):
    X, y = as_rows(features, y)
    assert_same_models(Ridge().fit(X, y[::-1]), Ridge().fit(X, y))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        Ridge().fit(X[:5], y)
    with pytest.raises(ValueError, match=r"y has rows by .* has not: \(system=0\), .* and 2 more"):
        Ridge().fit(X[5:10], y[:5])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        Ridge().fit(X, np.zeros(3))
    two = TensorMap(Labels(["k"], np.array([[0], [1]])), [features.block()] * 2)
    with pytest.raises(ValueError, match="y can only be an array if X has one block, got 2"):
        Ridge().fit(two, np.zeros(16))


def test_other_features_than_in_fit(features, y, make):
    model = Ridge(gradient_weights=0).fit(features, y)
    block = features.block()
    fewer = changed(
        features,
        values=block.values[:, 1:],
        properties=make.labels(block.properties.names, block.properties.values[1:]),
    )
    match = r"X has 15 features, but Ridge is expecting 16 features .* missing: \(.*k=3\)"
    with pytest.raises(ValueError, match=match):
        model.predict(fewer)
    order = np.random.default_rng(13).permutation(len(block.properties))
    shuffled = changed(
        features,
        values=block.values[:, order],
        properties=make.labels(block.properties.names, block.properties.values[order]),
    )
    np.testing.assert_allclose(
        model.predict(shuffled).block().values, model.predict(features).block().values, rtol=1e-12
    )
    with pytest.raises(
        ValueError, match="X has a block with key .* but Ridge was fitted on blocks with the keys"
    ):
        model.predict(changed(features, keys=make.labels(["o3_lambda"], [[0]])))


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        (np.ones(3), "sample_weight must have one entry for each row"),
        (0.0, "sample_weight must have an entry above zero"),
        (-np.ones(16), "finite and not negative"),
        (np.full(16, np.nan), "finite and not negative"),
        (np.zeros(16), "an entry above zero"),
        (np.ones((16, 1)), "Sample weights must be 1D"),
    ],
)
def test_bad_weights(features, y, weights, match):
    with pytest.raises(ValueError, match=match):
        Ridge().fit(features, y, sample_weight=weights)


def test_components_must_be_the_same(make):
    X, y, _ = equivariant(make, np.random.default_rng(15))
    block = y.block()
    other = TensorBlock(block.values, block.samples, [Labels.range("mu", 3)], block.properties)
    with pytest.raises(ValueError, match="y and X must have the same components in the block"):
        Ridge().fit(X, make.one_block(other))


def test_components_of_gradients_must_be_the_same(features, y, make):
    block = y.block()
    other = TensorBlock(block.values, block.samples, [], block.properties)
    gradient = block.gradient("positions")
    other.add_gradient(
        "positions",
        TensorBlock(gradient.values, gradient.samples, [Labels.range("d", 3)], block.properties),
    )
    with pytest.raises(ValueError, match="same components in the gradient 'positions'"):
        Ridge().fit(features, make.one_block(other))


def test_gradient_rows_must_be_told_apart_by_common_names(features, y, make):
    block = features.block()
    gradient = block.gradient("positions")
    doubled = np.repeat(gradient.samples.values, 2, axis=0)
    images = np.tile([0, 1], len(gradient))
    samples = make.labels(["sample", "system", "atom", "image"], np.column_stack([doubled, images]))
    X = TensorBlock(block.values, block.samples, [], block.properties)
    values = np.repeat(gradient.values, 2, axis=0)
    X.add_gradient("positions", TensorBlock(values, samples, gradient.components, block.properties))
    X.add_gradient("strain", block.gradient("strain"))
    with pytest.raises(ValueError, match=r"more than one row .* only \['image'\] tell apart"):
        Ridge().fit(make.one_block(X), y)


def test_keys_must_match(features, y, make):
    names = ["a", "b"]
    X = TensorMap(make.labels(names, [[0, 1], [0, 2]]), [features.block()] * 2)
    with pytest.raises(ValueError, match=r"no block of X matches the key \(a=5\) .*, there are: "):
        Ridge().fit(X, TensorMap(make.labels(["a"], [[5]]), [y.block()]))
    model = Ridge().fit(X, TensorMap(make.labels(["b"], [[2]]), [y.block()]))
    assert model.predict(X).keys == make.labels(["b"], [[2]])
    part = TensorMap(make.labels(names, [[0, 1]]), [features.block()])
    with pytest.raises(ValueError, match=r"X has no block with key \(a=0, b=2\)"):
        model.predict(part)
    with pytest.raises(ValueError, match="keys and properties of the first batch"):
        model.partial_fit(X, TensorMap(make.labels(["b"], [[1]]), [y.block()]))


def test_property_names_must_be_those_of_fit(features, y, make):
    model = Ridge(gradient_weights=0).fit(features, y)
    other = changed(features, properties=Labels.range("n", 16))
    with pytest.raises(ValueError, match=r"X has the property names \['n'\], but Ridge was fitted"):
        model.predict(other)


def alpha_map(make, properties, values, samples=None, components=()):
    samples = Labels.single() if samples is None else samples
    return make.one_block(
        TensorBlock(np.array(values, float), samples, list(components), properties)
    )


def test_bad_alphas(features, y, make):
    properties = features.block().properties
    xyz = [Labels.range("xyz", 3)]
    cases = [
        (alpha_map(make, properties, [[-1.0] * 16]), "`alpha` must have values that are finite"),
        (alpha_map(make, properties, np.ones((1, 3, 16)), components=xyz), "and no components"),
        (alpha_map(make, Labels.range("n", 16), np.ones((1, 16))), "must have the names"),
        (
            alpha_map(make, make.labels(properties.names, properties.values[1:]), np.ones((1, 15))),
            "those of the coefficients, there is none for",
        ),
        (
            alpha_map(make, properties, np.ones((2, 16)), Labels.range("n", 2)),
            "the samples of `alpha` must have the names",
        ),
    ]
    for alpha, match in cases:
        with pytest.raises(ValueError, match=match):
            Ridge(alpha=alpha).fit(features, y)
    some_zero = alpha_map(make, properties, [[0.0] + [1.0] * 15])
    with pytest.raises(ValueError, match="solver='svd' needs one `alpha`, or `alpha` > 0"):
        Ridge(alpha=some_zero, solver="svd").fit(features, y)
    g = {"positions": 1.0, "strain": 1.0}
    for solver in ("auto", "lstsq"):
        model = Ridge(alpha=some_zero, solver=solver).fit(features, y)
        check_same(model, *reference(features, y, [0.0] + [1.0] * 15, g), rtol=1e-7)


def test_bad_weights_of_values(features, y, make):
    y = two_targets(y, make)
    block = y.block()
    single = Labels.single()
    ones = TensorBlock(np.ones((16, 1)), block.samples, [], single)
    gradient = block.gradient("positions")
    samples = make.labels(gradient.samples.names, gradient.samples.values[1:])
    values = np.ones((len(samples), 3, 1))
    ones.add_gradient("positions", TensorBlock(values, samples, gradient.components, single))
    with pytest.raises(ValueError, match="all the rows of the gradient 'positions' of y"):
        Ridge().fit(features, y, sample_weight=make.one_block(ones))
    other = make.labels(["energy"], [[0], [7]])
    weights = make.one_block(TensorBlock(np.ones((16, 2)), block.samples, [], other))
    with pytest.raises(ValueError, match=r"one property, or those of y, \(energy=1\) is missing"):
        Ridge().fit(features, y, sample_weight=weights)
    rng = np.random.default_rng(16)
    weights = TensorBlock(np.ones((16, 2)), block.samples, [], block.properties)
    gradient = block.gradient("positions")
    values = rng.uniform(size=(*gradient.values.shape[:-1], 2))
    weights.add_gradient(
        "positions",
        TensorBlock(values, gradient.samples, gradient.components, block.properties),
    )
    model = Ridge().partial_fit(features, y)
    before = model.coef_.block().values
    with pytest.raises(ValueError, match="must not differ between the properties of y after"):
        model.partial_fit(features, y, sample_weight=make.one_block(weights))
    # nothing of what was refused counts
    model.partial_fit(*(no_samples(tensor) for tensor in (features, y)))
    np.testing.assert_allclose(model.coef_.block().values, before, rtol=1e-12)


def no_samples(tensor):
    return metatensor.slice(tensor, "samples", Labels.empty(["system"]))


def test_no_targets_given(features):
    with pytest.raises(ValueError, match="y must be given, labelled data or an array, got None"):
        Ridge().fit(features, None)


def test_weights_of_the_rows_of_X(features, y):
    X, y_rows = as_rows(features, y)
    weights = np.random.default_rng(17).uniform(size=16)
    order = np.arange(16)[::-1]
    model = Ridge().fit(X[order], y, sample_weight=weights[order])
    assert_same_models(model, Ridge().fit(X, y_rows, sample_weight=weights))


def test_results_come_after_fit():
    for name in ("coef_", "intercept_", "condition_", "gradient_weights_"):
        assert not hasattr(Ridge(), name)
    with pytest.raises(NotFittedError, match="This Ridge instance is not fitted yet"):
        _ = Ridge().coef_


def test_targets_have_one_or_two_dimensions(features):
    with pytest.raises(ValueError, match="dim 3"):
        Ridge().fit(features, np.zeros((16, 2, 2)))


@pytest.mark.parametrize("estimator", [Ridge(1e-3), RidgeCV([1e-3])], ids=["Ridge", "RidgeCV"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_to_torch_gives_the_predictions(features, y, estimator, dtype):
    """Values and gradients, to which the intercept is not added."""
    torch = pytest.importorskip("torch")
    model = estimator.fit(features.to(dtype), y.to(dtype))
    module = model.to_torch()
    predicted = model.predict(features.to(dtype))
    assert np.abs(model.intercept_.block().values).max() > 1e-3
    result = module(features.to(dtype).to(arrays="torch"))
    metatensor.allclose_raise(
        metatensor.detach(result).to(arrays="numpy"),
        predicted,
        rtol=1e-12 if dtype is np.float64 else 1e-4,
        atol=1e-12 if dtype is np.float64 else 1e-5,
    )
    assert result.block().gradients_list() == y.block().gradients_list()
    sum(gradient.values.sum() for _, gradient in result.block().gradients()).backward()
    weight, bias = module.parameters()
    assert weight.grad.abs().max() > 0
    assert bias.grad is None or not bias.grad.any()
    before = model.coef_.block().values.copy()
    with torch.no_grad():
        weight.zero_()
    np.testing.assert_array_equal(model.coef_.block().values, before)


def test_to_torch_of_blocks_with_components(make):
    X, y, _ = equivariant(make, np.random.default_rng(4))
    model = Ridge().fit(X, y)
    module = model.to_torch()
    result = metatensor.detach(module(X.to(arrays="torch"))).to(arrays="numpy")
    metatensor.allclose_raise(result, model.predict(X), rtol=1e-12, atol=1e-12)
    names = [name for name in module.state_dict() if name.endswith("bias")]
    assert names == []


def test_to_torch_refuses(make, features, y):
    with pytest.raises(NotFittedError):
        Ridge().to_torch()
    with pytest.raises(TypeError, match="arrays"):
        Ridge().fit(np.ones((3, 2)), np.ones(3)).to_torch()
    other = metatensor.append_dimension(features, "keys", "kind", 3)
    with pytest.raises(ValueError, match="same keys"):
        Ridge().fit(other, y).to_torch()
