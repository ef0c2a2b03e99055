"""Elementwise operations, whose gradients follow the chain rule."""

from __future__ import annotations

__all__: list[str] = []
