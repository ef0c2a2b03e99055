"""The table of checks, and which of them are for which estimator."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, Literal
from unittest import SkipTest

from sklearn.base import is_regressor

from metatensor.sklearn.testing import _contract, _invariance, _outcome
from metatensor.sklearn.testing._data import Data, own_data
from metatensor.tensor import TensorMap

Applies = Callable[[Any], bool]


def _always(estimator: Any) -> bool:
    return True


def _has(name: str) -> Applies:
    return lambda estimator: hasattr(estimator, name)


def _tells_deviations(estimator: Any) -> bool:
    return _outcome.predicts(estimator) and "return_std" in signature(estimator.predict).parameters


#: every check, with whether it is for an estimator
CHECKS: dict[Callable[[Any, Data], None], Applies] = {
    _contract.check_parameters: _always,
    _contract.check_not_fitted: _always,
    _contract.check_fit_returns_self: _always,
    _contract.check_fit_idempotent: _always,
    _contract.check_refit_forgets: _always,
    _contract.check_partial_fit: _has("partial_fit"),
    _contract.check_copies: _always,
    _contract.check_html: _always,
    _contract.check_inputs_unchanged: _always,
    _contract.check_read_only: _always,
    _contract.check_nan_refused: _always,
    _contract.check_single_row: _always,
    _contract.check_no_rows: _always,
    _contract.check_missing_keys: _always,
    _contract.check_rows: _always,
    _contract.check_other_containers: _always,
    _contract.check_output_stays_labelled: _outcome.transforms,
    _contract.check_info: _always,
    _contract.check_features_remembered: _always,
    _contract.check_feature_names: _has("get_feature_names_out"),
    _contract.check_prediction_labels: _outcome.predicts,
    _contract.check_standard_deviation: _tells_deviations,
    _contract.check_score: is_regressor,
    _contract.check_inverse: _has("inverse_transform"),
    _contract.check_single_precision: _always,
    _contract.check_torch: _always,
    _contract.check_cuda: _always,
    _invariance.check_sample_order: _always,
    _invariance.check_block_order: _always,
    _invariance.check_property_order: _always,
    _invariance.check_gradient_row_order: _always,
    _invariance.check_subsets: _always,
    _invariance.check_weights_of_one: _outcome.takes_weights,
    _invariance.check_weights_of_zero: _outcome.takes_weights,
    _invariance.check_weights_are_copies: _outcome.takes_weights,
    _invariance.check_gradients: _always,
    _invariance.check_rotations: _always,
    _invariance.check_rotated_fit: _always,
}


@dataclass(frozen=True)
class Check:
    """One check on one set of data, to be called with an estimator.

    Parameters
    ----------
    name : str
        what is checked, such as "check_gradients"
    data : str
        on what: "vectors", "systems", "atoms", or "given"

    """

    name: str
    data: str
    _run: Callable[[Any], None]

    def __call__(self, estimator: Any) -> None:
        """Raise an AssertionError that says what is wrong, or SkipTest if it can not be told."""
        __tracebackhide__ = True
        where = f"{self.name} of {estimator!r} on {self.data!r} failed"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._run(estimator)
            except AssertionError as error:
                raise AssertionError(f"{where}: {error}") from None
            except SkipTest:
                raise
            except Exception as error:
                raise AssertionError(
                    f"{where}: unexpected {type(error).__name__}: {error}"
                ) from error

    def __repr__(self) -> str:
        return f"{self.name}[{self.data}]"


@dataclass(frozen=True)
class CheckResult:
    """What became of one check.

    Parameters
    ----------
    check : Check
        which one
    status : {"passed", "failed", "xfail", "skipped"}
        "xfail" for a failure that was expected
    error : Exception or None
        what it raised

    """

    check: Check
    status: Literal["passed", "failed", "xfail", "skipped"]
    error: Exception | None = None


def checks(
    estimator: Any, X: TensorMap | None = None, y: TensorMap | None = None, *, by: Any = "system"
) -> Iterator[Check]:
    """Yield the checks for an estimator, one after the other.

    Which ones follows from the estimator: from its methods, the parameters of `fit`, and tags of
    scikit-learn such as ``requires_fit``, ``no_validation`` and ``allow_nan``.

    Parameters
    ----------
    estimator, X, y, by
        as in :func:`check_estimator`

    Yields
    ------
    Check
        to be called with the estimator

    Examples
    --------
    >>> from metatensor.sklearn import Normalizer
    >>> from metatensor.sklearn.testing import checks
    >>> check = next(checks(Normalizer()))
    >>> check
    check_parameters[vectors]
    >>> check(Normalizer())

    """
    if X is not None:
        yield from _checks_on(estimator, Data("given", X, y, by))
        return
    refusals = {data: _outcome.refusal(estimator, data) for data in own_data()}
    if all(isinstance(error, TypeError) for error in refusals.values()):
        # such as one that leaves out samples, which would still be in y
        bare = [replace(data, y=None) for data in own_data()]
        refusals = {data: _outcome.refusal(estimator, data) for data in bare}
    if all(refusals.values()):
        texts = "; ".join(f"{data.name}: {error}" for data, error in refusals.items())
        raise ValueError(
            f"{estimator!r} takes none of the data that are at hand, pass X and y of its own; "
            f"it says for {texts}"
        )
    vectors, systems, *_ = refusals
    for data, error in refusals.items():
        if error is None:
            yield from _checks_on(estimator, data)
        elif data is vectors and refusals[systems] is None:
            yield Check("check_refusal", data.name, _refusal_names_the_key(error))


def _checks_on(estimator: Any, data: Data) -> Iterator[Check]:
    for check, applies in CHECKS.items():
        if applies(estimator) and not (data.y is None and check in _NEED_TARGETS):
            yield Check(check.__name__, data.name, _on(check, data))


_NEED_TARGETS = (_contract.check_prediction_labels, _contract.check_score)


def _on(check: Callable[[Any, Data], None], data: Data) -> Callable[[Any], None]:
    return lambda estimator: check(estimator, data)


def _refusal_names_the_key(error: Exception) -> Callable[[Any], None]:
    """Return the check that one who takes scalars and no vectors says so."""

    def run(estimator: Any) -> None:
        if "o3_lambda=1" not in str(error):
            raise AssertionError(
                "data with vectors are refused, the text must name the key 'o3_lambda=1' of the "
                f"block and say what is possible, got: {error}"
            )

    return run


def check_estimator(
    estimator: Any,
    X: TensorMap | None = None,
    y: TensorMap | None = None,
    *,
    by: str | Sequence[str] = "system",
    expected_failed_checks: Mapping[str, str] | None = None,
    on_fail: Literal["raise", "warn"] | None = "raise",
) -> list[CheckResult]:
    """Check that an estimator keeps the contract of those here, on labelled data.

    This is for authors of estimators, beside :func:`sklearn.utils.estimator_checks.check_estimator`
    for those that take arrays as well. Among what is checked: that refitting forgets, inputs are
    never modified and may be read-only, labels count and orders do not, TensorMap and Rows give the
    same, weights are numbers of copies, numpy and torch agree, and rotated data give rotated
    results.

    Gradients: those of a prediction, or of what X becomes, must be the derivatives of its values
    along the gradients of X, which are found by finite differences.

    Parameters
    ----------
    estimator : estimator instance
        is cloned, and stays as it is
    X, y : TensorMap, optional
        what to fit it to, with at least eight rows. Without them, all of three small sets of data
        that it takes: "vectors", features of systems with invariant and vectorial blocks, and
        targets with the same keys; "systems", invariant features of systems, and energies;
        "atoms", features of atoms in blocks by types, and energies. All have gradients with respect
        to positions and strain.
    by : str or sequence of str, default="system"
        sample dimensions that make a row of X
    expected_failed_checks : dict of str to str, optional
        names of checks, such as "check_gradients", or "check_gradients[atoms]" on one set of data,
        with the reason why they fail
    on_fail : {"raise", "warn"}, optional
        what to do when a check fails; None for nothing more than to say so in the result

    Returns
    -------
    list of CheckResult
        one for each check

    Raises
    ------
    AssertionError
        by the first check that fails: which one, of which estimator, what was expected and got
    ValueError
        if the estimator takes none of the data at hand

    See Also
    --------
    parametrize_with_checks : one test for each check

    Examples
    --------
    >>> from metatensor.sklearn import StandardScaler
    >>> from metatensor.sklearn.testing import check_estimator
    >>> results = check_estimator(StandardScaler())
    >>> {result.status for result in results} <= {"passed", "skipped"}
    True

    """
    if on_fail not in ("raise", "warn", None):
        raise ValueError(f"`on_fail` must be 'raise', 'warn' or None, got {on_fail!r}")
    results = []
    for check in checks(estimator, X, y, by=by):
        result = _result(check, estimator, expected_failed_checks or {})
        if result.status == "failed" and result.error is not None:
            if on_fail == "raise":
                raise result.error
            if on_fail == "warn":
                warnings.warn(str(result.error), UserWarning, stacklevel=2)
        results.append(result)
    return results


def _result(check: Check, estimator: Any, expected: Mapping[str, str]) -> CheckResult:
    try:
        check(estimator)
    except SkipTest as error:
        return CheckResult(check, "skipped", error)
    except AssertionError as error:
        return CheckResult(check, "xfail" if _reason(check, expected) else "failed", error)
    return CheckResult(check, "passed")


def _reason(check: Check, expected: Mapping[str, str]) -> str | None:
    return expected.get(check.name, expected.get(repr(check)))


def parametrize_with_checks(
    estimators: Sequence[Any],
    X: TensorMap | None = None,
    y: TensorMap | None = None,
    *,
    by: str | Sequence[str] = "system",
    expected_failed_checks: Callable[[Any], Mapping[str, str]] | None = None,
) -> Any:
    """Return a decorator that makes one pytest test for each estimator and check.

    Gradients: see :func:`check_estimator`.

    Parameters
    ----------
    estimators : sequence of estimator instances
    X, y, by
        as in :func:`check_estimator`
    expected_failed_checks : callable, optional
        returns for an estimator the names of checks that fail, with reasons

    Returns
    -------
    pytest.MarkDecorator
        for a function of ``estimator`` and ``check``

    See Also
    --------
    sklearn.utils.estimator_checks.parametrize_with_checks : the same for arrays

    Examples
    --------
    >>> from metatensor.sklearn import Normalizer, Ridge
    >>> from metatensor.sklearn.testing import parametrize_with_checks
    >>> @parametrize_with_checks([Normalizer(), Ridge(alpha=1e-3)])
    ... def test_estimators(estimator, check):
    ...     check(estimator)

    """
    import pytest

    cases = []
    for estimator in estimators:
        expected = expected_failed_checks(estimator) if expected_failed_checks else {}
        for check in checks(estimator, X, y, by=by):
            reason = _reason(check, expected)
            marks = [pytest.mark.xfail(reason=reason)] if reason else []
            cases.append(pytest.param(estimator, check, marks=marks, id=f"{estimator!r}-{check!r}"))
    return pytest.mark.parametrize(("estimator", "check"), cases)
