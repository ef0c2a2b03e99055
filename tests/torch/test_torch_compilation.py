"""`metatensor.torch.compile` and `.export`: one graph for maps with any Labels."""

import copy
import json
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import metatensor
import metatensor.torch as mts
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.learn import nn
from metatensor.torch import compilation
from metatensor.torch.compilation import compile
from metatensor.torch.exporting import DESCRIPTION, export

KEYS = Labels.range("type", 3)
P = 4


def batch(n, seed=None, gradients=True, dtype=torch.float64):
    """A map of three blocks with about n rows each, and rows of gradients for some of them."""
    rng = np.random.default_rng(n if seed is None else seed)
    properties, xyz = Labels.range("n", P), [Labels.range("xyz", 3)]
    blocks = []
    for rows in range(n, n + 3):
        samples = np.stack([np.arange(rows) // 2, np.arange(rows)], axis=1)
        values = torch.tensor(rng.normal(size=(rows, P)), dtype=dtype)
        block = TensorBlock(values, Labels(["system", "atom"], samples), [], properties)
        if gradients:
            pairs = np.stack([np.arange(2 * rows) // 2, np.arange(2 * rows)], axis=1)
            values = torch.tensor(rng.normal(size=(2 * rows, 3, P)), dtype=dtype)
            rows = Labels(["sample", "atom"], pairs)
            block.add_gradient("positions", TensorBlock(values, rows, xyz, properties))
        blocks.append(block)
    return TensorMap(KEYS, blocks)


class Counter:
    """A backend that counts how often torch compiles."""

    def __init__(self):
        self.count = 0

    def __call__(self, graph, inputs):
        self.count += 1
        return graph.forward


def network(seed=0, width=5):
    torch.manual_seed(seed)
    return nn.Sequential(
        KEYS,
        nn.Linear(KEYS, P, width),
        nn.Tanh(KEYS),
        nn.Linear(KEYS, width, 1, bias=False),
    ).to(torch.float64)


NETWORK = network()
FORCES = nn.ChainRule(NETWORK)


def energies(tensor):
    per_atom = FORCES(tensor).keys_to_samples("type")
    return metatensor.sum_over_samples(per_atom, ["atom", "type"])


def by_hand(tensor):
    """Code of a user, who computes index arrays from Labels with numpy and with torch."""
    block = tensor.block(0)
    systems = torch.as_tensor(np.array(block.samples.column("system"))).long()
    found, inverse, counts = torch.unique(systems, return_inverse=True, return_counts=True)
    sums = torch.zeros(len(found), P, dtype=block.values.dtype).index_add(0, inverse, block.values)
    samples = Labels("system", found.reshape(-1, 1).to(torch.int32))
    return TensorBlock(sums / counts[:, None], samples, [], block.properties)


def in_place(tensor):
    """Plans and values that are made in the function may be changed in it."""
    block = tensor.block(1)
    order = torch.arange(len(block))
    order[0], order[1] = 1, 0
    order += 1
    order %= len(block)
    values = block.values.clone()
    values *= torch.tensor([2.0, 1.0, 0.5, 1.0], dtype=values.dtype)
    values[0] += 1
    total = torch.tensor([0.0], dtype=values.dtype)
    total += values[order].sum()
    return values[order], total


FUNCTIONS = {
    "elementwise": lambda tensor: 2.0 * tensor**2 + tensor / 3,
    "sum_over_samples": lambda tensor: metatensor.sum_over_samples(tensor, "atom"),
    "mean_over_samples": lambda tensor: metatensor.mean_over_samples(tensor, ["atom"]),
    "keys_to_properties": lambda tensor: tensor.keys_to_properties("type"),
    "keys_to_samples": lambda tensor: metatensor.abs(tensor.keys_to_samples("type")),
    "join": lambda tensor: metatensor.join(
        [tensor, 2 * tensor], "samples", add_dimension="which", different_keys="error"
    ),
    "slice": lambda tensor: metatensor.slice(
        tensor, "samples", Labels("system", np.array([[1], [2]]))
    ),
    "sort": lambda tensor: metatensor.sort(tensor, descending=True),
    "properties": lambda tensor: metatensor.var_over_properties(tensor, "n"),
    "energies": energies,
    "by hand": by_hand,
    "in place": in_place,
}


def leaves(result):
    return torch.utils._pytree.tree_leaves(result)


def assert_same(result, expected, tolerance=1e-12):
    """Labels are the same, and numbers up to rounding."""
    found, structure = torch.utils._pytree.tree_flatten(result)
    wanted, wanted_structure = torch.utils._pytree.tree_flatten(expected)
    assert structure == wanted_structure
    for array, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(array, other, rtol=tolerance, atol=tolerance)


# ---- one compilation for all Labels


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_compilation_for_fifteen_sizes(name):
    function, counter = FUNCTIONS[name], Counter()
    compiled = compile(function, backend=counter)
    for n in range(4, 19):
        tensor = batch(n)
        assert_same(compiled(tensor), function(tensor))
    assert (compiled.n_graphs, compiled.n_recordings, counter.count) == (1, 15, 1)
    for n in range(4, 19):  # known by now
        assert_same(compiled(batch(n, seed=99)), function(batch(n, seed=99)))
    assert (compiled.n_graphs, compiled.n_recordings, counter.count) == (1, 15, 1)


def test_what_varies_may_be_found_later():
    """A number that is no size at first sight, and differs only in the third batch."""
    counter = Counter()

    def function(tensor):
        first = max(1, len(tensor.block(0)) - 10)
        return tensor.block(0).values[first]

    compiled = compile(function, backend=counter)
    for n in (4, 6, 11, 12, 13, 14, 20):
        assert_same(compiled(batch(n)), function(batch(n)))
    assert counter.count == 2


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_factors_that_follow_from_labels(backend):
    """One graph, which is compiled again when they have changed for the first time."""

    def function(tensor):
        values = tensor.block(0).values
        return (values**2).sum() / len(values) + 0.5 / (0.1 * len(values)) * values, values - 1.5

    counter = CompileCounterWithBackend(backend)
    compiled = compile(function, backend=counter)
    for n in (2, 3, 7, 8, 9, 20, 3):
        tensor = batch(n, gradients=False)
        start = tensor.block(0).values.requires_grad_()
        found = compiled(tensor)
        assert_same(found, function(tensor))
        losses = [result[0].square().sum() for result in (found, function(tensor))]
        assert_same(*[torch.autograd.grad(loss, start) for loss in losses])
    assert compiled.n_graphs == 1
    assert counter.frame_count <= 3
    with pytest.raises(ValueError, match="with the number 3 where these arguments give 5"):
        export(lambda array: array / len(array), (torch.ones(3),))(torch.ones(5))


@pytest.mark.parametrize("n", [0, 1])
def test_lengths_of_zero_and_one(n):
    counter = Counter()
    compiled = compile(FUNCTIONS["sum_over_samples"], backend=counter)
    for rows in (5, n, 6, n, 7):
        assert_same(compiled(batch(rows)), metatensor.sum_over_samples(batch(rows), "atom"))
    assert counter.count == 2
    assert compiled.n_graphs <= 2


def test_maps_without_blocks():
    empty = TensorMap(Labels.empty("type"), [])
    assert compile(lambda tensor: 2 * tensor, backend="eager")(empty) == empty


def test_info_labels_and_numbers_go_through():
    tensor = batch(4)
    tensor.set_info("unit", "eV")

    def function(data, factor, *, shift):
        return {
            "map": data["map"] * factor + shift,
            "rows": data["map"].block(0).samples,
            "same": data["more"][0],
            "n": len(data["more"]),
            "none": None,
        }

    compiled = compile(function, backend="eager")
    data = {"map": tensor, "more": [torch.ones(3), "text", KEYS]}
    result = compiled(data, 2.0, shift=1)
    assert_same(result["map"], tensor * 2.0 + 1)
    assert result["map"].get_info("unit") == "eV"
    assert result["rows"] == tensor.block(0).samples
    assert result["same"] is data["more"][0]
    assert (result["n"], result["none"]) == (3, None)
    assert_same(compiled(data, 3.0, shift=-1)["map"], tensor * 3.0 - 1)


@pytest.mark.parametrize(("first", "second"), [(1, 1.0), (1, True), (0.0, -0.0), (2, 2.0)])
def test_numbers_that_are_equal_are_not_the_same(first, second):
    integers = torch.arange(1, 5)
    compiled = compile(lambda array, number: array / (array * number), backend="eager")
    for number in (first, second, first):
        expected = integers / (integers * number)
        assert_same(compiled(integers, number), expected)
    product = compile(lambda array, number: array * number, backend="eager")
    for number in (first, second, first):
        assert product(integers, number).dtype == (integers * number).dtype


def test_not_a_number_is_compiled_once():
    counter = Counter()
    compiled = compile(lambda t: metatensor.add(t, float("nan")), backend=counter)
    for n in range(4, 8):
        assert torch.isnan(compiled(batch(n)).block(0).values).all()
    assert (compiled.n_graphs, counter.count) == (1, 1)


def test_dtypes_and_strides():
    compiled = compile(FUNCTIONS["sum_over_samples"], backend="eager")
    for dtype in (torch.float64, torch.float32, torch.complex128):
        tensor = batch(5, dtype=dtype)
        assert_same(compiled(tensor), metatensor.sum_over_samples(tensor, "atom"), 1e-6)
        blocks = [
            TensorBlock(b.values.T.contiguous().T, b.samples, [], b.properties) for b in tensor
        ]
        tensor = TensorMap(KEYS, blocks)
        assert_same(compiled(tensor), metatensor.sum_over_samples(tensor, "atom"), 1e-6)


# ---- gradients


def weights_and_positions(function, tensor):
    """Gradients of a loss on values and on stored gradients, for parameters and the input."""
    tensor = tensor.copy()
    for block in tensor:
        block.values.requires_grad_()
    block = function(tensor).block()
    loss = (block.values**2).sum() + (block.gradient("positions").values ** 2).sum()
    wanted = [*NETWORK.parameters(), *(block.values for block in tensor)]
    return [loss, *torch.autograd.grad(loss, wanted)]


def test_autograd_through_compiled_functions():
    """Weights are trained on forces, which is a second derivative."""
    counter = Counter()
    compiled = compile(energies, backend=counter)
    for n in (4, 7, 12):
        found = weights_and_positions(compiled, batch(n))
        assert_same(found, weights_and_positions(energies, batch(n)))
    assert (compiled.n_graphs, counter.count) == (1, 1)


def test_autograd_inside():
    """Forces are derivatives of energies by positions, taken inside."""

    def forces(positions, systems, weight):
        distances = (positions[None] - positions[:, None]).square().sum(-1)
        energy = (torch.exp(-distances) * weight * (systems[None] == systems[:, None])).sum()
        (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
        return energy, gradient

    counter = Counter()
    compiled = compile(forces, backend=counter)
    weight = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    for n in (5, 6, 9):
        torch.manual_seed(n)
        positions = torch.rand(n, 3, dtype=torch.float64, requires_grad=True)
        systems = torch.arange(n) // 2
        both = [function(positions, systems, weight) for function in (compiled, forces)]
        assert_same(*both)
        losses = [energy + gradient.square().sum() for energy, gradient in both]
        assert_same(*[torch.autograd.grad(loss, [weight, positions]) for loss in losses])
    assert counter.count == 1


def test_no_grad_inside_and_outside():
    weight = torch.ones(P, dtype=torch.float64, requires_grad=True)

    def function(array):
        with torch.no_grad():
            shift = (array * weight).mean(0)
        return (array * weight - shift).square()

    compiled = compile(function, backend="aot_eager")
    array = torch.rand(5, P, dtype=torch.float64)
    found = [torch.autograd.grad(f(array).sum(), weight) for f in (compiled, function)]
    assert_same(*found)
    with torch.no_grad():
        assert not compiled(array).requires_grad
    assert compiled(array).requires_grad
    assert not compile(lambda x: (x * weight).detach(), backend="aot_eager")(array).requires_grad


def test_functions_with_their_own_derivative():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, array):
            return array.clone()

        @staticmethod
        def backward(ctx, gradient):
            return 2 * gradient

    def outside(array):
        return Twice.apply(array)

    array = torch.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="`outside` uses TwiceBackward.*inside"):
        compile(outside, backend="eager")(array)

    def inside(array):
        return torch.autograd.grad(Twice.apply(array).sum(), array)[0]

    assert_same(compile(inside, backend="eager")(array), inside(array))
    assert_same(
        compile(lambda array: Twice.apply(array), backend="eager")(array.detach()), array.detach()
    )


# ---- what is around a function


def test_parameters_that_change():
    model = network(1)
    compiled = compile(model, backend="eager")
    tensor = batch(5, gradients=False)
    assert_same(compiled(tensor), model(tensor))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    assert_same(compiled(tensor), model(tensor))
    model.load_state_dict(network(2).state_dict())
    assert_same(compiled(tensor), model(tensor))
    linear = model.module_map.module_list[0][0]
    linear.weight = torch.nn.Parameter(torch.zeros_like(linear.weight))
    assert_same(compiled(tensor), model(tensor))
    assert compiled.n_graphs == 1


def test_modules_that_train():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(P), torch.nn.Dropout(0.5)).double()
    array = torch.rand(9, P, dtype=torch.float64)
    reference = torch.nn.BatchNorm1d(P).double()
    compiled = compile(model, backend="aot_eager")
    for _ in range(3):
        reference(array)
        zeros = compiled(array) == 0
        assert 0 < zeros.sum() < zeros.numel()
    assert_same(model[0].running_mean, reference.running_mean)
    assert int(model[0].num_batches_tracked) == 3
    model.eval()
    assert_same(compiled(array), reference.eval()(array))


def test_modules_behind_other_functions():
    dropout = torch.nn.Dropout(0.5)
    parts = {"dropout": dropout}

    def helper(array):
        return parts["dropout"](array)

    compiled = compile(lambda array: helper(array), backend="aot_eager")
    array = torch.ones(1000)
    for _ in range(2):
        dropout.train()
        assert 300 < (compiled(array) == 0).sum() < 700
        dropout.eval()
        assert_same(compiled(array), array)
    assert compiled.n_recordings == 2


def test_recordings_are_forgotten(monkeypatch):
    monkeypatch.setattr(compilation, "_MOST_RECORDINGS", 3)
    compiled = compile(FUNCTIONS["sum_over_samples"], backend="eager")
    for n in (4, 5, 6, 4, 7, 4, 5):
        compiled(batch(n))
    assert compiled.n_recordings == 5
    monkeypatch.setattr(compilation, "_MOST_BYTES", 1)
    for n in (4, 4, 5):
        assert_same(compiled(batch(n)), metatensor.sum_over_samples(batch(n), "atom"))
    assert compiled.n_recordings == 6


def test_transforms_inside_and_outside():
    weight = torch.rand(P, P, dtype=torch.float64)

    def inside(array):
        return torch.func.vmap(torch.func.jacrev(lambda row: torch.tanh(weight @ row)))(array)

    array = torch.rand(5, P, dtype=torch.float64)
    compiled = compile(inside, backend="aot_eager")
    for n in (5, 6, 7):
        array = torch.rand(n, P, dtype=torch.float64)
        assert_same(compiled(array), inside(array))
    assert compiled.n_graphs == 1


FACTOR = 2.0


def test_numbers_around_a_function(monkeypatch):
    def function(array):
        return FACTOR * shift * array

    compiled = compile(function, backend="eager")
    shift = 3.0
    assert_same(compiled(torch.ones(2)), 6 * torch.ones(2))
    shift = 4.0
    assert_same(compiled(torch.ones(2)), 8 * torch.ones(2))
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 5.0)
    assert_same(compiled(torch.ones(2)), 20 * torch.ones(2))


def test_inputs_are_changed_where_the_function_changes_them():
    array = torch.ones(3)
    compile(lambda array: array.add_(1), backend="aot_eager")(array)
    assert_same(array, 2 * torch.ones(3))


def test_methods_and_decorators():
    class Model:
        scale = 3.0

        @compile(backend="eager")
        def unbound(array):
            """Make it twice as large."""
            return 2 * array

        def method(self, array):
            return self.scale * array

    assert Model.unbound.__doc__ == "Make it twice as large."
    assert_same(Model.unbound(torch.ones(2)), 2 * torch.ones(2))
    assert_same(compile(Model().method, backend="eager")(torch.ones(2)), 3 * torch.ones(2))


def changes_plans(tensor):
    """Arrays that follow from Labels, changed by values in place, and views of them."""
    values = tensor.block(0).values
    counts, sums = torch.zeros(len(values), dtype=torch.long), torch.arange(len(values)).double()
    part = counts[1:]
    counts.index_add_(0, torch.arange(len(values)), (values[:, 0] > 0).long())
    part += 1
    sums[2:] += values.sum()
    literal = torch.tensor([1.0, 2.0], dtype=values.dtype)
    literal[0] += values.sum()
    shared = torch.as_tensor(np.arange(3.0))
    shared += values.sum()
    return counts + 1, part, sums, sums[1:], literal, shared


def changes_without_gradients(tensor):
    """Numbers change, and torch goes on to differentiate what they were computed by."""
    values = tensor.block(0).values.clone().requires_grad_()
    first, second, third = values * 2, values * 3, values * 4
    with torch.no_grad():
        first.mul_(2)
    second.data.mul_(2)
    third.detach().mul_(2)
    return torch.autograd.grad((first**2 + second**2 + third**2).sum(), values)


def masks(tensor):
    """Masks that follow from Labels select rows; the number of rows follows, too."""
    values = tensor.block(0).values.clone()
    mask = torch.as_tensor(np.array(tensor.block(0).samples.column("atom"))) % 2 == 0
    values[mask, 1] = 2 * values[mask, 2]
    return values[mask], values[~mask].sum(), values[:, torch.tensor([True, False, True, False])]


def detaches_behind_functions(tensor):
    values = tensor.block(0).values.clone().requires_grad_()
    hard = torch.nn.functional.gumbel_softmax(values, hard=True)
    return torch.autograd.grad((hard * values.detach()).sum(), values)


def forward_mode(tensor):
    def energy(row):
        return torch.tanh(row**2).sum()

    values = tensor.block(0).values
    tangent = torch.func.jvp(torch.sin, (values,), (torch.ones_like(values),))[1]
    return torch.func.vmap(torch.func.hessian(energy))(values), tangent


def makes_modules(tensor):
    return nn.ChainRule(NETWORK)(metatensor.remove_gradients(tensor))


def checkpointed(tensor):
    block = tensor.block(0)
    return torch.utils.checkpoint.checkpoint(torch.tanh, block.values, use_reentrant=False)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    "function",
    [
        changes_plans,
        changes_without_gradients,
        masks,
        detaches_behind_functions,
        forward_mode,
        makes_modules,
        checkpointed,
        torch.compile(lambda tensor: 2 * tensor.block(0).values, backend="eager"),
        compile(lambda tensor: 2 * tensor.block(0).values, backend="eager"),
    ],
)
def test_again_with_known_labels(function):
    """What one call does to arrays that are kept must not be seen in others."""
    compiled = compile(function, backend="eager")
    for n, seed in ((6, 0), (9, 0), (6, 1), (6, 2), (9, 1)):
        both = []
        for called in (compiled, function):
            torch.manual_seed(seed)
            both.append(called(batch(n, seed=seed, gradients=False)))
        result, _ = both
        assert_same(*both)
        for array in leaves(result):
            array.detach().zero_()
    assert (compiled.n_graphs, compiled.n_recordings) == (1, 2)


def test_what_torch_follows():
    weight = torch.rand(P, dtype=torch.float64, requires_grad=True)

    def function(array):
        with torch.enable_grad():
            return array.detach(), array * weight

    compiled = compile(function, backend="eager")
    array = torch.rand(5, P, dtype=torch.float64)
    for mode in (torch.no_grad(), torch.enable_grad()):
        with mode:
            detached, product = compiled(array)
        assert (detached.requires_grad, product.requires_grad) == (False, True)
        (gradient,) = torch.autograd.grad(product.sum(), weight)
        assert_same(gradient, array.sum(0))

    def forces(positions):
        positions.requires_grad_()
        energy = (positions**3 * weight).sum()
        return energy, torch.autograd.grad(energy, positions, create_graph=True)[0]

    positions, others = array.clone(), array.clone()
    found, expected = compile(forces, backend="eager")(positions), forces(others)
    assert_same(found, expected)
    found, expected = [
        torch.autograd.grad(energy + gradient.sum(), [weight, where])
        for (energy, gradient), where in ((found, positions), (expected, others))
    ]
    assert_same(found, expected)


def test_inference_mode():
    weight = torch.rand(3, P, dtype=torch.float64, requires_grad=True)
    compiled = compile(lambda array: array * weight[0], backend="aot_eager")
    array = torch.rand(5, P, dtype=torch.float64)
    with torch.inference_mode():
        product = compiled(array)
        assert_same(compiled(product), array * weight[0] ** 2)
    assert product.is_inference()
    assert compiled(array).requires_grad


def test_one_array_given_twice():
    def function(first, second):
        return torch.autograd.grad((first * second**2).sum(), first)[0]

    compiled = compile(function, backend="eager")
    array, other = [torch.rand(4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    for given in ((array, other), (array, array), (other, array)):
        assert_same(compiled(*given), function(*given))


def test_autocast_is_part_of_a_recording():
    def function(array):
        with torch.autocast("cpu", enabled=False):
            exact = array @ array.T
        return exact, array @ array.T

    compiled, array = compile(function, backend="eager"), torch.rand(5, 3)
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            exact, rough = compiled(array)
        assert (exact.dtype, rough.dtype) == (torch.float32, torch.bfloat16)
        assert compiled(array)[1].dtype == torch.float32


def test_arrays_that_are_lazy_or_strange():
    def function(array):
        return 2 * array, array @ array.T, torch.view_as_real(array.resolve_conj())

    compiled = compile(function, backend="eager")
    array = torch.rand(4, 3, dtype=torch.complex128)
    for given in (array, array.conj(), array):
        assert_same(compiled(given), function(given))
    product = compile(lambda array, factor: factor * array, backend="eager")
    assert_same(product(array.conj().imag, np.float64(2.0)), 2 * array.conj().imag)
    strange = [torch.eye(3).to_sparse(), torch.ones(3).as_subclass(type("A", (torch.Tensor,), {}))]
    for given in strange:
        with pytest.raises(TypeError, match="must be dense arrays of torch itself"):
            product(given, 1)
    sparse = torch.eye(3).to_sparse()
    with pytest.raises(RuntimeError, match="sparse array"):
        compile(lambda array: sparse @ array, backend="eager")(torch.ones(3, 1))


def test_labels_stay_in_their_library():
    compiled = compile(lambda block: block.samples, backend="eager")
    for samples in (Labels.range("s", 2), mts.Labels.range("s", 2), Labels.range("s", 2)):
        block = TensorBlock(torch.ones(2, 1), samples, [], Labels.single())
        assert type(compiled(block).values) is type(samples.values)


def test_dtypes_and_needs_that_torch_compiles_apart():
    """Torch refuses to compile one function too often; then it runs step by step."""
    counter = Counter()

    def function(first, second):
        return first + second.sum()

    compiled = compile(function, backend=counter)
    for dtype in (torch.float32, torch.float64, torch.complex64):
        for need in (False, True):
            for n in (1, 2):
                first, second = [torch.ones(n, 2, dtype=dtype, requires_grad=need) for _ in "ab"]
                assert_same(compiled(first, second), function(first, second), 1e-6)
                with torch.no_grad():
                    assert_same(compiled(first, second), function(first, second), 1e-6)
    assert (compiled.n_graphs, counter.count) == (1, 8)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_inside_of_other_transforms():
    """There it runs as it is."""
    weight = torch.rand(P, dtype=torch.float64)
    compiled = compile(lambda array: (array**2 * weight).sum(), backend="eager")
    array = torch.rand(3, P, dtype=torch.float64)
    assert_same(torch.func.grad(compiled)(array), 2 * array * weight)
    assert_same(torch.func.vmap(compiled)(array), (array**2 * weight).sum(1))
    again = torch.compile(lambda array: compiled(array) + 1, backend="eager", fullgraph=True)
    assert_same(again(array), compiled(array) + 1)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(array, array)
        tangent = torch.autograd.forward_ad.unpack_dual(compiled(dual)).tangent
    assert_same(tangent, 2 * compiled(array))
    assert compiled.n_recordings == 1


def test_copies_and_pickles():
    compiled = compile(torch.nn.Linear(P, 2), backend="eager")
    array = torch.ones(3, P)
    expected = compiled(array)
    for other in (copy.deepcopy(compiled), pickle.loads(pickle.dumps(compiled))):
        assert_same(other(array), expected)
        torch.nn.init.zeros_(other.function.weight)
        assert_same(compiled(array), expected)


class Model(torch.nn.Module):
    """A module that is called in other ways than by its name."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(P))
        self.part = torch.nn.Dropout(0.0)
        self.register_buffer("count", torch.zeros(2, dtype=torch.long))
        self.power = 1

    def forward(self, array):
        return self.part(array * self.weight) ** self.power * (1 + self.count[0])

    def counted(self, array):
        self.count[0] += 1
        return array * self.count[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model, "weight", torch.nn.Parameter(3 * torch.ones(P))),
        lambda model: setattr(model, "part", torch.nn.Tanh()),
        lambda model: setattr(model.part, "p", 1.0),
        lambda model: setattr(model, "power", 2),
        lambda model: model.count.add_(1),
        lambda model: model.double(),
        lambda model: model.weight.requires_grad_(False),
    ],
)
def test_modules_that_change(change):
    """Whatever is changed in a module is seen, also if only a method of it is called."""
    model = Model()
    functions = [model, model.forward, lambda array: model.forward(array)]
    compiled = [compile(function, backend="eager") for function in functions]
    array = torch.rand(3, P)
    for function in compiled:
        assert_same(function(array), model(array))
    change(model)
    for function in compiled:
        result, expected = function(array), model(array)
        assert_same(result, expected)
        assert (result.dtype, result.requires_grad) == (expected.dtype, expected.requires_grad)


def test_buffers_of_integers_that_count():
    model, reference = Model(), Model()
    compiled, array = compile(model.counted, backend="eager"), torch.rand(3, P)
    for _ in range(3):
        assert_same(compiled(array), reference.counted(array))
    assert_same(model.count, reference.count)


def test_variables_that_hold_another_object():
    linear, factor = torch.nn.Linear(P, 2), torch.ones(2)
    compiled = compile(lambda array: linear(array) * factor, backend="eager")
    array = torch.rand(3, P)
    for n in range(3):
        linear, factor = torch.nn.Linear(P, 2), n * torch.ones(2)
        assert_same(compiled(array), linear(array) * factor)


# ---- what can not be


class Careless(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, array, way):
        if way == "buffer":
            self.mean = self.mean + array
        elif way == "attribute":
            self.last = 2 * array
        elif way == "backward":
            (self.weight * array).sum().backward()
        else:
            self.mean.add_(self.weight * array)
        return array


@pytest.mark.parametrize("way", ["buffer", "attribute", "backward", "followed"])
def test_arrays_left_in_modules(way):
    model = Careless()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="leaves an array in .*, which compiled code does"):
            compile(model, backend="eager")(torch.ones(2), way)
    assert (model.weight.grad, model.mean.requires_grad) == (None, False)
    assert type(model.mean) is torch.Tensor
    assert not hasattr(model, "last")


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda array, data: data.update(y=array), "changes the lists, dicts, blocks or maps"),
        (lambda array, data: data["map"].set_info("unit", "eV"), "changes the lists, dicts"),
        (lambda array, data: array.register_hook(torch.neg), "uses `Tensor.register_hook`"),
        (lambda array, data: setattr(array, "data", array), "an assignment to `Tensor.data`"),
        (lambda array, data: (2 * array).detach_(), "uses `Tensor.detach_`"),
        (lambda array, data: array.sum().backward(), r"leaves an array in `.grad` of an argument"),
        (lambda array, data: array + torch.rand(2, generator=RANDOM), "from a generator of its"),
        (lambda array, data: torch.from_numpy(MEMORY).numpy() + array.tolist(), "asks for numbers"),
        (lambda array, data: IN_NUMPY.add_(array.detach()), "memory is that of a numpy array"),
    ],
)
def test_what_is_not_recorded(function, match):
    compiled = compile(function, backend="eager")
    for _ in range(2):
        with pytest.raises(RuntimeError, match=match):
            compiled(torch.ones(2, requires_grad=True), {"map": batch(2)})


RANDOM = torch.Generator()
MEMORY = np.ones(2, dtype=np.float32)
IN_NUMPY = torch.from_numpy(MEMORY)


def test_another_sequence_for_each_size():
    def function(array):
        for _ in range(len(array)):
            array = array * 2
        return array

    compiled = compile(function, backend="eager")
    for n in range(2, 10):
        compiled(torch.ones(n))
    assert compiled.n_graphs == 8
    with pytest.warns(UserWarning, match="`function` does another sequence"):
        assert_same(compiled(torch.ones(10)), 1024 * torch.ones(10))


@pytest.mark.parametrize(
    ("function", "argument", "error", "match"),
    [
        (lambda a: a.sum().item(), torch.ones(2), RuntimeError, "asks for numbers in an array"),
        (lambda a: a[a > 0], torch.ones(2), RuntimeError, "asks for numbers in an array"),
        (lambda a: a if a.sum() > 0 else -a, torch.ones(2), RuntimeError, "asks for numbers"),
        (lambda a: 2 * a, np.ones(2), TypeError, "arrays of torch.*to\\(arrays='torch'\\)"),
        (lambda a: object(), torch.ones(2), TypeError, "must return arrays, blocks, maps"),
        (lambda a: 1, {1}, TypeError, "must be arrays, maps, Labels.*got set"),
        (lambda a: metatensor.allclose(a, a), batch(3), RuntimeError, "asks for numbers"),
    ],
)
def test_errors(function, argument, error, match):
    with pytest.raises(error, match=match):
        compile(function, backend="eager")(argument)
    with pytest.raises(error, match=match):
        export(function, (argument,))


def test_arrays_left_in_variables():
    left = []

    def function(array):
        left.append(array)
        return 2 * left[0]

    compiled = compile(function, backend="eager")
    compiled(torch.ones(2))
    with pytest.raises(RuntimeError, match="an earlier recording has left"):
        compiled(torch.ones(3))


def test_errors_of_the_function_are_its_own():
    with pytest.raises(ValueError, match="`sample_names` must be among"):
        compile(lambda t: metatensor.sum_over_samples(t, "no"), backend="eager")(batch(3))
    with pytest.raises(TypeError, match="`function` must be callable, got int"):
        compile(3)


def test_text():
    compiled = compile(FUNCTIONS["by hand"], backend="eager")
    compiled(batch(4))
    compiled(batch(5))
    assert repr(compiled) == "CompiledFunction(by_hand: 1 graph(s) from 2 recording(s))"


def test_threads():
    compiled = compile(FUNCTIONS["sum_over_samples"], backend="eager")
    compiled(batch(4))
    results = {}

    def work(n):
        for rows in range(4, 9):
            results[n, rows] = compiled(batch(rows, seed=n))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (n, rows), result in results.items():
        assert_same(result, metatensor.sum_over_samples(batch(rows, seed=n), "atom"))
    assert len(results) == 20


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_inductor():
    """Once with the compiler that users have."""

    def loss(tensor):
        result = metatensor.sum_over_samples(tensor**2, "atom")
        return sum(block.gradient("positions").values.square().sum() for block in result)

    compiled = compile(loss)
    for n in (5, 8):
        tensor = batch(n)
        for block in tensor:
            block.values.requires_grad_()
        both = [
            torch.autograd.grad(function(tensor), [block.values for block in tensor])
            for function in (compiled, loss)
        ]
        assert_same(*both)


# ---- export


@pytest.mark.parametrize("name", FUNCTIONS)
def test_exported_programs_run_on_other_sizes(name):
    function = FUNCTIONS[name]
    exported = export(function, (batch(6),))
    for n in (4, 15):
        assert_same(exported(batch(n, seed=n + 1)), function(batch(n, seed=n + 1)))


def test_files_of_programs_need_nothing_of_this_package(tmp_path):
    exported = export(energies, (batch(6),))
    exported.save(tmp_path / "model.pt2")
    names = {name.split("module_list_")[1] for name in exported.program.state_dict}
    assert names == {
        f"{key}_{name}" for key in range(3) for name in ("0_weight", "0_bias", "2_weight")
    }
    torch.save(exported.inputs(batch(9)), tmp_path / "inputs.pt")
    code = f"""
import json, sys, torch
files = {{{DESCRIPTION!r}: ""}}
program = torch.export.load({str(tmp_path / "model.pt2")!r}, extra_files=files).module()
made = program(*torch.load({str(tmp_path / "inputs.pt")!r}))
torch.save([made, json.loads(files[{DESCRIPTION!r}])], {str(tmp_path / "outputs.pt")!r})
assert "metatensor" not in sys.modules
"""
    subprocess.run([sys.executable, "-I", "-W", "ignore", "-c", code], check=True)
    made, description = torch.load(tmp_path / "outputs.pt")
    assert_same(made, leaves(energies(batch(9))))
    assert [output["path"] for output in description["outputs"]] == [
        "[0].values",
        "[0]['positions'].values",
    ]
    assert description == json.loads(json.dumps(exported.description))
    first = description["inputs"][1]
    assert first["path"] == "[0][0][0]['positions'].values"
    assert (first["name"], first["dtype"]) == ("input_1", "torch.float64")


def test_programs_with_and_without_gradients():
    """A program that was exported where torch follows runs where it does not, and conversely."""
    function = nn.ChainRule(NETWORK)
    exports = [export(function, (batch(6),))]
    with torch.no_grad():
        exports.append(export(function, (batch(6),)))
        for exported in exports:
            assert_same(exported(batch(9)), function(batch(9)))


def test_arrays_around_exported_functions():
    """They are part of the program, as parameters are, and must stay the same objects."""
    model, factor = torch.nn.Linear(P, 2), torch.ones(2)
    exported = export(lambda array: model(array) * factor, (torch.ones(3, P),))
    assert [entry["name"] for entry in exported.description["inputs"]] == ["input_0"]
    with torch.no_grad():
        factor.mul_(3)
        model.weight.mul_(2)
    assert_same(exported(torch.ones(5, P)), model(torch.ones(5, P)) * factor)
    model.weight = torch.nn.Parameter(torch.zeros(2, P))
    with pytest.raises(ValueError, match="uses other parameters"):
        exported(torch.ones(5, P))


def test_arrays_given_twice_are_one_input():
    array = torch.ones(3)
    exported = export(lambda first, again, other: first * again + other, (array, array, 2 * array))
    assert [entry["path"] for entry in exported.description["inputs"]] == ["[0][0]", "[0][2]"]
    assert_same(exported(given := torch.ones(5), given, given + 1), 3 * torch.ones(5))
    with pytest.raises(ValueError, match="does other things"):
        exported(torch.ones(5), torch.ones(5), torch.ones(5))


def test_examples_must_be_large_enough():
    function = FUNCTIONS["sum_over_samples"]
    exported = export(function, (batch(1),))
    assert_same(exported(batch(1, seed=3)), function(batch(1, seed=3)))
    with pytest.raises(ValueError, match="export it again with an example"):
        exported(batch(5))
    exported = export(lambda array: [array := array + 1 for _ in array][-1], (torch.ones(3),))
    with pytest.raises(ValueError, match="does other things"):
        exported(torch.ones(4))
    exported = export(function, (batch(3),))
    assert repr(exported).startswith("ExportedFunction(<lambda>: ")
    with pytest.raises(ValueError, match=r"for arrays of torch.float64, got torch.float32; use"):
        exported(batch(3, dtype=torch.float32))
    with pytest.raises(TypeError, match="`args` must be a tuple"):
        export(function, batch(2))
