"""Maps with the same Labels for all batches, so that functions are traced once."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.operations import _parameters
from metatensor.operations._blockwise import Tensor, on_blocks, refuse_nested

__all__ = ["pad_samples"]

_Names = tuple[str, ...]
_Positions = npt.NDArray[np.int64]


@operation
def pad_samples(
    tensor: Tensor,
    sizes: Mapping[str, int],
    *,
    numbers: Mapping[str, Sequence[int]] | None = None,
    within: str | Iterable[str] = "system",
) -> Tensor:
    """Give blocks all samples of a grid, with zeros for those that are not there.

    All maps that are padded to one grid have the same Labels, so that a function of them is traced
    by jax once. What is added has values of zero: sums over samples stay as they are, means do not,
    and what a function makes of zeros is left out by :func:`~metatensor.where`, or of the result by
    :func:`~metatensor.slice`. What has no derivative at zero, such as a norm, needs
    :func:`~metatensor.where` before it too, to put ones there: jax would give NaN for all.

    Gradients: padded too, with rows of zeros, which change no derivative. Each sample gets rows for
    all combinations of the gradient's own sample dimensions; those `within` are the sample's own,
    such as "system". Components stay as they are.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        best of numpy arrays, before it is moved to jax, which compiles for each number of rows
    sizes : dict of str to int
        for each dimension of the samples, how many values it has in the grid: 0, 1, 2...
    numbers : dict of str to sequence of int, optional
        for some dimensions, which values become 0, 1, 2..., such as the systems of a batch
    within : str or sequence of str, default="system"
        sample names in which rows of a gradient and their samples always agree

    Returns
    -------
    TensorMap or TensorBlock
        whose samples are the grid, the last dimension varying fastest

    Raises
    ------
    TypeError
        if sizes or numbers are no integers
    ValueError
        if a dimension of the samples, or of those of the gradients, has no size, or a value that is
        not in the grid; if numbers are of a dimension without size, or more than it; or if a row of
        a gradient differs from its sample in a dimension `within`
    NotImplementedError
        for gradients of gradients

    See Also
    --------
    metatensor.slice : to take the samples that were there out of a result

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.jax import pad_samples
    >>> samples = Labels(["system", "atom"], np.array([[7, 0], [7, 1], [9, 0]]))
    >>> block = TensorBlock(np.array([[1.0], [2.0], [3.0]]), samples, [], Labels.range("n", 1))
    >>> padded = pad_samples(block, {"system": 3, "atom": 2}, numbers={"system": [7, 9]})
    >>> padded.values.ravel()
    array([1., 2., 3., 0., 0., 0.])
    >>> padded.samples
    Labels
        system  atom
          0      0
          0      1
          1      0
          1      1
          2      0
          2      1

    """
    if not isinstance(sizes, Mapping) or not isinstance(numbers or {}, Mapping):
        raise TypeError("`sizes` and `numbers` must be dicts with names of dimensions as keys")
    names = _parameters.names_within(within)
    return on_blocks(_pad, tensor, _Grid.checked(sizes, numbers or {}), names)


class _Grid(NamedTuple):
    sizes: dict[str, int]
    numbers: dict[str, _Positions]

    @classmethod
    def checked(cls, sizes: Mapping[str, int], numbers: Mapping[str, Sequence[int]]) -> _Grid:
        known = {}
        for name, size in sizes.items():
            known[name] = _checks.require_int(size, f"size of {name!r}")
            if known[name] < 0:
                raise ValueError(f"size of {name!r} must not be negative, got {size}")
        arrays = {name: np.asarray(values) for name, values in numbers.items()}
        for name, array in arrays.items():
            if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
                raise TypeError(
                    f"`numbers` of {name!r} must be integers in one dimension, got an array of "
                    f"{array.dtype} with shape {array.shape}"
                )
            if name not in known:
                raise ValueError(
                    f"`sizes` must have all dimensions of `numbers`, got none for {name!r} and "
                    f"sizes for {list(known)}"
                )
            if len(array) > known[name]:
                raise ValueError(
                    f"`numbers` of {name!r} must be at most {known[name]}, its size, got "
                    f"{len(array)} of them"
                )
        return cls(known, {name: array.astype(np.int64) for name, array in arrays.items()})

    def shape(self, names: _Names) -> tuple[int, ...]:
        """Return the sizes of some dimensions."""
        for name in names:
            if name not in self.sizes:
                raise ValueError(
                    f"`sizes` must have all dimensions of the samples, got none for {name!r} and "
                    f"sizes for {list(self.sizes)}"
                )
        return tuple([self.sizes[name] for name in names])

    def columns(self, labels: Labels, names: _Names) -> dict[str, _Positions]:
        """Return where in the grid the entries of some dimensions are."""
        self.shape(names)
        return {name: self._column(name, labels) for name in names}

    def _column(self, name: str, labels: Labels) -> _Positions:
        column = labels._table[:, labels._names.index(name)].astype(np.int64)
        if name in self.numbers:
            column = _position_in(self.numbers[name], column, name)
        outside = (column < 0) | (column >= self.sizes[name])
        if outside.any():
            raise ValueError(
                f"values of {name!r} must be in [0, {self.sizes[name]}) to be in the grid, got "
                f"{column[outside][0]}; make it larger, or use `numbers`"
            )
        return column


def _position_in(numbers: _Positions, column: _Positions, name: str) -> _Positions:
    unique, positions = np.unique(numbers, return_index=True)
    if len(unique) != len(numbers):
        raise ValueError(f"`numbers` of {name!r} must be unique, got {numbers.tolist()}")
    missing = column[~np.isin(column, unique)]
    if len(missing):
        raise ValueError(f"`numbers` of {name!r} must have all of its values, got no {missing[0]}")
    return positions[np.searchsorted(unique, column)] if len(column) else column


def _pad(block: TensorBlock, grid: _Grid, within: _Names) -> TensorBlock:
    refuse_nested(block, "pad_samples")
    names = block._samples._names
    shape = grid.shape(names)
    columns = grid.columns(block._samples, names)
    rows = _ravel([columns[name] for name in names], shape, len(block._samples))
    gradients = {
        parameter: _pad_gradient(gradient, parameter, columns, rows, grid, within)
        for parameter, gradient in block._gradients.items()
    }
    return TensorBlock._of(
        _spread(block._values, rows, math.prod(shape)),
        _samples(names, shape),
        block._components,
        block._properties,
        gradients,
    )


def _pad_gradient(
    gradient: TensorBlock,
    parameter: str,
    columns: dict[str, _Positions],
    rows: _Positions,
    grid: _Grid,
    within: _Names,
) -> TensorBlock:
    own = gradient._samples._names[1:]
    parents = gradient._samples._table[:, 0]
    entries = grid.columns(gradient._samples, own)
    tied = [name for name in own if name in columns and name in within]
    for name in tied:
        if (entries[name] != columns[name][parents]).any():
            raise ValueError(
                f"rows of the gradient {parameter!r} must have the {name!r} of their sample to be "
                "padded; leave it out of `within`"
            )
    names, free = tuple(columns), tuple([name for name in own if name not in tied])
    shape = grid.shape(free)
    per_sample = math.prod(shape)
    positions = rows[parents] * per_sample + _ravel(
        [entries[name] for name in free], shape, len(parents)
    )
    n_rows = math.prod(grid.shape(names)) * per_sample
    return TensorBlock._of(
        _spread(gradient._values, positions, n_rows),
        _gradient_samples(names, grid.shape(names), own, free, shape),
        gradient._components,
        gradient._properties,
    )


def _ravel(columns: list[_Positions], shape: tuple[int, ...], n_rows: int) -> _Positions:
    positions = np.zeros(n_rows, dtype=np.int64)
    for column, size in zip(columns, shape, strict=True):
        positions = positions * size + column
    return positions


def _unravel(shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """Return all entries of a grid, (n_entries, n_dimensions)."""
    table = np.zeros((math.prod(shape), len(shape)), dtype=np.int32)
    rest = np.arange(len(table))
    for column in range(len(shape) - 1, -1, -1):
        table[:, column] = rest % max(shape[column], 1)
        rest = rest // max(shape[column], 1)
    return table


@functools.lru_cache(maxsize=64)
def _samples(names: _Names, shape: tuple[int, ...]) -> Labels:
    """Return the grid; Labels that are the same are compared by jax at once."""
    return Labels._of(names, _unravel(shape))


@functools.lru_cache(maxsize=64)
def _gradient_samples(
    names: _Names, shape: tuple[int, ...], own: _Names, free: _Names, free_shape: tuple[int, ...]
) -> Labels:
    samples, entries = _unravel(shape), _unravel(free_shape)
    sample = np.repeat(np.arange(len(samples), dtype=np.int32), len(entries))
    columns = [sample]
    for name in own:
        if name in free:
            columns.append(np.tile(entries[:, free.index(name)], len(samples)))
        else:
            columns.append(samples[sample, names.index(name)])
    return Labels._of(("sample", *own), np.ascontiguousarray(np.stack(columns, axis=1)))


def _spread(values: _arrays.Array, rows: _Positions, n_rows: int) -> _arrays.Array:
    """Return an array with more rows, those that are not given being zero."""
    index = np.full(n_rows, len(rows), dtype=np.intp)
    index[rows] = np.arange(len(rows))
    zero = _arrays.full((1, *values.shape[1:]), 0, values)
    return _arrays.take(_arrays.namespace(values).concat([values, zero], axis=0), index)
