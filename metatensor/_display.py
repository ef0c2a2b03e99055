"""Text and HTML forms of Labels, blocks and maps: functions of plain data."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from metatensor.block import TensorBlock
    from metatensor.labels import Labels, LabelsEntry
    from metatensor.tensor import TensorMap

Table = npt.NDArray[np.int32]
Cells = list[list[str]]

# ---------------------------------------------------------------------------------------- text


def labels_text(names: Sequence[str], table: Table, max_entries: int, indent: int = 0) -> str:
    """Write Labels as centred columns below their names.

    All rows are written when ``max_entries`` is negative or large enough; otherwise the first
    and last ones, with a line of dots in between. The line of names is not indented.
    """
    folded = 0 <= max_entries < len(table)
    if folded:
        last = max(2, max_entries) // 2
        first = max(2, max_entries) - last
        cells = _cells(table[:first]) + _cells(table[len(table) - last :])
    else:
        cells = _cells(table)
    widths = _widths([list(names), *cells])
    margin = " " * indent
    lines = [_centred(names, widths).rstrip(" ")]
    lines += [margin + _centred(row, widths).rstrip(" ") for row in cells]
    if folded:
        half = sum(widths) // 2
        dots = " " * ((half - 3 if half > 3 else half) + 1) + "..."
        lines.insert(1 + first, margin + dots)
    return "\n".join(lines)


def entry_text(names: Sequence[str], values: Iterable[Any]) -> str:
    """Write one entry of Labels as ``(a=0, b=1)``."""
    pairs = [f"{name}={int(value)}" for name, value in zip(names, values, strict=True)]
    return "(" + ", ".join(pairs) + ")"


def block_text(block: TensorBlock) -> str:
    """Write the shape of a block, its names, and its gradients if it has some."""
    lines = [f"TensorBlock {_title(block)}", f"    samples: {_names(block.samples)}"]
    if block.components:
        components = ", ".join([name for labels in block.components for name in labels.names])
        lines.append(f"    components: [{components}]")
    lines.append(f"    properties: {_names(block.properties)}")
    parameters = block.gradients_list()
    if parameters:
        width = max(len(parameter) for parameter in parameters)
        lines += ["", "    gradients:"]
        lines += [
            f"        {parameter.ljust(width)} => TensorBlock {_shape(block.gradient(parameter))}"
            for parameter in parameters
        ]
    return "\n".join(lines)


def tensor_text(tensor: TensorMap, max_keys: int) -> str:
    """Write the keys of a map with the shapes of its blocks, ``max_keys`` of them (-1: all)."""
    keys = tensor.keys
    shown = len(keys) if max_keys < 0 else min(max_keys, len(keys))
    cells = _cells(keys._table[:shown])
    widths = _widths(cells)
    margin = " " * 6
    lines = [f"TensorMap {_count(tensor)}", f"    keys: {_names(keys)}", "    blocks:"]
    for row, block in zip(cells, tensor._blocks, strict=False):
        lines.append(f"{margin}{_centred(row, widths)}  => TensorBlock {_shape(block)}")
    if shown < len(keys):
        lines.append(margin + " " * (sum(widths) + 1) + "...")
    return "\n".join(lines)


def _cells(table: Table) -> Cells:
    return [[str(value) for value in row] for row in table.tolist()]


def _widths(cells: Cells) -> list[int]:
    return [2 + max(map(len, column)) for column in zip(*cells, strict=True)]


def _centred(row: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(
        [
            (" " * ((width - len(cell)) // 2) + cell).ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
    )


def _names(labels: Labels) -> str:
    return "[" + ", ".join(labels.names) + "]"


def _shape(block: TensorBlock) -> str:
    """Write the shape, or what trees of torch and jax hold where a block, or its array, was."""
    values = getattr(block, "_values", block)
    if not hasattr(values, "shape"):
        return f"with {type(values).__name__} in place of values"
    return f"with shape {tuple(values.shape)}"


def _title(block: TensorBlock) -> str:
    parameter = block._parameter
    return _shape(block) if parameter is None else f"gradient for '{parameter}', {_shape(block)}"


def _count(tensor: TensorMap) -> str:
    size = len(tensor.keys)
    return f"with {size} block" if size == 1 else f"with {size} blocks"


# ---------------------------------------------------------------------------------------- HTML
# Folding is left to <details>, colours are translucent: no script, no style sheet, and pages that
# read well in light and dark notebooks.

VISIBLE_ROWS, MAX_ROWS = 7, 200
VISIBLE_BLOCKS, MAX_BLOCKS = 7, 20
MAX_COLUMNS = 20

_RULE = '<hr style="border: none; border-top: 1px solid #888; margin: 0 0 6px 0">'
_CELL = '<td style="text-align: center">'
_KEY_CELL = '<td style="text-align: center; vertical-align: top">'
_HEADER = "text-align: center; background: rgba(128, 128, 128, 0.2)"


def labels_html(labels: Labels) -> str:
    """Write Labels as a table; rows after the first few are folded."""
    shown = labels._table[:MAX_ROWS]
    rows = [_row(cells) for cells in _cells(shown)]
    header = _header(labels.names, shown)
    return _page("Labels", "", _foldable(header, rows, len(labels), VISIBLE_ROWS))


def entry_html(entry: LabelsEntry) -> str:
    """Write one entry of Labels as a table with one row."""
    cells = [str(int(value)) for value in entry.values]
    header = [_header_cell(name) for name in entry.names]
    return _page("LabelsEntry", "", _table("".join(header), [_row(cells)]))


def block_html(block: TensorBlock) -> str:
    """Write the Labels of a block as horizontal tables; long ones and gradients are folded."""
    return _page("TensorBlock", _title(block), _block_lines(block, list_rows=True))


def tensor_html(tensor: TensorMap) -> str:
    """Write the keys of a map, each with its block folded beside it."""
    keys = tensor.keys
    rows = []
    for cells, block in zip(_cells(keys._table[:MAX_BLOCKS]), tensor._blocks, strict=False):
        # without the lists of rows: a map with many long blocks is no page of megabytes
        inside = _details(f"TensorBlock {_shape(block)}", _block_lines(block, list_rows=False))
        key = "".join([f"{_KEY_CELL}{cell}</td>" for cell in cells])
        folded = "\n".join(inside)
        rows.append(f'<tr>{key}<td style="text-align: left">{folded}</td></tr>')
    lines = [f"<div><strong>keys:</strong> {_text(_names(keys))}</div>"]
    lines.append("<div><strong>blocks:</strong></div>")
    header = _header(keys.names, keys._table[:MAX_BLOCKS]) + _header_cell("block")
    lines += _foldable(header, rows, len(keys), VISIBLE_BLOCKS)
    return _page("TensorMap", _count(tensor), lines)


def _page(kind: str, title: str, lines: Sequence[str]) -> str:
    start = f"<div><strong>metatensor.{kind}</strong> {_text(title)}".rstrip(" ")
    return "\n".join([f"{start}</div>", _RULE, *lines])


def _block_lines(block: TensorBlock, list_rows: bool) -> list[str]:
    if not hasattr(block, "_samples"):
        return []
    lines = _horizontal("samples", [block.samples], list_rows)
    if block.components:
        lines += _horizontal("components", block.components, list_rows)
    lines += _horizontal("properties", [block.properties], list_rows)
    parameters = block.gradients_list()
    if parameters:
        lines.append("<div><strong>gradients:</strong></div>")
    for parameter in parameters:
        gradient = block.gradient(parameter)
        lines += _details(f"{parameter} {_shape(gradient)}", _block_lines(gradient, list_rows))
    return lines


def _horizontal(title: str, axes: Sequence[Labels], list_rows: bool) -> list[str]:
    """Write one row per name, with the first values after it."""
    lines = [f"<div><strong>{title}:</strong></div>"]
    for labels in axes:
        cells = _cells(labels._table[:MAX_COLUMNS].T)
        folded = len(labels) > MAX_COLUMNS
        end = ["..."] if folded else [] if len(labels) else ["(empty)"]
        rows = [
            _row([*row, *end], header=_header_cell(name))
            for name, row in zip(labels.names, cells, strict=True)
        ]
        lines += _table("", rows)
        if folded and list_rows:
            rows = [_row(cells) for cells in _cells(labels._table[:MAX_ROWS])]
            summary = f"Show all {len(labels)} entries (vertical)"
            listed = _table(_header(labels.names, labels._table[:MAX_ROWS]), rows)
            lines += _details(summary, listed + _more(len(labels), MAX_ROWS))
    return lines


def _foldable(header: str, rows: list[str], total: int, visible: int) -> list[str]:
    """Write a table of the first rows, and one of the others below it, folded."""
    lines = _table(header, rows[:visible])
    if total > visible:
        folded = _table(header, rows[visible:]) + _more(total, len(rows))
        lines += _details(f"Show {total - visible} more entries", folded)
    return lines


def _more(total: int, shown: int) -> list[str]:
    return [f"<div>... and {total - shown} more</div>"] if total > shown else []


def _details(summary: str, lines: Sequence[str]) -> list[str]:
    return [
        f'<details style="margin: 2px 0 4px 1em"><summary>{_text(summary)}</summary>',
        *lines,
        "</details>",
    ]


def _table(header: str, rows: Sequence[str]) -> list[str]:
    head = [f"<thead><tr>{header}</tr></thead>"] if header else []
    return ['<table style="margin: 4px 0">', *head, "<tbody>", *rows, "</tbody>", "</table>"]


def _header(names: Sequence[str], table: Table) -> str:
    """Write names above columns that are as wide in the folded part of a table as in the other."""
    widths = _widths([list(names), *_cells(table)])
    cells = [_header_cell(name, width) for name, width in zip(names, widths, strict=True)]
    return "".join(cells)


def _header_cell(name: str, width: int = 0) -> str:
    size = f"; min-width: {width}ch" if width else ""
    return f'<th style="{_HEADER}{size}">{_text(name)}</th>'


def _text(text: str) -> str:
    return html.escape(text, quote=False)


def _row(cells: Sequence[str], header: str = "") -> str:
    return f"<tr>{header}{''.join([f'{_CELL}{cell}</td>' for cell in cells])}</tr>"
