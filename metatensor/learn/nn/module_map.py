"""One module of torch for each key of a map."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from metatensor import _checks
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.learn.nn.module import Module
from metatensor.operations._blockwise import assemble, refuse_nested
from metatensor.tensor import TensorMap

#: gives the values of a gradient of the result: ``(module, block, gradient, result)``
GradientRule = Callable[[torch.nn.Module, TensorBlock, TensorBlock, torch.Tensor], torch.Tensor]


def module_of_gradient(
    module: torch.nn.Module, block: TensorBlock, gradient: TensorBlock, result: torch.Tensor
) -> torch.Tensor:
    """Apply the module to the gradient itself."""
    values: torch.Tensor = module(gradient._values)
    return values


class ModuleMap(Module):
    """Apply a module of torch to the values of each block, one for each key.

    Samples and components are kept, also in blocks with components, whose values the module gets
    as they are, with the properties on the last axis. `info` is kept.

    Gradients: the module is applied to them as to values, bias included. This is what existing
    code expects, and the derivative of the values only for modules that are linear and have no
    bias; :class:`ChainRule` gives the derivative for every module.

    Parameters
    ----------
    in_keys : Labels
        keys of the blocks that there can be
    modules : sequence of torch.nn.Module
        one for each key, which gives ``(n_samples, ..., n_out)`` for ``(n_samples, ..., n_in)``
    out_properties : sequence of Labels, optional
        properties of the result for each key; by default "_", from 0

    Attributes
    ----------
    in_keys : Labels
    out_properties : list of Labels or None
    module_list : torch.nn.ModuleList
        the modules, in the order of the keys

    Raises
    ------
    ValueError
        if there is not one module, and one of `out_properties`, for each key
    KeyError
        when called, if the map has another key; some keys may be absent
    TypeError
        when called, if values are no torch tensors
    MetatensorError
        when called, if the blocks of the result have properties of different names, or dtypes
    NotImplementedError
        when called, for gradients of gradients

    See Also
    --------
    Linear, Sequential : modules for each key, ready made

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.learn.nn import ModuleMap
    >>> samples, properties = Labels.range("atom", 2), Labels.range("n", 3)
    >>> keys = Labels(["center_type"], torch.tensor([[1], [8]]))
    >>> tensor = TensorMap(
    ...     keys, [TensorBlock(torch.ones(2, 3), samples, [], properties) for _ in keys]
    ... )
    >>> deep = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.SiLU(), torch.nn.Linear(8, 4))
    >>> ModuleMap(keys, [torch.nn.Linear(3, 4), deep])(tensor)
    TensorMap with 2 blocks
        keys: [center_type]
        blocks:
           1   => TensorBlock with shape (2, 4)
           8   => TensorBlock with shape (2, 4)

    """

    _in_keys: Labels
    _out_properties: list[Labels] | None
    module_list: torch.nn.ModuleList

    def __init__(
        self,
        in_keys: Labels,
        modules: Iterable[torch.nn.Module],
        out_properties: Sequence[Labels] | None = None,
    ) -> None:
        super().__init__()
        _checks.require_type(in_keys, Labels, "in_keys")
        if not isinstance(modules, Iterable):
            raise TypeError(
                "`modules` must be a sequence with one module for each key, got "
                f"{_checks.kind(modules)}; `ModuleMap.from_module` makes copies of one"
            )
        modules = list(modules)
        if out_properties is not None:
            out_properties = list(out_properties)
            for labels in out_properties:
                _checks.require_type(labels, Labels, "out_properties")
        for name, given in (("modules", modules), ("out_properties", out_properties)):
            if given is not None and len(given) != len(in_keys):
                raise ValueError(
                    f"`{name}` must have one entry for each of the {len(in_keys)} `in_keys`, "
                    f"got {len(given)}"
                )
        self.register_buffer("_in_keys", in_keys)
        self.register_buffer("_out_properties", out_properties)
        self.module_list = torch.nn.ModuleList(modules)

    @staticmethod
    def from_module(
        in_keys: Labels,
        module: torch.nn.Module,
        out_properties: Sequence[Labels] | None = None,
    ) -> ModuleMap:
        """Make a map with a deep copy of one module for each key.

        Parameters
        ----------
        in_keys : Labels
            keys of the blocks that there can be
        module : torch.nn.Module
            what is copied, weights included
        out_properties : sequence of Labels, optional
            as in :class:`ModuleMap`

        Returns
        -------
        ModuleMap

        """
        return ModuleMap(in_keys, [copy.deepcopy(module) for _ in in_keys], out_properties)

    @property
    def in_keys(self) -> Labels:
        """Keys of the blocks that there can be."""
        return self._in_keys

    @property
    def out_properties(self) -> list[Labels] | None:
        """Properties of the result for each key, None for "_"."""
        return self._out_properties

    def forward(self, tensor: TensorMap) -> TensorMap:
        """Apply the modules.

        Parameters
        ----------
        tensor : TensorMap
            of torch tensors, with keys that are among `in_keys`

        Returns
        -------
        TensorMap
            with the same keys, samples and components

        """
        return self.with_rule(tensor, module_of_gradient)

    def with_rule(self, tensor: TensorMap, rule: GradientRule) -> TensorMap:
        """Apply the modules to values, and a rule of one's own to gradients.

        Parameters
        ----------
        tensor : TensorMap
            as in :meth:`forward`
        rule : callable
            ``rule(module, block, gradient, result)`` returns the values of the gradient of the
            result, given the values of this; the axes are those of `gradient` but the last, which
            is that of the result

        Returns
        -------
        TensorMap

        """
        _checks.require_type(tensor, TensorMap, "tensor")
        modules, properties = list(self.module_list), self._out_properties
        positions = self._positions(tensor._keys)
        if properties is not None:
            _check_names([properties[position] for position in positions])
        numbered: dict[Any, Labels] = {}  # of the same sizes and places, for several blocks
        parts = [
            (
                block,
                modules[position],
                numbered if properties is None else properties[position],
                rule,
            )
            for block, position in zip(tensor._blocks, positions)
        ]
        result = assemble(tensor._keys, parts, _on_block)
        if len({block._values.dtype for block in result._blocks}) > 1:
            result._check_blocks()
        result._info = dict(tensor._info)
        return result

    def _positions(self, keys: Labels) -> Sequence[int]:
        """Return which module each key has."""
        if keys == self._in_keys:
            return range(len(keys))
        if keys._names != self._in_keys._names:
            raise KeyError(f"the keys must have the names {self._in_keys.names}, got {keys.names}")
        positions: list[int] = self._in_keys._index.find_many(keys._table).tolist()
        if positions and min(positions) < 0:
            key = keys.entry(positions.index(-1))
            raise KeyError(
                f"there is no module for the key {key.print()}; the keys of this "
                f"{type(self).__name__} are {[entry.print() for entry in self._in_keys]}"
            )
        return positions


def _on_block(
    block: TensorBlock,
    module: torch.nn.Module,
    properties: Labels | dict[Any, Labels],
    rule: GradientRule,
) -> TensorBlock:
    given = block._values
    if not isinstance(given, torch.Tensor):
        raise TypeError(
            f"the values must be torch tensors, got {_checks.kind(given)}; use "
            "`tensor.to(arrays='torch')`"
        )
    values = _apply(module, given)
    if isinstance(properties, dict):
        properties = _numbered(values.shape[-1] if values.ndim else 0, block, properties)
    _check_shape(values, given.shape[:-1], block, properties)
    gradients = {}
    if block._gradients:
        refuse_nested(block, type(module).__name__)
        for name, gradient in block._gradients.items():
            derivative = rule(module, block, gradient, values)
            _check_shape(derivative, gradient._values.shape[:-1], gradient, properties)
            gradients[name] = TensorBlock._of(
                derivative, gradient._samples, gradient._components, properties
            )
    return TensorBlock._of(values, block._samples, block._components, properties, gradients)


def _apply(module: torch.nn.Module, values: torch.Tensor) -> torch.Tensor:
    try:
        result: torch.Tensor = module(values)
    except RuntimeError as error:
        dtypes = {parameter.dtype for parameter in module.parameters()}
        if len(dtypes) == 1 and values.dtype not in dtypes:
            (dtype,) = dtypes
            raise RuntimeError(
                f"{error}; the parameters are of {dtype}, the values of {values.dtype}: use "
                f"`tensor.to({dtype})`, or `module.to({values.dtype})`"
            ) from None
        raise
    return result


def _numbered(size: int, block: TensorBlock, known: dict[Any, Labels]) -> Labels:
    """Return properties "_", with values in the library and place of those of a block."""
    given = block._properties
    place = (size, given._device)
    if place not in known:
        known[place] = given._like(Labels.range("_", size)._table, ("_",))
    return known[place]


def _check_names(properties: Sequence[Labels]) -> None:
    for labels in properties:
        if labels._names != properties[0]._names:
            _checks.invalid(
                "the `out_properties` of the blocks of one map must have the same names, got "
                f"{properties[0].names} and {labels.names}"
            )


def _check_shape(
    values: torch.Tensor, shape: Sequence[int], block: TensorBlock, properties: Labels
) -> None:
    if values.shape != (*shape, len(properties)):
        _checks.check_shape(values.shape, block._samples, block._components, properties)
