"""Products of two tensors over named axes."""

from __future__ import annotations

__all__: list[str] = []
