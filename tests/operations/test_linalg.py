"""Products, least squares and linear systems against plain numpy, block by block."""

import warnings

import numpy as np
import pytest

from metatensor import Labels, NotEqualError, TensorBlock, TensorMap
from metatensor.operations import dot, lstsq, solve
from metatensor.testing import assert_equal, check_gradients

N, Q = Labels.range("n", 3), Labels.range("target", 2)


def labels(names, rows):
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), -1))


def host(block):
    return np.asarray(block.values)


def make_block(xp, rng, samples=5, components=(), properties=N, dtype=np.float64, rows=((0, 3),)):
    """Random values, and a gradient "g" with the rows given unless they are None."""
    components = [Labels.range(f"c{size}", size) for size in components]
    shape = (*map(len, components), len(properties))

    def values(*first):
        numbers = rng.normal(size=(*first, *shape))
        if np.issubdtype(dtype, np.complexfloating):
            numbers = numbers + 1j * rng.normal(size=numbers.shape)
        return xp.asarray((4 * numbers).astype(dtype))

    block = TensorBlock(values(samples), Labels.range("s", samples), components, properties)
    if rows is not None:
        gradient = TensorBlock(
            values(len(rows), 2),
            Labels(["sample", "atom"], np.array(rows).reshape(-1, 2)),
            [Labels.range("xyz", 2), *components],
            properties,
        )
        block.add_gradient("g", gradient)
    return block


ROWS = {"all": [(i, i) for i in range(5)], "some": [(3, 0), (0, 1), (3, 2)], "none": []}

# -------------------------------------------------------------------------------------------- dot


def test_dot_worked_example(xp):
    block = TensorBlock(
        xp.asarray([[1.0, 2], [3, 4]]), Labels.range("s", 2), [], Labels.range("p", 2)
    )
    gradient = TensorBlock(
        xp.asarray([[1.0, 1]]), Labels.range("sample", 1), [], Labels.range("p", 2)
    )
    block.add_gradient("g", gradient)
    rows = labels(["a", "b"], [[0, 0], [0, 5], [7, 1]])
    other = TensorBlock(xp.asarray([[1.0, 1], [2, 0], [0, 3]]), rows, [], Labels.range("p", 2))
    product = dot(block, other)
    assert product.properties == rows
    assert product.samples == block.samples
    np.testing.assert_array_equal(host(product), [[3, 2, 6], [7, 6, 12]])
    np.testing.assert_array_equal(host(product.gradient("g")), [[2, 2, 3]])
    assert product.gradient("g").samples == gradient.samples
    assert isinstance(product.values, type(block.values))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("components", [(), (3,), (3, 2)])
def test_dot_is_a_sum_over_properties(xp, components, rows):
    rng = np.random.default_rng(0)
    block = make_block(xp, rng, components=components, rows=ROWS[rows])
    other = make_block(xp, rng, samples=4, rows=None)
    product = dot(block, other)
    np.testing.assert_allclose(
        host(product), np.einsum("i...p,jp->i...j", host(block), host(other)), rtol=1e-12
    )
    assert product.components == block.components
    gradient = product.gradient("g")
    expected = np.einsum("i...p,jp->i...j", host(block.gradient("g")), host(other))
    np.testing.assert_allclose(host(gradient), expected, rtol=1e-12)
    assert gradient.samples == block.gradient("g").samples
    assert gradient.components == block.gradient("g").components
    assert gradient.properties == other.samples
    check_gradients(lambda tensor: dot(tensor, other), block)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (np.float32, np.float32, np.float32),
        (np.float32, np.float64, np.float64),
        (np.int64, np.int64, np.int64),
        (np.complex128, np.float64, np.complex128),
        (np.complex128, np.complex128, np.complex128),
    ],
)
def test_dot_of_dtypes(xp, first, second, expected):
    rng = np.random.default_rng(1)
    block = make_block(xp, rng, dtype=first)
    other = make_block(xp, rng, samples=2, dtype=second, rows=None)
    product = dot(block, other)
    for part, given in [(product, block), (product.gradient("g"), block.gradient("g"))]:
        assert host(part).dtype == expected
        np.testing.assert_allclose(host(part), host(given) @ host(other).T, rtol=1e-6)


@pytest.mark.parametrize(("n", "p", "q"), [(0, 3, 2), (4, 0, 2), (4, 3, 0), (0, 0, 0)])
@pytest.mark.parametrize("components", [(), (2,)])
def test_dot_of_empty_blocks(xp, components, n, p, q):
    rng = np.random.default_rng(2)
    properties = Labels.range("n", p)
    block = make_block(xp, rng, samples=n, components=components, properties=properties, rows=[])
    other = make_block(xp, rng, samples=q, properties=properties, rows=None)
    product = dot(block, other)
    assert tuple(product.values.shape) == (n, *components, q)
    assert (host(product) == 0).all()
    assert tuple(product.gradient("g").values.shape) == (0, 2, *components, q)


def test_dot_pairs_blocks_by_key():
    rng = np.random.default_rng(3)
    first = [make_block(np, rng, rows=None) for _ in range(2)]
    second = [make_block(np, rng, samples=2, rows=None) for _ in range(2)]
    keys = labels(["k"], [[0], [4]])
    product = dot(
        TensorMap(keys, first), TensorMap(labels(["k"], [[4], [0]]), [second[1], second[0]])
    )
    assert product.keys == keys
    for position in range(2):
        np.testing.assert_allclose(
            product[position].values, first[position].values @ second[position].values.T
        )


def test_dot_carries_gradients_of_gradients():
    p = Labels.range("p", 2)
    block = TensorBlock(np.ones((2, 2)), Labels.range("s", 2), [], p)
    gradient = TensorBlock(np.ones((2, 2)), Labels.range("sample", 2), [], p)
    nested = TensorBlock(np.array([[2.0, 3]]), labels(["sample"], [[1]]), [], p)
    gradient.add_gradient("h", nested)
    block.add_gradient("g", gradient)
    other = TensorBlock(np.array([[1.0, 10]]), Labels.range("j", 1), [], p)
    carried = dot(block, other).gradient("g").gradient("h")
    assert carried.values.tolist() == [[32.0]]
    assert carried.samples == nested.samples


def test_dot_refuses():
    rng = np.random.default_rng(4)
    block, plain = make_block(np, rng), make_block(np, rng, rows=None)
    with pytest.raises(ValueError, match=r"`tensor_2` of `dot` must have no gradients.*\['g'\]"):
        dot(plain, block)
    with pytest.raises(ValueError, match=r"no components, got \['c2'\]"):
        dot(plain, make_block(np, rng, components=(2,), rows=None))
    with pytest.raises(NotEqualError, match="same properties.*3 and 4"):
        dot(block, make_block(np, rng, properties=Labels.range("n", 4), rows=None))
    tensor = TensorMap(Labels.range("k", 1), [plain])
    with pytest.raises(NotEqualError, match="the keys differ"):
        dot(tensor, TensorMap(labels(["k"], [[3]]), [plain]))
    with pytest.raises(TypeError, match="`tensor_2` must be a metatensor TensorMap, got"):
        dot(tensor, plain)
    with pytest.raises(TypeError, match="`tensor_1` must be a metatensor TensorMap"):
        dot(plain.values, plain)


# ------------------------------------------------------------------------------------------ lstsq


def equations(block):
    """All values, then all gradients, one row for each sample and component."""
    parts = [block, *(gradient for _, gradient in block.gradients())]
    return np.concatenate([host(part).reshape(-1, len(block.properties)) for part in parts])


@pytest.mark.parametrize("rows", [None, *ROWS])
@pytest.mark.parametrize("components", [(), (3,), (3, 2)])
def test_lstsq_is_that_of_numpy_on_all_equations(xp, components, rows):
    rng = np.random.default_rng(5)
    arguments = {"components": components, "rows": ROWS.get(rows)}
    X = make_block(xp, rng, **arguments)
    Y = make_block(xp, rng, properties=Q, **arguments)
    weights = lstsq(X, Y, rcond=1e-13)
    expected = np.linalg.lstsq(equations(X), equations(Y), rcond=1e-13)[0]
    np.testing.assert_allclose(host(weights), expected.T, atol=1e-12)
    assert weights.samples == Y.properties
    assert weights.properties == X.properties
    assert weights.components == []
    assert weights.gradients_list() == []
    assert isinstance(weights.values, type(X.values))


@pytest.mark.parametrize("components", [(), (2,)])
def test_lstsq_finds_the_weights_of_a_linear_model(xp, components):
    rng = np.random.default_rng(6)
    X = make_block(xp, rng, components=components, rows=ROWS["some"])
    W = TensorBlock(xp.asarray(rng.normal(size=(2, 3))), Q, [], N)
    found = lstsq(X, dot(X, W), rcond=1e-13)
    assert found.samples == W.samples
    np.testing.assert_allclose(host(found), host(W), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_lstsq_of_dependent_columns_has_the_smallest_norm(xp, dtype):
    rng = np.random.default_rng(7)
    block = make_block(xp, rng, dtype=dtype, rows=None)
    values = host(block).copy()
    values[:, 2] = values[:, 0] - values[:, 1]
    X = TensorBlock(xp.asarray(values), block.samples, [], N)
    Y = make_block(xp, rng, properties=Q, dtype=dtype, rows=None)
    expected = np.linalg.pinv(values, rcond=1e-10) @ host(Y)
    np.testing.assert_allclose(host(lstsq(X, Y, rcond=1e-10)), expected.T, atol=1e-12)


def test_lstsq_drops_small_singular_values(xp):
    X = TensorBlock(xp.asarray(np.diag([1.0, 0.1, 1e-4])), Labels.range("s", 3), [], N)
    Y = TensorBlock(xp.asarray(np.ones((3, 1))), X.samples, [], Labels.range("energy", 1))
    np.testing.assert_allclose(host(lstsq(X, Y, rcond=1e-2)), [[1, 10, 0]], atol=1e-12)
    np.testing.assert_allclose(host(lstsq(X, Y, rcond=1e-6)), [[1, 10, 1e4]], rtol=1e-10)


def test_lstsq_mixes_dtypes(xp):
    rng = np.random.default_rng(8)
    X = make_block(xp, rng, dtype=np.float32, rows=None)
    Y = make_block(xp, rng, properties=Q, rows=None)
    weights = lstsq(X, Y, rcond=1e-12)
    expected = np.linalg.lstsq(host(X).astype(np.float64), host(Y), rcond=1e-12)[0]
    assert host(weights).dtype == np.float64
    np.testing.assert_allclose(host(weights), expected.T, rtol=1e-10)


def test_dot_of_integers_and_floating_point_numbers_is_float64(xp):
    samples, properties = Labels.range("s", 2), Labels.range("n", 2)
    first = TensorBlock(xp.asarray(np.array([[2, 1], [0, 4]])), samples, [], properties)
    rows = xp.asarray(np.array([[0.5, 1.0], [1.5, 0.0]], dtype=np.float32))
    product = dot(first, TensorBlock(rows, samples, [], properties))
    assert host(product).dtype == np.float64
    assert host(product).tolist() == [[2, 3], [4, 0]]


@pytest.mark.parametrize("operation", [solve, lambda X, Y: lstsq(X, Y, rcond=1e-12)])
def test_integers_are_solved_as_floating_point_numbers(xp, operation):
    samples = Labels.range("s", 2)
    X = TensorBlock(xp.asarray(np.array([[2, 1], [0, 4]])), samples, [], Labels.range("n", 2))
    Y = TensorBlock(xp.asarray(np.array([[3], [2]])), samples, [], Labels.range("energy", 1))
    weights = operation(X, Y)
    assert host(weights).dtype == np.float64
    np.testing.assert_allclose(host(weights), [[1.25, 0.5]], rtol=1e-12)


@pytest.mark.parametrize(("n", "p", "q"), [(0, 3, 2), (4, 0, 2), (4, 3, 0)])
def test_lstsq_of_empty_blocks(xp, n, p, q):
    rng = np.random.default_rng(9)
    X = make_block(xp, rng, samples=n, properties=Labels.range("n", p), rows=None)
    Y = make_block(xp, rng, samples=n, properties=Labels.range("target", q), rows=None)
    weights = lstsq(X, Y, rcond=1e-12)
    assert tuple(weights.values.shape) == (q, p)
    assert (host(weights) == 0).all()


def test_lstsq_without_rcond_warns(xp):
    rng = np.random.default_rng(10)
    X, Y = make_block(xp, rng, rows=None), make_block(xp, rng, properties=Q, rows=None)
    keys = Labels.range("k", 2)
    with pytest.warns(UserWarning, match="`rcond` of `lstsq` is None") as record:
        weights = lstsq(TensorMap(keys, [X, X]), TensorMap(keys, [Y, Y]), rcond=None)
    assert len(record) == 1
    assert record[0].filename == __file__
    expected = np.linalg.lstsq(host(X), host(Y), rcond=None)[0].T
    np.testing.assert_allclose(host(weights[1]), expected, atol=1e-12)


def test_driver_is_for_torch(xp):
    rng = np.random.default_rng(11)
    X, Y = make_block(xp, rng, rows=None), make_block(xp, rng, properties=Q, rows=None)
    expected = host(lstsq(X, Y, rcond=1e-12))
    np.testing.assert_allclose(host(lstsq(X, Y, 1e-12, driver="gelsd")), expected, atol=1e-12)
    if xp.name == "torch":
        with pytest.raises(RuntimeError, match="driver"):
            lstsq(X, Y, 1e-12, driver="none of them")


def test_lstsq_refuses():
    rng = np.random.default_rng(12)
    X, Y = make_block(np, rng), make_block(np, rng, properties=Q)
    plain = make_block(np, rng, properties=Q, rows=None)
    with pytest.raises(NotEqualError, match=r"same gradients, got \['g'\] and \[\]"):
        lstsq(X, plain, rcond=1e-12)
    with pytest.raises(NotEqualError, match="in the gradients 'g', the samples differ"):
        lstsq(X, make_block(np, rng, properties=Q, rows=[(1, 3)]), rcond=1e-12)
    with pytest.raises(NotEqualError, match="the samples differ"):
        lstsq(X, make_block(np, rng, samples=4, properties=Q), rcond=1e-12)
    with pytest.raises(NotEqualError, match="the components differ"):
        lstsq(X, make_block(np, rng, components=(2,), properties=Q), rcond=1e-12)
    keys = Labels.range("k", 1)
    with pytest.raises(NotEqualError, match="the keys differ"):
        lstsq(TensorMap(keys, [X]), TensorMap(labels(["k"], [[1]]), [Y]), rcond=1e-12)
    with pytest.raises(TypeError, match="`Y` must be a metatensor TensorMap, got metatensor"):
        lstsq(TensorMap(keys, [X]), Y, rcond=1e-12)
    with pytest.raises(TypeError, match="rcond"):
        lstsq(X, Y)


def test_lstsq_ignores_gradients_of_gradients():
    rng = np.random.default_rng(13)
    X, Y = make_block(np, rng, rows=None), make_block(np, rng, properties=Q, rows=None)
    expected = None
    for nested in [False, True]:
        gradient = TensorBlock(np.ones((1, 3)), Labels.range("sample", 1), [], N)
        if nested:
            gradient.add_gradient("h", gradient)
        first, second = X.copy(), Y.copy()
        first.add_gradient("g", gradient)
        ones = TensorBlock(np.ones((1, 2)), Labels.range("sample", 1), [], Q)
        second.add_gradient("g", ones)
        weights = lstsq(first, second, rcond=1e-12)
        expected = weights if expected is None else expected
        assert_equal(weights, expected)


# ------------------------------------------------------------------------------------------ solve


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_solve_is_that_of_numpy(xp, dtype):
    rng = np.random.default_rng(14)
    X = make_block(xp, rng, samples=3, dtype=dtype)
    Y = make_block(xp, rng, samples=3, properties=Q, dtype=dtype, rows=None)
    keys = Labels.range("k", 1)
    weights = solve(TensorMap(keys, [X]), TensorMap(keys, [Y]))[0]
    np.testing.assert_allclose(
        host(weights), np.linalg.solve(host(X), host(Y)).T, rtol=1e-10, atol=1e-12
    )
    assert weights.samples == Y.properties
    assert weights.properties == X.properties
    assert weights.gradients_list() == []
    np.testing.assert_allclose(host(dot(X, weights)), host(Y), atol=1e-10)


def test_solve_of_no_equations(xp):
    rng = np.random.default_rng(15)
    X = make_block(xp, rng, samples=0, properties=Labels.range("n", 0), rows=None)
    Y = make_block(xp, rng, samples=0, properties=Q, rows=None)
    assert tuple(solve(X, Y).values.shape) == (2, 0)


def test_solve_refuses_singular_matrices(xp):
    singular = TensorBlock(
        xp.asarray(np.outer([1.0, 2, 0], [1.0, 2, 4])), Labels.range("s", 3), [], N
    )
    Y = TensorBlock(xp.asarray(np.ones((3, 2))), singular.samples, [], Q)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(np.linalg.LinAlgError, match=r"[Ss]ingular matrix"):
            solve(singular, Y)


def test_solve_refuses():
    rng = np.random.default_rng(16)
    square = make_block(np, rng, samples=3, rows=None)
    Y = make_block(np, rng, samples=3, properties=Q, rows=None)
    wide, deep = make_block(np, rng), make_block(np, rng, samples=3, components=(3,))
    for wrong in (wide, deep):
        keys = Labels.range("k", 2)
        with pytest.raises(ValueError, match="square matrices .* got shape .*; `lstsq` takes"):
            solve(TensorMap(keys, [wrong, wrong]), TensorMap(keys, [Y, Y]))
    with pytest.raises(ValueError, match="the components differ"):
        solve(square, make_block(np, rng, samples=3, components=(2,), rows=None))
    shifted = TensorBlock(Y.values, labels(["s"], [[1], [2], [3]]), [], Q)
    with pytest.raises(NotEqualError, match="the samples differ"):
        solve(square, shifted)
    tensors = [TensorMap(labels(["k"], [[key]]), [square]) for key in (0, 1)]
    with pytest.raises(NotEqualError, match="the keys differ"):
        solve(*tensors)
    with pytest.raises(TypeError, match="`X` must be a metatensor TensorMap"):
        solve(np.eye(3), Y)


# ----------------------------------------------------------------------------------------- common


@pytest.mark.parametrize(
    "function",
    [dot, lambda X, Y: lstsq(X, Y, rcond=1e-12), solve],
    ids=["dot", "lstsq", "solve"],
)
def test_autograd_flows_through(function):
    torch = pytest.importorskip("torch")
    samples = Labels.range("s", 3)

    def run(*values):
        return function(*[TensorBlock(array, samples, [], N) for array in values]).values

    generator = torch.Generator().manual_seed(0)
    values = [
        torch.randn(3, 3, dtype=torch.float64, generator=generator, requires_grad=True)
        for _ in range(2)
    ]
    assert torch.autograd.gradcheck(run, values)


def test_autograd_flows_through_gradients_of_a_product():
    torch = pytest.importorskip("torch")

    def run(values, weights):
        block = TensorBlock(torch.ones(2, 3, dtype=torch.float64), Labels.range("s", 2), [], N)
        rows = Labels.range("sample", 2)
        block.add_gradient("g", TensorBlock(values, rows, [Labels.range("x", 2)], N))
        other = TensorBlock(weights, Labels.range("j", 2), [], N)
        return dot(block, other).gradient("g").values

    values = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (values, weights))


def test_jax_traces():
    jax = pytest.importorskip("jax")
    numbers = np.random.default_rng(17).normal(size=(3, 3))

    @jax.jit
    def run(values):
        block = TensorBlock(values, Labels.range("s", 3), [], N)
        return solve(block, dot(block, block)).values

    np.testing.assert_allclose(run(numbers), numbers, atol=1e-10)


def test_nothing_given_is_changed():
    rng = np.random.default_rng(18)
    X, Y = make_block(np, rng, samples=3), make_block(np, rng, samples=3)
    plain = make_block(np, rng, samples=3, rows=None)
    given = [X, Y, plain]
    copies = [block.copy() for block in given]
    dot(X, plain), lstsq(X, Y, rcond=1e-12), solve(X, plain)
    for block, before in zip(given, copies, strict=True):
        assert_equal(block, before)


def test_arrays_of_two_libraries_are_refused():
    torch = pytest.importorskip("torch")
    block = TensorBlock(np.eye(3), Labels.range("s", 3), [], N)
    other = TensorBlock(torch.eye(3, dtype=torch.float64), Labels.range("s", 3), [], N)
    for function in [dot, solve, lambda X, Y: lstsq(X, Y, rcond=1e-12)]:
        with pytest.raises(TypeError, match="arrays of one library, got numpy.ndarray, torch"):
            function(block, other)
