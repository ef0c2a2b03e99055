"""Modules of torch for maps: state dicts, values, symmetry, gradients, moves and errors."""

import copy
import io
import pickle
import re

import numpy as np
import pytest
import torch

from metatensor import Labels, MetatensorError, TensorBlock, TensorMap, o3
from metatensor.learn import nn

N_IN, N_OUT, N_SAMPLES = 3, 2, 4
COMMON = ["_mts_helper", "_extra_state", "module_map._mts_helper", "module_map._extra_state"]


def labels(names, rows):
    return Labels(names, torch.tensor(rows))


KEYS = labels(["o3_lambda", "o3_sigma"], [[0, 1], [1, 1], [2, -1]])
SAMPLES = Labels.range("atom", N_SAMPLES)
PROPERTIES = Labels.range("n", N_IN)
INVARIANT = labels(["o3_lambda"], [[0]])


def make_values(*shape, dtype=torch.float64, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape)).to(dtype)


def spherical(keys=KEYS, dtype=torch.float64, seed=0):
    blocks = []
    for key in keys:
        degree = int(key["o3_lambda"])
        mu = np.arange(-degree, degree + 1)
        values = make_values(N_SAMPLES, len(mu), N_IN, dtype=dtype, seed=seed + degree)
        blocks.append(TensorBlock(values, SAMPLES, [Labels("o3_mu", mu[:, None])], PROPERTIES))
    return TensorMap(keys, blocks)


def scalar(gradients=("positions",), seed=0, dtype=torch.float64):
    """One block without components, and gradients with components of their own."""
    block = TensorBlock(
        make_values(N_SAMPLES, N_IN, seed=seed, dtype=dtype), SAMPLES, [], PROPERTIES
    )
    for number, name in enumerate(gradients):
        rows = labels(["sample", "atom"], [[0, 0], [0, 1], [2, 0], [2, 2], [3, 3]])
        block.add_gradient(
            name,
            TensorBlock(
                make_values(5, 3, N_IN, seed=10 + number, dtype=dtype),
                rows,
                [Labels.range("xyz", 3)],
                PROPERTIES,
            ),
        )
    return TensorMap(Labels(["o3_lambda", "o3_sigma"], np.array([[0, 1]])), [block])


ONE = scalar().keys


def transformation(keys=KEYS, **kwargs):
    networks = [torch.nn.Sequential(torch.nn.Linear(N_IN, N_IN), torch.nn.SiLU()) for _ in keys]
    return nn.EquivariantTransformation(networks, keys, N_IN, N_IN, **kwargs).double()


def network(keys, bias=True):
    return nn.Sequential(
        keys,
        nn.Linear(keys, N_IN, 5, bias=bias, dtype=torch.float64),
        nn.Tanh(keys),
        nn.LayerNorm(keys, 5, dtype=torch.float64),
        nn.Linear(keys, 5, N_OUT, bias=bias, dtype=torch.float64),
    )


def norm_names(position):
    parts = ("weight", "bias", "_mts_helper", "_extra_state")
    return [f"{position}.{part}" for part in parts]


MODULES = {
    "Linear": (
        lambda keys: nn.Linear(keys, N_IN, N_OUT),
        [f"{i}.{part}" for i in range(3) for part in ("weight", "bias")],
    ),
    "Linear, no bias": (
        lambda keys: nn.Linear(keys, N_IN, N_OUT, bias=[False, True, False]),
        ["0.weight", "1.weight", "1.bias", "2.weight"],
    ),
    "EquivariantLinear": (
        lambda keys: nn.EquivariantLinear(keys, N_IN, N_OUT),
        ["0.weight", "0.bias", "1.weight", "2.weight"],
    ),
    "LayerNorm": (
        lambda keys: nn.LayerNorm(keys, N_IN),
        [name for i in range(3) for name in norm_names(i)],
    ),
    "LayerNorm, options": (
        lambda keys: nn.LayerNorm(
            keys, N_IN, elementwise_affine=[True, False, True], bias=[True, True, False]
        ),
        [
            *norm_names(0),
            "1._mts_helper",
            "1._extra_state",
            "2.weight",
            "2._mts_helper",
            "2._extra_state",
        ],
    ),
    "InvariantLayerNorm": (lambda keys: nn.InvariantLayerNorm(keys, N_IN), norm_names(0)),
    "EquivariantRMSNorm": (
        lambda keys: nn.EquivariantRMSNorm(keys, N_IN),
        [name for i in range(3) for name in norm_names(i) if "bias" not in name],
    ),
    "ReLU": (nn.ReLU, []),
    "SiLU": (nn.SiLU, []),
    "Tanh": (nn.Tanh, []),
    "InvariantReLU": (nn.InvariantReLU, []),
    "InvariantSiLU": (nn.InvariantSiLU, []),
    "InvariantTanh": (nn.InvariantTanh, []),
    "Dropout": (lambda keys: nn.Dropout(keys, 0.1), []),
    "Sequential": (
        lambda keys: nn.Sequential(keys, nn.Linear(keys, N_IN, N_OUT), nn.Tanh(keys)),
        [f"{i}.0.{part}" for i in range(3) for part in ("weight", "bias")],
    ),
    "Add": (
        lambda keys: nn.Add(keys, nn.EquivariantLinear(keys, N_IN, N_IN)),
        ["0.module.weight", "0.module.bias", "1.module.weight", "2.module.weight"],
    ),
    "EquivariantTransformation": (
        lambda keys: nn.EquivariantTransformation(
            [torch.nn.Linear(N_IN, N_IN) for _ in keys], keys, N_IN, N_IN
        ),
        [
            "0.weight",
            "0.bias",
            *[
                f"{i}.{part}"
                for i in (1, 2)
                for part in ("_mts_helper", "_extra_state", "module.weight", "module.bias")
            ],
        ],
    ),
}


# ---- state dicts and files


@pytest.mark.parametrize("name", MODULES)
def test_state_dict_keys(name):
    make, expected = MODULES[name]
    state = make(KEYS).state_dict()
    assert sorted(state) == sorted(
        [*COMMON, *[f"module_map.module_list.{key}" for key in expected]]
    )
    assert state["_extra_state"] == {}
    tag, content, like = state["module_map._extra_state"]["_in_keys"]
    assert (tag, like.shape) == ("metatensor.Labels", (0,))
    assert Labels.load_buffer(content) == KEYS


@pytest.mark.parametrize("name", MODULES)
def test_saved_and_loaded(name):
    """Through files that torch reads without running code, deep copies and pickles."""
    make, _ = MODULES[name]
    module, other = make(KEYS).double().eval(), make(KEYS).double().eval()
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert str(other.load_state_dict(state)) == "<All keys matched successfully>"
    expected = module(spherical())
    for same in (other, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert same(spherical()) == expected
        assert same.module_map.in_keys == KEYS


def test_out_properties_in_state():
    properties = [Labels.range(f"p_{position}", N_OUT) for position in range(3)]
    module = nn.Linear(KEYS, N_IN, out_properties=properties)
    state = module.state_dict()
    assert list(state["module_map._extra_state"]) == ["_in_keys", "_out_properties"]
    module.module_map._out_properties = properties[::-1]
    module.load_state_dict(state)
    assert module.module_map.out_properties == properties


DATA = {
    "Labels": lambda: KEYS,
    "block": lambda: scalar().block(),
    "map": spherical,
    "dict": lambda: {"a": [KEYS, (scalar().block(),)], "b": {}, 3: spherical()},
    "tuple": lambda: (spherical(), [KEYS, KEYS]),
    "empty": list,
    "nested empty": lambda: {"a": [[], {}]},
}


def flat(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in flat(part)]
    return [value]


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("as_buffer", [False, True])
def test_registered_data(name, as_buffer):
    def make(value):
        module = nn.Module()
        if as_buffer:
            module.data = nn.Buffer(value)
        else:
            module.register_buffer("data", value)
        return module

    module = make(DATA[name]())
    assert module._mts_buffer_names == ["data"]
    file = io.BytesIO()
    torch.save(module.float().state_dict(), file)
    file.seek(0)
    other = make(DATA[name]())
    other.load_state_dict(torch.load(file, weights_only=True))
    for loaded, moved, given in zip(flat(other.data), flat(module.data), flat(DATA[name]())):
        assert type(loaded) is type(given)
        if isinstance(given, Labels):
            assert loaded == moved == given
        else:
            assert loaded == moved == given.to(torch.float32)
            assert loaded.dtype == moved.dtype == torch.float32
            assert loaded.device == torch.device("cpu")


def test_layout_of_nested_data():
    module = nn.Module()
    module.register_buffer("data", {"a": [KEYS], "b": (spherical(),)})
    found = module.state_dict()["_extra_state"]["data"]
    assert type(found["a"]) is list
    assert type(found["b"]) is tuple
    tag, content, like = found["b"][0]
    assert tag == "metatensor.TensorMap"
    assert like.dtype == torch.float64
    assert TensorMap.load_buffer(content).to(arrays="torch") == spherical()
    assert found["a"][0][0] == "metatensor.Labels"
    module = nn.Module()
    module.register_buffer("data", scalar().block())
    assert module.state_dict()["_extra_state"]["data"][0] == "metatensor.TensorBlock"


def test_what_is_not_saved():
    module = nn.Module()
    module.plain = spherical()
    module.register_buffer("hidden", spherical(), persistent=False)
    module.register_buffer("later", None)
    assert module.state_dict()["_extra_state"] == {}
    assert module.float().plain.dtype == torch.float64
    assert module.hidden.dtype == torch.float32
    module.later = KEYS
    assert list(module.state_dict()["_extra_state"]) == ["later"]
    module.later = torch.zeros(2)
    assert "later" in dict(module.named_buffers())
    del module.hidden
    assert not hasattr(module.half(), "hidden")


def test_moves():
    """Each as torch moves tensors: what changes alone, integers not at all."""
    module = nn.Module()
    block = TensorBlock(torch.ones(1, 1, dtype=torch.int64), ONE, [], Labels.single())
    module.register_buffer("numbers", block)
    module.register_buffer("data", {"map": scalar(), "keys": KEYS})
    module.data["map"].set_info("unit", "eV")
    assert module.to("cpu").data["map"].dtype == torch.float64
    moved = module.half()
    assert moved.data["map"].block().gradient("positions").dtype == torch.float16
    assert moved.data["map"].get_info("unit") == "eV"
    assert moved.numbers.dtype == torch.int64
    moved = module.to("meta")
    assert str(moved.data["map"].device) == str(moved.data["keys"].device) == "meta"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_are_kept_in_state(dtype):
    value = TensorBlock(
        make_values(1, 2, dtype=dtype).requires_grad_(), ONE, [], labels("n", [[0], [1]])
    )
    module, other = nn.Module(), nn.Module()
    module.register_buffer("value", value)
    other.register_buffer("value", None)
    other.load_state_dict(module.state_dict())
    assert other.value.dtype == dtype
    assert torch.equal(other.value.values, value.values)


@pytest.mark.parametrize(("mine", "theirs"), [(["a"], []), ([], ["a"]), (["a", "b"], ["b", "c"])])
def test_names_must_match(mine, theirs):
    module, other = nn.Module(), nn.Module()
    for owner, names in ((module, mine), (other, theirs)):
        for name in names:
            owner.register_buffer(name, KEYS)
    with pytest.raises(RuntimeError, match="_extra_state.[ac]"):
        module.load_state_dict(other.state_dict())
    module.load_state_dict(other.state_dict(), strict=False)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("x", 3.0, TypeError),
        ("x", ["a"], TypeError),
        ("x", [torch.zeros(2)], TypeError),
        ("x", np.zeros(2), TypeError),
        ("x", {1, 2}, TypeError),
        (3, KEYS, TypeError),
        ("used", KEYS, KeyError),
        ("forward", KEYS, KeyError),
        ("a.b", KEYS, KeyError),
        ("", KEYS, KeyError),
        ("used", torch.zeros(1), KeyError),
    ],
)
def test_register_buffer_refuses(name, value, error):
    module = nn.Module()
    module.register_buffer("used", KEYS)
    with pytest.raises(error):
        module.register_buffer(name, value)


@pytest.mark.parametrize("value", [[KEYS, 3], {"a": KEYS, "b": None}, (KEYS, [torch.ones(1)])])
def test_mixed_containers(value):
    module = nn.Module()
    module.register_buffer("mixed", value)
    with pytest.raises(ValueError, match="nothing else"):
        module.to(torch.float64)
    with pytest.raises(TypeError, match="nothing else"):
        module.state_dict()


def test_numpy_data_is_refused():
    module = nn.Module()
    module.register_buffer("data", spherical().to(arrays="numpy"))
    with pytest.raises(AssertionError, match="arrays='torch'"):
        module.state_dict()
    with pytest.raises(TypeError, match="arrays='torch'"):
        module.to(torch.float32)


# ---- values


def expected_layer_norm(values, mean=True, eps=1e-5):
    axes = tuple(range(1, values.ndim))
    average = values.mean(axes, keepdims=True)
    variance = ((values - average) ** 2).mean(axes, keepdims=True)
    return (values - average if mean else values) / np.sqrt(variance + eps)


def expected_rms_norm(values, eps=1e-5):
    lengths = (values**2).sum(1) if values.ndim == 3 else values**2
    return values / np.sqrt(lengths.mean(-1) + eps).reshape(-1, *[1] * (values.ndim - 1))


def relu(x):
    return np.maximum(x, 0)


def silu(x):
    return x / (1 + np.exp(-x))


def keep(x):
    return x


VALUES = {
    "ReLU": (nn.ReLU, relu, relu),
    "SiLU": (nn.SiLU, silu, silu),
    "Tanh": (nn.Tanh, np.tanh, np.tanh),
    "InvariantReLU": (nn.InvariantReLU, relu, keep),
    "InvariantSiLU": (nn.InvariantSiLU, silu, keep),
    "InvariantTanh": (nn.InvariantTanh, np.tanh, keep),
    "LayerNorm": (lambda keys: nn.LayerNorm(keys, N_IN), expected_layer_norm, expected_layer_norm),
    "LayerNorm, mean=False": (
        lambda keys: nn.LayerNorm(keys, N_IN, mean=False),
        lambda x: expected_layer_norm(x, mean=False),
        lambda x: expected_layer_norm(x, mean=False),
    ),
    "InvariantLayerNorm": (
        lambda keys: nn.InvariantLayerNorm(keys, N_IN, eps=[0.1]),
        lambda x: expected_layer_norm(x, eps=0.1),
        keep,
    ),
    "EquivariantRMSNorm": (
        lambda keys: nn.EquivariantRMSNorm(keys, N_IN),
        expected_rms_norm,
        expected_rms_norm,
    ),
    "Add": (lambda keys: nn.Add(keys, nn.Tanh(keys)), lambda x: x + np.tanh(x), None),
    "Dropout": (lambda keys: nn.Dropout(keys).eval(), keep, keep),
}


@pytest.mark.parametrize("name", VALUES)
def test_values(name):
    make, on_invariant, on_others = VALUES[name]
    tensor = spherical()
    before = tensor.copy()
    result = make(KEYS).double().eval()(tensor)
    assert tensor == before, "the input is changed"
    assert result.keys == tensor.keys
    for position, (block, given) in enumerate(zip(result, tensor)):
        function = on_invariant if position == 0 or on_others is None else on_others
        np.testing.assert_allclose(
            block.values.detach().numpy(), function(given.values.numpy()), rtol=1e-12, atol=1e-14
        )
        assert (block.samples, block.components) == (given.samples, given.components)
        assert block.properties == Labels.range("_", N_IN)


@pytest.mark.parametrize("kind", [nn.ReLU, nn.SiLU])
def test_in_place(kind):
    tensor = spherical()
    result = kind(KEYS, in_place=True)(tensor)
    assert torch.equal(result.block(0).values, tensor.block(0).values)


@pytest.mark.parametrize("kind", [nn.Linear, nn.EquivariantLinear])
def test_linear_against_torch(kind):
    module = kind(KEYS, [N_IN] * 3, [1, 2, 3], dtype=torch.float64)
    tensor = spherical()
    for position, block in enumerate(module(tensor)):
        layer = module.module_map.module_list[position]
        has_bias = kind is nn.Linear or position == 0
        assert (layer.bias is not None) == has_bias
        expected = tensor.block(position).values.numpy() @ layer.weight.detach().numpy().T
        if has_bias:
            expected = expected + layer.bias.detach().numpy()
        np.testing.assert_allclose(block.values.detach().numpy(), expected, atol=1e-14)
        assert block.properties == Labels.range("_", position + 1)


def test_norms_of_torch():
    tensor = scalar(gradients=())
    weight, bias = make_values(N_IN, seed=1), make_values(N_IN, seed=2)
    norm = nn.LayerNorm(ONE, N_IN).double()
    layer = norm.module_map.module_list[0]
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    expected = torch.nn.functional.layer_norm(tensor.block().values, (N_IN,), weight, bias)
    assert torch.allclose(norm(tensor).block().values, expected, rtol=1e-12)


def test_bias_of_invariant_keys_in_their_order():
    keys = labels(["a"], [[0], [1], [2]])
    module = nn.EquivariantLinear(
        keys, 2, 2, invariant_keys=labels(["a"], [[2], [0]]), bias=[True, False]
    )
    biases = [layer.bias is not None for layer in module.module_map.module_list]
    assert biases == [False, False, True]


def test_out_properties():
    properties = [Labels.range(f"p_{position}", position + 1) for position in range(3)]
    result = nn.Linear(KEYS, N_IN, out_properties=properties).double()
    tensor = TensorMap(KEYS, [block.copy() for block in spherical()])
    modules = result.module_map
    for position in range(3):
        # blocks of one map must agree in their names: those of one key at a time
        key = labels(KEYS.names, [KEYS.values[position].tolist()])
        block = modules(TensorMap(key, [tensor.block(position)])).block()
        assert block.properties == properties[position]
    with pytest.raises(MetatensorError, match=r"must have the same names, got \['p_0'\]"):
        modules(tensor)


def test_module_map():
    modules = [torch.nn.Linear(N_IN, N_OUT).double() for _ in KEYS]
    module_map = nn.ModuleMap(KEYS, modules)
    tensor = spherical(labels(KEYS.names, [[2, -1], [0, 1]]))
    tensor.set_info("unit", "eV")
    result = module_map(tensor)
    assert result.keys == tensor.keys
    assert result.get_info("unit") == "eV"
    for position, block in zip((2, 0), result):
        given = tensor.block(o3_lambda=position).values
        assert torch.equal(block.values, modules[position](given))
    assert module_map.in_keys == KEYS
    assert module_map.out_properties is None
    assert list(module_map.module_list) == modules


def test_from_module():
    module = torch.nn.Linear(N_IN, N_OUT)
    copies = nn.ModuleMap.from_module(KEYS, module).module_list
    assert len({id(layer.weight) for layer in (module, *copies)}) == 4
    assert all(torch.equal(layer.weight, module.weight) for layer in copies)


def test_sequential():
    properties = [Labels.range("p", N_OUT)] * 3
    linear = nn.Linear(KEYS, N_IN, N_OUT, dtype=torch.float64)
    module = nn.Sequential(KEYS, linear, nn.Tanh(KEYS, out_properties=properties))
    assert module.module_map.module_list[1][0] is linear.module_map.module_list[1]
    result = module(spherical())
    for block, given in zip(result, linear(spherical())):
        assert torch.equal(block.values, torch.tanh(given.values))
        assert block.properties == properties[0]
    last = nn.Sequential(KEYS, nn.Tanh(KEYS, out_properties=properties), linear)
    assert last.module_map.out_properties is None
    # by position, whatever the keys of the modules are
    other = nn.Sequential(labels("a", [[0], [1], [2]]), linear)
    assert other.module_map.module_list[2][0] is linear.module_map.module_list[2]


def test_transformation():
    module = transformation()
    tensor = spherical()
    functions = module.module_map.module_list
    for position, block in enumerate(module(tensor)):
        x = tensor.block(position).values
        if position == 0:
            expected = functions[0](x)
        else:
            expected = functions[position].module((x**2).sum(1, keepdim=True).sqrt()) * x
        assert torch.allclose(block.values, expected, rtol=1e-12)


def test_dropout():
    torch.manual_seed(0)
    tensor = spherical()
    module = nn.Dropout(KEYS, p=[0.5, 0.5, 0.0])
    result = module(tensor)
    factors = (result.block(1).values / tensor.block(1).values).round(decimals=10)
    assert torch.equal(factors, factors[:, :1].expand_as(factors))
    assert set(factors.ravel().tolist()) == {0.0, 2.0}
    assert torch.equal(result.block(2).values, tensor.block(2).values)


# ---- embedding


@pytest.mark.parametrize("in_keys", [True, False])
def test_embedding(in_keys):
    types = labels("center_type", [[8], [1], [6]])
    module = nn.Embedding(types, out_properties=Labels.range("channel", 2), dtype=torch.float64)
    tensor = scalar()
    if in_keys:
        keys = labels(["center_type"], [[1], [8]])
        tensor = TensorMap(keys, [tensor.block().copy(), tensor.block().copy()])
        expected = [module.weight[[1] * N_SAMPLES], module.weight[[0] * N_SAMPLES]]
    else:
        samples = labels(["atom", "center_type"], [[0, 6], [1, 8], [2, 6], [3, 1]])
        tensor = TensorMap(
            Labels.single(), [TensorBlock(tensor.block().values, samples, [], PROPERTIES)]
        )
        expected = [module.weight[[2, 0, 2, 1]]]
    result = module(tensor)
    for block, given, values in zip(result, tensor, expected):
        assert torch.equal(block.values, values)
        assert (block.samples, block.gradients_list()) == (given.samples, [])
        assert block.properties == Labels.range("channel", 2)
    sum(block.values.sum() for block in result).backward()
    assert module.weight.grad.sum() == 2 * N_SAMPLES * len(tensor)
    assert "weight" in module.state_dict()
    assert list(module.state_dict()["_extra_state"]) == ["types", "out_properties"]


def test_embedding_refuses():
    types = labels("center_type", [[1]])
    with pytest.raises(ValueError, match="one dimension"):
        nn.Embedding(KEYS, 2)
    with pytest.raises(ValueError, match="n_features"):
        nn.Embedding(types)
    with pytest.raises(ValueError, match="must be in the keys"):
        nn.Embedding(types, 2)(scalar())
    tensor = TensorMap(labels("center_type", [[7]]), [scalar().block()])
    with pytest.raises(ValueError, match=r"no vector for center_type \[7\]"):
        nn.Embedding(types, 2)(tensor)


# ---- symmetry

EQUIVARIANT = {
    "EquivariantLinear": lambda: nn.EquivariantLinear(KEYS, N_IN, N_OUT).double(),
    "EquivariantTransformation": transformation,
    "EquivariantRMSNorm": lambda: nn.EquivariantRMSNorm(KEYS, N_IN).double(),
    "InvariantLayerNorm": lambda: nn.InvariantLayerNorm(KEYS, N_IN).double(),
    "InvariantSiLU": lambda: nn.InvariantSiLU(KEYS),
    "Add": lambda: nn.Add(KEYS, transformation()),
    "Sequential": lambda: nn.Sequential(
        KEYS,
        nn.EquivariantLinear(KEYS, N_IN, N_IN, dtype=torch.float64),
        transformation(),
        nn.EquivariantRMSNorm(KEYS, N_IN, dtype=torch.float64),
    ),
}
ROTATION = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]


@pytest.mark.parametrize("name", EQUIVARIANT)
@pytest.mark.parametrize("improper", [False, True])
def test_equivariance(name, improper):
    module = EQUIVARIANT[name]()
    matrix = ROTATION * np.linalg.det(ROTATION) * (-1 if improper else 1)
    for block, expected in zip(
        module(o3.rotate(spherical(), matrix)), o3.rotate(module(spherical()), matrix)
    ):
        assert torch.allclose(block.values, expected.values, rtol=1e-10, atol=1e-12)


def test_equivariance_of_dropout():
    def drop(tensor):
        torch.manual_seed(1)
        return nn.Dropout(KEYS)(tensor)

    for block, expected in zip(
        drop(o3.rotate(spherical(), ROTATION)), o3.rotate(drop(spherical()), ROTATION)
    ):
        assert torch.allclose(block.values, expected.values, atol=1e-12)


# ---- gradients


def test_modules_are_applied_to_gradients():
    """The bias too, which is what existing code expects."""
    module = nn.Linear(ONE, N_IN, N_OUT, dtype=torch.float64)
    layer = module.module_map.module_list[0]
    tensor = scalar(("positions", "strain"))
    result = module(tensor).block()
    assert result.gradients_list() == ["positions", "strain"]
    for name, gradient in result.gradients():
        given = tensor.block().gradient(name)
        assert torch.equal(gradient.values, layer(given.values))
        assert gradient.samples == given.samples
        assert gradient.components == given.components


@pytest.mark.parametrize(
    "name",
    [
        *["LayerNorm", "InvariantLayerNorm", "EquivariantRMSNorm", "ReLU", "SiLU", "Tanh"],
        *["InvariantReLU", "InvariantSiLU", "InvariantTanh", "Dropout"],
        "EquivariantTransformation",
    ],
)
def test_what_refuses_gradients(name):
    module = MODULES[name][0](ONE).double()
    with pytest.raises(ValueError, match=r"takes no gradients.*ChainRule"):
        module(scalar())
    with pytest.raises(ValueError, match="takes no gradients"):
        nn.Add(ONE, module)(scalar())


def test_sequential_applies_all_to_gradients():
    module = nn.Sequential(ONE, nn.Tanh(ONE))
    with pytest.warns(UserWarning, match="no derivatives"):
        result = module(scalar())
    given = scalar().block().gradient("positions").values
    assert torch.equal(result.block().gradient("positions").values, torch.tanh(given))
    linear = nn.Sequential(ONE, nn.Linear(ONE, N_IN, N_OUT).double())
    assert linear(scalar()).block().gradients_list() == ["positions"]


def test_gradients_of_gradients():
    block = scalar().block().copy()
    inner = block.gradient("positions").copy()
    rows = labels("sample", [[0]])
    nested = TensorBlock(make_values(1, 3, N_IN), rows, [Labels.range("xyz", 3)], PROPERTIES)
    inner.add_gradient("strain", nested)
    outer = scalar(()).block().copy()
    outer.add_gradient("positions", inner)
    for module in (
        nn.Linear(ONE, N_IN, 1).double(),
        nn.ChainRule(nn.Linear(ONE, N_IN, 1).double()),
    ):
        with pytest.raises(NotImplementedError, match="gradients of gradients"):
            module(TensorMap(ONE, [outer]))


CHAINED = {
    "Linear": lambda keys: nn.Linear(keys, N_IN, N_OUT).double(),
    "ModuleMap": lambda keys: nn.Linear(keys, N_IN, N_OUT).double().module_map,
    "Sequential": network,
    "EquivariantRMSNorm": lambda keys: nn.EquivariantRMSNorm(keys, N_IN).double(),
    "Add": lambda keys: nn.Add(keys, nn.SiLU(keys)),
    "EquivariantTransformation": transformation,
}


@pytest.mark.parametrize("name", CHAINED)
def test_chain_rule_against_finite_differences(name):
    torch.manual_seed(0)
    module = CHAINED[name](ONE)
    exact = nn.ChainRule(module)
    tensor = scalar()
    gradient = tensor.block().gradient("positions")
    result = exact(tensor).block()
    plain = TensorMap(ONE, [scalar(()).block()])
    assert torch.equal(result.values, module(plain).block().values)
    assert result.gradient("positions").samples == gradient.samples
    for row, (sample, *_) in enumerate(gradient.samples.values.tolist()):
        for component in range(3):
            shifted = []
            for step in (1e-6, -1e-6):
                values = tensor.block().values.clone()
                values[sample] += step * gradient.values[row, component]
                moved = TensorMap(ONE, [TensorBlock(values, SAMPLES, [], PROPERTIES)])
                shifted.append(module(moved).block().values[sample])
            expected = (shifted[0] - shifted[1]) / 2e-6
            found = result.gradient("positions").values[row, component]
            assert torch.allclose(found, expected, atol=1e-8)


def test_chain_rule_with_components():
    """Gradients of vectors: their own components first, then those of the block."""
    key, mu = labels(KEYS.names, [[1, 1]]), Labels("o3_mu", np.array([[-1], [0], [1]]))
    x = make_values(2, 3, N_IN)
    block = TensorBlock(x, Labels.range("atom", 2), [mu], PROPERTIES)
    values = make_values(2, 3, 3, N_IN, seed=1)
    xyz = Labels.range("xyz", 3)
    rows = labels("sample", [[1], [0]])
    block.add_gradient("positions", TensorBlock(values, rows, [xyz, mu], PROPERTIES))
    module = transformation(key)
    result = nn.ChainRule(module)(TensorMap(key, [block])).block()
    function = module.module_map.module_list[0]
    for row, sample in enumerate((1, 0)):
        jacobian = torch.autograd.functional.jacobian(function, x[[sample]])[0, :, :, 0]
        expected = torch.einsum("mpnq,anq->amp", jacobian, values[row])
        found = result.gradient("positions").values[row]
        assert torch.allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("n_out", [1, 50], ids=["backwards", "forwards"])
def test_chain_rule_without_history(n_out):
    """Few entries of the result are differentiated backwards, many forwards; both also alone."""
    linear = nn.Linear(ONE, N_IN, n_out, dtype=torch.float64)
    module = nn.ChainRule(nn.Sequential(ONE, linear, nn.ReLU(ONE, in_place=True)))
    tensor = scalar()
    before = tensor.copy()
    with torch.no_grad():
        result = module(tensor).block().gradient("positions").values
    assert not result.requires_grad
    assert tensor == before
    weight, bias = (parameter.detach() for parameter in linear.parameters())
    given = tensor.block().gradient("positions")
    open_ = (tensor.block().values @ weight.T + bias > 0)[given.samples.column("sample").long()]
    assert torch.allclose(result, given.values @ weight.T * open_[:, None])
    with torch.inference_mode():
        for inputs in (tensor, 1.0 * tensor):
            inferred = module(inputs).block().gradient("positions").values
            assert torch.allclose(inferred, result)


def test_losses_of_gradients_train():
    """The derivative of a loss of forces with respect to weights, against finite differences."""
    torch.manual_seed(0)
    module = nn.ChainRule(network(ONE))

    def loss():
        block = module(scalar()).block()
        return (block.values**2).sum() + (block.gradient("positions").values ** 2).sum()

    loss().backward()
    for parameter in module.parameters():
        direction = make_values(*parameter.shape, seed=5)
        with torch.no_grad():
            found = []
            for step in (1e-6, -2e-6):
                parameter += step * direction
                found.append(loss())
            parameter += 1e-6 * direction
        expected = (found[0] - found[1]) / 2e-6
        assert torch.allclose((parameter.grad * direction).sum(), expected, rtol=1e-6, atol=1e-7)


def test_chain_rule_refuses():
    with pytest.raises(TypeError, match="module_map"):
        nn.ChainRule(torch.nn.Linear(1, 1))
    module = nn.ChainRule(nn.Dropout(ONE))
    with pytest.raises(ValueError, match="dropout"):
        module(scalar())
    result = module.eval()(scalar()).block()
    assert torch.equal(
        result.gradient("positions").values, scalar().block().gradient("positions").values
    )


@pytest.mark.parametrize("name", ["Linear", "LayerNorm", "Sequential", "EquivariantTransformation"])
def test_autograd_flows(name):
    module = MODULES[name][0](KEYS).double()
    tensor = spherical()
    blocks = [
        TensorBlock(b.values.clone().requires_grad_(), b.samples, b.components, b.properties)
        for b in tensor
    ]
    result = module(TensorMap(KEYS, blocks))
    sum((block.values**2).sum() for block in result).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert all(block.values.grad.abs().sum() > 0 for block in blocks)


# ---- errors

THREE = [torch.nn.Identity()] * 3


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: nn.ModuleMap(KEYS, THREE[:2]), ValueError),
        (lambda: nn.ModuleMap(KEYS, THREE, [PROPERTIES]), ValueError),
        (lambda: nn.ModuleMap(KEYS, THREE[0]), TypeError),
        (lambda: nn.ModuleMap(KEYS, THREE, PROPERTIES), TypeError),
        (lambda: nn.ModuleMap([1, 2, 3], THREE), TypeError),
        (lambda: nn.ModuleMap(KEYS, [len] * 3), TypeError),
        (lambda: nn.Linear(KEYS, N_IN), ValueError),
        (lambda: nn.Linear(KEYS, [N_IN] * 2, 2), ValueError),
        (lambda: nn.Linear(KEYS, 3.0, 2), TypeError),
        (lambda: nn.Linear(KEYS, True, 2), TypeError),
        (lambda: nn.Linear(KEYS, 3, "2"), TypeError),
        (lambda: nn.Linear(KEYS, 3, 2, bias=1), TypeError),
        (lambda: nn.Linear(KEYS, 3, 2, bias=[True]), ValueError),
        (lambda: nn.Linear(KEYS, 3, out_properties=[PROPERTIES]), ValueError),
        (lambda: nn.Linear(KEYS, 3, 2, out_properties=[PROPERTIES] * 3), ValueError),
        (lambda: nn.Linear([1], 3, 2), TypeError),
        (lambda: nn.EquivariantLinear(KEYS, 3, 2, bias=[True] * 3), ValueError),
        (lambda: nn.EquivariantLinear(PROPERTIES, 3, 2), MetatensorError),
        (lambda: nn.InvariantTanh(PROPERTIES), MetatensorError),
        (lambda: nn.InvariantLayerNorm(KEYS, [3] * 3), ValueError),
        (lambda: nn.LayerNorm(KEYS, 3, eps="a"), TypeError),
        (lambda: nn.LayerNorm(KEYS, 3, mean=[True]), ValueError),
        (lambda: nn.Dropout(KEYS, 1.5), ValueError),
        (lambda: nn.Sequential(KEYS), TypeError),
        (lambda: nn.Sequential(KEYS, torch.nn.Linear(3, 2)), TypeError),
        (lambda: nn.Sequential(KEYS, nn.ModuleMap(KEYS, THREE)), TypeError),
        (lambda: nn.Sequential(KEYS, nn.Tanh(ONE)), ValueError),
        (lambda: nn.Add(KEYS, torch.nn.ReLU()), TypeError),
        (lambda: nn.EquivariantTransformation(THREE, KEYS, 3), ValueError),
        (lambda: nn.EquivariantTransformation(THREE[:2], KEYS, 3, 3), ValueError),
    ],
)
def test_what_can_not_be_made(make, error):
    with pytest.raises(error) as caught:
        make()
    assert type(caught.value) is error


class Single(torch.nn.Module):
    def forward(self, values):
        return values.to(torch.float32)


def test_calls_that_fail():
    module = nn.Linear(KEYS, N_IN, N_OUT).double()
    other = TensorMap(labels(KEYS.names, [[3, 1]]), [spherical().block(0)])
    with pytest.raises(KeyError, match=r"no module for the key \(o3_lambda=3, o3_sigma=1\)"):
        module(other)
    renamed = TensorMap(KEYS.rename("o3_sigma", "a"), spherical().blocks())
    with pytest.raises(KeyError, match="names"):
        module(renamed)
    for modules in (module, module.module_map, nn.Tanh(KEYS)):
        with pytest.raises(TypeError, match=r"torch tensors.*arrays='torch'"):
            modules(spherical().to(arrays="numpy"))
        with pytest.raises(TypeError, match="TensorMap"):
            modules(spherical().block(0))
    with pytest.raises(RuntimeError, match=r"use `tensor.to\(torch.float64\).*\(o3_lambda=0"):
        module(spherical(dtype=torch.float32))
    with pytest.raises(MetatensorError, match=re.escape("properties")):
        nn.ModuleMap(KEYS, THREE, [Labels.range("p", 7)] * 3)(spherical())
    mixed = [torch.nn.Identity(), torch.nn.Identity(), Single()]
    with pytest.raises(MetatensorError, match=r"o3_lambda=2.*dtype"):
        nn.ModuleMap(KEYS, mixed)(spherical())
    with pytest.raises(MetatensorError, match="dimensions"):
        nn.ModuleMap.from_module(KEYS, torch.nn.Flatten())(spherical())
    with pytest.raises(AssertionError, match="one component"):
        transformation(invariant_keys=labels("o3_lambda", [[7]]))(scalar(()))
    with pytest.raises(ValueError, match="shape of the input"):
        nn.Add(KEYS, module)(spherical())


def test_empty_maps():
    empty = TensorMap(Labels.empty(KEYS.names), [])
    for module in (nn.Linear(KEYS, N_IN, 1), nn.Tanh(KEYS), nn.ChainRule(nn.Tanh(KEYS))):
        assert len(module(empty)) == 0
    block = TensorBlock(torch.zeros(0, 1, N_IN), Labels.empty("atom"), [INVARIANT], PROPERTIES)
    result = nn.LayerNorm(ONE, N_IN)(TensorMap(ONE, [block]))
    assert result.block().values.shape == (0, 1, N_IN)
