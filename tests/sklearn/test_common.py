"""The contract of estimators: scikit-learn's checks on arrays, our own on labelled data.

``pytest tests/sklearn/test_common.py -q --count-checks`` prints how many each estimator passes.
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
    SparseKernelRidge,
    StandardScaler,
    SumOverSamples,
    TransformedTarget,
    VarianceThreshold,
)
from metatensor.sklearn.testing import parametrize_with_checks

KEYS = ["center_type", "neighbor_type"]
#: estimators that take arrays as well
FOR_ARRAYS = [
    Normalizer(),
    StandardScaler(),
    StandardScaler(with_std="block"),
    VarianceThreshold(),
    PCA(),
    PCA(whiten=True, svd_solver="full"),
    FPSSelector(),
    CURSelector(),
    PolynomialFeatures(),
    PolynomialFeatures(degree=3, include_bias=True, interaction_only=True),
    Ridge(),
    Ridge(alpha=0.1, alpha_type="relative", solver="svd"),
    Ridge(solver="lstsq"),
    Ridge(solver="dual"),
    RidgeCV(),
    Nystroem(n_components=5),
    KernelRidge(),
    KernelRidge(kernel="rbf"),
    SparseKernelRidge(n_components=20),
    DummyRegressor(),
    DummyRegressor("median"),
    AdditiveRegressor([("mean", DummyRegressor()), ("rest", Ridge(1e-3))]),
    TransformedTarget(Ridge(1e-3), StandardScaler()),
    BlockwiseRegressor(sklearn.linear_model.Ridge()),
    BlockwiseTransformer(sklearn.preprocessing.StandardScaler()),
]
#: those with parts that take arrays alone, or for which no more is to be found out with labels
FOR_ARRAYS_ALONE = [
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
    PCA(n_components=3),
    FPSSelector(n_to_select=3),
    Ridge(alpha=1e-3),
    Ridge(alpha=1e-3, gradient_weights="balanced", solver="lstsq"),
]


@pytest.fixture(autouse=True)
def counted(request, record_property):
    """Say in the report which estimator and which checks a test is about."""
    parameters = request.node.callspec.params
    record_property("estimator", repr(parameters["estimator"]))
    record_property(
        "suite", "own" if request.node.originalname == "test_own_checks" else "scikit-learn"
    )


FROM_SCIKIT_LEARN = on_arrays([*FOR_ARRAYS, *FOR_ARRAYS_ALONE])
NAMES, CASES = FROM_SCIKIT_LEARN.args


# cases are a generator before scikit-learn 1.9, which pytest warns about
@pytest.mark.parametrize(NAMES, list(CASES), **FROM_SCIKIT_LEARN.kwargs)
def test_scikit_learn_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


@parametrize_with_checks(ESTIMATORS)
def test_own_checks(estimator, check):
    check(estimator)
