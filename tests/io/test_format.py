"""The layout of files, byte by byte."""

import io
import struct
import sys
import zipfile
import zlib

import numpy as np
import pytest

from metatensor import Labels, TensorBlock, TensorMap
from metatensor._core.crc import crc32
from metatensor._core.zip_writer import ArchiveWriter
from metatensor.io import mts


def labels(name, rows):
    return Labels([name], np.arange(rows).reshape(-1, 1))


def block(n_samples, n_components, n_properties, n_rows):
    properties, components = labels("p", n_properties), [labels("c", n_components)]
    shape = (n_components, n_properties)
    whole = TensorBlock(
        np.ones((n_samples, *shape)), labels("s", n_samples), components, properties
    )
    rows = Labels(["sample", "g"], np.stack([np.zeros(n_rows, int), np.arange(n_rows)], axis=1))
    gradient = TensorBlock(np.ones((n_rows, *shape)), rows, components, properties)
    whole.add_gradient("g", gradient)
    return whole


def tensor():
    keys = Labels(["key_1", "key_2"], np.array([[0, 0], [1, 0], [2, 2], [2, 3]]))
    shapes = [(3, 1, 1, 2), (3, 1, 3, 3), (4, 3, 1, 1), (4, 3, 1, 2)]
    return TensorMap(keys, [block(*shape) for shape in shapes])


def npy(text, payload=b""):
    size = -(-(10 + len(text) + 1) // 64) * 64
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", size - 10)
    return header + text.encode().ljust(size - 11) + b"\n" + payload


def expected_archive(members):
    """An archive laid out as the format says, with what is in front of large arrays."""
    content, directory = b"", b""
    for name, header, payload in members:
        encoded, crc = name.encode(), zlib.crc32(header + payload)
        extra = struct.pack("<HHQQ", 1, 16, *[len(header + payload)] * 2)
        if len(payload) >= 4096:
            size = 8 + -(len(content) + 30 + len(encoded) + 20 + 8) % 64
            extra += struct.pack("<2sHL", b"mt", size - 4, zlib.crc32(header)).ljust(size, b"\0")
        flags = 0 if name.isascii() else 0x800
        common = struct.pack("<HHHHHL", 20, flags, 0, 0, 0x2821, crc)
        sizes = struct.pack("<LLH", *[len(header + payload)] * 2, len(encoded))
        directory += b"PK\x01\x02" + struct.pack("<H", 0x32E) + common + sizes
        directory += struct.pack("<HHHHLL", 0, 0, 0, 0, 0o100644 << 16, len(content)) + encoded
        content += b"PK\x03\x04" + common + b"\xff" * 8
        content += struct.pack("<HH", len(encoded), len(extra)) + encoded + extra + header + payload
    count, sizes = len(members), (len(directory), len(content))
    return (
        content + directory + b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, count, count, *sizes, 0)
    )


def values_member(name, values):
    code = values.dtype.kind + str(values.dtype.itemsize)
    shape = "".join(f"{n}, " for n in values.shape)
    text = f"{{ 'descr': '<{code}', 'fortran_order': False, 'shape': ({shape}) }}"
    return name, npy(text), values.tobytes()


def table_member(name, names, table):
    fields = "".join(f"('{field}', '<i4'), " for field in names)
    text = f"{{ 'descr': [{fields}], 'fortran_order': False, 'shape': ({len(table)}, ) }}"
    return name, npy(text), np.asarray(table, dtype="<i4").tobytes()


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("n_samples", [0, 2, 700])
def test_layout_of_a_block(dtype, n_samples):
    values = np.arange(n_samples * 6).reshape(n_samples, 2, 3).astype(dtype)
    whole = TensorBlock(values, labels("s", n_samples), [labels("c", 2)], labels("p", 3))
    assert bytes(mts.save_buffer(whole)) == expected_archive(
        [
            values_member("values.npy", values),
            table_member("samples.npy", ["s"], np.arange(n_samples)[:, None]),
            table_member("components/0.npy", ["c"], [[0], [1]]),
            table_member("properties.npy", ["p"], [[0], [1], [2]]),
        ]
    )


def test_layout_of_a_map():
    whole = TensorBlock(np.zeros((1, 1)), labels("s", 1), [], labels("p", 1))
    for name in ["ω", "a"]:
        whole.add_gradient(
            name, TensorBlock(np.ones((1, 1)), labels("sample", 1), [], labels("p", 1))
        )
    data = TensorMap(Labels(["a", "b"], np.array([[-1, 7]])), [whole])
    data.set_info("z", "\n\x1fé")
    data.set_info("a", "")
    members = [table_member("keys.npy", ["a", "b"], [[-1, 7]])]
    for prefix, names in [
        ("", ["s", "p"]),
        ("gradients/a/", ["sample"]),
        ("gradients/ω/", ["sample"]),
    ]:
        values = np.ones((1, 1)) if prefix else np.zeros((1, 1))
        members.append(values_member(f"blocks/0/{prefix}values.npy", values))
        for what, name in zip(["samples", "properties"], names):
            members.append(table_member(f"blocks/0/{prefix}{what}.npy", [name], [[0]]))
    members.append(("info.json", '{\n  "a": "",\n  "z": "\\n\\u001fé"\n}'.encode(), b""))
    assert bytes(mts.save_buffer(data)) == expected_archive(members)


def test_labels_are_bare_npy():
    data = Labels(["a", "b"], np.array([[1, 2], [3, -4]]))
    _, header, payload = table_member("", ["a", "b"], data.values)
    assert bytes(mts.save_buffer(data)) == header + payload
    assert np.load(io.BytesIO(mts.save_buffer(data))).tolist() == [(1, 2), (3, -4)]


@pytest.mark.parametrize(("length", "size"), [(49, 128), (50, 192), (65456, 65536), (65457, 65600)])
def test_headers_are_padded_and_long_ones_have_version_2(length, size):
    content = bytes(mts.save_buffer(labels("n" * length, 0)))
    assert (len(content), content[6]) == (size, 1 if size <= 65536 else 2)
    assert content.endswith(b" \n") or content.endswith(b"}\n")
    assert mts.load_labels_buffer(content).names == ["n" * length]


def test_sizes_that_programs_rely_on(tmp_path):
    data = tensor()
    assert len(mts.save_buffer(data)) == 8718
    data.set_info("test", "value")
    assert len(mts.save_buffer(data)) == 8853
    mts.save(tmp_path / "data.mts", data)
    with np.load(tmp_path / "data.mts") as archive:
        assert len(archive.keys()) == 30
        assert np.array_equal(archive["blocks/2/values"], data[2].values)
        assert archive["blocks/0/gradients/g/samples"].dtype.names == ("sample", "g")


def test_large_arrays_start_at_multiples_of_64(tmp_path):
    data = TensorMap(labels("k", 3), [block(n, 2, 5, 2 * n) for n in (60, 700, 1100)])
    content = bytes(mts.save_buffer(data))
    aligned = []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        for info in archive.infolist():
            payload = archive.read(info)[128:]
            if len(payload) >= 4096:
                aligned.append(info.filename)
                assert content.index(payload, info.header_offset) % 64 == 0
    assert len(aligned) == 9  # values, samples of gradients; of the last block its samples too


def test_more_members_than_16_bits_count(tmp_path):
    one = Labels.single()
    blocks = [TensorBlock(np.full((1, 1), i), one, [], one) for i in range(22000)]
    content = mts.save_buffer(TensorMap(Labels.range("k", 22000), blocks))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert len(archive.namelist()) == 66001
    assert [int(b.values[0, 0]) for b in mts.load_buffer(content)] == list(range(22000))


@pytest.mark.skipif(sys.platform == "win32", reason="files there have no holes")
def test_archives_of_more_than_4_gigabytes(tmp_path):
    """The large member is a hole in a sparse file."""
    path = tmp_path / "large.mts"
    zeros = np.zeros(1 << 22, dtype=np.uint8)
    with path.open("wb") as file:

        def sink(part):
            if isinstance(part, np.ndarray) and part.dtype == np.uint8:
                file.seek(part.nbytes, io.SEEK_CUR)
            else:
                file.write(part)

        archive = ArchiveWriter(sink)
        large = np.broadcast_to(zeros, (1030, 1 << 22))
        shape = f"'descr': '|u1', 'fortran_order': False, 'shape': {large.shape}"
        archive.add("values.npy", npy(f"{{{shape}}}"), large)
        for name, rows in [("samples.npy", large.shape[0]), ("properties.npy", large.shape[1])]:
            _, header, payload = table_member(name, ["n"], np.arange(rows)[:, None])
            archive.add(name, header, np.frombuffer(payload, dtype="<i4"))
        archive.finish()
    with zipfile.ZipFile(path) as reference:
        assert [info.file_size > 2**32 for info in reference.infolist()] == [True, False, False]
        assert reference.infolist()[2].header_offset > 2**32
    whole = mts.load_block(path, mmap=True)
    assert whole.values.shape == large.shape
    assert not whole.values[-1].any()


@pytest.mark.parametrize("size", [0, 1, 15, 16, 63, 64, 65, 127, 128, 200, 1000, 4097, 70001])
@pytest.mark.parametrize("start", [0, 1, 7])
def test_check_sums_are_those_of_zlib(size, start):
    content = np.random.default_rng(size).integers(256, size=size + start, dtype=np.uint8)[start:]
    assert crc32(content) == zlib.crc32(content)
    assert crc32(content, 0x12345678) == zlib.crc32(content, 0x12345678)
    assert crc32(content[: size // 3]) == zlib.crc32(content[: size // 3])
