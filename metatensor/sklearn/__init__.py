"""Estimators for scikit-learn's tools that fit and predict labelled blocks with gradients."""

from metatensor.sklearn.blockwise import BlockwiseRegressor, BlockwiseTransformer
from metatensor.sklearn.compose import AdditiveRegressor, TransformedTarget
from metatensor.sklearn.composition import CompositionRegressor
from metatensor.sklearn.dummy import DummyRegressor
from metatensor.sklearn.feature_extraction import (
    KeysToProperties,
    KeysToSamples,
    MeanOverSamples,
    SumOverSamples,
)
from metatensor.sklearn.feature_selection import VarianceThreshold
from metatensor.sklearn.keys_transformer import KeysTransformer
from metatensor.sklearn.linear_model import Ridge
from metatensor.sklearn.metrics import get_scorer, mae, make_scorer, max_error, medae, r2, rmse
from metatensor.sklearn.preprocessing import Normalizer, StandardScaler
from metatensor.sklearn.rows import Rows, as_rows

__all__ = [
    "AdditiveRegressor",
    "BlockwiseRegressor",
    "BlockwiseTransformer",
    "CompositionRegressor",
    "DummyRegressor",
    "KeysToProperties",
    "KeysToSamples",
    "KeysTransformer",
    "MeanOverSamples",
    "Normalizer",
    "Ridge",
    "Rows",
    "StandardScaler",
    "SumOverSamples",
    "TransformedTarget",
    "VarianceThreshold",
    "as_rows",
    "get_scorer",
    "mae",
    "make_scorer",
    "max_error",
    "medae",
    "r2",
    "rmse",
]
