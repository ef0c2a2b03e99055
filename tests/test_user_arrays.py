"""Arrays of classes that this package has never seen, which follow the Array API standard."""

import operator
import pickle

import numpy as np
import pytest

import metatensor
from metatensor import Labels, TensorBlock, TensorMap


class Wrapped:
    """The least that values need: a shape, a dtype, a device, entries, operators, a namespace."""

    def __init__(self, numbers):
        self._numbers = numbers

    def __array_namespace__(self, api_version=None):
        return NAMESPACE

    @property
    def shape(self):
        return self._numbers.shape

    @property
    def dtype(self):
        return self._numbers.dtype

    @property
    def device(self):
        return "cpu"

    def __getitem__(self, where):
        return applied(operator.getitem, self, where)


def applied(function, *args, **kwargs):
    """Call a function of numpy for the numbers inside, and wrap what it gives."""
    result = function(*map(unwrapped, args), **{k: unwrapped(v) for k, v in kwargs.items()})
    if isinstance(result, (np.ndarray, np.generic)):
        return Wrapped(np.asarray(result))
    return result


def unwrapped(value):
    if isinstance(value, Wrapped):
        return value._numbers
    if isinstance(value, (list, tuple)):
        return type(value)(map(unwrapped, value))
    return value


class Namespace:
    """Functions of the standard, which write down that they were called."""

    def __init__(self):
        self.called = set()

    def __getattr__(self, name):
        function = getattr(np, name)
        if not callable(function) or isinstance(function, type):
            return function

        def call(*args, **kwargs):
            self.called.add(name)
            return applied(function, *args, **kwargs)

        return call


NAMESPACE = Namespace()


def binary(function):
    def method(self, other):
        return applied(function, self, other)

    def reflected(self, other):
        return applied(function, other, self)

    return method, reflected


for name in ("add", "sub", "mul", "truediv", "pow", "and", "or"):
    method, reflected = binary(getattr(operator, f"__{name}__"))
    setattr(Wrapped, f"__{name}__", method)
    setattr(Wrapped, f"__r{name}__", reflected)
for name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Wrapped, f"__{name}__", binary(getattr(operator, name))[0])
for name in ("neg", "abs", "invert"):
    function = getattr(operator, name)
    setattr(Wrapped, f"__{name}__", lambda self, function=function: applied(function, self))


def tensor_of(asarray):
    """Two blocks with components and gradients."""
    rng = np.random.default_rng(3)
    blocks = []
    for rows in ([[0, 0], [0, 1], [2, 0]], [[0, 1], [1, 0]]):
        samples = Labels(["system", "atom"], np.array(rows))
        properties = Labels.range("n", 2)
        components = [Labels.range("xyz", 3)]
        block = TensorBlock(asarray(rng.random((len(rows), 3, 2))), samples, components, properties)
        block.add_gradient(
            "strain",
            TensorBlock(
                asarray(rng.random((2, 4, 3, 2))),
                Labels("sample", np.array([[0], [len(rows) - 1]])),
                [Labels.range("direction", 4), *components],
                properties,
            ),
        )
        blocks.append(block)
    return TensorMap(Labels(["species", "l"], np.array([[1, 0], [8, 0]])), blocks)


OPERATIONS = {
    "keys_to_properties": lambda tensor: tensor.keys_to_properties("species"),
    "keys_to_samples": lambda tensor: tensor.keys_to_samples("species"),
    "components_to_properties": lambda tensor: tensor.components_to_properties("xyz"),
    "join": lambda tensor: metatensor.join([tensor, tensor], "samples", add_dimension="part"),
    "join properties": lambda t: metatensor.join([t, t], "properties", add_dimension="part"),
    "slice": lambda t: metatensor.slice(t, "samples", Labels("system", np.array([[0]]))),
    "split": lambda t: metatensor.split(t, "properties", [Labels("n", np.array([[1]]))])[0],
    "sum": lambda tensor: metatensor.sum_over_samples(tensor, "atom"),
    "mean": lambda tensor: metatensor.mean_over_samples(tensor, "atom"),
    "var": lambda tensor: metatensor.var_over_samples(tensor, "atom"),
    "sum of properties": lambda tensor: metatensor.sum_over_properties(tensor, "n"),
    "add": lambda tensor: metatensor.add(tensor, tensor),
    "operators": lambda tensor: 2 * tensor - tensor / 3.0,
    "multiply": lambda tensor: metatensor.multiply(tensor, tensor),
    "power": lambda tensor: tensor**2,
    "exp": lambda tensor: metatensor.exp(tensor),
    "sort": lambda tensor: metatensor.sort(tensor, "samples", descending=True),
    "where": lambda tensor: metatensor.where(tensor > 0.5, tensor, 0 * tensor),
    "absolute": metatensor.abs,
    "norm": lambda tensor: metatensor.norm_over_components(tensor, "xyz"),
    "outer": lambda tensor: metatensor.outer(tensor, tensor),
    "max": lambda tensor: metatensor.max_over_samples(tensor, "atom"),
    "std": lambda tensor: metatensor.std_over_samples(tensor, "atom"),
    "zeros": metatensor.zeros_like,
    "drop": lambda t: metatensor.drop_blocks(t, Labels(["species", "l"], np.array([[1, 0]]))),
    "remove_gradients": metatensor.remove_gradients,
    "copy": lambda tensor: tensor.copy(),
    "to": lambda tensor: tensor.to(np.float32),
}


def arrays_of(block):
    yield block.values
    for _, gradient in block.gradients():
        yield from arrays_of(gradient)


def assert_same(found, expected, kind=Wrapped):
    assert found.keys == expected.keys
    for block, other in zip(found.blocks(), expected.blocks(), strict=True):
        assert block.samples == other.samples
        assert block.components == other.components
        assert block.properties == other.properties
        assert block.gradients_list() == other.gradients_list()
        for values, numbers in zip(arrays_of(block), arrays_of(other), strict=True):
            assert type(values) is kind
            np.testing.assert_allclose(values._numbers, numbers, rtol=1e-12)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_give_arrays_of_the_same_class(name):
    operation = OPERATIONS[name]
    NAMESPACE.called.clear()
    assert_same(operation(tensor_of(Wrapped)), operation(tensor_of(np.array)))
    assert CALLED.get(name, set()) <= NAMESPACE.called


CALLED = {
    "keys_to_properties": {"concat", "take"},
    "join": {"concat"},
    "sum": {"take", "where", "add"},
    "exp": {"exp"},
}


def test_values_are_kept():
    values = Wrapped(np.ones((2, 2)))
    block = TensorBlock(values, Labels.range("s", 2), [], Labels.range("p", 2))
    assert block.values is values
    assert block.copy(deep=False).values is values
    assert TensorMap(Labels.single(), [block]).block().values is values
    assert metatensor.asarray(values) is values
    copied = block.copy().values
    assert type(copied) is Wrapped
    assert not np.shares_memory(copied._numbers, values._numbers)
    assert (block.dtype, block.device, block.shape) == (np.dtype(float), "cpu", (2, 2))
    assert repr(block).startswith("TensorBlock with shape (2, 2)")
    assert "shape" in block._repr_html_()
    back = pickle.loads(pickle.dumps(block))
    assert type(back.values) is Wrapped
    np.testing.assert_array_equal(back.values._numbers, values._numbers)


@pytest.mark.parametrize("arrays", ["numpy", "torch"])
def test_what_numpy_can_not_read_is_not_guessed(arrays, tmp_path):
    pytest.importorskip(arrays)
    block = TensorBlock(Wrapped(np.ones((1, 1))), Labels.single(), [], Labels.single())
    for wrong in (
        lambda: block.to(arrays=arrays),
        lambda: metatensor.asarray(block.values, arrays),
        lambda: block.save(tmp_path / "block.mts"),
        lambda: block == block.copy(),
    ):
        with pytest.raises(TypeError, match=r"can not be read by numpy.*`__array__`"):
            wrong()


class Exported(Wrapped):
    def __array__(self, dtype=None, copy=None):
        return self._numbers


class Exchanged(Wrapped):
    def __dlpack__(self, **keywords):
        return self._numbers.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self._numbers.__dlpack_device__()


@pytest.mark.parametrize("kind", [Exported, Exchanged])
def test_what_numpy_can_read(kind, tmp_path):
    torch = pytest.importorskip("torch")
    numbers = np.ones((1, 1))
    block = TensorBlock(kind(numbers), Labels.single(), [], Labels.single())
    assert type(block.values) is kind
    assert block == block.copy(deep=False)
    assert np.shares_memory(block.to(arrays="numpy").values, numbers)
    assert isinstance(block.to(arrays="torch").values, torch.Tensor)
    block.save(tmp_path / "block.mts")
    assert metatensor.load_block(tmp_path / "block.mts").values.tolist() == [[1.0]]


# ---- units


class Quantity(Wrapped):
    """Numbers with powers of units; those without any, which fill gaps, go with all others."""

    def __init__(self, numbers, units=None):
        super().__init__(numbers)
        self.units = units

    def __array_namespace__(self, api_version=None):
        return QuantityNamespace()

    def __getitem__(self, where):
        return Quantity(self._numbers[unwrapped(where)], self.units)

    def __add__(self, other):
        return Quantity(self._numbers + unwrapped(other), common_units([self, other]))

    def __mul__(self, other):
        return Quantity(self._numbers * unwrapped(other), product(self, other, 1))

    __rmul__ = __mul__

    def __truediv__(self, other):
        return Quantity(self._numbers / unwrapped(other), product(self, other, -1))


def common_units(arrays):
    known = [array.units for array in arrays if getattr(array, "units", None) is not None]
    if any(units != known[0] for units in known):
        raise ValueError(f"units differ: {known}")
    return known[0] if known else None


def product(first, second, sign):
    powers = dict(first.units or {})
    for unit, power in (getattr(second, "units", None) or {}).items():
        powers[unit] = powers.get(unit, 0) + sign * power
    return {unit: power for unit, power in powers.items() if power} or None


class QuantityNamespace:
    def __getattr__(self, name):
        function = getattr(np, name)
        if not callable(function) or isinstance(function, type):
            return function

        def call(*args, **kwargs):
            arrays = [a for arg in args for a in (arg if isinstance(arg, (list, tuple)) else [arg])]
            arrays = [array for array in arrays if isinstance(array, Quantity)]
            result = applied(function, *args, **kwargs)
            if not isinstance(result, Wrapped):
                return result
            return Quantity(result._numbers, common_units(arrays))

        return call


def energies(unit):
    def asarray(numbers):
        return Quantity(numbers, {unit: 1})

    return tensor_of(asarray)


@pytest.mark.parametrize(
    "name",
    [
        "keys_to_properties",
        "keys_to_samples",
        "join",
        "slice",
        "sum",
        "mean",
        "add",
        "sort",
        "copy",
    ],
)
def test_units_are_kept(name):
    operation = OPERATIONS[name]
    found = operation(energies("eV"))
    assert_same(found, operation(tensor_of(np.array)), Quantity)
    assert all(values.units == {"eV": 1} for b in found.blocks() for values in arrays_of(b))


def test_units_of_products():
    squares = metatensor.multiply(energies("eV"), energies("eV"))
    assert_same(squares, OPERATIONS["multiply"](tensor_of(np.array)), Quantity)
    assert all(values.units == {"eV": 2} for b in squares.blocks() for values in arrays_of(b))


@pytest.mark.parametrize(
    "operation",
    [
        metatensor.add,
        lambda first, second: metatensor.join([first, second], "samples", add_dimension="part"),
    ],
    ids=["add", "join"],
)
def test_what_units_refuse_comes_through(operation):
    with pytest.raises(ValueError, match="units differ"):
        operation(energies("eV"), energies("K"))
