"""Damage files at random and read them: `python tests/io/fuzz.py COUNT [--seed SEED] [--more]`.

Each damaged file must give a MetatensorError or the data of the original, without using much
memory or time. With `--more` there are also cases in which other data is right: the values of a
mapped file, which are not checked; Labels, whose files have no check sum; and archives that were
forged with the right check sums, whose data must at least survive saving and reading.
"""

import argparse
import collections
import io
import re
import struct
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

from metatensor import Labels, MetatensorError, TensorBlock, TensorMap
from metatensor.io import _files, _reading, mts

MEMORY = 1 << 28
SECONDS = 1.0


# ---- what to damage


def labels(names, rows, start=0):
    table = np.arange(start, start + rows * len(names)).reshape(rows, len(names))
    return Labels(names, table)


def block(dtype, n_samples, n_properties, n_components=1, nesting=1):
    properties = labels(["n", "l"], n_properties)
    components = [labels([f"c{i}"], 2) for i in range(n_components)]
    shape = (n_samples, *[2] * n_components, n_properties)
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    whole = TensorBlock(values, labels(["system", "atom"], n_samples), components, properties)
    for parameter in ["strain", "positions"][: nesting + 1] if nesting else []:
        inner = block(dtype, 3, n_properties, n_components, nesting - 1)
        names = Labels(["sample", "atom"], np.array([[0, 1], [1, 0], [1, 2]]))
        gradient = TensorBlock(inner.values, names, components, properties)
        for name, nested in inner.gradients():
            gradient.add_gradient(name, nested)
        whole.add_gradient(parameter, gradient)
    return whole


def tensor(dtype, n_samples, n_properties, **kwargs):
    blocks = [block(dtype, n_samples + i, n_properties, **kwargs) for i in range(2)]
    data = TensorMap(Labels(["a", "b"], np.array([[3, 1], [-1, 2]])), blocks)
    data.set_info("origin", "made for tests, with ünicode")
    return data


class Unseekable(io.RawIOBase):
    """A stream that can not go back: zipfile writes sizes behind the data then."""

    def __init__(self):
        self.content = b""

    def writable(self):
        return True

    def write(self, data):
        self.content += bytes(data)
        return len(data)


def zipped_again(content, compression, stream):
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(stream, "w", compression) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))


def numpy_written(data, big_endian):
    """The file as numpy would write it, in Fortran order."""
    stream = io.BytesIO()
    content = io.BytesIO(mts.save_buffer(data))
    with zipfile.ZipFile(content) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            part = io.BytesIO()
            if name.endswith("values.npy"):
                values = np.asfortranarray(np.load(io.BytesIO(old.read(name))))
                np.save(part, values.astype(values.dtype.newbyteorder(">" if big_endian else "<")))
            elif name.endswith(".npy"):
                table = np.load(io.BytesIO(old.read(name)))
                order = ">i4" if big_endian else "<i4"
                np.save(part, table.astype([(field, order) for field in table.dtype.names]))
            else:
                part.write(old.read(name))
            new.writestr(name, part.getvalue())
    return stream.getvalue()


def originals():
    """Pairs of a file's bytes and the function that reads it, by name."""
    small = tensor("f8", 3, 2)
    content = bytes(mts.save_buffer(small))
    deflated, streamed = io.BytesIO(), Unseekable()
    zipped_again(content, zipfile.ZIP_DEFLATED, deflated)
    zipped_again(content, zipfile.ZIP_STORED, streamed)
    many = TensorMap(
        labels(["a"], 60), [block("i2", 1 + i % 3, 2, 0, nesting=0) for i in range(60)]
    )
    return {
        "small": (content, _reading.read_map),
        "aligned": (bytes(mts.save_buffer(tensor("c16", 40, 30, nesting=0))), _reading.read_map),
        "many": (bytes(mts.save_buffer(many)), _reading.read_map),
        "bool": (bytes(mts.save_buffer(tensor("bool", 2, 3, nesting=0))), _reading.read_map),
        "empty": (bytes(mts.save_buffer(block("f4", 0, 0, 2, nesting=0))), _reading.read_block),
        "nested": (bytes(mts.save_buffer(block("f4", 2, 1, 1, nesting=2))), _reading.read_block),
        "deflated": (deflated.getvalue(), _reading.read_map),
        "streamed": (streamed.content, _reading.read_map),
        "numpy": (numpy_written(small, big_endian=False), _reading.read_map),
        "big-endian": (numpy_written(small, big_endian=True), _reading.read_map),
        "labels": (bytes(mts.save_buffer(labels(["x", "y"], 20))), _reading.read_labels),
    }


# ---- how to damage it

NUMBERS = [
    0,
    1,
    2,
    3,
    8,
    22,
    46,
    255,
    256,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63,
    2**64 - 1,
]
FIELDS = {  # offset and size of the numbers in the structures of zip files
    b"PK\x03\x04": [(4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)],
    b"PK\x01\x02": [
        (8, 2),
        (10, 2),
        (16, 4),
        (20, 4),
        (24, 4),
        (28, 2),
        (30, 2),
        (32, 2),
        (34, 2),
        (42, 4),
    ],
    b"PK\x05\x06": [(4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)],
    b"\x01\x00\x10\x00": [(0, 2), (2, 2), (4, 8), (12, 8)],
    b"mt": [(0, 2), (2, 2), (4, 4)],
}
TEXTS = [
    b"9" * 19,
    b"1e9",
    b"-1",
    b"0",
    b"(",
    b")",
    b"]",
    b"{",
    b"'",
    b",",
    b"True",
    b"<i8",
    b">f8",
    b"|O8",
    b"\\x",
]


def flip(content, random):
    content[random.integers(len(content))] ^= 1 << random.integers(8)


def change(content, random):
    content[random.integers(len(content))] = random.integers(256)


def truncate(content, random):
    del content[random.integers(len(content)) :]


def cut(content, random):
    start = random.integers(len(content))
    del content[start : start + random.integers(1, 200)]


def repeat(content, random):
    start, size = random.integers(len(content)), random.integers(1, 200)
    content[start:start] = content[start : start + size]


def splice(content, random):
    """Overwrite a part with another part of the same file."""
    size = random.integers(1, 400)
    source, target = random.integers(len(content), size=2)
    part = content[source : source + size]
    content[target : target + len(part)] = part


def overwrite(content, random):
    start, size = random.integers(len(content)), random.integers(1, 64)
    fill = [b"\0" * size, b"\xff" * size, random.bytes(size)][random.integers(3)]
    content[start : start + size] = fill


def forge_zip(content, random):
    """Write wrong numbers into the structures of the archive, up to three."""
    signature = list(FIELDS)[random.integers(len(FIELDS))]
    places = [found.start() for found in re.finditer(re.escape(signature), bytes(content))]
    if not places:
        return flip(content, random)
    for _ in range(random.integers(1, 4)):
        offset, size = FIELDS[signature][random.integers(len(FIELDS[signature]))]
        start = places[random.integers(len(places))] + offset
        number = NUMBERS[random.integers(len(NUMBERS))]
        if random.integers(3) == 0:
            number = int(random.integers(len(content)))
        content[start : start + size] = (number % 256**size).to_bytes(size, "little")
    return None


def forge_npy(content, random):
    """Write something else into the text of an array's header, and its size."""
    places = [found.start() for found in re.finditer(rb"\x93NUMPY", bytes(content))]
    if not places:
        return flip(content, random)
    start = places[random.integers(len(places))]
    if random.integers(4) == 0:
        content[start + 6 : start + 10] = struct.pack(
            "<BBH", random.integers(4), 0, random.integers(65536)
        )
        return None
    text = TEXTS[random.integers(len(TEXTS))]
    end = content.find(b"\n", start)
    position = start + 10 + random.integers(max(1, end - start - 10 - len(text)))
    content[position : position + len(text)] = text
    return None


def forge_member(content, random):
    """Damage, drop or exchange members, and write an archive with the right check sums."""
    if content[:2] != b"PK":
        return flip(content, random)
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        members = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    names = list(members)
    first, second = (names[i] for i in random.integers(len(names), size=2))
    kind = random.integers(6)
    if kind == 0:
        del members[first]
    elif kind == 1:
        members[first], members[second] = members[second], members[first]
    else:
        damage = [flip, truncate, forge_npy, forge_npy][kind - 2]
        damage(members[first], random)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED][kind % 2]) as new:
        for name, member in members.items():
            new.writestr(name, member)
    content[:] = stream.getvalue()
    return None


DAMAGES = [flip, change, truncate, cut, repeat, splice, overwrite, forge_zip, forge_npy]


# ---- reading it


def in_memory(content):
    return _files.buffer_source(content)


def in_pieces(content):
    """As from a file that is too large to be read at once."""

    def readinto(offset, buffer):
        part = content[offset : offset + memoryview(buffer).nbytes]
        if len(part) != memoryview(buffer).nbytes:
            raise AssertionError("asked for bytes behind the end of the file")
        memoryview(buffer)[:] = part

    return _files.Source("pieces", len(content), None, readinto)


def read(content, reader, way):
    if reader is _reading.read_labels:
        return reader((in_pieces if way == 1 else in_memory)(content))
    return reader(
        (in_pieces if way == 1 else in_memory)(content),
        _reading.mapped if way == 2 else _reading.in_memory,
    )


def without_values(data):
    """The bytes of what is not values."""
    with zipfile.ZipFile(io.BytesIO(bytes(mts.save_buffer(data)))) as archive:
        names = archive.namelist()
        return [(n, b"" if n.endswith("values.npy") else archive.read(n)) for n in names]


def outcome(content, reader, original, way):
    """What reading a damaged file comes to."""
    try:
        data = read(content, reader, way)
    except MetatensorError:
        return "error"
    if mts.save_buffer(data) == original:
        return "equal"
    if reader is _reading.read_labels:
        return "other labels"
    expected = reader(in_memory(bytes(original)), _reading.in_memory)
    if way == 2 and without_values(data) == without_values(expected):
        return "other values of a mapping"
    return "WRONG DATA"


def is_consistent(content, reader, way):
    """Whether the data of an archive with right check sums survives saving and reading."""
    saved = bytes(mts.save_buffer(read(content, reader, way)))
    return mts.save_buffer(read(saved, reader, 0)) == saved


def fuzz(count, seed, more):
    """Count the outcomes of damaging and reading, by the kind of damage."""
    random = np.random.default_rng(seed)
    files = originals()
    if not more:
        del files["labels"]
    damages = [*DAMAGES, forge_member] if more else DAMAGES
    expected = {name: bytes(mts.save_buffer(read(*file, 0))) for name, file in files.items()}
    outcomes = collections.Counter()
    slowest = 0.0
    for position in range(count):
        name = list(files)[position % len(files)]
        content, reader = files[name]
        damaged = bytearray(content)
        damage = damages[random.integers(len(damages))]
        damage(damaged, random)
        way = int(random.integers(3 if more else 2))
        start = time.process_time()
        try:
            result = outcome(bytes(damaged), reader, expected[name], way)
        except BaseException as error:  # whatever it is, it is what we look for
            result = f"WRONG {type(error).__name__}"
        if (
            result == "WRONG DATA"
            and damage is forge_member
            and is_consistent(bytes(damaged), reader, way)
        ):
            result = "other archive"
        slowest = max(slowest, time.process_time() - start)
        outcomes[damage.__name__, result] += 1
        if "WRONG" in result:
            path = Path(tempfile.gettempdir()) / f"fuzz-{seed}-{position}-{name}-{way}.mts"
            path.write_bytes(damaged)
            print(f"{result}: {damage.__name__} on {name}, way {way}, see {path}")
    return outcomes, slowest


def limit_memory(size):
    """Let this process have no more memory than it has now and `size` bytes."""
    if sys.platform == "linux":
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + size, used + size))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--more", action="store_true", help="also where other data may be right")
    options = parser.parse_args()
    limit_memory(MEMORY)
    outcomes, slowest = fuzz(options.count, options.seed, options.more)
    results = sorted({result for _, result in outcomes})
    print(f"{'':12s}" + "".join(f"{result:>26s}" for result in results))
    for damage in sorted({damage for damage, _ in outcomes}):
        print(f"{damage:12s}" + "".join(f"{outcomes[damage, result]:26d}" for result in results))
    totals = [sum(n for (_, r), n in outcomes.items() if r == result) for result in results]
    print(f"{'total':12s}" + "".join(f"{total:26d}" for total in totals))
    print(f"slowest {slowest:.3f} s")
    return 1 if slowest > SECONDS or any("WRONG" in result for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
