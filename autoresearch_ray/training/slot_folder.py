"""The folder of one slot: made with a lock that its owners hold, so that those of killed runs are known and deleted."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "autoresearch-slot-"
YOUNG_SECONDS = 60.0
"""A folder is left alone for so long after it was made: its owner may be about to lock it."""


@dataclass(frozen=True, slots=True)
class SlotFolder:
    """A folder, and the lock on it."""

    path: Path
    lock: int
    """A descriptor of the folder; the lock is held while any process has it open."""


def make(parent: Path | None) -> SlotFolder:
    """Make a folder for one slot, and delete those of slots whose processes are gone.

    Args:
        parent: where it is made; None is the system's folder for temporary files.
    """
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)).resolve()
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    path.chmod(0o711)  # variants may have another identity, and their folders in it
    sweep(path.parent)
    return SlotFolder(path, lock)


def sweep(parent: Path) -> None:
    """Delete the folders of slots that nobody owns any more."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            made = folder.lstat()
            if time.time() - made.st_mtime < YOUNG_SECONDS or made.st_uid != os.geteuid():
                continue
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(folder)
            finally:
                os.close(descriptor)


def remove(folder: Path) -> None:
    """Delete a folder and what a variant made in it, however it is nested or protected. Follows no links."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:
        subprocess.run(["rm", "-rf", "--", str(folder)], stderr=subprocess.DEVNULL, check=False)
    if os.path.lexists(folder):
        subprocess.run(["chmod", "-R", "u+rwX", "--", str(folder)], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["rm", "-rf", "--", str(folder)], stderr=subprocess.DEVNULL, check=False)
