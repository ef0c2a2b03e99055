"""Where results come from: the `info` that they inherit, and the record of operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from importlib.metadata import version
from inspect import signature
from itertools import takewhile
from threading import Lock
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

#: names of parameters in functions for blocks, which are the same functions
_BLOCK_NAMES = {
    "block": "tensor",
    "block_1": "tensor_1",
    "block_2": "tensor_2",
    "blocks": "tensors",
}

_recording = ContextVar("_recording", default=False)
# compilers that trace functions know numbers, and no context variables
_recorders = 0
_lock = Lock()


@contextmanager
def record_history() -> Iterator[None]:
    """Make every operation add a line to ``info["history"]`` of its results.

    A line has the name of the operation, its arguments, and the version of this package. Without
    this, results inherit the lines of their arguments and none is added. Blocks have no `info`.

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> block = TensorBlock(np.ones((2, 1)), Labels.range("atom", 2), [], Labels.single())
    >>> tensor = TensorMap(Labels.single(), [block])
    >>> with metatensor.record_history():
    ...     total = metatensor.sum_over_samples(2 * tensor, "atom")
    >>> print(total.get_info("history"))
    multiply(A=TensorMap, B=2) [metatensor-sklearn ...]
    sum_over_samples(tensor=TensorMap, sample_names='atom') [metatensor-sklearn ...]

    """
    global _recorders
    with _lock:
        _recorders += 1
    token = _recording.set(True)
    try:
        yield
    finally:
        with _lock:
            _recorders -= 1
        _recording.reset(token)


def operation(function: Function) -> Function:
    """Make the maps that a function returns inherit the `info` of those it gets.

    They have every entry on which all arguments that have it agree; of "history", the lines of all
    arguments, those in common once. An argument that is returned itself stays as it is.
    """
    parameters = signature(function).parameters

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        for name in _BLOCK_NAMES.keys() & kwargs.keys():
            if name not in parameters and _BLOCK_NAMES[name] not in kwargs:
                kwargs[_BLOCK_NAMES[name]] = kwargs.pop(name)
        if _recorders and _recording.get():
            return _run_and_record(function, args, kwargs)
        result = function(*args, **kwargs)
        return _inherit(result, [*args, *kwargs.values()] if kwargs else args)

    return run  # type: ignore[return-value]


def _run_and_record(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    token = _recording.set(False)  # for operations inside this one
    try:
        result = function(*args, **kwargs)
    finally:
        _recording.reset(token)
    given = signature(function).bind(*args, **kwargs).arguments
    texts = [f"{name}={_text(value)}" for name, value in given.items()]
    line = f"{function.__name__}({', '.join(texts)}) [metatensor-sklearn {_version()}]"
    return _inherit(result, list(given.values()), line)


def _version() -> str:
    return version("metatensor-sklearn")


def _text(value: Any) -> str:
    """Return an argument on one line: numbers and names as they are, the rest by type and size."""
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        return repr(value)
    if isinstance(value, (list, tuple)) and len(value) <= 8:
        texts = ", ".join(map(_text, value))
        return f"[{texts}]" if isinstance(value, list) else f"({texts})"
    name = type(value).__name__
    if name in ("TensorMap", "TensorBlock"):
        return name
    if name == "Labels":
        return f"Labels({', '.join(value.names)}: {len(value)} entries)"
    if hasattr(value, "shape"):
        return f"{name} of shape {tuple(value.shape)}" if value.shape else str(value)
    return f"{name} of length {len(value)}" if hasattr(value, "__len__") else name


def _inherit(result: Any, arguments: Sequence[Any], line: str | None = None) -> Any:
    """Give the maps of a result the `info` that they inherit from arguments."""
    sources: list[Any] = []
    for value in arguments:
        for part in value if isinstance(value, (list, tuple)) else (value,):
            if hasattr(part, "_info"):
                sources.append(part)
    if line is None and not any(source._info for source in sources):
        return result
    info = _merge([source._info for source in sources])
    if line is not None:
        info["history"] = "\n".join([*info.get("history", "").splitlines(), line])
    for part in result if isinstance(result, (list, tuple)) else (result,):
        if hasattr(part, "_info") and not any(part is source for source in sources):
            part._info = dict(info)
    return result


def _merge(infos: list[dict[str, str]]) -> dict[str, str]:
    if len(infos) == 1:
        return dict(infos[0])
    merged = {}
    for info in infos:
        for name, text in info.items():
            if all(other.get(name, text) == text for other in infos):
                merged[name] = text
    histories = [info["history"].splitlines() for info in infos if "history" in info]
    if histories:
        alike = list(takewhile(lambda lines: len(set(lines)) == 1, zip(*histories)))
        common = [lines[0] for lines in alike]
        own = [line for history in histories for line in history[len(common) :]]
        merged["history"] = "\n".join(common + own)
    return merged
