"""Fixtures shared by all tests."""

import importlib
import os
import warnings

import numpy as np
import pytest
import threadpoolctl
from hypothesis import settings

# the data of tests are small, and threads that wait for each other would take most of the time:
# one for numpy, which is loaded, one for what is loaded later
threadpoolctl.threadpool_limits(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_ENABLE_X64", "1")  # read when jax is imported
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
