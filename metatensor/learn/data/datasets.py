"""Datasets whose samples are named tuples of fields."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any

import torch

from metatensor import _checks
from metatensor.learn.data import _named_tuples
from metatensor.learn.data._named_tuples import NamedTuple


class PositionDataset(torch.utils.data.Dataset[NamedTuple]):
    """What datasets have in common that know their samples by position, from 0."""

    def __len__(self) -> int:
        """Return the number of samples."""
        raise NotImplementedError

    def _sample(self, position: int) -> NamedTuple:
        raise NotImplementedError

    def __getitem__(self, position: int) -> NamedTuple:
        """Return the sample at a position."""
        try:
            number = operator.index(position)
        except TypeError:
            raise TypeError(
                f"the position of a sample must be an integer, got {_checks.kind(position)}"
            ) from None
        if not 0 <= number < len(self):
            raise ValueError(
                f"the position of a sample must be at least 0 and below {len(self)}, got {number}"
            )
        return self._sample(number)

    def __iter__(self) -> Iterator[NamedTuple]:
        """Iterate over the samples."""
        return map(self._sample, range(len(self)))


class _FieldDataset(PositionDataset):
    """What datasets have in common that get their samples field by field."""

    _fields: dict[str, list[Any] | Callable[[Any], Any]]
    _size: int

    def _set_fields(self, fields: Mapping[str, Any], size: int | None, origin: str) -> None:
        sizes = {}
        for name, field in fields.items():
            if isinstance(field, list):
                _check_types(name, field)
                sizes[name] = len(field)
            elif not callable(field):
                raise TypeError(
                    f"the field {name!r} must be a list or a function, got {_checks.kind(field)}"
                    + ("; use `list(...)`" if isinstance(field, Iterable) else "")
                )
        if size is None:
            if not sizes:
                raise ValueError("`size` is required where no field is a list")
            size = next(iter(sizes.values()))
            origin = f"the field {next(iter(sizes))!r}"
        for name, found in sizes.items():
            if found != size:
                raise ValueError(
                    f"every field must have as many samples, {origin} has {size}, and the field "
                    f"{name!r} has {found}"
                )
        self._size = size
        self._fields = {str(name): field for name, field in fields.items()}

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._size

    def _value(self, name: str, position: int, argument: Any, what: str) -> Any:
        field = self._fields[name]
        if isinstance(field, list):
            return field[position]
        try:
            return field(argument)
        except Exception as error:
            raise ValueError(
                f"the function of the field {name!r} fails for {what} {argument!r}: "
                f"{type(error).__name__}: {error}"
            ) from error


def _check_types(name: str, field: list[Any]) -> None:
    for value in field:
        if not (isinstance(value, type(field[0])) or isinstance(field[0], type(value))):
            raise TypeError(
                f"the values of the field {name!r} must be of one type, "
                f"got {_checks.kind(field[0])} and {_checks.kind(value)}"
            )


class Dataset(_FieldDataset):
    """Samples by position, of fields that are lists or functions.

    ``dataset[position]`` is a named tuple ``Sample`` with the fields in the order of their
    declaration. Negative positions raise ValueError. Fields whose names are no identifiers come by
    :meth:`from_dict`, and are accessed as ``sample["name"]``. It can be pickled if its fields can:
    functions of a module, no ``lambda``.

    Gradients: those of maps stay with them.

    Parameters
    ----------
    size : int, optional
        number of samples, required where no field is a list
    **fields : list or callable
        values of each sample, all of one type; or a function of the position that is called at each
        access, for what shall be read or computed when it is needed

    Raises
    ------
    TypeError
        if a field is neither a list nor callable, or has values of several types
    ValueError
        if fields differ in length, for a field ``sample_id``, or if there is nothing that says the
        size

    See Also
    --------
    IndexedDataset : samples with an identity
    DiskDataset : samples in a file

    Examples
    --------
    >>> from metatensor.learn import Dataset
    >>> dataset = Dataset(energy=[-1.5, -2.0, -0.5], square=lambda position: position**2)
    >>> len(dataset)
    3
    >>> dataset[2]
    Sample(energy=-0.5, square=4)

    """

    def __init__(self, size: int | None = None, **fields: Any) -> None:
        self._setup(fields, size)

    def _setup(self, fields: Mapping[str, Any], size: int | None) -> None:
        if "sample_id" in fields:
            raise ValueError(
                "a Dataset can not have a field 'sample_id', use IndexedDataset instead"
            )
        if size is not None and (size := _checks.require_int(size, "size")) < 0:
            raise ValueError(f"`size` can not be negative, got {size}")
        self._set_fields(fields, size, "`size`")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], size: int | None = None) -> Dataset:
        """Make a dataset of fields with any names.

        Parameters
        ----------
        data : dict
            fields by name
        size : int, optional
            number of samples, required where no field is a list

        Returns
        -------
        Dataset

        Examples
        --------
        >>> Dataset.from_dict({"total energy": [-1.5, -2.0]})[1]["total energy"]
        -2.0

        """
        dataset = cls.__new__(cls)
        dataset._setup(data, size)
        return dataset

    def _sample(self, position: int) -> NamedTuple:
        values = [self._value(name, position, position, "position") for name in self._fields]
        return _named_tuples.make("Sample", tuple(self._fields), values)


class IndexedDataset(_FieldDataset):
    """Samples by position or by identity, of fields that are lists or functions.

    Samples are named tuples ``Sample`` whose first field is ``sample_id``. It can be pickled if its
    fields can.

    Gradients: those of maps stay with them.

    Parameters
    ----------
    sample_id : list
        unique identity of each sample, hashable
    **fields : list or callable
        values of each sample; or a function of the identity, called at each access

    Raises
    ------
    TypeError
        if `sample_id` is no list or not hashable, and as for :class:`Dataset`
    ValueError
        if identities are not unique, if fields differ in length, or for a field ``size``

    Examples
    --------
    >>> from metatensor.learn import IndexedDataset
    >>> dataset = IndexedDataset(sample_id=["water", "ammonia"], energy=[-1.5, -2.0])
    >>> dataset[1]
    Sample(sample_id='ammonia', energy=-2.0)
    >>> dataset.get_sample("water").energy
    -1.5

    """

    _positions: dict[Hashable, int]

    def __init__(self, sample_id: list[Any], **fields: Any) -> None:
        if "size" in fields:
            raise ValueError(
                "an IndexedDataset can not have a field 'size': its size is that of `sample_id`"
            )
        self._setup(sample_id, fields)

    def _setup(self, sample_id: list[Any], fields: Mapping[str, Any]) -> None:
        if not isinstance(sample_id, list):
            raise TypeError(f"`sample_id` must be a list, got {_checks.kind(sample_id)}")
        self._positions = positions_of(sample_id)
        fields = {name: field for name, field in fields.items() if name != "sample_id"}
        self._set_fields(fields, len(sample_id), "`sample_id`")
        self._ids = list(sample_id)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], sample_id: list[Any]) -> IndexedDataset:
        """Make a dataset of fields with any names.

        Parameters
        ----------
        data : dict
            fields by name; one with the name ``sample_id`` is left out
        sample_id : list
            unique identity of each sample, hashable

        Returns
        -------
        IndexedDataset

        Examples
        --------
        >>> IndexedDataset.from_dict({"total energy": [-1.5, -2.0]}, sample_id=["a", "b"])[0]
        Sample(sample_id='a', 'total energy'=-1.5)

        """
        dataset = cls.__new__(cls)
        dataset._setup(sample_id, data)
        return dataset

    def get_sample(self, sample_id: Hashable) -> NamedTuple:
        """Return the sample with an identity.

        Parameters
        ----------
        sample_id : hashable
            one of those of the dataset

        Returns
        -------
        Sample

        Raises
        ------
        ValueError
            if the dataset has no such sample

        """
        return self._sample(position_of(sample_id, self._positions))

    def _sample(self, position: int) -> NamedTuple:
        sample_id = self._ids[position]
        values = [self._value(name, position, sample_id, "sample") for name in self._fields]
        fields = ("sample_id", *self._fields)
        return _named_tuples.make("Sample", fields, [sample_id, *values])


def positions_of(sample_id: list[Any]) -> dict[Hashable, int]:
    """Return the position of each identity, which must be unique."""
    positions: dict[Hashable, int] = {}
    for position, identity in enumerate(sample_id):
        if positions.setdefault(identity, position) != position:
            raise ValueError(f"`sample_id` must be unique, got {identity!r} more than once")
    return positions


def position_of(sample_id: Hashable, positions: dict[Hashable, int]) -> int:
    """Return the position of a sample that must be there."""
    position = positions.get(sample_id)
    if position is None:
        raise ValueError(f"there is no sample {sample_id!r} in the dataset")
    return position
