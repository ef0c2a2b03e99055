"""Numbers that a dtype can not hold: integers that would wrap around, and halves that saturate."""

import numpy as np
import pytest

import metatensor
from metatensor import Labels, TensorBlock


def row_of(values, name="atom"):
    samples = Labels.range(name, values.shape[0])
    return TensorBlock(values, samples, [], Labels.range("n", values.shape[1]))


SUMS = [
    lambda block: metatensor.sum_over_samples(block, "atom"),
    lambda block: metatensor.sum_over_properties(block, "n"),
    lambda block: metatensor.dot(block, block),
    lambda block: metatensor.outer(block, block),
    lambda block: metatensor.einsum("atom || n, atom || n -> || n", block, block),
]


@pytest.mark.parametrize("function", SUMS)
def test_integers_do_not_wrap_around(xp, function):
    dtype = np.int32 if xp.array_library == "jax" else np.int8
    if xp.array_library == "dask":
        pytest.skip("lazy arrays are not looked at")
    large, small = np.full((2, 2), np.iinfo(dtype).max, dtype), np.full((2, 2), 3, dtype)
    with pytest.raises(OverflowError, match="out of the range of .*int"):
        function(row_of(xp.asarray(large)))
    result = function(row_of(xp.asarray(small)))
    expected = function(row_of(small.astype(np.float64)))
    np.testing.assert_array_equal(np.asarray(result.values), expected.values)


@pytest.mark.parametrize("function", SUMS)
def test_integers_that_are_not_known_are_not_looked_at(function):
    torch = pytest.importorskip("torch")
    many = torch.arange(12).reshape(3, 2, 2)
    expected = [function(row_of(values)).values for values in many]
    mapped = torch.func.vmap(lambda values: function(row_of(values)).values)(many)
    assert torch.equal(mapped, torch.stack(expected))
    assert function(row_of(many[0].to("meta"))).shape == expected[0].shape


def test_gradients_of_integers_do_not_wrap_around():
    block = row_of(np.ones((2, 1), np.int8))
    rows = Labels(["sample", "atom"], np.array([[0, 0], [1, 0]]))
    block.add_gradient("x", TensorBlock(np.full((2, 1), 100, np.int8), rows, [], block.properties))
    with pytest.raises(OverflowError, match="`sum_over_samples` is out of the range of int8"):
        metatensor.sum_over_samples(block, "atom")


def test_integers_of_one_block_are_named_by_its_key():
    tensor = metatensor.TensorMap(Labels.range("k", 1), [row_of(np.full((2, 1), 100, np.int8))])
    with pytest.raises(OverflowError, match=r"in the block for key \(k=0\)"):
        metatensor.sum_over_samples(tensor, "atom")


@pytest.mark.parametrize(("axis", "name"), [("samples", "atom"), ("properties", "n")])
@pytest.mark.parametrize("reduction", ["sum", "mean", "var", "std"])
@pytest.mark.parametrize(("library", "dtype"), [("numpy", "float16"), ("jax", "bfloat16")])
def test_halves_are_added_up_in_single_precision(library, dtype, reduction, axis, name):
    if (library, reduction) == ("numpy", "sum"):
        pytest.skip("sums are those of numpy, which adds up halves")
    jax_numpy = pytest.importorskip("jax.numpy")
    values = np.full((3000, 1), 2.0)
    values = values if axis == "samples" else values.T
    asarray = np.asarray if library == "numpy" else jax_numpy.asarray
    block = row_of(asarray(values).astype(dtype))
    samples = Labels.range("sample", len(block))
    block.add_gradient("x", TensorBlock(block.values, samples, [], block.properties))
    result = getattr(metatensor, f"{reduction}_over_{axis}")(block, name)
    assert result.dtype == block.dtype
    assert result.gradient("x").dtype == block.dtype
    expected = {"sum": 6000.0, "mean": 2.0, "var": 0.0, "std": 0.0}[reduction]
    np.testing.assert_allclose(np.asarray(result.values, np.float64), expected, rtol=0.004)
    np.testing.assert_allclose(
        np.asarray(result.gradient("x").values, np.float64), expected, rtol=0.004
    )
