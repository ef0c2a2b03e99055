"""Checks of estimators on labelled data, for those who write estimators."""

from metatensor.sklearn.testing._suite import (
    Check,
    CheckResult,
    check_estimator,
    checks,
    parametrize_with_checks,
)

__all__ = ["Check", "CheckResult", "check_estimator", "checks", "parametrize_with_checks"]
