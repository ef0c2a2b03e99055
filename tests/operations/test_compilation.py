"""Every operation compiled by torch, without a break, and differentiated as a function of maps."""

import pytest

from metatensor import TensorBlock, TensorMap, operations, testing

torch = pytest.importorskip("torch")
pytest.importorskip("metatensor.torch")

#: what is told from numbers, or must be made of them, is not known while a function is traced
NEEDS_NUMBERS = {
    "equal",
    "equal_raise",
    "allclose",
    "allclose_raise",
    "block_from_array",
    "one_hot",
}
UNKNOWN_NUMBERS = ("empty_like", "random_uniform_like")


def arguments(operation, **parts):
    return operation.arguments(
        asarray=torch.asarray,
        kind=operation.kinds[-1],
        n_components=operation.components[-1],
        **parts,
    )


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def same(result, expected, numbers=True):
    if isinstance(expected, TensorBlock | TensorMap):
        if numbers:
            testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
        else:
            testing._assert_no_difference(result, expected, None)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(result, expected)
    else:
        assert type(result) is type(expected)
        assert result == expected


def test_compiled(any_operation):
    given = arguments(any_operation, sizes=(3, 2), gradients=("positions",))
    compiled = torch.compile(any_operation.call, fullgraph=True, backend="aot_eager")
    expected = any_operation.call(*given)
    same(compiled(*given), expected, any_operation.name not in UNKNOWN_NUMBERS)


def test_gradients_of_functions_of_maps(rule):
    given = arguments(rule, sizes=(3, 2))

    def number(first):
        result = rule.call(first, *given[1:])
        return sum((leaf**2).sum() for leaf in torch.utils._pytree.tree_leaves(result))

    gradient = torch.func.grad(number)(given[0])
    leaves, structure = torch.utils._pytree.tree_flatten(given[0])
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    loss = number(torch.utils._pytree.tree_unflatten(leaves, structure))
    if loss.requires_grad:
        expected = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    else:
        expected = [torch.zeros_like(leaf) for leaf in leaves]
    same(gradient, torch.utils._pytree.tree_unflatten(expected, structure))
