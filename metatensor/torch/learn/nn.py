"""What :mod:`metatensor.learn.nn` has."""

from metatensor.learn.nn import *
from metatensor.learn.nn import __all__ as __all__
