"""Choosing few rows of a matrix that stand for all of them; on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

from metatensor.labels import Labels

Array = npt.NDArray[np.float64]
Positions = npt.NDArray[np.intp]

#: squares that are this small, relative to what they are differences of, are rounding errors
ROUNDING = 100 * float(np.finfo(np.float64).eps)
#: scores that differ by less than this factor are ties
TIE = 1e-10


def farthest_points(rows: Array, n_to_select: int, first: int) -> tuple[Positions, Array]:
    """Choose rows one by one, each as far as possible from those before it.

    Farthest point sampling: Eldar, Lindenbaum, Porat and Zeevi, IEEE Trans. Image Process. 6, 1305
    (1997). Of several that are equally far away, the first one is chosen. The choice ends early
    where all rows that are left coincide with chosen ones.

    Parameters
    ----------
    rows : array, (n_rows, n_columns)
    n_to_select : int
        number of rows to choose, from 1 on
    first : int
        position of the row to start from

    Returns
    -------
    positions : array of int, (n_selected,)
        in the order of the choice
    distances : array, (n_selected,)
        squared distance of each chosen row to the nearest one before it, infinity for the first

    """
    rows = rows - rows[first]  # for less rounding: only differences count
    squares = np.einsum("rc,rc->r", rows, rows)
    return _farthest(squares, lambda position: rows @ rows[position], n_to_select, first)


def farthest_of_gram(gram: Array, n_to_select: int, first: int) -> tuple[Positions, Array]:
    """Choose rows as :func:`farthest_points`, from their scalar products (n_rows, n_rows)."""
    return _farthest(np.diagonal(gram), lambda position: gram[position], n_to_select, first)


def _farthest(
    squares: Array, products: Callable[[int], Array], n_to_select: int, first: int
) -> tuple[Positions, Array]:
    """Choose rows, given their squares and how to get their scalar products with one of them."""
    nearest = np.full(len(squares), np.inf)
    positions, distances = [first], [np.inf]
    while len(positions) < n_to_select:
        last = positions[-1]
        sums = squares + squares[last]
        distance = sums - 2 * products(last)
        distance[distance <= ROUNDING * sums] = 0.0
        distance[last] = 0.0
        nearest = np.minimum(nearest, distance)
        position = first_largest(nearest)
        if not nearest[position] > 0:
            break
        positions.append(position)
        distances.append(float(nearest[position]))
    return np.array(positions, dtype=np.intp), np.array(distances)


def leverage(rows: Array, n_to_select: int, n_singular: int = 1) -> tuple[Positions, Array]:
    """Choose rows one by one, each with the largest leverage on what those before it leave.

    The leverage of a row is the square of its entries in the first left singular vectors. After
    each choice all rows are made orthogonal to the chosen one. This is the deterministic CUR of
    Imbalzano et al., J. Chem. Phys. 148, 241730 (2018); leverage scores are those of Mahoney and
    Drineas, Proc. Natl. Acad. Sci. 106, 697 (2009). Of several with the same score, the first one
    is chosen. The choice ends early where nothing is left.

    Parameters
    ----------
    rows : array, (n_rows, n_columns)
    n_to_select : int
        number of rows to choose, from 1 on
    n_singular : int, default=1
        number of singular vectors that count

    Returns
    -------
    positions : array of int, (n_selected,)
        in the order of the choice
    scores : array, (n_selected,)
        leverage of each chosen row, between 0 and 1 if one singular vector counts

    """
    if rows.shape[0] < rows.shape[1]:  # the same scalar products, in fewer columns
        triangle: Any = np.linalg.qr(rows.T, mode="r")
        rows = triangle.T
    gram = rows.T @ rows
    negligible = ROUNDING * np.trace(gram)
    removed = np.zeros((0, rows.shape[1]))  # orthonormal
    positions: list[int] = []
    scores: list[float] = []
    while len(positions) < n_to_select and np.trace(gram) > negligible:
        score = _leverage_scores(rows, gram, removed, n_singular)
        score[positions] = 0.0
        position = first_largest(score)
        positions.append(position)
        scores.append(float(score[position]))
        direction = _orthogonal(_orthogonal(rows[position], removed), removed)
        direction /= np.linalg.norm(direction)
        removed = np.concatenate([removed, direction[None, :]])
        _remove(gram, direction)
    return np.array(positions, dtype=np.intp), np.array(scores)


def _leverage_scores(rows: Array, gram: Array, removed: Array, n_singular: int) -> Array:
    """Return the leverages of rows without the directions that were removed from ``gram``.

    Singular vectors are orthogonal to these directions, so that rows need not be.
    """
    n_columns = len(gram)
    subset = (max(n_columns - n_singular, 0), n_columns - 1)
    squares, vectors = scipy.linalg.eigh(gram, subset_by_index=subset, check_finite=False)
    kept = squares > ROUNDING * squares[-1]
    vectors = _orthogonal(vectors[:, kept].T, removed).T
    scores: Array = ((rows @ vectors) ** 2 / squares[kept]).sum(axis=1)
    return scores


def _orthogonal(rows: Array, directions: Array) -> Array:
    """Return rows without their parts along orthonormal directions."""
    orthogonal: Array = rows - (rows @ directions.T) @ directions
    return orthogonal


def _remove(gram: Array, direction: Array) -> None:
    """Do to ``rows.T @ rows`` what removing a direction of length 1 does to rows."""
    image = gram @ direction
    image -= 0.5 * (direction @ image) * direction
    gram -= np.outer(image, direction)
    gram -= np.outer(direction, image)


def order_of(labels: Labels) -> Positions:
    """Return positions that sort labels: where ties go to the first, their order does not count."""
    return np.lexsort(labels._table.T[::-1])


def starting_point(
    squares: Array, order: Positions, initialize: Any, random: np.random.RandomState
) -> int:
    """Return the position of the row to start from, given the squares of the rows.

    Parameters
    ----------
    squares : array, (n_rows,)
        with at least one row
    order : array of int, (n_rows,)
        where the rows were before they were sorted
    initialize : int, "norm" or "random"
        where the row was, the longest one, or any
    random : RandomState

    Raises
    ------
    ValueError
        if there is no such row, or no such way to choose one

    """
    if isinstance(initialize, str):
        if initialize == "norm":
            return first_largest(squares)
        if initialize == "random":
            return int(random.randint(len(squares)))
    elif isinstance(initialize, (int, np.integer)) and 0 <= initialize < len(squares):
        return int(np.flatnonzero(order == initialize)[0])
    raise ValueError(
        f"`initialize` must be 'norm', 'random' or a position from 0 to {len(squares) - 1}, "
        f"got {initialize!r}"
    )


def first_largest(scores: Array) -> int:
    """Return the position of the first of the largest scores, which are not negative."""
    return int(np.argmax(scores >= scores.max() * (1 - TIE)))
