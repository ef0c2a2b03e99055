"""Weighted least squares with a penalty, from rows that come in chunks.

A problem has several terms: the values, and one for each gradient. Their rows are summed up apart,
because the weight of a term may only be known at the end. Sums come in two kinds:

- :class:`NormalEquations` keep A^T A and A^T t: fast, and as accurate as a factorisation of the
  rows if the penalty is not negligible (Björck, Numerical Methods for Least Squares Problems, 2.2);
- :class:`TriangularRows` keep a triangular factor of the rows (TSQR: Demmel, Grigori, Hoemmen and
  Langou, SIAM J. Sci. Comput. 34, A206, 2012), which does not square the condition number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.linalg

from metatensor import _arrays

Matrix = npt.NDArray[np.float64]

#: factor of each term, by name
Factors: TypeAlias = dict[str | None, float]

EPSILON = float(np.finfo(np.float64).eps)


class Reduced(NamedTuple):
    """What is left of the rows of one term, around the means if it has an intercept."""

    feature_mean: Matrix
    target_mean: Matrix
    features: Matrix  # A^T A of normal equations, A of triangular rows
    targets: Matrix  # A^T t, t


class Term:
    """Sums over rows of features and targets, which belong to the values or to one gradient.

    Parameters
    ----------
    n_features, n_targets : int
    centered : bool
        whether an intercept takes up the weighted means, which count as zero otherwise

    """

    def __init__(self, n_features: int, n_targets: int, centered: bool) -> None:
        self._n_features = n_features
        self._n_columns = n_features + n_targets
        self._centered = centered
        self._absent = 0.0

    def add_absent(self, targets: Matrix, weights: Matrix) -> None:
        """Add targets of rows without features, on the host."""
        self._absent += float(np.sum(weights * targets**2))

    def add(self, rows: Any, targets: Any, weights: Any | None) -> None:
        """Add float64 rows (n, n_features), targets (n, n_targets), weights (n, 1) or ones."""
        raise NotImplementedError

    @property
    def square(self) -> float:
        """Weighted sum of squares of the targets, around their mean."""
        raise NotImplementedError

    def reduced(self) -> Reduced:
        """Return what the solvers need."""
        raise NotImplementedError


class NormalEquations(Term):
    """A^T A and A^T t of the rows."""

    def __init__(self, n_features: int, n_targets: int, centered: bool) -> None:
        super().__init__(n_features, n_targets, centered)
        self._weight = 0.0
        self._square = 0.0
        self._means: list[Any] = []  # of features and targets
        self._gram: Any = None
        self._moment: Any = None

    def add(self, rows: Any, targets: Any, weights: Any | None) -> None:
        xp = _arrays.namespace(rows)
        if not self._means:
            n_features, n_targets = self._n_features, self._n_columns - self._n_features
            self._means = [_arrays.full((n,), 0, rows) for n in (n_features, n_targets)]
            self._gram = _arrays.full((n_features, n_features), 0, rows)
            self._moment = _arrays.full((n_features, n_targets), 0, rows)
        if self._centered:
            rows, targets = self._around_means(xp, rows, targets, weights)
        if weights is not None:
            root = xp.sqrt(weights)
            rows, targets = root * rows, root * targets
        transposed = xp.matrix_transpose(rows)
        self._gram += transposed @ rows
        self._moment += transposed @ targets
        self._square += float(xp.sum(targets**2))

    def _around_means(
        self, xp: Any, rows: Any, targets: Any, weights: Any | None
    ) -> tuple[Any, Any]:
        """Subtract the means of the new rows, and merge them with those of the rows before."""
        # as in Chan, Golub and LeVeque, Am. Stat. 37, 242 (1983)
        weight = float(rows.shape[0] if weights is None else xp.sum(weights))
        if not weight:
            return rows, targets
        means = [
            xp.sum(part if weights is None else weights * part, axis=0) / weight
            for part in (rows, targets)
        ]
        share = weight / (self._weight + weight)
        shift, target_shift = (new - old for new, old in zip(means, self._means))
        self._means = [self._means[0] + share * shift, self._means[1] + share * target_shift]
        ratio = self._weight * share
        self._gram += ratio * shift[:, None] * shift[None, :]
        self._moment += ratio * shift[:, None] * target_shift[None, :]
        self._square += ratio * float(xp.sum(target_shift**2))
        self._weight += weight
        return rows - means[0], targets - means[1]

    @property
    def square(self) -> float:
        return self._absent + self._square

    def reduced(self) -> Reduced:
        n, m = self._n_features, self._n_columns - self._n_features
        if not self._means:
            return Reduced(np.zeros(n), np.zeros(m), np.zeros((n, n)), np.zeros((n, m)))
        return Reduced(*map(_arrays.to_host, (*self._means, self._gram, self._moment)))


class TriangularRows(Term):
    """A triangular factor of the rows [1, A, t], or the rows themselves while they are few."""

    def __init__(self, n_features: int, n_targets: int, centered: bool) -> None:
        super().__init__(n_features, n_targets, centered)
        self._parts: list[Matrix] = [np.zeros((0, 1 + self._n_columns))]

    def add(self, rows: Any, targets: Any, weights: Any | None) -> None:
        rows, targets = _arrays.to_host(rows), _arrays.to_host(targets)
        ones = np.full((len(rows), 1), float(self._centered))
        part = np.concatenate([ones, rows, targets], axis=1)
        self._parts.append(part if weights is None else np.sqrt(_arrays.to_host(weights)) * part)
        if sum(map(len, self._parts)) > 4 * self._parts[0].shape[1]:
            self._compress()

    def _compress(self) -> None:
        stacked: Any = np.concatenate(self._parts)
        if len(stacked) > stacked.shape[1]:
            stacked = np.linalg.qr(stacked, mode="r")
        self._parts = [stacked]

    @property
    def square(self) -> float:
        return self._absent + float(np.sum(self.reduced().targets ** 2))

    def reduced(self) -> Reduced:
        self._compress()
        ones, both = self._parts[0][:, 0], self._parts[0][:, 1:]
        n, mean = self._n_features, np.zeros(both.shape[1])
        if weight := ones @ ones:
            mean = ones @ both / weight
            both = both - np.outer(ones, mean)
        return Reduced(mean[:n], mean[n:], both[:, :n], both[:, n:])


class Solution(NamedTuple):
    """Coefficients (n_targets, n_features), intercept (n_targets,), and how well determined."""

    coefficients: Matrix
    intercept: Matrix
    condition: float
    unseen: npt.NDArray[np.bool_]  # (n_features,), whether all rows are zero there


class Deviation(NamedTuple):
    """Standard deviation of predictions: scale * sqrt(1 + constant + |(x - mean) root|^2)."""

    targets: npt.NDArray[np.intp]  # of which properties
    mean: Matrix  # (n_features,)
    root: Matrix  # (n_features, n_features)
    constant: float
    scale: Matrix  # (n_targets,)


class Model(NamedTuple):
    """What was learnt for one block of targets."""

    coefficients: Matrix  # (n_targets, n_features)
    intercept: Matrix  # (n_targets,)
    factors: Factors
    unseen: npt.NDArray[np.bool_]  # (n_features,)
    condition: float = 1.0
    deviations: Sequence[Deviation] = ()


def solve(
    terms: Mapping[str | None, Term],
    factors: Mapping[str | None, float],
    alpha: Matrix,
    relative: bool,
    solver: str,
) -> Solution:
    """Minimise the sum of the terms times their factors, plus the penalty alpha * coefficient^2.

    Parameters
    ----------
    terms : dict of NormalEquations for "cholesky", of TriangularRows otherwise
        the values come first: the intercept is theirs
    factors : dict of float
        factor of each term
    alpha : array, (1 or n_targets, n_features)
    relative : bool
        whether alpha is in units of the mean diagonal element of A^T A
    solver : {"cholesky", "dual", "svd", "lstsq"}

    Raises
    ------
    scipy.linalg.LinAlgError
        from "cholesky" and "dual", if the matrix is singular to double precision

    """
    parts = {name: term.reduced() for name, term in terms.items()}
    if solver == "cholesky":
        features = _add_up([(factors[name], part.features) for name, part in parts.items()])
        targets = _add_up([(factors[name], part.targets) for name, part in parts.items()])
        trace = np.trace(features)
    else:
        roots = {name: math.sqrt(factor) for name, factor in factors.items()}
        features = np.concatenate([roots[name] * part.features for name, part in parts.items()])
        targets = np.concatenate([roots[name] * part.targets for name, part in parts.items()])
        trace = np.sum(features**2)
    if relative:
        alpha = alpha * (trace / max(alpha.shape[1], 1) or 1.0)
    columns = [targets] if len(alpha) == 1 else np.hsplit(targets, targets.shape[1])
    solutions = [_SOLVERS[solver](features, t, a) for t, a in zip(columns, alpha)]
    coefficients = np.concatenate([part for part, _ in solutions], axis=1).T
    unseen = np.all(
        [~(part.features.any(axis=0) | (part.feature_mean != 0)) for part in parts.values()], axis=0
    )
    coefficients = np.where(unseen, 0.0, coefficients)  # and not only nearly
    values = next(iter(parts.values()))
    intercept = values.target_mean - coefficients @ values.feature_mean
    return Solution(coefficients, intercept, max(condition for _, condition in solutions), unseen)


def _add_up(matrices: Sequence[tuple[float, Matrix]]) -> Matrix:
    """Add matrices times their factors, with one matrix of extra memory."""
    factor, first = matrices[0]
    total = factor * first
    for factor, matrix in matrices[1:]:
        total += factor * matrix
    return total


def _cholesky(gram: Matrix, moment: Matrix, alpha: Matrix) -> tuple[Matrix, float]:
    return _solve_positive(gram + np.diag(alpha), moment)


def _dual(rows: Matrix, targets: Matrix, alpha: Matrix) -> tuple[Matrix, float]:
    """Solve in the space of the rows: w = L^-1 A^T (A L^-1 A^T + 1)^-1 t with L = diag(alpha)."""
    if not (alpha > 0).all():
        raise ValueError("solver='dual' needs `alpha` > 0 for all properties; use solver='lstsq'")
    scaled = rows / np.sqrt(alpha)
    solution, condition = _solve_positive(scaled @ scaled.T + np.eye(len(rows)), targets)
    return (scaled.T @ solution) / np.sqrt(alpha)[:, None], condition


def _solve_positive(matrix: Matrix, right: Matrix) -> tuple[Matrix, float]:
    """Solve with a Cholesky factorisation, and estimate the condition number."""
    if not matrix.size:
        return np.zeros_like(right), 1.0
    norm = np.abs(matrix).sum(axis=0).max()
    factor = scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    reciprocal, _ = scipy.linalg.lapack.dpocon(factor[0], norm, uplo="L")
    if reciprocal < EPSILON:
        raise scipy.linalg.LinAlgError("the matrix is singular to double precision")
    return scipy.linalg.cho_solve(factor, right, check_finite=False), float(1 / reciprocal)


def _svd(rows: Matrix, targets: Matrix, alpha: Matrix) -> tuple[Matrix, float]:
    """Solve with singular values, after scaling the columns so that one penalty holds for all."""
    penalty, scale = float(alpha.max(initial=0.0)), np.ones_like(alpha)
    if (alpha != penalty).any():
        if not (alpha > 0).all():
            raise ValueError("solver='svd' needs one `alpha`, or `alpha` > 0; use solver='lstsq'")
        penalty, scale = 1.0, np.sqrt(alpha)
    u, s, vt = scipy.linalg.svd(rows / scale, full_matrices=False, check_finite=False)
    kept = s > EPSILON * max(rows.shape) * s.max(initial=0.0)
    u, s, vt = u[:, kept], s[kept], vt[kept]
    solution = vt.T @ ((s / (s**2 + penalty))[:, None] * (u.T @ targets)) / scale[:, None]
    squares = s**2 + penalty
    smallest = penalty if penalty and len(s) < len(alpha) else squares.min(initial=np.inf)
    return solution, float(squares.max(initial=smallest) / smallest) if len(s) else 1.0


def _lstsq(rows: Matrix, targets: Matrix, alpha: Matrix) -> tuple[Matrix, float]:
    """Solve the rows and, below them, those of the penalty; the shortest solution if several."""
    penalised = np.diag(np.sqrt(alpha))[alpha > 0]
    stacked = np.concatenate([rows, penalised])
    right = np.concatenate([targets, np.zeros((len(penalised), targets.shape[1]))])
    cutoff = EPSILON * max(stacked.shape)
    solution, _, rank, s = scipy.linalg.lstsq(stacked, right, cond=cutoff, check_finite=False)
    return solution, float((s[0] / s[rank - 1]) ** 2) if rank else 1.0


_SOLVERS = {"cholesky": _cholesky, "dual": _dual, "svd": _svd, "lstsq": _lstsq}
