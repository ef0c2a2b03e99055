"""Estimators for scikit-learn's tools that fit and predict labelled blocks with gradients."""

from metatensor.sklearn.rows import Rows, as_rows

__all__ = ["Rows", "as_rows"]
