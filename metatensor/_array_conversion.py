"""Arrays of another library, dtype or device."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import array_api_compat as compat
import numpy as np

from metatensor import _arrays
from metatensor._array_exchange import BACKENDS, exchange
from metatensor._arrays import Array


class Target(NamedTuple):
    """Where ``to`` moves data: anything that is None stays as it is."""

    dtype: Any = None
    device: Any = None
    arrays: str | None = None
    non_blocking: bool = False
    copy: bool = False

    def functions(self) -> tuple[Callable[[Array], Array], Callable[[Any], Any] | None]:
        """Return what moves arrays, and what moves the Labels that go with them, if they do."""
        moves_labels = self.arrays is not None or self.device is not None
        return partial(convert, target=self), self._labels if moves_labels else None

    def _labels(self, labels: Any) -> Any:
        return labels._along(self)


def parse_target(*args: Any, **kwargs: Any) -> Target:
    """Sort the arguments of ``to`` by their types.

    A str or torch.device is a device, what looks like a dtype is a dtype, a bool says whether not
    to wait, what has a dtype and a device stands for both, None is ignored.

    Raises
    ------
    TypeError
        for an argument of another type.
    ValueError
        for a device or dtype given twice, or an unknown library.

    """
    given = {name: kwargs.get(name) for name in ("dtype", "device", "non_blocking")}
    for value in args:
        if value is None:
            continue
        for what, part in _parts_of_target(value):
            if given[what] is not None:
                raise ValueError(f"`to` got more than one {what}: {given[what]!r} and {part!r}")
            given[what] = part
    arrays = kwargs.get("arrays")
    if arrays is not None and arrays not in BACKENDS:
        raise ValueError(f"`arrays` must be one of {list(BACKENDS)}, got {arrays!r}")
    return Target(
        given["dtype"],
        given["device"],
        arrays,
        bool(given["non_blocking"]),
        bool(kwargs.get("copy", False)),
    )


def _parts_of_target(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, bool):
        return [("non_blocking", value)]
    if not isinstance(value, type) and hasattr(value, "dtype") and hasattr(value, "device"):
        return [("dtype", value.dtype), ("device", value.device)]
    return [(_target_kind(value), value)]


def cuda_device(device: Any) -> Any:
    """Return the device that ``cuda`` means, which can be a number, or None for the usual one."""
    if device is None:
        return "cuda"
    return f"cuda:{device}" if isinstance(device, int) else device


def _target_kind(value: Any) -> str:
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if isinstance(value, (str, getattr(torch, "device", str), getattr(jax, "Device", str))):
        return "device"
    if isinstance(value, (np.dtype, getattr(torch, "dtype", np.dtype))):
        return "dtype"
    if isinstance(value, type) and (
        issubclass(value, (np.number, np.bool_))
        or value in (float, int, bool, complex)
        or isinstance(getattr(value, "dtype", None), np.dtype)  # such as jax.numpy.float32
    ):
        return "dtype"
    raise TypeError(f"`to` takes a device or a dtype, got an argument of type {type(value)}")


def convert(array: Array, target: Target) -> Array:
    """Move an array: first to another library, then to another dtype, then to another device."""
    if target.copy:
        array = _arrays.copy(array)
    if target.arrays is not None:
        array = exchange(array, target.arrays, dtype=target.dtype)
    if target.dtype is not None:
        array = _change_dtype(array, target.dtype)
    if target.device is not None:
        array = _change_device(array, target.device, target.non_blocking)
    return array


def convert_constant(array: Array, target: Target) -> Array:
    """Move numbers that are data even where torch traces functions, such as those of Labels.

    They can be used in training, also when they come from a computation in inference mode.
    """
    modes: Any = sys.modules.get("torch.utils._mode_utils")
    if modes is None:
        return convert(array, target)
    torch = sys.modules["torch"]
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):
            return convert_constant(array, target)
    with modes.no_dispatch():
        return convert(array, target)


def _change_dtype(array: Array, dtype: Any) -> Array:
    name = _arrays.library(array)
    if name == "numpy":
        try:
            wanted = np.dtype(dtype)
        except TypeError as error:
            raise TypeError(
                f"`dtype` must be a numpy dtype for numpy arrays, got {dtype!r}"
            ) from error
        if wanted.kind not in "biufc":
            raise TypeError(f"`dtype` must be bool, integer, real or complex, got {wanted}")
        return array.astype(wanted, copy=False)
    if name == "torch":
        torch = sys.modules["torch"]
        if not isinstance(dtype, torch.dtype) and dtype not in (bool, int, float, complex):
            raise TypeError(f"`dtype` must be a torch.dtype for torch tensors, got {dtype!r}")
        return array.to(dtype=dtype)
    return _arrays.namespace(array).astype(array, dtype, copy=False)


def _change_device(array: Array, where: Any, non_blocking: bool) -> Array:
    name = _arrays.library(array)
    if name == "numpy":
        if str(where) != "cpu":
            raise ValueError(
                f"numpy arrays can only be on device 'cpu', got {where!r}; use arrays='torch'"
            )
        return array
    try:
        if name == "torch":
            found = sys.modules["torch"].device(where)
        elif name == "jax" and isinstance(where, str):
            found = sys.modules["jax"].devices(where)[0]
        else:
            found = where
    except RuntimeError as error:
        raise ValueError(f"{name} has no device {where!r}: {error}") from error
    if name == "torch":
        return array.to(device=found, non_blocking=non_blocking)
    return compat.to_device(array, found)
