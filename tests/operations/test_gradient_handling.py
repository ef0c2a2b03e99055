"""Gradients that are left out, and what torch and jax record."""

import numpy as np
import pytest

import metatensor
from metatensor import Labels, TensorBlock, TensorMap


def labels(names, rows):
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), -1))


def make_block(asarray=np.asarray):
    properties = Labels.range("p", 3)
    block = TensorBlock(asarray(np.ones((2, 3))), labels("s", [3, -1]), [], properties)
    for name in ("g", "other"):
        samples = labels(["sample", "atom"], [[1, 9]])
        gradient = TensorBlock(asarray(np.ones((1, 3))), samples, [], properties)
        gradient.add_gradient(
            "h", TensorBlock(asarray(np.ones((1, 3))), labels("sample", [0]), [], properties)
        )
        block.add_gradient(name, gradient)
    return block


def parts(block):
    """Return a block, its gradients and theirs."""
    return [block, *(part for _, gradient in block.gradients() for part in parts(gradient))]


def make_tensor(asarray=np.asarray):
    tensor = TensorMap(labels("k", [4, -4]), [make_block(asarray), make_block(asarray)])
    tensor.set_info("unit", "eV")
    return tensor


@pytest.mark.parametrize(
    ("remove", "kept"),
    [
        (None, []),
        ([], ["g", "other"]),
        ("g", ["other"]),
        (["other"], ["g"]),
        (("g", "other", "absent"), []),
        ("absent", ["g", "other"]),
    ],
)
def test_remove_gradients(xp, remove, kept):
    tensor = make_tensor(xp.asarray)
    result = metatensor.remove_gradients(tensor, remove)
    assert metatensor.remove_gradients_block is metatensor.remove_gradients
    assert result.keys == tensor.keys
    assert result.info() == {"unit": "eV"}
    for block, given in zip(result, tensor, strict=True):
        assert block.values is given.values
        assert block.gradients_list() == kept
        assert given.gradients_list() == ["g", "other"]
        for name in kept:
            assert metatensor.equal(block.gradient(name), given.gradient(name))
            assert block.gradient(name).gradients_list() == ["h"]


def test_a_block_without_gradients_takes_new_ones():
    block = make_block()
    result = metatensor.remove_gradients(block)
    result.add_gradient("new", block.gradient("g"))
    assert result.gradients_list() == ["new"]
    assert block.gradients_list() == ["g", "other"]


def test_names_to_remove_must_be_names():
    with pytest.raises(TypeError, match="`remove` must be a str or a sequence of str"):
        metatensor.remove_gradients(make_block(), 3)


@pytest.mark.parametrize("form", ["detach", "requires_grad"])
def test_values_stay_the_same(xp, form):
    function = getattr(metatensor, form)
    assert getattr(metatensor, form + "_block") is function
    arguments = (False,) if form == "requires_grad" else ()
    for tensor in (make_block(xp.asarray), make_tensor(xp.asarray)):
        result = function(tensor, *arguments)
        assert metatensor.equal(result, tensor)
        if isinstance(tensor, TensorMap):
            assert result.info() == {"unit": "eV"}
    if xp.array_library == "numpy":
        block = make_block(xp.asarray)
        for part, given in zip(parts(function(block, *arguments)), parts(block), strict=True):
            assert part.values is given.values


def test_requires_grad_warns_where_it_does_nothing(xp):
    if xp.name == "torch":
        return
    tensor = make_tensor(xp.asarray)
    text = f"`requires_grad=True` does nothing for {xp.array_library} arrays"
    with pytest.warns(UserWarning, match=text) as caught:
        assert metatensor.equal(metatensor.requires_grad(tensor), tensor)
    assert caught[0].filename == __file__


def test_torch_records_from_here_on():
    torch = pytest.importorskip("torch")
    for tensor in (make_block(torch.as_tensor), make_tensor(torch.as_tensor)):
        result = metatensor.requires_grad(tensor)
        blocks = [result] if isinstance(result, TensorBlock) else list(result)
        givens = [tensor] if isinstance(tensor, TensorBlock) else list(tensor)
        for block, given in zip(blocks, givens, strict=True):
            assert len(parts(block)) == 5
            for part, before in zip(parts(block), parts(given), strict=True):
                assert part.values.requires_grad
                assert part.values.is_leaf
                assert not before.values.requires_grad
                assert part.values.data_ptr() == before.values.data_ptr()
        blocks[0].values.sum().backward()
        assert torch.equal(blocks[0].values.grad, torch.ones(2, 3, dtype=torch.float64))


def test_torch_says_what_is_lost():
    torch = pytest.importorskip("torch")
    start = torch.ones(2, 3, requires_grad=True)
    block = metatensor.block_from_array(2 * start)
    with pytest.warns(UserWarning, match="detached from what led to them") as caught:
        result = metatensor.requires_grad(block)
    assert caught[0].filename == __file__
    assert result.values.is_leaf
    assert result.values.requires_grad
    assert not metatensor.requires_grad(block, False).values.requires_grad
    assert block.values.requires_grad


def test_torch_history_ends_at_detach():
    torch = pytest.importorskip("torch")
    start = torch.ones(2, 3, requires_grad=True)
    block = make_block(lambda values: torch.as_tensor(values) * start[0, 0])
    for part, given in zip(parts(metatensor.detach(block)), parts(block), strict=True):
        assert not part.values.requires_grad
        assert given.values.requires_grad
        assert part.values.data_ptr() == given.values.data_ptr()


def test_jax_gradients_stop_at_detach():
    jax = pytest.importorskip("jax")

    def total(values, keep):
        block = metatensor.block_from_array(values)
        return ((block if keep else metatensor.detach(block)).values ** 2).sum()

    ones = jax.numpy.ones((2, 3))
    assert float(jax.grad(total)(ones, True).sum()) == 12
    assert float(jax.grad(total)(ones, False).sum()) == 0


@pytest.mark.parametrize("form", ["remove_gradients", "detach", "requires_grad"])
def test_only_tensors(form):
    with pytest.raises(TypeError, match="`tensor` must be a metatensor TensorMap or TensorBlock"):
        getattr(metatensor, form)(np.zeros((2, 2)))
    empty = TensorMap(Labels.empty("k"), [])
    assert getattr(metatensor, form)(empty).keys == empty.keys
