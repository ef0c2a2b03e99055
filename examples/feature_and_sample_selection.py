"""
Choose features and environments
================================

A descriptor has more features than a model needs, and more atoms than a kernel can be compared
with. How the errors of energies and forces depend on how many features are kept, and how they are
chosen; and which atomic environments stand for all others as the inducing points of a sparse kernel
model.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

import metatensor
from metatensor import Labels
from metatensor.datasets import make_alloys
from metatensor.sklearn import (
    PCA,
    CURSelector,
    FPSSelector,
    KeysToProperties,
    PolynomialFeatures,
    RidgeCV,
    SampleSelector,
    SparseKernelRidge,
    StandardScaler,
    SumOverSamples,
    as_rows,
    rmse,
)

# %%
# Many features
# -------------
# Cu-Au cells with energies and forces. Five numbers for the neighbours of each type describe an
# atom, and the products of any two of them describe its neighbours together. All steps carry the
# gradients along.

data = make_alloys(60, elements=["Cu", "Au"], n_radial=4, gradients=["positions"], verbose=False)
X, y = as_rows(data.descriptor, data.energies, by="system")
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=0)

environments = make_pipeline(KeysToProperties("neighbor_type"), StandardScaler(with_mean=False))
E_train, E_test = environments.fit_transform(X_train), environments.transform(X_test)
products = make_pipeline(PolynomialFeatures(2), StandardScaler(with_mean=False))
F_train, F_test = products.fit_transform(E_train), products.transform(E_test)
for key, block in F_train.tensor.items():
    print(key.print(), f"{len(block.samples)} atoms with {len(block.properties)} features")


def errors(model, features, test_features):
    """Return the errors for held-out systems: of energies in meV/atom, of forces in eV/Å."""
    predicted = model.fit(features, y_train).predict(test_features)
    energies = 1000 * rmse(y_test, predicted, normalize="n_atoms")
    return energies, rmse(y_test, predicted, gradient="positions")


# %%
# Few features
# ------------
# ``FPSSelector`` keeps features that are far from those it has, ``CURSelector`` those that explain
# the most of what the others do not. Then only these have to be computed for new structures.
# ``PCA`` mixes all features, here after the sum over atoms, at most one for each system. For
# comparison some are drawn at random; the error is the mean of three draws. ``RidgeCV`` finds the
# regularisation from systems that are left out, without fitting again.

total = [SumOverSamples("atom"), KeysToProperties("center_type")]
ridge = RidgeCV([1e-6, 1e-4, 1e-2, 1.0], gradient_weights=1e-2)
random = np.random.default_rng(0)


def random_errors(number):
    everything = F_train.tensor.block_by_id(0).properties
    draws = []
    for _ in range(3):
        chosen = random.permutation(len(everything))[:number]
        kept = Labels(everything.names, everything.values[chosen])
        parts = [
            as_rows(metatensor.slice(part.tensor, "properties", kept)) for part in (F_train, F_test)
        ]
        draws.append(errors(make_pipeline(*total, ridge), *parts))
    return np.mean(draws, axis=0)


def selected_errors(number, *steps):
    return errors(make_pipeline(*steps, ridge), F_train, F_test)


numbers = [4, 8, 13, 20, 40]
methods = {
    "random": random_errors,
    "FPS": lambda number: selected_errors(number, FPSSelector(number), *total),
    "CUR": lambda number: selected_errors(number, CURSelector(number), *total),
    "PCA": lambda number: selected_errors(number, *total, PCA(min(2 * number, len(F_train)))),
}
every = errors(make_pipeline(*total, ridge), F_train, F_test)
curves = {name: np.array([method(n) for n in numbers]) for name, method in methods.items()}

print(f"{'features for each type of atom':30}" + "".join(f"{n:8}" for n in [*numbers, 65]))
for name, curve in curves.items():
    print(f"{name + ': forces in eV/Å':30}" + "".join(f"{error:8.2f}" for error in curve[:, 1]))
print(f"{'all':30}" + " " * 8 * len(numbers) + f"{every[1]:8.2f}")

figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for axis, quantity, unit, column in zip(axes, ["energies", "forces"], ["meV/atom", "eV/Å"], [0, 1]):
    for name, curve in curves.items():
        style = {"color": "grey"} if name == "random" else {}
        axis.semilogx(numbers, curve[:, column], "o-", **{"label": name, **style})
    axis.axhline(every[column], color="black", linewidth=0.8, label="all 65 features")
    axis.set(xlabel="features for each type of atom", ylabel=f"RMSE of {quantity} ({unit})")
    axis.set_xticks(numbers, numbers)
    axis.set_xticks([], minor=True)
    axis.set_ylim(0, None)
axes[0].legend()

# %%
# Few environments
# ----------------
# A sparse kernel model compares atoms with a few of the training set, its inducing points.
# ``SampleSelector`` finds atoms that are far from each other: the distance of each to the nearest
# of those before it shrinks as the training set is covered.

selector = SampleSelector("fps", n_to_select=20).fit(E_train)
scores = selector.scores_.block(center_type=29)
for position in range(1, 20, 6):
    entry, distance = scores.samples.entry(position).print(), scores.values[position, 0]
    print(f"Cu environment {position + 1:2}: {entry}, distance {distance:.2f}")

# %%
# The errors of ``SparseKernelRidge`` with inducing points for each type of atom that are far from
# each other, or drawn at random three times.

points = [5, 10, 20, 40]


def sparse_errors(number, selection, seed=None):
    model = SparseKernelRidge(
        alpha=1e-4,
        kernel="rbf",
        gamma=0.01,
        n_components=number,
        selection=selection,
        random_state=seed,
        gradient_weights=1e-2,
    )
    return errors(model, E_train, E_test)


far = np.array([sparse_errors(number, "fps") for number in points])
drawn = np.array(
    [[sparse_errors(number, "random", seed) for number in points] for seed in range(3)]
)
print(f"\n{'inducing points for each type':30}" + "".join(f"{number:8}" for number in points))
print(f"{'far: forces in eV/Å':30}" + "".join(f"{error:8.2f}" for error in far[:, 1]))
for number, draw in enumerate(drawn, 1):
    print(f"{f'draw {number}':30}" + "".join(f"{error:8.2f}" for error in draw[:, 1]))

# %%
# The map shows all Cu environments, projected on the two directions of largest variance, and those
# that were chosen, numbered in the order of their choice. Farthest points are the rim first, which
# few atoms are near. Points drawn at random are where most atoms are, and for this mean error they
# are at least as good; what they leave to chance is whether rare environments are known at all.

projected = PCA(2).fit_transform(E_train).tensor.block(center_type=29)
chosen = [projected.samples.position(entry) for entry in scores.samples]

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
left.scatter(*projected.values.T, s=8, color="lightgrey")
left.scatter(*projected.values[chosen].T, s=150, color="tab:orange", edgecolor="white")
for number, position in enumerate(chosen, 1):
    left.text(*projected.values[position], number, ha="center", va="center", fontsize=7)
left.set(xlabel="principal component 1", ylabel="principal component 2", title="Cu environments")
right.fill_between(
    points, drawn[..., 1].min(axis=0), drawn[..., 1].max(axis=0), color="lightgrey", label="random"
)
right.plot(points, far[:, 1], "o-", color="tab:orange", label="farthest points")
right.set(
    xscale="log", xlabel="inducing points for each type of atom", ylabel="RMSE of forces (eV/Å)"
)
right.set_xticks(points, points)
right.set_xticks([], minor=True)
right.set(title="SparseKernelRidge", ylim=(0, None))
right.legend()
plt.show()
