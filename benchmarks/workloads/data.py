"""Seeded data: the same tables, blocks and maps in both of the compared packages."""

import numpy as np

from metatensor import Labels, TensorBlock, TensorMap

NAMES = ["system", "atom", "type"]
ROWS = {"S": 1_000, "M": 100_000, "L": 1_000_000}
BLOCKS = 10
# samples of each block, of 3 properties at S and 64 above: ten blocks are 10 MB at M, 100 MB at L
SAMPLES = {"S": 5, "M": 2_000, "L": 20_000}


def sorted_table(rows: int, start: int = 0) -> np.ndarray:
    """Systems of twenty atoms; the first two columns alone are unique already."""
    row = np.arange(start, start + rows)
    return np.stack([row // 20, row % 20, 1 + row * 7919 % 5], axis=1).astype(np.int32)


def shuffled_table(rows: int, start: int = 0) -> np.ndarray:
    return np.random.default_rng(rows + start).permutation(sorted_table(rows, start))


def random_table(rows: int) -> np.ndarray:
    limits = np.iinfo(np.int32)
    return np.random.default_rng(rows).integers(limits.min, limits.max, (rows, 3), dtype=np.int32)


TABLES = {"sorted": sorted_table, "shuffled": shuffled_table, "random": random_table}


def column(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int32)[:, None]


def atoms(samples: int) -> np.ndarray:
    return np.ascontiguousarray(sorted_table(samples)[:, :2])


def make_block(
    samples: np.ndarray,
    properties: np.ndarray,
    components: bool = False,
    gradient_rows: int = 0,
    seed: int = 0,
) -> TensorBlock:
    """Random values, with or without an axis of three components and gradient rows per sample."""
    random = np.random.default_rng(seed)
    axes = [Labels(["xyz"], column(3))] if components else []
    property_labels = Labels(["n"], properties)
    shape = (len(samples), *(len(axis) for axis in axes), len(properties))
    block = TensorBlock(
        random.random(shape), Labels(["system", "atom"], samples), axes, property_labels
    )
    if gradient_rows:
        sample = np.repeat(np.arange(len(samples)), gradient_rows)
        moved = np.tile(np.arange(gradient_rows), len(samples))
        rows = np.stack([sample, moved], axis=1).astype(np.int32)
        gradient = TensorBlock(
            random.random((len(rows), 3, *shape[1:])),
            Labels(["sample", "moved"], rows),
            [Labels(["direction"], column(3)), *axes],
            property_labels,
        )
        block.add_gradient("positions", gradient)
    return block


def make_keys(count: int) -> Labels:
    keys = np.stack([np.arange(count) // 5, np.arange(count) % 5], axis=1)
    return Labels(["center", "neighbor"], keys.astype(np.int32))


def make_map(
    size: str, kind: str = "dense", gradient_rows: int = 0, count: int = BLOCKS
) -> TensorMap:
    """Blocks that share all of their samples and properties, or half of one of them.

    With gradients there are fewer samples at M and L, so that the map is about as large.
    """
    samples, properties = SAMPLES[size] * BLOCKS // count, 3 if size == "S" else 64
    if gradient_rows and size != "S":
        samples //= 5
    table, columns = atoms(2 * samples), column(2 * properties)
    blocks = []
    for i in range(count):
        rows, first = np.arange(samples), 0
        if kind == "half_samples":
            rows = np.sort(np.random.default_rng(i).permutation(2 * samples)[:samples])
        elif kind == "shuffled":
            rows = np.random.default_rng(i).permutation(samples)
        elif kind == "half_properties":
            first = (i % 2) * (properties // 2)
        blocks.append(
            make_block(
                table[rows],
                columns[first : first + properties].copy(),
                gradient_rows=gradient_rows,
                seed=i,
            )
        )
    return TensorMap(make_keys(count), blocks)


def tiny_blocks(count: int) -> list[TensorBlock]:
    """Blocks of 5 x 3 that share their labels."""
    samples, properties = Labels(["system", "atom"], atoms(5)), Labels.range("n", 3)
    values = np.random.default_rng(count).random((count, 5, 3))
    return [TensorBlock(values[i], samples, [], properties) for i in range(count)]
