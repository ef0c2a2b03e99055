"""Loads maps from files when they are needed, with identities, samplers, and other collations."""

import functools
import os
import tempfile

import numpy as np
import torch

import metatensor
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.learn import DataLoader, IndexedDataset
from metatensor.learn.data import Dataset, group, group_and_join

folder = tempfile.mkdtemp()
names = ["methane", "ammonia", "water", "ozone"]
for number, name in enumerate(names):
    block = TensorBlock(
        values=np.full((2, 3), float(number)),
        samples=Labels(["atom"], np.array([[0], [1]], dtype=np.int32)),
        components=[],
        properties=Labels(["n"], np.array([[0], [1], [2]], dtype=np.int32)),
    )
    block.add_gradient(
        "positions",
        TensorBlock(
            values=np.full((1, 3, 3), number + 0.5),
            samples=Labels(["sample", "atom"], np.array([[1, 0]], dtype=np.int32)),
            components=[Labels(["xyz"], np.array([[0], [1], [2]], dtype=np.int32))],
            properties=block.properties,
        ),
    )
    keys = Labels(["center_type"], np.array([[number % 2]], dtype=np.int32))
    metatensor.save(os.path.join(folder, f"{name}.mts"), TensorMap(keys, [block]))


def load(name):
    return metatensor.load(os.path.join(folder, f"{name}.mts"))


dataset = IndexedDataset.from_dict(
    {
        "features": load,
        "number of atoms": [5, 4, 3, 3],
        "charge": [torch.tensor(float(charge)) for charge in range(4)],
        "spectrum": [torch.arange(3) + charge for charge in range(4)],
    },
    sample_id=names,
)
print(len(dataset), dataset[1]._fields, dataset[1]["number of atoms"], dataset[2].sample_id)
sample = dataset.get_sample("ozone")
print(sample.features.block().values[0, 0], sample.charge, sample[-1].tolist())
print(sample._replace(features=None), list(sample._asdict()))

united = functools.partial(
    group_and_join,
    fields_to_join=["features", "charge", "spectrum", "sample_id", "no field"],
    join_kwargs={"different_keys": "union", "add_dimension": "system"},
)
for batch in DataLoader(dataset, collate_fn=united, batch_size=3):
    print(batch._fields, batch.sample_id, batch["number of atoms"])
    print(batch.charge.tolist(), batch.spectrum.tolist())
    for key, block in batch.features.items():
        print(key["center_type"], block.samples.names, block.samples.values.tolist())
        print(block.values[:, 0].tolist(), block.gradient("positions").samples.values.tolist())

generator = torch.Generator().manual_seed(4)
sampler = torch.utils.data.WeightedRandomSampler([1.0, 0.0, 3.0, 2.0], 6, generator=generator)
for batch in DataLoader(dataset, collate_fn=group, batch_size=4, sampler=sampler):
    print(batch.sample_id, batch.charge, [len(tensor) for tensor in batch.features])
print(group([dataset[0], dataset[2]])._replace(features=None))


def attempt(what, function):
    try:
        function()
    except (ValueError, TypeError) as error:
        print(what, type(error).__name__, type(error.__cause__).__name__)


numbers = Dataset(x=[1, 2, 3], y=lambda index: 1 / index)
print([numbers[1], numbers[2]], len(numbers))
attempt("function", lambda: numbers[0])
attempt("negative", lambda: numbers[-1])
attempt("too large", lambda: numbers[3])
attempt("types", lambda: Dataset(x=[1, "a"]))
attempt("lengths", lambda: Dataset(x=[1], y=[1, 2]))
attempt("no size", lambda: Dataset(y=len))
attempt("identity", lambda: Dataset(sample_id=[1]))
attempt("twice", lambda: IndexedDataset(sample_id=["a", "a"], x=[1, 2]))
attempt("unknown", lambda: dataset.get_sample("benzene"))
attempt("axis", lambda: group_and_join(list(dataset), join_kwargs={"axis": "properties"}))
