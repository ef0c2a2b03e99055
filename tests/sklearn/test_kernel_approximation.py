"""Nystroem against its formula, finite differences and scikit-learn."""

import numpy as np
import pytest
import sklearn.kernel_approximation
from sklearn.base import clone
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.o3 import rotate
from metatensor.operations import remove_gradients
from metatensor.sklearn import KeysToProperties, Nystroem, Ridge, Rows, SumOverSamples, as_rows

KERNELS = {
    "rbf": {"gamma": 0.7},
    "poly": {"gamma": 0.5, "coef0": 0.3, "degree": 2},
    "linear": {},
    "cosine": {},
}
SELECTIONS = ("fps", "cur", "random")
TYPES = ["center_type", "neighbor_type"]
by_kernel = pytest.mark.parametrize("kernel", KERNELS)


def nystroem(kernel, **parameters):
    return Nystroem(kernel, **{"n_components": 6, **KERNELS[kernel], **parameters})


def kernel_matrix(kernel, x, z):
    return pairwise_kernels(x, z, metric=kernel, **KERNELS[kernel])


def vectors(make, seed=0, n_samples=9):
    """A block with o3_lambda=1 components, and gradients that rotate too."""
    rng = np.random.default_rng(seed)
    properties, components = Labels.range("n", 4), [Labels("o3_mu", np.array([[-1], [0], [1]]))]
    samples = make.labels(["system", "atom"], [[n // 3, n % 3] for n in range(n_samples)])
    block = TensorBlock(rng.normal(size=(n_samples, 3, 4)), samples, components, properties)
    rows = [[n, n // 3, a] for n in range(n_samples) for a in range(2)]
    gradient = TensorBlock(
        rng.normal(size=(len(rows), 3, 3, 4)),
        make.labels(["sample", "system", "atom"], rows),
        [Labels.range("xyz", 3), *components],
        properties,
    )
    block.add_gradient("positions", gradient)
    return TensorMap(make.labels(["o3_lambda", "o3_sigma"], [[1, 1]]), [block])


# ---- arrays


@by_kernel
@pytest.mark.parametrize("n_components", [5, 12])
def test_agrees_with_scikit_learn(kernel, n_components):
    # more features than points: their kernel matrix is not singular
    array = np.random.default_rng(0).normal(size=(20, 12))
    ours = nystroem(kernel, n_components=n_components, selection="random", random_state=3)
    theirs = sklearn.kernel_approximation.Nystroem(
        kernel, n_components=n_components, random_state=3, **KERNELS[kernel]
    )
    found, expected = ours.fit_transform(array), theirs.fit_transform(array)
    np.testing.assert_array_equal(ours.component_indices_, theirs.component_indices_)
    np.testing.assert_array_equal(ours.components_, theirs.components_)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)
    assert list(ours.get_feature_names_out()) == list(theirs.get_feature_names_out())


# ---- values


@by_kernel
@pytest.mark.parametrize("selection", SELECTIONS)
def test_products_are_kernels_with_inducing_points(X, kernel, selection):
    step = nystroem(kernel, selection=selection, random_state=0).fit(X)
    phi = step.transform(X)
    assert phi.keys == X.keys
    for key, block in X.items():
        inducing = step.components_.block(key)
        indices = step.component_indices_[key]
        np.testing.assert_array_equal(inducing.values, block.values[indices])
        assert inducing.samples == Labels(block.samples.names, block.samples.values[indices])
        found = phi.block(key)
        assert found.samples == block.samples
        assert found.properties == Labels.range("component", len(inducing))
        expected = kernel_matrix(kernel, block.values, inducing.values)
        products = found.values @ found.values[indices].T
        np.testing.assert_allclose(products, expected, rtol=1e-7, atol=1e-8)
        root = step.normalization_.block(key).values
        np.testing.assert_allclose(root, root.T)
        np.testing.assert_allclose(found.values, expected @ root, rtol=1e-7, atol=1e-7)


def test_jitter_is_in_units_of_the_mean_of_the_diagonal(X):
    step = nystroem("poly", jitter=0.1).fit(X)
    for inducing, root in zip(step.components_, step.normalization_):
        matrix = kernel_matrix("poly", inducing.values, inducing.values)
        matrix += 0.1 * np.diag(matrix).mean() * np.eye(len(matrix))
        np.testing.assert_allclose(
            root.values @ matrix @ root.values, np.eye(len(matrix)), atol=1e-9
        )


@pytest.mark.parametrize("jitter", [0.0, 1e-12])
def test_points_that_coincide_make_no_trouble(jitter):
    array = np.repeat(np.random.default_rng(0).normal(size=(3, 2)), 3, axis=0)
    step = Nystroem(selection="random", random_state=0, jitter=jitter).fit(array)
    phi = step.transform(array)
    np.testing.assert_allclose(phi @ phi.T, pairwise_kernels(array, metric="rbf", gamma=0.5))
    assert len(Nystroem(selection="fps").fit(array).components_) == 3


def test_gamma_is_one_over_the_number_of_properties(X):
    expected = nystroem("rbf", gamma=1 / 4).fit_transform(X)
    assert nystroem("rbf", gamma=None).fit_transform(X) == expected


# ---- which samples


def test_the_farthest_points_are_chosen():
    array = np.array([[0.0], [1.0], [-3.0], [0.2], [2.5]])
    np.testing.assert_array_equal(Nystroem(n_components=3).fit(array).component_indices_, [2, 4, 0])


@pytest.mark.parametrize("kind", ["entry", "tuple"])
def test_as_many_as_asked_for_in_each_block(X, kind):
    names = [key if kind == "entry" else tuple(int(v) for v in key) for key in X.keys]
    counts = dict(zip(names, [3, 5, 7, 10**6]))
    step = Nystroem(n_components=counts).fit(X)
    different = np.unique(X.block_by_id(3).values.round(9), axis=0)
    expected = [3, 5, 7, len(different)]
    assert [len(block) for block in step.components_] == expected
    assert len(step.get_feature_names_out()) == sum(expected)
    assert step.get_feature_names_out()[0] == "center_type=1:neighbor_type=1:component=0"


@pytest.mark.parametrize("selection", SELECTIONS)
def test_order_of_blocks_and_samples_does_not_count(X, make, selection):
    step = Nystroem(n_components=5, selection=selection, random_state=2)
    shuffled = clone(step).fit(make.permuted(X, np.random.default_rng(1))).components_
    for key, block in step.fit(X).components_.items():
        assert block.samples == shuffled.block(key).samples


def test_a_block_without_samples_has_no_features(X):
    empty = X.block_by_id(0)
    empty = TensorBlock(empty.values[:0], Labels.empty(empty.samples.names), [], empty.properties)
    data = TensorMap(X.keys, [empty, *list(remove_gradients(X))[1:]])
    phi = Nystroem(n_components=3).fit_transform(data)
    assert [len(block.properties) for block in phi] == [0, 3, 3, 3]


# ---- gradients


@by_kernel
def test_gradients_are_those_of_the_features(systems, X, make, kernel):
    step = nystroem(kernel, n_components=4).fit(X)
    phi = step.transform(X)
    h = 1e-5
    system, atom = 3, 1
    for direction in range(3):
        moved = []
        for sign in (1, -1):
            other = make.systems(len(systems))
            other[system].positions[atom, direction] += sign * h
            moved.append(step.transform(make.features(other, gradients=False)))
        for key, block in phi.items():
            plus, minus = (tensor.block(key) for tensor in moved)
            assert plus.samples == minus.samples == block.samples
            expected = (plus.values - minus.values) / (2 * h)
            found = np.zeros_like(expected)
            gradient = block.gradient("positions")
            rows = np.flatnonzero((gradient.samples.values[:, 1:] == [system, atom]).all(axis=1))
            found[gradient.samples["sample"][rows]] = gradient.values[rows, direction]
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_all_gradients_are_worked_on(X):
    phi = nystroem("rbf").fit_transform(X)
    for block, other in zip(phi, X):
        assert block.gradients_list() == ["positions", "strain"]
        for name, gradient in block.gradients():
            assert gradient.samples == other.gradient(name).samples
            assert gradient.components == other.gradient(name).components
            assert gradient.properties == block.properties


def test_batches_of_rows_change_nothing(X, monkeypatch):
    expected = nystroem("rbf").fit_transform(X)
    monkeypatch.setattr("metatensor.sklearn._base.CHUNK_BYTES", 2000)
    found = nystroem("rbf").fit_transform(X)
    for block, other in zip(found, expected):
        np.testing.assert_allclose(block.values, other.values, atol=1e-9)
        gradients = (b.gradient("positions").values for b in (block, other))
        np.testing.assert_allclose(*gradients, atol=1e-9)


# ---- blocks that rotate


@pytest.mark.parametrize("selection", SELECTIONS)
def test_features_of_vectors_rotate_with_them(make, selection):
    X = vectors(make)
    angles = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    angles *= np.linalg.det(angles)
    step = Nystroem("linear", n_components=3, selection=selection, random_state=0).fit(X)
    found = step.transform(rotate(X, angles)).block()
    expected = rotate(step.transform(X), angles).block()
    assert found.components == X.block().components
    assert len(found.properties) == 9
    np.testing.assert_allclose(found.values, expected.values, atol=1e-9)
    np.testing.assert_allclose(
        found.gradient("positions").values, expected.gradient("positions").values, atol=1e-9
    )
    # data in another orientation give the same kernel
    again = clone(step).fit_transform(rotate(X, angles)).block().values
    products = np.einsum("imk,jmk->ij", again, again)
    np.testing.assert_allclose(
        products, np.einsum("imk,jmk->ij", expected.values, expected.values), atol=1e-10
    )


@pytest.mark.parametrize("kernel", ["rbf", "poly", "cosine"])
def test_vectors_have_the_linear_kernel_alone(make, kernel):
    with pytest.raises(ValueError, match=r"o3_lambda=1.*use kernel='linear'"):
        Nystroem(kernel).fit(vectors(make))


def test_one_component_is_invariant(X):
    def with_axis(block):
        axis = Labels.range("o3_mu", 1)
        result = TensorBlock(block.values[:, None], block.samples, [axis], block.properties)
        for name, gradient in block.gradients():
            result.add_gradient(
                name,
                TensorBlock(
                    gradient.values[..., None, :],
                    gradient.samples,
                    [*gradient.components, axis],
                    block.properties,
                ),
            )
        return result

    found = nystroem("rbf").fit_transform(TensorMap(X.keys, [with_axis(block) for block in X]))
    for block, other in zip(found, nystroem("rbf").fit_transform(X)):
        np.testing.assert_allclose(block.values[:, 0], other.values, atol=1e-12)
        gradients = block.gradient("positions").values[:, :, 0], other.gradient("positions").values
        np.testing.assert_allclose(*gradients, atol=1e-12)


def test_components_stay_as_in_fit(make):
    X = vectors(make)
    step = Nystroem("linear", n_components=2).fit(X)
    block = X.block()
    other = TensorBlock(
        block.values[:, :1], block.samples, [Labels.range("o3_mu", 1)], block.properties
    )
    with pytest.raises(ValueError, match=r"components it had in `fit`"):
        step.transform(TensorMap(X.keys, [other]))


# ---- functions as kernels


def test_functions_give_values(X):
    values = remove_gradients(X)

    def square(x, z):
        return (x @ z.T) ** 2

    found = Nystroem(square, n_components=5).fit_transform(values)
    expected = Nystroem("poly", degree=2, coef0=0, gamma=1, n_components=5).fit_transform(values)
    for block, other in zip(found, expected):
        np.testing.assert_allclose(block.values, other.values, atol=1e-10)
    with pytest.raises(ValueError, match=r"no derivatives.*positions.*remove_gradients"):
        Nystroem(square).fit_transform(X)
    with pytest.raises(ValueError, match=r"`kernel` must return an array with one row"):
        Nystroem(lambda x, z: x @ x.T).fit_transform(values)


# ---- containers, libraries


def test_rows(X):
    rows = as_rows(X)
    step = nystroem("rbf").fit(rows[:9])
    found = step.transform(rows[[12, 3]])
    assert isinstance(found, Rows)
    assert found.rows["system"].tolist() == [12, 3]
    expected = step.transform(rows[[12, 3]].tensor)
    assert found.tensor == expected


def test_blocks_may_be_absent(X):
    step = nystroem("rbf").fit(X)
    part = TensorMap(Labels(X.keys.names, X.keys.values[[2]]), [X.block_by_id(2)])
    assert step.transform(part).block() == step.transform(X).block_by_id(2)
    other = TensorMap(make_keys := Labels(X.keys.names, X.keys.values[[2]] + 1), [X.block_by_id(2)])
    assert len(make_keys) == 1
    with pytest.raises(ValueError, match=r"X has a block with key"):
        step.transform(other)


@by_kernel
def test_torch(X, kernel):
    torch = pytest.importorskip("torch")
    expected = nystroem(kernel).fit_transform(X)
    step = nystroem(kernel).fit(X.to(arrays="torch"))
    assert isinstance(step.components_.block_by_id(0).values, torch.Tensor)
    found = step.transform(X.to(arrays="torch")).to(arrays="numpy")
    for block, other in zip(found, expected):
        np.testing.assert_allclose(block.values, other.values, atol=1e-8)
        gradients = (b.gradient("positions").values for b in (block, other))
        np.testing.assert_allclose(*gradients, atol=1e-8)


@by_kernel
def test_autograd_goes_through(X, make, kernel):
    torch = pytest.importorskip("torch")
    array = np.random.default_rng(0).normal(size=(6, 3))
    block = TensorBlock(array, Labels.range("system", 6), [], Labels.range("n", 3))
    step = nystroem(kernel, n_components=3).fit(make.one_block(block).to(arrays="torch"))

    def features(values):
        block = TensorBlock(values, Labels.range("system", 6), [], Labels.range("n", 3))
        return step.transform(make.one_block(block)).block().values

    assert torch.autograd.gradcheck(features, torch.tensor(array, requires_grad=True))


@by_kernel
def test_single_precision(X, kernel):
    expected = nystroem(kernel).fit(X).transform(X)
    found = nystroem(kernel).fit(X.to(dtype=np.float32)).transform(X.to(dtype=np.float32))
    for block, other in zip(found, expected):
        assert block.values.dtype == block.gradient("positions").values.dtype == np.float32
        # the features of close points are those of single precision, their products are not
        products = block.values @ block.values.T
        np.testing.assert_allclose(products, other.values @ other.values.T, rtol=1e-4, atol=1e-5)


def test_searched_in_a_pipeline(X, y):
    X, y = as_rows(X, y)
    model = make_pipeline(
        Nystroem(n_components=3),
        SumOverSamples(),
        KeysToProperties(TYPES),
        Ridge(1e-4, fit_intercept=False, gradient_weights="balanced"),
    )
    grid = {"nystroem__n_components": [2, 8], "nystroem__gamma": [0.3, 3.0]}
    search = GridSearchCV(model, grid, cv=3).fit(X, y)
    assert search.best_params_["nystroem__n_components"] == 8
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# ---- mistakes


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"kernel": "sigmoid"}, ValueError, "`kernel` must be one of"),
        ({"selection": "best"}, ValueError, "`selection` must be one of"),
        ({"n_components": 0}, ValueError, "`n_components` must be an integer from 1 on"),
        ({"n_components": 2.5}, ValueError, "`n_components` must be an integer from 1 on"),
        ({"n_components": {(1, 1): 3}}, ValueError, "must have an entry for each key"),
        ({"gamma": -1.0}, ValueError, "`gamma` must be finite and not negative"),
        ({"gamma": "scale"}, TypeError, "`gamma` must be a number"),
        ({"coef0": np.inf}, ValueError, "`coef0` must be finite"),
        ({"coef0": "1"}, TypeError, "`coef0` must be a number, got str"),
        ({"kernel": np.eye(2)}, ValueError, "`kernel` must be one of"),
        ({"kernel": lambda x, z: np.inf * (x @ z.T)}, ValueError, "the kernel of X is not finite"),
        ({"n_components": {"a": 3}}, ValueError, "must have an entry for each key"),
        ({"jitter": -1e-3}, ValueError, "`jitter` must be finite and not negative"),
        ({"jitter": np.inf}, ValueError, "`jitter` must be finite and not negative"),
    ],
)
def test_parameters_are_checked(X, parameters, error, message):
    with pytest.raises(error, match=message):
        Nystroem(**parameters).fit(X)


def test_gradients_of_gradients_are_refused(make):
    X = vectors(make).block()
    gradient = X.gradient("positions")
    inner = TensorBlock(gradient.values, gradient.samples, gradient.components, gradient.properties)
    table = make.labels(["sample"], [[n] for n in range(len(gradient))])
    inner.add_gradient(
        "cell", TensorBlock(gradient.values, table, gradient.components, gradient.properties)
    )
    block = TensorBlock(X.values, X.samples, X.components, X.properties)
    block.add_gradient("positions", inner)
    data = TensorMap(make.labels(["o3_lambda", "o3_sigma"], [[1, 1]]), [block])
    with pytest.raises(NotImplementedError, match="Nystroem"):
        Nystroem("linear").fit_transform(data)
