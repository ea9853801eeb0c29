"""The directory that is evolved: its small files, taken once when a run starts and written anew for each experiment.

Owns what is copied and what stays where it is. Does not own what runs in the copy (reported.py).
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from autoresearch_ray.errors import DataError

LARGEST_SNAPSHOT = 16 * 2**20
"""Bytes of all files together: they are sent to every node and written for every experiment."""
MOST_FILES = 2000
_SKIPPED = "__pycache__"


@dataclass(frozen=True, slots=True)
class File:
    """A file, by its path inside the directory."""

    path: str
    mode: int
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What an experiment finds in its copy of the directory, the evolved file apart."""

    files: tuple[File, ...] = field(repr=False, compare=False)
    links: tuple[tuple[str, str], ...]
    """(path inside the directory, target)."""
    digest: str
    """SHA-256 over all of it."""

    def write(self, folder: Path) -> None:
        """Write everything into an empty folder."""
        made = {folder}
        for path in (*(file.path for file in self.files), *(link for link, _ in self.links)):
            parent = (folder / path).parent
            if parent not in made:
                parent.mkdir(parents=True, exist_ok=True)
                made.add(parent)
        for file in self.files:
            descriptor = os.open(folder / file.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode)
            with open(descriptor, "wb", buffering=0) as opened:
                opened.write(file.content)
        for link, target in self.links:
            os.symlink(target, folder / link)


def take(directory: Path, evolved: str, readable: Sequence[Path] = (), excluded: Sequence[Path] = ()) -> Snapshot:
    """Read a directory.

    Folders whose name begins with a dot (`.git`, `.venv`) and `__pycache__` are left out. A link stays a link; one
    that leads out of the directory leads to the same place from the copy.

    Args:
        directory: what is evolved.
        evolved: the file that every variant has its own text of, relative to the directory; it is left out.
        readable: files and folders that stay where they are; for those inside the directory a link takes their place.
        excluded: folders that are left out, wherever they are.

    Raises:
        DataError: the files are too large or too many, or one cannot be read.
    """
    root, own = directory.resolve(), PurePosixPath(evolved).as_posix()
    kept = {path.resolve() for path in readable}
    links = [(str(path.relative_to(root)), str(path)) for path in sorted(kept) if root in path.parents]
    files = []
    passed = kept | {path.resolve() for path in excluded}
    try:
        for path in _walk(root, passed):
            name = path.relative_to(root).as_posix()
            if name == own:
                continue
            if path.is_symlink():
                links.append((name, _target(path, root)))
            elif stat.S_ISREG(path.stat().st_mode):
                files.append(path)
        _check(root, files)
        read = tuple(
            File(p.relative_to(root).as_posix(), stat.S_IMODE(p.stat().st_mode), p.read_bytes()) for p in files
        )
    except OSError as error:
        raise DataError(f"{error.filename or directory}: cannot be read ({error.strerror}).") from error
    return Snapshot(read, tuple(links), _digest(read, links))


def _walk(folder: Path, passed: set[Path]) -> Iterator[Path]:
    """Yield files and links below a folder in a fixed order."""
    for path in sorted(folder.iterdir()):
        if path in passed:
            continue
        if path.is_symlink() or not path.is_dir():
            yield path
        elif not path.name.startswith(".") and path.name != _SKIPPED:
            yield from _walk(path, passed)


def _target(link: Path, root: Path) -> str:
    """Return where the copy of a link leads: a relative one inside the directory stays as it is."""
    text, target = os.readlink(link), os.path.realpath(link)
    return text if root in Path(target).parents and not os.path.isabs(text) else target


def _check(root: Path, files: Sequence[Path]) -> None:
    sizes = {path: path.stat().st_size for path in files}
    total = sum(sizes.values())
    if total > LARGEST_SNAPSHOT or len(files) > MOST_FILES:
        largest = max(files, key=lambda path: sizes[path])
        raise DataError(
            f"{root} holds {len(files)} files of {total / 2**20:.1f} MB, which would be copied for every experiment; "
            f"at most {MOST_FILES} of {LARGEST_SNAPSHOT // 2**20} MB are. The largest is {largest.relative_to(root)} "
            f"({sizes[largest] / 2**20:.1f} MB): list under `readable` what is only read, and it stays where it is."
        )


def _digest(files: Sequence[File], links: Sequence[tuple[str, str]]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.path}\0{file.mode:o}\0{len(file.content)}\0".encode(errors="surrogateescape"))
        digest.update(file.content)
    for link, target in links:
        digest.update(f"{link}\0{target}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()
