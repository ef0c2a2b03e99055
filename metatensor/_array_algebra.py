"""Products, least squares and linear systems, in each array library."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np

from metatensor import _arrays
from metatensor._arrays import Array


def einsum(terms: Sequence[str], result: str, arrays: Sequence[Array]) -> Array:
    """Multiply arrays, and sum over the axes that the result has not.

    Parameters
    ----------
    terms : sequence of str
        a letter for each axis of each array, none twice in one array
    result : str
        a letter for each axis of the result
    arrays : sequence of array
        of one library

    Returns
    -------
    array
        of the dtype that holds the numbers of all arrays, a new one

    """
    arrays = _arrays.promote(*arrays)
    if len(arrays) == 1 and len(result) == len(terms[0]):  # a view of it otherwise
        arrays = [_arrays.copy(arrays[0])]
    expression = ",".join(terms) + "->" + result
    if _arrays.library(arrays[0]) == "numpy":
        return np.einsum(expression, *arrays, optimize=_is_large(terms, result, arrays))
    xp = _arrays.namespace(*arrays)
    if hasattr(xp, "einsum"):
        return xp.astype(xp.einsum(expression, *arrays), arrays[0].dtype, copy=False)
    return _einsum_in_steps(terms, result, arrays)


def _is_large(terms: Sequence[str], result: str, arrays: Sequence[Array]) -> bool:
    """Tell whether searching a matrix product in a product pays for numpy."""
    if len(arrays) != 2:
        return len(arrays) > 2
    if math.prod([math.prod(array.shape) for array in arrays]) < 20_000:
        return False
    first, second = map(set, terms)
    if not (first - second and second - first and first & second - set(result)):
        return False
    sizes: dict[str, int] = {}
    for term, array in zip(terms, arrays):
        sizes.update(zip(term, array.shape))
    return math.prod(sizes.values()) > 20_000


def _einsum_in_steps(terms: Sequence[str], result: str, arrays: Sequence[Array]) -> Array:
    """Multiply one array after the other; the standard has no einsum."""
    xp = _arrays.namespace(*arrays)
    letters, product = terms[0], arrays[0]
    for number in range(1, len(terms) + 1):
        kept = set(result).union(*terms[number:])
        summed = tuple([axis for axis, letter in enumerate(letters) if letter not in kept])
        if summed:
            product = _arrays.sum_axes(product, summed)
            letters = "".join([letter for letter in letters if letter in kept])
        if number < len(terms):
            joined = letters + "".join([name for name in terms[number] if name not in letters])
            factor = _spread(arrays[number], terms[number], joined)
            letters, product = joined, _spread(product, letters, joined) * factor
    return xp.permute_dims(product, tuple([letters.index(letter) for letter in result]))


def _spread(array: Array, letters: str, joined: str) -> Array:
    """Return an array with axes of size 1 where it has none of the letters."""
    xp = _arrays.namespace(array)
    order = [letters.index(letter) for letter in joined if letter in letters]
    sizes = dict(zip(letters, array.shape))
    shape = tuple([sizes.get(letter, 1) for letter in joined])
    return xp.reshape(xp.permute_dims(array, tuple(order)), shape)


def lstsq(features: Array, targets: Array, rcond: float | None, driver: str | None) -> Array:
    """Return the solution W of the smallest norm that minimises ``|features @ W - targets|``.

    Parameters
    ----------
    features, targets : array, (n_rows, n_columns) and (n_rows, n_targets)
        of one library and dtype
    rcond : float or None
        relative cut-off for singular values; None is the default of the library
    driver : str or None
        for torch

    Returns
    -------
    array, (n_columns, n_targets)

    """
    name = _arrays.library(features)
    if name == "torch":
        linalg = sys.modules["torch"].linalg
        return linalg.lstsq(features, targets, rcond=rcond, driver=driver).solution
    if name in ("numpy", "jax"):
        return _arrays.namespace(features).linalg.lstsq(features, targets, rcond=rcond)[0]
    if name == "dask":  # a small problem, whose chunks are no blocks of equations
        return _arrays.namespace(features).asarray(
            lstsq(_arrays.to_host(features), _arrays.to_host(targets), rcond, driver)
        )
    xp = _arrays.namespace(features, targets)
    if 0 in features.shape or 0 in targets.shape:
        return _arrays.full((features.shape[1], targets.shape[1]), 0, features)
    left, singular, right = xp.linalg.svd(features, full_matrices=False)
    if rcond is None:
        rcond = float(xp.finfo(singular.dtype).eps) * max(features.shape)
    kept = singular > rcond * xp.max(singular)
    one = xp.ones_like(singular)
    inverse = xp.where(kept, one / xp.where(kept, singular, one), xp.zeros_like(singular))
    return _adjoint(right) @ (inverse[:, None] * (_adjoint(left) @ targets))


def _adjoint(matrix: Array) -> Array:
    xp = _arrays.namespace(matrix)
    return xp.conj(matrix).T if xp.isdtype(matrix.dtype, "complex floating") else matrix.T


def solve(matrix: Array, targets: Array) -> Array:
    """Return W with ``matrix @ W = targets``, or raise numpy's LinAlgError."""
    name, xp = _arrays.library(matrix), _arrays.namespace(matrix, targets)
    if name == "dask":  # a small problem, whose chunks are no square matrices
        return xp.asarray(solve(_arrays.to_host(matrix), _arrays.to_host(targets)))
    if name == "torch":
        torch = sys.modules["torch"]
        try:
            return torch.linalg.solve(matrix, targets)
        except torch.linalg.LinAlgError as error:
            raise np.linalg.LinAlgError(f"singular matrix: {error}") from error
    solution = xp.linalg.solve(matrix, targets)
    if name == "jax" and not _arrays.is_traced(solution):
        finite = [bool(xp.all(xp.isfinite(array))) for array in (matrix, targets, solution)]
        if finite == [True, True, False]:
            raise np.linalg.LinAlgError("singular matrix")
    return solution
