"""Memory that other languages have allocated, as values of blocks: shared, and freed once."""

import ctypes
import gc
import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import metatensor
from metatensor import Labels, TensorBlock

INCLUDE = Path(metatensor.__file__).parent / "include"
EXAMPLE = Path(__file__).parents[1] / "examples" / "c" / "pair_sums.c"
WARNINGS = ["-Wall", "-Wextra", "-pedantic", "-Werror"]


# ---- a producer in C


def compiled(compiler, source, output, *options):
    """Compile with warnings as errors."""
    command = [compiler, *WARNINGS, f"-I{INCLUDE}", *options, str(source), "-o", str(output)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def a_compiler(*names):
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None or sys.platform == "win32":
        pytest.skip(f"there is no compiler {names}")
    return found


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (("cc", "gcc", "clang"), ("-std=c99",)),
        (("cc", "gcc", "clang"), ("-std=c11",)),
        (("c++", "g++", "clang++"), ("-x", "c++", "-std=c++11")),
    ],
    ids=["C99", "C11", "C++11"],
)
def test_the_header_alone(names, options, tmp_path):
    """What it defines lies in memory as DLPack 1 says."""
    compiler = a_compiler(*names)
    source = tmp_path / "layout.c"
    source.write_text("""
        #include "metatensor_dlpack.h"
        #include "metatensor_dlpack.h"
        #include <stddef.h>
        #include <stdio.h>
        int main(void)
        {
            printf("%d %d %d %d\\n", (int)sizeof(DLTensor), (int)sizeof(DLManagedTensor),
                   (int)sizeof(DLManagedTensorVersioned), (int)sizeof(DLDataType));
            printf("%d %d %d %d %d\\n", (int)offsetof(DLTensor, dtype),
                   (int)offsetof(DLTensor, shape), (int)offsetof(DLTensor, byte_offset),
                   (int)offsetof(DLManagedTensor, deleter),
                   (int)offsetof(DLManagedTensorVersioned, dl_tensor));
            return 0;
        }
    """)
    compiled(compiler, source, tmp_path / "layout", *options)
    run = subprocess.run([tmp_path / "layout"], capture_output=True, text=True, check=True)
    sizes = [ctypes.sizeof(kind) for kind in (Tensor, Legacy, Versioned, DataType)]
    offsets = [Tensor.dtype, Tensor.shape, Tensor.byte_offset, Legacy.deleter, Versioned.tensor]
    expected = [*sizes, *[field.offset for field in offsets]]
    assert list(map(int, run.stdout.split())) == expected


@pytest.fixture(scope="session")
def module(tmp_path_factory):
    """The example, as the text at its beginning says that it is compiled."""
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").exists():
        pytest.skip("the headers of Python are not installed")
    compiler = a_compiler("cc", "gcc", "clang")
    library = tmp_path_factory.mktemp("c") / "pair_sums.so"
    options = ["-std=c11", "-O2", "-fPIC", "-shared", "-isystem", str(headers)]
    options += ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    compiled(compiler, EXAMPLE, library, *options, "-Wno-missing-field-initializers")
    spec = importlib.util.spec_from_file_location("pair_sums", library)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


# ---- a producer as one in Rust would be: structures and a deleter, nothing of Python


class Device(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("number", ctypes.c_int32)]


class DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", Device),
        ("ndim", ctypes.c_int32),
        ("dtype", DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Legacy(ctypes.Structure):
    _fields_ = [("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", Deleter)]


class Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    ]


api = ctypes.pythonapi
api.PyCapsule_New.restype = ctypes.py_object
api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
capsule_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", api)
)
capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", api)
)

#: what capsules point to lives here until its deleter is called, by address
ALIVE = {}
DELETED = []
CODES = {"i": 0, "u": 1, "f": 2, "V": 4, "c": 5, "b": 6}


@Deleter
def delete(address):
    DELETED.append(address)
    del ALIVE[address]  # a second call for one address fails here


def delete_if_unused(capsule):
    """Call the deleter of a capsule, given by address, that nobody took the tensor out of."""
    for name, kind in ((b"dltensor", Legacy), (b"dltensor_versioned", Versioned)):
        if capsule_is_valid(capsule, name):
            managed = capsule_pointer(capsule, name)
            kind.from_address(managed).deleter(managed)


# this one is written in Python, which can not run while an exception is on its way
destroy = Destructor(delete_if_unused)


class Owner:
    """Has memory, and exports it."""

    def __init__(self, values, flags=0, keeps=False):
        self.values, self.flags = values, flags
        self.asked, self.capsules = [], [] if keeps else None

    def __dlpack_device__(self):
        return 1, 0

    def __dlpack__(self, *, max_version=None, **others):
        self.asked.append(max_version)
        versioned = max_version is not None and max_version[0] >= 1
        managed = Versioned(major=1, minor=0) if versioned else Legacy()
        if versioned:
            managed.flags = self.flags
        ndim, itemsize = self.values.ndim, self.values.itemsize
        shape = (ctypes.c_int64 * ndim)(*self.values.shape)
        strides = (ctypes.c_int64 * ndim)(*[n // itemsize for n in self.values.strides])
        managed.tensor = Tensor(
            data=self.values.__array_interface__["data"][0],
            device=Device(1, 0),
            ndim=ndim,
            dtype=DataType(CODES[self.values.dtype.kind], 8 * itemsize, 1),
            shape=shape,
            strides=strides,
        )
        managed.deleter = delete
        address = ctypes.addressof(managed)
        ALIVE[address] = (managed, shape, strides, self.values)
        name = b"dltensor_versioned" if versioned else b"dltensor"
        if self.capsules is None:
            return api.PyCapsule_New(address, name, ctypes.cast(destroy, ctypes.c_void_p))
        self.capsules.append(api.PyCapsule_New(address, name, None))
        return self.capsules[-1]


def aligned(shape):
    memory = np.empty(8 * int(np.prod(shape)) + 64, dtype=np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + memory.nbytes - 64].view(np.float64).reshape(shape)


class InCtypes:
    """Makes exporting objects, and says how many of their exports and deleters there have been."""

    def make(self):
        values = aligned((5, 4))
        values[...] = np.arange(20.0).reshape(5, 4)
        return Owner(values)

    def deleted(self):
        return len(DELETED)

    def memory_is_free(self):
        return not ALIVE


class InC:
    def __init__(self, module):
        self.module = module

    def make(self):
        return self.module.pair_sums(np.random.default_rng(0).random((5, 3)), 4)

    def deleted(self):
        return self.module.counts()[0]

    def memory_is_free(self):
        return self.module.counts()[1] == 0


@pytest.fixture(params=["C", "ctypes"])
def producer(request):
    """Each producer, all of whose memory must be free at the end."""
    found = InC(request.getfixturevalue("module")) if request.param == "C" else InCtypes()
    yield from watched(found)


@pytest.fixture
def in_ctypes():
    yield from watched(InCtypes())


def watched(producer):
    if not producer.memory_is_free():
        gc.collect()
    yield producer
    if not producer.memory_is_free():
        gc.collect()
    assert producer.memory_is_free()


def block_of(values):
    return TensorBlock(values, Labels.range("atom", 5), [], Labels.range("power", 4))


def address(array):
    if isinstance(array, np.ndarray):
        return array.__array_interface__["data"][0]
    return array.data_ptr() if hasattr(array, "data_ptr") else array.unsafe_buffer_pointer()


def assert_deleted(producer, before, calls=1):
    if producer.deleted() - before != calls:
        gc.collect()  # of cycles with the frames of exceptions
    assert producer.deleted() - before == calls


# ---- what is shared, and when it is freed


def test_numbers_of_the_example(module):
    positions = np.random.default_rng(1).random((6, 3))
    block = TensorBlock(
        module.pair_sums(positions, 3), Labels.range("atom", 6), [], Labels.range("power", 3)
    )
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1) + np.diag([np.inf] * 6)
    expected = np.stack([(distances ** -(k + 1.0)).sum(axis=1) for k in range(3)], axis=1)
    np.testing.assert_allclose(block.values, expected, rtol=1e-12)
    assert module.pair_sums(np.empty((0, 3)), 2) is not None
    for wrong in (np.zeros((2, 2)), np.zeros((2, 3), dtype=np.float32), np.zeros(3)):
        with pytest.raises(ValueError, match="n x 3 doubles"):
            module.pair_sums(wrong, 2)
    with pytest.raises(ValueError, match="negative"):
        module.pair_sums(positions, -1)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_no_rows_or_columns(module, shape):
    numbers = module.pair_sums(np.ones((shape[0], 3)), shape[1])
    for arrays in ("numpy", "torch", "jax"):
        pytest.importorskip(arrays)
        assert tuple(metatensor.asarray(numbers, arrays).shape) == shape


def test_blocks_share_the_memory(producer):
    before = producer.deleted()
    numbers = producer.make()
    block = block_of(numbers)
    seen = np.from_dlpack(numbers)
    assert address(block.values) == address(seen)
    assert block.values.flags.writeable
    seen[0, 0] = -5.0
    assert block.values[0, 0] == -5.0
    del numbers, seen
    assert_deleted(producer, before)
    assert block.values[0, 0] == -5.0
    del block
    assert_deleted(producer, before, 2)


def test_the_last_array_frees_it(producer):
    before = producer.deleted()
    block = block_of(producer.make())
    tensor = metatensor.TensorMap(Labels.single(), [block.copy(deep=False)])
    part = block.values[1:3]
    del block
    assert_deleted(producer, before, 0)
    joined = tensor.keys_to_properties("_")
    del tensor, joined
    assert_deleted(producer, before, 0)
    del part
    assert_deleted(producer, before)


@pytest.mark.parametrize(
    "derive",
    [
        lambda block: block.copy(),
        lambda block: pickle.loads(pickle.dumps(block)),
        lambda block: block.to(np.float32),
    ],
    ids=["copy", "pickle", "dtype"],
)
def test_copies_do_not_keep_it(producer, derive):
    before = producer.deleted()
    block = block_of(producer.make())
    derived = derive(block)
    assert address(derived.values) != address(block.values)
    del block
    assert_deleted(producer, before)
    assert np.all(np.isfinite(derived.values))


def test_it_goes_on_to_torch(producer):
    torch = pytest.importorskip("torch")
    before = producer.deleted()
    block = block_of(producer.make())
    moved = block.to(arrays="torch")
    assert isinstance(moved.values, torch.Tensor)
    assert address(moved.values) == address(block.values)
    rows = moved.values[1:]
    del block, moved
    assert_deleted(producer, before, 0)
    del rows
    assert_deleted(producer, before)


@pytest.mark.parametrize(
    ("arrays", "copy", "shares"),
    [
        ("numpy", None, True),
        ("numpy", False, True),
        ("numpy", True, False),
        ("torch", None, True),
        ("torch", False, True),
        ("torch", True, False),
        ("jax", None, False),
        ("jax", False, True),
        ("jax", True, False),
    ],
)
def test_every_consumer(producer, arrays, copy, shares):
    pytest.importorskip(arrays)
    before = producer.deleted()
    numbers = producer.make()
    seen = np.from_dlpack(numbers)
    moved = metatensor.asarray(numbers, arrays, copy=copy)
    assert (address(moved) == address(seen)) == shares
    np.testing.assert_array_equal(np.asarray(moved), seen)
    del numbers, seen
    assert_deleted(producer, before, 1 if shares else 2)
    del moved
    assert_deleted(producer, before, 2)


@pytest.mark.parametrize("consumer", ["numpy", "torch", "jax"])
def test_consumers_without_this_package(producer, consumer):
    name = "jax.numpy" if consumer == "jax" else consumer
    before = producer.deleted()
    found = pytest.importorskip(name).from_dlpack(producer.make())
    assert tuple(found.shape) == (5, 4)
    assert_deleted(producer, before, 0)
    del found
    assert_deleted(producer, before)


def test_blocks_that_can_not_be_made(producer):
    before = producer.deleted()
    numbers = producer.make()
    with pytest.raises(metatensor.MetatensorError):
        TensorBlock(numbers, Labels.range("atom", 3), [], Labels.range("power", 4))
    assert_deleted(producer, before)
    with pytest.raises(TypeError):
        TensorBlock(numbers, "atoms", [], Labels.range("power", 4))
    assert_deleted(producer, before, 2)
    with pytest.raises(TypeError):
        Labels(["a", "b", "c", "d"], numbers)
    assert_deleted(producer, before, 3)


def test_capsules_that_nobody_takes(producer):
    before = producer.deleted()
    numbers = producer.make()
    for keywords in ({}, {"max_version": None}, {"max_version": (0, 8)}, {"max_version": (1, 0)}):
        capsule = numbers.__dlpack__(**keywords)
        versioned = keywords.get("max_version") == (1, 0)
        assert ('"dltensor_versioned"' if versioned else '"dltensor"') in repr(capsule)
        del capsule
    assert_deleted(producer, before, 4)


def test_capsules_that_consumers_refuse(in_ctypes):
    """They are left as they are: a destructor frees them."""
    torch, ml_dtypes = pytest.importorskip("torch"), pytest.importorskip("ml_dtypes")
    before = in_ctypes.deleted()
    halves = Owner(np.ones((5, 4), dtype=ml_dtypes.bfloat16), keeps=True)
    for attempt in (block_of, metatensor.asarray):
        with pytest.raises((BufferError, RuntimeError), match="dtype"):
            attempt(halves)
    assert_deleted(in_ctypes, before, 0)
    for capsule in halves.capsules:
        delete_if_unused(id(capsule))
    assert_deleted(in_ctypes, before, 2)
    del halves.capsules[:]
    found = torch.from_dlpack(halves)
    assert found.dtype == torch.bfloat16
    del found
    assert_deleted(in_ctypes, before, 3)


def test_capsules_are_used_once(producer):
    torch = pytest.importorskip("torch")
    before = producer.deleted()
    capsule = producer.make().__dlpack__()
    found = torch.utils.dlpack.from_dlpack(capsule)
    with pytest.raises(RuntimeError):
        torch.utils.dlpack.from_dlpack(capsule)
    del capsule
    assert_deleted(producer, before, 0)
    del found
    assert_deleted(producer, before)


def test_what_consumers_are_asked_for(in_ctypes):
    owner = in_ctypes.make()
    block_of(owner)
    assert owner.asked[0][0] >= 1
    pytest.importorskip("jax")
    metatensor.asarray(owner, "jax")
    assert all(version is not None for version in owner.asked)


@pytest.mark.parametrize("arrays", ["torch", "jax"])
def test_memory_that_is_read_only(in_ctypes, arrays):
    pytest.importorskip(arrays)
    before = in_ctypes.deleted()
    owner = Owner(np.arange(20.0).reshape(5, 4), flags=1)
    block = block_of(owner)
    assert not block.values.flags.writeable
    moved = metatensor.asarray(owner, arrays)
    assert address(moved) != address(block.values)
    if arrays == "torch":
        moved += 1
    assert owner.values[0, 0] == 0.0
    with pytest.raises(ValueError, match=f"shared with {arrays}: "):
        metatensor.asarray(owner, arrays, copy=False)
    del block, moved
    assert_deleted(in_ctypes, before, 3)


def test_memory_that_is_reversed(in_ctypes):
    torch = pytest.importorskip("torch")
    owner = Owner(np.arange(20.0).reshape(5, 4)[::-1])
    block = block_of(owner)
    np.testing.assert_array_equal(block.values, owner.values)
    moved = metatensor.asarray(owner, "torch")
    assert isinstance(moved, torch.Tensor)
    np.testing.assert_array_equal(moved.numpy(), owner.values)


def test_labels_copy_it(in_ctypes):
    before = in_ctypes.deleted()
    owner = Owner(np.array([[3, 1], [0, 2]], dtype=np.int32))
    labels = Labels(["a", "b"], owner)
    assert_deleted(in_ctypes, before)
    owner.values[:] = 9
    assert labels.values.tolist() == [[3, 1], [0, 2]]
    twice = Owner(np.array([[1, 2], [1, 2]]))
    with pytest.raises(metatensor.MetatensorError, match="unique"):
        Labels(["a", "b"], twice)
    assert_deleted(in_ctypes, before, 2)


def test_deleters_run_in_any_thread(module):
    """And no piece of memory is lost or freed twice when many threads hand it around."""
    code = """
        import importlib.util, sys, threading
        import numpy as np, metatensor as m
        spec = importlib.util.spec_from_file_location("pair_sums", sys.argv[1])
        p = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(p)
        numbers = p.pair_sums(np.random.default_rng(0).random((5, 3)), 4)
        def work():
            for _ in range(500):
                block = m.block_from_array(m.asarray(numbers))
                assert block.copy(deep=False).values is block.values
        threads = [threading.Thread(target=work) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert p.counts() == (2000, 1), p.counts()
        kept = m.block_from_array(numbers)  # at the end of the process there is one
    """
    code = "\n".join(line[8:] for line in code.splitlines())
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code, module.__file__],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert (run.returncode, run.stderr) == (0, "")
