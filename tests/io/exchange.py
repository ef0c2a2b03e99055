"""Write and check files with whichever package this interpreter has as `metatensor`.

`python exchange.py write FOLDER` (or `write-numpy`) saves all examples there, `python exchange.py
check FOLDER` loads them and compares them with the examples. Nothing but the public names of both
packages is used.
"""

import sys
from pathlib import Path

import numpy as np

import metatensor
from metatensor import Labels, TensorBlock, TensorMap

DTYPES = ["bool", "float16", "float32", "float64", "complex64", "complex128"]
DTYPES += [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


def labels(names, rows, start=-3):
    size = rows * len(names)
    return Labels(names, np.arange(start, start + size, dtype=np.int32).reshape(rows, len(names)))


def numbers(shape, dtype):
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape) % 251 - 7
    if dtype.startswith("complex"):
        values = values + 1j * values[..., ::-1]
    return (values / 4 if dtype.startswith("float") else values).astype(dtype)


def block(dtype="float64", n_samples=3, n_properties=2, components=(), gradients=None):
    """A block; `gradients` are the arguments of gradient blocks, by name."""
    properties = labels(["n", "l"], n_properties)
    axes = [labels([name], size) for name, size in components]
    shape = (n_samples, *[size for _, size in components], n_properties)
    return with_gradients(
        TensorBlock(numbers(shape, dtype), labels(["system", "atom"], n_samples), axes, properties),
        dtype,
        gradients or {},
    )


def with_gradients(whole, dtype, gradients):
    for name, (n_rows, extra, nested) in gradients.items():
        axes = [labels([axis], size) for axis, size in extra] + whole.components
        samples = np.arange(n_rows, dtype=np.int32)
        rows = np.stack([samples % max(1, len(whole.samples)), samples], axis=1)
        values = numbers((n_rows, *[len(axis) for axis in axes], len(whole.properties)), dtype)
        gradient = TensorBlock(
            values, Labels(["sample", "atom"], rows.astype(np.int32)), axes, whole.properties
        )
        whole.add_gradient(name, with_gradients(gradient, dtype, nested))
    return whole


def tensor(blocks, info=None):
    keys = np.array([[i, -i * i] for i in range(len(blocks))], dtype=np.int32).reshape(-1, 2)
    whole = TensorMap(Labels(["a", "b"], keys), blocks)
    for key, text in (info or {}).items():
        whole.set_info(key, text)
    return whole


def examples():
    """Everything that files can have, by the name of the file."""
    xyz, direction, nested = ("xyz", 3), ("direction", 3), {"cell": (2, [("i", 2)], {})}
    gradients = {"positions": (4, [direction], {}), "strain": (2, [("x", 2), ("y", 3)], {})}
    made = {
        f"map-{dtype}": tensor([block(dtype, 1 + i, 2, [xyz], gradients) for i in range(3)])
        for dtype in DTYPES
    }
    made |= {f"block-{dtype}": block(dtype) for dtype in DTYPES}
    made["map-nested"] = tensor(
        [block("float32", gradients={"positions": (3, [xyz], nested)}) for _ in range(2)]
    )
    made["block-nested"] = block(gradients={"positions": (3, [xyz], nested)})
    made["block-components"] = block(components=[("a", 2), ("b", 1), ("c", 3)])
    made["block-unicode"] = block(gradients={"é x.y": (1, [], {}), "ω": (2, [], {})})
    made["block-empty"] = block(n_samples=0, n_properties=0, components=[xyz])
    made["block-no-samples"] = block(n_samples=0, gradients={"positions": (0, [xyz], {})})
    made["block-no-properties"] = block(n_properties=0, gradients={"positions": (2, [xyz], {})})
    made["map-empty"] = tensor([])
    made["map-empty-blocks"] = tensor([block(n_samples=0), block(), block(n_properties=0)])
    made["map-info"] = tensor([block()], {"b": 'x\n\x01\x7fé"\\/', "a": "1", "ü": "ö"})
    made["map-many"] = tensor([block(n_samples=1 + i % 4) for i in range(300)])
    made["map-large"] = tensor(
        [block("float64", n_samples, 7, [xyz], gradients) for n_samples in (2000, 50)]
    )
    made["block-large"] = block("float32", 40000, 5)
    made["labels"] = labels(["a", "b", "c"], 5)
    made["labels-none"] = labels(["a", "b"], 0)
    made["labels-large"] = labels(["a", "b"], 50000)
    made["labels-wide"] = labels([f"name_{i:05d}" for i in range(6000)], 2)
    return made


def load(path, example):
    if isinstance(example, TensorMap):
        return metatensor.load(path)
    if isinstance(example, TensorBlock):
        return metatensor.load_block(path)
    return metatensor.load_labels(path)


def check_labels(first, second):
    assert list(first.names) == list(second.names), (first.names, second.names)
    assert np.array_equal(np.asarray(first.values), np.asarray(second.values))


def check_block(first, second):
    assert first.values.dtype == second.values.dtype, (first.values.dtype, second.values.dtype)
    assert np.array_equal(np.asarray(first.values), np.asarray(second.values))
    check_labels(first.samples, second.samples)
    check_labels(first.properties, second.properties)
    assert len(first.components) == len(second.components)
    for axis, other in zip(first.components, second.components):
        check_labels(axis, other)
    assert sorted(first.gradients_list()) == sorted(second.gradients_list())
    for name in first.gradients_list():
        check_block(first.gradient(name), second.gradient(name))


def check(first, second):
    if isinstance(second, Labels):
        check_labels(first, second)
    elif isinstance(second, TensorBlock):
        check_block(first, second)
    else:
        check_labels(first.keys, second.keys)
        assert dict(first.info()) == dict(second.info()), (first.info(), second.info())
        for position in range(len(second.keys)):
            check_block(first.block_by_id(position), second.block_by_id(position))


def main():
    command, folder = sys.argv[1], Path(sys.argv[2])
    for name, example in examples().items():
        path = str(folder / f"{name}.mts")
        if command.startswith("write"):
            metatensor.save(path, example, use_numpy=command.endswith("numpy"))
        else:
            check(load(path, example), example)
    print(len(examples()))


if __name__ == "__main__":
    main()
