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


class Hider(MetaPathFinder):
    """Takes the place of the finder that goes through `sys.path`."""

    def __init__(self, hidden: Mapping[str, str]) -> None:
        """Hide these packages, {name: where it lies}."""
        folders = {place: os.path.dirname(place) for place in hidden.values()}
        real = {folder: os.path.realpath(folder) for folder in set(folders.values())}
        self._hidden = {name: real[folders[place]] for name, place in hidden.items()}

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

    def install(self) -> None:
        """Have imports of these packages fail in this process."""
        sys.meta_path[:] = [self if finder is PathFinder else finder for finder in sys.meta_path]
