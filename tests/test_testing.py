"""Assertions that say where things differ, gradient checks that catch wrong gradients."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from metatensor import Labels, TensorBlock, TensorMap, _arrays
from metatensor.testing import (
    assert_allclose,
    assert_equal,
    blocks,
    check_gradients,
    directional_derivative,
    finite_difference,
    labels,
    tensors,
)


def make_block(scale=1.0, dtype=np.float64, asarray=np.asarray):
    """Return a block with a gradient that has no rows for the second of its three samples."""
    rng = np.random.default_rng(0)
    components, properties = [Labels.range("c", 2)], Labels("p", np.array([[3], [-1]]))
    block = TensorBlock(
        asarray((scale * rng.uniform(1, 2, (3, 2, 2))).astype(dtype)),
        Labels("s", np.array([[5], [-2], [7]])),
        components,
        properties,
    )
    gradient = TensorBlock(
        asarray(rng.normal(size=(4, 3, 2, 2)).astype(dtype)),
        Labels(["sample", "atom"], np.array([[2, 1], [0, 0], [0, 1], [2, 0]])),
        [Labels.range("xyz", 3), *components],
        properties,
    )
    block.add_gradient("positions", gradient)
    return block


def make_tensor(**kwargs):
    keys = Labels(["k", "other"], np.array([[4, 0], [2, -1]]))
    return TensorMap(keys, [make_block(**kwargs), make_block(scale=2.0, **kwargs)])


def change(block, parameter=None, **parts):
    """Return the block, or the block with another gradient, with some of its parts replaced."""
    if parameter is not None:
        changed = TensorBlock(block.values, block.samples, block.components, block.properties)
        changed.add_gradient(parameter, change(block.gradient(parameter), **parts))
        return changed
    own = {name: getattr(block, name) for name in ("values", "samples", "components", "properties")}
    changed = TensorBlock(**{**own, **parts})
    for name, gradient in block.gradients():
        changed.add_gradient(name, gradient)
    return changed


def with_value(values, place, value):
    values = values.copy()
    values[place] = value
    return values


# ---- assertions

BLOCK = make_block()
GRADIENT = BLOCK.gradient("positions")
NAN = change(BLOCK, values=with_value(BLOCK.values, (1, 0, 0), np.nan))
SAMPLES = BLOCK.samples

DIFFERENCES = {
    "names": (
        SAMPLES.rename("s", "t"),
        SAMPLES,
        ["Labels differ: names: got ['t'], expected ['s']"],
    ),
    "missing and unexpected entries": (
        Labels("s", np.array([[5], [7], [8]])),
        SAMPLES,
        ["Labels differ: ", "1 missing, such as (s=-2)", "1 unexpected, such as (s=8)"],
    ),
    "order": (
        Labels("s", np.array([[5], [7], [-2]])),
        SAMPLES,
        ["the same entries in another order, got (s=7), expected (s=-2) at position 1"],
    ),
    "samples": (
        change(BLOCK, samples=Labels("s", np.array([[5], [-2], [8]]))),
        BLOCK,
        ["blocks differ: the samples differ: 1 unexpected", "(s=7)", "(s=8)"],
    ),
    "properties": (
        make_block(),
        TensorBlock(np.zeros((3, 2, 0)), SAMPLES, BLOCK.components, Labels.empty("p")),
        ["the properties differ: sizes: got 2, expected 0"],
    ),
    "components": (
        BLOCK,
        TensorBlock(np.zeros((3, 2)), SAMPLES, [], BLOCK.properties),
        ["the components differ: names: got ['c'], expected []"],
    ),
    "entries of a component": (
        BLOCK,
        TensorBlock(np.zeros((3, 1, 2)), SAMPLES, [Labels.range("c", 1)], BLOCK.properties),
        ["the components differ: 'c', sizes: got 2, expected 1; 1 unexpected, such as (c=1)"],
    ),
    "values": (
        change(BLOCK, values=with_value(BLOCK.values, (2, 1, 0), BLOCK.values[2, 1, 0] + 0.5)),
        BLOCK,
        ["values differ in 1 of 12 places, most at [2, 1, 0], ",
         "sample (s=7), component (c=1), property (p=3): got ", "deviation 0.5"],
    ),
    "the largest deviation": (
        change(BLOCK, values=BLOCK.values + np.arange(12).reshape(3, 2, 2) / 4),
        BLOCK,
        ["values differ in 11 of 12 places, most at [2, 1, 1]", "deviation 2.75"],
    ),
    "nan": (
        NAN,
        BLOCK,
        ["1 of 12 places, most at [1, 0, 0]", "got nan", "deviation inf"],
    ),
    "names of gradients": (
        TensorBlock(BLOCK.values, SAMPLES, BLOCK.components, BLOCK.properties),
        BLOCK,
        ["the gradients differ: got [], expected ['positions']"],
    ),
    "rows of a gradient": (
        change(BLOCK, "positions", samples=GRADIENT.samples.rename("atom", "a")),
        BLOCK,
        ["blocks differ: in the gradients 'positions', the samples differ: names: got "],
    ),
    "values of a gradient": (
        change(BLOCK, "positions", values=-GRADIENT.values),
        BLOCK,
        ["in the gradients 'positions', the values differ in 48 of 48 places",
         "sample (sample=", "atom="],
    ),
    "keys": (
        TensorMap(Labels.range("k", 2), [BLOCK, BLOCK]),
        TensorMap(Labels.range("key", 2), [BLOCK, BLOCK]),
        ["maps differ: the keys differ: names: got ['k'], expected ['key']"],
    ),
    "order of keys": (
        TensorMap(Labels("k", np.array([[1], [0]])), [BLOCK, BLOCK]),
        TensorMap(Labels.range("k", 2), [BLOCK, BLOCK]),
        ["the keys differ: the same entries in another order, got (k=1), expected (k=0)"],
    ),
    "a block of a map": (
        TensorMap(
            Labels.range("k", 2), [BLOCK, change(BLOCK, "positions", values=-GRADIENT.values)]
        ),
        TensorMap(Labels.range("k", 2), [BLOCK, BLOCK]),
        ["in the block for key (k=1), in the gradients 'positions', the values differ"],
    ),
    "kind": (BLOCK, make_tensor(), ["got metatensor.TensorBlock", "metatensor.TensorMap"]),
    "nothing": (None, BLOCK, ["got NoneType, expected metatensor.TensorBlock"]),
}  # fmt: skip


@pytest.mark.parametrize("compare", [assert_equal, assert_allclose])
@pytest.mark.parametrize("name", DIFFERENCES)
def test_errors_say_where(name, compare):
    actual, expected, texts = DIFFERENCES[name]
    with pytest.raises(AssertionError) as caught:
        compare(actual, expected)
    for text in texts:
        assert text in str(caught.value)


@pytest.mark.parametrize("compare", [assert_equal, assert_allclose])
@pytest.mark.parametrize(
    "make", [make_block, make_tensor, lambda: make_block().samples, lambda: NAN, lambda: BLOCK]
)
def test_the_same_things_do_not_differ(make, compare):
    compare(make(), make())


def test_the_order_of_gradients_does_not_count():
    first, second = (
        make_block(),
        TensorBlock(BLOCK.values, SAMPLES, BLOCK.components, BLOCK.properties),
    )
    first.add_gradient("a", GRADIENT)
    for name in ("a", "positions"):
        second.add_gradient(name, GRADIENT)
    assert first.gradients_list() != second.gradients_list()
    assert_equal(first, second)


def test_dtypes_count_for_equal_alone():
    single, double = make_block(dtype=np.float32), make_block()
    double = change(double, values=single.values.astype(np.float64))
    with pytest.raises(AssertionError, match="the dtypes differ: got float32, expected float64"):
        assert_equal(single, double)
    assert_allclose(single, double, rtol=1e-6)


def test_info_counts_for_equal_alone():
    actual, expected = make_tensor(), make_tensor()
    expected.set_info("unit", "eV")
    with pytest.raises(AssertionError, match=r"the info is \{\}, expected \{'unit': 'eV'\}"):
        assert_equal(actual, expected)
    assert_allclose(actual, expected)


@pytest.mark.parametrize(
    ("rtol", "atol", "close"), [(0.01, 0, True), (1e-4, 0, False), (0, 0.1, True), (0, 0.01, False)]
)
def test_tolerances(rtol, atol, close):
    expected = TensorBlock(np.array([[10.0]]), Labels.single(), [], Labels.single())
    actual = change(expected, values=np.array([[10.05]]))
    if close:
        assert_allclose(actual, expected, rtol, atol)
    else:
        with pytest.raises(AssertionError, match="deviation 0.05"):
            assert_allclose(actual, expected, rtol, atol)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float32", "complex64"])
def test_every_kind_of_number(dtype):
    values = np.array([[0, 1]]).astype(dtype)
    axes = Labels.single(), [], Labels.range("p", 2)
    assert_equal(TensorBlock(values, *axes), TensorBlock(values.copy(), *axes))
    for compare in (assert_equal, assert_allclose):
        with pytest.raises(AssertionError, match="deviation 1"):
            compare(TensorBlock(values[:, ::-1], *axes), TensorBlock(values, *axes))


def test_large_integers_are_compared_exactly():
    axes = Labels.single(), [], Labels.single()
    with pytest.raises(AssertionError, match="9007199254740993, expected 9007199254740992"):
        assert_equal(
            TensorBlock(np.array([[2**53 + 1]]), *axes), TensorBlock(np.array([[2**53]]), *axes)
        )


def test_arrays_are_refused():
    with pytest.raises(TypeError, match="arrays are compared by `numpy.testing`"):
        assert_equal(np.zeros(3), np.zeros(3))


def test_libraries_compare_equal(xp):
    assert_equal(make_block(asarray=xp.asarray), make_block())
    assert_allclose(make_block(), make_block(asarray=xp.asarray))


# ---- gradients


def elementwise(tensor, power=2, factor=None, rows=lambda gradient: gradient):
    """Return ``tensor**power``; its gradient has a factor, and rows, that may be wrong."""
    if isinstance(tensor, TensorMap):
        return TensorMap(tensor.keys, [elementwise(b, power, factor, rows) for b in tensor])
    values, axes = tensor.values, (tensor.components, tensor.properties)
    result = TensorBlock(values**power, tensor.samples, *axes)
    for name, gradient in tensor.gradients():
        slope = (power if factor is None else factor) * values ** (power - 1)
        rows_of_slope = _arrays.take(slope, np.asarray(gradient.samples["sample"], dtype=np.intp))
        chained = rows_of_slope[:, None, ...] * gradient.values
        result.add_gradient(name, rows(change(gradient, values=chained)))
    return result


def sum_of_samples(block, scale=1.0):
    """Return the sum of all samples; gradient rows of one atom are added up."""
    result = TensorBlock(
        block.values.sum(axis=0, keepdims=True), Labels.single(), block.components, block.properties
    )
    gradient = block.gradient("positions")
    atoms = np.unique(gradient.samples["atom"])
    values = np.stack([gradient.values[gradient.samples["atom"] == a].sum(axis=0) for a in atoms])
    rows = Labels(["sample", "atom"], np.stack([0 * atoms, atoms], axis=1))
    result.add_gradient("positions", change(gradient, values=scale * values, samples=rows))
    return result


def product(first, second):
    result = TensorBlock(first.values * second.values, *(getattr(first, n) for n in AXES))
    values = 0.0
    for one, other in [(first, second), (second, first)]:
        gradient = one.gradient("positions")
        values = values + other.values[gradient.samples["sample"]][:, None] * gradient.values
    result.add_gradient("positions", change(first.gradient("positions"), values=values))
    return result


AXES = ("samples", "components", "properties")


@pytest.mark.parametrize("function", [elementwise, sum_of_samples])
def test_right_gradients_pass(function):
    check_gradients(function, make_block())


def test_right_gradients_pass_for_maps():
    check_gradients(elementwise, make_tensor())


def test_right_gradients_pass_for_several_arguments():
    check_gradients(product, make_block(), make_block(scale=-3.0))


def test_right_gradients_pass_in_single_precision():
    check_gradients(elementwise, make_block(dtype=np.float32))


def test_an_argument_without_gradients_is_constant():
    def scaled(block, constant):
        factor = constant.values[0, 0, 0]
        gradient = block.gradient("positions")
        gradient = change(gradient, values=factor * gradient.values)
        result = TensorBlock(factor * block.values, *(getattr(block, n) for n in AXES))
        result.add_gradient("positions", gradient)
        return result

    constant = TensorBlock(BLOCK.values, *(getattr(BLOCK, n) for n in AXES))
    check_gradients(scaled, make_block(), constant)


@pytest.mark.parametrize(
    "function",
    [
        lambda tensor: tensor.keys_to_samples(tensor.keys.names),
        lambda tensor: tensor.keys_to_properties(tensor.keys.names[:1]),
        lambda tensor: tensor.components_to_properties(tensor.component_names or assume(False)),
    ],
    ids=["keys_to_samples", "keys_to_properties", "components_to_properties"],
)
@settings(max_examples=50)
@given(tensor=tensors(min_blocks=1, same_components=True))
def test_gradients_of_what_maps_do(function, tensor):
    assume(tensor[0].gradients_list())
    check_gradients(function, tensor)


def shift_samples(gradient):
    table = gradient.samples.values.copy()
    table[:, 0] = (table[:, 0] + 1) % 3
    return change(gradient, samples=Labels(gradient.samples.names, table))


def swap_atoms(gradient):
    table = gradient.samples.values.copy()
    table[:, 1] = 1 - table[:, 1]
    return change(gradient, samples=Labels(gradient.samples.names, table))


def swap_two_axes(gradient):
    return change(gradient, values=gradient.values[:, [1, 0, 2]])


def lose_a_row(gradient):
    rows = Labels(gradient.samples.names, gradient.samples.values[1:])
    return change(gradient, values=gradient.values[1:], samples=rows)


def invent_a_row(gradient):
    rows = np.concatenate([gradient.samples.values, [[0, 9]]])
    values = np.concatenate([gradient.values, 0 * gradient.values[:1]])
    return change(gradient, values=values, samples=Labels(gradient.samples.names, rows))


def lose_an_axis(gradient):
    components = [Labels.range("xyz", 2), *gradient.components[1:]]
    return change(gradient, values=gradient.values[:, :2], components=components)


@pytest.mark.parametrize("make", [make_block, make_tensor])
@pytest.mark.parametrize(
    ("mistake", "text"),
    [
        ({"factor": 1.999}, "is not the derivative of the values"),
        ({"rows": shift_samples}, "is not the derivative of the values"),
        ({"rows": swap_atoms}, "is not the derivative of the values"),
        ({"rows": swap_two_axes}, "is not the derivative of the values"),
        ({"rows": lose_a_row}, "is not the derivative of the values"),
        ({"rows": invent_a_row}, r"row \(sample=0, atom=9\) that no gradient of the arguments"),
        ({"rows": lose_an_axis}, "must have the same extra components"),
    ],
)
def test_wrong_gradients_are_caught(make, mistake, text):
    with pytest.raises(
        AssertionError, match="gradient 'positions'|gradients 'positions'"
    ) as caught:
        check_gradients(lambda tensor: elementwise(tensor, **mistake), make())
    caught.match(text)


def test_a_lost_gradient_is_caught():
    def forget(block):
        return TensorBlock(block.values, *(getattr(block, name) for name in AXES))

    with pytest.raises(AssertionError, match="the result has no gradient 'positions'"):
        check_gradients(forget, make_block())


def test_a_wrong_weight_is_caught():
    with pytest.raises(AssertionError, match="is not the derivative"):
        check_gradients(lambda block: sum_of_samples(block, scale=0.5), make_block())


def test_labels_that_change_with_the_values_are_caught():
    def shifted(block):
        names = "much" if block.values[0, 0, 0] > BLOCK.values[0, 0, 0] else "little"
        return change(block, samples=Labels.range(names, 3))

    with pytest.raises(AssertionError, match="depend on the step: the samples differ: names"):
        check_gradients(shifted, make_block())


def test_nothing_to_check_is_an_error():
    with pytest.raises(ValueError, match="none of the arguments has gradients"):
        check_gradients(lambda block: block, GRADIENT)


def test_parameters_can_be_chosen():
    block = make_block()
    block.add_gradient("wrong", GRADIENT)

    def half_right(block):
        result = elementwise(change(make_block(), values=block.values))
        result.add_gradient("wrong", GRADIENT)
        return result

    check_gradients(half_right, block, parameters=["positions"])
    with pytest.raises(AssertionError, match="gradient 'wrong'"):
        check_gradients(half_right, block)


def test_gradients_of_every_library(xp):
    check_gradients(elementwise, make_tensor(asarray=xp.asarray))


def test_directional_derivative_adds_rows_and_components():
    block = make_block()
    speed = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]])
    result = directional_derivative(block, "positions", lambda rows: speed[rows["atom"]])
    expected = np.zeros((3, 2, 2))
    for (sample, atom), row in zip(GRADIENT.samples.values, GRADIENT.values):
        expected[sample] += sum(speed[atom, axis] * row[axis] for axis in range(3))
    np.testing.assert_allclose(result.values, expected, rtol=1e-14)
    assert (result.values[1] == 0).all()
    assert result.gradients_list() == []


def test_direction_of_the_wrong_shape():
    with pytest.raises(
        ValueError, match=r"shape \(4, 3\) for the gradient 'positions', got \(4,\)"
    ):
        directional_derivative(BLOCK, "positions", lambda rows: np.ones(len(rows)))


def test_finite_difference_of_a_map():
    tensor = make_tensor()

    def compute(t):
        return TensorMap(tensor.keys, [change(b, values=np.exp(t * b.values)) for b in tensor])

    result = finite_difference(compute)
    for block, expected in zip(result, tensor):
        np.testing.assert_allclose(block.values, expected.values, rtol=1e-10)
        assert block.gradients_list() == []


# ---- strategies


@settings(max_examples=200)
@given(labels())
def test_labels_are_valid(example):
    assert Labels(example.names, example.values) == example
    assert 1 <= len(example.names) <= 3
    assert len(example) <= 8


@settings(max_examples=50)
@given(labels(["a", "b"], min_entries=2, max_entries=3))
def test_labels_with_options(example):
    assert example.names == ["a", "b"]
    assert len(example) in (2, 3)


@settings(max_examples=100)
@given(blocks(depth=2, max_components=1))
def test_blocks_are_valid(example):
    assert_equal(example, example.copy())
    assert_equal(example, change(example))
    assert len(example.components) <= 1
    if example.gradients_list():
        check_gradients(lambda block: block, example)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "float32", "complex128"])
@settings(max_examples=10)
@given(st.data())
def test_dtypes_of_blocks(dtype, data):
    block = data.draw(blocks(dtype=dtype))
    assert block.dtype == dtype
    assert all(gradient.dtype == dtype for _, gradient in block.gradients())


@settings(max_examples=100)
@given(tensors(min_blocks=1, max_blocks=3, same_components=True, same_properties=True))
def test_tensors_are_valid(example):
    assert 1 <= len(example) <= 3
    assert_equal(TensorMap(example.keys, list(example)), example)
    assert not set(example.keys.names) & set(example.sample_names)
    for block in example:
        assert block.components == example[0].components
        assert block.properties == example[0].properties


WANTED = {
    "no blocks": lambda t: len(t) == 0,
    "a block without samples": lambda t: any(len(b.samples) == 0 for b in t),
    "a block without properties": lambda t: any(len(b.properties) == 0 for b in t),
    "negative samples": lambda t: any((b.samples.values < 0).any() for b in t),
    "extreme entries": lambda t: any((b.samples.values == 2**31 - 1).any() for b in t),
    "unsorted samples": lambda t: any((np.diff(b.samples.values[:, 0]) < 0).any() for b in t),
    "two components": lambda t: len(t.component_names) == 2,
    "two gradients": lambda t: any(len(b.gradients_list()) == 2 for b in t),
    "a gradient without rows, of a block with samples": lambda t: any(
        len(b) and not len(g) for b in t for _, g in b.gradients()
    ),
    "samples without a gradient row": lambda t: any(
        0 < len(np.unique(g.samples["sample"])) < len(b) for b in t for _, g in b.gradients()
    ),
    "several gradient rows of a sample": lambda t: any(
        len(np.unique(g.samples["sample"])) < len(g) for b in t for _, g in b.gradients()
    ),
    "a gradient with more components": lambda t: any(
        len(g.components) > len(b.components) for b in t for _, g in b.gradients()
    ),
    "blocks with different properties": lambda t: len(t) > 1 and t[0].properties != t[1].properties,
}


@pytest.fixture(scope="module")
def drawn():
    """Return a few hundred drawn maps, always the same."""
    examples = []

    @settings(max_examples=400, database=None, derandomize=True)
    @given(tensors())
    def collect(example):
        examples.append(example)

    collect()
    return examples


@pytest.mark.parametrize("wanted", WANTED)
def test_tensors_reach_every_corner(drawn, wanted):
    assert any(WANTED[wanted](example) for example in drawn)


def test_importing_needs_no_test_packages():
    wanted = "{'hypothesis', 'pytest', 'torch', 'sklearn'}"
    code = f"import sys, metatensor.testing; print({wanted} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "set()"
