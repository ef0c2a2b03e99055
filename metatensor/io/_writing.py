"""From Labels, blocks and maps to the parts of their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks
from metatensor._core import npy
from metatensor._core.zip_writer import ArchiveWriter
from metatensor.block import TensorBlock
from metatensor.io._files import Sink
from metatensor.labels import Labels
from metatensor.tensor import TensorMap

#: gradients of gradients deeper than this are neither written nor read
MAX_NESTING = 64

_DTYPES = frozenset(np.dtype(code) for code in npy.CODES)

_table_header = lru_cache(maxsize=1024)(npy.table_header)
_values_header = lru_cache(maxsize=1024)(npy.values_header)


def writer_of(data: Any, use_numpy: bool) -> Callable[[Sink], None]:
    """Return the function that gives the parts of the file with `data` to a sink.

    Raises
    ------
    TypeError
        if `data` is neither Labels, a block nor a map

    """
    if isinstance(data, Labels):
        return lambda sink: _write_labels(sink, data)
    if isinstance(data, (TensorBlock, TensorMap)):
        return lambda sink: _write_archive(sink, data, use_numpy)
    raise TypeError(
        f"`data` must be one of 'Labels', 'TensorBlock' or 'TensorMap', not {type(data)}"
    )


def _write_labels(sink: Sink, labels: Labels) -> None:
    sink(npy.table_header(labels._names, len(labels)))
    sink(labels._table)


def _write_archive(sink: Sink, data: TensorBlock | TensorMap, use_numpy: bool) -> None:
    archive = ArchiveWriter(sink)
    try:
        if isinstance(data, TensorBlock):
            _add_block(archive, "", data, use_numpy)
        else:
            _add_table(archive, "keys.npy", data._keys)
            for position, block in enumerate(data._blocks):
                _add_block(archive, f"blocks/{position}/", block, use_numpy)
            if data._info:
                text = json.dumps(data._info, indent=2, sort_keys=True, ensure_ascii=False)
                archive.add("info.json", text.encode())
    except _checks.MetatensorError:
        raise
    except ValueError as error:  # of texts that are no Unicode, or too long
        raise _checks.MetatensorError(f"serialization format error: {error}") from error
    archive.finish()


def _add_table(archive: ArchiveWriter, name: str, labels: Labels) -> None:
    table = labels._table
    archive.add(name, _table_header(labels._names, len(table)), table)


def _add_block(
    archive: ArchiveWriter,
    prefix: str,
    block: TensorBlock,
    use_numpy: bool,
    is_gradient: bool = False,
) -> None:
    values = _host(block._values, use_numpy)
    archive.add(prefix + "values.npy", _values_header(values.dtype, values.shape), values)
    _add_table(archive, prefix + "samples.npy", block._samples)
    for position, labels in enumerate(block._components):
        _add_table(archive, f"{prefix}components/{position}.npy", labels)
    if not is_gradient:
        _add_table(archive, prefix + "properties.npy", block._properties)
    for parameter in sorted(block._gradients):
        if "/" in parameter or prefix.count("gradients/") >= MAX_NESTING:
            raise _checks.MetatensorError(
                f"serialization format error: gradient {prefix + parameter!r} is not saved: "
                f"the names of gradients have no '/', and they can be nested {MAX_NESTING} times"
            )
        _add_block(
            archive, f"{prefix}gradients/{parameter}/", block._gradients[parameter], use_numpy, True
        )


def _host(values: _arrays.Array, use_numpy: bool) -> npt.NDArray[Any]:
    """Return values as a numpy array of a dtype that files can have, or say why there is none."""
    if type(values) is np.ndarray and values.dtype in _DTYPES:
        return values
    if _arrays.library(values) == "torch":
        if values.requires_grad:
            kind = RuntimeError if use_numpy else BufferError
            raise kind(
                "values that require gradients can not be saved, use `metatensor.detach` first"
            )
        if values.device.type == "meta":
            raise _checks.MetatensorError(
                "values on the 'meta' device can not be saved, there is no data"
            )
    if "bfloat16" in str(values.dtype):
        message = "values of type bfloat16 can not be saved, use `.to(...)` first, as to float32"
        raise TypeError(message) if use_numpy else _checks.MetatensorError(message)
    host = _arrays.to_host(values)
    if host.dtype.newbyteorder("=") not in _DTYPES:
        raise _checks.MetatensorError(
            f"values of type {host.dtype} can not be saved, only bool, integers, and real and "
            "complex numbers of up to 64 and 128 bits; use `.to(...)` first"
        )
    return host
