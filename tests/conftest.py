"""Fixtures shared by all tests."""

import importlib
import os
import warnings

import numpy as np
import pytest
import threadpoolctl
from hypothesis import settings

from metatensor import Labels

# the data of tests are small, and threads that wait for each other would take most of the time:
# one for numpy, which is loaded, one for what is loaded later
threadpoolctl.threadpool_limits(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_ENABLE_X64", "1")  # read when jax is imported
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # which take longer than small data
# read when scipy is imported; without, scikit-learn leaves out checks, or can not import them
os.environ.setdefault("SCIPY_ARRAY_API", "1")

# on a busy machine the time of one example says nothing
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

LIBRARIES = ["numpy", "numpy-readonly", "numpy-strided", "torch", "array_api_strict", "jax", "dask"]


class Library:
    """One array library: turns host arrays into its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.array_library = name.split("-")[0]

    def asarray(self, values):
        values = np.array(values)
        if self.array_library == "numpy":
            if self.name == "numpy-strided":
                wide = np.zeros((*values.shape[:-1], 2 * values.shape[-1]), dtype=values.dtype)
                wide[..., ::2] = values
                values = wide[..., ::2]
            values.flags.writeable = self.name != "numpy-readonly"
            return values
        module = {"jax": "jax.numpy", "dask": "dask.array"}.get(self.name, self.name)
        return importlib.import_module(module).asarray(values)

    def __repr__(self) -> str:
        return self.name


@pytest.fixture
def jax_x32():
    """jax, which has numbers of 32 bits only."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", False)
    yield jax
    jax.config.update("jax_enable_x64", True)


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory):
    """Run in another folder: processes started here would import the uncompiled tree."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture(params=LIBRARIES)
def xp(request) -> Library:
    """Each array library in turn, read-only and strided numpy arrays among them."""
    name = request.param
    if name in ("torch", "array_api_strict", "jax", "dask"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip(name)
    return Library(name)


@pytest.fixture(scope="session")
def displaced():
    """Return a function that moves one atom of a structure along one axis."""

    def displace(atoms, atom, axis, step):
        moved = atoms.copy()
        moved.positions[atom, axis] += step
        return moved

    return displace


@pytest.fixture(scope="session")
def strained():
    """Return a function that strains the cell and the positions of a structure."""

    def strain(atoms, row, column, step):
        matrix = np.eye(3)
        matrix[row, column] += step
        moved = atoms.copy()
        moved.set_cell(atoms.cell @ matrix)
        moved.positions = atoms.positions @ matrix
        return moved

    return strain


class RadialFeatures:
    """Alloys whose two-body features are stored with gradients, and written for autograd again.

    All maps are of numpy, all arrays that are given or returned are of any library.
    """

    CUTOFF, N_RADIAL, FIRST = 4.5, 5, 1.5

    def __init__(self) -> None:
        from vesin import ase_neighbor_list

        from metatensor.datasets import make_alloys

        options = {"cutoff": self.CUTOFF, "n_radial": self.N_RADIAL, "verbose": False}
        data = make_alloys(
            3, elements=["Cu", "Ni"], repeats=[(1, 1, 1), (1, 1, 2)], random_state=3, **options
        )
        self.systems, self.descriptor = data.systems, data.descriptor
        sizes = [len(atoms) for atoms in data.systems]
        starts = np.cumsum([0, *sizes[:-1]])
        self.positions = np.concatenate([atoms.positions for atoms in data.systems])
        self.strains = np.zeros((len(sizes), 3, 3))
        self.system = np.repeat(np.arange(len(sizes)), sizes)
        self.atom = np.concatenate([np.arange(size) for size in sizes])
        self.types = np.concatenate([atoms.numbers for atoms in data.systems])
        first, second, offsets = [], [], []
        for start, atoms in zip(starts, data.systems, strict=True):
            i, j, shifts = ase_neighbor_list("ijS", atoms, self.CUTOFF)
            first.append(i.astype(np.intp) + start)
            second.append(j.astype(np.intp) + start)
            offsets.append(shifts @ atoms.cell.array)
        self.first, self.second = np.concatenate(first), np.concatenate(second)
        self.offsets = np.concatenate(offsets)

    def __call__(self, xp, positions, strains):
        """Return the values of the blocks of the descriptor, as functions of parameters."""
        vectors = positions[self.second] - positions[self.first] + xp.asarray(self.offsets)
        vectors = vectors + (vectors[:, None, :] @ strains[self.system[self.first]])[:, 0]
        distances = (vectors**2).sum(-1)[:, None] ** 0.5
        centres = np.linspace(self.FIRST, self.CUTOFF, self.N_RADIAL, endpoint=False)
        width = (self.CUTOFF - self.FIRST) / self.N_RADIAL
        gaussians = xp.exp(-0.5 * ((distances - xp.asarray(centres)) / width) ** 2)
        functions = gaussians * 0.5 * (1 + xp.cos(np.pi * distances / self.CUTOFF))
        blocks = []
        for key in self.descriptor.keys:
            samples = np.flatnonzero(self.types == key["center_type"])
            chosen = self.types[self.second] == key["neighbor_type"]
            sums = (samples[:, None] == self.first) & chosen
            alone = np.full((len(samples), 1), float(key["center_type"] == key["neighbor_type"]))
            sums = xp.asarray(sums.astype(np.float64)) @ functions
            blocks.append(xp.concatenate([xp.asarray(alone), sums], -1))
        return blocks

    def labels(self, name):
        """Return samples, components and properties of a parameter, and what it is."""
        one = Labels.range(name, 1)
        if name == "positions":
            samples = Labels(["system", "atom"], np.stack([self.system, self.atom], axis=1))
            return samples, [Labels.range("xyz", 3)], one
        samples = Labels.range("system", len(self.systems))
        return samples, [Labels.range("xyz_1", 3), Labels.range("xyz_2", 3)], one


@pytest.fixture(scope="session")
def radial() -> RadialFeatures:
    """Alloys and their features."""
    return RadialFeatures()
