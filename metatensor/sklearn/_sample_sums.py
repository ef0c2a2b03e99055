"""Sums of kernels and their derivatives over the samples of rows, such as the atoms of systems.

A row owns some samples i, with features x_i. Its value is the sum of functions of x_i, and a
gradient row of it, a, has the direction u_ai at each of these samples, of which many are zero.
Samples are worked on in groups of pieces of rows: the samples and directions of a piece are dense
arrays, filled up to one size for all pieces of a group. So what is summed over the samples of both
rows is a few matrix products, and no array is as large as all directions times all directions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metatensor import _arrays
from metatensor.sklearn import _base, _kernels

Array = _arrays.Array
Positions = npt.NDArray[np.intp]

#: most samples in a group without directions, and in a piece with them
GROUP_SAMPLES, PIECE_SAMPLES = 1024, 128
#: how much larger a group may be than what is in it, if it is not a small one
MOST_FILLED, SMALL_BYTES = 1.2, 1 << 16


class Directions(NamedTuple):
    """Gradient rows of one parameter."""

    values: Array  # (n, n_components, n_features)
    samples: Positions  # the sample of each, (n,)
    rows: Positions  # what the first component of each adds to, (n,); -1 for nothing


class Group(NamedTuple):
    """Pieces of rows, filled up to one size."""

    x: Array  # (n_pieces, n_samples, n_features)
    there: Array  # 1 where there is a sample and 0 where filled up, (n_pieces, n_samples)
    owners: Positions  # (n_pieces,)
    directions: Array | None  # (n_pieces, n_rows, n_samples, n_features)
    rows: Positions  # (n_pieces, n_rows)

    def pieces(self, n_rows: int) -> Iterator[tuple[Array, Array, Positions]]:
        """Go through samples, directions and rows of each piece, without what was filled up.

        Parameters
        ----------
        n_rows : int
            the number that stands for no row

        """
        assert self.directions is not None
        sizes = _arrays.to_host(self.there).sum(axis=1).astype(int)
        for piece, size in enumerate(sizes.tolist()):
            kept = np.flatnonzero(self.rows[piece] < n_rows)
            u = _arrays.take(self.directions[piece, :, :size, :], kept)
            yield self.x[piece, :size, :], u, self.rows[piece, kept]


class _Plan(NamedTuple):
    """Where the arrays of a group come from."""

    samples: Positions
    there: npt.NDArray[np.bool_]
    owners: Positions
    gathered: list[Positions]  # of each kind of directions, -1 where there is none
    rows: Positions


class Samples:
    """The samples of one block by the rows that own them.

    Parameters
    ----------
    x : array, (n_samples, n_features)
        in double precision
    owners : array of int, (n_samples,)
        the row that each belongs to, -1 for those that belong to none
    directions : sequence of Directions
        its gradients
    n_rows : int
        the number that stands for no gradient row

    """

    def __init__(
        self, x: Array, owners: Positions, directions: Sequence[Directions] = (), n_rows: int = 0
    ) -> None:
        self._x = x
        self._directions = [d for d in directions if (d.rows >= 0).any()]
        self._value_plans = _plans(x.shape[1], _Pieces(owners, GROUP_SAMPLES), [], n_rows)
        self._plans = []
        if self._directions:
            pieces = _Pieces(owners, PIECE_SAMPLES)
            self._plans = _plans(x.shape[1], pieces, self._directions, n_rows)

    def value_groups(self, start: int = 0) -> Iterator[Group]:
        """Go through groups of all samples."""
        return map(self._gather, self._value_plans[start:])

    def gradient_groups(self, start: int = 0) -> Iterator[Group]:
        """Go through groups of the samples that have directions."""
        return map(self._gather, self._plans[start:])

    def _gather(self, plan: _Plan) -> Group:
        x = _arrays.take(self._x, plan.samples.reshape(-1))
        xp = _arrays.namespace(x)
        n_pieces, n_samples = plan.samples.shape
        parts = []
        for kind, where in zip(self._directions, plan.gathered):
            _, n_components, n_features = kind.values.shape
            there = _arrays.from_host((where >= 0).astype(np.float64), x)
            taken = _arrays.take(kind.values, np.maximum(where, 0).reshape(-1))
            taken = xp.reshape(taken, (*where.shape, n_components, n_features))
            taken = _base.to_float64(taken) * there[..., None, None]
            parts.append(
                xp.reshape(
                    xp.permute_dims(taken, (0, 1, 3, 2, 4)),
                    (n_pieces, where.shape[1] * n_components, n_samples, n_features),
                )
            )
        return Group(
            xp.reshape(x, (n_pieces, n_samples, x.shape[1])),
            _arrays.from_host(plan.there.astype(np.float64), x),
            plan.owners,
            xp.concat(parts, axis=1) if parts else None,
            plan.rows,
        )


class _Pieces:
    """Samples sorted by their rows, and cut into pieces of a bounded size."""

    def __init__(self, owners: Positions, limit: int) -> None:
        kept = np.flatnonzero(owners >= 0)
        self.order = kept[np.argsort(owners[kept], kind="stable")]
        sorted_owners = owners[self.order]
        rank = _rank(sorted_owners)
        piece = np.cumsum(rank % limit == 0) - 1
        self.starts = np.flatnonzero(rank % limit == 0)
        self.sizes = np.bincount(piece, minlength=len(self.starts))
        self.owners = sorted_owners[self.starts]
        self.of_sample = np.full(len(owners), -1)
        self.of_sample[self.order] = piece
        self.places = np.zeros(len(owners), np.intp)
        self.places[self.order] = rank % limit

    @property
    def are_alone(self) -> npt.NDArray[np.bool_]:
        """Whether pieces are all of their row, for each piece."""
        counts = np.bincount(self.owners, minlength=self.owners.max(initial=-1) + 1)
        alone: npt.NDArray[np.bool_] = counts[self.owners] == 1
        return alone


def _rank(numbers: Positions) -> Positions:
    """Return how many of the same number come before, for sorted numbers."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    return np.arange(len(numbers)) - np.repeat(starts, np.diff(np.append(starts, len(numbers))))


class _Placed:
    """Where directions are in their pieces."""

    def __init__(self, directions: Directions, pieces: _Pieces) -> None:
        piece = pieces.of_sample[directions.samples]
        kept = np.flatnonzero((directions.rows >= 0) & (piece >= 0))
        kept = kept[np.lexsort((directions.rows[kept], piece[kept]))]
        self.taken, self.piece = kept, piece[kept]
        rows = directions.rows[kept]
        new = np.diff(self.piece, prepend=-1).astype(bool) | np.diff(rows, prepend=-1).astype(bool)
        number = np.cumsum(new) - 1
        ranks = _rank(self.piece[new])
        self.place = ranks[number]  # of the row among those of the piece
        self.rows = rows
        self.samples = pieces.places[directions.samples[kept]]
        n_pieces = len(pieces.starts)
        self.counts = np.bincount(self.piece[new], minlength=n_pieces)
        self.starts = np.searchsorted(self.piece, np.arange(n_pieces + 1))
        self.n_components = int(directions.values.shape[1])

    def gather(self, chosen: Positions, n_samples: int, n_rows: int) -> tuple[Positions, Positions]:
        """Return which directions to take, and what rows they add to, for some pieces."""
        size = int(self.counts[chosen].max(initial=0))
        where = np.full((len(chosen), size, n_samples), -1)
        rows = np.full((len(chosen), size, self.n_components), n_rows)
        slices = [np.arange(self.starts[n], self.starts[n + 1]) for n in chosen]
        picked = np.concatenate(slices)
        group = np.repeat(np.arange(len(chosen)), [len(part) for part in slices])
        where[group, self.place[picked], self.samples[picked]] = self.taken[picked]
        rows[group, self.place[picked]] = self.rows[picked, None] + np.arange(self.n_components)
        return where, rows.reshape(len(chosen), -1)


def _plans(
    n_features: int, pieces: _Pieces, directions: Sequence[Directions], n_rows: int
) -> list[_Plan]:
    placed = [_Placed(kind, pieces) for kind in directions]
    n_directions = np.zeros(len(pieces.starts), np.intp)
    for kind in placed:
        n_directions += kind.counts * kind.n_components
    plans = []
    for chosen in _grouped(pieces, n_directions, n_features, bool(directions)):
        sizes = pieces.sizes[chosen]
        steps = np.arange(sizes.max())
        # filled up with a sample that is there, where no kernel has other poles
        filled = pieces.starts[chosen, None] + np.minimum(steps, sizes[:, None] - 1)
        parts = [kind.gather(chosen, len(steps), n_rows) for kind in placed]
        none = np.empty((len(chosen), 0), np.intp)
        plans.append(
            _Plan(
                pieces.order[filled],
                steps < sizes[:, None],
                pieces.owners[chosen],
                [where for where, _ in parts],
                np.concatenate([none, *(rows for _, rows in parts)], axis=1),
            )
        )
    return plans


def _grouped(
    pieces: _Pieces, n_directions: Positions, n_features: int, directed: bool
) -> Iterator[Positions]:
    """Put pieces of similar size together, but never two of one row."""
    alone = pieces.are_alone
    order = np.lexsort((pieces.sizes, n_directions))[::-1]
    if directed:
        order = order[n_directions[order] > 0]
    group: list[int] = []
    n_samples = n_rows = filled = 0
    for number in order.tolist():
        size, directions = int(pieces.sizes[number]), max(int(n_directions[number]), 1)
        largest = max(n_samples, size), max(n_rows, directions)
        dense = (len(group) + 1) * largest[0] * largest[1]
        n_bytes = 8 * dense * n_features
        full = (
            (len(group) + 1) * largest[0] > GROUP_SAMPLES
            or n_bytes > _base.CHUNK_BYTES // 4
            or (n_bytes > SMALL_BYTES and dense > MOST_FILLED * (filled + size * directions))
        )
        if group and (full or not alone[number] or not alone[group[0]]):
            yield np.array(group)
            group, filled, largest = [], 0, (size, directions)
        group.append(number)
        (n_samples, n_rows), filled = largest, filled + size * directions
    if group:
        yield np.array(group)


# ---- sums over all samples of two groups


def value_sums(kernel: _kernels.Kernel | _kernels.Custom, left: Group, right: Group) -> Array:
    """Return sum_ij k(x_i, z_j), (n_left, n_right)."""
    xp = _arrays.namespace(left.x)
    n_left, n_x, _ = left.x.shape
    n_right, n_z, _ = right.x.shape
    k = xp.reshape(kernel.values(_flat(left.x), _flat(right.x)), (n_left * n_x, n_right, n_z))
    k = xp.sum(k * right.there, axis=2) * xp.reshape(left.there, (-1, 1))
    return xp.sum(xp.reshape(k, (n_left, n_x, n_right)), axis=1)


def gradient_value_sums(kernel: _kernels.Kernel, left: Group, right: Group) -> Array:
    """Return sum_ij dk(x_i, z_j) along u_ai, (n_left, n_rows, n_right)."""
    xp = _arrays.namespace(left.x)
    u = left.directions
    assert u is not None
    n_left, n_x, n_features = left.x.shape
    n_right, n_z, _ = right.x.shape
    x = _flat(left.x)
    A, B = (
        term if _kernels.is_zero(term) else xp.reshape(term, (-1, n_right, n_z)) * right.there
        for term in kernel.first_terms(x, _flat(right.x))
    )
    slopes = _arrays.full((n_right, n_left * n_x, n_features), 0.0, x)
    if not _kernels.is_zero(A):
        slopes = xp.permute_dims(A, (1, 0, 2)) @ right.x
    if not _kernels.is_zero(B):
        slopes = slopes + xp.matrix_transpose(xp.sum(B, axis=2))[:, :, None] * x
    slopes = xp.reshape(slopes, (n_right, n_left, n_x * n_features))
    u = xp.reshape(u, (*u.shape[:2], n_x * n_features))
    return u @ xp.permute_dims(slopes, (1, 2, 0))


class Across:
    """The directions of a group in the order in which they are the second factor of products."""

    def __init__(self, group: Group) -> None:
        assert group.directions is not None
        xp = _arrays.namespace(group.x)
        self.z = group.x
        n_pieces, n_rows, n_samples, n_features = group.directions.shape
        v = xp.permute_dims(group.directions, (0, 2, 3, 1))
        v = xp.reshape(v, (n_pieces, n_samples, n_features * n_rows))  # one copy for all products
        self.v = xp.reshape(v, (n_pieces, n_samples, n_features, n_rows))
        self.zv = (group.x[:, :, None, :] @ self.v)[:, :, 0, :]


def gradient_sums(kernel: _kernels.Kernel, x: Array, u: Array, across: Across) -> Array:
    """Return sum_ij d2k(x_i, z_j) along u_ai and v_bj, (n_right, n_rows, n_rows of right).

    Parameters
    ----------
    kernel : Kernel
    x : array, (n_samples, n_features)
        samples of one piece
    u : array, (n_rows, n_samples, n_features)
        their directions
    across : Across
        the other group

    """
    xp = _arrays.namespace(x)
    (n_x, n_features), n_rows = x.shape, u.shape[0]
    n_right, n_z, _, n_columns = across.v.shape
    C, D, E, F, G = (
        term
        if _kernels.is_zero(term)
        else xp.permute_dims(xp.reshape(term, (n_x, n_right, n_z)), (1, 0, 2))
        for term in kernel.second_terms(x, _flat(across.z))
    )
    # what u is multiplied with: derivatives by x_i of the sum over j, for each v
    slopes = _arrays.full((n_right, n_x, n_features, n_columns), 0.0, x)
    if not _kernels.is_zero(C):
        v = xp.reshape(across.v, (n_right, n_z, n_features * n_columns))
        slopes = xp.reshape(C @ v, slopes.shape)
    z = xp.matrix_transpose(across.z)[:, None, :, :]
    if not (_kernels.is_zero(D) and _kernels.is_zero(E)):
        xv = xp.permute_dims(x @ across.v, (0, 2, 1, 3))
    if not _kernels.is_zero(D):
        slopes = slopes + (z * D[:, :, None, :]) @ xv
    if not _kernels.is_zero(F):
        slopes = slopes + (z * F[:, :, None, :]) @ across.zv[:, None, :, :]
    if not _kernels.is_zero(E):
        slopes = slopes + x[:, :, None] * (E[:, :, None, :] @ xv)
    if not _kernels.is_zero(G):
        slopes = slopes + x[:, :, None] * (G @ across.zv)[:, :, None, :]
    slopes = xp.reshape(slopes, (n_right, n_x * n_features, n_columns))
    return xp.reshape(u, (n_rows, n_x * n_features)) @ slopes


def _flat(array: Array) -> Array:
    """Return all rows of the last axis below each other."""
    shape = (math.prod(array.shape[:-1]), array.shape[-1])
    return _arrays.namespace(array).reshape(array, shape)
