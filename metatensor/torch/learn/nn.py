"""What :mod:`metatensor.learn.nn` has."""

from metatensor.learn import nn
from metatensor.learn.nn import *

__all__: list[str] = []
__all__ += nn.__all__
