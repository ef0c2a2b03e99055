"""Which classes the file of a model may name, and what their attributes may be called."""

from __future__ import annotations

import abc
import functools
import importlib
import inspect
from typing import Any, Generic, Protocol

from sklearn.base import BaseEstimator

_OURS = "metatensor.sklearn."
#: what classes of ours can be derived from besides each other
_BASES = frozenset((object, abc.ABC, Generic, Protocol))

#: estimators of scikit-learn whose state is plain data, and that run nothing they were not given
SCIKIT_LEARN = frozenset(
    f"sklearn.{module}.{name}"
    for module, names in {
        "compose": "TransformedTargetRegressor",
        "decomposition": "PCA",
        "dummy": "DummyRegressor",
        "ensemble": "StackingRegressor VotingRegressor",
        "kernel_ridge": "KernelRidge",
        "linear_model": "ARDRegression BayesianRidge ElasticNet HuberRegressor Lasso "
        "LinearRegression Ridge RidgeCV",
        "multioutput": "MultiOutputRegressor",
        "pipeline": "FeatureUnion Pipeline",
        "preprocessing": "FunctionTransformer MaxAbsScaler MinMaxScaler Normalizer "
        "PolynomialFeatures RobustScaler StandardScaler",
    }.items()
    for name in names.split()
)


def name_of(cls: type) -> str | None:
    """Return the name that stands for a class in files, None if there is none."""
    module = cls.__module__
    if module.startswith("sklearn."):
        # estimators are public one or more levels above the file that defines them
        module = ".".join(part for part in module.split(".") if not part.startswith("_"))
    name = f"{module}.{cls.__qualname__}"
    try:
        return name if find(name) is cls else None
    except ValueError:
        return None


def find(name: str) -> type:
    """Return the class with a name, which is on the list of scikit-learn's, or one of ours.

    Ours are those that a module of `metatensor.sklearn` defines at its top level. Nothing else is
    ever imported.
    """
    module_name, _, class_name = name.rpartition(".")
    if name in SCIKIT_LEARN:
        found: type = getattr(importlib.import_module(module_name), class_name)
        return found
    inner = module_name.removeprefix(_OURS)
    if module_name == inner or not inner.isidentifier() or inner.startswith("__"):
        raise ValueError(_refusal(name))
    try:
        module = importlib.import_module(_OURS + inner)
    except ModuleNotFoundError as error:
        raise ValueError(_refusal(name)) from error
    defined = vars(module).get(class_name)
    if (
        not isinstance(defined, type)
        or (defined.__module__, defined.__qualname__) != (module_name, class_name)
        or not (is_estimator(defined) or is_record(defined) or _is_plain(defined))
    ):
        raise ValueError(_refusal(name))
    return defined


def _refusal(name: str) -> str:
    return (
        f"the class {name!r} is neither one of `metatensor.sklearn` nor one of scikit-learn that "
        "files of models can have"
    )


def is_estimator(cls: type) -> bool:
    """Tell whether instances are estimators."""
    return issubclass(cls, BaseEstimator)


def is_record(cls: type) -> bool:
    """Tell whether instances are named tuples, which are made of their fields."""
    return cls.__mro__[1:] == (tuple, object) and hasattr(cls, "_fields")


def _is_plain(cls: type) -> bool:
    """Tell whether all that instances have are attributes."""
    return all(base in _BASES or base.__module__.startswith(_OURS) for base in cls.__mro__)


def slots_of(cls: type) -> set[str]:
    """Return the names of the slots of a class."""
    return {
        name
        for base in cls.__mro__
        for name, thing in vars(base).items()
        if inspect.ismemberdescriptor(thing)
    }


def check_attribute(cls: type, name: str) -> None:
    """Refuse names that are no attributes of instances: methods, and what only the class has."""
    refused = not name.isidentifier() or name.startswith("__")
    for base in cls.__mro__:
        if name in vars(base):
            refused = refused or not _is_default(base, vars(base)[name])
            break
    if refused:
        raise ValueError(f"{cls.__name__} can not have an attribute {name!r} in files")


def _is_default(base: type, thing: Any) -> bool:
    """Tell whether instances have something of their own instead of what the class has."""
    if not base.__module__.startswith(_OURS):
        return False
    if isinstance(thing, functools.cached_property) or inspect.ismemberdescriptor(thing):
        return True
    return not callable(thing) and not hasattr(type(thing), "__get__")
