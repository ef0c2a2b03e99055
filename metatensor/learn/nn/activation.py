"""Activations, for all keys or for those of invariant blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from metatensor.labels import Labels
from metatensor.learn.nn._keyed import KeyedModule, invariant_positions, modules_per_key


class ReLU(KeyedModule):
    r"""Rectifier, :math:`\max(x, 0)`, of all blocks.

    It acts on each entry of components by itself, and so is not equivariant in blocks that have
    them: see :class:`InvariantReLU`.

    Gradients: refused; :class:`ChainRule` gives them.

    Parameters
    ----------
    in_keys : Labels
        keys of the blocks that there can be
    out_properties : sequence of Labels, optional
        properties of the result for each key; by default "_", from 0
    in_place : bool, default=False
        whether the values of the input are overwritten

    Attributes
    ----------
    module_map : ModuleMap
        the activations, in ``module_map.module_list``

    Raises
    ------
    ValueError
        when called, for blocks with gradients

    See Also
    --------
    torch.nn.ReLU : for arrays

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.learn.nn import ReLU
    >>> one, properties = Labels.single(), Labels.range("n", 2)
    >>> tensor = TensorMap(one, [TensorBlock(torch.tensor([[-1.0, 2.0]]), one, [], properties)])
    >>> ReLU(one)(tensor).block().values
    tensor([[0., 2.]])

    """

    def __init__(
        self,
        in_keys: Labels,
        out_properties: Sequence[Labels] | None = None,
        *,
        in_place: bool = False,
    ) -> None:
        modules = modules_per_key(torch.nn.ReLU, in_keys, inplace=in_place)
        super().__init__(in_keys, modules, out_properties)


class InvariantReLU(KeyedModule):
    """Rectifier of invariant blocks; the others pass unchanged.

    Gradients: refused; :class:`ChainRule` gives them.

    Parameters
    ----------
    in_keys, out_properties, in_place
        as in :class:`ReLU`
    invariant_keys : Labels, optional
        selects the keys of invariant blocks; by default those with ``o3_lambda=0, o3_sigma=1``

    Attributes
    ----------
    module_map : ModuleMap
        activations and identities, in ``module_map.module_list``

    Raises
    ------
    MetatensorError
        if keys do not have the names that select the invariant ones
    ValueError
        when called, for blocks with gradients

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels
    >>> from metatensor.learn.nn import InvariantReLU
    >>> keys = Labels(["o3_lambda", "o3_sigma"], torch.tensor([[0, 1], [1, 1]]))
    >>> InvariantReLU(keys).module_map.module_list
    ModuleList(
      (0): ReLU()
      (1): Identity()
    )

    """

    def __init__(
        self,
        in_keys: Labels,
        out_properties: Sequence[Labels] | None = None,
        invariant_keys: Labels | None = None,
        *,
        in_place: bool = False,
    ) -> None:
        positions = invariant_positions(in_keys, invariant_keys)
        modules = modules_per_key(torch.nn.ReLU, in_keys, positions, inplace=in_place)
        super().__init__(in_keys, modules, out_properties)


class SiLU(KeyedModule):
    r"""Sigmoid linear unit, :math:`x / (1 + e^{-x})`, of all blocks.

    It acts on each entry of components by itself, and so is not equivariant in blocks that have
    them: see :class:`InvariantSiLU`.

    Gradients: refused; :class:`ChainRule` gives them.

    Parameters
    ----------
    in_keys, out_properties, in_place
        as in :class:`ReLU`

    Attributes
    ----------
    module_map : ModuleMap
        the activations, in ``module_map.module_list``

    Raises
    ------
    ValueError
        when called, for blocks with gradients

    See Also
    --------
    torch.nn.SiLU : for arrays

    Examples
    --------
    >>> from metatensor import Labels
    >>> from metatensor.learn.nn import SiLU
    >>> SiLU(Labels.single()).module_map.module_list[0]
    SiLU()

    """

    def __init__(
        self,
        in_keys: Labels,
        out_properties: Sequence[Labels] | None = None,
        *,
        in_place: bool = False,
    ) -> None:
        modules = modules_per_key(torch.nn.SiLU, in_keys, inplace=in_place)
        super().__init__(in_keys, modules, out_properties)


class InvariantSiLU(KeyedModule):
    """Sigmoid linear unit of invariant blocks; the others pass unchanged.

    Gradients: refused; :class:`ChainRule` gives them.

    Parameters
    ----------
    in_keys, out_properties, invariant_keys, in_place
        as in :class:`InvariantReLU`

    Attributes
    ----------
    module_map : ModuleMap
        activations and identities, in ``module_map.module_list``

    Raises
    ------
    MetatensorError
        if keys do not have the names that select the invariant ones
    ValueError
        when called, for blocks with gradients

    Examples
    --------
    >>> from metatensor import Labels
    >>> from metatensor.learn.nn import InvariantSiLU
    >>> keys = Labels.range("o3_lambda", 2)
    >>> activation = InvariantSiLU(keys, invariant_keys=Labels.range("o3_lambda", 1))
    >>> activation.module_map.module_list[1]
    Identity()

    """

    def __init__(
        self,
        in_keys: Labels,
        out_properties: Sequence[Labels] | None = None,
        invariant_keys: Labels | None = None,
        *,
        in_place: bool = False,
    ) -> None:
        positions = invariant_positions(in_keys, invariant_keys)
        modules = modules_per_key(torch.nn.SiLU, in_keys, positions, inplace=in_place)
        super().__init__(in_keys, modules, out_properties)


class Tanh(KeyedModule):
    r"""Hyperbolic tangent of all blocks.

    It acts on each entry of components by itself, and so is not equivariant in blocks that have
    them: see :class:`InvariantTanh`.

    Gradients: refused; :class:`ChainRule` gives them.

    Parameters
    ----------
    in_keys, out_properties
        as in :class:`ReLU`

    Attributes
    ----------
    module_map : ModuleMap
        the activations, in ``module_map.module_list``

    Raises
    ------
    ValueError
        when called, for blocks with gradients

    See Also
    --------
    torch.nn.Tanh : for arrays

    Examples
    --------
    >>> from metatensor import Labels
    >>> from metatensor.learn.nn import Tanh
    >>> Tanh(Labels.single()).module_map.module_list[0]
    Tanh()

    """

    def __init__(self, in_keys: Labels, out_properties: Sequence[Labels] | None = None) -> None:
        super().__init__(in_keys, modules_per_key(torch.nn.Tanh, in_keys), out_properties)


class InvariantTanh(KeyedModule):
    """Hyperbolic tangent of invariant blocks; the others pass unchanged.

    Gradients: refused; :class:`ChainRule` gives them.

    Parameters
    ----------
    in_keys, out_properties, invariant_keys
        as in :class:`InvariantReLU`

    Attributes
    ----------
    module_map : ModuleMap
        activations and identities, in ``module_map.module_list``

    Raises
    ------
    MetatensorError
        if keys do not have the names that select the invariant ones
    ValueError
        when called, for blocks with gradients

    Examples
    --------
    >>> from metatensor import Labels
    >>> from metatensor.learn.nn import InvariantTanh
    >>> keys = Labels.range("o3_lambda", 2)
    >>> activation = InvariantTanh(keys, invariant_keys=Labels.range("o3_lambda", 1))
    >>> activation.module_map.module_list[0]
    Tanh()

    """

    def __init__(
        self,
        in_keys: Labels,
        out_properties: Sequence[Labels] | None = None,
        invariant_keys: Labels | None = None,
    ) -> None:
        positions = invariant_positions(in_keys, invariant_keys)
        modules = modules_per_key(torch.nn.Tanh, in_keys, positions)
        super().__init__(in_keys, modules, out_properties)
