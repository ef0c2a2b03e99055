"""Products of two tensors over named axes."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import overload

import numpy as np
import numpy.typing as npt

from metatensor import _array_algebra, _array_groups, _arrays, _checks
from metatensor._checks import NotEqualError
from metatensor._core import sets
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.operations import _differences, _expressions
from metatensor.operations._blockwise import (
    Tensor,
    assemble,
    on_pairs,
    refuse_nested,
    require_tensor,
    same_keys,
    within_range,
)
from metatensor.operations._expressions import Axes, Expression, Names, Plan
from metatensor.tensor import TensorMap

__all__ = ["einsum", "outer"]

# letters of the rows of gradients and of their own components, which no expression has
_ROWS, _OWN = "Z", string.ascii_uppercase[:25]


@overload
def einsum(  # type: ignore[overload-overlap]
    expression: str, *tensors: TensorBlock
) -> TensorBlock: ...
@overload
def einsum(expression: str, *tensors: TensorMap | TensorBlock) -> TensorMap: ...
@operation
def einsum(expression: str, *tensors: TensorMap | TensorBlock) -> TensorMap | TensorBlock:
    r"""Multiply tensors, and sum the products over those axes that the result has not.

    Axes are called by the names of their dimensions. An expression has an operand for each tensor,
    parted by commas, and the result after ``->``. Each is ``samples | components | properties``,
    with names parted by spaces: all the names of the samples, one for each component, all the names
    of the properties, as the blocks have them::

        "system atom | o3_mu | n, system atom | o3_mu | n -> system atom | | n"

    - Axes of the same names are the same axis, and must have equal Labels in all tensors. It can be
      the samples of one tensor, and the properties or a component of another. Axes that are not
      the same need different names, which :func:`rename_dimension` gives them.
    - What the result has not is summed. Complex numbers are not conjugated.
    - The properties of the result can be those of several tensors, ``n l q``: all combinations of
      the entries, the last ones change fastest. Its samples are one axis.
    - An axis without names, as in ``system | |``, has one entry in tensors, whatever its name, and
      one entry named "_" in the result.

    Gradients: the product rule, :math:`\nabla (A B) = \nabla A\, B + A\, \nabla B`, where each
    gradient row is multiplied with the entries of the other tensors for its sample. A tensor
    without a gradient that others have is constant. Rows that only some tensors have are united,
    sorted, as absent ones are zero. If the samples are summed, so are the gradient rows that agree
    in all but "sample". Gradients of gradients are carried if one tensor alone has gradients, and
    keeps its samples.

    Parameters
    ----------
    expression : str
        names of the axes of each tensor, and of the result
    *tensors : TensorMap or TensorBlock
        one for each operand. Maps have the same keys; a block goes with each of their blocks.

    Returns
    -------
    TensorMap or TensorBlock
        a map if there is one among the tensors, with the keys of the first one

    Raises
    ------
    ValueError
        if the expression can not be read, or its names are not those of the tensors
    NotEqualError
        if keys differ, or the Labels of axes with the same names
    NotImplementedError
        if gradients have no plain product rule: those of a tensor whose samples are neither the
        samples of the result nor summed with a result without samples; gradients of gradients of
        one of several tensors with gradients
    TypeError
        if one of the tensors is neither a TensorMap nor a TensorBlock
    OverflowError
        if integers get out of the range of their dtype

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import einsum
    >>> density = TensorBlock(
    ...     np.array([[[1.0], [2.0], [2.0]], [[0.0], [3.0], [4.0]]]),
    ...     Labels.range("atom", 2),
    ...     [Labels.range("o3_mu", 3)],
    ...     Labels.range("n", 1),
    ... )
    >>> power = einsum("atom | o3_mu | n, atom | o3_mu | n -> atom | | n", density, density)
    >>> power.values.ravel()
    array([ 9., 25.])

    With a matrix, as a block whose samples are the properties of the other:

    >>> mixing = TensorBlock(
    ...     np.array([[1.0, -1.0]]), Labels.range("n", 1), [], Labels.range("p", 2)
    ... )
    >>> mixed = einsum("atom | o3_mu | n, n | | p -> atom | o3_mu | p", density, mixing)
    >>> mixed.values[0].tolist()
    [[1.0, -1.0], [2.0, -2.0], [2.0, -2.0]]

    """
    if not isinstance(expression, str):
        raise TypeError(f"`expression` must be a str, got {_checks.kind(expression)}")
    parsed = _expressions.parse(expression)
    if len(tensors) != len(parsed.operands):
        raise ValueError(
            f"`einsum` must get one tensor for each of the {len(parsed.operands)} operands of "
            f"{expression!r}, got {len(tensors)}"
        )
    for number, tensor in enumerate(tensors, 1):
        require_tensor(tensor, f"operand {number}")
    maps = [tensor for tensor in tensors if isinstance(tensor, TensorMap)]
    blocks = [tensor for tensor in tensors if isinstance(tensor, TensorBlock)]
    multiply = within_range(partial(_einsum_blocks, parsed), "einsum")
    if not maps:
        return multiply(*blocks)._seal(frozen=False)
    keys = maps[0]._keys
    columns = [
        same_keys(maps[0], tensor) if isinstance(tensor, TensorMap) else [tensor] * len(keys)
        for tensor in tensors
    ]
    return assemble(keys, list(zip(*columns, strict=True)), multiply)


def _einsum_blocks(expression: Expression, *blocks: TensorBlock) -> TensorBlock:
    for number, (names, block) in enumerate(zip(expression.operands, blocks, strict=True), 1):
        _check_names(number, names, block)
    return _Product(expression.plan, blocks).block()


def _check_names(number: int, names: Names, block: TensorBlock) -> None:
    """Raise ValueError unless a block has the axes that the expression says."""
    components = tuple(_checks.component_names(block))
    found = (block._samples._names, components, block._properties._names)
    if found == names and names.samples and names.properties:
        return
    for what, wanted, got in zip(Names._fields, names, found):
        if wanted != got and (wanted or what == "components"):
            raise ValueError(
                f"operand {number} of `einsum` must have the names of its block, its {what} are "
                f"{list(got)}, got {list(wanted)} in `expression`"
            )
    for what, wanted, labels in [
        ("samples", names.samples, block._samples),
        ("properties", names.properties, block._properties),
    ]:
        if not wanted and len(labels) != 1:
            raise ValueError(
                f"operand {number} of `einsum` must have the names {labels.names} for its "
                f"{len(labels)} {what}, got none in `expression`, which is for a single entry"
            )


@operation
def outer(tensor_1: Tensor, tensor_2: Tensor) -> Tensor:
    r"""Multiply each property of one tensor with each property of another, for each sample.

    The values are :math:`C_{i,pq} = A_{ip} B_{iq}`. A component that both have is the same axis,
    and must have equal Labels; one that only one of them has is kept.

    Gradients: the product rule, :math:`\nabla C_{i,pq} = \nabla A_{ip} B_{iq} + A_{ip} \nabla
    B_{iq}`; see :func:`einsum` for rows that only one tensor has, and for gradients of gradients.

    Parameters
    ----------
    tensor_1, tensor_2 : TensorMap or TensorBlock
        values (n_samples, ..., n_properties_1) and (n_samples, ..., n_properties_2), with the same
        keys and samples

    Returns
    -------
    TensorMap or TensorBlock
        values (n_samples, ..., n_properties_1 * n_properties_2): the components of `tensor_1`, and
        those of `tensor_2` that are not among them; as properties all combinations, those of
        `tensor_2` change fastest. A name of both gets the endings "_1" and "_2".

    Raises
    ------
    NotEqualError
        if the keys, the samples or components of the same name differ
    TypeError
        if the two are not both maps, or both blocks
    OverflowError
        if integers get out of the range of their dtype

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import outer
    >>> n = Labels.range("n", 2)
    >>> block = TensorBlock(np.array([[1.0, 2.0]]), Labels.range("atom", 1), [], n)
    >>> products = outer(block, block)
    >>> products.values
    array([[1., 2., 2., 4.]])
    >>> products.properties.names
    ['n_1', 'n_2']

    """
    return on_pairs(within_range(_outer_blocks, "outer"), tensor_1, tensor_2)


def _outer_blocks(block: TensorBlock, other: TensorBlock) -> TensorBlock:
    plan = _outer_plan(
        tuple(_checks.component_names(block)),
        tuple(_checks.component_names(other)),
        block._properties._names,
        other._properties._names,
    )
    return _Product(plan, (block, other)).block()


@lru_cache(maxsize=256)
def _outer_plan(
    components: tuple[str, ...],
    others: tuple[str, ...],
    properties: tuple[str, ...],
    other_properties: tuple[str, ...],
) -> Plan:
    common = set(properties) & set(other_properties)
    names = [
        f"{name}_{number}" if name in common else name
        for number, group in [(1, properties), (2, other_properties)]
        for name in group
    ]
    samples, first, second, *free = list(string.ascii_lowercase)
    distinct = dict.fromkeys(components + others)
    if len(distinct) > len(free):
        raise ValueError(
            f"`outer` can have at most {len(free)} different components, got {len(distinct)}"
        )
    letters = dict(zip(distinct, free))
    mine, theirs = ["".join([letters[name] for name in group]) for group in (components, others)]
    return Plan(
        "outer",
        (Axes(samples, mine, first), Axes(samples, theirs, second)),
        Axes(samples, "".join(letters.values()), first + second),
        _checks.check_names(tuple(names)),
    )


class _Product:
    """The product of some blocks that a plan describes."""

    def __init__(self, plan: Plan, blocks: Sequence[TensorBlock]) -> None:
        self._plan = plan
        self._blocks = blocks
        axes = self._axes()
        result, like = plan.result, blocks[0]._samples
        self._samples = axes[result.samples] if result.samples else _single(like)
        self._components = tuple([axes[letter] for letter in result.components])
        self._properties = _combined(
            [axes[letter] for letter in result.properties], plan.names, like
        )
        if self._components:
            _checks.check_components(self._components)
        self._arrays = [
            _without_single(block._values, operand)
            for operand, block in zip(plan.operands, blocks, strict=True)
        ]

    def _axes(self) -> dict[str, Labels]:
        """Return the Labels of each letter, or raise NotEqualError."""
        axes: dict[str, Labels] = {}
        for operand, block in zip(self._plan.operands, self._blocks):
            for letter, labels in _lettered(operand, block):
                if letter not in axes:
                    axes[letter] = labels
                elif axes[letter] != labels:
                    raise NotEqualError(
                        f"axes with the same names must have equal Labels in `{self._plan.who}`, "
                        f"the {self._where(letter, axes[letter])} and the "
                        f"{self._where(letter, labels)} have not: "
                        f"{_differences.labels(axes[letter], labels)}"
                    )
        return axes

    def _where(self, letter: str, labels: Labels) -> str:
        """Return in which axis of which operand some Labels are."""
        return next(
            f"{kind} {_checks.names_text(labels)} of operand {number}"
            for number, (axes, block) in enumerate(zip(self._plan.operands, self._blocks), 1)
            for kind, letters in zip(Axes._fields, axes)
            if letter in letters and (letter, labels) in _lettered(axes, block)
        )

    def block(self) -> TensorBlock:
        values = _array_algebra.einsum(self._plan.terms, self._plan.target, self._arrays)
        gradients: dict[str, TensorBlock] = {}
        for block in self._blocks:
            for name in block._gradients:
                if name not in gradients:
                    gradients[name] = self._gradient(name)
        return TensorBlock._of(
            self._shaped(values, (len(self._samples),)),
            self._samples,
            self._components,
            self._properties,
            gradients,
        )

    def _shaped(self, values: _arrays.Array, first: tuple[int, ...]) -> _arrays.Array:
        """Return values with one axis for all the properties."""
        shape = (*first, *map(len, self._components), len(self._properties))
        if tuple(values.shape) == shape:
            return values
        return _arrays.reshape(values, shape)

    # ---- gradients

    def _gradient(self, name: str) -> TensorBlock:
        """Return the sum of what each factor's gradient adds by the product rule."""
        having = [n for n, block in enumerate(self._blocks) if name in block._gradients]
        for number in having:
            self._check_plain(number, name)
        parts = []
        for number in having:
            gradient = self._blocks[number]._gradients[name]
            parts.append(self._term(number, gradient, gradient._samples._table[:, 0]))
        for part in parts[1:]:
            _check_alike(parts[0], part, f"the gradients {name!r} in `{self._plan.who}`")
        if any(self._is_summed(number) for number in having):
            return _united(parts, samples_summed=True)
        return parts[0] if len(parts) == 1 else _united(parts)

    def _is_summed(self, number: int) -> bool:
        """Tell whether the samples of a factor are summed, and its gradient rows with them."""
        return bool(self._plan.operands[number].samples) and not self._plan.result.samples

    def _check_plain(self, number: int, name: str) -> None:
        """Raise NotImplementedError for gradients without a plain rule."""
        plan, block = self._plan, self._blocks[number]
        samples, result = plan.operands[number].samples, plan.result
        if samples != result.samples and (
            result.samples or samples in result.components + result.properties
        ):
            raise NotImplementedError(
                f"`{plan.who}` requires that tensors with gradients have the samples of the "
                "result, or that these samples are summed and the result has none: the gradient "
                f"{name!r} of operand {number + 1} has rows for the samples "
                f"{_checks.names_text(block._samples)}, the result has the samples "
                f"{_checks.names_text(self._samples)}; use `remove_gradients` on it"
            )
        several = sum(bool(other._gradients) for other in self._blocks) > 1
        if several or self._is_summed(number):
            refuse_nested(block, plan.who)

    def _term(self, number: int, gradient: TensorBlock, rows: npt.NDArray[np.int32]) -> TensorBlock:
        """Return the product with one factor replaced by its gradient.

        `rows` says to which sample each row of the gradient belongs.
        """
        operand, components = self._plan.operands[number], gradient._components
        n_own = len(components) - len(self._blocks[number]._components)
        own = _OWN[:n_own]
        terms, arrays = [], []
        for n, (letters, array) in enumerate(zip(self._plan.terms, self._arrays)):
            if n == number:
                letters = _ROWS + own + operand.components + operand.properties
                array = gradient._values
                if not operand.properties:
                    array = _arrays.reshape(array, tuple(array.shape[:-1]))
            elif operand.samples and operand.samples in letters:
                array = _arrays.take(array, rows.astype(np.intp), letters.index(operand.samples))
                letters = letters.replace(operand.samples, _ROWS)
            terms.append(letters)
            arrays.append(array)
        result = self._plan.result
        values = _array_algebra.einsum(
            terms, _ROWS + own + result.components + result.properties, arrays
        )
        extra = components[:n_own]
        _checks.check_components(extra + self._components)
        nested = {
            name: self._term(number, second, rows[second._samples._table[:, 0]])
            for name, second in gradient._gradients.items()
        }
        return TensorBlock._of(
            self._shaped(values, (len(rows), *map(len, extra))),
            gradient._samples,
            extra + self._components,
            self._properties,
            nested,
        )


def _check_alike(first: TensorBlock, other: TensorBlock, who: str) -> None:
    """Raise NotEqualError unless gradients are with respect to the same things."""
    if first._samples._names != other._samples._names:
        raise NotEqualError(
            f"{who} must have the same sample names, got {first._samples.names} and "
            f"{other._samples.names}"
        )
    if first._components != other._components:
        found = _differences.metadata(first, other, ("components",), gradients=False)
        raise NotEqualError(f"{who} must have the same components: {found}")


def _united(parts: Sequence[TensorBlock], samples_summed: bool = False) -> TensorBlock:
    """Add gradients, whose rows may differ."""
    first = parts[0]
    tables = [part._samples._table for part in parts]
    if not samples_summed and all(part._samples == first._samples for part in parts):
        values = sum([part._values for part in parts[1:]], first._values)
        samples = first._samples
    else:
        if samples_summed:
            tables = [np.hstack([np.zeros_like(table[:, :1]), table[:, 1:]]) for table in tables]
        rows, groups = sets.merge(tables, sort=True)
        positions = [np.arange(len(rows)) if group is None else group for group in groups]
        xp = _arrays.namespace(*[part._values for part in parts])
        stacked = xp.concat([part._values for part in parts], axis=0)
        values = _array_groups.segment_sum(stacked, np.concatenate(positions), len(rows))
        samples = first._samples._like(rows)
    return TensorBlock._of(values, samples, first._components, first._properties)


# ---- axes


def _lettered(axes: Axes, block: TensorBlock) -> list[tuple[str, Labels]]:
    """Return the Labels of a block with their letters."""
    pairs = [*zip(axes.components, block._components)]
    if axes.samples:
        pairs.append((axes.samples, block._samples))
    if axes.properties:
        pairs.append((axes.properties, block._properties))
    return pairs


def _without_single(values: _arrays.Array, axes: Axes) -> _arrays.Array:
    """Return values without those of the first and the last axis that have no letter."""
    if axes.samples and axes.properties:
        return values
    shape = list(values.shape)
    if not axes.properties:
        del shape[-1]
    if not axes.samples:
        del shape[0]
    return _arrays.reshape(values, tuple(shape))


def _single(like: Labels) -> Labels:
    return like._like(np.zeros((1, 1), np.int32), ("_",))


def _combined(parts: list[Labels], names: tuple[str, ...], like: Labels) -> Labels:
    """Return all combinations of the entries of some Labels, the last ones change fastest."""
    if not parts:
        return _single(like)
    if len(parts) == 1:
        return parts[0]
    table = np.empty((*map(len, parts), len(names)), dtype=np.int32)
    column = 0
    for axis, part in enumerate(parts):
        n_rows, n_columns = part._table.shape
        shape = [1] * len(parts) + [n_columns]
        shape[axis] = n_rows
        table[..., column : column + n_columns] = part._table.reshape(shape)
        column += n_columns
    return parts[0]._like(table.reshape(math.prod(table.shape[:-1]), len(names)), names)
