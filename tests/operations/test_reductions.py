"""Reductions over samples against worked examples and plain loops."""

import numpy as np
import pytest

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.operations import sum_over_samples, sum_over_samples_block


def labels(names, rows):
    return Labels(names, np.array(rows, dtype=np.int32).reshape(len(rows), -1))


def worked_example(xp, dtype=np.float64):
    properties = Labels.range("p", 2)
    block = TensorBlock(
        xp.asarray(np.array([[1, 2], [3, 4], [5, 7], [9, 8]], dtype=dtype)),
        labels(["i", "j"], [[1, 0], [0, 0], [1, 2], [0, 7]]),
        [],
        properties,
    )
    gradient = TensorBlock(
        xp.asarray(np.array([[1, 1], [2, 2], [4, 4], [5, 5]], dtype=dtype)),
        labels(["sample", "a"], [[0, 3], [2, 3], [1, 9], [2, 8]]),
        [],
        properties,
    )
    block.add_gradient("g", gradient)
    return block


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.complex128])
def test_worked_example(xp, dtype):
    block = worked_example(xp, dtype)
    total = sum_over_samples(block, "j")
    assert total.samples == labels(["i"], [[0], [1]])
    assert total.values.dtype == block.values.dtype
    np.testing.assert_array_equal(np.asarray(total.values), [[12, 12], [6, 9]])
    gradient = total.gradient("g")
    assert gradient.samples == labels(["sample", "a"], [[0, 9], [1, 3], [1, 8]])
    np.testing.assert_array_equal(np.asarray(gradient.values), [[4, 4], [3, 3], [5, 5]])


def test_maps_and_blocks_agree(xp):
    block = worked_example(xp)
    tensor = TensorMap(labels(["k"], [[0], [4]]), [block, block])
    total = sum_over_samples(tensor, ["j"])
    assert total.keys == tensor.keys
    assert total.block(k=4) == sum_over_samples_block(block, ["j"])


def random_block(rng, n_samples=50, dtype=np.float64):
    """Samples of three dimensions, two components, and gradients with some rows missing."""
    rows = rng.permutation(np.indices((5, 4, 6)).reshape(3, -1).T)[:n_samples]
    components, properties = [Labels.range("m", 3)], Labels.range("p", 4)
    block = TensorBlock(
        rng.normal(size=(n_samples, 3, 4)).astype(dtype),
        labels(["i", "j", "k"], rows),
        components,
        properties,
    )
    pairs = rng.permutation(np.indices((n_samples, 7)).reshape(2, -1).T)[: 3 * n_samples]
    gradient = TensorBlock(
        rng.normal(size=(3 * n_samples, 2, 3, 4)).astype(dtype),
        labels(["sample", "atom"], pairs),
        [Labels.range("d", 2), *components],
        properties,
    )
    block.add_gradient("x", gradient)
    return block


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("removed", ["i", "j", ["k", "i"], ["i", "j", "k"], []])
def test_sums_are_those_of_a_loop_bit_by_bit(removed, dtype):
    block = random_block(np.random.default_rng(0), dtype=dtype)
    total = sum_over_samples(block, removed)
    kept = [n for n, name in enumerate(block.samples.names) if name not in removed]
    table = block.samples.values[:, kept] if kept else np.zeros((len(block.samples), 1), int)
    assert sorted(map(tuple, np.unique(table, axis=0))) == [
        tuple(row) for row in total.samples.values
    ]
    for position, row in enumerate(total.samples.values):
        members = np.flatnonzero((table == row).all(axis=1))
        np.testing.assert_array_equal(total.values[position], block.values[members].sum(axis=0))
        for atom in range(7):
            expected = [
                value
                for (sample, a), value in zip(
                    block.gradient("x").samples.values, block.gradient("x").values, strict=True
                )
                if a == atom and sample in members
            ]
            found = total.gradient("x").samples.position((position, atom))
            if expected:
                np.testing.assert_array_equal(
                    total.gradient("x").values[found], np.sum(expected, axis=0)
                )
            else:
                assert found is None


def test_order_of_samples_does_not_count():
    rng = np.random.default_rng(1)
    block = random_block(rng)
    order = rng.permutation(len(block))
    permuted = TensorBlock(
        block.values[order],
        labels(block.samples.names, block.samples.values[order]),
        block.components,
        block.properties,
    )
    gradient = block.gradient("x")
    samples = gradient.samples.values.copy()
    samples[:, 0] = np.argsort(order)[samples[:, 0]]
    permuted.add_gradient(
        "x",
        TensorBlock(
            gradient.values,
            labels(gradient.samples.names, samples),
            gradient.components,
            block.properties,
        ),
    )
    first, second = sum_over_samples(block, "k"), sum_over_samples(permuted, "k")
    assert first.samples == second.samples
    assert first.gradient("x").samples == second.gradient("x").samples
    np.testing.assert_allclose(first.values, second.values, rtol=1e-12)
    np.testing.assert_allclose(first.gradient("x").values, second.gradient("x").values, atol=1e-12)


def test_sum_in_steps_is_the_sum_at_once():
    block = random_block(np.random.default_rng(2))
    steps = sum_over_samples(sum_over_samples(block, "k"), "i")
    at_once = sum_over_samples(block, ["i", "k"])
    assert steps.samples == at_once.samples
    np.testing.assert_allclose(steps.gradient("x").values, at_once.gradient("x").values, atol=1e-12)


@pytest.mark.parametrize(("removed", "names"), [("j", ["i"]), (["i", "j"], ["_"])])
def test_block_without_samples(xp, removed, names):
    properties = Labels.range("p", 2)
    block = TensorBlock(xp.asarray(np.zeros((0, 2))), Labels.empty(["i", "j"]), [], properties)
    block.add_gradient(
        "g",
        TensorBlock(xp.asarray(np.zeros((0, 2))), Labels.empty(["sample", "a"]), [], properties),
    )
    total = sum_over_samples(block, removed)
    assert total.samples == Labels.empty(names)
    assert tuple(total.values.shape) == (0, 2)
    assert total.gradient("g").samples == Labels.empty(["sample", "a"])


def test_gradients_of_gradients_are_summed_too():
    properties = Labels.range("p", 1)
    block = TensorBlock(
        np.ones((3, 1)), labels(["i", "j"], [[0, 0], [0, 1], [1, 0]]), [], properties
    )
    gradient = TensorBlock(np.ones((3, 1)), labels(["sample"], [[0], [1], [2]]), [], properties)
    gradient.add_gradient(
        "h", TensorBlock(np.array([[2.0], [3.0]]), labels(["sample"], [[0], [1]]), [], properties)
    )
    block.add_gradient("g", gradient)
    second = sum_over_samples(block, "j").gradient("g").gradient("h")
    assert second.samples == labels(["sample"], [[0]])
    assert second.values.tolist() == [[5.0]]


def test_autograd_flows_through():
    torch = pytest.importorskip("torch")
    values = torch.arange(6, dtype=torch.float64).reshape(3, 2).requires_grad_()
    samples = labels(["i", "j"], [[0, 0], [0, 1], [1, 0]])

    def total(values):
        return (
            sum_over_samples(TensorBlock(values, samples, [], Labels.range("p", 2)), "j").values
            ** 2
        )

    assert torch.autograd.gradcheck(total, values)


def test_nothing_given_is_changed():
    block = random_block(np.random.default_rng(3))
    before = block.copy()
    sum_over_samples(block, "k")
    assert block == before


def test_names_must_be_there_for_a_map():
    block = random_block(np.random.default_rng(4))
    with pytest.raises(ValueError, match="must be among the samples of this map .*, got 'system'"):
        sum_over_samples(TensorMap(Labels.single(), [block]), "system")
    assert sum_over_samples(block, ["system", "k"]) == sum_over_samples(block, "k")


def test_only_tensors():
    with pytest.raises(
        TypeError, match="must be a metatensor TensorMap or TensorBlock, got numpy.ndarray"
    ):
        sum_over_samples(np.zeros((2, 2)), "a")
