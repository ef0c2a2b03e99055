"""Blocks and maps as nodes of torch's pytrees.

The tensors of a map are its leaves; its Labels, names and `info` are structure, which compares by
value. Labels outside of a block or map are leaves, which is what compilers ask of constants; where
torch has no such constants they are nodes without leaves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.utils import _pytree

from metatensor import _trees
from metatensor._trees import BlockStructure, MapStructure
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.tensor import TensorMap

try:
    from metatensor.torch import _dynamo  # noqa: F401
except (ImportError, AttributeError):  # another torch, with other private names
    _LABELS_ARE_LEAVES = False
else:
    _LABELS_ARE_LEAVES = True

_Keyed = list[tuple[Any, Any]]


def register() -> None:
    """Tell torch what Labels, blocks and maps are made of; once is enough, twice does no harm."""
    for cls, functions in _NODES.items():
        is_leaf = cls is Labels and _LABELS_ARE_LEAVES
        if not is_leaf and cls not in _pytree.SUPPORTED_NODES:
            _pytree.register_pytree_node(
                cls, serialized_type_name=f"metatensor.{cls.__name__}", **functions
            )


# ---- Labels


def _flatten_labels(labels: Labels) -> tuple[list[Any], Labels]:
    return [], labels


def _labels_of(parts: Iterable[Any], labels: Labels) -> Labels:
    return labels


# ---- blocks


def _flatten_block_with_keys(block: TensorBlock) -> tuple[_Keyed, BlockStructure]:
    (values, *gradients), structure = _trees.block_parts(block)
    keys = [_pytree.MappingKey(name) for name in structure.gradients]  # type: ignore[var-annotated]
    keyed = zip(keys, gradients, strict=True)
    return [(_pytree.GetAttrKey("values"), values), *keyed], structure


def _block_of(parts: Iterable[Any], structure: BlockStructure) -> TensorBlock:
    return _trees.block_of(structure, parts)


# ---- maps


def _flatten_map_with_keys(tensor: TensorMap) -> tuple[_Keyed, MapStructure]:
    blocks, structure = _trees.map_parts(tensor)
    return [(_pytree.SequenceKey(i), block) for i, block in enumerate(blocks)], structure


def _map_of(parts: Iterable[Any], structure: MapStructure) -> TensorMap:
    return _trees.map_of(structure, parts)


_NODES: dict[type, dict[str, Any]] = {
    Labels: {
        "flatten_fn": _flatten_labels,
        "unflatten_fn": _labels_of,
        "flatten_with_keys_fn": _flatten_labels,
        "to_dumpable_context": _trees.plain_labels,
        "from_dumpable_context": _trees.labels_of_plain,
    },
    TensorBlock: {
        "flatten_fn": _trees.block_parts,
        "unflatten_fn": _block_of,
        "flatten_with_keys_fn": _flatten_block_with_keys,
        "to_dumpable_context": _trees.plain_block,
        "from_dumpable_context": _trees.block_of_plain,
    },
    TensorMap: {
        "flatten_fn": _trees.map_parts,
        "unflatten_fn": _map_of,
        "flatten_with_keys_fn": _flatten_map_with_keys,
        "to_dumpable_context": _trees.plain_map,
        "from_dumpable_context": _trees.map_of_plain,
    },
}

register()
