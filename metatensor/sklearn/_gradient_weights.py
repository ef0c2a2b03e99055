"""Weights of gradients against values in a loss: one number, one for each name, or "balanced"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from metatensor.sklearn import _base
from metatensor.sklearn._base import VALUES
from metatensor.sklearn._least_squares import Factors
from metatensor.tensor import TensorMap

GradientWeights: TypeAlias = float | Mapping[str, float] | Literal["balanced"]


def check(weights: Any) -> None:
    """Refuse what are no weights."""
    if isinstance(weights, Mapping):
        for name, weight in weights.items():
            _base.check_not_negative(weight, f"gradient_weights[{name!r}]", "a number")
    elif not (isinstance(weights, str) and weights == "balanced"):
        kinds = "a number, a dict of numbers, or 'balanced'"
        _base.check_not_negative(weights, "gradient_weights", kinds)


def used(options: Sequence[GradientWeights], features: TensorMap, targets: TensorMap) -> list[str]:
    """Return the gradients of y that any weights ask for, all of which X must have."""
    there = targets._blocks[0].gradients_list()
    wanted = {name for weights in options for name in _named(weights, there)}
    names = [name for name in there if name in wanted]
    missing = [name for name in names if not features._blocks[0].has_gradient(name)]
    if missing:
        raise ValueError(
            f"y has gradients with respect to {missing}, but X has not; compute them for X, or "
            "leave them out with `gradient_weights`, 0 for all or {name: 0} for one"
        )
    return names


def _named(weights: GradientWeights, there: list[str]) -> list[str]:
    if isinstance(weights, Mapping):
        if not set(there) <= set(weights):
            raise ValueError(
                f"`gradient_weights` must name all the gradients of y, {there}, with 0 for "
                f"those that shall not be used; got {list(weights)}"
            )
        return [name for name in there if weights[name]]
    return [] if weights == 0 else there


def factors(weights: GradientWeights, squares: Mapping[str | None, float]) -> Factors:
    """Return the factor of each part of a loss.

    Parameters
    ----------
    weights : float, dict or "balanced"
    squares : dict
        weighted sum of squares of the values around their mean, and of each gradient

    """
    result: Factors = {}
    values = squares[VALUES]
    for name, square in squares.items():
        if name is VALUES:
            result[name] = 1.0
        elif isinstance(weights, Mapping):
            result[name] = float(weights[name])
        elif weights == "balanced":
            result[name] = values / square if values > 0 and square > 0 else 1.0
        else:
            result[name] = float(weights)
    return result
