"""The run that the page shows, held in memory and read again when it has grown.

Owns when to look again. Does not own what is answered (details.py, points.py, progress.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from autoresearch_ray.explore import snapshot
from autoresearch_ray.lineage import finding, manifest
from autoresearch_ray.lineage.query import Lineage

_Value = TypeVar("_Value")

PATIENCE = 5.0
"""A run is read again at the earliest after so many times the seconds that reading it took."""

Stamp = tuple[tuple[str, int, int], ...]


class Board:
    """One run for many requests; safe for threads.

    Args:
        folder: the run's folder.
        refresh: brings a copy of a run that lies elsewhere up to date; does nothing for a run on this disk.
        pause: seconds between two refreshes.
    """

    def __init__(self, folder: Path, refresh: Callable[[], None] = lambda: None, pause: float = 0.0) -> None:
        self.folder = folder
        self.version = 0
        """Grows whenever the lineage was read again."""
        self._refresh = refresh
        self._pause = pause
        self._refreshed = time.monotonic()
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._kept: dict[str, object] = {}
        began = time.monotonic()
        self.lineage = Lineage.open(folder)
        self._ready_at = time.monotonic() + PATIENCE * (time.monotonic() - began)

    @property
    def live(self) -> bool:
        """Whether a driver is writing the run now."""
        return finding.is_live(self.folder)

    def look_again(self) -> bool:
        """Read the run again if it has grown and the last reading is not too recent; say whether it was."""
        with self._lock:
            if time.monotonic() - self._refreshed >= self._pause:
                self._refresh()
                self._refreshed = time.monotonic()
            stamp = self._look()
            if stamp == self._stamp or time.monotonic() < self._ready_at:
                return False
            began = time.monotonic()
            self.lineage = Lineage.open(self.folder)
            self._kept = {}
            self._stamp = stamp
            self.version += 1
            self._ready_at = time.monotonic() + PATIENCE * (time.monotonic() - began)
            return True

    def kept(self, name: str, make: Callable[[Lineage], _Value]) -> _Value:
        """Return what `make` makes of the lineage, made once for as long as the run does not grow."""
        with self._lock:
            if name not in self._kept:
                self._kept[name] = make(self.lineage)
            value: _Value = self._kept[name]  # type: ignore[assignment]
            return value

    def live_stamp(self) -> int:
        """Return when the driver last said what it does, in nanoseconds; 0 if it never did."""
        try:
            return (self.folder / snapshot.LIVE_FILE).stat().st_mtime_ns
        except OSError:
            return 0

    def _look(self) -> Stamp:
        lineage = manifest.lineage_folder(self.folder)
        found = []
        for path in (lineage / "manifest.json", *sorted((lineage / "journal").glob("*"))):
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((path.name, status.st_size, status.st_mtime_ns))
        return tuple(found)
