"""
Energies and forces with kernels
================================

Kernel models of an alloy, trained on energies and forces, beside a linear model and what the
composition alone tells: their errors for systems that were held out, and the predicted forces
against finite differences of the predicted energies.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline

from metatensor.datasets import make_alloys, radial_descriptor
from metatensor.sklearn import (
    CompositionRegressor,
    KernelRidge,
    KeysToProperties,
    ParityDisplay,
    Ridge,
    SparseKernelRidge,
    StandardScaler,
    SumOverSamples,
    as_rows,
    get_scorer,
    rmse,
)

# %%
# The data
# --------
# Small Cu-Au cells with energies and forces of effective medium theory. After the first step a
# block holds the atoms of one element, with properties for the neighbours of both.

data = make_alloys(
    60,
    elements=["Cu", "Au"],
    repeats=[(1, 1, 1), (1, 1, 2)],
    n_radial=8,
    gradients=["positions"],
    verbose=False,
)
X, y = as_rows(data.descriptor, data.energies, by="system")
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=1 / 3, random_state=0)
n_values = [rows.tensor.block().gradient("positions").values.size for rows in (y_train, y_test)]
print(f"to train on: {len(X_train)} energies and {n_values[0]} force components")
print(f"held out: {len(X_test)} energies and {n_values[1]} force components")

# %%
# The models
# ----------
# The linear model has features that are sums over atoms. Kernel models compare every atom with
# every atom of the same element in the training set, and sum over the atoms of a system.
# ``KernelRidge`` is exact: its predictions are made of all energies and all forces of the training
# set. ``SparseKernelRidge`` compares with a few atoms only, its inducing points.
#
# A kernel of degree 2 knows products of features, so of the distances to two neighbours: what the
# electron density of effective medium theory needs, and a sum over pairs has not.

scale = StandardScaler(with_mean=False, with_std="block")
environments = [KeysToProperties("neighbor_type"), scale]
features = [*environments, SumOverSamples("atom"), KeysToProperties("center_type")]
weight = 1e-2  # a squared error of 1 (eV/Å)² counts as 0.01 eV²
kernel = {"kernel": "poly", "degree": 2, "gamma": 1.0, "gradient_weights": weight}
linear = {"fit_intercept": False}

models = {
    "composition": CompositionRegressor(),
    "Ridge, energies only": make_pipeline(*features, Ridge(**linear, gradient_weights=0)),
    "Ridge": make_pipeline(*features, Ridge(**linear, gradient_weights=weight)),
    "SparseKernelRidge": make_pipeline(*environments, SparseKernelRidge(**kernel, n_components=60)),
    "KernelRidge": make_pipeline(*environments, KernelRidge(**kernel)),
}

# %%
# The penalty is the one with the least error of energies per atom in cross-validation.

scoring = get_scorer("neg_rmse", normalize="n_atoms")
print(f"\n{'held-out RMSE':24}{'energies':>12}{'forces':>10}{'alpha':>10}")
print(f"{'':24}{'meV/atom':>12}{'eV/Å':>10}")
fitted, predictions = {}, {}
for name, model in models.items():
    grid = {}
    if name != "composition":
        grid[f"{model.steps[-1][0]}__alpha"] = [1e-6, 1e-4, 1e-2, 1.0]
    fitted[name] = GridSearchCV(model, grid, cv=4, scoring=scoring).fit(X_train, y_train)
    predictions[name] = fitted[name].predict(X_test)
    energies = 1000 * rmse(y_test, predictions[name], normalize="n_atoms")
    forces = rmse(y_test, predictions[name], gradient="positions")
    alpha = "".join(f"{value:10.0e}" for value in fitted[name].best_params_.values())
    print(f"{name:24}{energies:12.1f}{forces:10.3f}{alpha}")

# %%
# The composition has no forces: its error of forces is their root mean square. Forces improve the
# energies of the linear model too. The exact kernel model is better than the sparse one, whose
# inducing points are atoms, not forces.

names = ["Ridge", "SparseKernelRidge", "KernelRidge"]
display = ParityDisplay.from_predictions(
    y_test,
    {name: predictions[name] for name in names},
    normalize="n_atoms",
    factors=[1000, -1],
    titles=["Energies", "Force components"],
    units=["meV/atom", "eV/Å"],
)
display.figure_.set_size_inches(10, 5)

# %%
# Forces are derivatives of energies
# ----------------------------------
# Each atom of a held-out system is moved four times along each axis, the descriptor is computed
# again, and the derivative from these predicted energies is compared with the predicted gradient.
# What is left is rounding, which the coefficients of kernel models magnify.


def descriptor(structures):
    return radial_descriptor(structures, n_radial=8, gradients=["positions"])


system = data.systems[X_test.rows["system"][0]]
moves = [(atom, axis) for atom in range(len(system)) for axis in range(3)]
step, factors = 1e-3, [2, 1, -1, -2]  # in Å
structures = []
for atom, axis in moves:
    for factor in factors:
        structures.append(system.copy())
        structures[-1].positions[atom, axis] += factor * step
shifted, unmoved = descriptor(structures), descriptor([system])

print(f"\n{system.symbols}, {len(moves)} force components in eV/Å")
print(f"{'':24}{'largest':>10}{'largest difference':>22}")
differences = {}
for name in ["Ridge, energies only", *names]:
    energies = fitted[name].predict(shifted).block().values.reshape(-1, 4)
    numeric = energies @ [-1, 8, -8, 1] / (12 * step)
    gradient = fitted[name].predict(unmoved).block().gradient("positions")
    analytic = np.zeros((len(system), 3))
    analytic[gradient.samples["atom"]] = gradient.values[:, :, 0]
    differences[name] = np.abs(analytic.ravel() - numeric).max()
    print(f"{name:24}{np.abs(analytic).max():10.3f}{differences[name]:22.1e}")

plt.show()
