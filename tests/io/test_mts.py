"""What is saved comes back."""

import io
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings

import metatensor
from metatensor import Labels, MetatensorError, TensorBlock, TensorMap, testing
from metatensor.io import mts
from metatensor.testing import assert_equal

DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]


def block(values, n_rows=2):
    """A block with these values, and a gradient with as many rows if there are any."""
    samples, properties = Labels.range("s", values.shape[0]), Labels.range("p", values.shape[-1])
    components = [Labels.range(f"c{i}", size) for i, size in enumerate(values.shape[1:-1])]
    whole = TensorBlock(values, samples, components, properties)
    if n_rows:
        rows = Labels(["sample", "a"], np.array([[0, i] for i in range(n_rows)]))
        gradient = np.stack([values[0]] * n_rows)
        whole.add_gradient("g", TensorBlock(gradient, rows, components, properties))
    return whole


def numbers(shape, dtype="f8"):
    return (np.arange(np.prod(shape)).reshape(shape) % 120).astype(dtype)


def tensor(dtype="f8", n_samples=5):
    blocks = [block(numbers((n_samples + i, 3, 4), dtype)) for i in range(3)]
    data = TensorMap(Labels(["a", "b"], np.array([[2, 0], [-1, 5], [0, 0]])), blocks)
    data.set_info("author", "ä")
    return data


def through_buffer(data):
    kind = type(data).__name__
    name = {"TensorMap": "load_buffer", "TensorBlock": "load_block_buffer"}.get(kind)
    return getattr(mts, name or "load_labels_buffer")(mts.save_buffer(data))


@given(testing.tensors())
@settings(max_examples=50, deadline=None)
def test_maps_come_back(data):
    loaded = through_buffer(data)
    assert_equal(loaded, data)
    assert all(list(b.gradients_list()) == sorted(b.gradients_list()) for b in loaded)


@given(testing.labels())
@settings(max_examples=50, deadline=None)
def test_labels_come_back(data):
    assert_equal(through_buffer(data), data)


def test_labels_without_names_come_back():
    for rows in (0, 1):
        loaded = through_buffer(Labels([], np.zeros((rows, 0), dtype=np.int32)))
        assert (loaded.names, loaded.values.shape) == ([], (rows, 0))


@pytest.mark.parametrize("n_samples", [0, 1, 3, 5000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype, n_samples, tmp_path):
    data = block(numbers((n_samples, 2, 3), dtype), n_rows=min(n_samples, 2))
    mts.save(tmp_path / "data.mts", data)
    for loaded in (through_buffer(data), mts.load_block(tmp_path / "data.mts")):
        assert_equal(loaded, data)
        assert type(loaded.values) is np.ndarray
        assert loaded.values.flags.writeable
        assert loaded.values.flags.owndata or loaded.values.base.flags.owndata
        assert loaded.values.flags.c_contiguous


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "reversed": lambda a: a[::-1, :, ::-1][::-1, :, ::-1],
    "strided": lambda a: np.repeat(a, 2, axis=2)[:, :, ::2],
    "transposed": lambda a: np.ascontiguousarray(a.transpose(2, 0, 1)).transpose(1, 2, 0),
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
    "subclass": lambda a: a.view(np.memmap),
}


@pytest.mark.parametrize("n_samples", [3, 9000])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_written_in_the_same_way(layout, n_samples, tmp_path):
    values = LAYOUTS[layout](numbers((n_samples, 2, 5)))
    data = block(values, n_rows=0)
    plain = block(np.array(values, dtype="f8", order="C"), n_rows=0)
    mts.save(tmp_path / "data.mts", data)
    assert mts.save_buffer(data) == mts.save_buffer(plain)
    assert (tmp_path / "data.mts").read_bytes() == mts.save_buffer(plain)


def test_values_of_every_library(xp):
    data = block(xp.asarray(numbers((4, 2, 3))), n_rows=0)
    loaded = through_buffer(data)
    assert type(loaded.values) is np.ndarray
    assert_equal(loaded, block(numbers((4, 2, 3)), n_rows=0))


def test_torch_values():
    torch = pytest.importorskip("torch")

    def of(values):
        return TensorBlock(values, Labels.single(), [], Labels.single())

    one = torch.ones((1, 1))
    for dtype in (torch.float16, torch.float64, torch.complex64, torch.bool, torch.uint8):
        loaded = through_buffer(of(one.to(dtype))).values
        assert torch.from_numpy(loaded).dtype == dtype
    conjugate = torch.full((1, 1), 1 + 2j).conj()
    assert through_buffer(of(conjugate)).values[0, 0] == 1 - 2j
    with pytest.raises(BufferError, match="detach"):
        mts.save_buffer(of(one.clone().requires_grad_()))
    with pytest.raises(RuntimeError, match="detach"):
        mts.save_buffer(of(one.clone().requires_grad_()), use_numpy=True)
    with pytest.raises(MetatensorError, match="'meta' device"):
        mts.save_buffer(of(one.to("meta")))
    with pytest.raises(MetatensorError, match="bfloat16"):
        mts.save_buffer(of(one.to(torch.bfloat16)))
    with pytest.raises(TypeError, match="bfloat16"):
        mts.save_buffer(of(one.to(torch.bfloat16)), use_numpy=True)


def test_gradients_of_gradients():
    inner, outer = block(numbers((2, 2, 3)), n_rows=0), block(numbers((3, 2, 3)), n_rows=0)
    rows = Labels(["sample"], np.array([[1], [0]]))
    gradient = TensorBlock(inner.values, rows, inner.components, inner.properties)
    for name in ("y", "gradients", "x"):
        gradient.add_gradient(name, gradient.copy())
    outer.add_gradient("gradients", gradient)
    loaded = through_buffer(outer)
    assert_equal(loaded, outer)
    assert loaded.gradient("gradients").gradients_list() == ["gradients", "x", "y"]
    assert loaded.gradient("gradients").gradient("y").is_view
    assert not loaded.is_view


def test_labels_that_are_the_same_are_the_same_object():
    loaded = through_buffer(tensor())
    assert loaded[0].properties is loaded[2].properties
    assert loaded[0].components[0] is loaded[1].gradient("g").components[0]
    assert not loaded[0].samples.values.flags.writeable


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, "numpy", "torch"])
def test_kinds_of_buffers(kind):
    buffer = bytes(mts.save_buffer(tensor()))
    if kind == "torch":
        torch = pytest.importorskip("torch")
        given = torch.frombuffer(bytearray(buffer), dtype=torch.uint8)
    elif kind == "numpy":
        given = np.frombuffer(buffer, dtype=np.uint8)
    else:
        given = kind(buffer)
    assert_equal(mts.load_buffer(given), tensor())


def test_what_is_no_buffer():
    with pytest.raises(TypeError):
        mts.load_buffer("text")
    with pytest.raises(ValueError, match="contiguous"):
        mts.load_buffer(np.zeros(8, dtype=np.uint8)[::2])


def test_the_buffer_is_writable_and_not_kept():
    buffer = mts.save_buffer(tensor())
    assert (buffer.readonly, buffer.ndim, buffer.itemsize) == (False, 1, 1)
    loaded = mts.load_buffer(buffer)
    buffer[:] = bytes(len(buffer))
    assert_equal(loaded, tensor())


def test_methods_do_the_same(tmp_path):
    path = str(tmp_path / "data.mts")
    for data in (tensor(), tensor()[0], tensor().keys):
        data.save(path)
        assert_equal(type(data).load(path), data)
        assert_equal(type(data).load_buffer(data.save_buffer()), data)
    assert metatensor.load is mts.load
    assert metatensor.io.save_buffer is mts.save_buffer


# ---- file objects


class Reading:
    """Anything with a method `read`."""

    def __init__(self, content):
        self.content = content

    def read(self):
        return self.content


@pytest.mark.parametrize("n_samples", [5, 20_000])
def test_file_objects_are_read_from_where_they_are(n_samples, tmp_path):
    data = tensor(n_samples=n_samples)
    content = bytes(mts.save_buffer(data))
    (tmp_path / "data").write_bytes(b"in front" + content)
    stream = io.BytesIO(b"in front" + content)
    stream.seek(8)
    assert_equal(mts.load(stream), data)
    with (tmp_path / "data").open("rb") as file:
        file.seek(8)
        assert_equal(mts.load(file), data)
    assert_equal(mts.load(Reading(content)), data)
    with (tmp_path / "data").open("rb", buffering=0) as file:
        file.seek(8)
        assert_equal(mts.load(file), data)
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr("inner", content)
    with zipfile.ZipFile(tmp_path / "archive") as archive, archive.open("inner") as file:
        assert_equal(mts.load(file), data)


def test_what_is_no_binary_file():
    with pytest.raises(TypeError, match="`file` must be a path or a file object, got int"):
        mts.load(3)
    with pytest.raises(TypeError, match="binary mode, its `read` gives str"):
        mts.load(io.StringIO("text"))


@pytest.mark.parametrize("size", [100, 2_000_000])
def test_a_file_that_shrinks_while_it_is_read(size, tmp_path, monkeypatch):
    path = tmp_path / "data.mts"
    data = block(numbers((size, 1)), n_rows=0)
    mts.save(path, data)

    class Shrinking(io.FileIO):
        def readinto(self, buffer):
            os.truncate(path, 2000)
            return super().readinto(buffer)

    with Shrinking(path) as file:
        if size > 100:
            with pytest.raises(MetatensorError, match="became shorter"):
                mts.load_block(file)
        else:
            assert_equal(mts.load_block(file), data)


# ---- mapped files


def root(array):
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    return array


@pytest.mark.parametrize("dtype", ["i1", "f4", "f8", "c16"])
def test_mapped_values_are_views_of_the_file(dtype, tmp_path):
    path = tmp_path / "data.mts"
    data = tensor(dtype, n_samples=2000)
    mts.save(path, data)
    loaded = mts.load(path, mmap=True)
    assert_equal(loaded, data)
    for values in (loaded[1].values, loaded[2].values):
        assert not values.flags.writeable
        assert values.flags.aligned
        assert values.ctypes.data % 64 == 0
        assert type(root(values)).__name__ in ("memoryview", "mmap")
    with pytest.raises(ValueError, match="read-only"):
        loaded[0].values[0] = 0


def test_mapped_values_outlive_the_path(tmp_path):
    path = tmp_path / "data.mts"
    data = tensor(n_samples=2000)
    mts.save(path, data)
    loaded = mts.load(path, mmap=True)
    mts.save(path, tensor(n_samples=3))
    assert_equal(loaded, data)
    path.unlink()
    values = loaded[1].values
    del loaded
    assert np.array_equal(values, data[1].values)


def test_mapped_blocks_and_values_that_can_not_be_mapped(tmp_path):
    for values in (numbers((2000, 3), "?"), numbers((3, 3)), numbers((0, 3))):
        mts.save(tmp_path / "block.mts", block(values, n_rows=0))
        loaded = mts.load_block(tmp_path / "block.mts", mmap=True)
        assert_equal(loaded, block(values, n_rows=0))
        assert not loaded.values.flags.writeable
    with pytest.raises(ValueError, match="requires the path"):
        mts.load_block(io.BytesIO(), mmap=True)
    (tmp_path / "empty.mts").write_bytes(b"")
    with pytest.raises(MetatensorError, match="too short"):
        mts.load(tmp_path / "empty.mts", mmap=True)


@pytest.mark.parametrize("where", ["header", "table"])
def test_what_is_checked_in_mapped_files(where, tmp_path):
    mts.save(tmp_path / "block.mts", block(numbers((2000, 3)), n_rows=0))
    content = bytearray((tmp_path / "block.mts").read_bytes())
    old, new = {
        "header": (b"'<f8'", b"'<i8'"),
        "table": (b"\1\0\0\0\2\0\0\0", b"\1\0\0\0\7\0\0\0"),
    }[where]
    position = content.rindex(old)
    content[position : position + len(new)] = new
    (tmp_path / "block.mts").write_bytes(content)
    with pytest.raises(MetatensorError, match="check sum"):
        mts.load_block(tmp_path / "block.mts", mmap=True)


def npz(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in members.items():
            stream = io.BytesIO()
            np.save(stream, array)
            archive.writestr(name, stream.getvalue())


def tables(n_samples, n_properties, order="<"):
    return {
        "samples.npy": np.arange(n_samples, dtype=order + "i4").view([("s", order + "i4")]),
        "properties.npy": np.arange(n_properties, dtype=order + "i4").view([("p", order + "i4")]),
    }


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("fortran", [False, True])
def test_files_of_numpy(order, fortran, mmap, tmp_path):
    """The values of such files are at any offset, and have check sums of their own."""
    path = tmp_path / "block.mts"
    values = numbers((300, 4), order + "f8")
    stored = np.asfortranarray(values) if fortran else values
    for offset in range(9):
        npz(path, {"x" * (offset + 1): np.zeros(1), "values.npy": stored, **tables(300, 4, order)})
        loaded = mts.load_block(path, mmap=mmap).values
        assert np.array_equal(loaded, values)
        assert loaded.dtype == np.dtype("f8")
        assert loaded.dtype.isnative
        assert loaded.flags.aligned
        assert loaded.flags.writeable is not mmap
        assert loaded.flags.f_contiguous is fortran
    content = bytearray(path.read_bytes())
    content[content.index(stored.tobytes("A")) + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(MetatensorError, match="check sum"):
        mts.load_block(path, mmap=mmap)


# ---- arrays of the caller


def test_custom_arrays(tmp_path):
    made = []

    def create(shape, dtype):
        made.append(np.full(shape, 7, dtype, order="F"))
        return made[-1]

    path, data = tmp_path / "data.mts", tensor()
    mts.save(path, data)
    for load, source in (
        (metatensor.io.load_custom_array, path),
        (metatensor.io.load_custom_array, os.fsencode(path)),
        (metatensor.io.load_buffer_custom_array, mts.save_buffer(data)),
    ):
        loaded = load(source, create)
        assert_equal(loaded, data)
        assert loaded[2].gradient("g").values is made[-1]
    mts.save(path, data[0])
    for loaded in (
        metatensor.io.load_block_custom_array(path, create),
        metatensor.io.load_block_buffer_custom_array(mts.save_buffer(data[0]), create),
        metatensor.io.load_block_custom_array(path, metatensor.io.create_numpy_array),
    ):
        assert_equal(loaded, data[0])
    assert len(made) == 3 * 6 + 2 * 2


def test_custom_arrays_of_torch():
    torch = pytest.importorskip("torch")
    buffer = mts.save_buffer(tensor("f4"))
    loaded = metatensor.io.load_buffer_custom_array(buffer, metatensor.io.create_torch_array)
    assert loaded[0].gradient("g").values.dtype == torch.float32
    assert_equal(loaded.to(arrays="numpy"), tensor("f4"))


def test_custom_arrays_that_can_not_be_filled():
    buffer = mts.save_buffer(tensor())
    wrong = {
        r"shape \(5, 3, 4\)": lambda shape, dtype: np.empty(shape[1:], dtype),
        "dtype float64": lambda shape, dtype: np.empty(shape, "f4"),
        "can write to": lambda shape, dtype: np.broadcast_to(np.zeros((), dtype), shape),
    }
    for message, create in wrong.items():
        with pytest.raises(ValueError, match=message):
            metatensor.io.load_buffer_custom_array(buffer, create)

    def failing(shape, dtype):
        raise LookupError("out of arrays")

    with pytest.raises(LookupError, match="out of arrays"):
        metatensor.io.load_buffer_custom_array(buffer, failing)
