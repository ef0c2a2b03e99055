"""Maps as buffers of modules."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from metatensor import _array_conversion, _checks, _trees
from metatensor._trees import BlockStructure, MapStructure
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.tensor import TensorMap


class _Node(NamedTuple):
    """A block, or gradient, whose values are a buffer."""

    buffer: str
    structure: BlockStructure
    gradients: tuple[_Node, ...]


class BufferMap(torch.nn.Module):
    """A module that holds a map and gives it back; its values are buffers of torch.

    Each array of values has a place of its own in the state dict, as a tensor. The buffers follow
    the module to other devices and dtypes, and so do Labels with torch values, of the device alone.
    Labels and `info` are part of the state dict too, as tensors and strings, so that
    ``torch.load(weights_only=True)`` reads it.

    A state dict is loaded only where its Labels are the same, in the same order, so that no value
    comes under the labels of another one; its `info` is taken over.

    Gradients: those of the blocks are buffers as well, gradients of gradients too.

    Parameters
    ----------
    tensor : TensorMap
        with torch values, which stay the same tensors, and any components
    persistent : bool, default=True
        be part of the state dict

    Raises
    ------
    TypeError
        if `tensor` is no TensorMap with torch values

    See Also
    --------
    metatensor.learn.nn.Module : holds any number of Labels, blocks and maps, as bytes of files

    Examples
    --------
    >>> import torch
    >>> import metatensor.torch as mts
    >>> class Shifted(torch.nn.Module):
    ...     def __init__(self, shift):
    ...         super().__init__()
    ...         self.shift = mts.BufferMap(shift)
    ...
    ...     def forward(self, tensor):
    ...         return tensor + self.shift()
    >>> one = mts.Labels.single()
    >>> shift = mts.TensorMap(one, [mts.TensorBlock(torch.ones(1, 1), one, [], one)])
    >>> module = Shifted(shift).double()
    >>> module.shift().dtype
    torch.float64
    >>> list(module.state_dict())
    ['shift.block_0', 'shift._extra_state']

    """

    def __init__(self, tensor: TensorMap, persistent: bool = True) -> None:
        super().__init__()
        _checks.require_type(tensor, TensorMap, "tensor")
        self._persistent = persistent
        self._keep_structure(tensor)
        for block, node in zip(tensor._blocks, self._nodes, strict=True):
            self._register(block, node)

    def _keep_structure(self, tensor: TensorMap) -> None:
        """Keep all of a map but its values."""
        blocks, self._structure = _trees.map_parts(tensor)
        self._nodes = [_node(block, f"block_{i}") for i, block in enumerate(blocks)]

    def _register(self, block: TensorBlock, node: _Node) -> None:
        if not isinstance(block._values, torch.Tensor):
            raise TypeError(
                f"`tensor` must have torch values, got {_checks.kind(block._values)}; "
                "use `.to(arrays='torch')`"
            )
        self.register_buffer(node.buffer, block._values, self._persistent)
        for gradient, inner in zip(block._gradients.values(), node.gradients, strict=True):
            self._register(gradient, inner)

    def forward(self) -> TensorMap:
        """Return the map, whose values are the buffers themselves."""
        return _trees.map_of(self._structure, map(self._block, self._nodes))

    def _block(self, node: _Node) -> TensorBlock:
        values = getattr(self, node.buffer)
        return _trees.block_of(node.structure, [values, *map(self._block, node.gradients)])

    def extra_repr(self) -> str:
        """Return what the module shows of itself."""
        return f"{len(self._nodes)} blocks, keys={self._structure.keys.names}"

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> BufferMap:
        super()._apply(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        device = next((buffer.device for buffer in self.buffers()), None)
        if device is not None and device.type != "meta":
            where = _array_conversion.Target(device=device)
            self._keep_structure(self.forward()._map(None, lambda labels: labels._along(where)))
        return self

    # ---- state dicts

    def get_extra_state(self) -> dict[str, Any]:
        """Return the Labels, as names and tensors, and `info`."""
        return {
            "keys": _packed(self._structure.keys),
            "blocks": [_packed_block(node) for node in self._nodes],
            "info": dict(self._structure.info),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over the `info` of a state; the Labels are those here."""
        self._structure = MapStructure(self._structure.keys, tuple(state["info"].items()))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self._persistent:
            super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        if not self._persistent:
            return
        here, name = self.get_extra_state(), f"{prefix}_extra_state"
        if name in state_dict and (difference := _difference(here, state_dict[name])):
            error_msgs.append(
                f"the Labels of {prefix[:-1] or 'this BufferMap'} must be those in the state dict, "
                f"which differ in the {difference}; make the module with a map of the same Labels"
            )
            return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def _node(block: TensorBlock, name: str) -> _Node:
    (_, *gradients), structure = _trees.block_parts(block)
    inner = [_node(part, f"{name}_gradient_{i}") for i, part in enumerate(gradients)]
    return _Node(name, structure, tuple(inner))


def _packed(labels: Labels) -> tuple[list[str], torch.Tensor]:
    return labels.names, labels.to(arrays="torch").values


def _packed_block(node: _Node) -> dict[str, Any]:
    structure = node.structure
    inner = zip(structure.gradients, map(_packed_block, node.gradients), strict=True)
    return {
        "samples": _packed(structure.samples),
        "components": [_packed(labels) for labels in structure.components],
        "properties": _packed(structure.properties),
        "gradients": list(inner),
    }


def _difference(here: Any, there: Any, what: str = "blocks") -> str:
    """Return in what two packed structures differ first, nothing if they do not."""
    if isinstance(here, torch.Tensor):
        same = isinstance(there, torch.Tensor) and torch.equal(here.cpu(), there.cpu())
        return "" if same else what
    if type(here) is not type(there) or isinstance(here, str):
        return "" if here == there else what
    if isinstance(here, dict):
        if here.keys() != there.keys():
            return what
        found = (_difference(here[name], there[name], name) for name in here if name != "info")
    else:
        if len(here) != len(there):
            return what
        found = (_difference(*pair, what) for pair in zip(here, there, strict=True))
    return next(filter(None, found), "")
