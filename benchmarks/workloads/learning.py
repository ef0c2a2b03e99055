"""Batches of one-system maps and modules of networks; torch loads when a case is prepared."""

import importlib.util

import numpy as np

from metatensor import TensorMap
from workloads.data import atoms, column, make_block, make_keys
from workloads.registry import Case, workload

SYSTEMS = {"S": 10, "M": 1_000}
ATOMS, PROPERTIES, BLOCKS = 8, 32, 4
# blocks, samples and features of what goes through linear layers: few, large, and many blocks
LAYERS = {"S": (4, 10, 32), "M": (10, 1_000, 128), "L": (100, 20, 64)}


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


def linear_layers(size: str) -> Case:
    """Forward and backward through a linear layer for each block, to the gradients of weights."""
    import torch

    from metatensor.learn.nn import ModuleMap

    count, rows, features = LAYERS[size]
    table, properties = atoms(rows), column(features)
    blocks = [make_block(table, properties, seed=seed) for seed in range(count)]
    tensor = TensorMap(make_keys(count), blocks).to(arrays="torch")
    torch.manual_seed(0)
    layers = [torch.nn.Linear(features, features, dtype=torch.float64) for _ in range(count)]
    module = ModuleMap(tensor.keys, layers)

    def run():
        for weight in module.parameters():
            weight.grad = None
        sum(block.values.sum() for block in module(tensor)).backward()
        return module

    return Case(
        run,
        result=lambda module: [weight.grad.numpy() for weight in module.parameters()],
        exact=False,
    )


# the other package has it where its part for torch is installed too
if importlib.util.find_spec("torch") and (
    importlib.util.find_spec("metatensor_learn") or importlib.util.find_spec("metatensor._core")
):
    workload("learn.data_loader", S=None, M=None)(batches(0))
    workload("learn.data_loader.gradients", S=None, M=None)(batches(2))
    workload("learn.module_map", S=None, M=None, L=None)(linear_layers)
