"""What :mod:`metatensor.learn` has."""

from metatensor.learn import DataLoader, Dataset, IndexedDataset, Linear, ModuleMap
from metatensor.torch.learn import data, nn

__all__ = ["DataLoader", "Dataset", "IndexedDataset", "Linear", "ModuleMap", "data", "nn"]
