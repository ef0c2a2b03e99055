"""
One model from two sides
========================

The same linear model of energies and forces, fitted by scikit-learn's side of the package and
trained with torch: the fitted model is a module of torch too, and training finds its coefficients.
From there networks go on, and start as good as the linear model. Needs torch, and takes less than
half a minute.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.pipeline import make_pipeline

import metatensor
from metatensor import Labels
from metatensor.datasets import make_alloys
from metatensor.learn import nn
from metatensor.sklearn import KeysToProperties, Ridge, StandardScaler, SumOverSamples, rmse

# %%
# The data
# --------
# Copper-gold cells of effective medium theory, with features of atoms; energies and features have
# their gradients with respect to positions.

data = make_alloys(
    90, elements=["Cu", "Au"], repeats=[(1, 1, 1), (1, 1, 2)], n_radial=8, gradients=["positions"]
)
numbers = {
    "train": Labels.range("system", 60),
    "test": Labels("system", np.arange(60, 90)[:, None]),
}
X, y = (
    {name: metatensor.slice(tensor, "samples", part) for name, part in numbers.items()}
    for tensor in (data.descriptor, data.energies)
)

# %%
# The side of scikit-learn
# ------------------------
# A pipeline scales the features of atoms, sums them over the atoms of each species, and puts those
# of all species side by side. ``Ridge`` solves the equations for the coefficients.

alpha, force_weight = 1e-3, 0.1
of_atoms = make_pipeline(KeysToProperties("neighbor_type"), StandardScaler(with_mean=False))
of_systems = make_pipeline(SumOverSamples("atom"), KeysToProperties("center_type"))
ridge = Ridge(alpha, fit_intercept=False, gradient_weights=force_weight)
pipeline = make_pipeline(of_atoms, of_systems, ridge).fit(X["train"], y["train"])
fitted = pipeline.predict(X["test"])
coefficients = ridge.coef_
print(coefficients.block().properties)
print(f"condition number of the equations: {ridge.condition_[0]:.0e}")

# %%
# ``to_torch`` gives the fitted model as a module. Energies and forces are the same numbers.


def difference(tensor, other):
    """Return the largest differences of energies and of forces, over the largest of each."""
    first, second = (metatensor.detach(of).to(arrays="numpy").block() for of in (tensor, other))
    pairs = [(first, second), (first.gradient("positions"), second.gradient("positions"))]
    return [np.abs(a.values - b.values).max() / np.abs(b.values).max() for a, b in pairs]


inputs = {name: of_atoms.transform(x).to(arrays="torch") for name, x in X.items()}
module = ridge.to_torch()
predicted = module(of_systems.transform(of_atoms.transform(X["test"])).to(arrays="torch"))
converted = difference(predicted, fitted)
print(module)
print("to_torch is off by {:.0e} for energies, {:.0e} for forces".format(*converted))

# %%
# The side of torch
# -----------------
# A linear layer for each species gives the energies of its atoms, which are summed up.
# ``ChainRule`` makes gradients of those of the features.

keys, n_features = inputs["train"].keys, len(inputs["train"].block(0).properties)
energy = [Labels.range("energy", 1)] * len(keys)
options = {"dtype": torch.float64}


def make_linear():
    return nn.Linear(keys, n_features, out_properties=energy, bias=False, **options)


def total(atoms):
    """Sum up energies of atoms, and their gradients."""
    return metatensor.sum_over_samples(
        atoms.keys_to_samples("center_type"), ["atom", "center_type"]
    )


# %%
# The loss is that of ``Ridge``, and in meV²: LBFGS in torch does not learn from steps that change
# the gradient little, and would stop too early in eV².

targets = y["train"].to(arrays="torch")


def loss_of(predicted):
    """Return the squared errors of energies and, with their weight, of forces."""
    error = (predicted - targets).block()
    forces = error.gradient("positions").values
    return 1e6 * ((error.values**2).sum() + force_weight * (forces**2).sum())


linear = make_linear()
for weight in linear.parameters():
    torch.nn.init.zeros_(weight)
model = nn.ChainRule(linear)
optimizer = torch.optim.LBFGS(
    linear.parameters(), max_iter=10, history_size=100, tolerance_grad=0, tolerance_change=0
)


def penalised():
    """Return the loss, after its gradients were computed."""
    optimizer.zero_grad()
    penalty = sum((weight**2).sum() for weight in linear.parameters())
    loss = loss_of(total(model(inputs["train"]))) + 1e6 * alpha * penalty
    loss.backward()
    return loss


# %%
# After some hundred iterations these are the coefficients of ``Ridge``. Those for the features of a
# species are found by their labels.

species = [Labels("center_type", keys.values[[number]]) for number in range(len(keys))]
wanted = [part.block().values for part in metatensor.split(coefficients, "properties", species)]
distances = []
for _ in range(30):
    optimizer.step(penalised)
    found = [layer.weight.detach().numpy() for layer in linear.module_map.module_list]
    off = max(np.abs(a - b).max() for a, b in zip(found, wanted))
    distances.append(off / np.abs(wanted).max())
trained = difference(total(model(inputs["test"])), fitted)
print(f"coefficients are off by {distances[-1]:.0e} of the largest")
print("predictions are off by {:.0e} for energies, {:.0e} for forces".format(*trained))
for key, a, b in zip(keys, found, wanted):
    print(f"{key['center_type']}: trained {a[0, 1:4]}, solved {b[0, 1:4]} for n = 1, 2, 3")

# %%
# Where networks go on
# --------------------
# A network for each species is added to the linear layer, which begins with the coefficients of
# ``Ridge``. The last layer of the networks begins with zeros: before the first step, the
# predictions are those of the linear model. The same from random numbers is there to compare.


class Energy(nn.Module):
    """Linear layers plus networks."""

    def __init__(self, n_hidden=16):
        super().__init__()
        self.linear = make_linear()
        self.networks = nn.Sequential(
            keys,
            nn.Linear(keys, n_features, n_hidden, **options),
            nn.Tanh(keys),
            nn.Linear(keys, n_hidden, out_properties=energy, bias=False, **options),
        )

    def start_from(self, coefficients):
        """Set the linear layers, and let the networks give zero."""
        layers = zip(self.linear.module_map.module_list, self.networks.module_map.module_list)
        with torch.no_grad():
            for (linear, network), weights in zip(layers, coefficients):
                linear.weight.copy_(torch.as_tensor(weights))
                network[-1].weight.zero_()

    def forward(self, tensor):
        """Return the energies of systems, and their gradients."""
        return total(nn.ChainRule(self.linear)(tensor) + nn.ChainRule(self.networks)(tensor))


def errors_of(model):
    """Return the errors of energies in meV/atom and of forces in eV/Å, for the test systems."""
    with torch.no_grad():
        predicted = model(inputs["test"]).to(arrays="numpy")
    return (
        1000 * rmse(y["test"], predicted, normalize="n_atoms"),
        rmse(y["test"], predicted, gradient="positions"),
    )


torch.manual_seed(0)
models = {"from the linear model": Energy(), "from random numbers": Energy()}
models["from the linear model"].start_from(wanted)
start = difference(models["from the linear model"](inputs["test"]), fitted)
errors = {}
for name, network in models.items():
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=300)
    errors[name] = [errors_of(network)]
    for _ in range(300):
        optimizer.zero_grad()
        loss_of(network(inputs["train"])).backward()
        optimizer.step()
        schedule.step()
        errors[name].append(errors_of(network))

print(f"{'RMSE':30}{'meV/atom':>10}{'eV/Å':>8}")
print("{:30}{:10.1f}{:8.3f}".format("linear model", *errors["from the linear model"][0]))
for name, curve in errors.items():
    print("{:30}{:10.1f}{:8.3f}".format("networks " + name, *curve[-1]))

# %%
# The plots
# ---------
# Left: how far the trained coefficients are from those of ``Ridge``. The others: errors for the
# test systems.

figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
axes[0].semilogy(10 * np.arange(1, 31), distances)
axes[0].set(xlabel="iteration of LBFGS", ylabel="distance from the coefficients of Ridge")
for quantity, label in enumerate(["energies (meV/atom)", "forces (eV/Å)"], 1):
    for name, curve in errors.items():
        axes[quantity].semilogy([step[quantity - 1] for step in curve], label=name)
    axes[quantity].set(xlabel="step of Adam", ylabel=f"RMSE of {label}")
    axes[quantity].legend()
plt.show()
