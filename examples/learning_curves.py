"""
Learning curves
===============

How much data a model needs: the errors of energies and forces against the number of structures, for
a linear model and a kernel model, each trained on energies only, and on energies and forces.
"""

import matplotlib.pyplot as plt
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import make_pipeline

from metatensor.datasets import make_alloys
from metatensor.sklearn import (
    KernelRidge,
    KeysToProperties,
    LearningCurveDisplay,
    Ridge,
    StandardScaler,
    SumOverSamples,
    as_rows,
    get_scorer,
)

# %%
# The data
# --------
# Small Cu-Au cells. In each of three random splits, 60 are to learn from and 24 to test.

data = make_alloys(
    84,
    elements=["Cu", "Au"],
    repeats=[(1, 1, 1), (1, 1, 2)],
    n_radial=8,
    gradients=["positions"],
    verbose=False,
)
X, y = as_rows(data.descriptor, data.energies, by="system")
cv = ShuffleSplit(3, train_size=60, test_size=24, random_state=0)

# %%
# The models
# ----------
# Each force component is one number to learn from, as an energy is: a cell of six atoms has one
# energy and 18 of them.

environments = [
    KeysToProperties("neighbor_type"),
    StandardScaler(with_mean=False, with_std="block"),
]
sums = [SumOverSamples("atom"), KeysToProperties("center_type")]


def linear(weight):
    ridge = Ridge(1e-3, fit_intercept=False, gradient_weights=weight)
    return make_pipeline(*environments, *sums, ridge)


def kernel(weight):
    ridge = KernelRidge(1e-3, kernel="poly", degree=2, gamma=1.0, gradient_weights=weight)
    return make_pipeline(*environments, ridge)


models = {
    "linear, energies": linear(0),
    "linear, energies and forces": linear(1e-2),
    "kernel, energies": kernel(0),
    "kernel, energies and forces": kernel(1e-2),
}

# %%
# The curves
# ----------
# Both axes are logarithmic; the areas are standard deviations over the splits. With forces, the
# errors of the linear model soon are what a sum over pairs can do at best, while those of the
# kernel model fall on. It has more to learn: with few structures it is not the better one.

figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
scoring = {
    "energies (eV/atom)": get_scorer("neg_rmse", normalize="n_atoms"),
    "forces (eV/Å)": get_scorer("neg_rmse:positions"),
}
display = LearningCurveDisplay.from_estimator(
    models,
    X,
    y,
    scoring=scoring,
    train_sizes=[5, 10, 20, 40, 60],
    cv=cv,
    random_state=0,
    ax=axes,
)

print("mean errors over the splits")
for quantity in scoring:
    print(f"{quantity + ', systems:':34}" + "".join(f"{n:8}" for n in display.train_sizes))
    for name, scores in display.test_scores.items():
        means = scores[quantity].mean(axis=1)
        print(f"{name:34}" + "".join(f"{abs(mean):8.3f}" for mean in means))
plt.show()
