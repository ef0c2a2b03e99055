"""
Fit energies and forces of alloys
=================================

A linear model of the energy of Cu-Au-Ni alloys, trained on energies, forces and strain gradients
with unmodified scikit-learn tools, and compared with what the composition alone predicts and with
a training on energies only. Takes less than a minute; nothing is downloaded.

Run it with ``python examples/quickstart.py``. The table goes to the terminal, and a parity plot,
the fitted model and its predictions to the folder ``quickstart-output``, or to the one given as
argument.
"""

import argparse
from pathlib import Path

import joblib
import numpy as np
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline

import metatensor
from metatensor.datasets import make_alloys, radial_descriptor
from metatensor.sklearn import (
    KeysToProperties,
    ParityDisplay,
    Ridge,
    StandardScaler,
    SumOverSamples,
    as_rows,
    get_scorer,
)

parser = argparse.ArgumentParser(description="Fit energies and forces of alloys.")
parser.add_argument("output", nargs="?", default="quickstart-output", type=Path, help="folder")
parser.add_argument("--systems", default=120, type=int, help="number of structures")
options = parser.parse_args()
options.output.mkdir(parents=True, exist_ok=True)

# %%
# The data
# --------
# Rattled and strained cells of 8 to 32 atoms, with the energies, forces and stresses of effective
# medium theory. The descriptor has one block for each pair of elements: its samples are atoms,
# its properties radial functions of the distances to their neighbours. Both descriptor and
# energies carry their derivatives with respect to positions and strain.

data = make_alloys(options.systems)
print(data.descriptor, data.energies, sep="\n")

# %%
# What the composition alone tells is the baseline: the same features without any neighbours.

composition = radial_descriptor(data.systems, n_radial=0)

# %%
# For scikit-learn a row is one system, with all its atoms, forces and strain gradients. So a
# system is never cut, and the quarter that is held out here is not seen before the last step.

X, X_composition, y = as_rows(data.descriptor, composition, data.energies, by="system")
split = train_test_split(X, X_composition, y, test_size=0.25, random_state=0)
X_train, X_test, X_composition_train, X_composition_test, y_train, y_test = split

# %%
# The model
# ---------
# Sums over the atoms of each system, blocks side by side, one scale for all features, linear least
# squares. No means and no intercept, so that energies are sums over atoms. A scale of its own for
# each feature would blow up those that the training structures hardly ever reach.

pipeline = Pipeline(
    [
        ("sum", SumOverSamples("atom")),
        ("join", KeysToProperties(["center_type", "neighbor_type"])),
        ("scale", StandardScaler(with_mean=False, with_std="block")),
        ("fit", Ridge(fit_intercept=False)),
    ]
)

# %%
# Errors are root mean squares, those of energies per atom. scikit-learn wants scores that grow as
# models get better, so they come with a minus sign. The best model is the one with the smallest
# product of the three errors.

scoring = {
    "energy": get_scorer("neg_rmse", normalize="n_atoms"),
    "forces": get_scorer("neg_rmse:positions"),
    "strain": get_scorer("neg_rmse:strain"),
}


def best_candidate(results):
    """Return the position of the best candidate in the results of a search."""
    return np.prod([-results[f"mean_test_{target}"] for target in scoring], axis=0).argmin()


# %%
# Cross-validation
# ----------------
# ``alpha`` is the strength of the regularisation, ``gradient_weights`` what a squared error of
# 1 (eV/Å)² of a force counts beside one of 1 eV² of an energy. A weight of zero trains on
# energies only.

trainings = {
    "composition": (X_composition_train, X_composition_test, [0.0]),
    "energies only": (X_train, X_test, [0.0]),
    "energies, forces, strain": (X_train, X_test, [1e-4, 1e-3, 1e-2]),
}
searches, predictions = {}, {}
for name, (features, test_features, gradient_weights) in trainings.items():
    grid = {"fit__alpha": [1e-6, 1e-4, 1e-2], "fit__gradient_weights": gradient_weights}
    search = GridSearchCV(pipeline, grid, cv=5, scoring=scoring, refit=best_candidate)
    searches[name] = search.fit(features, y_train)
    predictions[name] = search.predict(test_features)

# %%
# The table has the mean error over the folds of the cross-validation, and the error for the
# held-out systems, of each training.

print(f"\n{'RMSE':26}{'cross-validated':^30}{'held out':^30}")
print(f"{'':26}" + 2 * f"{'energy':>10}{'forces':>10}{'strain':>10}")
print(f"{'trained on':26}" + 2 * f"{'meV/atom':>10}{'eV/Å':>10}{'eV':>10}")
for name, search in searches.items():
    results, features = search.cv_results_, trainings[name][1]
    folds = [-results[f"mean_test_{target}"][search.best_index_] for target in scoring]
    held_out = [-scorer(search, features, y_test) for scorer in scoring.values()]
    columns = [f"{1000 * e:10.1f}{f:10.3f}{s:10.2f}" for e, f, s in (folds, held_out)]
    print(f"{name:26}" + "".join(columns))
search = searches["energies, forces, strain"]
print(f"\nbest parameters: {search.best_params_}")

# %%
# The plot
# --------
# What the models predict for the held-out systems, against effective medium theory.

display = ParityDisplay.from_predictions(
    y_test,
    {name: predictions[name] for name in ("energies only", "energies, forces, strain")},
    normalize="n_atoms",
    factors=[1000, -1, 1],  # meV from eV, forces from gradients
    titles=["Energies", "Force components", "Strain gradient components"],
    units=["meV/atom", "eV/Å", "eV"],
)
for axis in display.axes_:
    axis.set_ylabel(axis.get_ylabel().replace("true", "effective medium theory"))
    axis.get_legend().set_title("trained on: held-out RMSE")
display.figure_.savefig(options.output / "parity.png", dpi=150)

# %%
# What is left
# ------------
# The model for other structures, and the predictions with their gradients for other programs.

joblib.dump(search.best_estimator_, options.output / "model.joblib")
metatensor.save(options.output / "predictions.mts", search.predict(X_test).tensor)
print(f"wrote parity.png, model.joblib and predictions.mts to {options.output}")
