"""Datasets in one file, of which no more is read than the samples that are asked for."""

from __future__ import annotations

import importlib
import json
import os
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from metatensor import _checks
from metatensor._core.zip_reader import ArchiveReader
from metatensor._core.zip_writer import ArchiveWriter
from metatensor.io import _files, _reading, _writing
from metatensor.learn.data import _named_tuples
from metatensor.learn.data.datasets import PositionDataset, position_of, positions_of
from metatensor.tensor import TensorMap

_IDS = "sample_id.json"


def save_dataset(path: Any, samples: Iterable[Any], progress: bool = False) -> None:
    """Write samples to a file for :class:`DiskDataset`, one after the other.

    The samples may come from a generator, so that they need not fit into memory together. The file
    is written as a whole or not at all: until the new one is complete, an old one stays. It is a
    zip archive, not compressed, with one member ``{position}/{field}.mts`` for each map, the bytes
    of the file that :func:`metatensor.save` writes.

    Gradients: saved with their maps.

    Parameters
    ----------
    path : str or path
        where to write to, as it is: no suffix is added
    samples : iterable of named tuples, or of dicts
        a :class:`Dataset`, an :class:`IndexedDataset` or any other; with the same fields in every
        sample, all of them TensorMaps, but ``sample_id``, which is a str or an int
    progress : bool, default=False
        show a progress bar, if standard error is a terminal; needs tqdm

    Raises
    ------
    TypeError
        if a value is of another type
    ValueError
        if samples have different fields, or names that a path can not have, or for identities that
        are not unique
    BufferError
        if values require gradients: detach them first
    MetatensorError
        if the file can not be written, or maps are such that files can not have them
    ImportError
        if a progress bar is wanted and tqdm is not installed

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.learn.data import DiskDataset, save_dataset
    >>> def make_map(system):
    ...     samples = Labels("system", np.array([[system]]))
    ...     block = TensorBlock(np.ones((1, 3)), samples, [], Labels.range("n", 3))
    ...     return TensorMap(Labels.single(), [block])
    >>> path = os.path.join(tempfile.mkdtemp(), "systems.zip")
    >>> save_dataset(path, ({"features": make_map(system)} for system in range(3)))
    >>> DiskDataset(path)
    DiskDataset with 3 samples
        fields: features

    """
    if not _files.is_path(path):
        raise TypeError(f"`path` must be the path of a file, got {_checks.kind(path)}")
    steps = _bar(samples) if progress else samples
    with _files.io_errors(path):
        _files.write_to_path(os.fsdecode(path), lambda sink: _write(sink, steps))


def _bar(samples: Iterable[Any]) -> Iterable[Any]:
    try:
        tqdm = importlib.import_module("tqdm")
    except ImportError as error:
        raise ImportError(
            "`progress=True` needs the package 'tqdm', which could not be imported; "
            "install it with `pip install tqdm`"
        ) from error
    # `disable=None` is tqdm's way to stay silent where standard error is no terminal
    bar: Iterable[Any] = tqdm.tqdm(samples, desc="saving", unit="sample", disable=None)
    return bar


def _write(sink: Callable[[Any], object], samples: Iterable[Any]) -> None:
    archive = ArchiveWriter(sink)
    fields: set[str] | None = None
    ids = []
    for position, sample in enumerate(samples):
        values = _values(sample, position)
        if fields is None:
            fields = set(values)
        if values.keys() != fields:
            raise ValueError(
                "all samples must have the same fields, the first one has "
                f"{sorted(fields)}, and that at position {position} {sorted(values)}"
            )
        for name, value in values.items():
            if name == "sample_id":
                ids.append(value)
                continue
            content = _files.write_to_memory(_writing.writer_of(value, False))
            archive.add(_member(position, name), b"", np.frombuffer(content, dtype=np.uint8))
    if ids:
        positions_of(ids)
        archive.add(_IDS, json.dumps(ids).encode())
    archive.finish()


def _values(sample: Any, position: int) -> dict[str, Any]:
    """Return what to write of a sample, by field."""
    if isinstance(sample, Mapping):
        values = dict(sample)
    elif isinstance(sample, tuple) and hasattr(sample, "_fields"):
        values = dict(zip(sample._fields, sample))
    else:
        raise TypeError(f"samples must be named tuples or dicts, got {_checks.kind(sample)}")
    for name, value in values.items():
        if not isinstance(name, str) or not name or "/" in name or "\0" in name:
            raise ValueError(f"the name of a field must be a text without '/', got {name!r}")
        kinds = (str, int) if name == "sample_id" else (TensorMap,)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise TypeError(
                f"values of the field {name!r} must be {' or '.join(k.__name__ for k in kinds)} to "
                f"be saved, got {_checks.kind(value)} at position {position}"
            )
    return values


def _member(position: int, field: str) -> str:
    return f"{position}/{field}.mts"


class DiskDataset(PositionDataset):
    """Samples in a file, read when they are asked for.

    ``dataset[position]`` reads the maps of one sample, with every byte checked. What stays in
    memory is the directory of the file, some 300 bytes for each map. It can be pickled: worker
    processes open the file themselves, or go on with what they inherit.

    Gradients: read with their maps.

    Parameters
    ----------
    path : str or path
        file written by :func:`save_dataset`, or any zip archive with such members, also compressed
    fields : list of str, optional
        the fields to read, in this order; all of them by default, in the order of the file.
        ``sample_id`` comes first, if the file has it.
    arrays : {"torch", "numpy", "jax"}, default="torch"
        library of the values

    Attributes
    ----------
    path : str
        of the file, absolute
    fields : tuple of str
        names of the fields in each sample

    Raises
    ------
    MetatensorError
        if the file can not be read, is damaged, or a sample lacks a field
    ValueError
        for a field that the file has not

    Notes
    -----
    Processes that run on after the file was replaced by another one raise MetatensorError where
    they would have to open it anew.

    See Also
    --------
    save_dataset : writes such files

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.learn import DataLoader, Dataset
    >>> from metatensor.learn.data import DiskDataset, save_dataset
    >>> def make_map(system):
    ...     samples = Labels("system", np.array([[system]]))
    ...     block = TensorBlock(np.ones((1, 3)), samples, [], Labels.range("n", 3))
    ...     return TensorMap(Labels.single(), [block])
    >>> path = os.path.join(tempfile.mkdtemp(), "systems.zip")
    >>> save_dataset(path, Dataset(features=[make_map(system) for system in range(3)]))
    >>> dataset = DiskDataset(path)
    >>> for batch in DataLoader(dataset, batch_size=2):
    ...     print(batch.features.block().shape)
    torch.Size([2, 3])
    torch.Size([1, 3])

    """

    def __init__(
        self, path: Any, fields: Sequence[str] | None = None, arrays: str = "torch"
    ) -> None:
        if not _files.is_path(path):
            raise TypeError(f"`path` must be the path of a file, got {_checks.kind(path)}")
        if arrays not in ("torch", "numpy", "jax"):
            raise ValueError(f"`arrays` must be 'torch', 'numpy' or 'jax', got {arrays!r}")
        self.path = os.path.abspath(os.fsdecode(path))
        self.arrays = arrays
        self._archive: _Archive | None = _Archive(self.path)
        self._stamp = self._archive.stamp
        self._size, found = self._archive.samples()
        self._ids = self._archive.sample_ids(self._size)
        self._positions = {} if self._ids is None else positions_of(self._ids)
        self._fields = _chosen(fields, found, has_ids=self._ids is not None)
        self.fields = self._fields if self._ids is None else ("sample_id", *self._fields)

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._size

    def __repr__(self) -> str:
        return f"DiskDataset with {self._size} samples\n    fields: {', '.join(self.fields)}"

    def get_sample(self, sample_id: Hashable) -> _named_tuples.NamedTuple:
        """Return the sample with an identity.

        Parameters
        ----------
        sample_id : str or int
            one of those in the file

        Returns
        -------
        Sample

        Raises
        ------
        ValueError
            if the file has no such sample

        """
        return self._sample(position_of(sample_id, self._positions))

    def close(self) -> None:
        """Close the file; it is opened again when a sample is asked for."""
        if self._archive is not None:
            self._archive.close()
        self._archive = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_archive": None}

    def _sample(self, position: int) -> _named_tuples.NamedTuple:
        if self._archive is None:
            self._archive = _Archive(self.path, self._stamp)
        values = [self._archive.load(_member(position, name)) for name in self._fields]
        if self.arrays != "numpy":
            values = [value.to(arrays=self.arrays) for value in values]
        ids = [] if self._ids is None else [self._ids[position]]
        return _named_tuples.make("Sample", self.fields, [*ids, *values])


def _chosen(fields: Sequence[str] | None, found: tuple[str, ...], has_ids: bool) -> tuple[str, ...]:
    if fields is None:
        return found
    names = [fields] if isinstance(fields, str) else list(fields)
    known = ("sample_id", *found) if has_ids else found
    for name in names:
        if name not in known:
            raise ValueError(f"`fields` must be among those of the file, {known}, got {name!r}")
    return tuple(name for name in dict.fromkeys(names) if name != "sample_id")


# ---- the file


class _Stamp(NamedTuple):
    """What tells that a file is the same one."""

    size: int
    modified: int


class _Archive:
    """An open file, and what its directory says.

    Reads name their position, so that a process and its forks, which share the offset of an open
    file, do not disturb each other. Threads take turns.
    """

    _process: int
    _lock: threading.Lock
    _reader: ArchiveReader

    def __init__(self, path: str, expected: _Stamp | None = None) -> None:
        self.path = path
        with _files.io_errors(path):
            self._file = file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            self.close = weakref.finalize(self, os.close, file)
            found = os.fstat(file)
        self.stamp = _Stamp(found.st_size, found.st_mtime_ns)
        if expected not in (None, self.stamp):
            raise _checks.MetatensorError(f"{path!r} was replaced while the dataset was in use")
        self._start()

    def _start(self) -> None:
        self._process, self._lock = os.getpid(), threading.Lock()
        with self._format_errors("the directory"):
            self._reader = ArchiveReader(self.stamp.size, None, partial(_read_into, self._file))

    @contextmanager
    def _format_errors(self, what: str) -> Iterator[None]:
        with _files.io_errors(self.path):
            try:
                yield
            except _checks.MetatensorError:
                raise
            except (ValueError, RecursionError) as error:
                raise _checks.MetatensorError(
                    f"serialization format error: unable to load {what} from {self.path!r}: {error}"
                ) from error

    def _content(self, name: str) -> bytes:
        if self._process != os.getpid():
            self._start()  # another thread may have been reading when this process was forked
        with self._format_errors(repr(name)), self._lock:
            return self._reader.content(name)

    def load(self, name: str) -> TensorMap:
        """Read the map in a member."""
        data = np.frombuffer(self._content(name), dtype=np.uint8)
        source = _files.Source(f"{name!r} of {self.path!r}", len(data), data)
        return _reading.read_map(source, _reading.in_memory)

    def samples(self) -> tuple[int, tuple[str, ...]]:
        """Return the number of samples, and the fields that every one must have."""
        names = [name for name in self._reader.names if name.endswith(".mts")]
        fields = tuple(name[2:-4] for name in names if name.startswith("0/"))
        size, rest = divmod(len(names), len(fields)) if fields else (0, len(names))
        with self._format_errors("samples"):
            for position in range(size):
                for field in fields:
                    if _member(position, field) not in self._reader.names:
                        raise ValueError(f"{_member(position, field)!r} is missing")
            if rest:
                raise ValueError(f"there are {len(names)} maps for samples with fields {fields}")
        return size, fields

    def sample_ids(self, size: int) -> list[Any] | None:
        """Return the identity of each sample, if the file has them."""
        if _IDS not in self._reader.names:
            return None
        content = self._content(_IDS)
        with self._format_errors(repr(_IDS)):
            ids = json.loads(content)
            if not isinstance(ids, list) or not all(isinstance(i, (str, int)) for i in ids):
                raise ValueError("it must be one JSON list of texts and integers")
            if len(ids) != size:
                raise ValueError(f"it has {len(ids)} identities, and there are {size} samples")
            positions_of(ids)
            return ids


def _read_into(file: int, offset: int, buffer: Any) -> None:
    """Read from a place in an open file, independently of the offset that processes share."""
    view = memoryview(buffer)
    while len(view):
        if hasattr(os, "preadv"):
            count = os.preadv(file, [view], offset)
        else:
            os.lseek(file, offset, os.SEEK_SET)
            content = os.read(file, len(view))
            count = len(content)
            view[:count] = content
        if not count:
            raise ValueError("the file became shorter while it was read")
        offset, view = offset + count, view[count:]
