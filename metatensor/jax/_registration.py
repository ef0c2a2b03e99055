"""Labels, blocks and maps as pytrees of jax."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import Any

from jax import export, tree_util

from metatensor import _trees
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.tensor import TensorMap


class Step(tree_util.GetAttrKey):  # type: ignore[misc]
    """What leads to a part of a tree, as a user writes it after a dot."""

    @property
    def key(self) -> str:
        """The text, under the name that errors of jax look for."""
        return str(self.name)


#: parts of a tree, each with what leads to it
_Keyed = Iterable[tuple[Step, Any]]


@functools.cache
def register() -> None:
    """Tell jax how to take Labels, blocks and maps apart, once."""
    tree_util.register_pytree_with_keys(
        Labels, _trees.labels_parts, _trees.labels_of, _trees.labels_parts
    )
    tree_util.register_pytree_with_keys(
        TensorBlock, _keyed_block, _trees.block_of, _trees.block_parts
    )
    tree_util.register_pytree_with_keys(TensorMap, _keyed_map, _trees.map_of, _trees.map_parts)
    for kind, plain, of_plain in (
        (Labels, _plain_labels, _labels_of_plain),
        (TensorBlock, _trees.plain_block, _trees.block_of_plain),
        (TensorMap, _trees.plain_map, _trees.map_of_plain),
    ):
        export.register_pytree_node_serialization(
            kind,
            serialized_name=f"metatensor.{kind.__name__}",
            serialize_auxdata=functools.partial(_to_bytes, plain),
            deserialize_auxdata=functools.partial(_of_bytes, of_plain),
        )


def _keyed_block(block: TensorBlock) -> tuple[_Keyed, _trees.BlockStructure]:
    parts, structure = _trees.block_parts(block)
    names = ["values", *[f"gradient({name!r})" for name in structure.gradients]]
    return _keyed(names, parts), structure


def _keyed_map(tensor: TensorMap) -> tuple[_Keyed, _trees.MapStructure]:
    parts, structure = _trees.map_parts(tensor)
    return _keyed([f"block{key.print()}" for key in structure.keys], parts), structure


def _keyed(names: list[str], parts: list[Any]) -> _Keyed:
    return [(Step(name), part) for name, part in zip(names, parts, strict=True)]


def _plain_labels(structure: _trees.LabelsStructure) -> dict[str, Any]:
    return _trees.plain_labels(structure.labels)


def _labels_of_plain(plain: dict[str, Any]) -> _trees.LabelsStructure:
    return _trees.LabelsStructure(_trees.labels_of_plain(plain))


def _to_bytes(plain: Any, structure: Any) -> bytes:
    return json.dumps(plain(structure)).encode()


def _of_bytes(of_plain: Any, content: bytes) -> Any:
    return of_plain(json.loads(content))
