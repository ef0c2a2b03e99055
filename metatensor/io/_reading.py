"""From the bytes of files to Labels, blocks and maps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks
from metatensor._core import npy
from metatensor._core.zip_reader import ArchiveReader
from metatensor.block import TensorBlock
from metatensor.io._files import Source
from metatensor.io._writing import MAX_NESTING
from metatensor.labels import Labels
from metatensor.tensor import TensorMap

_Data = TypeVar("_Data", TensorMap, TensorBlock)

#: how values come into memory: from an archive and the name of a member
Values = Callable[[ArchiveReader, str], _arrays.Array]

_HEAD = 4096
_FUNCTIONS = {"TensorMap": "load", "TensorBlock": "load_block", "Labels": "load_labels"}


def in_memory(archive: ArchiveReader, name: str) -> npt.NDArray[Any]:
    """Read values into a new numpy array."""
    return archive.values(name)


def mapped(archive: ArchiveReader, name: str) -> npt.NDArray[Any]:
    """Give values as a view of the file."""
    return archive.view(name)


def read_map(source: Source, values: Values) -> TensorMap:
    """Read a map."""
    return _read_archive(source, "TensorMap", lambda archive: _map(archive, values))


def read_block(source: Source, values: Values) -> TensorBlock:
    """Read a block."""
    return _read_archive(
        source, "TensorBlock", lambda archive: _block(archive, "", _gradients(archive), values)
    )


def read_labels(source: Source) -> Labels:
    """Read Labels from their own kind of file."""
    try:
        head = source.read(0, min(source.size, _HEAD))
        length = npy.header_length(head)
        if length > source.size:
            raise ValueError("the header is longer than the file")
        if length > len(head):
            head = source.read(0, length)
        names, shape, swapped = npy.read_table_header(head[:length], source.size - length)
        table = np.empty(shape, dtype=np.int32)
        source.copy(length, table)
        if swapped:
            table.byteswap(inplace=True)
        table.flags.writeable = False
        return Labels(names, table)
    except (ValueError, OverflowError) as error:
        try:
            archive = ArchiveReader(source.size, source.data, source.readinto)
        except ValueError:
            archive = None
        _refuse(source, "Labels", archive, error)


def _read_archive(source: Source, kind: str, read: Callable[[ArchiveReader], _Data]) -> _Data:
    archive = None
    try:
        archive = ArchiveReader(source.size, source.data, source.readinto)
        data = read(archive)
        archive.check_others()
        return data
    except (ValueError, OverflowError) as error:
        _refuse(source, kind, archive, error)


def _refuse(source: Source, kind: str, archive: ArchiveReader | None, error: Exception) -> NoReturn:
    """Say where something is wrong with a file, and which function is the right one for it."""
    found = _kind_of(source, archive)
    hint = where = ""
    if found not in ("", kind):
        hint = f", use `{_FUNCTIONS[found]}{source.suffix}` to load {found}"
    elif archive is not None and archive.current is not None:
        where = f"in {archive.current!r}: "
    what = kind if kind == "Labels" else f"a {kind}"
    raise _checks.MetatensorError(
        "serialization format error: "
        f"unable to load {what} from {source.name}{hint}: {where}{error}"
    ) from error


def _kind_of(source: Source, archive: ArchiveReader | None) -> str:
    """Say what a file has, as far as one can see; "" if one can not."""
    if archive is None:
        return "Labels" if source.read(0, min(6, source.size)).tobytes() == npy.MAGIC else ""
    return (
        "TensorMap" if "keys.npy" in archive else "TensorBlock" if "values.npy" in archive else ""
    )


# ---- members of archives


def _map(archive: ArchiveReader, values: Values) -> TensorMap:
    keys = archive.table("keys.npy", Labels)
    gradients = _gradients(archive)
    blocks = [
        _block(archive, f"blocks/{position}/", gradients, values) for position in range(len(keys))
    ]
    archive.current = None
    tensor = TensorMap(keys, blocks)
    if "info.json" in archive:
        for key, text in _info(archive.content("info.json")):
            tensor.set_info(key, text)
    return tensor


def _block(
    archive: ArchiveReader,
    prefix: str,
    gradients: dict[str, list[str]],
    values: Values,
    properties: Labels | None = None,
) -> TensorBlock:
    """Read a block: first its Labels, which tell how large its values can be."""
    shape = archive.shape(prefix + "values.npy")
    samples = archive.table(prefix + "samples.npy", Labels)
    components = tuple(
        [
            archive.table(f"{prefix}components/{position}.npy", Labels)
            for position in range(len(shape) - 2)
        ]
    )
    if properties is None:
        properties = archive.table(prefix + "properties.npy", Labels)
    if shape != (len(samples), *map(len, components), len(properties)):
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


def _info(content: bytes) -> tuple[tuple[str, str], ...]:
    """Read the texts that go with a map."""
    try:
        pairs = json.loads(content.decode(), object_pairs_hook=tuple)
    except RecursionError:
        pairs = None
    if not isinstance(pairs, tuple) or not all(isinstance(text, str) for _, text in pairs):
        raise ValueError("it must be one JSON object with nothing but texts")
    if len(dict(pairs)) != len(pairs):
        raise ValueError("it has a key more than once")
    return pairs
