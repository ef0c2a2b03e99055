"""How arrays lie in memory."""

import numpy as np
import pytest

import metatensor
from metatensor import Labels, TensorBlock, TensorMap


def make_block(values, gradient, second):
    """Return a block with a gradient and a gradient of that, of shapes (3, 3)."""
    rows, properties = Labels.range("sample", 3), Labels.range("p", 3)
    inner = TensorBlock(gradient, rows, [], properties)
    inner.add_gradient("h", TensorBlock(second, rows, [], properties))
    block = TensorBlock(values, rows, [], properties)
    block.add_gradient("g", inner)
    return block


def arrays(block):
    gradient = block.gradient("g")
    return [block.values, gradient.values, gradient.gradient("h").values]


ORDERS = {
    "C": (lambda values: values, True),
    "read-only": (lambda values: np.frombuffer(values.tobytes()).reshape(3, 3), True),
    "Fortran": (np.asfortranarray, False),
    "reversed": (lambda values: values[::-1], False),
    "a part": (lambda values: np.repeat(values, 2, axis=1)[:, ::2], False),
}


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("order", ORDERS)
def test_numpy(order, which):
    change, contiguous = ORDERS[order]
    given = [np.arange(9.0).reshape(3, 3) + place for place in range(3)]
    given[which] = change(given[which])
    block = make_block(*given)
    tensor = TensorMap(Labels.range("k", 2), [make_block(*map(np.zeros, [(3, 3)] * 3)), block])
    tensor.set_info("unit", "eV")
    assert metatensor.is_contiguous_block(block) is contiguous
    assert metatensor.is_contiguous(tensor) is contiguous
    made, made_map = metatensor.make_contiguous_block(block), metatensor.make_contiguous(tensor)
    assert metatensor.is_contiguous(made)
    assert metatensor.is_contiguous(made_map)
    assert metatensor.equal(made, block)
    assert metatensor.equal(made_map, tensor)
    assert made_map.info() == {"unit": "eV"}
    for place, (array, before) in enumerate(zip(arrays(made), given, strict=True)):
        assert (array is before) is (contiguous or place != which)
    assert block.values is given[0]


def test_every_library(xp):
    block = make_block(*(xp.asarray(np.arange(9.0).reshape(3, 3)) for _ in range(3)))
    assert metatensor.is_contiguous(block) is (xp.name != "numpy-strided")
    made = metatensor.make_contiguous(block)
    assert metatensor.is_contiguous(made)
    assert metatensor.equal(made, block)
    assert type(made.values) is type(block.values)


def test_torch():
    torch = pytest.importorskip("torch")
    values = torch.arange(9.0).reshape(3, 3).requires_grad_()
    block = make_block(values.T, values, values)
    assert not metatensor.is_contiguous(block)
    made = metatensor.make_contiguous(block)
    assert made.values.is_contiguous()
    assert made.gradient("g").values is values
    made.values[0].sum().backward()
    assert values.grad.tolist() == [[1, 0, 0]] * 3


def test_without_blocks():
    empty = TensorMap(Labels.empty("k"), [])
    assert metatensor.is_contiguous(empty)
    assert metatensor.make_contiguous(empty).keys == empty.keys


@pytest.mark.parametrize("form", ["is_contiguous", "make_contiguous"])
def test_only_tensors(form):
    with pytest.raises(TypeError, match="`tensor` must be a metatensor TensorMap or TensorBlock"):
        getattr(metatensor, form)(np.zeros((2, 2)))
