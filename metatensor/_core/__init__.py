"""Compiled kernels: int32 tables, group numbers and buffers."""

import metatensor._guard  # noqa: F401
