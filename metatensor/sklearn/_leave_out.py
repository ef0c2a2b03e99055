r"""What rows of a least-squares fit are predicted to be without them, and without fitting again.

Weighted rows :math:`A = U s V^T`, around the weighted means where there is an intercept, give the
fit with penalty alpha the residuals :math:`G t`. The intercept is one more direction
:math:`u_0 = \sqrt{v} / |\sqrt{v}|`, at right angles to U, without penalty:

.. math::

    G = 1 - U \frac{s^2}{s^2 + \alpha} U^T - u_0 u_0^T

A fit without the rows S has the residuals :math:`z_S = G_{SS}^{-1} (G t)_S` there, and the diagonal
of :math:`G_{SS}^{-1}` is their variance in units of that of the noise (Cook and Weisberg, Residuals
and Influence in Regression, 1982; for single rows, Golub, Heath and Wahba, Technometrics 21, 215,
1979). If U has all directions but :math:`u_0`, as for no more rows than properties,
:math:`G = U \frac{\alpha}{s^2 + \alpha} U^T` does not suffer from cancellation for small alpha.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from metatensor.sklearn import _base
from metatensor.sklearn._base import VALUES
from metatensor.sklearn._least_squares import Deviation, Factors, Model
from metatensor.sklearn._stacking import Unfolded, weighted_mean

Matrix = npt.NDArray[np.float64]
Positions = npt.NDArray[np.intp]


class LeaveOut:
    """A singular value decomposition of all rows, from which follow fits without some of them.

    Parameters
    ----------
    rows : Unfolded
        values and gradients
    targets : slice
        which targets; they must have the same weights
    factors : dict
        weights of the terms
    centered : bool
        whether there is an intercept
    penalty : array, (n_features,)
        what alpha is multiplied with
    relative : bool
        whether alpha is in units of the mean diagonal element of A^T A

    """

    def __init__(
        self,
        rows: Unfolded,
        targets: slice,
        factors: Factors,
        centered: bool,
        penalty: Matrix,
        relative: bool,
    ) -> None:
        weights = rows.weights[:, targets.start if rows.weights.shape[1] > 1 else 0].copy()
        for name, where in rows.terms.items():
            weights[where] *= factors.get(name, 1.0)  # there is none for a gradient without rows
        values = rows.terms[VALUES]
        self.targets = targets
        self._rows, self._n_values, self._penalty = rows, values.stop, np.sqrt(penalty)
        constant = np.zeros(len(weights))
        constant[values] = float(centered)
        self._mean = weighted_mean(rows.features, (constant * weights)[:, None])
        self._target_mean = weighted_mean(rows.targets[:, targets], (constant * weights)[:, None])
        self._weight = float(constant @ weights)
        self._check_enough(rows.groups[values], weights[values], centered)

        self._active = np.flatnonzero(weights)
        self._idle = np.flatnonzero(weights == 0)
        self._constant = constant
        self._root = np.sqrt(weights[self._active])
        matrix, right = self._around_means(self._active)
        matrix *= self._root[:, None]
        right *= self._root[:, None]
        self.unseen = ~(rows.features[self._active] != 0).any(axis=0)
        mean_square = float(np.sum(matrix**2)) / max(matrix.shape[1], 1)
        self._unit = (mean_square or 1.0) if relative else 1.0
        matrix /= self._penalty
        self._direction = self._root * constant[self._active] / np.sqrt(self._weight or 1.0)
        self._decompose(matrix, right)
        self._batches = list(_batches(rows.groups[self._active]))

    def _check_enough(self, groups: Positions, weights: Matrix, centered: bool) -> None:
        counted = np.unique(groups[weights > 0])
        if centered and len(counted) == 1:
            raise ValueError(
                "rows can only be left out if others remain that have values, got values of one "
                "sample or group alone; use more, or fit_intercept=False"
            )

    def _around_means(self, rows: Positions) -> tuple[Matrix, Matrix]:
        """Return copies of some rows, and of their targets, relative to the means of values."""
        constant = self._constant[rows, None]
        features = self._rows.features[rows]
        targets = self._rows.targets[rows, self.targets]
        if constant.any():
            features -= constant * self._mean
            targets -= constant * self._target_mean
        return features, targets

    def _decompose(self, matrix: Matrix, right: Matrix) -> None:
        # rows are reflected such that the direction of the intercept becomes the first one, which
        # keeps all others at right angles to it however small their singular values are
        mirror, has_direction = self._direction.copy(), bool(self._weight)
        if has_direction:
            mirror[0] += 1.0 if mirror[0] >= 0 else -1.0
            mirror *= np.sqrt(2) / np.linalg.norm(mirror)
            matrix -= np.outer(mirror, mirror @ matrix)
        matrix = matrix[int(has_direction) :]
        n_rows, n_features = matrix.shape
        # what is cheap to have is found exactly: all directions, of which some are not in A
        full = n_features < n_rows <= 2 * n_features
        u, s, vt = np.linalg.svd(matrix, full_matrices=full)
        self._complete = full or n_rows <= n_features
        s = np.concatenate([s, np.zeros(u.shape[1] - len(s))])
        if has_direction:
            u = np.concatenate([np.zeros((1, u.shape[1])), u])
            u -= np.outer(mirror, mirror @ u)
        self._u, self._squares, self._s, self._vt = u, s**2, s, vt
        self._moment = u.T @ right
        self._outside = 0.0 * right if self._complete else right - u @ self._moment

    def residuals(self, alpha: float) -> Matrix:
        """Return the residuals (n, n_targets) of all rows, predicted without their group."""
        alpha = alpha * self._unit
        return self._all_residuals(alpha, self._left_out(alpha))

    def _left_out(self, alpha: float) -> Matrix:
        """Return weighted residuals of the rows that have weights."""
        _, shrunk = self._filters(alpha)
        rest = self._outside + self._u @ (shrunk[:, None] * self._moment)
        basis, result = self._basis(alpha), np.empty_like(rest)
        for rows in self._groups(basis):
            result[rows] = _without(basis[rows], rest[rows], self._complete)
        return result

    def _scale(self, alpha: float) -> Matrix:
        """Return the standard deviation of the noise, (n_targets,)."""
        basis, variance = self._basis(alpha), np.empty(len(self._active))
        for rows in self._groups(basis):
            variance[rows] = _variance(basis[rows], self._complete)
        values = self._active < self._n_values
        if not values.any():  # nothing is known about their noise
            return np.full(self._moment.shape[1], np.nan)
        samples = self._active[values] // self._rows.n_entries
        # the mean over the components of a sample does not change when they rotate
        sums, counts = np.bincount(samples, variance[values]), np.bincount(samples)
        shared = sums[samples] / counts[samples]
        squares = self._left_out(alpha)[values] ** 2 / shared[:, None]
        return np.asarray(np.sqrt(squares.mean(axis=0)))

    def _basis(self, alpha: float) -> Matrix:
        """Return B with G = B B^T if U is complete, and G = 1 - B B^T otherwise."""
        kept, shrunk = self._filters(alpha)
        basis = self._u * np.sqrt(shrunk if self._complete else kept)
        if self._weight and not self._complete:
            basis = np.concatenate([basis, self._direction[:, None]], axis=1)
        return np.asarray(basis)

    def _groups(self, basis: Matrix) -> Iterator[Positions]:
        """Return the rows of groups of one size, a bounded number of them at once."""
        for batch in self._batches:
            row_bytes = 8 * batch.shape[1] * max(basis.shape[1], batch.shape[1], 1)
            for chunk in _base.chunks(len(batch), row_bytes):
                yield batch[chunk]

    def _filters(self, alpha: float) -> tuple[Matrix, Matrix]:
        total = self._squares + alpha
        return self._squares / total, alpha / total

    def _factor(self, alpha: float) -> Matrix:
        """Return what makes projections of the targets to U coefficients along V."""
        return (self._s / (self._squares + alpha))[:, None]

    def _all_residuals(self, alpha: float, weighted: Matrix) -> Matrix:
        """Return residuals without weights, also of rows that have none."""
        result = np.empty((len(self._rows.groups), weighted.shape[1]))
        result[self._active] = weighted / self._root[:, None]
        if len(self._idle):
            groups = self._rows.groups
            n_groups = int(groups.max()) + 1
            shift = _sums(self._u, weighted, groups[self._active], n_groups)
            offset = _sums(self._direction[:, None], weighted, groups[self._active], n_groups)
            models = self._factor(alpha) * (self._moment - shift)
            features, targets = self._around_means(self._idle)
            features = (features / self._penalty) @ self._vt.T
            models = models[:, : features.shape[1]]
            where = groups[self._idle]
            for chunk in _base.chunks(len(where), 8 * models[:1].size):
                rows = self._idle[chunk]
                predicted = np.matmul(features[chunk, None, :], models[where[chunk]])[:, 0]
                if self._weight:
                    constant = self._constant[rows, None] / np.sqrt(self._weight)
                    predicted -= constant * offset[where[chunk], 0]
                result[rows] = targets[chunk] - predicted
        return result

    def solution(self, alpha: float) -> tuple[Matrix, Matrix]:
        """Return the coefficients (n_targets, n_features) and intercept (n_targets,) of all."""
        models = self._factor(alpha * self._unit) * self._moment
        coefficients = (self._vt.T @ models[: len(self._vt)]).T / self._penalty
        coefficients = np.where(self.unseen, 0.0, coefficients)  # and not only nearly
        return coefficients, self._target_mean - coefficients @ self._mean

    def deviation(self, alpha: float) -> Deviation:
        """Return what the standard deviation of predictions is made of."""
        targets = np.arange(self.targets.start, self.targets.stop)
        alpha = alpha * self._unit
        n = len(self._vt)
        basis = np.linalg.qr(self._vt.T, mode="complete")[0]
        basis[:, :n] = self._vt.T
        squares = np.concatenate([self._squares[:n], np.zeros(basis.shape[1] - n)])
        root = basis / np.sqrt(squares + alpha) / self._penalty[:, None]
        constant = 1 / self._weight if self._weight else 0.0
        return Deviation(targets, self._mean, root, constant, self._scale(alpha))


def leave_out(
    rows: Unfolded, factors: Factors, centered: bool, penalty: Matrix, relative: bool
) -> list[LeaveOut]:
    """Decompose the rows of a block, once for all targets with the same weights and penalty.

    Parameters
    ----------
    rows, factors, centered, relative
        as in :class:`LeaveOut`
    penalty : array, (1 or n_targets, n_features)

    """
    n_targets = rows.targets.shape[1]
    parts: Sequence[slice] = [slice(0, n_targets)]
    if rows.weights.shape[1] > 1 or len(penalty) > 1:
        parts = [slice(position, position + 1) for position in range(n_targets)]
    return [
        LeaveOut(
            rows, part, factors, centered, penalty[part.start if len(penalty) > 1 else 0], relative
        )
        for part in parts
    ]


def fitted(parts: list[LeaveOut], factors: Factors, alphas: Matrix, compute_std: bool) -> Model:
    """Return the fit to all rows of a block, with an alpha for each of its targets."""
    coefficients = np.empty((len(alphas), len(parts[0].unseen)))
    intercept, deviations = np.empty(len(alphas)), []
    for part in parts:
        for alpha in np.unique(alphas[part.targets]):
            chosen = np.flatnonzero(alphas[part.targets] == alpha)
            solution = part.solution(alpha)
            columns = part.targets.start + chosen
            coefficients[columns], intercept[columns] = solution[0][chosen], solution[1][chosen]
            if compute_std:
                deviation = part.deviation(alpha)
                deviations.append(
                    deviation._replace(targets=columns, scale=deviation.scale[chosen])
                )
    unseen = np.all([part.unseen for part in parts], axis=0)
    return Model(coefficients, intercept, factors, unseen, deviations=deviations)


def _batches(groups: Positions) -> Iterator[Positions]:
    """Return the positions of the rows of each group, (n_groups, n_rows), by number of rows."""
    order = np.argsort(groups, kind="stable")
    _, first, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    for size in np.unique(sizes):
        yield order[first[sizes == size, None] + np.arange(size)]


def _without(basis: Matrix, rest: Matrix, complete: bool) -> Matrix:
    """Return G^-1 r for groups of rows, where G = B B^T or 1 - B B^T.

    Parameters
    ----------
    basis : array, (n_groups, n_rows, n_directions)
    rest : array, (n_groups, n_rows, n_targets)
    complete : bool
        whether G is B B^T

    """
    transposed = np.swapaxes(basis, 1, 2)
    n_rows, n_directions = basis.shape[1:]
    if complete or n_rows <= n_directions:
        product = basis @ transposed
        product = product if complete else np.eye(n_rows) - product
        return np.asarray(np.linalg.solve(product, rest), dtype=np.float64)
    inner = np.eye(n_directions) - transposed @ basis
    return np.asarray(rest + basis @ np.linalg.solve(inner, transposed @ rest))


def _variance(basis: Matrix, complete: bool) -> Matrix:
    """Return the diagonal of G^-1 for groups of rows, (n_groups, n_rows)."""
    transposed = np.swapaxes(basis, 1, 2)
    n_rows, n_directions = basis.shape[1:]
    if complete or n_rows <= n_directions:
        product = basis @ transposed
        inverse = np.linalg.inv(product if complete else np.eye(n_rows) - product)
        return np.diagonal(inverse, axis1=1, axis2=2)
    spread = basis @ np.linalg.inv(np.eye(n_directions) - transposed @ basis)
    return np.asarray(1 + np.sum(spread * basis, axis=2))


def _sums(basis: Matrix, rows: Matrix, groups: Positions, n_groups: int) -> Matrix:
    """Return B^T r of each group, (n_groups, n_directions, n_targets)."""
    result = np.zeros((n_groups, basis.shape[1], rows.shape[1]))
    for batch in _batches(groups):
        result[groups[batch[:, 0]]] = np.swapaxes(basis[batch], 1, 2) @ rows[batch]
    return result
