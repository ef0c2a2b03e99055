"""Linear layers, one for each key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from metatensor import _checks
from metatensor.labels import Labels
from metatensor.learn.nn._keyed import (
    KeyedModule,
    invariant_positions,
    modules_per_key,
    out_features_per_key,
    per_key,
)
from metatensor.learn.nn.module_map import ModuleMap


def from_weights(
    in_keys: Labels, weights: Sequence[Any], biases: Sequence[Any], out_properties: Sequence[Labels]
) -> ModuleMap:
    """Make linear layers with copies of given arrays, (n_out, n_in) and (n_out,) or None."""
    layers = []
    for weight, bias in zip(weights, biases):
        layer = torch.nn.utils.skip_init(torch.nn.Linear, *weight.shape[::-1], bias is not None)  # type: ignore[no-untyped-call]
        layer.weight = torch.nn.Parameter(torch.as_tensor(weight).clone())
        if bias is not None:
            layer.bias = torch.nn.Parameter(torch.as_tensor(bias).clone())
        layers.append(layer)
    return ModuleMap(in_keys, layers, out_properties)


class _LinearModule(KeyedModule):
    """Base of linear layers."""

    _takes_gradients = True

    def __init__(
        self,
        in_keys: Labels,
        in_features: int | list[int],
        out_features: int | list[int] | None,
        out_properties: Sequence[Labels] | None,
        bias: list[bool],
        device: Any,
        dtype: torch.dtype | None,
    ) -> None:
        modules = modules_per_key(
            torch.nn.Linear,
            in_keys,
            in_features=per_key("in_features", in_features, int, len(in_keys)),
            out_features=out_features_per_key(in_keys, out_features, out_properties),
            bias=bias,
            device=device,
            dtype=dtype,
        )
        super().__init__(in_keys, modules, out_properties)


class Linear(_LinearModule):
    r"""Linear layer for each key, :math:`y = x W^T + b`, a :class:`torch.nn.Linear`.

    The matrix multiplies the properties, for each entry of components.

    Gradients: the layer is applied to them as to values, so that the bias is added to gradients
    too, and they are derivatives of the values only with ``bias=False``: see :class:`ChainRule`.

    Parameters
    ----------
    in_keys : Labels
        keys of the blocks that there can be
    in_features : int or list of int
        number of properties of the input, for all keys or each
    out_features : int or list of int, optional
        number of properties of the result; not needed with `out_properties`
    out_properties : sequence of Labels, optional
        properties of the result for each key; by default "_", from 0
    bias : bool or list of bool, default=True
        whether there is a bias b
    device : torch.device, optional
        where the weights are
    dtype : torch.dtype, optional
        type of the weights, that of torch by default

    Attributes
    ----------
    module_map : ModuleMap
        the layers, in ``module_map.module_list``

    Raises
    ------
    ValueError
        if there is not one value, or one Labels, for each key, or neither `out_features` nor
        `out_properties`
    TypeError
        if a parameter is of another kind

    See Also
    --------
    EquivariantLinear : biases on invariant blocks alone

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels
    >>> from metatensor.learn.nn import Linear
    >>> keys = Labels(["center_type"], torch.tensor([[1], [8]]))
    >>> layer = Linear(keys, in_features=3, out_features=2, bias=[True, False])
    >>> [name for name in layer.state_dict() if name.endswith("bias")]
    ['module_map.module_list.0.bias']

    """

    def __init__(
        self,
        in_keys: Labels,
        in_features: int | list[int],
        out_features: int | list[int] | None = None,
        out_properties: Sequence[Labels] | None = None,
        *,
        bias: bool | list[bool] = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        _checks.require_type(in_keys, Labels, "in_keys")
        biases = per_key("bias", bias, bool, len(in_keys))
        super().__init__(in_keys, in_features, out_features, out_properties, biases, device, dtype)


class EquivariantLinear(_LinearModule):
    """Linear layer for each key, with a bias for invariant blocks alone.

    A constant would give the other blocks a direction that does not rotate with the systems.

    Gradients: as in :class:`Linear`.

    Parameters
    ----------
    in_keys, in_features, out_features, out_properties, device, dtype
        as in :class:`Linear`
    invariant_keys : Labels, optional
        selects the keys of invariant blocks; by default those with ``o3_lambda=0, o3_sigma=1``
    bias : bool or list of bool, default=True
        whether there is a bias, for all or each of the invariant keys

    Attributes
    ----------
    module_map : ModuleMap
        the layers, in ``module_map.module_list``

    Raises
    ------
    MetatensorError
        if keys do not have the names that select the invariant ones
    ValueError, TypeError
        as in :class:`Linear`

    See Also
    --------
    metatensor.o3.rotate : what equivariant means

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels
    >>> from metatensor.learn.nn import EquivariantLinear
    >>> keys = Labels(["o3_lambda", "o3_sigma"], torch.tensor([[0, 1], [1, 1]]))
    >>> layer = EquivariantLinear(keys, in_features=3, out_features=2)
    >>> [name for name in layer.state_dict() if name.endswith("bias")]
    ['module_map.module_list.0.bias']

    """

    def __init__(
        self,
        in_keys: Labels,
        in_features: int | list[int],
        out_features: int | list[int] | None = None,
        out_properties: Sequence[Labels] | None = None,
        invariant_keys: Labels | None = None,
        *,
        bias: bool | list[bool] = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positions = invariant_positions(in_keys, invariant_keys)
        biases = [False] * len(in_keys)
        for position, value in zip(positions, per_key("bias", bias, bool, len(positions))):
            biases[position] = value
        super().__init__(in_keys, in_features, out_features, out_properties, biases, device, dtype)
