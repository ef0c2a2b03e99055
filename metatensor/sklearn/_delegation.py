"""What estimators made of others require of these, and pass on to their `fit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn import get_config
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.validation import has_fit_parameter

from metatensor import _checks


def require(estimator: Any, methods: Sequence[str], who: str, others: str = "") -> None:
    """Refuse what is no estimator with these methods, such as a class."""
    if isinstance(estimator, type) or not all(hasattr(estimator, name) for name in methods):
        names = ", ".join(f"`{name}`" for name in methods[:-1]) + f" and `{methods[-1]}`"
        got = f"the class {estimator.__name__}" if isinstance(estimator, type) else None
        raise TypeError(
            f"{who} must be an estimator with {names}{others}, got {got or _checks.kind(estimator)}"
        )


def require_named(items: Any, what: Sequence[str], who: str) -> None:
    """Refuse what is no list of tuples that begin with a name."""
    wrong = None if isinstance(items, (list, tuple)) else _checks.kind(items)
    for item in items if wrong is None else ():
        if not (isinstance(item, (list, tuple)) and len(item) == len(what)):
            wrong = f"{item!r} in it"
        elif not isinstance(item[0], str):
            wrong = f"the name {item[0]!r} in it"
    if wrong is not None:
        raise TypeError(f"{who} must be a list of ({', '.join(what)}), got {wrong}")


def fit_parameters(
    owner: Any, estimators: Mapping[str, Any], sample_weight: Any, parameters: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return what to pass to the `fit` of each estimator.

    With metadata routing, each gets what it asked for. Without, all get the sample weights, and
    nothing else can be passed.
    """
    if sample_weight is not None:
        parameters = {**parameters, "sample_weight": sample_weight}
    if get_config()["enable_metadata_routing"]:
        routed = process_routing(owner, "fit", **parameters)
        return {name: dict(routed[name].fit) for name in estimators}
    if extra := [name for name in parameters if name != "sample_weight"]:
        raise ValueError(
            f"{type(owner).__name__}.fit can pass on {extra} only with metadata routing, "
            "`sklearn.set_config(enable_metadata_routing=True)`"
        )
    return {
        name: {} if sample_weight is None else {_weight_name(estimator, name): sample_weight}
        for name, estimator in estimators.items()
    }


def _weight_name(estimator: Any, name: str) -> str:
    """Return the name under which `fit` takes the weights; that of a pipeline for its last step."""
    if isinstance(estimator, Pipeline):
        step, last = estimator.steps[-1]
        return f"{step}__{_weight_name(last, name)}"
    if isinstance(estimator, (GridSearchCV, RandomizedSearchCV)):
        return _weight_name(estimator.estimator, name)
    if not has_fit_parameter(estimator, "sample_weight"):
        raise ValueError(
            f"{name!r}, {type(estimator).__name__}, does not take `sample_weight`; leave the "
            "weights out, or use another estimator"
        )
    return "sample_weight"
