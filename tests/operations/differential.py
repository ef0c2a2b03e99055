"""Run the same random calls with both packages and explain how their results differ.

`python differential.py --upstream PYTHON [--cases COUNT] [--seed SEED] [--only NUMBER ...]` makes
cases, runs them with this interpreter and with the one of the package with a core in Rust, and
prints how many results are the same, which differences are expected, and why, and all that are not
expected. It ends with 1 if there are any. With `--library torch`, values are arrays of torch here,
and of numpy there; or of another library.

Cases and results are plain data: lists, names, numbers and numpy arrays. `python differential.py
--run CASES RESULTS [LIBRARY]` runs cases with whichever package this interpreter has as
`metatensor`; nothing but the public names of both packages is used.
"""

import argparse
import copy
import importlib
import operator
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import differential_cases
import numpy as np
from differential_checks import check
from differential_expected import explain

import metatensor
from metatensor import Labels, TensorBlock, TensorMap

# the array library of values here, other than numpy
library = None

# ---- plain data to objects, and back


def labels(data, results=()):
    return Labels(data["names"], np.array(data["values"], dtype=np.int32))


def block(data, results=()):
    axes = [labels(axis) for axis in data["components"]]
    if library is None:
        values = arranged(data["values"], data.get("layout"))
    else:
        values = library.asarray(np.array(data["values"], order="C"))
    made = TensorBlock(values, labels(data["samples"]), axes, labels(data["properties"]))
    for parameter, gradient in data["gradients"].items():
        made.add_gradient(parameter, block(gradient))
    return made


def arranged(values, layout):
    """Return the same numbers, in another order in memory."""
    if layout == "strided":
        return np.repeat(values, 2, axis=-1)[..., ::2]
    if layout == "reversed":
        return values[::-1].copy()[::-1]
    values = np.array(values, order="F" if layout == "columns" else "C")
    values.flags.writeable = layout != "readonly"
    return values


def tensor(data, results=()):
    made = TensorMap(labels(data["keys"]), [block(part) for part in data["blocks"]])
    for key, text in data["info"].items():
        made.set_info(key, text)
    return made


def name(data, results):
    """Return a name that the result of an earlier step has on an axis."""
    found = results[data["step"]]
    names = {
        "keys": lambda: found.keys.names,
        "samples": lambda: found.sample_names,
        "components": lambda: found.component_names,
        "properties": lambda: found.property_names,
        "gradients": lambda: found.block_by_id(0).gradients_list(),
    }[data["axis"]]()
    return names[data["number"] % len(names)]


def selection(data, results):
    return Labels([name(data, results)], np.array(data["values"], dtype=np.int32).reshape(-1, 1))


BUILD = {
    "labels": labels,
    "block": block,
    "map": tensor,
    "name": name,
    "selection": selection,
    "result": lambda data, results: results[data["step"]],
    "entry": lambda data, results: labels(data["labels"])[0],
}


def build(data, results=()):
    if isinstance(data, (list, tuple)):
        return type(data)(build(part, results) for part in data)
    if isinstance(data, dict):
        return BUILD[data["kind"]](data, results)
    return data.copy() if isinstance(data, np.ndarray) else data


def dump(value):
    if isinstance(value, (list, tuple)):
        return type(value)(dump(part) for part in value)
    if isinstance(value, Labels):
        table = np.array(value.values)
        return {"kind": "labels", "names": list(value.names), "values": table}
    if isinstance(value, TensorBlock):
        return {
            "kind": "block",
            "values": host(value.values),
            "samples": dump(value.samples),
            "components": dump(value.components),
            "properties": dump(value.properties),
            "gradients": {parameter: dump(part) for parameter, part in value.gradients()},
        }
    if isinstance(value, TensorMap):
        blocks = [dump(value.block_by_id(position)) for position in range(len(value.keys))]
        info = dict(value.info())
        return {"kind": "map", "keys": dump(value.keys), "blocks": blocks, "info": info}
    if isinstance(value, metatensor.LabelsEntry):
        return {"kind": "entry", "labels": dump(Labels(value.names, np.array([value.values])))}
    return value.copy() if isinstance(value, np.ndarray) else value


def host(values):
    """Return a copy of an array as numpy array."""
    return np.array(values.detach() if hasattr(values, "detach") else values)


# ---- one side


def called(text):
    """Return a function of the package, a method of the first argument, or an operator."""
    if text.startswith("operator."):
        return getattr(operator, text.removeprefix("operator."))
    if text.startswith("."):
        return lambda first, *args, **kwargs: getattr(first, text[1:])(*args, **kwargs)
    return getattr(metatensor, text, None)


def run_step(step, results):
    """Return what a call gave, as plain data, and the object itself."""
    function = called(step["function"])
    if function is None:
        return {"missing": step["function"]}, None
    try:
        args = build(step["args"], results)
        kwargs = {key: build(value, results) for key, value in step["kwargs"].items()}
    except Exception as error:
        return {"not built": failure(error)}, None
    given = dump([args, list(kwargs.values())])
    outcome, result = {"given": given}, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if "keywords" in step:
                result = function(**dict(zip(step["keywords"], args)), **kwargs)
            else:
                result = function(*args, **kwargs)
        except Exception as error:
            outcome["error"] = failure(error)
    outcome["warnings"] = sorted({w.category.__name__ for w in caught})
    outcome["changed"] = not same(dump([args, list(kwargs.values())]), given)
    if "error" not in outcome:
        outcome["result"] = dump(result)
        outcome["is argument"] = [argument is result for argument in args]
        try:
            build(outcome["result"])
        except Exception as error:
            outcome["invalid"] = failure(error)
    return outcome, result


def failure(error):
    kinds = [kind.__name__ for kind in type(error).__mro__]
    return {"kinds": kinds, "text": str(error)}


def same(first, second):
    """Return whether plain data is the same, NaN included."""
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, np.ndarray):
        alike = first.dtype == second.dtype and first.shape == second.shape
        return alike and first.tobytes() == second.tobytes()
    return first == second or first is second or (first != first and second != second)


def run_case(case):
    outcomes, results = [], []
    for step in case["steps"]:
        outcome, result = run_step(step, results)
        outcomes.append(outcome)
        results.append(result)
        if "result" not in outcome:
            break
    return outcomes


def run(cases_path, results_path, name="numpy"):
    global library
    if name != "numpy":
        modules = {"jax": "jax.numpy", "dask": "dask.array"}
        library = importlib.import_module(modules.get(name, name))
    cases = pickle.loads(Path(cases_path).read_bytes())
    Path(results_path).write_bytes(pickle.dumps([run_case(case) for case in cases]))


# ---- how results differ


def differences(ours, theirs, tolerance, path=""):
    """Yield (where, what) for the differences in plain data."""
    if isinstance(ours, np.generic):
        ours = ours.item()
    if isinstance(theirs, np.generic):
        theirs = theirs.item()
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        if what := different_arrays(ours, theirs, tolerance):
            yield path, what
    elif type(ours) is not type(theirs):
        yield path, f"{type(ours).__name__} and {type(theirs).__name__}"
    elif isinstance(ours, dict):
        if ours.keys() != theirs.keys():
            yield path, f"{sorted(ours)} and {sorted(theirs)}"
        for key in [key for key in ours if key in theirs]:
            yield from differences(ours[key], theirs[key], tolerance, f"{path}/{key}")
    elif isinstance(ours, (list, tuple)):
        if len(ours) != len(theirs):
            yield path, f"lengths {len(ours)} and {len(theirs)}"
        for position, (one, other) in enumerate(zip(ours, theirs)):
            yield from differences(one, other, tolerance, f"{path}/{position}")
    elif not same(ours, theirs):
        yield path, f"{ours!r} and {theirs!r}"


def different_arrays(ours, theirs, tolerance):
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return f"{ours.dtype}{ours.shape} and {theirs.dtype}{theirs.shape}"
    if not ours.size or np.array_equal(ours, theirs):
        return None
    if ours.dtype.kind not in "fc":
        return f"{np.sum(ours != theirs)} of {ours.size} entries"
    fine = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    finite = np.isfinite(ours) & np.isfinite(theirs)
    if ours.dtype.kind == "c":  # quotients of complex numbers are not finite in several ways
        fine |= ~np.isfinite(ours) & ~np.isfinite(theirs)
    scale = max(1.0, np.max(np.abs(theirs), where=finite, initial=0.0))
    with np.errstate(all="ignore"):
        error = np.where(finite, np.abs(ours - theirs), 0)
    fine |= finite & (error <= tolerance * scale)
    if fine.all():
        return None
    if not np.any(finite & ~fine):
        return f"{np.sum(~fine)} of {ours.size} entries, which are not all finite"
    return f"{np.sum(~fine)} of {ours.size} entries, by {error.max():.3g}"


def compare_step(step, ours, theirs):
    """Yield (where, what) for the differences between two outcomes of one call."""
    if "not built" in ours or "not built" in theirs:
        if ("not built" in ours) != ("not built" in theirs):
            yield "arguments", "can be made on one side only"
        return
    if ours["changed"]:
        yield "our arguments", "were changed"
    if theirs["changed"]:
        yield "their arguments", "were changed"
    if ("error" in ours) != ("error" in theirs):
        yield "error", "on one side only"
        return
    if ours["warnings"] != theirs["warnings"]:
        yield "warnings", f"{ours['warnings']} and {theirs['warnings']}"
    if "error" in ours:
        kind = theirs["error"]["kinds"][0]
        if kind not in ours["error"]["kinds"]:
            yield "kind of error", f"{ours['error']['kinds'][0]} and {kind}"
        return
    if "invalid" in ours:
        yield "result", f"is not valid: {ours['invalid']['text']}"
    if ours["is argument"] != theirs["is argument"]:
        yield "identity", f"{ours['is argument']} and {theirs['is argument']}"
    if step["function"].startswith(("empty_like", "random_uniform_like")):
        for part in (ours, theirs):
            forget_values(part["result"])
    least = precision(ours["given"])
    tolerance = {2: 0.01, 4: 1e-5}.get(least, 1e-12)
    if step["function"] in ("lstsq", "solve"):
        tolerance *= 1000
    yield from differences(ours["result"], theirs["result"], tolerance, "result")


def precision(data):
    """Return the size of the shortest inexact numbers, in bytes."""
    if isinstance(data, dict):
        data = list(data.values())
    if isinstance(data, (list, tuple)):
        return min(map(precision, data), default=8)
    inexact = isinstance(data, np.ndarray) and data.dtype.kind in "fc"
    return data.real.dtype.itemsize if inexact else 8


def forget_values(data):
    for part in data.get("blocks", [data]):
        part["values"] = np.zeros(part["values"].shape, part["values"].dtype)
        for gradient in part["gradients"].values():
            forget_values(gradient)


# ---- the report


class Report:
    def __init__(self, seed, library):
        self.seed = seed
        self.library = library
        self.calls = {}
        self.reasons = {}
        self.unexplained = []

    def count(self, function, what):
        row = self.calls.setdefault(function, dict.fromkeys(COLUMNS, 0))
        row["calls"] += 1
        row[what] += 1

    def add(self, case, ours, theirs):
        for number, (step, one, other) in enumerate(zip(case["steps"], ours, theirs)):
            function = step["function"]
            if "missing" in one or "missing" in other:
                self.count(function, "missing")
                return
            found = list(compare_step(step, one, other))
            if self.library != "numpy":  # which can not hold all dtypes, and warns in its own way
                found = [what for what in found if what[0] not in ("arguments", "warnings")]
            if "result" in one:
                found += check(step, one)
            reasons = [explain(step, one, other, *difference) for difference in found]
            unexplained = [what for what, reason in zip(found, reasons) if reason is None]
            for reason in {reason for reason in reasons if reason is not None}:
                row = self.reasons.setdefault(reason, {})
                row[function] = row.get(function, 0) + 1
            what = "unexplained" if unexplained else "explained" if found else "equal"
            if not found and "error" in one:
                what = "both raise"
            self.count(function, "not built" if "not built" in one else what)
            if unexplained:
                self.unexplained.append((case["number"], number, step, one, other, unexplained))
            if any("/info" not in where for where, _ in found):
                return  # later steps have other arguments

    def text(self, limit=None):
        lines = [f"seed {self.seed}", "", f"{'function':32}" + "".join(f"{c:>12}" for c in COLUMNS)]
        for function, row in sorted(self.calls.items()):
            lines.append(f"{function:32}" + "".join(f"{row[c]:12}" for c in COLUMNS))
        total = [sum(row[c] for row in self.calls.values()) for c in COLUMNS]
        lines += [f"{'all':32}" + "".join(f"{count:12}" for count in total), "", "Expected:"]
        for reason, row in sorted(self.reasons.items()):
            lines.append(f"{sum(row.values()):6}  {reason}")
            lines.append(f"        {', '.join(f'{f} {n}' for f, n in sorted(row.items()))}")
        lines += ["", f"Not explained: {len(self.unexplained)}"]
        for number, position, step, ours, theirs, found in self.unexplained[:limit]:
            lines += ["", f"case {number} (--seed {self.seed} --only {number}), step {position}: "]
            lines[-1] += step["function"]
            lines += [f"    {where}: {what}" for where, what in found]
            for side, outcome in (("ours", ours), ("theirs", theirs)):
                if "error" in outcome:
                    error = outcome["error"]
                    lines.append(f"    {side}: {error['kinds'][0]}: {error['text']}")
        return "\n".join(lines)


COLUMNS = ["calls", "equal", "both raise", "explained", "unexplained", "not built", "missing"]


def run_both(cases, upstream, name="numpy"):
    """Return the outcomes of all cases here, and with the interpreter `upstream`."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / part for part in ("cases", "ours", "theirs")]
        paths[0].write_bytes(pickle.dumps(cases))
        environment = os.environ | {"JAX_ENABLE_X64": "1"}
        for python, path in zip((sys.executable, upstream), paths[1:]):
            command = [python, str(Path(__file__).resolve()), "--run", str(paths[0]), str(path)]
            command += [name] if path is paths[1] else []
            subprocess.run(command, check=True, cwd=folder, env=environment)
        return [pickle.loads(path.read_bytes()) for path in paths[1:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", nargs="+", metavar=("CASES", "RESULTS"))
    parser.add_argument("--upstream", help="interpreter that has the package with a core in Rust")
    parser.add_argument("--library", default="numpy", help="array library of values here")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the cases to run")
    parser.add_argument("--show", type=int, help="how many differences to print in full")
    options = parser.parse_args()
    if options.run:
        return run(*options.run)

    numbers = range(options.cases) if options.only is None else options.only
    cases = [differential_cases.case(options.seed, number) for number in numbers]
    if options.library != "numpy":
        forget_layouts(cases)
    report = Report(options.seed, options.library)
    for case, ours, theirs in zip(
        cases, *run_both(copy.deepcopy(cases), options.upstream, options.library)
    ):
        if options.only is not None:
            show(case, ours, theirs)
        report.add(case, ours, theirs)
    print(report.text(options.show))
    missing = any(row["missing"] for row in report.calls.values())
    return bool(report.unexplained or missing)


def forget_layouts(data):
    if isinstance(data, dict):
        data.pop("layout", None)
        data = list(data.values())
    if isinstance(data, (list, tuple)):
        for part in data:
            forget_layouts(part)


def show(case, ours, theirs):
    for step, one, other in zip(case["steps"], ours, theirs):
        print(
            f"{step['function']}\n\narguments: {one.get('given')}\nkeywords: {list(step['kwargs'])}"
        )
        print(f"\nours: {without(one)}\n\ntheirs: {without(other)}\n")


def without(outcome):
    return {key: value for key, value in outcome.items() if key != "given"}


if __name__ == "__main__":
    sys.exit(main())
