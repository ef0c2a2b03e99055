"""What the estimators promise, each on alloys with energies, forces and strain gradients.

The contract of each class has tests of its own; here whole models meet real data.
"""

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline

import metatensor
from metatensor import Labels, TensorBlock, TensorMap, o3
from metatensor.datasets import make_alloys, radial_descriptor
from metatensor.sklearn import (
    KernelRidge,
    KeysToProperties,
    Nystroem,
    Ridge,
    RidgeCV,
    SparseKernelRidge,
    StandardScaler,
    SumOverSamples,
    TransformedTarget,
    as_rows,
    get_scorer,
)

ELEMENTS = ("Cu", "Au")
KEYS = ["center_type", "neighbor_type"]
OPTIONS = {"cutoff": 4.0, "n_radial": 5}


@pytest.fixture(scope="module")
def alloys():
    return make_alloys(
        14, elements=ELEMENTS, repeats=[(1, 1, 1), (1, 1, 2)], verbose=False, **OPTIONS
    )


@pytest.fixture(scope="module")
def rows(alloys):
    """Atoms in blocks by types, energies."""
    return as_rows(alloys.descriptor, alloys.energies, by="system")


@pytest.fixture(scope="module")
def summed(rows):
    """Systems in one block, energies."""
    X, y = rows
    return make_pipeline(SumOverSamples(), KeysToProperties(KEYS)).fit_transform(X), y


def kernel_model(model):
    """Environments of atoms with neighbours of all types, which kernels compare as a whole."""
    return make_pipeline(KeysToProperties("neighbor_type"), model)


def linear_model(**options):
    options = {"alpha": 1e-3, "gradient_weights": 0.01, "fit_intercept": False, **options}
    return make_pipeline(SumOverSamples(), KeysToProperties(KEYS), Ridge(**options))


def stacked(block, weights):
    """Values and gradient rows of a block as one matrix, each part times the root of its weight."""
    parts = [block.values, *(gradient.values for _, gradient in block.gradients())]
    names = [None, *block.gradients_list()]
    size = len(block.properties)
    return np.concatenate(
        [np.sqrt(weights[name]) * part.reshape(-1, size) for name, part in zip(names, parts)]
    )


def assert_close(found, expected, rtol):
    """Values and gradients agree, relative to the largest."""
    for a, b in zip(found, expected):
        pairs = [(a, b), *((gradient, b.gradient(name)) for name, gradient in a.gradients())]
        for one, other in pairs:
            first, second = np.asarray(one.values), np.asarray(other.values)
            scale = np.abs(second).max()
            np.testing.assert_allclose(first, second, rtol=0, atol=rtol * scale)


def test_b_ridge_is_the_solution_of_the_stacked_rows(summed):
    X, y = summed
    weights = {None: 1.0, "positions": 0.3, "strain": 0.05}
    model = Ridge(
        alpha=1e-2,
        fit_intercept=False,
        gradient_weights={"positions": 0.3, "strain": 0.05},
    ).fit(X, y)
    features, targets = stacked(X.tensor.block(), weights), stacked(y.tensor.block(), weights)
    penalty = 0.1 * np.eye(features.shape[1])
    solution = np.linalg.lstsq(
        np.concatenate([features, penalty]),
        np.concatenate([targets, np.zeros((len(penalty), 1))]),
        rcond=None,
    )[0]
    found = model.coef_.block().values[0]
    np.testing.assert_allclose(found, solution[:, 0], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    "model",
    [
        linear_model(),
        kernel_model(
            KernelRidge(kernel="poly", gamma=0.01, degree=2, alpha=1e-3, gradient_weights=0.01)
        ),
        kernel_model(
            SparseKernelRidge(
                kernel="rbf", gamma=0.01, n_components=20, alpha=1e-3, gradient_weights=0.01
            )
        ),
    ],
    ids=lambda model: type(model[-1]).__name__,
)
def test_c_predicted_gradients_are_finite_differences(alloys, rows, model):
    X, y = rows
    fitted = clone(model).fit(X[:10], y[:10])
    system = alloys.systems[11]

    def energy(positions):
        moved = system.copy()
        moved.positions = positions
        features = radial_descriptor([moved], types=[29, 79], gradients=[], **OPTIONS)
        return fitted.predict(as_rows(features)).tensor.block().values.item()

    features = radial_descriptor([system], types=[29, 79], **OPTIONS)
    forces = fitted.predict(as_rows(features)).tensor.block().gradient("positions")
    scale = np.abs(forces.values).max()
    step = 1e-4
    for row, (_, _, atom) in enumerate(forces.samples.values[:3]):
        for axis in range(3):
            shift = np.zeros_like(system.positions)
            shift[atom, axis] = step
            difference = energy(system.positions + shift) - energy(system.positions - shift)
            error = difference / (2 * step) - forces.values[row, axis, 0]
            assert abs(error) < 1e-6 * scale


def test_d_linear_kernels_are_ridge(summed):
    X, y = summed
    options = {"alpha": 1e-2, "gradient_weights": 0.1}
    kernel = KernelRidge(kernel="linear", **options).fit(X[:10], y[:10])
    ridge = Ridge(fit_intercept=False, **options).fit(X[:10], y[:10])
    assert_close(kernel.predict(X).tensor, ridge.predict(X).tensor, rtol=1e-8)


def test_d_sparse_kernels_are_a_pipeline(rows):
    X, y = rows
    kernel = {"kernel": "poly", "degree": 2, "gamma": 0.01, "n_components": 12, "random_state": 0}
    options = {"alpha": 1e-3, "gradient_weights": 0.1}
    sparse = SparseKernelRidge(**kernel, **options).fit(X, y)
    pipeline = make_pipeline(
        Nystroem(**kernel),
        SumOverSamples(),
        KeysToProperties(KEYS),
        Ridge(fit_intercept=False, **options),
    ).fit(X, y)
    assert_close(sparse.predict(X).tensor, pipeline.predict(X).tensor, rtol=1e-7)


@pytest.mark.parametrize(
    "model",
    [
        linear_model(),
        kernel_model(
            KernelRidge(kernel="poly", gamma=0.01, degree=2, alpha=1e-3, gradient_weights=0.01)
        ),
    ],
    ids=lambda model: type(model[-1]).__name__,
)
def test_e_weight_zero_is_dropping_the_system(rows, model):
    X, y = rows
    kept = np.array([0, 1, 3, 4, 6, 9, 10])
    weights = np.zeros(len(X))
    weights[kept] = 1
    name = f"{model.steps[-1][0]}__sample_weight"
    weighted = clone(model).fit(X, y, **{name: weights})
    dropped = clone(model).fit(X[kept], y[kept])
    assert_close(weighted.predict(X).tensor, dropped.predict(X).tensor, rtol=1e-8)


def test_f_leaving_out_in_closed_form_is_a_refit(summed):
    X, y = summed
    alphas = [1e-4, 1e-2, 1.0]
    search = RidgeCV(alphas=alphas, gradient_weights=0.1, scoring="neg_rmse:positions").fit(X, y)
    everything = np.arange(len(X))
    for alpha, found in zip(alphas, search.cv_results_["score"]):
        squares, count = 0.0, 0
        for left_out in everything:
            kept = everything != left_out
            model = Ridge(alpha=alpha, gradient_weights=0.1).fit(X[kept], y[kept])
            predicted = model.predict(X[[left_out]]).tensor.block().gradient("positions").values
            true = y[[left_out]].tensor.block().gradient("positions").values
            squares, count = squares + np.sum((predicted - true) ** 2), count + true.size
        np.testing.assert_allclose(-found, np.sqrt(squares / count), rtol=1e-9)


def test_g_batches_are_as_good_as_all_at_once(summed):
    X, y = summed
    whole = Ridge(alpha=1e-3, gradient_weights="balanced", solver="cholesky").fit(X, y)
    batches = clone(whole)
    for part in (slice(0, 3), slice(3, 4), slice(4, None)):
        batches.partial_fit(X[part], y[part])
    assert_close(batches.predict(X).tensor, whole.predict(X).tensor, rtol=1e-9)


def test_h_order_does_not_count(rows, make):
    X, y = rows
    rng = np.random.default_rng(1)
    for model in (linear_model(), kernel_model(KernelRidge(kernel="rbf", gamma=0.01, alpha=1e-3))):
        expected = clone(model).fit(X, y).predict(X).tensor
        shuffled = clone(model).fit(make.permuted(X.tensor, rng), make.permuted(y.tensor, rng))
        assert_close(shuffled.predict(X).tensor, expected, rtol=1e-7)


def test_i_an_isolated_atom_has_no_force(alloys):
    system = alloys.systems[0].copy()
    system.pbc = False
    system.positions[0] += 50
    descriptor = radial_descriptor([system], types=[29, 79], gradients=["positions"], **OPTIONS)
    energies = alloys.energies.block()
    samples = Labels(["sample", "system", "atom"], np.array([[0, 0, a] for a in range(4)]))
    forces = np.random.default_rng(0).normal(size=(len(samples), 3, 1))
    block = TensorBlock(np.ones((1, 1)), Labels.range("system", 1), [], energies.properties)
    block.add_gradient(
        "positions",
        TensorBlock(forces, samples, [Labels.range("xyz", 3)], energies.properties),
    )
    y = as_rows(TensorMap(Labels.single(), [block]))
    X = as_rows(descriptor)
    model = linear_model().fit(X, y)
    predicted = model.predict(X).tensor.block().gradient("positions")
    there = [atom for _, _, atom in predicted.samples if np.any(predicted.values[atom - 1])]
    assert 0 not in there


def test_j_rotated_features_give_rotated_predictions():
    rng = np.random.default_rng(0)
    keys = Labels(["o3_lambda", "o3_sigma"], np.array([[0, 1], [1, 1], [2, 1]]))

    def tensor(name, matrices, samples):
        blocks = []
        for (degree, _), matrix in zip(keys.values, matrices):
            components = [Labels("o3_mu", np.arange(-degree, degree + 1)[:, None])]
            blocks.append(
                TensorBlock(matrix, samples, components, Labels.range(name, matrix.shape[-1]))
            )
        return TensorMap(keys, blocks)

    samples = Labels.range("system", 12)
    features = [rng.normal(size=(12, 2 * degree + 1, 4)) for degree in range(3)]
    targets = [rng.normal(size=(12, 2 * degree + 1, 2)) for degree in range(3)]
    X, y = tensor("n", features, samples), tensor("target", targets, samples)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    for scaler in (StandardScaler(), StandardScaler(with_std="block")):
        model = make_pipeline(scaler, Ridge(alpha=0.1)).fit(X, y)
        rotated = model.predict(o3.rotate(X, rotation))
        assert_close(rotated, o3.rotate(model.predict(X), rotation), rtol=1e-12)
        intercepts = model[-1].intercept_
        assert np.all(intercepts.block({"o3_lambda": 1}).values == 0)
        assert np.all(intercepts.block({"o3_lambda": 2}).values == 0)


def test_k_processes_and_memory_maps_change_nothing(alloys, rows, tmp_path):
    X, y = rows
    grid = {"ridge__alpha": [1e-3, 1e-1], "ridge__gradient_weights": [0.01]}
    scoring = get_scorer("neg_rmse:positions")
    searches = [
        GridSearchCV(linear_model(), grid, cv=3, scoring=scoring, n_jobs=n_jobs).fit(X, y)
        for n_jobs in (1, 2)
    ]
    scores = [search.cv_results_["mean_test_score"] for search in searches]
    np.testing.assert_array_equal(*scores)
    metatensor.save(tmp_path / "X.mts", alloys.descriptor)
    joblib.dump(alloys.energies, tmp_path / "y.joblib")
    mapped = as_rows(
        metatensor.load(tmp_path / "X.mts", mmap=True),
        joblib.load(tmp_path / "y.joblib", mmap_mode="r"),
    )
    found = linear_model().fit(*mapped).predict(mapped[0])
    assert_close(found.tensor, linear_model().fit(X, y).predict(X).tensor, rtol=1e-12)


@pytest.mark.parametrize(
    "model",
    [
        linear_model(),
        kernel_model(KernelRidge(kernel="rbf", gamma=0.01, alpha=1e-3, gradient_weights=0.01)),
        kernel_model(
            SparseKernelRidge(
                kernel="rbf", gamma=0.01, n_components=9, alpha=1e-3, gradient_weights=0.01
            )
        ),
    ],
    ids=lambda model: type(model[-1]).__name__,
)
def test_l_systems_without_a_type_are_predicted(alloys, rows, model):
    X, y = rows
    fitted = clone(model).fit(X, y)
    copper = alloys.systems[0].copy()
    copper.symbols = "Cu" * len(copper)
    alone = radial_descriptor([copper], types=[29], **OPTIONS)
    expected = radial_descriptor([copper], types=[29, 79], **OPTIONS)
    assert len(alone) == 1
    assert_close(
        fitted.predict(as_rows(alone)).tensor, fitted.predict(as_rows(expected)).tensor, rtol=1e-10
    )


def test_m_torch_gives_what_numpy_gives(alloys):
    torch = pytest.importorskip("torch")
    X, y = alloys.descriptor, alloys.energies
    for model in (
        linear_model(),
        kernel_model(KernelRidge(kernel="poly", degree=2, gamma=0.01, alpha=1e-3)),
        kernel_model(SparseKernelRidge(kernel="rbf", gamma=0.01, n_components=9, alpha=1e-3)),
    ):
        expected = clone(model).fit(X, y).predict(X)
        found = clone(model).fit(X.to(arrays="torch"), y.to(arrays="torch"))
        found = found.predict(X.to(arrays="torch"))
        assert isinstance(found.block().values, torch.Tensor)
        assert found.block().values.dtype == torch.float64
        assert_close(found, expected, rtol=1e-9)


def test_n_transformed_targets_keep_their_gradients(summed):
    X, y = summed
    scaler = StandardScaler(with_mean=False)
    ours = TransformedTarget(Ridge(alpha=1e-3), scaler).fit(X, y)
    assert set(ours.predict(X).tensor.block().gradients_list()) == {"positions", "strain"}
    theirs = TransformedTargetRegressor(Ridge(alpha=1e-3), transformer=scaler)
    with pytest.warns(UserWarning, match="gradients"):
        theirs.fit(X, y)
    assert isinstance(theirs.predict(X), np.ndarray)
    by_hand = Ridge(alpha=1e-3).fit(X, scaler.fit(y).transform(y))
    expected = scaler.inverse_transform(by_hand.predict(X)).tensor
    assert_close(ours.predict(X).tensor, expected, rtol=1e-10)


def test_o_predictions_of_folds_are_rows(rows):
    """The rest of (o), other versions and settings, is the whole suite run with them."""
    X, y = rows
    predicted = cross_val_predict(linear_model(), X, y, cv=4)
    assert predicted.rows == y.rows
