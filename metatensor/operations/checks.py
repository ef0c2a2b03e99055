"""The switch of checks, kept for existing code."""

from __future__ import annotations

__all__: list[str] = []
