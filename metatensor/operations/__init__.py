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

__all__ = ["record_history"]
__all__ += checks.__all__
__all__ += comparison.__all__
__all__ += creation.__all__
__all__ += dimensions.__all__
__all__ += elementwise.__all__
__all__ += gradients.__all__
__all__ += joining.__all__
__all__ += linalg.__all__
__all__ += memory.__all__
__all__ += products.__all__
__all__ += reductions.__all__
__all__ += selection.__all__
__all__ += sorting.__all__
