"""Arrays of one library as arrays of another, without a copy where that is safe."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from metatensor import _arrays
from metatensor._arrays import Array

#: the modules that arrays of other libraries come from
BACKENDS = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy", "cupy": "cupy"}

# what libraries raise for arrays that they can not share
_DLPACK_ERRORS = (BufferError, RuntimeError, TypeError, ValueError, NotImplementedError)


def asarray(obj: Any, arrays: str | None = None, copy: bool | None = None) -> Array:
    """Return an array of any library as an array of numpy, torch or jax, with the same numbers.

    Memory is shared where nothing can go wrong then: memory that is read-only, or that belongs to
    jax, never comes back as a tensor of torch, which could be written to, and what jax gets never
    changes afterwards. Numbers stay where they are if both libraries know that device, else they
    come to the host.

    Gradients: arrays have none; a tensor that requires grad is only returned as a tensor.

    Parameters
    ----------
    obj : array, (...)
        of bool, integer, real or complex numbers: an array of numpy, torch, jax or another library
        of the Array API standard, or any object with ``__dlpack__``, ``__array__`` or
        ``__array_interface__``
    arrays : {"numpy", "torch", "jax", "cupy"}, optional
        library of the result; by default that of `obj`, or numpy for objects of no array library
    copy : bool, optional
        True always copies, to an array in C order; False never does, and raises where a copy is
        needed; by default what can not be shared is copied, and all that goes to jax

    Returns
    -------
    array, (...)

    Raises
    ------
    ValueError
        if `obj` is no array or a masked one, `arrays` is no library known, or a copy is needed that
        `copy` does not allow; also if jax is not allowed the 64 bits of the numbers
    TypeError
        if these are no numbers, or numbers of a kind that the other library has not, or those of a
        sparse tensor or one without data
    RuntimeError
        if a tensor of torch requires grad: its history would be lost
    ImportError
        if the library is not installed

    See Also
    --------
    TensorMap.to : the same for whole maps.

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> numbers = np.arange(6.0).reshape(2, 3)
    >>> tensor = metatensor.asarray(numbers, "torch")
    >>> tensor[0, 0] = 10.0
    >>> float(numbers[0, 0])
    10.0

    The axes of tensors can not be reversed, so that these numbers are copied:

    >>> tensor = metatensor.asarray(numbers[::-1], "torch")
    >>> metatensor.asarray(numbers[::-1], "torch", copy=False)
    Traceback (most recent call last):
        ...
    ValueError: the array can not be shared with torch: its strides are negative, or of no ...

    """
    if arrays is not None and arrays not in BACKENDS:
        raise ValueError(f"`arrays` must be one of {list(BACKENDS)}, got {arrays!r}")
    if not (copy is None or isinstance(copy, bool)):
        raise TypeError(f"`copy` must be True, False or None, got {copy!r}")
    if arrays not in (None, "numpy") and _is_foreign(obj) and not _arrays.is_exported_to_host(obj):
        return _through_dlpack(obj, arrays, copy)
    array = _arrays.as_values(obj, copy=False if copy is False else None)
    if not _arrays.has_format_dtype(array) and array.dtype.isbuiltin != 2:  # nor added by others
        raise TypeError(
            f"an array must hold bool, integer, real or complex numbers, got {array.dtype}"
        )
    return exchange(array, arrays or _arrays.library(array), copy)


def _is_foreign(obj: Any) -> bool:
    return _arrays.exports_dlpack(obj) and not _arrays.is_array(obj)


def exchange(array: Array, name: str, copy: bool | None = None, dtype: Any = None) -> Array:
    """Return an array of one library as array of another; see :func:`asarray`.

    Numbers of a dtype that the other library has not can go there as one of `dtype`.
    """
    own = _arrays.library(array)
    if own == name:
        return _arrays.copy(array) if copy else array
    if getattr(array, "requires_grad", False):
        raise RuntimeError(
            f"a tensor that requires grad can not become an array of {name}: its history would be "
            "lost; use `.detach()` first"
        )
    if own == "torch":
        _require_memory(array, name)
    if own == "torch" and (array.is_conj() or array.is_neg()):  # which DLPack knows nothing of
        if copy is False:
            _refuse_sharing(name, "its numbers are conjugated or negated when they are read")
        array = array.resolve_conj().resolve_neg()
    if name == "numpy":
        return _to_numpy(array, copy, dtype)
    backend(name)  # which may not be installed
    if (name == "jax" and copy is False) or not (_has_numpy_dtype(array) and _on_host(array)):
        try:
            return _through_dlpack(array, name, copy)
        except ValueError:
            if copy is False:
                raise
    host = _to_numpy(array, False if copy is False else None)
    if name == "torch":
        return _numpy_to_torch(host, copy)
    if name == "jax":
        return _numpy_to_jax(host, dtype)
    if copy is False:
        _refuse_sharing(name, "it is on the host")
    return backend(name).asarray(_owned(host))


def _require_memory(tensor: Array, name: str) -> None:
    """Refuse tensors whose numbers are not in one piece of memory, or nowhere."""
    torch = sys.modules["torch"]
    if (
        tensor.layout is not torch.strided
        or tensor.is_nested
        or tensor.device.type == "meta"
        # such as those that compilers work with, which show memory that is not theirs
        or type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__
    ):
        raise TypeError(
            f"only a dense tensor with data can become an array of {name}, got a "
            f"{type(tensor).__name__} of layout {tensor.layout} on {tensor.device}; "
            "`.to_dense()` makes dense ones"
        )


def backend(name: str) -> Any:
    """Return the module of a library, imported if need be."""
    module = sys.modules.get(BACKENDS[name])
    if module is not None:
        return module
    try:
        return importlib.import_module(BACKENDS[name])
    except ImportError as error:
        raise ImportError(
            f"arrays={name!r} needs the package {name!r}, which is not installed"
        ) from error


def _refuse_sharing(name: str, why: Any) -> NoReturn:
    raise ValueError(f"the array can not be shared with {name}: {why}; allow a copy by `copy=None`")


def _has_numpy_dtype(array: Array) -> bool:
    """Tell whether numpy has the dtype of an array of torch or jax; bfloat16 is one it has not."""
    if _arrays.library(array) not in ("torch", "jax"):
        return True
    return hasattr(np, _dtype_name(array))


def _dtype_name(array: Array) -> str:
    return str(array.dtype).split(".")[-1]


def _on_host(array: Array) -> bool:
    return "cpu" in str(_arrays.device(array)).lower()


def _owned(host: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a copy in C order and in the byte order of the machine."""
    return host.astype(host.dtype.newbyteorder("="), order="C")


def _to_numpy(array: Array, copy: bool | None, dtype: Any = None) -> npt.NDArray[Any]:
    if not _has_numpy_dtype(array):
        if dtype is None:
            raise TypeError(
                f"numpy has no dtype like {array.dtype}; convert the numbers first, such as to "
                "float32 or complex64"
            )
        xp = _arrays.namespace(array)
        is_complex = getattr(array.dtype, "is_complex", False)
        # which have all numbers of fewer bits
        array = xp.astype(array, xp.complex64 if is_complex else xp.float32)
    if copy is False and _arrays.library(array) != "numpy":
        try:
            return _arrays.from_dlpack(array, copy=False)
        except (AttributeError, *_DLPACK_ERRORS) as error:
            _refuse_sharing("numpy", error)
    host = _arrays.to_host(array)
    return _owned(host) if copy else host


def _numpy_to_torch(host: npt.NDArray[Any], copy: bool | None) -> Array:
    why = ""
    if not host.flags.writeable:
        why = "it is read-only, and all tensors can be written to"
    elif not host.dtype.isnative:
        why = "its byte order is not that of the machine"
    elif not host.flags.aligned or any(
        stride < 0 or stride % host.itemsize for stride in host.strides
    ):
        why = "its strides are negative, or of no whole number of entries"
    if why and copy is False:
        _refuse_sharing("torch", why)
    return backend("torch").from_numpy(_owned(host) if why or copy else host)


def _numpy_to_jax(host: npt.NDArray[Any], dtype: Any) -> Array:
    if dtype is not None:
        host = host.astype(dtype, copy=False)
    if not host.dtype.isnative:
        host = _owned(host)
    moved = backend("jax").array(host)
    _require_dtype(moved, host)
    return moved


def _require_dtype(moved: Array, source: Array) -> None:
    """Refuse numbers that became others on their way to jax."""
    if _dtype_name(moved) != _dtype_name(source):
        raise ValueError(
            f"jax would turn {source.dtype} into {moved.dtype}; convert the values first, or "
            "allow 64-bit numbers with `jax.config.update('jax_enable_x64', True)`"
        )


def _through_dlpack(array: Any, name: str, copy: bool | None) -> Array:
    """Hand over an array as it is, which need not be on the host, or refuse it."""
    from_jax, to_jax = _arrays.library(array) == "jax", name == "jax"
    if from_jax and copy is False:
        _refuse_sharing(name, "it is of jax, whose arrays never change")
    strides = getattr(array, "strides", None)
    reverses = isinstance(strides, tuple) and min(strides, default=0) < 0  # which torch dies of
    if reverses and (copy is False or not _arrays.is_array(array)):
        _refuse_sharing(name, "its strides are negative")
    if reverses or (to_jax and copy is not False and not _arrays.is_contiguous(array)):
        array = _arrays.copy(array)
    keywords = {"copy": False} if to_jax and copy is False else {}
    try:
        moved = backend(name).from_dlpack(array, **keywords)
    except (AttributeError, *_DLPACK_ERRORS) as error:
        _refuse_sharing(name, error)
    if to_jax and hasattr(array, "dtype"):
        _require_dtype(moved, array)
    return _arrays.copy(moved) if copy or (copy is None and (from_jax or to_jax)) else moved
