"""Which array library is it? Only this file asks, and the files named ``_array_*`` beside it.

Everything else calls the array-API namespace that :func:`namespace` returns, or a function of these
files for what the standard lacks: here what every operation needs, there sums over groups, linear
algebra, and moves to other libraries, dtypes and devices.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

import array_api_compat as compat
import numpy as np
import numpy.typing as npt

from metatensor._core import nearness

#: a value array of any library
Array = Any

_NAMESPACES: dict[type, ModuleType] = {}
_LIBRARIES: dict[type, str] = {np.ndarray: "numpy"}
_KINDS: dict[tuple[str, Any], str] = {}
# kinds of memory of DLPack that the processor reads: its own, pinned and managed
_HOST_DEVICES = (1, 3, 11, 13)


def namespace(*arrays: Array) -> ModuleType:
    """Return the array-API namespace of arrays of one library."""
    first = type(arrays[0])
    alike = len(arrays) == 1 or all(type(array) is first for array in arrays)
    if alike and first in _NAMESPACES:
        return _NAMESPACES[first]
    try:
        xp = compat.array_namespace(*arrays)
    except TypeError as error:
        kinds = ", ".join(sorted({f"{library(a)}.{type(a).__name__}" for a in arrays}))
        raise TypeError(
            f"values must all be arrays of one library, got {kinds}; use `.to(arrays=...)`"
        ) from error
    if alike:
        _NAMESPACES[first] = xp
    return xp


def library(array: Array) -> str:
    """Return the name of the library an array belongs to: "numpy", "torch", "jax"..."""
    kind = type(array)
    name = _LIBRARIES.get(kind)
    if name is None:
        if isinstance(array, np.ndarray):
            name = "numpy"
        elif _is_torch(array):
            name = "torch"
        elif compat.is_jax_array(array):
            return "jax"  # tracers too, whose types come and go
        else:
            name = kind.__module__.split(".")[0]
        _LIBRARIES[kind] = name
    return name


def is_traced(array: Array) -> bool:
    """Tell whether jax is tracing an array, so that its numbers are not known yet."""
    return library(array) == "jax" and isinstance(array, sys.modules["jax"].core.Tracer)


def is_plain_tensor(array: Array) -> bool:
    """Tell whether an array is a torch tensor itself, not a parameter or another kind of tensor."""
    return library(array) == "torch" and type(array) is sys.modules["torch"].Tensor


def _is_torch(array: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def as_values(array: Any, copy: bool | None = None) -> Array:
    """Return ``array`` itself if it can hold the values of a block, or a view of it that can.

    What is no array of a library, but can show its numbers to one, becomes an array of numpy; with
    ``copy=False`` only where nothing is copied.

    Raises
    ------
    ValueError
        if it is no array at all, or a masked array, whose mask would be lost.

    """
    if type(array) is np.ndarray:
        return array
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(
            "a masked array can not be taken, its mask would be lost; use `.filled(...)`"
        )
    has_shape = hasattr(array, "shape") and not isinstance(array, (np.generic, type))
    if has_shape and is_array(array):
        return array
    if exports_dlpack(array) and not isinstance(array, type):
        return from_dlpack(array, copy)
    if has_shape and (hasattr(array, "__array__") or hasattr(array, "__array_interface__")):
        return np.array(array, copy=copy)
    raise ValueError(
        f"unknown array type: {type(array)}, an array is required; use `numpy.asarray(...)` for "
        "lists, and for buffers, which it shares"
    )


def is_array(array: Any) -> bool:
    """Tell whether this is an array of a library of the Array API standard."""
    return type(array) in _NAMESPACES or bool(compat.is_array_api_obj(array))


def exports_dlpack(array: Any) -> bool:
    """Tell whether an object shows its numbers by DLPack."""
    return hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__")


def is_exported_to_host(array: Any) -> bool:
    """Tell whether what an object shows by DLPack is memory that the processor reads."""
    return int(array.__dlpack_device__()[0]) in _HOST_DEVICES


def from_dlpack(array: Any, copy: bool | None = None) -> npt.NDArray[Any]:
    """Return the numbers that an object shows by DLPack, in its memory.

    Raises
    ------
    ValueError
        if they are on a device.

    """
    if not is_exported_to_host(array):
        raise ValueError(
            f"an array of {library(array)} on DLPack device {array.__dlpack_device__()} can not be "
            "read by numpy; use `metatensor.asarray` with another library"
        )
    if copy is None:
        return np.from_dlpack(array)
    try:
        return np.from_dlpack(array, copy=copy)
    except TypeError:  # numpy, or the object, knows no such argument, and does not copy
        return np.from_dlpack(array)


def device(array: Array) -> Any:
    """Return where an array lives: "cpu" for numpy, what the library says otherwise."""
    name = library(array)
    if name == "numpy":
        return "cpu"
    return array.device if name == "torch" else compat.device(array)


def _device_of_new(like: Array) -> Any:
    """Return where to make an array that goes with another, None for where the library likes."""
    found = device(like)
    if library(like) == "jax" and not isinstance(found, sys.modules["jax"].Device):
        return None  # several devices; what goes to each is another question for another shape
    return found


def has_format_dtype(array: Array) -> bool:
    """Tell whether the dtype is bool, integer, real or complex, which is what maps hold."""
    return array.dtype.kind in "biufc" if library(array) == "numpy" else True


def same_dtype(first: Array, second: Array) -> bool:
    """Tell whether two arrays have one dtype; the byte order does not count."""
    if first.dtype == second.dtype:
        return True
    if library(first) == "numpy" and library(second) == "numpy":
        return bool(first.dtype.newbyteorder("=") == second.dtype.newbyteorder("="))
    return False


def difference(first: Array, other: Array) -> tuple[str, Any, Any] | None:
    """Return in what two arrays can not be values of one map: the name, and what each has."""
    kind = type(first)
    if kind is type(other) and first.dtype == other.dtype and kind is np.ndarray:
        return None
    if library(first) != library(other):
        return "array library", library(first), library(other)
    if not same_dtype(first, other):
        return "dtype", first.dtype, other.dtype
    if device(first) != device(other) and not _shares_devices(first, other):
        return "device", device(first), device(other)
    return None


def _shares_devices(first: Array, other: Array) -> bool:
    """Tell whether jax takes both: what it traces has no device, what it shards has several."""
    if library(first) != "jax":
        return False
    return is_traced(first) or is_traced(other) or bool(first.devices() == other.devices())


def to_host(array: Array) -> npt.NDArray[Any]:
    """Return the data as a numpy array, a view of it where the library allows one.

    Raises
    ------
    RuntimeError
        for a torch tensor that requires gradients: its history would be lost.
    TypeError
        for an array that jax is tracing.

    """
    name = library(array)
    if name == "numpy":
        return np.asarray(array)
    if is_traced(array):
        raise TypeError(
            "jax is tracing these values (for `jit`, `grad`, `vmap`...), and their numbers are not "
            "known yet: they can not be compared, saved or moved to another library. Do that "
            "outside of the function, or use `jax.numpy` on `block.values`"
        )
    if name == "torch":
        host: npt.NDArray[Any] = array.cpu().resolve_conj().resolve_neg().numpy()
        return host
    if name == "cupy":
        return np.asarray(array.get())
    try:
        host = np.asarray(array)
    except (TypeError, ValueError):
        if not hasattr(array, "__dlpack__"):
            raise
        return np.from_dlpack(compat.to_device(array, "cpu"))
    if host.dtype == object:  # what numpy makes of objects that it can not read
        if not hasattr(array, "__dlpack__"):
            raise TypeError(
                f"an array of {name} can not be read by numpy, which takes `__array__` or "
                f"`__dlpack__`, got {type(array)}"
            )
        return np.from_dlpack(array)
    return host


def copy(array: Array) -> Array:
    """Return a C-contiguous copy."""
    name = library(array)
    if name == "numpy":
        return array.copy(order="C")
    if name == "torch":
        torch = sys.modules["torch"]
        strided = array.layout is torch.strided
        return array.clone(memory_format=torch.contiguous_format) if strided else array.clone()
    return namespace(array).asarray(array, copy=True)


class Copier:
    """Makes C-contiguous copies of many arrays; those of numpy share pieces of memory.

    Large pieces come in large pages, which are faster to fill for the first time than many small
    ones. A piece lives as long as one of the copies in it, so that it must not be too large.

    Parameters
    ----------
    nbytes : int
        what all the copies will need at most

    """

    _LARGE = 1 << 22  # from here on numpy itself asks for large pages
    _PIECE = 1 << 24

    def __init__(self, nbytes: int) -> None:
        self._missing = nbytes
        self._shares = nbytes >= self._LARGE
        self._piece = np.empty(0, dtype=np.uint8)

    def copy(self, array: Array) -> Array:
        """Return a C-contiguous copy."""
        if not self._shares or library(array) != "numpy":
            return copy(array)
        copied = self._empty(array.shape, array.dtype)
        copied[...] = array
        return copied

    def take(self, array: Array, positions: npt.NDArray[np.intp], axis: int = 0) -> Array:
        """Gather entries of one axis at host positions, which must be from 0 to its length."""
        if not self._shares or library(array) != "numpy":
            return take(array, positions, axis)
        shape = list(array.shape)
        shape[axis] = len(positions)
        if 0 in shape:
            return np.empty(shape, dtype=array.dtype)
        # other modes than "clip" would write to a copy of the result first
        return array.take(positions, axis, self._empty(tuple(shape), array.dtype), "clip")

    def _empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes >= self._LARGE:
            return np.empty(shape, dtype=dtype)
        size = -(-nbytes // 64) * 64
        if size > self._piece.size:
            self._piece = np.empty(max(size, min(self._PIECE, self._missing)), dtype=np.uint8)
        memory, self._piece = self._piece[:nbytes], self._piece[size:]
        self._missing -= size
        return memory.view(dtype).reshape(shape)


def is_contiguous(array: Array) -> bool:
    """Tell whether the data is in C order; libraries without strides always say yes."""
    name = library(array)
    if name == "numpy":
        return bool(array.flags.c_contiguous)
    return bool(array.is_contiguous()) if name == "torch" else True


def detach(array: Array) -> Array:
    """Return the same data without its autograd history."""
    name = library(array)
    if name == "torch":
        return array.detach()
    if name == "jax":
        return importlib.import_module("jax.lax").stop_gradient(array)
    return array


def requires_grad(array: Array, required: bool = True) -> Array:
    """Return the same data as the start of a new history, which only torch records."""
    if library(array) != "torch":
        return array
    return array.detach().requires_grad_(required)


def requires_grad_in_place(array: Array, required: bool) -> None:
    """Set whether torch records what is done with a tensor."""
    if library(array) == "torch":
        array.requires_grad_(required)
    elif required:
        raise TypeError(
            f"only values of torch can require gradients, got {library(array)}; "
            "use `.to(arrays='torch')`"
        )


def pin_memory(array: Array) -> Array:
    """Return a tensor of torch in memory that is quick to send to a GPU, if there is one."""
    if library(array) != "torch" or array.device.type != "cpu":
        return array
    return array.pin_memory() if sys.modules["torch"].cuda.is_available() else array


def reshape(array: Array, shape: tuple[int, ...]) -> Array:
    """Return the array with other axes."""
    if 0 in shape and library(array) == "dask":  # which has no rule for chunks without entries
        return full(shape, 0, array)
    return namespace(array).reshape(array, shape)


def positions_like(array: Array, positions: npt.NDArray[np.intp]) -> Array:
    """Return host positions as an index array for ``array``, on its device."""
    if library(array) in ("numpy", "dask"):  # dask indexes chunks by what it knows
        return positions
    xp = namespace(array)
    return xp.asarray(positions, device=_device_of_new(array))


def take(array: Array, positions: npt.NDArray[np.intp], axis: int = 0) -> Array:
    """Gather entries of one axis at host positions, out of place."""
    name = library(array)
    if name == "numpy":
        return array.take(positions, axis)
    if name == "dask":  # whose `take` fails for arrays and chunks without entries
        axis %= array.ndim
        if 0 in array.chunks[axis]:
            array = array.rechunk({axis: -1})
        return array[(slice(None),) * axis + (positions,)]
    return namespace(array).take(array, positions_like(array, positions), axis=axis)


def rows_of(factor: Array, positions: npt.NDArray[np.integer[Any]], n_axes: int) -> Array:
    """Return the rows of an array at host positions, to be combined with arrays of more axes.

    Parameters
    ----------
    factor : array, (n_rows, ...)
        with at most `n_axes` axes
    positions : array of int, (n,)
        which rows, on the host
    n_axes : int
        number of axes of the result

    Returns
    -------
    array, (n, 1, ..., 1, ...)
        new axes come after the first one

    """
    rows = take(factor, positions.astype(np.intp, copy=False))
    extra = n_axes - len(rows.shape)
    return rows[(slice(None), *[None] * extra, ...)] if extra else rows


def scale_rows(factor: Array, positions: npt.NDArray[np.integer[Any]], array: Array) -> Array:
    """Multiply rows by those rows of a factor that belong to them.

    Parameters
    ----------
    factor : array, (n_rows, ...)
        of the same library as `array`, with fewer axes or as many
    positions : array of int, (n,)
        which row of `factor` belongs to each row of `array`, on the host
    array : array, (n, ..., ...)
        whose last axes are those of `factor` after the first

    Returns
    -------
    array

    """
    return rows_of(factor, positions, len(array.shape)) * array


def full(shape: tuple[int, ...], value: Any, like: Array) -> Array:
    """Return a constant array with the library, dtype and device of ``like``."""
    if library(like) == "numpy":
        # memory that is known to be zero is not written to
        zeros = type(value) is int and value == 0
        return np.zeros(shape, like.dtype) if zeros else np.full(shape, value, dtype=like.dtype)
    return namespace(like).full(shape, value, dtype=like.dtype, device=_device_of_new(like))


def wraps(result: Array, exact: Array) -> bool:
    """Tell whether integers went beyond their range, given the same numbers in floating point.

    What is not known yet, under compilation or in lazy arrays, is not looked at.
    """
    name = library(result)
    if name == "dask" or is_traced(result):
        return False
    if name == "torch" and not is_plain_tensor(result):  # what its compilers trace
        return False
    xp = namespace(result)
    difference = xp.abs(exact - xp.astype(result, exact.dtype))
    wrapped = xp.any(difference >= 2.0 ** (xp.iinfo(result.dtype).bits - 1))
    try:
        return bool(wrapped)
    except RuntimeError:  # of torch: tensors without data, or inside `vmap`
        if name != "torch":
            raise
        return False


def as_number(value: Any) -> Any:
    """Return one number, None for anything else.

    Returns
    -------
    int, float, complex, array of no axes, or None
        an array if it is one, and not of numpy

    """
    if isinstance(value, (np.generic, np.ndarray)):
        if value.shape != () or value.dtype.kind not in "biufc":
            return None
        return complex(value) if value.dtype.kind == "c" else float(value)
    if isinstance(value, (int, float, complex)):
        return value
    return value if compat.is_array_api_obj(value) and tuple(value.shape) == () else None


def number_like(number: Any, array: Array) -> Any:
    """Return what :func:`as_number` found as real or complex number to be combined with an array.

    Returns
    -------
    float, complex or array of no axes
        an array, with its autograd history, if it is of the library of `array`; it has the dtype
        and device of `array` then

    Raises
    ------
    TypeError
        if it is complex and `array` is not, or if its autograd history would be lost

    """
    if not isinstance(number, (int, float, complex)):
        if library(number) == library(array):
            if kind(number) == "complex" != kind(array):
                _refuse_complex(number, array)
            return _changed_like(number, array)
        if getattr(number, "requires_grad", False):
            raise TypeError(
                f"a number of {library(number)} that requires grad can only be combined with "
                f"values of {library(number)}, got values of {library(array)}; detach it first"
            )
        if is_traced(number):
            raise TypeError(
                "a number that jax is tracing can only be combined with values of jax, got values "
                f"of {library(array)}; use `.to(arrays='jax')`"
            )
        number = to_host(number).item()
    if not isinstance(number, complex):
        return float(number)
    return number if kind(array) == "complex" else _refuse_complex(number, array)


def _changed_like(number: Array, array: Array) -> Array:
    changed = namespace(number).astype(number, array.dtype, copy=False)
    return changed.to(array.device) if library(array) == "torch" else changed


def _refuse_complex(number: Any, array: Array) -> NoReturn:
    raise TypeError(
        f"a complex number can only be combined with complex values, got {number} and values of "
        f"dtype {array.dtype}; convert the values with `.to(...)` first"
    )


def empty(like: Array) -> Array:
    """Return an array of arbitrary values with the library, shape, dtype and device of ``like``."""
    shape = tuple(like.shape)
    if library(like) == "numpy":
        return np.empty(shape, dtype=like.dtype)
    return namespace(like).empty(shape, dtype=like.dtype, device=_device_of_new(like))


def random_uniform(like: Array, rng: np.random.Generator) -> Array:
    """Return random numbers in [0, 1) with the library, shape, dtype and device of ``like``.

    Torch has its own generator, the seed of jax comes from ``rng``.

    Raises
    ------
    ValueError
        for integers.

    """
    name, shape, xp = library(like), tuple(like.shape), namespace(like)
    if not xp.isdtype(like.dtype, ("real floating", "complex floating")):
        raise ValueError(
            f"values must be real or complex to be random numbers in [0, 1), got {like.dtype}; "
            "use `.to(dtype=...)`"
        )
    if name == "torch":
        return sys.modules["torch"].rand_like(like, memory_format=xp.contiguous_format)
    if xp.isdtype(like.dtype, "complex floating"):
        real = xp.real(like)
        parts = random_uniform(real, rng), random_uniform(real, rng)
        return xp.astype(parts[0] + 1j * parts[1], like.dtype)
    if name == "jax":
        random = importlib.import_module("jax.random")
        return random.uniform(random.key(int(rng.integers(2**31))), shape, dtype=like.dtype)
    # multiples of the spacing below 1, none of which is rounded to it
    scale = 2 / float(xp.finfo(like.dtype).eps)
    return from_host(np.floor(scale * rng.random(shape)) / scale, like)


def from_host(host: npt.NDArray[Any], like: Array) -> Array:
    """Return host numbers with the library, dtype and device of ``like``."""
    if library(like) == "numpy":
        return host.astype(like.dtype, copy=False)
    if not host.flags.writeable or min(host.strides, default=0) < 0:
        host = host.copy()  # torch warns about what it could write to, and knows no reversed axes
    return namespace(like).asarray(host, dtype=like.dtype, device=_device_of_new(like))


def kind(array: Array) -> str:
    """Tell what the numbers are: "bool", "integer", "real" or "complex"."""
    name = library(array)
    found = _KINDS.get((name, array.dtype))
    if found is None:
        if name == "numpy":
            kinds = {"b": "bool", "i": "integer", "u": "integer", "c": "complex"}
            found = kinds.get(array.dtype.kind, "real")
        else:
            kinds = {"bool": "bool", "integral": "integer", "complex floating": "complex"}
            is_dtype = namespace(array).isdtype
            found = next((kinds[k] for k in kinds if is_dtype(array.dtype, k)), "real")
        _KINDS[name, array.dtype] = found
    return found


def is_half(array: Array) -> bool:
    """Tell whether real numbers have 16 bits, too few to add up many of them."""
    return getattr(array.dtype, "itemsize", 4) < 4


def as_floating(array: Array) -> Array:
    """Return integers and bools as float64, other numbers as they are.

    They become float32 where jax is not allowed 64 bits.
    """
    if kind(array) in ("real", "complex"):
        return array
    if library(array) == "jax":
        return array.astype(float)
    xp = namespace(array)
    return xp.astype(array, xp.float64)


def sum_axes(array: Array, axes: tuple[int, ...]) -> Array:
    """Sum over some axes, to the same dtype: integers of few bits too."""
    dtype = array.dtype
    if library(array) == "numpy":
        dtype = dtype.newbyteorder("=")  # the other order is no dtype to sum with
    return namespace(array).sum(array, axis=axes, dtype=dtype)


def squares(array: Array) -> Array:
    """Return the squares of numbers, or of the absolute values of complex ones."""
    if kind(array) != "complex":
        return array * array
    xp = namespace(array)
    real, imaginary = xp.real(array), xp.imag(array)
    return real * real + imaginary * imaginary


def real_product(weights: Array, rows: npt.NDArray[np.integer[Any]], array: Array) -> Array:
    """Return the real part of :func:`scale_rows` by conjugate weights."""
    if kind(weights) != "complex":
        return scale_rows(weights, rows, array)
    xp = namespace(array)
    return xp.real(scale_rows(xp.conj(weights), rows, array))


def divide_new(total: Array, divisor: Array) -> Array:
    """Divide an array that nobody else has, in its own memory if the library allows that."""
    if library(total) == "numpy":
        return np.divide(total, divisor, out=total)
    return total / divisor


def root_of_new(square: Array) -> Array:
    """Return the square root of an array that nobody else has; the derivative at zero is zero."""
    if library(square) == "numpy":
        return np.sqrt(square, out=square)
    # autograd would multiply an infinite derivative by zero
    return namespace(square).where(square == 0, square, namespace(square).sqrt(nonzero(square)))


def nonzero(array: Array) -> Array:
    """Return an array with 1 instead of 0."""
    zero = array == 0
    return array + (
        zero if library(array) == "numpy" else namespace(array).astype(zero, array.dtype)
    )


def promote(*arrays: Array) -> Sequence[Array]:
    """Return arrays of one library with the dtype that holds the numbers of all of them.

    Integers count as float64 next to floating point numbers, on every library.
    """
    first = arrays[0]
    library_type, dtype = type(first), first.dtype
    if all(type(array) is library_type and array.dtype == dtype for array in arrays):
        return arrays
    if any(kind(array) in ("real", "complex") for array in arrays):
        arrays = tuple(map(as_floating, arrays))
    xp = namespace(*arrays)
    dtype = xp.result_type(*arrays)
    return [xp.astype(array, dtype, copy=False) for array in arrays]


class Tolerance(NamedTuple):
    """By how much numbers that are near may differ: ``atol + rtol * abs(second)``."""

    rtol: float = 0.0
    atol: float = 0.0
    #: NaN is near to NaN
    equal_nan: bool = False
    #: arrays of different dtypes are not near; the byte order does not count
    same_dtype: bool = False


EXACT = Tolerance()


def near(first: Array, second: Array, tolerance: Tolerance = EXACT) -> bool:
    """Tell whether two arrays have one shape and nearly the same numbers, whatever their libraries.

    Differences are those of float64; only numbers on other devices than the host are compared by
    their library, in their own dtype.
    """
    if not (type(first) is np.ndarray and type(second) is np.ndarray):
        if tuple(first.shape) != tuple(second.shape):
            return False
        first, second = detach(first), detach(second)
        is_known = not (is_traced(first) or is_traced(second))
        if is_known and difference(first, second) is None and _is_out_of_reach(first):
            return not bool(namespace(first).any(far(first, second, tolerance)))
        first, second = to_host(first), to_host(second)
    if tolerance.same_dtype and not same_dtype(first, second):
        return False
    rtol, atol, equal_nan, _ = tolerance
    found = nearness.near(first, second, rtol, atol, equal_nan)
    if found is None and first.shape == second.shape:
        if first.dtype.kind == second.dtype.kind == "f":
            common = np.result_type(first, second, np.float32)
            one, other = (np.ascontiguousarray(array, common) for array in (first, second))
            found = nearness.near(one, other, rtol, atol, equal_nan)
        if found is None:  # such as integers and complex numbers
            found = not far(first, second, tolerance).any()
    return bool(found)


def far(first: Array, second: Array, tolerance: Tolerance) -> Array:
    """Tell which numbers of two arrays of one shape, library and device are not near."""
    rtol, atol, equal_nan, _ = tolerance
    close = first == second
    if equal_nan:
        close = close | ((first != first) & (second != second))
    if rtol or atol:
        if library(first) == "numpy":
            common = np.result_type(first, second, np.float64)
            first, second = first.astype(common, copy=False), second.astype(common, copy=False)
        xp = namespace(first, second)
        with np.errstate(invalid="ignore", over="ignore"):
            limit = atol + rtol * xp.abs(second)
            close = close | ((xp.abs(first - second) <= limit) & xp.isfinite(second))
    return ~close


def _is_out_of_reach(array: Array) -> bool:
    """Tell whether these are numbers on another device, or of a dtype that numpy has not."""
    if library(array) == "numpy" or not namespace(array).isdtype(
        array.dtype, ("real floating", "complex floating")
    ):
        return False
    on_host = "cpu" in str(device(array)).lower()
    return not (on_host and hasattr(np, str(array.dtype).split(".")[-1]))


def readable(array: Array) -> npt.NDArray[Any]:
    """Return numbers for texts, those of dtypes that numpy has not as float32."""
    array = detach(array)
    if not hasattr(np, str(array.dtype).split(".")[-1]) and _is_out_of_reach(array):
        xp = namespace(array)
        array = xp.astype(array, xp.float32)
    return to_host(array)
