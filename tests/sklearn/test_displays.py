"""Pictures show the numbers that they are made of."""

import builtins
import subprocess
import sys

import numpy as np
import pytest
from sklearn.model_selection import KFold, cross_validate, learning_curve
from sklearn.pipeline import make_pipeline

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import (
    LearningCurveDisplay,
    ParityDisplay,
    Ridge,
    SparsityDisplay,
    StandardScaler,
    as_rows,
    get_scorer,
    rmse,
)

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def _no_windows():
    matplotlib.use("agg")
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def points(display):
    """The points of a panel of scikit-learn's."""
    return np.asarray(display.scatter_.get_offsets())


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


# ---- parity


@pytest.fixture(scope="module")
def models(features, y):
    return {"weak": Ridge(alpha=1.0).fit(features, y), "strong": Ridge(alpha=1e-3).fit(features, y)}


def test_parity_of_values_and_gradients(models, features, y):
    display = ParityDisplay.from_estimator(models, features, y)
    assert len(display.axes_) == 3
    assert [axis.get_title() for axis in display.axes_] == [
        "values",
        "positions gradient",
        "strain gradient",
    ]
    for name, model in models.items():
        predicted = model.predict(features).block()
        parts = [(predicted, y.block())]
        parts += [(predicted.gradient(g), y.block().gradient(g)) for g in ("positions", "strain")]
        for panel, ((one, other), gradient) in enumerate(zip(parts, [None, "positions", "strain"])):
            rows = [one.samples.position(sample) for sample in other.samples]
            values = [one.values[row] if row is not None else other.values[0] * 0 for row in rows]
            expected = np.column_stack([np.ravel(values), other.values.ravel()])
            found = points(display.displays_[panel][name])
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
            error = rmse(y, model.predict(features), gradient=gradient)
            assert display.errors_[panel][name] == pytest.approx(error, rel=1e-10)
            assert f"{name}: {error:.3g}" in legend(display.axes_[panel])


def test_parity_in_other_units(models, features, y):
    X, y = as_rows(features, y)
    predicted = models["weak"].predict(X)
    display = ParityDisplay.from_predictions(
        y,
        predicted,
        gradients=["positions"],
        normalize="n_atoms",
        factors=[1000, -1],
        titles=["Energies", "Forces"],
        units=["meV", "eV/Å"],
    )
    block = y.tensor.block()
    n_atoms = np.bincount(block.gradient("positions").samples["sample"])
    true = points(display.displays_[0][""])[:, 1]
    np.testing.assert_allclose(true, 1000 * block.values[:, 0] / n_atoms)
    forces = points(display.displays_[1][""])[:, 1]
    np.testing.assert_allclose(forces, -block.gradient("positions").values.ravel())
    energy = 1000 * rmse(y, predicted, normalize="n_atoms")
    assert legend(display.axes_[0]) == [f"RMSE: {energy:.3g} meV"]
    assert legend(display.axes_[1]) == [
        f"RMSE: {rmse(y, predicted, gradient='positions'):.3g} eV/Å"
    ]
    assert display.axes_[0].get_xlabel() == "predicted (meV)"
    assert display.axes_[1].get_title() == "Forces"


def test_parity_matches_labels(models, features, y, make):
    predicted = models["weak"].predict(features)
    other = make.permuted(predicted, np.random.default_rng(0))
    first = ParityDisplay.from_predictions(y, predicted)
    second = ParityDisplay.from_predictions(y, other)
    for one, two in zip(first.displays_, second.displays_):
        np.testing.assert_array_equal(points(one[""]), points(two[""]))


def test_parity_has_one_diagonal_and_equal_axes(models, features, y):
    display = ParityDisplay.from_estimator(models, features, y)
    for axis, panel in zip(display.axes_, display.displays_):
        assert axis.get_xlim() == axis.get_ylim()
        low, high = axis.get_xlim()
        for one in panel.values():
            np.testing.assert_array_equal(one.line_.get_xdata(), one.line_.get_ydata())
            assert (points(one) > low).all()
            assert (points(one) < high).all()
        assert len({str(one.scatter_.get_facecolor()) for one in panel.values()}) == 2


def test_residuals(models, features, y):
    display = ParityDisplay.from_estimator(
        models["weak"], features, y, kind="residual_vs_predicted", scatter_kwargs={"color": "red"}
    )
    found = points(display.displays_[0][""])
    predicted = models["weak"].predict(features).block().values.ravel()
    expected = y.block().values.ravel() - predicted
    np.testing.assert_allclose(found[:, 1], expected, atol=1e-12)
    assert display.axes_[0].get_ylabel() == "true - predicted"


def test_parity_of_arrays_in_given_axes():
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots()
    display = ParityDisplay.from_predictions([1.0, 2.0], [2.0, 2.0], ax=axis)
    assert display.figure_ is figure
    assert display.axes_[0] is axis
    assert points(display.displays_[0][""]).tolist() == [[2.0, 1.0], [2.0, 2.0]]
    same = ParityDisplay.from_predictions([1.0, 1.0], [1.0, 1.0])
    assert same.axes_[0].get_xlim() == (0.5, 1.5)


PARITY_ERRORS = {
    "ax": ({"ax": []}, "`ax` must have one entry for each panel, 1, got 0"),
    "titles": ({"titles": []}, "`titles` must have one entry for each panel, 1, got 0"),
    "factors": ({"factors": [1, 2]}, "`factors` must have one entry for each panel, 1, got 2"),
    "gradients": ({"gradients": ["positions"]}, "has no gradient 'positions'"),
}


@pytest.mark.parametrize("name", PARITY_ERRORS)
def test_parity_errors(name):
    options, message = PARITY_ERRORS[name]
    with pytest.raises(ValueError, match=message):
        ParityDisplay.from_predictions([1.0, 2.0], [2.0, 2.0], **options)
    with pytest.raises(ValueError, match="empty dict"):
        ParityDisplay.from_predictions([1.0, 2.0], {})


PARITY_TYPES = {
    "ax": ({"ax": 3}, "`ax` must be matplotlib Axes.*got numpy.int64"),
    "titles": (
        {"titles": "a"},
        "`titles` must be a list with one entry for each panel, 1, got",
    ),
    "factors": ({"factors": 1000}, "`factors` must be a list with one entry .* got 1000"),
    "gradients": ({"gradients": "positions"}, "`gradients` must be a list of names"),
}


@pytest.mark.parametrize("name", PARITY_TYPES)
def test_parity_types(name):
    options, message = PARITY_TYPES[name]
    with pytest.raises(TypeError, match=message):
        ParityDisplay.from_predictions([1.0], [2.0], **options)


@pytest.mark.parametrize("estimator", [Ridge, [Ridge()], {"a": StandardScaler()}])
def test_what_has_no_predictions(estimator, features, y):
    with pytest.raises(TypeError, match="`estimator` must be a fitted estimator"):
        ParityDisplay.from_estimator(estimator, features, y)


def test_predictions_that_are_not_finite(models, features, y):
    block = models["strong"].predict(features).block()
    values = block.values.copy()
    values[3] = np.nan
    broken = TensorBlock(values, block.samples, block.components, block.properties)
    with pytest.raises(ValueError, match="must be finite, there is NaN or infinity among the val"):
        ParityDisplay.from_predictions(y, TensorMap(y.keys, [broken]), gradients=[])


def test_legends_are_where_points_are_not():
    """In the corner with no points; below, where there are many entries."""
    for predicted, upper_left in (([3.0, 2.0], True), ([0.0, 2.0], False)):
        display = ParityDisplay.from_predictions([1.0, 2.0], predicted)
        box = legend_box(display)
        assert (box.x0 < 0.5 < box.y1) == upper_left
    many = ParityDisplay.from_predictions([1.0, 2.0], {str(n): [2.0, n] for n in range(9)})
    assert legend_box(many).y1 < 0


def legend_box(display):
    """The place of the legend in units of its axes."""
    (axis,) = display.axes_
    display.figure_.draw_without_rendering()
    box = axis.get_legend().get_window_extent()
    return box.transformed(axis.transAxes.inverted())


# ---- learning curves


def test_learning_curve_is_that_of_scikit_learn(features, y):
    X, y = as_rows(features, y)
    cv = KFold(4)
    display = LearningCurveDisplay.from_estimator(
        Ridge(),
        X,
        y,
        scoring=["neg_rmse", "neg_rmse:positions"],
        train_sizes=[0.3, 0.5, 1.0],
        cv=cv,
        shuffle=False,
    )
    assert list(display.displays_) == ["RMSE", "RMSE of positions gradient"]
    for title, name in zip(display.displays_, ["neg_rmse", "neg_rmse:positions"]):
        sizes, train, test = learning_curve(
            Ridge(), X, y, train_sizes=[0.3, 0.5, 1.0], cv=cv, scoring=get_scorer(name)
        )
        np.testing.assert_array_equal(display.train_sizes, sizes)
        np.testing.assert_allclose(display.train_scores["Ridge"][title], train)
        np.testing.assert_allclose(display.test_scores["Ridge"][title], test)
        lines = display.displays_[title]["Ridge"].lines_
        for line, scores in zip(lines, (train, test)):
            np.testing.assert_array_equal(line.get_xdata(), sizes)
            np.testing.assert_allclose(line.get_ydata(), -scores.mean(axis=1))
    for axis in display.axes_:
        assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
        assert [label.get_text() for label in axis.get_xticklabels()] == ["3", "6", "12"]


def test_learning_curves_of_several_estimators(features, y):
    X, y = as_rows(features, y)
    estimators = {"weak": Ridge(alpha=100.0), "scaled": make_pipeline(StandardScaler(), Ridge())}
    scoring = {"error": "neg_mae", "determination": "r2", "sklearn's": "neg_mean_absolute_error"}
    y = y[:]
    display = LearningCurveDisplay.from_estimator(
        estimators, X, y.tensor.block().values, scoring=scoring, cv=3, random_state=0,
        train_sizes=[4, 10],
    )  # fmt: skip
    found = display.test_scores["scaled"]
    np.testing.assert_allclose(found["error"], found["sklearn's"])
    assert legend(display.axes_[0]) == ["weak", "scaled"]
    both = display.plot(score_type="both")
    assert legend(both.axes_[1]) == [
        "weak, train", "weak, test", "scaled, train", "scaled, test"
    ]  # fmt: skip
    largest = cross_validate(estimators["weak"], X, y, cv=KFold(4), scoring=get_scorer("neg_mae"))
    again = LearningCurveDisplay.from_estimator(
        estimators["weak"], X, y, scoring="neg_mae", cv=KFold(4), train_sizes=[0.5, 1.0]
    )
    # all rows of a fold, in whatever order
    np.testing.assert_allclose(
        again.test_scores["Ridge"]["MAE"][1], largest["test_score"], rtol=1e-8
    )


def test_parts_are_shuffled(features, y):
    X, y = as_rows(features, y)
    curves = [
        LearningCurveDisplay.from_estimator(
            Ridge(), X, y, cv=2, train_sizes=[4, 6], random_state=seed
        ).test_scores["Ridge"]["RMSE"]
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(curves[0], curves[1])
    assert (curves[0] != curves[2]).any()


SIZES = {
    "too large": [100],
    "zero": [0],
    "fraction": [1.5],
    "no fraction": [0.0],
    "none": [],
    "text": ["a"],
    "number": 3,
    "one": [5, 5],
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name, features, y):
    X, y = as_rows(features, y)
    with pytest.raises(ValueError, match="`train_sizes`"):
        LearningCurveDisplay.from_estimator(Ridge(), X, y, train_sizes=SIZES[name], cv=2)


def test_maps_can_not_be_cut(features, y):
    with pytest.raises(TypeError, match="`X` must be Rows.*use `X, y = as_rows"):
        LearningCurveDisplay.from_estimator(Ridge(), features, y)


def test_scores(features, y):
    X, y = as_rows(features, y)
    with pytest.raises(ValueError, match="must be one of .*got 'nothing'"):
        LearningCurveDisplay.from_estimator(Ridge(), X, y, scoring="nothing")
    with pytest.raises(ValueError, match="at least one score"):
        LearningCurveDisplay.from_estimator(Ridge(), X, y, scoring=[])
    display = LearningCurveDisplay.from_estimator(
        Ridge(), X, y, scoring=get_scorer("r2"), cv=2, train_sizes=[2, 8], random_state=0
    )
    assert list(display.displays_) == ["score"]


# ---- sparsity


def tensor(names, rows, sizes):
    blocks = [
        TensorBlock(
            np.zeros((size, 3, 2)),
            Labels.range("s", size),
            [Labels.range("c", 3)],
            Labels.range("p", 2),
        )
        for size in sizes
    ]
    keys = np.array(rows, dtype=np.int32).reshape(len(rows), len(names))
    return TensorMap(Labels(names, keys), blocks)


def test_grid():
    display = SparsityDisplay.from_tensor(
        tensor(["a", "b"], [(8, 1), (1, 1), (1, 6), (8, 8)], [5, 0, 7, 2])
    )
    expected = np.array([[0, 7, -1], [5, -1, 2]])
    np.testing.assert_array_equal(display.counts_, expected)
    shown = display.image_.get_array()
    np.testing.assert_array_equal(shown.mask, expected < 0)
    np.testing.assert_array_equal(shown.filled(-1), expected)
    assert {text.get_position(): text.get_text() for text in display.texts_} == {
        (0, 1): "5 × 3 × 2",
        (0, 0): "0 × 3 × 2",
        (1, 0): "7 × 3 × 2",
        (2, 1): "2 × 3 × 2",
    }
    assert (display.ax_.get_ylabel(), display.ax_.get_xlabel()) == ("a", "b")
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["1", "6", "8"]
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["1", "8"]
    assert display.ax_.get_title() == "4 blocks, 84 values"


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"]])
def test_bars(names):
    rows = [[8] * len(names), [-1] * len(names)]
    display = SparsityDisplay.from_tensor(tensor(names, rows, [400, 20]))
    assert display.counts_.tolist() == [400, 20]
    assert [bar.get_width() for bar in display.bars_] == [400, 20]
    assert [text.get_text() for text in display.texts_] == ["400 × 3 × 2", "20 × 3 × 2"]
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == [", ".join(map(str, row)) for row in rows]
    assert display.ax_.get_title() == "2 blocks, 2\u202f520 values"


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_no_blocks(names):
    display = SparsityDisplay.from_tensor(tensor(names, [], []))
    assert display.ax_.get_title() == "0 blocks, 0 values"


def test_hundreds_of_blocks():
    """Some labels, no texts, and a picture that is not larger than matplotlib can draw."""
    several = [
        (tensor(["a"], [[n] for n in range(350)], [1] * 350), "y"),
        (tensor(["a", "b"], [(n, 0) for n in range(350)], [1] * 350), "y"),
        (tensor(["a", "b"], [(0, n) for n in range(350)], [1] * 350), "x"),
    ]
    for blocks, direction in several:
        display = SparsityDisplay.from_tensor(blocks)
        assert max(display.figure_.get_size_inches()) < 80
        assert display.texts_ == []
        labels = getattr(display.ax_, f"get_{direction}ticklabels")()
        assert [label.get_text() for label in labels] == [str(n) for n in range(0, 350, 4)]


def test_one_block():
    display = SparsityDisplay.from_tensor(tensor(["_"], [[0]], [2]))
    assert display.ax_.get_title() == "1 block, 12 values"
    assert display.ax_.get_ylabel() == ""


def test_sparsity_of_rows(X):
    import matplotlib.pyplot as plt

    _, axis = plt.subplots()
    display = SparsityDisplay.from_tensor(as_rows(X)[:3], ax=axis)
    assert display.ax_ is axis
    assert display.counts_.sum() == sum(int((block.samples["system"] < 3).sum()) for block in X)
    with pytest.raises(TypeError, match="`tensor` must be a metatensor TensorMap"):
        SparsityDisplay.from_tensor(np.zeros(3))


# ---- matplotlib


def test_matplotlib_is_loaded_when_it_is_used():
    code = "import sys, metatensor.sklearn; print('matplotlib' in sys.modules)"
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "False"


def test_without_matplotlib(monkeypatch):
    original = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"pip install metatensor-sklearn\[plot\]"):
        ParityDisplay.from_predictions([1.0, 2.0], [2.0, 2.0])
