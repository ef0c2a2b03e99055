"""Maps as trees: what is a leaf, what is structure, and what reads well."""

import importlib
import subprocess
import sys

import numpy as np
import pytest

import metatensor
from metatensor import Labels, TensorBlock, TensorMap, testing

jax = pytest.importorskip("jax")
importlib.import_module("metatensor.jax")

tree = jax.tree_util


def arrays_of(block):
    """Return the values of a block, then those of its gradients."""
    found = [block.values]
    for _, gradient in block.gradients():
        found += arrays_of(gradient)
    return found


def test_leaves_are_the_arrays_themselves(any_tensor):
    leaves = tree.tree_leaves(any_tensor)
    expected = [array for block in any_tensor for array in arrays_of(block)]
    assert [id(leaf) for leaf in leaves] == [id(array) for array in expected]


def test_there_and_back(any_tensor):
    leaves, structure = tree.tree_flatten(any_tensor)
    again = tree.tree_unflatten(structure, leaves)
    testing.assert_equal(again, any_tensor)
    assert again.info() == any_tensor.info()
    assert all(block.is_view for block in again)
    assert repr(again) == repr(any_tensor)
    for block, other in zip(again, any_tensor, strict=True):
        assert repr(block.gradient("positions")) == repr(other.gradient("positions"))


def test_the_original_stays(make):
    tensor = make()
    again = tree.tree_map(lambda array: array, tensor)
    again.set_info("unit", "kJ/mol")
    assert tensor.get_info("unit") == "eV"


def test_a_block_is_new_and_takes_gradients(make):
    """Like a copy, whether it comes from a map or not: both have the same structure."""
    block = make().block(0)
    assert tree.tree_structure(block) == tree.tree_structure(block.copy())
    again = tree.tree_map(lambda array: array, block)
    again.add_gradient("again", block.gradient("positions"))
    assert again.gradients_list() == ["positions", "again"]
    assert block.gradients_list() == ["positions"]


def test_blocks_can_be_leaves(make):
    tensor = make()
    only_values = tree.tree_map(
        lambda block: TensorBlock(block.values, block.samples, block.components, block.properties),
        tensor,
        is_leaf=lambda part: isinstance(part, TensorBlock),
    )
    assert only_values.block(0).values is tensor.block(0).values
    assert only_values.block(0).gradients_list() == []
    shapes = tree.tree_map(
        lambda block: block.shape, tensor, is_leaf=lambda part: isinstance(part, TensorBlock)
    )
    assert [*shapes] == [(5, 3, 2), (3, 3, 2)]


@pytest.mark.parametrize("leaf", [None, object(), 0, "text"], ids=str)
def test_anything_can_be_a_leaf(tensor, leaf):
    replaced = tree.tree_map(lambda _: leaf, tensor)
    for block, other in zip(replaced, tensor, strict=True):
        assert arrays_of(block) == [leaf] * len(arrays_of(other))
        assert block.samples is other.samples
    if len(tensor):
        text = f"=> TensorBlock with {type(leaf).__name__} in place of values"
        assert text in repr(replaced)
        assert type(leaf).__name__ in replaced._repr_html_()
        assert f"TensorBlock with {type(leaf).__name__}" in str(replaced.block(0))


def test_anything_can_stand_for_a_block(make):
    replaced = tree.tree_map(len, make(), is_leaf=lambda part: isinstance(part, TensorBlock))
    assert [*replaced] == [5, 3]
    assert "=> TensorBlock with int in place of values" in repr(replaced)
    assert "with int" in replaced._repr_html_()


def test_labels_have_no_leaves(make):
    labels = make().block(0).samples
    assert tree.tree_leaves(labels) == []
    assert tree.tree_map(None, labels) is labels
    assert jax.jit(lambda labels: labels)(labels) == labels


CHANGES = {
    "keys": lambda t: with_info(TensorMap(t.keys.rename("o3_lambda", "l"), [*t]), "eV"),
    "samples": lambda t: metatensor.append_dimension(t, "samples", "x", 0),
    "components": lambda t: t.components_to_properties("m"),
    "properties": lambda t: metatensor.rename_dimension(t, "properties", "n", "p"),
    "gradients": lambda t: metatensor.remove_gradients(t),
    "info": lambda t: with_info(t, "Ry"),
}


def with_info(tensor, unit):
    new = tensor.copy(deep=False)
    new.set_info("unit", unit)
    return new


@pytest.mark.parametrize("change", CHANGES)
def test_structure_compares_by_value(make, change):
    structure = tree.tree_structure(make((5,)))
    other = tree.tree_structure(make((5,), seed=1))
    assert structure == other
    assert hash(structure) == hash(other)
    new = CHANGES[change](make((5,)))
    assert tree.tree_structure(new) != structure
    with pytest.raises(ValueError, match="structure|Mismatch"):
        tree.tree_map(lambda one, two: one + two, make((5,)), new)


def test_key_paths_are_what_a_user_writes(make):
    tensor = make(nested=True)
    for path, leaf in tree.tree_leaves_with_path(tensor):
        assert eval(f"tensor{tree.keystr(path)}") is leaf
    paths = [tree.keystr(path) for path, _ in tree.tree_leaves_with_path(tensor)]
    assert paths[:3] == [
        ".block(o3_lambda=1, center_type=6).values",
        ".block(o3_lambda=1, center_type=6).gradient('positions').values",
        ".block(o3_lambda=1, center_type=6).gradient('positions').gradient('cell').values",
    ]
    path, _ = tree.tree_leaves_with_path({"weights": tensor})[0]
    simple = tree.keystr(path, simple=True, separator="/")
    assert simple == "weights/block(o3_lambda=1, center_type=6)/values"


def test_errors_say_which_block(make):
    tensor = make()
    text = tree.tree_map(lambda _: "text", tensor.block(1))
    with pytest.raises(TypeError, match=r"block\(o3_lambda=1, center_type=1\)\.values"):
        jax.jit(lambda t: t)(
            tree.tree_map(
                lambda block: text if block is tensor.block(1) else block,
                tensor,
                is_leaf=lambda part: isinstance(part, TensorBlock),
            )
        )


def test_structure_in_short():
    """Errors print it: not all rows of a large map."""
    block = TensorBlock(
        np.zeros((10_000, 1)), Labels.range("atom", 10_000), [], Labels.range("n", 1)
    )
    text = repr(tree.tree_structure((TensorMap(Labels.single(), [block]), block.samples)))
    assert "(atom: (0,), (1,), (2,), ..., (9999,); 10000 entries)" in text
    assert len(text) < 500


def test_registered_once():
    code = """
import sys
import metatensor.jax
import importlib, jax
importlib.reload(metatensor.jax)
del sys.modules["metatensor.jax"]
import metatensor.jax
import metatensor
from metatensor import Labels
print(jax.tree_util.tree_leaves(Labels.single()))
"""
    run = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert run.stdout.strip() == "[]", run.stderr


def test_a_missing_jax():
    code = """
import sys
sys.modules["jax"] = None
try:
    import metatensor.jax
except ModuleNotFoundError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert "`metatensor.jax` requires jax" in run.stdout
