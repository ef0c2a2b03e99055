"""RidgeCV, and standard deviations of Ridge, against fits without the rows left out."""

import pickle

import numpy as np
import pytest
import sklearn.linear_model
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    PredefinedSplit,
    ShuffleSplit,
)

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import KernelRidge, Ridge, RidgeCV, as_rows, get_scorer, rmse

ALPHAS = np.logspace(-6, 2, 9)
G = {"positions": 0.3, "strain": 2.0}


def rows_of(features, y):
    """X and y as Rows."""
    return as_rows(features, y)


def terms(tensor):
    """Values and gradients of one block, by name."""
    block = tensor.block()
    return {None: block, **dict(block.gradients())}


def refitted(X, y, groups, alpha, weights=None, **options):
    """Residuals {name: array} of rows of y, predicted by fits without the rows of their group."""
    block = y.tensor.block()
    residuals = {name: np.full(part.values.shape, np.nan) for name, part in terms(y.tensor).items()}
    for group in np.unique(groups):
        kept, test = np.flatnonzero(groups != group), np.flatnonzero(groups == group)
        model = Ridge(alpha, solver="lstsq", **options).fit(
            X[kept], y[kept], None if weights is None else weights[kept]
        )
        prediction = model.predict(X[test]).tensor.block()
        systems = set(y.rows["system"][test].tolist())
        samples = [n for n, s in enumerate(block.samples) if int(s["system"]) in systems]
        positions = [prediction.samples.position(block.samples.entry(n)) for n in samples]
        residuals[None][samples] = block.values[samples] - prediction.values[positions]
        for name, gradient in block.gradients():
            there = {
                (*prediction.samples.entry(int(row[0])), *row[1:]): values
                for row, values in zip(
                    prediction.gradient(name).samples.values.tolist(),
                    prediction.gradient(name).values,
                )
            }
            for n, row in enumerate(gradient.samples.values.tolist()):
                if row[0] in samples:
                    label = (*block.samples.entry(row[0]), *row[1:])
                    residuals[name][n] = gradient.values[n] - there.get(label, 0.0)
    return residuals


def loss(y, residuals, g, weights=None):
    """Minus the mean squared error, as in the loss."""
    weights = np.ones(len(y)) if weights is None else weights
    total = weight = 0.0
    for name, part in terms(y.tensor).items():
        factor = 1.0 if name is None else g[name]
        sample = np.arange(len(part)) if name is None else part.samples.values[:, 0]
        v = factor * np.broadcast_to(
            weights[sample].reshape(-1, *[1] * (part.values.ndim - 1)), part.values.shape
        )
        total += np.sum(v * residuals[name] ** 2)
        weight += v.sum()
    return -total / weight


# ---- scores are those of refits


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["rows", "groups", "folds"])
def test_scores_are_those_of_fits_without_the_rows(features, y, intercept, weighted, kind):
    X, y = rows_of(features, y)  # with an isolated atom, and systems without one of the types
    weights = np.random.default_rng(0).uniform(0.1, 2, size=len(X)) if weighted else None
    groups, options = np.arange(len(X)), {}
    if kind == "groups":
        groups = np.random.default_rng(1).integers(0, 5, size=len(X))
        options["groups"] = groups * 7
    model = RidgeCV(ALPHAS, gradient_weights=G, fit_intercept=intercept)
    if kind == "folds":
        model.set_params(cv=4)
        for number, (_, test) in enumerate(KFold(4).split(groups)):
            groups[test] = number
    model.fit(X, y, sample_weight=weights, **options)
    expected = []
    for alpha in ALPHAS:
        residuals = refitted(
            X, y, groups, alpha, weights, gradient_weights=G, fit_intercept=intercept
        )
        expected.append(loss(y, residuals, G, weights))
    np.testing.assert_allclose(model.cv_results_["score"], expected, rtol=1e-10)
    best = int(np.argmax(expected))
    assert model.alpha_ == ALPHAS[best]
    assert model.best_score_ == model.cv_results_["score"][best]
    for name, label in [(None, "rmse"), ("positions", "rmse:positions"), ("strain", "rmse:strain")]:
        assert model.cv_results_[label].shape == ALPHAS.shape
        if weights is None:
            part = terms(y.tensor)[name]
            found = np.sqrt(np.mean(residuals[name] ** 2))  # of the last alpha
            assert part.values.shape == residuals[name].shape
            assert model.cv_results_[label][-1] == pytest.approx(found, rel=1e-10)
    same = Ridge(model.alpha_, gradient_weights=G, fit_intercept=intercept).fit(X, y, weights)
    np.testing.assert_allclose(model.coef_.block().values, same.coef_.block().values, rtol=1e-6)
    np.testing.assert_allclose(
        model.predict(X).tensor.block().values, same.predict(X).tensor.block().values, rtol=1e-8
    )


def wide(make, n_systems, n_features, rng):
    """Fewer rows of values and gradients than properties."""
    systems, properties = Labels.range("system", n_systems), Labels.range("n", n_features)
    samples = make.labels(["sample", "system", "atom"], [[n, n, 0] for n in range(n_systems)])
    tensors = []
    coefficients = rng.normal(size=(n_features, 1))
    values = rng.normal(size=(n_systems, n_features)) + 3
    slopes = rng.normal(size=(n_systems, 3, n_features))
    for matrix, labels in ((np.eye(n_features), properties), (coefficients, Labels.range("e", 1))):
        noise = 0.1 * rng.normal(size=(n_systems, 1))
        block = TensorBlock(values @ matrix + noise, systems, [], labels)
        gradient = TensorBlock(slopes @ matrix, samples, [Labels.range("xyz", 3)], labels)
        block.add_gradient("positions", gradient)
        tensors.append(make.one_block(block))
    return as_rows(*tensors)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("n_features", [20, 47, 48, 49, 100])
def test_scores_for_fewer_rows_than_properties(make, intercept, n_features):
    X, y = wide(make, 12, n_features, np.random.default_rng(2))  # 48 rows
    model = RidgeCV(ALPHAS, fit_intercept=intercept).fit(X, y)
    expected = [
        loss(y, refitted(X, y, np.arange(12), alpha, fit_intercept=intercept), {"positions": 1.0})
        for alpha in ALPHAS
    ]
    np.testing.assert_allclose(model.cv_results_["score"], expected, rtol=1e-10)


def test_relative_alphas(features, y):
    X, y = rows_of(features, y)
    model = RidgeCV([1e-6, 1e-3], alpha_type="relative", gradient_weights=G).fit(X, y)
    expected = Ridge(model.alpha_, alpha_type="relative", gradient_weights=G).fit(X, y)
    np.testing.assert_allclose(model.coef_.block().values, expected.coef_.block().values, rtol=1e-7)


def test_rows_without_weight_are_not_fitted_to(features, y):
    X, y = rows_of(features, y)
    weights = np.ones(16)
    weights[[3, 7, 8]] = 0
    kept = np.flatnonzero(weights)
    model = RidgeCV(ALPHAS, gradient_weights=G, compute_std=True)
    scores = model.fit(X, y, sample_weight=weights).cv_results_
    scale = model.scale_.block().values
    without = model.fit(X[kept], y[kept]).cv_results_
    for name in ("score", "rmse", "rmse:positions"):
        np.testing.assert_allclose(scores[name], without[name], rtol=1e-9)
    np.testing.assert_allclose(scale, model.scale_.block().values, rtol=1e-9)


# ---- weights of gradients


def test_weights_of_gradients_are_chosen_too(features, y):
    X, y = rows_of(features, y)
    options = [0, G, "balanced", 0.01]
    model = RidgeCV([1e-5, 1e-3], gradient_weights=options, scoring="neg_rmse:positions").fit(X, y)
    results = model.cv_results_
    assert list(results["gradient_weights"][::2]) == options
    np.testing.assert_array_equal(results["alpha"], [1e-5, 1e-3] * 4)
    np.testing.assert_allclose(results["score"], -results["rmse:positions"], rtol=1e-12)
    for n, option in enumerate(options[:2]):
        for m, alpha in enumerate([1e-5, 1e-3]):
            residuals = refitted(X, y, np.arange(16), alpha, gradient_weights=option)
            for name in (None, "positions", "strain"):
                found = results["rmse" if name is None else f"rmse:{name}"][2 * n + m]
                # with weight zero as well
                assert found == pytest.approx(np.sqrt(np.mean(residuals[name] ** 2)), rel=1e-9)
    best = int(np.argmax(results["score"]))
    assert model.best_gradient_weights_ == results["gradient_weights"][best]
    expected = Ridge(model.alpha_, gradient_weights=model.best_gradient_weights_).fit(X, y)
    np.testing.assert_allclose(
        model.predict(X).tensor.block().values,
        expected.predict(X).tensor.block().values,
        rtol=1e-7,
    )
    for name, weights in expected.gradient_weights_.items():
        np.testing.assert_allclose(model.gradient_weights_[name], weights)


def test_weights_of_gradients_may_be_an_array(features, y):
    weights = np.logspace(-3, 0, 3)
    options = {"alphas": [1e-3], "scoring": "neg_rmse"}
    found = RidgeCV(gradient_weights=weights, **options).fit(features, y)
    expected = RidgeCV(gradient_weights=weights.tolist(), **options).fit(features, y)
    np.testing.assert_array_equal(found.cv_results_["score"], expected.cv_results_["score"])
    np.testing.assert_array_equal(found.cv_results_["gradient_weights"], weights)


def test_losses_with_several_weights_are_compared_when_balanced(features, y):
    X, y = rows_of(features, y)
    balanced = RidgeCV([1e-4], gradient_weights="balanced").fit(X, y)
    model = RidgeCV([1e-4], gradient_weights=["balanced", 1.0]).fit(X, y)
    assert model.cv_results_["score"][0] == pytest.approx(balanced.best_score_)
    g = {name: float(weights[0]) for name, weights in balanced.gradient_weights_.items()}
    expected = loss(y, refitted(X, y, np.arange(16), 1e-4), g)
    assert model.cv_results_["score"][1] == pytest.approx(expected, rel=1e-10)


# ---- scorers


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scoring", ["neg_rmse", "neg_mae:positions", "r2", "callable"])
def test_scorers_see_predictions_of_rows_left_out(features, y, scoring, weighted):
    weights = np.linspace(0.5, 2, 16) if weighted else None
    seen = []

    def scorer(estimator, X, y, sample_weight=None):
        seen.append(estimator.predict(X))
        return -rmse(y, seen[-1], gradient="strain", sample_weight=sample_weight)

    model = RidgeCV([1e-3], scoring=scorer if scoring == "callable" else scoring)
    score = model.fit(features, y, sample_weight=weights).best_score_
    X_rows, y_rows = rows_of(features, y)
    residuals = refitted(X_rows, y_rows, np.arange(16), 1e-3, weights)
    if scoring == "neg_rmse":
        expected = -np.sqrt(np.average(residuals[None][:, 0] ** 2, weights=weights))
    elif scoring == "neg_mae:positions":
        v = None if weights is None else weights[y.block().gradient("positions").samples["sample"]]
        expected = -np.average(np.abs(residuals["positions"]).mean(axis=(1, 2)), weights=v)
    elif scoring == "r2":
        energies = y.block().values[:, 0]
        spread = (energies - np.average(energies, weights=weights)) ** 2
        square = np.average(residuals[None][:, 0] ** 2, weights=weights)
        expected = 1 - square / np.average(spread, weights=weights)
    else:
        expected = -model.cv_results_["rmse:strain"][0]
        prediction = seen[0].block()
        assert prediction.samples == y.block().samples
        np.testing.assert_allclose(prediction.values, y.block().values - residuals[None], rtol=1e-9)
    assert score == pytest.approx(expected, rel=1e-9)


def two_blocks(make, rng, n=30):
    """Two blocks with two properties each, the second one not invariant."""
    keys = make.labels(["o3_lambda"], [[0], [1]])
    X, y = [], []
    for shape in [(n, 1), (n, 3)]:
        x = rng.normal(size=(*shape, 4))
        components = [Labels.range("o3_mu", shape[1])]
        noise = rng.normal(size=(*shape, 2)) * [0.01, 3.0]
        samples = Labels.range("system", n)
        X.append(TensorBlock(x, samples, components, Labels.range("n", 4)))
        values = x @ rng.normal(size=(4, 2)) + noise
        y.append(TensorBlock(values, samples, components, Labels.range("p", 2)))
    return TensorMap(keys, X), TensorMap(keys, y)


@pytest.mark.parametrize("scoring", [None, "neg_rmse"])
def test_each_property_can_have_its_alpha(make, scoring):
    X, y = two_blocks(make, np.random.default_rng(3))
    model = RidgeCV(ALPHAS, alpha_per_target=True, scoring=scoring).fit(X, y)
    assert model.alpha_.keys == y.keys
    position = 0
    for key, block in y.items():
        for n in range(2):
            alone = TensorBlock(
                block.values[..., n : n + 1], block.samples, block.components, Labels.range("p", 1)
            )
            keys = make.labels(y.keys.names, [list(key)])
            one = RidgeCV(ALPHAS, scoring=scoring).fit(X, TensorMap(keys, [alone]))
            assert model.alpha_.block(key).values[0, n] == one.alpha_
            assert model.best_score_.block(key).values[0, n] == pytest.approx(one.best_score_)
            np.testing.assert_allclose(
                model.cv_results_["score"][:, position], one.cv_results_["score"], rtol=1e-10
            )
            np.testing.assert_allclose(
                model.coef_.block(key).values[n], one.coef_.block(key).values[0], rtol=1e-9
            )
            position += 1
    shared = RidgeCV(ALPHAS, scoring=scoring).fit(X, y)
    assert isinstance(shared.alpha_, float)
    assert len(np.unique([block.values for block in model.alpha_])) > 1


def test_rows_hold_all_samples_of_a_system(make):
    rng = np.random.default_rng(4)
    atoms = make.labels(["system", "atom"], [[s, a] for s in range(8) for a in range(3)])
    x = rng.normal(size=(24, 4))
    X = make.one_block(TensorBlock(x, atoms, [], Labels.range("n", 4)))
    values = x @ rng.normal(size=(4, 1)) + rng.normal(size=(24, 1))
    y = make.one_block(TensorBlock(values, atoms, [], Labels.range("e", 1)))
    by_system = RidgeCV(ALPHAS).fit(*as_rows(X, y, by="system")).cv_results_["score"]
    grouped = RidgeCV(ALPHAS).fit(X, y, groups=atoms["system"]).cv_results_["score"]
    np.testing.assert_allclose(by_system, grouped, rtol=1e-12)
    by_atom = RidgeCV(ALPHAS).fit(*as_rows(X, y, by=["system", "atom"])).cv_results_["score"]
    np.testing.assert_allclose(by_atom, RidgeCV(ALPHAS).fit(X, y).cv_results_["score"])
    assert np.abs(by_atom - by_system).max() > 1e-6


@pytest.mark.parametrize("cv", [GroupKFold(3), LeaveOneGroupOut(), PredefinedSplit([0, 1] * 8)])
def test_splitters(features, y, cv):
    groups = None if isinstance(cv, PredefinedSplit) else np.arange(16) % 5
    numbers = np.empty(16, dtype=int)
    arguments = {} if groups is None else {"groups": groups}
    for number, (_, test) in enumerate(cv.split(np.zeros(16), **arguments)):
        numbers[test] = number
    found = RidgeCV(ALPHAS, cv=cv).fit(features, y, groups=groups)
    expected = RidgeCV(ALPHAS).fit(features, y, groups=numbers)
    np.testing.assert_allclose(found.cv_results_["score"], expected.cv_results_["score"])


# ---- plain arrays


@pytest.mark.parametrize("shape", [(40,), (40, 3)])
@pytest.mark.parametrize("n_features", [5, 80])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha_per_target", [True, False])
@pytest.mark.parametrize("scoring", [None, "neg_mean_absolute_error"])
def test_arrays_give_what_scikit_learn_gives(
    shape, n_features, fit_intercept, alpha_per_target, scoring
):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(40, n_features)) + 1
    y = rng.normal(size=shape)
    options = {
        "alphas": np.logspace(-3, 4, 8),
        "fit_intercept": fit_intercept,
        "scoring": scoring,
        "alpha_per_target": alpha_per_target and len(shape) == 2,
    }
    ours = RidgeCV(**options).fit(X, y)
    theirs = sklearn.linear_model.RidgeCV(**options).fit(X, y)
    np.testing.assert_array_equal(ours.alpha_, theirs.alpha_)
    np.testing.assert_allclose(ours.best_score_, theirs.best_score_, rtol=1e-10)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-8, atol=1e-12)


def test_many_rows_one_by_one():
    rng = np.random.default_rng(6)
    X = rng.normal(size=(20_000, 3))
    y = X @ [1.0, 2.0, 3.0] + rng.normal(size=20_000)
    theirs = sklearn.linear_model.RidgeCV([0.1, 100.0]).fit(X, y)
    ours = RidgeCV([0.1, 100.0]).fit(X, y)
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=1e-12)


# ---- standard deviations


def plain_std(X, y, alpha, g, test, weights=None, intercept=True):
    """Bayesian linear regression, written out: prediction and unit deviation of rows ``test``."""
    x, t = X.tensor.block(), y.tensor.block()
    where = [x.samples.position(entry) for entry in t.samples]
    rows = [x.values[where]]
    rows[0] = np.column_stack([rows[0], np.full(len(t), float(intercept))])
    sample_weights = np.ones(len(t)) if weights is None else weights
    targets, v, owner = [t.values], [sample_weights], [np.arange(len(t))]
    for name, factor in g.items():
        given, wanted = x.gradient(name), t.gradient(name)
        there = {tuple(row): n for n, row in enumerate(given.samples.values.tolist())}
        for n, (sample, *rest) in enumerate(wanted.samples.values.tolist()):
            position = there.get((where[sample], *rest))
            size = wanted.values[n].size
            matrix = np.zeros((size, rows[0].shape[1]))
            if position is not None:
                matrix[:, :-1] = given.values[position].reshape(size, -1)
            rows.append(matrix)
            targets.append(wanted.values[n].reshape(size, 1))
            v.append(np.full(size, factor * sample_weights[sample]))
            owner.append(np.full(size, sample))
    rows, targets, v, owner = map(np.concatenate, (rows, targets, v, owner))
    kept = ~np.isin(owner, test)
    a = rows[kept]
    penalty = np.append(np.broadcast_to(np.ravel(alpha), a.shape[1] - 1), 0.0 if intercept else 1.0)
    precision = a.T @ (v[kept, None] * a) + np.diag(penalty)
    solution = np.linalg.solve(precision, a.T @ (v[kept, None] * targets[kept]))
    new = rows[: len(t)]
    spread = np.sum(new * np.linalg.solve(precision, new.T).T, axis=1)
    return (new @ solution)[:, 0], spread


@pytest.mark.parametrize("kind", ["ridge", "property alpha", "cv", "few rows"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_standard_deviation_is_that_of_bayesian_regression(
    features, y, make, kind, intercept, weighted
):
    X, y = rows_of(features, y)
    g, alpha = G, 1e-2
    weights = np.random.default_rng(7).uniform(0.5, 2, 16) if weighted else None
    options = {"fit_intercept": intercept, "gradient_weights": g, "compute_std": True}
    if kind == "few rows":
        g = options["gradient_weights"] = {"positions": 0, "strain": 0}
    if kind == "property alpha":
        alpha = np.random.default_rng(8).uniform(1e-3, 1e-1, size=(1, 16))
        properties = X.tensor.block().properties
        given = make.one_block(TensorBlock(alpha, Labels.single(), [], properties))
        model = Ridge(given, **options)
    else:
        model = RidgeCV([alpha], **options) if kind == "cv" else Ridge(alpha, **options)
    model.fit(X, y, sample_weight=weights)
    used = {name: weight for name, weight in g.items() if weight}

    squares = []
    energies = y.tensor.block().values[:, 0]
    v = np.ones(16) if weights is None else weights
    for n in range(16):
        mean, spread = plain_std(X, y, alpha, used, [n], weights, intercept)
        squares.append((energies[n] - mean[n]) ** 2 / (1 / v[n] + spread[n]))
    scale = np.sqrt(np.mean(squares))
    np.testing.assert_allclose(model.scale_.block().values, [[scale]], rtol=1e-7)

    mean, spread = plain_std(X, y, alpha, used, [], weights, intercept)
    prediction, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(prediction.tensor.block().values[:, 0], mean, rtol=1e-7)
    found = std.tensor.block()
    np.testing.assert_allclose(found.values[:, 0], scale * np.sqrt(1 + spread), rtol=1e-7)
    assert found.samples == prediction.tensor.block().samples
    assert found.properties == prediction.tensor.block().properties
    assert found.gradients_list() == []
    again = pickle.loads(pickle.dumps(model)).predict(X, return_std=True)[1]
    np.testing.assert_array_equal(again.tensor.block().values, found.values)


def test_standard_deviations_of_components_and_properties(make):
    X, y = two_blocks(make, np.random.default_rng(9))
    model = Ridge(1e-4, compute_std=True).fit(X, y)
    _, std = model.predict(X, return_std=True)
    assert isinstance(std, TensorMap)
    for key, block in std.items():
        assert block.shape == y.block(key).shape
        noise = model.scale_.block(key).values[0]
        np.testing.assert_allclose(noise, [0.01, 3.0], rtol=0.3)
        assert (block.values > noise).all()
        assert (block.values < 1.5 * noise).all()
    single = Ridge(1e-4, compute_std=True).fit(X.to(np.float32), y.to(np.float32))
    assert single.predict(X.to(np.float32), return_std=True)[1].dtype == np.float32
    per_target = RidgeCV(ALPHAS, alpha_per_target=True, compute_std=True).fit(X, y)
    for key, block in per_target.predict(X, return_std=True)[1].items():
        noise = per_target.scale_.block(key).values[0]
        np.testing.assert_allclose(noise, [0.01, 3.0], rtol=0.3)
        assert (block.values > noise).all()


def test_standard_deviations_of_arrays():
    rng = np.random.default_rng(10)
    X = rng.normal(size=(200, 3))
    y = X @ [1.0, 2.0, 3.0] + 0.5 * rng.normal(size=200)
    model = Ridge(1e-6, compute_std=True).fit(X, y)
    prediction, std = model.predict(X, return_std=True)
    assert std.shape == prediction.shape == (200,)
    assert model.scale_ == pytest.approx(0.5, rel=0.1)
    far = model.predict(X + 10, return_std=True)[1]
    assert (far > std).all()
    two = Ridge(1e-6, compute_std=True).fit(X, np.column_stack([y, 2 * y]))
    _, std = two.predict(X, return_std=True)
    np.testing.assert_allclose(std[:, 1], 2 * std[:, 0])
    np.testing.assert_allclose(two.scale_, [model.scale_, 2 * model.scale_])


def test_standard_deviations_stay_in_the_library(features, y, xp):
    X = TensorMap(
        features.keys,
        [
            TensorBlock(xp.asarray(block.values), block.samples, [], block.properties)
            for block in features
        ],
    )
    energies = TensorMap(
        y.keys,
        [TensorBlock(xp.asarray(b.values), b.samples, [], b.properties) for b in y],
    )
    model = Ridge(1e-3, compute_std=True).fit(X, energies)
    _, std = model.predict(X, return_std=True)
    assert type(std.block().values) is type(xp.asarray(np.zeros(1)))
    expected = Ridge(1e-3, compute_std=True, gradient_weights=0).fit(features, y)
    np.testing.assert_allclose(
        np.asarray(std.block().values),
        expected.predict(features, return_std=True)[1].block().values,
        rtol=1e-9,
    )
    chosen = RidgeCV([1e-3]).fit(X, energies)
    assert type(chosen.coef_.block().values) is type(xp.asarray(np.zeros(1)))


def test_standard_deviations_must_be_asked_for(features, y):
    X, y_rows = rows_of(features, y)
    for model in (
        Ridge().fit(X, y_rows),
        Ridge(compute_std=True).partial_fit(X, y_rows),
        Ridge(compute_std=True).fit(X[:8], y_rows[:8]).partial_fit(X[8:], y_rows[8:]),
    ):
        with pytest.raises(ValueError, match=r"needs Ridge\(compute_std=True\) and `fit`, since"):
            model.predict(X, return_std=True)
        assert not hasattr(model, "scale_")
    with pytest.raises(ValueError, match="compute_std=True needs `alpha` > 0"):
        Ridge(0, compute_std=True).fit(X, y_rows)
    with pytest.raises(NotFittedError):
        RidgeCV().predict(X)


# ---- properties never seen


@pytest.mark.parametrize("solver", ["cholesky", "dual", "svd", "lstsq", "cv", "batches"])
def test_properties_that_were_zero_in_all_rows(features, y, make, solver):
    block = features.block()
    values = block.values.copy()
    names = block.properties.names
    values[:, [2, 5]] = 0
    kept = [n for n in range(16) if n not in (2, 5)]
    zeroed = TensorBlock(values, block.samples, [], block.properties)
    for name, gradient in block.gradients():
        changed = gradient.values.copy()
        changed[..., [2, 5]] = 0
        zeroed.add_gradient(
            name, TensorBlock(changed, gradient.samples, gradient.components, block.properties)
        )
    X = make.one_block(zeroed)
    if solver == "cv":
        model = RidgeCV([1e-2]).fit(X, y)
    elif solver == "batches":
        model = Ridge(1e-2).partial_fit(X, y)
    else:
        model = Ridge(1e-2, solver=solver).fit(X, y)
    model.predict(X)
    assert (model.coef_.block().values[0, [2, 5]] == 0).all()
    assert (model.coef_.block().values[0, kept] != 0).all()
    entry = block.properties.entry(2).print()
    assert len(names) == 3
    with pytest.warns(UserWarning, match="zero in all rows that Ridge.* was fitted to") as found:
        model.predict(features)
    assert len(found) == 1
    assert entry in str(found[0].message)
    assert "with key" in str(found[0].message)
    # zeros in values alone are no reason: the gradients have told something
    known = TensorBlock(values, block.samples, [], block.properties)
    for name, gradient in block.gradients():
        known.add_gradient(name, gradient)
    Ridge(1e-2).fit(make.one_block(known), y).predict(features)


# ---- the contract


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"alphas": []}, ValueError, "`alphas` must have at least one entry"),
        ({"alphas": [1.0, -1.0]}, ValueError, r"`alphas\[1\]` must be finite and not negative"),
        ({"alphas": [0.0]}, ValueError, r"must all be above zero, alphas\[0\] is not"),
        ({"alphas": 1.0}, TypeError, "`alphas` must be a sequence of numbers, got float"),
        ({"alphas": ["1"]}, TypeError, r"`alphas\[0\]` must be a number, got"),
        ({"alpha_type": "half"}, ValueError, "`alpha_type` must be 'absolute' or 'relative'"),
        ({"gradient_weights": []}, ValueError, "`gradient_weights` must have at least one entry"),
        ({"gradient_weights": [1.0, "equal"]}, TypeError, "or 'balanced', got str"),
        ({"gradient_weights": [{"positions": 1}]}, ValueError, "must name all the gradients of y"),
        ({"scoring": "rmse"}, ValueError, "`scoring` must be one of"),
        ({"cv": ShuffleSplit(3)}, ValueError, "`cv` must put each row into one test set"),
        ({"cv": PredefinedSplit([-1] + [0, 1, 2] * 5)}, ValueError, "must put each row into one"),
    ],
)
def test_bad_parameters(features, y, options, error, match):
    with pytest.raises(error, match=match):
        RidgeCV(**options).fit(features, y)


def test_bad_groups(features, y, make):
    with pytest.raises(
        ValueError, match=r"`groups` must have one entry for each row, \(16,\), got"
    ):
        RidgeCV().fit(features, y, groups=[1, 2])
    for model in (RidgeCV(), Ridge(compute_std=True)):
        X, rows = rows_of(features, y)
        with pytest.raises(ValueError, match="values of one sample or group alone"):
            model.fit(X[:1], rows[:1])
    with pytest.raises(ValueError, match="values of one sample or group alone"):
        RidgeCV().fit(features, y, groups=np.zeros(16))
    RidgeCV(fit_intercept=False).fit(features, y, groups=np.zeros(16))
    keys = make.labels(["k"], [[0], [1]])
    blocks = [
        TensorBlock(np.ones((n, 1)), Labels.range("system", n), [], Labels.range("n", 1))
        for n in (4, 3)
    ]
    tensor = TensorMap(keys, blocks)
    RidgeCV().fit(tensor, tensor)
    with pytest.raises(ValueError, match="`cv` for the rows .* needs blocks with the same samples"):
        RidgeCV(cv=2).fit(tensor, tensor)
    other = Labels.range("system", 4).values[::-1]
    blocks[1] = TensorBlock(
        np.ones((4, 1)), make.labels(["system"], other), [], Labels.range("n", 1)
    )
    tensor = TensorMap(keys, blocks)
    with pytest.raises(ValueError, match="`groups` for .* needs blocks with the same samples"):
        RidgeCV().fit(tensor, tensor, groups=[0, 0, 1, 1])
    with pytest.raises(ValueError, match="sample_weight for .* needs blocks with the same samples"):
        RidgeCV().fit(tensor, tensor, sample_weight=np.ones(4))


def test_scorers_are_functions_of_predictions():
    assert get_scorer("neg_rmse")(RidgeCV().fit([[1.0], [2.0]], [1.0, 2.0]), [[1.0]], [3.0]) < 0


@pytest.mark.parametrize("shape", [(0, 3), (8, 0), (8, 3)])
def test_blocks_without_samples_or_properties(make, shape):
    rng = np.random.default_rng(11)
    keys = make.labels(["k"], [[0], [1]])
    X, y = (
        TensorMap(
            keys,
            [
                TensorBlock(
                    rng.normal(size=(n, m)), Labels.range("system", n), [], Labels.range("n", m)
                )
                for n, m in sizes
            ],
        )
        for sizes in ([(8, 3), shape], [(8, 2), (shape[0], 2)])
    )
    model = RidgeCV([0.1, 1.0], compute_std=True).fit(X, y)
    single = Ridge(model.alpha_).fit(X, y)
    prediction, std = model.predict(X, return_std=True)
    for key, block in single.predict(X).items():
        np.testing.assert_allclose(prediction.block(key).values, block.values, rtol=1e-9)
        assert std.block(key).shape == block.shape
        assert np.isnan(std.block(key).values).all() == (len(y.block(key).samples) == 0)


@pytest.mark.parametrize("model", [Ridge(alpha_type="relative"), RidgeCV(alpha_type="relative")])
@pytest.mark.parametrize("x", [0.0, 1.0])
def test_relative_penalty_of_what_does_not_vary(model, x):
    model = clone(model).set_params(compute_std=True).fit(np.full((5, 2), x), np.arange(5.0))
    prediction, std = model.predict(np.full((1, 2), x), return_std=True)
    np.testing.assert_allclose(prediction, 2.0)
    np.testing.assert_allclose(std, np.sqrt(2.5 * 6 / 5))


@pytest.mark.parametrize("model", [Ridge(compute_std=True), RidgeCV(compute_std=True)])
def test_no_value_has_a_weight(features, y, model):
    block = y.block()
    shape = (len(block.samples), 1)
    weight = TensorBlock(np.zeros(shape), block.samples, [], Labels.single())
    for name, gradient in block.gradients():
        ones = np.ones((*gradient.values.shape[:-1], 1))
        part = TensorBlock(ones, gradient.samples, gradient.components, Labels.single())
        weight.add_gradient(name, part)
    model = clone(model).fit(features, y, sample_weight=TensorMap(y.keys, [weight]))
    assert np.isnan(model.predict(features, return_std=True)[1].block().values).all()
    nothing = TensorBlock(np.zeros(shape), block.samples, [], Labels.single())
    values = TensorMap(y.keys, [TensorBlock(block.values, block.samples, [], block.properties)])
    with pytest.raises(ValueError, match="sample_weight must have an entry above zero"):
        model.fit(features, values, sample_weight=TensorMap(y.keys, [nothing]))


@pytest.mark.parametrize("n_samples", [4, 30])
def test_scale_does_not_change_with_rotations(make, rotation, n_samples):
    rng = np.random.default_rng(12)
    samples, component = Labels.range("system", n_samples), make.labels(["xyz"], [[0], [1], [2]])
    x, noise = rng.normal(size=(n_samples, 3, 5)), rng.normal(size=(n_samples, 3, 1))
    scales = []
    for turn in (np.eye(3), rotation):
        X, y = (
            make.one_block(
                TensorBlock(turn @ values, samples, [component], Labels.range(name, n_properties))
            )
            for values, name, n_properties in ((x, "n", 5), (x[..., :1] + 0.1 * noise, "y", 1))
        )
        kernel = KernelRidge(1.0, kernel="linear")
        for model in (Ridge(compute_std=True), RidgeCV([1.0], compute_std=True), kernel):
            scales.append(model.fit(X, y).scale_.block().values)
    np.testing.assert_allclose(scales[1:], [scales[0]] * 5, rtol=1e-9)


def test_scores_that_are_no_numbers(features, y):
    model = RidgeCV(scoring=lambda *_: np.nan)
    with pytest.raises(ValueError, match="`scoring` must give a number for one of `alphas`"):
        model.fit(features, y)
    with pytest.raises(TypeError, match="`scoring` must be the name of a metric, got float"):
        RidgeCV(scoring=1.0).fit(features, y)


def test_fitted_models_are_small(features, y):
    model = RidgeCV(ALPHAS, gradient_weights=[1.0, "balanced"]).fit(features, y)
    saved = pickle.dumps(model)
    assert len(saved) < 10_000
    again = pickle.loads(saved).predict(features)
    np.testing.assert_array_equal(again.block().values, model.predict(features).block().values)
