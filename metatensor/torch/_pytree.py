"""Labels, blocks and maps as nodes of torch's pytrees.

The tensors of a map are its leaves; Labels, names and `info` are structure, which compares by value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from torch.utils import _pytree

from metatensor import _arrays, _trees
from metatensor._trees import BlockStructure, MapStructure
from metatensor.block import TensorBlock
from metatensor.io import pickling
from metatensor.labels import Labels
from metatensor.tensor import TensorMap

_Keyed = list[tuple[Any, Any]]


def register() -> None:
    """Tell torch what Labels, blocks and maps are made of; once is enough, twice does no harm."""
    for cls, functions in _NODES.items():
        if cls not in _pytree.SUPPORTED_NODES:
            _pytree.register_pytree_node(
                cls, serialized_type_name=f"metatensor.{cls.__name__}", **functions
            )


# ---- Labels


def _flatten_labels(labels: Labels) -> tuple[list[Any], Labels]:
    return [], labels


def _labels_of(parts: Iterable[Any], labels: Labels) -> Labels:
    return labels


def _labels_to_json(labels: Labels) -> dict[str, Any]:
    content: dict[str, Any] = {"names": labels.names, "rows": labels._table.tolist()}
    if _arrays.library(labels.values) != "numpy":
        content["arrays"] = [_arrays.library(labels.values), str(labels.device)]
    return content


def _labels_of_json(content: dict[str, Any]) -> Labels:
    names, place = tuple(content["names"]), content.get("arrays")
    table = np.array(content["rows"], dtype=np.int32).reshape(len(content["rows"]), len(names))
    return pickling.labels_of_table(names, table, None if place is None else tuple(place))


# ---- blocks


def _flatten_block_with_keys(block: TensorBlock) -> tuple[_Keyed, BlockStructure]:
    (values, *gradients), structure = _trees.block_parts(block)
    keyed = zip(map(_pytree.MappingKey, structure.gradients), gradients, strict=True)
    return [(_pytree.GetAttrKey("values"), values), *keyed], structure


def _block_of(parts: Iterable[Any], structure: BlockStructure) -> TensorBlock:
    return _trees.block_of(structure, parts)


def _block_to_json(structure: BlockStructure) -> dict[str, Any]:
    return {
        **structure._asdict(),
        "samples": _labels_to_json(structure.samples),
        "components": [_labels_to_json(labels) for labels in structure.components],
        "properties": _labels_to_json(structure.properties),
    }


def _block_of_json(content: dict[str, Any]) -> BlockStructure:
    return BlockStructure(
        _labels_of_json(content["samples"]),
        tuple(_labels_of_json(labels) for labels in content["components"]),
        _labels_of_json(content["properties"]),
        tuple(content["gradients"]),
        content["parameter"],
        content["frozen"],
    )


# ---- maps


def _flatten_map_with_keys(tensor: TensorMap) -> tuple[_Keyed, MapStructure]:
    blocks, structure = _trees.map_parts(tensor)
    return [(_pytree.SequenceKey(i), block) for i, block in enumerate(blocks)], structure


def _map_of(parts: Iterable[Any], structure: MapStructure) -> TensorMap:
    return _trees.map_of(structure, parts)


def _map_to_json(structure: MapStructure) -> dict[str, Any]:
    return {"keys": _labels_to_json(structure.keys), "info": dict(structure.info)}


def _map_of_json(content: dict[str, Any]) -> MapStructure:
    return MapStructure(_labels_of_json(content["keys"]), tuple(content["info"].items()))


_NODES: dict[type, dict[str, Any]] = {
    Labels: {
        "flatten_fn": _flatten_labels,
        "unflatten_fn": _labels_of,
        "flatten_with_keys_fn": _flatten_labels,
        "to_dumpable_context": _labels_to_json,
        "from_dumpable_context": _labels_of_json,
    },
    TensorBlock: {
        "flatten_fn": _trees.block_parts,
        "unflatten_fn": _block_of,
        "flatten_with_keys_fn": _flatten_block_with_keys,
        "to_dumpable_context": _block_to_json,
        "from_dumpable_context": _block_of_json,
    },
    TensorMap: {
        "flatten_fn": _trees.map_parts,
        "unflatten_fn": _map_of,
        "flatten_with_keys_fn": _flatten_map_with_keys,
        "to_dumpable_context": _map_to_json,
        "from_dumpable_context": _map_of_json,
    },
}

register()
