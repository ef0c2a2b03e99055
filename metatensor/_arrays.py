"""Which array library is it? The only file that asks.

Everything else calls the array-API namespace that :func:`namespace` returns, or one of the
functions below for what the standard lacks.
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

from metatensor._core import nearness, segments

#: a value array of any library
Array = Any

_NAMESPACES: dict[type, ModuleType] = {}
_LIBRARIES: dict[type, str] = {np.ndarray: "numpy"}
_KINDS: dict[tuple[str, Any], str] = {}
# what the compiled sums over groups take, by the characters of numpy
_SUMMED_DTYPES = frozenset("fdFDbBhHiIlLqQ")
_WEIGHED_DTYPES = frozenset("fd")


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
        raise TypeError(f"values must all be arrays of one library, got {kinds}") from error
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


def is_plain_tensor(array: Array) -> bool:
    """Tell whether an array is a torch tensor itself, not a parameter or another kind of tensor."""
    return library(array) == "torch" and type(array) is sys.modules["torch"].Tensor


def _is_torch(array: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def as_values(array: Any) -> Array:
    """Return ``array`` itself if it can hold the values of a block, or a view of it that can.

    Raises
    ------
    ValueError
        if it is no array at all, or a masked array, whose mask would be lost.

    """
    if type(array) is np.ndarray:
        return array
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(
            "`values` can not be a masked array, its mask would be lost; use `.filled(...)`"
        )
    if isinstance(array, np.generic) or not hasattr(array, "shape"):
        raise ValueError(f"unknown array type for `values`: {type(array)}, an array is required")
    if type(array) in _NAMESPACES or compat.is_array_api_obj(array):
        return array
    if hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__"):
        return np.from_dlpack(array)
    if hasattr(array, "__array__") or hasattr(array, "__array_interface__"):
        return np.asarray(array)
    raise ValueError(f"unknown array type for `values`: {type(array)}, an array is required")


def device(array: Array) -> Any:
    """Return where an array lives: "cpu" for numpy, what the library says otherwise."""
    return "cpu" if library(array) == "numpy" else compat.device(array)


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
    if device(first) != device(other):
        return "device", device(first), device(other)
    return None


def to_host(array: Array) -> npt.NDArray[Any]:
    """Return the data as a numpy array, a view of it where the library allows one.

    Raises
    ------
    RuntimeError
        for a torch tensor that requires gradients: its history would be lost.

    """
    name = library(array)
    if name == "numpy":
        return np.asarray(array)
    if name == "torch":
        host: npt.NDArray[Any] = array.cpu().resolve_conj().resolve_neg().numpy()
        return host
    if name == "cupy":
        return np.asarray(array.get())
    try:
        return np.asarray(array)
    except (TypeError, ValueError):
        if not hasattr(array, "__dlpack__"):
            raise
        return np.from_dlpack(compat.to_device(array, "cpu"))


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


def positions_like(array: Array, positions: npt.NDArray[np.intp]) -> Array:
    """Return host positions as an index array for ``array``, on its device."""
    if library(array) in ("numpy", "dask"):  # dask indexes chunks by what it knows
        return positions
    xp = namespace(array)
    return xp.asarray(positions, device=compat.device(array))


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
    extra = n_axes - rows.ndim
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
    return rows_of(factor, positions, array.ndim) * array


def full(shape: tuple[int, ...], value: Any, like: Array) -> Array:
    """Return a constant array with the library, dtype and device of ``like``."""
    if library(like) == "numpy":
        # memory that is known to be zero is not written to
        zeros = type(value) is int and value == 0
        return np.zeros(shape, like.dtype) if zeros else np.full(shape, value, dtype=like.dtype)
    return namespace(like).full(shape, value, dtype=like.dtype, device=compat.device(like))


def wraps(result: Array, exact: Array) -> bool:
    """Tell whether integers went beyond their range, given the same numbers in floating point.

    What is not known yet, under compilation or in lazy arrays, is not looked at.
    """
    name = library(result)
    if name == "dask" or (name == "jax" and isinstance(result, sys.modules["jax"].core.Tracer)):
        return False
    xp = namespace(result)
    difference = xp.abs(exact - xp.astype(result, exact.dtype))
    return bool(xp.any(difference >= 2.0 ** (xp.iinfo(result.dtype).bits - 1)))


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
    return namespace(like).empty(shape, dtype=like.dtype, device=compat.device(like))


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
    if not host.flags.writeable:
        host = host.copy()  # torch warns about arrays it could write to
    return namespace(like).asarray(host, dtype=like.dtype, device=compat.device(like))


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


def segment_sum(array: Array, groups: npt.NDArray[np.intp], size: int, axis: int = 0) -> Array:
    """Sum the rows of each group, out of place.

    Parameters
    ----------
    array : array, (n, ...) or (..., n)
        numbers
    groups : array of intp, (n,)
        number of the group of each entry of the axis, on the host
    size : int
        how many groups there are
    axis : {0, -1}
        what is summed

    Returns
    -------
    array, (size, ...) or (..., size)
        of the same dtype. Rows are added in their order, or pairwise if the library can not.

    """
    name = library(array)
    if name == "numpy":
        return _numpy_segment_sum(array, groups, size, axis)
    if size == 0 or len(groups) == 0:
        return full(_with_axis(array, axis, size), 0, array)
    if name == "torch":
        zeros = full(_with_axis(array, axis, size), 0, array)
        return zeros.index_add(axis, positions_like(array, groups), array)
    if name == "jax":
        zeros = full(_with_axis(array, axis, size), 0, array)
        return zeros.at[_along(axis, groups)].add(array)
    if name == "dask":
        return _map_blocks(segment_sum, array, groups, size, axis)
    return _segment_fold("add", array, groups, size, axis)


def segment_max(array: Array, groups: npt.NDArray[np.intp], size: int, axis: int = 0) -> Array:
    """Return the largest of the rows of each group, which must all have rows; NaN propagates.

    See :func:`segment_sum` for the parameters.
    """
    return _segment_extreme("max", array, groups, size, axis)


def segment_min(array: Array, groups: npt.NDArray[np.intp], size: int, axis: int = 0) -> Array:
    """Return the smallest of the rows of each group; see :func:`segment_max`."""
    return _segment_extreme("min", array, groups, size, axis)


def _segment_extreme(
    which: str, array: Array, groups: npt.NDArray[np.intp], size: int, axis: int
) -> Array:
    name = library(array)
    if size == 0 or len(groups) == 0:
        return full(_with_axis(array, axis, size), 0, array)
    if name == "numpy":
        order = np.argsort(groups, kind="stable")
        starts = np.searchsorted(groups[order], np.arange(size))
        reduce = np.maximum if which == "max" else np.minimum
        return reduce.reduceat(np.take(array, order, axis=axis), starts, axis=axis)
    if name == "torch":
        shape = _with_axis(array, axis, size)
        positions = positions_like(array, groups)
        positions = positions.reshape((-1,) + (1,) * (array.ndim - 1)) if axis == 0 else positions
        return full(shape, 0, array).scatter_reduce(
            axis, positions.expand_as(array), array, f"a{which}", include_self=False
        )
    if name == "jax":
        first = np.unique(groups, return_index=True)[1]
        start = take(array, first, axis)
        return getattr(start.at[_along(axis, groups)], which)(array)
    if name == "dask":
        function = segment_max if which == "max" else segment_min
        return _map_blocks(function, array, groups, size, axis)
    return _segment_fold(f"{which}imum", array, groups, size, axis)


def _with_axis(array: Array, axis: int, size: int) -> tuple[int, ...]:
    """Return the shape of an array with another size of the first or last axis."""
    shape = tuple(array.shape)
    return (size, *shape[1:]) if axis == 0 else (*shape[:-1], size)


def _along(axis: int, groups: npt.NDArray[np.intp]) -> Any:
    return groups if axis == 0 else (..., groups)


def _numpy_segment_sum(
    array: npt.NDArray[Any], groups: npt.NDArray[np.intp], size: int, axis: int
) -> npt.NDArray[Any]:
    shape = _with_axis(array, axis, size)
    if array.dtype.char not in _SUMMED_DTYPES:
        sums = np.zeros(shape, dtype=array.dtype)
        np.add.at(sums, _along(axis, groups), array)
        return sums
    rows = _native(array)
    if axis == 0:
        rows = rows.reshape(len(rows), math.prod(shape[1:]))
        return segments.segment_sum(rows, groups, size).reshape(shape)
    rows = rows.reshape(math.prod(shape[:-1]), len(groups))
    return segments.segment_sum_columns(rows, groups, size).reshape(shape)


def _native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what kernels read: C-contiguous, in the byte order of the machine."""
    if array.flags.c_contiguous and array.dtype.isnative:
        return array
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def _map_blocks(
    function: Any, array: Array, groups: npt.NDArray[np.intp], size: int, axis: int
) -> Array:
    """Apply a sum over groups to the blocks of a dask array, none of which cuts a group."""
    axis %= array.ndim
    whole = array.rechunk({axis: -1})
    chunks = [*whole.chunks]
    chunks[axis] = (size,)
    where = 0 if axis == 0 else -1
    return whole.map_blocks(
        function, groups=groups, size=size, axis=where, chunks=tuple(chunks), dtype=array.dtype
    )


def _segment_fold(
    combine: str, array: Array, groups: npt.NDArray[np.intp], size: int, axis: int
) -> Array:
    """Combine neighbours of one group, and again what comes of it, until one row is left.

    This needs nothing but `take`, and the work is that of a few passes, however many groups there
    are and however different their sizes. Groups without rows get zeros.
    """
    xp = namespace(array)
    numbers, counts = np.unique(groups, return_counts=True)
    array = take(array, np.argsort(groups, kind="stable"), axis)
    while counts.max() > 1:
        halves = (counts + 1) // 2
        pair = np.arange(halves.sum()) - np.repeat(np.cumsum(halves) - halves, halves)
        left = np.repeat(np.cumsum(counts) - counts, halves) + 2 * pair
        alone = 2 * pair + 1 == np.repeat(counts, halves)
        first, second = take(array, left, axis), take(array, left + ~alone, axis)
        keep = positions_like(array, alone)
        keep = xp.reshape(keep, (-1,) + (1,) * (array.ndim - 1)) if axis == 0 else keep
        array, counts = xp.where(keep, first, getattr(xp, combine)(first, second)), halves
    if len(numbers) == size:
        return array
    rows = np.full(size, len(numbers))
    rows[numbers] = np.arange(len(numbers))
    return take(
        xp.concat([array, full(_with_axis(array, axis, 1), 0, array)], axis=axis), rows, axis
    )


def segment_sum_squares(array: Array, groups: npt.NDArray[np.intp], centres: Array) -> Array:
    """Sum the squared distances of the rows of each group from its centre, (n_groups, ...)."""
    if _has_kernel(array):
        rows, centre = _native(array), _native(centres)
        columns = math.prod(rows.shape[1:])
        sums = segments.segment_sum_squares(
            rows.reshape(len(rows), columns), groups, centre.reshape(len(centre), columns)
        )
        return sums.reshape(centres.shape)
    return segment_sum(squares(array - take(centres, groups)), groups, centres.shape[0])


def squares(array: Array) -> Array:
    """Return the squares of numbers, or of the absolute values of complex ones."""
    if kind(array) != "complex":
        return array * array
    xp = namespace(array)
    real, imaginary = xp.real(array), xp.imag(array)
    return real * real + imaginary * imaginary


def segment_sum_products(
    array: Array,
    groups: npt.NDArray[np.intp],
    size: int,
    weights: Array,
    rows: npt.NDArray[np.integer[Any]],
    centres: Array | None = None,
    centre_rows: npt.NDArray[np.intp] | None = None,
) -> Array:
    """Multiply rows by weights, and sum those of each group.

    Parameters
    ----------
    array : array, (n, ..., ...)
        numbers
    groups : array of intp, (n,)
        number of the group of each row, on the host
    size : int
        how many groups there are
    weights : array, (n_weights, ...)
        see :func:`scale_rows`; of the same library
    rows : array of int, (n,)
        which row of the weights belongs to each row, on the host
    centres : array, (n_centres, ...), optional
        subtracted from the weights
    centre_rows : array of intp, (n_weights,), optional
        which row of `centres` is subtracted from each row of the weights, on the host

    Returns
    -------
    array, (size, ..., ...)
        the real part, if the numbers are complex, of the products with the conjugate weights

    """
    if _has_kernel(array):
        values, weight = _native(array), _native(weights)
        columns = math.prod(weight.shape[1:])
        repeats = math.prod(values.shape[1 : 1 + values.ndim - weight.ndim])
        sums = segments.segment_sum_products(
            values.reshape(len(values), repeats, columns),
            groups,
            size,
            weight.reshape(len(weight), columns),
            rows.astype(np.intp, copy=False),
            None if centres is None else _native(centres).reshape(len(centres), columns),
            centre_rows,
        )
        return sums.reshape(size, *values.shape[1:])
    if centres is not None and centre_rows is not None:
        weights = weights - take(centres, centre_rows)
    return segment_sum(real_product(weights, rows, array), groups, size)


def real_product(weights: Array, rows: npt.NDArray[np.integer[Any]], array: Array) -> Array:
    """Return the real part of :func:`scale_rows` by conjugate weights."""
    if kind(weights) != "complex":
        return scale_rows(weights, rows, array)
    xp = namespace(array)
    return xp.real(scale_rows(xp.conj(weights), rows, array))


def root(square: Array) -> Array:
    """Return the square root of numbers that are not negative; zero gets a derivative of zero."""
    xp = namespace(square)
    if library(square) == "numpy":
        return xp.sqrt(square)
    # autograd would multiply an infinite derivative by zero
    return xp.where(square == 0, square, xp.sqrt(nonzero(square)))


def nonzero(array: Array) -> Array:
    """Return an array with 1 instead of 0."""
    zero = array == 0
    return array + (
        zero if library(array) == "numpy" else namespace(array).astype(zero, array.dtype)
    )


def _has_kernel(array: Array) -> bool:
    return library(array) == "numpy" and array.dtype.char in _WEIGHED_DTYPES


def promote(*arrays: Array) -> Sequence[Array]:
    """Return arrays of one library with the dtype that holds the numbers of all of them."""
    first = arrays[0]
    kind, dtype = type(first), first.dtype
    if all(type(array) is kind and array.dtype == dtype for array in arrays):
        return arrays
    xp = namespace(*arrays)
    dtype = xp.result_type(*arrays)
    return [xp.astype(array, dtype, copy=False) for array in arrays]


def einsum(terms: Sequence[str], result: str, arrays: Sequence[Array]) -> Array:
    """Multiply arrays, and sum over the axes that the result has not.

    Parameters
    ----------
    terms : sequence of str
        a letter for each axis of each array, none twice in one array
    result : str
        a letter for each axis of the result
    arrays : sequence of array
        of one library

    Returns
    -------
    array

    """
    arrays = promote(*arrays)
    expression = ",".join(terms) + "->" + result
    if library(arrays[0]) == "numpy":
        return np.einsum(expression, *arrays, optimize=_is_large(terms, result, arrays))
    xp = namespace(*arrays)
    if hasattr(xp, "einsum"):
        return xp.einsum(expression, *arrays)
    return _einsum_in_steps(terms, result, arrays)


def _is_large(terms: Sequence[str], result: str, arrays: Sequence[Array]) -> bool:
    """Tell whether searching a matrix product in a product pays for numpy."""
    if len(arrays) != 2:
        return len(arrays) > 2
    if math.prod([array.size for array in arrays]) < 20_000:
        return False
    first, second = map(set, terms)
    if not (first - second and second - first and first & second - set(result)):
        return False
    sizes: dict[str, int] = {}
    for term, array in zip(terms, arrays):
        sizes.update(zip(term, array.shape))
    return math.prod(sizes.values()) > 20_000


def _einsum_in_steps(terms: Sequence[str], result: str, arrays: Sequence[Array]) -> Array:
    """Multiply one array after the other; the standard has no einsum."""
    xp = namespace(*arrays)
    letters, product = terms[0], arrays[0]
    for number in range(1, len(terms) + 1):
        kept = set(result).union(*terms[number:])
        summed = tuple([axis for axis, letter in enumerate(letters) if letter not in kept])
        if summed:
            product = xp.sum(product, axis=summed, dtype=product.dtype)
            letters = "".join([letter for letter in letters if letter in kept])
        if number < len(terms):
            joined = letters + "".join([name for name in terms[number] if name not in letters])
            factor = _spread(arrays[number], terms[number], joined)
            letters, product = joined, _spread(product, letters, joined) * factor
    return xp.permute_dims(product, tuple([letters.index(letter) for letter in result]))


def _spread(array: Array, letters: str, joined: str) -> Array:
    """Return an array with axes of size 1 where it has none of the letters."""
    xp = namespace(array)
    order = [letters.index(letter) for letter in joined if letter in letters]
    sizes = dict(zip(letters, array.shape))
    shape = tuple([sizes.get(letter, 1) for letter in joined])
    return xp.reshape(xp.permute_dims(array, tuple(order)), shape)


def lstsq(features: Array, targets: Array, rcond: float | None, driver: str | None) -> Array:
    """Return the solution W of the smallest norm that minimises ``|features @ W - targets|``.

    Parameters
    ----------
    features, targets : array, (n_rows, n_columns) and (n_rows, n_targets)
        of one library and dtype
    rcond : float or None
        relative cut-off for singular values; None is the default of the library
    driver : str or None
        for torch

    Returns
    -------
    array, (n_columns, n_targets)

    """
    name = library(features)
    if name == "torch":
        linalg = sys.modules["torch"].linalg
        return linalg.lstsq(features, targets, rcond=rcond, driver=driver).solution
    if name in ("numpy", "jax"):
        return namespace(features).linalg.lstsq(features, targets, rcond=rcond)[0]
    if name == "dask":  # a small problem, whose chunks are no blocks of equations
        return namespace(features).asarray(
            lstsq(to_host(features), to_host(targets), rcond, driver)
        )
    xp = namespace(features, targets)
    if 0 in features.shape or 0 in targets.shape:
        return full((features.shape[1], targets.shape[1]), 0, features)
    left, singular, right = xp.linalg.svd(features, full_matrices=False)
    if rcond is None:
        rcond = float(xp.finfo(singular.dtype).eps) * max(features.shape)
    kept = singular > rcond * xp.max(singular)
    one = xp.ones_like(singular)
    inverse = xp.where(kept, one / xp.where(kept, singular, one), xp.zeros_like(singular))
    return _adjoint(right) @ (inverse[:, None] * (_adjoint(left) @ targets))


def _adjoint(matrix: Array) -> Array:
    xp = namespace(matrix)
    return xp.conj(matrix).T if xp.isdtype(matrix.dtype, "complex floating") else matrix.T


def solve(matrix: Array, targets: Array) -> Array:
    """Return W with ``matrix @ W = targets``, or raise numpy's LinAlgError."""
    name, xp = library(matrix), namespace(matrix, targets)
    if name == "dask":  # a small problem, whose chunks are no square matrices
        return xp.asarray(solve(to_host(matrix), to_host(targets)))
    if name == "torch":
        torch = sys.modules["torch"]
        try:
            return torch.linalg.solve(matrix, targets)
        except torch.linalg.LinAlgError as error:
            raise np.linalg.LinAlgError(f"singular matrix: {error}") from error
    solution = xp.linalg.solve(matrix, targets)
    if name == "jax" and not isinstance(solution, sys.modules["jax"].core.Tracer):
        finite = [bool(xp.all(xp.isfinite(array))) for array in (matrix, targets, solution)]
        if finite == [True, True, False]:
            raise np.linalg.LinAlgError("singular matrix")
    return solution


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
        if difference(first, second) is None and _is_out_of_reach(first):
            return not bool(namespace(first).any(far(first, second, tolerance)))
        first, second = to_host(detach(first)), to_host(detach(second))
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


class Target(NamedTuple):
    """Where ``to`` moves data: anything that is None stays as it is."""

    dtype: Any = None
    device: Any = None
    arrays: str | None = None
    non_blocking: bool = False


_BACKENDS = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy", "cupy": "cupy"}


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
    if arrays is not None and arrays not in _BACKENDS:
        raise ValueError(f"`arrays` must be one of {list(_BACKENDS)}, got {arrays!r}")
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
    if target.arrays is not None and target.arrays != library(array):
        array = _change_library(array, target.arrays, target.dtype)
    if target.dtype is not None:
        array = _change_dtype(array, target.dtype)
    if target.device is not None:
        array = _change_device(array, target.device, target.non_blocking)
    return array


def _change_library(array: Array, name: str, dtype: Any) -> Array:
    if name == "numpy":
        return to_host(array)
    try:
        module = importlib.import_module(_BACKENDS[name])
    except ImportError as error:
        raise ImportError(
            f"arrays={name!r} needs the package {name!r}, which is not installed"
        ) from error
    host = to_host(array)
    host = host.astype(host.dtype.newbyteorder("="), copy=False)
    if name == "torch":
        # torch shares memory, ignores that numpy arrays are read-only, and has no negative strides
        shareable = host.flags.writeable and all(stride >= 0 for stride in host.strides)
        return module.from_numpy(host if shareable else host.copy())
    if dtype is not None:
        host = host.astype(dtype, copy=False)
    moved = module.asarray(host)
    if moved.dtype != host.dtype:
        raise ValueError(
            f"{name} would turn {host.dtype} into {moved.dtype}; convert the values first, or "
            "allow 64-bit numbers with `jax.config.update('jax_enable_x64', True)`"
        )
    return moved


def _change_dtype(array: Array, dtype: Any) -> Array:
    name = library(array)
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
    return namespace(array).astype(array, dtype, copy=False)


def _change_device(array: Array, where: Any, non_blocking: bool) -> Array:
    name = library(array)
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
