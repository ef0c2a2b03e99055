"""Dropout, for each key."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from metatensor import _checks
from metatensor.labels import Labels
from metatensor.learn.nn._keyed import KeyedModule, modules_per_key, per_key


class _Dropout(torch.nn.Dropout):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return values
        shape = (values.shape[0], *[1] * (values.ndim - 2), values.shape[-1])
        return values * torch.nn.functional.dropout(values.new_ones(shape), self.p, training=True)


class Dropout(KeyedModule):
    """Set properties of samples to zero at random while training.

    All components of a property of a sample are dropped together, or none, so that the result is
    equivariant. What is kept is divided by ``1 - p``.

    Gradients: refused.

    Parameters
    ----------
    in_keys : Labels
        keys of the blocks that there can be
    p : float or list of float, default=0.5
        probability to be dropped, for all keys or each
    out_properties : sequence of Labels, optional
        properties of the result for each key; by default "_", from 0

    Attributes
    ----------
    module_map : ModuleMap
        what drops, in ``module_map.module_list``

    Raises
    ------
    ValueError
        if a probability is not between 0 and 1, or there is not one for each key; when called, for
        blocks with gradients
    TypeError
        if a probability is no number

    See Also
    --------
    torch.nn.Dropout : for arrays

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
    J. Mach. Learn. Res. 15, 1929 (2014)

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.learn.nn import Dropout
    >>> one, xyz = Labels.single(), Labels.range("xyz", 3)
    >>> tensor = TensorMap(one, [TensorBlock(torch.ones(1, 3, 1), one, [xyz], one)])
    >>> bool(Dropout(one, p=0.5)(tensor).block().values.sum() in (0.0, 6.0))
    True

    """

    def __init__(
        self,
        in_keys: Labels,
        p: float | list[float] = 0.5,
        out_properties: Sequence[Labels] | None = None,
    ) -> None:
        _checks.require_type(in_keys, Labels, "in_keys")
        probabilities = per_key("p", p, float, len(in_keys))
        super().__init__(
            in_keys, modules_per_key(_Dropout, in_keys, p=probabilities), out_properties
        )
