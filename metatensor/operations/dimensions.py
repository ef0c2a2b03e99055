"""Changes to the dimensions of keys, samples and properties."""

from __future__ import annotations

__all__: list[str] = []
