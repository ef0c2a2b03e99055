"""What a workload is, and the table of all of them."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Case(NamedTuple):
    """What is timed: ``call(*fresh())``, or ``call()`` where nothing has to be made anew."""

    call: Callable[..., Any]
    fresh: Callable[[], tuple] | None = None
    # what of the result of a call is to be compared between the packages
    result: Callable[[Any], Any] = lambda result: result
    # the call measures itself, and returns CPU seconds
    measures: bool = False
    # floats of the results must agree bit by bit; otherwise but for rounding
    exact: bool = True


class Workload(NamedTuple):
    """A family of cases by size, with the ratio of times that is aimed at."""

    name: str
    prepare: Callable[[str], Case]
    targets: dict[str, float | None]


WORKLOADS: dict[str, Workload] = {}


def workload(name: str, **targets: float | None):
    """Register a function of a size under ``name``; a target may be ``None`` for "not set"."""

    def register(prepare):
        WORKLOADS[name] = Workload(name, prepare, targets)
        return prepare

    return register
