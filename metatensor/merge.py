"""Many blocks into one: dimensions of the keys, or components, become samples or properties.

Each function first plans on the host, from the tables of the Labels, where every row and property
comes from. Values are then gathered out of place: a position past the last row, or the last
property, stands for fill values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, repeat
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks
from metatensor._core import joins, rows, sets
from metatensor.block import TensorBlock
from metatensor.labels import Labels

Table = npt.NDArray[np.int32]
Positions = npt.NDArray[np.intp]
Scalar = bool | int | float | complex

_FUSED = 1 << 16  # bytes from where on our loop over rows is faster than that of numpy


def keys_to_samples(
    keys: Labels,
    blocks: list[TensorBlock],
    keys_to_move: str | Sequence[str] | Labels,
    fill_value: Any,
    sort_samples: bool,
) -> tuple[Labels, list[TensorBlock]]:
    """Merge blocks along the samples; see :meth:`TensorMap.keys_to_samples`."""
    names, entries = _names_and_entries(keys, keys_to_move)
    if entries is not None:
        _checks.invalid(
            "`keys_to_move` must be names, or Labels without entries, when moving keys to samples, "
            f"got {len(entries)} entries for {list(names)}"
        )
    move = _plan_move(keys, names, blocks[0]._samples, "sample")
    fill = _fill_scalar(fill_value, blocks[0]._values)
    merged = []
    for group in move.groups:
        parts = [blocks[position] for position in group]
        _check_parts(parts, "samples")
        merged.append(_merge_samples(parts, names, move.rows[group], fill, sort_samples))
    return move.keys, merged


def keys_to_properties(
    keys: Labels,
    blocks: list[TensorBlock],
    keys_to_move: str | Sequence[str] | Labels,
    fill_value: Any,
    sort_samples: bool,
) -> tuple[Labels, list[TensorBlock]]:
    """Merge blocks along the properties; see :meth:`TensorMap.keys_to_properties`."""
    names, entries = _names_and_entries(keys, keys_to_move)
    move = _plan_move(keys, names, blocks[0]._properties, "property")
    fill = _fill_scalar(fill_value, blocks[0]._values)
    merged = []
    for group in move.groups:
        parts = [blocks[position] for position in group]
        _check_parts(parts, "properties")
        if entries is None:
            columns = _columns_of_all(parts, names, move.rows[group])
        else:
            columns = _columns_of_entries(parts, names, move.rows[group], entries)
        merged.append(_merge_properties(parts, columns, fill, sort_samples))
    return move.keys, merged


# ---- which blocks are merged


class _Move(NamedTuple):
    """Dimensions of the keys that move: the new keys, and the blocks merged for each of them."""

    keys: Labels
    groups: list[list[int]]
    rows: Table  # what moves, (n_keys, n_names)


def _names_and_entries(
    keys: Labels, keys_to_move: str | Sequence[str] | Labels
) -> tuple[tuple[str, ...], Table | None]:
    """Return the names of the dimensions to move, and the entries if some are given."""
    entries = None
    if isinstance(keys_to_move, Labels):
        names = keys_to_move._names
        entries = keys_to_move._table if len(keys_to_move) else None
    elif isinstance(keys_to_move, str):
        names = (keys_to_move,)
    else:
        names = _checks.names_tuple(keys_to_move, "keys_to_move")
    if len(keys) == 0:
        _checks.invalid("there are no keys to move in an empty TensorMap")
    for name in names:
        if name not in keys._names:
            _checks.invalid(f"`keys_to_move` must be names of the keys, {keys.names}, got {name!r}")
        if names.count(name) > 1:
            _checks.invalid(f"`keys_to_move` must not repeat a name, got {name!r} more than once")
    return names, entries


def _plan_move(keys: Labels, names: tuple[str, ...], labels: Labels, axis: str) -> _Move:
    for name in names:
        if name in labels._names:
            _checks.invalid(
                f"the name of a moved key must not be a name of the {axis} dimensions already, "
                f"{labels.names}, got {name!r}; rename one of them first"
            )
    moved = [keys._names.index(name) for name in names]
    kept = [column for column in range(len(keys._names)) if column not in moved]
    moved_rows = np.ascontiguousarray(keys._table[:, moved])
    if not kept:
        single = keys._like(np.zeros((1, 1), dtype=np.int32), ("_",))
        return _Move(single, [list(range(len(keys)))], moved_rows)
    groups: dict[tuple[int, ...], list[int]] = {}
    for position, row in enumerate(keys._table[:, kept].tolist()):
        groups.setdefault(tuple(row), []).append(position)
    new_keys = keys._like(
        np.array(list(groups), dtype=np.int32), tuple([keys._names[column] for column in kept])
    )
    return _Move(new_keys, list(groups.values()), moved_rows)


def _check_parts(parts: list[TensorBlock], axis: str) -> None:
    """Check that blocks differ in nothing but samples and properties."""
    first = parts[0]
    for name, gradient in first._gradients.items():
        if gradient._gradients:
            _checks.invalid(
                f"keys can not be moved to {axis} when gradients have gradients themselves, "
                f"as the gradient {name!r} has"
            )
    for block in parts:
        if block._components != first._components:
            _checks.invalid(
                f"keys can not be moved to {axis} when blocks have different components, "
                "call `components_to_properties` first"
            )
        for name, gradient in first._gradients.items():
            if block._gradients[name]._components != gradient._components:
                _checks.invalid(
                    f"keys can not be moved to {axis} when blocks have different components in "
                    f"their gradients {name!r}"
                )


def _fill_scalar(fill_value: Any, values: _arrays.Array) -> Scalar:
    """Convert a fill value to the Python number of the dtype of the values."""
    scalar = np.asarray(fill_value)
    if scalar.shape != ():
        _checks.invalid(
            f"`fill_value` must be a single scalar, got an array of shape {scalar.shape}"
        )
    scalar = scalar.item()
    xp = _arrays.namespace(values)
    if xp.isdtype(values.dtype, "real floating"):
        return math.nan if scalar is None else float(scalar)
    if xp.isdtype(values.dtype, "complex floating"):
        return complex(math.nan, math.nan) if scalar is None else complex(scalar)
    if xp.isdtype(values.dtype, "bool"):
        return bool(scalar)
    limits = xp.iinfo(values.dtype)
    number = None if isinstance(scalar, float) and not scalar.is_integer() else int(scalar)
    if number is None or not limits.min <= number <= limits.max:
        raise ValueError(
            f"`fill_value` must fit in the dtype of the values, {values.dtype}, got {fill_value}"
        )
    return number


# ---- samples


def _merge_samples(
    parts: list[TensorBlock], names: tuple[str, ...], keys: Table, fill: Scalar, sort: bool
) -> TensorBlock:
    """Put blocks below each other, each sample with the key of its block."""
    first = parts[0]
    properties, maps = unite([block._properties for block in parts], sort=False)
    columns = _invert(maps, len(properties))
    tables = [block._samples._table for block in parts]
    stacked = joins.stack(tables, keys, False)
    order = _order_with_keys(tables, keys, stacked) if sort else None
    names = first._samples._names + names

    def stack(blocks: list[TensorBlock], samples: Labels, order: Positions | None) -> TensorBlock:
        values = stack_rows(
            [block._values for block in blocks], columns, order, len(properties), fill
        )
        return TensorBlock._of(values, samples, blocks[0]._components, properties)

    samples = first._samples._like(_take_rows(stacked, order), names)
    merged = stack(parts, samples, order)
    if first._gradients:
        positions = None if order is None else joins.invert(order, len(order))
        starts = list(accumulate([0] + [len(table) for table in tables[:-1]]))
    for name in sorted(first._gradients):
        blocks = [block._gradients[name] for block in parts]
        tables = [block._samples._table for block in blocks]
        stacked = np.concatenate(list(map(joins.renumber, tables, repeat(positions), starts)))
        order = _order(stacked)
        samples = blocks[0]._samples._like(_take_rows(stacked, order))
        merged._gradients[name] = stack(blocks, samples, order)
    return merged


def _order(table: Table) -> Positions | None:
    """Return the order that sorts the rows, None if they are sorted."""
    return None if rows.strictly_sorted(table) else sets.lexsort(table)


def _order_with_keys(tables: list[Table], keys: Table, stacked: Table) -> Positions | None:
    """Return the order that sorts the rows of all tables, each followed by the key of its table."""
    first = tables[0]
    if all(rows.same_rows(first, table) for table in tables) and rows.strictly_sorted(first):
        starts = sets.lexsort(keys) * len(first)
        return (starts + np.arange(len(first))[:, None]).ravel()
    return _order(stacked)


def _take_rows(table: Table, order: Positions | None) -> Table:
    return table if order is None else np.take(table, order, axis=0)


def unite(labels: list[Labels], sort: bool) -> tuple[Labels, list[Positions | None]]:
    """Return the union of Labels, and where the entries of each are in it."""
    table, maps = sets.merge([part._table for part in labels], sort)
    return labels[0] if maps[0] is None else labels[0]._like(table), maps


def _invert(maps: list[Positions | None], size: int) -> list[Positions | None]:
    """Return the index of each part, from where its rows are among those of the result."""
    return [None if positions is None else joins.invert(positions, size) for positions in maps]


def stack_rows(
    parts: list[_arrays.Array],
    columns: list[Positions | None],
    order: Positions | None,
    width: int,
    fill: Scalar,
) -> _arrays.Array:
    """Put arrays below each other.

    Parameters
    ----------
    parts : list of array, (n_rows, ..., n_properties)
        arrays of one library, which differ in the first and last axis only
    columns : list of array of intp or None, (width,)
        the index of the properties of the result in those of each part; None if they are the same
    order : array of intp or None, (sum of n_rows,)
        which row of the stacked parts comes where; None to keep their order
    width : int
        number of properties of the result
    fill : scalar
        where a part has no such property

    Returns
    -------
    array, (sum of n_rows, ..., width)

    """
    first = parts[0]
    if _arrays.library(first) == "numpy":
        shape = first.shape[1:-1]
        filling = np.full(width, fill, dtype=_native(first))
        joined = joins.gather_rows(
            _flat(parts, filling.dtype), columns, order, math.prod(shape), filling
        )
        return joined.reshape((joined.shape[0], *shape, width))
    xp = _arrays.namespace(*parts)
    stacked = xp.concat(
        [_take_or_fill(part, index, -1, fill) for part, index in zip(parts, columns, strict=True)],
        axis=0,
    )
    return stacked if order is None else _arrays.take(stacked, order, axis=0)


def _take_or_fill(
    values: _arrays.Array, index: Positions | None, axis: int, fill: Scalar
) -> _arrays.Array:
    """Gather entries of an axis; the position past the last one gives fill values."""
    if index is None:
        return values
    shape = list(values.shape)
    shape[axis] = 1
    padded = _arrays.namespace(values).concat(
        [values, _arrays.full(tuple(shape), fill, values)], axis=axis
    )
    return _arrays.take(padded, index, axis=axis)


def _native(values: npt.NDArray[Any]) -> np.dtype[Any]:
    return values.dtype if values.dtype.isnative else values.dtype.newbyteorder("=")


def _flat(parts: list[Any], dtype: np.dtype[Any]) -> list[Any]:
    """Return numpy arrays in C order with all components in one axis."""
    flat = []
    for part in parts:
        if part is not None:
            part = np.ascontiguousarray(part, dtype=dtype)
            if not part.flags.aligned:
                part = part.copy()
            if part.ndim != 3:
                part = part.reshape((part.shape[0], math.prod(part.shape[1:-1]), part.shape[-1]))
        flat.append(part)
    return flat


# ---- properties


class Columns(NamedTuple):
    """What is put next to each other: a part of the blocks, or None for fill values."""

    properties: Labels
    parts: list[int | None]
    widths: list[int]


def _columns_of_all(parts: list[TensorBlock], names: tuple[str, ...], keys: Table) -> Columns:
    tables = [block._properties._table for block in parts]
    first = parts[0]._properties
    return Columns(
        first._like(joins.stack(tables, keys, True), names + first._names),
        list(range(len(parts))),
        [len(table) for table in tables],
    )


def _columns_of_entries(
    parts: list[TensorBlock], names: tuple[str, ...], keys: Table, entries: Table
) -> Columns:
    properties = parts[0]._properties
    if any(block._properties != properties for block in parts):
        _checks.invalid(
            "merged blocks must have the same properties when `keys_to_move` has entries; "
            "give the names alone to keep the properties of each block"
        )
    positions = {tuple(row): part for part, row in enumerate(keys.tolist())}
    table = joins.stack([properties._table] * len(entries), entries, True)
    return Columns(
        properties._like(table, names + properties._names),
        [positions.get(tuple(row)) for row in entries.tolist()],
        [len(properties)] * len(entries),
    )


def _merge_properties(
    parts: list[TensorBlock], columns: Columns, fill: Scalar, sort: bool
) -> TensorBlock:
    """Put blocks next to each other, with the samples of all of them."""
    samples, maps = unite([block._samples for block in parts], sort)
    merged = side_by_side(parts, samples, maps, columns, fill, True)
    merged._gradients = dict(sorted(merged._gradients.items()))
    return merged


def side_by_side(
    parts: list[TensorBlock],
    samples: Labels,
    maps: list[Positions | None],
    columns: Columns,
    fill: Scalar,
    sort: bool,
) -> TensorBlock:
    """Put blocks next to each other, and their gradients.

    Parameters
    ----------
    parts : list of TensorBlock
        which differ in samples and properties only
    samples : Labels
        of the result
    maps : list of array of intp or None, (n_rows,)
        where the samples of each part are among them; None if it has the same samples
    columns : Columns
        what is put next to each other
    fill : scalar
        where a part has no such sample
    sort : bool
        sort the rows of gradients; otherwise they come in the order of the parts

    Returns
    -------
    TensorBlock

    """
    values = stack_columns(
        [block._values for block in parts],
        maps,
        columns.parts,
        columns.widths,
        len(samples),
        fill,
    )
    gradients = {}
    for name in parts[0]._gradients:
        blocks = [block._gradients[name] for block in parts]
        numbered = [
            block._samples
            if positions is None
            else block._samples._like(joins.renumber(block._samples._table, positions))
            for block, positions in zip(blocks, maps, strict=True)
        ]
        gradients[name] = side_by_side(blocks, *unite(numbered, sort), columns, fill, sort)
    return TensorBlock._of(values, samples, parts[0]._components, columns.properties, gradients)


def stack_columns(
    parts: list[_arrays.Array],
    maps: list[Positions | None],
    order: list[int | None],
    widths: list[int],
    size: int,
    fill: Scalar,
) -> _arrays.Array:
    """Put arrays next to each other.

    Parameters
    ----------
    parts : list of array, (n_rows, ..., n_properties)
        arrays of one library, which differ in the first and last axis only
    maps : list of array of intp or None, (n_rows,)
        where the rows of each part are in the result; None if it has the same rows
    order : list of int or None
        which part comes where; None stands for fill values
    widths : list of int
        number of properties of each entry of `order`
    size : int
        number of rows of the result
    fill : scalar
        where a part has no such row

    Returns
    -------
    array, (size, ..., sum of widths)

    """
    first = parts[0]
    indices = _invert([None if part is None else maps[part] for part in order], size)
    values = [None if part is None else parts[part] for part in order]
    shape = first.shape[1:-1]
    gathers = any(part is None for part in values) or any(index is not None for index in indices)
    if _arrays.library(first) == "numpy" and (gathers or first.nbytes >= _FUSED):
        filling = np.full(max(widths), fill, dtype=_native(first))
        joined = joins.gather_columns(
            _flat(values, filling.dtype), indices, widths, size, math.prod(shape), filling
        )
        return joined.reshape((size, *shape, joined.shape[-1]))
    pieces = [
        _arrays.full((size, *shape, width), fill, first)
        if part is None
        else _take_or_fill(part, index, 0, fill)
        for part, index, width in zip(values, indices, widths, strict=True)
    ]
    return _arrays.namespace(first).concat(pieces, axis=-1)


# ---- components


def components_to_properties(
    blocks: list[TensorBlock], dimensions: str | Sequence[str]
) -> list[TensorBlock]:
    """Move components of blocks; see :meth:`TensorMap.components_to_properties`."""
    names = (
        (dimensions,)
        if isinstance(dimensions, str)
        else _checks.names_tuple(dimensions, "dimensions")
    )
    if not names:
        _checks.invalid("`dimensions` must name at least one component to move to properties")
    copier = copier_for(blocks)
    return [_move_components(block, names, _move_labels(block, names), copier) for block in blocks]


def copier_for(blocks: list[TensorBlock]) -> _arrays.Copier:
    """Return what makes copies of all arrays of blocks, or of parts of them."""
    return _arrays.Copier(sum(map(_nbytes, blocks)))


def _nbytes(block: TensorBlock) -> int:
    """Return the memory that copies of all arrays need, 0 if that is unknown."""
    nbytes: int = getattr(block._values, "nbytes", 0)
    for gradient in block._gradients.values():
        nbytes += _nbytes(gradient)
    return nbytes


def _move_labels(block: TensorBlock, names: tuple[str, ...]) -> Labels:
    """Return the properties of a block with the named components in front of them."""
    properties = block._properties
    components = {labels._names[0]: labels for labels in block._components}
    for name in names:
        if name not in components:
            _checks.invalid(
                f"`dimensions` must be components of the blocks, {list(components)}, got {name!r}"
            )
        if name in properties._names:
            _checks.invalid(
                "the name of a moved component must not be a name of the properties already, "
                f"{properties.names}, got {name!r}; rename one of them first"
            )
        entries = components.pop(name)._table
        table = joins.stack([properties._table] * len(entries), entries, True)
        properties = properties._like(table, (name, *properties._names))
    return properties


def _move_components(
    block: TensorBlock, names: tuple[str, ...], properties: Labels, copier: _arrays.Copier
) -> TensorBlock:
    """Move the axes of the named components to the front of the properties, in gradients too."""
    axes = {labels._names[0]: axis for axis, labels in enumerate(block._components, start=1)}
    moved = [axes.pop(name) for name in reversed(names)]
    components = tuple([block._components[axis - 1] for axis in axes.values()])
    values = block._values
    xp = _arrays.namespace(values)
    order = [0, *axes.values(), *moved, len(block._components) + 1]
    if order != sorted(order):
        values = xp.permute_dims(values, tuple(order))
    shape = (len(block._samples), *map(len, components), len(properties))
    gradients = {
        name: _move_components(gradient, names, properties, copier)
        for name, gradient in block._gradients.items()
    }
    values = xp.reshape(copier.copy(values), shape)
    return TensorBlock._of(values, block._samples, components, properties, gradients)
