"""An operation is written for one block, or for blocks that belong together; here it meets maps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from metatensor import _arrays, _checks
from metatensor._checks import NotEqualError
from metatensor.block import AXES, Difference, TensorBlock, first_difference
from metatensor.labels import Labels
from metatensor.operations import _differences
from metatensor.tensor import TensorMap

Tensor = TypeVar("Tensor", TensorMap, TensorBlock)
Plan = TypeVar("Plan")


def require_tensor(value: Any, name: str = "tensor") -> None:
    """Raise TypeError unless ``value`` is a map or a block."""
    if not isinstance(value, (TensorMap, TensorBlock)):
        raise TypeError(
            f"`{name}` must be a metatensor TensorMap or TensorBlock, got {_checks.kind(value)}"
        )


def on_blocks(
    function: Callable[..., TensorBlock], tensor: Tensor, *args: Any, name: str = "tensor"
) -> Tensor:
    """Apply a function of a block to a block, or to every block of a map.

    Parameters
    ----------
    function : callable
        ``function(block, *args)`` returns a new block, which nobody else has, or its argument
    tensor : TensorMap or TensorBlock
        what the user gave
    *args
        the other arguments, the same for all blocks
    name : str
        what the user knows `tensor` by

    Returns
    -------
    TensorMap or TensorBlock
        as `tensor`; without `info`, which :func:`metatensor._provenance.operation` adds

    """
    if isinstance(tensor, TensorBlock):
        return _finished(function(tensor, *args), tensor)
    require_tensor(tensor, name)
    return assemble(
        tensor._keys, [(block,) for block in tensor._blocks], lambda block: function(block, *args)
    )


def on_pairs(
    function: Callable[..., TensorBlock],
    first: Tensor,
    second: Tensor,
    *args: Any,
    names: tuple[str, str] = ("tensor_1", "tensor_2"),
) -> Tensor:
    """Apply ``function(block, other, *args)`` to two blocks, or to the blocks of maps by key."""
    if isinstance(first, TensorBlock):
        _checks.require_type(second, TensorBlock, names[1])
        return _finished(function(first, second, *args), first)
    require_tensor(first, names[0])
    _checks.require_type(second, TensorMap, names[1])
    pairs = list(zip(first._blocks, same_keys(first, second), strict=True))
    return assemble(first._keys, pairs, lambda block, other: function(block, other, *args))


def same_keys(first: TensorMap, second: TensorMap) -> list[TensorBlock]:
    """Return the blocks of the second map in the order of the keys of the first.

    Raises
    ------
    NotEqualError
        if the maps have different keys

    """
    blocks = second._blocks_for(first._keys)
    if blocks is None:
        raise NotEqualError(_differences.describe(Difference("keys", first._keys, second._keys)))
    return blocks


def assemble(
    keys: Labels,
    parts: Sequence[tuple[Any, ...]],
    function: Callable[..., TensorBlock],
) -> TensorMap:
    """Make a map of what a function makes of the blocks for each key; errors say for which."""
    blocks: list[TensorBlock] = []
    try:
        for given in parts:
            block = function(*given)
            blocks.append(block._freeze() if block is given[0] else block._seal())
    except Exception as error:
        say_where(error, keys, len(blocks))
        raise
    return TensorMap._of(keys, blocks)


class Remembered(Generic[Plan]):
    """Plans for the last few Labels, as blocks of a map and their gradients often have the same.

    Labels are compared: most that differ do so in their first bytes; a hash reads all of them. The
    library and device of their values count, since Labels made by a plan have the same.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: deque[tuple[Labels, Plan]] = deque(maxlen=4)

    def get(self, labels: Labels, make: Callable[[Labels], Plan]) -> Plan:
        """Return the plan for Labels, which is made unless it is known."""
        for known, plan in self._known:
            if known == labels and _arrays.difference(known.values, labels.values) is None:
                return plan
        plan = make(labels)
        self._known.appendleft((labels, plan))
        return plan


def say_where(error: Exception, keys: Labels, position: int) -> None:
    """Add the key of a block to the text of an error."""
    if len(error.args) >= 1 and isinstance(error.args[0], str):
        text = f"{error.args[0]} (in the block for key {keys.entry(position).print()})"
        error.args = (text, *error.args[1:])
        if isinstance(error, _checks.MetatensorError):
            error.message = text


def check_same(
    first: TensorBlock,
    second: TensorBlock,
    axes: Sequence[str] = AXES,
    gradients: bool = True,
) -> None:
    """Raise NotEqualError unless two blocks have the same Labels."""
    found = first_difference(first, second, axes, gradients, None)
    if found is not None:
        raise NotEqualError(_differences.describe(found))


def within_range(function: Callable[..., TensorBlock], name: str) -> Callable[..., TensorBlock]:
    """Make a function of blocks of integers raise OverflowError where its result wraps around."""

    def checked(*args: Any) -> TensorBlock:
        result = function(*args)
        if _arrays.kind(result._values) == "integer":
            exact = [
                value._map(_arrays.as_floating) if isinstance(value, TensorBlock) else value
                for value in args
            ]
            _refuse_wraps(result, function(*exact), name)
        return result

    return checked


def _refuse_wraps(result: TensorBlock, exact: TensorBlock, name: str) -> None:
    if _arrays.wraps(result._values, exact._values):
        raise OverflowError(
            f"the result of `{name}` is out of the range of {result._values.dtype}; convert the "
            "values to a larger dtype with `.to(...)` first"
        )
    for parameter, gradient in result._gradients.items():
        _refuse_wraps(gradient, exact._gradients[parameter], name)


def refuse_nested(block: TensorBlock, operation: str) -> None:
    """Raise NotImplementedError for an operation that is not linear if gradients have gradients."""
    for name, gradient in block._gradients.items():
        if gradient._gradients:
            raise NotImplementedError(
                f"`{operation}` is not linear, and not implemented for gradients of gradients, as "
                f"the gradient {name!r} has; use `remove_gradients` on it first"
            )


def _finished(block: TensorBlock, given: TensorBlock) -> TensorBlock:
    """Return a new block that takes further gradients, and whose gradients know their names."""
    return block.copy(deep=False) if block is given else block._seal(frozen=False)
