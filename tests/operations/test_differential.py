"""Random calls give the same as with the Rust-core package, which has an interpreter of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("differential.py")
UPSTREAM = os.environ.get("METATENSOR_UPSTREAM_PYTHON")


@pytest.mark.skipif(
    not UPSTREAM, reason="METATENSOR_UPSTREAM_PYTHON names no interpreter with metatensor-core"
)
def test_all_differences_are_expected(tmp_path):
    command = [sys.executable, str(SCRIPT), "--upstream", UPSTREAM, "--cases", "1500"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
