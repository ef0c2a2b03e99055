"""
How sure is a prediction
========================

Standard deviations of predicted energies: whether the errors for held-out systems are as large as
they say, and how they grow where there are no training structures.
"""

import matplotlib.pyplot as plt
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from scipy.stats import norm
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline

from metatensor.datasets import make_alloys, radial_descriptor
from metatensor.sklearn import (
    KernelRidge,
    KeysToProperties,
    Ridge,
    StandardScaler,
    SumOverSamples,
    as_rows,
)

# %%
# Two models
# ----------
# Both give the standard deviation of a Gaussian process, one with a linear kernel and one of
# degree 2. Its scale is learnt in ``fit``: such that the energies of the training set, each
# predicted from all others, deviate by one standard deviation in root mean square. ``Ridge``
# prepares for this only if it is told so.

data = make_alloys(200, elements=["Cu", "Au"], n_radial=8, gradients=[], verbose=False)
X, y = as_rows(data.descriptor, data.energies, by="system")
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)

environments = [
    KeysToProperties("neighbor_type"),
    StandardScaler(with_mean=False, with_std="block"),
]
models = {
    "Ridge": make_pipeline(
        *environments,
        SumOverSamples("atom"),
        KeysToProperties("center_type"),
        Ridge(fit_intercept=False, compute_std=True),
    ),
    "KernelRidge": make_pipeline(*environments, KernelRidge(kernel="poly", degree=2, gamma=1.0)),
}
fitted = {}
for name, model in models.items():
    grid = {f"{name.lower()}__alpha": [1e-6, 1e-4, 1e-2]}
    fitted[name] = GridSearchCV(model, grid, cv=4, scoring="neg_root_mean_squared_error")
    fitted[name].fit(X_train, y_train)


def predict(name, rows):
    """Return predicted energies and their standard deviations, in eV."""
    mean, std = fitted[name].best_estimator_.predict(rows, return_std=True)
    return mean.tensor.block().values[:, 0], std.tensor.block().values[:, 0]


# %%
# Are they right?
# ---------------
# Held-out errors in units of their standard deviation should be distributed normally, with 68 % of
# them below one, and 95 % below two.

true = y_test.tensor.block().values[:, 0]
ratios = {}
print(f"{'':14}{'RMSE (meV)':>12}{'mean std (meV)':>16}{'below 1 std':>13}{'below 2 std':>13}")
for name in models:
    mean, std = predict(name, X_test)
    ratios[name] = np.abs(mean - true) / std
    below = [100 * np.mean(ratios[name] < limit) for limit in (1, 2)]
    error = 1000 * np.sqrt(np.mean((mean - true) ** 2))
    print(f"{name:14}{error:12.0f}{1000 * std.mean():16.0f}{below[0]:11.0f} %{below[1]:11.0f} %")

# %%
# Away from the training data
# ---------------------------
# The ordered crystal Cu\ :sub:`3`\ Au, compressed and stretched beyond all training structures.

constants = np.linspace(3.2, 4.6, 57)
crystals = []
for constant in constants:
    crystals.append(bulk("Cu", "fcc", a=constant, cubic=True))
    crystals[-1].symbols[0] = "Au"
    crystals[-1].calc = EMT()
reference = np.array([crystal.get_potential_energy() for crystal in crystals])
features = as_rows(radial_descriptor(crystals, n_radial=8, gradients=[]))

numbers = X_train.rows["system"]
lengths = [(4 * data.systems[n].get_volume() / len(data.systems[n])) ** (1 / 3) for n in numbers]
print(f"\nlattice constants of the training set: {min(lengths):.2f} to {max(lengths):.2f} Å")
print(f"{'Cu3Au, KernelRidge':20}{'predicted (eV)':>16}{'std (eV)':>10}{'EMT (eV)':>10}")
mean, std = predict("KernelRidge", features)
for position in range(0, len(constants), 8):
    constant = f"a = {constants[position]:.2f} Å"
    print(f"{constant:20}{mean[position]:16.2f}{std[position]:10.2f}{reference[position]:10.2f}")

# %%
# The plot
# --------
# Left: how many of the held-out errors are below a multiple of their standard deviation, against
# how many should be. Middle: each error with its standard deviation; the grey areas are one and two
# standard deviations. Right: the crystal, with an area of two standard deviations around what is
# predicted, and marks for the lattice constants of the training set.
#
# A sum over pairs can not give the energies, however many there are to learn from. To the linear
# model this is noise, much the same for all structures, and so is its standard deviation; the
# largest errors are larger than it expects. What the kernel model does not know depends on the
# structure.

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
colors = {"Ridge": "tab:orange", "KernelRidge": "tab:blue"}
limits = np.linspace(0, 3, 61)
expected = 2 * norm.cdf(limits) - 1
left.plot([0, 1], [0, 1], color="black", linewidth=0.8)
largest = max(predict(name, X_test)[1].max() for name in models)
for factor in (2, 1):
    middle.fill_between([0, largest], [0, factor * largest], color="black", alpha=0.08, linewidth=0)
for name, color in colors.items():
    observed = [np.mean(ratios[name] < limit) for limit in limits]
    left.plot(expected, observed, color=color, label=name)
    uncertain = predict(name, X_test)[1]
    middle.scatter(uncertain, ratios[name] * uncertain, s=14, color=color, label=name)
    mean, std = predict(name, features)
    right.fill_between(constants, mean - 2 * std, mean + 2 * std, color=color, alpha=0.25)
    right.plot(constants, mean, color=color, label=name)
left.set(xlabel="expected fraction of errors", ylabel="observed fraction", title="Calibration")
left.set_aspect("equal")
left.legend()
middle.set(xlabel="standard deviation (eV)", ylabel="absolute error (eV)", title="Held-out systems")
middle.legend(loc="upper left")
right.plot(constants, reference, color="black", linestyle="--", label="effective medium theory")
right.eventplot(lengths, lineoffsets=0.03, linelengths=0.06, colors="grey", linewidths=0.6)
right.collections[-1].set_transform(right.get_xaxis_transform())
right.set(xlabel="lattice constant (Å)", ylabel="energy (eV)", title="Cu₃Au", ylim=(-2, 6))
right.legend(loc="upper center")
plt.show()
