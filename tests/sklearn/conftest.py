"""Small systems with features, energies and exact gradients; a count of the checks that pass."""

from collections import Counter
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import pytest

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import SumOverSamples
from metatensor.sklearn.testing import Check, _data


def one_block(block):
    return TensorMap(Labels.single(), [block])


@pytest.fixture(scope="session")
def make():
    """Functions that make and change data."""
    return SimpleNamespace(
        systems=_data.make_systems,
        features=_data.make_features,
        energies=_data.make_energies,
        labels=_data.labels,
        permuted=_data.permuted,
        renumbered=_data.renumbered,
        one_block=one_block,
    )


@pytest.fixture(scope="session")
def systems():
    return _data.make_systems(16)


@pytest.fixture(scope="session")
def X(systems):
    """Features of atoms, in blocks by types."""
    return _data.make_features(systems)


@pytest.fixture(scope="session")
def y(systems):
    return _data.make_energies(systems)


@pytest.fixture(scope="session")
def features(X):
    """Features of systems, in one block."""
    moved = X.keys_to_properties(["center_type", "neighbor_type"])
    return SumOverSamples().transform(moved)


@pytest.fixture(scope="session")
def spherical():
    """Random blocks of several o3_lambda, with an offset and gradients of some samples."""
    rng = np.random.default_rng(4)
    keys = _data.labels(["o3_lambda", "o3_sigma"], [[0, 1], [1, 1], [2, 1], [1, -1]])
    samples = _data.labels(["system", "atom"], [[n // 3, n % 3] for n in range(11)])
    table = [[n, n // 3, a] for n in (7, 2, 5) for a in (0, 2)]
    rows = _data.labels(["sample", "system", "atom"], table)
    properties = _data.labels(["n"], [[2], [5], [3], [9]])
    blocks = []
    for degree in keys.values[:, 0]:
        components = [_data.labels(["o3_mu"], [[m] for m in range(-degree, degree + 1)])]
        shape = (2 * degree + 1, len(properties))
        values = (rng.normal(size=(11, *shape)) + 2) * [1.0, 3.0, 0.1, 0.5]
        block = TensorBlock(values, samples, components, properties)
        gradient = TensorBlock(
            rng.normal(size=(len(rows), 3, *shape)),
            rows,
            [Labels.range("xyz", 3), *components],
            properties,
        )
        block.add_gradient("positions", gradient)
        blocks.append(block)
    return TensorMap(keys, blocks)


@pytest.fixture(scope="session")
def rotation():
    """A proper rotation."""
    matrix, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    return matrix * np.linalg.det(matrix)


# ---- the table of checks


@pytest.fixture(autouse=True)
def counted(request, record_property):
    """Say in the report which estimator a check is for, and whose check it is."""
    parameters = getattr(getattr(request.node, "callspec", None), "params", {})
    if {"estimator", "check"} <= set(parameters):
        record_property("estimator", " ".join(repr(parameters["estimator"]).split()))
        own = isinstance(parameters["check"], Check)
        record_property("suite", "own" if own else "scikit-learn")


def pytest_addoption(parser):
    parser.addoption(
        "--count-checks",
        action="store_true",
        help="print how many checks, scikit-learn's and our own, each estimator passes",
    )


def pytest_terminal_summary(terminalreporter, config):
    if not config.getoption("--count-checks"):
        return
    counts = {}
    for status in ("passed", "failed", "xfailed", "skipped"):
        for report in terminalreporter.stats.get(status, []):
            known = dict(getattr(report, "user_properties", ()))
            if "suite" in known:
                count = counts.setdefault(known["estimator"], {}).setdefault(
                    known["suite"], Counter()
                )
                count[status] += 1
    terminalreporter.section("passed checks")
    width = max(map(len, counts), default=0)
    title = f"scikit-learn {version('scikit-learn')}"
    terminalreporter.write_line(f"{'estimator':{width}}  {title:>25}  {'own':>25}")
    for estimator, suites in counts.items():
        texts = [count_text(suites.get(suite)) for suite in ("scikit-learn", "own")]
        terminalreporter.write_line(f"{estimator:{width}}  {texts[0]:>25}  {texts[1]:>25}")


def count_text(count):
    if count is None:
        return "-"
    notes = [f"{count[status]} {status}" for status in ("skipped", "xfailed") if count[status]]
    text = f"{count['passed']}/{count['passed'] + count['failed']}"
    return f"{text} ({', '.join(notes)})" if notes else text
