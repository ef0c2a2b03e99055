"""Arrays of any library as arrays of another."""

import subprocess
import sys
import textwrap
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import metatensor
from metatensor import Labels, TensorBlock, TensorMap

NUMBERS = np.arange(24.0).reshape(4, 3, 2)
LIBRARIES = ["numpy", "torch", "jax"]


def require(name):
    return pytest.importorskip("jax.numpy" if name == "jax" else name)


def library(array):
    return metatensor._arrays.library(array)


def address(array):
    """Where an array of any library has its first number."""
    if library(array) == "torch":
        return array.data_ptr()
    if library(array) == "jax":
        return array.unsafe_buffer_pointer()
    return array.__array_interface__["data"][0]


def aligned(values):
    """Return a copy that starts at a multiple of 64 bytes."""
    memory = np.empty(values.nbytes + 64, dtype=np.uint8)
    start = -memory.ctypes.data % 64
    copied = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copied[...] = values
    return copied


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


class Capsules:
    """An array that can do nothing but be exported, in one of the ways there have been."""

    def __init__(self, values, versions="both"):
        self.values, self.versions = values, versions

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()

    def __dlpack__(self, **keywords):
        if self.versions == "legacy":
            if keywords:
                raise TypeError(f"unexpected keyword arguments {list(keywords)}")
            return self.values.__dlpack__()
        if self.versions == "versioned":
            return self.values.__dlpack__(max_version=(1, 0))
        return self.values.__dlpack__(**keywords)


class ForNumpy:
    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def __array__(self, dtype=None, copy=None):
        return self.values.copy() if copy else self.values


class Interface:
    def __init__(self, values):
        self.values, self.shape = values, values.shape
        self.__array_interface__ = values.__array_interface__


SOURCES = {
    "both": Capsules,
    "legacy": lambda values: Capsules(values, "legacy"),
    "versioned": lambda values: Capsules(values, "versioned"),
    "array": ForNumpy,
    "interface": Interface,
}


@pytest.mark.parametrize("copy", [None, True])
@pytest.mark.parametrize("arrays", LIBRARIES)
def test_every_library_to_every_other(xp, arrays, copy):
    require(arrays)
    source = xp.asarray(NUMBERS)
    moved = metatensor.asarray(source, arrays, copy=copy)
    assert library(moved) == arrays
    np.testing.assert_array_equal(np.asarray(moved), NUMBERS)
    if copy and xp.array_library == arrays:
        assert moved is not source
    if copy and xp.array_library == arrays == "numpy":
        assert moved.flags.c_contiguous
        assert moved.flags.writeable
        assert not np.shares_memory(moved, source)


@pytest.mark.parametrize("copy", [None, False])
def test_arrays_stay_what_they_are(xp, copy):
    source = xp.asarray(NUMBERS)
    assert metatensor.asarray(source, copy=copy) is source
    if xp.array_library in LIBRARIES:
        assert metatensor.asarray(source, xp.array_library, copy=copy) is source
    assert library(metatensor.asarray(source, copy=True)) == xp.array_library


@pytest.mark.parametrize("arrays", [None, *LIBRARIES])
@pytest.mark.parametrize("kind", SOURCES)
def test_objects_of_no_library(kind, arrays):
    require(arrays or "numpy")
    values = NUMBERS.copy()
    moved = metatensor.asarray(SOURCES[kind](values), arrays)
    assert library(moved) == (arrays or "numpy")
    np.testing.assert_array_equal(np.asarray(moved), NUMBERS)
    if arrays in (None, "numpy"):
        assert address(moved) == address(values)
    elif arrays == "torch":
        # numpy takes what has no flags for read-only
        assert (address(moved) == address(values)) == (kind != "legacy")
    else:
        assert address(moved) != address(values)


@pytest.mark.parametrize("kind", ["both", "legacy", "versioned", "interface"])
def test_objects_of_no_library_are_copied_or_not(kind):
    values = aligned(NUMBERS)
    source = SOURCES[kind](values)
    assert address(metatensor.asarray(source, copy=False)) == address(values)
    copied = metatensor.asarray(source, copy=True)
    assert copied.flags.writeable
    assert not np.shares_memory(copied, values)


# ---- where memory is shared


SHARED = [
    ("numpy", "torch", None),
    ("numpy", "torch", False),
    ("numpy", "jax", False),
    ("torch", "numpy", None),
    ("torch", "numpy", False),
    ("torch", "jax", False),
    ("jax", "numpy", None),
    ("jax", "numpy", False),
]


@pytest.mark.parametrize(("source", "arrays", "copy"), SHARED)
def test_memory_is_shared(source, arrays, copy):
    module = require(source)
    require(arrays)
    values = aligned(NUMBERS) if source == "numpy" else module.asarray(aligned(NUMBERS))
    moved = metatensor.asarray(values, arrays, copy=copy)
    assert address(moved) == address(values)
    np.testing.assert_array_equal(np.asarray(moved), NUMBERS)
    if source == "jax":
        assert not moved.flags.writeable
    copied = metatensor.asarray(values, arrays, copy=True)
    assert address(copied) != address(values)


@pytest.mark.parametrize("source", ["numpy", "torch"])
def test_what_jax_gets_never_changes(source):
    require("jax")
    values = aligned(NUMBERS)
    if source == "torch":
        values = require("torch").asarray(values)
    moved = metatensor.asarray(values, "jax")
    values[:] = -1
    np.testing.assert_array_equal(np.asarray(moved), NUMBERS)


def test_what_torch_gets_does_not_change_jax():
    jax, _ = require("jax"), require("torch")
    values = jax.asarray(NUMBERS)
    metatensor.asarray(values, "torch")[:] = -1
    np.testing.assert_array_equal(np.asarray(values), NUMBERS)
    with pytest.raises(ValueError, match="can not be shared with torch"):
        metatensor.asarray(values, "torch", copy=False)


# ---- what must be copied

HARD = {
    "read-only": (read_only(NUMBERS), ["torch", "jax"]),
    "reversed": (NUMBERS[::-1], ["torch", "jax"]),
    "last axis reversed": (NUMBERS[..., ::-1], ["torch", "jax"]),
    "every other row": (NUMBERS[::2], ["jax"]),
    "other byte order": (NUMBERS.astype(">f8"), ["torch", "jax"]),
    "unaligned": (np.zeros(8 * 24 + 1, np.uint8)[1:].view(float), ["torch", "jax"]),
    "a field": (np.ones(5, [("x", "f8"), ("y", "i4")])["x"], ["torch", "jax"]),
    "broadcast": (np.broadcast_to(NUMBERS[0], (5, 3, 2)), ["torch", "jax"]),
}


@pytest.mark.parametrize("arrays", LIBRARIES)
@pytest.mark.parametrize("layout", HARD)
def test_layouts(layout, arrays):
    require(arrays)
    values, refused = HARD[layout]
    before = values.copy()
    moved = metatensor.asarray(values, arrays)
    np.testing.assert_array_equal(np.asarray(moved), before)
    if arrays in refused:
        assert address(moved) != address(values)
        with pytest.raises(ValueError, match=f"can not be shared with {arrays}: .*copy=None"):
            metatensor.asarray(values, arrays, copy=False)
    if arrays == "torch" and arrays in refused:
        moved += 1
        assert (values == before).all()


@given(st.data())
def test_any_view_of_any_array(data):
    """Whatever is shared has the same memory, and what is read-only can not be written to."""
    arrays = data.draw(st.sampled_from(["torch", "jax"]))
    require(arrays)
    shape = data.draw(st.lists(st.sampled_from([0, 1, 2, 5]), max_size=3))
    dtype = data.draw(st.sampled_from(["?", "i4", ">i4", "f4", "f8", ">f8", "c16"]))
    values = np.arange(float(np.prod(shape, dtype=int))).reshape(shape).astype(dtype)
    steps = st.sampled_from([None, -1, 2, -2])
    values = values[(..., *[slice(None, None, data.draw(steps)) for _ in shape])]
    values = np.transpose(values, data.draw(st.permutations(range(values.ndim))))
    values.flags.writeable = data.draw(st.booleans())
    moved = metatensor.asarray(values, arrays)
    np.testing.assert_array_equal(np.asarray(moved), values)
    if values.size and (arrays == "jax" or not values.flags.writeable):
        assert address(moved) != address(values)
    with suppress(ValueError):
        shared = metatensor.asarray(values, arrays, copy=False)
        np.testing.assert_array_equal(np.asarray(shared), values)
        if values.size:
            assert values.flags.writeable
            assert address(shared) == address(values)


@pytest.mark.parametrize(
    ("layout", "kind"),
    [
        (layout, kind)
        for layout in ("read-only", "reversed", "every other row")
        for kind in SOURCES
        # capsules without flags can not be made of what is read-only
        if (layout, kind) != ("read-only", "legacy")
    ],
)
def test_layouts_of_objects_of_no_library(layout, kind):
    torch = require("torch")
    values = HARD[layout][0]
    moved = metatensor.asarray(SOURCES[kind](values), "torch")
    assert isinstance(moved, torch.Tensor)
    np.testing.assert_array_equal(moved.numpy(), values)
    if layout != "every other row":
        assert address(moved) != address(values)


@pytest.mark.parametrize("arrays", ["torch", "jax"])
def test_processes_survive_what_aborts_them(arrays, tmp_path):
    """Torch aborts for reversed axes, and writing to a mapped file is a segmentation fault."""
    require(arrays)
    code = f"""
        import sys
        import numpy as np
        import metatensor as m
        path = sys.argv[1]
        block = m.TensorBlock(
            np.ones((1000, 100)), m.Labels.range("s", 1000), [], m.Labels.range("p", 100)
        )
        m.save(path, m.TensorMap(m.Labels.single(), [block]))
        mapped = m.load(path, mmap=True)
        assert not mapped.block().values.flags.writeable
        found = mapped.to(arrays={arrays!r}).block().values
        alone = m.asarray(mapped.block().values, {arrays!r})
        if {arrays!r} == "torch":
            found += 1
            alone += 1
        np.save(path + ".npy", np.zeros((3, 3)))
        on_disk = np.load(path + ".npy", mmap_mode="r")
        moved = m.asarray(on_disk, {arrays!r})
        if {arrays!r} == "torch":
            moved += 1
        assert m.load(path).block().values.max() == 1
        assert np.load(path + ".npy").max() == 0
        numbers = np.arange(6.0).reshape(2, 3)
        for part in (numbers[::-1], numbers[:, ::-1], numbers[::-1, ::-1], numbers.T[::-1]):
            moved = m.asarray(part, {arrays!r})
            assert np.asarray(moved).tolist() == part.tolist()
            block = m.block_from_array(part).to(arrays={arrays!r})
            assert np.asarray(block.values).tolist() == part.tolist()
        print("alive")
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "map.mts")],
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == "alive", run.stderr


def test_private_mappings_are_shared(tmp_path):
    require("torch")
    np.save(tmp_path / "a.npy", NUMBERS)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="c")
    moved = metatensor.asarray(mapped, "torch", copy=False)
    moved[:] = 0
    assert mapped.max() == 0
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), NUMBERS)


@pytest.mark.parametrize("arrays", ["numpy", "jax"])
@pytest.mark.parametrize("change", ["conj", "_neg_view"])
def test_tensors_that_are_changed_when_they_are_read(change, arrays):
    torch = require("torch")
    require(arrays)
    numbers = torch.tensor([1 + 2j, 3 - 4j])
    source = numbers.conj() if change == "conj" else torch._neg_view(numbers)
    expected = np.conj(numbers.numpy()) if change == "conj" else -numbers.numpy()
    np.testing.assert_array_equal(np.asarray(metatensor.asarray(source, arrays)), expected)
    with pytest.raises(ValueError, match=f"shared with {arrays}: "):
        metatensor.asarray(source, arrays, copy=False)


# ---- what is refused


@pytest.mark.parametrize("copy", [None, True, False])
@pytest.mark.parametrize("arrays", ["numpy", "jax"])
def test_tensors_that_require_grad(arrays, copy):
    torch = require("torch")
    require(arrays)
    source = torch.ones(2, requires_grad=True)
    for tensor in (source, source * 2, torch.nn.Parameter(source.detach())):
        with pytest.raises(RuntimeError, match=r"requires grad .* `\.detach\(\)`"):
            metatensor.asarray(tensor, arrays, copy=copy)
    assert metatensor.asarray(source.detach(), arrays, copy=copy).tolist() == [1.0, 1.0]
    assert metatensor.asarray(source, "torch", copy=copy).requires_grad


@pytest.mark.parametrize(
    ("obj", "error"),
    [
        ([1.0, 2.0], ValueError),
        (1.0, ValueError),
        (np.float64(1.0), ValueError),
        ("text", ValueError),
        (None, ValueError),
        (memoryview(b"ab"), ValueError),
        (np.ndarray, ValueError),
        (ForNumpy, ValueError),
        (np.array([None, 1.0]), TypeError),
        (np.array(["a"]), TypeError),
        (np.array(["2000-01-01"], dtype="M8[D]"), TypeError),
        (np.zeros(2, dtype=[("x", "f8")]), TypeError),
        (ForNumpy(np.array([None])), TypeError),
        (np.ma.array([1.0, 2.0], mask=[True, False]), ValueError),
    ],
    ids=repr,
)
@pytest.mark.parametrize("arrays", [None, *LIBRARIES])
def test_what_is_no_array_of_numbers(obj, error, arrays):
    with pytest.raises(error, match=r"array"):
        metatensor.asarray(obj, arrays)


@pytest.mark.parametrize("arrays", ["pandas", "", 3, np])
def test_unknown_libraries(arrays):
    with pytest.raises(ValueError, match="`arrays` must be one of .*'torch'"):
        metatensor.asarray(NUMBERS, arrays)


@pytest.mark.parametrize("copy", [0, 1, "no", np.True_])
def test_unknown_copies(copy):
    with pytest.raises(TypeError, match="`copy` must be True, False or None"):
        metatensor.asarray(NUMBERS, copy=copy)


def test_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match="needs the package 'cupy'"):
        metatensor.asarray(NUMBERS, "cupy")


# ---- dtypes and shapes

DTYPES = ["bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64"]
DTYPES += ["complex64", "complex128", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("arrays", LIBRARIES)
@pytest.mark.parametrize("source", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype, source, arrays):
    module = require(source)
    require(arrays)
    values = module.asarray(NUMBERS.astype(dtype))
    moved = metatensor.asarray(values, arrays)
    assert str(moved.dtype).split(".")[-1] == dtype
    np.testing.assert_array_equal(np.asarray(moved), NUMBERS.astype(dtype))


@pytest.mark.parametrize("arrays", LIBRARIES)
@pytest.mark.parametrize("source", LIBRARIES)
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0, 2), (1,), (1, 1)])
@pytest.mark.parametrize("copy", [None, True])
def test_shapes(shape, source, arrays, copy):
    module = require(source)
    require(arrays)
    moved = metatensor.asarray(module.asarray(np.full(shape, 2.5)), arrays, copy=copy)
    assert tuple(moved.shape) == shape
    np.testing.assert_array_equal(np.asarray(moved), np.full(shape, 2.5))


@pytest.mark.parametrize("copy", [None, True])
def test_dtypes_that_numpy_has_not(copy):
    torch, jax = require("torch"), require("jax")
    tensor = torch.tensor([[1.0, 2.0, 3.0]] * 3, dtype=torch.bfloat16)
    for source in (tensor, tensor.T, tensor[:, ::2], tensor[1:]):
        moved = metatensor.asarray(source, "jax", copy=copy)
        assert moved.dtype == jax.bfloat16
        assert moved.tolist() == source.tolist()
        back = metatensor.asarray(moved, "torch", copy=copy)
        assert back.dtype == torch.bfloat16
        assert back.tolist() == source.tolist()
        back += 1
        assert moved.tolist() == source.tolist()
        for numbers in (source, moved):
            with pytest.raises(TypeError, match="numpy has no dtype like .*bfloat16; convert"):
                metatensor.asarray(numbers, "numpy", copy=copy)


def test_dtypes_that_numpy_has_not_in_maps():
    torch = require("torch")
    values = torch.tensor([[1.0, 2.5]], dtype=torch.bfloat16)
    block = TensorBlock(values, Labels.single(), [], Labels.range("p", 2))
    with pytest.raises(TypeError, match="bfloat16; convert"):
        block.to(arrays="numpy")
    moved = block.to(np.float64, arrays="numpy")
    assert moved.dtype == np.float64
    assert moved.values.tolist() == [[1.0, 2.5]]


def test_signs_of_dtypes_that_numpy_has_not():
    torch, _ = require("torch"), require("jax")
    source = torch._neg_view(torch.tensor([1.0, 2.0], dtype=torch.bfloat16))
    assert metatensor.asarray(source, "jax").tolist() == [-1.0, -2.0]


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_complex_numbers_that_numpy_has_not():
    torch = require("torch")
    values = torch.tensor([[1.0 + 2.0j]]).to(torch.complex32)
    block = TensorBlock(values, Labels.single(), [], Labels.single())
    with pytest.raises(TypeError, match="complex32; convert"):
        block.to(arrays="numpy")
    assert block.to(np.complex64, arrays="numpy").values.tolist() == [[1 + 2j]]


def test_jax_without_64_bits(jax_x32):
    torch = require("torch")
    for values in (NUMBERS, aligned(NUMBERS), torch.asarray(NUMBERS), np.array([2**40])):
        for copy in (None, True, False):
            with pytest.raises(ValueError, match=r"jax"):
                metatensor.asarray(values, "jax", copy=copy)
    assert metatensor.asarray(NUMBERS.astype(np.float32), "jax").dtype == np.float32


# ---- devices


class Elsewhere(Capsules):
    """An array that says it is on a GPU."""

    def __dlpack_device__(self):
        return 2, 0


@pytest.mark.parametrize("copy", [None, True, False])
def test_arrays_on_other_devices_are_not_read_by_numpy(copy):
    source = Elsewhere(NUMBERS)
    for arrays in (None, "numpy"):
        with pytest.raises(ValueError, match=r"DLPack device \(2, 0\) can not be read by numpy"):
            metatensor.asarray(source, arrays, copy=copy)
    with pytest.raises(ValueError, match="can not be read by numpy"):
        TensorBlock(source, Labels.range("s", 4), [Labels.range("c", 3)], Labels.range("p", 2))


def test_arrays_on_other_devices_go_to_libraries_as_they_are(monkeypatch):
    """Without a GPU, what the library is asked for is all that can be seen."""
    torch = require("torch")
    source, asked = Elsewhere(NUMBERS), []
    monkeypatch.setattr(torch, "from_dlpack", lambda obj: asked.append(obj) or torch.ones(2))
    assert metatensor.asarray(source, "torch").tolist() == [1.0, 1.0]
    assert asked == [source]
    source.strides = (-8, 8)
    with pytest.raises(ValueError, match="its strides are negative"):
        metatensor.asarray(source, "torch")
    assert asked == [source]


@pytest.mark.parametrize("copy", [None, True, False])
@pytest.mark.parametrize("arrays", ["numpy", "jax"])
@pytest.mark.parametrize("kind", ["sparse", "jagged", "meta", "fake"])
def test_tensors_that_have_no_piece_of_memory(kind, arrays, copy):
    torch = require("torch")
    require(arrays)
    if kind == "jagged":
        source = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    elif kind == "meta":
        source = torch.ones(2, device="meta")
    elif kind == "fake":  # whose DLPack shows memory of others
        with pytest.importorskip("torch._subclasses").FakeTensorMode():
            source = torch.ones(2)
    else:
        source = torch.eye(2).to_sparse()
    with pytest.raises(TypeError, match=r"only a dense tensor with data.*to_dense"):
        metatensor.asarray(source, arrays, copy=copy)
    assert metatensor.asarray(source, "torch") is source


# ---- maps


@pytest.mark.parametrize("source", LIBRARIES)
@pytest.mark.parametrize("arrays", LIBRARIES)
def test_maps_move_as_arrays_do(source, arrays):
    module = require(source)
    require(arrays)
    values = module.asarray(NUMBERS)
    block = TensorBlock(values, Labels.range("s", 4), [Labels.range("c", 3)], Labels.range("p", 2))
    moved = TensorMap(Labels.single(), [block]).to(arrays=arrays).block().values
    alone = metatensor.asarray(values, arrays)
    assert (address(moved) == address(values)) == (address(alone) == address(values))
    assert moved.dtype == alone.dtype
    np.testing.assert_array_equal(np.asarray(moved), NUMBERS)


@pytest.mark.parametrize("kind", SOURCES)
def test_labels_of_objects_of_no_library(kind):
    table = np.array([[3, 1], [0, 2]], dtype=np.int32)
    labels = Labels(["a", "b"], SOURCES[kind](table))
    assert not np.shares_memory(labels.values, table)
    table[:] = 7
    assert labels.values.tolist() == [[3, 1], [0, 2]]
    for wrong, error in [
        (np.array([[0.5, 1.0]]), TypeError),
        (np.array([[2**40, 1]]), ValueError),
        (np.array([[1, 2], [1, 2]]), ValueError),
        (np.array([[1, 2, 3]]), ValueError),
        (np.array([1, 2]), ValueError),
    ]:
        with pytest.raises((error, metatensor.MetatensorError)):
            Labels(["a", "b"], SOURCES[kind](wrong))
    assert labels.append("c", SOURCES[kind](np.array([5, 6]))).column("c").tolist() == [5, 6]


@pytest.mark.parametrize("read", [np.asarray, np.from_dlpack], ids=["asarray", "from_dlpack"])
def test_labels_outwards(read):
    labels = Labels(["a", "b"], np.array([[3, 1], [0, 2]]))
    found = read(labels.values)
    assert found.tolist() == [[3, 1], [0, 2]]
    assert not found.flags.writeable
    torch = require("torch")
    moved = metatensor.asarray(labels.values, "torch")
    moved[:] = torch.tensor(9)
    assert labels.values.tolist() == [[3, 1], [0, 2]]
