"""Labelled block-sparse tensors with gradients for atomistic machine learning.

The classes are :class:`Labels`, :class:`TensorBlock` and :class:`TensorMap`; :func:`save` and
:func:`load` exchange them as ``.mts`` files; :mod:`metatensor.operations`, whose functions are here
as well, keep Labels and gradients right; estimators are in :mod:`metatensor.sklearn`.
"""

import importlib as _importlib
import warnings as _warnings
from typing import Any as _Any

import metatensor._guard  # noqa: F401
from metatensor import io, operations
from metatensor._array_exchange import asarray
from metatensor._arrays import Array
from metatensor._checks import MetatensorError, NotEqualError
from metatensor.block import TensorBlock
from metatensor.io.mts import load, load_block, load_labels, save
from metatensor.labels import Labels, LabelsEntry
from metatensor.operations import *
from metatensor.tensor import TensorMap

__version__ = "0.1.0"
#: operations come with the package
HAS_METATENSOR_OPERATIONS = True

__all__ = ["Labels", "TensorBlock", "TensorMap"]

#: submodules that are imported when first asked for
_LAZY = ("datasets", "jax", "learn", "o3", "sklearn", "testing", "torch")

#: names of the Rust-core package for raw pointers, which have no counterpart here
_ABSENT = (
    "ExternalCpuArray",
    "ExternalCudaArray",
    "register_external_data_wrapper",
    "utils",
)


class _DeviceWarning(UserWarning):
    """Kept for code that silences it: never given."""


def __getattr__(name: str) -> _Any:
    if name in _LAZY:
        return _importlib.import_module(f"metatensor.{name}")
    if name == "DeviceWarning":
        _warnings.warn("`DeviceWarning` is never given", DeprecationWarning, stacklevel=2)
        return _DeviceWarning
    if name in _ABSENT:
        raise AttributeError(
            f"`metatensor.{name}` does not exist here: there are no raw pointers to wrap. "
            "Blocks take any array, also through DLPack"
        )
    raise AttributeError(f"module 'metatensor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
