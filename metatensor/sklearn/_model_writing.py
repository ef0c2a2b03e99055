"""From a fitted estimator to the JSON and the arrays of its file.

In the JSON null, booleans, texts, finite numbers and lists are themselves. Everything else is an
object whose "type" says what it is, one of the keys of the table in `_model_reading.py`. Arrays,
Labels, blocks and maps are members of the archive, which the JSON names.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch

from metatensor import _arrays, _checks
from metatensor._core import npy
from metatensor.block import TensorBlock
from metatensor.io import _files, _writing
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _model_classes
from metatensor.tensor import TensorMap

Node = Any  # what JSON can have

#: containers in containers deeper than this are neither written nor read
MAX_DEPTH = 100
#: more bytes of arrays of texts, together, are neither written nor read
MAX_TEXT_BYTES = 1 << 30
#: array libraries that values come back to
LIBRARIES = ("numpy", "torch", "jax")
#: parameters that are None in files: where a cache is has no meaning elsewhere
NOT_KEPT = {("sklearn.pipeline.Pipeline", "memory")}

_FILE_DTYPES = frozenset(np.dtype(code) for code in npy.CODES)
_CALLABLE = "functions can not be saved, as loading would run code"


class Encoder:
    """Makes the JSON of values, and the members of the archive that go with it.

    Attributes
    ----------
    members : dict of str to (bytes, array)
        name of each member, and what it is made of

    """

    def __init__(self) -> None:
        self.members: dict[str, tuple[bytes, npt.NDArray[Any]]] = {}
        self._names: dict[tuple[Any, ...], str] = {}
        self._kept: list[Any] = []  # so that no other object gets the id of a known one
        self._open: list[tuple[int, str]] = []
        self._text_bytes = 0

    def node(self, value: Any, step: str) -> Node:
        """Return what stands for a value; `step` says where it is in what has it."""
        kind = type(value)
        if value is None or kind in (bool, str, int):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"type": "float", "value": repr(value)}
        with self._inside(value, step):
            for known, encode in _ENCODERS:
                if isinstance(value, known):
                    return encode(self, value)
            if hasattr(value, "shape") and _arrays.library(value) in LIBRARIES[1:]:
                return self._array(value)
            return self._instance(value)

    @contextlib.contextmanager
    def _inside(self, value: Any, step: str) -> Iterator[None]:
        if any(other == id(value) for other, _ in self._open):
            self._open.append((0, step))
            self.refuse("it contains itself")
        self._open.append((id(value), step))
        if len(self._open) > MAX_DEPTH:
            self.refuse(f"it is nested more than {MAX_DEPTH} times")
        yield
        self._open.pop()

    def refuse(self, why: str) -> Any:
        """Raise the error for a value that files can not have."""
        where = "".join(step for _, step in self._open)
        raise TypeError(
            f"unable to save {where}: {why}. What is not plain data can be kept with pickle or "
            "joblib, whose files run code when they are loaded"
        )

    # ---- containers

    def _list(self, value: list[Any]) -> Node:
        self._expect(value, list)
        return self._items(value)

    def _items(self, values: Any) -> list[Node]:
        return [self.node(item, f"[{position}]") for position, item in enumerate(values)]

    def _expect(self, value: Any, *kinds: type) -> None:
        """Refuse subclasses, which may be more than what they derive from."""
        if type(value) not in kinds:
            self.refuse(f"files can not have a {_checks.kind(value)}")

    def _tuple(self, value: tuple[Any, ...]) -> Node:
        if type(value) is tuple:
            return {"type": "tuple", "items": self._items(value)}
        return self._instance(value)

    def _set(self, value: set[Any]) -> Node:
        self._expect(value, set)
        return {"type": "set", "items": self._items(value)}

    def _dict(self, value: dict[Any, Any]) -> Node:
        self._expect(value, dict, Bunch)
        kind = "dict" if type(value) is dict else "bunch"
        if all(type(key) is str for key in value):
            return {"type": kind, "items": self._attributes(value, "[{!r}]")}
        pairs = [
            [self.node(key, f" key {key}"), self.node(item, f"[{key}]")]
            for key, item in value.items()
        ]
        return {"type": kind, "pairs": pairs}

    def _attributes(self, values: Mapping[str, Any], step: str = ".{}") -> dict[str, Node]:
        return {name: self.node(item, step.format(name)) for name, item in values.items()}

    # ---- small things

    def _slice(self, value: slice) -> Node:
        return {"type": "slice", "items": self._items((value.start, value.stop, value.step))}

    def _number(self, value: np.generic) -> Node:
        if isinstance(value, np.str_):  # of a grid of parameters that is an array
            return str(value)
        if value.dtype not in _FILE_DTYPES or value.dtype.kind == "c":
            self.refuse(f"files can not have a number of dtype {value.dtype}")
        item = self.node(value.item(), "")
        return {"type": "number", "dtype": value.dtype.name, "value": item}

    def _entry(self, value: LabelsEntry) -> Node:
        return {"type": "entry", "names": value.names, "values": [int(n) for n in value]}

    def _random_state(self, value: np.random.RandomState) -> Node:
        state: Any = value.get_state(legacy=False)
        return {"type": "random_state", "state": self.node(state, "")}

    # ---- arrays and labels

    def _array(self, value: Any) -> Node:
        library = _arrays.library(value)
        if library == "numpy":
            self._expect(value, np.ndarray, np.memmap)
            return self._numpy(value)
        if f"{value.dtype}" == "torch.bfloat16":
            self.refuse("files can not have arrays of dtype bfloat16")
        return {**self._numpy(_arrays.to_host(_arrays.detach(value))), "library": library}

    def _numpy(self, array: npt.NDArray[Any]) -> Node:
        kind = array.dtype.kind
        if kind in "OU":
            self._text_bytes += array.nbytes
            if self._text_bytes > MAX_TEXT_BYTES:
                self.refuse(f"arrays of texts have up to {MAX_TEXT_BYTES} bytes together")
            items = self._items(array.ravel().tolist())
            dtype = "object" if kind == "O" else f"U{array.dtype.itemsize // 4}"
            return {"type": "items", "dtype": dtype, "shape": list(array.shape), "items": items}
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        stored = array.T if order == "F" else array
        if array.dtype.newbyteorder("=") not in _FILE_DTYPES:
            self.refuse(f"files can not have arrays of dtype {array.dtype}")
        header = npy.values_header(stored.dtype, stored.shape)
        name = self._member((id(array), order), "npy", array, header, stored)
        return {"type": "array", "order": order, "file": name}

    def _member(
        self,
        known_by: tuple[Any, ...],
        suffix: str,
        value: Any,
        header: bytes,
        stored: npt.NDArray[Any],
    ) -> str:
        """Add a member, once for the same thing, and return its name."""
        if known_by not in self._names:
            name = f"data/{len(self.members)}.{suffix}"
            self._names[known_by] = name
            self._kept.append(value)
            self.members[name] = (header, stored)
        return self._names[known_by]

    def _file(
        self, known_by: tuple[Any, ...], value: Any, data: Labels | TensorBlock | TensorMap
    ) -> str:
        if known_by in self._names:
            return self._names[known_by]
        content = _files.write_to_memory(_writing.writer_of(data, False))
        return self._member(known_by, "mts", value, b"", np.frombuffer(content, dtype=np.uint8))

    def _labels(self, value: Labels) -> Node:
        return {
            "type": "labels",
            "file": self._file((value._names, value), value, value),
            "library": self._library(value.values),
        }

    def _library(self, array: Any) -> str:
        library = _arrays.library(array)
        if library not in LIBRARIES:
            self.refuse(f"files can not have arrays of {library}, only of {list(LIBRARIES)}")
        return library

    def _block(self, value: TensorBlock) -> Node:
        saved = value._map(_arrays.detach)
        name = self._file((id(value),), value, saved)
        return {"type": "block", "file": name, "layout": self._layout(value)}

    def _map(self, value: TensorMap) -> Node:
        blocks = [block._map(_arrays.detach) for block in value._blocks]
        saved = TensorMap._of(value._keys, blocks, value._info)
        return {
            "type": "map",
            "file": self._file((id(value),), value, saved),
            "library": self._library(value._keys.values),
            "layouts": [self._layout(block) for block in value._blocks],
        }

    def _layout(self, block: TensorBlock) -> Node:
        """Return what files of blocks do not tell: array libraries, order in memory."""
        values = block._values
        order = "C"
        if isinstance(values, np.ndarray) and not values.flags.c_contiguous:
            order = "F" if values.flags.f_contiguous else "C"
        labels = (block._samples, *block._components, block._properties)
        return {
            "library": self._library(values),
            "order": order,
            "labels": [self._library(labels.values) for labels in labels],
            "gradients": {name: self._layout(part) for name, part in block._gradients.items()},
        }

    # ---- instances

    def _class(self, value: type) -> Node:
        return {"type": "class", "class": self._class_name(value)}

    def _class_name(self, cls: type) -> str:
        name = _model_classes.name_of(cls)
        if name is not None:
            return name
        what = f"{cls.__module__}.{cls.__qualname__}"
        if hasattr(cls, "best_estimator_") or what.startswith("sklearn.model_selection."):
            return str(
                self.refuse(f"a {what} keeps its data, save its attribute `best_estimator_`")
            )
        return str(self.refuse(f"the class {what} is not among those that files can have"))

    def _instance(self, value: Any) -> Node:
        cls = type(value)
        if callable(value) and not _model_classes.name_of(cls):
            self.refuse(f"{_CALLABLE}; got {_checks.kind(value)}")
        name = self._class_name(cls)
        if _model_classes.is_estimator(cls):
            return self._estimator(value, cls, name)
        if _model_classes.is_record(cls):
            return {"type": "record", "class": name, "fields": self._attributes(value._asdict())}
        state = dict(getattr(value, "__dict__", {}))
        state.update(
            {
                slot: getattr(value, slot)
                for slot in _model_classes.slots_of(cls)
                if hasattr(value, slot)
            }
        )
        return {"type": "object", "class": name, "state": self._state(cls, state)}

    def _estimator(self, value: Any, cls: Any, name: str) -> Node:
        state = dict(value.__getstate__())
        parameters = {key: state.pop(key) for key in cls._get_param_names() if key in state}
        for key in parameters:
            if (name, key) in NOT_KEPT:
                parameters[key] = None
        return {
            "type": "estimator",
            "class": name,
            "parameters": self._state(cls, parameters),
            "fitted": self._state(cls, state),
        }

    def _state(self, cls: type, state: Mapping[str, Any]) -> dict[str, Node]:
        for name in state:
            try:
                _model_classes.check_attribute(cls, name)
            except ValueError as error:
                self.refuse(str(error))
        return self._attributes(state)


#: what is tried in this order; all that is left is an instance of a class
_ENCODERS: list[tuple[Any, Callable[[Encoder, Any], Node]]] = [
    (np.generic, Encoder._number),
    (LabelsEntry, Encoder._entry),
    (tuple, Encoder._tuple),
    (list, Encoder._list),
    (dict, Encoder._dict),
    (set, Encoder._set),
    (slice, Encoder._slice),
    (np.ndarray, Encoder._array),
    (Labels, Encoder._labels),
    (TensorBlock, Encoder._block),
    (TensorMap, Encoder._map),
    (np.random.RandomState, Encoder._random_state),
    (type, Encoder._class),
]
