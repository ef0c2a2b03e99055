"""StandardScaler and Normalizer."""

import numpy as np
import pytest
import sklearn.preprocessing

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import Normalizer, StandardScaler, as_rows
from metatensor.testing import check_gradients

# ---- StandardScaler


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


# ---- Normalizer


def with_gradients(make, xp, components=(), dtype=np.float64):
    """A block whose third sample is zero, with gradient rows for some samples."""
    rng = np.random.default_rng(6)
    components = [Labels.range(f"c{axis}", n) for axis, n in enumerate(components)]
    shape = (*map(len, components), 4)
    properties = Labels.range("n", 4)
    values = rng.normal(size=(5, *shape)).astype(dtype)
    values[2] = 0
    block = TensorBlock(xp.asarray(values), Labels.range("system", 5), components, properties)
    for name, rows, own in (
        ("positions", [[0, 1], [0, 2], [3, 0], [4, 4]], [Labels.range("xyz", 3)]),
        ("g", [[1, 0], [2, 0]], []),
    ):
        values = rng.normal(size=(len(rows), *map(len, own), *shape)).astype(dtype)
        samples = make.labels(["sample", "atom"], rows)
        gradient = TensorBlock(xp.asarray(values), samples, [*own, *components], properties)
        block.add_gradient(name, gradient)
    return make.one_block(block)


def host(array):
    return np.asarray(array)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("components", [(), (3,), (2, 3)])
def test_samples_have_norm_one(make, xp, components, dtype):
    X = with_gradients(make, xp, components, dtype)
    block, before = Normalizer().fit_transform(X).block(), X.block()
    assert block.values.dtype == before.values.dtype
    rtol = 1e-12 if dtype == np.float64 else 1e-5
    norms = [np.linalg.norm(sample) for sample in host(before.values).astype(np.float64)]
    for found, sample, norm in zip(host(block.values), host(before.values), norms):
        np.testing.assert_allclose(found, sample / (norm or 1), rtol=rtol)
    for name, gradient in block.gradients():
        assert gradient.samples == before.gradient(name).samples
        assert gradient.components == before.gradient(name).components
        given = host(before.gradient(name).values).astype(np.float64)
        for (sample, _), found, dx in zip(gradient.samples, host(gradient.values), given):
            x, norm = host(before.values)[sample].astype(np.float64), norms[sample]
            axes = tuple(range(dx.ndim - x.ndim, dx.ndim))
            along = np.sum(x * dx, axis=axes, keepdims=True)
            expected = dx / norm - x * along / norm**3 if norm else 0 * dx
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("components", [(), (3,)])
def test_gradients_of_normalized_samples_are_derivatives(make, xp, components):
    X = with_gradients(make, xp, components)
    block = X.block()
    kept = block.gradient("g").values[:1, ...]  # not that of the sample that is zero
    rows = make.labels(["sample", "atom"], [[1, 0]])
    part = TensorBlock(block.values, block.samples, block.components, block.properties)
    part.add_gradient("g", TensorBlock(kept, rows, block.components, block.properties))
    part.add_gradient("positions", block.gradient("positions"))
    check_gradients(Normalizer().transform, make.one_block(part))


def test_normalized_features_have_gradients(X):
    # some norms are small, so that steps must be
    check_gradients(Normalizer().transform, X, step=1e-5)


def test_torch_differentiates_through_norms(make):
    torch = pytest.importorskip("torch")
    values = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    block = TensorBlock(values, Labels.range("system", 2), [], Labels.range("n", 2))
    block = Normalizer().transform(make.one_block(block)).block()
    (block.values @ torch.tensor([1.0, 2.0], dtype=torch.float64)).sum().backward()
    # (w - u (u.w)) / |x|, and zero where x is
    expected = [[(1 - 0.6 * 2.2) / 5, (2 - 0.8 * 2.2) / 5], [0, 0]]
    np.testing.assert_allclose(values.grad.numpy(), expected, atol=1e-15)


def test_norms_do_not_change_with_rotations(make):
    rng = np.random.default_rng(7)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    labels = Labels.range("system", 4), [Labels.range("xyz", 3)], Labels.range("n", 2)
    values = rng.normal(size=(4, 3, 2))

    def normalized(values):
        X = make.one_block(TensorBlock(values, *labels))
        return Normalizer().transform(X).block().values

    np.testing.assert_allclose(
        normalized(np.einsum("ij,sjn->sin", rotation, values)),
        np.einsum("ij,sjn->sin", rotation, normalized(values)),
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_normalized_arrays_are_those_of_scikit_learn(dtype):
    array = (10 * np.random.default_rng(8).normal(size=(20, 5))).astype(dtype)
    array[3] = 0
    expected = sklearn.preprocessing.Normalizer(norm="l2").fit_transform(array)
    for found in (Normalizer().fit_transform(array), Normalizer().transform(array)):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-6 if dtype == np.float32 else 1e-12)
    assert Normalizer().fit(array).get_feature_names_out().tolist() == [f"x{n}" for n in range(5)]


def test_small_and_large_numbers_have_norms():
    array = np.array([[3e-30, 4e-30], [3e30, 4e30]], dtype=np.float32)
    np.testing.assert_allclose(Normalizer().transform(array), [[0.6, 0.8]] * 2, rtol=1e-6)


def test_there_is_nothing_to_learn(X, make):
    """Neither before nor after `fit`; but what is an array stays one."""
    part = TensorMap(make.labels(X.keys.names, X.keys.values[:1]), [X.block_by_id(0)])
    expected = Normalizer().transform(X)
    assert Normalizer().fit(part).transform(X) == expected
    assert Normalizer().fit(part).get_feature_names_out().tolist()[0] == (
        "center_type=1:neighbor_type=1:k=3"
    )
    array = np.ones((2, 3))
    with pytest.raises(TypeError, match="was fitted on plain arrays, got labelled data"):
        Normalizer().fit(array).transform(X)
    with pytest.raises(TypeError, match="was fitted on labelled data"):
        Normalizer().fit(X).transform(array)
    with pytest.raises(ValueError, match="X has 3 features, but Normalizer is expecting 2"):
        Normalizer().fit(array[:, :2]).transform(array)


def test_frames_come_out_without_a_fit_too(X):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [3.0, 1.0], "b": [4.0, 0.0]}, index=[5, 6])
    step = Normalizer().set_output(transform="pandas")
    expected = pandas.DataFrame({"a": [0.6, 1.0], "b": [0.8, 0.0]}, index=[5, 6])
    for found in (step.transform(frame), step.fit_transform(frame)):
        pandas.testing.assert_frame_equal(found, expected)
    step = Normalizer().set_output(transform="pandas")
    assert isinstance(step.transform(X), TensorMap)
    assert isinstance(step.fit(X).transform(X), TensorMap)


def test_what_has_no_norm(X, make):
    with pytest.raises(ValueError, match="`norm` must be 'l2', got 'l1'"):
        Normalizer(norm="l1").fit(X)
    gradient = TensorBlock(np.ones((1, 1)), Labels.range("sample", 1), [], Labels.range("n", 1))
    for _ in range(2):
        outer = TensorBlock(np.ones((1, 1)), Labels.range("sample", 1), [], Labels.range("n", 1))
        outer.add_gradient("g", gradient)
        gradient = outer
    with pytest.raises(NotImplementedError, match="`Normalizer` is not linear"):
        Normalizer().transform(make.one_block(gradient))
