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


@pytest.mark.parametrize("kind", ["block", "map"])
def test_torch(rule, kind, number_of):
    torch = pytest.importorskip("torch")
    if kind not in rule.kinds or rule.name == "detach":
        pytest.skip(f"is not for a {kind}, or cuts the graph")
    arguments = rule.arguments(
        asarray=torch.asarray, kind=kind, n_components=rule.components[-1], sizes=(3, 2)
    )
    arrays, number = number_of(rule, arguments, torch.asarray)
    arrays = [array.requires_grad_() for array in arrays]
    assert torch.autograd.gradcheck(number, arrays, fast_mode=True)


#: some of each theme, as jax takes its time to compile
WITH_JAX = ["divide", "tanh", "std_over_samples", "norm_over_properties", "join_blocks", "einsum"]


def test_jax(rule, number_of):
    jax = pytest.importorskip("jax")
    test_util = pytest.importorskip("jax.test_util")
    if rule.name not in WITH_JAX or rule.kinds[0] != "block":
        pytest.skip("not one of those tried with jax")
    arguments = rule.arguments(
        asarray=jax.numpy.asarray, n_components=rule.components[0], gradients=("positions",)
    )
    arrays, number = number_of(rule, arguments, jax.numpy.asarray)
    test_util.check_grads(jax.jit(number), arrays, order=1, modes=["rev"])
