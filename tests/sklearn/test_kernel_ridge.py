"""KernelRidge against plain numpy with loops over rows, and the rules it must keep."""

import pickle

import numpy as np
import pytest
import sklearn.kernel_ridge
from scipy.linalg import LinAlgError
from sklearn.metrics.pairwise import laplacian_kernel, pairwise_kernels
from sklearn.model_selection import GridSearchCV, cross_val_predict

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import (
    KernelRidge,
    KeysToProperties,
    MeanOverSamples,
    Ridge,
    Rows,
    SumOverSamples,
    _alignment,
    _base,
    _sample_sums,
    as_rows,
    kernel_ridge,
)

KEYS = ["center_type", "neighbor_type"]
KERNELS = {
    "linear": {"kernel": "linear"},
    "poly": {"kernel": "poly", "degree": 3, "coef0": 0.5, "gamma": 0.7},
    "rbf": {"kernel": "rbf", "gamma": 0.4},
    "cosine": {"kernel": "cosine"},
}
by_kernel = pytest.mark.parametrize("kernel", KERNELS)


# ---- an independent solution: every row is a list of samples and directions


def derivatives(parameters, x, z):
    """k, its derivatives by x and by z, and by both, (p,), (p,) and (p, p)."""
    name, one = parameters["kernel"], np.eye(len(x))
    if name == "linear":
        return x @ z, z, x, one
    if name == "poly":
        gamma, c, n = (parameters[p] for p in ("gamma", "coef0", "degree"))
        base = gamma * x @ z + c
        slope, curvature = n * gamma * base ** (n - 1), n * (n - 1) * gamma**2 * base ** (n - 2)
        return base**n, slope * z, slope * x, curvature * np.outer(z, x) + slope * one
    if name == "rbf":
        gamma, r = parameters["gamma"], x - z
        k = np.exp(-gamma * r @ r)
        mixed = k * (2 * gamma * one - 4 * gamma**2 * np.outer(r, r))
        return k, -2 * gamma * k * r, 2 * gamma * k * r, mixed
    a, b = np.linalg.norm(x), np.linalg.norm(z)
    across_x, across_z = (one - np.outer(x, x) / a**2) / a, (one - np.outer(z, z) / b**2) / b
    return x @ z / a / b, across_x @ z / b, across_z @ x / a, across_x @ across_z


def rows_of(X, y, parameters=("positions", "strain"), mean=False):
    """Rows, targets, and the name and system of each row; y gives the labels."""
    rows, targets, names = [], [], []
    for s, (system,) in enumerate(y.block().samples.values.tolist()):
        parts = []
        for key, block in X.items():
            for i, sample in enumerate(block.samples.values.tolist()):
                if sample[0] == system:
                    parts.append((tuple(key), block.values[i], None, tuple(sample)))
        share = 1 / len({part[3] for part in parts}) if mean else 1.0
        rows.append([(*part[:3], share) for part in parts])
        targets.append(y.block().values[s])
        names.append((None, system))
    shares = [row[0][3] for row in rows]
    for name in parameters:
        gradient = y.block().gradient(name)
        for n, (s, *rest) in enumerate(gradient.samples.values.tolist()):
            system = int(y.block().samples.values[s, 0])
            size = gradient.values[n, ..., 0].size
            for c in range(size):
                row = []
                for key, block in X.items():
                    u = block.gradient(name)
                    for m, (i, *others) in enumerate(u.samples.values.tolist()):
                        if block.samples.values[i, 0] == system and others == rest:
                            direction = u.values[m].reshape(size, -1)[c]
                            row.append((tuple(key), block.values[i], direction, shares[s]))
                rows.append(row)
                targets.append(gradient.values[n].reshape(size, -1)[c])
                names.append((name, system))
    return rows, np.array(targets), names


def gram(parameters, first, second):
    """The kernel of all pairs of rows."""
    cache = {}
    result = np.zeros((len(first), len(second)))
    for a, row in enumerate(first):
        for b, column in enumerate(second):
            for key, x, u, p in row:
                for other, z, v, q in column:
                    if key != other:
                        continue
                    pair = (x.tobytes(), z.tobytes())
                    if pair not in cache:
                        cache[pair] = derivatives(parameters, x, z)
                    k, dx, dz, mixed = cache[pair]
                    if u is None:
                        part = k if v is None else dz @ v
                    else:
                        part = dx @ u if v is None else u @ mixed @ v
                    result[a, b] += p * q * part
    return result


class Reference:
    """The solution from the formulas, with a weight for each system and each parameter."""

    def __init__(self, parameters, X, y, alpha, g, v=None, mean=False):
        self.parameters, self.alpha, self.mean = parameters, alpha, mean
        names = [name for name in g if name]
        self.rows, targets, labels = rows_of(X, y, names, mean)
        v = np.ones(len(y.block())) if v is None else v
        v = dict(zip(y.block().samples.values[:, 0].tolist(), v))
        w = np.array([v[system] * g.get(name, 1.0) for name, system in labels])
        self.matrix = gram(parameters, self.rows, self.rows) + np.diag(alpha / w)
        self.dual = np.linalg.solve(self.matrix, targets)

    def predict(self, X, y):
        rows, _, names = rows_of(X, y, mean=self.mean)
        predicted = gram(self.parameters, rows, self.rows) @ self.dual
        kinds = [name for name, _ in names]
        return {
            kind: predicted[[n for n, name in enumerate(kinds) if name == kind]]
            for kind in (None, "positions", "strain")
        }

    def variances(self, X, y):
        rows, _, _ = rows_of(X, y, (), self.mean)
        cross = gram(self.parameters, rows, self.rows)
        own = np.diag(gram(self.parameters, rows, rows))
        inside = np.sum(cross * np.linalg.solve(self.matrix, cross.T).T, axis=1)
        return self.alpha + own - inside


def part(tensor, systems):
    return as_rows(tensor)[systems].tensor


def assert_predicts(found, expected, y, rtol=1e-8):
    """Compare a prediction with rows in the order of y, whose gradient rows may be more."""
    found, y = found.block(), y.block()
    assert found.samples == y.samples
    scale = np.abs(expected[None]).max()
    np.testing.assert_allclose(found.values, expected[None], atol=rtol * scale, rtol=0)
    for name in ("positions", "strain"):
        gradient = found.gradient(name)
        where = [gradient.samples.position(sample) for sample in y.gradient(name).samples]
        values = expected[name].reshape(y.gradient(name).values.shape)
        for row, position in zip(values, where):
            if position is None:
                assert (row == 0).all()  # an isolated atom
            else:
                np.testing.assert_allclose(
                    gradient.values[position], row, atol=rtol * scale, rtol=0
                )


def assert_same(first, second, rtol=1e-9):
    assert first.keys == second.keys
    for a, b in zip(first, second):
        assert a.samples == b.samples
        scale = np.abs(b.values).max(initial=1e-300)
        np.testing.assert_allclose(a.values, b.values, atol=rtol * scale, rtol=0)
        assert a.gradients_list() == b.gradients_list()
        for name, gradient in a.gradients():
            other = b.gradient(name)
            assert gradient.samples == other.samples
            scale = np.abs(other.values).max(initial=1e-300)
            np.testing.assert_allclose(gradient.values, other.values, atol=rtol * scale, rtol=0)


@pytest.fixture(scope="module")
def few(X, y):
    """Three systems to fit, and three others; one has an isolated atom."""
    return part(X, [1, 2, 3]), part(y, [1, 2, 3]), part(X, [0, 4, 5]), part(y, [0, 4, 5])


@by_kernel
@pytest.mark.parametrize(
    ("options", "g"),
    [
        ({}, {"positions": 1.0, "strain": 1.0}),
        ({"gradient_weights": 0}, {}),
        ({"gradient_weights": {"positions": 0.3, "strain": 0.0}}, {"positions": 0.3}),
        (
            {"gradient_weights": {"positions": 0.1, "strain": 2.0}, "aggregate": "mean"},
            {"positions": 0.1, "strain": 2.0},
        ),
    ],
    ids=["all", "values", "positions", "mean"],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_solution_is_that_of_the_formulas(few, kernel, options, g, weighted):
    X, y, X_new, y_new = few
    v = np.array([0.5, 2.0, 1.3]) if weighted else None
    mean = options.get("aggregate") == "mean"
    model = KernelRidge(alpha=1e-2, **KERNELS[kernel], **options)
    assert model.fit(X, y, sample_weight=v) is model
    expected = Reference(KERNELS[kernel], X, y, 1e-2, g, v, mean)
    assert_predicts(model.predict(X_new), expected.predict(X_new, y_new), y_new)
    assert_predicts(model.predict(X), expected.predict(X, y), y)
    dual = model.dual_coef_.block()
    n = len(dual)
    np.testing.assert_allclose(dual.values, expected.dual[:n], rtol=1e-6)
    assert dual.gradients_list() == list(g)
    start = n
    for name, gradient in dual.gradients():
        stop = start + gradient.values.size
        np.testing.assert_allclose(
            gradient.values.reshape(-1, 1), expected.dual[start:stop], rtol=1e-5, atol=1e-8
        )
        np.testing.assert_allclose(model.gradient_weights_[name], [g[name]])
        start = stop


@by_kernel
@pytest.mark.parametrize("aggregate", ["sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
def test_standard_deviations_are_those_of_refits(few, kernel, aggregate, weighted):
    X, y, X_new, y_new = few
    mean = aggregate == "mean"
    g = {"positions": 0.5, "strain": 0.2}
    v = np.array([0.5, 2.0, 1.3]) if weighted else np.ones(3)
    model = KernelRidge(alpha=1e-2, **KERNELS[kernel], gradient_weights=g, aggregate=aggregate).fit(
        X, y, sample_weight=v if weighted else None
    )
    squares = []
    for left_out in range(3):
        others = [n for n in range(3) if n != left_out]
        without = Reference(
            KERNELS[kernel], part(X, others), part(y, others), 1e-2, g, v[others], mean
        )
        one = part(X, [left_out]), part(y, [left_out])
        # the noise of the value that is left out has its own weight
        variance = without.variances(*one) + 1e-2 * (1 / v[left_out] - 1)
        squares.append(
            (without.predict(*one)[None][:, 0] - one[1].block().values[:, 0]) ** 2 / variance
        )
    scale = np.sqrt(np.mean(squares))
    np.testing.assert_allclose(model.scale_.block().values, [[scale]], rtol=1e-7)
    prediction, found = model.predict(X_new, return_std=True)
    assert_same(prediction, model.predict(X_new), rtol=0)
    expected = Reference(KERNELS[kernel], X, y, 1e-2, g, v, mean).variances(X_new, y_new)
    assert found.block().samples == prediction.block().samples
    assert not found.block().gradients_list()
    np.testing.assert_allclose(found.block().values[:, 0], scale * np.sqrt(expected), rtol=1e-6)


@by_kernel
def test_predicted_gradients_are_finite_differences(systems, X, y, make, kernel):
    model = KernelRidge(alpha=0.1, **KERNELS[kernel], gradient_weights="balanced").fit(X, y)
    system = make.systems(5, seed=3)[4]
    gradient = model.predict(make.features([system])).block().gradient("positions")
    step = 1e-4
    for row, (_, _, atom) in enumerate(gradient.samples.values.tolist()):
        for axis in range(3):
            energies = []
            for shift in (1, -1, 2, -2):
                moved = type(system)(positions=system.positions.copy(), types=system.types)
                moved.positions[atom, axis] += shift * step
                energies.append(model.predict(make.features([moved])).block().values[0, 0])
            slope = 8 * (energies[0] - energies[1]) - (energies[2] - energies[3])
            np.testing.assert_allclose(
                gradient.values[row, axis, 0], slope / (12 * step), rtol=1e-6, atol=1e-6
            )


# ---- the linear kernel is Ridge


@pytest.mark.parametrize(
    "gradient_weights", [1.0, 0, {"positions": 0.3, "strain": 0.0}, "balanced"]
)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", [SumOverSamples, MeanOverSamples])
def test_linear_kernel_is_ridge(X, y, gradient_weights, weighted, reduction):
    v = np.random.default_rng(0).uniform(0.1, 2, size=16) if weighted else None
    aggregate = "mean" if reduction is MeanOverSamples else "sum"
    model = KernelRidge(alpha=0.1, gradient_weights=gradient_weights, aggregate=aggregate)
    found = model.fit(X, y, sample_weight=v).predict(X)
    features = reduction().fit_transform(KeysToProperties(KEYS).fit_transform(X))
    ridge = Ridge(alpha=0.1, fit_intercept=False, gradient_weights=gradient_weights)
    assert_same(found, ridge.fit(features, y, sample_weight=v).predict(features), rtol=1e-10)
    for name, weights in ridge.gradient_weights_.items():
        np.testing.assert_allclose(model.gradient_weights_[name], weights)


def vectors(make, n_components=3, key="o3_lambda", value=1):
    """Blocks with a component axis and a gradient, for X and y."""
    rng = np.random.default_rng(4)
    mu = Labels.range("mu", n_components)

    def tensor(names, rows, n_properties):
        samples = make.labels(names, rows)
        properties = Labels.range("n", n_properties)
        block = TensorBlock(
            rng.normal(size=(len(rows), n_components, n_properties)), samples, [mu], properties
        )
        gradient = rng.normal(size=(len(rows), 3, n_components, n_properties))
        rows = [(n, row[0], 0) for n, row in enumerate(rows)]
        samples = make.labels(["sample", "system", "atom"], rows)
        components = [Labels.range("xyz", 3), mu]
        block.add_gradient("positions", TensorBlock(gradient, samples, components, properties))
        return TensorMap(make.labels([key], [[value]]), [block])

    atoms = [(s, a) for s in range(6) for a in range(3)]
    return tensor(["system", "atom"], atoms, 4), tensor(["system"], [(s,) for s in range(6)], 2)


def test_components_are_rows_of_the_linear_kernel(make):
    X, y = vectors(make)
    model = KernelRidge(alpha=0.1).fit(X, y)
    features = SumOverSamples().fit_transform(X)
    ridge = Ridge(alpha=0.1).fit(features, y)
    found, deviations = model.predict(X, return_std=True)
    assert_same(found, ridge.predict(features), rtol=1e-10)
    assert deviations.block().shape == (6, 3, 2)
    assert_same(pickle.loads(pickle.dumps(model)).predict(X), found, rtol=0)


@pytest.mark.parametrize("kernel", ["poly", "rbf", "cosine", lambda x, z: x @ z.T])
def test_only_the_linear_kernel_is_for_what_rotates(make, kernel):
    X, y = vectors(make)
    with pytest.raises(ValueError, match="only kernel='linear' keeps"):
        KernelRidge(kernel=kernel, gradient_weights=0).fit(X, y)


def test_an_axis_of_one_invariant_component_is_kept(make):
    X, y = vectors(make, n_components=1, value=0)
    found, deviations = KernelRidge(alpha=0.1, kernel="rbf").fit(X, y).predict(X, return_std=True)
    assert found.block().components == y.block().components
    assert deviations.block().shape == y.block().shape

    def flat(tensor):
        return make.one_block(without_axis(tensor.block()))

    other, same = (
        KernelRidge(alpha=0.1, kernel="rbf").fit(flat(X), flat(y)).predict(flat(X), return_std=True)
    )
    np.testing.assert_allclose(found.block().values[:, 0], other.block().values)
    np.testing.assert_allclose(deviations.block().values[:, 0], same.block().values)


def without_axis(block):
    components = [c for c in block.components if len(c) != 1]
    values = block.values.reshape([s for s in block.shape[:-1] if s != 1] + [block.shape[-1]])
    result = TensorBlock(values, block.samples, components, block.properties)
    for name, gradient in block.gradients():
        result.add_gradient(name, without_axis(gradient))
    return result


# ---- rows and weights


def without_gradient_rows(tensor):
    """The same values, and gradients as lone atoms have them: without rows."""
    block = tensor.block()
    result = TensorBlock(block.values, block.samples, block.components, block.properties)
    for name, gradient in block.gradients():
        result.add_gradient(name, _alignment.take_samples(gradient, np.arange(0)))
    return TensorMap(tensor.keys, [result])


@by_kernel
def test_gradients_without_rows_say_nothing(X, y, kernel):
    model = KernelRidge(0.1, **KERNELS[kernel]).fit(X, without_gradient_rows(y))
    expected = KernelRidge(0.1, gradient_weights=0, **KERNELS[kernel]).fit(X, y)
    assert_same(model.predict(X), expected.predict(X))


@by_kernel
def test_weight_zero_is_dropping_the_system(X, y, kernel):
    weights = np.ones(16)
    weights[[1, 4]] = 0
    others = np.flatnonzero(weights)
    model = KernelRidge(alpha=0.1, **KERNELS[kernel]).fit(X, y, sample_weight=weights)
    dropped = KernelRidge(alpha=0.1, **KERNELS[kernel]).fit(part(X, others), part(y, others))
    assert_same(model.predict(X), dropped.predict(X))
    assert_same(model.scale_, dropped.scale_)
    assert model.dual_coef_.block().samples == dropped.dual_coef_.block().samples


@by_kernel
def test_weight_two_is_two_copies(few, make, kernel):
    X, y, X_new, _ = few
    twice = [as_rows([tensor, make.renumbered(tensor, 50)]).tensor for tensor in (X, y)]
    found = KernelRidge(alpha=0.1, **KERNELS[kernel]).fit(X, y, sample_weight=2.0).predict(X_new)
    expected = KernelRidge(alpha=0.1, **KERNELS[kernel]).fit(*twice).predict(X_new)
    assert_same(found, expected, rtol=1e-8)


def two_targets(y):
    """The energies, and half of them, as two properties."""
    properties = Labels.range("energy", 2)
    block = y.block()

    def both(part):
        values = np.concatenate([part.values, part.values / 2], axis=-1)
        return TensorBlock(values, part.samples, part.components, properties)

    result = both(block)
    for name, gradient in block.gradients():
        result.add_gradient(name, both(gradient))
    return TensorMap(y.keys, [result])


@by_kernel
def test_targets_with_weights_of_their_own(X, y, kernel):
    both = two_targets(y)
    rng = np.random.default_rng(2)
    weights = rng.uniform(0.2, 2, size=(16, 2))
    tensor = TensorMap(
        y.keys, [TensorBlock(weights, y.block().samples, [], both.block().properties)]
    )
    model = KernelRidge(alpha=0.1, **KERNELS[kernel]).fit(X, both, sample_weight=tensor)
    found, deviations = model.predict(X, return_std=True)
    for target in range(2):
        one = TensorMap(
            y.keys,
            [TensorBlock(weights[:, [target]], y.block().samples, [], Labels.range("one", 1))],
        )
        single = KernelRidge(alpha=0.1, **KERNELS[kernel]).fit(X, y, sample_weight=one)
        expected, std = single.predict(X, return_std=True)
        factor = 1 / (1 + target)
        for a, b in ((found, expected), (deviations, std)):
            np.testing.assert_allclose(
                a.block().values[:, target], b.block().values[:, 0] * factor, rtol=1e-8
            )
        for name, gradient in found.block().gradients():
            np.testing.assert_allclose(
                gradient.values[..., target],
                expected.block().gradient(name).values[..., 0] * factor,
                atol=1e-8,
            )


@by_kernel
def test_order_of_blocks_and_samples_does_not_count(X, y, make, kernel):
    rng = np.random.default_rng(3)
    model = KernelRidge(alpha=0.1, **KERNELS[kernel]).fit(X, y)
    shuffled = KernelRidge(alpha=0.1, **KERNELS[kernel])
    shuffled.fit(make.permuted(X, rng), make.permuted(y, rng))
    assert_same(shuffled.predict(make.permuted(X, rng)), model.predict(X))
    for one, other in zip(
        shuffled.predict(make.permuted(X, rng), return_std=True),
        model.predict(X, return_std=True),
    ):
        assert_same(one, other)


@by_kernel
def test_sizes_of_groups_do_not_count(X, y, monkeypatch, kernel):
    expected = KernelRidge(alpha=0.1, **KERNELS[kernel]).fit(X, y).predict(X, return_std=True)
    monkeypatch.setattr(_sample_sums, "PIECE_SAMPLES", 2)
    monkeypatch.setattr(_sample_sums, "GROUP_SAMPLES", 3)
    monkeypatch.setattr(_base, "CHUNK_BYTES", 1000)
    found = KernelRidge(alpha=0.1, **KERNELS[kernel]).fit(X, y).predict(X, return_std=True)
    for one, other in zip(found, expected):
        assert_same(one, other)


@by_kernel
def test_one_system(X, y, kernel):
    X, y = part(X, [2]), part(y, [2])
    model = KernelRidge(alpha=1e-8, **KERNELS[kernel], gradient_weights=0).fit(X, y)
    prediction, deviations = model.predict(X, return_std=True)
    np.testing.assert_allclose(prediction.block().values, y.block().values, rtol=1e-6)
    assert np.isfinite(deviations.block().values).all()


@by_kernel
def test_types_that_are_missing_contribute_nothing(X, y, make, systems, kernel):
    model = KernelRidge(alpha=0.1, **KERNELS[kernel]).fit(X, y)
    whole = make.features(systems[:1])  # has only type 1
    lacking = TensorMap(make.labels(KEYS, [[1, 1]]), [whole.block(center_type=1, neighbor_type=1)])
    for one, other in zip(
        model.predict(lacking, return_std=True), model.predict(whole, return_std=True)
    ):
        assert_same(one, other, rtol=1e-12)
    with pytest.raises(ValueError, match="center_type=9"):
        model.predict(TensorMap(make.labels(KEYS, [[9, 1]]), [lacking.block()]))


def test_blocks_of_y_are_predicted_from_their_own_blocks(X, y, make):
    """And from all that agree in the key names of y; without any there is nothing to predict."""
    y = TensorMap(make.labels(["center_type"], [[8], [1]]), [y.block().copy() for _ in range(2)])
    rows = as_rows(X, y, missing="drop")
    with_both = [s for s in range(16) if all(s in b.samples["system"] for b in X)]
    X, y = (
        tensor[[n for n, s in enumerate(rows[0].groups("system")) if s in with_both]].tensor
        for tensor in rows
    )
    model = KernelRidge(alpha=0.1, kernel="rbf").fit(X, y)
    found, deviations = model.predict(X, return_std=True)
    for center in (1, 8):
        kept = [[center, 1], [center, 8]]
        own = TensorMap(
            make.labels(KEYS, kept), [X.block(center_type=a, neighbor_type=b) for a, b in kept]
        )
        single = KernelRidge(alpha=0.1, kernel="rbf").fit(
            own, make.one_block(y.block(center_type=center))
        )
        for one, other in zip((found, deviations), single.predict(own, return_std=True)):
            block = one.block(center_type=center)
            np.testing.assert_allclose(block.values, other.block().values, rtol=1e-10)
        assert list(single.feature_labels_in_) == list(own.keys)
        if center == 1:
            for prediction in model.predict(own, return_std=True):
                assert len(prediction.block(center_type=8)) == 0
                assert len(prediction.block(center_type=1)) == len(with_both)


def test_targets_of_atoms(X, y, make):
    """Without any dimension to sum over, for one block: sums of one sample."""
    block = X.block(center_type=1, neighbor_type=1)
    rng = np.random.default_rng(6)
    target = TensorBlock(
        rng.normal(size=(len(block), 1)), block.samples, [], Labels.range("charge", 1)
    )
    for name, gradient in block.gradients():
        values = rng.normal(size=(*gradient.shape[:-1], 1))
        part = TensorBlock(values, gradient.samples, gradient.components, target.properties)
        target.add_gradient(name, part)
    X, y = make.one_block(block), make.one_block(target)
    model = KernelRidge(alpha=1e-6, kernel="rbf", gradient_weights=0, aggregate=None)
    found = model.fit(X, y).predict(X)
    expected = sklearn.kernel_ridge.KernelRidge(alpha=1e-6, kernel="rbf")
    expected.fit(block.values, target.values)
    np.testing.assert_allclose(
        found.block().values, expected.predict(block.values), rtol=1e-6, atol=1e-6
    )
    linear = KernelRidge(alpha=0.1, aggregate=None).fit(X, y).predict(X)
    assert_same(linear, Ridge(alpha=0.1, fit_intercept=False).fit(X, y).predict(X), rtol=1e-9)


# ---- containers


@by_kernel
def test_torch_gives_the_same(X, y, kernel):
    torch = pytest.importorskip("torch")
    expected = KernelRidge(alpha=10.0, **KERNELS[kernel]).fit(X, y)
    model = KernelRidge(alpha=10.0, **KERNELS[kernel])
    model.fit(X.to(arrays="torch"), y.to(arrays="torch"))
    for found, other in zip(
        model.predict(X.to(arrays="torch"), return_std=True), expected.predict(X, return_std=True)
    ):
        assert isinstance(found.block().values, torch.Tensor)
        # derivatives of a cosine are differences of large numbers where features are small
        assert_same(found.to(arrays="numpy"), other, rtol=1e-10 if kernel == "cosine" else 1e-11)
    assert isinstance(model.dual_coef_.block().values, torch.Tensor)


@by_kernel
def test_libraries_may_change_between_fit_and_predict(X, y, kernel):
    torch = pytest.importorskip("torch")
    expected = KernelRidge(0.1, **KERNELS[kernel]).fit(X, y)
    model = KernelRidge(0.1, **KERNELS[kernel]).fit(X.to(arrays="torch"), y)
    pairs = [(model, X, np.ndarray), (expected, X.to(arrays="torch"), torch.Tensor)]
    for fitted, given, kind in pairs:
        for found, other in zip(
            fitted.predict(given, return_std=True), expected.predict(X, return_std=True)
        ):
            assert isinstance(found.block().values, kind)
            assert_same(found.to(arrays="numpy"), other)


@by_kernel
def test_autograd_goes_through_predict_and_not_fit(X, y, kernel):
    pytest.importorskip("torch")
    given = X.to(arrays="torch")
    for block in given:
        block.values.requires_grad_(True)
    model = KernelRidge(0.1, **KERNELS[kernel]).fit(given, y.to(arrays="torch"))
    prediction, deviations = model.predict(given, return_std=True)
    assert not deviations.block().values.requires_grad
    prediction.block().values.sum().backward()
    assert all(block.values.grad is not None for block in given)


@by_kernel
def test_what_is_no_number_stays_so(X, y, make, kernel):
    model = KernelRidge(0.1, **KERNELS[kernel]).fit(X, y)
    values = np.array(X.block_by_id(0).values)
    values[0] = np.nan
    block = X.block_by_id(0)
    changed = TensorBlock(values, block.samples, [], block.properties)
    tensor = TensorMap(make.labels(KEYS, X.keys.values[:1]), [changed])
    prediction = model.predict(tensor).block()
    systems = prediction.samples["system"][np.isnan(prediction.values[:, 0])]
    assert systems.tolist() == [block.samples["system"][0]]


@by_kernel
def test_blocks_without_properties(X, y, kernel):
    def empty(tensor):
        return TensorMap(
            tensor.keys,
            [
                _alignment.take_properties(block, Labels.empty(block.properties.names))
                for block in tensor
            ],
        )

    prediction = KernelRidge(0.1, **KERNELS[kernel]).fit(empty(X), y).predict(empty(X))
    assert not prediction.block().gradient("positions").values.any()  # nothing tells atoms apart


@by_kernel
def test_single_precision(systems, make, X, y, kernel):
    X32, y32 = make.features(systems, dtype=np.float32), make.energies(systems, dtype=np.float32)
    model = KernelRidge(alpha=0.1, **KERNELS[kernel]).fit(X32, y32)
    expected = KernelRidge(alpha=0.1, **KERNELS[kernel]).fit(X, y)
    for found, other in zip(
        model.predict(X32, return_std=True), expected.predict(X, return_std=True)
    ):
        assert found.block().values.dtype == np.float32
        assert_same(found, other, rtol=1e-4)


@by_kernel
def test_pickles(X, y, kernel):
    model = KernelRidge(alpha=0.1, **KERNELS[kernel]).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    for one, other in zip(again.predict(X, return_std=True), model.predict(X, return_std=True)):
        assert_same(one, other, rtol=1e-11)  # the order of sums depends on where arrays start
    assert_same(again.X_fit_, X, rtol=0)


def test_rows_in_a_grid_search(X, y):
    X, y = as_rows(X, y)
    search = GridSearchCV(KernelRidge(), {"kernel": ["linear", "rbf"], "alpha": [1e-3, 1.0]}, cv=3)
    prediction, deviations = search.fit(X, y).best_estimator_.predict(X, return_std=True)
    for rows in (prediction, deviations):
        assert isinstance(rows, Rows)
        assert rows.rows == X.rows
    again = KernelRidge(**search.best_params_).fit(X.tensor, y.tensor).predict(X.tensor)
    assert_same(prediction.tensor, again)
    array = cross_val_predict(KernelRidge(kernel="rbf"), X, y.tensor.block().values[:, 0], cv=4)
    assert array.shape == (16,)


def test_rows_without_samples_are_predicted_zero(X, y):
    X, y = as_rows(X, y)
    model = KernelRidge(alpha=0.1, kernel="rbf").fit(X, y)
    oxygen = Rows(TensorMap(X.tensor.keys, [*X.tensor]), rows=X.rows)
    lacking = Rows(
        TensorMap(
            Labels(KEYS, np.array([[8, 8]])), [oxygen.tensor.block(center_type=8, neighbor_type=8)]
        ),
        rows=X.rows,
    )
    prediction, deviations = model.predict(lacking, return_std=True)
    assert prediction.rows == X.rows
    absent = ~np.isin(X.rows["system"], lacking.tensor.block().samples["system"])
    assert absent.any()
    assert (prediction.tensor.block().values[absent] == 0).all()
    np.testing.assert_allclose(
        deviations.tensor.block().values[absent, 0],
        np.sqrt(0.1) * model.scale_.block().values[0, 0],
    )


# ---- arrays


@pytest.mark.parametrize(
    "parameters",
    [*KERNELS.values(), {"kernel": "poly"}, {"kernel": "rbf"}, {"kernel": "poly", "degree": 1}],
    ids=str,
)
@pytest.mark.parametrize("n_targets", [None, 1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_arrays_as_in_scikit_learn(parameters, n_targets, weighted):
    rng = np.random.default_rng(7)
    X, X_new = rng.normal(size=(30, 4)), rng.normal(size=(9, 4))
    y = rng.normal(size=30 if n_targets is None else (30, n_targets))
    weights = rng.integers(0, 3, size=30).astype(float) if weighted else None
    model = KernelRidge(alpha=0.3, **parameters).fit(X, y, sample_weight=weights)
    other = sklearn.kernel_ridge.KernelRidge(alpha=0.3, **parameters)
    other.fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(model.predict(X_new), other.predict(X_new), rtol=0, atol=1e-10)
    np.testing.assert_allclose(model.dual_coef_, other.dual_coef_, rtol=0, atol=1e-10)
    np.testing.assert_allclose(model.X_fit_, X)
    prediction, deviations = model.predict(X_new, return_std=True)
    assert deviations.shape == prediction.shape
    assert np.shape(model.scale_) == y.shape[1:]


def test_callables_and_precomputed_kernels():
    rng = np.random.default_rng(8)
    X, X_new, y = rng.normal(size=(30, 4)), rng.normal(size=(9, 4)), rng.normal(size=30)
    expected = sklearn.kernel_ridge.KernelRidge(alpha=0.3, kernel="laplacian").fit(X, y)
    expected = expected.predict(X_new)
    model = KernelRidge(alpha=0.3, kernel=laplacian_kernel).fit(X, y)
    prediction, deviations = model.predict(X_new, return_std=True)
    np.testing.assert_allclose(prediction, expected, atol=1e-10)
    assert (deviations > 0).all()
    model = KernelRidge(alpha=0.3, kernel="precomputed").fit(laplacian_kernel(X), y)
    np.testing.assert_allclose(model.predict(laplacian_kernel(X_new, X)), expected, atol=1e-10)
    assert model.scale_ > 0
    with pytest.raises(ValueError, match="return_std=True needs the kernel of X with itself"):
        model.predict(laplacian_kernel(X_new, X), return_std=True)


def test_precomputed_kernels_are_cut_along_both_axes():
    rng = np.random.default_rng(9)
    X, y = rng.normal(size=(30, 4)), rng.normal(size=30)
    grid = {"alpha": [1e-2, 1.0]}
    found = GridSearchCV(KernelRidge(kernel="precomputed"), grid, cv=3)
    found.fit(pairwise_kernels(X, metric="rbf", gamma=0.25), y)
    expected = GridSearchCV(KernelRidge(kernel="rbf", gamma=0.25), grid, cv=3).fit(X, y)
    np.testing.assert_allclose(
        found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )


def test_callables_on_atoms(X, y):
    def rbf(x, z):
        return pairwise_kernels(x, z, metric="rbf", gamma=0.4)

    model = KernelRidge(alpha=0.1, kernel=rbf, gradient_weights=0).fit(X, y)
    expected = KernelRidge(alpha=0.1, kernel="rbf", gamma=0.4, gradient_weights=0).fit(X, y)
    for found, other in zip(
        model.predict(X, return_std=True), expected.predict(X, return_std=True)
    ):
        assert not found.block().gradients_list()
        np.testing.assert_allclose(found.block().values, other.block().values, rtol=1e-8)


# ---- errors


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"alpha": -1.0}, ValueError, "`alpha` must be finite and not negative"),
        ({"alpha": "1"}, TypeError, "`alpha` must be a number"),
        ({"kernel": "sigmoid"}, ValueError, "`kernel` must be one of"),
        ({"gamma": -1}, ValueError, "`gamma` must be finite and not negative"),
        ({"degree": -1}, ValueError, "`degree` must be finite and not negative"),
        ({"coef0": np.inf}, ValueError, "`coef0` must be finite"),
        ({"coef0": None}, TypeError, "`coef0` must be a number, got NoneType"),
        ({"kernel": ["rbf"]}, ValueError, "`kernel` must be one of"),
        ({"kernel": np.eye(2)}, ValueError, "`kernel` must be one of"),
        ({"kernel": "poly", "degree": 2.5, "coef0": -1e3}, ValueError, "or a larger `coef0`"),
        ({"gradient_weights": -1}, ValueError, "`gradient_weights` must be finite"),
        ({"gradient_weights": {"positions": 1}}, ValueError, "must name all the gradients"),
        ({"aggregate": "max"}, ValueError, "`aggregate` must be 'sum', 'mean' or None"),
        ({"aggregate": None}, ValueError, r"or sum over them with `SumOverSamples\(\['atom'\]\)`"),
        ({"kernel": "precomputed"}, TypeError, "needs an array for X"),
        ({"kernel": lambda x, z: x @ z.T}, ValueError, "has no derivatives"),
        (
            {"kernel": lambda x, z: x, "gradient_weights": 0},
            ValueError,
            "`kernel` must return an array with one row for each row",
        ),
        (
            {"kernel": lambda x, z: x @ z.T + 0j, "gradient_weights": 0},
            TypeError,
            "`kernel` must return real numbers in an array of the same library",
        ),
        ({"kernel": "rbf", "alpha": 0}, LinAlgError, "use a larger `alpha`"),
        ({"kernel": "poly", "gamma": 1e300}, ValueError, "the kernel of X is not finite"),
    ],
)
def test_what_is_refused(X, y, parameters, error, message):
    with np.errstate(all="ignore"), pytest.raises(error, match=message):
        KernelRidge(**parameters).fit(X, y)


def test_data_that_do_not_match(X, y, make, systems, monkeypatch):
    with pytest.raises(ValueError, match="X must have all the samples of y"):
        KernelRidge().fit(part(X, [0, 1]), y)
    with pytest.raises(ValueError, match="got 2 keys|key names of y"):
        KernelRidge().fit(X, TensorMap(make.labels(["other"], [[1]]), [y.block().copy()]))
    with pytest.raises(ValueError, match="y has gradients with respect to"):
        KernelRidge().fit(make.features(systems, gradients=False), y)
    with pytest.raises(ValueError, match="X must have the sample names of y"):
        KernelRidge().fit(SumOverSamples("system").fit_transform(X), y)
    model = KernelRidge(kernel="rbf").fit(X, y)
    with pytest.raises(ValueError, match="X must have the sample names that it had in `fit`"):
        model.predict(SumOverSamples().fit_transform(X))
    with pytest.raises(ValueError, match="needs a square matrix"):
        KernelRidge(kernel="precomputed").fit(np.ones((3, 2)), np.ones(3))
    with pytest.raises(ValueError, match="needs a symmetric matrix"):
        KernelRidge(kernel="precomputed").fit(np.tri(3), np.ones(3))
    monkeypatch.setattr(kernel_ridge, "MAX_ROWS", 100)
    with pytest.raises(ValueError, match="SparseKernelRidge"):
        KernelRidge().fit(X, y)
    KernelRidge(gradient_weights=0).fit(X, y)
