"""Moving keys, and reducing samples."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.operations import mean_over_samples, sum_over_samples
from metatensor.sklearn import (
    KeysToProperties,
    KeysToSamples,
    MeanOverSamples,
    Rows,
    SumOverSamples,
)
from metatensor.testing import check_gradients

KEYS = ["center_type", "neighbor_type"]


def without_type(X, number, make):
    """The blocks that have nothing to do with one type."""
    kept = np.flatnonzero((X.keys.values != number).all(axis=1))
    keys = make.labels(X.keys.names, X.keys.values[kept])
    return TensorMap(keys, [X.block_by_id(int(n)) for n in kept])


# ---- KeysToProperties


@pytest.mark.parametrize("keys", [KEYS, ["neighbor_type"], "center_type"])
def test_what_is_known_is_moved_as_by_the_map(X, keys):
    step = KeysToProperties(keys)
    expected = X.keys_to_properties(keys)
    assert step.fit_transform(X) == expected
    assert step.transform(X) == expected
    assert list(step.properties_.values()) == [block.properties for block in expected]
    assert step.n_features_in_ == 16


def test_properties_are_those_of_fit(X, make):
    step = KeysToProperties(KEYS).fit(X)
    part = without_type(X, 8, make)
    block = step.transform(part).block()
    expected = X.keys_to_properties(KEYS).block()
    assert block.properties == expected.properties
    # samples with only type 1 around them are as in the whole
    known = part.block().samples
    np.testing.assert_array_equal(block.samples.values, known.values)
    np.testing.assert_array_equal(block.values[:, :4], part.block().values)
    assert (block.values[:, 4:] == 0).all()
    for name, gradient in block.gradients():
        assert len(gradient) == len(part.block().gradient(name))
        np.testing.assert_array_equal(gradient.values[..., :4], part.block().gradient(name).values)
        assert (gradient.values[..., 4:] == 0).all()


def test_order_of_keys_does_not_count(X, make):
    step = KeysToProperties(KEYS).fit(X)
    rng = np.random.default_rng(0)
    assert step.transform(make.permuted(X, rng)) == step.transform(X)


def test_absent_blocks_of_the_result_have_no_samples(X, make):
    step = KeysToProperties("neighbor_type").fit(X)
    result = step.transform(without_type(X, 8, make))
    assert result.keys == X.keys_to_properties("neighbor_type").keys
    block = result.block(center_type=8)
    assert block.values.shape == (0, 8)
    assert block.samples == Labels.empty(["system", "atom"])
    assert block.gradient("positions").values.shape == (0, 3, 8)
    assert block.gradient("strain").samples == Labels.empty(["sample"])


def test_what_is_unknown(X, make):
    part = without_type(X, 8, make)
    step = KeysToProperties(KEYS).fit(part)
    with pytest.raises(
        ValueError,
        match=r"not there in `fit`: \(center_type=1, neighbor_type=8, k=3\), .* and 9 more",
    ):
        step.transform(X)
    ignoring = KeysToProperties(KEYS, unknown="ignore").fit(part)
    block = ignoring.transform(X).block()
    whole = X.keys_to_properties(KEYS).block()
    assert block.samples == whole.samples
    np.testing.assert_array_equal(block.values, whole.values[:, :4])
    part = TensorMap(
        make.labels(X.keys.names, X.keys.values[:2]), [X.block_by_id(0), X.block_by_id(1)]
    )
    step = KeysToProperties("neighbor_type").fit(part)
    with pytest.raises(ValueError, match=r"give a block with key \(center_type=8\)"):
        step.transform(X)
    ignoring = KeysToProperties("neighbor_type", unknown="ignore").fit(part)
    assert ignoring.transform(X).keys == make.labels(["center_type"], [[1]])


def test_components_are_kept(make):
    components = [Labels.range("xyz", 3)]
    blocks = [
        TensorBlock(
            np.full((2, 3, 1), n), Labels.range("system", 2), components, Labels.range("p", 1)
        )
        for n in (1.0, 2.0)
    ]
    X = TensorMap(make.labels(["a"], [[0], [1]]), blocks)
    step = KeysToProperties("a").fit(X)
    one = step.transform(TensorMap(make.labels(["a"], [[1]]), blocks[:1])).block()
    assert one.components == components
    np.testing.assert_array_equal(one.values[0], [[0, 1]] * 3)


def test_names_of_features(X):
    step = KeysToProperties("neighbor_type").fit(X)
    names = step.get_feature_names_out()
    assert names[0] == "center_type=1:neighbor_type=1:k=3"
    assert len(set(names)) == 16
    assert (
        SumOverSamples().fit(step.transform(X)).get_feature_names_out().tolist() == names.tolist()
    )


@pytest.mark.parametrize("kind", [KeysToProperties, KeysToSamples])
def test_bad_keys(kind, X, make):
    with pytest.raises(ValueError, match="`unknown` must be 'error' or 'ignore', got 'drop'"):
        kind(KEYS, unknown="drop").fit(X)
    with pytest.raises(ValueError, match="species"):
        kind("species").fit(X)
    step = kind("neighbor_type").fit(X)
    with pytest.raises(
        ValueError, match=rf"X has the key names \['neighbor_type'\], but {kind.__name__} was"
    ):
        step.transform(TensorMap(make.labels(["neighbor_type"], [[1]]), [X.block_by_id(0)]))
    with pytest.raises(ValueError, match="needs at least one block"):
        kind("a").fit(TensorMap(Labels.empty(["a"]), []))


# ---- KeysToSamples


@pytest.mark.parametrize("keys", [KEYS, ["neighbor_type"], "center_type"])
def test_samples_are_moved_as_by_the_map(X, keys):
    step = KeysToSamples(keys)
    expected = X.keys_to_samples(keys)
    assert step.fit_transform(X) == expected
    assert step.transform(X) == expected
    assert list(step.properties_.values()) == [block.properties for block in expected]
    assert len(step.get_feature_names_out()) == 4 * len(expected)
    check_gradients(step.transform, X)


def two_types(make):
    """Blocks of two types, with properties that differ."""
    blocks = [
        TensorBlock(
            np.arange(4.0).reshape(2, 2) + n, Labels.range("atom", 2), [], make.labels(["p"], p)
        )
        for n, p in ((0, [[0], [1]]), (4, [[1], [2]]))
    ]
    for block in blocks:
        rows = make.labels(["sample", "atom"], [[1, 0]])
        block.add_gradient("g", TensorBlock(np.ones((1, 2)), rows, [], block.properties))
    return TensorMap(make.labels(["type"], [[1], [8]]), blocks)


def test_properties_of_samples_are_those_of_fit(make):
    X = two_types(make)
    step = KeysToSamples("type").fit(X)
    assert step.get_feature_names_out().tolist() == ["p=0", "p=1", "p=2"]
    alone = TensorMap(make.labels(["type"], [[8]]), [X.block_by_id(1)])
    block = step.transform(alone).block()
    assert block.samples == make.labels(["atom", "type"], [[0, 8], [1, 8]])
    np.testing.assert_array_equal(block.values, [[0, 4, 5], [0, 6, 7]])
    np.testing.assert_array_equal(block.gradient("g").values, [[0, 1, 1]])


def test_new_values_are_samples_and_new_properties_unknown(X, make):
    pair = two_types(make)
    one = TensorMap(make.labels(["type"], [[1]]), [pair.block_by_id(0)])
    other = TensorMap(make.labels(["type"], [[7]]), [pair.block_by_id(0)])
    assert KeysToSamples("type").fit(one).transform(other) == other.keys_to_samples("type")
    with pytest.raises(ValueError, match=r"not there in `fit`: \(p=2\); fit to data"):
        KeysToSamples("type").fit(one).transform(pair)
    block = KeysToSamples("type", unknown="ignore").fit(one).transform(pair).block()
    np.testing.assert_array_equal(block.values, [[0, 1], [0, 4], [2, 3], [0, 6]])
    np.testing.assert_array_equal(block.gradient("g").values, [[1, 1], [0, 1]])
    part = without_type(X, 8, make)
    with pytest.raises(ValueError, match=r"give a block with key \(neighbor_type=8\)"):
        KeysToSamples("center_type").fit(part).transform(X)
    ignoring = KeysToSamples("center_type", unknown="ignore").fit(part)
    assert ignoring.transform(X).keys == make.labels(["neighbor_type"], [[1]])
    whole = KeysToSamples("center_type").fit(X)
    assert whole.transform(part).block(neighbor_type=8).values.shape == (0, 4)


# ---- SumOverSamples and MeanOverSamples


def test_sums_are_those_of_the_operation(X):
    assert SumOverSamples().fit_transform(X) == sum_over_samples(X, "atom")
    assert SumOverSamples(["atom"]).transform(X) == sum_over_samples(X, "atom")  # nothing to learn
    assert SumOverSamples(["system", "atom"]).transform(X) == sum_over_samples(
        X, ["system", "atom"]
    )


def test_averages_are_those_of_a_loop(X):
    reduced = MeanOverSamples().fit_transform(X)
    assert reduced == mean_over_samples(X, "atom")
    for block, before in zip(reduced, X):
        for number, (system,) in enumerate(block.samples):
            atoms = np.flatnonzero(before.samples["system"] == system)
            np.testing.assert_allclose(block.values[number], before.values[atoms].mean(axis=0))
            for name, gradient in before.gradients():
                expected = {}
                for (sample, *rest), values in zip(gradient.samples, gradient.values):
                    if sample in atoms:
                        expected[tuple(rest)] = expected.get(tuple(rest), 0) + values / len(atoms)
                found = block.gradient(name)
                rows = np.flatnonzero(found.samples["sample"] == number)
                assert len(rows) == len(expected)
                for row in rows:
                    rest = tuple(found.samples.values[row, 1:].tolist())
                    np.testing.assert_allclose(found.values[row], expected[rest])


@pytest.mark.parametrize("step", [SumOverSamples(), MeanOverSamples(), MeanOverSamples([])])
def test_gradients_stay_derivatives(step, X):
    check_gradients(step.fit(X).transform, X)


def test_averages_are_over_all_atoms_or_those_of_a_type(X, make):
    values = np.array([[1.0], [3.0]]), np.array([[8.0]])
    samples = (make.labels(["system", "atom"], rows) for rows in ([[0, 0], [0, 2]], [[0, 1]]))
    blocks = [TensorBlock(v, s, [], Labels.range("n", 1)) for v, s in zip(values, samples)]
    X = TensorMap(make.labels(["center_type"], [[1], [8]]), blocks)
    move, average = KeysToProperties("center_type"), MeanOverSamples()
    first = average.fit_transform(move.fit_transform(X))
    np.testing.assert_allclose(first.block().values, [[4 / 3, 8 / 3]])
    last = move.fit_transform(average.fit_transform(X))
    np.testing.assert_allclose(last.block().values, [[2, 8]])


@pytest.mark.parametrize(
    ("step", "operation"),
    [(SumOverSamples(), sum_over_samples), (MeanOverSamples(), mean_over_samples)],
)
def test_every_row_gets_a_sample(step, operation, X):
    rows = Rows(X)[[7, 0, 1, 12]]
    reduced = step.transform(rows)
    plain = operation(X, "atom")
    for block, expected in zip(reduced.tensor, plain):
        np.testing.assert_array_equal(block.samples.values, rows.rows.values)
        for sample, values in zip(block.samples, block.values):
            position = expected.samples.position(sample)
            np.testing.assert_array_equal(
                values, 0 if position is None else expected.values[position]
            )
        there = np.isin(expected.samples["system"], [7, 0, 1, 12])
        for name, gradient in block.gradients():
            of_these = there[expected.gradient(name).samples["sample"]]
            assert len(gradient) == np.count_nonzero(of_these)
        systems = block.samples["system"][block.gradient("positions").samples["sample"]]
        np.testing.assert_array_equal(systems, block.gradient("positions").samples["system"])
    # the first system has only type 1, and so no sample in three of the blocks
    assert [0 in block.samples["system"] for block in plain] == [True, False, False, False]


def test_rows_of_atoms_stay_as_they_are(X):
    rows = Rows(X, by=("system", "atom"))
    per_atom = SumOverSamples([]).transform(rows)
    assert len(per_atom) == len(rows)
    by_system = SumOverSamples("atom").transform(Rows(X.keys_to_samples("center_type")))
    assert by_system.tensor.sample_names == ["system", "center_type"]


@pytest.mark.parametrize(
    "step", [KeysToProperties(KEYS), KeysToSamples(KEYS), SumOverSamples(), MeanOverSamples()]
)
def test_arrays_have_no_labels(step):
    for X in (np.zeros((3, 2)), [[1.0, 2.0]]):
        with pytest.raises(TypeError, match="needs a TensorMap, or Rows of one"):
            step.fit(X)


def test_fit_comes_first(X):
    for step in (KeysToProperties(KEYS), KeysToSamples(KEYS)):
        with pytest.raises(NotFittedError):
            step.transform(X)
    for step in (SumOverSamples(), MeanOverSamples()):
        with pytest.raises(NotFittedError):
            step.get_feature_names_out()
