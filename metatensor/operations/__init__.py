"""Operations on blocks and maps that carry metadata and gradients along."""

from metatensor._provenance import record_history
from metatensor.operations import (
    checks,
    comparison,
    creation,
    dimensions,
    elementwise,
    gradients,
    joining,
    linalg,
    memory,
    products,
    reductions,
    selection,
    sorting,
)
from metatensor.operations.checks import *
from metatensor.operations.comparison import *
from metatensor.operations.creation import *
from metatensor.operations.dimensions import *
from metatensor.operations.elementwise import *
from metatensor.operations.gradients import *
from metatensor.operations.joining import *
from metatensor.operations.linalg import *
from metatensor.operations.memory import *
from metatensor.operations.products import *
from metatensor.operations.reductions import *
from metatensor.operations.selection import *
from metatensor.operations.sorting import *

_THEMES = [
    checks,
    comparison,
    creation,
    dimensions,
    elementwise,
    gradients,
    joining,
    linalg,
    memory,
    products,
    reductions,
    selection,
    sorting,
]
__all__ = ["record_history", *(name for theme in _THEMES for name in theme.__all__)]
