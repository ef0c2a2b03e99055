"""Linear algebra over the properties: products, least squares and linear systems."""

from __future__ import annotations

__all__: list[str] = []
