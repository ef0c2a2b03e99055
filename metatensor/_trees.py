"""Blocks and maps taken apart into their arrays and all the rest, and put together again.

Libraries that transform functions of arrays (pytrees of torch and of jax) see the arrays as leaves
of a tree; Labels, names and `info` are its structure, which compares by value. While they work, any
object can stand where an array was.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.tensor import TensorMap


class BlockStructure(NamedTuple):
    """All of a block but its values and the values of its gradients."""

    samples: Labels
    components: tuple[Labels, ...]
    properties: Labels
    gradients: tuple[str, ...]
    parameter: str | None
    frozen: bool


class MapStructure(NamedTuple):
    """All of a map but its blocks."""

    keys: Labels
    info: tuple[tuple[str, str], ...]


def block_parts(block: TensorBlock) -> tuple[list[Any], BlockStructure]:
    """Return the values followed by the gradients, which are blocks, and the rest."""
    structure = BlockStructure(
        block._samples,
        block._components,
        block._properties,
        tuple(block._gradients),
        block._parameter,
        block._frozen,
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
        dict(zip(structure.gradients, gradients, strict=True)),
        structure.parameter,
        structure.frozen,
    )


def map_parts(tensor: TensorMap) -> tuple[list[TensorBlock], MapStructure]:
    """Return the blocks and the rest."""
    return list(tensor._blocks), MapStructure(tensor._keys, tuple(tensor._info.items()))


def map_of(structure: MapStructure, blocks: Iterable[Any]) -> TensorMap:
    """Make a map of what :func:`map_parts` returns; nothing is checked."""
    tensor = TensorMap.__new__(TensorMap)
    tensor._keys = structure.keys
    tensor._blocks = list(blocks)
    tensor._info = dict(structure.info)
    return tensor
