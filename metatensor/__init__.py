"""Labelled block-sparse tensors with gradients for atomistic machine learning."""

from metatensor._checks import MetatensorError
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.tensor import TensorMap

__all__ = ["Labels", "TensorBlock", "TensorMap"]
