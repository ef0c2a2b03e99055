"""Headers of .npy members: written as upstream does, read from the text of any writer."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

MAGIC: bytes
CODES: tuple[str, ...]

def values_header(dtype: np.dtype[np.generic], shape: Iterable[int]) -> bytes: ...
def table_header(names: Iterable[str], rows: int) -> bytes: ...
def header_length(head: npt.NDArray[np.uint8]) -> int: ...
def read_table_header(
    head: npt.NDArray[np.uint8], nbytes: int
) -> tuple[tuple[str, ...], tuple[int, int], bool]: ...
