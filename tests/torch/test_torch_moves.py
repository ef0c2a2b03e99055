"""Blocks and maps that move, and start or end records of torch, as tensors do."""

import numpy as np
import pytest
import torch

import metatensor
import metatensor.torch as mts
from metatensor.torch import Labels, TensorBlock, TensorMap


def make(asarray=torch.tensor):
    """A map whose block has a gradient, which has one itself."""
    properties = Labels.range("n", 2)
    block = TensorBlock(asarray([[1.0, 2.0], [3.0, 4.0]]), Labels.range("s", 2), [], properties)
    one = Labels("sample", torch.tensor([[0]]))
    gradient = TensorBlock(asarray([[0.5, 0.25]]), one, [], properties)
    gradient.add_gradient("h", TensorBlock(asarray([[7.0, 8.0]]), one, [], properties))
    block.add_gradient("g", gradient)
    tensor = TensorMap(Labels.single(), [block])
    tensor.set_info("unit", "eV")
    return tensor


def arrays(thing):
    """All the arrays of a map or block."""
    for block in thing.blocks() if isinstance(thing, TensorMap) else [thing]:
        yield block.values
        for _, gradient in block.gradients():
            yield from arrays(gradient)


BOTH = pytest.mark.parametrize("kind", ["map", "block"])


def thing_of(tensor, kind):
    return tensor if kind == "map" else tensor.block()


@BOTH
@pytest.mark.parametrize("asarray", [np.array, torch.tensor])
def test_cpu(kind, asarray):
    thing = thing_of(make(asarray), kind)
    moved = thing.cpu()
    assert moved == thing
    assert moved is not thing
    for here, there in zip(arrays(thing), arrays(moved), strict=True):
        assert here is there
    if kind == "map":
        assert moved.info() == {"unit": "eV"}


@BOTH
def test_cuda_of_numpy_says_what_to_do(kind):
    with pytest.raises(ValueError, match="use arrays='torch'"):
        thing_of(make(np.array), kind).cuda()


@BOTH
@pytest.mark.parametrize("device", [None, 0, "cuda:0", torch.device("cuda", 0)])
def test_cuda(kind, device):
    thing = thing_of(make(), kind)
    if not torch.cuda.is_available():
        with pytest.raises((AssertionError, RuntimeError), match="CUDA|cuda|NVIDIA"):
            thing.cuda(device)
        return
    moved = thing.cuda(device, non_blocking=True)
    assert all(array.device == torch.device("cuda", 0) for array in arrays(moved))
    block = moved.block() if kind == "map" else moved
    assert block.samples.device == torch.device("cuda", 0)
    assert block.samples.select(Labels("s", torch.tensor([[1]]))).device.type == "cuda"
    assert moved.cpu() == thing


@BOTH
def test_detach(kind):
    thing = thing_of(make().requires_grad_() * 2.0, kind)
    detached = thing.detach()
    assert detached == thing
    for here, there in zip(arrays(thing), arrays(detached), strict=True):
        assert here.requires_grad
        assert not there.requires_grad
        assert here.data_ptr() == there.data_ptr()
    of_numpy = thing_of(make(np.array), kind)
    for here, there in zip(arrays(of_numpy), arrays(of_numpy.detach()), strict=True):
        assert here is there


@BOTH
def test_requires_grad_is_set_on_the_tensors_themselves(kind):
    thing = thing_of(make(), kind)
    before = list(arrays(thing))
    assert thing.requires_grad_() is thing
    for here, there in zip(before, arrays(thing), strict=True):
        assert here is there
        assert here.requires_grad
        assert here.is_leaf
    sum(array.sum() for array in arrays(thing)).backward()
    assert all(torch.equal(array.grad, torch.ones_like(array)) for array in before)
    assert not any(array.requires_grad for array in arrays(thing.requires_grad_(False)))


@BOTH
def test_requires_grad_that_is_refused(kind):
    of_numpy = thing_of(make(np.array), kind)
    with pytest.raises(TypeError, match=r"got numpy; use `.to\(arrays='torch'\)`"):
        of_numpy.requires_grad_()
    assert of_numpy.requires_grad_(False) is of_numpy
    with pytest.raises(RuntimeError, match="floating point"):
        thing_of(make().to(torch.int64), kind).requires_grad_()
    with pytest.raises(RuntimeError, match="leaf"):
        thing_of(make().requires_grad_() * 2.0, kind).requires_grad_(False)


CPU = torch.device("cpu")


@BOTH
@pytest.mark.parametrize(
    ("arguments", "keywords", "dtype"),
    [
        ((), {}, torch.float32),
        ((torch.float64,), {}, torch.float64),
        (("cpu",), {}, torch.float32),
        (("cpu", torch.float64), {}, torch.float64),
        ((torch.float64, CPU), {}, torch.float64),
        ((CPU, torch.float64, True), {}, torch.float64),
        ((torch.float64, True), {}, torch.float64),
        ((), {"dtype": torch.float64, "device": CPU, "non_blocking": True}, torch.float64),
        ((CPU,), {"dtype": torch.float64, "arrays": "torch"}, torch.float64),
        ((torch.zeros(1, dtype=torch.float64),), {}, torch.float64),
        ((make().to(torch.float64),), {}, torch.float64),
        ((None, None), {"copy": True}, torch.float32),
    ],
    ids=repr,
)
def test_to_takes_what_that_of_torch_takes(kind, arguments, keywords, dtype):
    thing = thing_of(make(), kind)
    moved = thing.to(*arguments, **keywords)
    copied = keywords.get("copy", False) or dtype != torch.float32
    for here, there in zip(arrays(thing), arrays(moved), strict=True):
        assert there.dtype == dtype
        assert torch.equal(here.to(dtype), there)
        assert (here is not there) == copied
        assert (here.data_ptr() != there.data_ptr()) == copied


def test_copies_on_the_way_to_torch_share_nothing():
    tensor = make(np.array)
    shared, copied = tensor.to(arrays="torch"), tensor.to(arrays="torch", copy=True)
    tensor.block().values[0, 0] = 9.0
    assert shared.block().values[0, 0] == 9.0
    assert copied.block().values[0, 0] == 1.0


@pytest.mark.parametrize(
    ("arguments", "keywords", "error"),
    [
        (("cpu", "cpu"), {}, ValueError),
        ((torch.float32,), {"dtype": torch.float64}, ValueError),
        ((torch.float32, torch.zeros(1)), {}, ValueError),
        ((True, False), {}, ValueError),
        ((3,), {}, TypeError),
        (([],), {}, TypeError),
    ],
    ids=repr,
)
def test_to_refuses(arguments, keywords, error):
    with pytest.raises(error):
        make().to(*arguments, **keywords)


def test_labels_to():
    labels = Labels.range("a", 2)
    for moved in (labels.to("cpu", True), labels.to(device=CPU, non_blocking=True), labels.to()):
        assert moved is labels
    with pytest.raises(ValueError, match="always int32"):
        labels.to(torch.zeros(1))


def test_labels_follow_to_a_device():
    tensor = make()
    moved = tensor.to("meta")
    assert moved.block().values.device.type == "meta"
    assert moved.block().samples.device.type == "meta"
    assert moved.keys == tensor.keys
    flat = metatensor.remove_gradients(moved).keys_to_samples("_")
    assert flat.block().samples.device.type == "meta"


def test_moved_keys_take_options_by_position():
    block = make().block()
    tensor = TensorMap(Labels(["k"], torch.tensor([[3], [1]])), [block.copy(), block.copy()])
    tensor = metatensor.remove_gradients(tensor, "g")
    for name in ("keys_to_samples", "keys_to_properties"):
        move = getattr(tensor, name)
        assert move("k", 2.5, False) == move("k", fill_value=2.5, sort_samples=False)
    assert move("k", 2.5).info() == tensor.info()


def test_blocks_at_several_positions():
    block = make().block()
    tensor = TensorMap(Labels.range("k", 3), [block.copy() for _ in range(3)])
    tensor.block(2).values[:] = 0.0
    assert tensor.blocks([2, 0]) == [tensor.block(2), tensor.block(0)]
    assert tensor.blocks([]) == []
    assert mts.TensorMap.blocks(tensor, [1])[0] is tensor.block(1)
    with pytest.raises(IndexError):
        tensor.blocks([0, 3])
    for wrong in ([0.0], ["k"], [None]):
        with pytest.raises(TypeError):
            tensor.blocks(wrong)
    for access in (tensor.block, tensor.__getitem__):
        with pytest.raises(TypeError):
            access([0])
