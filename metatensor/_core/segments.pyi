"""Sums over groups of rows."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.number)

def segment_sum(
    values: NDArray[Number], groups: NDArray[np.intp], size: int
) -> NDArray[Number]: ...
