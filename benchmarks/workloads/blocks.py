"""Making, reading and copying blocks and maps.

At size S what is asked of blocks and maps is a third of what compiled objects would reach.
"""

import numpy as np

from metatensor import Labels, TensorBlock, TensorMap
from workloads.data import SAMPLES, atoms, column, make_block, make_keys, make_map, tiny_blocks
from workloads.registry import Case, workload


@workload("block.create", S=17)
def block_create(size: str) -> Case:
    values = np.random.default_rng(0).random((5, 3))
    samples, properties = Labels(["system", "atom"], atoms(5)), Labels.range("n", 3)
    return Case(lambda: TensorBlock(values, samples, [], properties))


@workload("block.create.with_labels", S=7.7)
def block_create_with_labels(size: str) -> Case:
    values = np.random.default_rng(0).random((5, 3))

    def call(samples: np.ndarray, properties: np.ndarray) -> TensorBlock:
        return TensorBlock(
            values, Labels(["system", "atom"], samples), [], Labels(["n"], properties)
        )

    return Case(call, fresh=lambda: (atoms(5), column(3)))


def block_access(name: str):
    def prepare(size: str) -> Case:
        block = make_block(atoms(5), column(3), components=True)
        return Case(lambda: getattr(block, name))

    return prepare


workload("block.access.values", S=15)(block_access("values"))
workload("block.access.samples", S=15)(block_access("samples"))
workload("block.access.components", S=17)(block_access("components"))
workload("block.access.properties", S=30)(block_access("properties"))


@workload("block.copy", S=3.3, L=1)
def block_copy(size: str) -> Case:
    block = make_block(atoms(SAMPLES[size]), column(3 if size == "S" else 320))
    return Case(block.copy)


@workload("map.create", S=4.3, M=37, L=43)
def map_create(size: str) -> Case:
    """Ten, a hundred, a thousand blocks."""
    count = {"S": 10, "M": 100, "L": 1_000}[size]
    keys = make_keys(count)
    return Case(lambda blocks: TensorMap(keys, blocks), fresh=lambda: (tiny_blocks(count),))


def block_of_map(access):
    def prepare(size: str) -> Case:
        # ten blocks; the neighbor alone is enough to tell them apart
        keys = np.stack([np.arange(10) // 5, np.arange(10)], axis=1).astype(np.int32)
        tensor = TensorMap(Labels(["center", "neighbor"], keys), tiny_blocks(10))
        return Case(lambda: access(tensor))

    return prepare


def block_by(selection):
    """Access by what is made of the keys once, before the clock runs."""

    def prepare(size: str) -> Case:
        tensor = TensorMap(make_keys(10), tiny_blocks(10))
        wanted = selection(tensor.keys)
        return Case(lambda: tensor.block(wanted))

    return prepare


workload("map.block.id", S=22)(block_of_map(lambda tensor: tensor.block(7)))
workload("map.block.dict", S=33)(
    block_of_map(lambda tensor: tensor.block({"center": 1, "neighbor": 7}))
)
workload("map.block.kwargs", S=33)(block_of_map(lambda tensor: tensor.block(center=1, neighbor=7)))
workload("map.block.partial", S=18)(block_of_map(lambda tensor: tensor.block({"neighbor": 7})))
workload("map.block.entry", S=53)(block_by(lambda keys: keys[7]))
workload("map.block.labels", S=19)(
    block_by(lambda keys: Labels(keys.names, np.array([[1, 2]], dtype=np.int32)))
)


def thousand_blocks() -> TensorMap:
    return TensorMap(make_keys(1_000), tiny_blocks(1_000))


@workload("map.iterate.items", L=48)
def map_iterate_items(size: str) -> Case:
    tensor = thousand_blocks()
    return Case(lambda: sum(len(key) for key, _ in tensor.items()))


@workload("map.iterate.values", L=57)
def map_iterate_values(size: str) -> Case:
    tensor = thousand_blocks()
    return Case(lambda: sum(block.values.shape[0] for block in tensor.blocks()))


@workload("map.copy.deep", S=2.3, L=1)
def map_copy_deep(size: str) -> Case:
    tensor = make_map(size)
    return Case(lambda: tensor.copy(deep=True))


@workload("map.copy.shallow", S=29)
def map_copy_shallow(size: str) -> Case:
    tensor = make_map(size)
    return Case(lambda: tensor.copy(deep=False))


@workload("map.to.float32", S=14, L=1)
def map_to_float32(size: str) -> Case:
    tensor = make_map(size)
    return Case(lambda: tensor.to(dtype=np.float32))
