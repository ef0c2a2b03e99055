"""Named tuples of types made when they are needed, which can be pickled nevertheless.

Those of :mod:`collections` are pickled by the name of their type, which only a module can have, and
refuse names that are no identifiers.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from operator import itemgetter
from typing import Any

from typing_extensions import Self

_PROTOCOL = ("_asdict", "_fields", "_make", "_replace")


class NamedTuple(tuple[Any, ...]):
    """Values of fields, by position or by name."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()

    def __new__(cls, /, *values: Any, **named: Any) -> Self:
        missing = cls._fields[len(values) :]
        if len(values) > len(cls._fields) or named.keys() != set(missing):
            raise TypeError(
                f"{cls.__name__} requires values of the fields {list(cls._fields)}, got "
                f"{len(values)} by position and {list(named)} by name"
            )
        return tuple.__new__(cls, (*values, *[named[name] for name in missing]))

    @classmethod
    def _make(cls, values: Iterable[Any]) -> Self:
        return cls(*values)

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self))

    def _replace(self, /, **named: Any) -> Self:
        if unknown := named.keys() - set(self._fields):
            raise TypeError(f"the fields are {list(self._fields)}, got {sorted(unknown)}")
        return self._make((self._asdict() | named).values())

    def __getitem__(self, selection: Any) -> Any:
        if isinstance(selection, str):
            if selection not in self._fields:
                raise KeyError(selection)
            selection = self._fields.index(selection)
        return tuple.__getitem__(self, selection)

    def __repr__(self) -> str:
        fields = [
            f"{name if name.isidentifier() else repr(name)}={value!r}"
            for name, value in self._asdict().items()
        ]
        return f"{type(self).__name__}({', '.join(fields)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return make, (type(self).__name__, self._fields, tuple(self))


@lru_cache(maxsize=1024)
def type_of(name: str, fields: tuple[str, ...]) -> type[NamedTuple]:
    """Return the type with this name and these fields; the same one when called again."""
    for field in fields:
        if field in _PROTOCOL or field.startswith("__"):
            raise ValueError(f"the name {field!r} of a field has another meaning in named tuples")
    attributes = {field: property(itemgetter(number)) for number, field in enumerate(fields)}
    return type(name, (NamedTuple,), {"__slots__": (), **attributes, "_fields": fields})


def make(name: str, fields: tuple[str, ...], values: Iterable[Any]) -> NamedTuple:
    """Make a named tuple of a type that exists, or is made now."""
    return type_of(name, fields)._make(values)
