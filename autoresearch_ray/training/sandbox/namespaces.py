"""Namespaces that a slot's variants enter one after the other: own network, own IPC, and a view of the files in which
everything is read-only and what a variant must read is within its reach.

Owns the view and the scratch folder mounted into it. Does not own what may be read there (landlock.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoresearch_ray.training.sandbox import kernel

_FLAGS = {"user": 0x10000000, "ipc": 0x08000000, "net": 0x40000000, "mnt": 0x00020000}
_NOSUID, _NODEV, _BIND, _RECURSIVE = 2, 4, 4096, 16384
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_READ_ONLY, _PRIVATE = 1, 1 << 18
_SHARED_MEMORY = Path("/dev/shm")


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


@dataclass(frozen=True, slots=True)
class Pen:
    """Namespaces ready to be entered, as descriptors by kind; without `mnt` the files are seen as they are."""

    descriptors: dict[str, int]
    missing: dict[str, str] = field(default_factory=dict)
    """Why a kind is not there."""

    def enter(self) -> None:
        """Move this process, which has one thread, into all of them (Raises OSError)."""
        for kind, descriptor in self.descriptors.items():
            kernel.call("setns", descriptor, _FLAGS[kind])
        if "mnt" in self.descriptors:
            kernel.call("unshare", _FLAGS["mnt"])  # what is mounted from here on is this process's alone

    def drop_view(self) -> None:
        """Let variants see the files as they are: everything is read-only in the view, their scratch folder too."""
        if "mnt" in self.descriptors:
            os.close(self.descriptors.pop("mnt"))


def build(needed: Sequence[Path], uid: int | None) -> Pen:
    """Make the namespaces.

    Args:
        needed: what must be reachable: a folder that the variant's identity may not enter on the way to one of them is
            replaced by an empty one that leads there.
        uid: the identity of variants where this process is root; None where it is an ordinary user's.
    """
    ready, said = os.pipe()
    waits, released = os.pipe()
    helper = os.fork()
    if helper == 0:
        code = 1
        try:
            os.close(released)
            os.write(said, json.dumps(_prepare(needed, uid)).encode())
            os.close(said)
            os.read(waits, 1)
            code = 0
        finally:
            os._exit(code)
    for descriptor in (said, waits):
        os.close(descriptor)
    try:
        with open(ready, "rb") as answer:
            told = json.loads(answer.read() or b"{}")
        missing = {kind: told.get(kind, "the process that makes it died") for kind in _FLAGS}
        held = [kind for kind in _FLAGS if missing[kind] is None]
        opened = {kind: os.open(f"/proc/{helper}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in held}
    finally:
        os.close(released)
        os.waitpid(helper, 0)
    if uid is not None:
        missing.pop("user")
    return Pen(opened, {kind: why for kind, why in missing.items() if why is not None})


def mount_scratch(scratch: Path, size: int, files: int, uid: int | None) -> None:
    """Put an empty file system of bounded size at `scratch`, with what lies there now, and at /dev/shm too.

    Args:
        scratch: a folder.
        size: bytes that its files may take together, deleted ones that are still open included.
        files: how many there may be.
        uid: who is to own it, None for this process's user.

    Raises:
        OSError: it cannot be mounted, or what lies there does not fit.
    """
    before = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        owner = "" if uid is None else f",uid={uid},gid={uid}"
        _mount("tmpfs", scratch, "tmpfs", _NOSUID | _NODEV, f"size={size},nr_inodes={files},mode=755{owner}")
        work, memory = scratch / "work", scratch / "shm"
        for folder, mode in ((work, 0o700), (memory, 0o1777)):
            folder.mkdir()
            folder.chmod(mode)
        _own(work, uid)
        _copy(f"/proc/self/fd/{before}", work, uid)
        if _SHARED_MEMORY.is_dir():
            _mount(str(memory), _SHARED_MEMORY, None, _BIND, None)
        _mount(str(work), scratch, None, _BIND, None)
    finally:
        os.close(before)


def give(folder: Path, uid: int) -> None:
    """Make a user the owner of a folder and all that is in it; links are not followed."""
    _own(folder, uid)
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(root, name), uid, uid, follow_symlinks=False)


def blocked(needed: Iterable[Path], uid: int) -> dict[Path, list[Path]]:
    """Return the topmost folders that a user may not enter on the way to what is needed, and that."""
    found: dict[Path, list[Path]] = {}
    for path in needed:
        for ancestor in reversed(path.parents):
            status = ancestor.stat()
            if not status.st_mode & (stat.S_IXUSR if status.st_uid == uid else stat.S_IXOTH):
                found.setdefault(ancestor, []).append(path)
                break
    return found


def _prepare(needed: Sequence[Path], uid: int | None) -> dict[str, str | None]:
    """Make what can be made around this process; say of each kind why not, None where it was."""
    told: dict[str, str | None] = {}
    for kind, flag in _FLAGS.items():
        if kind == "user" and uid is not None:
            told[kind] = "not needed"
            continue
        try:
            outside = os.getuid(), os.getgid()
            kernel.call("unshare", flag)
            if kind == "user":
                _map(*outside)
            if kind == "mnt":
                _make_view(needed, uid)
            told[kind] = None
        except OSError as error:
            told[kind] = error.strerror or str(error)
            if kind == "user":  # without it none of the others can be had
                return dict.fromkeys(_FLAGS, told[kind])
    return told


def _map(uid: int, gid: int) -> None:
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _make_view(needed: Sequence[Path], uid: int | None) -> None:
    _set_attributes(Path("/"), propagation=_PRIVATE, recursive=True)
    if uid is not None:
        for folder, below in blocked(needed, uid).items():
            _replace(folder, below)
    _set_attributes(Path("/"), switch_on=_READ_ONLY, recursive=True)
    _set_attributes(Path("/proc"), switch_off=_READ_ONLY)  # CUDA names its threads there


def _replace(folder: Path, below: Iterable[Path]) -> None:
    """Mount an empty folder over one, and in it what is needed of the old one."""
    paths = [path for path in sorted(set(below)) if os.path.lexists(path)]
    outer = [path for path in paths if not any(other in path.parents for other in paths)]
    opened = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC), path.is_dir()) for path in outer]
    _mount("tmpfs", folder, "tmpfs", _NOSUID | _NODEV, "size=1m,mode=755")
    for path, descriptor, is_folder in opened:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        path.mkdir() if is_folder else path.touch()
        _mount(f"/proc/self/fd/{descriptor}", path, None, _BIND | _RECURSIVE, None)
        os.close(descriptor)


def _copy(source: str, target: Path, uid: int | None) -> None:
    """Copy what lies in a folder into an empty one, links as links."""
    for entry in os.scandir(source):
        place = target / entry.name
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), place)
        elif entry.is_dir():
            place.mkdir()
            _copy(entry.path, place, uid)
            shutil.copystat(entry.path, place)
        else:
            shutil.copy2(entry.path, place)
        _own(place, uid)


def _own(path: Path, uid: int | None) -> None:
    if uid is not None:
        with contextlib.suppress(FileNotFoundError):
            os.chown(path, uid, uid, follow_symlinks=False)


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str | None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, str(target), kind)]
    kernel.call("mount", *encoded, flags, None if options is None else options.encode())


def _set_attributes(
    path: Path, *, switch_on: int = 0, switch_off: int = 0, propagation: int = 0, recursive: bool = False
) -> None:
    wanted = _MountAttributes(switch_on, switch_off, propagation, 0)
    flags = _AT_RECURSIVE if recursive else 0
    kernel.call("mount_setattr", _AT_FDCWD, os.fsencode(path), flags, ctypes.byref(wanted), ctypes.sizeof(wanted))
