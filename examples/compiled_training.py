"""
Compiling the steps of a training
=================================

Batches of structures differ in their atoms, and so do the labels of their blocks and the index
arrays that sums over atoms need. ``metatensor.torch.compile`` compiles what a function does to
arrays once for all of them: whatever comes from labels is an input of the compiled code. Here this
is the loss of networks that are trained on energies and forces. Needs torch and a C++ compiler, and
takes less than a minute, most of it in that compiler.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
import torch

import metatensor.torch as mts
from metatensor.datasets import make_alloys
from metatensor.torch.learn import DataLoader, Dataset, nn

# %%
# The data
# --------
# Copper-gold cells of four or eight atoms, with energies, forces and a descriptor, in batches of
# ten. The batches are the same in each epoch, though they are drawn at random.

n_systems = 60
data = make_alloys(
    n_systems,
    elements=["Cu", "Au"],
    repeats=[(1, 1, 1), (1, 1, 2)],
    n_radial=12,
    gradients=["positions"],
)
features = data.descriptor.keys_to_properties("neighbor_type").to(arrays="torch")
energies = data.energies.to(arrays="torch")
each = [mts.Labels("system", torch.tensor([[system]])) for system in range(n_systems)]
dataset = Dataset(
    features=mts.split(features, "samples", each), energies=mts.split(energies, "samples", each)
)
generator = torch.Generator().manual_seed(0)
batches = list(DataLoader(dataset, batch_size=10, shuffle=True, generator=generator))
for batch in batches:
    print([len(block) for block in batch.features], "atoms of each species")

# %%
# The loss
# --------
# A network for each species; forces come from the gradients of the features by the chain rule.

keys = features.keys
n_features, energy = len(features.block(0).properties), [mts.Labels.range("energy", 1)] * len(keys)
torch.manual_seed(0)
layers = nn.Sequential(
    keys,
    nn.Linear(keys, n_features, 32, dtype=torch.float64),
    nn.SiLU(keys),
    nn.Linear(keys, 32, out_properties=energy, dtype=torch.float64),
)
model = nn.ChainRule(layers)


def loss_of(features, energies):
    """Return the sum of squared errors of energies and forces, for a batch."""
    atoms = model(features).keys_to_samples("center_type")
    predicted = mts.sum_over_samples(atoms, ["atom", "center_type"])
    error = (predicted - mts.sort(energies, "samples")).block()
    return (error.values**2).sum() + 0.5 * (error.gradient("positions").values ** 2).sum()


# %%
# Compiling it
# ------------
# The compiled function takes maps and returns what the function returns. It runs the function
# itself for each new set of labels, with arrays that have no numbers: six times here. There is one
# graph of operations on arrays, and torch compiles it for arrays of any length.

compiled = mts.compile(loss_of)


def gradient_of(function, batch):
    """Return the loss for a batch, and its gradients with respect to all parameters."""
    loss = function(batch.features, batch.energies)
    return [loss, *torch.autograd.grad(loss, list(model.parameters()))]


largest = 0.0
for batch in batches:
    both = [gradient_of(function, batch) for function in (loss_of, compiled)]
    for first, second in zip(*both):
        largest = max(largest, ((first - second).abs().max() / first.abs().max()).item())
print(f"{compiled.n_recordings} sets of labels, {compiled.n_graphs} graph of operations")
print(f"losses and gradients differ by {largest:.0e} at most")

# %%
# Training with it
# ----------------
# Nothing else changes: parameters are inputs of the compiled code too.

optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
curve = []
for _ in range(60):
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = compiled(batch.features, batch.energies)
        loss.backward()
        optimizer.step()
        losses.append(loss.item() / 10)
    curve.append(np.mean(losses))

# %%
# What it is worth
# ----------------
# Time for the loss and its gradients, all batches, alternating, for the function itself and for the
# compiled one. It depends on sizes and on the machine: the smaller the arrays, the more there is to
# gain by fewer steps of Python, and the larger, by fewer passes through memory.

seconds = {"as it is": [], "compiled": []}
for _ in range(10):
    for name, function in zip(seconds, (loss_of, compiled)):
        start = time.perf_counter()
        for batch in batches:
            gradient_of(function, batch)
        seconds[name].append(time.perf_counter() - start)
ratio = np.median(seconds["as it is"]) / np.median(seconds["compiled"])
print(f"the compiled function is {ratio:.1f} times as fast")

# %%
# A new set of labels costs a run of the function with arrays that have no numbers, which takes
# longer than a run with small arrays. Draw batches once, rather than in each epoch.

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
left.semilogy(curve)
left.set(xlabel="epoch", ylabel="loss per system")
right.bar(seconds.keys(), [1000 * np.median(times) for times in seconds.values()], width=0.5)
right.set(ylabel="time for an epoch of gradients (ms)")
plt.show()
