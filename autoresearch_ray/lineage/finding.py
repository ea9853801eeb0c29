"""Finds runs in a storage folder, by name or as the newest, and says which are live.

Does not own what is in them (query.py).
"""

from __future__ import annotations

import contextlib
import difflib
from pathlib import Path

from autoresearch_ray.errors import RunError
from autoresearch_ray.lineage import files, manifest
from autoresearch_ray.lineage.ids import listing


def runs(storage: Path) -> list[Path]:
    """Return the folders of the runs in a storage folder, the one written to last first."""
    if not storage.is_dir():
        return []
    return sorted((path for path in storage.iterdir() if manifest.exists(path)), key=last_written, reverse=True)


def last_written(folder: Path) -> float:
    """Return when a run was last written to, in seconds since the epoch."""
    written = []
    for path in (manifest.lineage_folder(folder) / "journal").glob("*"):
        with contextlib.suppress(FileNotFoundError):  # its driver has just begun another journal
            written.append(path.stat().st_mtime)
    return max(written, default=folder.stat().st_mtime)


def find_run(storage: Path, name: str | None = None) -> Path:
    """Return the folder of a run: by its name in the storage folder, by its path, or the newest.

    Raises:
        RunError: there is none (near names are offered), or the folder is not a run.
    """
    known = runs(storage)
    if name is None:
        if not known:
            raise RunError(f"there is no run in {storage}: start one with `autoresearch-ray run`, or name its folder.")
        return known[0]
    candidates = [storage / name, Path(name)]
    for candidate in candidates:
        if manifest.exists(candidate):
            return candidate
    for candidate in candidates:
        if candidate.exists():
            raise RunError(f"{candidate} is not a run: it has no lineage/manifest.json.")
    near = difflib.get_close_matches(name, [path.name for path in known], n=3, cutoff=0.5)
    offer = f"did you mean {' or '.join(near)}?" if near else f"there are {listing([path.name for path in known])}."
    raise RunError(f"there is no run {name!r} in {storage}: {offer}")


def is_live(folder: Path) -> bool:
    """Say whether a driver is writing the run now."""
    return files.is_locked(manifest.lineage_folder(folder) / "lock")
