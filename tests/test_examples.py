"""Every script of the gallery runs, and shows what its text says."""

import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from metatensor import o3

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


CHECKS = {check.__name__: check for check in [structures_to_predictions, tensorial_property]}


@pytest.mark.parametrize("name", CHECKS)
def test_example(run, name):
    CHECKS[name](run(name))


def test_every_example_is_tested():
    others = {"quickstart"}  # has a file of its own
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(CHECKS) | others
