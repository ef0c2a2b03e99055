"""Unmodified tools of scikit-learn on labelled data with gradients."""

import os
import subprocess
import sys
import tempfile

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    BaggingRegressor,
    RandomForestRegressor,
    StackingRegressor,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import Ridge as PlainRidge
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    train_test_split,
    validation_curve,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.preprocessing import StandardScaler as PlainScaler

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import (
    KeysToProperties,
    KeysToSamples,
    MeanOverSamples,
    Normalizer,
    Ridge,
    Rows,
    StandardScaler,
    SumOverSamples,
    VarianceThreshold,
    as_rows,
    get_scorer,
    max_error,
    medae,
    r2,
    rmse,
)

KEYS = ["center_type", "neighbor_type"]
SCORING = {"energy": get_scorer("neg_rmse"), "forces": get_scorer("neg_rmse:positions")}
GRID = {"ridge__alpha": [1e-4, 1e-1], "ridge__gradient_weights": [0, 1.0, "balanced"]}


def steps():
    return [
        ("move", KeysToProperties(KEYS)),
        ("sum", SumOverSamples()),
        ("scale", StandardScaler()),
        ("ridge", Ridge(alpha=1e-3)),
    ]


@pytest.fixture
def pipeline():
    return Pipeline(steps())


@pytest.fixture
def rows(X, y):
    return as_rows(X, y)


def fold_scores(rows, cv, metric=r2, **options):
    """The scores of all folds, without scikit-learn's tools."""
    X, y = rows
    scores = []
    for train, test in cv.split(np.zeros(len(X))):
        model = Pipeline(steps()).fit(X[train].tensor, y[train].tensor)
        scores.append(metric(y[test], model.predict(X[test]), **options))
    return np.array(scores)


# ---- cutting


def test_train_test_split(rows, pipeline):
    X_train, X_test, y_train, y_test = train_test_split(*rows, test_size=4, random_state=0)
    assert X_train.rows == y_train.rows
    assert len(X_test) == 4
    assert not set(X_test.rows["system"]) & set(X_train.rows["system"])
    prediction = pipeline.fit(X_train, y_train).predict(X_test)
    assert prediction.rows == y_test.rows
    assert prediction.tensor.block().gradients_list() == ["positions", "strain"]


def test_cross_val_score(rows, pipeline):
    found = cross_val_score(pipeline, *rows, cv=4)
    np.testing.assert_allclose(found, fold_scores(rows, KFold(4)))
    found = cross_val_score(pipeline, *rows, cv=4, scoring=get_scorer("neg_rmse:strain"))
    np.testing.assert_allclose(found, -fold_scores(rows, KFold(4), rmse, gradient="strain"))


def test_string_scorers(rows, pipeline):
    found = cross_val_score(pipeline, *rows, cv=4, scoring="neg_root_mean_squared_error")
    np.testing.assert_allclose(found, -fold_scores(rows, KFold(4), rmse))
    np.testing.assert_allclose(
        cross_val_score(pipeline, *rows, cv=4, scoring="r2"), fold_scores(rows, KFold(4))
    )


def test_cross_validate_with_several_scores(rows, pipeline):
    found = cross_validate(pipeline, *rows, cv=4, scoring=SCORING, return_train_score=True)
    expected = -fold_scores(rows, KFold(4), rmse, gradient="positions")
    np.testing.assert_allclose(found["test_forces"], expected)
    assert (found["train_forces"] > found["test_forces"]).mean() > 0.5


def test_group_k_fold(rows, pipeline):
    X, _ = rows
    groups = X.groups("system") % 5
    cv = GroupKFold(5)
    found = cross_val_score(pipeline, *rows, cv=cv, groups=groups)
    expected = [
        r2(rows[1][test], Pipeline(steps()).fit(X[train], rows[1][train]).predict(X[test]))
        for train, test in cv.split(X, groups=groups)
    ]
    np.testing.assert_allclose(found, expected)


def test_cross_val_predict(rows, pipeline):
    X, y = rows
    cv = KFold(4, shuffle=True, random_state=1)
    predictions = cross_val_predict(pipeline, X, y, cv=cv)
    assert isinstance(predictions, Rows)
    assert predictions.rows == y.rows
    assert predictions.tensor.block().gradients_list() == ["positions", "strain"]
    for train, test in cv.split(X):
        expected = pipeline.fit(X[train], y[train]).predict(X[test])
        for gradient in (None, "positions", "strain"):
            assert rmse(expected, predictions[test], gradient=gradient) < 1e-12


def test_learning_curve(rows, pipeline):
    sizes, train, test = learning_curve(pipeline, *rows, cv=3, train_sizes=[4, 8, 10])
    assert sizes.tolist() == [4, 8, 10]
    assert np.isfinite(train).all()
    assert np.isfinite(test).all()
    X, y = rows
    train_rows, test_rows = next(KFold(3).split(X))
    expected = pipeline.fit(X[train_rows[:4]], y[train_rows[:4]]).score(X[test_rows], y[test_rows])
    assert test[0, 0] == pytest.approx(expected)


def test_validation_curve(rows, pipeline):
    _, test = validation_curve(
        pipeline, *rows, cv=3, param_name="ridge__alpha", param_range=[1e-6, 1e6]
    )
    assert test.shape == (2, 3)


# ---- searching


@pytest.mark.parametrize("name", ["max_error", "medae"])
def test_search_by_other_scores(rows, pipeline, name):
    search = GridSearchCV(pipeline, {"ridge__alpha": [1e-3, 10.0]}, cv=3)
    search.set_params(scoring=get_scorer(f"neg_{name}:positions")).fit(*rows)
    metric = {"max_error": max_error, "medae": medae}[name]
    expected = -fold_scores(rows, KFold(3), metric, gradient="positions").mean()
    assert search.cv_results_["mean_test_score"][0] == pytest.approx(expected)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search(rows, pipeline, n_jobs):
    search = GridSearchCV(pipeline, GRID, cv=3, scoring=SCORING, refit="forces", n_jobs=n_jobs)
    search.fit(*rows)
    results = search.cv_results_
    assert len(results["params"]) == 6
    for params, score in zip(results["params"], results["mean_test_forces"]):
        model = Pipeline(steps()).set_params(**params)
        expected = cross_val_score(model, *rows, cv=3, scoring=SCORING["forces"]).mean()
        assert score == pytest.approx(expected, rel=1e-9)
    assert search.best_params_["ridge__gradient_weights"] != 0
    assert isinstance(search.predict(rows[0]), Rows)
    assert isinstance(search.predict(rows[0].tensor), TensorMap)


def test_steps_are_searched_too(rows):
    """Each candidate gives what it gives outside the search."""
    move = [KeysToProperties(KEYS), KeysToSamples(KEYS)]
    grid = [
        {"move": move[:1], "reduce": [SumOverSamples(), MeanOverSamples()]},
        {"move": move[1:], "reduce": [SumOverSamples(["atom", *KEYS])]},
        {"norm": [Normalizer()], "reduce": [SumOverSamples()]},
        {"select": [VarianceThreshold(0.3)], "reduce": [SumOverSamples()]},
    ]
    names = ["norm", "move", "reduce", "select"]
    pipeline = Pipeline([*[(name, "passthrough") for name in names], ("ridge", Ridge(alpha=0.1))])
    pipeline.set_params(move=move[0])
    search = GridSearchCV(pipeline, grid, cv=3, scoring=SCORING["forces"]).fit(*rows)
    scores = search.cv_results_["mean_test_score"]
    assert len(np.unique(scores)) == 5
    for params, score in zip(search.cv_results_["params"], scores):
        model = clone(pipeline).set_params(**params)
        expected = cross_val_score(model, *rows, cv=3, scoring=SCORING["forces"]).mean()
        assert score == pytest.approx(expected, rel=1e-9)


def test_grid_of_tensors(rows, pipeline, features):
    properties = features.block().properties
    alphas = [
        TensorMap(
            Labels.single(), [TensorBlock(np.full((1, 16), alpha), Labels.single(), [], properties)]
        )
        for alpha in (1e-4, 1e-1)
    ]
    search = GridSearchCV(pipeline, {"ridge__alpha": alphas}, cv=3).fit(*rows)
    assert search.best_params_["ridge__alpha"] in alphas
    numbers = GridSearchCV(pipeline, {"ridge__alpha": [1e-4, 1e-1]}, cv=3).fit(*rows)
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], numbers.cv_results_["mean_test_score"]
    )
    assert "TensorMap with 1 block" in repr(search)


def test_other_searches(rows, pipeline):
    search = RandomizedSearchCV(pipeline, GRID, n_iter=3, cv=3, random_state=0).fit(*rows)
    assert np.isfinite(search.best_score_)
    halving = HalvingGridSearchCV(
        pipeline, {"ridge__alpha": [1e-4, 1e-2, 1.0]}, cv=2, min_resources=6, random_state=0
    )
    assert np.isfinite(halving.fit(*rows).best_score_)


def test_cached_pipelines(rows, pipeline):
    expected = pipeline.fit(*rows).predict(rows[0])
    with tempfile.TemporaryDirectory() as folder:
        cached = Pipeline(steps(), memory=folder)
        for _ in range(2):
            assert rmse(expected, cached.fit(*rows).predict(rows[0])) == 0


def test_files_mapped_to_memory(rows, pipeline, tmp_path):
    """Workers of joblib get large arrays like this: read-only, in a file."""
    path = tmp_path / "rows.joblib"
    joblib.dump(rows, path)
    X, y = joblib.load(path, mmap_mode="r")
    assert not X.tensor.block_by_id(0).values.flags.writeable
    prediction = pipeline.fit(X, y).predict(X)
    expected = Pipeline(steps()).fit(*rows).predict(rows[0])
    for gradient in (None, "positions"):
        assert rmse(expected, prediction, gradient=gradient) == 0


# ---- combining


def test_feature_union_keeps_gradients(rows):
    union = FeatureUnion(
        [("scaled", StandardScaler()), ("plain", "passthrough")], transformer_weights={"plain": 2.0}
    )
    model = make_pipeline(KeysToProperties(KEYS), SumOverSamples(), union, Ridge(alpha=1e-3))
    prediction = model.fit(*rows).predict(rows[0])
    assert prediction.tensor.block().gradients_list() == ["positions", "strain"]
    assert model[:-1].transform(rows[0]).shape == (16, 32)


def test_function_transformer(rows):
    model = make_pipeline(
        KeysToProperties(KEYS), SumOverSamples(), FunctionTransformer(lambda X: X * 2.0), Ridge()
    )
    half = make_pipeline(KeysToProperties(KEYS), SumOverSamples(), Ridge(alpha=0.25))
    first, second = (m.fit(*rows).predict(rows[0]) for m in (model, half))
    assert rmse(first, second, gradient="positions") < 1e-10


@pytest.mark.filterwarnings("ignore:Rows became a plain array:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "regressor",
    [
        PlainRidge(),
        RidgeCV(),
        RandomForestRegressor(n_estimators=3),
        GaussianProcessRegressor(alpha=1e-3),
    ],
)
def test_last_step_of_scikit_learn(rows, regressor):
    model = Pipeline([*steps()[:-1], ("last", regressor)])
    assert np.isfinite(cross_val_score(model, *rows, cv=3)).all()
    assert np.isfinite(cross_val_score(model, *rows, cv=3, scoring=SCORING["energy"])).all()


def test_plain_ridge_is_ridge_without_gradients(rows):
    energies = np.ravel([block.values for block in rows[1].tensor])
    model = Pipeline([*steps()[:-1], ("last", PlainRidge(alpha=0.3))])
    with pytest.warns(UserWarning, match="lost their gradients"):
        model.fit(rows[0], energies)
    ours = Pipeline([*steps()[:-1], ("last", Ridge(alpha=0.3, gradient_weights=0))]).fit(*rows)
    np.testing.assert_allclose(
        model.predict(rows[0]), np.asarray(ours.predict(rows[0]).tensor.block().values)[:, 0]
    )


@pytest.mark.filterwarnings("ignore:Rows became a plain array:UserWarning")
def test_meta_estimators_take_energies_as_an_array(rows, pipeline):
    X, y = rows
    energies = y.tensor.block().values[:, 0]
    expected = pipeline.fit(X, energies).predict(X)
    np.testing.assert_allclose(cross_val_predict(pipeline, X, energies, cv=4).shape, energies.shape)
    voting = VotingRegressor([("a", pipeline), ("b", pipeline)]).fit(X, energies)
    np.testing.assert_allclose(voting.predict(X), expected)
    stacking = StackingRegressor([("a", pipeline)], cv=3).fit(X, energies)
    assert stacking.predict(X).shape == energies.shape
    scaled = TransformedTargetRegressor(pipeline, transformer=PlainScaler())
    np.testing.assert_allclose(scaled.fit(X, energies).predict(X), expected)
    assert scaled.fit(X, y).predict(X).shape == (16, 1)
    with pytest.raises((TypeError, ValueError)):
        BaggingRegressor(pipeline).fit(X, energies)


# ---- options of scikit-learn


def test_metadata_routing(rows):
    X, y = rows
    weights = np.random.default_rng(0).uniform(size=16)
    groups = X.groups("system") % 4
    with sklearn.config_context(enable_metadata_routing=True):
        parts = steps()
        parts[2] = ("scale", StandardScaler().set_fit_request(sample_weight=True))
        parts[3] = ("ridge", Ridge(alpha=1e-3).set_fit_request(sample_weight=True))
        scorer = get_scorer("r2:positions").set_score_request(sample_weight=True)
        params = {"sample_weight": weights, "groups": groups}
        cv = GroupKFold(4)
        results = cross_validate(Pipeline(parts), X, y, scoring=scorer, cv=cv, params=params)
    for (train, test), found in zip(cv.split(X, groups=groups), results["test_score"], strict=True):
        model = Pipeline(steps())
        options = {"scale__sample_weight": weights[train], "ridge__sample_weight": weights[train]}
        prediction = model.fit(X[train], y[train], **options).predict(X[test])
        options = {"gradient": "positions", "sample_weight": weights[test]}
        assert found == pytest.approx(r2(y[test], prediction, **options))


def test_weights_are_cut_along(rows, pipeline):
    weights = np.random.default_rng(1).uniform(size=16)
    params = {"ridge__sample_weight": weights}
    found = cross_val_score(pipeline, *rows, cv=4, params=params)
    train, test = next(KFold(4).split(weights))
    X, y = rows
    model = pipeline.fit(X[train], y[train], ridge__sample_weight=weights[train])
    assert found[0] == pytest.approx(model.score(X[test], y[test]))


def test_weights_of_values_are_cut_along(rows, pipeline):
    """Weights that are Rows, such as one over the number of atoms for energies alone."""
    X, y = rows
    block = y.tensor.block()
    values = np.random.default_rng(2).uniform(size=block.values.shape)
    weights = TensorBlock(values, block.samples, [], block.properties)
    weights = as_rows(TensorMap(y.tensor.keys, [weights]))
    params = {"ridge__sample_weight": weights}
    found = cross_val_score(pipeline, X, y, cv=4, params=params)
    for (train, test), score in zip(KFold(4).split(values), found, strict=True):
        model = Pipeline(steps()).fit(X[train], y[train], ridge__sample_weight=weights[train])
        assert score == pytest.approx(model.score(X[test], y[test]))


@pytest.mark.parametrize("how", ["estimator", "global"])
def test_tensors_stay_tensors_whatever_the_output(rows, how):
    pytest.importorskip("pandas")
    array = np.random.default_rng(0).normal(size=(5, 2))
    model = Pipeline(steps())
    if how == "estimator":
        model.set_output(transform="pandas")
        assert model.fit(*rows)[:-1].transform(rows[0]).tensor.block().has_gradient("strain")
        assert model.set_output(transform="pandas") is model
        scaler = StandardScaler().set_output(transform="pandas")
        assert list(scaler.fit_transform(array).columns) == ["x0", "x1"]
        return
    with sklearn.config_context(transform_output="pandas"):
        assert isinstance(model.fit(*rows)[:-1].transform(rows[0]), Rows)
        scaler = StandardScaler().fit(rows[0].tensor)
        assert isinstance(scaler.transform(rows[0].tensor), TensorMap)
        assert list(StandardScaler().fit_transform(array).columns) == ["x0", "x1"]


ARRAY_API = """
import sys, warnings
warnings.simplefilter("error")
import numpy as np, sklearn
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from metatensor.sklearn import *
from metatensor.sklearn.testing import _data

systems = _data.make_systems(9)
X, y = as_rows(_data.make_features(systems), _data.make_energies(systems))
move = KeysToProperties(["center_type", "neighbor_type"])
model = make_pipeline(move, SumOverSamples(), StandardScaler(), Ridge(alpha=1e-3))
expected = cross_val_score(model, X, y, cv=3)
with sklearn.config_context(array_api_dispatch=True):
    np.testing.assert_allclose(cross_val_score(model, X, y, cv=3), expected)
    parts = train_test_split(X, y, random_state=0)
    assert all(isinstance(part, Rows) for part in parts)
    assert isinstance(cross_val_predict(model, X, y, cv=3), Rows)
    search = GridSearchCV(model, {"ridge__alpha": [1e-3, 1.0]}, cv=3).fit(X, y)
    assert np.isfinite(search.best_score_)
    assert isinstance(Normalizer().fit_transform(X), Rows)
    import torch
    array = torch.arange(12, dtype=torch.float64).reshape(6, 2) ** 2
    for step in (StandardScaler(), Normalizer(), VarianceThreshold()):
        assert isinstance(step.fit_transform(array), torch.Tensor)
    assert isinstance(Ridge().fit(array, array[:, 0]).predict(array), torch.Tensor)
print("done")
"""


def test_array_api_dispatch():
    pytest.importorskip("torch")
    run = subprocess.run(
        [sys.executable, "-c", ARRAY_API],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "done", run.stderr


# ---- systems of changing composition


def test_sum_first_or_last(rows):
    X, y = rows
    order = np.random.default_rng(3).permutation(16)
    move, total = KeysToProperties(KEYS), SumOverSamples()
    first = make_pipeline(move, total, StandardScaler(), Ridge(alpha=1e-3))
    last = make_pipeline(total, move, StandardScaler(), Ridge(alpha=1e-3))
    for model in (first, last):
        model.fit(X[order[:12]], y[order[:12]])
    predictions = [model.predict(X[order[12:]]) for model in (first, last)]
    for gradient in (None, "positions", "strain"):
        assert rmse(*predictions, gradient=gradient) < 1e-10


def test_systems_without_a_type(rows, pipeline, make):
    pipeline.fit(*rows)
    systems = make.systems(3, seed=5)
    for system in systems:
        system.types[:] = 1
    features = make.features(systems)
    assert [len(block) > 0 for block in features] == [True, False, False, False]
    alone = TensorMap(make.labels(KEYS, [[1, 1]]), [features.block_by_id(0)])
    whole, part = (pipeline.predict(X) for X in (features, alone))
    assert part.block().samples == Labels.range("system", 3)
    assert part.block().gradients_list() == ["positions", "strain"]
    for gradient in (None, "positions", "strain"):
        assert rmse(whole, part, gradient=gradient) < 1e-12


# ---- data that were not made into rows


def test_bare_tensors_are_not_cut(X, y, pipeline):
    with pytest.raises((ValueError, TypeError)):
        GridSearchCV(pipeline, {"ridge__alpha": [1.0]}, cv=2).fit(X, y)
    with pytest.raises(
        TypeError, match=r"wrap the data with `X, y = as_rows\(X, y, by='system'\)`"
    ):
        pipeline.fit(list(X), list(y))
