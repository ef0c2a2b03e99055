"""Every operation under ``jax.jit``: the numbers that numpy gives.

``python tests/operations/test_jit.py`` runs these tests and prints the table of functions.
"""

import importlib
import sys

import numpy as np
import pytest

from metatensor import Labels, TensorBlock, TensorMap, testing

jax = pytest.importorskip("jax")
importlib.import_module("metatensor.jax")

#: what asks for numbers, which are not known while a function is traced
ASKS = ("equal", "equal_raise", "allclose", "allclose_raise")
#: numbers that are not those of another run
UNKNOWN_NUMBERS = ("empty_like", "random_uniform_like")


def arguments(operation, asarray):
    """Return a map if the operation takes one: that takes time to compile."""
    return operation.arguments(
        kind=operation.kinds[-1],
        n_components=operation.components[-1],
        asarray=asarray,
        sizes=(5, 0),
        gradients=("positions",),
    )


def same(result, expected, numbers=True):
    if isinstance(expected, list):
        for part, other in zip(result, expected, strict=True):
            same(part, other, numbers)
    elif isinstance(expected, TensorBlock | TensorMap):
        if numbers:
            testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
        testing._assert_no_difference(result, expected, None)
    elif isinstance(expected, Labels):
        assert result == expected
    elif expected is not None:
        np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_under_jit(any_operation, record_property):
    name = any_operation.name
    outcome = "an error says that numbers are needed" if name in ASKS else "works"
    if name in UNKNOWN_NUMBERS:
        outcome = "numbers of the trace"
    record_property("operation", (name, outcome))
    jitted, given = jax.jit(any_operation.call), arguments(any_operation, jax.numpy.asarray)
    if name in ASKS:
        with pytest.raises(TypeError, match="jax is tracing these values"):
            jitted(*given)
        return
    expected = any_operation.call(*arguments(any_operation, np.asarray))
    same(jitted(*given), expected, name not in UNKNOWN_NUMBERS)


class Table:
    """Collects for which functions the tests passed."""

    def __init__(self):
        self.outcomes = {}

    def pytest_runtest_logreport(self, report):
        found = dict(report.user_properties)
        if report.when == "call" and "operation" in found:
            name, outcome = found["operation"]
            self.outcomes.setdefault(name, set()).add(outcome if report.passed else report.outcome)

    def print(self):
        print("| function | under `jax.jit` |\n|---|---|")
        for name, outcomes in self.outcomes.items():
            print(f"| `{name}` | {', '.join(sorted(outcomes))} |")


if __name__ == "__main__":
    table = Table()
    pytest.main([__file__, "-q", *sys.argv[1:]], plugins=[table])
    table.print()
