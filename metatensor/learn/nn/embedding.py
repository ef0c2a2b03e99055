"""Learnt vectors for species, or whatever Labels count."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from metatensor import _checks
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.learn.nn.module import Module
from metatensor.operations._blockwise import assemble
from metatensor.tensor import TensorMap


class Embedding(Module):
    r"""Learnt vector for each species, a :class:`torch.nn.Embedding` with labels.

    The species of a sample is in the keys, or in the samples, under the name of `types`. Blocks
    with components get vectors too, which are invariant and so have no components.

    Gradients: the result has none, since species do not change with positions or cells.

    Parameters
    ----------
    types : Labels, (n_types,)
        the species, with one dimension such as "center_type"
    n_features : int, optional
        number of properties of the result; not needed with `out_properties`
    out_properties : Labels, optional
        properties of the result; by default "_", from 0
    device : torch.device, optional
        where the vectors are
    dtype : torch.dtype, optional
        type of the vectors, that of torch by default

    Attributes
    ----------
    types : Labels
        the species
    weight : torch.nn.Parameter, (n_types, n_features)
        their vectors, normally distributed at first

    Raises
    ------
    ValueError
        if there is neither `n_features` nor `out_properties`, or `types` have not one dimension;
        when called, if the name is neither in keys nor samples, or for a species without vector

    See Also
    --------
    torch.nn.Embedding : for arrays

    Examples
    --------
    >>> import torch
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.learn.nn import Embedding
    >>> keys = Labels(["center_type"], torch.tensor([[1], [8]]))
    >>> samples = Labels.range("atom", 2)
    >>> tensor = TensorMap(
    ...     keys, [TensorBlock(torch.ones(2, 1), samples, [], Labels.single()) for _ in keys]
    ... )
    >>> vectors = Embedding(keys, 4)(tensor)
    >>> vectors.block(center_type=8).shape
    torch.Size([2, 4])

    """

    types: Labels
    out_properties: Labels

    def __init__(
        self,
        types: Labels,
        n_features: int | None = None,
        out_properties: Labels | None = None,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _checks.require_type(types, Labels, "types")
        if len(types.names) != 1:
            raise ValueError(f"`types` must have one dimension, got {types.names}")
        if out_properties is None:
            if n_features is None:
                raise ValueError("one of `n_features` and `out_properties` is required")
            out_properties = Labels.range("_", _checks.require_int(n_features, "n_features"))
        _checks.require_type(out_properties, Labels, "out_properties")
        if n_features not in (None, len(out_properties)):
            raise ValueError(
                f"`n_features` must be the length of `out_properties`, {len(out_properties)}, "
                f"got {n_features}"
            )
        self.register_buffer("types", types)
        self.register_buffer("out_properties", out_properties)
        shape = (len(types), len(out_properties))
        self.weight = torch.nn.Parameter(torch.randn(shape, device=device, dtype=dtype))

    def forward(self, tensor: TensorMap) -> TensorMap:
        """Return the vector of each sample.

        Parameters
        ----------
        tensor : TensorMap
            whose values do not matter

        Returns
        -------
        TensorMap
            with the same keys and samples

        """
        _checks.require_type(tensor, TensorMap, "tensor")
        keys, name = tensor._keys, self.types.names[0]
        of_keys = None
        if name in keys.names:
            of_keys = keys._table[:, [keys.names.index(name)]]
        elif name not in tensor.sample_names:
            raise ValueError(
                f"{name!r} must be in the keys, {keys.names}, or in the samples, "
                f"{tensor.sample_names}"
            )
        parts = [
            (block, None if of_keys is None else of_keys[position])
            for position, block in enumerate(tensor._blocks)
        ]
        result = assemble(keys, parts, self._vectors)
        result._info = dict(tensor._info)
        return result

    def _vectors(self, block: TensorBlock, of_key: npt.NDArray[np.int32] | None) -> TensorBlock:
        samples = block._samples
        if of_key is None:
            column = samples._names.index(self.types.names[0])
            found = self._find(np.ascontiguousarray(samples._table[:, [column]]))
            values = self.weight[torch.from_numpy(found).to(self.weight.device)]
        else:
            position = int(self._find(of_key[None, :])[0])
            values = self.weight[position].expand(len(samples), -1)
        return TensorBlock._of(values, samples, (), self.out_properties)

    def _find(self, table: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = self.types._index.find_many(table).astype(np.int64)
        if (found < 0).any():
            absent = sorted(set(table[found < 0, 0].tolist()))
            raise ValueError(f"there is no vector for {self.types.names[0]} {absent}")
        return found
