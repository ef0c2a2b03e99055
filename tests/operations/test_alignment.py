"""Arrays that start anywhere in memory, as those in a mapped file or in a message can."""

import numpy as np
import pytest

import metatensor
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.testing import assert_equal


def unaligned(array):
    buffer = np.frombuffer(b"x" + array.tobytes(), dtype=np.uint8)[1:]
    return buffer.view(array.dtype).reshape(array.shape)


def make_tensor(place):
    rng = np.random.default_rng(0)
    samples = Labels(["s", "t"], np.array([[0, 0], [0, 1], [1, 0]]))
    components, properties = [Labels.range("c", 2)], Labels.range("p", 3)
    blocks = []
    for n_samples in (2, 3):
        block = TensorBlock(
            place(rng.normal(size=(n_samples, 2, 3))),
            Labels(samples.names, samples.values[:n_samples]),
            components,
            properties,
        )
        rows = Labels(["sample", "atom"], np.array([[0, 0], [1, 0], [1, 4]]))
        gradient = TensorBlock(place(rng.normal(size=(3, 2, 3))), rows, components, properties)
        block.add_gradient("x", gradient)
        blocks.append(block)
    return TensorMap(Labels.range("k", 2), blocks)


OPERATIONS = {
    "keys_to_samples": lambda tensor: tensor.keys_to_samples("k"),
    "keys_to_properties": lambda tensor: tensor.keys_to_properties("k"),
    "components_to_properties": lambda tensor: tensor.components_to_properties("c"),
    "join": lambda tensor: metatensor.join([tensor, tensor], "properties", add_dimension="n"),
    "slice": lambda tensor: metatensor.slice(tensor, "samples", unaligned(np.array([1, 0]))),
    "split": lambda tensor: metatensor.split(tensor, "samples", [unaligned(np.array([1]))])[0],
    "sort": lambda tensor: metatensor.sort(tensor, descending=True),
    "outer": lambda tensor: metatensor.outer(tensor, tensor),
    "norm_over_components": lambda tensor: metatensor.norm_over_components(tensor, "c"),
    **{
        f"{name}_over_{axis}": lambda tensor, name=name, axis=axis: getattr(
            metatensor, f"{name}_over_{axis}"
        )(tensor, "s" if axis == "samples" else "p")
        for name in ["sum", "mean", "var", "std", "max", "min"]
        for axis in ["samples", "properties"]
    },
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_arrays_can_start_anywhere(name):
    tensor = make_tensor(unaligned)
    assert not tensor.block(0).values.flags.aligned
    assert_equal(OPERATIONS[name](tensor), OPERATIONS[name](make_tensor(np.copy)))
