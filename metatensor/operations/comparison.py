"""Whether two tensors are the same, and in what they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metatensor import _arrays, _checks
from metatensor._arrays import EXACT, Tolerance
from metatensor._checks import NotEqualError
from metatensor._provenance import operation
from metatensor.block import AXES, TensorBlock
from metatensor.operations import _differences
from metatensor.operations._blockwise import Tensor, require_tensor
from metatensor.tensor import TensorMap

__all__ = [
    "allclose",
    "allclose_block",
    "allclose_block_raise",
    "allclose_raise",
    "equal",
    "equal_block",
    "equal_block_raise",
    "equal_metadata",
    "equal_metadata_block",
    "equal_metadata_block_raise",
    "equal_metadata_raise",
    "equal_raise",
]

# ---- the same values


@operation
def equal(tensor_1: Tensor, tensor_2: Tensor) -> bool:
    """Tell whether two tensors have the same keys, Labels and values.

    Gradients: compared as well, and gradients of gradients.

    The order of keys and of gradients does not count, that of samples, components and properties
    does. Neither do array libraries, devices, dtypes and `info`. NaN is not equal to NaN.

    Parameters
    ----------
    tensor_1, tensor_2 : TensorMap or TensorBlock
        two maps, or two blocks

    Returns
    -------
    bool

    Raises
    ------
    TypeError
        if they are neither two TensorMaps nor two TensorBlocks

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.array([[1.0, 2.0]]))
    >>> metatensor.equal(block, metatensor.block_from_array(np.array([[1, 2]])))
    True
    >>> metatensor.equal(block, metatensor.block_from_array(np.array([[1.0]])))
    False

    """
    return _differ(tensor_1, tensor_2, EXACT) is None


equal_block = equal


@operation
def equal_raise(tensor_1: Tensor, tensor_2: Tensor) -> None:
    """Raise an error that says where two tensors are not :func:`equal`.

    Gradients: compared as well, and gradients of gradients.

    Parameters
    ----------
    tensor_1, tensor_2 : TensorMap or TensorBlock
        two maps, or two blocks

    Raises
    ------
    NotEqualError
        if they differ: where first, and if in the values, where most
    TypeError
        if they are neither two TensorMaps nor two TensorBlocks

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.array([[1.0, 2.0]]))
    >>> metatensor.equal_raise(block, metatensor.block_from_array(np.array([[1.0, 2.5]])))
    Traceback (most recent call last):
    ...
    metatensor.NotEqualError: the values differ in 1 of 2 places, most at [0, 1],
    sample (sample=0), property (property=1): 2.0 and 2.5, deviation 0.5

    """
    _raise(_differ(tensor_1, tensor_2, EXACT), EXACT)


equal_block_raise = equal_raise


@operation
def allclose(
    tensor_1: Tensor,
    tensor_2: Tensor,
    rtol: float = 1e-13,
    atol: float = 1e-12,
    equal_nan: bool = False,
) -> bool:
    """Tell whether two tensors have the same keys and Labels, and nearly the same values.

    Gradients: compared as well, and gradients of gradients.

    Values are near if ``abs(value_1 - value_2) <= atol + rtol * abs(value_2)``; an infinity is
    near to itself alone. Note that the tolerances are not those of numpy. The order of keys and of
    gradients, dtypes, devices and `info` do not count.

    Parameters
    ----------
    tensor_1, tensor_2 : TensorMap or TensorBlock
        two maps, or two blocks
    rtol, atol : float
        relative and absolute tolerance
    equal_nan : bool, default=False
        NaN is near to NaN

    Returns
    -------
    bool

    Raises
    ------
    TypeError
        if they are neither two TensorMaps nor two TensorBlocks, or their arrays are of different
        libraries

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.array([[1.0, 2.0]]))
    >>> other = metatensor.block_from_array(np.array([[1.0, 2.0 + 1e-9]]))
    >>> metatensor.allclose(block, other)
    False
    >>> metatensor.allclose(block, other, rtol=1e-8)
    True

    """
    return _differ(tensor_1, tensor_2, _tolerance(rtol, atol, equal_nan)) is None


allclose_block = allclose


@operation
def allclose_raise(
    tensor_1: Tensor,
    tensor_2: Tensor,
    rtol: float = 1e-13,
    atol: float = 1e-12,
    equal_nan: bool = False,
) -> None:
    """Raise an error that says where two tensors are not :func:`allclose`.

    Gradients: compared as well, and gradients of gradients.

    Parameters
    ----------
    tensor_1, tensor_2 : TensorMap or TensorBlock
        two maps, or two blocks
    rtol, atol : float
        relative and absolute tolerance
    equal_nan : bool, default=False
        NaN is near to NaN

    Raises
    ------
    NotEqualError
        if they differ: where first, and if in the values, where most
    TypeError
        if they are neither two TensorMaps nor two TensorBlocks, or their arrays are of different
        libraries

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.array([[1.0, 2.0]]))
    >>> metatensor.allclose_raise(block, metatensor.block_from_array(np.array([[1.0]])))
    Traceback (most recent call last):
    ...
    metatensor.NotEqualError: the properties differ: sizes: 2 and 1; 1 only in the first,
    such as (property=1)

    """
    tolerance = _tolerance(rtol, atol, equal_nan)
    _raise(_differ(tensor_1, tensor_2, tolerance), tolerance)


allclose_block_raise = allclose_raise


def _tolerance(rtol: float, atol: float, equal_nan: bool) -> Tolerance:
    rtol, atol = _checks.require_real(rtol, "rtol"), _checks.require_real(atol, "atol")
    return Tolerance(rtol, atol, bool(equal_nan))


def _differ(first: Any, second: Any, tolerance: Tolerance) -> Any:
    require_tensor(first, "tensor_1")
    if type(second) is not type(first):
        kind = TensorBlock if isinstance(first, TensorBlock) else TensorMap
        _checks.require_type(second, kind, "tensor_2")
    if tolerance is not EXACT:
        _require_one_library(first, second)
    return _differences.of_tensors(first, second, AXES, True, tolerance)


def _require_one_library(first: Any, second: Any) -> None:
    if isinstance(first, TensorBlock):
        _arrays.namespace(first._values, second._values)
    elif first._blocks and second._blocks:  # all blocks of a map have one library
        _arrays.namespace(first._blocks[0]._values, second._blocks[0]._values)


def _raise(found: Any, tolerance: Tolerance = EXACT) -> None:
    if found is not None:
        where, difference = found
        raise NotEqualError(where + _differences.describe(difference, tolerance))


# ---- the same metadata


@operation
def equal_metadata(
    tensor_1: Tensor,
    tensor_2: Tensor,
    check: str | Sequence[str] = "all",
    check_gradients: bool = True,
) -> bool:
    """Tell whether two tensors have the same keys and Labels.

    Gradients: their Labels are compared as well, and which ones there are, also those of gradients.

    The order of keys and of gradients does not count, that of samples, components and properties
    does.

    Parameters
    ----------
    tensor_1, tensor_2 : TensorMap or TensorBlock
        two maps, or two blocks; anything else is not equal to anything
    check : "all", or sequence of {"samples", "components", "properties"}
        the Labels to compare; keys always are
    check_gradients : bool, default=True
        compare gradients, and in each what is in `check`

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        if `check` is something else

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.zeros((2, 3)))
    >>> other = metatensor.block_from_array(np.ones((2, 4)))
    >>> metatensor.equal_metadata(block, other)
    False
    >>> metatensor.equal_metadata(block, other, check=["samples"])
    True

    """
    axes = _axes(check)
    if _refusal(tensor_1, tensor_2):
        return False
    return _differences.of_tensors(tensor_1, tensor_2, axes, check_gradients, None) is None


equal_metadata_block = equal_metadata


@operation
def equal_metadata_raise(
    tensor_1: Tensor,
    tensor_2: Tensor,
    check: str | Sequence[str] = "all",
    check_gradients: bool = True,
) -> None:
    """Raise an error that says where the metadata of two tensors differ.

    Gradients: their Labels are compared as well, and which ones there are, also those of gradients.

    Parameters
    ----------
    tensor_1, tensor_2 : TensorMap or TensorBlock
        two maps, or two blocks
    check : "all", or sequence of {"samples", "components", "properties"}
        the Labels to compare; keys always are
    check_gradients : bool, default=True
        compare gradients, and in each what is in `check`

    Raises
    ------
    NotEqualError
        if they differ: where first; also for anything but two TensorMaps or two TensorBlocks
    ValueError
        if `check` is something else

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.zeros((2, 3)))
    >>> metatensor.equal_metadata_raise(block, metatensor.block_from_array(np.ones((1, 3))))
    Traceback (most recent call last):
    ...
    metatensor.NotEqualError: the samples differ: sizes: 2 and 1; 1 only in the first,
    such as (sample=1)

    """
    axes = _axes(check)
    if refusal := _refusal(tensor_1, tensor_2):
        raise NotEqualError(refusal)
    _raise(_differences.of_tensors(tensor_1, tensor_2, axes, check_gradients, None))


equal_metadata_block_raise = equal_metadata_raise


def _axes(check: Any) -> Sequence[str]:
    if isinstance(check, str) and check == "all":
        return AXES
    if isinstance(check, (list, tuple)) and all(axis in AXES for axis in check):
        return check
    raise ValueError(f"`check` must be 'all' or a list of some of {list(AXES)}, got {check!r}")


def _refusal(first: Any, second: Any) -> str | None:
    for kind in (TensorMap, TensorBlock):
        if isinstance(first, kind) and isinstance(second, kind):
            return None
    return (
        "two metatensor TensorMaps, or two TensorBlocks, are required, "
        f"got {_checks.kind(first)} and {_checks.kind(second)}"
    )
