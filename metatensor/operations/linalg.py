"""Linear algebra over the properties: products, least squares and linear systems."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

from metatensor import _array_algebra, _arrays, _checks
from metatensor._checks import NotEqualError, component_names
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.operations import _differences
from metatensor.operations._blockwise import Tensor, check_same, on_pairs, within_range
from metatensor.tensor import TensorMap

__all__ = ["dot", "lstsq", "solve"]


@operation
def dot(tensor_1: Tensor, tensor_2: Tensor) -> Tensor:
    r"""Multiply the properties of one tensor with those of each sample of another, and sum.

    The values are :math:`C_{ic,j} = \sum_p A_{ic,p} B_{jp}`, of `tensor_1` and `tensor_2`, where i
    and j are samples, c are components and p are properties. Complex numbers are not conjugated.

    Gradients: those of `tensor_1`, transformed in the same way, :math:`\nabla C = \nabla A\, B^T`;
    gradients of gradients too.

    Parameters
    ----------
    tensor_1 : TensorMap or TensorBlock
        values (n_samples_1, ..., n_properties)
    tensor_2 : TensorMap or TensorBlock
        values (n_samples_2, n_properties), without components and gradients, with the same keys
        and the same properties

    Returns
    -------
    TensorMap or TensorBlock
        values (n_samples_1, ..., n_samples_2): the samples and components of `tensor_1`, and the
        samples of `tensor_2` as properties

    Raises
    ------
    NotEqualError
        if the keys or the properties differ
    ValueError
        if `tensor_2` has components or gradients
    TypeError
        if the two are not both maps, or both blocks
    OverflowError
        if integers get out of the range of their dtype

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import dot
    >>> n = Labels.range("n", 2)
    >>> features = TensorBlock(np.array([[1, 2], [3, 4]]), Labels.range("system", 2), [], n)
    >>> weights = TensorBlock(np.array([[1, 1], [2, 0]]), Labels.range("target", 2), [], n)
    >>> dot(features, weights).values
    array([[3, 2],
           [7, 6]])

    """
    return on_pairs(within_range(_dot_blocks, "dot"), tensor_1, tensor_2)


def _dot_blocks(block: TensorBlock, other: TensorBlock) -> TensorBlock:
    if other._components or other._gradients:
        what = "components" if other._components else "gradients"
        raise ValueError(
            f"`tensor_2` of `dot` must have no {what}, got "
            f"{component_names(other) or other.gradients_list()}; `einsum` takes them"
        )
    if block._properties != other._properties:
        found = _differences.labels(block._properties, other._properties)
        raise NotEqualError(f"`dot` requires the same properties, they differ: {found}")
    return _times(block, other._values, other)


def _times(block: TensorBlock, rows: _arrays.Array, other: TensorBlock) -> TensorBlock:
    values, rows = _arrays.promote(block._values, rows)
    if len(values.shape) == 2:
        product = values @ rows.T
    else:
        shape = (*values.shape[:-1], rows.shape[0])
        product = _arrays.reshape(_folded(values) @ rows.T, shape)
    gradients = {name: _times(gradient, rows, other) for name, gradient in block._gradients.items()}
    return TensorBlock._of(product, block._samples, block._components, other._samples, gradients)


@operation
def lstsq(X: Tensor, Y: Tensor, rcond: float | None, driver: str | None = None) -> Tensor:
    r"""Find the weights that predict one tensor from another with the least squared error.

    For each key, :math:`\min_W \lVert X W - Y \rVert^2`, of the smallest norm if there are several.
    Each component of a sample is one equation. ``dot(X, lstsq(X, Y, rcond))`` predicts `Y`.

    Gradients: each entry is one more equation, as those of `Y` are predicted by the weights too,
    :math:`\nabla Y = \nabla X\, W`. The result has none. Gradients of gradients do not count.

    Parameters
    ----------
    X : TensorMap or TensorBlock
        features, values (n_samples, ..., n_properties)
    Y : TensorMap or TensorBlock
        targets, values (n_samples, ..., n_targets), with the keys, samples, components and gradient
        rows of `X`
    rcond : float or None
        singular values below ``rcond`` times the largest count as zero; None is what the array
        library has as default, with a warning, since these defaults differ
    driver : str, optional
        driver of ``torch.linalg.lstsq``; without effect for other libraries. The only one on a
        GPU, "gels", takes all singular values to be large: `rcond` has no effect there.

    Returns
    -------
    TensorMap or TensorBlock
        weights (n_targets, n_properties): the properties of `Y` as samples, no components, the
        properties of `X`

    Raises
    ------
    NotEqualError
        if keys, samples, components or gradients of `X` and `Y` differ
    TypeError
        if the two are not both maps, or both blocks

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import lstsq
    >>> samples = Labels.range("system", 3)
    >>> X = TensorBlock(np.array([[1.0, 0], [1, 1], [1, 2]]), samples, [], Labels.range("n", 2))
    >>> Y = TensorBlock(np.array([[1.0], [3], [5]]), samples, [], Labels.range("energy", 1))
    >>> weights = lstsq(X, Y, rcond=1e-12)
    >>> weights.values.round(6)
    array([[1., 2.]])

    """
    if rcond is None:
        warnings.warn(
            "`rcond` of `lstsq` is None: the default of the array library is used, and these "
            "differ; give a number, such as 1e-13, for the same result with each library",
            UserWarning,
            stacklevel=3,
        )
    else:
        rcond = _checks.require_real(rcond, "rcond")
    return on_pairs(_lstsq_blocks, X, Y, rcond, driver, names=("X", "Y"))


def _lstsq_blocks(
    block: TensorBlock, other: TensorBlock, rcond: float | None, driver: str | None
) -> TensorBlock:
    axes = ("samples", "components")
    check_same(block, other, axes, gradients=False)
    if block._gradients.keys() != other._gradients.keys():
        raise NotEqualError(
            f"`X` and `Y` of `lstsq` must have the same gradients, got {block.gradients_list()} "
            f"and {other.gradients_list()}"
        )
    parts, other_parts = [_folded(block._values)], [_folded(other._values)]
    for name, gradient in block._gradients.items():
        second = other._gradients[name]
        if found := _differences.metadata(gradient, second, axes, gradients=False):
            raise NotEqualError(f"in the gradients {name!r}, {found}")
        parts.append(_folded(gradient._values))
        other_parts.append(_folded(second._values))
    features, targets = _equations(_stacked(parts), _stacked(other_parts))
    return _weights(_array_algebra.lstsq(features, targets, rcond, driver), block, other)


@operation
def solve(X: Tensor, Y: Tensor) -> Tensor:
    """Find the weights that predict one tensor from another exactly, from square matrices.

    For each key, W that solves X W = Y. ``dot(X, solve(X, Y))`` is `Y`.

    Gradients: not used; the result has none.

    Parameters
    ----------
    X : TensorMap or TensorBlock
        features, values (n_properties, n_properties), without components
    Y : TensorMap or TensorBlock
        targets, values (n_properties, n_targets), with the keys, samples and components of `X`

    Returns
    -------
    TensorMap or TensorBlock
        weights (n_targets, n_properties): the properties of `Y` as samples, no components, the
        properties of `X`

    Raises
    ------
    ValueError
        if the values of `X` are not square matrices
    NotEqualError
        if keys, samples or components of `X` and `Y` differ
    numpy.linalg.LinAlgError
        if a matrix is singular
    TypeError
        if the two are not both maps, or both blocks

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import solve
    >>> samples = Labels.range("system", 2)
    >>> X = TensorBlock(np.array([[2.0, 0], [1, 1]]), samples, [], Labels.range("n", 2))
    >>> Y = TensorBlock(np.array([[2.0], [4]]), samples, [], Labels.range("energy", 1))
    >>> solve(X, Y).values
    array([[1., 3.]])

    """
    for block in X._blocks if isinstance(X, TensorMap) else [X]:
        shape = block.shape if isinstance(block, TensorBlock) else (0, 0)
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(
                "`X` of `solve` must have square matrices as values, as many samples as properties "
                f"and no components, got shape {tuple(shape)}; `lstsq` takes any shape"
            )
    return on_pairs(_solve_blocks, X, Y, names=("X", "Y"))


def _solve_blocks(block: TensorBlock, other: TensorBlock) -> TensorBlock:
    check_same(block, other, ("samples", "components"), gradients=False)
    matrix, targets = _equations(block._values, other._values)
    return _weights(_array_algebra.solve(matrix, targets), block, other)


def _equations(left: _arrays.Array, right: _arrays.Array) -> Sequence[_arrays.Array]:
    """Return both sides with one dtype, in which there are quotients."""
    return _arrays.promote(_arrays.as_floating(left), _arrays.as_floating(right))


def _weights(solution: _arrays.Array, block: TensorBlock, other: TensorBlock) -> TensorBlock:
    """Return weights (n_properties, n_targets) as a block for `dot`."""
    return TensorBlock._of(solution.T, other._properties, (), block._properties)


def _folded(values: _arrays.Array) -> _arrays.Array:
    """Return values with one row for each component of each sample."""
    if len(values.shape) == 2:
        return values
    shape = (math.prod(values.shape[:-1]), values.shape[-1])
    return _arrays.reshape(values, shape)


def _stacked(parts: list[_arrays.Array]) -> _arrays.Array:
    return parts[0] if len(parts) == 1 else _arrays.namespace(*parts).concat(parts, axis=0)
