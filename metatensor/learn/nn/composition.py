"""Modules made of modules: sequences, sums, and functions of what is invariant."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from metatensor import _checks
from metatensor.labels import Labels
from metatensor.learn.nn._keyed import (
    KeyedModule,
    invariant_positions,
    out_features_per_key,
    per_key,
)
from metatensor.learn.nn.module import Module
from metatensor.learn.nn.module_map import ModuleMap
from metatensor.tensor import TensorMap


def _map_of(module: Any, in_keys: Labels) -> ModuleMap:
    """Return the modules inside a module, of which there must be enough."""
    module_map = getattr(module, "module_map", None)
    if not isinstance(module_map, ModuleMap):
        raise TypeError(
            "the modules must have a `module_map`, as those of `metatensor.learn.nn` but "
            f"ModuleMap have, got {_checks.kind(module)}"
        )
    if len(module_map.module_list) != len(in_keys):
        raise ValueError(
            f"the modules must have one module of torch for each of the {len(in_keys)} `in_keys`, "
            f"a {_checks.kind(module)} has {len(module_map.module_list)}"
        )
    return module_map


class Sequential(KeyedModule):
    """Apply modules one after the other.

    There is one :class:`torch.nn.Sequential` for each key, of the modules that the arguments have
    at the same position. They are shared with the arguments, not copied. Labels between them play
    no role: the properties of the result are those of the last one.

    Gradients: they go through all modules as values do, as in :class:`ModuleMap`, and are no
    derivatives if there is a bias or something that is not linear, of which a warning tells; wrap
    the whole in :class:`ChainRule` for exact ones.

    Parameters
    ----------
    in_keys : Labels
        keys of the blocks that there can be
    *modules
        at least one, with a `module_map` and the same keys in the same order

    Attributes
    ----------
    module_map : ModuleMap
        the sequences, in ``module_map.module_list``

    Raises
    ------
    TypeError
        if a module has no `module_map`, or there is none
    ValueError
        if a module has not as many keys

    Warns
    -----
    UserWarning
        when called with gradients, if a module is not linear

    See Also
    --------
    Add : connections that leave out modules

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.learn.nn import Linear, Sequential, Tanh
    >>> samples, properties = Labels.range("atom", 2), Labels.range("n", 3)
    >>> keys = Labels.single()
    >>> tensor = TensorMap(keys, [TensorBlock(torch.ones(2, 3), samples, [], properties)])
    >>> network = Sequential(keys, Linear(keys, 3, 8), Tanh(keys), Linear(keys, 8, 1))
    >>> network(tensor).block().shape
    torch.Size([2, 1])

    """

    _takes_gradients = True

    def __init__(self, in_keys: Labels, *modules: Any) -> None:
        _checks.require_type(in_keys, Labels, "in_keys")
        if not modules:
            raise TypeError("`Sequential` needs at least one module after `in_keys`, got none")
        maps = [_map_of(module, in_keys) for module in modules]
        sequences = [
            torch.nn.Sequential(*layers)
            for layers in zip(*[list(module_map.module_list) for module_map in maps])
        ]
        super().__init__(in_keys, sequences, maps[-1].out_properties)
        self._not_linear = sorted(
            {
                type(module).__name__
                for module in modules
                if not getattr(module, "_takes_gradients", True)
            }
        )

    def forward(self, tensor: TensorMap) -> TensorMap:
        """Apply the modules of each key.

        Parameters
        ----------
        tensor : TensorMap
            of torch tensors, with keys that are among `in_keys`

        Returns
        -------
        TensorMap
            with the same keys, samples and components

        """
        result = super().forward(tensor)
        if self._not_linear and result._blocks and result._blocks[0]._gradients:
            warnings.warn(
                f"modules that are not linear, {self._not_linear}, were applied to gradients, and "
                "those of the result are no derivatives; use `metatensor.learn.nn.ChainRule` for "
                "exact ones, or `metatensor.remove_gradients`",
                UserWarning,
                stacklevel=2,
            )
        return result


class _Sum(torch.nn.Module):
    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.module(values)
        if added.shape != values.shape:
            raise ValueError(
                "what is added must have the shape of the input of `Add`, "
                f"{tuple(values.shape)}, got {tuple(added.shape)}"
            )
        return values + added


class Add(KeyedModule):
    r"""Residual connection: the input plus what a module makes of it, :math:`x + f(x)`.

    The modules are shared with the argument, not copied. Equivariant if the module is.

    Gradients: those of the input plus what the module makes of them; refused if it refuses them.
    :class:`ChainRule` gives exact ones.

    Parameters
    ----------
    in_keys : Labels
        keys of the blocks that there can be
    module
        with a `module_map`, the same keys in the same order, and as many properties in its result
        as in its input
    out_properties : sequence of Labels, optional
        properties of the result for each key; by default those of the result of `module`

    Attributes
    ----------
    module_map : ModuleMap
        the sums, in ``module_map.module_list``

    Raises
    ------
    TypeError
        if the module has no `module_map`
    ValueError
        if it has not as many keys; when called, if it changes the number of properties

    See Also
    --------
    Sequential : can be inside, and around

    References
    ----------
    K. He, X. Zhang, S. Ren and J. Sun, "Deep residual learning for image recognition", CVPR (2016)

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.learn.nn import Add, ReLU
    >>> one, properties = Labels.single(), Labels.range("n", 2)
    >>> tensor = TensorMap(one, [TensorBlock(torch.tensor([[-1.0, 2.0]]), one, [], properties)])
    >>> Add(one, ReLU(one))(tensor).block().values
    tensor([[-1., 4.]])

    """

    def __init__(
        self, in_keys: Labels, module: Any, out_properties: Sequence[Labels] | None = None
    ) -> None:
        _checks.require_type(in_keys, Labels, "in_keys")
        inner = _map_of(module, in_keys)
        if out_properties is None:
            out_properties = inner.out_properties
        super().__init__(in_keys, [_Sum(part) for part in inner.module_list], out_properties)
        self._takes_gradients = getattr(module, "_takes_gradients", True)


class _CovariantTransform(Module):
    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if values.ndim != 3:
            raise AssertionError(
                "covariant blocks must have samples, one component and properties, got values of "
                f"shape {tuple(values.shape)}"
            )
        scale: torch.Tensor = self.module(torch.linalg.vector_norm(values, dim=1, keepdim=True))
        return scale * values


class EquivariantTransformation(KeyedModule):
    r"""Any function of what is invariant, equivariantly.

    Invariant blocks become :math:`f(x)`. In the others f acts on the lengths over the component m,
    and scales the values:

    .. math::

        y_{imc} = f(\|x_{i}\|)_c\, x_{imc}, \qquad \|x_i\|_c = \sqrt{\sum_m x_{imc}^2}

    Gradients: refused; :class:`ChainRule` gives them, where no length is zero.

    Parameters
    ----------
    modules : sequence of torch.nn.Module
        f, one for each key
    in_keys : Labels
        keys of the blocks that there can be; all but the invariant ones have one component
    in_features : int or list of int
        number of properties of the input, for all keys or each
    out_features : int or list of int, optional
        number of properties of the result; not needed with `out_properties`
    out_properties : sequence of Labels, optional
        properties of the result for each key; by default "_", from 0
    invariant_keys : Labels, optional
        selects the keys of invariant blocks; by default those with ``o3_lambda=0, o3_sigma=1``

    Attributes
    ----------
    module_map : ModuleMap
        f for invariant keys, and modules that have it as `module` for the others, in
        ``module_map.module_list``

    Raises
    ------
    MetatensorError
        if keys do not have the names that select the invariant ones
    ValueError
        if there is not one value, or module, for each key, or neither `out_features` nor
        `out_properties`
    AssertionError
        when called, for a covariant block that has not one component

    See Also
    --------
    metatensor.o3.rotate : what equivariant means

    References
    ----------
    N. Thomas et al., "Tensor field networks", arXiv:1802.08219 (2018), section 4.1.4

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.learn.nn import EquivariantTransformation
    >>> keys, mu = Labels("o3_lambda", torch.tensor([[1]])), Labels.range("o3_mu", 3)
    >>> one = Labels.single()
    >>> vector = TensorBlock(torch.tensor([[[3.0], [0.0], [4.0]]]), one, [mu], one)
    >>> scale = EquivariantTransformation(
    ...     [torch.nn.ReLU()], keys, 1, 1, invariant_keys=Labels("o3_lambda", torch.tensor([[0]]))
    ... )
    >>> scale(TensorMap(keys, [vector])).block().values.ravel()
    tensor([15.,  0., 20.])

    """

    def __init__(
        self,
        modules: Sequence[torch.nn.Module],
        in_keys: Labels,
        in_features: int | list[int],
        out_features: int | list[int] | None = None,
        out_properties: Sequence[Labels] | None = None,
        invariant_keys: Labels | None = None,
    ) -> None:
        invariant = invariant_positions(in_keys, invariant_keys)
        per_key("in_features", in_features, int, len(in_keys))
        out_features_per_key(in_keys, out_features, out_properties)
        transforms = [
            module if position in invariant else _CovariantTransform(module)
            for position, module in enumerate(modules)
        ]
        super().__init__(in_keys, transforms, out_properties)
