"""Time and memory of estimators against what one would write without them, and ratios of medians.

- ``ridge``: `Ridge` on values and gradients, against putting all rows below each other for
  scikit-learn's `Ridge`; each run is a process of its own, whose peak of memory is reported as far
  as it is above what the data take.
- ``ridge-cv``: `RidgeCV`, which leaves out one system after the other, against fits without each.

The sides take turns, with one thread each::

    python benchmarks/estimators.py ridge --systems 5000 --atoms 13 --features 1000
    python benchmarks/estimators.py ridge-cv --systems 80 --atoms 30 --features 256
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np
import sklearn.linear_model

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import Ridge, RidgeCV, Rows, as_rows, rmse
from worker import peak_memory

ALPHA, GRADIENT_WEIGHT, SEED = 1e-3, 0.1, 7
ALPHAS = np.logspace(-5, 2, 8)
THREADS = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]


def make(n_systems: int, n_atoms: int, n_features: int) -> tuple[TensorMap, TensorMap]:
    """Features and energies of systems, with gradients, made without temporary copies."""
    rng = np.random.default_rng(SEED)
    systems, xyz = Labels.range("system", n_systems), [Labels.range("xyz", 3)]
    atoms = np.stack(np.divmod(np.arange(n_systems * n_atoms), n_atoms), axis=1)
    rows = Labels(["sample", "system", "atom"], np.insert(atoms, 0, atoms[:, 0], axis=1))
    features, energy = Labels.range("n", n_features), Labels.range("energy", 1)
    values, slopes = np.empty((n_systems, n_features)), np.empty((len(atoms), 3, n_features))
    rng.standard_normal(out=values)
    rng.standard_normal(out=slopes)
    coefficients = rng.standard_normal((n_features, 1))
    parts = [
        (values, slopes, features),
        (
            values @ coefficients + rng.standard_normal((n_systems, 1)),
            slopes @ coefficients,
            energy,
        ),
    ]
    maps = []
    for array, gradient, properties in parts:
        block = TensorBlock(array, systems, [], properties)
        block.add_gradient("positions", TensorBlock(gradient, rows, xyz, properties))
        maps.append(TensorMap(Labels.single(), [block]))
    return maps[0], maps[1]


# ---- ridge


def fit_ours(X: TensorMap, y: TensorMap) -> np.ndarray:
    model = Ridge(ALPHA, gradient_weights=GRADIENT_WEIGHT).fit(X, y)
    return model.coef_.block().values[0]


def fit_stacked(X: TensorMap, y: TensorMap) -> np.ndarray:
    """The same with scikit-learn: values around their means, and weighted gradients below."""
    x, t = X.block(), y.block()
    root = np.sqrt(GRADIENT_WEIGHT)
    rows = np.concatenate(
        [
            x.values - x.values.mean(axis=0),
            root * x.gradient("positions").values.reshape(-1, len(x.properties)),
        ]
    )
    targets = np.concatenate(
        [t.values[:, 0] - t.values.mean(), root * t.gradient("positions").values.ravel()]
    )
    model = sklearn.linear_model.Ridge(ALPHA, fit_intercept=False, copy_X=False)
    return model.fit(rows, targets).coef_


FITS = {"ours": fit_ours, "stacked": fit_stacked}


def measure(side: str, options: argparse.Namespace) -> dict[str, object]:
    X, y = make(options.systems, options.atoms, options.features)
    before = peak_memory()
    start = time.process_time()
    coefficients = FITS[side](X, y)
    seconds = time.process_time() - start
    return {
        "seconds": seconds,
        "data": before,
        "extra": peak_memory() - before,
        "coefficients": coefficients[:10].tolist(),
    }


def ridge(options: argparse.Namespace) -> None:
    runs: dict[str, list[dict[str, object]]] = {side: [] for side in FITS}
    sizes = [f"--{name}={getattr(options, name)}" for name in ("systems", "atoms", "features")]
    for _ in range(options.rounds):
        for side, answers in runs.items():
            command = [sys.executable, __file__, "ridge", f"--side={side}", *sizes]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            answers.append(json.loads(output))
    found = {}
    for side, answers in runs.items():
        found[side] = [
            statistics.median(answer[name] for answer in answers) for name in ("seconds", "extra")
        ]
        print(
            f"{side:>8}: {found[side][0]:7.2f} s, {found[side][1] / 1e6:7.0f} MB above "
            f"{answers[0]['data'] / 1e6:.0f} MB of data"
        )
    np.testing.assert_allclose(
        runs["ours"][0]["coefficients"], runs["stacked"][0]["coefficients"], rtol=1e-7
    )
    time_ratio, memory_ratio = (b / a for a, b in zip(found["ours"], found["stacked"]))
    print(f"stacked / ours: {time_ratio:.2f} in time, {memory_ratio:.1f} in extra memory")


# ---- ridge-cv


def search(X: Rows, y: Rows) -> RidgeCV:
    return RidgeCV(ALPHAS, gradient_weights=GRADIENT_WEIGHT, scoring="neg_rmse").fit(X, y)


def refit(X: Rows, y: Rows) -> np.ndarray:
    """Errors of the energy of each system, predicted by a fit without it."""
    scores = []
    for alpha in ALPHAS:
        squares = []
        for n in range(len(X)):
            kept = np.arange(len(X)) != n
            model = Ridge(alpha, gradient_weights=GRADIENT_WEIGHT).fit(X[kept], y[kept])
            squares.append(rmse(y[[n]], model.predict(X[[n]])) ** 2)
        scores.append(-np.sqrt(np.mean(squares)))
    return np.array(scores)


def ridge_cv(options: argparse.Namespace) -> None:
    X, y = as_rows(*make(options.systems, options.atoms, options.features))
    seconds: dict[str, list[float]] = {"closed": [], "refits": []}
    for _ in range(options.rounds):
        start = time.process_time()
        scores = search(X, y).cv_results_["score"]
        middle = time.process_time()
        expected = refit(X, y)
        seconds["closed"].append(middle - start)
        seconds["refits"].append(time.process_time() - middle)
    closed, refits = map(statistics.median, seconds.values())
    difference = np.abs(scores / expected - 1).max()
    print(f"  closed: {closed:7.2f} s\n  refits: {refits:7.2f} s")
    print(f"refits / closed: {refits / closed:.0f} in time, scores differ by {difference:.0e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["ridge", "ridge-cv"])
    parser.add_argument("--systems", type=int)
    parser.add_argument("--atoms", type=int)
    parser.add_argument("--features", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=list(FITS), help="measure one side, in this process")
    options = parser.parse_args()
    default = {"ridge": (5000, 13, 1000), "ridge-cv": (80, 30, 256)}[options.what]
    for name, size in zip(("systems", "atoms", "features"), default):
        if getattr(options, name) is None:
            setattr(options, name, size)
    if any(os.environ.get(name) != "1" for name in THREADS):
        # before numpy is loaded, which is too late in this process
        os.execve(
            sys.executable,
            [sys.executable, *sys.argv],
            {**os.environ, **dict.fromkeys(THREADS, "1")},
        )
    if options.side:
        print(json.dumps(measure(options.side, options)))
    else:
        {"ridge": ridge, "ridge-cv": ridge_cv}[options.what](options)


if __name__ == "__main__":
    main()
