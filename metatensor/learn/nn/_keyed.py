"""What the ready modules share: a module map inside, and parameters for each key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from metatensor import _checks
from metatensor.labels import Labels
from metatensor.learn.nn.module import Module
from metatensor.learn.nn.module_map import ModuleMap
from metatensor.tensor import TensorMap


class KeyedModule(Module):
    """Base of modules that are one module of torch for each key."""

    #: whether gradients go through the modules as values do; others refuse them
    _takes_gradients = False

    module_map: ModuleMap

    def __init__(
        self,
        in_keys: Labels,
        modules: Iterable[torch.nn.Module],
        out_properties: Sequence[Labels] | None = None,
    ) -> None:
        super().__init__()
        self.module_map = ModuleMap(in_keys, modules, out_properties)

    def forward(self, tensor: TensorMap) -> TensorMap:
        """Apply the module of each key.

        Parameters
        ----------
        tensor : TensorMap
            of torch tensors, with keys that are among `in_keys`

        Returns
        -------
        TensorMap
            with the same keys, samples and components

        """
        _checks.require_type(tensor, TensorMap, "tensor")
        if not self._takes_gradients and tensor._blocks and tensor._blocks[0]._gradients:
            name = type(self).__name__
            raise ValueError(
                f"`{name}` is not linear and takes no gradients, got those with respect to "
                f"{tensor._blocks[0].gradients_list()}; use `metatensor.remove_gradients`, or "
                "`metatensor.learn.nn.ChainRule` for exact gradients of the result"
            )
        result: TensorMap = self.module_map(tensor)
        return result


def modules_per_key(
    make: Callable[..., torch.nn.Module],
    keys: Labels,
    positions: Collection[int] | None = None,
    **options: Any,
) -> list[torch.nn.Module]:
    """Make a module for each key, or for some of them, the others being identities.

    Parameters
    ----------
    make : callable
        called with the options for a key
    keys : Labels
        one module for each
    positions : collection of int, optional
        of the keys that have modules
    **options
        lists with one entry for each key in `positions`, in their order; or what all have

    Returns
    -------
    list of torch.nn.Module

    """
    _checks.require_type(keys, Labels, "in_keys")
    positions = range(len(keys)) if positions is None else positions
    modules: list[torch.nn.Module] = [torch.nn.Identity() for _ in keys]
    for number, position in enumerate(positions):
        own = {
            name: value[number] if isinstance(value, list) else value
            for name, value in options.items()
        }
        modules[position] = make(**own)
    return modules


def per_key(name: str, value: Any, kind: type, n_keys: int) -> list[Any]:
    """Return a list with one value for each key, of one for all or such a list.

    Raises
    ------
    TypeError
        if it is of another kind: int, float or bool
    ValueError
        if the list is not as long as there are keys

    """
    values = list(value) if isinstance(value, (list, tuple)) else [value] * n_keys
    if len(values) != n_keys:
        raise ValueError(
            f"`{name}` must be one value, or have one for each of {n_keys} keys, got {len(values)}"
        )
    accepted: Any = {
        int: (int, np.integer),
        float: (float, int, np.floating, np.integer),
        bool: (bool, np.bool_),
    }[kind]
    for given in values:
        if not isinstance(given, accepted) or (kind is not bool and isinstance(given, bool)):
            raise TypeError(
                f"`{name}` must be {kind.__name__}, or a list of them, got {_checks.kind(given)}"
            )
    return [kind(given) for given in values]


def out_features_per_key(
    in_keys: Labels, out_features: Any, out_properties: Sequence[Labels] | None
) -> list[int]:
    """Return how many properties the result has for each key."""
    if out_properties is None:
        if out_features is None:
            raise ValueError("one of `out_features` and `out_properties` is required, got neither")
        return per_key("out_features", out_features, int, len(in_keys))
    sizes = [len(labels) for labels in out_properties]
    if len(sizes) != len(in_keys):
        raise ValueError(
            f"`out_properties` must have one entry for each of the {len(in_keys)} `in_keys`, "
            f"got {len(sizes)}"
        )
    if out_features is not None:
        given = per_key("out_features", out_features, int, len(in_keys))
        if given != sizes:
            raise ValueError(
                f"`out_features` must be the lengths of `out_properties`, {sizes}, got {given}; "
                "one of the two is enough"
            )
    return sizes


def invariant_positions(in_keys: Labels, invariant_keys: Labels | None) -> list[int]:
    """Return where the keys of invariant blocks are.

    Raises
    ------
    MetatensorError
        if `in_keys` do not have the names of `invariant_keys`, which are "o3_lambda" and "o3_sigma"
        by default

    """
    _checks.require_type(in_keys, Labels, "in_keys")
    if invariant_keys is None:
        invariant_keys = Labels(["o3_lambda", "o3_sigma"], np.array([[0, 1]]))
        for name in invariant_keys.names:
            if name not in in_keys.names:
                _checks.invalid(
                    "`in_keys` must have the names 'o3_lambda' and 'o3_sigma', which say what is "
                    f"invariant, got {in_keys.names}; otherwise give `invariant_keys`"
                )
    _checks.require_type(invariant_keys, Labels, "invariant_keys")
    positions: list[int] = in_keys._matches(invariant_keys).tolist()
    return positions
