"""Prepare and time cases in the interpreter that runs this file, as told on standard input.

One JSON object per line in, one per line out; :mod:`compare` starts a worker per package and case.
"""

import contextlib
import gc
import hashlib
import importlib.metadata
import json
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from metatensor import Labels, LabelsEntry, TensorBlock, TensorMap
from workloads import WORKLOADS
from workloads.registry import Case

try:
    import resource
except ImportError:  # Windows
    resource = None

MOST_CALLS = 100_000
# arguments that are held at once, by size: their memory stays below some 100 MB
AT_ONCE = {"S": 1_000, "M": 50, "L": 5, "XL": 5}


def parts(value: Any) -> Iterable[Any]:
    """What a result consists of, in the same words for both packages."""
    if isinstance(value, TensorMap):
        return ["map", value.keys, *value.blocks()]
    if isinstance(value, TensorBlock):
        gradients = [part for item in sorted(value.gradients()) for part in item]
        return [
            "block",
            value.values,
            value.samples,
            *value.components,
            value.properties,
            *gradients,
        ]
    if isinstance(value, (Labels, LabelsEntry)):
        return [*value.names, value.values]
    return ["sequence", *value]


def digest(value: Any, state: Any, projections: list[float] | None) -> None:
    if isinstance(value, np.ndarray):
        # integers of any width are compared by value
        array = value.astype(np.int64) if value.dtype.kind in "iu" else value
        state.update(f"{array.dtype}{array.shape}".encode())
        if projections is not None and array.dtype.kind == "f":
            weights = np.random.default_rng(len(projections)).random(array.size)
            projections.append(float(weights @ array.ravel()))
        else:
            state.update(np.ascontiguousarray(array).data)
    elif value is None or isinstance(value, (str, bool, int, float, np.bool_)):
        state.update(f"{value};".encode())
    else:
        for part in parts(value):
            digest(part, state, projections)


def fingerprint(value: Any, exact: bool) -> tuple[str, list[float]]:
    """What is the same for the same results, and numbers that are it but for rounding."""
    state = hashlib.blake2b(digest_size=16)
    projections: list[float] = []
    digest(value, state, None if exact else projections)
    return state.hexdigest(), projections


def measure(case: Case, size: str, number: int) -> float:
    """CPU seconds of one call, the mean of ``number``."""
    if case.measures:
        return sum(case.call() for _ in range(number)) / number
    if case.fresh is None:
        return timed(case.call, [()] * number) / number
    total, left = 0.0, number
    while left > 0:
        batch = min(left, AT_ONCE[size])
        total += timed(case.call, [case.fresh() for _ in range(batch)])
        left -= batch
    return total / number


def timed(call: Callable[..., Any], arguments: list[tuple]) -> float:
    """CPU seconds of all calls."""
    gc.collect()
    gc.disable()
    start = time.process_time()
    for argument in arguments:
        call(*argument)
    end = time.process_time()
    gc.enable()
    return end - start


def calls_for(case: Case, size: str, seconds: float) -> int:
    """How many calls take ``seconds``, unless what they need would take far longer to make."""
    most = MOST_CALLS
    if case.fresh is not None:
        most = max(1, min(most, round(20 * seconds / max(timed(case.fresh, [()]), 1e-7))))
        if size != "S":  # a package that never frees its Labels keeps what is made for each call
            most = min(most, AT_ONCE[size])
    number = 1
    while number < most and (total := measure(case, size, number) * number) < seconds:
        number = min(most, number * max(2, min(10, math.ceil(seconds / max(total, 1e-9)))))
    return number


def versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in ["numpy", "torch", "metatensor-sklearn", "metatensor-core"]:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def prepare(name: str, size: str, seconds: float) -> tuple[Case, dict[str, Any]]:
    """Make the data, call once, and find how many calls one measurement needs."""
    case = WORKLOADS[name].prepare(size)
    arguments = case.fresh() if case.fresh else ()
    start = time.process_time()
    result = case.call(*arguments)
    first = result if case.measures else time.process_time() - start
    answer = {"fingerprint": fingerprint(case.result(result), case.exact), "first": first}
    return case, {**answer, "number": calls_for(case, size, seconds)}


def main() -> None:
    # what the workloads print must not be taken for an answer
    answers, sys.stdout = sys.stdout, sys.stderr
    case, size, number = None, "S", 1
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "describe":
                sizes = {name: known.targets for name, known in WORKLOADS.items()}
                answer = {"versions": versions(), "workloads": sizes}
            elif request["do"] == "prepare":
                size = request["size"]
                case, answer = prepare(request["name"], size, request["seconds"])
                number = answer["number"]
            else:
                answer = {"seconds": measure(case, size, number), "peak": peak_memory()}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def peak_memory() -> int:
    """Bytes that the process ever held, or 0 where the system does not tell."""
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    main()
