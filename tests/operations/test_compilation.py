"""Every operation compiled by torch, without a break, and differentiated as a function of maps."""

import pytest
import torch

from metatensor import TensorBlock, TensorMap, testing

pytest.importorskip("metatensor.torch._dynamo", exc_type=ImportError)

from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

UNKNOWN_NUMBERS = ("empty_like", "random_uniform_like")
#: what torch can not compile, and what it says
REFUSED = {
    **dict.fromkeys(["allclose", "allclose_raise"], "a function of metatensor that failed"),
    **dict.fromkeys(["equal", "equal_raise"], "a function of metatensor that failed"),
    "insert_dimension": "unsupported type",  # an array of numbers for Labels as argument
    "lstsq": "DynamicOutputShapeException",
    "requires_grad": "Dynamo does not know",
}


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def arguments(operation, **parts):
    kind, n_components = operation.kinds[-1], operation.components[-1]
    return operation.arguments(
        asarray=torch.asarray, kind=kind, n_components=n_components, sizes=(3, 2), **parts
    )


def same(result, expected, numbers=True):
    if isinstance(expected, TensorBlock | TensorMap):
        if numbers:
            testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
        else:
            testing._assert_no_difference(result, expected, None)
    else:
        assert type(result) is type(expected)
        assert torch.equal(result, expected) if torch.is_tensor(expected) else result == expected


def test_compiled(some_operation):
    name = some_operation.name
    given = arguments(some_operation, gradients=("positions",))
    compiled = torch.compile(some_operation.call, fullgraph=True, backend="aot_eager")
    if name in REFUSED:
        with pytest.raises(torch._dynamo.exc.Unsupported, match=REFUSED[name]):
            compiled(*given)
    else:
        same(compiled(*given), some_operation.call(*given), name not in UNKNOWN_NUMBERS)


def test_functions_of_maps_are_differentiated(rule):
    first, *others = arguments(rule)

    def number(first):
        return sum((leaf**2).sum() for leaf in tree_leaves(rule.call(first, *others)))

    leaves, structure = tree_flatten(first)
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    loss = number(tree_unflatten(leaves, structure))
    expected = [torch.zeros_like(leaf) for leaf in leaves]
    if loss.requires_grad:
        expected = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    same(torch.func.grad(number)(first), tree_unflatten(expected, structure))
