"""The package for scripts that work with torch: every name of ``metatensor``, torch by default.

The classes are the same ones. What is read from files and made from nothing has torch values, and
so have the Labels.
"""

from typing import Any as _Any

try:
    import torch as _torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "`metatensor.torch` requires torch, which is not installed: "
        'pip install "metatensor-sklearn[torch]"',
        name="torch",
    ) from error

from metatensor import HAS_METATENSOR_OPERATIONS, TensorBlock, TensorMap, __version__
from metatensor._array_exchange import asarray
from metatensor._arrays import Array
from metatensor._checks import MetatensorError, NotEqualError
from metatensor.labels import LabelsEntry
from metatensor.operations import *
from metatensor.torch import _pytree, io, learn, operations
from metatensor.torch._labels import Labels
from metatensor.torch.about import dtype_name, version
from metatensor.torch.autograd import attach_gradients, store_gradients
from metatensor.torch.buffers import BufferMap
from metatensor.torch.collation import collate
from metatensor.torch.compilation import CompiledFunction, compile  # noqa: A004
from metatensor.torch.creation import block_from_array
from metatensor.torch.exporting import ExportedFunction, export
from metatensor.torch.io import (
    load,
    load_block,
    load_block_buffer,
    load_buffer,
    load_labels,
    load_labels_buffer,
    save,
    save_buffer,
)

#: names of the package for TorchScript that have no counterpart here
_ABSENT = ("utils",)

__all__ = [
    "BufferMap",
    "CompiledFunction",
    "ExportedFunction",
    "Labels",
    "LabelsEntry",
    "TensorBlock",
    "TensorMap",
    "asarray",
    "attach_gradients",
    "block_from_array",
    "collate",
    "compile",
    "dtype_name",
    "export",
    "load",
    "load_block",
    "load_block_buffer",
    "load_buffer",
    "load_labels",
    "load_labels_buffer",
    "save",
    "save_buffer",
    "store_gradients",
    "version",
]


def __getattr__(name: str) -> _Any:
    if name in _ABSENT:
        raise AttributeError(
            f"`metatensor.torch.{name}` does not exist here: there are no C++ libraries to link to"
        )
    raise AttributeError(f"module 'metatensor.torch' has no attribute {name!r}")
