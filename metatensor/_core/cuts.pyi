"""Parts of tables: which rows go to each of several results, and what follows those rows."""

import numpy as np
from numpy.typing import NDArray

_Table = NDArray[np.int32]
_Positions = NDArray[np.intp]

def absolute(positions: _Positions, size: int) -> _Positions: ...
def ascending(positions: _Positions, bounds: _Positions) -> tuple[_Positions, _Positions]: ...
def runs(positions: _Positions, bounds: _Positions) -> list[int]: ...
def cut(
    table: _Table, positions: _Positions, bounds: _Positions, samples: _Positions | None = None
) -> list[_Table]: ...
def follow(
    table: _Table, positions: _Positions, bounds: _Positions, size: int
) -> tuple[_Positions, _Positions, _Positions]: ...
