"""``to(arrays="jax")``, and back: nothing is lost silently."""

import importlib
import pickle

import numpy as np
import pytest

import metatensor
from metatensor import Labels, TensorBlock, testing

jax = pytest.importorskip("jax")
importlib.import_module("metatensor.jax")

jnp, tree = jax.numpy, jax.tree_util


def block_with(values):
    return TensorBlock(
        values, Labels.range("atom", values.shape[0]), [], Labels.range("n", values.shape[1])
    )


def aligned(rows, columns):
    """Return an array at a multiple of 64 bytes, which jax could take as it is."""
    memory = np.zeros(rows * columns * 8 + 64, dtype=np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + rows * columns * 8].view(np.float64).reshape(rows, columns)


def test_there_and_back(any_tensor):
    moved = any_tensor.to(arrays="jax")
    leaves, expected = tree.tree_leaves(moved), tree.tree_leaves(any_tensor)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    assert [leaf.dtype for leaf in leaves] == [array.dtype for array in expected]
    for again in (moved.to(arrays="numpy"), moved.to(arrays="jax").to(arrays="numpy")):
        testing.assert_equal(again, any_tensor)
        assert again.info() == any_tensor.info()
    assert tree.tree_structure(moved) == tree.tree_structure(any_tensor)


def test_torch_there_and_back(any_tensor):
    torch = pytest.importorskip("torch")
    tensor = any_tensor.to(arrays="torch")
    moved = tensor.to(arrays="jax")
    assert all(isinstance(block.samples.values, np.ndarray) for block in moved)
    again = moved.to(arrays="torch")
    assert all(isinstance(leaf, torch.Tensor) for leaf in tree.tree_leaves(again))
    testing.assert_equal(again.to(arrays="numpy"), any_tensor)
    for leaf in tree.tree_leaves(again):
        leaf += 1  # not the memory of jax, whose arrays never change
    testing.assert_equal(moved.to(arrays="numpy"), any_tensor)


@pytest.mark.parametrize(
    "make_values",
    [
        lambda: np.arange(12.0).reshape(4, 3)[::-1],
        lambda: np.arange(24.0).reshape(4, 6)[:, ::2],
        lambda: np.arange(12.0).reshape(3, 4).T,
        lambda: np.arange(12.0).reshape(4, 3).astype(">f8"),
        lambda: np.broadcast_to(np.arange(3.0), (4, 3)),
        lambda: np.arange(12.0).reshape(4, 3) > 5,
        lambda: np.arange(12).reshape(4, 3).astype(np.uint8),
        lambda: np.zeros((0, 3)),
        lambda: np.zeros((3, 0)),
        lambda: np.frombuffer(np.arange(12.0).tobytes()).reshape(4, 3),
    ],
    ids=["negative", "strided", "transposed", "swapped", "broadcast"]
    + ["bool", "uint8", "no rows", "no columns", "read-only"],
)
def test_any_layout(make_values):
    values = make_values()
    moved = block_with(values).to(arrays="jax").values
    np.testing.assert_array_equal(np.asarray(moved), values)
    assert moved.dtype == values.dtype.newbyteorder("=")


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_changes_of_the_source_do_not_arrive(library):
    """Arrays of jax never change: not through memory that they share either."""
    values = aligned(100, 10)
    if library == "torch":
        values = pytest.importorskip("torch").from_numpy(values)
    moved = block_with(values).to(arrays="jax")
    values[0, 0] = 5.0
    assert moved.values[0, 0] == 0.0


def test_memory_mapped_files(make, tmp_path):
    tensor = make()
    metatensor.save(tmp_path / "tensor.mts", tensor)
    mapped = metatensor.load(tmp_path / "tensor.mts", mmap=True)
    testing.assert_equal(mapped.to(arrays="jax").to(arrays="numpy"), tensor)


def test_autograd_of_torch_is_not_lost_silently():
    torch = pytest.importorskip("torch")
    values = torch.zeros(2, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match="detach"):
        block_with(values).to(arrays="jax")


@pytest.mark.parametrize("dtype", ["float64", "int64", "complex128"])
def test_numbers_are_not_narrowed_silently(make, dtype, jax_x32):
    tensor = make(dtype=np.dtype(dtype))
    with pytest.raises(ValueError, match=f"jax would turn {dtype} into .*jax_enable_x64"):
        tensor.to(arrays="jax")
    with pytest.raises(ValueError, match=f"jax would turn {dtype} into .*jax_enable_x64"):
        tensor.to(np.dtype(dtype), arrays="jax")
    narrow = {"float64": "float32", "int64": "int32", "complex128": "complex64"}[dtype]
    moved = tensor.to(np.dtype(narrow), arrays="jax")
    assert {leaf.dtype for leaf in tree.tree_leaves(moved)} == {np.dtype(narrow)}
    assert moved.info() == tensor.info()


def test_dtypes_and_devices(make):
    tensor = make()
    assert tensor.to(jnp.float32, arrays="jax").block(0).dtype == np.float32
    moved = tensor.to(arrays="jax", device="cpu", dtype=np.float32)
    for leaf in tree.tree_leaves(moved):
        assert leaf.devices() == {jax.devices("cpu")[0]}
        assert leaf.dtype == np.float32
    with pytest.raises(ValueError, match="jax has no device 'nowhere'"):
        tensor.to(arrays="jax", device="nowhere")


@pytest.mark.parametrize(
    "function",
    [
        lambda t: t.to(arrays="numpy"),
        lambda t: t.to(arrays="torch"),
        lambda t: t.save_buffer(),
        lambda t: t == t.copy(),
        lambda t: metatensor.allclose(t, t * 1),
        lambda t: t.block(0).values.shape == (5, 3, 2) and t.block(0).to(arrays="numpy"),
    ],
    ids=["numpy", "torch", "save", "equal", "allclose", "block"],
)
@pytest.mark.parametrize("transformation", ["jit", "vmap"])
def test_numbers_are_not_known_while_jax_traces(make, function, transformation):
    if transformation == "vmap":
        tensor = tree.tree_map(lambda array: jnp.stack([array, array]), make())
    else:
        tensor = make()
    with pytest.raises(TypeError, match="jax is tracing these values"):
        getattr(jax, transformation)(function)(tensor)


def test_what_works_while_jax_traces(make):
    """All that labels and shapes tell, and conversions that stay with jax."""
    seen = []

    @jax.jit
    def function(tensor):
        seen.append((repr(tensor), str(tensor.block(0)), tensor.block(0).samples.names))
        seen.append(tensor.block(0)._repr_html_())
        assert tensor.block(0).shape == (5, 3, 2)
        assert metatensor.equal_metadata(tensor, tensor.copy())
        block = tensor.block(0)
        new = TensorBlock(
            values=jnp.sin(block.values),
            samples=block.samples,
            components=block.components,
            properties=block.properties,
        )
        new.add_gradient("positions", block.gradient("positions"))
        return new.to(arrays="jax").to(jnp.float32)

    tensor = make()
    result = function(tensor)
    assert result.dtype == np.float32
    expected = np.sin(tensor.block(0).values)
    np.testing.assert_allclose(result.values, expected, rtol=1e-6)
    assert seen[0][0] == repr(tensor)


def test_operations_of_one_library(make):
    with pytest.raises(TypeError, match="use `.to"):
        metatensor.add(make(), make().to(arrays="jax"))


def test_pickles(make):
    moved = make().to(arrays="jax")
    again = pickle.loads(pickle.dumps(moved))
    assert all(isinstance(leaf, jax.Array) for leaf in tree.tree_leaves(again))
    testing.assert_equal(again.to(arrays="numpy"), make())
