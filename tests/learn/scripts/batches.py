"""Trains a linear layer for each species in batches of systems with names, in several ways."""

import functools

import numpy as np
import torch

import metatensor
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.learn import DataLoader, Dataset, IndexedDataset, ModuleMap
from metatensor.learn.data import group, group_and_join

rng = np.random.default_rng(5)
keys = Labels(["center_type"], np.array([[1], [8]], dtype=np.int32))
one = Labels(["_"], np.array([[0]], dtype=np.int32))
energy = Labels(["energy"], np.array([[0]], dtype=np.int32))
channels = Labels(["n"], np.arange(4, dtype=np.int32)[:, None])
truth = [rng.normal(size=4), rng.normal(size=4)]
names = [f"system {number}" for number in range(12)]


def make_block(values, rows, properties):
    samples = Labels(["system", "atom"][: len(rows[0])], np.array(rows, dtype=np.int32))
    return TensorBlock(torch.tensor(values), samples, [], properties)


def make_system(system):
    counts = (2 + system % 3, 1 + system % 2)
    blocks = [
        make_block(rng.normal(size=(count, 4)), [[system, atom] for atom in range(count)], channels)
        for count in counts
    ]
    total = sum(
        float((block.values.numpy() @ weights).sum()) for block, weights in zip(blocks, truth)
    )
    return TensorMap(keys, blocks), TensorMap(one, [make_block([[total]], [[system]], energy)])


features, energies = zip(*(make_system(system) for system in range(12)))
dataset = IndexedDataset(
    sample_id=names,
    features=list(features),
    energy=list(energies),
    charge=[system % 2 for system in range(12)],
    dipole=[torch.tensor([system, 0.5]) for system in range(12)],
    scale=lambda name: float(name.split()[1]) / 10,
)
print(len(dataset), dataset[0]._fields, dataset.get_sample("system 7").scale)

model = ModuleMap(
    keys, [torch.nn.Linear(4, 1, bias=False, dtype=torch.float64) for _ in keys], [energy] * 2
)
with torch.no_grad():
    for module in model.module_list:
        module.weight.fill_(0.1)


def rekeyed(tensor):
    return TensorMap(one, [block.copy() for block in tensor])


def error_of(batch):
    total = metatensor.sum_over_samples(model(batch.features), sample_names="atom")
    hydrogen = Labels(["center_type"], keys.values[:1])
    parts = metatensor.filter_blocks(total, hydrogen), metatensor.drop_blocks(total, hydrogen)
    predicted = metatensor.add(*(rekeyed(part) for part in parts))
    difference = metatensor.subtract(predicted, metatensor.sort(batch.energy, axes="samples"))
    return torch.mean(difference.block().values ** 2)


optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
generator = torch.Generator().manual_seed(2)
loader = DataLoader(dataset, batch_size=4, shuffle=True, generator=generator, num_workers=0)
for epoch in range(40):
    for batch in loader:
        optimizer.zero_grad()
        loss = error_of(batch)
        loss.backward()
        optimizer.step()
    if epoch % 10 == 0:
        print(epoch, batch.sample_id, f"{loss.item():.6f}")
for module, weights in zip(model.module_list, truth):
    print(np.round(module.weight.detach().numpy()[0] - weights, 4).tolist())

print("collations")
chosen = functools.partial(
    group_and_join,
    fields_to_join=["features", "dipole", "sample_id"],
    join_kwargs={"different_keys": "intersection"},
)


def largest(batch):
    """Give what `group` gives, but the largest of the charges."""
    grouped = group(batch)
    return grouped._replace(charge=max(grouped.charge))


def by_hand(batch):
    """Join one field with a dimension of its own, and keep another one."""
    joined = metatensor.join(
        [sample.features for sample in batch], axis="samples", add_dimension="number"
    )
    return joined, [sample.sample_id for sample in batch]


for collate in (group_and_join, chosen, group, largest):
    batch = next(iter(DataLoader(dataset, collate_fn=collate, batch_size=3)))
    print(type(batch).__name__, batch._fields, batch.sample_id, batch.charge, batch.scale)
    for name in ("features", "energy", "dipole"):
        field = batch[name]
        if isinstance(field, tuple):
            print(name, "is a tuple of", len(field))
        elif isinstance(field, torch.Tensor):
            print(name, field.tolist())
        else:
            shapes = [tuple(block.values.shape) for block in field]
            print(name, field.sample_names, shapes, field.block(0).samples.values[-1].tolist())
tensor, identities = next(iter(DataLoader(dataset, collate_fn=by_hand, batch_size=2)))
print(identities, tensor.sample_names, tensor.block(1).samples.values.tolist())

print("samplers")
sampler = torch.utils.data.SubsetRandomSampler(
    [1, 4, 6, 9], generator=torch.Generator().manual_seed(0)
)
batched = torch.utils.data.BatchSampler(
    torch.utils.data.SequentialSampler(dataset), batch_size=5, drop_last=True
)
weighted = torch.utils.data.WeightedRandomSampler(
    [1.0, 2.0] * 6, 4, generator=torch.Generator().manual_seed(3)
)
for options in (
    {"sampler": sampler, "batch_size": 2},
    {"batch_sampler": batched},
    {"sampler": weighted, "batch_size": 4, "collate_fn": group},
    {"batch_size": 7, "drop_last": True},
):
    loader = DataLoader(dataset, **options)
    print(len(loader), [batch.sample_id for batch in loader])
parts = torch.utils.data.random_split(dataset, [9, 3], generator=torch.Generator().manual_seed(1))
for part in (*parts, torch.utils.data.Subset(dataset, [2, 0])):
    print([sample.sample_id for sample in part])
    print([batch.charge for batch in DataLoader(part, batch_size=2)])

print("names that are no identifiers")
odd = Dataset.from_dict(
    {"number of atoms": [3, 4, 5], "mtt::energy": lambda index: torch.tensor([index / 2])}
)
print(len(odd), odd[1]._fields, odd[1]["number of atoms"], odd[1][1].tolist())
print(odd[2]._replace(**{"number of atoms": 0})._asdict()["number of atoms"])
for batch in DataLoader(odd, batch_size=2):
    print(batch._fields, batch["number of atoms"], batch["mtt::energy"].tolist())
sized = Dataset.from_dict({"square": lambda index: index**2}, size=4)
print([sample.square for sample in sized], sized[3])
print(Dataset(size=2, x=["a", "b"])[1])


def attempt(what, function):
    try:
        function()
    except Exception as error:
        kind = "MetatensorError" if isinstance(error, metatensor.MetatensorError) else type(error)
        print(what, getattr(kind, "__name__", kind), type(error.__cause__).__name__)


print("errors")
same = [dataset[3], dataset[3]]
fewer = metatensor.filter_blocks(features[0], Labels(keys.names, keys.values[:1]))
different = [dataset[1], dataset[0]._replace(features=fewer)]
attempt("same samples twice", lambda: group_and_join(same))
attempt("different keys", lambda: group_and_join(different))
attempt("axis", lambda: group_and_join(same, join_kwargs={"axis": "samples"}))
attempt("no field joined", lambda: group_and_join(same, fields_to_join=[]))
attempt("function that fails", lambda: Dataset(size=3, x=lambda index: [][index])[0])
attempt("size that differs", lambda: Dataset(size=3, x=[1, 2]))
attempt("kind of field", lambda: Dataset(x=3))
attempt("field `size`", lambda: IndexedDataset(sample_id=["a"], size=[1]))
attempt("identities", lambda: IndexedDataset(sample_id="ab", x=[1, 2]))
attempt("identities that have no hash", lambda: IndexedDataset(sample_id=[[], []], x=[1, 2]))
attempt("number of identities", lambda: IndexedDataset(sample_id=["a"], x=[1, 2]))
attempt("after the last", lambda: dataset[12])
attempt("before the first", lambda: dataset[-1])
