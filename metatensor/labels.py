"""Labels: what the entries of one axis are, as a table of unique rows of integers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from inspect import signature
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from metatensor import _array_conversion, _array_exchange, _arrays, _checks, _display
from metatensor._core import sets
from metatensor._core.base import EntryBase, LabelsBase, counting, entry_at, use_entry_type
from metatensor._core.rows import first_duplicate

Table = npt.NDArray[np.int32]

_INT32 = np.iinfo(np.int32)


def _parameters(
    names: str | Iterable[str], values: _arrays.Array, assume_unique: bool = False
) -> None:
    """Have the parameters of Labels, whose constructor is compiled."""


class Labels(LabelsBase):
    """A table of unique rows of integers with named columns, the "dimensions".

    Labels say what the entries along one axis of a block are, and which blocks a map holds. They
    are immutable, compare by value, and can be keys of a dict.

    Parameters
    ----------
    names : str or iterable of str
        name of each dimension: ASCII letters, digits and underscores; "" means no dimension
    values : array of int, (n_entries, n_dimensions)
        the rows, of any array library; integers are converted to int32 and copied, so that the
        caller's array stays writeable and can not change the Labels later
    assume_unique : bool, default=False
        skip the check that rows are unique, for rows that are known to be

    Raises
    ------
    MetatensorError
        if a name is not valid or repeated, or a row occurs more than once
    ValueError
        if `values` is no array, has not one column for each name, or does not fit in int32
    TypeError
        if `values` are not integers

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels
    >>> labels = Labels(["system", "atom"], np.array([[0, 1], [0, 2], [3, 0]]))
    >>> labels
    Labels
        system  atom
          0      1
          0      2
          3      0
    >>> labels.position((0, 2))
    1
    >>> labels["atom"]
    array([1, 2, 0], dtype=int32)

    """

    __slots__ = ()
    __module__ = "metatensor"

    __signature__ = signature(_parameters)

    # ---- checks that the compiled base calls

    @staticmethod
    def _check_names(names: str | Iterable[str]) -> tuple[str, ...]:
        return _checks.check_names(_checks.names_tuple(names))

    @staticmethod
    def _convert(names: tuple[str, ...], values: Any) -> tuple[Table, Any]:
        """Return the int32 table, and the device of `values` where they are to be a tensor."""
        if not _is_array(values):
            raise ValueError(
                f"`values` must be a 2-D array of integers, got {_checks.kind(values)}"
            )
        values = _arrays.as_values(values)
        device = None
        if _arrays.library(values) == "torch":
            _check_tensor(values)
            device = values.device
        shape = tuple(values.shape)
        if shape and shape[0] == 0:
            return np.empty((0, len(names)), dtype=np.int32), device
        if len(shape) != 2:
            raise ValueError(f"`values` must be a 2-D array, got {len(shape)} dimension(s)")
        if shape[1] != len(names):
            raise ValueError(
                f"`values` must have one column for each name in {list(names)}, "
                f"got {shape[1]} column(s)"
            )
        if _arrays.kind(values) in ("real", "complex") or str(values.dtype) == "torch.bool":
            raise TypeError(
                f"`values` must be integers, or convertible to integers, got {values.dtype}"
            )
        host = _arrays.to_host(values)
        table = _to_int32(host)
        if table is host or not table.flags.c_contiguous:
            table = np.array(table, dtype=np.int32, order="C")
        return table, device

    def _as_tensor(self) -> Any:
        return _array_conversion.convert_constant(self._table, _place(self._device))

    def _row(self, entry: Any) -> Sequence[int]:
        """Turn what was given as an entry into a sequence of integers."""
        if _is_array(entry):
            host = _arrays.to_host(entry)
            if host.ndim == 1 and host.dtype.kind in "iu":
                return host  # type: ignore[return-value]
        elif isinstance(entry, Iterable) and not isinstance(entry, (str, bytes)):
            return tuple(entry)
        raise TypeError(
            f"an entry must be a LabelsEntry or a sequence of integers, got {_checks.kind(entry)}"
        )

    @staticmethod
    def _refuse_duplicate(row: npt.NDArray[np.int32]) -> NoReturn:
        _checks.invalid(f"the rows of Labels must be unique, got {row.tolist()} more than once")

    def _refuse_row(self, row: Sequence[int]) -> NoReturn:
        _checks.invalid(
            f"an entry must have one value for each of the names {list(self._names)}, "
            f"got {len(row)} value(s)"
        )

    # ---- making Labels

    @staticmethod
    def single() -> Labels:
        """Return Labels with one dimension "_" and one entry 0, for axes without metadata.

        Returns
        -------
        Labels

        Examples
        --------
        >>> Labels.single()
        Labels
            _
            0

        """
        return Labels._of(("_",), np.zeros((1, 1), dtype=np.int32))

    @staticmethod
    def empty(names: str | Iterable[str]) -> Labels:
        """Return Labels without entries.

        Parameters
        ----------
        names : str or iterable of str
            name of each dimension

        Returns
        -------
        Labels

        Examples
        --------
        >>> len(Labels.empty(["system", "atom"]))
        0

        """
        checked = Labels._checked(names)
        return Labels._of(checked, np.empty((0, len(checked)), dtype=np.int32))

    @staticmethod
    def range(name: str, end: int) -> Labels:
        """Return Labels with one dimension that counts from 0 to ``end - 1``.

        Parameters
        ----------
        name : str
            name of the dimension
        end : int
            number of entries; none if it is negative

        Returns
        -------
        Labels

        Examples
        --------
        >>> Labels.range("xyz", 3).values.ravel()
        array([0, 1, 2], dtype=int32)

        """
        if not isinstance(name, str):
            raise TypeError(f"`name` must be a str, got {_checks.kind(name)}")
        end = _checks.require_int(end, "end")
        if end > _INT32.max:
            raise ValueError(f"`end` must fit in int32, got {end}")
        return Labels._of(Labels._checked((name,)), counting(max(end, 0)))

    # ---- access

    @property
    def device(self) -> Any:
        """Where `values` live: "cpu" for numpy, a torch.device for torch."""
        return "cpu" if self._device is None else self._device

    def column(self, dimension: str) -> _arrays.Array:
        """Return the values of one dimension.

        Parameters
        ----------
        dimension : str
            name of the dimension

        Returns
        -------
        array of int32, (n_entries,)
            a view of `values`

        Raises
        ------
        ValueError
            if there is no such dimension

        Examples
        --------
        >>> Labels(["a", "b"], np.array([[1, 2], [3, 4]])).column("b")
        array([2, 4], dtype=int32)

        """
        if not isinstance(dimension, str):
            raise TypeError(f"`dimension` must be a str, got {_checks.kind(dimension)}")
        return self.values[:, self._position_of_name(dimension)]

    def _position_of_name(self, name: str) -> int:
        try:
            return self._names.index(name)
        except ValueError:
            raise ValueError(
                f"{name!r} is not a dimension of these Labels, which have {list(self._names)}"
            ) from None

    def entry(self, index: int) -> LabelsEntry:
        """Return the entry at a position.

        Parameters
        ----------
        index : int
            position of the entry, negative ones count from the end

        Returns
        -------
        LabelsEntry

        Raises
        ------
        IndexError
            if there is no such position

        Examples
        --------
        >>> Labels.range("atom", 4).entry(-1)
        LabelsEntry(atom=3)

        """
        if isinstance(index, (bool, np.bool_)):
            raise ValueError("a bool is no position in Labels, use an int")
        entry: LabelsEntry = entry_at(self, _checks.require_int(index, "index"))
        return entry

    def _get(self, index: Any) -> Any:
        """Return a column by name, or an entry by what is no plain int."""
        if isinstance(index, str):
            return self.column(index)
        if isinstance(index, (int, np.signedinteger)):
            return self.entry(index)  # type: ignore[arg-type]
        raise TypeError(f"Labels can be indexed with int or str, got {_checks.kind(index)}")

    # ---- sets

    def union(self, other: Labels) -> Labels:
        """Return the entries of both: those of self, then the new ones of other, in their order.

        Parameters
        ----------
        other : Labels
            with the same names in the same order

        Returns
        -------
        Labels

        Raises
        ------
        MetatensorError
            if the names differ

        Examples
        --------
        >>> first = Labels("n", np.array([[0], [3]]))
        >>> first.union(Labels("n", np.array([[4], [0]]))).values.ravel()
        array([0, 3, 4], dtype=int32)

        """
        if isinstance(other, Labels) and self == other:
            return self
        self._check_same_names(other, "union")
        return self._like(sets.union(self._index, other._index)[0])

    def union_and_mapping(self, other: Labels) -> tuple[Labels, _arrays.Array, _arrays.Array]:
        """Return the union, and where the entries of both are in it.

        Parameters
        ----------
        other : Labels
            with the same names in the same order

        Returns
        -------
        union : Labels
        mapping_self, mapping_other : array of int64, (n_entries,)
            position in the union of each entry of self and of other, in the library of self

        Examples
        --------
        >>> first = Labels("n", np.array([[0], [3]]))
        >>> first.union_and_mapping(Labels("n", np.array([[4], [0]])))[2]
        array([2, 0])

        """
        self._check_same_names(other, "union")
        table, first, second = sets.union(self._index, other._index)
        return self._like(table), self._beside(first), self._beside(second)

    def intersection(self, other: Labels) -> Labels:
        """Return the entries in both, in the order of the Labels with fewer entries.

        Parameters
        ----------
        other : Labels
            with the same names in the same order

        Returns
        -------
        Labels

        Examples
        --------
        >>> Labels.range("n", 4).intersection(Labels("n", np.array([[7], [2]]))).values.ravel()
        array([2], dtype=int32)

        """
        if isinstance(other, Labels) and self == other:
            return self
        self._check_same_names(other, "intersection")
        return self._like(sets.intersection(self._index, other._index)[0])

    def intersection_and_mapping(
        self, other: Labels
    ) -> tuple[Labels, _arrays.Array, _arrays.Array]:
        """Return the intersection, and where the entries of both are in it.

        Parameters
        ----------
        other : Labels
            with the same names in the same order

        Returns
        -------
        intersection : Labels
        mapping_self, mapping_other : array of int64, (n_entries,)
            position in the intersection of each entry, -1 for those that are not in it, in the
            library of self

        Examples
        --------
        >>> Labels.range("n", 3).intersection_and_mapping(Labels("n", np.array([[7], [2]])))[1]
        array([-1, -1,  0])

        """
        self._check_same_names(other, "intersection")
        table, first, second = sets.intersection(self._index, other._index)
        return self._like(table), self._beside(first), self._beside(second)

    def difference(self, other: Labels) -> Labels:
        """Return the entries of self that are not in other, in the order of self.

        Parameters
        ----------
        other : Labels
            with the same names in the same order

        Returns
        -------
        Labels

        Examples
        --------
        >>> Labels.range("n", 3).difference(Labels("n", np.array([[1]]))).values.ravel()
        array([0, 2], dtype=int32)

        """
        self._check_same_names(other, "difference")
        return self._like(sets.difference(self._index, other._index)[0])

    def difference_and_mapping(self, other: Labels) -> tuple[Labels, _arrays.Array]:
        """Return the difference, and where the entries of self are in it.

        Parameters
        ----------
        other : Labels
            with the same names in the same order

        Returns
        -------
        difference : Labels
        mapping : array of int64, (n_entries,)
            position in the difference of each entry of self, -1 for those that are not in it, in
            the library of self

        Examples
        --------
        >>> Labels.range("n", 3).difference_and_mapping(Labels("n", np.array([[1]])))[1]
        array([ 0, -1,  1])

        """
        self._check_same_names(other, "difference")
        table, mapping = sets.difference(self._index, other._index)
        return self._like(table), self._beside(mapping)

    def _check_same_names(self, other: Labels, what: str) -> None:
        _checks.require_type(other, Labels, "other")
        if self._names != other._names:
            _checks.invalid(
                f"Labels must have the same names in the same order for their {what}, "
                f"got {list(self._names)} and {list(other._names)}"
            )

    def select(self, selection: Labels) -> _arrays.Array:
        """Return the positions of the entries that match any entry of a selection.

        Parameters
        ----------
        selection : Labels
            whose names are all among the names of self. With the same names in the same order the
            result follows the order of the selection, otherwise the order of self. A selection
            without names matches every entry.

        Returns
        -------
        array of uint64, (n_matches,)
            or tensor of int64 next to `values` where they are of torch

        Raises
        ------
        MetatensorError
            if the selection has a name that self has not

        Examples
        --------
        >>> labels = Labels(["a", "b"], np.array([[0, 1], [1, 2], [0, 3]]))
        >>> labels.select(Labels("a", np.array([[0]])))
        array([0, 2], dtype=uint64)

        """
        positions = self._matches(selection)
        if self._device is None:
            return positions.astype(np.uint64)
        return self._beside(positions)

    def _matches(self, selection: Labels) -> npt.NDArray[np.intp]:
        """Return what :meth:`select` does, on the host."""
        _checks.require_type(selection, Labels, "selection")
        if selection._names == self._names and selection._names:
            positions = self._index.find_many(selection._table)
            return positions[positions >= 0]
        unknown = [name for name in selection._names if name not in self._names]
        if unknown:
            _checks.refuse_selection(unknown[0], self._names)
        if not selection._names:
            return np.arange(len(self), dtype=np.intp)
        columns = np.array([self._names.index(name) for name in selection._names], dtype=np.intp)
        return sets.select(self._table, columns, selection._table)

    def _beside(self, positions: npt.NDArray[np.intp]) -> Any:
        """Return positions where `values` are, so that these and others can be indexed by them."""
        if self._device is None:
            return positions
        return _array_conversion.convert(
            positions.astype(np.int64, copy=False), _place(self._device)
        )

    # ---- changing dimensions

    def insert(self, index: int, name: str, values: _arrays.Array) -> Labels:
        """Return Labels with one more dimension before position ``index``.

        Parameters
        ----------
        index : int
            position of the new dimension, negative ones count from the end as in ``list.insert``
        name : str
            name of the new dimension
        values : array of int, (n_entries,)
            values of the new dimension, of any array library

        Returns
        -------
        Labels

        Raises
        ------
        IndexError
            if `index` is larger than the number of dimensions
        ValueError
            if `values` is no 1-D array with one value for each entry

        Examples
        --------
        >>> Labels.range("atom", 2).insert(0, "system", np.array([5, 5])).names
        ['system', 'atom']

        """
        given = _arrays.as_values(values) if _is_array(values) else None
        if given is None or len(given.shape) != 1:
            raise ValueError(f"`values` must be a 1-D array, got {_checks.kind(values)}")
        values = _arrays.to_host(given)
        if len(values) != len(self):
            raise ValueError(
                f"`values` must have one value for each of the {len(self)} entries, "
                f"got {len(values)}"
            )
        if values.dtype.kind not in "iubf":
            raise TypeError(f"`values` must be numbers, got {values.dtype}")
        n_names, position = len(self._names), _checks.require_int(index, "index")
        if not -n_names <= position <= n_names:
            raise IndexError(
                f"`index` must be at most the number of dimensions, {n_names}, got {position}"
            )
        names = self.names
        names.insert(position, name)
        checked = Labels._checked(names)
        position = checked.index(name)
        table = np.empty((len(self), n_names + 1), dtype=np.int32)
        table[:, :position] = self._table[:, :position]
        table[:, position] = _to_int32(values)
        table[:, position + 1 :] = self._table[:, position:]
        return self._like(table, checked)

    def append(self, name: str, values: _arrays.Array) -> Labels:
        """Return Labels with one more dimension, the last.

        Parameters
        ----------
        name : str
            name of the new dimension
        values : array of int, (n_entries,)
            values of the new dimension, of any array library

        Returns
        -------
        Labels

        Examples
        --------
        >>> Labels.range("system", 3).append("atom", np.array([7, 8, 9])).names
        ['system', 'atom']

        """
        return self.insert(len(self._names), name, values)

    def permute(self, dimensions_indexes: Sequence[int]) -> Labels:
        """Return Labels with the dimensions in another order.

        Parameters
        ----------
        dimensions_indexes : sequence of int, (n_dimensions,)
            position in self of each dimension of the result, negative ones count from the end

        Returns
        -------
        Labels

        Raises
        ------
        ValueError
            if there is not one position for each dimension
        IndexError
            if a position is out of range
        MetatensorError
            if a position is repeated

        Examples
        --------
        >>> Labels(["a", "b"], np.array([[1, 2]])).permute([1, 0]).values
        array([[2, 1]], dtype=int32)

        """
        n_names = len(self._names)
        order = [_checks.require_int(index, "dimensions_indexes") for index in dimensions_indexes]
        if len(order) != n_names:
            raise ValueError(
                f"`dimensions_indexes` must have {n_names} entries, one for each dimension, "
                f"got {len(order)}"
            )
        for position in order:
            if not -n_names <= position < n_names:
                raise IndexError(
                    f"`dimensions_indexes` must be in [{-n_names}, {n_names}), got {position}"
                )
        names = Labels._checked([self._names[position] for position in order])
        return self._like(np.take(self._table, order, axis=1), names)

    def remove(self, name: str) -> Labels:
        """Return Labels without one dimension.

        Parameters
        ----------
        name : str
            name of the dimension to leave out

        Returns
        -------
        Labels

        Raises
        ------
        ValueError
            if there is no such dimension
        MetatensorError
            if entries are no longer unique

        Examples
        --------
        >>> Labels(["a", "b"], np.array([[1, 2], [3, 2]])).remove("b").values
        array([[1],
               [3]], dtype=int32)

        """
        position = self._position_of_name(name)
        names = self._names[:position] + self._names[position + 1 :]
        table = np.delete(self._table, position, axis=1)
        if names and (duplicate := first_duplicate(table)) >= 0:
            self._refuse_duplicate(table[duplicate])
        return self._like(table, names)

    def rename(self, old: str, new: str) -> Labels:
        """Return Labels with another name for one dimension.

        Parameters
        ----------
        old, new : str
            present and future name of the dimension

        Returns
        -------
        Labels

        Raises
        ------
        ValueError
            if there is no dimension `old`
        MetatensorError
            if `new` is not valid or already a name

        Examples
        --------
        >>> Labels.range("i", 2).rename("i", "system").names
        ['system']

        """
        position = self._position_of_name(old)
        names = list(self._names)
        names[position] = new
        return Labels._of(Labels._checked(names), self._table, self._device, self._view)

    def _like(self, table: Table, names: tuple[str, ...] | None = None) -> Labels:
        """Return Labels of unique rows whose values are in the library and place of self's."""
        return Labels._of(self._names if names is None else names, table, self._device)

    # ---- moving and copying

    def to(self, *args: Any, **kwargs: Any) -> Labels:
        """Return the same Labels with `values` in another library or on another device.

        Parameters
        ----------
        *args
            a device, as str or torch.device
        **kwargs
            ``device``, ``arrays`` ("numpy", "torch"...), ``non_blocking``

        Returns
        -------
        Labels
            self if nothing changes

        Raises
        ------
        ValueError
            for a dtype, since Labels are always int32, or a device that the library has not

        Examples
        --------
        >>> labels = Labels.range("atom", 3)
        >>> labels.to("cpu") is labels
        True

        """
        target = _array_conversion.parse_target(*args, **kwargs)
        if target.dtype is not None:
            raise ValueError(f"the dtype of Labels is always int32, got {target.dtype!r}")
        return self._to(target)

    def _to(self, target: _array_conversion.Target) -> Labels:
        if target.arrays not in (None, "numpy", "torch"):
            target = target._replace(arrays="numpy", device=None)
        here = self._device
        is_tensor = target.arrays == "torch" or (target.arrays is None and here is not None)
        if is_tensor and (target.device is None or str(target.device) == str(here or "cpu")):
            if here is not None and not target.copy:
                return self
            device = here or _array_exchange.backend("torch").device("cpu")
            return Labels._of(self._names, self._table, device)
        values = _array_conversion.convert_constant(self.values, target._replace(dtype=None))
        if values is self.values:
            return self
        device = values.device if is_tensor else None
        return Labels._of(self._names, self._table, device, values)

    def _along(self, target: _array_conversion.Target) -> Labels:
        """Return what goes with an array moved to `target`: numpy stays on the host."""
        if self._device is None and target.arrays != "torch":
            return self
        if target.arrays not in (None, "torch"):
            target = target._replace(device=None)
        return self._to(target)

    def __copy__(self) -> Labels:
        return Labels._of(self._names, self._table, self._device, self._view)

    def __deepcopy__(self, memo: dict[int, Any]) -> Labels:
        return self.__copy__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        from metatensor.io import pickling

        return pickling.reduce_labels(self, protocol)

    # ---- files

    def save(self, file: Any) -> None:
        """Write these Labels to a file; see :func:`metatensor.save`."""
        from metatensor.io import mts

        mts.save(file, self)

    def save_buffer(self) -> memoryview:
        """Return the bytes of a file with these Labels; see :func:`metatensor.io.save_buffer`."""
        from metatensor.io import mts

        return mts.save_buffer(self)

    @staticmethod
    def load(file: Any) -> Labels:
        """Read Labels from a file; see :func:`metatensor.load_labels`."""
        from metatensor.io import mts

        return mts.load_labels(file)

    @staticmethod
    def load_buffer(buffer: Any) -> Labels:
        """Read Labels from the bytes of a file; see :func:`metatensor.io.load_labels_buffer`."""
        from metatensor.io import mts

        return mts.load_labels_buffer(buffer)

    # ---- text

    def print(self, max_entries: int, indent: int = 0) -> str:
        """Return the table as text.

        Parameters
        ----------
        max_entries : int
            number of rows to show, at least two; all if negative
        indent : int, default=0
            number of blanks before each row but the first line

        Returns
        -------
        str

        Examples
        --------
        >>> print(Labels.range("atom", 8).print(max_entries=3))
        atom
         0
         1
        ...
         7

        """
        return _display.labels_text(self._names, self._table, max_entries, indent)

    def __str__(self) -> str:
        return "Labels\n   " + self.print(4, 3)

    def __repr__(self) -> str:
        return "Labels\n   " + self.print(-1, 3)

    def _repr_html_(self) -> str:
        return _display.labels_html(self)


class LabelsEntry(EntryBase):
    """One entry of Labels: a row of integers with names.

    Parameters
    ----------
    names : list of str
        name of each dimension
    values : array of int32, (n_dimensions,)
        the row

    Raises
    ------
    ValueError
        if `values` are not a 1-D array of int32 with one value for each name

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels
    >>> entry = Labels(["a", "b"], np.array([[1, 2]])).entry(0)
    >>> entry
    LabelsEntry(a=1, b=2)
    >>> int(entry["b"])
    2
    >>> a, b = entry

    """

    __slots__ = ()
    __module__ = "metatensor"

    def __new__(cls, names: list[str], values: _arrays.Array) -> LabelsEntry:
        """Make Labels with one row, and return their entry."""
        if (
            not _is_array(values)
            or len(values.shape) != 1
            or str(values.dtype).split(".")[-1] != "int32"
        ):
            raise ValueError("`values` of a LabelsEntry must be a 1-D array of int32")
        entry: LabelsEntry = entry_at(Labels(names, values.reshape(1, -1)), 0)
        return entry

    @property
    def device(self) -> Any:
        """Where the values live, as for Labels."""
        return self._labels.device

    @staticmethod
    def _refuse_index(index: Any) -> NoReturn:
        raise TypeError(f"a LabelsEntry can be indexed with int or str, got {_checks.kind(index)}")

    def __reduce__(self) -> Any:
        labels = self._labels
        return _entry, (labels._names, labels._table[self._row].tolist(), labels._device)

    def __copy__(self) -> LabelsEntry:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> LabelsEntry:
        return self

    def print(self) -> str:
        """Return the entry as text, such as ``(a=0, b=1)``."""
        return _display.entry_text(self._labels._names, self._labels._table[self._row])

    def __str__(self) -> str:
        return f"LabelsEntry{self.print()}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _display.entry_html(self)


use_entry_type(LabelsEntry)


def _entry(names: tuple[str, ...], row: list[int], device: Any = None) -> LabelsEntry:
    entry: LabelsEntry = entry_at(Labels._of(names, np.array([row], dtype=np.int32), device), 0)
    return entry


def _is_array(values: Any) -> bool:
    described = hasattr(values, "shape") and any(
        hasattr(values, name) for name in ("dtype", "__array__", "__array_interface__")
    )
    return (described and not isinstance(values, np.generic)) or _arrays.exports_dlpack(values)


def _check_tensor(values: Any) -> None:
    """Refuse what only torch tensors can be."""
    if values.requires_grad:
        raise ValueError("`values` of Labels can not require gradients, use `values.detach()`")
    if values.device.type == "meta":
        _checks.invalid("`values` of Labels must hold data, got a tensor on the 'meta' device")


def _place(device: Any) -> _array_conversion.Target:
    return _array_conversion.Target(arrays="torch", device=device)


def _to_int32(values: npt.NDArray[Any]) -> Table:
    """Convert integers (or what truncates to them) to int32, or say which value does not fit."""
    if values.dtype == np.int32 and values.dtype.isnative:
        return values
    if values.size and values.dtype.itemsize > 2:
        low, high = values.min(), values.max()
        if not (low >= _INT32.min and high <= _INT32.max):
            worst = low if not low >= _INT32.min else high
            raise ValueError(
                f"Labels hold 32-bit integers, in [{_INT32.min}, {_INT32.max}], got {worst}"
            )
    return values.astype(np.int32)
