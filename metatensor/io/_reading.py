"""From the members of files to Labels, blocks and maps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from metatensor import _arrays, _checks
from metatensor._core import npy
from metatensor._core.zip_reader import ArchiveReader
from metatensor.block import TensorBlock
from metatensor.io._files import Source
from metatensor.io._writing import MAX_NESTING
from metatensor.labels import Labels
from metatensor.tensor import TensorMap

_HEAD = 4096

#: how values come into memory: from an archive and the name of a member
Values = Callable[[ArchiveReader, str], _arrays.Array]


def read_map(archive: ArchiveReader, values: Values) -> TensorMap:
    """Read a map."""
    keys = archive.table("keys.npy", Labels)
    gradients = _gradients(archive)
    blocks = [_block(archive, f"blocks/{position}/", gradients, values) for position in range(len(keys))]
    tensor = TensorMap(keys, blocks)
    if "info.json" in archive:
        for key, text in _info(archive.content("info.json")):
            tensor.set_info(key, text)
    return tensor


def read_block(archive: ArchiveReader, values: Values) -> TensorBlock:
    """Read a block."""
    return _block(archive, "", _gradients(archive), values)


def read_labels(source: Source) -> Labels:
    """Read Labels from their own kind of file."""
    head = source.read(0, min(source.size, _HEAD))
    length = npy.header_length(head)
    if length > len(head):
        head = source.read(0, length)
    names, shape, swapped = npy.read_table_header(head[:length], source.size - length)
    table = np.empty(shape, dtype=np.int32)
    source.copy(length, table)
    if swapped:
        table.byteswap(inplace=True)
    table.flags.writeable = False
    return Labels(names, table)


def _block(
    archive: ArchiveReader,
    prefix: str,
    gradients: dict[str, list[str]],
    values: Values,
    properties: Labels | None = None,
) -> TensorBlock:
    """Read a block; its Labels before its values, so that these are not made larger than it needs."""
    shape = archive.shape(prefix + "values.npy")
    samples = archive.table(prefix + "samples.npy", Labels)
    components = tuple(
        [archive.table(f"{prefix}components/{position}.npy", Labels) for position in range(len(shape) - 2)]
    )
    if properties is None:
        properties = archive.table(prefix + "properties.npy", Labels)
    _checks.check_shape(shape, samples, components, properties)
    block = TensorBlock(values(archive, prefix + "values.npy"), samples, components, properties)
    for parameter in gradients.get(prefix, ()):
        inner = f"{prefix}gradients/{parameter}/"
        block.add_gradient(parameter, _block(archive, inner, gradients, values, properties))
    return block


def _gradients(archive: ArchiveReader) -> dict[str, list[str]]:
    """Find the names of the gradients of each block, by the prefix of its members."""
    found: dict[str, dict[str, None]] = {}
    for name in archive.names:
        if "gradients/" not in name:
            continue
        parts = name.split("/")
        start = 2 if parts[0] == "blocks" else 0
        for depth in range(start, len(parts) - 2, 2):
            if parts[depth] != "gradients":
                break
            if depth - start >= 2 * MAX_NESTING:
                raise ValueError(f"gradients are nested more than {MAX_NESTING} times")
            prefix = "".join([part + "/" for part in parts[:depth]])
            found.setdefault(prefix, {})[parts[depth + 1]] = None
    return {prefix: list(parameters) for prefix, parameters in found.items()}


def _info(content: bytes) -> list[tuple[str, str]]:
    """Read the texts that go with a map."""
    try:
        pairs = json.loads(content.decode(), object_pairs_hook=tuple)
    except RecursionError:
        pairs = None
    if not isinstance(pairs, tuple) or not all(isinstance(text, str) for _, text in pairs):
        raise ValueError("it must be one JSON object with nothing but texts")
    if len(dict(pairs)) != len(pairs):
        raise ValueError("it has a key more than once")
    return list(pairs)


def native_values(archive: ArchiveReader, name: str) -> np.ndarray[Any, Any]:
    """Read values into a new numpy array."""
    return archive.values(name)


def mapped_values(archive: ArchiveReader, name: str) -> np.ndarray[Any, Any]:
    """Give values as a view of the file."""
    return archive.view(name)
