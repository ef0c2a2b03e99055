"""Maps as buffers of modules, and batches of maps."""

import copy
import io
import pickle
from collections import namedtuple

import numpy as np
import pytest
import torch

import metatensor
import metatensor.torch as mts
from metatensor.learn.nn import Module
from metatensor.torch import BufferMap, Labels, TensorBlock, TensorMap

NAMES = [
    "block_0",
    "block_0_gradient_0",
    "block_0_gradient_0_gradient_0",
    "block_1",
    "block_1_gradient_0",
    "block_1_gradient_0_gradient_0",
]


def make_map(seed=0, library="torch", gradient_name="positions", first_sample=0, info="eV"):
    """Two blocks with components, whose gradients have gradients."""
    generator = torch.Generator().manual_seed(seed)
    properties, xyz = Labels.range("n", 2), Labels.range("xyz", 3)
    blocks = []
    for rows in (3, 2):
        samples = Labels("atom", torch.arange(rows)[:, None] + first_sample)
        block = TensorBlock(torch.rand(rows, 3, 2, generator=generator), samples, [xyz], properties)
        one = Labels("sample", torch.tensor([[0]]))
        gradient = TensorBlock(torch.rand(1, 3, 2, generator=generator), one, [xyz], properties)
        gradient.add_gradient("h", 2 * gradient)
        block.add_gradient(gradient_name, gradient)
        blocks.append(block)
    tensor = TensorMap(Labels("k", torch.tensor([[1], [6]])), blocks)
    tensor.set_info("unit", info)
    return tensor._map(None, lambda labels: labels.to(arrays=library))


def labels_of(tensor):
    block = tensor.block(0)
    gradient = block.gradient(block.gradients_list()[0])
    return [tensor.keys, block.samples, *block.components, block.properties, gradient.samples]


class Model(torch.nn.Module):
    """A module with a map inside another one."""

    def __init__(self, tensor, persistent=True):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.shift = BufferMap(tensor, persistent)

    def forward(self, tensor):
        return tensor + self.shift()


def through_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_values_are_buffers():
    tensor = make_map()
    module = BufferMap(tensor)
    assert [name for name, _ in module.named_buffers()] == NAMES
    assert list(module.parameters()) == []
    assert list(module.state_dict()) == [*NAMES, "_extra_state"]
    held = module()
    assert held == tensor
    assert held.info() == tensor.info()
    for here, there in zip(held, tensor, strict=True):
        assert here.values is there.values
        assert here.gradient("positions").values is there.gradient("positions").values
    assert held.block(0).is_view
    assert repr(module) == "BufferMap(2 blocks, keys=['k'])"
    with torch.no_grad():
        module.block_0.zero_()
    assert not module().block(0).values.any()


def test_components_and_operations():
    tensor = make_map()
    model = Model(tensor)
    assert model(tensor) == tensor + tensor
    assert model.shift().keys_to_samples.__self__.keys == tensor.keys


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_moves(library):
    tensor = make_map(library=library)
    model = Model(tensor).double()
    assert model.shift() == tensor.to(torch.float64)
    assert all(buffer.dtype == torch.float64 for buffer in model.buffers())
    model = model.to(torch.float32)
    kind = np.ndarray if library == "numpy" else torch.Tensor
    assert all(isinstance(labels.values, kind) for labels in labels_of(model.shift()))
    model.to("meta")
    assert all(buffer.device.type == "meta" for buffer in model.buffers())
    model.to_empty(device="cpu")
    assert all(str(labels.device) == "cpu" for labels in labels_of(model.shift()))
    assert model.shift().keys == tensor.keys


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_moves_to_gpu():
    tensor = make_map()
    model = Model(tensor).cuda()
    assert all(labels.device.type == "cuda" for labels in labels_of(model.shift()))
    assert model.shift().cpu() == tensor
    state = model.state_dict()
    Model(make_map(seed=1)).load_state_dict(state)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("assign", [False, True])
def test_state_dicts_are_loaded(library, assign):
    model, other = Model(make_map()), Model(make_map(seed=1, library=library, info="Ha"))
    state = through_file(model.state_dict())
    assert other.shift() != model.shift()
    missing, unexpected = other.load_state_dict(state, assign=assign)
    assert not missing
    assert not unexpected
    assert other.shift() == model.shift()
    assert other.shift().info() == {"unit": "eV"}
    kind = np.ndarray if library == "numpy" else torch.Tensor
    assert all(isinstance(labels.values, kind) for labels in labels_of(other.shift()))


def test_state_dicts_are_tensors_and_plain_python():
    state = Model(make_map()).state_dict()
    assert all(isinstance(state[f"shift.{name}"], torch.Tensor) for name in NAMES)

    def check(part):
        if isinstance(part, (list, tuple)):
            for inner in part:
                check(inner)
        elif isinstance(part, dict):
            check(list(part.items()))
        else:
            assert type(part) in (str, torch.Tensor)

    check(state["shift._extra_state"])


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"first_sample": 1}, "samples"),
        ({"gradient_name": "strain"}, "gradients"),
    ],
)
def test_other_labels_are_refused_and_nothing_is_loaded(change, where):
    model, other = Model(make_map()), Model(make_map(seed=1, **change))
    before = copy.deepcopy(other.shift())
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=f"Labels of shift must .* differ in the {where}"):
            other.load_state_dict(model.state_dict(), strict=strict)
        assert other.shift() == before


def _without_block(tensor):
    return mts.drop_blocks(tensor, Labels("k", torch.tensor([[6]])))


@pytest.mark.parametrize(
    "change",
    [
        _without_block,
        metatensor.remove_gradients,
        lambda tensor: tensor.components_to_properties("xyz"),
        lambda tensor: mts.rename_dimension(tensor, "keys", "k", "q"),
        lambda tensor: mts.slice(tensor, "properties", Labels("n", torch.tensor([[1]]))),
    ],
)
def test_other_structures_are_refused(change):
    state, other = BufferMap(make_map()).state_dict(), BufferMap(change(make_map()))
    with pytest.raises(RuntimeError, match="Labels of this BufferMap must"):
        other.load_state_dict(state)
    with pytest.raises(RuntimeError, match="Labels of this BufferMap must"):
        BufferMap(make_map()).load_state_dict(other.state_dict())


@pytest.mark.parametrize("wrong", [None, {}, {"keys": 3}, {"keys": 3, "blocks": [], "info": {}}])
def test_states_that_are_none_are_refused(wrong):
    module = BufferMap(make_map())
    with pytest.raises(RuntimeError, match="Labels of this BufferMap must"):
        module.load_state_dict({**module.state_dict(), "_extra_state": wrong})


def test_incomplete_state_dicts_are_refused():
    model = Model(make_map())
    for name in ("shift.block_1", "shift._extra_state"):
        state = model.state_dict()
        del state[name]
        with pytest.raises(RuntimeError, match=f"Missing key.*{name}"):
            model.load_state_dict(state)
        assert model.load_state_dict(state, strict=False).missing_keys == [name]


def test_what_is_not_persistent_is_in_no_state_dict():
    model = Model(make_map(), persistent=False)
    assert list(model.state_dict()) == ["weight"]
    other = Model(make_map(seed=1), persistent=False)
    other.load_state_dict(model.state_dict())
    assert other.shift() == make_map(seed=1)
    assert model.double().shift() == make_map().to(torch.float64)


@pytest.mark.parametrize(
    "again",
    [
        copy.deepcopy,
        copy.copy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: torch.load(_saved(model), weights_only=False),
    ],
)
def test_modules_are_copied(again):
    model = Model(make_map())
    copied = again(model)
    assert copied.shift() == model.shift()
    assert copied.shift().info() == {"unit": "eV"}
    copied.load_state_dict(model.state_dict())
    assert copied.double().shift().dtype == torch.float64


def _saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return file


def test_deep_copies_share_no_values():
    model = Model(make_map())
    copied = copy.deepcopy(model)
    copied.shift.block_0.zero_()
    assert model.shift() == make_map()


def test_copies_of_values_in_flight_keep_their_record():
    weight = torch.ones((), requires_grad=True)
    module = BufferMap(make_map() * weight)
    sum(block.values.sum() for block in module()).backward()
    assert torch.isclose(weight.grad, sum(block.values.sum() for block in make_map()))


def test_functional_calls_see_other_values():
    tensor = make_map()
    model = Model(tensor)
    twice = {f"shift.{name}": 2 * value for name, value in model.shift.named_buffers()}
    result = torch.func.functional_call(model, twice, (tensor,))
    assert mts.allclose(result, 3 * tensor)
    assert model.shift() == tensor


def test_maps_without_blocks():
    module = BufferMap(TensorMap(Labels.empty("k"), [])).double()
    assert len(module()) == 0
    BufferMap(TensorMap(Labels.empty("k"), [])).load_state_dict(through_file(module.state_dict()))


def test_blocks_without_samples():
    tensor = mts.slice(make_map(), "samples", Labels.empty("atom"))
    module = BufferMap(tensor)
    module.load_state_dict(through_file(module.state_dict()))
    assert module.half()() == tensor.to(torch.float16)


@pytest.mark.parametrize("what", ["numpy", "block", "text"])
def test_what_is_no_map_of_torch_is_refused(what):
    tensor = make_map()
    wrong = {"numpy": tensor.to(arrays="numpy"), "block": tensor.block(0), "text": "tensor"}[what]
    with pytest.raises(TypeError, match="`tensor` must"):
        BufferMap(wrong)


def test_beside_modules_with_labelled_buffers():
    class Both(Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("types", Labels.range("type", 2))
            self.shift = BufferMap(make_map())

    module = Both().double()
    module.load_state_dict(through_file(Both().double().state_dict()))
    assert module.types == Labels.range("type", 2)


def test_data_parallel_modules(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1
    )
    try:
        tensor = make_map()
        model = torch.nn.parallel.DistributedDataParallel(Model(tensor))
        assert model(tensor) == tensor + tensor
        names = [f"module.shift.{name}" for name in NAMES]
        assert list(model.state_dict()) == ["module.weight", *names, "module.shift._extra_state"]
        model.load_state_dict(through_file(model.state_dict()))
    finally:
        torch.distributed.destroy_process_group()


# ---- batches


def samples_of(system, keys=(1,)):
    blocks = []
    for _ in keys:
        labels = Labels(["system", "atom"], torch.tensor([[system, 0], [system, 1]]))
        values = torch.full((2, 1), float(system))
        blocks.append(TensorBlock(values, labels, [], Labels.range("n", 1)))
    return TensorMap(Labels("k", torch.tensor([[key] for key in keys])), blocks)


Sample = namedtuple("Sample", ["x", "y"])


@pytest.mark.parametrize("workers", [0, 1])
def test_maps_are_batched(workers):
    loader = torch.utils.data.DataLoader(
        [samples_of(system) for system in range(5)],
        batch_size=2,
        collate_fn=mts.collate,
        num_workers=workers,
        # other tests have started jax, whose threads a fork would lose
        multiprocessing_context="spawn" if workers else None,
    )
    systems = [batch.block().samples.column("system").tolist() for batch in loader]
    assert systems == [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4]]


@pytest.mark.parametrize(
    "make",
    [
        lambda *parts: parts,
        lambda *parts: list(parts),
        lambda *parts: Sample(*parts),
        lambda *parts: {"x": parts[0], "y": parts[1]},
        lambda *parts: {"x": parts[0], "y": [parts[1]]},
    ],
)
def test_containers_are_batched(make):
    batch = mts.collate([make(samples_of(system), float(system)) for system in (3, 4)])
    expected = make(
        mts.join([samples_of(3), samples_of(4)], "samples"),
        torch.tensor([3.0, 4.0], dtype=torch.float64),
    )
    assert type(batch) is type(expected)
    for here, there in zip(leaves(batch), leaves(expected), strict=True):
        assert torch.equal(here, there) if isinstance(here, torch.Tensor) else here == there


def leaves(batch):
    if isinstance(batch, dict):
        batch = list(batch.values())
    if not isinstance(batch, (list, tuple)):
        return [batch]
    return [leaf for part in batch for leaf in leaves(part)]


def test_blocks_labels_and_the_rest_are_batched():
    block = samples_of(1).block()
    joined = mts.collate([block, samples_of(2).block()])
    assert joined == mts.join([block, samples_of(2).block()], "samples")
    assert mts.collate([Labels.single(), Labels.range("a", 1)])[1] == Labels.range("a", 1)
    assert mts.collate(["a", "b"]) == ["a", "b"]
    assert mts.collate([torch.zeros(3), torch.ones(3)]).shape == (2, 3)
    assert mts.collate([np.zeros(3), np.ones(3)]).shape == (2, 3)


def test_keys_that_not_all_maps_have():
    maps = [samples_of(0, (1, 2)), samples_of(1, (2,))]
    with pytest.raises(metatensor.NotEqualError):
        mts.collate(maps)
    assert len(mts.collate([(part,) for part in maps], different_keys="union")[0]) == 2
    again = mts.collate([samples_of(0), samples_of(0)], add_dimension="copy")
    assert again.sample_names == ["system", "atom", "copy"]


def test_samples_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="zip"):
        mts.collate([(1, 2), (1,)])
