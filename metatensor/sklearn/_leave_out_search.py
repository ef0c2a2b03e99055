"""Which rows are left out together, and how good predictions of rows left out are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import check_cv

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.sklearn import _alignment, _base, _gradient_weights, _matching, metrics
from metatensor.sklearn._base import VALUES
from metatensor.sklearn._gradient_weights import GradientWeights
from metatensor.sklearn._least_squares import Factors, Model
from metatensor.sklearn._leave_out import LeaveOut, fitted, leave_out
from metatensor.sklearn._stacking import Stack, Unfolded
from metatensor.sklearn.rows import Rows, row_numbers
from metatensor.tensor import TensorMap

Array = npt.NDArray[np.float64]
Positions = npt.NDArray[np.intp]

#: from residuals of each block (n, n_targets) to one score for all, or one for each property
Score = Callable[[list[Array]], Array]


# ---- groups of rows


def row_groups(y: _base.Tensor, groups: Any = None, cv: Any = None) -> list[Positions]:
    """Return, for each sample of each block, the number of the group that it is left out with.

    Parameters
    ----------
    y : TensorMap or Rows
        a row is one of Rows, or a sample of the blocks of a TensorMap
    groups : array (n_rows,), optional
        what is the same for rows of one group; each row is one by default
    cv : int or splitter, optional
        whose test sets are the groups

    """
    tensor = _base.to_tensor(y)
    if groups is None and cv is None:
        if not isinstance(y, Rows):
            return [np.arange(len(block._samples)) for block in tensor]
        numbers = np.arange(len(y))
    else:
        name = "`cv`" if groups is None else "`groups`"
        numbers = _group_numbers(len(_matching.common_rows(y, name)), groups, cv)
    if not isinstance(y, Rows):
        return [numbers for _ in tensor]
    return [numbers[row_numbers(block._samples, y.rows)] for block in tensor]


def _group_numbers(n_rows: int, groups: Any, cv: Any) -> Positions:
    if groups is not None:
        groups = np.asarray(groups)
        if groups.shape != (n_rows,):
            raise ValueError(
                f"`groups` must have one entry for each row, ({n_rows},), got {groups.shape}"
            )
    if cv is None:
        return np.unique(groups, return_inverse=True)[1].astype(np.intp)
    numbers = np.full(n_rows, -1)
    options = {} if groups is None else {"groups": groups}
    for number, (train, test) in enumerate(check_cv(cv).split(np.zeros(n_rows), **options)):
        both = np.sort(np.concatenate([train, test]))
        if not np.array_equal(both, np.arange(n_rows)) or (numbers[test] >= 0).any():
            numbers[:] = -1
            break
        numbers[test] = number
    if (numbers < 0).any():
        raise ValueError(
            "`cv` must put each row into one test set, and train on all others, as KFold, "
            f"GroupKFold and LeaveOneGroupOut do, got {cv}; use GridSearchCV(Ridge(), ..., cv=cv)"
        )
    return numbers


# ---- fits without some of the rows


class Trial(NamedTuple):
    """The rows of all blocks with some weights of gradients, decomposed."""

    weights: GradientWeights
    factors: list[Factors]
    parts: list[list[LeaveOut]]

    def residuals(self, alpha: float) -> list[Array]:
        """Return the residuals of the rows of each block, predicted without their group."""
        return [
            np.concatenate([part.residuals(alpha) for part in parts], axis=1)
            for parts in self.parts
        ]

    def models(self, alphas: Sequence[Array], compute_std: bool) -> list[Model]:
        """Return the fits to all rows, with an alpha for each property of each block."""
        return [
            fitted(parts, factors, block_alphas, compute_std)
            for parts, factors, block_alphas in zip(self.parts, self.factors, alphas, strict=True)
        ]


def trials(
    options: Sequence[GradientWeights],
    centered: Sequence[bool],
    rows: Sequence[Unfolded],
    relative: bool,
) -> Iterator[Trial]:
    """Decompose the rows with one choice of weights after the other."""
    for weights in options:
        factors = loss_factors(weights, centered, rows)
        parts = [
            leave_out(r, f, c, np.ones((1, r.features.shape[1])), relative)
            for r, f, c in zip(rows, factors, centered, strict=True)
        ]
        yield Trial(weights, factors, parts)


def loss_factors(
    weights: GradientWeights, centered: Sequence[bool], rows: Sequence[Unfolded]
) -> list[Factors]:
    """Return the factors of the terms of each block."""
    return [
        _gradient_weights.factors(weights, part.squares(is_centered))
        for is_centered, part in zip(centered, rows, strict=True)
    ]


# ---- how good predictions are


def loss_score(rows: Sequence[Unfolded], factors: Sequence[Factors], per_target: bool) -> Score:
    """Return a function that gives minus the mean squared error of values and gradients."""

    def score(residuals: list[Array]) -> Array:
        sums, totals = [], []
        for part, block_factors, errors in zip(rows, factors, residuals, strict=True):
            terms = [
                (block_factors[name] * part.weights[where], errors[where])
                for name, where in part.terms.items()
            ]
            sums.append(sum(np.sum(weights * error**2, axis=0) for weights, error in terms))
            totals.append(
                sum(np.broadcast_to(weights, error.shape).sum(axis=0) for weights, error in terms)
            )
        sum_, total = np.concatenate(sums), np.concatenate(totals)
        if not per_target:
            sum_, total = sum_.sum(keepdims=True), total.sum(keepdims=True)
        return -sum_ / np.where(total > 0, total, 1.0)

    return score


def errors(rows: Sequence[Unfolded], residuals: Sequence[Array]) -> dict[str, float]:
    """Return the root mean square errors of the values, and of each gradient, of all blocks."""
    result = {}
    for name in rows[0].terms:
        square = total = 0.0
        for part, error in zip(rows, residuals, strict=True):
            where = part.terms[name]
            weights = np.broadcast_to(part.weights[where], error[where].shape)
            square += float(np.sum(weights * error[where] ** 2))
            total += float(weights.sum())
        label = "rmse" if name is VALUES else f"rmse:{name}"
        result[label] = float(np.sqrt(square / total)) if total else np.nan
    return result


class _Given(RegressorMixin, BaseEstimator):
    """Predicts what it is given."""

    def predict(self, X: Any) -> Any:
        return X


class ScorerScore:
    """Gives the scores that a scorer finds for predictions of rows left out.

    Parameters
    ----------
    scoring : str or callable
    y : TensorMap or Rows
        the truth
    ndim : int or None
        number of dimensions of y if it was an array
    batch : list of list of Stack
        where the rows come from
    per_target : bool
        whether each property is scored alone
    sample_weight : optional
        what the scorer gets

    """

    def __init__(
        self,
        scoring: str | Callable[..., float],
        y: _base.Tensor,
        ndim: int | None,
        batch: Sequence[Sequence[Stack]],
        per_target: bool,
        sample_weight: Any,
    ) -> None:
        self._scorer = metrics.as_scorer(scoring)
        self._y, self._ndim, self._batch, self._per_target = y, ndim, batch, per_target
        self._options = {} if sample_weight is None else {"sample_weight": sample_weight}

    def __call__(self, residuals: list[Array]) -> Array:
        truth = _base.to_tensor(self._y)
        blocks = [
            _predicted_block(stacks, errors)
            for stacks, errors in zip(self._batch, residuals, strict=True)
        ]
        prediction = TensorMap._of(truth._keys, blocks)
        pairs = [(truth, prediction)]
        if self._per_target:
            pairs = list(zip(_each_property(truth), _each_property(prediction), strict=True))
        return np.array([self._score(*pair) for pair in pairs])

    def _score(self, truth: TensorMap, prediction: TensorMap) -> float:
        containers = [self._container(tensor) for tensor in (prediction, truth)]
        return float(self._scorer(_Given(), *containers, **self._options))

    def _container(self, tensor: TensorMap) -> Any:
        if self._ndim is None:
            return _base.like_container(self._y, tensor)
        values = _arrays.to_host(_arrays.detach(tensor._blocks[0]._values))
        return values[:, 0] if self._ndim == 1 or self._per_target else values


def _predicted_block(stacks: Sequence[Stack], errors: Array) -> TensorBlock:
    """Return a block of y, with predictions whose errors are known."""
    start = 0
    parts: dict[Any, TensorBlock] = {}
    for stack in stacks:
        block = stack.targets
        truth = _base.to_float64(block._values)
        end = start + math.prod(truth.shape[:-1])
        error = _arrays.from_host(errors[start:end].reshape(truth.shape), truth)
        parts[stack.name] = TensorBlock._of(
            truth - error, block._samples, block._components, block._properties
        )
        start = end
    values = parts.pop(VALUES)
    return TensorBlock._of(
        values._values, values._samples, values._components, values._properties, parts
    )


def _each_property(tensor: TensorMap) -> Iterator[TensorMap]:
    for position, block in enumerate(tensor):
        key = tensor._keys._like(tensor._keys._table[position : position + 1])
        for column in range(len(block._properties)):
            table = block._properties._table[column : column + 1]
            alone: Labels = block._properties._like(table)
            yield TensorMap._of(key, [_alignment.take_properties(block, alone)])
