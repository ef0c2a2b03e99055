"""KeysToProperties and SumOverSamples."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.operations import sum_over_samples
from metatensor.sklearn import KeysToProperties, Rows, SumOverSamples

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


def test_bad_keys(X, make):
    with pytest.raises(ValueError, match="`unknown` must be 'error' or 'ignore', got 'drop'"):
        KeysToProperties(KEYS, unknown="drop").fit(X)
    with pytest.raises(ValueError, match="species"):
        KeysToProperties("species").fit(X)
    step = KeysToProperties("neighbor_type").fit(X)
    with pytest.raises(ValueError, match=r"X has the key names \['neighbor_type'\], but"):
        step.transform(TensorMap(make.labels(["neighbor_type"], [[1]]), [X.block_by_id(0)]))
    with pytest.raises(ValueError, match="needs at least one block"):
        KeysToProperties("a").fit(TensorMap(Labels.empty(["a"]), []))


# ---- SumOverSamples


def test_sums_are_those_of_the_operation(X):
    assert SumOverSamples().fit_transform(X) == sum_over_samples(X, "atom")
    assert SumOverSamples(["atom"]).transform(X) == sum_over_samples(X, "atom")  # nothing to learn
    assert SumOverSamples(["system", "atom"]).transform(X) == sum_over_samples(
        X, ["system", "atom"]
    )


def test_every_row_gets_a_sample(X):
    rows = Rows(X)[[7, 0, 1, 12]]
    total = SumOverSamples().transform(rows)
    plain = sum_over_samples(X, "atom")
    for block, expected in zip(total.tensor, plain):
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


@pytest.mark.parametrize("step", [KeysToProperties(KEYS), SumOverSamples()])
def test_arrays_have_no_labels(step):
    for X in (np.zeros((3, 2)), [[1.0, 2.0]]):
        with pytest.raises(TypeError, match="needs a TensorMap, or Rows of one"):
            step.fit(X)


def test_fit_comes_first(X):
    with pytest.raises(NotFittedError):
        KeysToProperties(KEYS).transform(X)
    with pytest.raises(NotFittedError):
        SumOverSamples().get_feature_names_out()
