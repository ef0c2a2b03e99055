"""
Training a network on energies and forces
=========================================

The energy of an alloy is a sum over its atoms, and that of an atom what the network of its species
makes of its surroundings. Forces follow by the chain rule from the gradients of the features. The
networks are trained in batches of systems, with a data loader and plain torch, and compared with a
linear model of the same features. Needs torch, and takes less than a minute.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.pipeline import make_pipeline

import metatensor
import metatensor.torch as mts
from metatensor import Labels
from metatensor.datasets import make_alloys, radial_descriptor
from metatensor.learn import DataLoader, Dataset, nn
from metatensor.sklearn import (
    CompositionRegressor,
    KeysToProperties,
    ParityDisplay,
    Ridge,
    StandardScaler,
    SumOverSamples,
    rmse,
)

# %%
# The data
# --------
# Copper-gold cells of effective medium theory. There is one block for each species, whose
# properties are radial functions of the distances to neighbours of either species. Features and
# energies have their gradients with respect to positions.

data = make_alloys(
    150, elements=["Cu", "Au"], repeats=[(1, 1, 1), (1, 1, 2)], n_radial=8, gradients=["positions"]
)
print(data)


def systems(tensor, numbers):
    """Return some systems of a map."""
    return metatensor.slice(tensor, "samples", Labels("system", np.array(numbers)[:, None]))


numbers = {"train": range(100), "validation": range(100, 120), "test": range(120, 150)}
X = {name: systems(data.descriptor, part) for name, part in numbers.items()}
y = {name: systems(data.energies, part) for name, part in numbers.items()}

# %%
# The linear model
# ----------------
# Features summed over the atoms of each species. In the squared errors that it makes small, and in
# those of the networks below, a component of a force has half the weight of an energy.

force_weight = 0.5
linear = make_pipeline(
    KeysToProperties("neighbor_type"),
    SumOverSamples("atom"),
    KeysToProperties("center_type"),
    Ridge(1e-6, fit_intercept=False, gradient_weights=force_weight),
).fit(X["train"], y["train"])

# %%
# Inputs and targets
# ------------------
# The networks get features of mean zero and deviation one, as seen in the training data alone. A
# dataset has a sample for each system, with a map for each field.

preparation = make_pipeline(KeysToProperties("neighbor_type"), StandardScaler(with_std="block"))
preparation.fit(X["train"])

features = preparation.transform(X["train"]).to(arrays="torch")
energies = y["train"].to(arrays="torch")
each = [Labels("system", np.array([[number]])) for number in numbers["train"]]
dataset = Dataset(
    features=metatensor.split(features, "samples", each),
    energies=metatensor.split(energies, "samples", each),
)

# %%
# A data loader draws batches of systems, and joins their maps to one for each field, with the
# gradients.

generator = torch.Generator().manual_seed(0)
loader = DataLoader(dataset, batch_size=10, shuffle=True, generator=generator)
print(next(iter(loader)).features)

# %%
# The networks
# ------------
# There is one for each key, that is for each species. ``ChainRule`` makes the gradients of their
# results exact, whatever is inside: the Jacobian of a network times the gradients of its features.
# The sums after it are those of values and of gradients. The last biases are the energies of atoms
# to begin with: those that fit best if nothing but the composition counts.


class Energy(nn.Module):
    """Sum over atoms of what the networks of their species give."""

    def __init__(self, keys, n_features, energies_of_atoms, n_hidden=16):
        super().__init__()
        energy = [Labels.range("energy", 1)] * len(keys)
        options = {"dtype": torch.float64}
        layers = nn.Sequential(
            keys,
            nn.Linear(keys, n_features, n_hidden, **options),
            nn.Tanh(keys),
            nn.Linear(keys, n_hidden, n_hidden, **options),
            nn.Tanh(keys),
            nn.Linear(keys, n_hidden, out_properties=energy, **options),
        )
        for network, start in zip(layers.module_map.module_list, energies_of_atoms):
            torch.nn.init.constant_(network[-1].bias, start)
        self.networks = nn.ChainRule(layers)

    def forward(self, tensor):
        """Return the energies of systems, and their gradients."""
        atoms = self.networks(tensor).keys_to_samples("center_type")
        return metatensor.sum_over_samples(atoms, ["atom", "center_type"])


composition = CompositionRegressor().fit(X["train"], y["train"])
torch.manual_seed(0)
model = Energy(
    features.keys,
    n_features=len(features.block(0).properties),
    energies_of_atoms=composition.weights_.block().values[:, 0],
)

# %%
# The loss
# --------
# Differences of maps are those of their values and of their gradients, and labels must agree. The
# sums are sorted by system, the targets are in the order that the data loader has drawn. Torch
# differentiates the gradients once more, with respect to the parameters.


def loss_of(features, energies):
    """Return the sum of weighted squared errors, for a batch."""
    error = (model(features) - metatensor.sort(energies, "samples")).block()
    forces = error.gradient("positions").values
    return (error.values**2).sum() + force_weight * (forces**2).sum()


def step(batch):
    """Change the parameters for one batch."""
    optimizer.zero_grad()
    loss = loss_of(batch.features, batch.energies)
    loss.backward()
    optimizer.step()


# %%
# The training
# ------------
# After each epoch the errors for systems that are not trained on tell what is learnt, rather than
# memorised.


def errors_between(energies, predicted):
    """Return the errors of energies in eV/atom, and of forces in eV/Å."""
    return (
        rmse(energies, predicted, normalize="n_atoms"),
        rmse(energies, predicted, gradient="positions"),
    )


def predict(descriptor):
    """Return energies and their gradients as arrays of numpy, without a history."""
    with torch.no_grad():
        result = model(preparation.transform(descriptor).to(arrays="torch"))
    return result.to(arrays="numpy")


n_epochs = 120
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=n_epochs)
history = {"train": [], "validation": []}
for _ in range(n_epochs):
    for batch in loader:
        step(batch)
    schedule.step()
    for name, curve in history.items():
        curve.append(errors_between(y[name], predict(X[name])))

# %%
# The same step, compiled
# -----------------------
# ``metatensor.torch.compile`` records what a function does to arrays, and torch compiles that once
# for batches of any labels: the sizes of batches are inputs of the code. Gradients of parameters
# are the same numbers. Without ``backend``, torch makes faster code, with a compiler of C++ and in
# more time. A set of labels that was not there before costs one slow step: it pays for batches that
# come again, and for large ones.

compiled_loss_of = mts.compile(loss_of, backend="aot_eager")


def gradients(loss_of, batch):
    """Return the derivatives of a loss with respect to all parameters."""
    optimizer.zero_grad()
    loss_of(batch.features, batch.energies).backward()
    return torch.cat([parameter.grad.ravel() for parameter in model.parameters()])


off = 0.0
for batch in loader:
    expected = gradients(loss_of, batch)
    found = gradients(compiled_loss_of, batch)
    off = max(off, float((found - expected).abs().max() / expected.abs().max()))
print(f"{len(loader)} batches, {compiled_loss_of.n_graphs} graph; gradients are off by {off:.0e}")

# %%
# The result
# ----------
# Errors for the systems that neither model has seen.

predictions = {"linear": linear.predict(X["test"]), "networks": predict(X["test"])}
errors = {name: errors_between(y["test"], predicted) for name, predicted in predictions.items()}
print(f"{'RMSE':10}{'meV/atom':>10}{'eV/Å':>10}")
for name, (energy, forces) in errors.items():
    print(f"{name:10}{1000 * energy:10.1f}{forces:10.3f}")

# %%
# Forces are derivatives of energies
# ----------------------------------
# A structure with each of its coordinates moved to both sides has features, and energies, of its
# own. Their differences are the predicted forces, but for the third derivative of the energy.

structure, h = data.systems[numbers["test"][0]], 1e-3
moved = []
for atom in range(len(structure)):
    for axis in range(3):
        for sign in (1, -1):
            moved.append(structure.copy())
            moved[-1].positions[atom, axis] += sign * h
at_rest, displaced = (
    predict(radial_descriptor(of, n_radial=8, types=[29, 79], gradients=["positions"])).block()
    for of in ([structure], moved)
)
gradient = at_rest.gradient("positions").values[..., 0]
differences = (displaced.values[::2] - displaced.values[1::2]).reshape(-1, 3) / (2 * h)
largest = np.abs(gradient - differences).max()
print(f"largest force: {np.abs(gradient).max():.2f} eV/Å, off by {largest:.1e} eV/Å")

# %%
# The plots
# ---------
# Above, errors by epoch. Below, energies and forces of the test systems.

figure, axes = plt.subplots(2, 2, figsize=(9, 8.4), layout="constrained")
of_linear = errors_between(y["validation"], linear.predict(X["validation"]))
for quantity, (unit, factor) in enumerate(
    {"energies (meV/atom)": 1000, "forces (eV/Å)": 1}.items()
):
    axis = axes[0, quantity]
    for name, curve in history.items():
        axis.semilogy([factor * errors[quantity] for errors in curve], label=name)
    axis.axhline(
        factor * of_linear[quantity], color="black", linestyle="--", label="linear, validation"
    )
    axis.set(xlabel="epoch", ylabel=f"RMSE of {unit}")
    axis.legend()
ParityDisplay.from_predictions(
    y["test"],
    predictions,
    normalize="n_atoms",
    factors=[1, -1],
    titles=["energies", "forces"],
    units=["eV/atom", "eV/Å"],
    ax=axes[1],
)
plt.show()
