"""Farthest points and leverage, against step-by-step references."""

import numpy as np
import pytest

from metatensor.sklearn._selection import farthest_of_gram, farthest_points, leverage


def slow_farthest(rows, n_to_select, first):
    chosen, distances = [first], [np.inf]
    while len(chosen) < n_to_select:
        nearest = [min(((row - rows[c]) ** 2).sum() for c in chosen) for row in rows]
        chosen.append(int(np.argmax(nearest)))
        distances.append(max(nearest))
    return chosen, distances


def slow_leverage(rows, n_to_select, n_singular):
    rows, chosen, scores = rows.copy(), [], []
    while len(chosen) < n_to_select:
        u, s, _ = np.linalg.svd(rows, full_matrices=False)
        score = (u[:, : min(n_singular, (s > 1e-8).sum())] ** 2).sum(axis=1)
        # the leverages of the last rows left are all 1, up to rounding
        chosen.append(int(np.argmax(score > score.max() - 1e-9)))
        scores.append(score[chosen[-1]])
        row = rows[chosen[-1]] / np.linalg.norm(rows[chosen[-1]])
        rows -= np.outer(rows @ row, row)
    return chosen, scores


SHAPES = [(40, 6), (6, 40), (10, 10), (3, 1), (1, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_farthest_points(shape, offset):
    rows = np.random.default_rng(0).normal(size=shape) + offset
    n_to_select, first = min(len(rows), 7), len(rows) // 2
    chosen, distances = slow_farthest(rows, n_to_select, first)
    found = farthest_points(rows, n_to_select, first)
    assert found[0].tolist() == chosen
    np.testing.assert_allclose(found[1], distances, rtol=1e-9)
    assert found[0].dtype == np.intp
    if not offset:
        found = farthest_of_gram(rows @ rows.T, n_to_select, first)
        assert found[0].tolist() == chosen
        np.testing.assert_allclose(found[1], distances, rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_singular", [1, 3])
def test_leverage(shape, n_singular):
    rows = np.random.default_rng(1).normal(size=shape)
    n_to_select = min(*shape, 5)
    chosen, scores = slow_leverage(rows, n_to_select, n_singular)
    found = leverage(rows, n_to_select, n_singular)
    assert found[0].tolist() == chosen
    np.testing.assert_allclose(found[1], scores, rtol=1e-9)
    assert found[0].dtype == np.intp


def test_the_choice_ends_where_nothing_is_left():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(4, 5))[[0, 1, 2, 3, 2, 1, 0]] + 3.0
    for positions, distances in (
        farthest_points(rows, 7, 2),
        farthest_of_gram(rows @ rows.T, 7, 2),
    ):
        assert sorted(positions.tolist()) == [0, 1, 2, 3]
        assert (distances > 0).all()
    flat = rng.normal(size=(9, 3)) @ rng.normal(size=(3, 6))
    positions, scores = leverage(flat, 9)
    assert len(positions) == len(scores) == 3
    assert [len(part) for part in leverage(np.zeros((3, 2)), 2)] == [0, 0]
    assert farthest_points(np.zeros((3, 2)), 2, 1)[0].tolist() == [1]


def test_ties_go_to_the_first():
    corners = np.array([[0.0, 0.0], [1.0, 0.1], [0.1, 1.0], [-1.0, -0.1], [-0.1, -1.0]])
    assert farthest_points(corners, 2, 0)[0].tolist() == [0, 1]
    assert farthest_points(corners[::-1], 2, 4)[0].tolist() == [4, 0]
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(3, 4))
    assert leverage(np.concatenate([rows, rows]), 3)[0].max() < 3


def test_nothing_given_is_changed():
    rows = np.random.default_rng(4).normal(size=(6, 3))
    before = rows.copy()
    rows.flags.writeable = False
    farthest_points(rows, 3, 0)
    farthest_of_gram(rows @ rows.T, 3, 0)
    leverage(rows, 3)
    np.testing.assert_array_equal(rows, before)
