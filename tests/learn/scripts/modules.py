"""A module of one's own, with Labels, blocks and maps that move with it and are saved with it."""

import io

import numpy as np
import torch

import metatensor
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.learn import Linear, ModuleMap
from metatensor.learn.nn import Buffer, Module

keys = Labels(["center_type"], np.array([[1], [6], [8]], dtype=np.int32))
one = Labels(["_"], np.array([[0]], dtype=np.int32))
energy = Labels(["energy"], np.array([[0]], dtype=np.int32))


def labels(name, size):
    return Labels([name], np.arange(size, dtype=np.int32)[:, None])


def make_block(values, name="system"):
    values = torch.as_tensor(values, dtype=torch.float64)
    return TensorBlock(values, labels(name, values.shape[0]), [], labels("n", values.shape[1]))


def make_map(seed, rows=3, columns=2):
    rng = np.random.default_rng(seed)
    blocks = [make_block(rng.normal(size=(rows, columns))) for _ in keys]
    for block in blocks:
        gradient = TensorBlock(
            torch.tensor(rng.normal(size=(2, 3, columns))),
            Labels(["sample", "atom"], np.array([[0, 1], [rows - 1, 0]], dtype=np.int32)),
            [labels("xyz", 3)],
            block.properties,
        )
        block.add_gradient("positions", gradient)
    return TensorMap(keys, blocks)


class Model(Module):
    """Standardizes features and sums up what linear layers give, with a constant."""

    def __init__(self, mean, scales, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.register_buffer("mean", mean)
        self.register_buffer("nothing", None)
        self.register_buffer("shift", torch.tensor(0.25, dtype=torch.float64))
        self.register_buffer("passing", make_block([[1.0, 2.0]]), persistent=False)
        self.register_buffer("empty", {"list": [], "labels": {"one": one}})
        self.scales = Buffer({"of each": scales, "deep": [{"keys": keys, "pair": (one, mean)}]})
        self.cache = Buffer([make_block([[3.0]])], persistent=False)
        self.left_behind = make_block([[4.0]])
        self.linear = Linear(keys, 2, out_properties=[energy] * len(keys), dtype=torch.float64)

    def forward(self, tensor):
        centered = metatensor.subtract(metatensor.remove_gradients(tensor), self.mean)
        scaled = metatensor.divide(centered, self.scales["of each"])
        blocks = [block.values for block in self.linear(scaled)]
        return torch.stack(blocks).sum(dim=0) + self.shift


def show_state(state):
    """Show names, and what is stored for metatensor data: tags and empty tensors."""
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            print(f"  {name}: {value.dtype} {tuple(value.shape)}")
        else:
            print(f"  {name}: {form_of(value)}")


def form_of(value):
    if isinstance(value, dict):
        return {name: form_of(part) for name, part in value.items()}
    if isinstance(value, tuple) and len(value) == 3 and isinstance(value[0], str):
        tag, content, empty = value
        return f"<{tag}, {type(content).__name__}, {empty.dtype} {empty.numel()}>"
    return type(value)(form_of(part) for part in value)


def kinds_of(module):
    """Show which dtypes the data of a module have."""
    scales = module.scales
    print(
        module._mts_helper.dtype,
        module.shift.dtype,
        module.nothing,
        [block.values.dtype for block in module.mean],
        module.mean.block(0).gradient("positions").values.dtype,
        module.passing.values.dtype,
        [block.values.dtype for block in scales["of each"]],
        scales["deep"][0]["pair"][1].block(1).values.dtype,
        module.cache[0].values.dtype,
        module.left_behind.values.dtype,
        module.empty["list"],
    )
    print(scales["deep"][0]["keys"] == keys, scales["deep"][0]["keys"].values.dtype)


mean = metatensor.remove_gradients(make_map(1))
scales = metatensor.abs(metatensor.remove_gradients(make_map(2)))
model = Model(make_map(1), scales, seed=3)
model.mean = mean  # registered data can be replaced
kinds_of(Model(make_map(1), scales, seed=3))
inputs = make_map(4)
print(np.round(model(inputs).detach().numpy()[:, 0], 6).tolist())
print("state")
show_state(model.state_dict())

print("files")
file = io.BytesIO()
torch.save(model.state_dict(), file)
file.seek(0)
other = Model(metatensor.zeros_like(mean), metatensor.ones_like(scales), seed=5)
print(torch.allclose(other(inputs), model(inputs)))
print(other.load_state_dict(torch.load(file, weights_only=True)))
print(torch.equal(other(inputs), model(inputs)))
print(metatensor.equal(other.mean, mean), metatensor.equal(other.scales["of each"], scales))
print(type(other.scales["deep"]).__name__, type(other.scales["deep"][0]["pair"]).__name__)

print("moved")
single = Model(make_map(1), scales, seed=3).to(torch.float32)
kinds_of(single)
show_state({"_extra_state": single.state_dict()["_extra_state"]})
kinds_of(single.half())
kinds_of(single.to(device="cpu", dtype=torch.float64))
double = Model(make_map(1), scales, seed=3)
double.load_state_dict(Model(make_map(1), scales, seed=3).to(torch.float32).state_dict())
print(double.mean.block(0).values.dtype, double.shift.dtype, double.linear.training)


class Outer(torch.nn.Module):
    """A module of torch around modules of metatensor."""

    def __init__(self, seed):
        super().__init__()
        self.first = Model(mean, scales, seed)
        self.heads = torch.nn.ModuleList([Linear(keys, 2, 1), Linear(keys, 2, 3, bias=False)])


outer = Outer(seed=6)
print("nested", list(outer.state_dict()))
print(Outer(seed=7).load_state_dict(outer.state_dict()))
print(outer.float().first.mean.block(0).values.dtype)

print("maps of modules")
torch.manual_seed(8)
layers = [torch.nn.Linear(2, size, bias=size > 1, dtype=torch.float64) for size in (1, 2, 3)]
properties = [labels("channel", size) for size in (1, 2, 3)]
for module_map in (
    ModuleMap(keys, layers),
    ModuleMap(keys, layers, properties),
    ModuleMap.from_module(keys, layers[1], [labels("same", 2)] * 3),
):
    print(module_map.in_keys == keys, module_map.out_properties is None)
    for key, block in module_map(inputs).items():
        gradient = block.gradient("positions")
        sums = [float(part.values.detach().abs().sum()) for part in (block, gradient)]
        print(*key.values.tolist(), block.properties.names, *np.round(sums, 6))
copies = ModuleMap.from_module(keys, layers[1])
print(copies.module_list[0] is copies.module_list[1], copies.module_list[0] is layers[1])


def attempt(what, function):
    try:
        function()
    except Exception as error:
        print(what, type(error).__name__)


def mixed():
    module = Module()
    module.register_buffer("mixed", [mean, 1.0])
    return module


print("errors")
attempt("mixed container, moved", lambda: mixed().to(torch.float32))
attempt("mixed container, saved", lambda: mixed().state_dict())
attempt("kind", lambda: Module().register_buffer("x", "text"))
attempt("name in use", lambda: model.register_buffer("mean", mean))
attempt("as many modules as keys", lambda: ModuleMap(keys, layers[:2]))
others = [labels(name, size) for name, size in (("a", 1), ("b", 2), ("c", 3))]
attempt("names of properties", lambda: ModuleMap(keys, layers, others)(inputs))
attempt("numpy in a state", lambda: Model(mean.to(arrays="numpy"), scales, 0).state_dict())
