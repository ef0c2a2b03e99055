"""Operators of blocks and maps are the operations they stand for."""

import operator

import numpy as np
import pytest

import metatensor
from metatensor import Labels, TensorBlock, TensorMap


def block(values):
    values = np.array(values, dtype=float)
    samples, properties = Labels.range("s", len(values)), Labels.range("p", values.shape[1])
    result = TensorBlock(values, samples, [], properties)
    rows = Labels(["sample", "atom"], np.array([[1, 0], [0, 2]]))
    result.add_gradient("g", TensorBlock(values[::-1] * 10, rows, [], properties))
    return result


A, B = block([[1, 2], [3, 4]]), block([[5, 0.5], [2, 3]])
MAPS = [
    TensorMap(Labels(["k"], np.array(keys).reshape(-1, 1)), blocks)
    for keys, blocks in [([3, 1], [A, B]), ([1, 3], [A, B])]
]
OPERATORS = {
    operator.add: metatensor.add,
    operator.sub: metatensor.subtract,
    operator.mul: metatensor.multiply,
    operator.truediv: metatensor.divide,
    operator.pow: metatensor.pow,
}
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge]
#: of numpy and Python
NUMBERS = [2, 2.0, True, np.float64(2), np.float32(2), np.int64(2), np.array(2.0)]


@pytest.fixture(params=["block", "map"])
def tensor(request):
    return A if request.param == "block" else MAPS[0]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: type(number).__name__)
@pytest.mark.parametrize("symbol", OPERATORS)
def test_numbers_on_either_side(symbol, number, tensor):
    assert symbol(tensor, number) == OPERATORS[symbol](tensor, float(number))
    assert symbol(number, tensor) == OPERATORS[symbol](float(number), tensor)
    assert type(symbol(number, tensor)) is type(tensor)


@pytest.mark.parametrize("symbol", [symbol for symbol in OPERATORS if symbol is not operator.pow])
def test_two_tensors(symbol):
    assert symbol(A, B) == OPERATORS[symbol](A, B)
    result = symbol(*MAPS)
    assert result.keys == MAPS[0].keys
    assert result.block(k=1) == symbol(B, A)


def test_values_of_each_operator():
    assert (A + B).values.tolist() == [[6, 2.5], [5, 7]]
    assert (A - B).values.tolist() == [[-4, 1.5], [1, 1]]
    assert (A * B).values.tolist() == [[5, 1], [6, 12]]
    assert (A / B).values.tolist() == [[0.2, 4], [1.5, 4 / 3]]
    assert (1 + A).values.tolist() == [[2, 3], [4, 5]]
    assert (1 - A).values.tolist() == [[0, -1], [-2, -3]]
    assert (2 * A).values.tolist() == [[2, 4], [6, 8]]
    assert (12 / A).values.tolist() == [[12, 6], [4, 3]]
    assert (A**2).values.tolist() == [[1, 4], [9, 16]]
    assert (2**A).values.tolist() == [[2, 4], [8, 16]]
    assert (-A).values.tolist() == [[-1, -2], [-3, -4]]
    assert abs(2 - A).values.tolist() == [[1, 0], [1, 2]]
    assert abs(2 - A).gradient("g").values.tolist() == [[30, 40], [-10, 0]]


def test_signs(tensor):
    assert +tensor is tensor
    assert -tensor == metatensor.multiply(tensor, -1)
    assert abs(-tensor) == metatensor.abs(-tensor)


@pytest.mark.parametrize("symbol", COMPARISONS)
def test_comparisons(symbol, tensor):
    values = tensor.values if tensor is A else tensor[0].values
    for number in (2, 2.0, np.float32(2), np.array(2)):
        for result, expected in [
            (symbol(tensor, number), symbol(values, 2)),
            (symbol(number, tensor), symbol(2, values)),
        ]:
            assert type(result) is type(tensor)
            first = result if tensor is A else result[0]
            assert first.dtype == np.bool_
            assert first.samples == A.samples
            assert first.properties == A.properties
            assert first.gradients_list() == []
            assert first.values.tolist() == expected.tolist()


@pytest.mark.parametrize("symbol", COMPARISONS)
def test_comparisons_of_two_tensors(symbol):
    assert symbol(A, B).values.tolist() == symbol(A.values, B.values).tolist()
    result = symbol(*MAPS)
    assert result.block(k=1).values.tolist() == symbol(B.values, A.values).tolist()
    with pytest.raises(metatensor.NotEqualError, match="the properties differ"):
        symbol(A, TensorBlock(A.values, A.samples, [], Labels.range("q", 2)))


def test_comparisons_need_an_order():
    with pytest.raises(TypeError, match="complex numbers have no order"):
        operator.lt(A.to(complex), 1)
    with pytest.raises(TypeError, match="complex numbers have no order"):
        operator.lt(A, A.to(complex))
    with pytest.raises(TypeError, match="complex number can only be combined with complex values"):
        operator.lt(A, 1j)


def test_conditions_are_combined(tensor, xp):
    tensor = tensor.to(arrays=xp.array_library) if xp.array_library in ("torch", "jax") else tensor
    low, high = tensor > 1, tensor > 3

    def values(result):
        assert type(result) is type(tensor)
        return np.asarray((result if isinstance(result, TensorBlock) else result[0]).values)

    one, other = values(low), values(high)
    for symbol in (operator.and_, operator.or_, operator.xor):
        assert values(symbol(low, high)).tolist() == symbol(one, other).tolist()
        assert values(symbol(low, True)).tolist() == symbol(one, True).tolist()
        assert values(symbol(False, low)).tolist() == symbol(False, one).tolist()
    assert values(~low).tolist() == (~one).tolist()
    assert values(low & ~high).any()


def test_only_conditions_are_combined(tensor):
    for symbol in (operator.and_, operator.or_, operator.xor):
        with pytest.raises(TypeError, match="combined by `.*` must be bools, got float64"):
            symbol(tensor > 1, tensor)
        with pytest.raises(TypeError, match="unsupported operand"):
            symbol(tensor > 1, 1)
    with pytest.raises(TypeError, match="must be bools, got float64; compare them"):
        operator.invert(tensor)


def test_truth_of_bools_is_ambiguous(tensor):
    with pytest.raises(ValueError, match="combine conditions by `&` and `|`"):
        assert 1 < tensor < 3
    assert tensor
    assert not TensorMap(Labels.empty("k"), [])


def test_integers_are_compared_as_such():
    large = TensorBlock(np.array([[2**62 + 1]]), Labels.single(), [], Labels.single())
    other = TensorBlock(np.array([[2**62]]), Labels.single(), [], Labels.single())
    assert (large > other).values.all()
    assert (large > 0.5).values.all()


@pytest.mark.parametrize("symbol", [*OPERATORS, *COMPARISONS, operator.matmul])
@pytest.mark.parametrize("other", ["text", None, [1, 2], {}, object()], ids=repr)
def test_unknown_operands(symbol, other, tensor):
    for operands in [(tensor, other), (other, tensor)]:
        with pytest.raises(TypeError, match="'TensorMap'|'TensorBlock'|\"Tensor"):
            symbol(*operands)


# array-api-strict does not let others have their say
REFUSED = r"`[AB]` must be .* one number, got .* of shape|Expected Array or Python scalar"


@pytest.mark.parametrize("symbol", [*OPERATORS, *COMPARISONS])
def test_arrays_with_axes(symbol, tensor, xp):
    for array in (xp.asarray(np.ones(3)), xp.asarray(np.ones((2, 2)))):
        for operands in [(tensor, array), (array, tensor)]:
            with pytest.raises(TypeError, match=REFUSED):
                symbol(*operands)


@pytest.mark.parametrize("symbol", [*OPERATORS, *COMPARISONS])
def test_a_map_and_a_block(symbol):
    with pytest.raises(TypeError, match="metatensor TensorMap, got metatensor|takes one tensor"):
        symbol(MAPS[0], A)
    with pytest.raises(TypeError, match="metatensor TensorBlock, got metatensor|takes one tensor"):
        symbol(A, MAPS[0])


@pytest.mark.parametrize("symbol", [*OPERATORS, *COMPARISONS])
def test_numbers_of_array_libraries(symbol, xp):
    values = xp.asarray(A.values)
    tensor = TensorBlock(values, A.samples, [], A.properties)
    number = xp.asarray(np.array([2.0]))[0]
    assert symbol(tensor, number) == symbol(tensor, 2)
    if xp.name != "array_api_strict":
        assert symbol(number, tensor) == symbol(2, tensor)


def test_products_of_properties():
    other = TensorBlock(B.values, B.samples, [], B.properties)
    assert A @ other == metatensor.dot(A, other)
    assert (A @ other).values.tolist() == (A.values @ B.values.T).tolist()
    keys = MAPS[0].keys
    maps = TensorMap(keys, [A, A]), TensorMap(keys, [other, other])
    assert maps[0] @ maps[1] == metatensor.dot(*maps)


def test_in_place_operators_make_new_tensors(tensor):
    before = tensor
    tensor += 1
    assert tensor is not before
    assert tensor == before + 1


def test_operators_are_recorded_by_the_name_of_the_operation():
    with metatensor.record_history():
        result = 1 / (2 * MAPS[0]) > 3
    lines = [line.split(" [")[0] for line in result.get_info("history").splitlines()]
    assert lines == [
        "multiply(A=TensorMap, B=2)",
        "divide(A=1, B=TensorMap)",
        "compare(A=TensorMap, B=3, relation='>')",
    ]
