"""Every script of the gallery runs, and shows what its text says."""

import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from metatensor import o3
from metatensor.sklearn import rmse

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def run():
    """Return a function that runs a script and returns its variables."""

    def run(name):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", [name])
            patch.setenv("MPLBACKEND", "agg")
            patch.setattr(plt, "show", lambda: None)
            variables = runpy.run_path(str(EXAMPLES / f"{name}.py"))
        assert plt.get_fignums(), "it shows no picture"
        plt.close("all")
        return variables

    return run


def structures_to_predictions(of):
    best = of["search"].best_params_
    assert best["descriptor__cutoff"] > 2.8
    assert of["errors"]["energy"] < 0.04
    assert of["errors"]["forces"] < 0.3
    np.testing.assert_allclose(of["predicted"], of["reference"], atol=0.15)
    minima = [of["constants"][of[name].argmin()] for name in ("predicted", "reference")]
    assert abs(minima[0] - minima[1]) < 0.06


def tensorial_property(of):
    invariants, separate, equivariant = (np.array(errors) for errors in of["errors"].values())
    assert np.all(invariants > of["spread"])
    assert np.all(equivariant < 0.3 * separate)
    assert equivariant[-1] < 0.03 * of["spread"]
    assert np.all(np.diff(equivariant) < 0)
    rotated = o3.rotate(of["targets"], of["rotations"][7]).block(o3_lambda=2).values[-1, 0, 0]
    assert rotated == pytest.approx(np.sqrt(2) * of["reference"][7])


def feature_and_sample_selection(of):
    forces = {name: curve[:, 1] for name, curve in of["curves"].items()}
    assert all(errors[-1] < 0.4 * errors[0] for errors in forces.values())
    assert all(errors[-1] < 2 * of["every"][1] for errors in forces.values())
    assert np.mean(forces["CUR"]) < np.mean(forces["random"])
    assert np.all(np.diff(of["scores"].values[1:, 0]) <= 0)
    assert np.all(of["far"][-1] < 0.5 * of["far"][0])


def energies_and_forces_with_kernels(of):
    y, energies, forces = of["y_test"], [], []
    for prediction in of["predictions"].values():
        energies.append(rmse(y, prediction, normalize="n_atoms"))
        forces.append(rmse(y, prediction, gradient="positions"))
    assert np.all(np.diff(energies) < 0)
    assert np.all(np.diff(forces) < 0)
    assert energies[-1] < 0.05 * energies[0]
    assert forces[-1] < 0.05 * forces[0]
    assert max(of["differences"].values()) < 1e-5


def learning_curves(of):
    for quantity in of["scoring"]:
        errors = {
            name: np.abs(scores[quantity].mean(axis=1))
            for name, scores in of["display"].test_scores.items()
        }
        assert all(curve[-1] < 0.7 * curve[0] for curve in errors.values())
        best = errors.pop("kernel, energies and forces")[-1]
        assert all(best < 0.5 * curve[-1] for curve in errors.values())


def uncertainty(of):
    ratios = of["ratios"]["KernelRidge"]
    assert 0.55 < np.mean(ratios < 1) < 0.8
    assert 0.88 < np.mean(ratios < 2) < 1
    mean, std = of["predict"]("KernelRidge", of["features"])
    constants, inside = of["constants"], slice(18, 34)
    assert min(of["lengths"]) < constants[18] < constants[33] < max(of["lengths"])
    assert std[0] > 10 * std[inside].max()
    assert std[-1] > 5 * std[inside].max()
    assert np.all(np.abs(mean - of["reference"]) < 3 * std)


def training_a_network(of):
    linear, networks = (np.array(errors) for errors in of["errors"].values())
    assert np.all(networks < 0.7 * linear)
    for curve in of["history"].values():
        assert np.all(np.array(curve[-1]) < 0.3 * np.array(curve[0]))
    assert of["largest"] < 1e-5
    assert of["compiled_loss_of"].n_graphs == 1
    assert of["off"] < 1e-10


def one_model_from_two_sides(of):
    assert max(of["converted"]) < 1e-12
    assert of["distances"][-1] < 1e-7
    assert max(of["trained"]) < 1e-9
    assert max(of["start"]) < 1e-12
    from_linear, from_random = (np.array(curve) for curve in of["errors"].values())
    assert np.all(from_linear[-1] < 0.9 * from_linear[0])
    assert np.all(from_linear[-1] < 0.5 * from_random[-1])


CHECKS = {
    check.__name__: check
    for check in [
        structures_to_predictions,
        tensorial_property,
        feature_and_sample_selection,
        energies_and_forces_with_kernels,
        learning_curves,
        uncertainty,
        training_a_network,
        one_model_from_two_sides,
    ]
}


@pytest.mark.parametrize("name", CHECKS)
def test_example(run, name):
    CHECKS[name](run(name))


def test_every_example_is_tested():
    others = {"quickstart"}  # has a file of its own
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(CHECKS) | others
