"""What is no valid parameter is refused by `fit`, in words that name it."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.sklearn import (
    PCA,
    CURSelector,
    FPSSelector,
    KeysToProperties,
    KeysToSamples,
    Normalizer,
    PolynomialFeatures,
    Ridge,
    RidgeCV,
    SampleSelector,
    StandardScaler,
    VarianceThreshold,
)

FLAGS = [
    (StandardScaler, "with_mean"),
    (PCA, "whiten"),
    (PolynomialFeatures, "include_bias"),
    (PolynomialFeatures, "interaction_only"),
    (Ridge, "fit_intercept"),
    (Ridge, "compute_std"),
    (RidgeCV, "fit_intercept"),
    (RidgeCV, "compute_std"),
    (RidgeCV, "alpha_per_target"),
]
CHOICES = [
    (StandardScaler, "with_std"),
    (Normalizer, "norm"),
    (PCA, "svd_solver"),
    (KeysToProperties, "unknown"),
    (KeysToSamples, "unknown"),
    (SampleSelector, "method"),
    (Ridge, "alpha_type"),
    (Ridge, "solver"),
    (RidgeCV, "alpha_type"),
]
NUMBERS = [
    (Ridge, "alpha"),
    (Ridge, "gradient_weights"),
    (RidgeCV, "alphas"),
    (RidgeCV, "gradient_weights"),
    (VarianceThreshold, "threshold"),
    (PCA, "n_components"),
    (FPSSelector, "n_to_select"),
    (FPSSelector, "initialize"),
    (CURSelector, "n_to_select"),
    (CURSelector, "n_singular"),
    (SampleSelector, "n_to_select"),
    (SampleSelector, "initialize"),
    (PolynomialFeatures, "degree"),
]


def refused(kind, name, value, X, y, error):
    estimator = kind(**{name: value})
    with pytest.raises(error, match=rf"`{name}(\[.*\])?` must"):
        estimator.fit(X, None if kind is SampleSelector else y)
    with pytest.raises(NotFittedError):
        (estimator.predict if hasattr(estimator, "predict") else estimator.transform)(X)


@pytest.mark.parametrize(("kind", "name"), FLAGS)
@pytest.mark.parametrize("value", ["no", None, 1, np.zeros(2)], ids=str)
def test_flags(features, y, kind, name, value):
    refused(kind, name, value, features, y, TypeError)
    kind(**{name: np.True_}).fit(features, y)


@pytest.mark.parametrize(("kind", "name"), CHOICES)
@pytest.mark.parametrize("value", ["other", None, -1, ["full"], np.array(["a", "b"])], ids=str)
def test_choices(features, X, y, kind, name, value):
    data = X if "Keys" in kind.__name__ else features
    if kind is Normalizer:
        with pytest.raises(ValueError, match="`norm` must be 'l2', got"):
            Normalizer(value).fit(data)
        return
    refused(kind, name, value, data, y, ValueError)


@pytest.mark.parametrize(("kind", "name"), NUMBERS)
@pytest.mark.parametrize(
    "value", ["many", -1, float("nan"), 1j, np.array(["a", "b"]), np.True_, {"a": 1}], ids=str
)
def test_numbers(features, y, kind, name, value):
    if name == "degree" and isinstance(value, np.ndarray):
        pytest.skip("scikit-learn compares it with the default")
    refused(kind, name, value, features, y, (TypeError, ValueError))


@pytest.mark.parametrize("kind", [FPSSelector, CURSelector, SampleSelector, PCA])
@pytest.mark.parametrize("keys", [["a"], [(0.5,)], [1], [(0,), (1,)]], ids=str)
def test_numbers_by_key(features, kind, keys):
    name = "n_components" if kind is PCA else "n_to_select"
    with pytest.raises(ValueError, match=f"`{name}` must have an entry for each key of X"):
        kind(**{name: dict.fromkeys(keys, 1)}).fit(features)


@pytest.mark.parametrize(("degree", "only"), [(30, False), (10**30, False), (10**30, True)])
def test_too_many_products(features, degree, only):
    model = PolynomialFeatures(degree, interaction_only=only)
    with pytest.raises(ValueError, match="16 properties have too many products up to degree="):
        model.fit(features)
    with pytest.raises(NotFittedError):
        model.transform(features)


@pytest.mark.parametrize(
    "cv", [[([0, 1], [0, 1])], [(range(16), range(8)), (range(8), range(8, 16))]]
)
def test_folds_that_overlap(features, y, cv):
    with pytest.raises(ValueError, match="`cv` must put each row into one test set"):
        RidgeCV(cv=cv).fit(features, y)


MODELS = [Ridge(), RidgeCV(), StandardScaler()]


@pytest.mark.parametrize("model", MODELS, ids=repr)
@pytest.mark.parametrize(
    ("weight", "error", "text"),
    [
        (0.0, ValueError, "must have an entry above zero"),
        (np.zeros(16), ValueError, "must have an entry above zero"),
        ("x", TypeError, "must be a number, or one for each row, got str"),
        ({}, TypeError, "must be a number, or one for each row, got dict"),
        (-1.0, ValueError, "must be finite and not negative"),
        (np.full(16, np.inf), ValueError, "must be finite and not negative"),
        (np.ones(3), ValueError, "must have one entry for each row, 16, got 3"),
    ],
)
def test_weights(features, y, model, weight, error, text):
    with pytest.raises(error, match=f"sample_weight {text}"):
        clone(model).fit(features, y, sample_weight=weight)


@pytest.mark.parametrize("factor", [1e-20, 1e20])
def test_scale_does_not_depend_on_the_size_of_weights(features, factor):
    weights = np.arange(1.0, 17.0)
    scales = [
        StandardScaler().fit(features, sample_weight=f * weights).scale_.block().values
        for f in (1.0, factor)
    ]
    np.testing.assert_allclose(*scales, rtol=1e-12)


@pytest.mark.parametrize("model", [*MODELS, PCA(), VarianceThreshold(), FPSSelector()], ids=repr)
def test_nothing_to_fit(features, y, model):
    def without_samples(tensor):
        block = tensor.block()
        samples = Labels(block.samples.names, block.samples.values[:0])
        return TensorMap(
            tensor.keys, [TensorBlock(block.values[:0], samples, [], block.properties)]
        )

    with pytest.raises(ValueError, match="needs at least one sample in X, got none"):
        clone(model).fit(without_samples(features), without_samples(y))
    empty = TensorMap(Labels.empty(["_"]), [])
    with pytest.raises(ValueError, match="needs at least one block, got a TensorMap without"):
        clone(model).fit(empty, empty)


@pytest.mark.parametrize("model", MODELS[:2], ids=repr)
def test_no_targets(features, y, model):
    block = y.block()
    none = Labels(["energy"], np.zeros((0, 1), dtype=np.int32))
    y = TensorMap(y.keys, [TensorBlock(block.values[:, :0], block.samples, [], none)])
    with pytest.raises(ValueError, match="y must have properties, the block with key .* has none"):
        clone(model).fit(features, y)
