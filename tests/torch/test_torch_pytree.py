"""Labels, blocks and maps as trees of torch."""

import importlib
import json

import numpy as np
import pytest
import torch

import metatensor.torch
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.torch import _pytree as registration

pytree = torch.utils._pytree


def _block(rows=3, gradients=True, seed=0):
    rng = np.random.default_rng(seed)
    samples = Labels(
        ["system", "atom"], np.array([[i // 2, i] for i in range(rows)]).reshape(-1, 2)
    )
    properties = Labels.range("n", 2)
    block = TensorBlock(torch.tensor(rng.normal(size=(rows, 2))), samples, [], properties)
    if gradients:
        derivative = TensorBlock(
            torch.tensor(rng.normal(size=(rows, 3, 2))),
            Labels(["sample", "atom"], np.array([[i, i] for i in range(rows)]).reshape(-1, 2)),
            [Labels.range("xyz", 3)],
            properties,
        )
        derivative.add_gradient(
            "cell",
            TensorBlock(
                torch.tensor(rng.normal(size=(rows, 3, 2))),
                Labels.range("sample", rows),
                [Labels.range("xyz", 3)],
                properties,
            ),
        )
        block.add_gradient("positions", derivative)
    return block


def _map(sizes=(3, 2), gradients=True):
    keys = Labels(["type"], np.arange(len(sizes)).reshape(-1, 1))
    blocks = [_block(rows, gradients, seed) for seed, rows in enumerate(sizes)]
    tensor = TensorMap(keys, blocks)
    tensor.set_info("source", "made up: é")
    return tensor


TREES = {
    "map": _map,
    "map without gradients": lambda: _map(gradients=False),
    "map without blocks": lambda: TensorMap(Labels.empty(["a", "b"]), []),
    "map with blocks without rows": lambda: _map((0, 1, 0)),
    "block": _block,
    "gradient in a block": lambda: _block().gradient("positions"),
    "labels": lambda: Labels.range("atom", 3),
    "labels without entries": lambda: Labels.empty(["a", "b"]),
    "labels without dimensions": lambda: Labels([], np.zeros((1, 0), dtype=np.int32)),
    "labels that show tensors": lambda: Labels(["a"], torch.arange(3).reshape(-1, 1)),
    "nested": lambda: {"a": _map(), "b": [Labels.single(), (_block(), 3.0)], "c": None},
}


@pytest.mark.parametrize("name", TREES)
def test_trees_are_put_together_again(name):
    tree = TREES[name]()
    leaves, structure = pytree.tree_flatten(tree)
    assert all(isinstance(leaf, (torch.Tensor, Labels, float, type(None))) for leaf in leaves)
    assert pytree.tree_unflatten(leaves, structure) == tree
    assert pytree.tree_flatten(TREES[name]())[1] == structure


@pytest.mark.parametrize("name", TREES)
def test_structures_are_json(name):
    tree = TREES[name]()
    leaves, structure = pytree.tree_flatten(tree)
    text = pytree.treespec_dumps(structure)
    json.loads(text)
    loaded = pytree.treespec_loads(text)
    assert loaded == structure
    assert pytree.tree_unflatten(leaves, loaded) == tree


def test_info_frozenness_and_libraries_are_kept():
    tensor = _map().to(arrays="torch")
    leaves, structure = pytree.tree_flatten(tensor)
    for spec in (structure, pytree.treespec_loads(pytree.treespec_dumps(structure))):
        found = pytree.tree_unflatten(leaves, spec)
        assert found.info() == tensor.info()
        assert isinstance(found.keys.values, torch.Tensor)
        assert found.block(0).is_view
        assert repr(found.block(0).gradient("positions")) == repr(
            tensor.block(0).gradient("positions")
        )


def test_paths_name_gradients():
    paths = [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path({"x": _map((1,))})[0]]
    assert paths == [
        "['x'][0].values",
        "['x'][0]['positions'].values",
        "['x'][0]['positions']['cell'].values",
    ]


def test_any_object_can_be_a_leaf():
    tensor = _map()
    names = pytree.tree_map(lambda leaf: tuple(leaf.shape), tensor)
    assert names.block(0).values == (3, 2)
    assert pytree.tree_map(lambda leaf: None, tensor).block(1).values is None


def test_structures_differ_by_labels():
    one, other = pytree.tree_structure(_map((3, 2))), pytree.tree_structure(_map((3, 1)))
    assert one != other
    with pytest.raises(ValueError, match="context"):
        pytree.tree_map(torch.add, _map((3, 2)), _map((3, 1)))


def test_registration_happens_once():
    before = dict(pytree.SUPPORTED_NODES)
    registration.register()
    importlib.reload(registration)
    assert {cls: pytree.SUPPORTED_NODES[cls] for cls in before} == before
    assert metatensor.torch
