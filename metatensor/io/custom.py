"""Loading values into arrays that a function of yours makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from metatensor import _array_conversion, _arrays
from metatensor._core.zip_reader import ArchiveReader
from metatensor.block import TensorBlock
from metatensor.io import _files, _reading
from metatensor.tensor import TensorMap

CreateArray = Callable[[tuple[int, ...], "np.dtype[Any]"], _arrays.Array]


def load_custom_array(path: Any, create_array: CreateArray) -> TensorMap:
    """Read a map from a file, with values in arrays that a function makes.

    Parameters
    ----------
    path : str, path or bytes
        the file to read
    create_array : callable
        called with the shape and the numpy dtype of each array of values, gradients too; it returns
        a new array in main memory whose data numpy can write to

    Returns
    -------
    TensorMap

    Raises
    ------
    MetatensorError
        as :func:`metatensor.load`
    ValueError
        if the array is not of this shape and dtype, or numpy can not write to its data

    Examples
    --------
    >>> import os, tempfile
    >>> import metatensor
    >>> path = os.path.join(tempfile.mkdtemp(), "tensor.mts")
    >>> metatensor.save(path, metatensor.TensorMap(metatensor.Labels.empty("key"), []))
    >>> len(metatensor.io.load_custom_array(path, metatensor.io.create_numpy_array))
    0

    """
    with _files.io_errors(path), _files.opened(path) as source:
        return _reading.read_map(source, _into(create_array))


def load_block_custom_array(path: Any, create_array: CreateArray) -> TensorBlock:
    """Read a block from a file, as :func:`load_custom_array`."""
    with _files.io_errors(path), _files.opened(path) as source:
        return _reading.read_block(source, _into(create_array))


def load_buffer_custom_array(buffer: Any, create_array: CreateArray) -> TensorMap:
    """Read a map from the bytes of a file, as :func:`load_custom_array`."""
    return _reading.read_map(_files.buffer_source(buffer), _into(create_array))


def load_block_buffer_custom_array(buffer: Any, create_array: CreateArray) -> TensorBlock:
    """Read a block from the bytes of a file, as :func:`load_custom_array`."""
    return _reading.read_block(_files.buffer_source(buffer), _into(create_array))


def create_numpy_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Make the numpy array that the loading functions are to fill."""
    return np.empty(shape, dtype)


def create_torch_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Make the torch tensor, in main memory, that the loading functions are to fill."""
    return _array_conversion.convert(
        np.empty(shape, dtype), _array_conversion.Target(arrays="torch")
    )


def _into(create_array: CreateArray) -> _reading.Values:
    def values(archive: ArchiveReader, name: str) -> _arrays.Array:
        loaded = archive.values(name)
        array = create_array(loaded.shape, loaded.dtype)
        target = _arrays.to_host(array)
        if target.shape != loaded.shape or target.dtype != loaded.dtype:
            raise ValueError(
                f"`create_array` must make an array with shape {loaded.shape} and dtype "
                f"{loaded.dtype}, got {target.shape} and {target.dtype}"
            )
        if not target.flags.writeable or (
            target.size and not np.shares_memory(target, _arrays.to_host(array))
        ):
            raise ValueError(
                "`create_array` must make an array in main memory that numpy can write to"
            )
        target[...] = loaded
        return array

    return values
