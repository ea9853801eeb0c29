"""Another identity for a variant: an unused user id that a slot claims as long as it lives, and the fall to it.

Root only; an ordinary user has namespaces.py. Does not own what that identity may read (landlock.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import pwd
import signal
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from autoresearch_ray.training.sandbox import kernel

FIRST, COUNT = 61_184, 4096
"""User ids to choose from: systemd gives the same ones to services that live as long as they run, others give none."""
_CAPABILITIES_VERSION = 0x20080522
_READ_SEARCH = 2  # CAP_DAC_READ_SEARCH
_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _CLEAR_ALL = 4, 8, 24, 47, 4
_LAST_CAPABILITY = 63


@dataclass(frozen=True, slots=True)
class Claim:
    """A user id, and group id of the same number, that nobody else on this machine has while the claim stands."""

    uid: int
    lock: int
    """Descriptor of the lock; closing it, or the end of the process, gives the claim back."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def claim() -> Claim:
    """Claim a user id that no account, no process and no other slot has.

    Raises:
        OSError: none is free, or this process cannot become another user.
    """
    if os.geteuid() != 0:
        raise OSError(errno.EPERM, "only root can become another user")
    folder = _folder()
    taken = _running()
    for uid in range(FIRST, FIRST + COUNT):
        if uid in taken or not _mapped(uid) or _has_account(uid):
            continue
        lock = os.open(folder / str(uid), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Claim(uid, lock)
        except BlockingIOError:
            os.close(lock)
    raise OSError(errno.EUSERS, "no user id is free")


def fall(uid: int, *, searching: bool) -> None:
    """Become that user and group, in no other group and without capabilities, for good.

    Args:
        uid: the user and group id.
        searching: keep the one capability to enter folders and read files whoever owns them; for an interpreter that
            lies in root's home where no mount can make a way to it.

    Raises:
        OSError: this process cannot.
    """
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    if searching:
        kernel.prctl(_PR_SET_KEEPCAPS, 1)
    _bound(searching)
    os.setresuid(uid, uid, uid)
    _keep_capabilities(1 << _READ_SEARCH if searching else 0)
    kernel.prctl(_PR_SET_DUMPABLE, 1)  # what lies in /proc/self would be root's


def end_all(uid: int) -> None:
    """Kill every process of a user that this process has claimed, in one stroke: none can start another in between."""
    helper = os.fork()
    if helper == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(helper, 0)


def give_up_capabilities() -> None:
    """Lose all capabilities, also those that a program run later would get (Raises OSError)."""
    _bound(False)
    _keep_capabilities(0)
    kernel.prctl(_PR_SET_DUMPABLE, 1)


def _keep_capabilities(kept: int) -> None:
    """Have only these capabilities, as bits, effective and permitted (Raises OSError)."""
    header = _Header(_CAPABILITIES_VERSION, 0)
    low = _Capabilities(kept, kept, 0)
    both = (_Capabilities * 2)(low, _Capabilities(0, 0, 0))
    kernel.call("capset", ctypes.byref(header), ctypes.byref(both))


def _bound(searching: bool) -> None:
    with contextlib.suppress(OSError):
        kernel.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)
    for capability in range(_LAST_CAPABILITY):
        if searching and capability == _READ_SEARCH:
            continue
        try:
            kernel.prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM):
                raise
            return  # beyond the last one that this kernel knows, or none to lose: then none can be gained either


def _folder() -> Path:
    """Return the folder of the locks, which is root's alone."""
    run = Path("/run") if os.access("/run", os.W_OK) else Path(tempfile.gettempdir())
    folder = run / "autoresearch-ray-identities"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o077:
        raise OSError(errno.EPERM, f"{folder} is not root's own folder")
    return folder


def _running() -> set[int]:
    """Return the user ids of all processes."""
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found.add(entry.stat().st_uid)
    return found


def _mapped(uid: int) -> bool:
    """Return whether that user exists where we run, which may be a container's user namespace."""
    with open("/proc/self/uid_map", encoding="ascii") as lines:
        spans = [[int(word) for word in line.split()] for line in lines]
    return any(first <= uid < first + count for first, _, count in spans)


def _has_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
