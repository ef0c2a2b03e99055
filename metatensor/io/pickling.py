"""What Labels, blocks and maps are made of when they are pickled.

The pickler sees every value array, so that protocol 5 can send it out of band and joblib can map it
into the memory of its workers. Under protocol 5 tensors of torch in main memory are shown as numpy
arrays that share their memory; under lower protocols, which `torch.save` and torch's own
multiprocessing use, they are shown as tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from metatensor import _array_conversion, _arrays
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.tensor import TensorMap

_SMALL = 4096

_Reduced = tuple[Callable[..., Any], tuple[Any, ...]]


def reduce_labels(labels: Labels, protocol: int) -> _Reduced:
    """Take Labels apart: their names and the table, as array or, when it is small, as bytes."""
    place = None if labels._device is None else ("torch", str(labels._device))
    table = labels._table
    if protocol >= 5 and table.nbytes >= _SMALL:
        return labels_of_table, (labels._names, table, place)
    little = table.astype("<i4", copy=False)
    return labels_of_bytes, (labels._names, little.tobytes(), table.shape, place)


def labels_of_table(
    names: tuple[str, ...], table: npt.NDArray[np.int32], place: tuple[str, str] | None
) -> Labels:
    """Make Labels of an int32 table, which they keep."""
    labels = Labels._of(names, np.ascontiguousarray(table, dtype=np.int32))
    if place is None:
        return labels
    return labels._to(
        _array_conversion.Target(arrays=place[0], device=None if place[1] == "cpu" else place[1])
    )


def labels_of_bytes(
    names: tuple[str, ...], content: bytes, shape: tuple[int, int], place: tuple[str, str] | None
) -> Labels:
    """Make Labels of the bytes of a little-endian int32 table."""
    return labels_of_table(names, np.frombuffer(content, dtype="<i4").reshape(shape), place)


def reduce_block(block: TensorBlock, protocol: int) -> _Reduced:
    """Take a block apart: its values, its Labels, and its gradients, which are blocks."""
    values, library = _shown(block._values, protocol)
    parts = (block._samples, block._components, block._properties, block._gradients)
    return block_of_parts, (values, library, *parts)


def block_of_parts(
    values: _arrays.Array,
    library: str,
    samples: Labels,
    components: tuple[Labels, ...],
    properties: Labels,
    gradients: dict[str, TensorBlock],
) -> TensorBlock:
    """Make a block of the parts of one; its values go back to the library they came from."""
    if library == "torch":
        values = _array_conversion.convert(values, _array_conversion.Target(arrays="torch"))
    frozen = {name: gradient._freeze(name) for name, gradient in gradients.items()}
    return TensorBlock._of(values, samples, components, properties, frozen)


def _shown(values: _arrays.Array, protocol: int) -> tuple[_arrays.Array, str]:
    """Return the array that the pickler is to see, and the library to convert it to afterwards."""
    library = _arrays.library(values)
    if protocol >= 5 and _arrays.is_plain_tensor(values):
        try:
            return values.numpy(), library
        except (TypeError, RuntimeError):
            pass  # on another device, part of an autograd graph, or of a type that numpy has not
    return values, library


def reduce_map(tensor: TensorMap, protocol: int) -> _Reduced:
    """Take a map apart: its keys, blocks and info."""
    return map_of_parts, (tensor._keys, tensor._blocks, tensor._info)


def map_of_parts(keys: Labels, blocks: list[TensorBlock], info: dict[str, str]) -> TensorMap:
    """Make a map of the parts of one."""
    return TensorMap._of(keys, blocks, info)
