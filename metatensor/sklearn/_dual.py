"""The solution of a kernel model: a number for each row, and what is left out of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.linalg

Positions = npt.NDArray[np.intp]
Matrix = npt.NDArray[np.float64]

EPSILON = float(np.finfo(np.float64).eps)


class DualSolution:
    r"""The numbers c of the rows, with :math:`(K + \alpha W^{-1}) c = t`.

    With S = W^{1/2} that is c = S M^{-1} S t, with M = S K S + alpha, where weights may be zero.

    Parameters
    ----------
    gram : array, (n_rows, n_rows)
        K
    targets : array, (n_rows, n_targets)
        t
    weights : array, (n_rows,)
        diagonal of W
    alpha : float

    Raises
    ------
    scipy.linalg.LinAlgError
        if M is singular to double precision

    """

    def __init__(self, gram: Matrix, targets: Matrix, weights: Matrix, alpha: float) -> None:
        self._roots = np.sqrt(weights)
        self._alpha = alpha
        self._solved = self.dual = np.zeros_like(targets)
        if not len(weights):
            return
        scaled = np.array(gram.T, order="F")  # a plain copy, as K is symmetric
        scaled *= self._roots
        scaled *= self._roots[:, None]
        scaled[np.diag_indices_from(scaled)] += alpha
        norm = scipy.linalg.lapack.dlange("1", scaled)
        self._factor = scipy.linalg.cholesky(
            scaled, lower=True, overwrite_a=True, check_finite=False
        )
        reciprocal, _ = scipy.linalg.lapack.dpocon(self._factor, norm, uplo="L")
        if reciprocal < EPSILON:
            raise scipy.linalg.LinAlgError("the matrix is singular to double precision")
        self._solved = scipy.linalg.cho_solve(
            (self._factor, True), self._roots[:, None] * targets, check_finite=False
        )
        self.dual = self._roots[:, None] * self._solved

    def variances(self, cross: Matrix, own: Matrix) -> Matrix:
        """Return the variances of new values with unit weight, the noise included.

        That is alpha + k(x, x) - k(x) (K + alpha / W)^-1 k(x)^T.
        """
        if not len(self._roots):
            return self._alpha + own
        half = scipy.linalg.solve_triangular(
            self._factor, (cross * self._roots).T, lower=True, check_finite=False
        )
        variances: Matrix = np.maximum(self._alpha + own - np.sum(half**2, axis=0), 0.0)
        return variances

    def left_out(self, samples: Positions, n_values: int) -> Matrix:
        r"""Return the mean of :math:`e^2 / \sigma^2` for each target, with samples left out.

        With B the inverse of M between the rows of a sample, their residuals without them are
        B^-1 M^-1 S t, and B^-1 is the covariance (Rasmussen and Williams, Gaussian Processes for
        Machine Learning, section 5.4.2, here for several rows at once).

        Parameters
        ----------
        samples : array of int, (n_rows,)
            the sample of each row
        n_values : int
            how many rows are values, which come first

        """
        if not len(self._roots):
            return np.ones(self._solved.shape[1])
        inverse, _ = scipy.linalg.lapack.dpotri(self._factor, lower=True)
        order = np.argsort(samples, kind="stable")
        ends = np.flatnonzero(np.diff(samples[order], append=-1)) + 1
        total, count = np.zeros(self._solved.shape[1]), 0
        for rows in np.split(order, ends[:-1]):
            block = inverse[np.ix_(rows, rows)]
            block = np.tril(block) + np.tril(block, -1).T
            covariance = np.linalg.inv(block)
            counted = (rows < n_values) & (self._roots[rows] > 0)
            residuals = (covariance @ self._solved[rows])[counted]
            if counted.any():  # the mean over components does not change when they rotate
                total += np.sum(residuals**2, axis=0) / np.diag(covariance)[counted].mean()
                count += int(np.count_nonzero(counted))
        return total / max(count, 1)
