"""Sums and differences of predictions, matched by label; gradient rows that are absent are zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from metatensor import _array_groups, _arrays
from metatensor._core import sets
from metatensor.block import TensorBlock
from metatensor.labels import LabelsEntry
from metatensor.sklearn import _alignment, _matching
from metatensor.tensor import TensorMap


def residual(y: TensorMap, prediction: TensorMap, who: str) -> TensorMap:
    """Return y less a prediction, with the labels of y."""
    names = _matching.Names("y", f"the prediction of {who}")
    blocks = []
    for pair in _matching.match(y, prediction, names):
        given = _same_properties(pair.key, pair.wanted, pair.given, names)
        missing = [name for name in pair.wanted._gradients if name not in given._gradients]
        if missing:
            raise ValueError(
                f"y has gradients with respect to {missing}, but {names.given} has not, so that "
                "they can not be subtracted; put it last, give X these gradients, or take them "
                "from y with `remove_gradients`"
            )
        gradients = {}
        for name, gradient in pair.wanted._gradients.items():
            rows = pair._replace(given=given).gradient_rows(name, names)
            gradients[name] = _less(gradient, given._gradients[name], rows, {})
        blocks.append(_less(pair.wanted, given, pair.samples, gradients))
    return TensorMap._of(y._keys, blocks)


def _same_properties(
    key: LabelsEntry, wanted: TensorBlock, given: TensorBlock, names: _matching.Names
) -> TensorBlock:
    if not _alignment.same_entries(wanted._properties, given._properties):
        raise ValueError(
            f"{names.given} must have the properties of {names.wanted}, in the block with key "
            f"{key.print()}"
        )
    return _alignment.take_properties(given, wanted._properties)


def _less(
    wanted: TensorBlock,
    given: TensorBlock,
    rows: _alignment.Positions,
    gradients: dict[str, TensorBlock],
) -> TensorBlock:
    """Subtract the rows at some positions; there is nothing to subtract at -1."""
    there = np.flatnonzero(rows >= 0)
    if len(there) == 0:
        values = wanted._values
    else:
        taken = _arrays.take(given._values, rows[there])
        if _arrays.library(taken) != _arrays.library(wanted._values):
            like = _arrays.as_floating(wanted._values)
            taken = _arrays.from_host(_arrays.to_host(taken), like)
        first, second = _arrays.promote(wanted._values, taken)
        if len(there) < len(rows):
            second = _array_groups.segment_sum(second, there, len(rows))
        values = first - second
    return TensorBlock._of(
        values, wanted._samples, wanted._components, wanted._properties, gradients
    )


def total(first: TensorMap, second: TensorMap, who: str) -> TensorMap:
    """Return the sum of two predictions for the same X, with the gradients that both have."""
    names = _matching.Names("the sum of those before", f"the prediction of {who}")
    if len(first) != len(second):
        raise ValueError(f"{names.given} has {len(second)} blocks, {names.wanted} {len(first)}")
    blocks = []
    for pair in _matching.match(first, second, names):
        if len(pair.given._samples) != len(pair.wanted._samples):
            raise ValueError(
                f"{names.given} must have the samples of {names.wanted}, in the block with key "
                f"{pair.key.print()} it has {len(pair.given._samples)} instead of "
                f"{len(pair.wanted._samples)}"
            )
        given = _same_properties(pair.key, pair.wanted, pair.given, names)
        new = np.empty_like(pair.samples)  # from the samples of the second to those of the first
        new[pair.samples] = np.arange(len(new))
        gradients = {}
        for name, gradient in pair.wanted._gradients.items():
            if name in given._gradients:
                _check_components(pair.key, name, gradient, given._gradients[name], names)
                gradients[name] = _united(gradient, given._gradients[name], new)
        values = _arrays.take(given._values, pair.samples)
        wanted, values = _arrays.promote(pair.wanted._values, values)
        blocks.append(
            TensorBlock._of(
                wanted + values,
                pair.wanted._samples,
                pair.wanted._components,
                pair.wanted._properties,
                gradients,
            )
        )
    return TensorMap._of(first._keys, blocks)


def _check_components(
    key: LabelsEntry, parameter: str, first: TensorBlock, second: TensorBlock, names: Any
) -> None:
    if first._components != second._components or set(first._samples._names) != set(
        second._samples._names
    ):
        raise ValueError(
            f"{names.given} and {names.wanted} must have the same sample names and components in "
            f"the gradient {parameter!r} of the block with key {key.print()}"
        )


def _united(first: TensorBlock, second: TensorBlock, new: _alignment.Positions) -> TensorBlock:
    """Return the sum of two gradients, with all the rows that one of them has."""
    known = first._samples._names
    table = _alignment.columns(second._samples, known).copy()
    table[:, 0] = new[table[:, 0]]
    tables = [first._samples._table, table]
    merged, maps = sets.merge(tables, False)
    values = _arrays.promote(first._values, second._values)
    if len(table) == 0 or len(first._samples) == 0:
        values = values[1] if len(table) else values[0]
    else:
        groups = [
            np.arange(len(part)) if mapping is None else mapping
            for part, mapping in zip(tables, maps, strict=True)
        ]
        values = _array_groups.segment_sum(
            _arrays.namespace(*values).concat([*values], axis=0),
            np.concatenate(groups),
            len(merged),
        )
    return TensorBlock._of(
        values, first._samples._like(merged), first._components, first._properties
    )
