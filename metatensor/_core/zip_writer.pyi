"""Zip archives of .npy members, laid out for writing."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]

def chunks(array: Array) -> Iterable[Array]: ...

class ArchiveWriter:
    def __init__(self, sink: Callable[[bytes | Array], object]) -> None: ...
    def add(self, name: str, header: bytes, array: Array | None = None) -> None: ...
    def finish(self) -> None: ...
