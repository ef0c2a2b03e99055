"""Arguments of wrong types: the error names the parameter."""

import numpy as np
import pytest

import metatensor
from metatensor import Labels, TensorBlock, TensorMap


def make_block():
    samples = Labels(["s", "t"], np.array([[0, 0], [0, 1]]))
    return TensorBlock(np.ones((2, 2)), samples, [], Labels.range("p", 2))


BLOCK = make_block()


@pytest.mark.parametrize("value", [None, "1", b"1", 1j, [1.0], np.ones(2), BLOCK, float])
@pytest.mark.parametrize(
    ("function", "parameter"),
    [
        (metatensor.allclose, "rtol"),
        (metatensor.allclose, "atol"),
        (metatensor.allclose_raise, "rtol"),
        (metatensor.lstsq, "rcond"),
    ],
)
def test_real_numbers(function, parameter, value):
    if parameter == "rcond" and value is None:
        return
    with pytest.raises(TypeError, match=f"`{parameter}` must be a real number, got "):
        function(BLOCK, BLOCK, **{parameter: value})


@pytest.mark.parametrize("value", [1, np.float32(1), np.array(1.0), True])
def test_any_real_number_is_one(value):
    assert metatensor.allclose(BLOCK, 2 * BLOCK, rtol=value)
    assert metatensor.lstsq(BLOCK, BLOCK, rcond=value).shape == (2, 2)


@pytest.mark.parametrize(("names", "error"), [(None, TypeError), (3, TypeError), ([], ValueError)])
def test_names(names, error):
    with pytest.raises(error, match="`names` must "):
        metatensor.unique_metadata(BLOCK, "samples", names)


@pytest.mark.parametrize("positions", [None, 1])
def test_positions_of_dimensions(positions):
    with pytest.raises(TypeError, match="`dimensions_indexes` must be a sequence of int, got "):
        metatensor.permute_dimensions(BLOCK, "samples", positions)


def test_positions_of_dimensions_that_can_be_read_once():
    tensor = TensorMap(Labels.range("k", 2), [make_block(), make_block()])
    permuted = metatensor.permute_dimensions(tensor, "samples", iter([1, 0]))
    assert [block.samples.names for block in permuted] == [["t", "s"], ["t", "s"]]


def test_outer_of_more_components_than_there_are_letters():
    first, second = (
        TensorBlock(
            np.ones((1,) * (n + 2)),
            Labels.range("s", 1),
            [Labels.range(f"{name}{i}", 1) for i in range(n)],
            Labels.range(name, 1),
        )
        for name, n in [("c", 20), ("d", 4)]
    )
    with pytest.raises(ValueError, match="`outer` can have at most 23 different components, got"):
        metatensor.outer(first, second)


def test_positions_in_unequal_lists():
    with pytest.raises(ValueError, match="`selection` must be 1-D, got a list of unequal parts"):
        metatensor.slice(BLOCK, "samples", [[0], [0, 1]])
