"""Estimators for scikit-learn's tools that fit and predict labelled blocks with gradients."""

from metatensor.sklearn.blockwise import BlockwiseRegressor, BlockwiseTransformer
from metatensor.sklearn.calculators import CalculatorTransformer, Systems
from metatensor.sklearn.compose import AdditiveRegressor, TransformedTarget
from metatensor.sklearn.composition import CompositionRegressor
from metatensor.sklearn.decomposition import PCA
from metatensor.sklearn.displays import LearningCurveDisplay, ParityDisplay, SparsityDisplay
from metatensor.sklearn.dummy import DummyRegressor
from metatensor.sklearn.feature_extraction import (
    KeysToProperties,
    KeysToSamples,
    MeanOverSamples,
    SumOverSamples,
)
from metatensor.sklearn.feature_selection import CURSelector, FPSSelector, VarianceThreshold
from metatensor.sklearn.kernel_approximation import Nystroem
from metatensor.sklearn.kernel_ridge import KernelRidge
from metatensor.sklearn.keys_transformer import KeysTransformer
from metatensor.sklearn.linear_model import Ridge, RidgeCV
from metatensor.sklearn.metrics import get_scorer, mae, make_scorer, max_error, medae, r2, rmse
from metatensor.sklearn.persistence import load_model, save_model
from metatensor.sklearn.polynomials import PolynomialFeatures
from metatensor.sklearn.preprocessing import Normalizer, StandardScaler
from metatensor.sklearn.rows import Rows, as_rows
from metatensor.sklearn.sample_selection import SampleSelector
from metatensor.sklearn.sparse_kernel_ridge import SparseKernelRidge

__all__ = [
    "AdditiveRegressor",
    "BlockwiseRegressor",
    "BlockwiseTransformer",
    "CURSelector",
    "CalculatorTransformer",
    "CompositionRegressor",
    "DummyRegressor",
    "FPSSelector",
    "KernelRidge",
    "KeysToProperties",
    "KeysToSamples",
    "KeysTransformer",
    "LearningCurveDisplay",
    "MeanOverSamples",
    "Normalizer",
    "Nystroem",
    "PCA",
    "ParityDisplay",
    "PolynomialFeatures",
    "Ridge",
    "RidgeCV",
    "Rows",
    "SampleSelector",
    "SparseKernelRidge",
    "SparsityDisplay",
    "StandardScaler",
    "SumOverSamples",
    "Systems",
    "TransformedTarget",
    "VarianceThreshold",
    "as_rows",
    "get_scorer",
    "load_model",
    "mae",
    "make_scorer",
    "max_error",
    "medae",
    "r2",
    "rmse",
    "save_model",
]
