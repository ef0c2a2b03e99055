"""What torch can do with functions of maps: compile, export and transform them.

``python tests/torch/test_torch_compilers.py`` prints the table of functions and what can be done.
"""

import subprocess
import sys
import threading
from functools import partial

import numpy as np
import pytest
import torch

pytest.importorskip("metatensor.torch._dynamo", exc_type=ImportError)

import torch._dynamo.testing
from torch.utils._pytree import tree_leaves, tree_map

import metatensor.torch
from metatensor import Labels, TensorBlock, TensorMap, testing
from metatensor.learn import nn
from metatensor.learn.data.loading import DataLoader

N_PROPERTIES = 3
KEYS = Labels(["type"], np.array([[1], [8]]))


def made(n_systems=2, gradients=True, seed=0):
    """Make a map with some atoms of each type in each system."""
    rng = np.random.default_rng([n_systems, seed])
    blocks = []
    for number in range(len(KEYS)):
        pairs = [[i, j] for i in range(n_systems) for j in range(number + 1)]
        samples = Labels(["system", "atom"], np.array(pairs).reshape(-1, 2))
        properties = Labels.range("n", N_PROPERTIES)
        block = TensorBlock(
            torch.tensor(rng.normal(size=(len(samples), N_PROPERTIES))), samples, [], properties
        )
        if gradients:
            rows = Labels(["sample", "atom"], np.array([[i, 0] for i in range(len(samples))]))
            values = torch.tensor(rng.normal(size=(len(rows), 3, N_PROPERTIES)))
            xyz = Labels.range("xyz", 3)
            block.add_gradient("positions", TensorBlock(values, rows, [xyz], properties))
        blocks.append(block)
    return TensorMap(KEYS, blocks)


class Energies(torch.nn.Module):
    """A model as users write them: a loop over blocks, new Labels, operations."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(KEYS, N_PROPERTIES, 2).double()
        self.scale = torch.nn.Parameter(torch.tensor([0.5]).double())

    def forward(self, tensor):
        blocks = []
        for key, block in self.net(metatensor.remove_gradients(tensor)).items():
            values = (block.values * self.scale * key["type"]).sum(dim=-1, keepdim=True)
            blocks.append(
                TensorBlock(values, block.samples, block.components, Labels.range("energy", 1))
            )
        atoms = TensorMap(tensor.keys, blocks).keys_to_samples(["type"])
        return metatensor.sum_over_samples(atoms, ["atom", "type"])


def network():
    torch.manual_seed(0)
    layers = nn.Linear(KEYS, N_PROPERTIES, 4), nn.Tanh(KEYS), nn.LayerNorm(KEYS, 4)
    return nn.Sequential(KEYS, *layers, nn.Linear(KEYS, 4, 1)).double()


class Function(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


def joined(tensor):
    return metatensor.join([tensor, 2 * tensor], "properties", add_dimension="which")


#: what makes a module, and whether its argument has gradients
MODULES = {
    "elementwise": lambda: Function(lambda tensor: metatensor.tanh(tensor * 2.0) ** 2),
    "sum_over_samples": lambda: Function(lambda t: metatensor.sum_over_samples(t, "atom")),
    "keys_to_properties": lambda: Function(lambda tensor: tensor.keys_to_properties("type")),
    "join": lambda: Function(joined),
    "Sequential": network,
    "a module of the user": Energies,
}
WITHOUT_GRADIENTS = ("Sequential",)


def equal(result, expected):
    testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


class Compiled:
    """A function compiled without breaks, and how often it was compiled."""

    def __init__(self, function, backend="aot_eager", **options):
        torch._dynamo.reset()
        self.counter = torch._dynamo.testing.CompileCounterWithBackend(backend)
        self.function = torch.compile(function, fullgraph=True, backend=self.counter, **options)

    def __call__(self, *args):
        return self.function(*args)

    @property
    def count(self):
        return self.counter.frame_count


# ----------------------------------------------------------------------------- what can be done


def compiled(module, tensor):
    """Return how often it was compiled for 15 numbers of systems, and for equal Labels."""
    function = Compiled(module)
    with torch._dynamo.config.patch(recompile_limit=64):
        counts = []
        for n_systems in SIZES:
            given = made(n_systems, gradients=tensor.block(0).has_gradient("positions"))
            equal(function(given), module(given))
            before = function.count
            equal(function(2 * given), module(2 * given))
            assert function.count == before
            counts.append(function.count)
    return f"{counts[-1] - 1} recompiles"


def exported(module, tensor, strict):
    program = torch.export.export(module, (tensor,), strict=strict)
    equal(program.module()(2 * tensor), module(2 * tensor))


def loss(module, tensor):
    return sum((leaf**2).sum() for leaf in tree_leaves(module(tensor)))


def differentiated(module, tensor):
    leaves = [leaf.clone().requires_grad_() for leaf in tree_leaves(tensor)]
    remaining = iter(leaves)
    number = loss(module, tree_map(lambda _: next(remaining), tensor))
    expected = iter(torch.autograd.grad(number, leaves, materialize_grads=True, allow_unused=True))
    equal(
        torch.func.grad(partial(loss, module))(tensor), tree_map(lambda _: next(expected), tensor)
    )


def vmapped(module, tensor):
    tensors = [tensor, 2 * tensor, -1 * tensor]
    batch = tree_map(lambda *leaves: torch.stack(leaves), *tensors)
    results = torch.func.vmap(module)(batch)
    for number, one in enumerate(tensors):
        equal(tree_map(lambda leaf, number=number: leaf[number], results), module(one))


def jacobian(module, tensor):
    """Compare rows of the Jacobian, which is a map of maps, with vector-Jacobian products."""
    found = torch.func.jacrev(module)(tensor)
    result, pull = torch.func.vjp(module, tensor)
    rows = tree_map(torch.ones_like, result)
    (expected,) = pull(rows)
    total = None
    for leaf in tree_leaves(found, is_leaf=lambda part: _is_inner(part, tensor)):
        summed = tree_map(lambda part, like: part.reshape(-1, *like.shape).sum(0), leaf, tensor)
        total = summed if total is None else total + summed
    equal(total, expected)


def _is_inner(part, tensor):
    return isinstance(part, TensorMap) and isinstance(part.block(0).values, torch.Tensor)


def loaded(module, tensor):
    gradients = tensor.block(0).has_gradient("positions")
    systems = [made(1, gradients, seed) for seed in range(4)]
    loader = DataLoader(
        systems,
        batch_size=2,
        num_workers=2,
        collate_fn=partial(list),
        # other tests have started jax, whose threads a fork would lose
        multiprocessing_context="spawn",
    )
    function = Compiled(module)
    for batch in loader:
        for one in batch:
            equal(function(one), module(one))
    assert function.count == 1


#: numbers of systems in batches, in the test and in the table
SIZES = [1, 2]
USES = {
    "compile(fullgraph=True)": compiled,
    "export(strict=False)": partial(exported, strict=False),
    "export(strict=True)": partial(exported, strict=True),
    "func.grad": differentiated,
    "func.vmap": vmapped,
    "func.jacrev": jacobian,
    "DataLoader, 2 workers": loaded,
}


# torch warns of what it uses itself
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def argument(name):
    return made(gradients=name not in WITHOUT_GRADIENTS)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("use", USES)
def test_uses(name, use):
    if "DataLoader" not in use or name == "Sequential":  # starting processes takes long
        USES[use](MODULES[name](), argument(name))


# ----------------------------------------------------------------------------- compiled functions


def every_access(tensor):
    """Look at all that can be looked at; the result is made of it."""
    total = float(len(tensor) + len(tensor.keys) + len(tensor.block(0).samples))
    for key in tensor.keys:
        total = total + tensor.block(key).values.sum() * key["type"]
        (number,) = key
        total = total + tensor.block(type=int(number)).values.sum() + tensor[key].values.sum()
    for key, block in tensor.items():
        gradient = block.gradient("positions")
        total = total + gradient.values.sum() * (key == tensor.keys[0]) + gradient.values.shape[1]
        total = total + len(block.samples.names) * len(block.components) + len(gradient.components)
    if tensor.keys == KEYS and (8,) in tensor.keys and tensor.keys.position((7,)) is None:
        total = total * 2
    names = tensor.sample_names + tensor.property_names + tensor.component_names
    chosen = tensor.blocks(tensor.keys.entry(1))
    return {"total": total, "names": names, "chosen": chosen, "keys": tensor.keys}


def new_blocks(tensor):
    """Make blocks and maps of their parts and of new Labels."""
    blocks = []
    for block in tensor:
        numbers = np.arange(2).reshape(-1, 1)
        new = TensorBlock(
            values=block.values[:, :2],
            samples=block.samples,
            components=block.components,
            properties=Labels(["p", "q"], np.concatenate([numbers, numbers + 1], axis=1)),
        )
        old = block.gradient("positions")
        new.add_gradient(
            "positions",
            TensorBlock(old.values[..., :2], old.samples, old.components, new.properties),
        )
        blocks.append(new)
    result = TensorMap(tensor.keys.rename("type", "species"), blocks)
    result.set_info("made", "here")
    return result.to(torch.float32).copy()


def sums_of_rows(tensor):
    """Use Labels as positions, and make other Labels of them."""
    block = tensor.block(1)
    systems = torch.as_tensor(np.array(block.samples.column("system")))
    samples = Labels(["system"], np.unique(block.samples.values[:, 0])[:, None])
    zeros = torch.zeros(len(samples), N_PROPERTIES, dtype=block.dtype)
    sums = zeros.index_add(0, systems, block.values)
    return TensorBlock(sums, samples, [], block.properties)


def nested(parts):
    """Take and return Labels, maps and others in containers."""
    labels, tensor = parts["b"]
    return {"a": parts["a"] + tensor, "b": [labels.union(tensor.keys), (tensor.block(0), 1.5)]}


def forces(tensor):
    return torch.func.grad(lambda tensor: (metatensor.pow(tensor, 3).block(1).values).sum())(tensor)


INPUTS = {
    every_access: made,
    new_blocks: made,
    sums_of_rows: made,
    nested: lambda: {"a": made(), "b": [Labels(["type"], np.array([[3]])), made(seed=1)]},
    forces: lambda: made(gradients=False),
    nn.ChainRule(network()): made,
    nn.Add(KEYS, nn.Linear(KEYS, N_PROPERTIES, N_PROPERTIES)).double(): lambda: made(
        gradients=False
    ),
}


def alike(result, expected):
    assert type(result) is type(expected)
    if isinstance(expected, TensorBlock | TensorMap):
        equal(result, expected)
        assert not isinstance(expected, TensorMap) or result.info() == expected.info()
    elif isinstance(expected, dict | list | tuple):
        values = (part.values() if isinstance(part, dict) else part for part in (result, expected))
        for one, other in zip(*values, strict=True):
            alike(one, other)
    elif torch.is_tensor(expected):
        torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    else:
        assert result == expected


@pytest.mark.parametrize(
    ("function", "dynamic"),
    [*((function, None) for function in INPUTS), (every_access, True), (sums_of_rows, True)],
)
def test_functions_are_compiled_whole(function, dynamic):
    whole = Compiled(function, dynamic=dynamic)
    given = INPUTS[function]()
    alike(whole(given), function(given))
    alike(whole(INPUTS[function]()), function(given))
    assert whole.count == 1


def test_labels_that_show_tensors_hold_data():
    tensor = made().to(arrays="torch")

    def function(tensor):
        block = tensor.block(0)
        total = block.values * block.samples.column("atom")[:, None] + tensor.keys[0]["type"]
        return metatensor.append_dimension(tensor, "properties", "new", 3), total

    found, total = Compiled(function)(tensor)
    expected, expected_total = function(tensor)
    equal(found, expected)
    assert torch.equal(total, expected_total)
    assert type(found.block(0).properties.values) is torch.Tensor
    assert torch.equal(found.block(0).properties.values, expected.block(0).properties.values)


def test_code_is_made():
    """The backend that writes code in C++, once, as compiling that takes long."""
    whole = Compiled(joined, "inductor", dynamic=True)
    given = made().block(0).copy()
    given = TensorMap(Labels.single(), [given])
    alike(whole(given), joined(given))


def test_training():
    module, other = Energies(), Energies()
    whole = Compiled(module)
    for tensor in [made(), made(seed=1)]:
        for model in (whole, other):
            loss(model, tensor).backward()
    assert whole.count == 1
    for parameter, expected in zip(module.parameters(), other.parameters()):
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-10, atol=1e-12)
        assert parameter.grad.abs().max() > 0


def test_autograd_inside():
    """Torch must be told to trace it."""

    def function(tensor):
        block = tensor.block(0)
        values = block.values.detach().requires_grad_()
        new = TensorBlock(values, block.samples, [], block.properties)
        energy = metatensor.sum_over_samples(metatensor.pow(new, 3), ["system", "atom"])
        return torch.autograd.grad(energy.values.sum(), values)[0]

    with torch._dynamo.config.patch(trace_autograd_ops=True):
        found = Compiled(function)(made())
    torch.testing.assert_close(found, 3 * made().block(0).values ** 2)


@pytest.mark.parametrize(
    "tensor",
    [
        TensorMap(Labels.empty("type"), []),
        made(0),
        tree_map(lambda leaf: (10 * leaf).to(torch.int64), made()),
        tree_map(lambda leaf: leaf.requires_grad_(), made()),
    ],
    ids=["no blocks", "no rows", "integers", "requires grad"],
)
def test_unusual_maps(tensor):
    def function(tensor):
        return metatensor.sum_over_samples(tensor + tensor, "atom")

    alike(Compiled(function)(tensor), function(tensor))


def test_values_changed_in_place():
    def function(tensor):
        tensor.block(0).values.mul_(2.0)
        return tensor

    tensor = made()
    result = Compiled(function)(tensor)
    assert torch.equal(tensor.block(0).values, 2 * made().block(0).values)
    assert torch.equal(result.block(0).values, tensor.block(0).values)


def with_info(text):
    tensor = made()
    tensor.set_info("source", text)
    return tensor


@pytest.mark.parametrize(
    "change",
    [
        lambda: with_info("one"),
        lambda: with_info("two"),
        lambda: made(gradients=False),
        lambda: made(3),
        lambda: made().to(torch.float32),
        lambda: made().keys_to_samples("type"),
        lambda: metatensor.rename_dimension(made(), "properties", "n", "p"),
    ],
)
def test_what_changes_is_noticed(change):
    def function(tensor):
        return metatensor.sum_over_properties(2 * tensor, tensor.property_names)

    whole = Compiled(function)
    for tensor in (made(), change(), made()):
        alike(whole(tensor), function(tensor))
    assert whole.count == 2


def test_attached_gradients():
    block = made().block(0)
    atoms = Labels(["system", "atom"], np.array([[0, 0], [1, 0]]))
    xyz, one = [Labels.range("xyz", 3)], Labels.single()

    def function(block, positions):
        parameter = TensorBlock(positions, atoms, xyz, one)
        attached = metatensor.torch.attach_gradients(block, {"positions": parameter})
        return (attached.values**2).sum()

    gradients = []
    for run in (function, Compiled(function)):
        positions = torch.ones(2, 3, 1, dtype=torch.float64, requires_grad=True)
        run(block, positions).backward()
        gradients.append(positions.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 0


@pytest.mark.filterwarnings("error")
def test_graphs_may_be_broken():
    """What can not be compiled runs as it is, unless the graph must be whole."""

    def function(tensor, scale):
        weights = metatensor.lstsq(tensor, tensor, rcond=1e-10)
        if metatensor.equal(tensor, tensor):
            weights = weights * scale
        return metatensor.sum_over_samples(weights, "n")

    tensor, scale = made(gradients=False), torch.tensor(2.0).double()
    alike(torch.compile(function, backend="aot_eager")(tensor, scale), function(tensor, scale))


def test_too_many_labels():
    function = Compiled(lambda tensor: 2.0 * tensor)
    with torch._dynamo.config.patch(recompile_limit=2):
        for n_systems in (1, 2):
            function(made(n_systems))
        with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
            function(made(3))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda tensor: metatensor.add(tensor, tensor.block(0)),
            "`B` must be a metatensor TensorMap",
        ),
        (lambda tensor: metatensor.sum_over_samples(tensor, "nothing"), "nothing"),
        (lambda tensor: metatensor.equal(tensor, tensor), "not known"),
        (lambda tensor: tensor.block(type=7), "no block matches"),
    ],
)
def test_errors_say_what_is_wrong(function, message):
    with pytest.raises(Exception, match=message):
        Compiled(function)(made())


def filled(tensor):
    table = torch.zeros((3, 1), dtype=torch.int32)
    table[0] += 2
    return Labels(["n"], table)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (filled, "changed in place"),
        (lambda tensor: Labels(["n"], torch.randperm(5)[:, None]), "they are random"),
        (lambda tensor: Labels(["n"], tensor.block(0).values.int()), "computed from values"),
    ],
)
def test_numbers_of_labels_that_are_not_constant(function, message):
    with pytest.raises(torch._dynamo.exc.Unsupported, match=message):
        Compiled(function)(made())


ANOTHER_TORCH = """
import torch._dynamo
del torch._dynamo.nonstrict_trace
import metatensor.torch
from metatensor import Labels, TensorBlock, TensorMap
one = Labels.single()
tensor = TensorMap(one, [TensorBlock(torch.tensor([[3.0]]), one, [], one)])
assert torch.utils._pytree.tree_leaves({"a": tensor, "b": one}) == [3.0]
gradient = torch.func.grad(lambda tensor: (tensor * tensor).block().values.sum())(tensor)
assert gradient.block().values == 6
class Twice(torch.nn.Module):
    def forward(self, tensor, labels):
        return 2 * tensor
program = torch.export.export(Twice(), (tensor, one), strict=False)
assert program.module()(tensor, one).block().values == 6
"""


def test_without_private_names():
    """Another torch, which has not all the names that compiling needs."""
    subprocess.run([sys.executable, "-c", ANOTHER_TORCH], check=True)


def test_threads():
    function = torch.compile(network(), backend="aot_eager")
    results = {}

    def run(number):
        results[number] = function(made(gradients=False, seed=number))

    threads = [threading.Thread(target=run, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(2):
        equal(results[number], network()(made(gradients=False, seed=number)))


# ----------------------------------------------------------------------------- export and func

LOAD = """
import sys
import metatensor.torch
import metatensor as m, torch
program = torch.export.load(sys.argv[1])
tensor = m.load(sys.argv[2])
tensor = torch.utils._pytree.tree_map(torch.from_numpy, tensor)
m.save(sys.argv[3], m.detach(program.module()(tensor)).to(arrays="numpy"))
"""


def test_exported_programs_are_saved(tmp_path):
    tensor, module = made(gradients=False), Energies().eval()
    program = torch.export.export(module, (tensor,), strict=True)
    torch.export.save(program, tmp_path / "program.pt2")
    metatensor.save(tmp_path / "given.mts", tensor.to(arrays="numpy"))
    paths = [str(tmp_path / name) for name in ("program.pt2", "given.mts", "result.mts")]
    subprocess.run([sys.executable, "-c", LOAD, *paths], check=True, capture_output=True)
    with torch.no_grad():
        expected = module(tensor).to(arrays="numpy")
    equal(metatensor.load(paths[-1]), expected)


def test_exported_programs_are_for_the_same_labels():
    program = torch.export.export(Energies(), (made(),))
    with pytest.raises(Exception, match="(?i)spec"):
        program.module()(made(3))


def test_transforms_of_functions_with_parameters():
    module, tensor = Energies(), made()
    parameters = dict(module.named_parameters())

    def number(parameters, tensor):
        return loss(lambda tensor: torch.func.functional_call(module, parameters, tensor), tensor)

    gradient, value = torch.func.grad_and_value(number)(parameters, tensor)
    number(parameters, tensor).backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(gradient[name], parameter.grad)
    assert value == number(parameters, tensor)


def test_forward_and_reverse_agree():
    module, tensor = Function(metatensor.tanh), made(1)
    tangent = tree_map(torch.ones_like, tensor)
    value, pushed = torch.func.jvp(module, (tensor,), (tangent,))
    equal(value, module(tensor))
    step = 1e-6
    expected = (module(tensor + step * tangent) - module(tensor - step * tangent)) / (2 * step)
    testing.assert_allclose(pushed, expected, rtol=1e-7, atol=1e-8)
    forward, reverse = torch.func.jacfwd(module)(tensor), torch.func.jacrev(module)(tensor)
    for one, other in zip(tree_leaves(forward), tree_leaves(reverse), strict=True):
        torch.testing.assert_close(one, other)


if __name__ == "__main__":
    SIZES = range(1, 16)
    print("| |", " | ".join(USES), "|")
    print("|---|", "---|" * len(USES), sep="")
    for name, make in MODULES.items():
        outcomes = []
        for use in USES.values():
            try:
                outcomes.append(use(make(), argument(name)) or "works")
            except Exception as error:
                outcomes.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
        print(f"| {name} |", " | ".join(outcomes), "|", flush=True)
