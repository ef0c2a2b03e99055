"""Elementwise operations against worked examples, plain loops and finite differences."""

import operator
import warnings

import numpy as np
import pytest

import metatensor
from metatensor import Labels, NotEqualError, TensorBlock, TensorMap, _arrays
from metatensor.operations import add, clip, divide, multiply, pow, sqrt, subtract, where
from metatensor.operations._rules import BINARY, NUMBER, NUMBER_FIRST, UNARY
from metatensor.testing import check_gradients

FUNCTIONS = {name: getattr(metatensor, name) for name in UNARY}
ARITHMETIC = {name: getattr(metatensor, name) for name in NUMBER}
PLAIN = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "pow": operator.pow,
}


def labels(names, rows):
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), -1))


def host(block):
    return np.asarray(_arrays.to_host(block.values))


def worked_example(xp, dtype=np.float64, gradient=((10, 20), (30, 40))):
    properties = Labels.range("p", 2)
    block = TensorBlock(
        xp.asarray(np.array([[1, -2], [3, 4]]).astype(dtype)),
        Labels.range("s", 2),
        [],
        properties,
    )
    if gradient is not None:
        block.add_gradient(
            "g",
            TensorBlock(
                xp.asarray(np.array(gradient).astype(dtype)),
                labels(["sample", "a"], [[0, 3], [1, 3]]),
                [],
                properties,
            ),
        )
    return block


def with_zeros(block):
    """Return a block with the same gradients, and values of zero."""
    zeros = TensorBlock((block * 0 + 0).values, block.samples, [], block.properties)
    for name, gradient in block.gradients():
        zeros.add_gradient(name, gradient)
    return zeros


#: positive values, two components, and gradient rows that are absent, repeated and out of order
SAMPLES = labels(["i", "j"], [[0, 2], [1, 0], [1, 4], [3, 3]])
COMPONENTS = [Labels.range("m", 3), Labels.range("k", 2)]
PROPERTIES = Labels.range("p", 2)
ROWS = labels(["sample", "atom"], [[3, 1], [0, 0], [0, 5], [3, 0], [2, 2]])


def random_block(seed, dtype=np.float64, n_rows=5, xp=None):
    rng = np.random.default_rng(seed)
    asarray = np.asarray if xp is None else xp.asarray

    def numbers(*shape):
        real = rng.uniform(0.5, 1.5, size=shape)
        if np.dtype(dtype).kind == "c":
            return asarray((real + 1j * rng.normal(size=shape)).astype(dtype))
        return asarray(real.astype(dtype))

    block = TensorBlock(numbers(4, 3, 2, 2), SAMPLES, COMPONENTS, PROPERTIES)
    for name, extra in [("x", []), ("y", [Labels.range("d", 3), Labels.range("e", 1)])]:
        shape = [n_rows, *map(len, extra), 3, 2, 2]
        gradient = TensorBlock(
            numbers(*shape),
            labels(ROWS.names, ROWS.values[:n_rows]) if n_rows else Labels.empty(ROWS.names),
            [*extra, *COMPONENTS],
            PROPERTIES,
        )
        block.add_gradient(name, gradient)
    return block


def random_map(seed, keys=((2,), (0,), (7,)), dtype=np.float64):
    blocks = [random_block(100 * seed + key[0], dtype) for key in keys]
    return TensorMap(labels(["k"], list(keys)), blocks)


def nested_block(seed=0):
    block = random_block(seed)
    nested = TensorBlock(
        np.full((2, 3, 2, 2), 2.0), labels(["sample"], [[4], [1]]), COMPONENTS, PROPERTIES
    )
    gradient = block.gradient("x").copy()
    gradient.add_gradient("z", nested)
    result = TensorBlock(block.values, block.samples, block.components, block.properties)
    result.add_gradient("x", gradient)
    return result


# ---------------------------------------------------------------------------- worked examples


@pytest.mark.parametrize(
    ("operation", "values", "gradient"),
    [
        (lambda A: add(A, A), [[2, -4], [6, 8]], [[20, 40], [60, 80]]),
        (lambda A: add(A, 1), [[2, -1], [4, 5]], [[10, 20], [30, 40]]),
        (lambda A: add(1, A), [[2, -1], [4, 5]], [[10, 20], [30, 40]]),
        (lambda A: subtract(A, A), [[0, 0], [0, 0]], [[0, 0], [0, 0]]),
        (lambda A: subtract(A, 2), [[-1, -4], [1, 2]], [[10, 20], [30, 40]]),
        (lambda A: subtract(2, A), [[1, 4], [-1, -2]], [[-10, -20], [-30, -40]]),
        (lambda A: multiply(A, A), [[1, 4], [9, 16]], [[20, -80], [180, 320]]),
        (lambda A: multiply(A, -2), [[-2, 4], [-6, -8]], [[-20, -40], [-60, -80]]),
        (lambda A: divide(A, A), [[1, 1], [1, 1]], [[0, 0], [0, 0]]),
        (lambda A: divide(A, 2), [[0.5, -1], [1.5, 2]], [[5, 10], [15, 20]]),
        (lambda A: divide(12, A), [[12, -6], [4, 3]], [[-120, -60], [-40, -30]]),
        (lambda A: pow(A, 2), [[1, 4], [9, 16]], [[20, -80], [180, 320]]),
        (lambda A: pow(A, 0), [[1, 1], [1, 1]], [[0, 0], [0, 0]]),
        (lambda A: pow(A, 1), [[1, -2], [3, 4]], [[10, 20], [30, 40]]),
        (lambda A: pow(1, A), [[1, 1], [1, 1]], [[0, 0], [0, 0]]),
        (metatensor.abs, [[1, 2], [3, 4]], [[10, -20], [30, 40]]),
        (lambda A: clip(A, min=0, max=3), [[1, 0], [3, 3]], [[10, 0], [30, 0]]),
        (lambda A: clip(A, max=2.5), [[1, -2], [2.5, 2.5]], [[10, 20], [0, 0]]),
        (lambda A: where(A > 2, A, 0), [[0, 0], [3, 4]], [[0, 0], [30, 40]]),
        (lambda A: where(A > 2, 0.5, A), [[1, -2], [0.5, 0.5]], [[10, 20], [0, 0]]),
        (lambda A: where(A > 2, A, A + A), [[2, -4], [3, 4]], [[20, 40], [30, 40]]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32])
def test_worked_examples(xp, operation, values, gradient, dtype):
    block = worked_example(xp, dtype)
    result = operation(block)
    np.testing.assert_allclose(host(result), values, rtol=1e-6)
    np.testing.assert_allclose(host(result.gradient("g")), gradient, rtol=1e-6, atol=1e-6)
    assert result.gradient("g").samples == block.gradient("g").samples
    assert result.values.dtype == result.gradient("g").values.dtype
    assert _arrays.library(result.values) == xp.array_library
    of_map = operation(TensorMap(labels(["k"], [[5]]), [block]))
    assert of_map.keys == labels(["k"], [[5]])
    assert of_map.block() == result


def plain_gradient(block, name, factor):
    """Multiply each gradient row by the factor of its sample, in a loop."""
    gradient = block.gradient(name)
    return np.array(
        [
            factor[row] * values
            for row, values in zip(gradient.samples.values[:, 0], gradient.values, strict=True)
        ]
    ).reshape(gradient.values.shape)


@pytest.mark.parametrize(
    ("name", "plain", "slope"),
    [
        ("abs", np.abs, np.sign),
        ("exp", np.exp, np.exp),
        ("log", np.log, lambda x: 1 / x),
        ("sqrt", np.sqrt, lambda x: 0.5 * x**-0.5),
        ("tanh", np.tanh, lambda x: np.cosh(x) ** -2.0),
        ("sin", np.sin, np.cos),
        ("cos", np.cos, lambda x: -np.sin(x)),
    ],
)
@pytest.mark.parametrize("n_rows", [5, 2, 0])
def test_functions_are_those_of_a_loop(xp, name, plain, slope, n_rows):
    block, expected = random_block(3, n_rows=n_rows, xp=xp), random_block(3, n_rows=n_rows)
    result = FUNCTIONS[name](block)
    assert result.samples == block.samples
    assert result.components == block.components
    assert result.properties == block.properties
    np.testing.assert_allclose(host(result), plain(expected.values), rtol=1e-12)
    for parameter in ["x", "y"]:
        gradient = result.gradient(parameter)
        assert gradient.samples == block.gradient(parameter).samples
        assert gradient.components == block.gradient(parameter).components
        np.testing.assert_allclose(
            host(gradient), plain_gradient(expected, parameter, slope(expected.values)), rtol=1e-12
        )


@pytest.mark.parametrize(
    ("name", "slopes"),
    [
        ("add", lambda x, y: (np.ones_like(x), np.ones_like(x))),
        ("subtract", lambda x, y: (np.ones_like(x), -np.ones_like(x))),
        ("multiply", lambda x, y: (y, x)),
        ("divide", lambda x, y: (1 / y, -x / y**2)),
    ],
)
@pytest.mark.parametrize("n_rows", [5, 0])
def test_arithmetic_is_that_of_a_loop(xp, name, slopes, n_rows):
    first, second = random_block(1, n_rows=n_rows), random_block(2, n_rows=n_rows)
    result = ARITHMETIC[name](
        random_block(1, n_rows=n_rows, xp=xp), random_block(2, n_rows=n_rows, xp=xp)
    )
    np.testing.assert_array_equal(host(result), PLAIN[name](first.values, second.values))
    by_first, by_second = slopes(first.values, second.values)
    for parameter in ["x", "y"]:
        expected = plain_gradient(first, parameter, by_first)
        expected = expected + plain_gradient(second, parameter, by_second)
        np.testing.assert_allclose(host(result.gradient(parameter)), expected, rtol=1e-12)


# ---------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize("name", UNARY)
def test_functions_have_the_gradients_of_finite_differences(name):
    check_gradients(FUNCTIONS[name], random_map(1))
    check_gradients(FUNCTIONS[name], random_block(1, np.float32), tolerance=1e-3)


@pytest.mark.parametrize("name", BINARY)
def test_arithmetic_has_the_gradients_of_finite_differences(name):
    check_gradients(ARITHMETIC[name], random_map(1), random_map(2, [(0,), (7,), (2,)]))


@pytest.mark.parametrize("number", [-1.5, 0, 1, 2.0, 0.5])
@pytest.mark.parametrize("name", NUMBER)
def test_numbers_have_the_gradients_of_finite_differences(name, number):
    if not (name == "divide" and number == 0):
        check_gradients(lambda tensor: ARITHMETIC[name](tensor, number), random_map(1))
    if not (name == "pow" and number < 0):
        check_gradients(lambda tensor: ARITHMETIC[name](number, tensor), random_map(1))


def test_choices_have_the_gradients_of_finite_differences():
    tensor, other = random_map(1), random_map(2)
    check_gradients(lambda tensor: clip(tensor, 0.7, 1.2), tensor)
    check_gradients(lambda A, B: where(tensor > 1, A, B), tensor, other)
    check_gradients(lambda A: where(tensor > 1, A**2, 1), tensor)
    assert set(NUMBER_FIRST) == set(NUMBER)


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_complex_numbers_along_a_real_parameter(name):
    """The derivative of f(A + t B) for real t, where B is the gradient."""
    block = random_block(4, np.complex128)
    function, step = FUNCTIONS[name], 1e-5
    gradient = block.gradient("x")
    rows = gradient.samples.values[:, 0]

    def moved(amount):
        values = block.values[rows] + amount * gradient.values
        return function(
            TensorBlock(values, gradient.samples, block.components, block.properties)
        ).values

    difference = (moved(step) - moved(-step)) / (2 * step)
    result = function(block).gradient("x")
    assert result.values.dtype == np.complex128
    np.testing.assert_allclose(result.values, difference, rtol=1e-7, atol=1e-8)


def test_absolute_value_of_complex_numbers(xp):
    values = np.array([[3 + 4j, 0j], [-2 + 0j, 2j]])
    block = TensorBlock(xp.asarray(values), Labels.range("s", 2), [], Labels.range("p", 2))
    block.add_gradient(
        "g",
        TensorBlock(
            xp.asarray(np.array([[1 + 2j, 5 + 5j], [3 + 1j, 1 + 4j]])),
            labels(["sample"], [[0], [1]]),
            [],
            block.properties,
        ),
    )
    result = metatensor.abs(block)
    assert result.values.dtype == block.values.dtype
    np.testing.assert_allclose(host(result), [[5, 0], [2, 2]])
    np.testing.assert_allclose(host(result.gradient("g")), [[2.2, 0], [-3, 4]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64])
def test_absolute_value_of_zero(xp, dtype):
    block = worked_example(xp, dtype)
    zero = metatensor.abs(block * 0)
    for part in (zero, zero.gradient("g")):
        assert part.values.dtype == block.values.dtype
        np.testing.assert_array_equal(host(part), np.zeros((2, 2)))


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_square_root_of_zero_has_an_infinite_derivative(xp):
    block = with_zeros(worked_example(xp, gradient=((1, -1), (0, 1))))
    # zero times infinity has no value
    gradient = host(sqrt(block).gradient("g"))
    np.testing.assert_array_equal(gradient, [[np.inf, -np.inf], [np.nan, np.inf]])


def test_power_zero_has_no_derivative_at_zero(xp):
    block = with_zeros(worked_example(xp))
    assert host(pow(block, 0)).tolist() == [[1, 1], [1, 1]]
    assert host(pow(block, 0).gradient("g")).tolist() == [[0, 0], [0, 0]]


# ---------------------------------------------------------------------------- numbers and dtypes


NUMBERS = [
    2,
    2.0,
    np.float64(2),
    np.float32(2),
    np.float16(2),
    np.int64(2),
    np.int8(2),
    np.uint8(2),
    np.array(2.0),
    np.array(2, dtype=np.int16),
]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{type(number).__name__}")
@pytest.mark.parametrize("name", NUMBER)
def test_kinds_of_numbers(xp, name, number):
    block = worked_example(xp, np.float32)
    result = ARITHMETIC[name](block, number)
    assert result.values.dtype == block.values.dtype
    assert result.gradient("g").values.dtype == block.values.dtype
    assert result == ARITHMETIC[name](block, 2.0)
    assert ARITHMETIC[name](number, block) == ARITHMETIC[name](2.0, block)


def test_numbers_of_the_same_library(xp):
    for dtype in (np.float64, np.float32, np.int32):
        number = xp.asarray(np.array([2], dtype=dtype))[0]
        block = worked_example(xp, np.float32)
        result = multiply(block, number)
        assert _arrays.library(result.values) == xp.array_library
        assert result.values.dtype == block.values.dtype
        assert result == multiply(block, 2)
        assert multiply(worked_example(xp, np.int32), number).values.dtype != block.values.dtype


def test_numbers_of_another_library():
    torch = pytest.importorskip("torch")
    block = worked_example(np)
    assert multiply(block, torch.tensor(2, dtype=torch.int32)) == multiply(block, 2)
    number = torch.tensor(2.0, requires_grad=True)
    with pytest.raises(TypeError, match="requires grad can only be combined with values of torch"):
        multiply(block, number)


def test_bools_are_numbers():
    block = worked_example(np)
    assert add(block, True) == add(block, 1)
    assert multiply(block, np.bool_(False)) == multiply(block, 0)


def test_complex_numbers(xp):
    block = worked_example(xp, np.complex64)
    for number in (2j, np.complex128(2j), np.complex64(2j), np.array(2j)):
        result = multiply(block, number)
        assert result.values.dtype == block.values.dtype
        np.testing.assert_array_equal(host(result), host(block) * 2j)
        with pytest.raises(TypeError, match="can only be combined with complex values"):
            multiply(worked_example(xp), number)
    with pytest.raises(TypeError, match="can only be combined with complex values"):
        multiply(worked_example(xp), xp.asarray(np.array([2j]))[0])
    np.testing.assert_allclose(host(block / 2), host(block) / 2)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8])
def test_integers(xp, dtype):
    block = worked_example(xp, dtype, ((1, 2), (3, 4)))
    if dtype == np.uint8:  # there is no -2
        values = xp.asarray(np.array([[1, 2], [3, 4]], dtype=dtype))
        block = TensorBlock(values, block.samples, [], block.properties)
    kept = [add(block, block), multiply(block, block), metatensor.abs(block)]
    real = [f(block, 2) for f in ARITHMETIC.values()] + [f(2, block) for f in ARITHMETIC.values()]
    real += [f(block) for name, f in FUNCTIONS.items() if name in ("exp", "sin", "cos", "tanh")]
    real += [
        subtract(block, block),
        divide(block, block),
        clip(block, 0, 9),
        where(block > 1, block, 0),
    ]
    for result in kept:
        assert host(result).dtype == dtype
        assert all(host(gradient).dtype == dtype for _, gradient in result.gradients())
    for result in real:
        assert host(result).dtype == np.float64
        assert all(host(gradient).dtype == np.float64 for _, gradient in result.gradients())


def test_integers_for_jax_without_64_bits(jax_x32):
    values = jax_x32.numpy.asarray([[1, 2]])
    block = TensorBlock(values, Labels.range("s", 1), [], Labels.range("p", 2))
    half = divide(block, 2)
    assert half.values.dtype == np.float32
    assert host(half).tolist() == [[0.5, 1.0]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64])
@pytest.mark.parametrize("name", UNARY)
def test_other_dtypes_stay(name, dtype):
    result = FUNCTIONS[name](random_block(1, dtype))
    assert result.values.dtype == result.gradient("x").values.dtype == dtype


@pytest.mark.parametrize(
    ("operation", "dtype", "values"),
    [
        (lambda A: add(A, A), np.int8, [[1, 64]]),
        (lambda A: add(A, A), np.uint8, [[1, 128]]),
        (lambda A: add(A, A), np.int64, [[1, 2**62]]),
        (lambda A: multiply(A, A), np.int32, [[1, -(2**16)]]),
        (lambda A: multiply(A, A), np.int64, [[1, 2**32]]),
        (lambda A: multiply(A, A), np.int64, [[1, -(2**63)]]),
        (metatensor.abs, np.int8, [[1, -128]]),
        (metatensor.abs, np.int64, [[1, -(2**63)]]),
    ],
)
def test_integers_do_not_wrap(xp, operation, dtype, values):
    if xp.name == "dask":
        pytest.skip("lazy arrays are not looked at")
    values = xp.asarray(np.array(values, dtype=dtype))
    block = TensorBlock(values, Labels.range("s", 1), [], Labels.range("p", 2))
    with pytest.raises(OverflowError, match=r"out of the range of .*int.*\(k=4\)"):
        operation(TensorMap(labels(["k"], [[4]]), [block]))


def test_large_integers_are_exact():
    values = np.array([[2**62, -(2**62)]])
    block = TensorBlock(values, Labels.range("s", 1), [], Labels.range("p", 2))
    ones = TensorBlock(values // 2**62, block.samples, [], block.properties)
    assert add(block, ones).values.tolist() == [[2**62 + 1, -(2**62) - 1]]
    assert multiply(block, ones).values.tolist() == [[2**62, 2**62]]


def test_gradients_of_integers_do_not_wrap():
    block = worked_example(np, np.int8, ((10, 20), (30, 50)))
    with pytest.raises(OverflowError, match="`multiply` is out of the range of int8"):
        multiply(block, block)


def test_bools_are_combined_as_numpy_does():
    block = worked_example(np, gradient=None) > 1
    other = worked_example(np, gradient=None) < 4
    assert multiply(block, other).values.tolist() == [[False, False], [True, False]]
    assert add(block, other).values.tolist() == [[True, True], [True, True]]
    assert subtract(block, other).values.tolist() == [[-1.0, -1.0], [0.0, 1.0]]


# ---------------------------------------------------------------------------- keys and metadata


@pytest.mark.parametrize("name", BINARY)
def test_blocks_are_paired_by_key(name):
    first, second = random_map(1), random_map(2, [(7,), (2,), (0,)])
    result = ARITHMETIC[name](first, second)
    assert result.keys == first.keys
    for key, block in result.items():
        assert block == ARITHMETIC[name](first.block(key), second.block(key))


def test_choices_are_paired_by_key():
    first, second = random_map(1), random_map(2, [(7,), (2,), (0,)])
    condition = random_map(3, [(0,), (2,), (7,)]) > 1
    result = where(condition, first, second)
    assert result.keys == condition.keys
    for key, block in result.items():
        expected = np.where(
            condition.block(key).values, first.block(key).values, second.block(key).values
        )
        np.testing.assert_array_equal(block.values, expected)


def other_gradient(block, change):
    gradient = block.gradient("x")
    parts = {
        "values": gradient.values,
        "samples": gradient.samples,
        "components": gradient.components,
        "properties": gradient.properties,
    }
    result = TensorBlock(block.values, block.samples, block.components, block.properties)
    result.add_gradient("x", TensorBlock(**{**parts, **change}))
    return result


DIFFERENT = {
    "samples": TensorBlock(
        random_block(1).values, labels(["i", "j"], SAMPLES.values[::-1]), COMPONENTS, PROPERTIES
    ),
    "components": TensorBlock(
        random_block(1).values, SAMPLES, [COMPONENTS[0], Labels.range("other", 2)], PROPERTIES
    ),
    "properties": TensorBlock(random_block(1).values, SAMPLES, COMPONENTS, Labels.range("q", 2)),
    "gradients": TensorBlock(random_block(1).values, SAMPLES, COMPONENTS, PROPERTIES),
}


@pytest.mark.parametrize("what", DIFFERENT)
@pytest.mark.parametrize("name", BINARY)
def test_other_metadata(name, what):
    with pytest.raises(NotEqualError, match=f"the {what} differ"):
        ARITHMETIC[name](random_block(1), DIFFERENT[what])
    keys = labels(["k"], [[3]])
    with pytest.raises(NotEqualError, match=rf"the {what} differ.*\(k=3\)"):
        ARITHMETIC[name](TensorMap(keys, [random_block(1)]), TensorMap(keys, [DIFFERENT[what]]))


@pytest.mark.parametrize("name", BINARY)
def test_other_gradient_rows(name):
    block = other_gradient(random_block(1), {})
    rows = labels(ROWS.names, ROWS.values[[1, 0, 2, 3, 4]])
    with pytest.raises(NotEqualError, match="in the gradients 'x', the samples differ"):
        ARITHMETIC[name](block, other_gradient(random_block(1), {"samples": rows}))
    fewer = {"samples": labels(ROWS.names, ROWS.values[:4]), "values": np.ones((4, 3, 2, 2))}
    with pytest.raises(NotEqualError, match="in the gradients 'x', the samples differ"):
        ARITHMETIC[name](block, other_gradient(random_block(1), fewer))


@pytest.mark.parametrize("name", BINARY)
def test_other_keys(name):
    with pytest.raises(NotEqualError, match="the keys differ"):
        ARITHMETIC[name](random_map(1), random_map(1, [(2,), (0,), (8,)]))
    with pytest.raises(NotEqualError, match="the keys differ"):
        ARITHMETIC[name](random_map(1), random_map(1, [(2,), (0,)]))


def test_conditions_have_the_metadata_of_what_they_choose_from():
    condition = random_block(1) > 1
    with pytest.raises(NotEqualError, match="the samples differ"):
        where(condition, DIFFERENT["samples"], 0)
    with pytest.raises(NotEqualError, match="the gradients differ"):
        where(condition, random_block(1), DIFFERENT["gradients"])
    with pytest.raises(NotEqualError, match="the keys differ"):
        where(random_map(1) > 1, random_map(1, [(2,), (0,), (8,)]), 0)


# ---------------------------------------------------------------------------- edges


def all_operations():
    for name, function in FUNCTIONS.items():
        yield name, function
    for name, function in ARITHMETIC.items():
        yield f"{name}-number", lambda A, function=function: function(A, 2)
        yield f"number-{name}", lambda A, function=function: function(2, A)
        if name != "pow":
            yield name, lambda A, function=function: function(A, A)
    yield "clip", lambda A: clip(A, 0, 1)
    yield "where", lambda A: where(A > 0, A, 1)
    yield "compare", lambda A: A <= 1


OPERATIONS = dict(all_operations())


@pytest.mark.parametrize("name", OPERATIONS)
def test_blocks_without_samples_or_properties(xp, name):
    for n_samples, n_properties in [(0, 2), (2, 0)]:
        properties = Labels.range("p", n_properties)
        values = xp.asarray(np.zeros((n_samples, n_properties)))
        block = TensorBlock(values, Labels.range("s", n_samples), [], properties)
        block.add_gradient(
            "g", TensorBlock(values, Labels.range("sample", n_samples), [], properties)
        )
        result = OPERATIONS[name](block)
        assert tuple(result.values.shape) == (n_samples, n_properties)
        assert result.properties == properties
        for _, gradient in result.gradients():
            assert tuple(gradient.values.shape) == (n_samples, n_properties)


@pytest.mark.parametrize("name", OPERATIONS)
def test_maps_without_blocks(name):
    tensor = TensorMap(Labels.empty("k"), [])
    assert OPERATIONS[name](tensor).keys == tensor.keys


@pytest.mark.parametrize("name", OPERATIONS)
def test_nothing_given_is_changed(name):
    tensor = random_map(1)
    before = tensor.copy()
    gradient = nested_block().gradient("x")
    nested = gradient.gradient("z")
    OPERATIONS[name](tensor)
    assert tensor == before
    if name in ("add-number", "multiply-number", "clip"):  # a gradient alone is a block as well
        OPERATIONS[name](gradient)
        assert "'x/z'" in repr(nested)


@pytest.mark.parametrize("name", OPERATIONS)
def test_results_inherit_info(name):
    tensor = random_map(1)
    tensor.set_info("unit", "eV")
    result = OPERATIONS[name](tensor)
    assert result.info() == {"unit": "eV"}
    with metatensor.record_history():
        assert len(OPERATIONS[name](tensor).get_info("history").splitlines()) >= 1


def test_adding_a_number_shares_gradients():
    block = random_block(1)
    for result in (add(block, 1), subtract(block, 1), add(1, block)):
        assert result.gradient("y").values is block.gradient("y").values
    result.add_gradient("z", block.gradient("x"))
    assert block.gradients_list() == ["x", "y"]


def test_blocks_take_further_gradients_and_those_of_maps_do_not():
    assert not add(random_block(1), 1).is_view
    assert add(random_map(1), 1)[0].is_view


# ---------------------------------------------------------------------------- nested gradients


@pytest.mark.parametrize(
    ("operation", "factor"),
    [
        (lambda A: add(A, 1), 1),
        (lambda A: add(A, A), 2),
        (lambda A: subtract(A, 2), 1),
        (lambda A: subtract(2, A), -1),
        (lambda A: subtract(A, A), 0),
        (lambda A: multiply(A, 3), 3),
        (lambda A: divide(A, 4), 0.25),
        (lambda A: where(A > 0, A, 1), 1),
        (lambda A: where(A < 0, A, 2 * A), 2),
        (lambda A: clip(A, 0), 1),
        (lambda A: clip(A, max=0), 0),
        (lambda A: -A, -1),
    ],
)
def test_linear_operations_carry_gradients_of_gradients(operation, factor):
    block = nested_block()
    nested = operation(block).gradient("x").gradient("z")
    np.testing.assert_allclose(nested.values, factor * block.gradient("x").gradient("z").values)
    assert nested.samples == block.gradient("x").gradient("z").samples
    assert "'x/z'" in repr(nested)
    assert "'x/z'" in repr(
        operation(TensorMap(Labels.single(), [block]))[0].gradient("x").gradient("z")
    )


def test_choices_of_gradients_of_gradients_are_those_of_the_samples():
    block, other = nested_block(0), nested_block(1)
    condition = block > 1
    nested = where(condition, block, other).gradient("x").gradient("z")
    rows = ROWS.values[nested.samples.values[:, 0], 0]
    expected = np.where(
        condition.values[rows],
        block.gradient("x").gradient("z").values,
        other.gradient("x").gradient("z").values,
    )
    np.testing.assert_array_equal(nested.values, expected)


@pytest.mark.parametrize(
    "name", [*UNARY, "multiply", "divide", "number-divide", "pow-number", "number-pow"]
)
def test_nonlinear_operations_refuse_gradients_of_gradients(name):
    with pytest.raises(NotImplementedError, match="gradients of gradients"):
        OPERATIONS[name](nested_block())


# ---------------------------------------------------------------------------- autograd, lazy arrays


@pytest.mark.parametrize("name", OPERATIONS)
def test_autograd_flows_through_values_and_gradients(name):
    torch = pytest.importorskip("torch")
    if name == "compare":
        pytest.skip("bools have no derivative")
    numbers = np.random.default_rng(1).uniform(0.2, 0.9, size=(4, 2))
    values = torch.tensor(numbers[:2], requires_grad=True)
    gradients = torch.tensor(numbers[2:], requires_grad=True)

    def parts(values, gradients):
        block = TensorBlock(values, Labels.range("s", 2), [], Labels.range("p", 2))
        rows = labels(["sample", "a"], [[1, 0], [1, 1]])
        block.add_gradient("g", TensorBlock(gradients, rows, [], Labels.range("p", 2)))
        result = OPERATIONS[name](block)
        return result.values, result.gradient("g").values

    assert torch.autograd.gradcheck(parts, (values, gradients))


@pytest.mark.parametrize("name", [*NUMBER, "clip", "where"])
def test_autograd_flows_through_numbers(name):
    torch = pytest.importorskip("torch")
    block = worked_example(np).to(arrays="torch") ** 2
    number = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)

    def parts(number):
        if name == "clip":
            results = [clip(block, min=number), clip(block, max=number)]
        elif name == "where":
            results = [where(block > 2, block, number), where(block > 2, number, block)]
        else:
            results = [ARITHMETIC[name](block, number), ARITHMETIC[name](number, block)]
        arrays = [result.values for result in results]
        arrays += [result.gradient("g").values for result in results]
        return [array for array in arrays if array.requires_grad]

    assert len(parts(number)) >= 2
    assert torch.autograd.gradcheck(parts, number)
    single = ARITHMETIC.get(name, add)(worked_example(np, np.float32).to(arrays="torch"), number)
    assert single.values.dtype == torch.float32
    assert single.values.requires_grad


@pytest.mark.parametrize("name", OPERATIONS)
def test_lazy_arrays_stay_lazy(name):
    dask = pytest.importorskip("dask")
    array = pytest.importorskip("dask.array")

    class Library:
        asarray = staticmethod(array.asarray)

    def refuse(*args, **kwargs):
        raise AssertionError("computed too early")

    block = random_block(1, xp=Library)
    with dask.config.set(scheduler=refuse):
        result = OPERATIONS[name](TensorMap(Labels.single(), [block]))[0]
    assert type(result.values) is type(block.values)
    np.testing.assert_allclose(host(result), OPERATIONS[name](random_block(1)).values, rtol=1e-12)


@pytest.mark.parametrize("name", OPERATIONS)
def test_under_compilation(name):
    jax = pytest.importorskip("jax")
    numbers = random_block(1)

    @jax.jit
    def run(values, gradient):
        block = TensorBlock(values, SAMPLES, COMPONENTS, PROPERTIES)
        block.add_gradient("x", TensorBlock(gradient, ROWS, COMPONENTS, PROPERTIES))
        result = OPERATIONS[name](block)
        return [result.values, *(gradient.values for _, gradient in result.gradients())]

    found = run(numbers.values, numbers.gradient("x").values)
    expected = OPERATIONS[name](numbers)
    np.testing.assert_allclose(found[0], expected.values, rtol=1e-12)
    for gradient in found[1:]:
        np.testing.assert_allclose(gradient, expected.gradient("x").values, rtol=1e-12, atol=1e-15)


# ---------------------------------------------------------------------------- errors and warnings


@pytest.mark.parametrize("name", NUMBER)
@pytest.mark.parametrize(
    "operand",
    [
        np.ones(3),
        np.ones((1, 1)),
        "2",
        None,
        [1.0],
        {},
        np.str_("2"),
        np.array("2"),
        Labels.single(),
    ],
    ids=str,
)
def test_operands_of_the_wrong_kind(name, operand):
    for tensor in (random_block(1), random_map(1)):
        with pytest.raises(
            TypeError, match="`B` must be a metatensor TensorMap, a TensorBlock, or"
        ):
            ARITHMETIC[name](tensor, operand)
        with pytest.raises(TypeError, match="`A` must be a metatensor TensorMap"):
            ARITHMETIC[name](operand, tensor)
        with pytest.raises(TypeError, match="`A` must be a metatensor TensorMap or TensorBlock"):
            ARITHMETIC[name](operand, 1)


@pytest.mark.parametrize("name", BINARY)
def test_a_map_and_a_block(name):
    with pytest.raises(TypeError, match="`B` must be a metatensor TensorMap, got metatensor"):
        ARITHMETIC[name](random_map(1), random_block(1))
    with pytest.raises(TypeError, match="`B` must be a metatensor TensorBlock, got metatensor"):
        ARITHMETIC[name](random_block(1), random_map(1))


def test_arrays_have_no_labels():
    with pytest.raises(TypeError, match=r"got numpy\.ndarray of shape \(3,\), which has no Labels"):
        add(random_block(1), np.ones(3))


def test_two_libraries():
    pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"one library, got numpy\.ndarray, torch\.Tensor"):
        add(worked_example(np), worked_example(np).to(arrays="torch"))


def test_powers_are_numbers():
    for tensor in (random_block(1), random_map(1)):
        with pytest.raises(TypeError, match="`pow` takes one tensor and one number"):
            pow(tensor, tensor)


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_something_else(name):
    with pytest.raises(TypeError, match="must be a metatensor TensorMap or TensorBlock, got float"):
        FUNCTIONS[name](1.0)


def test_limits():
    with pytest.raises(ValueError, match="`clip` needs `min`, `max` or both"):
        clip(random_block(1))
    with pytest.raises(TypeError, match="`max` must be .* one number, got numpy.ndarray"):
        clip(random_block(1), 0, np.ones(2))
    with pytest.raises(TypeError, match="complex numbers have no order"):
        clip(random_block(1, np.complex64), 0)
    assert clip(worked_example(np), 3, 2).values.tolist() == [[2, 2], [2, 2]]


def test_conditions():
    block = random_block(1)
    with pytest.raises(TypeError, match="`condition` must hold bools, got float64"):
        where(block, block, block)
    with pytest.raises(TypeError, match="must be a TensorMap or a TensorBlock, got two numbers"):
        where(block > 1, 1, 0)
    with pytest.raises(TypeError, match="`tensor_2` must be a metatensor TensorBlock, got"):
        where(block > 1, block, random_map(1))
    with pytest.raises(TypeError, match="`tensor_1` must be a metatensor TensorMap, got"):
        where(random_map(1) > 1, block, 1)
    with pytest.raises(TypeError, match="`condition` must be a metatensor TensorMap or"):
        where(block.values > 1, block, 1)
    with pytest.raises(TypeError, match="`tensor_2` must be a metatensor TensorMap, a TensorBlock"):
        where(block > 1, block, block.values)


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (lambda A: divide(A, 0), "divide by zero"),
        (lambda A: divide(1, A * 0), "divide by zero"),
        (lambda A: pow(A, 0.5), "invalid value"),
        (sqrt, "invalid value"),
        (metatensor.log, "invalid value"),
    ],
)
def test_warnings_of_numpy(operation, text):
    with pytest.warns(RuntimeWarning, match=text):
        operation(worked_example(np, gradient=None))


def test_no_other_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metatensor.abs(worked_example(np, np.complex128) * 0)
