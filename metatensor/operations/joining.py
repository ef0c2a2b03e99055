"""Several tensors into one, along the samples or the properties."""

from __future__ import annotations

__all__: list[str] = []
