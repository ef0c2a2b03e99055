"""Trains a network on energies and forces, with modules that hold labelled data."""

import io

import torch

import metatensor.torch as mts
import metatensor.torch.operations
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatensor.torch.learn import ModuleMap
from metatensor.torch.learn.data import DataLoader, Dataset, group_and_join
from metatensor.torch.learn.nn import Linear, Module, Sequential, Tanh

torch.set_default_dtype(torch.float64)
N = 4


def distances(positions: torch.Tensor) -> torch.Tensor:
    vectors = positions[:, None, :] - positions[None, :, :]
    return (vectors**2).sum(-1) + torch.eye(len(positions))


def descriptor(system: int, positions: torch.Tensor, types: torch.Tensor) -> TensorMap:
    """Smooth functions of distances, one block for each type of the center."""
    decay = torch.arange(1, N + 1) / 2.0
    features = torch.exp(-distances(positions)[:, :, None] * decay).sum(1)
    keys, blocks = [1, 8], []
    for center_type in keys:
        rows = torch.where(types == center_type)[0]
        samples = torch.stack([torch.full_like(rows, system), rows], dim=1)
        blocks.append(
            TensorBlock(
                values=features[rows],
                samples=Labels(["system", "atom"], samples),
                components=[],
                properties=Labels.range("n", N),
            )
        )
    return TensorMap(Labels(["center_type"], torch.tensor(keys)[:, None]), blocks)


class Model(Module):
    """Energies of atoms by type, from scaled descriptors."""

    def __init__(self, keys: Labels, scales: TensorMap):
        super().__init__()
        properties = [Labels.range("n", N) for _ in range(len(keys))]
        hidden = [Labels.range("hidden", 3) for _ in range(len(keys))]
        energy = [Labels.range("energy", 1) for _ in range(len(keys))]
        self.net = Sequential(
            keys,
            Linear(in_keys=keys, in_features=N, out_features=3, bias=True, out_properties=hidden),
            Tanh(in_keys=keys),
            Linear(in_keys=keys, in_features=3, out_features=1, bias=False, out_properties=energy),
        )
        self.register_buffer("scales", scales)
        self.register_buffer("keys", keys)
        assert len(properties) == len(self.keys)

    def forward(self, features: TensorMap) -> TensorMap:
        blocks: list[TensorBlock] = []
        for key, block in features.items():
            scale = self.scales.block(key)
            blocks.append(
                TensorBlock(
                    values=block.values * scale.values,
                    samples=block.samples,
                    components=block.components,
                    properties=block.properties,
                )
            )
        atoms = self.net(TensorMap(features.keys, blocks))
        return mts.sum_over_samples(atoms.keys_to_samples("center_type"), ["atom", "center_type"])


generator = torch.Generator().manual_seed(7)
systems = []
for system in range(4):
    positions = 2.0 * torch.rand(4 + system % 2, 3, generator=generator)
    types = torch.tensor([1, 8, 1, 8, 1])[: len(positions)]
    systems.append((positions, types))


def pair_energy(positions: torch.Tensor) -> torch.Tensor:
    return torch.exp(-distances(positions)).sum()


keys = Labels(["center_type"], torch.tensor([[1], [8]]))
one = Labels.single()
scales = TensorMap(
    keys,
    [
        TensorBlock(torch.tensor([[1.0, 0.5, 2.0, factor]]), one, [], Labels.range("n", N))
        for factor in (1.0, 3.0)
    ],
)
model = Model(keys, scales)
with torch.no_grad():
    for number, parameter in enumerate(model.parameters()):
        parameter.copy_(
            torch.cos(torch.arange(parameter.numel()) + number).reshape(parameter.shape)
        )
print(
    [tuple(parameter.shape) for parameter in model.parameters()],
    sorted(dict(model.named_buffers())),
)

# ---- forces and training

optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
for epoch in range(3):
    loss = torch.zeros(())
    for system, (positions, types) in enumerate(systems):
        positions = positions.clone().requires_grad_(True)
        energy = model(descriptor(system, positions, types)).block().values.sum()
        (forces,) = torch.autograd.grad(energy, positions, create_graph=True)
        target = pair_energy(positions)
        (exact,) = torch.autograd.grad(target, positions)
        loss = loss + (energy - target.detach()) ** 2 + ((forces - exact) ** 2).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.6f}")

# ---- batches

dataset = Dataset(
    features=[descriptor(i, *system) for i, system in enumerate(systems)],
    energy=[pair_energy(positions).reshape(1, 1) for positions, _ in systems],
)
loader = DataLoader(dataset, batch_size=3, collate_fn=group_and_join)
counts: dict[int, int] = {}
for batch in loader:
    prediction = model(batch.features).block()
    print(
        prediction.samples.values.T.tolist(), [f"{value.item():.6f}" for value in prediction.values]
    )
    print(f"{(prediction.values - batch.energy).abs().sum().item():.6f}")
    for key, block in batch.features.items():
        counts[int(key["center_type"])] = counts.get(int(key["center_type"]), 0) + len(block)
print(counts)

# ---- state dicts and moves

file = io.BytesIO()
torch.save(model.state_dict(), file)
file.seek(0)
again = Model(keys, mts.zeros_like(scales))
again.load_state_dict(torch.load(file, weights_only=True))
features = dataset[1].features
print(mts.equal(model(features), again(features)), mts.equal(again.scales, scales))
again = again.to(torch.float32)
print(mts.dtype_name(again.scales.block(0).dtype), again.keys == keys)
single = again(features.to(torch.float32)).block().values
print(single.dtype, f"{single.item():.3f}")
hidden_or_same = [Labels.range("m", 2), Labels.range("m", N)]
mixed = ModuleMap(keys, [torch.nn.Linear(N, 2), torch.nn.Identity()], hidden_or_same)
print([list(block.shape) for block in mixed(features).blocks()], len(mixed.module_list))
detached = mts.detach(model(features))
print(detached.block().values.requires_grad, model(features).block().values.requires_grad)
print(mts.requires_grad(detached).block().values.requires_grad)
print(metatensor.torch.operations.add(detached, 1.0).block().values.shape)
