"""Automatic differentiation through operations: through values, and through stored gradients."""

import numpy as np
import pytest


@pytest.fixture
def number_of(flatten):
    """Return arrays, and a function of them: one number, made of all numbers of a result."""

    def arrays_and_number(rule, arguments, asarray):
        arrays, build = flatten(arguments)
        rng = np.random.default_rng(0)
        weights = [
            asarray(rng.normal(size=tuple(array.shape)))
            for array in flatten(rule.call(*arguments))[0]
        ]

        def number(*arrays):
            results, _ = flatten(rule.call(*build(arrays)))
            return sum((weight * array).sum() for weight, array in zip(weights, results))

        return arrays, number

    return arrays_and_number


def test_torch(rule, number_of):
    torch = pytest.importorskip("torch")
    for kind in rule.kinds:
        arguments = rule.arguments(
            asarray=torch.asarray, kind=kind, n_components=rule.components[-1], sizes=(3, 2)
        )
        arrays, number = number_of(rule, arguments, torch.asarray)
        arrays = [array.requires_grad_() for array in arrays]
        if rule.name == "detach":
            assert not number(*arrays).requires_grad
        else:
            assert torch.autograd.gradcheck(number, arrays, fast_mode=True)


@pytest.mark.parametrize(
    "name", ["divide", "tanh", "std_over_samples", "norm_over_properties", "join_blocks", "einsum"]
)
def test_jax(name, rules, number_of):
    """Some of each theme, compiled, as compiling takes long."""
    jax = pytest.importorskip("jax")
    test_util = pytest.importorskip("jax.test_util")
    rule = next(rule for rule in rules if rule.name == name)
    arguments = rule.arguments(
        asarray=jax.numpy.asarray, n_components=rule.components[0], gradients=("positions",)
    )
    arrays, number = number_of(rule, arguments, jax.numpy.asarray)
    test_util.check_grads(jax.jit(number), arrays, order=1, modes=["rev"])
