"""The functions of :mod:`metatensor.operations`, which are those for torch as well."""

from metatensor.operations import *
from metatensor.operations import __all__ as __all__
from metatensor.torch.creation import block_from_array as block_from_array
