"""Operations on maps of ten blocks at size S, and of forty above, with and without gradients.

At size S what is asked is a third of what compiled objects would reach.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

import metatensor
from metatensor import Labels, TensorBlock, TensorMap
from workloads.data import (
    NAMES,
    SAMPLES,
    atoms,
    column,
    make_block,
    make_keys,
    make_map,
    sorted_table,
)
from workloads.registry import Case, workload

Targets = tuple[float | None, float | None, float | None]
NONE = (None, None, None)
COUNT = {"S": 10, "M": 40, "L": 40}
MAPS_TO_JOIN = 100


def register(name: str, targets: Targets, prepare: Callable[[str], Case]) -> None:
    workload(f"ops.{name}", **dict(zip("SML", targets, strict=True)))(prepare)


def on_maps(
    call: Callable[..., Any],
    count: int = 1,
    kind: str = "dense",
    gradient_rows: int = 0,
    exact: bool = True,
) -> Callable[[str], Case]:
    """Call with maps of the same content that share no memory."""

    def prepare(size: str) -> Case:
        tensors = [make_map(size, kind, gradient_rows, COUNT[size]) for _ in range(count)]
        return Case(lambda: call(*tensors), exact=exact)

    return prepare


def register_both(
    name: str, plain: Targets, gradients: Targets, call: Callable[..., Any], **options: Any
) -> None:
    """Register an operation on maps without gradients, and on maps with them."""
    register(name, plain, on_maps(call, **options))
    # two rows for each sample: the packages agree on means of gradients that miss none
    register(f"{name}.gradients", gradients, on_maps(call, gradient_rows=2, **options))


# ---- elementwise


register_both("add", (40, 9, 1.3), (32, None, 2.2), lambda a, b: metatensor.add(a, b), count=2)
register_both("multiply", (31, None, 1.3), NONE, lambda a, b: metatensor.multiply(a, b), count=2)
register("multiply_scalar", (10, 3, 1.2), on_maps(lambda tensor: metatensor.multiply(tensor, 2.5)))
register("pow", (None, None, 1.3), on_maps(lambda tensor: metatensor.pow(tensor, 2.0)))


# ---- linear algebra


def dot(size: str) -> Case:
    """With a hundred rows for each block, five at size S."""
    tensor = make_map(size, count=COUNT[size])
    rows, properties = (5, 3) if size == "S" else (100, 64)
    others = [make_block(atoms(rows), column(properties), seed=i) for i in range(COUNT[size])]
    other = TensorMap(tensor.keys, others)
    return Case(lambda: metatensor.dot(tensor, other), exact=False)


register("dot", (19, 3.3, 1), dot)


# ---- reductions


def sum_atoms(tensor: TensorMap) -> TensorMap:
    return metatensor.sum_over_samples(tensor, "atom")


def std_atoms(tensor: TensorMap) -> TensorMap:
    return metatensor.std_over_samples(tensor, "atom")


def std_gradients(size: str) -> Case:
    """With a thousand gradient rows in all at size S."""
    rows = 20 if size == "S" else 2
    return on_maps(std_atoms, gradient_rows=rows, exact=False)(size)


def sum_torch(size: str) -> Case:
    tensor = make_map(size, count=COUNT[size]).to(arrays="torch")
    return Case(
        lambda: sum_atoms(tensor), result=lambda result: result.to(arrays="numpy"), exact=False
    )


def sum_over_properties(size: str) -> Case:
    """Of eight radial functions for each of eight angular ones, or three of one."""
    table = sorted_table(3)[:, :2] if size == "S" else np.indices((8, 8)).reshape(2, -1).T
    properties = Labels(["l", "n"], table.astype(np.int32))
    blocks = [
        TensorBlock(block.values, block.samples, [], properties)
        for block in make_map(size, count=COUNT[size]).blocks()
    ]
    tensor = TensorMap(make_keys(COUNT[size]), blocks)
    return Case(lambda: metatensor.sum_over_properties(tensor, "n"), exact=False)


register_both("sum_over_samples", (18, 45, 32), (17, 27, 14), sum_atoms)
register("sum_over_samples.shuffled", (None, 35, 26), on_maps(sum_atoms, kind="shuffled"))
if importlib.util.find_spec("torch"):
    register("sum_over_samples.torch", (None, 24, 26), sum_torch)
register_both(
    "mean_over_samples",
    (None, 33, 27),
    NONE,
    lambda tensor: metatensor.mean_over_samples(tensor, "atom"),
)
register("std_over_samples", (None, 23, 21), on_maps(std_atoms, exact=False))
register("std_over_samples.gradients", (47, 87, 45), std_gradients)
register("sum_over_properties", (21, 22, 14), sum_over_properties)


# ---- joining, selecting and sorting


def join_samples(gradient_rows: int = 0) -> Callable[[str], Case]:
    """Of a hundred maps of one block at size S, and of four above, with samples of their own."""
    blocks, properties = {"S": 1, "M": 4, "L": 4}, {"S": 3, "M": 64, "L": 64}
    samples = {"S": 5, "M": 10, "L": 100} if gradient_rows else {"S": 5, "M": 50, "L": 500}

    def prepare(size: str) -> Case:
        keys = make_keys(blocks[size])
        tensors = [
            map_to_join(keys, i, samples[size], properties[size], gradient_rows)
            for i in range(MAPS_TO_JOIN)
        ]
        return Case(lambda: metatensor.join(tensors, "samples"))

    return prepare


def map_to_join(
    keys: Labels, number: int, samples: int, properties: int, gradient_rows: int = 0
) -> TensorMap:
    table = sorted_table(samples, number * samples)[:, :2].copy()
    blocks = [
        make_block(table, column(properties), gradient_rows=gradient_rows, seed=i)
        for i in range(len(keys))
    ]
    return TensorMap(keys, blocks)


def join_union(size: str) -> Case:
    """Of a hundred maps that have two of four keys each."""
    tensors = []
    for i in range(MAPS_TO_JOIN):
        keys = np.array([[i % 4], [(i + 1) % 4]], dtype=np.int32)
        tensors.append(map_to_join(Labels(["center"], keys), i, SAMPLES[size], 3))
    return Case(lambda: metatensor.join(tensors, "samples", different_keys="union"))


def join_properties(size: str) -> Case:
    """Of two maps with half of the properties each."""
    samples, properties = SAMPLES[size] * 10 // COUNT[size], 6 if size == "S" else 64
    tensors = []
    for columns in np.split(column(properties), 2):
        blocks = [make_block(atoms(samples), columns, seed=i) for i in range(COUNT[size])]
        tensors.append(TensorMap(make_keys(COUNT[size]), blocks))
    return Case(lambda: metatensor.join(tensors, "properties"))


def slicing(axis: str, name: str, gradient_rows: int = 0) -> Callable[[str], Case]:
    """Every other value of one of the dimensions."""

    def prepare(size: str) -> Case:
        tensor = make_map(size, gradient_rows=gradient_rows, count=COUNT[size])
        found = np.unique(getattr(tensor.block(0), axis).column(name))
        selection = Labels([name], found[::2, None].copy())
        return Case(lambda: metatensor.slice(tensor, axis, selection))

    return prepare


def split(size: str) -> Case:
    """Into ten parts, or five at size S, each of which has some atoms of all systems."""
    tensor = make_map(size, count=COUNT[size])
    found = np.unique(tensor.block(0).samples.column("atom"))
    parts = np.array_split(found[:, None], 5 if size == "S" else 10)
    selections = [Labels(["atom"], part.copy()) for part in parts]
    return Case(lambda: metatensor.split(tensor, "samples", selections))


register("join.samples", (77, 25, 6), join_samples())
register("join.samples.gradients", NONE, join_samples(gradient_rows=2))
workload("ops.join.samples.union", S=50)(join_union)
register("join.properties", (40, None, 2.3), join_properties)
register("slice.samples", (19, 10, 3.6), slicing("samples", "atom"))
register("slice.samples.gradients", NONE, slicing("samples", "atom", gradient_rows=2))
register("slice.properties", (15, 8, 2.0), slicing("properties", "n"))
register("split.samples", (19, 32, 9), split)
register_both("sort", (17, 11, 10), NONE, lambda tensor: metatensor.sort(tensor), kind="shuffled")


# ---- comparison, creation and metadata


def equal_metadata(first: TensorMap, second: TensorMap) -> bool:
    return metatensor.equal_metadata(first, second)


def of_first_center(function: str) -> Callable[[str], Case]:
    """Of the blocks of one of two centers."""

    def prepare(size: str) -> Case:
        tensor = make_map(size, count=COUNT[size])
        keys = Labels(["center"], np.array([[0]], dtype=np.int32))
        return Case(lambda: getattr(metatensor, function)(tensor, keys))

    return prepare


def one_hot(size: str) -> Case:
    """Of five types."""
    rows = {"S": 100, "M": 10_000, "L": 100_000}[size]
    labels = Labels(NAMES, sorted_table(rows))
    types = Labels(["type"], 1 + column(5))
    return Case(lambda: metatensor.one_hot(labels, types))


register("equal_metadata", (77, 210, 69), on_maps(equal_metadata, count=2))
register_both("allclose", (67, 17, 4.1), NONE, lambda a, b: metatensor.allclose(a, b), count=2)
register_both("equal", (50, 9, 1.6), NONE, lambda a, b: metatensor.equal(a, b), count=2)
register("zeros_like", (11, None, 1.5), on_maps(lambda tensor: metatensor.zeros_like(tensor)))
register(
    "unique_metadata",
    (16, None, 120),
    on_maps(lambda tensor: metatensor.unique_metadata(tensor, "samples", ["system"])),
)
register(
    "append_dimension",
    (10, None, 31),
    on_maps(lambda tensor: metatensor.append_dimension(tensor, "samples", "frame", 0)),
)
register(
    "rename_dimension",
    (16, None, 75),
    on_maps(lambda tensor: metatensor.rename_dimension(tensor, "samples", "atom", "center")),
)
workload("ops.filter_blocks", S=7.3)(of_first_center("filter_blocks"))
workload("ops.drop_blocks", S=11)(of_first_center("drop_blocks"))
register("one_hot", (18, None, 150), one_hot)


# ---- what only one of the packages has: not compared, but followed from commit to commit

for _name, _call in {
    "exp": lambda tensor: metatensor.exp(tensor),
    "clip": lambda tensor: metatensor.clip(tensor, 0.2, 0.8),
    "max_over_samples": lambda tensor: metatensor.max_over_samples(tensor, "atom"),
    "norm_over_properties": lambda tensor: metatensor.norm_over_properties(tensor, "n"),
    "einsum": lambda tensor: metatensor.einsum(
        "system atom | | n, system atom | | n -> system atom | |", tensor, tensor
    ),
}.items():
    if hasattr(metatensor, _name):
        register_both(_name, NONE, NONE, _call)
