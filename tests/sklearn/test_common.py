"""The contract of estimators: scikit-learn's checks on arrays, our own on labelled data.

``pytest tests/sklearn -q --count-checks`` prints how many each estimator passes.
"""

import warnings

from sklearn.utils.estimator_checks import parametrize_with_checks as on_arrays

from metatensor.sklearn import (
    PCA,
    CURSelector,
    FPSSelector,
    KernelRidge,
    KeysToProperties,
    KeysToSamples,
    MeanOverSamples,
    Normalizer,
    Nystroem,
    PolynomialFeatures,
    Ridge,
    RidgeCV,
    SampleSelector,
    SparseKernelRidge,
    StandardScaler,
    SumOverSamples,
    VarianceThreshold,
)
from metatensor.sklearn.testing import parametrize_with_checks

KEYS = ["center_type", "neighbor_type"]
#: estimators that take arrays as well, those without tests of their own for that
FOR_ARRAYS = [
    Normalizer(),
    StandardScaler(),
    StandardScaler(with_std="block"),
    VarianceThreshold(),
    Ridge(),
    Ridge(alpha=0.1, alpha_type="relative", solver="svd"),
    Ridge(solver="lstsq"),
    Ridge(solver="dual"),
    PCA(n_components=1, whiten=True),
    PolynomialFeatures(),
    FPSSelector(n_to_select=1),
    CURSelector(n_to_select=1),
]
ESTIMATORS = [
    *FOR_ARRAYS,
    KeysToProperties(KEYS),
    KeysToSamples(KEYS),
    KeysToSamples("neighbor_type", unknown="ignore"),
    SumOverSamples(),
    MeanOverSamples(),
    VarianceThreshold(threshold=0.3),
    PCA(n_components=2),
    PCA(n_components=0.9, whiten=True),
    PolynomialFeatures(degree=3, include_bias=True, interaction_only=True),
    FPSSelector(n_to_select=2),
    CURSelector(n_to_select=2),
    SampleSelector(n_to_select=4),
    SampleSelector(n_to_select=4, method="cur"),
    Nystroem(n_components=5),
    Nystroem(n_components=5, kernel="linear", selection="cur"),
    Nystroem(n_components=5, kernel="cosine", selection="random"),
    Ridge(alpha=1e-3),
    Ridge(alpha=1e-3, gradient_weights="balanced", solver="lstsq"),
    RidgeCV(alphas=[1e-3, 1e-1]),
    KernelRidge(alpha=1e-2),
    KernelRidge(alpha=1e-2, kernel="poly", degree=2, gradient_weights="balanced"),
    KernelRidge(alpha=1e-2, kernel="rbf", aggregate="mean"),
    KernelRidge(alpha=1e-2, kernel="cosine"),
    SparseKernelRidge(alpha=1e-2, n_components=5),
    SparseKernelRidge(alpha=1e-2, n_components=5, kernel="poly", degree=2),
]
ALL_CHOSEN = "transform needs all the samples that fit has chosen"
EXPECTED_FAILURES = {
    Nystroem: {
        "check_rotated_fit[vectors]": "features are products with vectors that are chosen, and turn"
    },
    SampleSelector: {"check_subsets": ALL_CHOSEN, "check_no_rows": ALL_CHOSEN},
    SparseKernelRidge: {"check_partial_fit": "the points are those of the first batch"},
}


# on labelled data with few rows, the last of all components would be arbitrary
@on_arrays([*FOR_ARRAYS, PCA()])
def test_scikit_learn_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


@parametrize_with_checks(
    ESTIMATORS,
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES.get(type(estimator), {}),
)
def test_own_checks(estimator, check):
    check(estimator)
