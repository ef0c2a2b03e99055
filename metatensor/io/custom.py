"""Loading values into arrays that a function of yours makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.io import _reading, mts
from metatensor.tensor import TensorMap

CreateArray = Callable[[tuple[int, ...], "np.dtype[Any]"], _arrays.Array]
