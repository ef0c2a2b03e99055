"""Labels, blocks and maps inside modules: how they move, and what they are in a state dict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.tensor import TensorMap

Data = Labels | TensorBlock | TensorMap
#: what torch applies to all the tensors of a module, such as a move to another device
Move = Callable[[torch.Tensor], torch.Tensor]

_TAGS: dict[str, Any] = {
    "metatensor.Labels": Labels,
    "metatensor.TensorBlock": TensorBlock,
    "metatensor.TensorMap": TensorMap,
}


def is_storable(value: Any) -> bool:
    """Tell whether a value is labelled data, or a dict, list or tuple that has some, or nothing."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return not value or any(map(is_storable, value))
    return isinstance(value, Data)


def convert(value: Any, function: Callable[[Any], Any], error: type[Exception]) -> Any:
    """Apply a function to all labelled data in nested dicts, lists and tuples.

    Raises
    ------
    Exception
        `error`, if there is something else

    """
    if isinstance(value, Data):
        return function(value)
    if isinstance(value, dict):
        return {name: convert(part, function, error) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [convert(part, function, error) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    raise error(
        "a dict, list or tuple in a module that has Labels, blocks or maps must have nothing "
        f"else, got {type(value)} in it; register it under a name of its own"
    )


def moved(data: Data, move: Move) -> Data:
    """Move labelled data as torch moves the tensors of a module; of Labels the device alone."""

    def move_labels(labels: Labels) -> Labels:
        if not isinstance(labels.values, torch.Tensor):
            return labels
        device = move(torch.empty(0, device=labels.device)).device
        return labels if device == labels.device else labels.to(device=device)

    def move_values(values: Any) -> torch.Tensor:
        if not isinstance(values, torch.Tensor):
            raise TypeError(
                "blocks and maps in a module must hold torch tensors to move with it, got "
                f"{type(values)}; use `.to(arrays='torch')`"
            )
        return move(values)

    def move_block(block: TensorBlock) -> TensorBlock:
        return block._map(move_values, move_labels, block._parameter, block._frozen)

    if isinstance(data, Labels):
        return move_labels(data)
    if isinstance(data, TensorBlock):
        return move_block(data)
    return TensorMap._of(move_labels(data._keys), [*map(move_block, data._blocks)], data._info)


def packed(data: Data) -> tuple[str, bytes, torch.Tensor]:
    """Return a kind, the bytes of a file, and an empty tensor with dtype and device."""
    tag = next(tag for tag, kind in _TAGS.items() if isinstance(data, kind))
    if isinstance(data, Labels):
        device = data.device if isinstance(data.values, torch.Tensor) else "cpu"
        return tag, bytes(data.save_buffer()), torch.empty(0, dtype=torch.int32, device=device)
    blocks = [data] if isinstance(data, TensorBlock) else data._blocks
    if not all(isinstance(block._values, torch.Tensor) for block in blocks):
        raise AssertionError(
            "blocks and maps in a module must hold torch tensors to be in its state dict, got "
            f"{type(blocks[0]._values)}; use `.to(arrays='torch')`"
        )
    like = blocks[0]._values.new_empty(0) if blocks else torch.empty(0)
    # files have no bfloat16; the numbers are the same in float32
    float32 = like.dtype is torch.bfloat16
    data = moved(data, lambda values: (values.float() if float32 else values).detach())
    return tag, bytes(data.save_buffer()), like


def unpacked(value: Any) -> Any:
    """Return nested data whose leaves are what :func:`packed` returns."""
    if isinstance(value, dict):
        return {name: unpacked(part) for name, part in value.items()}
    if isinstance(value, tuple) and len(value) == 3 and isinstance(value[1], bytes):
        tag, content, like = value
        data = _TAGS[tag].load_buffer(content).to(arrays="torch", device=like.device)
        return data if tag == "metatensor.Labels" else data.to(dtype=like.dtype)
    if isinstance(value, (list, tuple)):
        parts = [*map(unpacked, value)]
        return parts if isinstance(value, list) else tuple(parts)
    raise TypeError(f"the state of a module has {type(value)} where labelled data should be")
