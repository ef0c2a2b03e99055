"""Damaged and malformed files give a clear error or the right data."""

import io
import json
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from metatensor import Labels, MetatensorError, TensorBlock, TensorMap
from metatensor.io import mts
from metatensor.testing import assert_equal


def block():
    properties = Labels.range("p", 2)
    whole = TensorBlock(
        np.array([[1.5, -2.0], [0.0, 4.25]]), Labels(["s"], np.array([[3], [1]])), [], properties
    )
    rows = Labels(["sample", "atom"], np.array([[1, 0]]))
    gradient = TensorBlock(np.ones((1, 3, 2)), rows, [Labels.range("xyz", 3)], properties)
    whole.add_gradient("positions", gradient)
    return whole


def tensor():
    data = TensorMap(Labels(["a"], np.array([[5], [-5]])), [block(), block()])
    data.set_info("author", "somebody")
    return data


def members(data):
    with zipfile.ZipFile(io.BytesIO(mts.save_buffer(data))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(parts, compression=zipfile.ZIP_STORED, comment=b""):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as new:
        new.comment = comment
        for name, content in parts.items():
            new.writestr(name, content)
    return stream.getvalue()


def npy(array, **kwargs):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **kwargs)
    return stream.getvalue()


def table(names, rows, dtype="<i4"):
    return npy(np.array([tuple(row) for row in rows], dtype=[(name, dtype) for name in names]))


# ---- every position of a file


@pytest.fixture(scope="module")
def content():
    return bytes(mts.save_buffer(tensor()))


def is_right(damaged, original):
    """Whether a file is refused, or read as the original."""
    try:
        data = mts.load_buffer(damaged)
    except MetatensorError:
        return True
    return mts.save_buffer(data) == original


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_at_any_position(content, bit):
    damaged = bytearray(content)
    for position in range(len(content)):
        damaged[position] ^= 1 << bit
        assert is_right(damaged, content), position
        damaged[position] ^= 1 << bit


def test_a_file_that_ends_at_any_position(content):
    for size in range(len(content)):
        with pytest.raises(MetatensorError, match="serialization format error"):
            mts.load_buffer(content[:size])


def test_labels_that_end_at_any_position():
    content = bytes(mts.save_buffer(Labels.range("a", 7)))
    for size in range(len(content)):
        with pytest.raises(MetatensorError, match="serialization format error"):
            mts.load_labels_buffer(content[:size])


@pytest.mark.parametrize("options", [["4000"], ["4000", "--more"]])
def test_random_damage_under_a_memory_limit(options):
    script = Path(__file__).with_name("fuzz.py")
    done = subprocess.run(
        [sys.executable, str(script), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ---- well-formed archives with the wrong content

V = "blocks/0/values.npy"
S = "blocks/0/samples.npy"
G = "blocks/0/gradients/positions/"

WRONG_CONTENT = {
    "no keys": ({"keys.npy": None}, "'keys.npy' is missing"),
    "no values": ({V: None}, f"'{V}' is missing"),
    "no samples": ({S: None}, f"'{S}' is missing"),
    "no properties": ({"blocks/1/properties.npy": None}, "'blocks/1/properties.npy' is missing"),
    "no gradient samples": (
        {G + "samples.npy": None},
        "gradients/positions/samples.npy' is missing",
    ),
    "no gradient values": ({G + "values.npy": None}, "gradients/positions/values.npy' is missing"),
    "no gradient component": ({G + "components/0.npy": None}, "components/0.npy' is missing"),
    "a block less": ({"keys.npy": table("a", [[1], [2], [3]])}, "'blocks/2/values.npy' is missing"),
    "a repeated row": ({S: table("s", [[1], [1]])}, "must be unique"),
    "a repeated name": ({S: table("st", [[1, 1], [2, 2]]).replace(b"'t'", b"'s'")}, "unique"),
    "an invalid name": ({S: table(["a b"], [[1], [2]])}, "'a b' is not a valid label name"),
    "long integers": ({S: table("s", [[1], [2]], "<i8")}, "'<i4' or all '>i4'"),
    "mixed orders": ({S: npy(np.zeros(2, [("s", "<i4"), ("t", ">i4")]))}, "'<i4' or all '>i4'"),
    "a table in 2-D": ({S: npy(np.zeros((2, 1), [("s", "<i4")]))}, "must have one dimension"),
    "a plain table": ({S: npy(np.zeros(2, "<i4"))}, "table with named columns is required"),
    "structured values": ({V: table("s", [[1], [2]])}, "values are required"),
    "values of text": ({V: npy(np.zeros((2, 2), "U3"))}, "can not be read"),
    "values of objects": ({V: npy(np.zeros((2, 2), "O"), allow_pickle=True)}, "can not be read"),
    "long doubles": ({V: npy(np.zeros((2, 2), np.longdouble))}, "can not be read"),
    "dates": ({V: npy(np.zeros((2, 2), "M8[s]"))}, "can not be read"),
    "values in 1-D": ({V: npy(np.zeros(4))}, "must have 2 dimensions"),
    "a wrong shape": ({V: npy(np.zeros((3, 2)))}, "one entry for each of the 2 samples"),
    "a wrong size": ({V: npy(np.zeros((2, 3)))}, "one entry for each of the 2 properties"),
    "another dtype": ({V: npy(np.zeros((2, 2), "f4"))}, "dtype"),
    "trailing bytes": ({V: npy(np.zeros((2, 2))) + b"\0"}, "asks for 32 bytes, it has 33"),
    "missing bytes": ({V: npy(np.zeros((2, 2)))[:-1]}, "asks for 32 bytes, it has 31"),
    "no bytes": ({V: b""}, "magic bytes"),
    "no array": ({V: b"blocks" * 40}, "magic bytes"),
    "a wrong version": ({V: b"\x93NUMPY\x04\0" + npy(np.zeros((2, 2)))[8:]}, "version 4.0"),
    "wrong booleans": (
        {V: npy(np.full((2, 2), 2, "u1")).replace(b"|u1", b"|b1")},
        "neither 0 nor 1",
    ),
    "a gradient too far": (
        {G + "samples.npy": table(["sample", "atom"], [[2, 0]])},
        "0 to 1, got 2",
    ),
    "a negative sample": ({G + "samples.npy": table(["sample", "atom"], [[-1, 0]])}, "got -1"),
    "no sample column": ({G + "samples.npy": table(["s", "atom"], [[1, 0]])}, "'sample' as first"),
    "info of numbers": ({"info.json": b'{"a": 1}'}, "nothing but texts"),
    "info of lists": ({"info.json": b'[["a", "b"]]'}, "nothing but texts"),
    "nested info": ({"info.json": b'{"a": {}}'}, "nothing but texts"),
    "deep info": ({"info.json": b"[" * 200_000}, "in 'info.json'"),
    "no JSON": ({"info.json": b"{"}, "in 'info.json'"),
    "no UTF-8": ({"info.json": b'{"a": "\xff"}'}, "in 'info.json'"),
    "twice in info": ({"info.json": b'{"a": "b", "a": "c"}'}, "more than once"),
    "a slash in a gradient": ({G + "x/values.npy": b"", G + "values.npy": None}, "is missing"),
    "endless nesting": ({"blocks/0/" + "gradients/g/" * 100 + "values.npy": b""}, "nested more"),
}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("case", WRONG_CONTENT)
def test_wrong_content(case, compression):
    changes, message = WRONG_CONTENT[case]
    parts = {
        name: part for name, part in {**members(tensor()), **changes}.items() if part is not None
    }
    with pytest.raises(MetatensorError, match="serialization format error") as error:
        mts.load_buffer(archive(parts, compression))
    assert message in str(error.value)


HEADERS = {
    "a call": b"{'descr': open('x'), 'fortran_order': False, 'shape': (2, 2)}",
    "nothing": b"",
    "no dictionary": b"('<f8', False, (2, 2))",
    "a missing key": b"{'descr': '<f8', 'shape': (2, 2)}",
    "an unknown key": b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), 'x': '1'}",
    "a repeated key": b"{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (2, 2)}",
    "more text": b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2)} + {}",
    "an integer as shape": b"{'descr': '<f8', 'fortran_order': False, 'shape': (4)}",
    "a list as shape": b"{'descr': '<f8', 'fortran_order': False, 'shape': [2, 2]}",
    "a negative size": b"{'descr': '<f8', 'fortran_order': False, 'shape': (-2, -2)}",
    "a huge size": b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, %d)}" % 10**30,
    "an overflow": b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d, 8)}" % 2**61,
    "many dimensions": b"{'descr': '<f8', 'fortran_order': False, 'shape': (%s)}" % (b"1," * 200),
    "no boolean": b"{'descr': '<f8', 'fortran_order': 0, 'shape': (2, 2)}",
    "an escape": rb"{'descr': '\x3cf8', 'fortran_order': False, 'shape': (2, 2)}",
    "no byte order": b"{'descr': 'f8', 'fortran_order': False, 'shape': (2, 2)}",
    "no order of bytes": b"{'descr': '|f8', 'fortran_order': False, 'shape': (2, 2)}",
    "no end": b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2)",
}


@pytest.mark.parametrize("case", HEADERS)
def test_wrong_headers(case):
    text = HEADERS[case].ljust(117) + b"\n"
    header = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    parts = {**members(block()), "values.npy": header + bytes(32)}
    with pytest.raises(MetatensorError, match=r"in 'values\.npy'"):
        mts.load_block_buffer(archive(parts))


@pytest.mark.parametrize("size", [10**6, 10**9, 2**31 - 8])
def test_small_files_do_not_ask_for_much_memory(size):
    """Archives that say they have more than they can hold."""
    content = bytearray(archive(members(block()), zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(content)) as whole:
        start = whole.getinfo("values.npy").header_offset
    central = content.index(b"PK\x01\x02")
    for position in (start + 22, central + 24):
        content[position : position + 4] = size.to_bytes(4, "little")
    with pytest.raises(MetatensorError, match=r"can not hold|declared size"):
        mts.load_block_buffer(content)


def test_compressed_values_are_not_inflated_beyond_what_the_labels_need():
    parts = {**members(block()), "values.npy": npy(np.zeros((2, 4_000_000)))}
    content = archive(parts, zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    with pytest.raises(MetatensorError, match="each of the 2 properties"):
        mts.load_block_buffer(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


# ---- archives


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(compression):
    with pytest.raises(MetatensorError, match="neither stored nor deflated"):
        mts.load_buffer(archive(members(tensor()), compression))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("comment", [b"", b"PK\x05\x06" + bytes(30)])
def test_archives_of_other_programs_are_read(compression, comment):
    parts = {**members(tensor()), "README": b"hello", "blocks/7/": b"", "ü": b""}
    parts["blocks/0/components/0.npy"] = b"no such component"
    shuffled = dict(sorted(parts.items(), reverse=True))
    assert_equal(mts.load_buffer(archive(shuffled, compression, comment)), tensor())


def test_two_members_with_one_name():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as new:
        for name, part in members(block()).items():
            new.writestr(name, part)
        with pytest.warns(UserWarning, match="Duplicate name"):
            new.writestr("values.npy", members(block())["values.npy"])
    with pytest.raises(MetatensorError, match=r"two members 'values\.npy'"):
        mts.load_block_buffer(stream.getvalue())


@pytest.mark.parametrize(
    ("before", "after"), [(b"#!/bin/sh\n", b""), (b"", b"\0"), (b"", b"\0" * 70000)]
)
def test_bytes_around_the_archive(before, after, content):
    with pytest.raises(MetatensorError):
        mts.load_buffer(before + content + after)


def test_a_lost_member_is_noticed(content):
    """What is in the file but not in its directory would be lost silently."""
    directory = content.index(b"PK\x01\x02")
    entry = content.index(b"PK\x01\x02", content.index(b"info.json", directory) - 60)
    end = content.index(b"PK\x05\x06")
    damaged = bytearray(content[:entry] + content[end:])
    damaged[-14:-6] = b"".join([(len(members(tensor())) - 1).to_bytes(2, "little")] * 2) + (
        entry - directory
    ).to_bytes(4, "little")
    with pytest.raises(MetatensorError):
        mts.load_buffer(damaged)


def test_a_damaged_name_of_an_optional_member_is_noticed(content):
    damaged = content.replace(b"info.json", b"info.jsom", 1)
    assert damaged.count(b"info.json") == 1
    with pytest.raises(MetatensorError, match="differs from the central directory"):
        mts.load_buffer(damaged)


# ---- the wrong kind of file

KINDS = {"TensorMap": tensor, "TensorBlock": block, "Labels": lambda: Labels.range("a", 3)}
FUNCTIONS = {"TensorMap": "load", "TensorBlock": "load_block", "Labels": "load_labels"}


@pytest.mark.parametrize("wanted", KINDS)
@pytest.mark.parametrize("got", KINDS)
def test_the_error_names_the_right_function(wanted, got, tmp_path):
    mts.save(tmp_path / "data.mts", KINDS[got]())
    load = getattr(mts, FUNCTIONS[wanted])
    load_buffer = getattr(mts, FUNCTIONS[wanted] + "_buffer")
    if wanted == got:
        assert_equal(load(tmp_path / "data.mts"), KINDS[got]())
        return
    with pytest.raises(MetatensorError, match=f"use `{FUNCTIONS[got]}` to load {got}"):
        load(tmp_path / "data.mts")
    with pytest.raises(MetatensorError, match=f"use `{FUNCTIONS[got]}_buffer` to load {got}"):
        load_buffer((tmp_path / "data.mts").read_bytes())


@pytest.mark.parametrize("content", [b"", b"P", b"PK\x03\x04", b"hello world" * 9, bytes(500)])
@pytest.mark.parametrize("kind", KINDS)
def test_other_files(content, kind, tmp_path):
    (tmp_path / "x.mts").write_bytes(content)
    with pytest.raises(MetatensorError, match=rf"unable to load (a )?{kind} from '.*x\.mts': "):
        getattr(mts, FUNCTIONS[kind])(tmp_path / "x.mts")
    with pytest.raises(MetatensorError, match="from buffer: "):
        getattr(mts, FUNCTIONS[kind] + "_buffer")(content)


def test_info_is_json_that_others_read(content):
    assert json.loads(members(tensor())["info.json"]) == {"author": "somebody"}
