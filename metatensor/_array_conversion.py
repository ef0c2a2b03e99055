"""Arrays of another library, dtype or device."""

from __future__ import annotations

import sys
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


def parse_target(*args: Any, **kwargs: Any) -> Target:
    """Sort the arguments of ``to`` by their types.

    A str or torch.device is a device, what looks like a dtype is a dtype, None is ignored.

    Raises
    ------
    TypeError
        for an argument of another type.
    ValueError
        for a device or dtype given twice, or an unknown library.

    """
    given: dict[str, Any] = {"dtype": kwargs.get("dtype"), "device": kwargs.get("device")}
    for value in args:
        if value is None:
            continue
        what = _target_kind(value)
        if given[what] is not None:
            raise ValueError(f"`to` got more than one {what}: {given[what]!r} and {value!r}")
        given[what] = value
    arrays = kwargs.get("arrays")
    if arrays is not None and arrays not in BACKENDS:
        raise ValueError(f"`arrays` must be one of {list(BACKENDS)}, got {arrays!r}")
    return Target(arrays=arrays, non_blocking=bool(kwargs.get("non_blocking", False)), **given)


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
    if target.arrays is not None:
        array = exchange(array, target.arrays, dtype=target.dtype)
    if target.dtype is not None:
        array = _change_dtype(array, target.dtype)
    if target.device is not None:
        array = _change_device(array, target.device, target.non_blocking)
    return array


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
