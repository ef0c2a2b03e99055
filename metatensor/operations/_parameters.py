"""Gradients and what they are with respect to: which rows of which belong together.

A parameter is a block with one property whose samples say what each row is, such as the positions
of atoms. Rows are found on the host; automatic differentiation is up to each library.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks
from metatensor._arrays import Array
from metatensor._core import sets
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.operations._blockwise import Tensor, on_blocks, require_tensor
from metatensor.tensor import TensorMap

#: what is said where second derivatives are asked for
NOT_STORED = (
    "second derivatives with respect to parameters whose gradients were attached by "
    "`attach_gradients` can not be computed: derivatives of stored gradients are not stored"
)

Positions = npt.NDArray[np.intp]
Parameters = Mapping[str, TensorBlock | TensorMap]


class Link(NamedTuple):
    """A stored gradient, its parameter, and the row of the values and of the parameter for each."""

    gradient: Array  # (n_rows, ..., *shape of a row of the values)
    parameter: Array  # (n_parameter_rows, ..., 1)
    samples: Positions  # (n_rows,)
    rows: Positions  # (n_rows,)


#: makes values depend on parameters through the links, and nothing else
Attach = Callable[[Array, list[Link]], Array]


class Differentiator(Protocol):
    """Gives the derivatives of the values of a block with respect to parameters, by their names."""

    def passes(
        self, block: TensorBlock, names: list[str], colours: Positions, n_colours: int
    ) -> Sequence[Array]:
        """Return one (n_colours * n_entries, *shape of the parameter) for each parameter.

        There is a pass for each colour, a sum over its samples, and each entry of a sample.
        """
        ...

    def pull(
        self, block: TensorBlock, names: list[str], cotangent: npt.NDArray[np.float64]
    ) -> Sequence[Array]:
        """Return the sums of derivatives times numbers; nothing where numbers are not known yet."""
        ...


def parameter_blocks(parameters: Parameters, library: str) -> dict[str, TensorBlock]:
    """Check parameters and return their blocks by name."""
    if not isinstance(parameters, Mapping):
        raise TypeError(
            "`parameters` must be a dict from names of gradients to blocks, "
            f"got {_checks.kind(parameters)}"
        )
    blocks = {}
    for name, parameter in parameters.items():
        if not isinstance(name, str):
            raise TypeError(f"`parameters` must have names as keys, got {name!r}")
        require_tensor(parameter, f"parameters[{name!r}]")
        if isinstance(parameter, TensorMap) and len(parameter) != 1:
            raise ValueError(f"{_who(name)} must have one block, got {len(parameter)}")
        block = parameter.block() if isinstance(parameter, TensorMap) else parameter
        if len(block._properties) != 1:
            raise ValueError(
                f"{_who(name)} must have one property, got {len(block._properties)}: use "
                "components for vectors and matrices"
            )
        _require_real(block._values, _who(name), library)
        blocks[name] = block
    return blocks


def _who(name: str) -> str:
    return f"the parameter {name!r}"


def _require_real(array: Array, who: str, library: str) -> None:
    if _arrays.library(array) != library:
        raise TypeError(
            f"{who} must have {library} values, got {_arrays.library(array)}; use "
            f'`.to(arrays="{library}")`'
        )
    if _arrays.kind(array) != "real":
        raise TypeError(
            f"{who} must have real floating point values, got {array.dtype}; use `.to(...)` for "
            "integers, and split complex numbers into real and imaginary parts"
        )


def _require_alike(block: TensorBlock, name: str, parameter: TensorBlock) -> None:
    """Raise unless values and a parameter can be used together; jax moves what it traces itself."""
    found = [("dtype", block.dtype, parameter.dtype)]
    if _arrays.library(block._values) == "torch":
        found.append(("device", block.device, parameter.device))
    for what, expected, got in found:
        if expected != got:
            raise ValueError(
                f"{_who(name)} must have the {what} of the values, {expected}, got {got}; "
                "use `.to(...)`"
            )


# ---- stored gradients of which values become functions


def attach(tensor: Tensor, blocks: dict[str, TensorBlock], function: Attach) -> Tensor:
    """Make values functions of parameters, without stored gradients."""
    return on_blocks(_attach_block, tensor, blocks, function)


def _attach_block(
    block: TensorBlock, parameters: dict[str, TensorBlock], function: Attach
) -> TensorBlock:
    links = [_link(block, name, parameter) for name, parameter in parameters.items()]
    values = function(block._values, links) if links else block._values
    return TensorBlock._of(values, block._samples, block._components, block._properties)


def _link(block: TensorBlock, name: str, parameter: TensorBlock) -> Link:
    library = _arrays.library(parameter._values)
    _require_real(block._values, "`tensor`", library)
    _require_alike(block, name, parameter)
    gradient = block.gradient(name)
    if gradient._gradients:
        raise NotImplementedError(
            f"the gradient {name!r} has gradients itself, which can not be attached; use "
            "`remove_gradients` on it first"
        )
    n_own = len(gradient._components) - len(block._components)
    if gradient._components[:n_own] != parameter._components:
        got, expected = parameter._components, gradient._components[:n_own]
        raise ValueError(
            f"{_who(name)} must have the components of the gradient, {_components_text(expected)}, "
            f"got {_components_text(got)}"
        )
    samples, rows = _rows_of(block._samples, gradient._samples, name, parameter._samples)
    return Link(gradient._values, parameter._values, samples, rows)


def _components_text(components: Iterable[Labels]) -> str:
    return str([f"{labels._names[0]}: {labels._table[:, 0].tolist()}" for labels in components])


def _rows_of(
    samples: Labels, gradient: Labels, name: str, parameter: Labels
) -> tuple[Positions, Positions]:
    """Return the row of the values and of the parameter for each row of a gradient."""
    owners = gradient._table[:, 0].astype(np.intp)
    if parameter == Labels.single():
        return owners, np.zeros_like(owners)
    own = gradient._names[1:]
    wanted = np.empty((len(owners), len(parameter._names)), dtype=np.int32)
    for position, dimension in enumerate(parameter._names):
        if dimension in own:
            wanted[:, position] = gradient._table[:, 1 + own.index(dimension)]
        elif dimension in samples._names:
            wanted[:, position] = samples._table[owners, samples._names.index(dimension)]
        else:
            raise ValueError(
                f"the sample names of {_who(name)} must be among those of the gradient, "
                f"{list(own)}, and of the values, {samples.names}, got {dimension!r}; rename it, "
                "or use `Labels.single()` for a parameter that all samples share"
            )
    rows = parameter._index.find_many(wanted)
    if len(rows) and rows.min() < 0:
        row = dict(zip(parameter._names, wanted[rows.argmin()].tolist(), strict=True))
        raise ValueError(
            f"{_who(name)} must have a row for each row of the gradient, got none for {row}"
        )
    return owners, rows


# ---- derivatives of values that become stored gradients


class Jacobian(NamedTuple):
    """Where derivatives with respect to one parameter are found, and what they are stored as."""

    samples: Labels  # of the gradient
    positions: Positions  # (n_rows,) in (n_colours, n_parameter_rows)


class Groups(NamedTuple):
    """Samples and rows of a parameter that depend on each other, by numbers of groups."""

    samples: Positions  # (n_samples,)
    rows: Positions  # (n_parameter_rows,)


def names_within(within: str | Iterable[str]) -> tuple[str, ...]:
    """Check the names that samples and parameters share."""
    return _checks.names_tuple(within, "within")


@operation
def store_gradients(
    tensor: Tensor,
    blocks: dict[str, TensorBlock],
    within: tuple[str, ...],
    differentiator: Differentiator,
    drop_zeros: bool,
) -> Tensor:
    """Add the derivatives with respect to parameters to values as gradients."""
    return on_blocks(_store, tensor, blocks, within, differentiator, drop_zeros)


def _store(
    block: TensorBlock,
    parameters: dict[str, TensorBlock],
    within: tuple[str, ...],
    differentiator: Differentiator,
    drop_zeros: bool,
) -> TensorBlock:
    gradients = dict(block._gradients)
    for name, parameter in parameters.items():
        if name in gradients:
            raise ValueError(
                f"the result has a gradient {name!r} already; use `remove_gradients` on it first"
            )
        _require_real(block._values, "the result", _arrays.library(parameter._values))
        _require_alike(block, name, parameter)
    for shared, names in _by_shared_names(block._samples, parameters, within).items():
        chosen = [parameters[name] for name in names]
        groups = [_groups(block._samples, one._samples, shared) for one in chosen]
        _require_groups(block, dict(zip(names, groups, strict=True)), shared, differentiator)
        # samples are numbered within groups in the same way for all of these
        colours = _numbers_within(groups[0].samples)
        n_colours = int(colours.max(initial=-1)) + 1
        derivatives = differentiator.passes(block, names, colours, n_colours)
        for name, parameter, group, array in zip(names, chosen, groups, derivatives, strict=True):
            plan = _plan(block._samples, parameter._samples, shared, group, colours)
            gradients[name] = _stored(block, parameter, plan, array, n_colours, drop_zeros)
    ordered = {name: gradients[name] for name in [*block._gradients, *parameters]}
    return TensorBlock._of(
        block._values, block._samples, block._components, block._properties, ordered
    )


def _by_shared_names(
    samples: Labels, parameters: dict[str, TensorBlock], within: tuple[str, ...]
) -> dict[tuple[str, ...], list[str]]:
    """Return the names of parameters that need the same passes."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name, parameter in parameters.items():
        names = parameter._samples._names
        shared = tuple(one for one in within if one in names and one in samples._names)
        found.setdefault(shared, []).append(name)
    return found


def _groups(samples: Labels, parameter: Labels, shared: tuple[str, ...]) -> Groups:
    tables = [
        labels._table[:, [labels._names.index(name) for name in shared]]
        for labels in (samples, parameter)
    ]
    _, numbers = sets.unique(np.ascontiguousarray(np.concatenate(tables)))
    return Groups(numbers[: len(samples)], numbers[len(samples) :])


def _require_groups(
    block: TensorBlock,
    groups: dict[str, Groups],
    shared: tuple[str, ...],
    differentiator: Differentiator,
) -> None:
    """Raise if samples of every second group depend on rows of the parameters in the others."""
    names, shape = list(groups), tuple(block._values.shape)
    numbers = groups[names[0]].samples
    if not len(numbers) or not any(one.rows.any() or one.samples.any() for one in groups.values()):
        return  # there is one group at most
    parity = numbers[0] % 2
    cotangent = np.cos(np.arange(1.0, 1.0 + math.prod(shape))).reshape(shape)
    cotangent[numbers % 2 != parity] = 0.0
    for name, array in zip(names, differentiator.pull(block, names, cotangent), strict=False):
        sizes = np.abs(_arrays.to_host(_arrays.detach(array)))
        others = groups[name].rows % 2 != parity
        limit = np.sqrt(np.finfo(sizes.dtype).eps) * sizes[~others].max(initial=0)
        if sizes[others].max(initial=0) > limit:
            raise ValueError(
                f"values must only depend on rows of {_who(name)} with the same {list(shared)} as "
                "their sample, but some depend on others, so that their derivatives can not be "
                "told apart; use `within=()`"
            )


def _numbers_within(groups: Positions) -> Positions:
    """Number the members of each group from zero, in their order."""
    order = np.argsort(groups, kind="stable")
    counts = np.bincount(groups)
    numbers = np.empty(len(groups), dtype=np.intp)
    numbers[order] = _counting(counts)
    return numbers


def _counting(counts: npt.NDArray[np.integer[Any]]) -> Positions:
    """Return 0, 1, ... up to the first count, then up to the second, and so on."""
    result: Positions = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return result


def _plan(
    samples: Labels,
    parameter: Labels,
    shared: tuple[str, ...],
    groups: Groups,
    colours: Positions,
) -> Jacobian:
    """Pair each sample with the rows of the parameter in its group."""
    n_groups = 1 + max(groups.samples.max(initial=-1), groups.rows.max(initial=-1))
    counts = np.bincount(groups.rows, minlength=n_groups)
    order, starts = np.argsort(groups.rows, kind="stable"), np.cumsum(counts) - counts
    n_rows = counts[groups.samples]
    owners = np.repeat(np.arange(len(samples)), n_rows)
    rows = order[np.repeat(starts[groups.samples], n_rows) + _counting(n_rows)]
    names: tuple[str, ...] = ("sample",)
    table = owners.astype(np.int32)[:, None]
    if parameter != Labels.single() and not set(parameter._names) <= set(shared):
        names += parameter._names
        table = np.concatenate([table, parameter._table[rows]], axis=1)
    labels = samples._like(table, _checks.check_names(names))
    return Jacobian(labels, colours[owners] * len(parameter) + rows)


def _stored(
    block: TensorBlock,
    parameter: TensorBlock,
    plan: Jacobian,
    derivatives: Array,
    n_colours: int,
    drop_zeros: bool,
) -> TensorBlock:
    """Make a gradient of derivatives, (n_colours, n_entries, *shape of the parameter)."""
    xp = _arrays.namespace(derivatives)
    n_rows, own = len(parameter), tuple(map(len, parameter._components))
    n_own, n_entries = int(np.prod(own)), int(np.prod(block._values.shape[1:]))
    array = xp.reshape(derivatives, (n_colours, n_entries, n_rows, n_own))
    array = xp.permute_dims(array, (0, 2, 3, 1))
    array = xp.reshape(array, (n_colours * n_rows, *own, *block._values.shape[1:]))
    values, samples = _arrays.take(array, plan.positions), plan.samples
    if drop_zeros:
        nonzero = _arrays.to_host(_arrays.detach(values)) != 0
        kept = np.flatnonzero(nonzero.any(axis=tuple(range(1, nonzero.ndim))))
        values, samples = _arrays.take(values, kept), samples._like(samples._table[kept])
    components = parameter._components + block._components
    return TensorBlock._of(values, samples, components, block._properties)
