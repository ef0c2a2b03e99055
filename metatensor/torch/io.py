"""Files and buffers, with torch values.

The functions read and write what those of :mod:`metatensor.io` do.
"""

from __future__ import annotations

from typing import Any

import torch

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.io import _files, _writing, mts
from metatensor.labels import Labels
from metatensor.tensor import TensorMap

__all__ = [
    "load",
    "load_block",
    "load_block_buffer",
    "load_buffer",
    "load_labels",
    "load_labels_buffer",
    "save",
    "save_buffer",
]


def save(file: Any, data: TensorMap | TensorBlock | Labels) -> None:
    """Write a map, a block or Labels to a file, at the path as it is.

    Gradients: saved. The record that torch keeps of computations is not.

    Parameters
    ----------
    file : str, path or file object
        where to write to; no extension is added
    data : TensorMap, TensorBlock or Labels
        what to write, also with values that require gradients

    Raises
    ------
    TypeError, MetatensorError
        as :func:`metatensor.save`, for one when values are of bfloat16

    See Also
    --------
    metatensor.save : which adds the extension

    Examples
    --------
    >>> import os, tempfile
    >>> import metatensor.torch as mts
    >>> path = os.path.join(tempfile.mkdtemp(), "labels")
    >>> mts.save(path, mts.Labels.range("atom", 3))
    >>> mts.load_labels(path).column("atom")
    tensor([0, 1, 2], dtype=torch.int32)

    """
    _files.write_to(file, _writing.writer_of(_detached(data), False))


def save_buffer(data: TensorMap | TensorBlock | Labels) -> torch.Tensor:
    """Return the bytes of the file that :func:`save` writes.

    Gradients: as there.

    Parameters
    ----------
    data : TensorMap, TensorBlock or Labels
        what to write

    Returns
    -------
    torch.Tensor of uint8, (n_bytes,)
        in main memory

    Examples
    --------
    >>> import metatensor.torch as mts
    >>> mts.save_buffer(mts.Labels.single()).shape
    torch.Size([132])

    """
    return torch.frombuffer(mts.save_buffer(_detached(data)), dtype=torch.uint8)


def load(file: Any) -> TensorMap:
    """Read a map from a file.

    Gradients: read. Nothing requires gradients of torch.

    Parameters
    ----------
    file : str, path or file object
        what to read

    Returns
    -------
    TensorMap
        with torch values and Labels, in main memory

    Raises
    ------
    MetatensorError
        as :func:`metatensor.load`

    """
    return mts.load(file).to(arrays="torch")


def load_block(file: Any) -> TensorBlock:
    """Read a block from a file, as :func:`load`."""
    return mts.load_block(file).to(arrays="torch")


def load_labels(file: Any) -> Labels:
    """Read Labels from a file, as :func:`load`."""
    return mts.load_labels(file).to(arrays="torch")


def load_buffer(buffer: Any) -> TensorMap:
    """Read a map from the bytes of a file.

    Parameters
    ----------
    buffer : torch.Tensor of uint8, (n_bytes,)
        all the bytes of the file, contiguous in main memory; or what
        :func:`metatensor.io.load_buffer` takes

    Returns
    -------
    TensorMap
        with torch values and Labels, in main memory

    Raises
    ------
    ValueError
        if it is another tensor
    MetatensorError
        as :func:`metatensor.load`

    """
    return mts.load_buffer(_bytes(buffer)).to(arrays="torch")


def load_block_buffer(buffer: Any) -> TensorBlock:
    """Read a block from the bytes of a file, as :func:`load_buffer`."""
    return mts.load_block_buffer(_bytes(buffer)).to(arrays="torch")


def load_labels_buffer(buffer: Any) -> Labels:
    """Read Labels from the bytes of a file, as :func:`load_buffer`."""
    return mts.load_labels_buffer(_bytes(buffer)).to(arrays="torch")


def _detached(data: Any) -> Any:
    if isinstance(data, TensorBlock):
        return data._map(_arrays.detach)
    return data._map(_arrays.detach) if isinstance(data, TensorMap) else data


def _bytes(buffer: Any) -> Any:
    if not isinstance(buffer, torch.Tensor):
        return buffer
    if (
        buffer.dtype is not torch.uint8
        or buffer.ndim != 1
        or buffer.device.type != "cpu"
        or not buffer.is_contiguous()
    ):
        raise ValueError(
            "`buffer` must be a contiguous tensor of uint8 with one dimension on the CPU, got "
            f"{buffer.dtype} of shape {tuple(buffer.shape)} on {buffer.device}"
        )
    return buffer
