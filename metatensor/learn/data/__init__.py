"""Datasets of maps, in memory and on disk, and their batches."""

from metatensor.learn.data.collation import group, group_and_join
from metatensor.learn.data.datasets import Dataset, IndexedDataset
from metatensor.learn.data.disk import DiskDataset, save_dataset
from metatensor.learn.data.loading import DataLoader
from metatensor.learn.data.sampling import SizeBatchSampler, count_samples

__all__ = [
    "DataLoader",
    "Dataset",
    "DiskDataset",
    "IndexedDataset",
    "SizeBatchSampler",
    "count_samples",
    "group",
    "group_and_join",
    "save_dataset",
]
