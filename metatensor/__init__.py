"""Labelled block-sparse tensors with gradients for atomistic machine learning.

The classes are :class:`Labels`, :class:`TensorBlock` and :class:`TensorMap`; :func:`save` and
:func:`load` exchange them as ``.mts`` files; estimators are in :mod:`metatensor.sklearn`.
"""

import metatensor._guard  # noqa: F401, I001
from metatensor._arrays import Array
from metatensor._checks import MetatensorError
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.tensor import TensorMap

__version__ = "0.1.0"
__all__ = ["Labels", "TensorBlock", "TensorMap"]
