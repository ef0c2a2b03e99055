"""A switch that code for the Rust-core package turns; checks are always done here."""

from __future__ import annotations

import os

__all__ = ["checks_enabled", "unsafe_disable_checks", "unsafe_enable_checks"]

_enabled = os.environ.get("METATENSOR_UNSAFE_DISABLE_CHECKS", "").lower() not in (
    "true",
    "1",
    "yes",
    "on",
)


def checks_enabled() -> bool:
    """Tell whether checks were asked for, as they are unless they were disabled.

    They are disabled at import if the environment variable ``METATENSOR_UNSAFE_DISABLE_CHECKS`` is
    "true", "1", "yes" or "on", in any case. This has no effect: all checks are always done.

    Returns
    -------
    bool

    Examples
    --------
    >>> import metatensor
    >>> metatensor.checks_enabled()
    True
    >>> with metatensor.unsafe_disable_checks():
    ...     metatensor.checks_enabled()
    False

    """
    return _enabled


def unsafe_disable_checks() -> _Switch:
    """Ask for no checks, from now on or inside a ``with`` block; see :func:`checks_enabled`.

    Returns
    -------
    context manager
        which restores the present state at its end

    Examples
    --------
    >>> import metatensor
    >>> with metatensor.unsafe_disable_checks() as switch:
    ...     print(switch)
    checks disabled

    """
    return _Switch(False)


def unsafe_enable_checks() -> _Switch:
    """Ask for checks, from now on or inside a ``with`` block; see :func:`checks_enabled`.

    Returns
    -------
    context manager
        which restores the present state at its end

    Examples
    --------
    >>> import metatensor
    >>> metatensor.unsafe_enable_checks()
    checks enabled

    """
    return _Switch(True)


class _Switch:
    """Sets the flag, and sets it back at the end of a ``with`` block."""

    def __init__(self, enabled: bool) -> None:
        global _enabled
        self._set, self._before = enabled, _enabled
        _enabled = enabled

    def __enter__(self) -> _Switch:
        return self

    def __exit__(self, *error: object) -> None:
        global _enabled
        _enabled = self._before

    def __repr__(self) -> str:
        return f"checks {'enabled' if self._set else 'disabled'}"
