"""Finding out whether a function of rows is affine, and with which matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: how many rows are looked at
_N_ROWS = 1000
#: by how much an affine function may differ from what was found, relative to its largest change
_TOLERANCE = 1e-7
#: and relative to its largest values, which may be a shift
_ROUNDING = 1e-12


class AffineMap(NamedTuple):
    """``rows @ matrix + shift``."""

    matrix: Array
    shift: Array


def affine_map(function: Callable[[Array], Any], rows: Array) -> AffineMap | None:
    """Return the matrix of a function, or None if it is not affine.

    The matrix is found from the function at zero and at one point on the axis of each feature. It
    must give the function at the opposite points, at rows, at minus those rows, and at a third of
    them: what is only piecewise linear, such as a tree or what is clipped, is found out, and so is
    what is odd, such as a hyperbolic tangent, from a single row.

    Parameters
    ----------
    function : callable
        takes rows (n, n_features), gives (n, n_outputs) or (n,)
    rows : array (n, n_features)
        rows for which the function is meant

    """
    rows = rows[:: max(1, len(rows) // _N_ROWS)]
    scales = np.abs(rows).max(axis=0, initial=0.0)
    scales[scales == 0] = 1.0
    axes = np.diag(scales)
    probes = (-axes, rows, -rows, rows / 3)
    try:
        origin, along, *others = (
            matrix_of(function(points)) for points in (np.zeros_like(axes[:1]), axes, *probes)
        )
    except ValueError:  # it does not take such rows
        return None
    if len(along) != len(axes):  # it loses rows
        return None
    matrix = (along - origin) / scales[:, None]
    for points, values in zip(probes, others, strict=True):
        expected = points @ matrix + origin
        change = max(np.abs(part - origin).max(initial=0.0) for part in (values, along))
        limit = _TOLERANCE * change + _ROUNDING * np.abs(values).max(initial=0.0)
        if not np.abs(values - expected).max(initial=0.0) <= limit:
            return None
    return AffineMap(matrix, origin[0])


def matrix_of(values: Any) -> Array:
    """Return what an estimator gives as a 2-D array."""
    dense = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
    return dense[:, None] if dense.ndim == 1 else dense
