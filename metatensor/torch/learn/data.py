"""What :mod:`metatensor.learn.data` has."""

from metatensor.learn import data
from metatensor.learn.data import *

__all__: list[str] = []
__all__ += data.__all__
