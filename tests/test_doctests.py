"""Examples of the public classes.

Their `__module__` is "metatensor", so that doctest collection by module finds the examples of
the classes but not those of their methods.
"""

import doctest
import sys

import numpy as np
import pytest

import metatensor
from metatensor import Labels, LabelsEntry, TensorBlock, TensorMap

PLACES = {Labels: "labels", LabelsEntry: "labels", TensorBlock: "block", TensorMap: "tensor"}
NAMES = {"np": np, **{kind.__name__: kind for kind in PLACES}}


def examples():
    for kind, place in PLACES.items():
        module = sys.modules[f"{metatensor.__name__}.{place}"]
        finder = doctest.DocTestFinder(exclude_empty=True)
        for test in finder.find(kind, f"metatensor.{kind.__name__}", module=module, globs=NAMES):
            if test.examples:
                yield pytest.param(test, id=test.name)


@pytest.mark.parametrize("test", list(examples()))
def test_example(test):
    report = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)
