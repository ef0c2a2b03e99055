"""Files are exchanged with the Rust-core package, which has an interpreter of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from metatensor.io import mts

SCRIPT = Path(__file__).with_name("exchange.py")
UPSTREAM = os.environ.get("METATENSOR_UPSTREAM_PYTHON")
NEEDS_UPSTREAM = pytest.mark.skipif(
    not UPSTREAM, reason="METATENSOR_UPSTREAM_PYTHON names no interpreter with metatensor-core"
)
OURS = sys.executable
WAYS = [
    pytest.param(OURS, "write", OURS, id="ours to ours"),
    pytest.param(OURS, "write", UPSTREAM, id="ours to upstream", marks=NEEDS_UPSTREAM),
    pytest.param(UPSTREAM, "write", OURS, id="upstream to ours", marks=NEEDS_UPSTREAM),
    pytest.param(
        UPSTREAM, "write-numpy", OURS, id="its numpy writer to ours", marks=NEEDS_UPSTREAM
    ),
]


def run(python, command, folder):
    done = subprocess.run(
        [python, str(SCRIPT), command, str(folder)], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize(("writer", "command", "reader"), WAYS)
def test_what_one_writes_the_other_reads(writer, command, reader, tmp_path):
    count = run(writer, command, tmp_path)
    assert run(reader, "check", tmp_path) == count == len(list(tmp_path.iterdir()))


@NEEDS_UPSTREAM
def test_files_without_large_arrays_are_the_same_bytes(tmp_path):
    folders = tmp_path / "ours", tmp_path / "theirs"
    for python, folder in zip((OURS, UPSTREAM), folders):
        folder.mkdir()
        run(python, "write", folder)
    different = {
        path.stem
        for path in folders[0].iterdir()
        if path.read_bytes() != (folders[1] / path.name).read_bytes()
    }
    # these have arrays of 4 KiB and more inside of an archive, which are aligned
    assert different == {"map-large", "block-large"}


@NEEDS_UPSTREAM
def test_upstream_reads_what_is_written_again(tmp_path):
    """Their file, read and written by us, is still what they wrote."""
    run(UPSTREAM, "write", tmp_path)
    for path in tmp_path.glob("map-*.mts"):
        mts.save(path, mts.load(path))
    run(UPSTREAM, "check", tmp_path)
