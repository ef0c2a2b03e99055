"""
A network for each species, on energies and forces
==================================================

The energy of an alloy is a sum over its atoms, and that of an atom what the network of its species
makes of its surroundings. Networks are trained with plain torch on energies and forces, which are
gradients of the features by the chain rule; a linear model of the same features is what they have
to beat, and is shown as module of torch as well. Needs torch, and takes less than half a minute.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import metatensor
from metatensor import Labels
from metatensor.datasets import make_alloys
from metatensor.learn import nn
from metatensor.sklearn import KeysToProperties, Ridge, StandardScaler, SumOverSamples, rmse

# %%
# The data
# --------
# Copper-gold cells of effective medium theory. One block for each species, whose properties are
# radial functions of the distances to neighbours of either species; features and energies have
# their gradients with respect to positions. All goes to torch.

data = make_alloys(
    70, elements=["Cu", "Au"], repeats=[(1, 1, 1), (1, 1, 2)], n_radial=8, gradients=["positions"]
)
features = KeysToProperties("neighbor_type").fit_transform(data.descriptor)
print(features, data.energies, sep="\n")


def systems(tensor, first, last):
    """Return the systems from one number to another."""
    chosen = Labels("system", np.arange(first, last)[:, None])
    return metatensor.slice(tensor, "samples", chosen)


split = {"train": (0, 50), "test": (50, 70)}
X = {name: systems(features, *of) for name, of in split.items()}
y = {name: systems(data.energies, *of) for name, of in split.items()}

# %%
# The linear model
# ----------------
# Sums over atoms, for each species; the energy of a system is a sum over the blocks, which are put
# side by side. With ``to_torch`` the fitted model is a module, with the same numbers.

summed = {
    name: KeysToProperties("center_type").fit_transform(SumOverSamples("atom").fit_transform(x))
    for name, x in X.items()
}
ridge = Ridge(1e-6, fit_intercept=False, gradient_weights=0.1).fit(summed["train"], y["train"])
module = ridge.to_torch()
as_torch = module(summed["test"].to(arrays="torch"))
difference = as_torch.block().values.detach().numpy() - ridge.predict(summed["test"]).block().values
print(f"largest difference between scikit-learn and torch: {np.abs(difference).max():.1e} eV")

# %%
# The networks
# ------------
# They learn what the linear model leaves. There is one for each key, that is for each species.
# ``ChainRule`` makes the gradients of their results exact, whatever is inside: the Jacobian of a
# network times the gradients of its features. The sums after it are those of values and gradients.

scaler = StandardScaler(with_std="block").fit(X["train"])
inputs = {name: scaler.transform(x).to(arrays="torch") for name, x in X.items()}
rest = {name: y[name] - ridge.predict(summed[name]) for name in y}


class Energy(nn.Module):
    """Sum over atoms of what the networks of their species give."""

    def __init__(self, keys, n_features, n_hidden=16):
        super().__init__()
        energy = [Labels.range("energy", 1)] * len(keys)
        options = {"dtype": torch.float64}
        layers = nn.Sequential(
            keys,
            nn.Linear(keys, n_features, n_hidden, **options),
            nn.Tanh(keys),
            nn.Linear(keys, n_hidden, n_hidden, **options),
            nn.Tanh(keys),
            nn.Linear(keys, n_hidden, out_properties=energy, bias=False, **options),
        )
        self.networks = nn.ChainRule(layers)

    def forward(self, tensor):
        """Return the energies of systems, and their gradients."""
        atoms = self.networks(tensor).keys_to_samples("center_type")
        return metatensor.sum_over_samples(atoms, ["atom", "center_type"])


torch.manual_seed(0)
model = Energy(features.keys, len(features.block(0).properties))

# %%
# The training
# ------------
# The loss has the squares of energies and, as Ridge above, those of gradients with a weight. Torch
# differentiates it once more, with respect to the parameters.

targets = rest["train"].to(arrays="torch").block()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=400)
losses = []
for _ in range(400):
    block = model(inputs["train"]).block()
    error = block.values - targets.values
    gradient_error = block.gradient("positions").values - targets.gradient("positions").values
    loss = (error**2).sum() + 0.1 * (gradient_error**2).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    losses.append(loss.item())

# %%
# Rows of gradients belong together, as their labels say.

assert block.gradient("positions").samples == targets.gradient("positions").samples

# %%
# The result
# ----------
# Errors for the structures that neither model has seen.

with torch.no_grad():
    corrections = model(inputs["test"])
linear = ridge.predict(summed["test"])
network = linear + metatensor.detach(corrections).to(arrays="numpy")
errors = {
    name: (
        rmse(y["test"], prediction, normalize="n_atoms"),
        rmse(y["test"], prediction, gradient="positions"),
    )
    for name, prediction in {"linear": linear, "linear and networks": network}.items()
}
print(f"{'RMSE':22}{'meV/atom':>10}{'eV/Å':>10}")
for name, (energy, forces) in errors.items():
    print(f"{name:22}{1000 * energy:10.1f}{forces:10.3f}")

# %%

figure, axis = plt.subplots()
axis.semilogy(losses)
axis.set(xlabel="step", ylabel="loss (eV²)", title="Training on what the linear model leaves")
plt.show()
