"""Time the same workloads in two environments, alternately, and print ratios of medians.

Ours is the interpreter that runs this file. The other one holds the Rust-core package
("upstream"); it is created on first use and kept in the user's cache. For each workload and size
one worker process per package makes the same seeded data; the two are then timed in turns, one
thread each, in CPU time, and their results are compared::

    python benchmarks/compare.py --only labels.create --only io --sizes S M
"""

import argparse
import contextlib
import fnmatch
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

UPSTREAM = ["metatensor-core==0.2.6", "metatensor-operations==0.5.0", "metatensor-learn==0.6.2"]
UPSTREAM_OF_TORCH = "metatensor-torch==0.10.8"
SIZES = ["S", "M", "L", "XL"]
ONE_THREAD = dict.fromkeys(
    ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"], "1"
)
# With --keep-pages, memory that was freed stays mapped on both sides. By default it depends on what
# else lives at the end of the heap whether the next result has to pay for new pages, which take
# longer to get than to fill. What the user has set counts.
KEEP_PAGES = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
WORKER = Path(__file__).resolve().with_name("worker.py")


class Worker:
    """A process that prepares and times one case in one of the environments."""

    def __init__(self, python: str):
        # run elsewhere: the source tree must not be taken for the installed package
        self.process = subprocess.Popen(
            [python, str(WORKER)],
            cwd=tempfile.gettempdir(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**KEEP_PAGES, **os.environ, **ONE_THREAD},
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request and wait for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker of {self.process.args[0]} ended, asked for {request}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{request} in {self.process.args[0]}:\n{answer['error']}")
        return answer

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def cache_folder() -> Path:
    """Where the environment of the other package is kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "metatensor-benchmarks" / "-".join(UPSTREAM).replace("==", "-")


def make_upstream(folder: Path, torch: str | None) -> str:
    """Create the other environment, unless it is there, and return its interpreter."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = [*UPSTREAM, *([f"torch=={torch}", UPSTREAM_OF_TORCH] if torch else [])]
    ready = folder / "ready"
    if not ready.exists() or ready.read_text() != " ".join(wanted):
        print(f"creating an environment with {', '.join(wanted)} in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        ready.write_text(" ".join(wanted))
    return str(python)


@contextlib.contextmanager
def worker_pair(pythons: dict[str, str]) -> Iterator[dict[str, Worker]]:
    """Start a worker on each side."""
    with Worker(pythons["ours"]) as ours, Worker(pythons["upstream"]) as upstream:
        yield {"ours": ours, "upstream": upstream}


def compare(workers: dict[str, Worker], name: str, size: str, options: Any) -> dict[str, Any]:
    """Time one case on both sides in turns."""
    request = {"name": name, "size": size, "seconds": options.seconds}
    prepared = {side: worker.ask(do="prepare", **request) for side, worker in workers.items()}
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in workers}
    for _ in range(options.rounds):
        for side, worker in workers.items():
            runs[side].append(worker.ask(do="run"))
    case: dict[str, Any] = {"name": name, "size": size}
    for side, answers in runs.items():
        seconds = [answer["seconds"] for answer in answers]
        case[side] = {
            "median": statistics.median(seconds),
            "best": min(seconds),
            "first": prepared[side]["first"],
            "calls": prepared[side]["number"],
            "peak_memory": max(answer["peak"] for answer in answers),
            "seconds": seconds,
        }
    case["ratio"] = case["upstream"]["median"] / case["ours"]["median"]
    case["best_ratio"] = case["upstream"]["best"] / case["ours"]["best"]
    case["same"] = same(*(answer["fingerprint"] for answer in prepared.values()))
    return case


def same(first: tuple[str, list[float]], second: tuple[str, list[float]]) -> bool:
    """Whether two results agree: in all that is exact, and but for rounding in the rest."""
    return first[0] == second[0] and all(
        math.isclose(*pair, rel_tol=1e-9) for pair in zip(first[1], second[1], strict=True)
    )


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, scale in [("s", 1.0), ("ms", 1e-3), ("us", 1e-6)]:
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def times(ratio: float) -> str:
    """Three digits, or all before the point."""
    return f"{ratio:.0f}x" if ratio >= 100 else f"{ratio:.3g}x"


HEADER = (
    f"{'workload':<42}{'size':<5}{'ours':>10}{'upstream':>10}{'ratio':>9}{'best':>9}{'target':>9}"
)


def line(case: dict[str, Any]) -> str:
    """One row of the table; marks what misses its target and what is not the same."""
    target = case["target"]
    missed = target is not None and case["ratio"] < target and len(case["ours"]["seconds"]) > 1
    notes = "  misses its target" if missed else ""
    notes += "" if case["same"] else "  RESULTS DIFFER"
    return (
        f"{case['name']:<42}{case['size']:<5}"
        f"{duration(case['ours']['median']):>10}{duration(case['upstream']['median']):>10}"
        f"{times(case['ratio']):>9}{times(case['best_ratio']):>9}"
        f"{'' if target is None else times(target):>9}{notes}"
    )


def chosen(workloads: dict[str, dict[str, float | None]], options: Any) -> list[tuple[str, str]]:
    """Names and sizes of the cases to run."""
    return [
        (name, size)
        for name, targets in workloads.items()
        if not options.only or any(fnmatch.fnmatch(name, f"{only}*") for only in options.only)
        for size in SIZES
        if size in targets and size in options.sizes
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="beginnings or patterns of names"
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=SIZES)
    parser.add_argument("--rounds", type=int, default=11, help="measurements per side (11)")
    parser.add_argument(
        "--seconds", type=float, default=0.01, help="least CPU time of one measurement (0.01)"
    )
    parser.add_argument("--smoke", action="store_true", help="size S, one call: only that it works")
    parser.add_argument("--upstream-python", help="an interpreter that has the other package")
    parser.add_argument(
        "--environment", type=Path, default=cache_folder(), help="where to create it"
    )
    parser.add_argument("--torch", metavar="VERSION", help="install torch too, and what is for it")
    parser.add_argument("--output", type=Path, help="write all figures to this file, as JSON")
    parser.add_argument(
        "--keep-pages",
        action="store_true",
        help="keep freed memory mapped, against glibc's default",
    )
    parser.add_argument("--list", action="store_true", help="print the names of the workloads")
    options = parser.parse_args()
    if not options.keep_pages:
        KEEP_PAGES.clear()
    if options.smoke:
        options.sizes, options.rounds, options.seconds = ["S"], 1, 0.0
    return options


def run(pythons: dict[str, str], cases: list[tuple[str, str]], options: Any, targets: Any) -> list:
    """Run all cases and print their rows; a case that failed has its error in place of figures."""
    results: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        # fresh processes for each case: memory that one leaks or maps must not tell on the next
        shared = stack.enter_context(worker_pair(pythons)) if options.smoke else None
        for name, size in cases:
            try:
                with contextlib.nullcontext(shared) if shared else worker_pair(pythons) as workers:
                    case = compare(workers, name, size, options)
            except RuntimeError as error:
                results.append({"name": name, "size": size, "error": str(error)})
                print(f"{name:<42}{size:<5}FAILED\n{error}", flush=True)
            else:
                results.append({**case, "target": targets[name][size]})
                print(line(results[-1]), flush=True)
    return results


def main() -> int:
    options = arguments()
    with Worker(sys.executable) as worker:
        ours = worker.ask(do="describe")
    if options.list:
        cases = chosen(ours["workloads"], options)
        print("\n".join(f"{name} {size}" for name, size in cases))
        return 0
    upstream_python = options.upstream_python or make_upstream(options.environment, options.torch)
    with Worker(upstream_python) as worker:
        upstream = worker.ask(do="describe")
    wanted = chosen(ours["workloads"], options)
    cases = [(name, size) for name, size in wanted if name in upstream["workloads"]]
    if left_out := dict.fromkeys(name for name, _ in wanted if name not in upstream["workloads"]):
        print(f"left out, as the other side lacks what they need: {', '.join(left_out)}")
    print(f"ours:     {ours['versions']}\nupstream: {upstream['versions']}\n{HEADER}")
    pythons = {"ours": sys.executable, "upstream": upstream_python}
    results = run(pythons, cases, options, ours["workloads"])
    if options.output:
        versions = {"ours": ours["versions"], "upstream": upstream["versions"]}
        options.output.write_text(json.dumps({"versions": versions, "cases": results}, indent=1))
    failed = [f"{case['name']} {case['size']}" for case in results if not case.get("same")]
    if failed:
        print(f"failed, or not the same results: {', '.join(failed)}")
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
