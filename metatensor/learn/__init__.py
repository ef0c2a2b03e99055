"""Learning with torch: datasets of maps, their batches, and modules for maps."""

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "`metatensor.learn` requires torch, which is not installed: "
        'pip install "metatensor-sklearn[torch]"',
        name="torch",
    ) from error

from metatensor.learn import data, nn
from metatensor.learn.data.datasets import Dataset, IndexedDataset
from metatensor.learn.data.loading import DataLoader
from metatensor.learn.nn.linear import Linear
from metatensor.learn.nn.module_map import ModuleMap

__all__ = ["DataLoader", "Dataset", "IndexedDataset", "Linear", "ModuleMap", "data", "nn"]
