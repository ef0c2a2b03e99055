"""Headers of .npy members: written as upstream does, read from the text of any writer."""

from collections.abc import Iterable

from typing_extensions import Buffer

import numpy as np

MAGIC: bytes

def values_header(dtype: np.dtype[np.generic], shape: Iterable[int]) -> bytes: ...
def table_header(names: Iterable[str], rows: int) -> bytes: ...
def header_length(head: Buffer) -> int: ...
def read_table_header(head: Buffer, nbytes: int) -> tuple[tuple[str, ...], tuple[int, int], bool]: ...
