"""Parts of blocks and maps: slices, splits, chosen blocks."""

from __future__ import annotations

__all__: list[str] = []
