"""From structures to predictions with unmodified scikit-learn, whatever it cuts."""

import os
import pickle
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_predict,
    cross_val_score,
    learning_curve,
    train_test_split,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.datasets import make_alloys, radial_descriptor
from metatensor.sklearn import (
    CalculatorTransformer,
    KeysToProperties,
    Ridge,
    Rows,
    SumOverSamples,
    Systems,
    as_rows,
    get_scorer,
)
from metatensor.testing import assert_allclose, assert_equal

KEYS = ["center_type", "neighbor_type"]
SCORING = {"energy": get_scorer("neg_rmse"), "forces": get_scorer("neg_rmse:positions")}
NUMBERS = np.array([40, 3, 17, 5, 28, 11, 2, 33, 19, 8])
compute = partial(radial_descriptor, n_radial=4)


def later_steps(alpha=1e-3):
    return [
        ("sum", SumOverSamples()),
        ("keys", KeysToProperties(KEYS, unknown="ignore")),
        ("ridge", Ridge(alpha=alpha, fit_intercept=False)),
    ]


def pipeline(**options):
    return Pipeline([("calculator", CalculatorTransformer(compute, **options)), *later_steps()])


def table(names, rows):
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), len(names)))


def numbered(tensor, numbers):
    """The same data with other numbers of systems, written with the public interface."""

    def relabelled(labels):
        values = labels.values.copy()
        if "system" in labels.names:
            column = labels.names.index("system")
            values[:, column] = numbers[values[:, column]]
        return Labels(labels.names, values)

    blocks = []
    for block in tensor:
        new = TensorBlock(
            block.values, relabelled(block.samples), block.components, block.properties
        )
        for name, gradient in block.gradients():
            new.add_gradient(
                name,
                TensorBlock(
                    gradient.values,
                    relabelled(gradient.samples),
                    gradient.components,
                    block.properties,
                ),
            )
        blocks.append(new)
    return TensorMap(tensor.keys, blocks)


@pytest.fixture(scope="module")
def data():
    return make_alloys(len(NUMBERS), repeats=[(1, 1, 1), (1, 1, 2)], verbose=False)


@pytest.fixture(scope="module")
def y(data):
    """Energies whose numbers of systems have gaps and no order."""
    return Rows(numbered(data.energies, NUMBERS), rows=table(["system"], NUMBERS))


@pytest.fixture(scope="module")
def X(data, y):
    return Systems(data.systems, y.rows)


@pytest.fixture
def features(data, y):
    """Return a function that computes features before anything is cut."""

    def features(**options):
        tensor = numbered(compute(data.systems, **options), NUMBERS)
        return Rows(tensor, rows=y.rows)

    return features


# ---- systems


def test_systems_are_a_sequence(data, X):
    assert len(X) == 10
    assert X.shape == (10,)
    assert list(X) == data.systems
    assert X[3] is data.systems[3]
    assert X[-1] is data.systems[-1]
    assert X[np.int64(2), ...] is data.systems[2]
    assert "10" in repr(X)
    assert Systems(data.systems).rows == Labels.range("system", 10)


@pytest.mark.parametrize(
    ("key", "positions"),
    [
        ([4, 1], [4, 1]),
        (np.array([-1, 0]), [9, 0]),
        (slice(2, 8, 3), [2, 5]),
        (np.arange(10) % 4 == 0, [0, 4, 8]),
        ((np.array([7, 2]), ...), [7, 2]),
        ([], []),
    ],
    ids=str,
)
def test_numbers_stay_with_their_systems(data, X, key, positions):
    part = X[key]
    assert part.systems == [data.systems[position] for position in positions]
    assert part.rows["system"].tolist() == [NUMBERS[position] for position in positions]


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda X: X[[0, 0]], ValueError, "can not be repeated"),
        (lambda X: X[[10]], IndexError, "below 10"),
        (lambda X: X[10], IndexError, "out of range"),
        (lambda X: X[0, 1], TypeError, "one axis"),
        (lambda X: X["a"], TypeError, "positions, a slice or a mask"),
        (lambda X: Systems(X, Labels.range("system", 3)), ValueError, "each of the 10 systems"),
        (lambda X: Systems(X[:1], table(["a", "b"], [[0, 0]])), ValueError, "one dimension"),
        (lambda X: Systems(X, [1, 2]), TypeError, "rows"),
    ],
)
def test_systems_refuse(X, make, error, text):
    with pytest.raises(error, match=text):
        make(X)


# ---- the transformer


def test_features_have_the_numbers_of_the_systems(X, features):
    rows = CalculatorTransformer(compute, cutoff=4.0).fit_transform(X)
    assert rows.rows == X.rows
    assert_equal(rows.tensor, features(cutoff=4.0).tensor)
    gradient = rows.tensor.block_by_id(0).gradient("positions").samples
    samples = rows.tensor.block_by_id(0).samples
    np.testing.assert_array_equal(samples["system"][gradient["sample"]], gradient["system"])


def test_lists_are_numbered_like_y_in_fit_and_from_zero_elsewhere(data, y):
    transformer = CalculatorTransformer(compute)
    assert transformer.fit_transform(data.systems, y).rows == y.rows
    for rows in (
        transformer.transform(data.systems),
        transformer.fit_transform(data.systems),
        transformer.fit_transform(data.systems, data.energies),
        transformer.fit_transform(data.systems, np.zeros(10)),
    ):
        assert rows.rows == Labels.range("system", 10)
        assert_equal(rows.tensor, compute(data.systems))


def test_objects_with_compute_and_other_names(data):
    def renamed(systems, **options):
        tensor = compute(systems, **options)
        blocks = [
            TensorBlock(b.values, b.samples.rename("system", "frame"), b.components, b.properties)
            for b in tensor
        ]
        return TensorMap(tensor.keys, blocks)

    calculator = SimpleNamespace(compute=renamed)
    transformer = CalculatorTransformer(calculator, rows_by="frame", gradients=[])
    assert transformer.transform(data.systems).by == ("frame",)
    rows = transformer.transform(Systems(data.systems, table(["frame"], NUMBERS)))
    assert set(rows.tensor.block_by_id(0).samples["frame"]) <= set(NUMBERS)


def test_systems_without_samples_stay_rows():
    def of_the_first(systems):
        block = TensorBlock(np.ones((1, 1)), table(["system"], [[0]]), [], Labels.range("n", 1))
        return TensorMap(Labels.single(), [block])

    rows = CalculatorTransformer(of_the_first).transform(["a", "b", "c"])
    assert len(rows) == 3
    assert SumOverSamples([]).transform(rows).shape == (3, 1)


def one_sample(systems, number=0, name="system"):
    block = TensorBlock(np.ones((1, 1)), table([name], [[number]]), [], Labels.range("n", 1))
    return TensorMap(Labels.single(), [block])


@pytest.mark.parametrize(
    ("transformer", "error", "text"),
    [
        (CalculatorTransformer(3), TypeError, "method `compute`, got"),
        (CalculatorTransformer(len), TypeError, "must return a TensorMap, got"),
        (CalculatorTransformer(one_sample, name="frame"), ValueError, "set `rows_by`"),
        (CalculatorTransformer(one_sample, number=5), ValueError, "number 2 systems from 0"),
        (CalculatorTransformer(one_sample, rows_by="frame"), ValueError, "set `rows_by`"),
    ],
    ids=str,
)
def test_transformer_refuses(transformer, error, text):
    with pytest.raises(error, match=text):
        transformer.fit_transform(["a", "b"])


def test_transformer_refuses_systems_by_another_name():
    systems = Systems(["a"], table(["frame"], [[1]]))
    with pytest.raises(ValueError, match="numbered by 'system'"):
        CalculatorTransformer(one_sample).transform(systems)


# ---- parameters


def test_options_are_parameters():
    transformer = CalculatorTransformer(radial_descriptor, cutoff=4.0)
    expected = {"calculator": radial_descriptor, "rows_by": "system", "cutoff": 4.0}
    assert transformer.get_params() == expected
    assert transformer.set_params(n_radial=3, cutoff=5.0, rows_by="frame") is transformer
    assert transformer.get_params() == {
        **expected,
        "rows_by": "frame",
        "cutoff": 5.0,
        "n_radial": 3,
    }
    with pytest.raises(ValueError, match="Invalid parameter 'cut'.*cutoff"):
        transformer.set_params(cut=3.0)
    with pytest.raises(ValueError, match="Invalid parameter 'cut'.*cutoff"):
        CalculatorTransformer(radial_descriptor, cut=3.0).fit([])
    with pytest.raises(TypeError, match="`calculator` must be a function"):
        CalculatorTransformer(dict).fit([])


def test_setting_a_clone_leaves_the_original_alone():
    transformer = CalculatorTransformer(radial_descriptor, cutoff=4.0)
    copied = clone(transformer).set_params(cutoff=3.0)
    assert copied.calculator is radial_descriptor
    assert transformer.get_params()["cutoff"] == 4.0
    assert copied.get_params()["cutoff"] == 3.0


def test_display():
    transformer = CalculatorTransformer(compute, cutoff=4.0)
    assert "cutoff=4.0" in repr(transformer)
    assert "CalculatorTransformer" in pipeline(cutoff=4.0)._repr_html_()


def test_pickle(X, y):
    model = pickle.loads(pickle.dumps(pipeline(cutoff=4.0).fit(X, y)))
    restored = pickle.loads(pickle.dumps(X))
    assert restored.rows == X.rows
    assert_equal(model.predict(restored).tensor, pipeline(cutoff=4.0).fit(X, y).predict(X).tensor)


# ---- scikit-learn's tools, compared with features that were computed first


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search(X, y, features, n_jobs):
    grid = {"ridge__alpha": [1e-4, 1e-2]}
    cv = KFold(3, shuffle=True, random_state=1)
    options = {"cv": cv, "scoring": SCORING, "refit": "forces"}
    search = GridSearchCV(
        pipeline(), {"calculator__cutoff": [3.5, 4.5], **grid}, n_jobs=n_jobs, **options
    ).fit(X, y)
    for position, cutoff in enumerate((3.5, 4.5)):
        expected = GridSearchCV(Pipeline(later_steps()), grid, **options)
        expected.fit(features(cutoff=cutoff), y)
        for name in SCORING:
            found = search.cv_results_[f"mean_test_{name}"][2 * position : 2 * position + 2]
            np.testing.assert_allclose(found, expected.cv_results_[f"mean_test_{name}"], rtol=1e-6)
    best = search.best_params_
    expected = Pipeline(later_steps(best["ridge__alpha"]))
    computed = features(cutoff=best["calculator__cutoff"])
    assert_allclose(
        search.predict(X).tensor, expected.fit(computed, y).predict(computed).tensor, rtol=1e-6
    )


def test_cross_validation(X, y, features):
    cv = KFold(5, shuffle=True, random_state=0)
    found = cross_val_predict(pipeline(cutoff=4.0), X, y, cv=cv)
    expected = cross_val_predict(Pipeline(later_steps()), features(cutoff=4.0), y, cv=cv)
    assert found.rows == y.rows
    assert_allclose(found.tensor, expected.tensor, rtol=1e-6)
    found = cross_val_score(pipeline(cutoff=4.0), X, y, cv=cv)
    expected = cross_val_score(Pipeline(later_steps()), features(cutoff=4.0), y, cv=cv)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_train_test_split(data, X, y, features):
    split = train_test_split(X, features(cutoff=4.0), y, test_size=3, random_state=0)
    systems, held_out, computed, computed_held_out, targets, _ = split
    model = pipeline(cutoff=4.0).fit(systems, targets)
    expected = Pipeline(later_steps()).fit(computed, targets).predict(computed_held_out)
    found = model.predict(held_out)
    assert found.rows == held_out.rows
    assert_allclose(found.tensor, expected.tensor, rtol=1e-6)
    from_lists = pipeline(cutoff=4.0).fit(list(systems), targets).predict(list(held_out))
    assert from_lists.rows == Labels.range("system", 3)
    np.testing.assert_array_equal(from_lists.tensor.block().values, found.tensor.block().values)


def test_an_element_missing_from_a_fold(data):
    gold = np.array([79 in system.numbers for system in data.systems])
    assert 0 < gold.sum() < 10
    y = as_rows(data.energies)
    X = Systems(data.systems, y.rows)
    model = pipeline(cutoff=4.0)
    predicted = model.fit(X, y).predict(X[~gold])
    assert predicted.rows == X[~gold].rows
    assert model.fit(X[~gold], y[~gold]).predict(X[gold]).shape == (gold.sum(), 1)


def test_memory(X, y, tmp_path):
    cached = pipeline(cutoff=4.0).set_params(memory=str(tmp_path))
    for _ in range(2):
        predicted = cached.fit(X, y).predict(X)
    assert_equal(predicted.tensor, pipeline(cutoff=4.0).fit(X, y).predict(X).tensor)


def test_union_of_two_calculations(X, y):
    union = FeatureUnion([(f"{c}", CalculatorTransformer(compute, cutoff=c)) for c in (3.0, 4.0)])
    model = make_pipeline(union, *(step for _, step in later_steps()))
    assert model.fit(X, y).predict(X).rows == X.rows


def test_learning_curve(X, y):
    sizes, _, test = learning_curve(pipeline(cutoff=4.0), X, y, cv=3, train_sizes=[4, 6])
    assert sizes.tolist() == [4, 6]
    assert test.shape == (2, 3)


ARRAY_API = """
import numpy as np, sklearn
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline
from metatensor.datasets import make_alloys, radial_descriptor
from metatensor.sklearn import (
    CalculatorTransformer, KeysToProperties, Ridge, SumOverSamples, Systems, as_rows
)
data = make_alloys(8, elements=["Cu"], repeats=[(1, 1, 1)], gradients=[], verbose=False)
y = as_rows(data.energies)
X = Systems(data.systems, y.rows)
move = KeysToProperties(["center_type", "neighbor_type"])
calculator = CalculatorTransformer(radial_descriptor, gradients=[])
model = make_pipeline(calculator, SumOverSamples(), move, Ridge(alpha=1e-3))
with sklearn.config_context(array_api_dispatch=True):
    train, test, y_train, y_test = train_test_split(X, y, random_state=0)
    assert model.fit(train, y_train).predict(test).rows == y_test.rows == test.rows
    assert cross_val_predict(model, X, y, cv=3).rows == y.rows
print("done")
"""


def test_array_api_dispatch():
    run = subprocess.run(
        [sys.executable, "-I", "-c", ARRAY_API],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "done", run.stderr
