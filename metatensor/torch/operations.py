"""The functions of :mod:`metatensor.operations`, which are those for torch as well."""

from metatensor import operations
from metatensor.operations import *
from metatensor.torch.creation import block_from_array as block_from_array

__all__: list[str] = []
__all__ += operations.__all__
