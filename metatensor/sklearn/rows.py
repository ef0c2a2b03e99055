"""Rows: what lets scikit-learn count, cut and reorder labelled blocks without knowing them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from numbers import Number
from types import EllipsisType, ModuleType
from typing import Any, Literal

import array_api_compat.numpy
import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks
from metatensor._core import sets
from metatensor._core.rows import first_duplicate
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _alignment
from metatensor.tensor import TensorMap

Positions = npt.NDArray[np.intp]
RowKey = int | np.integer[Any] | slice | Sequence[int] | Sequence[bool] | npt.NDArray[Any]


class Rows:
    """A TensorMap seen as a list of rows, which scikit-learn can split.

    A row is one value of some sample dimensions, usually one system: it has as many samples as
    there are with this value, in every block, and their gradients. Indexing with positions, a
    slice or a mask gives the rows there; the samples and gradient rows that belong to them are
    only gathered when :attr:`tensor` is asked for.

    Parameters
    ----------
    tensor : TensorMap
        the data
    by : str or sequence of str, default="system"
        names of the sample dimensions that say to which row a sample belongs
    rows : Labels, optional
        all the rows, with the names in `by`; may have rows without any sample. By default, the
        values of `by` in the samples of all blocks, sorted.

    Raises
    ------
    TypeError
        if `tensor` is no TensorMap
    ValueError
        if a name in `by` is no sample dimension, or samples belong to none of the `rows`

    See Also
    --------
    as_rows : several tensors with the same rows

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import Rows
    >>> block = TensorBlock(
    ...     np.arange(8.0).reshape(4, 2),
    ...     Labels(["system", "atom"], np.array([[0, 0], [0, 1], [3, 0], [7, 0]])),
    ...     [],
    ...     Labels.range("n", 2),
    ... )
    >>> rows = Rows(TensorMap(Labels.single(), [block]), by="system")
    >>> rows.shape
    (3, 2)
    >>> rows[[2, 0]].tensor.block().samples
    Labels
        system  atom
          7      0
          0      0
          0      1

    """

    def __init__(
        self, tensor: TensorMap, by: str | Sequence[str] = "system", rows: Labels | None = None
    ) -> None:
        _checks.require_type(tensor, TensorMap, "tensor")
        names = _checks.names_tuple(by, "by")
        if not names:
            raise ValueError("`by` must have the name of at least one sample dimension, got none")
        if len(set(names)) < len(names):
            raise ValueError(f"`by` must have different names, got {list(names)}")
        self._source = _Source(tensor, names, rows)
        self._positions: Positions | None = None
        in_order = all((numbers[1:] >= numbers[:-1]).all() for numbers in self._source.numbers)
        self._tensor: TensorMap | None = tensor if in_order else None

    # ---- access

    @property
    def tensor(self) -> TensorMap:
        """The samples of these rows, in the order of the rows, with their gradient rows."""
        if self._tensor is None:
            everything = np.arange(len(self))
            positions = everything if self._positions is None else self._positions
            self._tensor = self._source.take(positions)
        return self._tensor

    @property
    def _data(self) -> TensorMap:
        """The same as `tensor`, with samples in any order: for code that goes by labels."""
        if self._tensor is None and self._positions is None:
            return self._source.tensor
        return self.tensor

    @property
    def by(self) -> tuple[str, ...]:
        """Names of the sample dimensions that make a row."""
        return self._source.by

    @property
    def rows(self) -> Labels:
        """What the rows are, with the names in `by`."""
        rows = self._source.rows
        if self._positions is None:
            return rows
        return Labels._of(rows._names, rows._table[self._positions])

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows, and of properties of all blocks together."""
        return len(self), sum(len(block._properties) for block in self._source.tensor)

    @property
    def ndim(self) -> int:
        """Always 2."""
        return 2

    @property
    def device(self) -> str:
        """Where positions of rows live, which is always the host."""
        return "cpu"

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._source.rows) if self._positions is None else len(self._positions)

    def __getitem__(self, key: RowKey | tuple[RowKey, EllipsisType | slice]) -> Rows:
        """Return the rows at some positions; nothing is copied yet."""
        if isinstance(key, tuple):
            if len(key) != 2 or not (
                key[1] is Ellipsis or (isinstance(key[1], slice) and key[1] == slice(None))
            ):
                raise TypeError("only the rows of Rows can be indexed, not their properties")
            key = key[0]
        positions = as_positions(key, len(self))
        part = Rows.__new__(Rows)
        part._source = self._source
        part._positions = positions if self._positions is None else self._positions[positions]
        part._tensor = None
        return part

    def groups(self, name: str) -> npt.NDArray[np.int32]:
        """Return the value of one sample dimension for each row, such as ``GroupKFold`` needs.

        Parameters
        ----------
        name : str
            one of `by`, or another sample dimension that is the same for all samples of a row

        Returns
        -------
        array of int32, (n_rows,)

        Raises
        ------
        ValueError
            if there is no such dimension, it differs within a row, or a row has no samples

        Examples
        --------
        >>> import numpy as np
        >>> from metatensor import Labels, TensorBlock, TensorMap
        >>> samples = Labels(["trajectory", "system"], np.array([[5, 0], [5, 1], [9, 2]]))
        >>> block = TensorBlock(np.zeros((3, 1)), samples, [], Labels.range("n", 1))
        >>> Rows(TensorMap(Labels.single(), [block]), by="system").groups("trajectory")
        array([5, 5, 9], dtype=int32)

        """
        if name in self.by:
            return self.rows._table[:, self.by.index(name)].copy()
        everything = self._source.groups(name)
        return everything if self._positions is None else everything[self._positions]

    def _like(self, tensor: TensorMap) -> Rows:
        """Return the same rows of another tensor."""
        like = Rows(tensor, self.by, self.rows)
        like._source.warned = self._source.warned
        return like

    # ---- arrays

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("Rows can not become an array without a copy")
        self._warn_of_lost_gradients()
        array = np.concatenate([self._matrix(block) for block in self._data], axis=1)
        return array if dtype is None else array.astype(dtype, copy=False)

    def _warn_of_lost_gradients(self) -> None:
        """Warn once for all that was made of the same data, and not in metrics."""
        tensor, warned = self._source.tensor, self._source.warned
        lost = [
            name for block in tensor._blocks[:1] for name in block._gradients if name not in warned
        ]
        if lost and not is_called_by("sklearn.metrics"):  # which compare values alone
            warned.update(lost)
            warnings.warn(
                f"Rows became a plain array, and lost their gradients {lost}; "
                "the estimators of metatensor.sklearn use them",
                UserWarning,
                stacklevel=3,
            )

    def _matrix(self, block: TensorBlock) -> npt.NDArray[Any]:
        """Return the values of a block with one sample for each row, in the order of the rows."""
        if block._components:
            names = [labels._names[0] for labels in block._components]
            raise TypeError(
                f"Rows can only become an array if blocks have no components, got {names}; "
                "use an estimator of metatensor.sklearn"
            )
        rows = row_numbers(block._samples, self.rows)
        if len(rows) != len(self) or not np.array_equal(np.sort(rows), np.arange(len(self))):
            raise TypeError(
                "Rows can only become an array if every block has exactly one sample for each row, "
                f"got {len(rows)} samples for {len(self)} rows; use `SumOverSamples` first"
            )
        return _arrays.to_host(_arrays.detach(block._values))[np.argsort(rows)]

    def __array_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> Any:
        result = NotImplemented
        if func in _ARRAY_FUNCTIONS:
            result = _ARRAY_FUNCTIONS[func](*args, **kwargs)
        if result is NotImplemented:
            return func(*_to_arrays(args), **_to_arrays(kwargs))
        return result

    def __array_namespace__(self, *, api_version: str | None = None) -> ModuleType:
        # its functions are numpy's, and come back here through __array_function__
        return array_api_compat.numpy

    def __mul__(self, factor: float) -> Rows:
        """Return all values and gradients times a number, for the weights of a ``FeatureUnion``."""
        if not isinstance(factor, Number):
            return NotImplemented
        tensor = self._data
        blocks = [block._map(lambda values: values * factor) for block in tensor]
        return self._like(TensorMap._of(tensor._keys, blocks, tensor._info))

    __rmul__ = __mul__

    def __reduce__(self) -> Any:
        return Rows, (self._data, self.by, self.rows)

    def __repr__(self) -> str:
        return f"{self._title} of {self._data}"

    def _repr_html_(self) -> str:
        return f"{self._title} of {self._data._repr_html_()}"

    @property
    def _title(self) -> str:
        return f"{len(self)} Rows by {', '.join(self.by)}"


class _Source:
    """The tensor that slices of one Rows share, and to which row each of its samples belongs."""

    def __init__(self, tensor: TensorMap, by: tuple[str, ...], rows: Labels | None) -> None:
        missing = [name for name in by if tensor._blocks and name not in tensor.sample_names]
        if missing:
            raise ValueError(
                f"`by` must be sample names of the tensor, {tensor.sample_names}, got "
                f"{missing[0]!r}"
            )
        self.tensor = tensor
        self.by = by
        self.warned: set[str] = set()
        if rows is None:
            self.rows, self.numbers = _unique_rows(tensor, by)
        else:
            _checks.require_type(rows, Labels, "rows")
            if rows._names != by:
                raise ValueError(
                    f"`rows` must have the names in `by`, {list(by)}, got {rows.names}"
                )
            self.rows = rows
            self.numbers = [row_numbers(block._samples, rows) for block in tensor]

    def take(self, positions: Positions) -> TensorMap:
        """Gather the samples of some rows, in the order of the rows."""
        new = np.full(len(self.rows), -1)
        new[positions] = np.arange(len(positions))
        blocks = []
        for block, numbers in zip(self.tensor, self.numbers, strict=True):
            blocks.append(_alignment.take_samples(block, _alignment.kept_in_order(new[numbers])))
        return TensorMap._of(self.tensor._keys, blocks, self.tensor._info)

    def groups(self, name: str) -> npt.NDArray[np.int32]:
        """Value of a sample dimension for each row, which must be one for all its samples."""
        if name not in self.tensor.sample_names:
            raise ValueError(
                f"`name` must be one of the sample names {self.tensor.sample_names}, got {name!r}"
            )
        values = [
            block._samples._table[:, block._samples._names.index(name)] for block in self.tensor
        ]
        everything = np.concatenate(values)
        numbers = np.concatenate(self.numbers)
        groups = np.zeros(len(self.rows), np.int32)
        groups[numbers] = everything
        different = np.flatnonzero(groups[numbers] != everything)
        if len(different):
            row = self.rows.entry(int(numbers[different[0]])).print()
            raise ValueError(
                f"{name!r} must be the same for all samples of a row, it differs within row {row}"
            )
        if (empty := np.setdiff1d(np.arange(len(self.rows)), numbers)).size:
            row = self.rows.entry(int(empty[0])).print()
            raise ValueError(
                f"every row must have a sample that tells its {name!r}, row {row} has none"
            )
        return groups


def _unique_rows(tensor: TensorMap, by: tuple[str, ...]) -> tuple[Labels, list[Positions]]:
    """Return the rows of a tensor, sorted, and for every block the row of each sample."""
    tables, numbers = [np.empty((0, len(by)), np.int32)], []
    for block in tensor:
        rows, groups = sets.unique(_alignment.columns(block._samples, by))
        tables.append(rows)
        numbers.append(groups)
    merged, maps = sets.merge(tables, True)
    for position, mapping in enumerate(maps[1:]):
        if mapping is not None:
            numbers[position] = mapping[numbers[position]]
    return Labels._of(by, merged), numbers


def row_numbers(samples: Labels, rows: Labels) -> Positions:
    """Return for each sample the position of its row, all of which must be there."""
    table = _alignment.columns(samples, rows._names)
    numbers = rows._index.find_many(table)
    if len(numbers) and numbers.min() < 0:
        first = dict(zip(rows._names, table[int(np.argmin(numbers))].tolist(), strict=True))
        raise ValueError(
            f"all samples must belong to one of the {len(rows)} rows, got a sample of {first}"
        )
    return numbers


def as_positions(key: Any, length: int) -> Positions:
    """Turn what was given as an index into positions of different rows."""
    if isinstance(key, slice):
        return np.arange(length)[key]
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        if not -length <= key < length:
            raise IndexError(f"row {key} is out of bounds, there are {length} rows")
        return np.array([key % length])
    positions = np.asarray(key)
    if positions.ndim != 1 or (positions.dtype.kind not in "biu" and len(positions)):
        raise TypeError(
            f"Rows can be indexed with positions, a slice or a mask, got {_checks.kind(key)}"
        )
    if positions.dtype.kind == "b":
        if len(positions) != length:
            raise IndexError(
                f"a mask must have one value for each of the {length} rows, got {len(positions)}"
            )
        return np.flatnonzero(positions)
    positions = positions.astype(np.intp)
    if len(positions) and not (-length <= positions.min() and positions.max() < length):
        raise IndexError(
            f"positions of rows must be below {length}, got {positions.min()} to {positions.max()}"
        )
    positions = np.where(positions < 0, positions + length, positions)
    if len(np.unique(positions)) != len(positions):
        raise ValueError(
            "rows can not be repeated, since the labels of samples are unique; use `sample_weight` "
            "instead of resampling with replacement"
        )
    return positions


def is_called_by(package: str) -> bool:
    """Tell whether a part of scikit-learn asks: "sklearn.metrics", "sklearn.model_selection"..."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(package):
            return True
        frame = frame.f_back
    return False


def as_rows(
    *tensors: TensorMap | Rows | Sequence[TensorMap],
    by: str | Sequence[str] = "system",
    missing: Literal["raise", "drop", "keep"] = "raise",
) -> Rows | tuple[Rows, ...]:
    """Return several tensors as Rows with the same rows in the same order: sorted by their labels.

    What comes out can be cut by ``train_test_split``, ``GridSearchCV``, ``cross_val_predict``...
    like a pair of arrays ``X, y``. Gradients stay with their samples.

    Parameters
    ----------
    *tensors : TensorMap, Rows, or sequence of TensorMap
        the data; the maps of a sequence must have different rows and are joined
    by : str or sequence of str, default="system"
        names of the sample dimensions that make a row
    missing : {"raise", "drop", "keep"}, default="raise"
        what to do with rows for which a tensor has no samples: refuse them, leave them out of all
        tensors, or keep them as rows without samples

    Returns
    -------
    Rows, or tuple of Rows
        one for each tensor

    Raises
    ------
    ValueError
        if a name in `by` is no sample dimension, or rows are missing

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import as_rows
    >>> from sklearn.model_selection import train_test_split
    >>> n = Labels.range("n", 1)
    >>> atoms = Labels(["system", "atom"], np.array([[0, 0], [0, 1], [1, 0], [2, 0]]))
    >>> X = TensorMap(Labels.single(), [TensorBlock(np.ones((4, 1)), atoms, [], n)])
    >>> energies = TensorBlock(np.ones((3, 1)), Labels.range("system", 3), [], n)
    >>> y = TensorMap(Labels.single(), [energies])
    >>> X, y = as_rows(X, y, by="system")
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> y_train.rows == X_train.rows
    True
    >>> X_train.tensor.block().samples["system"]
    array([1, 0, 0], dtype=int32)

    """
    if missing not in ("raise", "drop", "keep"):
        raise ValueError(f"`missing` must be 'raise', 'drop' or 'keep', got {missing!r}")
    if not tensors:
        raise TypeError("`as_rows` needs at least one tensor")
    views = [_view(tensor, by) for tensor in tensors]
    merged, maps = sets.merge([view.rows._table for view in views], True)
    everything = Labels._of(views[0].by, merged)
    present = np.ones((len(views), len(merged)), dtype=bool)
    for position, mapping in enumerate(maps):
        if mapping is not None:
            present[position] = np.isin(np.arange(len(merged)), mapping)
    common = np.flatnonzero(present.all(axis=0))
    if missing == "raise" and len(common) < len(merged):
        _refuse_missing(everything, present)
    results = []
    for view in views:
        rows = view if view.rows == everything else Rows(view.tensor, by, everything)
        results.append(rows[common] if missing == "drop" and len(common) < len(merged) else rows)
    return results[0] if len(results) == 1 else tuple(results)


def _view(tensor: Any, by: str | Sequence[str]) -> Rows:
    if isinstance(tensor, Rows):
        return tensor if tensor.by == _checks.names_tuple(by, "by") else Rows(tensor.tensor, by)
    if isinstance(tensor, TensorMap):
        return Rows(tensor, by)
    if (
        isinstance(tensor, (list, tuple))
        and tensor
        and all(isinstance(part, TensorMap) for part in tensor)
    ):
        joined: Rows = _concatenate([Rows(part, by) for part in tensor])
        return joined
    raise TypeError(f"`as_rows` takes TensorMaps, or sequences of them, got {_checks.kind(tensor)}")


def _refuse_missing(rows: Labels, present: npt.NDArray[np.bool_]) -> None:
    """Say which tensor lacks which rows."""
    position = int(np.argmin(present.all(axis=1)))
    absent = np.flatnonzero(~present[position])
    raise ValueError(
        f"all tensors must have samples for the same rows; tensor {position} has none for "
        f"{len(absent)} of {len(rows)} rows, the first is {rows.entry(int(absent[0])).print()}; "
        "use missing='drop' or missing='keep'"
    )


# ---- what numpy functions do with Rows


def _concatenate(parts: Sequence[Rows], axis: int = 0) -> Any:
    """Put the rows of several Rows below each other; their properties together for ``axis=1``."""
    if not all(isinstance(part, Rows) for part in parts) or axis not in (0, 1):
        return NotImplemented
    if axis == 1:
        return _hstack(parts)
    by = parts[0].by
    if any(part.by != by for part in parts):
        raise ValueError(
            "Rows to concatenate must have rows by the same names, got "
            f"{[part.by for part in parts]}"
        )
    first = {key: block._properties for key, block in parts[0]._data.items()}
    for part in parts:
        if {key: block._properties for key, block in part._data.items()} != first:
            raise ValueError("Rows to concatenate must have the same keys and the same properties")
    merged = _with_part([part._data for part in parts]).keys_to_samples(_PART, sort_samples=False)
    blocks = []
    for block in merged:
        names, table = (
            block._samples._names[:-1],
            np.ascontiguousarray(block._samples._table[:, :-1]),
        )
        blocks.append(_alignment.with_samples(block, block._samples._like(table, names)))
    rows = Labels(by, np.concatenate([part.rows._table for part in parts]))
    return Rows(TensorMap._of(merged._keys, blocks), by, rows)


def _hstack(parts: Sequence[Rows]) -> Any:
    """Put the properties of several Rows next to each other.

    If their labels do not tell them apart, they become ``joined_index`` (of the part) and
    ``property`` (counted from 0).
    """
    if not all(isinstance(part, Rows) for part in parts):
        return NotImplemented
    rows = parts[0].rows
    if any(part.rows != rows for part in parts):
        raise ValueError("Rows to put next to each other must have the same rows in the same order")
    tensors = [part._data for part in parts]
    names = tuple(tensors[0].property_names)
    if not _are_told_apart(tensors):
        names = ("joined_index", "property")
        tensors = [_with_counted_properties(tensor) for tensor in tensors]
    merged = _with_part(tensors).keys_to_properties(_PART, sort_samples=False)
    blocks = []
    for block in merged:
        table = block._properties._table
        if len(names) < table.shape[1]:
            table = np.ascontiguousarray(table[:, 1:])
        blocks.append(_alignment.with_properties(block, block._properties._like(table, names)))
    return Rows(TensorMap._of(merged._keys, blocks), parts[0].by, rows)


_PART = "_part"


def _with_part(tensors: Sequence[TensorMap]) -> TensorMap:
    """Return one map with the blocks of all, and the number of the part as last key dimension."""
    keys = tensors[0]._keys
    for tensor in tensors:
        if tensor._keys._names != keys._names:
            raise ValueError(
                f"Rows to join must have the same key names, got {keys.names} and "
                f"{tensor._keys.names}"
            )
    tables = [
        np.insert(tensor._keys._table, len(keys._names), n, axis=1)
        for n, tensor in enumerate(tensors)
    ]
    blocks = [block for tensor in tensors for block in tensor]
    return TensorMap(Labels([*keys._names, _PART], np.concatenate(tables)), blocks)


def _are_told_apart(tensors: Sequence[TensorMap]) -> bool:
    """Tell whether, in no key, two tensors have the same property."""
    if any(tensor.property_names != tensors[0].property_names for tensor in tensors):
        return False
    tables: dict[LabelsEntry, list[npt.NDArray[np.int32]]] = {}
    for tensor in tensors:
        for key, block in tensor.items():
            tables.setdefault(key, []).append(block._properties._table)
    return all(first_duplicate(np.concatenate(parts)) < 0 for parts in tables.values())


def _with_counted_properties(tensor: TensorMap) -> TensorMap:
    blocks = [
        _alignment.with_properties(block, Labels.range("property", len(block._properties)))
        for block in tensor
    ]
    return TensorMap._of(tensor._keys, blocks)


def _to_arrays(arguments: Any) -> Any:
    """Replace the Rows among the arguments of a function by arrays."""
    if isinstance(arguments, Rows):
        return np.asarray(arguments)
    if isinstance(arguments, (list, tuple)):
        return type(arguments)(_to_arrays(argument) for argument in arguments)
    if isinstance(arguments, dict):
        return {name: _to_arrays(argument) for name, argument in arguments.items()}
    return arguments


def _take(rows: Any, positions: Any, axis: int | None = None, **kwargs: Any) -> Any:
    return (
        rows[positions] if isinstance(rows, Rows) and axis == 0 and not kwargs else NotImplemented
    )


_ARRAY_FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.concatenate: _concatenate,
    np.vstack: _concatenate,
    np.hstack: _hstack,
    np.take: _take,
    np.shape: lambda rows: rows.shape,
    np.ndim: lambda rows: rows.ndim,
    np.may_share_memory: lambda first, second, **kwargs: first is second,
}
