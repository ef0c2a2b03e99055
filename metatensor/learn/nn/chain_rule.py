"""Gradients of what modules give, by the chain rule."""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import Any

import torch

from metatensor import _checks
from metatensor.block import TensorBlock
from metatensor.learn.nn.module import Module
from metatensor.learn.nn.module_map import ModuleMap
from metatensor.tensor import TensorMap


class ChainRule(Module):
    r"""Apply a module to a map, such that gradients of the result are exact.

    Gradients: those of the result y, by the chain rule: for a gradient row r of the input x that
    belongs to the sample s(r), :math:`\partial y_{s(r)} / \partial p = J(x_{s(r)})\, \partial
    x_{s(r)} / \partial p`, where J is the Jacobian of the module. Torch can differentiate them once
    more, so that a loss can have gradients such as forces.

    The module must treat each sample on its own, as all of this package do: layers that mix
    samples, such as batch norms, have other derivatives. The time is that of one pass backwards for
    each entry of a sample of the result; or, where this is less, of one pass forwards in which rows
    of gradients count as samples, each entry of their own components as one.

    Parameters
    ----------
    module : ModuleMap, or a module with a `module_map`
        such as :class:`Sequential`

    Raises
    ------
    TypeError
        if `module` is something else
    ValueError
        when called, if there is dropout in the module, it trains, and there are gradients, since
        these would be those of other random numbers
    NotImplementedError
        when called, for gradients of gradients

    See Also
    --------
    torch.autograd.grad : differentiates backwards
    torch.func.jvp : differentiates forwards

    References
    ----------
    A. G. Baydin et al., "Automatic differentiation in machine learning: a survey", J. Mach. Learn.
    Res. 18, 1 (2018), section 3.1

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.learn.nn import ChainRule, Tanh
    >>> one = Labels.single()
    >>> block = TensorBlock(torch.tensor([[0.5]]), one, [], one)
    >>> gradient = TensorBlock(
    ...     torch.tensor([[2.0]]), Labels("sample", torch.tensor([[0]])), [], one
    ... )
    >>> block.add_gradient("strain", gradient)
    >>> result = ChainRule(Tanh(one))(TensorMap(one, [block])).block()
    >>> torch.allclose(result.gradient("strain").values, 2 * (1 - torch.tanh(block.values) ** 2))
    True

    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        if not isinstance(getattr(module, "module_map", module), ModuleMap):
            raise TypeError(
                f"`module` must be a ModuleMap or have a `module_map`, got {_checks.kind(module)}"
            )
        self.module = module

    def forward(self, tensor: TensorMap) -> TensorMap:
        """Apply the module to values, and the chain rule to gradients.

        Parameters
        ----------
        tensor : TensorMap
            of torch tensors, with keys that are among `in_keys` of the module

        Returns
        -------
        TensorMap
            with the same keys, samples, components and gradients

        """
        return with_chain_rule(getattr(self.module, "module_map", self.module), tensor)


def with_chain_rule(module_map: ModuleMap, tensor: TensorMap) -> TensorMap:
    """Apply modules to values, and the chain rule to gradients."""
    return module_map.with_rule(tensor, _derivative)


def _derivative(
    module: torch.nn.Module, block: TensorBlock, gradient: TensorBlock, result: torch.Tensor
) -> torch.Tensor:
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout) and part.training and part.p > 0:
            raise ValueError(
                "gradients can not be followed through dropout while training; use `.eval()`, "
                "`metatensor.remove_gradients`, or p=0"
            )
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False), torch.no_grad():
            return _contracted(module, block._values.clone(), gradient, result.shape[1:])
    return _contracted(module, block._values, gradient, result.shape[1:])


def _contracted(
    module: torch.nn.Module, values: torch.Tensor, gradient: TensorBlock, shape: torch.Size
) -> torch.Tensor:
    given = gradient._values
    own = given.shape[1 : 1 + given.ndim - values.ndim]
    rows = torch.from_numpy(gradient._samples._table[:, 0].copy()).to(values.device)
    n_own = math.prod(own)
    # one pass for all samples and each entry of the result, or one for all rows of the gradient
    if 0 < len(values) * math.prod(shape) <= len(rows) * n_own:
        derivative = _backwards(module, values, rows, given.reshape(len(rows), n_own, -1), shape)
    else:
        points = values[rows.repeat_interleave(n_own)]
        _load_forward_rules()
        pair: Any = torch.func.jvp(module, (points,), (given.reshape(points.shape),))
        derivative = pair[1]
    return derivative.reshape(len(rows), *own, *shape)


def _backwards(
    module: torch.nn.Module,
    values: torch.Tensor,
    rows: torch.Tensor,
    tangents: torch.Tensor,
    shape: torch.Size,
) -> torch.Tensor:
    """Contract the Jacobian of each sample with tangents, (n_rows, n_own, n_entries)."""
    differentiated = torch.is_grad_enabled()
    columns = []
    with torch.enable_grad():
        start = values if values.requires_grad else values.detach().requires_grad_()
        results = module(start.clone()).reshape(len(values), -1)  # modules may work in place
        for entry in range(math.prod(shape)):
            (row,) = torch.autograd.grad(
                results[:, entry].sum(), start, retain_graph=True, create_graph=differentiated
            )
            columns.append((tangents @ row.reshape(len(values), -1, 1)[rows])[..., 0])
    derivative = torch.stack(columns, dim=-1)
    return derivative if differentiated else derivative.detach()


@cache
def _load_forward_rules() -> None:
    """Make torch load its rules, which warns of what it uses for that itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.zeros(1),))
