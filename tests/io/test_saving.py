"""A file is written as a whole or not at all."""

import errno
import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from metatensor import Labels, MetatensorError, TensorBlock, TensorMap
from metatensor.io import _files, mts
from metatensor.testing import assert_equal

ON_POSIX = pytest.mark.skipif(os.name != "posix", reason="needs signals and modes of POSIX")


def tensor(fill, n_blocks=3, n_samples=40):
    one = Labels.single()
    blocks = [
        TensorBlock(
            np.full((n_samples, 1000), fill),
            Labels.range("s", n_samples),
            [],
            Labels.range("p", 1000),
        )
        for _ in range(n_blocks)
    ]
    return TensorMap(Labels.range("k", n_blocks), blocks) if n_blocks else TensorMap(one, [])


@pytest.fixture
def path(tmp_path):
    """A file with a map of ones."""
    mts.save(tmp_path / "data.mts", tensor(1.0))
    return tmp_path / "data.mts"


def assert_old(path):
    assert_equal(mts.load(path), tensor(1.0))
    assert [file.name for file in path.parent.iterdir()] == ["data.mts"]


class Unwritable:
    """Values that fail when they are asked for in the middle of saving."""

    shape = (40, 1000)
    dtype = np.dtype("f8")

    def __init__(self, error):
        self.error = error

    def __array__(self, *args, **kwargs):
        raise self.error


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), KeyboardInterrupt(), MemoryError(), SystemExit()]
)
def test_an_exception_in_the_middle(path, error):
    data = tensor(2.0)
    data[1]._values = Unwritable(error)
    with pytest.raises(type(error)):
        mts.save(path, data)
    assert_old(path)


@pytest.mark.parametrize("values", [np.zeros((1, 1), np.longdouble), np.zeros((1, 1), "O")])
def test_values_that_files_can_not_have(path, values):
    if values.dtype.itemsize == 8 and values.dtype.kind == "f":
        pytest.skip("here a long double is a double")
    with pytest.raises(MetatensorError, match="can not be saved"):
        mts.save(path, TensorBlock(values, Labels.single(), [], Labels.single()))
    assert_old(path)


def test_names_that_files_can_not_have(path):
    block = TensorBlock(np.zeros((1, 1)), Labels.single(), [], Labels.single())
    gradient = TensorBlock(np.zeros((1, 1)), Labels.range("sample", 1), [], Labels.single())
    for name, message in [("a/b", "'/'"), ("\ud800", "surrogates"), ("x" * 70000, "65535 bytes")]:
        data = block.copy()
        data.add_gradient(name, gradient)
        with pytest.raises(MetatensorError, match=message):
            mts.save(path, data)
    data = TensorMap(Labels.single(), [block])
    data.set_info("a", "\udfff")
    with pytest.raises(MetatensorError, match="surrogates"):
        mts.save(path, data)
    assert_old(path)


def test_too_deep_gradients(path):
    block = TensorBlock(np.zeros((1, 1)), Labels.range("sample", 1), [], Labels.single())
    for _ in range(65):
        outer = TensorBlock(np.zeros((1, 1)), Labels.range("sample", 1), [], Labels.single())
        outer.add_gradient("g", block)
        block = outer
    with pytest.raises(MetatensorError, match="64 times"):
        mts.save(path, block)
    assert_equal(mts.load_block_buffer(mts.save_buffer(block.gradient("g"))), block.gradient("g"))
    assert_old(path)


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "chmod"])
def test_an_error_of_the_system(path, call, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_files.os, call, fail)
    with pytest.raises(MetatensorError, match=r"io error: No space left on device: .*data\.mts'$"):
        mts.save(path, tensor(2.0))
    with pytest.raises(OSError, match="No space left on device"):
        mts.save(path, tensor(2.0), use_numpy=True)
    monkeypatch.undo()
    assert_old(path)


def test_pieces_that_are_written_in_part(path, monkeypatch):
    write = os.write
    monkeypatch.setattr(_files.os, "write", lambda fd, data: write(fd, data[: len(data) // 2 + 1]))
    mts.save(path, tensor(2.0))
    monkeypatch.undo()
    assert_equal(mts.load(path), tensor(2.0))


LIMITED = """
import resource, sys
import numpy as np
from metatensor import Labels, MetatensorError, TensorBlock
from metatensor.io import mts
data = TensorBlock(np.zeros((1000, 1000)), Labels.range("s", 1000), [], Labels.range("p", 1000))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    mts.save(sys.argv[1], data)
except MetatensorError as error:
    print(error)
"""


@ON_POSIX
def test_a_file_that_would_be_too_large(path):
    done = subprocess.run(
        [sys.executable, "-I", "-c", LIMITED, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("io error: ")
    assert_old(path)


SAVING = """
import sys
import numpy as np
from metatensor import Labels, TensorBlock
from metatensor.io import mts
blocks = [
    TensorBlock(np.full((300, 1000), fill), Labels.range("s", 300), [], Labels.range("p", 1000))
    for fill in (1.0, 2.0)
]
mts.save(sys.argv[1], blocks[0])
print("ready", flush=True)
while True:
    for block in blocks:
        mts.save(sys.argv[1], block)
"""


@ON_POSIX
def test_a_process_that_is_killed(tmp_path):
    """Whenever it dies, there is one whole file, the old one or the new one."""
    random = np.random.default_rng(0)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", SAVING, str(tmp_path / "data.mts")], stdout=subprocess.PIPE
        )
        assert process.stdout.readline() == b"ready\n"
        time.sleep(random.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        values = mts.load_block(tmp_path / "data.mts").values
        assert values.shape == (300, 1000)
        assert (values == values[0, 0]).all()


# ---- paths


@pytest.mark.parametrize("name", ["data", "data.npz", "data.MTS", "data.mts.", "mts"])
def test_the_suffix_is_added_with_a_warning(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for data in (Labels.single(), tensor(1.0), tensor(1.0)[0]):
        with pytest.warns(UserWarning, match=f"adding '.mts' extension, .* at '{name}.mts'"):
            mts.save(name, data)
    assert [file.name for file in tmp_path.iterdir()] == [name + ".mts"]


@pytest.mark.parametrize("name", [".mts", "data.mts", "a.npz.mts"])
def test_the_suffix_is_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mts.save(name, Labels.single())
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_use_numpy_takes_the_path_as_it_is(tmp_path):
    mts.save(tmp_path / "data", tensor(1.0), use_numpy=True)
    assert_equal(mts.load(tmp_path / "data", use_numpy=True), tensor(1.0))
    with pytest.raises(FileNotFoundError):
        mts.load(tmp_path / "nothing.mts", use_numpy=True)
    with pytest.raises(FileNotFoundError):
        mts.save(tmp_path / "nothing" / "data.mts", tensor(1.0), use_numpy=True)


def test_paths_that_lead_nowhere(tmp_path):
    for load in (mts.load, mts.load_block, mts.load_labels):
        with pytest.raises(MetatensorError, match=r"io error: .*nothing\.mts"):
            load(tmp_path / "nothing.mts")
        with pytest.raises(MetatensorError, match="io error: "):
            load(tmp_path)
    with pytest.raises(MetatensorError, match=r"io error: .*no.folder.data\.mts'$"):
        mts.save(tmp_path / "no folder" / "data.mts", tensor(1.0))
    (tmp_path / "folder.mts").mkdir()
    with pytest.raises(MetatensorError, match="io error: "):
        mts.save(tmp_path / "folder.mts", tensor(1.0))


@ON_POSIX
def test_the_file_behind_a_link_is_replaced(path, tmp_path):
    (tmp_path / "link.mts").symlink_to(path)
    mts.save(tmp_path / "link.mts", tensor(2.0))
    assert (tmp_path / "link.mts").is_symlink()
    assert_equal(mts.load(path), tensor(2.0))


@ON_POSIX
def test_modes_of_files(path, tmp_path):
    path.chmod(0o640)
    mts.save(path, tensor(2.0))
    assert path.stat().st_mode & 0o777 == 0o640
    old = os.umask(0o027)
    mts.save(tmp_path / "new.mts", tensor(2.0))
    os.umask(old)
    assert (tmp_path / "new.mts").stat().st_mode & 0o777 == 0o640


def test_a_file_that_is_protected(path, monkeypatch):
    monkeypatch.setattr(_files.os, "access", lambda *args: False)
    with pytest.raises(MetatensorError, match="io error: .*can not be written"):
        mts.save(path, tensor(2.0))
    monkeypatch.undo()
    assert_old(path)


@ON_POSIX
def test_what_is_no_file_is_written_to(tmp_path):
    mts.save(os.devnull, tensor(1.0), use_numpy=True)
    assert not os.path.isfile(os.devnull)
    os.mkfifo(tmp_path / "pipe.mts")
    code = "import sys; from metatensor import *; Labels.range('a', 9).save(sys.argv[1])"
    command = [sys.executable, "-I", "-c", code, str(tmp_path / "pipe.mts")]
    with subprocess.Popen(command) as process:
        assert_equal(mts.load_labels(tmp_path / "pipe.mts"), Labels.range("a", 9))
    assert process.returncode == 0


# ---- file objects


class Partial(io.RawIOBase):
    """A raw stream that takes at most a thousand bytes at a time."""

    def __init__(self):
        self.content = b""

    def writable(self):
        return True

    def write(self, data):
        self.content += bytes(data[:1000])
        return min(len(data), 1000)


class Collecting:
    """Anything with a method `write`; keeps what it is given."""

    def __init__(self):
        self.pieces = []

    def write(self, data):
        assert type(data) is bytes
        self.pieces.append(data)


@pytest.mark.parametrize("n_samples", [1, 40])
def test_file_objects(n_samples, tmp_path):
    data = tensor(1.0, n_samples=n_samples)
    expected = bytes(mts.save_buffer(data))
    partial, collecting, memory = Partial(), Collecting(), io.BytesIO()
    for file in (partial, collecting, memory):
        mts.save(file, data)
    assert partial.content == b"".join(collecting.pieces) == memory.getvalue() == expected
    with open(tmp_path / "data", "wb") as file:
        file.write(b"in front")
        mts.save(file, data)
    assert (tmp_path / "data").read_bytes() == b"in front" + expected


def test_what_is_no_binary_file():
    with pytest.raises(TypeError):
        mts.save(io.StringIO(), Labels.single())
    with pytest.raises(TypeError, match="`file` must be a path or a file object, got int"):
        mts.save(3, Labels.single())
    with pytest.raises(
        TypeError, match="'Labels', 'TensorBlock' or 'TensorMap', not <class 'int'>"
    ):
        mts.save("data.mts", 3)


def test_exceptions_of_file_objects_come_through():
    class Failing:
        def write(self, data):
            raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        mts.save(Failing(), tensor(1.0))
