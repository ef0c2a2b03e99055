"""Maps for functions that jax transforms."""

import numpy as np
import pytest

from metatensor import Labels, TensorBlock, TensorMap


def gradient_samples(n_samples, name):
    """Return two rows of a gradient for every second sample."""
    rows = [[sample, atom] for sample in range(0, n_samples, 2) for atom in (0, 3)]
    return Labels(["sample", name], np.array(rows, dtype=np.int32).reshape(-1, 2))


def block_of(rng, n_samples, dtype, nested):
    xyz, m = Labels.range("xyz", 3), Labels("m", np.array([[-1], [0], [1]]))
    properties = Labels.range("n", 2)

    def numbers(*shape):
        if np.issubdtype(dtype, np.integer):
            return rng.integers(-9, 9, shape).astype(dtype)
        if np.issubdtype(dtype, np.complexfloating):
            return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
        return rng.normal(size=shape).astype(dtype)

    atoms = np.stack([np.arange(n_samples) // 2, np.arange(n_samples)], axis=1)
    block = TensorBlock(
        numbers(n_samples, 3, 2), Labels(["system", "atom"], atoms), [m], properties
    )
    rows = gradient_samples(n_samples, "other")
    gradient = TensorBlock(numbers(len(rows), 3, 3, 2), rows, [xyz, m], properties)
    if nested:
        rows = gradient_samples(len(rows), "cell")
        gradient.add_gradient(
            "cell", TensorBlock(numbers(len(rows), 3, 3, 2), rows, [xyz, m], properties)
        )
    block.add_gradient("positions", gradient)
    return block


@pytest.fixture
def make():
    """Return a function that makes maps with stored gradients and `info`, of numpy arrays."""

    def make(sizes=(5, 3), dtype=np.float64, nested=False, seed=0):
        rng = np.random.default_rng(seed)
        keys = Labels(["o3_lambda", "center_type"], np.array([[1, 6], [1, 1], [1, 8]]))
        blocks = [block_of(rng, size, dtype, nested) for size in sizes]
        keys = Labels(keys.names, keys.values[: len(sizes)])
        tensor = TensorMap(keys, blocks)
        tensor.set_info("unit", "eV")
        return tensor

    return make


#: maps that are unlike others in what a tree must keep
SHAPES = {
    "usual": {},
    "empty block": {"sizes": (4, 0)},
    "one sample": {"sizes": (1,)},
    "no blocks": {"sizes": ()},
    "gradients of gradients": {"nested": True},
}
DTYPES = {"float32": np.float32, "complex": np.complex128, "integers": np.int64}


@pytest.fixture(params=SHAPES)
def tensor(request, make):
    """A map of each shape."""
    return make(**SHAPES[request.param])


@pytest.fixture(params=[*SHAPES, *DTYPES])
def any_tensor(request, make):
    """A map of each shape and dtype."""
    name = request.param
    return make(**SHAPES[name]) if name in SHAPES else make(dtype=DTYPES[name])
