"""Functions of maps that jax transforms: outcomes against numpy, and against formulas."""

import functools
import importlib
import os
import subprocess
import sys

import numpy as np
import pytest

import metatensor
from metatensor import Labels, TensorBlock, TensorMap, testing

jax = pytest.importorskip("jax")
importlib.import_module("metatensor.jax")

jnp, tree, lax = jax.numpy, jax.tree_util, jax.lax
flatten_util = importlib.import_module("jax.flatten_util")


def squares_of_systems(tensor):
    """Sum squares of atoms: the gradients follow, by a chain rule."""
    squares = metatensor.multiply(tensor, tensor) if has_no_nested(tensor) else tensor * 2
    return metatensor.sum_over_samples(squares, "atom")


def has_no_nested(tensor):
    return all(
        not gradient.gradients_list() for block in tensor for _, gradient in block.gradients()
    )


def norm(tensor):
    """Sum squares of all numbers, those of the gradients too; real for complex numbers."""
    return sum((jnp.sum(jnp.abs(array) ** 2) for array in tree.tree_leaves(tensor)), jnp.zeros(()))


def like_numpy(result, expected):
    """Compare maps of arrays of jax with those of numpy, `info` included."""
    tolerance = 1e-6 if any(leaf.dtype == np.float32 for leaf in tree.tree_leaves(expected)) else 0
    testing.assert_allclose(
        result.to(arrays="numpy"), expected, rtol=tolerance or 1e-12, atol=tolerance or 1e-12
    )
    assert result.info() == expected.info()


def stacked(tensors):
    return tree.tree_map(lambda *arrays: np.stack(arrays), *tensors)


def unstacked(tensor, number):
    return tree.tree_map(lambda array: np.asarray(array)[number], tensor)


# ---- the transformations, one by one


def test_jit(any_tensor):
    result = jax.jit(squares_of_systems)(any_tensor)
    assert all(isinstance(leaf, jax.Array) for leaf in tree.tree_leaves(result))
    like_numpy(result, squares_of_systems(any_tensor))


@pytest.mark.parametrize(
    "function",
    [
        lambda t: t.keys_to_samples("center_type"),
        lambda t: t.keys_to_properties(["o3_lambda", "center_type"]),
        lambda t: t.components_to_properties("m"),
    ],
)
def test_jit_of_methods(make, function):
    like_numpy(jax.jit(function)(make()), function(make()))


def test_numbers_that_are_traced(make):
    tensor = make()
    like_numpy(jax.jit(lambda t, number: number * t)(tensor, 2.0), 2.0 * tensor)
    moved = tensor.to(arrays="jax")
    derivative = jax.grad(lambda number: norm(number * moved))(3.0)
    np.testing.assert_allclose(derivative, 6.0 * norm(moved), rtol=1e-12)
    with pytest.raises(TypeError, match="can only be combined with values of jax, .* of numpy"):
        jax.jit(lambda number: number * tensor)(2.0)


def test_functions_on_the_host(make):
    """Numbers are known in callbacks."""

    def on_the_host(tensor):
        return tensor.to(arrays="numpy") * 2

    @jax.jit
    def function(tensor):
        return jax.pure_callback(on_the_host, jax.eval_shape(lambda t: t, tensor), tensor) * 3

    like_numpy(function(make()), make() * 6)


def test_jit_of_blocks(make):
    block = make().block(0)
    result = jax.jit(lambda block: metatensor.sum_over_samples(block, "atom"))(block)
    expected = metatensor.sum_over_samples(block, "atom")
    testing.assert_allclose(result.to(arrays="numpy"), expected, rtol=1e-12)


def test_grad(tensor):
    result = jax.jit(jax.grad(norm))(tensor)
    like_numpy(result, tree.tree_map(lambda array: 2 * array, tensor))


def test_value_and_grad(tensor):
    value, gradient = jax.jit(jax.value_and_grad(norm))(tensor)
    expected = sum((array**2).sum() for array in tree.tree_leaves(tensor))
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    like_numpy(gradient, tree.tree_map(lambda array: 2 * array, tensor))


def test_grad_of_complex_numbers(make):
    tensor = make(dtype=np.complex128)
    result = jax.grad(norm)(tensor.to(arrays="jax"))
    like_numpy(result, tree.tree_map(lambda array: 2 * array.conj(), tensor))


def test_grad_refuses_integers(make):
    with pytest.raises(TypeError, match="int64"):
        jax.grad(norm)(make(dtype=np.int64).to(arrays="jax"))


def test_grad_of_grad(tensor):
    """The gradient of a square norm of a gradient is that of four times the square norm."""
    tensor = tensor.to(arrays="jax")
    result = jax.jit(jax.grad(lambda t: norm(jax.grad(norm)(t))))(tensor)
    like_numpy(result, tree.tree_map(lambda array: 8 * np.asarray(array), tensor))


def test_jvp_and_vjp(make):
    one, two = make().to(arrays="jax"), make(seed=1).to(arrays="jax")
    result, tangent = jax.jvp(lambda t: t * 3, (one,), (two,))
    like_numpy(result, make() * 3)
    like_numpy(tangent, make(seed=1) * 3)
    _, pull = jax.vjp(lambda t: t * 3, one)
    like_numpy(*pull(two), make(seed=1) * 3)


@pytest.mark.parametrize("transformation", ["jacfwd", "jacrev"])
def test_jacobians_are_maps_of_maps(make, transformation):
    tensor = make((1, 0), nested=True).to(arrays="jax")
    function = getattr(jax, transformation)(lambda t: tree.tree_map(jnp.sin, t))
    jacobian = jax.jit(function)(tensor)
    paths = tree.tree_leaves_with_path(tensor)
    found = dict(tree.tree_leaves_with_path(jacobian))
    assert len(found) == len(paths) ** 2
    for row, array in paths:
        for column, other in paths:
            expected = np.zeros((array.size, other.size))
            if row == column:
                np.fill_diagonal(expected, np.cos(np.asarray(array)).ravel())
            derivative = np.asarray(found[row + column]).reshape(expected.shape)
            np.testing.assert_allclose(derivative, expected, atol=1e-14)


def test_jacobian_of_an_operation(make):
    """Sums over atoms have derivatives of 0 and 1."""
    tensor = metatensor.remove_gradients(make((4,)))
    jacobian = jax.jacrev(lambda t: metatensor.sum_over_samples(t, "atom"))(tensor.to(arrays="jax"))
    systems = tensor.block(0).samples["system"]
    expected = np.einsum(
        "si,mn,pq->smpinq", np.unique(systems)[:, None] == systems, np.eye(3), np.eye(2)
    )
    np.testing.assert_array_equal(jacobian.block(0).values.block(0).values, expected)


def test_vmap(make):
    maps = [make(seed=seed) for seed in range(3)]
    result = jax.jit(jax.vmap(squares_of_systems))(stacked(maps))
    assert result.block(0).values.shape == (3, *squares_of_systems(maps[0]).block(0).shape)
    for number, each in enumerate(maps):
        like_numpy(unstacked(result, number), squares_of_systems(each))


def test_vmap_over_one_argument(make):
    maps, other = [make(seed=seed) for seed in range(2)], make(seed=7)
    multiply = jax.vmap(metatensor.multiply, in_axes=(0, None))
    with pytest.raises(TypeError, match=r"jax.BatchTracer, numpy.ndarray; use `.to\(arrays="):
        multiply(stacked(maps), other)
    result = multiply(stacked(maps), other.to(arrays="jax"))
    for number, each in enumerate(maps):
        like_numpy(unstacked(result, number), metatensor.multiply(each, other))


def test_vmap_over_some_blocks(make):
    """A map of axes says for each block which one it is."""
    one, two = make(), make(seed=1)
    first = one.block(0)

    def is_block(part):
        return isinstance(part, TensorBlock)

    mixed = tree.tree_map(
        lambda block, other: stacked([block, other]) if block is first else block,
        *(one, two),
        is_leaf=is_block,
    )
    axes = tree.tree_map(lambda block: 0 if block is first else None, one, is_leaf=is_block)
    result = jax.vmap(lambda t: t * 2, in_axes=(axes,), out_axes=axes)(mixed)
    for number, each in enumerate((one, two)):
        found = unstacked(result.block(0), number).to(arrays="numpy")
        testing.assert_allclose(found, (each * 2).block(0), rtol=1e-12)
    testing.assert_allclose(result.block(1).to(arrays="numpy"), (one * 2).block(1), rtol=1e-12)


def test_grad_of_vmap(make):
    maps = [make(seed=seed) for seed in range(3)]
    result = jax.jit(jax.grad(lambda t: jnp.sum(jax.vmap(norm)(t))))(stacked(maps))
    for number, each in enumerate(maps):
        like_numpy(unstacked(result, number), each * 2)


def test_scan(make):
    """A map is carried along, maps come in one by one, and maps come out."""
    maps = [make(seed=seed) for seed in range(4)]

    def step(total, each):
        total = metatensor.add(total, each)
        return total, squares_of_systems(total)

    start = metatensor.zeros_like(maps[0].to(arrays="jax"))
    total, out = jax.jit(lambda start, xs: lax.scan(step, start, xs))(start, stacked(maps))
    expected = metatensor.zeros_like(maps[0])
    for number, each in enumerate(maps):
        expected = metatensor.add(expected, each)
        like_numpy(unstacked(out, number), squares_of_systems(expected))
    like_numpy(total, expected)


def test_loops(make):
    tensor = make()
    result = lax.fori_loop(0, 3, lambda _, t: t * 2, tensor.to(arrays="jax"))
    like_numpy(result, tensor * 8)
    result, _ = lax.while_loop(
        lambda state: state[1] < 3,
        lambda state: (state[0] * 2, state[1] + 1),
        (tensor.to(arrays="jax"), 0),
    )
    like_numpy(result, tensor * 8)


@pytest.mark.parametrize("condition", [True, False])
def test_cond(make, condition):
    tensor = make()
    result = jax.jit(lambda c, t: lax.cond(c, lambda t: t * 2, lambda t: t * 3, t))(
        condition, tensor
    )
    like_numpy(result, tensor * (2 if condition else 3))


def test_branches_give_blocks_of_any_origin(make):
    """Of a map, or not of one: blocks with the same contents have the same structure."""

    def function(condition, tensor):
        return lax.cond(condition, lambda t: t.block(0), lambda t: t.block(0).copy() * 2, tensor)

    tensor = make()
    for condition, factor in [(True, 1), (False, 2)]:
        result = jax.jit(function)(condition, tensor)
        expected = (tensor * factor).block(0)
        testing.assert_allclose(result.to(arrays="numpy"), expected, rtol=1e-12)
        assert not result.is_view


def test_eval_shape(any_tensor):
    result = jax.eval_shape(squares_of_systems, any_tensor)
    expected = squares_of_systems(any_tensor)
    for block, other in zip(result, expected, strict=True):
        assert repr(block) == repr(other)
        assert block.dtype == other.dtype
        assert block.gradient("positions").shape == other.gradient("positions").shape


def test_checkpoint(make):
    tensor = make().to(arrays="jax")

    def loss(tensor):
        return norm(squares_of_systems(tensor))

    expected = jax.jit(jax.grad(loss))(tensor).to(arrays="numpy")
    like_numpy(jax.jit(jax.grad(jax.checkpoint(loss)))(tensor), expected)


def test_gradients_through_the_chain_rule(make):
    """Derivatives of stored gradients with respect to values, against finite differences."""
    test_util = pytest.importorskip("jax.test_util")
    tensor = make((3,)).to(arrays="jax")
    test_util.check_grads(
        jax.jit(lambda t: norm(squares_of_systems(t))), (tensor,), order=2, modes=["rev"], rtol=1e-4
    )


def test_custom_rules_of_users(make):
    @jax.custom_vjp
    def clipped(tensor):
        return tensor

    clipped.defvjp(
        lambda t: (t, None),
        lambda _, cotangent: (tree.tree_map(lambda array: jnp.clip(array, -1, 1), cotangent),),
    )
    tensor = make().to(arrays="jax")
    result = jax.grad(lambda t: norm(clipped(t)))(tensor)
    expected = tree.tree_map(lambda array: np.clip(2 * np.asarray(array), -1, 1), tensor)
    like_numpy(result, expected)


def test_maps_in_other_trees(make):
    weights = {"maps": [make().to(arrays="jax")], "bias": jnp.asarray(1.5)}
    result = jax.grad(lambda w: norm(w))(weights)
    like_numpy(result["maps"][0], make() * 2)
    assert result["bias"] == 3.0


def test_functions_of_jax_that_take_trees(make):
    tensor = make()
    like_numpy(jax.device_put(tensor), tensor)
    like_numpy(jax.block_until_ready(jax.device_put(tensor)), tensor)
    host = jax.device_get(jax.device_put(tensor))
    assert all(type(leaf) is np.ndarray for leaf in tree.tree_leaves(host))
    flat, unravel = flatten_util.ravel_pytree(tensor)
    assert flat.shape == (sum(leaf.size for leaf in tree.tree_leaves(tensor)),)
    like_numpy(unravel(2 * flat), tensor * 2)


# ---- when functions are traced


class Counted:
    """A function that counts how often jax traces it."""

    def __init__(self, function):
        self.traces = 0
        self.function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args):
        self.traces += 1
        return self.function(*args)


def rebuilt(labels):
    return Labels(labels.names, np.array(labels.values))


def test_traces(make):
    counted = Counted(squares_of_systems)
    jitted = jax.jit(counted)
    tensor = make()
    for same in (tensor, make(seed=1), tensor.copy(), tensor.to(arrays="jax")):
        jitted(same)
    assert counted.traces == 1
    equal = tensor.block(0)._map(None, rebuilt)
    jitted(metatensor.TensorMap(rebuilt(tensor.keys), [equal, tensor.block(1)]))
    assert counted.traces == 2  # without the `info`
    equal = [block._map(None, rebuilt) for block in tensor]
    again = TensorMap(rebuilt(tensor.keys), equal)
    again.set_info("unit", "eV")
    jitted(again)
    assert counted.traces == 2
    like_numpy(jitted(make((5, 2))), squares_of_systems(make((5, 2))))
    assert counted.traces == 3
    jitted(make(dtype=np.float32))
    assert counted.traces == 4


# ---- files of functions

PROGRAM = """
import sys
import jax, metatensor.jax
from metatensor import load, save
with open("function.bin", "rb") as file:
    function = jax.export.deserialize(file.read())
save("result.mts", function.call(load("tensor.mts").to(arrays="jax")).to(arrays="numpy"))
"""


@pytest.mark.parametrize("vjp_order", [0, 1])
def test_export_to_another_process(make, tmp_path, vjp_order):
    pytest.importorskip("flatbuffers")
    tensor = make()
    exported = jax.export.export(jax.jit(squares_of_systems))(tensor.to(arrays="jax"))
    (tmp_path / "function.bin").write_bytes(exported.serialize(vjp_order=vjp_order))
    metatensor.save(tmp_path / "tensor.mts", tensor)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    result = metatensor.load(tmp_path / "result.mts")
    testing.assert_allclose(result, squares_of_systems(tensor), rtol=1e-12)
    assert result.get_info("unit") == "eV"


def test_structure_in_files(any_tensor):
    pytest.importorskip("flatbuffers")

    def parts(tensor):
        first = [tensor.block(0)] if len(tensor) else []
        return tensor * 2, [block * 2 for block in first], tensor.keys

    moved = any_tensor.to(arrays="jax")
    exported = jax.export.export(jax.jit(parts))(moved)
    again = jax.export.deserialize(exported.serialize())
    assert again.in_tree == exported.in_tree
    assert again.out_tree == exported.out_tree
    result, blocks, keys = again.call(moved)
    like_numpy(result, any_tensor * 2)
    assert keys == any_tensor.keys
    assert len(blocks) == min(1, len(any_tensor))


def test_exported_functions_refuse_other_labels(make):
    exported = jax.export.export(jax.jit(squares_of_systems))(make().to(arrays="jax"))
    with pytest.raises(ValueError, match=r"block\(o3_lambda=1, center_type=6\)"):
        exported.call(make((4, 3)).to(arrays="jax"))


# ---- arrays that are traced, or in pieces, next to those that are not


def with_parts_of(known, values, gradient):
    """Make a map of new blocks, the second of which stays as it is."""
    old = known.gradient("positions")
    block = TensorBlock(values, known.samples, known.components, known.properties)
    block.add_gradient(
        "positions", TensorBlock(gradient, old.samples, old.components, old.properties)
    )
    return TensorMap(Labels.range("key", 2), [block, known])


@pytest.mark.parametrize("traced", ["values", "gradient"])
def test_blocks_of_arrays_of_which_one_is_traced(make, traced):
    known = make((3,)).block().to(arrays="jax")
    given = {"values": known.values, "gradient": known.gradient("positions").values}

    def doubled(array):
        parts = {name: 1.0 * one for name, one in given.items()}
        return with_parts_of(known, **{**parts, traced: 2 * array}).keys_to_samples("key")

    expected = doubled(given[traced])
    testing.assert_allclose(jax.jit(doubled)(given[traced]), expected, rtol=1e-14)


SHARDED = """
import jax, metatensor.jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from metatensor import Labels, TensorBlock, multiply
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("device",))
one = Labels.single()
def put(array, *axes):
    return jax.device_put(np.float32(array), NamedSharding(mesh, PartitionSpec(*axes)))
block = TensorBlock(put([[1], [2]], "device"), Labels.range("s", 2), [], one)
block.add_gradient("x", TensorBlock(put([[3]]), Labels.range("sample", 1), [], one))
result = multiply(block, block)
assert len(result.values.addressable_shards) == 2
print(result.values.sharding.spec, result.values.tolist(), result.gradient("x").values.tolist())
wrong = TensorBlock(jax.device_put(block.values, jax.devices()[0]), block.samples, [], one)
try:
    wrong.add_gradient("x", block.gradient("x"))
except ValueError as error:
    print("must have the device of its block" in str(error))
"""


def test_arrays_on_several_devices():
    """How gradients are divided need not be how values are."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", SHARDED],
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    spec = jax.sharding.PartitionSpec("device")
    assert run.stdout.splitlines() == [f"{spec} [[1.0], [4.0]] [[6.0]]", "True"]
