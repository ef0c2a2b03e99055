"""StandardScaler."""

import numpy as np
import pytest
import sklearn.preprocessing

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import StandardScaler, as_rows


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("with_std", [True, False])
def test_arrays_give_what_scikit_learn_gives(weighted, with_mean, with_std):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 4)) * [1, 10, 1e-3, 2 if weighted else 0] + [0, 5, 1, 3]
    weights = rng.uniform(size=50) if weighted else None
    ours = StandardScaler(with_mean=with_mean, with_std=with_std)
    theirs = sklearn.preprocessing.StandardScaler(with_mean=with_mean, with_std=with_std)
    found = ours.fit_transform(X, sample_weight=weights)
    np.testing.assert_allclose(found, theirs.fit(X, sample_weight=weights).transform(X), atol=1e-12)
    np.testing.assert_allclose(ours.inverse_transform(found), X, atol=1e-12)
    if with_std:
        assert ours.n_samples_seen_ == pytest.approx(50 if weights is None else weights.sum())
        np.testing.assert_allclose(ours.scale_, theirs.scale_)


def test_each_block_has_its_own_numbers(X):
    scaler = StandardScaler().fit(X)
    scaled = scaler.transform(X)
    assert scaled.keys == X.keys
    for number, (block, before) in enumerate(zip(scaled, X)):
        np.testing.assert_allclose(block.values.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(block.values.std(axis=0), 1)
        np.testing.assert_allclose(
            scaler.mean_.block_by_id(number).values[0], before.values.mean(axis=0)
        )
        np.testing.assert_allclose(
            scaler.scale_.block_by_id(number).values[0], before.values.std(axis=0)
        )
        np.testing.assert_allclose(
            scaler.var_.block_by_id(number).values[0], before.values.var(axis=0)
        )
        assert scaler.mean_.block_by_id(number).properties == before.properties
        assert scaler.n_samples_seen_[number] == len(before)
    assert scaler.n_features_in_ == 16


def test_gradients_stay_derivatives(X):
    scaler = StandardScaler().fit(X)
    for block, before, scale in zip(scaler.transform(X), X, scaler.scale_):
        assert block.gradients_list() == ["positions", "strain"]
        for name, gradient in block.gradients():
            np.testing.assert_allclose(
                gradient.values, before.gradient(name).values / scale.values[0]
            )
            assert gradient.samples == before.gradient(name).samples


def test_inverse_is_the_inverse(X):
    scaler = StandardScaler().fit(X)
    for block, before in zip(scaler.inverse_transform(scaler.transform(X)), X):
        np.testing.assert_allclose(block.values, before.values, atol=1e-14)
        for name, gradient in block.gradients():
            np.testing.assert_allclose(gradient.values, before.gradient(name).values, atol=1e-14)


def test_one_scale_for_a_block(X):
    scaler = StandardScaler(with_std="block").fit(X)
    for scale, block in zip(scaler.scale_, X):
        np.testing.assert_allclose(scale.values, np.sqrt(block.values.var(axis=0).mean()))


def test_no_scale(X):
    scaler = StandardScaler(with_std=False).fit(X)
    assert scaler.scale_ is None
    for block, before in zip(scaler.transform(X), X):
        np.testing.assert_allclose(block.values, before.values - before.values.mean(axis=0))
        assert block.gradient("strain") == before.gradient("strain")


def test_blocks_with_components_have_no_mean(make):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(20, 3, 2)) + 4
    block = TensorBlock(
        values, Labels.range("system", 20), [Labels.range("xyz", 3)], Labels.range("n", 2)
    )
    scaler = StandardScaler().fit(make.one_block(block))
    rms = np.sqrt((values**2).mean(axis=(0, 1)))
    np.testing.assert_allclose(scaler.transform(make.one_block(block)).block().values, values / rms)
    assert (scaler.mean_.block().values == 0).all()
    assert scaler.n_samples_seen_ == [60]


def test_constant_properties_are_not_blown_up(make):
    values = np.tile([[0.1, 0.0, 1e8]], (30, 1))
    block = TensorBlock(values, Labels.range("system", 30), [], Labels.range("n", 3))
    for with_std in ("property", "block"):
        scaler = StandardScaler(with_std=with_std).fit(make.one_block(block))
        assert (scaler.scale_.block().values == 1).all()
        np.testing.assert_allclose(
            scaler.transform(make.one_block(block)).block().values, 0, atol=1e-6
        )


def test_weights_are_copies_and_zero_is_nothing(features):
    X = as_rows(features)
    weights = np.arange(16) % 3
    copies = np.repeat(features.block().values, weights, axis=0)
    scaler = StandardScaler().fit(X, sample_weight=weights)
    np.testing.assert_allclose(scaler.mean_.block().values[0], copies.mean(axis=0))
    np.testing.assert_allclose(scaler.scale_.block().values[0], copies.std(axis=0))
    assert scaler.n_samples_seen_ == [weights.sum()]


def test_weights_of_rows_hold_in_every_block(X):
    rows = as_rows(X)
    weights = np.random.default_rng(2).uniform(size=16)
    scaler = StandardScaler().fit(rows, sample_weight=weights)
    for mean, block in zip(scaler.mean_, X):
        expected = np.average(block.values, axis=0, weights=weights[block.samples["system"]])
        np.testing.assert_allclose(mean.values[0], expected)
    with pytest.raises(ValueError, match="make rows with `as_rows`"):
        StandardScaler().fit(X, sample_weight=weights)


def test_batches_are_as_good_as_all_at_once(X):
    rows = as_rows(X)
    weights = np.random.default_rng(3).uniform(size=16)
    at_once = StandardScaler().fit(rows, sample_weight=weights)
    scaler = StandardScaler()
    for batch in (slice(0, 1), slice(1, 9), slice(9, None)):
        scaler.partial_fit(rows[batch], sample_weight=weights[batch])
    for name in ("mean_", "scale_", "var_"):
        for found, expected in zip(getattr(scaler, name), getattr(at_once, name)):
            np.testing.assert_allclose(found.values, expected.values, rtol=1e-12)
    scaler.fit(rows)
    np.testing.assert_allclose(
        scaler.mean_.block_by_id(0).values, StandardScaler().fit(rows).mean_.block_by_id(0).values
    )


def test_large_offsets_do_not_spoil_the_variance(make):
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(1000, 1))
    block = TensorBlock(noise + 1e9, Labels.range("system", 1000), [], Labels.range("n", 1))
    rows = as_rows(make.one_block(block))
    scaler = StandardScaler().partial_fit(rows[:300]).partial_fit(rows[300:])
    np.testing.assert_allclose(
        scaler.scale_.block().values[0], (noise + 1e9).std(axis=0), rtol=1e-7
    )


def test_order_of_samples_and_blocks_does_not_count(X, make):
    rng = np.random.default_rng(5)
    scaler, other = StandardScaler().fit(X), StandardScaler().fit(make.permuted(X, rng))
    for key, block in scaler.scale_.items():
        np.testing.assert_allclose(other.scale_.block(key).values, block.values, rtol=1e-12)


def test_float32_is_summed_in_double_precision(X):
    single = X.to(np.float32)
    scaler = StandardScaler().fit(single)
    scaled = scaler.transform(single)
    assert scaled.dtype == np.float32
    assert scaled.block_by_id(0).gradient("positions").values.dtype == np.float32
    expected = single.block_by_id(0).values.astype(np.float64).std(axis=0)
    np.testing.assert_allclose(scaler.scale_.block_by_id(0).values[0], expected, rtol=1e-12)


def test_blocks_may_be_absent_but_not_new(X, make):
    scaler = StandardScaler().fit(X)
    part = TensorMap(
        make.labels(X.keys.names, X.keys.values[2:]), [X.block_by_id(2), X.block_by_id(3)]
    )
    assert scaler.transform(part).keys == part.keys
    with pytest.raises(ValueError, match="X has a block with key"):
        StandardScaler().fit(part).transform(X)


def test_names_of_features(X):
    names = StandardScaler().fit(X).get_feature_names_out()
    assert names[-1] == "center_type=8:neighbor_type=8:k=6"
    assert StandardScaler().fit(np.zeros((2, 2))).get_feature_names_out().tolist() == ["x0", "x1"]


def test_bad_input(X, make):
    with pytest.raises(
        ValueError, match="`with_std` must be 'property', 'block', True or False, got 'all'"
    ):
        StandardScaler(with_std="all").fit(X)
    broken = X.copy()
    broken.block_by_id(1).gradient("strain").values[0, 1, 2, 3] = np.nan
    with pytest.raises(
        ValueError,
        match=r"Input X contains NaN or infinity, in the gradient 'strain' of the block with key "
        r"\(center_type=1, neighbor_type=8\)",
    ):
        StandardScaler().fit(broken)
