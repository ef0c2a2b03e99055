"""The machinery of reductions: a table with a row for each, and what they reduce.

A reduction turns the values ``x`` of each group into one value ``y``. Its gradient is always the
sum ``sum(weight * gradient)`` over the group, with ``weight = dy / dx``, so that a row of the table
says how to get ``y`` and the weights. One class for each axis knows how to sum over groups, and
what the results belong to. An absent gradient row is a gradient of zero: it adds nothing to a sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metatensor import _array_groups, _arrays, _checks
from metatensor._arrays import Array
from metatensor._core import joins, sets
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.operations._blockwise import (
    Remembered,
    Tensor,
    on_blocks,
    refuse_nested,
    require_tensor,
    within_range,
)
from metatensor.tensor import TensorMap

# -------------------------------------------------------------------------------------- the table


class Weights(NamedTuple):
    """The weight of every value: ``(factor - centre of its group) * scale of its group``."""

    factor: Array
    centre: Array | None
    scale: Array


class Reduction(NamedTuple):
    """How to reduce the values of each group.

    Attributes
    ----------
    value : callable
        from groups and values to the reduced values, and the mean if there are weights around it
    weights : callable or None
        from groups, values and both results of `value` to the weights; None if they are all 1, and
        the reduction is linear
    average : bool
        whether a linear reduction is divided by the number of values
    exact : bool
        whether integers stay integers
    ordered : bool
        whether values are compared, which complex ones can not be

    """

    value: Callable[[Any, Array], tuple[Array, Array | None]]
    weights: Callable[[Any, Array, Array, Any], Weights] | None = None
    average: bool = False
    exact: bool = False
    ordered: bool = False


def _mean(groups: Any, x: Array) -> tuple[Array, None]:
    return _arrays.divide_new(groups.sum(x), groups.counts(x)), None


def _var(groups: Any, x: Array) -> tuple[Array, Array]:
    mean, _ = _mean(groups, x)
    total = groups.sum_squares(x, mean)
    return _arrays.divide_new(total, groups.counts(total)), mean


def _var_weights(groups: Any, x: Array, var: Array, mean: Array) -> Weights:
    scale = 2 / groups.counts(var)
    return Weights(x, mean, _arrays.namespace(var).broadcast_to(scale, var.shape))


def _std(groups: Any, x: Array) -> tuple[Array, Array]:
    var, mean = _var(groups, x)
    return _arrays.root_of_new(var), mean


def _std_weights(groups: Any, x: Array, std: Array, mean: Array) -> Weights:
    xp = _arrays.namespace(std)
    # equal values differ from their mean by its rounding error, which is no deviation
    differ = std > 4 * float(xp.finfo(std.dtype).eps) * xp.abs(mean)
    if _arrays.library(std) != "numpy":
        differ = xp.astype(differ, std.dtype)
    return Weights(x, mean, differ / (_arrays.nonzero(std) * groups.counts(std)))


def _norm(groups: Any, x: Array) -> tuple[Array, None]:
    return _arrays.root_of_new(groups.sum(_arrays.squares(x))), None


def _norm_weights(groups: Any, x: Array, norm: Array, _: None) -> Weights:
    return Weights(x, None, 1 / _arrays.nonzero(norm))


def _extreme_weights(groups: Any, x: Array, extreme: Array, _: None) -> Weights:
    # NaN is not equal to itself, but to what made the result NaN
    chosen = (x == groups.spread(extreme)) | (x != x)
    chosen = _arrays.namespace(x).astype(chosen, x.dtype)
    return Weights(chosen, None, 1 / groups.sum(chosen))


#: value, weight of each value
REDUCTIONS = {
    # sum(x), 1
    "sum": Reduction(lambda groups, x: (groups.sum(x), None), exact=True),
    # sum(x) / n, 1 / n
    "mean": Reduction(_mean, average=True),
    # sum(|x - mean|^2) / n, 2 (x - mean) / n
    "var": Reduction(_var, _var_weights),
    # sqrt(var), (x - mean) / (n std), 0 where std is 0, or the rounding error of the mean
    "std": Reduction(_std, _std_weights),
    # max(x), 1 / (number of largest values) for these, 0 for the others
    "max": Reduction(
        lambda groups, x: (groups.max(x), None), _extreme_weights, exact=True, ordered=True
    ),
    "min": Reduction(
        lambda groups, x: (groups.min(x), None), _extreme_weights, exact=True, ordered=True
    ),
    # sqrt(sum(|x|^2)), x / norm, 0 where norm is 0
    "norm": Reduction(_norm, _norm_weights),
}


# ------------------------------------------------------------------------------------- the groups


class _Segments:
    """Groups of entries of one axis, by the number of the group of each entry."""

    axis: int
    groups: npt.NDArray[np.intp]
    size: int

    def sum(self, x: Array) -> Array:
        """Sum each group."""
        return _array_groups.segment_sum(x, self.groups, self.size, self.axis)

    def max(self, x: Array) -> Array:
        """Return the largest value of each group."""
        return _array_groups.segment_max(x, self.groups, self.size, self.axis)

    def min(self, x: Array) -> Array:
        """Return the smallest value of each group."""
        return _array_groups.segment_min(x, self.groups, self.size, self.axis)

    def spread(self, y: Array) -> Array:
        """Return for each entry what its group has."""
        return _arrays.take(y, self.groups, self.axis)


class SampleGroups(_Segments):
    """Samples, or gradient samples, that become one.

    Parameters
    ----------
    samples : Labels
        of the result
    groups : array of intp
        which of them each sample becomes
    counts : array of int, optional
        how many samples became the one that each gradient sample of the result belongs to

    """

    axis = 0

    def __init__(
        self,
        samples: Labels,
        groups: npt.NDArray[np.intp],
        counts: npt.NDArray[np.intp] | None = None,
    ) -> None:
        self.samples = samples
        self.groups = groups
        self.size = len(samples)
        self._counts = counts
        self._gradients: Remembered[SampleGroups] = Remembered()
        self._divisor: Array = None

    def labels(self, block: TensorBlock) -> tuple[Labels, tuple[Labels, ...], Labels]:
        """Return the Labels of what a block becomes."""
        return self.samples, block._components, block._properties

    def of_gradient(self, gradient: TensorBlock) -> SampleGroups:
        """Return the groups of gradient samples: those that agree after all."""
        return self._gradients.get(gradient._samples, self._unite_gradient)

    def _unite_gradient(self, samples: Labels) -> SampleGroups:
        table, groups = sets.unique(joins.renumber(samples._table, self.groups))
        return SampleGroups(samples._like(table), groups, self._host_counts()[table[:, 0]])

    def counts(self, y: Array) -> Array:
        """Return what an average divides results by: how many samples became one."""
        divisor = self._divisor
        if divisor is None or len(divisor.shape) != len(y.shape) or divisor.dtype != y.dtype:
            shape = (-1,) + (1,) * (len(y.shape) - 1)
            divisor = self._divisor = _arrays.from_host(self._host_counts().reshape(shape), y)
        return divisor

    def _host_counts(self) -> npt.NDArray[np.intp]:
        if self._counts is None:
            self._counts = np.bincount(self.groups, minlength=self.size)
        return self._counts

    def sum_squares(self, x: Array, centre: Array) -> Array:
        """Sum the squared distances from the centre of each group."""
        return _array_groups.segment_sum_squares(x, self.groups, centre)

    def sum_gradient(self, groups: SampleGroups, gradient: TensorBlock, weights: Weights) -> Array:
        """Sum gradient samples by their own groups, with the weights of these samples."""
        return _array_groups.segment_sum_products(
            gradient._values,
            groups.groups,
            groups.size,
            weights.factor,
            gradient._samples._table[:, 0],
            weights.centre,
            self.groups,
        )


class PropertyGroups(_Segments):
    """Properties that become one; those of gradients are the same."""

    axis = -1

    def __init__(self, properties: Labels, groups: npt.NDArray[np.intp]) -> None:
        self.properties = properties
        self.groups = groups
        self.size = len(properties)

    def labels(self, block: TensorBlock) -> tuple[Labels, tuple[Labels, ...], Labels]:
        """Return the Labels of what a block becomes."""
        return block._samples, block._components, self.properties

    def of_gradient(self, gradient: TensorBlock) -> PropertyGroups:
        """Return the groups of a gradient."""
        return self

    def counts(self, y: Array) -> Array:
        """Return how many properties became one."""
        return _arrays.from_host(np.bincount(self.groups, minlength=self.size), y)

    def sum_squares(self, x: Array, centre: Array) -> Array:
        """Sum the squared distances from the centre of each group."""
        return self.sum(_arrays.squares(x - self.spread(centre)))

    def sum_gradient(
        self, groups: PropertyGroups, gradient: TensorBlock, weights: Weights
    ) -> Array:
        """Sum the properties of a gradient with the weights of the values."""
        factor, centre, _ = weights
        factor = factor if centre is None else factor - self.spread(centre)
        return self.sum(_weighted(factor, gradient))


class ComponentGroups:
    """Component axes that are removed; counted from the last axis, they are those of gradients."""

    def __init__(self, block: TensorBlock, removed: tuple[str, ...]) -> None:
        names = _checks.component_names(block)
        self.removed = removed
        self.axes = tuple([i - len(names) - 1 for i, name in enumerate(names) if name in removed])
        self._count: int = math.prod([block._values.shape[axis] for axis in self.axes])

    def labels(self, block: TensorBlock) -> tuple[Labels, tuple[Labels, ...], Labels]:
        """Return the Labels of what a block becomes."""
        kept = [labels for labels in block._components if labels._names[0] not in self.removed]
        return block._samples, tuple(kept), block._properties

    def of_gradient(self, gradient: TensorBlock) -> ComponentGroups:
        """Return what is removed of a gradient."""
        return self

    def counts(self, y: Array) -> int:
        """Return how many components each sum is over."""
        return self._count

    def sum(self, x: Array) -> Array:
        """Sum over the axes, to a new array."""
        if not self.axes:
            return _arrays.copy(x)
        return _arrays.sum_axes(x, self.axes)

    def sum_gradient(
        self, groups: ComponentGroups, gradient: TensorBlock, weights: Weights
    ) -> Array:
        """Sum the components of a gradient with the weights of the values."""
        return self.sum(_weighted(weights.factor, gradient))


def _weighted(factor: Array, gradient: TensorBlock) -> Array:
    return _arrays.real_product(factor, gradient._samples._table[:, 0], gradient._values)


def _unite(labels: Labels, removed: tuple[str, ...]) -> tuple[Labels, npt.NDArray[np.intp]]:
    """Return sorted Labels without some dimensions, and which of them each entry becomes."""
    kept = [position for position, name in enumerate(labels._names) if name not in removed]
    if kept:
        columns = slice(kept[0], kept[-1] + 1) if kept[-1] - kept[0] < len(kept) else kept
        table, groups = sets.unique(np.ascontiguousarray(labels._table[:, columns]))
        names = tuple([labels._names[position] for position in kept])
    else:
        table = np.zeros((min(len(labels), 1), 1), np.int32)
        groups, names = np.zeros(len(labels), np.intp), ("_",)
    return labels._like(table, names), groups


def _grouping(axis: str, removed: tuple[str, ...]) -> Callable[[TensorBlock], Any]:
    """Return what finds the groups of a block, which blocks with the same Labels share."""
    if axis == "components":
        return lambda block: ComponentGroups(block, removed)
    if axis == "samples":
        of_samples: Remembered[SampleGroups] = Remembered()
        return lambda block: of_samples.get(
            block._samples, lambda samples: SampleGroups(*_unite(samples, removed))
        )
    of_properties: Remembered[PropertyGroups] = Remembered()
    return lambda block: of_properties.get(
        block._properties, lambda properties: PropertyGroups(*_unite(properties, removed))
    )


# --------------------------------------------------------------------------------- the operations


def reduce(name: str, axis: str, tensor: Tensor, names: str | Sequence[str]) -> Tensor:
    """Apply a reduction of the table to a map or a block.

    Parameters
    ----------
    name : str
        in the table
    axis : {"samples", "properties", "components"}
        what becomes one
    tensor : TensorMap or TensorBlock
        what the user gave
    names : str or sequence of str
        the dimensions to remove, or the components

    Returns
    -------
    TensorMap or TensorBlock

    """
    argument = {"samples": "sample", "properties": "property", "components": "component"}[axis]
    removed = _checks.names_tuple(names, f"{argument}_names")
    require_tensor(tensor)
    if isinstance(tensor, TensorMap):
        known = getattr(tensor, f"{argument}_names") if len(tensor) else removed
    else:
        known = _checks.component_names(tensor) if axis == "components" else removed
    for missing in removed:
        if missing not in known:
            who = "map" if isinstance(tensor, TensorMap) else "block"
            raise ValueError(
                f"`{argument}_names` must be among the {axis} of this {who} {known}, "
                f"got {missing!r}"
            )
    who = f"{name}_over_{axis}"
    function = within_range(_reduce_block, who) if name == "sum" else _reduce_block
    # what is not finite stays so, as with libraries that do not warn
    with np.errstate(invalid="ignore", over="ignore"):
        return on_blocks(function, tensor, who, REDUCTIONS[name], _grouping(axis, removed))


def _reduce_block(
    block: TensorBlock, who: str, reduction: Reduction, grouping: Callable[[TensorBlock], Any]
) -> TensorBlock:
    if reduction.weights is not None:
        refuse_nested(block, who)
    kind = _arrays.kind(block._values)
    if reduction.exact and (kind == "bool" or (kind == "complex" and reduction.ordered)):
        raise TypeError(
            f"`{who}` requires {'ordered ' if reduction.ordered else ''}numbers, got values of "
            f"{block._values.dtype}; use `.to(...)` first"
        )
    if kind == "bool" or (kind == "integer" and not _stays_exact(block, reduction)):
        block = block._map(_arrays.as_floating)
    if kind == "real" and _saturates(block, reduction):
        single, half = _arrays.namespace(block._values).float32, block._values.dtype
        wide = _reduce_block(_with_dtype(block, single), who, reduction, grouping)
        return _with_dtype(wide, half)
    groups, x = grouping(block), block._values
    y, mean = reduction.value(groups, x)
    gradients = {}
    if block._gradients:
        weights = None if reduction.weights is None else reduction.weights(groups, x, y, mean)
        gradients = _reduce_gradients(block, groups, reduction, weights)
    samples, components, properties = groups.labels(block)
    return TensorBlock._of(y, samples, components, properties, gradients)


def _saturates(block: TensorBlock, reduction: Reduction) -> bool:
    """Tell whether the dtype is too small to add up many values; numpy adds it up nonetheless."""
    x = block._values
    exact = reduction.ordered or (reduction.exact and _arrays.library(x) == "numpy")
    return not exact and _arrays.is_half(x)


def _with_dtype(block: TensorBlock, dtype: Any) -> TensorBlock:
    xp = _arrays.namespace(block._values)
    return block._map(lambda values: xp.astype(values, dtype, copy=False))


def _reduce_gradients(
    block: TensorBlock, groups: Any, reduction: Reduction, weights: Weights | None
) -> dict[str, TensorBlock]:
    gradients = {}
    for name, gradient in block._gradients.items():
        own = groups.of_gradient(gradient)
        samples, components, properties = own.labels(gradient)
        if weights is None:
            values = own.sum(gradient._values)
        else:
            values = groups.sum_gradient(own, gradient, weights)
            values = _arrays.scale_rows(weights.scale, samples._table[:, 0], values)
        if reduction.average:
            values = _arrays.divide_new(values, own.counts(values))
        nested = _reduce_gradients(gradient, own, reduction, None) if gradient._gradients else {}
        gradients[name] = TensorBlock._of(values, samples, components, properties, nested)
    return gradients


def _stays_exact(block: TensorBlock, reduction: Reduction) -> bool:
    """Tell whether the reduction of integers, and of their gradients, makes integers."""
    return reduction.exact and (reduction.weights is None or not block._gradients)
