"""Trains a linear model on energies of systems, with features of atoms in two blocks."""

import numpy as np
import torch

import metatensor
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.learn import DataLoader, Dataset

torch.manual_seed(0)
rng = np.random.default_rng(3)
weights = {1: rng.normal(size=5), 8: rng.normal(size=5)}
keys = Labels(names=["center_type"], values=np.array([[1], [8]], dtype=np.int32))
properties = Labels(names=["feature"], values=np.arange(5, dtype=np.int32).reshape(-1, 1))
energy_properties = Labels(names=["energy"], values=np.array([[0]], dtype=np.int32))

features, energies = [], []
for system in range(24):
    blocks, total = [], 0.0
    for species, count in ((1, 2 + system % 3), (8, 1 + system % 2)):
        values = rng.normal(size=(count, 5))
        total += float((values @ weights[species]).sum())
        samples = np.array([[system, atom] for atom in range(count)], dtype=np.int32)
        blocks.append(
            TensorBlock(
                values=torch.tensor(values),
                samples=Labels(names=["system", "atom"], values=samples),
                components=[],
                properties=properties,
            )
        )
    features.append(TensorMap(keys=keys, blocks=blocks))
    block = TensorBlock(
        values=torch.tensor([[total]]),
        samples=Labels(names=["system"], values=np.array([[system]], dtype=np.int32)),
        components=[],
        properties=energy_properties,
    )
    energies.append(TensorMap(Labels(names=["_"], values=np.array([[0]], dtype=np.int32)), [block]))

dataset = Dataset(features=features, energy=energies, name=[f"system {i}" for i in range(24)])
print(len(dataset), dataset[3]._fields, dataset[3].name)
train, test = torch.utils.data.random_split(
    dataset, [20, 4], generator=torch.Generator().manual_seed(1)
)
print([sample.name for sample in test])

models = torch.nn.ModuleDict({str(s): torch.nn.Linear(5, 1, bias=False) for s in (1, 8)})
models.double()
optimizer = torch.optim.LBFGS(models.parameters(), line_search_fn="strong_wolfe")


def predict(tensor):
    """Sum what the model of each species gives for the atoms of each system."""
    blocks = []
    for key, block in tensor.items():
        blocks.append(
            TensorBlock(
                values=models[str(int(key["center_type"]))](block.values),
                samples=block.samples,
                components=[],
                properties=energy_properties,
            )
        )
    total = metatensor.sum_over_samples(TensorMap(tensor.keys, blocks), sample_names="atom")
    return total.block(center_type=1).samples, total.block(0).values + total.block(1).values


def error(batch):
    systems, predicted = predict(batch.features)
    expected = batch.energy.block()
    order = [expected.samples.position(entry) for entry in systems]
    return torch.mean((predicted - expected.values[order]) ** 2)


loader = DataLoader(train, batch_size=len(train))
for batch in loader:
    print(type(batch).__name__, batch._fields, batch.name)
    for block in batch.features:
        print(block.samples.names, tuple(block.values.shape), block.samples.values[0].tolist())
for _epoch in range(60):
    for batch in loader:

        def closure(batch=batch):
            optimizer.zero_grad()
            loss = error(batch)
            loss.backward()
            return loss

        optimizer.step(closure)

with torch.no_grad():
    for batch in DataLoader(test, batch_size=2):
        print(batch.name, f"{float(error(batch)):.6f}")
    for species, model in models.items():
        print(species, np.round(model.weight.numpy()[0] - weights[int(species)], 5) + 0.0)
