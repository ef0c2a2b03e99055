"""One table of all operations: how each is called, and on what.

Tests that have an argument ``operation`` run once for every case of the table; those with ``rule``
run for the cases that have gradients, and with ``n_components`` for each number of components.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from metatensor import Labels, TensorBlock, TensorMap, operations


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
            self.asarray(values.reshape(shape).astype(self.dtype)),
            labels("system atom", SAMPLES[:n_samples]),
            components,
            PROPERTIES,
        )
        for parameter in self.gradients:
            samples, own = self._axes(parameter, n_samples)
            shape = (len(samples), *map(len, [*own, *components, PROPERTIES]))
            values = self.asarray(rng.normal(size=shape).astype(self.dtype))
            block.add_gradient(
                parameter, TensorBlock(values, samples, [*own, *components], PROPERTIES)
            )
        return block

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
    matrix = make.asarray(
        np.random.default_rng(1).normal(size=(len(PROPERTIES), 2)).astype(make.dtype)
    )
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
    #: why the result has no gradients, or none that are derivatives of its values
    constant: str = ""
    #: gradients of the result
    gradients: tuple[str, ...] = ("positions", "strain")

    def __str__(self) -> str:
        return f"{self.name} {self.note}".strip()

    def arguments(self, **parts):
        return self.make(Maker(positive=self.positive, **parts))


ELEMENTWISE = [
    Case("add", lambda a, b: operations.add(a, b), two),
    Case("add", lambda a: operations.add(a, 2.5), note="number"),
    Case("add", lambda a, b: a + b, two, note="operator"),
    Case("add", lambda a: 2 + a, note="reflected"),
    Case("subtract", lambda a, b: operations.subtract(a, b), two),
    Case("subtract", lambda a: operations.subtract(a, 2.5), note="number"),
    Case("subtract", lambda a, b: a - b, two, note="operator"),
    Case("subtract", lambda a: 2 - a, note="reflected"),
    Case("multiply", lambda a, b: operations.multiply(a, b), two),
    Case("multiply", lambda a: operations.multiply(a, -3.0), note="number"),
    Case("multiply", lambda a, b: a * b, two, note="operator"),
    Case("multiply", lambda a: 2 * a, note="reflected"),
    Case("multiply", lambda a: -a, note="negative"),
    Case("divide", lambda a, b: operations.divide(a, b), two),
    Case("divide", lambda a: operations.divide(a, -3.0), note="number"),
    Case("divide", lambda a, b: a / b, two, note="operator"),
    Case("divide", lambda a: 2 / a, note="reflected"),
    Case("pow", lambda a: operations.pow(a, 3)),
    Case("pow", lambda a: operations.pow(a, -0.7), note="fraction", positive=True),
    Case("pow", lambda a: operations.pow(a, 0), note="zero"),
    Case("pow", lambda a: a**2, note="operator"),
    Case("abs", lambda a: operations.abs(a)),
    Case("exp", lambda a: operations.exp(a)),
    Case("log", lambda a: operations.log(a), positive=True),
    Case("sqrt", lambda a: operations.sqrt(a), positive=True),
    Case("tanh", lambda a: operations.tanh(a)),
    Case("sin", lambda a: operations.sin(a)),
    Case("cos", lambda a: operations.cos(a)),
]

REDUCTIONS = [
    Case(
        f"{how}_over_{axis}",
        lambda a, how=how, axis=axis, names=names: getattr(operations, f"{how}_over_{axis}")(
            a, names
        ),
        note=" ".join(names) or "nothing",
    )
    for how in ("sum", "mean", "var", "std", "max", "min")
    for axis, removed in {
        "samples": [["atom"], ["system", "atom"], []],
        "properties": [["l"], ["n", "l"], []],
    }.items()
    for names in removed
]

#: more of one axis than the rest, which has no "nothing"
NORMS = [
    Case("norm_over_properties", lambda a: operations.norm_over_properties(a, "l")),
    Case(
        "norm_over_properties", lambda a: operations.norm_over_properties(a, ["n", "l"]), note="n l"
    ),
    *(
        Case(
            f"{how}_over_components",
            lambda a, how=how: getattr(operations, f"{how}_over_components")(a, "m"),
            components=(1, 2),
        )
        for how in ("sum", "mean", "norm")
    ),
]

BLOCK, MAP = ("block",), ("map",)
SYSTEM = labels("system", [0])
STRUCTURE = [
    Case("join", lambda *t: operations.join(t, "samples", add_dimension="t"), two, "samples", MAP),
    Case(
        "join",
        lambda *t: operations.join(t, "properties", add_dimension="t"),
        two_with_other_rows,
        "properties",
        MAP,
    ),
    Case(
        "join",
        lambda *t: operations.join(t, "samples", "union", "t"),
        two_with_other_keys,
        "samples union",
        MAP,
    ),
    Case(
        "join",
        lambda *t: operations.join(t, "properties", "union", "t"),
        two_with_other_keys,
        "properties union",
        MAP,
    ),
    Case(
        "join",
        lambda *t: operations.join(t, "samples", "intersection", "t"),
        two_with_other_keys,
        "intersection",
        MAP,
    ),
    Case(
        "join",
        lambda a, b: operations.join(
            [a, operations.rename_dimension(b, "properties", "l", "p")], "properties"
        ),
        two,
        "other names",
        MAP,
    ),
    Case(
        "join_blocks",
        lambda *t: operations.join_blocks(t, "samples", add_dimension="t"),
        two,
        "samples",
        BLOCK,
    ),
    Case(
        "join_blocks",
        lambda *t: operations.join_blocks(t, "properties", add_dimension="t"),
        two_with_other_rows,
        "properties",
        BLOCK,
    ),
    Case("slice", lambda a: operations.slice(a, "samples", SYSTEM), note="samples"),
    Case(
        "slice",
        lambda a: operations.slice(a, "samples", labels("atom system", [[4, 0], [0, 1]])),
        note="samples in order",
    ),
    Case("slice", lambda a: operations.slice(a, "samples", [-1, 0]), note="positions", kinds=BLOCK),
    Case("slice", lambda a: operations.slice(a, "properties", labels("n", [1])), note="properties"),
    Case(
        "split",
        lambda a: operations.split(a, "samples", [labels("atom", [3]), SYSTEM])[1],
        note="samples",
    ),
    Case("split", lambda a: operations.split(a, "properties", [[1], [2, 0]])[1], note="properties"),
    Case("drop_blocks", lambda a: operations.drop_blocks(a, labels("type", [8])), kinds=MAP),
    Case("drop_empty_blocks", lambda a: operations.drop_empty_blocks(a), kinds=MAP),
    Case("filter_blocks", lambda a: operations.filter_blocks(a, labels("spin", [-1])), kinds=MAP),
    Case(
        "filter_blocks",
        lambda a: operations.filter_blocks(a, labels("type", [1, 8]), copy=True),
        note="copy",
        kinds=MAP,
    ),
    Case("sort", lambda a: operations.sort(a)),
    Case("sort", lambda a: operations.sort(a, ["samples", "properties"], True), note="descending"),
    Case("make_contiguous", lambda a: operations.make_contiguous(a)),
    Case(
        "remove_gradients",
        lambda a: operations.remove_gradients(a, ["strain"]),
        note="one",
        gradients=("positions",),
    ),
    Case("remove_gradients", lambda a: operations.remove_gradients(a), constant="they are removed"),
    Case("detach", lambda a: operations.detach(a)),
    Case(
        "requires_grad",
        lambda a: operations.requires_grad(a),
        constant="torch follows the values from here on",
    ),
]

DIMENSIONS = [
    Case(
        "append_dimension", lambda a: operations.append_dimension(a, "samples", "x", 3), kinds=MAP
    ),
    Case(
        "insert_dimension",
        lambda a: operations.insert_dimension(a, "properties", 0, "x", np.array([2, 3, 1])),
        kinds=MAP,
    ),
    Case(
        "permute_dimensions",
        lambda a: operations.permute_dimensions(a, "samples", [1, 0]),
        kinds=MAP,
    ),
    Case(
        "remove_dimension", lambda a: operations.remove_dimension(a, "properties", "n"), kinds=MAP
    ),
    Case(
        "rename_dimension",
        lambda a: operations.rename_dimension(a, "samples", "atom", "i"),
        kinds=MAP,
    ),
]

PRODUCTS = [
    Case("dot", lambda a, b: operations.dot(a, b), and_a_constant),
    Case("outer", lambda a, b: operations.outer(a, b), two_with_other_rows),
    Case(
        "einsum",
        lambda *t: operations.einsum("system atom | | n l, system atom | | n l -> | | n l", *t),
        two,
        "samples",
        components=(0,),
    ),
    Case(
        "einsum",
        lambda *t: operations.einsum(
            "system atom | m | n l, system atom | m | n l -> system atom | | n l", *t
        ),
        two_with_other_rows,
        "components",
        components=(1,),
    ),
    Case(
        "einsum",
        lambda *t: operations.einsum(
            "system atom | m k | n l, n l | | p -> system atom | k m | p", *t
        ),
        and_a_matrix,
        "matrix",
        components=(2,),
    ),
]

NEW_VALUES = "the values are not computed from those given"
TELLS = "says something about its arguments"
CONSTANT = [
    *(
        Case(name, lambda a, name=name: getattr(operations, name)(a), constant=NEW_VALUES)
        for name in ("empty_like", "zeros_like", "ones_like", "random_uniform_like")
    ),
    Case(
        "block_from_array",
        lambda a: operations.block_from_array(a),
        numbers,
        constant="arrays have none",
    ),
    Case(
        "one_hot",
        lambda a: operations.one_hot(a, Labels.range("a", 3)),
        table,
        constant="returns an array",
    ),
    Case(
        "unique_metadata",
        lambda a: operations.unique_metadata(a, "samples", "system"),
        constant="returns Labels",
    ),
    Case(
        "lstsq",
        lambda a, b: operations.lstsq(a, b, 1e-10),
        full_rank,
        constant="gradients are used as further equations",
    ),
    Case(
        "solve",
        lambda a, b: operations.solve(a, b),
        square,
        components=(0,),
        constant="the gradients are not used",
    ),
    Case("is_contiguous", lambda a: operations.is_contiguous(a), constant=TELLS),
    *(
        Case(
            name + end,
            lambda a, b, name=name + end: getattr(operations, name)(a, b),
            make,
            constant=TELLS,
            note=note,
        )
        for name in ("equal", "allclose", "equal_metadata")
        for end in ("", "_raise")
        for make, note in [(lambda make: [make(), make()], "same"), (two, "other")]
        if (end, note) != ("_raise", "other") or name == "equal_metadata"
    ),
]

CASES = [*ELEMENTWISE, *REDUCTIONS, *NORMS, *STRUCTURE, *DIMENSIONS, *PRODUCTS, *CONSTANT]

#: public functions that do not work on arrays
NO_ARRAYS = {
    "record_history": "switches the record of operations on",
    "checks_enabled": "tells a switch",
    "unsafe_disable_checks": "sets a switch",
    "unsafe_enable_checks": "sets a switch",
}


# ----------------------------------------------------------------------------- hooks


@pytest.fixture
def names():
    """Names of all public functions."""
    return {case.name for case in CASES} | NO_ARRAYS.keys()


def pytest_generate_tests(metafunc):
    if "operation" in metafunc.fixturenames:
        metafunc.parametrize("operation", CASES, ids=str)
    if "rule" in metafunc.fixturenames:
        rules = [case for case in CASES if not case.constant]
        if "n_components" in metafunc.fixturenames:
            pairs = [(case, number) for case in rules for number in case.components]
            ids = [f"{case}-{number}" for case, number in pairs]
            metafunc.parametrize(("rule", "n_components"), pairs, ids=ids)
        else:
            metafunc.parametrize("rule", rules, ids=str)


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
