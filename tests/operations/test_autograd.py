"""Automatic differentiation through operations: through values, and through stored gradients."""

import numpy as np
import pytest

from metatensor import TensorBlock, TensorMap


def arrays_of(tensor):
    """Return the values and those of the gradients, of every block."""
    if isinstance(tensor, TensorMap):
        return [array for block in tensor for array in arrays_of(block)]
    gradients = [array for _, block in tensor.gradients() for array in arrays_of(block)]
    return [tensor.values, *gradients]


def with_arrays(tensor, arrays):
    """Return a tensor with other arrays, taken from an iterator."""
    if isinstance(tensor, TensorMap):
        return TensorMap(tensor.keys, [with_arrays(block, arrays) for block in tensor])
    block = TensorBlock(next(arrays), tensor.samples, tensor.components, tensor.properties)
    for parameter, gradient in tensor.gradients():
        block.add_gradient(parameter, with_arrays(gradient, arrays))
    return block


def number_of(rule, arguments, module):
    """Return the arrays of the arguments, and a function of them: all numbers of the result."""
    rng = np.random.default_rng(0)
    weights = [
        module.asarray(rng.normal(size=tuple(array.shape)))
        for array in arrays_of(rule.call(*arguments))
    ]

    def number(*arrays):
        remaining = iter(arrays)
        result = rule.call(*[with_arrays(tensor, remaining) for tensor in arguments])
        terms = [(weight * array).sum() for weight, array in zip(weights, arrays_of(result))]
        return sum(terms[1:], terms[0])

    return [array for tensor in arguments for array in arrays_of(tensor)], number


@pytest.mark.parametrize("kind", ["block", "map"])
def test_torch(rule, kind):
    torch = pytest.importorskip("torch")
    if kind not in rule.kinds or rule.name == "detach":
        pytest.skip(f"is not for a {kind}, or cuts the graph")
    arguments = rule.arguments(
        asarray=torch.asarray, kind=kind, n_components=rule.components[-1], sizes=(3, 2)
    )
    arrays, number = number_of(rule, arguments, torch)
    inputs = [array.requires_grad_() for array in arrays]
    assert torch.autograd.gradcheck(number, inputs, fast_mode=True)


def test_jax(rule):
    jax = pytest.importorskip("jax")
    test_util = pytest.importorskip("jax.test_util")
    if rule.name == "detach":
        pytest.skip("cuts the graph")
    arguments = rule.arguments(
        asarray=jax.numpy.asarray, kind=rule.kinds[0], n_components=rule.components[0]
    )
    arrays, number = number_of(rule, arguments, jax.numpy)
    test_util.check_grads(jax.jit(number), arrays, order=1, modes=["rev"])
