"""Metrics against loops over labels."""

import numpy as np
import pytest
import sklearn.metrics
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import cross_val_score

import metatensor
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import (
    Ridge,
    as_rows,
    get_scorer,
    mae,
    make_scorer,
    max_error,
    medae,
    r2,
    rmse,
)

METRICS = {"rmse": rmse, "mae": mae, "max_error": max_error, "medae": medae, "r2": r2}


@pytest.fixture(scope="module")
def truth(make):
    return make.energies(make.systems(9, seed=2))


@pytest.fixture(scope="module")
def prediction(make, truth):
    """The truth and noise, with some gradient rows missing, in another order."""
    rng = np.random.default_rng(0)
    noisy = truth.copy()
    block = noisy.block()
    for part in (block, *(gradient for _, gradient in block.gradients())):
        part.values[:] += rng.normal(size=part.values.shape)
    kept = np.flatnonzero(rng.uniform(size=len(block.gradient("positions"))) > 0.2)
    gradient = block.gradient("positions")
    result = TensorBlock(block.values, block.samples, [], block.properties)
    samples = make.labels(gradient.samples.names, gradient.samples.values[kept])
    gradient = TensorBlock(gradient.values[kept], samples, gradient.components, block.properties)
    result.add_gradient("positions", gradient)
    result.add_gradient("strain", block.gradient("strain"))
    return make.permuted(make.one_block(result), rng)


def pairs(truth, prediction, gradient):
    """True and predicted values (n, n_entries), and the sample of each row, found one by one."""
    t, p = truth.block(), prediction.block()
    order = [p.samples.position(sample) for sample in t.samples]
    if gradient is None:
        return t.values, p.values[order], np.arange(len(t))
    rows, values = [], []
    for (sample, *rest), value in zip(
        t.gradient(gradient).samples.values, t.gradient(gradient).values
    ):
        position = p.gradient(gradient).samples.position((order[sample], *rest))
        values.append(
            np.zeros_like(value) if position is None else p.gradient(gradient).values[position]
        )
        rows.append(value)
    samples = t.gradient(gradient).samples["sample"]
    return np.array(rows).reshape(len(rows), -1), np.array(values).reshape(len(rows), -1), samples


def half_of(errors, weights):
    """The errors below and above which there is half of the weight, one by one."""
    errors, weights = errors.ravel(), weights.ravel()
    below = [w for w in errors if weights[errors <= w].sum() >= weights.sum() / 2 - 1e-12]
    above = [w for w in errors if weights[errors >= w].sum() >= weights.sum() / 2 - 1e-12]
    return (min(below) + max(above)) / 2


@pytest.mark.parametrize("gradient", [None, "positions", "strain"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("normalize", [None, "n_atoms", "numbers"])
def test_metrics_are_those_of_a_loop(truth, prediction, gradient, weighted, normalize):
    t, p, samples = pairs(truth, prediction, gradient)
    rng = np.random.default_rng(1)
    weights = rng.uniform(size=9) if weighted else None
    w = (
        np.ones(t.shape)
        if weights is None
        else np.repeat(weights[samples, None], t.shape[1], axis=1)
    )
    if normalize == "n_atoms":
        numbers = np.bincount(truth.block().gradient("positions").samples["sample"])
    else:
        numbers = normalize = rng.uniform(1, 3, size=9) if normalize else None
    if numbers is not None:
        t, p = t / numbers[samples, None], p / numbers[samples, None]
    reference = np.average(t, weights=w) if gradient is None else 0.0
    expected = {
        "rmse": np.sqrt(np.average((t - p) ** 2, weights=w)),
        "mae": np.average(np.abs(t - p), weights=w),
        "max_error": np.max(np.abs(t - p)),
        "medae": half_of(np.abs(t - p), w) if weighted else np.median(np.abs(t - p)),
        "r2": 1 - np.sum(w * (t - p) ** 2) / np.sum(w * (t - reference) ** 2),
    }
    for name, metric in METRICS.items():
        found = metric(
            truth, prediction, gradient=gradient, sample_weight=weights, normalize=normalize
        )
        assert type(found) is float
        assert found == pytest.approx(expected[name], rel=1e-12)


def test_perfect_predictions(truth):
    for gradient in (None, "positions", "strain"):
        assert rmse(truth, truth, gradient=gradient) == 0
        assert mae(truth, truth, gradient=gradient) == 0
        assert max_error(truth, truth, gradient=gradient) == 0
        assert medae(truth, truth, gradient=gradient) == 0
        assert r2(truth, truth, gradient=gradient) == 1


def test_more_than_one_error(make):
    rng = np.random.default_rng(2)
    keys = make.labels(["o3_lambda"], [[0], [1]])
    samples, properties = Labels.range("system", 5), Labels.range("target", 2)
    shapes, components = [(5, 1, 2), (5, 3, 2)], [[Labels.range("o3_mu", n)] for n in (1, 3)]
    truth, prediction = (
        TensorMap(
            keys,
            [
                TensorBlock(rng.normal(size=s), samples, c, properties)
                for s, c in zip(shapes, components)
            ],
        )
        for _ in range(2)
    )
    errors = [(a.values - b.values) ** 2 for a, b in zip(truth, prediction)]
    assert rmse(truth, prediction) == pytest.approx(
        np.sqrt(np.mean(np.concatenate(errors, axis=1)))
    )
    per_key = rmse(truth, prediction, per_key=True)
    assert per_key.keys == keys
    np.testing.assert_allclose(
        [b.values[0, 0] for b in per_key], [np.sqrt(e.mean()) for e in errors]
    )
    per_property = rmse(truth, prediction, per_property=True).block()
    assert per_property.properties == properties
    np.testing.assert_allclose(
        per_property.values[0], np.sqrt(np.concatenate(errors, axis=1).mean(axis=(0, 1)))
    )
    everything = mae(truth, prediction, per_key=True, per_component=True, per_property=True)
    for block, a, b in zip(everything, truth, prediction):
        assert block.components == a.components
        np.testing.assert_allclose(block.values[0], np.abs(a.values - b.values).mean(axis=0))
    for metric, reduce in ((max_error, np.max), (medae, np.median)):
        together = np.concatenate([np.sqrt(e) for e in errors], axis=1)
        assert metric(truth, prediction) == pytest.approx(reduce(together))
        found = metric(truth, prediction, per_property=True).block()
        np.testing.assert_allclose(found.values[0], reduce(together, axis=(0, 1)))
        found = metric(truth, prediction, per_key=True)
        np.testing.assert_allclose(
            [b.values[0, 0] for b in found], [reduce(np.sqrt(e)) for e in errors]
        )
        found = metric(truth, prediction, per_key=True, per_component=True)
        for block, a, e in zip(found, truth, errors):
            assert block.components == a.components
            np.testing.assert_allclose(block.values[0, :, 0], reduce(np.sqrt(e), axis=(0, 2)))
    with pytest.raises(ValueError, match="use per_key=True"):
        rmse(truth, prediction, per_component=True)
    chosen = rmse(truth, prediction, keys={"o3_lambda": 1})
    assert chosen == pytest.approx(np.sqrt(errors[1].mean()))
    assert rmse(truth, prediction, keys=make.labels(["o3_lambda"], [[1]])) == chosen
    first = rmse(truth, prediction, keys={"o3_lambda": 0})
    assert rmse(truth, prediction, keys=0) == first
    # the mean is the reference of the invariant block only
    invariant, other = (block.values for block in truth)
    distances = [(invariant - invariant.mean(axis=0)) ** 2, other**2]
    expected = 1 - sum(e.sum() for e in errors) / sum(d.sum() for d in distances)
    assert r2(truth, prediction) == pytest.approx(expected)


def test_r2_without_spread():
    constant = np.ones(4)
    assert r2(constant, constant) == 1.0
    assert r2(constant, constant + 1) == 0.0


def test_weights_are_copies_for_medians():
    rng = np.random.default_rng(4)
    for n in range(1, 8):
        errors, weights = rng.normal(size=n), rng.integers(0, 4, size=n)
        weights[0] += 1
        copies = np.repeat(errors, weights)
        expected = np.median(np.abs(copies))
        assert medae(errors, np.zeros(n), sample_weight=weights) == pytest.approx(expected)
        # not multiples of a power of two: sums of them are rounded
        assert medae(errors, np.zeros(n), sample_weight=weights / 7) == pytest.approx(expected)


def test_what_has_no_weight_does_not_count():
    truth, prediction, weights = np.zeros(3), np.array([1.0, 5.0, 2.0]), [1.0, 0.0, 1e-3]
    assert max_error(truth, prediction, sample_weight=weights) == 2.0
    assert medae(truth, prediction, sample_weight=weights) == 1.0


@pytest.mark.parametrize("metric", [rmse, mae, max_error, medae, r2])
def test_nothing_and_not_a_number(metric, make):
    """A block without samples has no error; NaN is not hidden."""
    samples, target = Labels.range("system", 3), Labels.range("target", 1)
    keys = make.labels(["a"], [[0], [1]])
    empty = TensorBlock(np.zeros((0, 1)), Labels.empty(["system"]), [], target)
    some = TensorBlock(np.array([[1.0], [2.0], [4.0]]), samples, [], target)
    broken = TensorBlock(np.array([[1.0], [np.nan], [3.0]]), samples, [], target)
    truth, prediction = TensorMap(keys, [some, empty]), TensorMap(keys, [broken, empty])
    assert np.isfinite(metric(truth, truth))
    assert np.isnan(metric(truth, prediction))
    per_key = [block.values.item() for block in metric(truth, truth, per_key=True)]
    assert np.isfinite(per_key[0])
    assert metric is r2 or np.isnan(per_key[1])


def test_order_of_properties_does_not_count(make):
    samples = Labels.range("system", 3)
    values = np.arange(6.0).reshape(3, 2)
    truth = make.one_block(TensorBlock(values, samples, [], make.labels(["t"], [[4], [2]])))
    prediction = make.one_block(
        TensorBlock(values[:, ::-1], samples, [], make.labels(["t"], [[2], [4]]))
    )
    assert rmse(truth, prediction) == 0
    other = make.one_block(TensorBlock(values, samples, [], make.labels(["t"], [[4], [3]])))
    with pytest.raises(ValueError, match="must have the same properties"):
        rmse(truth, other)


@pytest.mark.parametrize("shape", [(20,), (20, 1)])
def test_arrays_give_what_scikit_learn_gives(shape):
    rng = np.random.default_rng(3)
    truth, prediction, weights = (
        rng.normal(size=shape),
        rng.normal(size=shape),
        rng.uniform(size=20),
    )
    theirs = {
        "rmse": sklearn.metrics.root_mean_squared_error,
        "mae": sklearn.metrics.mean_absolute_error,
        "medae": sklearn.metrics.median_absolute_error,
        "r2": sklearn.metrics.r2_score,
    }
    for name, metric in theirs.items():
        expected = metric(truth, prediction, sample_weight=weights)
        found = METRICS[name](truth, prediction, sample_weight=weights)
        assert found == pytest.approx(expected)
    assert max_error(truth, prediction) == sklearn.metrics.max_error(truth, prediction)
    assert medae(truth, prediction) == pytest.approx(
        sklearn.metrics.median_absolute_error(truth, prediction)
    )


def test_torch_values(truth, prediction):
    pytest.importorskip("torch")
    first, second = truth.to(arrays="torch"), prediction.to(arrays="torch")
    for metric in METRICS.values():
        expected = metric(truth, prediction, gradient="positions")
        assert metric(first, second, gradient="positions") == pytest.approx(expected, rel=1e-12)


# ---- scorers


class Constant(RegressorMixin, BaseEstimator):
    """A model that always predicts the same."""

    def __init__(self, prediction):
        self.prediction = prediction

    def fit(self, X, y):
        return self

    def predict(self, X):
        return self.prediction


@pytest.mark.parametrize(
    ("name", "metric", "sign", "gradient"),
    [
        ("neg_rmse", rmse, -1, None),
        ("neg_rmse:positions", rmse, -1, "positions"),
        ("neg_mae:strain", mae, -1, "strain"),
        ("neg_mae", mae, -1, None),
        ("neg_max_error", max_error, -1, None),
        ("neg_max_error:positions", max_error, -1, "positions"),
        ("neg_medae", medae, -1, None),
        ("neg_medae:strain", medae, -1, "strain"),
        ("r2", r2, 1, None),
        ("r2:positions", r2, 1, "positions"),
    ],
)
def test_scorers_have_names(truth, prediction, name, metric, sign, gradient):
    expected = sign * metric(truth, prediction, gradient=gradient)
    assert get_scorer(name)(Constant(prediction), None, truth) == expected
    assert make_scorer(metric, gradient=gradient)(Constant(prediction), None, truth) == expected
    unmodified = sklearn.metrics.make_scorer(metric, greater_is_better=sign > 0, gradient=gradient)
    assert unmodified(Constant(prediction), None, truth) == expected


def test_scorers_take_options(truth, prediction):
    scorer = get_scorer("neg_rmse", normalize="n_atoms")
    assert scorer(Constant(prediction), None, truth) == -rmse(
        truth, prediction, normalize="n_atoms"
    )
    other = make_scorer(lambda y_true, y_pred: 3.0)
    assert other(Constant(prediction), None, truth) == 3.0
    with pytest.raises(
        ValueError, match=r"`scoring` must be one of \['neg_rmse', .*, got 'rmse:positions'"
    ):
        get_scorer("rmse:positions")


# ---- what is refused


def test_numbers_to_divide_by_are_found_by_label(X, y, features, make):
    n_atoms = y.block().gradient("positions").samples["sample"]
    counts = np.bincount(n_atoms).astype(float)
    tensor = make.one_block(
        TensorBlock(
            counts[::-1, None],
            Labels("system", np.arange(16)[::-1, None]),
            [],
            Labels.range("count", 1),
        )
    )
    first = Labels.range("system", 15)
    model = Ridge(1e-2).fit(features, y)
    prediction = model.predict(features)
    expected = rmse(y, prediction, normalize="n_atoms")
    assert rmse(y, prediction, normalize=tensor) == pytest.approx(expected, rel=1e-14)
    assert rmse(y, prediction, normalize=as_rows(tensor)) == pytest.approx(expected, rel=1e-14)
    rows, targets = as_rows(features, y)
    scores = [
        cross_val_score(Ridge(1e-2), rows, targets, scoring=get_scorer("neg_rmse", normalize=how))
        for how in ("n_atoms", tensor)
    ]
    np.testing.assert_allclose(*scores, rtol=1e-14)
    with pytest.raises(ValueError, match="`normalize` must have a number for each sample.*=15"):
        rmse(y, prediction, normalize=metatensor.slice(tensor, "samples", first))
    with pytest.raises(ValueError, match="`normalize` must have the sample names of y_true"):
        rmse(y, prediction, normalize=X.keys_to_properties(X.keys.names))
    with pytest.raises(ValueError, match="`normalize` must have numbers above zero"):
        rmse(y, prediction, normalize=0.0 * tensor)


def test_bad_input(truth, prediction, make):
    block = truth.block()
    plain = make.one_block(TensorBlock(block.values, block.samples, [], block.properties))
    with pytest.raises(ValueError, match="y_pred has no gradient 'positions' to compare"):
        rmse(truth, plain, gradient="positions")
    with pytest.raises(ValueError, match="y_true has no gradient 'cell' to compare"):
        rmse(truth, truth, gradient="cell")
    with pytest.raises(ValueError, match="needs y_true to have the gradient 'positions'"):
        rmse(plain, plain, normalize="n_atoms")
    with pytest.raises(ValueError, match="`normalize` must be 'n_atoms', an array .* got 'atoms'"):
        rmse(truth, truth, normalize="atoms")
    fewer = make.one_block(
        TensorBlock(
            block.values[1:],
            make.labels(["system"], block.samples.values[1:]),
            [],
            block.properties,
        )
    )
    with pytest.raises(
        ValueError, match=r"y_pred must have all the samples of y_true, .* lacks \(system=0\)"
    ):
        rmse(plain, fewer)
    with pytest.raises(TypeError, match="must both be labelled"):
        rmse(truth, np.zeros(9))
    with pytest.raises(ValueError, match="must have the same shape"):
        rmse(np.zeros(9), np.zeros((9, 2)))
    empty = make.one_block(
        TensorBlock(np.zeros((0, 1)), Labels.empty(["system"]), [], block.properties)
    )
    with pytest.raises(ValueError, match="there is nothing to compare"):
        rmse(empty, empty)
