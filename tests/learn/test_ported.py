"""Programs written for the Rust-core package run unchanged; it has an interpreter of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.py"))
UPSTREAM = os.environ.get("METATENSOR_UPSTREAM_PYTHON")


def output_of(python, *arguments):
    command = [python, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("python", [sys.executable, UPSTREAM], ids=["ours", "theirs"])
def test_output(script, python):
    if python is None:
        pytest.skip("METATENSOR_UPSTREAM_PYTHON names no interpreter with metatensor-learn")
    if python == UPSTREAM and output_of(python, "-c", "import metatensor.learn.data").returncode:
        pytest.skip("the interpreter that METATENSOR_UPSTREAM_PYTHON names has no metatensor-learn")
    done = output_of(python, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == script.with_suffix(".txt").read_text()
