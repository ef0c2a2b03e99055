"""What :mod:`metatensor.learn.data` has."""

from metatensor.learn.data import *
from metatensor.learn.data import __all__ as __all__
