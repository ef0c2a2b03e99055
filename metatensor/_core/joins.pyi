"""Joins of blocks: plans over int32 tables, and their execution on the bytes of numpy arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.int32]
Positions = NDArray[np.intp]

def stack(tables: list[Table], keys: Table, keys_first: bool) -> Table: ...
def invert(positions: Positions, size: int) -> Positions: ...
def renumber(table: Table, positions: Positions | None, start: int = 0) -> Table: ...
def gather_columns(
    parts: list[NDArray[Any] | None],
    indices: list[Positions | None],
    widths: list[int],
    rows: int,
    components: int,
    fill: NDArray[Any],
) -> NDArray[Any]: ...
def gather_rows(
    parts: list[NDArray[Any]],
    indices: list[Positions | None],
    order: Positions | None,
    components: int,
    fill: NDArray[Any],
) -> NDArray[Any]: ...
