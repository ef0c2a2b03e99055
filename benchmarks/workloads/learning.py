"""Batches of one-system maps, as a training loop sees them; torch loads when a case is prepared."""

import importlib.util

import numpy as np

from metatensor import TensorMap
from workloads.data import column, make_block, make_keys
from workloads.registry import Case, workload

SYSTEMS = {"S": 10, "M": 1_000}
ATOMS, PROPERTIES, BLOCKS = 8, 32, 4


def batches(gradient_rows: int):
    """Pass once through all systems, in ten batches; the maps of the last one are compared."""

    def prepare(size: str) -> Case:
        from metatensor.learn import DataLoader, Dataset

        count = SYSTEMS[size]
        maps = []
        for system in range(count):
            samples = np.stack([np.full(ATOMS, system), np.arange(ATOMS)], axis=1).astype(np.int32)
            blocks = [
                make_block(samples, column(PROPERTIES), gradient_rows=gradient_rows, seed=seed)
                for seed in range(system, system + BLOCKS)
            ]
            tensor = TensorMap(make_keys(BLOCKS), blocks).to(arrays="torch")
            maps.append(tensor)
        dataset = Dataset(features=maps, name=[str(system) for system in range(count)])

        def run():
            for batch in DataLoader(dataset, batch_size=count // 10):
                last = batch.features
            return last

        return Case(run, result=lambda last: last.to(arrays="numpy"))

    return prepare


# the other package has it where its part for torch is installed too
if importlib.util.find_spec("torch") and (
    importlib.util.find_spec("metatensor_learn") or importlib.util.find_spec("metatensor._core")
):
    workload("learn.data_loader", S=None, M=None)(batches(0))
    workload("learn.data_loader.gradients", S=None, M=None)(batches(2))
