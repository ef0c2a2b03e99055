"""Learning with torch: datasets of maps and their batches."""

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "`metatensor.learn` requires torch, which is not installed: "
        'pip install "metatensor-sklearn[torch]"',
        name="torch",
    ) from error

from metatensor.learn import data
from metatensor.learn.data.datasets import Dataset, IndexedDataset
from metatensor.learn.data.loading import DataLoader

__all__ = ["DataLoader", "Dataset", "IndexedDataset", "data"]
