"""Files with the suffix ``.mts``: maps, blocks and Labels."""

from __future__ import annotations

import os
import warnings
from typing import Any

from metatensor.block import TensorBlock
from metatensor.io import _files, _reading, _writing
from metatensor.labels import Labels
from metatensor.tensor import TensorMap


def save(file: Any, data: TensorMap | TensorBlock | Labels, use_numpy: bool = False) -> None:
    """Write a map, a block or Labels to a file.

    A path is written as a whole or not at all: until the new file is complete, the old one stays.
    Gradients and `info` are saved; values of any array library on any device are saved, and come
    back as numpy arrays.

    Parameters
    ----------
    file : str, path or file object
        where to write to; ``.mts`` is added to a path that does not end with it. A file object is
        one with a method ``write`` that takes bytes.
    data : TensorMap, TensorBlock or Labels
        what to write
    use_numpy : bool, default=False
        take the path as it is, and let an `OSError` through, as the writer did that this option
        chose in the past; the file is the same

    Raises
    ------
    TypeError
        if `data` or `file` is of another type
    MetatensorError
        if the file can not be written, or `data` is such that files can not have it: a dtype other
        than bool, integer, real and complex numbers of up to 64 and 128 bits, a "/" in the name of
        a gradient
    BufferError
        if values require gradients: detach them first (RuntimeError with `use_numpy`)

    Warns
    -----
    UserWarning
        if ``.mts`` is added to the path

    Examples
    --------
    >>> import os, tempfile
    >>> import metatensor
    >>> path = os.path.join(tempfile.mkdtemp(), "labels.mts")
    >>> metatensor.save(path, metatensor.Labels.range("atom", 3))
    >>> metatensor.load_labels(path).values.ravel()
    array([0, 1, 2], dtype=int32)

    """
    write = _writing.writer_of(data, use_numpy)
    if _files.is_path(file) and not use_numpy:
        path = os.fsdecode(file)
        if not path.endswith(".mts"):
            file = path + ".mts"
            text = f"adding '.mts' extension, the file will be saved at {file!r}"
            warnings.warn(text, stacklevel=2)
    _files.write_to(file, write, use_numpy)


def save_buffer(data: TensorMap | TensorBlock | Labels, use_numpy: bool = False) -> memoryview:
    """Return the bytes of the file that :func:`save` writes.

    Parameters
    ----------
    data : TensorMap, TensorBlock or Labels
        what to write
    use_numpy : bool, default=False
        see :func:`save`

    Returns
    -------
    memoryview
        of bytes, writable

    Examples
    --------
    >>> import metatensor
    >>> buffer = metatensor.io.save_buffer(metatensor.Labels.single())
    >>> len(buffer)
    132

    """
    return _files.write_to_memory(_writing.writer_of(data, use_numpy))


def load(file: Any, use_numpy: bool = False, mmap: bool = False) -> TensorMap:
    """Read a map from a file.

    All the bytes are checked: a damaged file gives an error, never other data. Gradients come back
    in the order of the file, and `info` too.

    Parameters
    ----------
    file : str, path or file object
        what to read; a file object is one with a method ``read`` that gives bytes
    use_numpy : bool, default=False
        let an `OSError` through instead of raising MetatensorError; the reader is the same
    mmap : bool, default=False
        do not read the values: they are read-only views of the file, whose parts come into memory
        when they are used. Values that are not aligned in the file, compressed, big-endian or bool
        are read. The check sums of the values of files that this package wrote are not compared;
        everything else is checked. The file must be a path, and must not be changed in place as
        long as the values are used (saving to the same path is no problem).

    Returns
    -------
    TensorMap
        with numpy values

    Raises
    ------
    MetatensorError
        if the file can not be read, is damaged, or has something else; the message then says
        which function to use

    Examples
    --------
    >>> import io
    >>> import metatensor
    >>> tensor = metatensor.TensorMap(metatensor.Labels.empty("key"), [])
    >>> file = io.BytesIO(metatensor.io.save_buffer(tensor))
    >>> metatensor.load(file)
    TensorMap with 0 blocks
        keys: [key]
        blocks:

    """
    with _files.io_errors(file, use_numpy), _files.opened(file, mmap) as source:
        return _reading.read_map(source, _reading.mapped if mmap else _reading.in_memory)


def load_block(file: Any, use_numpy: bool = False, mmap: bool = False) -> TensorBlock:
    """Read a block from a file.

    Parameters
    ----------
    file : str, path or file object
        what to read
    use_numpy, mmap : bool, default=False
        see :func:`load`

    Returns
    -------
    TensorBlock
        with numpy values

    Raises
    ------
    MetatensorError
        as :func:`load`

    """
    with _files.io_errors(file, use_numpy), _files.opened(file, mmap) as source:
        return _reading.read_block(source, _reading.mapped if mmap else _reading.in_memory)


def load_labels(file: Any) -> Labels:
    """Read Labels from a file.

    Such files have no check sum: a damaged row is found only if it is no longer unique.

    Parameters
    ----------
    file : str, path or file object
        what to read

    Returns
    -------
    Labels

    Raises
    ------
    MetatensorError
        as :func:`load`

    """
    with _files.io_errors(file, False), _files.opened(file) as source:
        return _reading.read_labels(source)


def load_buffer(buffer: Any, use_numpy: bool = False) -> TensorMap:
    """Read a map from the bytes of a file.

    Parameters
    ----------
    buffer : bytes, bytearray, memoryview, or array of uint8
        all the bytes of the file; none of them is kept
    use_numpy : bool, default=False
        accepted for compatibility, without effect

    Returns
    -------
    TensorMap
        with numpy values

    Raises
    ------
    MetatensorError
        as :func:`load`

    """
    return _reading.read_map(_files.buffer_source(buffer), _reading.in_memory)


def load_block_buffer(buffer: Any, use_numpy: bool = False) -> TensorBlock:
    """Read a block from the bytes of a file, as :func:`load_buffer`."""
    return _reading.read_block(_files.buffer_source(buffer), _reading.in_memory)


def load_labels_buffer(buffer: Any) -> Labels:
    """Read Labels from the bytes of a file, as :func:`load_buffer`."""
    return _reading.read_labels(_files.buffer_source(buffer))
