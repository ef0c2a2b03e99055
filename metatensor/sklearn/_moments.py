"""Means and variances of properties, summed up in chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from metatensor import _arrays
from metatensor.sklearn import _base

Array = npt.NDArray[np.float64]


def folded_rows(values: _arrays.Array) -> Iterator[tuple[slice, _arrays.Array]]:
    """Cut values (n_samples, ..., n_properties) into float64 rows (n_rows, n_properties).

    Component axes are folded into rows. Each part comes with the slice of the samples it is from.
    """
    for chunk in _base.chunks(values.shape[0], 8 * math.prod(values.shape[1:])):
        part = _base.to_float64(values[chunk, ...])
        shape = (math.prod(part.shape[:-1]), part.shape[-1])
        yield chunk, _arrays.namespace(part).reshape(part, shape)


class Moments:
    """Weight, mean and sum of squares of rows that come in chunks.

    Component axes are folded into rows. Sums are merged as in Chan, Golub and LeVeque, Am. Stat.
    37, 242 (1983).
    """

    def __init__(self, n_properties: int, centered: bool) -> None:
        self.centered = centered
        self.weight = 0.0
        self.mean = np.zeros(n_properties)
        self._squares = np.zeros(n_properties)
        self._n_rows = 0

    def add(self, values: _arrays.Array, weights: Array) -> None:
        """Add values (n_samples, ..., n_properties) with weights (n_samples,)."""
        for chunk, rows in folded_rows(values):
            n_components = rows.shape[0] // (chunk.stop - chunk.start)
            column = np.repeat(weights[chunk], n_components)[:, None]
            self._add_rows(rows, _arrays.from_host(column, rows))

    def _add_rows(self, rows: _arrays.Array, weights: _arrays.Array) -> None:
        xp = _arrays.namespace(rows)
        weight = float(xp.sum(weights))
        if weight == 0:
            return
        total = self.weight + weight
        if self.centered:
            mean = xp.sum(weights * rows, axis=0) / weight
            rows = rows - mean
            shift = _arrays.to_host(mean) - self.mean
            self._squares += shift**2 * (self.weight * (weight / total))
            self.mean = self.mean + shift * (weight / total)
        self._squares += _arrays.to_host(xp.sum(weights * rows**2, axis=0))
        self.weight = total
        self._n_rows += rows.shape[0]

    @property
    def variance(self) -> Array:
        """Mean square of the distances from the mean, or from zero if not centered."""
        return self._squares / max(self.weight, np.finfo(float).tiny)

    def scale(self, shared: bool) -> Array:
        """Return standard deviations, or one for all; 1 where there is only rounding error."""
        variance, error = self.variance, self._n_rows * np.finfo(np.float64).eps
        rounding = error * variance + (error * self.mean) ** 2
        constant = variance <= rounding
        if shared and variance.size:
            constant = np.full_like(constant, constant.all())
            variance = np.full_like(variance, variance.mean())
        return np.where(constant, 1.0, np.sqrt(variance))
