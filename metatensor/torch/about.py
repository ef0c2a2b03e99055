"""What the package and its dtypes are called."""

from __future__ import annotations

from importlib import metadata

import torch

#: in the order of the numbers that torch has for them in C++
_NUMBERED = (
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.float32,
    torch.float64,
    torch.complex32,
    torch.complex64,
    torch.complex128,
    torch.bool,
)


def version() -> str:
    """Return the version of the package.

    Returns
    -------
    str

    Examples
    --------
    >>> import metatensor.torch as mts
    >>> mts.version() == mts.__version__
    True

    """
    return metadata.version("metatensor-sklearn")


def dtype_name(dtype: torch.dtype | int) -> str:
    """Return the name of a dtype.

    Parameters
    ----------
    dtype : torch.dtype or int
        such as ``block.dtype``; a number is the one that torch has for it in C++

    Returns
    -------
    str

    Raises
    ------
    ValueError
        for a number of no dtype

    Examples
    --------
    >>> import torch
    >>> import metatensor.torch as mts
    >>> mts.dtype_name(torch.float32)
    'torch.float32'
    >>> mts.dtype_name(6)
    'torch.float32'

    """
    if not isinstance(dtype, int):
        return str(dtype)
    if dtype == 15:
        return str(torch.bfloat16)
    if not 0 <= dtype < len(_NUMBERED):
        raise ValueError(f"`dtype` must be a torch.dtype or the number of one, got {dtype}")
    return str(_NUMBERED[dtype])
