"""
From structures to predictions
==============================

A pipeline that takes a list of ``ase.Atoms`` and gives energies and forces. Its first step computes
a descriptor, so that scikit-learn can search the cutoff of the descriptor together with the
regularisation of the model, and the fitted pipeline is all that is needed to predict: here the
energy of an ordered crystal that no training structure looks like.
"""

import matplotlib.pyplot as plt
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline

from metatensor.datasets import make_alloys, radial_descriptor
from metatensor.sklearn import (
    CalculatorTransformer,
    KeysToProperties,
    Ridge,
    Systems,
    as_rows,
    get_scorer,
)

# %%
# Structures and energies
# -----------------------
# Disordered Cu-Au cells with energies and forces of effective medium theory. ``y`` has one row for
# each system. ``Systems`` is a list of structures that says which row of ``y`` each of them belongs
# to, and is cut together with it.

data = make_alloys(60, elements=["Cu", "Au"], gradients=["positions"], verbose=False)
y = as_rows(data.energies, by="system")
X = Systems(data.systems, y.rows)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)
print(f"{X_train} to train, {X_test} to test")
print("the first to test is", X_test[0].symbols, "which is system", X_test.rows["system"][0])

# %%
# The pipeline
# ------------
# ``CalculatorTransformer`` takes any function from a list of structures to a map whose samples have
# the dimension ``system``, and the options of this function. A cell may lack an element, and with
# it some blocks of the descriptor: ``KeysToProperties`` puts zeros there.

pipeline = Pipeline(
    [
        (
            "descriptor",
            CalculatorTransformer(radial_descriptor, by="system", gradients=["positions"]),
        ),
        ("join", KeysToProperties(["center_type", "neighbor_type"], unknown="ignore")),
        ("ridge", Ridge(fit_intercept=False, gradient_weights=1e-2)),
    ]
)

# %%
# The search
# ----------
# Every candidate computes its own features of every fold, from structures. (Had the grid many
# values of ``ridge__alpha`` for each cutoff, ``Pipeline(..., memory="cache")`` would keep the
# features of each fold on disk.)

grid = {
    "descriptor__cutoff": [2.8, 3.2, 3.6, 4.0, 5.0, 6.0],
    "descriptor__n_radial": [4, 8, 16],
    "ridge__alpha": [1e-6, 1e-3],
}
scoring = {
    "energy": get_scorer("neg_rmse", normalize="n_atoms"),
    "forces": get_scorer("neg_rmse:positions"),
}
search = GridSearchCV(pipeline, grid, cv=3, scoring=scoring, refit="forces").fit(X_train, y_train)

print("best parameters:", search.best_params_)
errors = {name: -scorer(search, X_test, y_test) for name, scorer in scoring.items()}
print(f"held-out RMSE: {1000 * errors['energy']:.1f} meV/atom, {errors['forces']:.3f} eV/Å")

# %%
# Predictions for other structures
# --------------------------------
# The ordered crystal Cu\ :sub:`3`\ Au, from compressed to stretched. A plain list of structures is
# enough here, they are numbered from 0.

constants = np.linspace(3.5, 4.1, 25)
crystals = []
for constant in constants:
    crystal = bulk("Cu", "fcc", a=constant, cubic=True)
    crystal.symbols[0] = "Au"
    crystals.append(crystal)
predicted = search.predict(crystals).tensor.block().values[:, 0] / 4

for crystal in crystals:
    crystal.calc = EMT()
reference = np.array([crystal.get_potential_energy() for crystal in crystals]) / 4
for name, energies in {"predicted": predicted, "EMT": reference}.items():
    print(f"{name:>9}: lattice constant {constants[energies.argmin()]:.3f} Å")

# %%
# The plot
# --------
# Left: the error of the forces in cross-validation. Nearest neighbours are 2.5 to 2.9 Å apart, and
# a cutoff of 2.8 Å loses some of them. The functions are spread up to the cutoff, so few of them
# resolve the first neighbours worse as it grows.
# Right: the energy of the crystal; grey lines mark the lattice constants of the training cells.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
results = search.cv_results_
for n_radial in grid["descriptor__n_radial"]:
    best = [
        min(
            -results["mean_test_forces"][candidate]
            for candidate, params in enumerate(results["params"])
            if (params["descriptor__cutoff"], params["descriptor__n_radial"]) == (cutoff, n_radial)
        )
        for cutoff in grid["descriptor__cutoff"]
    ]
    left.plot(grid["descriptor__cutoff"], best, "o-", label=f"{n_radial} radial functions")
left.set(xlabel="cutoff (Å)", ylabel="RMSE of forces (eV/Å)", ylim=(0, None))
left.set_title("Cross-validation")
left.legend()

right.plot(constants, reference, color="black", label="effective medium theory")
right.plot(constants, predicted, "o", color="tab:orange", markersize=5, label="predicted")
lengths = [(4 * system.get_volume() / len(system)) ** (1 / 3) for system in X_train]
right.eventplot(lengths, lineoffsets=0.03, linelengths=0.06, colors="grey", linewidths=0.8)
right.collections[-1].set_transform(right.get_xaxis_transform())
right.set(xlabel="lattice constant (Å)", ylabel="energy (eV/atom)", title="Cu₃Au")
right.legend()
plt.show()
