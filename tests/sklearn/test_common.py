"""The contract of estimators: scikit-learn's checks on arrays, our own on labelled data.

``pytest tests/sklearn -q --count-checks`` prints how many each estimator passes.
"""

import warnings

import pytest
import sklearn.decomposition
import sklearn.feature_selection
import sklearn.linear_model
import sklearn.preprocessing
import sklearn.tree
from sklearn.utils.estimator_checks import parametrize_with_checks as on_arrays

from metatensor.sklearn import (
    PCA,
    AdditiveRegressor,
    BlockwiseRegressor,
    BlockwiseTransformer,
    CompositionRegressor,
    CURSelector,
    DummyRegressor,
    FPSSelector,
    KernelRidge,
    KeysToProperties,
    KeysToSamples,
    KeysTransformer,
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
    TransformedTarget,
    VarianceThreshold,
)
from metatensor.sklearn.testing import parametrize_with_checks

KEYS = ["center_type", "neighbor_type"]
KERNELS = ("linear", "poly", "rbf", "cosine")
#: estimators that take arrays as well
FOR_ARRAYS = [
    Normalizer(),
    StandardScaler(),
    StandardScaler(with_std="block"),
    VarianceThreshold(),
    FPSSelector(),
    CURSelector(),
    PolynomialFeatures(),
    PolynomialFeatures(degree=3, include_bias=True, interaction_only=True),
    Ridge(),
    Ridge(alpha=0.1, alpha_type="relative", solver="svd"),
    Ridge(solver="lstsq"),
    Ridge(solver="dual"),
    Ridge(compute_std=True),
    RidgeCV(),
    RidgeCV(compute_std=True, alpha_per_target=True),
    *(KernelRidge(kernel=kernel) for kernel in KERNELS),
    *(DummyRegressor(strategy) for strategy in ("mean", "median")),
    AdditiveRegressor([("mean", DummyRegressor()), ("rest", Ridge(1e-3))]),
    TransformedTarget(Ridge(1e-3), StandardScaler()),
    BlockwiseRegressor(sklearn.linear_model.Ridge()),
    BlockwiseTransformer(sklearn.preprocessing.StandardScaler()),
]
#: what has parts for arrays alone, has arbitrary components on the few rows of our own data, or
#: makes folds of all rows, those of weight zero among them
ONLY_ARRAYS = [
    PCA(),
    PCA(whiten=True, svd_solver="full"),
    RidgeCV([0.1, 10.0], alpha_type="relative", scoring="neg_rmse", cv=2),
    *(Nystroem(kernel, n_components=5) for kernel in KERNELS),
    *(Nystroem(selection=selection, random_state=0) for selection in ("fps", "cur", "random")),
    *(SparseKernelRidge(0.1, kernel=kernel, n_components=20) for kernel in KERNELS),
    SparseKernelRidge(0.1, alpha_type="relative"),
    SparseKernelRidge(0.1, selection="random", random_state=0),
    KernelRidge(kernel="precomputed"),
    DummyRegressor("zero"),
    AdditiveRegressor([("first", sklearn.linear_model.Ridge()), ("rest", Ridge(1e-3))]),
    TransformedTarget(sklearn.linear_model.Ridge(), sklearn.preprocessing.MinMaxScaler()),
    BlockwiseRegressor(sklearn.tree.DecisionTreeRegressor(random_state=0)),
    BlockwiseTransformer(sklearn.decomposition.PCA()),
    BlockwiseTransformer(sklearn.feature_selection.VarianceThreshold()),
]
ESTIMATORS = [
    *FOR_ARRAYS,
    CompositionRegressor(),
    KeysTransformer([("scale", StandardScaler(), {})]),
    KeysToProperties(KEYS),
    KeysToSamples(KEYS),
    KeysToSamples("neighbor_type", unknown="ignore"),
    SumOverSamples(),
    MeanOverSamples(),
    VarianceThreshold(threshold=0.3),
    PCA(n_components=2),
    PCA(n_components=0.9, whiten=True),
    FPSSelector(n_to_select=2),
    CURSelector(n_to_select=2),
    SampleSelector(n_to_select=4),
    SampleSelector(n_to_select=4, method="cur"),
    Nystroem(n_components=5),
    Nystroem("linear", n_components=5, selection="cur"),
    Nystroem("cosine", n_components=5, selection="random"),
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


NO_KERNEL = dict.fromkeys(
    ["check_positive_only_tag_during_fit", "check_estimators_dtypes"],
    "gives a matrix with negative eigenvalues, which is no kernel and refused",
)
FROM_SCIKIT_LEARN = on_arrays(
    [*FOR_ARRAYS, *ONLY_ARRAYS],
    expected_failed_checks=lambda estimator: (
        NO_KERNEL if getattr(estimator, "kernel", None) == "precomputed" else {}
    ),
)
NAMES, CASES = FROM_SCIKIT_LEARN.args


# cases are a generator before scikit-learn 1.9, which pytest warns about
@pytest.mark.parametrize(NAMES, list(CASES), **FROM_SCIKIT_LEARN.kwargs)
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
