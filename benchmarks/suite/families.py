"""One benchmark per family of workloads, over its names and sizes, timed as in ``compare.py``."""

import os
import statistics

import worker
from workloads import WORKLOADS

# the large sizes take long: ask for them with METATENSOR_BENCHMARK_SIZES="S M L XL"
SIZES = os.environ.get("METATENSOR_BENCHMARK_SIZES", "S M").split()
SECONDS = 0.01


class _Family:
    unit = "s"
    timeout = 300
    param_names = ("workload",)
    rounds = 7

    def __init_subclass__(cls, family: str | tuple[str, ...]) -> None:
        cls.params = [
            f"{name} {size}"
            for name, known in WORKLOADS.items()
            if name.startswith(family)
            for size in SIZES
            if size in known.targets
        ]

    def setup(self, case: str) -> None:
        name, self.size = case.split()
        self.case, prepared = worker.prepare(name, self.size, SECONDS)
        self.number = prepared["number"]

    def track_cpu_time(self, case: str) -> float:
        times = [worker.measure(self.case, self.size, self.number) for _ in range(self.rounds)]
        return statistics.median(times)


class Import(_Family, family="import"):
    pass


class Labels(_Family, family="labels."):
    pass


class Blocks(_Family, family="block."):
    pass


class Maps(_Family, family="map."):
    pass


class Joins(_Family, family="move."):
    pass


class Files(_Family, family="io."):
    pass


class Elementwise(_Family, family=("ops.add", "ops.multiply", "ops.pow", "ops.exp", "ops.clip")):
    pass


class LinearAlgebra(_Family, family=("ops.dot", "ops.einsum")):
    pass


class Reductions(_Family, family=("ops.sum", "ops.mean", "ops.std", "ops.max", "ops.norm")):
    pass


class Joining(_Family, family="ops.join"):
    pass


class Selection(_Family, family=("ops.slice", "ops.split", "ops.filter", "ops.drop", "ops.sort")):
    pass


class Comparison(_Family, family=("ops.equal", "ops.allclose")):
    pass


class Creation(_Family, family=("ops.zeros_like", "ops.one_hot")):
    pass


class Dimensions(_Family, family=("ops.unique_metadata", "ops.append", "ops.rename")):
    pass


class Learn(_Family, family="learn"):
    pass
