"""What learning curves are made of: parts of the folds, and scores of what is fitted to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import cross_validate
from sklearn.utils import check_random_state

from metatensor.sklearn import metrics

Array = npt.NDArray[np.float64]
Parts = list[tuple[Any, Any]]
Scoring = str | Callable[..., float] | Sequence[str] | Mapping[str, str | Callable[..., float]]


def scores(
    estimators: Mapping[str, Any],
    X: Any,
    y: Any,
    parts: Parts,
    scorers: Mapping[str, Callable[..., float]],
    n_sizes: int,
    n_jobs: int | None,
) -> dict[str, dict[str, dict[str, Array]]]:
    """Return "train" and "test" scores (n_sizes, n_folds) by estimator and name of the score."""
    found: dict[str, dict[str, dict[str, Array]]] = {"train": {}, "test": {}}
    for name, estimator in estimators.items():
        validated = cross_validate(
            estimator,
            X,
            y,
            cv=parts,
            scoring=dict(scorers),
            return_train_score=True,
            n_jobs=n_jobs,
            error_score="raise",
        )
        for kind, named in found.items():
            named[name] = {
                score: validated[f"{kind}_{score}"].reshape(-1, n_sizes).T for score in scorers
            }
    return found


def scorers(scoring: Scoring) -> dict[str, Callable[..., float]]:
    """Return scorers by the names of their panels."""
    if isinstance(scoring, str):
        scoring = [scoring]
    if callable(scoring):
        return {"score": scoring}
    if not isinstance(scoring, Mapping):
        scoring = {_score_title(name): name for name in scoring}
    if not scoring:
        raise ValueError("`scoring` must have at least one score, got none")
    return {title: metrics.as_scorer(score) for title, score in scoring.items()}


def _score_title(name: str) -> str:
    metric, _, gradient = name.removeprefix("neg_").partition(":")
    title = {"rmse": "RMSE", "mae": "MAE", "r2": "R²"}.get(metric, metric.replace("_", " "))
    return f"{title} of {gradient} gradient" if gradient else title


def sizes(train_sizes: Any, largest: int) -> npt.NDArray[np.int64]:
    """Return numbers of rows, sorted, without duplicates."""
    given = np.asarray(train_sizes)
    if given.ndim != 1 or not given.size or given.dtype.kind not in "iuf":
        raise ValueError(f"`train_sizes` must be a sequence of numbers, got {train_sizes!r}")
    if given.dtype.kind == "f":
        if not ((given > 0) & (given <= 1)).all():
            raise ValueError(f"fractions in `train_sizes` must be in (0, 1], got {given.tolist()}")
        given = np.maximum(1, np.floor(given * largest + 1e-9))
    if not ((given >= 1) & (given <= largest)).all():
        raise ValueError(
            f"`train_sizes` must be from 1 to {largest}, the rows of the smallest fold, got "
            f"{given.tolist()}"
        )
    sizes = np.unique(given).astype(np.int64)
    if len(sizes) < 2:
        raise ValueError(f"`train_sizes` must be two numbers of rows or more, got {sizes.tolist()}")
    return sizes


def training_parts(
    splits: Parts, sizes: npt.NDArray[np.int64], shuffle: bool, random_state: Any
) -> Parts:
    """Return the folds with all the sizes of each."""
    rng = check_random_state(random_state)
    parts = []
    for train, test in splits:
        order = rng.permutation(train) if shuffle else train
        parts += [(order[:size], test) for size in sizes]
    return parts
