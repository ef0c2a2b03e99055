"""The workloads that are timed, each written once against the module ``metatensor``.

A workload is a function of a size that prepares its data and returns a :class:`registry.Case`.
One text runs in both environments: what only one of the compared packages has is registered only
where it is, and not compared.
"""

from workloads import blocks, files, labels, learning, moves, operations
from workloads.registry import WORKLOADS

__all__ = ["WORKLOADS", "blocks", "files", "labels", "learning", "moves", "operations"]
