"""Sums over groups of rows or columns."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.number)
Real = TypeVar("Real", bound=np.floating)

def segment_sum(
    values: NDArray[Number], groups: NDArray[np.intp], size: int
) -> NDArray[Number]: ...
def segment_sum_columns(
    values: NDArray[Number], groups: NDArray[np.intp], size: int
) -> NDArray[Number]: ...
def segment_sum_squares(
    values: NDArray[Real], groups: NDArray[np.intp], centres: NDArray[Real]
) -> NDArray[Real]: ...
def segment_sum_products(
    values: NDArray[Real],
    groups: NDArray[np.intp],
    size: int,
    weights: NDArray[Real],
    rows: NDArray[np.intp],
    centres: NDArray[Real] | None = None,
    centre_rows: NDArray[np.intp] | None = None,
) -> NDArray[Real]: ...
