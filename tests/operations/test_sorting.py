"""The order of blocks, samples, components and properties, against worked examples."""

import numpy as np
import pytest

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.operations import sort, sort_block


def labels(names, rows):
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), -1))


def worked_example(xp):
    """Return three samples of two dimensions, with one gradient row each."""
    samples, properties = labels(["s", "t"], [[2, 0], [0, 5], [0, 1]]), labels(["p"], [[9], [1]])
    values = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    block = TensorBlock(xp.asarray(values), samples, [], properties)
    rows = labels(["sample", "a"], [[0, 1], [2, 1], [1, 0]])
    block.add_gradient("g", TensorBlock(xp.asarray(10 * values), rows, [], properties))
    return block


def test_worked_example(xp):
    block = sort(worked_example(xp))
    assert block.samples.values.tolist() == [[0, 1], [0, 5], [2, 0]]
    assert block.properties.values.tolist() == [[1], [9]]
    assert np.asarray(block.values).tolist() == [[6, 5], [4, 3], [2, 1]]
    assert block.gradient("g").samples.values.tolist() == [[0, 1], [1, 0], [2, 1]]
    assert np.asarray(block.gradient("g").values).tolist() == [[40, 30], [60, 50], [20, 10]]


def test_descending(xp):
    block = sort(worked_example(xp), "samples", descending=True)
    assert block.samples.values.tolist() == [[2, 0], [0, 5], [0, 1]]
    assert block.properties.values.tolist() == [[9], [1]]
    assert np.asarray(block.values).tolist() == [[1, 2], [3, 4], [5, 6]]
    assert block.gradient("g").samples.values.tolist() == [[2, 1], [1, 0], [0, 1]]
    assert np.asarray(block.gradient("g").values).tolist() == [[30, 40], [50, 60], [10, 20]]


def components_example(xp):
    """Two components in falling order; a gradient with another one, and with gradients itself."""
    components = [labels(["c"], [[2], [0], [1]]), labels(["d"], [[5], [4]])]
    properties = labels(["p"], [[3], [-1]])
    values = np.arange(24.0).reshape(2, 3, 2, 2)
    block = TensorBlock(xp.asarray(values), labels(["s"], [[1], [0]]), components, properties)
    gradient = TensorBlock(
        xp.asarray(np.arange(72.0).reshape(3, 2, 3, 2, 2)),
        labels(["sample", "a"], [[0, 2], [1, 3], [0, 1]]),
        [labels(["e"], [[1], [0]]), *components],
        properties,
    )
    second = TensorBlock(
        xp.asarray(np.arange(48.0).reshape(2, 2, 3, 2, 2)),
        labels(["sample"], [[0], [2]]),
        gradient.components,
        properties,
    )
    gradient.add_gradient("h", second)
    block.add_gradient("g", gradient)
    return block


@pytest.mark.parametrize(
    ("axes", "rows", "columns", "components"),
    [
        ("all", True, True, True),
        ("samples", True, False, False),
        ("components", False, False, True),
        (["properties"], False, True, False),
        (["properties", "samples"], True, True, False),
        ([], False, False, False),
    ],
)
def test_axes_of_gradients_are_those_of_values(xp, axes, rows, columns, components):
    whole = components_example(xp)
    block = sort_block(whole, axes)
    order = (slice(None), [1, 2, 0], [1, 0]) if components else (slice(None),) * 3
    extra = [1, 0] if components else slice(None)
    samples, sorted_rows = ([1, 0], [1, 2, 0]) if rows else (slice(None), slice(None))
    inner_rows = [1, 0] if rows else slice(None)

    def reordered(values, rows, extra=None):
        values = np.asarray(values)[rows]
        if extra is not None:
            values = values[:, extra]
        values = values[..., order[1], :, :][..., order[2], :]
        return values[..., [1, 0]] if columns else values

    gradient, second = block.gradient("g"), block.gradient("g").gradient("h")
    np.testing.assert_array_equal(np.asarray(block.values), reordered(whole.values, samples))
    np.testing.assert_array_equal(
        np.asarray(gradient.values), reordered(whole.gradient("g").values, sorted_rows, extra)
    )
    np.testing.assert_array_equal(
        np.asarray(second.values),
        reordered(whole.gradient("g").gradient("h").values, inner_rows, extra),
    )
    assert block.samples.values.ravel().tolist() == ([0, 1] if rows else [1, 0])
    assert gradient.samples.values.tolist() == (
        [[0, 3], [1, 1], [1, 2]] if rows else [[0, 2], [1, 3], [0, 1]]
    )
    assert second.samples.values.ravel().tolist() == ([1, 2] if rows else [0, 2])
    assert block.properties.values.ravel().tolist() == ([-1, 3] if columns else [3, -1])
    assert gradient.properties == second.properties == block.properties
    assert block.components[0].values.ravel().tolist() == ([0, 1, 2] if components else [2, 0, 1])
    assert gradient.components[1:] == block.components
    assert gradient.components == second.components


@pytest.mark.parametrize("descending", [False, True])
def test_keys(descending):
    block = TensorBlock(np.zeros((0, 1)), Labels.empty("s"), [], Labels.single())
    blocks = [
        TensorBlock(np.full((1, 1), n), Labels.single(), [], Labels.single()) for n in range(3)
    ]
    tensor = TensorMap(labels(["k", "l"], [[1, 0], [-1, 2], [0, 5]]), blocks)
    tensor.set_info("unit", "eV")
    ordered = sort(tensor, "keys", descending=descending)
    expected = [([-1, 2], 1), ([0, 5], 2), ([1, 0], 0)]
    assert [
        (key.values.tolist(), found.values.item()) for key, found in ordered.items()
    ] == expected[:: -1 if descending else 1]
    assert ordered.info() == {"unit": "eV"}
    assert sort(tensor, "samples").keys == tensor.keys
    assert sort(tensor) == sort(tensor, "keys")
    with pytest.raises(ValueError, match="got 'keys'"):
        sort(block, "keys")


@pytest.mark.parametrize("descending", [False, True])
def test_what_is_in_order_is_shared(xp, descending):
    block = sort(components_example(xp), descending=descending)
    again = sort(block, descending=descending)
    assert again.values is block.values
    assert again.gradient("g").gradient("h").values is block.gradient("g").gradient("h").values
    other = sort(block, descending=not descending)
    assert other.values is not block.values
    tensor = TensorMap(Labels.single(), [block])
    assert sort(tensor, descending=descending).block(0).values is block.values


def test_only_gradient_rows_out_of_order(xp):
    block = worked_example(xp)
    tidy = TensorBlock(block.values, Labels.range("s", 3), [], block.properties)
    tidy.add_gradient("g", block.gradient("g"))
    ordered = sort(tidy, "samples")
    assert ordered.values is tidy.values
    assert ordered.gradient("g").samples.values.tolist() == [[0, 1], [1, 0], [2, 1]]
    assert sort(tidy, "components").gradient("g").samples == block.gradient("g").samples


def test_the_list_of_axes_stays_as_it_is():
    """Elsewhere "keys" is removed from the list of the caller."""
    axes = ["keys", "samples"]
    sort(TensorMap(Labels.single(), [worked_example(np)]), axes)
    assert axes == ["keys", "samples"]


def test_empty_map_and_gradient_without_rows():
    """Elsewhere both are an IndexError."""
    empty = TensorMap(Labels.empty("key"), [])
    assert sort(empty) == empty
    block = worked_example(np)
    bare = TensorBlock(block.values, block.samples, [], block.properties)
    bare.add_gradient(
        "g", TensorBlock(np.zeros((0, 2)), Labels.empty(["sample", "a"]), [], block.properties)
    )
    ordered = sort(bare)
    assert ordered.values.tolist() == [[6, 5], [4, 3], [2, 1]]
    assert ordered.gradient("g").shape == (0, 2)
    assert ordered.gradient("g").properties == ordered.properties


def test_properties_of_a_block_without_samples(xp):
    """Elsewhere such a block is returned unsorted."""
    properties = labels(["p"], [[9], [1]])
    block = TensorBlock(xp.asarray(np.zeros((0, 2))), Labels.empty("s"), [], properties)
    ordered = sort(block)
    assert ordered.properties.values.ravel().tolist() == [1, 9]
    assert tuple(ordered.values.shape) == (0, 2)


def test_autograd_flows_through():
    torch = pytest.importorskip("torch")
    values = torch.arange(6, dtype=torch.float64).reshape(3, 2).requires_grad_()
    weights = torch.arange(6, dtype=torch.float64).reshape(3, 2)
    samples, properties = labels(["s"], [[2], [0], [1]]), labels(["p"], [[1], [0]])

    def weighted(values):
        return sort(TensorBlock(values, samples, [], properties)).values * weights

    assert torch.autograd.gradcheck(weighted, values)


def test_nothing_given_is_changed():
    block = components_example(np)
    before = block.copy()
    sort(block, descending=True)
    assert block == before


@pytest.mark.parametrize(
    ("axes", "error", "match"),
    [
        (("samples",), TypeError, "`axes` must be a str or a list of str, got tuple"),
        (3, TypeError, "got int"),
        (
            "rows",
            ValueError,
            r"'all' or among \['samples', 'components', 'properties'\], got 'rows'",
        ),
        (["all"], ValueError, "got 'all'"),
    ],
)
def test_axes_must_exist(axes, error, match):
    with pytest.raises(error, match=match):
        sort(worked_example(np), axes)


def test_only_tensors():
    with pytest.raises(TypeError, match="`tensor` must be a metatensor TensorMap or TensorBlock"):
        sort([worked_example(np)])
