"""Packages that a script inside the walls does not find, as if they were not installed.

They could be listed but not opened, and programs that do without an optional package expect an ImportError, not that.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType


class _Hider(MetaPathFinder):
    def __init__(self, hidden: Mapping[str, str]) -> None:
        self._hidden = hidden

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Refuse what is hidden; say nothing of anything else."""
        if path is None and name in self._hidden:
            place = self._hidden[name]
            raise ModuleNotFoundError(f"No module named {name!r}{advice(place)}", name=name)


def advice(place: str) -> str:
    """Return what a person must know whose program is refused a file or folder."""
    return f" (the sandbox denies reading {place}: list it under readable:)"


def hide(hidden: Mapping[str, str]) -> None:
    """Have imports of these packages fail, {name: where it lies}."""
    sys.meta_path.insert(0, _Hider(hidden))
