"""Compiled kernels: int32 tables, group numbers and buffers."""
