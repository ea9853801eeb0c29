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
    def __init__(self, hidden: Mapping[str, str]) -> None:
        self._hidden = hidden

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Look for what is hidden in other places only; leave anything else to those who find it."""
        place = self._hidden.get(name) if path is None else None
        if place is None:
            return None
        folder = os.path.dirname(place)
        elsewhere = [entry for entry in sys.path if os.path.realpath(entry) != os.path.realpath(folder)]
        found = PathFinder.find_spec(name, elsewhere, target)
        if found is None:
            raise ModuleNotFoundError(f"No module named {name!r}{advice(place)}", name=name)
        return found


def advice(place: str) -> str:
    """Return what a person must know whose program is refused a file or folder."""
    return f" (the sandbox denies reading {place}: list it under readable:)"


def hide(hidden: Mapping[str, str]) -> None:
    """Have imports of these packages fail, {name: where it lies}."""
    sys.meta_path.insert(0, _Hider(hidden))
