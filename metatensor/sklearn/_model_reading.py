"""From the JSON and the arrays of a file to a fitted estimator.

Nothing that a file names is called: instances are made without `__init__`, of classes on a list,
and get their attributes.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch

from metatensor import _array_conversion
from metatensor._core import npy
from metatensor._core.zip_reader import ArchiveReader
from metatensor.block import TensorBlock
from metatensor.io import mts
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _model_classes
from metatensor.sklearn._model_writing import LIBRARIES, MAX_DEPTH, MAX_TEXT_BYTES, NOT_KEPT, Node
from metatensor.tensor import TensorMap

_MEMBER = re.compile(r"data/[0-9]{1,18}\.(npy|mts)", re.ASCII)
_TEXT_DTYPE = re.compile(r"U([0-9]{1,9})")
_NUMBERS = {np.dtype(code).name: np.dtype(code) for code in npy.CODES if np.dtype(code).kind != "c"}


def parse(content: bytes) -> Any:
    """Read JSON, with nothing but finite numbers, in which no name comes twice in an object."""
    return json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the JSON has a name twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"the JSON has {name}, which is no number of JSON")


def check_size(archive: ArchiveReader, size: int) -> None:
    """Refuse archives that become larger than they are: what we write is not compressed."""
    if sum(map(archive.size, archive.names)) > size:
        raise ValueError("its members are larger than the file, which must not be compressed")


class _Form(NamedTuple):
    """What the object of a type has besides its type, and which method reads it."""

    decode: Callable[..., Any]
    required: frozenset[str]
    optional: frozenset[str] = frozenset()


class Decoder:
    """Makes values of JSON.

    Attributes
    ----------
    where : list of str
        the steps to what was read last

    """

    def __init__(self, archive: ArchiveReader, size: int) -> None:
        check_size(archive, size)
        self.where: list[str] = []
        self.used: set[str] = set()
        self._archive = archive
        self._text_bytes = 0
        self._known: dict[str, dict[str, Any]] = {}  # by name and form

    def node(self, data: Node, step: str) -> Any:
        """Return what a part of the JSON stands for."""
        self.where.append(step)
        if len(self.where) > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} times")
        value = data
        if isinstance(data, list):
            value = self._nodes(data)
        elif isinstance(data, dict):
            value = self._object(data)
        elif isinstance(data, float) and not math.isfinite(data):
            raise ValueError("it has a number that is too large")
        self.where.pop()
        return value

    def _object(self, data: dict[str, Node]) -> Any:
        fields = dict(data)
        kind = fields.pop("type", None)
        form = _FORMS.get(kind) if isinstance(kind, str) else None
        if form is None:
            raise ValueError(f"there is no type {kind!r}")
        names = set(fields)
        if not form.required <= names <= form.required | form.optional:
            raise ValueError(f"what is of type {kind!r} has not the fields {sorted(names)}")
        return form.decode(self, **fields)

    # ---- containers

    def _nodes(self, items: Node) -> list[Any]:
        return [self.node(item, f"[{position}]") for position, item in enumerate(_as(list, items))]

    def _tuple(self, items: Node) -> Any:
        return tuple(self._nodes(items))

    def _set(self, items: Node) -> Any:
        return _same_length(set(self._nodes(items)), items)

    def _dict(self, items: Node = None, pairs: Node = None) -> Any:
        if (items is None) == (pairs is None):
            raise ValueError("what is of type 'dict' has either items or pairs")
        if pairs is None:
            return self._attributes(items)
        found = {}
        for position, pair in enumerate(_as(list, pairs)):
            if not isinstance(pair, list) or len(pair) != 2:
                raise ValueError("pairs have two entries")
            key, value = (self.node(part, f"[{position}]") for part in pair)
            found[key] = value
        return _same_length(found, pairs)

    def _bunch(self, items: Node = None, pairs: Node = None) -> Any:
        return Bunch(**self._dict(items, pairs))

    def _attributes(self, items: Node) -> dict[str, Any]:
        return {name: self.node(item, f".{name}") for name, item in _as(dict, items).items()}

    # ---- small things

    def _float(self, value: Node) -> Any:
        if value not in ("nan", "inf", "-inf"):
            raise ValueError(f"{value!r} is not nan, inf or -inf")
        return float(value)

    def _slice(self, items: Node) -> Any:
        return slice(*_of_length(self._nodes(items), 3))

    def _number(self, dtype: Node, value: Node) -> Any:
        found = _NUMBERS[_one_of(dtype, _NUMBERS, "dtype")]
        kinds: dict[str, Any] = {"b": bool, "i": int, "u": int, "f": float}
        return found.type(_as(kinds[found.kind], self.node(value, "")))

    def _entry(self, names: Node, values: Node) -> LabelsEntry:
        rows = np.array([_integers(_of_length(values, len(_as(list, names))))], dtype=np.int64)
        return Labels(names, rows.reshape(1, -1)).entry(0)

    def _random_state(self, state: Node) -> np.random.RandomState:
        # numpy takes any position for valid
        checked = _as(dict, self.node(state, ""))
        position = _as(int, _as(dict, checked.get("state")).get("pos"))
        if checked.get("bit_generator") != "MT19937" or not 0 <= position <= 624:
            raise ValueError("it is no state of a generator of random numbers")
        found = np.random.RandomState(0)
        found.set_state(checked)
        return found

    # ---- arrays and labels

    def _items(self, dtype: Node, shape: Node, items: Node) -> npt.NDArray[Any]:
        sizes, flat = _integers(shape), self._nodes(items)
        if math.prod(sizes) != len(flat):
            raise ValueError(f"the shape {sizes} does not fit the number of items, {len(flat)}")
        if dtype != "object":
            width = _TEXT_DTYPE.fullmatch(_as(str, dtype))
            self._text_bytes += 4 * int(width[1]) * len(flat) if width else 0
            if width is None or self._text_bytes > MAX_TEXT_BYTES:
                raise ValueError(f"an array of texts of dtype {dtype!r} is not possible")
            if not all(isinstance(item, str) and len(item) <= int(width[1]) for item in flat):
                raise ValueError(f"there are items that are no texts of dtype {dtype!r}")
        array = np.empty(len(flat), dtype=dtype)
        for position, item in enumerate(flat):
            array[position] = item
        return array.reshape(sizes)

    def _array(self, file: Node, order: Node, library: Node = "numpy") -> Any:
        _one_of(order, ("C", "F"), "order")

        def make() -> Any:
            array = self._archive.values(file)
            return _in_library(array.T if order == "F" else array, library)

        return self._once(self._member(file, "npy"), (order, library), make)

    def _labels(self, file: Node, library: Node) -> Any:
        return self._once(
            self._member(file, "mts"),
            library,
            lambda: _labels_in(mts.load_labels_buffer(self._archive.content(file)), library),
        )

    def _block(self, file: Node, layout: Node) -> Any:
        return self._once(
            self._member(file, "mts"),
            layout,
            lambda: _laid_out(mts.load_block_buffer(self._content(file)), layout),
        )

    def _map(self, file: Node, library: Node, layouts: Node) -> Any:
        def make() -> TensorMap:
            tensor = mts.load_buffer(self._content(file))
            blocks = [
                _laid_out(block, layout, True)
                for block, layout in zip(
                    tensor._blocks, _of_length(layouts, len(tensor._blocks)), strict=True
                )
            ]
            return TensorMap._of(_labels_in(tensor._keys, library), blocks, tensor._info)

        return self._once(self._member(file, "mts"), (library, layouts), make)

    def _once(self, name: str, form: Any, make: Callable[[], Any]) -> Any:
        """Return the same thing for the same member, however often it is named.

        Equal Labels in other array libraries share a member; more forms would be more memory than
        the file has.
        """
        forms = self._known.setdefault(name, {})
        key = str(form)
        if key not in forms:
            if len(forms) == len(LIBRARIES):
                raise ValueError(f"{name!r} is there in too many forms")
            forms[key] = make()
        return forms[key]

    def _member(self, file: Node, suffix: str) -> str:
        if not _MEMBER.fullmatch(_as(str, file)) or not file.endswith(suffix):
            raise ValueError(f"{file!r} is no name of a {suffix} member")
        self.used.add(file)
        return str(file)

    def _content(self, file: str) -> bytes:
        """Return the bytes of a block or map, which is an archive of its own."""
        content = self._archive.content(file)
        check_size(ArchiveReader(len(content), content), len(content))
        return content

    # ---- instances

    def _class(self, **fields: Node) -> type:
        return _model_classes.find(_as(str, fields["class"]))

    def _estimator(self, parameters: Node, fitted: Node, **fields: Node) -> Any:
        cls: Any = self._class(**fields)
        if not _model_classes.is_estimator(cls):
            raise ValueError(f"{cls.__name__} is no estimator")
        given = self._attributes(parameters)
        names = cls._get_param_names()
        if not given.keys() <= set(names):
            raise ValueError(f"{cls.__name__} has the parameters {names}, got {list(given)}")
        if any(given.get(name) is not None for what, name in NOT_KEPT if what == fields["class"]):
            raise ValueError(f"{cls.__name__} has a parameter that files do not keep")
        defaults = inspect.signature(cls.__init__).parameters
        state = {name: given.get(name, defaults[name].default) for name in names}
        if any(value is inspect.Parameter.empty for value in state.values()):
            raise ValueError(f"{cls.__name__} needs the parameters {names}, got {list(given)}")
        learnt = self._attributes(fitted)
        if not learnt.keys().isdisjoint(names):
            raise ValueError(f"{cls.__name__} has a parameter among what is fitted")
        state.update(learnt)
        for name in state:
            _model_classes.check_attribute(cls, name)
        estimator = cls.__new__(cls)
        estimator.__setstate__(state)
        return estimator

    def _record(self, fields: Node, **others: Node) -> Any:
        cls: Any = self._class(**others)
        values = self._attributes(fields)
        if not _model_classes.is_record(cls) or set(values) != set(cls._fields):
            raise ValueError(f"{cls.__name__} is no record with the fields {list(values)}")
        return tuple.__new__(cls, [values[name] for name in cls._fields])

    def _instance(self, state: Node, **fields: Node) -> Any:
        cls = self._class(**fields)
        if _model_classes.is_record(cls) or _model_classes.is_estimator(cls):
            raise ValueError(f"{cls.__name__} is made of more than attributes")
        attributes = self._attributes(state)
        slots = _model_classes.slots_of(cls)
        value: Any = object.__new__(cls)
        for name, item in attributes.items():
            _model_classes.check_attribute(cls, name)
            if name in slots:
                object.__setattr__(value, name, item)
            elif hasattr(value, "__dict__"):
                value.__dict__[name] = item
            else:
                raise ValueError(f"{cls.__name__} has no attribute {name!r}")
        return value


# ---- checks


def _as(kind: type, value: Any) -> Any:
    """Return a value of exactly this type, or refuse it."""
    if type(value) is not kind:
        raise ValueError(f"a {kind.__name__} is required, got a {type(value).__name__}")
    return value


def _one_of(name: Any, names: Any, what: str) -> Any:
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"there is no {what} {name!r}")
    return name


def _of_length(items: Any, length: int) -> Any:
    if len(_as(list, items)) != length:
        raise ValueError(f"{length} entries are required, got {len(items)}")
    return items


def _same_length(found: Any, items: Sequence[Any]) -> Any:
    if len(found) != len(items):
        raise ValueError("it has an entry twice")
    return found


def _integers(values: Any) -> list[int]:
    return [_as(int, value) for value in _as(list, values)]


# ---- arrays in their libraries


def _in_library(array: npt.NDArray[Any], library: Node) -> Any:
    """Return an array of numpy as one of another library, in main memory."""
    _one_of(library, LIBRARIES, "array library")
    if library == "torch":
        try:
            import torch  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "the model has tensors of torch, which is not installed: "
                "`pip install metatensor-sklearn[torch]`"
            ) from error
    return _array_conversion.convert(array, _array_conversion.Target(arrays=library))


def _labels_in(labels: Labels, library: Node) -> Labels:
    _one_of(library, LIBRARIES, "array library")
    return labels if library == "numpy" else labels._to(_array_conversion.Target(arrays=library))


def _laid_out(block: TensorBlock, layout: Node, frozen: bool = False) -> TensorBlock:
    """Return a block with arrays of the libraries and the order in memory that it had."""
    names = ("library", "order", "labels", "gradients")
    if set(_as(dict, layout)) != set(names):
        raise ValueError(f"the layout of a block has the fields {list(names)}")
    parts = layout["gradients"]
    if set(_as(dict, parts)) != set(block._gradients):
        raise ValueError("the layout of a block does not have its gradients")
    values = block._values
    if _one_of(layout["order"], ("C", "F"), "order") == "F":
        values = np.asfortranarray(values)
    labels = (block._samples, *block._components, block._properties)
    libraries = _of_length(layout["labels"], len(labels))
    samples, *components, properties = map(_labels_in, labels, libraries)
    gradients = {
        name: _laid_out(block._gradients[name], part, True) for name, part in parts.items()
    }
    return TensorBlock._of(
        _in_library(values, layout["library"]),
        samples,
        tuple(components),
        properties,
        gradients,
        block._parameter,
        frozen,
    )


_FORMS = {
    kind: _Form(decode, frozenset(required.split()), frozenset(optional.split()))
    for kind, decode, required, optional in (
        ("tuple", Decoder._tuple, "items", ""),
        ("set", Decoder._set, "items", ""),
        ("dict", Decoder._dict, "", "items pairs"),
        ("bunch", Decoder._bunch, "", "items pairs"),
        ("float", Decoder._float, "value", ""),
        ("slice", Decoder._slice, "items", ""),
        ("number", Decoder._number, "dtype value", ""),
        ("entry", Decoder._entry, "names values", ""),
        ("random_state", Decoder._random_state, "state", ""),
        ("items", Decoder._items, "dtype shape items", ""),
        ("array", Decoder._array, "file order", "library"),
        ("labels", Decoder._labels, "file library", ""),
        ("block", Decoder._block, "file layout", ""),
        ("map", Decoder._map, "file library layouts", ""),
        ("class", Decoder._class, "class", ""),
        ("estimator", Decoder._estimator, "class parameters fitted", ""),
        ("record", Decoder._record, "class fields", ""),
        ("object", Decoder._instance, "class state", ""),
    )
}
