"""Packages that a script inside the walls does not find, as if they were not installed.

They could be listed but not opened, and programs that do without an optional package expect an ImportError, not that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class _Hider(MetaPathFinder):
    """Takes the place of the finder that goes through `sys.path`."""

    def __init__(self, hidden: Mapping[str, str]) -> None:
        self._hidden = {name: os.path.realpath(os.path.dirname(place)) for name, place in hidden.items()}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Look for what is hidden in other places only, for anything else everywhere."""
        folder = self._hidden.get(name) if path is None else None
        if folder is not None:
            path = [entry for entry in sys.path if os.path.realpath(entry) != folder]
        return PathFinder.find_spec(name, path, target)

    @staticmethod
    def invalidate_caches() -> None:
        """Forget what the folders held."""
        PathFinder.invalidate_caches()


def hide(hidden: Mapping[str, str]) -> None:
    """Have imports of these packages fail, {name: where it lies}."""
    hider = _Hider(hidden)
    sys.meta_path[:] = [hider if finder is PathFinder else finder for finder in sys.meta_path]
