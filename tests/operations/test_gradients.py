"""Gradients of every operation against finite differences of its values."""

import math

import numpy as np
import pytest

from metatensor import Labels, TensorBlock, TensorMap, testing


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


@pytest.mark.parametrize("xp", ["numpy", "torch"], indirect=True)
def test_gradients_of_complex_numbers(rule, xp, record_property):
    parts = {
        "asarray": xp.asarray,
        "n_components": rule.components[-1],
        "gradients": ("positions", "strain"),
        "dtype": np.complex128,
    }
    if rule.complex:
        record_property("deviations", deviations(rule, rule.kinds, **parts))
        return
    with pytest.raises(TypeError, match="complex"):
        rule.call(*rule.arguments(**parts))


def with_gradient(tensor, gradient):
    """Return the tensor, of its second block if it is a map, with another gradient."""
    if gradient is None:
        return tensor
    if isinstance(tensor, TensorMap):
        key = Labels(tensor.keys.names, tensor.keys.values[1:2])
        return TensorMap(key, [with_gradient(tensor.block(1), gradient)])
    block = TensorBlock(tensor.values, tensor.samples, tensor.components, tensor.properties)
    block.add_gradient("positions", gradient)
    return block


def gradient_with_gradient(tensor, seed):
    """Return the gradient of a tensor, of its second block if it is a map, with a gradient."""
    block = tensor.block(1) if isinstance(tensor, TensorMap) else tensor
    if not block.has_gradient("positions"):
        return None
    gradient = block.gradient("positions").copy()
    rows = [[sample, cell] for sample in range(0, len(gradient), 2) for cell in (1, 0)]
    components = [Labels.range("abc", 2), *gradient.components]
    shape = (len(rows), *map(len, components), len(gradient.properties))
    second = TensorBlock(
        np.random.default_rng(seed).normal(size=shape),
        Labels(["sample", "cell"], np.array(rows)),
        components,
        gradient.properties,
    )
    gradient.add_gradient("cell", second)
    return gradient


def test_gradients_of_gradients(rule, record_property):
    """Those of linear operations are derivatives of the gradients, other operations raise."""
    tensors = rule.arguments(kind=rule.kinds[0], n_components=rule.components[-1], sizes=(3, 3, 0))
    gradients = [gradient_with_gradient(tensor, seed) for seed, tensor in enumerate(tensors)]

    def gradient_of_result(*moved):
        moving = iter(moved)
        result = rule.call(
            *[
                tensor if gradient is None else with_gradient(tensor, next(moving))
                for tensor, gradient in zip(tensors, gradients)
            ]
        )
        block = result.block(0) if isinstance(result, TensorMap) else result
        return block.gradient("positions")

    given = [gradient for gradient in gradients if gradient is not None]
    if rule.linear:
        found = testing._deviations(gradient_of_result, *given, parameters=["cell"])
        record_property("deviations", list(found.values()))
        return
    with pytest.raises(NotImplementedError, match=f"`{rule.name}` .* gradients of gradients"):
        gradient_of_result(*given)
