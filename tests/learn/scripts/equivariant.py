"""Trains an equivariant network on vectors, and continues from a file of its state."""

import os
import tempfile

import numpy as np
import torch

import metatensor
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.learn.nn import (
    EquivariantLinear,
    EquivariantTransformation,
    InvariantLayerNorm,
    InvariantReLU,
    InvariantSiLU,
    InvariantTanh,
    LayerNorm,
    Linear,
    ReLU,
    Sequential,
    SiLU,
    Tanh,
)

torch.manual_seed(0)
rng = np.random.default_rng(1)
names = ["o3_lambda", "o3_sigma", "center_type"]
keys = Labels(names, np.array([[0, 1, 1], [1, 1, 1], [1, -1, 8], [0, 1, 8]], dtype=np.int32))
features, wanted = [3, 4, 2, 5], [6, 2, 6, 6]
atoms = Labels(["system", "atom"], np.array([[0, 0], [0, 1], [1, 0], [2, 0], [2, 1]], np.int32))
out_properties = [Labels(["channel"], np.arange(n, dtype=np.int32)[:, None]) for n in wanted]


def labels(name, size):
    return Labels([name], np.arange(size, dtype=np.int32)[:, None])


def make_map(sizes, scale=1.0):
    blocks = []
    for key, size in zip(keys, sizes):
        order = int(key["o3_lambda"])
        components = [Labels(["o3_mu"], np.arange(-order, order + 1, dtype=np.int32)[:, None])]
        values = torch.tensor(scale * rng.normal(size=(len(atoms), 2 * order + 1, size)))
        blocks.append(TensorBlock(values, atoms, components, labels("n", size)))
    return TensorMap(keys, blocks)


def show(tensor):
    for key, block in tensor.items():
        shape = (tuple(block.values.shape), block.components[0].names, block.properties.names)
        print(*key.values.tolist(), *shape, f"{float(block.values.detach().abs().sum()):.6f}")


def layer(n_in, n_out):
    return torch.nn.Sequential(torch.nn.Linear(n_in, n_out, dtype=torch.float64), torch.nn.SiLU())


def make_network():
    width = [6, 6, 6, 6]
    return Sequential(
        keys,
        EquivariantLinear(keys, features, width, bias=[True, False], dtype=torch.float64),
        InvariantLayerNorm(keys, [6, 6], eps=[1e-5, 1e-3], bias=[False, True], dtype=torch.float64),
        InvariantSiLU(keys),
        EquivariantTransformation([layer(6, 6) for _ in width], keys, width, width),
        EquivariantLinear(
            keys, in_features=width, out_properties=out_properties, dtype=torch.float64
        ),
    )


def loss_of(network, inputs, targets):
    total = 0.0
    for block, target in zip(network(inputs), targets):
        total = total + torch.mean((block.values - target.values) ** 2)
    return total


def train(network, inputs, targets, steps):
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for step in range(steps):
        optimizer.zero_grad()
        loss = loss_of(network, inputs, targets)
        loss.backward()
        optimizer.step()
        if step % 5 == 0:
            print(f"step {step:2} {loss.item():.6f}")


inputs, targets = make_map(features), make_map(wanted, scale=0.5)
network = make_network()
for name, value in network.state_dict().items():
    print(name, tuple(value.shape) if isinstance(value, torch.Tensor) else sorted(value))
show(network(inputs))
train(network, inputs, targets, 16)

# turned inputs give turned results, for orders 0 and 1 (components y, z, x)
turn = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)


def rotate(tensor):
    blocks = []
    for key, block in tensor.items():
        values = block.values if key["o3_lambda"] == 0 else turn @ block.values
        blocks.append(TensorBlock(values, block.samples, block.components, block.properties))
    return TensorMap(tensor.keys, blocks)


with torch.no_grad():
    print(metatensor.allclose(network(rotate(inputs)), rotate(network(inputs)), atol=1e-10))

path = os.path.join(tempfile.mkdtemp(), "state.pt")
torch.save(network.state_dict(), path)
other = make_network()
print(other.load_state_dict(torch.load(path, weights_only=True)))
with torch.no_grad():
    print(metatensor.equal(network(inputs), other(inputs)))
    show(other(inputs))
train(other, inputs, targets, 6)

# each of the modules alone
for module in (
    Linear(keys, features, wanted, bias=[True, False, True, False], dtype=torch.float64),
    EquivariantLinear(keys, features, wanted, dtype=torch.float64),
    EquivariantLinear(
        keys,
        features,
        out_properties=out_properties,
        invariant_keys=Labels(["center_type"], np.array([[8]], dtype=np.int32)),
        bias=[True, False],
        dtype=torch.float64,
    ),
    LayerNorm(keys, features, eps=1e-3, dtype=torch.float64),
    LayerNorm(keys, features, elementwise_affine=False, mean=[True, False, True, True]),
    InvariantLayerNorm(keys, [3, 5], bias=False, dtype=torch.float64),
    ReLU(keys),
    SiLU(keys, [labels("m", size) for size in features]),
    Tanh(keys),
    InvariantReLU(keys),
    InvariantSiLU(keys, invariant_keys=Labels(["o3_lambda"], np.array([[1]], dtype=np.int32))),
    InvariantTanh(keys, [labels("m", size) for size in features]),
):
    # a copy, since a norm may not keep its input as it is
    copied = metatensor.add(metatensor.zeros_like(inputs), inputs)
    identity = [isinstance(part, torch.nn.Identity) for part in module.module_map.module_list]
    print(type(module).__name__, identity, [name for name, _ in module.named_parameters()])
    show(module(copied))

# some of the keys, and one that is not known
part = metatensor.slice(inputs, "samples", Labels(["system"], np.array([[2]], dtype=np.int32)))
two = TensorMap(Labels(names, keys.values[[3, 1]]), [part.block(3).copy(), part.block(1).copy()])
show(EquivariantLinear(keys, features, wanted, dtype=torch.float64)(two))


def attempt(what, function):
    try:
        function()
    except Exception as error:
        kind = "MetatensorError" if isinstance(error, metatensor.MetatensorError) else type(error)
        print(what, getattr(kind, "__name__", kind))


unknown = Labels(names, np.array([[2, 1, 1]], dtype=np.int32))
plain = Labels(["center_type"], np.array([[1], [8]], dtype=np.int32))
stranger = TensorMap(unknown, [inputs.block(0).copy()])
attempt("key that is not known", lambda: Linear(keys, features, wanted)(stranger))
attempt("no features", lambda: Linear(keys, features))
attempt("number of features", lambda: Linear(keys, [3, 4], 2))
attempt("number of properties", lambda: Linear(keys, features, out_properties=out_properties[:2]))
attempt("kind of bias", lambda: Linear(keys, features, 2, bias="yes"))
attempt("number of biases", lambda: EquivariantLinear(keys, features, 2, bias=[True] * 4))
attempt("kind of eps", lambda: LayerNorm(keys, features, eps="small"))
attempt("number of norms", lambda: InvariantLayerNorm(keys, features))
attempt("keys without orders", lambda: EquivariantLinear(plain, 3, 2))
attempt("activations without orders", lambda: InvariantTanh(plain))
