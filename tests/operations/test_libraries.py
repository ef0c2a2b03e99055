"""Every operation on every array library: the numbers that numpy gives, in the library given.

``python tests/operations/test_libraries.py`` runs these tests and prints the table of functions and
libraries.
"""

import sys

import numpy as np
import pytest

from metatensor import TensorBlock, TensorMap, _arrays, operations, testing

#: why dask computes the numbers of arguments at once
COMPUTED_BY_DASK = {
    **dict.fromkeys(["lstsq", "solve"], "a host library solves the equations"),
    **dict.fromkeys(
        ["equal", "equal_raise", "allclose", "allclose_raise"], "the answer depends on the numbers"
    ),
}
#: numbers that are not those of another run
UNKNOWN_NUMBERS = ("empty_like", "random_uniform_like")
#: why a library does not apply
NOT_APPLICABLE = {
    **{
        ("one_hot", library): "no Labels with its arrays"
        for library in ("array_api_strict", "jax", "dask")
    },
    **{
        ("requires_grad", library): "a warning, there is nothing to do"
        for library in (
            "numpy",
            "numpy-readonly",
            "numpy-strided",
            "array_api_strict",
            "jax",
            "dask",
        )
    },
}


def arguments(operation, library="numpy", **parts):
    """Return arguments of each kind that the operation takes, with few components."""
    if library == "jax":  # which compiles for each shape
        parts.update(sizes=(5, 0), gradients=("positions",))
    for kind, n_components in zip(operation.kinds, 2 * operation.components[:2]):
        yield operation.arguments(kind=kind, n_components=n_components, **parts)


def in_pieces(xp):
    """Return what makes arrays; those of dask consist of several ones."""
    if xp.name == "dask":
        return lambda values: xp.asarray(values).rechunk(2)
    return xp.asarray


def call(operation, given, library):
    """Return the result, and its numbers; dask must not have computed them before."""
    if library != "dask" or operation.name in COMPUTED_BY_DASK:
        return operation.call(*given)
    import dask

    def refuse(*_, **__):
        raise AssertionError("numbers are computed before they are asked for")

    with dask.config.set(scheduler=refuse):
        return operation.call(*given)


def same(result, expected, rtol):
    """Compare what two libraries gave."""
    if isinstance(expected, TensorBlock | TensorMap):
        testing.assert_allclose(result, expected, rtol=rtol, atol=rtol)
    elif hasattr(expected, "shape"):
        np.testing.assert_allclose(_arrays.to_host(result), expected, rtol=rtol)
    else:
        assert result == expected


def test_same_as_numpy(any_operation, xp, flatten, record_property):
    reason = NOT_APPLICABLE.get((any_operation.name, xp.name))
    record_property("operation", (any_operation.name, xp.name))
    for given, host in zip(
        arguments(any_operation, xp.name, asarray=in_pieces(xp)), arguments(any_operation, xp.name)
    ):
        before = [argument.copy() for argument in given if hasattr(argument, "copy")]
        result, expected = call(any_operation, given, xp.name), any_operation.call(*host)
        device = _arrays.device(xp.asarray([0.0]))
        arrays, build = flatten(result)
        for array in arrays if reason is None else []:
            assert _arrays.library(array) == xp.array_library
            assert _arrays.device(array) == device
        if any_operation.name in UNKNOWN_NUMBERS:
            testing._assert_no_difference(result, expected, None)
        else:
            same(result, expected, rtol=1e-12)
        build(arrays)
        for argument, copy in zip(given, before):
            same(argument, copy, rtol=0)


@pytest.mark.parametrize("xp", ["numpy", "torch", "array_api_strict"], indirect=True)
def test_single_precision_stays(rule, xp, flatten):
    for given in arguments(rule, asarray=xp.asarray, dtype=np.float32):
        (first, *_), _ = flatten(given)
        arrays, _ = flatten(rule.call(*given))
        assert [array.dtype for array in arrays] == [first.dtype] * len(arrays)


def test_every_public_function_is_in_the_table(names):
    """A new operation needs a case, or a reason why it has none."""
    functions = {name: getattr(operations, name) for name in operations.__all__}
    own = {name for name, function in functions.items() if function.__name__ == name}
    assert own == names
    for name, function in functions.items():
        assert function is functions[function.__name__], f"{name} is not the same function"


class Table:
    """Collects for which functions and libraries the tests passed."""

    def __init__(self):
        self.outcomes = {}

    def pytest_runtest_logreport(self, report):
        found = dict(report.user_properties)
        if report.when == "call" and "operation" in found:
            name, library = found["operation"]
            outcome = "tested" if report.passed else report.outcome
            if reason := NOT_APPLICABLE.get((name, library)):
                outcome = f"not applicable: {reason}"
            if library == "dask" and name in COMPUTED_BY_DASK:
                outcome += f", at once: {COMPUTED_BY_DASK[name]}"
            self.outcomes.setdefault(name, {}).setdefault(library, set()).add(outcome)

    def print(self, others):
        libraries = list(dict.fromkeys(name for row in self.outcomes.values() for name in row))
        print("| function |", " | ".join(libraries), "|")
        print("|---|", "---|" * len(libraries), sep="")
        for name, row in self.outcomes.items():
            cells = [", ".join(sorted(row.get(library, ["not run"]))) for library in libraries]
            print(f"| `{name}` |", " | ".join(cells), "|")
        for name, reason in others.items():
            print(f"| `{name}` |", " | ".join([f"not applicable: {reason}"] * len(libraries)), "|")


if __name__ == "__main__":
    import conftest

    table = Table()
    pytest.main([__file__, "-q", "-k", "test_same_as_numpy", *sys.argv[1:]], plugins=[table])
    table.print(conftest.NO_ARRAYS)
