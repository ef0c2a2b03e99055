"""Gradients of every operation against finite differences of its values."""

import pytest

from metatensor import testing

LIBRARIES = ["numpy", "numpy-readonly", "torch", "array_api_strict", "jax"]


@pytest.mark.parametrize("xp", LIBRARIES, indirect=True)
@pytest.mark.parametrize("rows", ["all", "some", "no"])
def test_gradients_are_derivatives(rule, n_components, rows, xp, record_property):
    kinds, gradients = rule.kinds, rule.gradients
    if xp.name == "jax":  # where each array that is made takes a hundred times longer
        kinds, gradients = kinds[-1:], gradients[:1]
    deviations = []
    for kind in kinds:
        arguments = rule.arguments(
            asarray=xp.asarray,
            kind=kind,
            n_components=n_components,
            rows=rows,
            gradients=gradients,
        )
        found = testing._deviations(rule.call, *arguments, parameters=gradients)
        deviations += found.values()
    record_property("deviations", deviations)
