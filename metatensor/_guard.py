"""Refuse to run when another package shares the folder `metatensor`.

The Rust-core package of the same import name installs into this very folder, and replaces
`__init__.py`. So each public part of this package imports this module, not only `__init__.py`.
"""

from __future__ import annotations

import os
import sys

#: files of the other package's core, which this one has not
_FOREIGN = ("_c_api.py", "_c_lib.py", os.path.join("lib", "cmake"))


def other_package(folder: str, search_path: list[str]) -> str | None:
    """Return where the other package shows: a file in our folder, or its distribution beside us."""
    for name in _FOREIGN:
        if os.path.exists(path := os.path.join(folder, name)):
            return path
    for place in search_path:
        try:
            entries = os.listdir(place or ".")
        except OSError:
            continue
        for entry in entries:
            if entry.startswith("metatensor_core-") and entry.endswith((".dist-info", ".egg-info")):
                return os.path.join(place, entry)
    return None


def check() -> None:
    """Raise ImportError if the other package is installed here."""
    found = other_package(os.path.dirname(os.path.abspath(__file__)), sys.path)
    if found is not None:
        raise ImportError(
            "the packages metatensor-sklearn and metatensor-core share the folder `metatensor`, "
            f"and one has overwritten or hides the other (found {found!r}). Use separate "
            "environments: one with metatensor-sklearn, one with metatensor-core. To repair: "
            "`pip uninstall metatensor-core metatensor-sklearn`, then install the one you want"
        )


check()
