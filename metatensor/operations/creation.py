"""New blocks and maps: of constants, of arrays, of Labels."""

from __future__ import annotations

__all__: list[str] = []
