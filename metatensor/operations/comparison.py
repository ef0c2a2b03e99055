"""Whether two tensors are the same, and in what they differ."""

from __future__ import annotations

__all__: list[str] = []
