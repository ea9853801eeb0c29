"""The few file operations a lineage is built from: durable writes, atomic replacement, one driver a folder.

Everything that knows it is on a local disk is here; does not own what the files mean.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from autoresearch_ray.errors import RunError, StorageError

TEMPORARY = ".tmp"
"""Suffix of a file that is being written; whatever has it was left by a kill."""


@contextlib.contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Turn an OSError while writing (disk full, no permission, gone) into a sentence.

    Raises:
        StorageError: in the place of OSError.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{folder}: the lineage cannot be written ({error.strerror or error}); nothing recorded so far is lost: "
            "mend that and resume the run."
        ) from error


def sync_folder(folder: Path) -> None:
    """Make the folder's names durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a closed file's content durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary(path: Path) -> Path:
    """Return the name under which `path` is written before `publish`."""
    return path.with_name(path.name + TEMPORARY)


def publish(path: Path) -> None:
    """Make what was written to `temporary(path)` durable, then give it its name at one stroke."""
    sync_file(temporary(path))
    os.replace(temporary(path), path)
    sync_folder(path.parent)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file so that a reader, or a kill, meets either the old content or the new."""
    temporary(path).write_bytes(data)
    publish(path)


def remove(path: Path) -> None:
    """Delete a file; it is fine if it has gone already."""
    path.unlink(missing_ok=True)


def lock(path: Path) -> IO[str]:
    """Take the lock of a run for as long as the returned file is open; the kernel releases it at any kind of death.

    Raises:
        RunError: another process holds it.
    """
    handle = path.open("a+", encoding="utf-8")
    if not _try_lock(handle):
        handle.seek(0)
        holder = handle.read(64).strip() or "unknown"
        handle.close()
        raise RunError(
            f"{path.parent.parent} is being written by another driver (process {holder}): wait for it or stop it first."
        )
    handle.truncate(0)
    handle.write(f"{os.getpid()}\n")
    handle.flush()
    return handle


def is_locked(path: Path) -> bool:
    """Say whether a living process holds the lock."""
    try:
        with path.open(encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _try_lock(handle: IO[str]) -> bool:
    """Try for a moment, because `is_locked` holds the lock for an instant too."""
    deadline = time.monotonic() + 0.2
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
