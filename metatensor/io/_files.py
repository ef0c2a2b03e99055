"""Where bytes come from and go to: paths, file objects and buffers."""

from __future__ import annotations

import contextlib
import errno
import io
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks
from metatensor._core.zip_writer import chunks

Bytes = npt.NDArray[np.uint8]
#: a piece of a file: bytes, or an array whose elements in C order and little-endian are the bytes
Part = bytes | npt.NDArray[Any]
Sink = Callable[[Part], None]

_READ_AT_ONCE = 1 << 20  # smaller files are brought into memory as a whole
_PIECE = 1 << 20


def is_path(file: Any) -> bool:
    """Tell whether this names a file, rather than being one."""
    return isinstance(file, (str, bytes, os.PathLike))


@contextlib.contextmanager
def io_errors(file: Any, use_numpy: bool = False) -> Iterator[None]:
    """Turn what the system says of a path into our error; file objects raise what they like."""
    try:
        yield
    except OSError as error:
        if use_numpy or not is_path(file):
            raise
        where = os.fsdecode(file)
        raise _checks.MetatensorError(f"io error: {error.strerror}: {where!r}") from error


# ---- writing


def write_to(file: Any, write: Callable[[Sink], None], use_numpy: bool = False) -> None:
    """Write a file at a path, as it is, or to a file object."""
    if is_path(file):
        with io_errors(file, use_numpy):
            write_to_path(os.fsdecode(file), write)
    elif hasattr(file, "write"):
        write_to_object(file, write)
    else:
        raise TypeError(f"`file` must be a path or a file object, got {_checks.kind(file)}")


def write_to_path(path: str, write: Callable[[Sink], None]) -> None:
    """Write a file as a whole or not at all: the old one stays until the new one is complete."""
    if os.path.islink(path):
        path = os.path.realpath(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        _replace(path, None, write)
        return
    if not stat.S_ISREG(mode):
        with open(path, "wb", buffering=0) as file:
            write(lambda part: _write_part(file.write, part))
        return
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "the file can not be written to", path)
    _replace(path, mode, write)


def _replace(path: str, mode: int | None, write: Callable[[Sink], None]) -> None:
    """Write a temporary file in the same folder, then give it the name of the file."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name[:40]}.{os.urandom(8).hex()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(temporary, flags, 0o666 if mode is None else stat.S_IMODE(mode))
    except OSError as error:
        error.filename = path
        raise
    try:
        try:
            write(lambda part: _write_part(lambda piece: os.write(descriptor, piece), part))
            if mode is not None:
                os.chmod(temporary, stat.S_IMODE(mode))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _write_part(write: Callable[[Any], int], part: Part) -> None:
    for chunk in _byte_chunks(part):
        while len(chunk):
            chunk = chunk[write(chunk) :]


def _byte_chunks(part: Part) -> Iterator[Any]:
    if isinstance(part, bytes):
        yield part
    else:
        for chunk in chunks(part):
            yield chunk.reshape(-1).view(np.uint8)


def write_to_object(file: Any, write: Callable[[Sink], None]) -> None:
    """Write to a file object, which gets nothing but bytes of its own."""

    def sink(part: Part) -> None:
        for chunk in _byte_chunks(part):
            for start in range(0, len(chunk), _PIECE):
                piece = bytes(chunk[start : start + _PIECE])
                while piece:
                    written = file.write(piece)
                    piece = b"" if written is None else piece[written:]

    write(sink)


def write_to_memory(write: Callable[[Sink], None]) -> memoryview:
    """Return the bytes of a file, whose size is known before they are copied."""
    parts: list[Part] = []
    write(parts.append)
    size = sum(len(part) if isinstance(part, bytes) else part.nbytes for part in parts)
    result = np.empty(size, dtype=np.uint8)
    start = 0
    for part in parts:
        for chunk in _byte_chunks(part):
            end = start + len(chunk)
            result[start:end] = np.frombuffer(chunk, dtype=np.uint8)
            start = end
    return result.data


# ---- reading


class Source(NamedTuple):
    """Bytes to read: all of them in `data`, or `readinto(offset, buffer)` brings some.

    `name` is what error messages call it, and `suffix` ends the functions that read such a thing.
    """

    name: str
    size: int
    data: Bytes | None
    readinto: Callable[[int, Any], None] | None = None
    suffix: str = ""

    def read(self, offset: int, size: int) -> Bytes:
        """Return some of the bytes, of which there must be as many."""
        data = np.empty(size, dtype=np.uint8)
        self.copy(offset, data)
        return data

    def copy(self, offset: int, target: npt.NDArray[Any]) -> None:
        """Bring bytes into a contiguous array."""
        if self.data is None:
            assert self.readinto is not None
            self.readinto(offset, target.reshape(-1).view(np.uint8))
        elif target.size:
            target.reshape(-1).view(np.uint8)[:] = self.data[offset : offset + target.nbytes]


@contextlib.contextmanager
def opened(file: Any, mapped: bool = False) -> Iterator[Source]:
    """Open a path, or look at a file object, for reading."""
    if is_path(file):
        name = os.fsdecode(file)
        with open(name, "rb", buffering=0) as raw:
            if mapped:
                yield Source(repr(name), *_map(raw))
            else:
                yield _source(repr(name), raw)
        return
    if not hasattr(file, "read"):
        raise TypeError(f"`file` must be a path or a file object, got {_checks.kind(file)}")
    if mapped:
        raise ValueError("`mmap=True` requires the path of a file, got a file object")
    yield _source("file object", file)


def _source(name: str, file: Any) -> Source:
    """Make a source of a file object, from where it is to its end."""
    if isinstance(file, (io.FileIO, io.BufferedReader, io.BufferedRandom)) and file.seekable():
        start = file.tell()
        size = file.seek(0, io.SEEK_END) - start
        file.seek(start)
        if size > _READ_AT_ONCE:
            return Source(
                name, size, None, lambda offset, buffer: _read_into(file, start + offset, buffer)
            )
    data = file.read()
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(
            f"`file` must be opened in binary mode, its `read` gives {_checks.kind(data)}"
        )
    return Source(name, len(data), _as_bytes(data))


def _read_into(file: Any, offset: int, buffer: Any) -> None:
    file.seek(offset)
    view = memoryview(buffer)
    while len(view):
        count = file.readinto(view)
        if not count:
            raise ValueError("the file became shorter while it was read")
        view = view[count:]


def _map(raw: io.FileIO) -> tuple[int, Bytes]:
    size = os.fstat(raw.fileno()).st_size
    if size == 0:
        return 0, np.empty(0, dtype=np.uint8)
    return size, np.frombuffer(mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)


def buffer_source(buffer: Any) -> Source:
    """Make a source of bytes in memory."""
    if _arrays.library(buffer) == "torch":
        buffer = _arrays.to_host(buffer)
    data = _as_bytes(buffer)
    return Source("buffer", len(data), data, suffix="_buffer")


def _as_bytes(buffer: Any) -> Bytes:
    view = memoryview(buffer)
    if not view.c_contiguous:
        raise ValueError("the buffer must be contiguous")
    return np.frombuffer(view, dtype=np.uint8) if view.nbytes else np.empty(0, dtype=np.uint8)
