"""Reductions against worked examples, plain loops and finite differences."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metatensor
from metatensor import Labels, TensorBlock, TensorMap, operations
from metatensor.operations import mean_over_samples, std_over_samples, sum_over_samples
from metatensor.operations import reductions as module
from metatensor.testing import check_gradients

SAMPLES = ["sum", "mean", "var", "std", "max", "min"]
CASES = [
    *[(name, "samples", ["j", "k"]) for name in SAMPLES],
    *[(name, "properties", ["l"]) for name in [*SAMPLES, "norm"]],
    *[(name, "components", ["c0"]) for name in ["sum", "mean", "norm"]],
]
LINEAR = ["sum", "mean"]


def reduction(name, axis):
    return getattr(operations, f"{name}_over_{axis}")


def host(array):
    return np.asarray(array)


def labels(names, rows):
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), -1))


def worked_example(xp, dtype=np.float64):
    properties = Labels.range("p", 2)
    block = TensorBlock(
        xp.asarray(np.array([[1, 2], [3, 4], [5, 7], [9, 8]], dtype=dtype)),
        labels(["i", "j"], [[1, 0], [0, 0], [1, 2], [0, 7]]),
        [],
        properties,
    )
    gradient = TensorBlock(
        xp.asarray(np.array([[1, 1], [2, 2], [4, 4], [5, 5]], dtype=dtype)),
        labels(["sample", "a"], [[0, 3], [2, 3], [1, 9], [2, 8]]),
        [],
        properties,
    )
    block.add_gradient("g", gradient)
    return block


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.complex128])
def test_worked_example(xp, dtype):
    block = worked_example(xp, dtype)
    total = sum_over_samples(block, "j")
    assert total.samples == labels(["i"], [[0], [1]])
    assert total.values.dtype == block.values.dtype
    np.testing.assert_array_equal(host(total.values), [[12, 12], [6, 9]])
    gradient = total.gradient("g")
    assert gradient.samples == labels(["sample", "a"], [[0, 9], [1, 3], [1, 8]])
    np.testing.assert_array_equal(host(gradient.values), [[4, 4], [3, 3], [5, 5]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "values", "gradient"),
    [
        ("sum", [[12, 12], [6, 9]], [[4, 4], [3, 3], [5, 5]]),
        ("mean", [[6, 6], [3, 4.5]], [[2, 2], [1.5, 1.5], [2.5, 2.5]]),
        ("var", [[9, 4], [4, 6.25]], [[-12, -8], [2, 2.5], [10, 12.5]]),
        ("std", [[3, 2], [2, 2.5]], [[-2, -2], [0.5, 0.5], [2.5, 2.5]]),
        ("max", [[9, 8], [5, 7]], [[0, 0], [2, 2], [5, 5]]),
        ("min", [[3, 4], [1, 2]], [[4, 4], [1, 1], [0, 0]]),
    ],
)
def test_gradients_over_samples_are_divided_by_the_number_of_samples(
    xp, name, values, gradient, dtype
):
    """Two samples and one gradient row: an absent row is a zero gradient (design, section 4)."""
    block = worked_example(xp, dtype)
    result = reduction(name, "samples")(block, "j")
    assert result.samples == labels(["i"], [[0], [1]])
    np.testing.assert_allclose(host(result.values), values, rtol=1e-6)
    assert result.gradient("g").samples == labels(["sample", "a"], [[0, 9], [1, 3], [1, 8]])
    np.testing.assert_allclose(host(result.gradient("g").values), gradient, rtol=1e-6)
    assert result.values.dtype == result.gradient("g").values.dtype == block.values.dtype


@pytest.mark.parametrize(
    ("name", "values", "gradient"),
    [
        ("sum", [[1, 4], [16, 34]], [[2, 4]]),
        ("mean", [[1, 2], [16, 17]], [[2, 2]]),
        ("var", [[0, 4], [0, 64]], [[0, 16]]),
        ("std", [[0, 2], [0, 8]], [[0, 1]]),
        ("max", [[1, 4], [16, 25]], [[2, 3]]),
        ("min", [[1, 0], [16, 9]], [[2, 1]]),
        ("norm", [[1, 4], [16, 706**0.5]], [[2, (9 * 1 + 25 * 3) / 706**0.5]]),
    ],
)
def test_worked_example_of_properties(xp, name, values, gradient):
    properties = labels(["n", "l"], [[1, 0], [0, 0], [1, 2]])
    block = TensorBlock(
        xp.asarray([[0.0, 1.0, 4.0], [9.0, 16.0, 25.0]]),
        Labels.range("i", 2),
        [],
        properties,
    )
    rows = labels(["sample"], [[1]])
    block.add_gradient("g", TensorBlock(xp.asarray([[1.0, 2.0, 3.0]]), rows, [], properties))
    result = reduction(name, "properties")(block, "l")
    assert result.samples == block.samples
    assert result.properties == labels(["n"], [[0], [1]])
    np.testing.assert_allclose(host(result.values), values)
    assert result.gradient("g").samples == rows
    np.testing.assert_allclose(host(result.gradient("g").values), gradient)


@pytest.mark.parametrize(
    ("name", "value", "gradient"),
    [("sum", 11, 18), ("mean", 11 / 3, 6), ("norm", 7, (2 * 5 + 6 * 6 + 3 * 7) / 7)],
)
def test_worked_example_of_components(xp, name, value, gradient):
    axes = [Labels.range("xyz", 3)], Labels.range("p", 1)
    block = TensorBlock(xp.asarray([[[2.0], [6.0], [3.0]]]), Labels.range("i", 1), *axes)
    rows = Labels.range("sample", 1)
    block.add_gradient("g", TensorBlock(xp.asarray([[[5.0], [6.0], [7.0]]]), rows, *axes))
    result = reduction(name, "components")(block, "xyz")
    assert result.components == result.gradient("g").components == []
    np.testing.assert_allclose(host(result.values), [[value]])
    np.testing.assert_allclose(host(result.gradient("g").values), [[gradient]])


def test_maps_and_blocks_agree(xp):
    block = worked_example(xp)
    tensor = TensorMap(labels(["k"], [[0], [4]]), [block, block])
    total = sum_over_samples(tensor, ["j"])
    assert total.keys == tensor.keys
    assert total.block(k=4) == sum_over_samples(block, ["j"])


def test_each_function_serves_blocks_under_two_names():
    names = [f"{name}_over_{axis}" for name, axis, _ in CASES]
    assert module.__all__ == [each for name in names for each in (name, f"{name}_block")]
    for name in names:
        assert getattr(metatensor, f"{name}_block") is getattr(metatensor, name)


def random_block(rng, n_samples=50, dtype=np.float64, n_components=1, rows="some", xp=np):
    """Samples of three dimensions, properties of two, and gradients with some rows missing."""
    table = rng.permutation(np.indices((5, 4, 6)).reshape(3, -1).T)[:n_samples]
    components = [Labels.range(f"c{n}", 3 - n) for n in range(n_components)]
    properties = labels(["n", "l"], rng.permutation(np.indices((3, 4)).reshape(2, -1).T)[:7])
    shape = (*map(len, components), len(properties))

    def draw(*start):
        values = rng.normal(size=(*start, *shape))
        if np.dtype(dtype).kind == "c":
            values = values + 1j * rng.normal(size=(*start, *shape))
        return xp.asarray(values.astype(dtype))

    block = TensorBlock(draw(n_samples), labels(["i", "j", "k"], table), components, properties)
    pairs = rng.permutation(np.indices((n_samples, 7)).reshape(2, -1).T)
    pairs = pairs[: {"all": None, "some": 3 * n_samples // 2, "none": 0}[rows]]
    gradient = TensorBlock(
        draw(len(pairs), 2),
        labels(["sample", "atom"], pairs) if len(pairs) else Labels.empty(["sample", "atom"]),
        [Labels.range("d", 2), *components],
        properties,
    )
    block.add_gradient("x", gradient)
    return block


def value_and_weights(name, values):
    """What a reduction of the first axis returns, and the weight of each value, in plain numpy."""
    n = len(values)
    if name in ("max", "min"):
        value = getattr(values, name)(axis=0)
        return value, (values == value) / (values == value).sum(axis=0)
    distance = values - values.mean(axis=0)
    if name == "sum":
        return values.sum(axis=0), np.ones_like(values)
    if name == "mean":
        return values.mean(axis=0), np.ones_like(values) / n
    if name == "var":
        return values.var(axis=0), 2 * distance.conj() / n
    norm = np.sqrt((np.abs(values) ** 2).sum(axis=0)) if name == "norm" else values.std(axis=0)
    weights = values.conj() if name == "norm" else distance.conj() / n
    return norm, np.where(norm == 0, 0, weights / np.where(norm == 0, 1, norm))


def reduced(function, array, axis, groups):
    """Stack what a function makes of the entries of each group along an axis."""
    array = np.moveaxis(array, axis, 0)
    return np.moveaxis(np.stack([function(array[group]) for group in groups]), 0, axis)


def groups_of(block, axis, removed):
    """Positions of what becomes one, in the order of the result."""
    if axis == "components":
        return [list(range(len(block.components[0])))]
    entries = getattr(block, axis)
    kept = [n for n, name in enumerate(entries.names) if name not in removed]
    groups = {}
    for position, row in enumerate(entries.values.tolist()):
        groups.setdefault(tuple(row[n] for n in kept), []).append(position)
    return [groups[row] for row in sorted(groups)]


def expected_reduction(block, name, axis, removed):
    """Values, and gradients by sample and atom, from loops over groups and gradient rows."""
    values, groups = host(block.values), groups_of(block, axis, removed)
    where = {"samples": -values.ndim, "components": 1 - values.ndim, "properties": -1}[axis]
    weights = np.zeros_like(values)
    for group in groups:
        chosen = np.moveaxis(values, where, 0)[group]
        np.moveaxis(weights, where, 0)[group] = value_and_weights(name, chosen)[1]
    result = reduced(lambda part: value_and_weights(name, part)[0], values, where, groups)
    gradient, rows = block.gradient("x"), {}
    for (sample, atom), row in zip(
        gradient.samples.values.tolist(), host(gradient.values), strict=True
    ):
        share = weights[sample] * row if name in LINEAR else (weights[sample] * row).real
        if axis == "samples":
            target = next(n for n, group in enumerate(groups) if sample in group)
        else:
            target, share = sample, reduced(lambda part: part.sum(axis=0), share, where, groups)
        rows[target, atom] = rows.get((target, atom), 0) + share
    if axis == "components":
        result = result.squeeze(where)
        rows = {sample: row.squeeze(where) for sample, row in rows.items()}
    return result, rows


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("removed", ["i", "j", ["k", "i"], ["i", "j", "k"], []])
def test_sums_are_those_of_a_loop_bit_by_bit(removed, dtype):
    block = random_block(np.random.default_rng(0), dtype=dtype)
    total = sum_over_samples(block, removed)
    kept = [n for n, name in enumerate(block.samples.names) if name not in removed]
    table = block.samples.values[:, kept] if kept else np.zeros((len(block.samples), 1), int)
    assert sorted(map(tuple, np.unique(table, axis=0))) == [
        tuple(row) for row in total.samples.values
    ]
    for position, row in enumerate(total.samples.values):
        members = np.flatnonzero((table == row).all(axis=1))
        np.testing.assert_array_equal(total.values[position], block.values[members].sum(axis=0))
        for atom in range(7):
            expected = [
                value
                for (sample, a), value in zip(
                    block.gradient("x").samples.values, block.gradient("x").values, strict=True
                )
                if a == atom and sample in members
            ]
            found = total.gradient("x").samples.position((position, atom))
            if expected:
                np.testing.assert_array_equal(
                    total.gradient("x").values[found], np.sum(expected, axis=0)
                )
            else:
                assert found is None


def check_against_loops(block, name, axis, removed):
    result = reduction(name, axis)(block, removed)
    values, gradients = expected_reduction(block, name, axis, removed)
    single = host(block.values).dtype == np.float32
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if single else {"atol": 1e-12}
    assert host(result.values).dtype == host(result.gradient("x").values).dtype
    assert host(result.values).dtype == (values.dtype if name in LINEAR else values.real.dtype)
    np.testing.assert_allclose(host(result.values), values, **tolerance)
    gradient = result.gradient("x")
    assert set(map(tuple, gradient.samples.values.tolist())) == set(gradients)
    for row, found in zip(gradient.samples.values.tolist(), host(gradient.values), strict=True):
        np.testing.assert_allclose(found, gradients[tuple(row)], **tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
@pytest.mark.parametrize(("name", "axis", "removed"), CASES)
def test_against_loops(xp, name, axis, removed, dtype):
    if name in ("max", "min") and dtype == np.complex128:
        pytest.skip("complex values have no order")
    block = random_block(np.random.default_rng(0), 20, dtype, xp=xp)
    check_against_loops(block, name, axis, removed)


@pytest.mark.parametrize("rows", ["all", "some", "none"])
@pytest.mark.parametrize("n_components", [0, 1, 2])
@pytest.mark.parametrize(("name", "axis", "removed"), CASES)
def test_any_number_of_components_and_gradient_rows(name, axis, removed, n_components, rows):
    if axis == "components" and n_components == 0:
        pytest.skip("there is nothing to remove")
    block = random_block(np.random.default_rng(n_components), 20, np.float64, n_components, rows)
    check_against_loops(block, name, axis, removed)
    check_gradients(lambda block: reduction(name, axis)(block, removed), block)


@pytest.mark.parametrize(("name", "axis", "removed"), CASES)
def test_gradients_are_derivatives(xp, name, axis, removed):
    block = random_block(np.random.default_rng(5), 20, xp=xp)
    check_gradients(lambda block: reduction(name, axis)(block, removed), block)


@pytest.mark.parametrize(("name", "axis", "removed"), CASES)
def test_gradients_of_complex_values_are_derivatives(name, axis, removed):
    if name in ("max", "min"):
        pytest.skip("complex values have no order")
    block = random_block(np.random.default_rng(8), 20, np.complex128)
    check_gradients(lambda block: reduction(name, axis)(block, removed), block)


@pytest.mark.parametrize("removed", ["i", ["k", "i"], ["i", "j", "k"]])
@pytest.mark.parametrize("name", SAMPLES)
def test_many_samples_against_numpy(name, removed):
    block = random_block(np.random.default_rng(9), 120)
    result = reduction(name, "samples")(block, removed)
    groups = groups_of(block, "samples", removed)
    expected = [getattr(np, name)(block.values[group], axis=0) for group in groups]
    # bit by bit: samples are added in their order, and then divided
    np.testing.assert_array_equal(result.values, expected)


def test_std_is_the_root_of_the_mean_square_bit_by_bit():
    values = np.random.default_rng(3).normal(size=(100, 3))
    block = TensorBlock(values, Labels.range("i", 100), [], Labels.range("p", 3))
    expected = np.sqrt(np.mean((values - np.mean(values, axis=0)) ** 2, axis=0))
    np.testing.assert_array_equal(std_over_samples(block, "i").values, expected[None])


@pytest.mark.parametrize("axis", ["samples", "components", "properties"])
@pytest.mark.parametrize("name", ["sum", "mean"])
def test_either_byte_order(name, axis):
    block = random_block(np.random.default_rng(0), 20)
    removed = {"samples": "i", "components": "c0", "properties": "p"}[axis]
    swapped = TensorBlock(
        block.values.astype(">f8"), block.samples, block.components, block.properties
    )
    result = reduction(name, axis)(swapped, removed)
    expected = reduction(name, axis)(block, removed)
    np.testing.assert_array_equal(result.values, expected.values)


# ---- upstream's bugs


@pytest.mark.parametrize(("name", "axis", "removed"), CASES)
def test_bug_float32_gradients_become_float64(xp, name, axis, removed):
    block = random_block(np.random.default_rng(6), 20, np.float32, xp=xp)
    result = reduction(name, axis)(block, removed)
    assert result.values.dtype == result.gradient("x").values.dtype == block.values.dtype


@pytest.mark.parametrize("name", ["mean", "var", "std"])
def test_bug_components_with_properties_divided_along_the_wrong_axis(xp, name):
    values = np.arange(12.0).reshape(2, 2, 3) ** 2
    properties = labels(["n", "l"], [[0, 0], [1, 0], [1, 1]])  # as many groups as components
    block = TensorBlock(
        xp.asarray(values), Labels.range("i", 2), [Labels.range("c", 2)], properties
    )
    function = getattr(np, name)
    expected = np.stack([function(values[..., :1], -1), function(values[..., 1:], -1)], axis=-1)
    result = reduction(name, "properties")(block, "l")
    np.testing.assert_allclose(host(result.values), expected)


def test_bug_mean_gradients_divided_by_gradient_rows():
    block = TensorBlock(np.ones((2, 1)), Labels.range("i", 2), [], Labels.range("p", 1))
    row = Labels.range("sample", 1)
    block.add_gradient("g", TensorBlock(np.array([[3.0]]), row, [], block.properties))
    assert mean_over_samples(block, "i").gradient("g").values.tolist() == [[1.5]]


# ---- numbers


@pytest.mark.parametrize(("name", "axis", "removed"), CASES)
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.bool_])
def test_integers(xp, name, axis, removed, dtype):
    numbers = np.array([[[3, 1], [2, 2]], [[0, 4], [1, 1]], [[5, 2], [0, 3]]]).astype(dtype)
    block = TensorBlock(
        xp.asarray(numbers),
        labels(["i", "j", "k"], [[0, 0, 0], [0, 0, 1], [1, 0, 0]]),
        [Labels.range("c0", 2)],
        labels(["n", "l"], [[0, 0], [0, 1]]),
    )
    exact = name in ("sum", "max", "min")
    if exact and dtype == np.bool_:
        with pytest.raises(TypeError, match=f"`{name}_over_{axis}` requires .*numbers, got"):
            reduction(name, axis)(block, removed)
        return
    result = reduction(name, axis)(block, removed)
    numbers = numbers if exact else numbers.astype(float)
    where = {"samples": 0, "components": 1, "properties": -1}[axis]
    groups = groups_of(block, axis, removed)
    expected = reduced(lambda part: value_and_weights(name, part)[0], numbers, where, groups)
    assert host(result.values).dtype == (dtype if exact else np.float64)
    np.testing.assert_allclose(
        host(result.values), expected.squeeze(1) if axis == "components" else expected
    )


@pytest.mark.parametrize("name", SAMPLES)
def test_gradients_of_integers(xp, name):
    result = reduction(name, "samples")(worked_example(xp, np.int64), "j")
    floating = reduction(name, "samples")(worked_example(xp, np.float64), "j")
    expected = np.int64 if name == "sum" else np.float64
    assert host(result.values).dtype == host(result.gradient("g").values).dtype == expected
    np.testing.assert_array_equal(host(result.values), host(floating.values))
    np.testing.assert_array_equal(
        host(result.gradient("g").values), host(floating.gradient("g").values)
    )


@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_share_the_gradient(xp, name):
    axes = [], Labels.range("p", 1)
    block = TensorBlock(xp.asarray(np.full((4, 1), 2.0)), Labels.range("i", 4), *axes)
    gradient = TensorBlock(xp.asarray([[4.0], [8.0]]), labels(["sample"], [[1], [3]]), *axes)
    block.add_gradient("g", gradient)
    result = reduction(name, "samples")(block, "i")
    assert host(result.gradient("g").values).tolist() == [[3.0]]


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("axis", ["samples", "properties"])
def test_complex_values_have_no_order(xp, name, axis):
    block = worked_example(xp, np.complex128)
    with pytest.raises(TypeError, match=f"`{name}_over_{axis}` requires ordered numbers, got"):
        reduction(name, axis)(block, "j")


@pytest.mark.parametrize(("name", "axis", "removed"), CASES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_propagate(xp, name, axis, removed, bad):
    values = np.random.default_rng(0).normal(size=(6, 2, 4))
    values[2, 1, 3] = bad
    axes = [Labels.range("c0", 2)], labels(["n", "l"], [[0, 0], [0, 1], [1, 0], [1, 1]])
    samples = labels(["i", "j", "k"], [[n // 3, 0, n] for n in range(6)])
    block = TensorBlock(xp.asarray(values), samples, *axes)
    rows = Labels.range("sample", 6)
    block.add_gradient("g", TensorBlock(xp.asarray(np.ones((6, 2, 4))), rows, *axes))
    result = reduction(name, axis)(block, removed)
    with warnings.catch_warnings():
        if xp.name == "dask":  # which computes now, and warns
            warnings.simplefilter("ignore")
        values, gradient = host(result.values), host(result.gradient("g").values)
    if name == "min" and bad == np.inf:
        assert np.isfinite(values).all()
    else:
        assert (~np.isfinite(values)).sum() == 1
    if name in ("var", "std", "norm"):
        assert np.isnan(gradient).any()


@pytest.mark.parametrize(("name", "axis", "removed"), CASES)
def test_equal_values_have_no_spread_and_no_warning(xp, name, axis, removed):
    dtype = np.float32
    block = random_block(np.random.default_rng(2), 20, dtype, xp=xp)
    constant = TensorBlock(
        xp.asarray(np.zeros(block.shape, dtype)), block.samples, block.components, block.properties
    )
    constant.add_gradient("x", block.gradient("x"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = reduction(name, axis)(constant, removed)
        assert np.all(host(result.values) == 0)
        gradient = host(result.gradient("x").values)
    assert np.isfinite(gradient).all()
    if name in ("var", "std", "norm"):
        assert np.all(gradient == 0)


@pytest.mark.parametrize("name", ["var", "std"])
def test_large_mean_and_tiny_spread_in_float32(xp, name):
    values = np.array([[1e4], [1e4 + 2**-10], [1e4]], dtype=np.float32)
    block = TensorBlock(xp.asarray(values), Labels.range("i", 3), [], Labels.range("p", 1))
    block.add_gradient(
        "g",
        TensorBlock(
            xp.asarray(np.ones_like(values)), Labels.range("sample", 3), [], block.properties
        ),
    )
    result = reduction(name, "samples")(block, "i")
    assert np.isfinite(host(result.values)).all()
    assert (host(result.values) >= 0).all()
    assert np.isfinite(host(result.gradient("g").values)).all()


# ---- shapes and names


@pytest.mark.parametrize(("name", "axis", "removed"), CASES)
def test_one_of_everything(xp, name, axis, removed):
    components, properties = [Labels.range("c0", 1)], labels(["n", "l"], [[3, 4]])
    block = TensorBlock(
        xp.asarray([[[-2.0]]]), labels(["i", "j", "k"], [[5, 6, 7]]), components, properties
    )
    result = reduction(name, axis)(block, removed)
    expected = {"var": 0.0, "std": 0.0, "norm": 2.0}.get(name, -2.0)
    assert host(result.values).ravel().tolist() == [expected]


@pytest.mark.parametrize("name", ["sum", "std", "max", "norm"])
def test_all_property_dimensions_removed(name):
    block = random_block(np.random.default_rng(0), 10)
    result = reduction(name, "properties")(block, ["n", "l"])
    assert result.properties == result.gradient("x").properties == Labels.single()
    np.testing.assert_allclose(
        result.values[..., 0], value_and_weights(name, np.moveaxis(block.values, -1, 0))[0]
    )


@pytest.mark.parametrize("axis", ["samples", "properties"])
def test_without_names_entries_are_only_sorted(xp, axis):
    block = random_block(np.random.default_rng(1), 30, xp=xp)
    result = reduction("mean", axis)(block, [])
    before, after = getattr(block, axis), getattr(result, axis)
    assert after.names == before.names
    assert after.values.tolist() == sorted(before.values.tolist())
    place = [before.position(row) for row in after]
    where = 0 if axis == "samples" else -1
    np.testing.assert_array_equal(host(result.values), np.take(host(block.values), place, where))


@pytest.mark.parametrize(
    ("name", "function"), [("sum", np.copy), ("mean", np.copy), ("norm", np.abs)]
)
def test_without_names_components_stay(xp, name, function):
    block = random_block(np.random.default_rng(1), 5, xp=xp)
    result = reduction(name, "components")(block, [])
    assert result.components == block.components
    np.testing.assert_allclose(host(result.values), function(host(block.values)))


def test_several_components(xp):
    block = random_block(np.random.default_rng(1), 5, n_components=2, xp=xp)
    for names in (["c0", "c1"], ("c1", "c0")):
        result = operations.mean_over_components(block, names)
        assert result.components == []
        assert result.gradient("x").components == block.gradient("x").components[:1]
        np.testing.assert_allclose(host(result.values), host(block.values).mean(axis=(1, 2)))
    last = operations.sum_over_components(block, "c1")
    assert last.components == block.components[:1]
    np.testing.assert_allclose(host(last.values), host(block.values).sum(axis=2))


@pytest.mark.parametrize(("n_samples", "n_properties"), [(0, 2), (4, 0)])
@pytest.mark.parametrize(("name", "axis", "removed"), CASES)
def test_blocks_without_samples_or_properties(xp, name, axis, removed, n_samples, n_properties):
    components, properties = [Labels.range("c0", 2)], Labels.empty(["n", "l"])
    samples = Labels.empty(["i", "j", "k"])
    if n_samples:
        samples = labels(["i", "j", "k"], [[0, 0, 0], [1, 0, 1], [0, 0, 1], [1, 2, 2]])
    if n_properties:
        properties = labels(["n", "l"], [[0, 1], [0, 0]])
    shape = (n_samples, 2, n_properties)
    block = TensorBlock(xp.asarray(np.ones(shape)), samples, components, properties)
    rows = Labels.range("sample", n_samples)
    block.add_gradient("g", TensorBlock(xp.asarray(np.ones(shape)), rows, components, properties))
    result = reduction(name, axis)(block, removed)
    sizes = {
        "samples": (min(n_samples, 2), 2, n_properties),
        "components": (n_samples, n_properties),
        "properties": (n_samples, 2, min(n_properties, 1)),
    }
    # checks that values and Labels fit together
    TensorBlock(result.values, result.samples, result.components, result.properties)
    assert tuple(result.values.shape) == sizes[axis]
    assert tuple(result.gradient("g").values.shape) == sizes[axis]
    assert result.samples.names == (["i"] if axis == "samples" else ["i", "j", "k"])
    assert result.properties.names == (["n"] if axis == "properties" else ["n", "l"])


def test_sum_in_steps_is_the_sum_at_once():
    block = random_block(np.random.default_rng(2))
    steps = sum_over_samples(sum_over_samples(block, "k"), "i")
    at_once = sum_over_samples(block, ["i", "k"])
    assert steps.samples == at_once.samples
    np.testing.assert_allclose(steps.gradient("x").values, at_once.gradient("x").values, atol=1e-12)


@pytest.mark.parametrize(("removed", "names"), [("j", ["i"]), (["i", "j"], ["_"])])
def test_block_without_samples(xp, removed, names):
    properties = Labels.range("p", 2)
    block = TensorBlock(xp.asarray(np.zeros((0, 2))), Labels.empty(["i", "j"]), [], properties)
    block.add_gradient(
        "g",
        TensorBlock(xp.asarray(np.zeros((0, 2))), Labels.empty(["sample", "a"]), [], properties),
    )
    total = sum_over_samples(block, removed)
    assert total.samples == Labels.empty(names)
    assert tuple(total.values.shape) == (0, 2)
    assert total.gradient("g").samples == Labels.empty(["sample", "a"])


def test_gradients_of_gradients_are_summed_too():
    properties = Labels.range("p", 1)
    block = TensorBlock(
        np.ones((3, 1)), labels(["i", "j"], [[0, 0], [0, 1], [1, 0]]), [], properties
    )
    gradient = TensorBlock(np.ones((3, 1)), labels(["sample"], [[0], [1], [2]]), [], properties)
    gradient.add_gradient(
        "h", TensorBlock(np.array([[2.0], [3.0]]), labels(["sample"], [[0], [1]]), [], properties)
    )
    block.add_gradient("g", gradient)
    second = sum_over_samples(block, "j").gradient("g").gradient("h")
    assert second.samples == labels(["sample"], [[0]])
    assert second.values.tolist() == [[5.0]]


@pytest.mark.parametrize("axis", ["samples", "properties", "components"])
def test_mean_of_gradients_of_gradients(axis):
    """Averages divide by the size of the group of the values, at every level."""
    components, properties = [Labels.range("c0", 2)], labels(["n"], [[0], [1]])
    samples = labels(["i", "j"], [[0, 0], [0, 1], [1, 0]])

    def ones(rows):
        return TensorBlock(np.ones((len(rows), 2, 2)), rows, components, properties)

    block, gradient = ones(samples), ones(labels(["sample", "a"], [[0, 0], [1, 0], [1, 1]]))
    gradient.add_gradient("h", ones(labels(["sample"], [[0], [1], [2]])))
    block.add_gradient("g", gradient)
    names = {"samples": "j", "properties": "n", "components": "c0"}[axis]
    second = reduction("mean", axis)(block, names).gradient("g").gradient("h")
    if axis == "samples":  # two rows of one atom become one, of two samples
        assert second.samples == labels(["sample"], [[0], [1]])
        assert second.values[:, 0, 0].tolist() == [1.0, 0.5]
    else:
        assert np.all(second.values == 1)
        assert second.values.shape == {"properties": (3, 2, 1), "components": (3, 2)}[axis]


@pytest.mark.parametrize(
    ("name", "axis"), [(name, axis) for name, axis, _ in CASES if name not in LINEAR]
)
def test_what_is_not_linear_refuses_gradients_of_gradients(name, axis):
    block = random_block(np.random.default_rng(0), 4)
    gradient = block.gradient("x").copy()
    gradient.add_gradient(
        "y",
        TensorBlock(
            gradient.values[:1], Labels.range("sample", 1), gradient.components, gradient.properties
        ),
    )
    nested = TensorBlock(block.values, block.samples, block.components, block.properties)
    nested.add_gradient("x", gradient)
    with pytest.raises(NotImplementedError, match=f"`{name}_over_{axis}` is not linear"):
        reduction(name, axis)(nested, [])


@pytest.mark.parametrize(("name", "axis", "removed"), CASES)
def test_autograd_flows_through_values_and_gradients(name, axis, removed):
    torch = pytest.importorskip("torch")
    block = random_block(np.random.default_rng(7), 8, xp=torch)
    gradient = block.gradient("x")

    def reduce_arrays(values, gradient_values):
        given = TensorBlock(values, block.samples, block.components, block.properties)
        given.add_gradient(
            "x",
            TensorBlock(
                gradient_values, gradient.samples, gradient.components, gradient.properties
            ),
        )
        result = reduction(name, axis)(given, removed)
        return result.values, result.gradient("x").values

    arrays = [block.values.requires_grad_(), gradient.values.requires_grad_()]
    assert torch.autograd.gradcheck(reduce_arrays, arrays, fast_mode=True)


@pytest.mark.parametrize("name", ["std", "norm"])
def test_autograd_at_zero_has_no_nan(name):
    torch = pytest.importorskip("torch")
    values = torch.zeros((2, 4), dtype=torch.float64, requires_grad=True)
    block = TensorBlock(values, Labels.range("i", 2), [], Labels.range("p", 4))
    gradient = torch.ones((2, 4), dtype=torch.float64)
    block.add_gradient("g", TensorBlock(gradient, Labels.range("sample", 2), [], block.properties))
    result = reduction(name, "properties")(block, "p")
    (result.values.sum() + result.gradient("g").values.sum()).backward()
    assert torch.isfinite(values.grad).all()


def test_jax_differentiates_and_compiles():
    jax = pytest.importorskip("jax")
    values = np.random.default_rng(0).normal(size=(5, 2))
    samples, properties = labels(["i", "j"], [[n // 2, n] for n in range(5)]), Labels.range("p", 2)

    def total(name, values):
        block = TensorBlock(values, samples, [], properties)
        return reduction(name, "samples")(block, "j").values.sum()

    for name in SAMPLES:
        slope = jax.jit(jax.grad(lambda values, name=name: total(name, values)))(values)
        weights = [value_and_weights(name, values[members])[1] for members in ([0, 1], [2, 3], [4])]
        np.testing.assert_allclose(slope, np.concatenate(weights), atol=1e-12)


@given(order=st.permutations(range(20)), case=st.sampled_from(CASES))
@settings(max_examples=50)
def test_order_of_samples_does_not_count(order, case):
    name, axis, removed = case
    block = random_block(np.random.default_rng(1), 20)
    permuted = TensorBlock(
        block.values[order],
        labels(block.samples.names, block.samples.values[order]),
        block.components,
        block.properties,
    )
    gradient = block.gradient("x")
    samples = gradient.samples.values.copy()
    samples[:, 0] = np.argsort(order)[samples[:, 0]]
    moved = labels(gradient.samples.names, samples)
    permuted.add_gradient(
        "x", TensorBlock(gradient.values, moved, gradient.components, gradient.properties)
    )
    first = operations.sum_over_samples(reduction(name, axis)(block, removed), [])
    second = operations.sum_over_samples(reduction(name, axis)(permuted, removed), [])
    metatensor.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("name", "axis", "removed"), CASES)
def test_nothing_given_is_changed(name, axis, removed):
    block = random_block(np.random.default_rng(3))
    before = block.copy()
    reduction(name, axis)(block, removed)
    assert block == before


@pytest.mark.parametrize(("name", "axis", "removed"), CASES)
def test_names_must_be_there_for_a_map(name, axis, removed):
    block, one = random_block(np.random.default_rng(4)), axis.replace("ies", "y").rstrip("s")
    function = reduction(name, axis)
    text = f"`{one}_names` must be among the {axis} of this map .*, got 'system'"
    with pytest.raises(ValueError, match=text):
        function(TensorMap(Labels.single(), [block]), [*removed, "system"])
    if axis == "components":
        with pytest.raises(ValueError, match=text.replace("map", "block")):
            function(block, "system")
    else:
        assert function(block, [*removed, "system"]) == function(block, removed)
    empty = TensorMap(Labels.empty(["key"]), [])
    assert len(function(empty, "anything")) == 0


@pytest.mark.parametrize(("name", "axis", "removed"), CASES)
def test_only_tensors(name, axis, removed):
    with pytest.raises(
        TypeError, match="must be a metatensor TensorMap or TensorBlock, got numpy.ndarray"
    ):
        reduction(name, axis)(np.zeros((2, 2)), removed)


def test_errors_say_for_which_block():
    block = worked_example(np, np.complex128)
    with pytest.raises(TypeError, match=r"ordered numbers.*\(in the block for key \(k=4\)\)"):
        operations.max_over_samples(TensorMap(labels(["k"], [[4]]), [block]), "j")


@pytest.mark.parametrize("axis", ["samples", "properties"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_rounding_of_the_mean_is_no_deviation(xp, axis, dtype):
    """The mean of three times 0.1 need not be 0.1, nor the deviation 0, but the gradient is."""
    shape = (3, 1) if axis == "samples" else (1, 3)
    samples, properties = Labels.range("s", shape[0]), Labels.range("p", shape[1])
    block = TensorBlock(xp.asarray(np.full(shape, 0.1, dtype=dtype)), samples, [], properties)
    rows = Labels("sample", np.array([[0]]))
    values = xp.asarray(np.arange(1, shape[1] + 1).astype(dtype)[None, :])
    block.add_gradient("g", TensorBlock(values, rows, [], properties))
    if axis == "samples":
        reduced = metatensor.std_over_samples(block, "s")
    else:
        reduced = metatensor.std_over_properties(block, "p")
    assert np.abs(np.asarray(reduced.values)).max() < 1e-7
    assert not np.asarray(reduced.gradient("g").values).any()
