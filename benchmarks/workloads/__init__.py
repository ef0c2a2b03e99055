"""The workloads that are timed, each written once against the module ``metatensor``.

A workload is a function of a size that prepares its data and returns a :class:`registry.Case`.
Nothing here may use what only one of the compared packages has: one text runs in both environments.
"""

from workloads import blocks, files, labels, moves
from workloads.registry import WORKLOADS

__all__ = ["WORKLOADS", "blocks", "files", "labels", "moves"]
