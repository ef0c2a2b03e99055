"""One table of all operations: how each is called, and on what.

Tests with an argument ``any_operation`` run once for every case of the table, those with
``some_operation`` for one case of each function, or all in the slow tests, those with ``rule``
for the cases that have gradients, and with ``n_components`` and ``rows`` as well for each number of
components, and gradient rows for all, some or no samples.
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from metatensor import Labels, TensorBlock, TensorMap
from metatensor import operations as ops

# a program, whose files find each other when it is run
collect_ignore_glob = ["differential*.py"]


def labels(names, rows):
    names = names.split()
    return Labels(names, np.array(rows, dtype=np.int32).reshape(-1, len(names)))


# ----------------------------------------------------------------------------- arguments

COMPONENTS = [labels("m", [1, -1, 0]), labels("k", [0, 1])]
PROPERTIES = labels("n l", [[1, 2], [0, 1], [1, 0]])
SAMPLES = [[1, 0], [0, 2], [0, 1], [1, 3], [0, 4]]
KEYS = [[8, 0], [1, -1], [6, 1]]


@dataclass(frozen=True)
class Maker:
    """Makes blocks, or maps of such blocks, that differ in their values alone.

    The values are distinct, and not close to 0 or 1; neither samples nor properties are sorted.
    """

    asarray: Callable[[Any], Any] = np.asarray
    kind: str = "block"
    n_components: int = 1
    #: which samples have rows in the gradients
    rows: str = "some"
    positive: bool = False
    gradients: tuple[str, ...] = ("positions", "strain")
    #: numbers of samples of the blocks of a map; the first is that of a block
    sizes: tuple[int, ...] = (5, 3, 0)
    dtype: Any = np.float64
    seed: int = 0

    def __call__(self, **changes):
        if changes:
            return replace(self, **changes)()
        if self.kind == "block":
            return self._block(0)
        keys = labels("type spin", KEYS[: len(self.sizes)])
        return TensorMap(keys, [self._block(number) for number in range(len(keys))])

    def _block(self, number):
        rng = np.random.default_rng([self.seed, number])
        n_samples, components = self.sizes[number], COMPONENTS[: self.n_components]
        shape = (n_samples, *map(len, components), len(PROPERTIES))
        values = 0.5 + (rng.permutation(int(np.prod(shape))) + 0.25) / max(np.prod(shape), 1)
        if not self.positive:
            values *= rng.choice([-1, 1], size=values.shape)
        block = TensorBlock(
            self._array(values.reshape(shape)),
            labels("system atom", SAMPLES[:n_samples]),
            components,
            PROPERTIES,
        )
        for parameter in self.gradients:
            samples, own = self._axes(parameter, n_samples)
            shape = (len(samples), *map(len, [*own, *components, PROPERTIES]))
            values = self._array(rng.normal(size=shape))
            block.add_gradient(
                parameter, TensorBlock(values, samples, [*own, *components], PROPERTIES)
            )
        return block

    def _array(self, numbers):
        if np.issubdtype(self.dtype, np.complexfloating):
            numbers = numbers * np.exp(0.3j)
        return self.asarray(numbers.astype(self.dtype))

    def _axes(self, parameter, n_samples):
        """Return gradient samples, which are not sorted, and the components of the gradient."""
        some = {"all": range(n_samples), "some": range(0, n_samples, 2), "no": []}[self.rows]
        if parameter == "positions":
            pairs = [
                [sample, atom] for atom in (2, 1) for sample in some if sample != 2 or atom > 1
            ]
            return labels("sample atom", pairs), [Labels.range("xyz", 3)]
        axes = [Labels.range("xyz_1", 2), Labels.range("xyz_2", 2)]
        return labels("sample", list(some)[::-1]), axes


def one(make):
    return [make()]


def two(make):
    """Make two with the same metadata, and other values and gradients."""
    return [make(), make(seed=1)]


def same(make):
    return [make(), make()]


def two_with_other_rows(make):
    return [make(), make(seed=1, rows="all")]


def two_with_other_keys(make):
    return [make(sizes=make.sizes[:-1]), make(seed=1)]


def and_a_constant(make):
    """Make a second one without components and gradients."""
    return [make(), make(seed=1, n_components=0, gradients=())]


def full_rank(make):
    """Make two for least squares, none of whose blocks is empty."""
    return [make(sizes=(5, 3)), make(seed=1, sizes=(5, 3))]


def square(make):
    return [make(sizes=(3, 3)), make(seed=1, sizes=(3, 3))]


def and_a_matrix(make):
    """Make a block whose samples are the properties of the other."""
    matrix = make._array(np.random.default_rng(1).normal(size=(len(PROPERTIES), 2)))
    return [make(), TensorBlock(matrix, PROPERTIES, [], Labels.range("p", 2))]


def numbers(make):
    return [make.asarray(np.arange(30.0).reshape(2, 3, 5))]


def table(make):
    return [Labels(["a", "b"], make.asarray(np.array([[2, 0], [1, 0], [2, 1]], dtype=np.int32)))]


# ----------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Case:
    """One way to call an operation."""

    #: of the public function
    name: str
    #: gets what `make` returns
    call: Callable[..., Any]
    make: Callable[[Maker], list[Any]] = one
    #: what tells this case from others of the same function
    note: str = ""
    kinds: tuple[str, ...] = ("block", "map")
    #: numbers of components that make sense
    components: tuple[int, ...] = (0, 1, 2)
    #: the values must be
    positive: bool = False
    #: works for complex numbers
    complex: bool = True
    #: in all arguments together, so that gradients of gradients are carried
    linear: bool = True
    #: why the result has no gradients, or none that are derivatives of its values
    constant: str = ""
    #: gradients of the result
    gradients: tuple[str, ...] = ("positions", "strain")

    def __str__(self) -> str:
        return f"{self.name} {self.note}".strip()

    def arguments(self, **parts):
        return self.make(Maker(positive=self.positive, **parts))


def reduction(name, removed):
    return lambda a: getattr(ops, name)(a, removed.split())


def requires_grad(tensor):
    """Make torch follow the values; other libraries warn that there is nothing to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ops.requires_grad(tensor)


FULL = labels("atom system", [[4, 0], [0, 1]])
SYSTEM, N = labels("system", [0]), labels("n", [1])
BLOCK, MAP = ("block",), ("map",)

ELEMENTWISE = [
    Case("add", lambda a, b: ops.add(a, b), two),
    Case("add", lambda a: ops.add(a, 2.5), note="number"),
    Case("add", lambda a, b: a + b, two, note="operator"),
    Case("add", lambda a: 2 + a, note="reflected"),
    Case("subtract", lambda a, b: ops.subtract(a, b), two),
    Case("subtract", lambda a: ops.subtract(a, 2.5), note="number"),
    Case("subtract", lambda a, b: a - b, two, note="operator"),
    Case("subtract", lambda a: 2 - a, note="reflected"),
    Case("multiply", lambda a, b: ops.multiply(a, b), two, linear=False),
    Case("multiply", lambda a: ops.multiply(a, -3.0), note="number"),
    Case("multiply", lambda a, b: a * b, two, "operator", linear=False),
    Case("multiply", lambda a: 2 * a, note="reflected"),
    Case("multiply", lambda a: -a, note="negative"),
    Case("divide", lambda a, b: ops.divide(a, b), two, linear=False),
    Case("divide", lambda a: ops.divide(a, -3.0), note="number"),
    Case("divide", lambda a, b: a / b, two, "operator", linear=False),
    Case("divide", lambda a: 2 / a, note="reflected", linear=False),
    Case("pow", lambda a: ops.pow(a, 3), linear=False),
    Case("pow", lambda a: ops.pow(a, -0.7), note="fraction", positive=True, linear=False),
    Case("pow", lambda a: ops.pow(a, 0), note="zero", linear=False),
    Case("pow", lambda a: a**2, note="operator", linear=False),
    Case("pow", lambda a: 2**a, note="reflected", linear=False),
    Case("abs", lambda a: ops.abs(a), linear=False),
    Case("exp", lambda a: ops.exp(a), linear=False),
    Case("log", lambda a: ops.log(a), positive=True, linear=False),
    Case("sqrt", lambda a: ops.sqrt(a), positive=True, linear=False),
    Case("tanh", lambda a: ops.tanh(a), linear=False),
    Case("sin", lambda a: ops.sin(a), linear=False),
    Case("cos", lambda a: ops.cos(a), linear=False),
    Case("clip", lambda a: ops.clip(a, -1.0, 1.0), complex=False),
    Case("clip", lambda a: ops.clip(a, max=1.0), note="maximum", complex=False),
    Case("where", lambda a, b: ops.where(a > 0, a, b), two, complex=False),
    Case("where", lambda a: ops.where(a > 0, a, 0.0), note="number", complex=False),
]

REDUCTIONS = [
    Case(
        f"{how}_over_{axis}",
        reduction(f"{how}_over_{axis}", names),
        note=names or "nothing",
        complex=how not in ("max", "min"),
        linear=how in ("sum", "mean"),
    )
    for axis, removed in {
        "samples": ["atom", "system atom", ""],
        "properties": ["l", "n l", ""],
    }.items()
    for how in ("sum", "mean", "var", "std", "max", "min", "norm")
    for names in removed
    if (how, axis) != ("norm", "samples")
]
REDUCTIONS += [
    Case(
        f"{how}_over_components",
        reduction(f"{how}_over_components", "m"),
        components=(1, 2),
        linear=how != "norm",
    )
    for how in ("sum", "mean", "norm")
]

JOINING = [
    Case("join", lambda *t: ops.join(t, "samples", add_dimension="t"), two, "samples", MAP),
    Case(
        "join",
        lambda *t: ops.join(t, "properties", add_dimension="t"),
        two_with_other_rows,
        "properties",
        MAP,
    ),
    Case(
        "join",
        lambda *t: ops.join(t, "samples", "union", "t"),
        two_with_other_keys,
        "samples union",
        MAP,
    ),
    Case(
        "join",
        lambda *t: ops.join(t, "properties", "union", "t"),
        two_with_other_keys,
        "properties union",
        MAP,
    ),
    Case(
        "join",
        lambda *t: ops.join(t, "samples", "intersection", "t"),
        two_with_other_keys,
        "intersection",
        MAP,
    ),
    Case(
        "join",
        lambda a, b: ops.join([a, ops.rename_dimension(b, "properties", "l", "p")], "properties"),
        two,
        "other names",
        MAP,
    ),
    Case(
        "join_blocks",
        lambda *t: ops.join_blocks(t, "samples", add_dimension="t"),
        two,
        "samples",
        BLOCK,
    ),
    Case(
        "join_blocks",
        lambda *t: ops.join_blocks(t, "properties", add_dimension="t"),
        two_with_other_rows,
        "properties",
        BLOCK,
    ),
]

STRUCTURE = [
    Case("slice", lambda a: ops.slice(a, "samples", SYSTEM), note="samples"),
    Case("slice", lambda a: ops.slice(a, "samples", FULL), note="samples in order"),
    Case("slice", lambda a: ops.slice(a, "samples", [-1, 0]), note="positions", kinds=BLOCK),
    Case("slice", lambda a: ops.slice(a, "properties", N), note="properties"),
    Case("split", lambda a: ops.split(a, "samples", [FULL, SYSTEM])[1], note="samples"),
    Case("split", lambda a: ops.split(a, "properties", [[1], [2, 0]])[1], note="properties"),
    Case("drop_blocks", lambda a: ops.drop_blocks(a, labels("type", [8])), kinds=MAP),
    Case("drop_empty_blocks", lambda a: ops.drop_empty_blocks(a), kinds=MAP),
    Case("filter_blocks", lambda a: ops.filter_blocks(a, labels("spin", [-1])), kinds=MAP),
    Case(
        "filter_blocks",
        lambda a: ops.filter_blocks(a, labels("type", [1, 8]), copy=True),
        note="copy",
        kinds=MAP,
    ),
    Case("sort", lambda a: ops.sort(a)),
    Case("sort", lambda a: ops.sort(a, ["samples", "properties"], True), note="descending"),
    Case("append_dimension", lambda a: ops.append_dimension(a, "samples", "x", 3)),
    Case(
        "insert_dimension",
        lambda a: ops.insert_dimension(a, "properties", 0, "x", np.array([2, 3, 1])),
    ),
    Case("permute_dimensions", lambda a: ops.permute_dimensions(a, "samples", [1, 0])),
    Case("remove_dimension", lambda a: ops.remove_dimension(a, "properties", "n")),
    Case("rename_dimension", lambda a: ops.rename_dimension(a, "samples", "atom", "i")),
    Case("make_contiguous", lambda a: ops.make_contiguous(a)),
    Case("detach", lambda a: ops.detach(a)),
    Case(
        "requires_grad",
        requires_grad,
        constant="torch follows the values from here on",
    ),
    Case(
        "remove_gradients",
        lambda a: ops.remove_gradients(a, ["strain"]),
        note="one",
        gradients=("positions",),
    ),
    Case("remove_gradients", lambda a: ops.remove_gradients(a), constant="they are removed"),
]

PRODUCTS = [
    Case("dot", lambda a, b: ops.dot(a, b), and_a_constant),
    Case("dot", lambda a, b: a @ b, and_a_constant, note="operator"),
    Case("outer", lambda a, b: ops.outer(a, b), two_with_other_rows, linear=False),
    Case(
        "einsum",
        lambda a, b: ops.einsum("system atom | | n l, system atom | | n l -> | | n l", a, b),
        two,
        "samples",
        components=(0,),
        linear=False,
    ),
    Case(
        "einsum",
        lambda *t: ops.einsum(
            "system atom | m | n l, system atom | m | n l -> system atom | | n l", *t
        ),
        two_with_other_rows,
        "components",
        components=(1,),
        linear=False,
    ),
    Case(
        "einsum",
        lambda a, b: ops.einsum(
            "system atom | m k | n l, n l | | p -> system atom | k m | p", a, b
        ),
        and_a_matrix,
        "matrix",
        components=(2,),
    ),
    Case(
        "lstsq",
        lambda a, b: ops.lstsq(a, b, 1e-10),
        full_rank,
        constant="gradients are used as further equations",
    ),
    Case(
        "solve",
        lambda a, b: ops.solve(a, b),
        square,
        components=(0,),
        constant="the gradients are not used",
    ),
]

NEW_VALUES = "the values are not computed from those given"
TELLS = "it says something about its arguments"
CREATION = [
    *(
        Case(name, lambda a, name=name: getattr(ops, name)(a), constant=NEW_VALUES)
        for name in ("empty_like", "zeros_like", "ones_like", "random_uniform_like")
    ),
    Case("block_from_array", lambda a: ops.block_from_array(a), numbers, constant=NEW_VALUES),
    Case("one_hot", lambda a: ops.one_hot(a, Labels.range("a", 3)), table, constant=NEW_VALUES),
    Case("unique_metadata", lambda a: ops.unique_metadata(a, "samples", "system"), constant=TELLS),
]

COMPARISON = [
    Case("is_contiguous", lambda a: ops.is_contiguous(ops.make_contiguous(a)), constant=TELLS),
    *(
        Case(name, lambda a, b, name=name: getattr(ops, name)(a, b), two, constant=TELLS)
        for name in ("equal", "allclose", "equal_metadata", "equal_metadata_raise")
    ),
    *(
        Case(name, lambda a, b, name=name: getattr(ops, name)(a, b), same, "same", constant=TELLS)
        for name in ("equal", "equal_raise", "allclose", "allclose_raise")
    ),
]

CASES = [
    *ELEMENTWISE,
    *REDUCTIONS,
    *JOINING,
    *STRUCTURE,
    *PRODUCTS,
    *CREATION,
    *COMPARISON,
]

RULES = [case for case in CASES if not case.constant]
ROWS = ["all", "some", "no"]

#: public functions that do not work on arrays
NO_ARRAYS = {
    "record_history": "switches the record of operations on",
    "checks_enabled": "tells a switch",
    "unsafe_disable_checks": "sets a switch",
    "unsafe_enable_checks": "sets a switch",
}


# ----------------------------------------------------------------------------- hooks


def arrays_of(result):
    if isinstance(result, TensorBlock):
        gradients = [array for _, block in result.gradients() for array in arrays_of(block)]
        return [result.values, *gradients]
    if isinstance(result, TensorMap | list):
        return [array for part in result for array in arrays_of(part)]
    return [result] if hasattr(result, "shape") else []


def with_arrays(result, arrays):
    if isinstance(result, TensorBlock):
        block = TensorBlock(next(arrays), result.samples, result.components, result.properties)
        for parameter, gradient in result.gradients():
            block.add_gradient(parameter, with_arrays(gradient, arrays))
        return block
    if isinstance(result, TensorMap):
        return TensorMap(result.keys, [with_arrays(block, arrays) for block in result])
    return [with_arrays(part, arrays) for part in result] if isinstance(result, list) else result


@pytest.fixture
def flatten():
    """Return the arrays of tensors, and a function that makes such tensors of other arrays.

    It calls the public constructors, which check that everything fits together.
    """
    return lambda tensors: (
        arrays_of(tensors),
        lambda arrays: with_arrays(tensors, iter(arrays)),
    )


@pytest.fixture
def rules():
    """All cases whose gradients are derivatives."""
    return RULES


@pytest.fixture
def names():
    """Names of all public functions."""
    return {case.name for case in CASES} | NO_ARRAYS.keys()


def combinations(every):
    """Yield rules with numbers of components and rows of gradients.

    Not every one, but one for each function, another one each time.
    """
    seen = set()
    for rule in RULES:
        chosen = len(seen)
        wanted = rule.components[chosen % len(rule.components)], ROWS[chosen // 3 % 3]
        for number, rows in product(rule.components, ROWS):
            if every or (rule.name not in seen and (number, rows) == wanted):
                yield pytest.param(rule, number, rows, id=f"{rule}-{number}-{rows}")
        seen.add(rule.name)


def pytest_generate_tests(metafunc):
    names = metafunc.fixturenames
    if "any_operation" in names:
        metafunc.parametrize("any_operation", CASES, ids=str)
    if "some_operation" in names:
        every = "METATENSOR_ALL_GRADIENTS" in os.environ
        firsts = {case.name: case for case in reversed(CASES)}
        metafunc.parametrize("some_operation", CASES if every else firsts.values(), ids=str)
    if "rule" in names and "n_components" in names:
        every = "slow" not in names or "METATENSOR_ALL_GRADIENTS" in os.environ
        metafunc.parametrize(("rule", "n_components", "rows"), list(combinations(every)))
    elif "rule" in names:
        metafunc.parametrize("rule", RULES, ids=str)


@pytest.fixture
def slow():
    """Tell that a test is slow: without METATENSOR_ALL_GRADIENTS in the environment, it runs for
    one combination of each function.
    """


def pytest_terminal_summary(terminalreporter):
    """Say how many gradients were compared with finite differences, and the largest deviation."""
    found = [
        (deviation, report.nodeid.rpartition("::")[2])
        for report in terminalreporter.getreports("passed")
        for name, deviations in report.user_properties
        if name == "deviations"
        for deviation in deviations
    ]
    if found:
        largest, where = max(found)
        terminalreporter.write_sep("-", "gradients against finite differences")
        terminalreporter.line(
            f"{len(found)} cases, largest relative error {largest:.1e} in {where}"
        )
