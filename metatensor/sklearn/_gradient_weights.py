"""The weights of gradient rows against values, a parameter of all that fits to both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from metatensor import _checks
from metatensor.tensor import TensorMap


def check_not_negative(value: Any, name: str, kinds: str) -> None:
    """Refuse what is no finite number, or a negative one."""
    if not isinstance(value, (float, int, np.floating, np.integer)) or isinstance(value, bool):
        raise TypeError(f"`{name}` must be {kinds}, got {_checks.kind(value)}")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"`{name}` must be finite and not negative, got {value}")


def check(weights: Any) -> None:
    """Refuse what is no number, no dict of numbers, and not "balanced"."""
    if isinstance(weights, Mapping):
        for name, weight in weights.items():
            check_not_negative(weight, f"gradient_weights[{name!r}]", "a number")
    elif weights != "balanced":
        check_not_negative(
            weights, "gradient_weights", "a number, a dict of numbers, or 'balanced'"
        )


def used(weights: Any, features: TensorMap, targets: TensorMap) -> list[str]:
    """Return the names of the gradients to fit, which X and y must have."""
    there = targets._blocks[0].gradients_list()
    if isinstance(weights, Mapping):
        if not set(there) <= set(weights):
            raise ValueError(
                f"`gradient_weights` must name all the gradients of y, {there}, with 0 for "
                f"those that shall not be used; got {list(weights)}"
            )
        there = [name for name in there if weights[name]]
    elif weights == 0:
        return []
    missing = [name for name in there if not features._blocks[0].has_gradient(name)]
    if missing:
        raise ValueError(
            f"y has gradients with respect to {missing}, but X has not; compute them for X, or "
            "leave them out with `gradient_weights`, 0 for all or {name: 0} for one"
        )
    return there


def factor(weights: Any, name: str, square: float, gradient_square: float) -> float:
    """Return the weight of one gradient, given the weighted squares of y and of that gradient."""
    if isinstance(weights, Mapping):
        return float(weights[name])
    if weights != "balanced":
        return float(weights)
    return square / gradient_square if square > 0 and gradient_square > 0 else 1.0
