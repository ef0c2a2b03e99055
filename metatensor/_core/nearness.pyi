"""Whether two arrays hold nearly the same numbers, in one pass."""

from typing import Any

from numpy.typing import NDArray

def near(
    a: NDArray[Any], b: NDArray[Any], rtol: float, atol: float, equal_nan: bool
) -> bool | None: ...
