"""Layer norms, one for each key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from metatensor import _checks
from metatensor.labels import Labels
from metatensor.learn.nn._keyed import (
    KeyedModule,
    invariant_positions,
    modules_per_key,
    per_key,
)
from metatensor.learn.nn.module import Module

_Ints = int | list[int]
_Floats = float | list[float]
_Bools = bool | list[bool]


class _ScaledNorm(Module):
    """Base of norms of one block: values over a scale, times weights and plus biases."""

    weight: torch.nn.Parameter | None
    bias: torch.nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        eps: float,
        elementwise_affine: bool,
        bias: bool,
        device: Any,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.eps = eps
        for name, is_there, start in (
            ("weight", elementwise_affine, torch.ones),
            ("bias", elementwise_affine and bias, torch.zeros),
        ):
            value = start(in_features, device=device, dtype=dtype) if is_there else None
            self.register_parameter(name, None if value is None else torch.nn.Parameter(value))

    def _affine(self, values: torch.Tensor) -> torch.Tensor:
        if self.weight is not None:
            values = values * self.weight
        return values if self.bias is None else values + self.bias


class _LayerNorm(_ScaledNorm):
    def __init__(self, *args: Any, mean: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mean = mean

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        axes = tuple(range(1, values.ndim))
        centered = values - values.mean(dim=axes, keepdim=True)
        variance = (centered * centered).mean(dim=axes, keepdim=True)
        if self.mean:
            values = centered
        return self._affine(values / torch.sqrt(variance + self.eps))


class _RMSNorm(_ScaledNorm):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        axes = tuple(range(1, values.ndim))
        square = (values * values).sum(dim=axes, keepdim=True) / values.shape[-1]
        return self._affine(values / torch.sqrt(square + self.eps))


#: what can be given for all keys or for each, and its kind
_KINDS = {"in_features": int, "eps": float, "elementwise_affine": bool, "bias": bool, "mean": bool}


def _norms(
    make: Callable[..., torch.nn.Module],
    in_keys: Labels,
    positions: Sequence[int],
    *,
    device: Any,
    dtype: torch.dtype | None,
    **given: _Ints | _Floats | _Bools,
) -> list[torch.nn.Module]:
    """Make norms for the keys at some positions, of what is given for all of these or each."""
    options = {
        name: per_key(name, value, _KINDS[name], len(positions)) for name, value in given.items()
    }
    return modules_per_key(make, in_keys, positions, device=device, dtype=dtype, **options)


class LayerNorm(KeyedModule):
    r"""Layer norm [1]_ of all blocks.

    Each sample is shifted and scaled on its own,

    .. math::

        y = \frac{x - \bar x}{\sqrt{\frac{1}{N} \sum (x - \bar x)^2 + \epsilon}}\, w + b

    with mean and sum over all N entries of components and properties. Since the mean and the bias
    are constants, it is not equivariant in blocks with components: see :class:`InvariantLayerNorm`
    and :class:`EquivariantRMSNorm`.

    Gradients: refused; :class:`ChainRule` gives them.

    Parameters
    ----------
    in_keys : Labels
        keys of the blocks that there can be
    in_features : int or list of int
        number of properties, for all keys or each
    out_properties : sequence of Labels, optional
        properties of the result for each key; by default "_", from 0
    eps : float or list of float, default=1e-5
        added to the variance, in the unit of squared values
    elementwise_affine : bool or list of bool, default=True
        whether there are weights w and biases b, one for each property
    bias : bool or list of bool, default=True
        whether there are biases, if there are weights
    mean : bool or list of bool, default=True
        whether the mean is subtracted in the numerator
    device : torch.device, optional
        where the weights are
    dtype : torch.dtype, optional
        type of the weights, that of torch by default

    Attributes
    ----------
    module_map : ModuleMap
        the norms, in ``module_map.module_list``

    Raises
    ------
    ValueError
        if there is not one value for each key; when called, for blocks with gradients
    TypeError
        if a parameter is of another kind

    See Also
    --------
    torch.nn.LayerNorm : for arrays

    References
    ----------
    .. [1] J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", arXiv:1607.06450 (2016)

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.learn.nn import LayerNorm
    >>> one, properties = Labels.single(), Labels.range("n", 2)
    >>> tensor = TensorMap(one, [TensorBlock(torch.tensor([[1.0, 3.0]]), one, [], properties)])
    >>> LayerNorm(one, in_features=2, eps=0.0)(tensor).block().values.tolist()
    [[-1.0, 1.0]]

    """

    def __init__(
        self,
        in_keys: Labels,
        in_features: _Ints,
        out_properties: Sequence[Labels] | None = None,
        *,
        eps: _Floats = 1e-5,
        elementwise_affine: _Bools = True,
        bias: _Bools = True,
        mean: _Bools = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        _checks.require_type(in_keys, Labels, "in_keys")
        modules = _norms(
            _LayerNorm,
            in_keys,
            range(len(in_keys)),
            in_features=in_features,
            eps=eps,
            elementwise_affine=elementwise_affine,
            bias=bias,
            mean=mean,
            device=device,
            dtype=dtype,
        )
        super().__init__(in_keys, modules, out_properties)


class InvariantLayerNorm(KeyedModule):
    """Layer norm of invariant blocks; the others pass unchanged.

    Gradients: refused; :class:`ChainRule` gives them.

    Parameters
    ----------
    in_keys, out_properties, device, dtype
        as in :class:`LayerNorm`
    in_features, eps, elementwise_affine, bias, mean
        as in :class:`LayerNorm`, for all or each of the invariant keys
    invariant_keys : Labels, optional
        selects the keys of invariant blocks; by default those with ``o3_lambda=0, o3_sigma=1``

    Attributes
    ----------
    module_map : ModuleMap
        norms and identities, in ``module_map.module_list``

    Raises
    ------
    MetatensorError
        if keys do not have the names that select the invariant ones
    ValueError, TypeError
        as in :class:`LayerNorm`

    See Also
    --------
    EquivariantRMSNorm : for all blocks

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels
    >>> from metatensor.learn.nn import InvariantLayerNorm
    >>> keys = Labels(["o3_lambda", "o3_sigma"], torch.tensor([[0, 1], [1, 1]]))
    >>> InvariantLayerNorm(keys, in_features=3).module_map.module_list[1]
    Identity()

    """

    def __init__(
        self,
        in_keys: Labels,
        in_features: _Ints,
        out_properties: Sequence[Labels] | None = None,
        invariant_keys: Labels | None = None,
        *,
        eps: _Floats = 1e-5,
        elementwise_affine: _Bools = True,
        bias: _Bools = True,
        mean: _Bools = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        modules = _norms(
            _LayerNorm,
            in_keys,
            invariant_positions(in_keys, invariant_keys),
            in_features=in_features,
            eps=eps,
            elementwise_affine=elementwise_affine,
            bias=bias,
            mean=mean,
            device=device,
            dtype=dtype,
        )
        super().__init__(in_keys, modules, out_properties)


class EquivariantRMSNorm(KeyedModule):
    r"""Norm of all blocks that is equivariant: values over the root mean square of their lengths.

    Each sample is scaled on its own,

    .. math::

        y_{mc} = \frac{x_{mc}}{\sqrt{\frac{1}{C} \sum_{m'c'} x_{m'c'}^2 + \epsilon}}\, w_c

    with the components m and the C properties c, as in [1]_; without components this is [2]_. A
    rotation changes no length, and no constant is added.

    Gradients: refused; :class:`ChainRule` gives them.

    Parameters
    ----------
    in_keys, in_features, out_properties, device, dtype
        as in :class:`LayerNorm`
    eps : float or list of float, default=1e-5
        added to the mean square, in the unit of squared values
    elementwise_affine : bool or list of bool, default=True
        whether there are weights w, one for each property

    Attributes
    ----------
    module_map : ModuleMap
        the norms, in ``module_map.module_list``

    Raises
    ------
    ValueError, TypeError
        as in :class:`LayerNorm`

    See Also
    --------
    metatensor.o3.rotate : what equivariant means

    References
    ----------
    .. [1] Y.-L. Liao and T. Smidt, "Equiformer: equivariant graph attention transformer for 3D
       atomistic graphs", ICLR (2023), section 4
    .. [2] B. Zhang and R. Sennrich, "Root mean square layer normalization", NeurIPS (2019)

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.learn.nn import EquivariantRMSNorm
    >>> one, xyz = Labels.single(), Labels.range("xyz", 3)
    >>> vector = TensorBlock(torch.tensor([[[3.0], [0.0], [4.0]]]), one, [xyz], one)
    >>> norm = EquivariantRMSNorm(one, in_features=1, eps=0.0)
    >>> torch.linalg.vector_norm(norm(TensorMap(one, [vector])).block().values).item()
    1.0

    """

    def __init__(
        self,
        in_keys: Labels,
        in_features: _Ints,
        out_properties: Sequence[Labels] | None = None,
        *,
        eps: _Floats = 1e-5,
        elementwise_affine: _Bools = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        _checks.require_type(in_keys, Labels, "in_keys")
        modules = _norms(
            _RMSNorm,
            in_keys,
            range(len(in_keys)),
            in_features=in_features,
            eps=eps,
            elementwise_affine=elementwise_affine,
            bias=False,
            device=device,
            dtype=dtype,
        )
        super().__init__(in_keys, modules, out_properties)
