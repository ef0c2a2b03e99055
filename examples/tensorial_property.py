"""
Learn a tensor
==============

The virial of an alloy, a symmetric tensor, learnt with an equivariant ``Ridge``: a model whose
predictions rotate with the structure, because features and target are spherical tensors of the same
kind and share one set of weights for all components. It is compared with models that have to learn
each component on its own.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from vesin import ase_neighbor_list

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.datasets import make_alloys
from metatensor.o3 import rotate
from metatensor.sklearn import Ridge, as_rows
from metatensor.testing import assert_equivariant

# %%
# Spherical tensors
# -----------------
# A symmetric 3 x 3 matrix has a part that no rotation changes, its trace (``o3_lambda=0``), and
# five numbers that rotations mix as they mix the real spherical harmonics of degree 2
# (``o3_lambda=2``). With these factors the sum of squares is that of the matrix.


def spherical(matrices):
    """Return the parts of symmetric matrices (n, 3, 3), in the convention of ``metatensor.o3``."""
    (xx, xy, xz), (_, yy, yz), (_, _, zz) = np.moveaxis(matrices, 0, -1)
    return {
        0: np.stack([xx + yy + zz], axis=1) / np.sqrt(3),
        2: np.stack(
            [
                np.sqrt(2) * xy,
                np.sqrt(2) * yz,
                (2 * zz - xx - yy) / np.sqrt(6),
                np.sqrt(2) * xz,
                (xx - yy) / np.sqrt(2),
            ],
            axis=1,
        ),
    }


def spherical_map(parts, properties):
    """Return parts of shape (n_systems, 2 lambda + 1, n_properties) as a map."""
    blocks = []
    for degree, values in parts.items():
        mu = Labels("o3_mu", np.arange(-degree, degree + 1)[:, None])
        blocks.append(TensorBlock(values, Labels.range("system", len(values)), [mu], properties))
    keys = Labels(["o3_lambda", "o3_sigma"], np.array([[degree, 1] for degree in parts]))
    return TensorMap(keys, blocks)


# %%
# The target: minus the virial, which is the derivative of the energy with respect to strain.

data = make_alloys(240, elements=["Cu", "Au"], gradients=["strain"], verbose=False)
systems = data.systems
virials = data.energies.block().gradient("strain").values[..., 0]
parts = {degree: values[:, :, None] for degree, values in spherical(virials).items()}
targets = spherical_map(parts, Labels.range("virial", 1))
print(targets)

# %%
# Features
# --------
# Around each atom the density of neighbours, expanded in radial functions and spherical harmonics,
#
# .. math:: c_{n \mu} = \sum_j R_n(r_{ij})\, Y_{\lambda\mu}(\hat r_{ij})
#
# where ``spherical`` of the matrix :math:`\hat r \hat r^T` gives the harmonics of degree 0 and 2.
# Products of :math:`c_{n \mu}` with the number of neighbours of each type at some distance are
# spherical tensors too, and let the model know how crowded an atom is. Sums over atoms describe the
# system.

CUTOFF, N_RADIAL = 5.0, 6
TYPES = np.array([29, 79])


def descriptor(systems):
    """Return spherical tensors for each system, with degrees 0 and 2."""
    features = {0: [], 2: []}
    for system in systems:
        first, second, distances, vectors = ase_neighbor_list("ijdD", system, CUTOFF)
        centers = np.linspace(1.5, CUTOFF, N_RADIAL, endpoint=False)
        radial = np.exp(-0.5 * ((distances[:, None] - centers) / (CUTOFF - 1.5) * N_RADIAL) ** 2)
        radial *= 0.5 + 0.5 * np.cos(np.pi * distances[:, None] / CUTOFF)
        is_type = system.numbers[:, None] == TYPES
        by_type = (is_type[second][:, :, None] * radial[:, None, :]).reshape(len(first), -1)
        directions = vectors / distances[:, None]
        harmonics = spherical(directions[:, :, None] * directions[:, None, :])
        density = np.zeros((len(system), by_type.shape[1]))
        np.add.at(density, first, by_type)
        for degree, values in harmonics.items():
            expansion = np.zeros((len(system), values.shape[1], by_type.shape[1]))
            np.add.at(expansion, first, values[:, :, None] * by_type[:, None, :])
            products = expansion[:, :, :, None] * density[:, None, None, :]
            flat = products.reshape(*expansion.shape[:2], -1)
            local = np.concatenate([expansion, flat], axis=-1)
            total = np.einsum("ia, imp -> map", is_type, local)
            features[degree].append(total.reshape(len(total), -1))
    parts = {degree: np.array(values) for degree, values in features.items()}
    return spherical_map(parts, Labels.range("feature", parts[0].shape[-1]))


X, y = as_rows(descriptor(systems), targets, by="system")
print(X.tensor)
assert_equivariant(descriptor, systems[:3])  # else nothing that follows would be true

# %%
# Three models
# ------------
# ``Ridge`` has one weight per feature for all components of a block, so that its predictions are
# spherical tensors too. Two models of scikit-learn learn the five components of degree 2 as five
# unrelated numbers: from the invariant features, and from all components of all features.


def columns(tensor, *degrees):
    """Return all components as columns, for models that know nothing of rotations."""
    blocks = [tensor.block(o3_lambda=degree).values for degree in degrees]
    return np.concatenate([values.reshape(len(values), -1) for values in blocks], axis=1)


class Equivariant:
    def fit(self, X, y):
        alphas = [1e-7, 1e-6, 1e-5, 1e-4]
        search = GridSearchCV(Ridge(alpha_type="relative"), {"alpha": alphas}, cv=3)
        self.model = search.fit(X, y)
        return self

    def predict(self, tensor):
        return columns(self.model.predict(tensor), 2)


class Plain:
    def __init__(self, *degrees):
        self.degrees = degrees

    def fit(self, X, y):
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 6, 10)))
        self.model = model.fit(columns(X.tensor, *self.degrees), columns(y.tensor, 2))
        return self

    def predict(self, tensor):
        return self.model.predict(columns(tensor, *self.degrees))


# %%
# Learning curves
# ---------------
# Errors of the five components of degree 2, for 60 systems that no model has seen.

X_train, X_test, y_train, y_test = X[:180], X[180:], y[:180], y[180:]
models = {
    "invariants only": Plain(0),
    "every component on its own": Plain(0, 2),
    "equivariant": Equivariant(),
}
sizes = [12, 25, 50, 100, 180]
true = columns(y_test.tensor, 2)
errors = {name: [] for name in models}
print(f"\n{'RMSE in eV; systems to train on:':34}" + "".join(f"{size:8}" for size in sizes))
for name, model in models.items():
    for size in sizes:
        predicted = model.fit(X_train[:size], y_train[:size]).predict(X_test.tensor)
        errors[name].append(np.sqrt(np.mean((predicted - true) ** 2)))
    print(f"{name:34}" + "".join(f"{error:8.3f}" for error in errors[name]))
spread = np.sqrt(np.mean(true**2))
print(f"{'root mean square of the target':34}{spread:8.3f}")

# %%
# Predictions that rotate
# -----------------------
# What the equivariant model predicts for a rotated structure is what it predicts for the structure,
# rotated: for random rotations and reflections to the last digits, although all the training cells
# have the same orientation.


def predict(structures):
    return models["equivariant"].model.predict(descriptor(structures))


assert_equivariant(predict, systems[-5:])
turn = np.array([[0.36, -0.48, 0.8], [0.8, 0.6, 0.0], [-0.48, 0.64, 0.6]])
turned = systems[-1].copy()
turned.set_cell(turned.cell @ turn.T, scale_atoms=True)
before, after = predict(systems[-1:]), predict([turned])
print("\nvirial of degree 2, in eV")
print("of the structure:        ", columns(before, 2)[0].round(3))
print("of the rotated structure: ", columns(after, 2)[0].round(3))
print("of the structure, rotated: ", columns(rotate(before, turn), 2)[0].round(3))

# %%
# For the plot, this structure turns around the z axis.

angles = np.linspace(0, 180, 46)
orientations = [systems[-1].copy() for _ in angles]
for angle, structure in zip(angles, orientations):
    structure.rotate(angle, "z", rotate_cell=True)
features = descriptor(orientations)
cosines, sines = np.cos(np.radians(angles)), np.sin(np.radians(angles))
rotations = np.zeros((len(angles), 3, 3))
rotations[:, 0, 0], rotations[:, 0, 1] = cosines, -sines
rotations[:, 1, 0], rotations[:, 1, 1] = sines, cosines
rotations[:, 2, 2] = 1
reference = (rotations @ virials[-1] @ rotations.transpose(0, 2, 1))[:, 0, 1]

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
colors = dict(zip(models, ["tab:grey", "tab:orange", "tab:blue"]))
for name, model in models.items():
    left.loglog(sizes, errors[name], "o-", color=colors[name], label=name)
    shear = model.predict(features)[:, 0] / np.sqrt(2)  # the component mu = -2 is sqrt(2) xy
    right.plot(angles, shear, "o", color=colors[name], markersize=4, label=name)
left.axhline(spread, color="black", linestyle=":", label="predicting zero")
left.set(xlabel="systems to train on", ylabel="RMSE of degree 2 (eV)", ylim=(0.01, 20))
left.set_title("Learning curves")
left.set_xticks(sizes, sizes, minor=False)
left.minorticks_off()
left.legend(loc="lower left")
right.plot(angles, reference, color="black", zorder=0, label="effective medium theory")
right.set(xlabel="angle around z (degrees)", ylabel="xy component (eV)", xticks=range(0, 181, 30))
right.set_title("A rotating crystal")
right.legend()
plt.show()
