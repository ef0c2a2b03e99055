"""Sums and extremes over groups of rows, in each array library."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from metatensor import _arrays
from metatensor._arrays import Array
from metatensor._core import segments

# what the compiled sums over groups take, by the characters of numpy
_SUMMED_DTYPES = frozenset("fdFDbBhHiIlLqQ")
_WEIGHED_DTYPES = frozenset("fd")


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
    name = _arrays.library(array)
    if name == "numpy":
        return _numpy_segment_sum(array, groups, size, axis)
    if size == 0 or len(groups) == 0:
        return _arrays.full(_with_axis(array, axis, size), 0, array)
    if name == "torch":
        zeros = _arrays.full(_with_axis(array, axis, size), 0, array)
        return zeros.index_add(axis, _arrays.positions_like(array, groups), array)
    if name == "jax":
        zeros = _arrays.full(_with_axis(array, axis, size), 0, array)
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
    name = _arrays.library(array)
    if size == 0 or len(groups) == 0:
        return _arrays.full(_with_axis(array, axis, size), 0, array)
    if name == "numpy":
        order = np.argsort(groups, kind="stable")
        starts = np.searchsorted(groups[order], np.arange(size))
        reduce = np.maximum if which == "max" else np.minimum
        return reduce.reduceat(np.take(array, order, axis=axis), starts, axis=axis)
    if name == "torch":
        shape = _with_axis(array, axis, size)
        positions = _arrays.positions_like(array, groups)
        positions = positions.reshape((-1,) + (1,) * (array.ndim - 1)) if axis == 0 else positions
        return _arrays.full(shape, 0, array).scatter_reduce(
            axis, positions.expand_as(array), array, f"a{which}", include_self=False
        )
    if name == "jax":
        first = np.unique(groups, return_index=True)[1]
        start = _arrays.take(array, first, axis)
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
    """Return what kernels read: C-contiguous, aligned, in the byte order of the machine."""
    if array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative:
        return array
    return np.require(array, array.dtype.newbyteorder("="), ["C", "A"])


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
    xp = _arrays.namespace(array)
    numbers, counts = np.unique(groups, return_counts=True)
    array = _arrays.take(array, np.argsort(groups, kind="stable"), axis)
    while counts.max() > 1:
        halves = (counts + 1) // 2
        pair = np.arange(halves.sum()) - np.repeat(np.cumsum(halves) - halves, halves)
        left = np.repeat(np.cumsum(counts) - counts, halves) + 2 * pair
        alone = 2 * pair + 1 == np.repeat(counts, halves)
        first, second = _arrays.take(array, left, axis), _arrays.take(array, left + ~alone, axis)
        keep = _arrays.positions_like(array, alone)
        keep = xp.reshape(keep, (-1,) + (1,) * (len(array.shape) - 1)) if axis == 0 else keep
        array, counts = xp.where(keep, first, getattr(xp, combine)(first, second)), halves
    if len(numbers) == size:
        return array
    rows = np.full(size, len(numbers))
    rows[numbers] = np.arange(len(numbers))
    return _arrays.take(
        xp.concat([array, _arrays.full(_with_axis(array, axis, 1), 0, array)], axis=axis),
        rows,
        axis,
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
    return segment_sum(
        _arrays.squares(array - _arrays.take(centres, groups)), groups, centres.shape[0]
    )


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
        weights = weights - _arrays.take(centres, centre_rows)
    return segment_sum(_arrays.real_product(weights, rows, array), groups, size)


def _has_kernel(array: Array) -> bool:
    return _arrays.library(array) == "numpy" and array.dtype.char in _WEIGHED_DTYPES
