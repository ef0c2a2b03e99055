"""Blocks and entries in the order of their Labels."""

from __future__ import annotations

__all__: list[str] = []
