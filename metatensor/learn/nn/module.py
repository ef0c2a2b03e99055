"""Modules that know Labels, blocks and maps."""

from __future__ import annotations

from typing import Any

import torch

from metatensor import _checks
from metatensor.learn.nn import _stored


class Buffer:
    """Data for an attribute of a :class:`Module` that moves with it, and is saved with it.

    Parameters
    ----------
    value : torch.Tensor, Labels, TensorBlock, TensorMap, None, or nested dicts, lists and tuples
        as in :meth:`Module.register_buffer`
    persistent : bool, default=True
        whether it is part of the state dict

    Examples
    --------
    >>> from metatensor import Labels
    >>> from metatensor.learn.nn import Buffer, Module
    >>> module = Module()
    >>> module.types = Buffer(Labels.range("center_type", 2))
    >>> list(module.state_dict()["_extra_state"])
    ['types']

    """

    def __init__(self, value: Any, persistent: bool = True) -> None:
        self.value = value
        self.persistent = persistent


class Module(torch.nn.Module):
    """Module of torch that also takes Labels, blocks and maps as buffers.

    They are registered with :meth:`register_buffer`, or as attribute in a :class:`Buffer`. As
    tensors do, they then follow the module to other devices and dtypes, of Labels the device alone,
    and are part of its state dict, as bytes of ``.mts`` files under ``_extra_state``. Such a state
    dict can be loaded with ``torch.load(weights_only=True)``. What is a plain attribute does
    neither.

    Gradients: those of registered blocks and maps move and are saved with them.

    Raises
    ------
    ValueError
        when the module moves, if there is something else in a registered dict, list or tuple
    TypeError
        when the state dict is made, if so

    See Also
    --------
    ModuleMap : one module for each key of a map

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.learn.nn import Module
    >>> class Shift(Module):
    ...     def __init__(self, shift):
    ...         super().__init__()
    ...         self.register_buffer("shift", shift)
    ...
    ...     def forward(self, tensor):
    ...         return tensor + self.shift
    >>> one = Labels.single()
    >>> shift = TensorMap(one, [TensorBlock(torch.ones(1, 1), one, [], one)])
    >>> module = Shift(shift).to(torch.float64)
    >>> module.shift.dtype
    torch.float64
    >>> list(module.state_dict())
    ['_mts_helper', '_extra_state']

    """

    _mts_buffer_names: list[str]
    _mts_non_persistent_buffers: list[str]

    def __init__(self) -> None:
        super().__init__()
        self._mts_buffer_names = []
        self._mts_non_persistent_buffers = []
        # no longer needed to follow moves, but part of state dicts
        self.register_buffer("_mts_helper", torch.zeros(0))

    def register_buffer(self, name: str, value: Any, persistent: bool = True) -> None:
        """Register data that moves with this module, and is saved with it.

        Parameters
        ----------
        name : str
            name of the attribute
        value : torch.Tensor, Labels, TensorBlock, TensorMap, dict, list, tuple or None
            the data, also in nested containers, which must have labelled data alone. Tensors are as
            in torch. With None the attribute can be set later.
        persistent : bool, default=True
            whether it is part of the state dict

        Raises
        ------
        TypeError
            if `value` is something else, or `name` no str
        KeyError
            if the name is in use, empty, or has a dot

        """
        if isinstance(value, torch.Tensor):
            super().register_buffer(name, value, persistent)
            return
        if not isinstance(name, str):
            raise TypeError(f"`name` must be a str, got {_checks.kind(name)}")
        if not name or "." in name:
            raise KeyError(f"the name of a buffer must not be empty or have a '.', got {name!r}")
        if hasattr(self, name):
            raise KeyError(f"the name {name!r} is in use in this {type(self).__name__}")
        if value is not None and not _stored.is_storable(value):
            raise TypeError(
                "a buffer must be a torch.Tensor, None, Labels, TensorBlock, TensorMap, or a dict, "
                f"list or tuple of these last three, got {_checks.kind(value)}"
            )
        super().__setattr__(name, value)
        self._mts_buffer_names.append(name)
        if not persistent:
            self._mts_non_persistent_buffers.append(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Buffer):
            self.register_buffer(name, value.value, value.persistent)
        elif isinstance(value, torch.Tensor) and name in self.__dict__.get("_mts_buffer_names", ()):
            persistent = name not in self._mts_non_persistent_buffers
            delattr(self, name)
            if isinstance(value, torch.nn.Parameter):
                super().__setattr__(name, value)
            else:
                self.register_buffer(name, value, persistent)
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        for names in (self._mts_buffer_names, self._mts_non_persistent_buffers):
            if name in names:
                names.remove(name)

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> Module:
        super()._apply(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        for name in self._mts_buffer_names:
            value = getattr(self, name)
            if value is not None:
                value = _stored.convert(value, lambda data: _stored.moved(data, fn), ValueError)
                setattr(self, name, value)
        return self

    def _stored_names(self) -> list[str]:
        return [
            name
            for name in self._mts_buffer_names
            if name not in self._mts_non_persistent_buffers and getattr(self, name) is not None
        ]

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the state dict has under ``_extra_state``: labelled data as bytes.

        Returns
        -------
        dict
            by name; each object is a kind, bytes of a file, and an empty tensor with dtype and
            device, nested in dicts, lists and tuples as it is here

        Raises
        ------
        AssertionError
            if a block or map does not hold torch tensors
        TypeError
            if there is something else in a dict, list or tuple

        """
        return {
            name: _stored.convert(getattr(self, name), _stored.packed, TypeError)
            for name in self._stored_names()
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Set registered data from what :meth:`get_extra_state` returned."""
        for name, value in state.items():
            if name in self._mts_buffer_names:
                setattr(self, name, _stored.unpacked(value))

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
        expected = set(self._stored_names())
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        place = f"{prefix}_extra_state"
        if strict and place in state_dict:
            there = set(state_dict[place])
            missing_keys += [f"{place}.{name}" for name in sorted(expected - there)]
            unknown = sorted(there - set(self._mts_buffer_names))
            unexpected_keys += [f"{place}.{name}" for name in unknown]
