"""Gradients of every operation against finite differences of its values."""

import math

import pytest

from metatensor import testing


def deviations(rule, kinds, **parts):
    found = []
    for kind in kinds:
        arguments = rule.arguments(kind=kind, **parts)
        parameters = [name for name in rule.gradients if name in parts["gradients"]]
        found += testing._deviations(rule.call, *arguments, parameters=parameters).values()
    assert all(map(math.isfinite, found))
    return found


@pytest.mark.parametrize(
    "xp", ["numpy", "numpy-readonly", "torch", "array_api_strict"], indirect=True
)
def test_gradients_are_derivatives(rule, n_components, rows, xp, record_property):
    found = deviations(
        rule,
        rule.kinds,
        asarray=xp.asarray,
        n_components=n_components,
        rows=rows,
        gradients=("positions", "strain"),
    )
    record_property("deviations", found)


@pytest.mark.parametrize("xp", ["jax"], indirect=True)
def test_gradients_are_derivatives_with_jax(rule, n_components, rows, xp, slow, record_property):
    """With fewer arrays, as it compiles for each shape."""
    found = deviations(
        rule,
        rule.kinds[:1],
        asarray=xp.asarray,
        n_components=n_components,
        rows=rows,
        gradients=("positions",),
    )
    record_property("deviations", found)
