"""Programs written for the Rust-core package run unchanged; it has an interpreter of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

TESTS = Path(__file__).parents[1]
#: what a script needs of the other package, by folder
NEEDED = {"learn": "metatensor.learn.data", "torch": "metatensor.torch"}
SCRIPTS = [path for folder in NEEDED for path in sorted((TESTS / folder / "scripts").glob("*.py"))]
UPSTREAM = os.environ.get("METATENSOR_UPSTREAM_PYTHON")


def output_of(python, *arguments):
    command = [python, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("python", [sys.executable, UPSTREAM], ids=["ours", "theirs"])
def test_output(script, python):
    if python is None:
        pytest.skip("METATENSOR_UPSTREAM_PYTHON names no interpreter of the other package")
    needed = NEEDED[script.parents[1].name]
    if python == UPSTREAM and output_of(python, "-c", f"import {needed}").returncode:
        pytest.skip(f"the interpreter that METATENSOR_UPSTREAM_PYTHON names has no {needed}")
    done = output_of(python, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == script.with_suffix(".txt").read_text()
