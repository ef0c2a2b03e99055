"""Blocks and maps taken apart into their arrays and all the rest, and put together again.

Libraries that transform functions of arrays (pytrees of torch and of jax) see the arrays as leaves
of a tree; Labels, names and `info` are its structure, which compares by value. While they work, any
object can stand where an array was.

What is put together is new: as a copy, a block takes further gradients unless it is in a map.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.tensor import TensorMap


class LabelsStructure(NamedTuple):
    """All there is: Labels have no arrays for the libraries."""

    labels: Labels

    def __repr__(self) -> str:
        return _text(self.labels)


class BlockStructure(NamedTuple):
    """All of a block but its values and its gradients, which are blocks."""

    samples: Labels
    components: tuple[Labels, ...]
    properties: Labels
    gradients: tuple[str, ...]

    def __repr__(self) -> str:
        components = ", ".join([_text(component) for component in self.components])
        return (
            f"samples={_text(self.samples)}, components=[{components}], "
            f"properties={_text(self.properties)}, gradients={list(self.gradients)}"
        )


class MapStructure(NamedTuple):
    """All of a map but its blocks."""

    keys: Labels
    info: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return f"keys={_text(self.keys)}, info={dict(self.info)}"


def labels_parts(labels: Labels) -> tuple[tuple[()], LabelsStructure]:
    """Return no parts, and the Labels."""
    return (), LabelsStructure(labels)


def labels_of(structure: LabelsStructure, _: Iterable[Any]) -> Labels:
    """Return the Labels of what :func:`labels_parts` returns."""
    return structure.labels


def block_parts(block: TensorBlock) -> tuple[list[Any], BlockStructure]:
    """Return the values followed by the gradients, which are blocks, and the rest."""
    structure = BlockStructure(
        block._samples, block._components, block._properties, tuple(block._gradients)
    )
    return [block._values, *block._gradients.values()], structure


def block_of(structure: BlockStructure, parts: Iterable[Any]) -> TensorBlock:
    """Make a block of what :func:`block_parts` returns; nothing is checked."""
    values, *gradients = parts
    return TensorBlock._of(
        values,
        structure.samples,
        structure.components,
        structure.properties,
        {
            name: _frozen(gradient, name)
            for name, gradient in zip(structure.gradients, gradients, strict=True)
        },
    )


def map_parts(tensor: TensorMap) -> tuple[list[TensorBlock], MapStructure]:
    """Return the blocks and the rest."""
    return list(tensor._blocks), MapStructure(tensor._keys, tuple(tensor._info.items()))


def map_of(structure: MapStructure, blocks: Iterable[Any]) -> TensorMap:
    """Make a map of what :func:`map_parts` returns; nothing is checked."""
    tensor = TensorMap.__new__(TensorMap)
    tensor._keys = structure.keys
    tensor._blocks = [_frozen(block) for block in blocks]
    tensor._info = dict(structure.info)
    return tensor


def _frozen(part: Any, parameter: str | None = None) -> Any:
    return part._freeze(parameter) if isinstance(part, TensorBlock) else part


def _text(labels: Labels) -> str:
    """Return Labels in short on one line, for errors of the libraries."""
    rows = [str(tuple(row)) for row in labels._table[:3].tolist()]
    if len(labels) > 3:
        rows += ["...", *[str(tuple(row)) for row in labels._table[-1:].tolist()]]
    return f"({', '.join(labels._names)}: {', '.join(rows)}; {len(labels)} entries)"


# ---- structure as lists, dicts, numbers and texts that JSON can hold


def plain_labels(labels: Labels) -> dict[str, Any]:
    """Return Labels in a form for JSON."""
    library = _arrays.library(labels.values)
    return {
        "names": list(labels._names),
        "shape": list(labels._table.shape),
        "table": base64.b64encode(labels._table.astype("<i4", copy=False).tobytes()).decode(),
        "place": None if library == "numpy" else [library, str(labels.device)],
    }


def labels_of_plain(plain: dict[str, Any]) -> Labels:
    """Make Labels of what :func:`plain_labels` returns; they are checked."""
    table = np.frombuffer(base64.b64decode(plain["table"]), dtype="<i4").reshape(plain["shape"])
    labels = Labels(plain["names"], table)
    if plain["place"] is None:
        return labels
    library, device = plain["place"]
    return labels.to(arrays=library, device=device)


def plain_block(structure: BlockStructure) -> dict[str, Any]:
    """Return the structure of a block in a form for JSON."""
    return {
        "samples": plain_labels(structure.samples),
        "components": [plain_labels(component) for component in structure.components],
        "properties": plain_labels(structure.properties),
        "gradients": list(structure.gradients),
    }


def block_of_plain(plain: dict[str, Any]) -> BlockStructure:
    """Make the structure of a block of what :func:`plain_block` returns."""
    return BlockStructure(
        labels_of_plain(plain["samples"]),
        tuple([labels_of_plain(component) for component in plain["components"]]),
        labels_of_plain(plain["properties"]),
        tuple(plain["gradients"]),
    )


def plain_map(structure: MapStructure) -> dict[str, Any]:
    """Return the structure of a map in a form for JSON."""
    return {"keys": plain_labels(structure.keys), "info": [list(item) for item in structure.info]}


def map_of_plain(plain: dict[str, Any]) -> MapStructure:
    """Make the structure of a map of what :func:`plain_map` returns."""
    return MapStructure(
        labels_of_plain(plain["keys"]), tuple([(name, text) for name, text in plain["info"]])
    )
