"""The example runs, its results make sense, and its model predicts true derivatives."""

import contextlib
import io
import re
import runpy
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111

import metatensor
from metatensor.datasets import make_alloys, radial_descriptor

SCRIPT = Path(__file__).parents[1] / "examples" / "quickstart.py"
SYSTEMS = 60
STEP = 2e-5  # a pair at the cutoff has a kink in its second derivative


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run the script; return its output folder, what it printed, and its variables."""
    folder = tmp_path_factory.mktemp("quickstart") / "output"
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(text):
        patch.setattr(sys, "argv", [str(SCRIPT), str(folder), "--systems", str(SYSTEMS)])
        patch.setenv("MPLBACKEND", "agg")
        variables = runpy.run_path(str(SCRIPT))
    return folder, text.getvalue(), variables


@pytest.fixture(scope="module")
def model(run):
    return joblib.load(run[0] / "model.joblib")


def table(text):
    """Return the six errors of each training: energy, forces, strain; cross-validated, held out."""
    rows = re.findall(r"^(\w[\w ,]*?) {2,}((?: +[\d.e+-]+){6})$", text, flags=re.MULTILINE)
    return {name: np.array(errors.split(), dtype=float) for name, errors in rows}


def test_gradients_make_the_model_better(run):
    errors = table(run[1])
    baseline, energies, full = (
        errors[name] for name in ("composition", "energies only", "energies, forces, strain")
    )
    assert np.all(energies < 0.6 * baseline)
    assert np.all(full < 0.25 * baseline)
    assert np.all(full < energies)


def test_plot_shows_the_errors_of_the_table(run):
    _, text, variables = run
    errors = table(text)
    for panel, axis in enumerate(variables["display"].axes_):
        for label in axis.get_legend().get_texts():
            name, value = label.get_text().split(": ")
            assert float(value.split()[0]) == pytest.approx(errors[name][3 + panel], rel=0.01)


def test_files_are_complete(run, model):
    folder, _, _ = run
    assert {path.name for path in folder.iterdir()} == {
        "parity.png",
        "model.joblib",
        "predictions.mts",
    }
    assert (folder / "parity.png").read_bytes().startswith(b"\x89PNG")
    saved = metatensor.load(folder / "predictions.mts")
    data = make_alloys(SYSTEMS, verbose=False)
    expected = model.predict(data.descriptor).block()
    block = saved.block()
    assert len(block.samples) == SYSTEMS // 4
    np.testing.assert_allclose(block.values, expected.values[block.samples["system"]], rtol=1e-9)
    forces = expected.gradient("positions")
    positions = [
        forces.samples.position(row[[1, 1, 2]])
        for row in block.gradient("positions").samples.values
    ]
    np.testing.assert_allclose(
        block.gradient("positions").values, forces.values[positions], rtol=1e-9, atol=1e-9
    )


def slab():
    """Return a surface of two of the three elements, periodic in two directions."""
    atoms = fcc111("Au", (2, 2, 3), vacuum=5.0)
    atoms.symbols[:4] = "Ni"
    atoms.positions += np.random.default_rng(0).normal(scale=0.1, size=atoms.positions.shape)
    return atoms


STRUCTURES = {
    "alloy": lambda: make_alloys(1, random_state=7, verbose=False).systems[0],
    "one atom": lambda: bulk("Ni"),
    "slab": slab,
    "molecule": lambda: Atoms("CuAu", positions=[[0, 0, 0], [0, 0, 2.4]]),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_predicted_gradients_are_derivatives_of_predicted_energies(
    model, name, displaced, strained
):
    atoms = STRUCTURES[name]()

    def energy(atoms):
        return model.predict(radial_descriptor([atoms])).block().values[0, 0]

    def derivative(move, first, second):
        moves = [move(atoms, first, second, factor * STEP) for factor in (2, 1, -1, -2)]
        return np.dot([-1, 8, -8, 1], [energy(moved) for moved in moves]) / (12 * STEP)

    block = model.predict(radial_descriptor([atoms])).block()
    positions, strain = np.zeros((len(atoms), 3)), block.gradient("strain").values[0, :, :, 0]
    gradient = block.gradient("positions")
    positions[gradient.samples["atom"]] = gradient.values[:, :, 0]
    numeric_positions = [
        [derivative(displaced, k, axis) for axis in range(3)] for k in range(len(atoms))
    ]
    numeric_strain = [
        [derivative(strained, row, column) for column in range(3)] for row in range(3)
    ]
    for parameter, analytic, numeric in (
        ("positions", positions, numeric_positions),
        ("strain", strain, numeric_strain),
    ):
        error = np.abs(analytic - numeric).max() / max(np.abs(analytic).max(), 1e-3)
        print(f"{name}, {parameter}: relative error {error:.1e}")
        assert error < 1e-8, parameter
