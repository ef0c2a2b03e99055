"""Where displays draw: panels, and one thing for each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metatensor import _checks


def pyplot() -> Any:
    """Return `matplotlib.pyplot`, which is loaded when it is used."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "displays need matplotlib: `pip install metatensor-sklearn[plot]`"
        ) from error
    return plt


def axes(ax: Any, n_panels: int, size: tuple[float, float]) -> list[Any]:
    """Return the axes to draw in, those given or those of a new figure; sizes are in inches."""
    plt = pyplot()
    if ax is None:
        figsize = (n_panels * size[0], size[1])
        _, ax = plt.subplots(1, n_panels, figsize=figsize, layout="constrained", squeeze=False)
    given = list(np.ravel(ax))
    for axis in given:
        if not isinstance(axis, plt.Axes):
            raise TypeError(
                f"`ax` must be matplotlib Axes, one for each panel, got {_checks.kind(axis)}"
            )
    if len(given) != n_panels:
        raise ValueError(f"`ax` must have one entry for each panel, {n_panels}, got {len(given)}")
    return given


def named(things: Any, name: str = "") -> dict[str, Any]:
    """Return several things by name, or one under a name of its own."""
    found = dict(things) if isinstance(things, Mapping) else {name: things}
    if not found:
        raise ValueError("at least one thing to show is required, got an empty dict")
    return found


def per_panel(values: Sequence[Any] | None, default: Sequence[Any], name: str) -> list[Any]:
    """Return one value for each panel."""
    if values is None:
        return list(default)
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
        raise TypeError(
            f"`{name}` must be a list with one entry for each panel, {len(default)}, got {values!r}"
        )
    if len(values) != len(default):
        raise ValueError(
            f"`{name}` must have one entry for each panel, {len(default)}, got {len(values)}"
        )
    return list(values)
