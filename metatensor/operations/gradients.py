"""Gradients removed; autograd of array libraries."""

from __future__ import annotations

__all__: list[str] = []
