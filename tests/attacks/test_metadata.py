"""Changes modes, owners, times, extended attributes and flags outside, which Landlock alone does not stop."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch
from arena import PREPARE, Arena

CHANGES = """
import ctypes, fcntl
libc = ctypes.CDLL(None, use_errno=True)

def call(*arguments):
    if (got := libc.syscall(*arguments)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got

def by_descriptor(act, flags=os.O_RDONLY):
    fd = os.open(path, flags)
    try:
        return act(fd)
    finally:
        os.close(fd)

def through_link(act):
    os.symlink(path, "way")
    try:
        return act("way")
    finally:
        os.unlink("way")

def set_flags(fd):
    fcntl.ioctl(fd, 0x40086602, bytes([0x40, 0, 0, 0, 0, 0, 0, 0]))  # FS_IOC_SETFLAGS: no dump

path, mode, uid, gid = FACTS["path"], FACTS["mode"], FACTS["uid"], FACTS["gid"]
raw, at = os.fsencode(path), -100
attempt("chmod", lambda: os.chmod(path, mode))
attempt("fchmod", lambda: by_descriptor(lambda fd: os.fchmod(fd, mode)))
attempt("fchmodat", lambda: call(268, at, raw, mode))
attempt("fchmodat2", lambda: call(452, at, raw, mode, 0))
attempt("chmod through a link", lambda: through_link(lambda link: os.chmod(link, mode)))
attempt("chmod through /proc", lambda: by_descriptor(lambda fd: os.chmod(f"/proc/self/fd/{fd}", mode), os.O_PATH))
attempt("chown", lambda: os.chown(path, uid, gid))
attempt("lchown", lambda: os.lchown(path, uid, gid))
attempt("fchown", lambda: by_descriptor(lambda fd: os.fchown(fd, uid, gid)))
attempt("fchownat by descriptor", lambda: by_descriptor(lambda fd: call(260, fd, b"", uid, gid, 0x1000), os.O_PATH))
attempt("setxattr", lambda: os.setxattr(path, "user.evil", b"1"))
attempt("lsetxattr", lambda: os.setxattr(path, "trusted.evil", b"1", follow_symlinks=False))
attempt("fsetxattr", lambda: by_descriptor(lambda fd: os.setxattr(fd, "user.evil", b"1")))
attempt("removexattr", lambda: os.removexattr(path, "user.kept"))
attempt("utime", lambda: os.utime(path, (1, 1)))
attempt("utime now", lambda: os.utime(path))
attempt("futimens", lambda: by_descriptor(lambda fd: os.utime(fd, (1, 1))))
attempt("utimensat by descriptor", lambda: by_descriptor(lambda fd: call(280, fd, b"", None, 0x1000), os.O_PATH))
attempt("flags", lambda: by_descriptor(set_flags))
attempt("capability", lambda: os.setxattr(path, "security.capability", bytes(20)))
"""


@pytest.fixture
def kept(outside: Path) -> Path:
    path = outside / "secret"
    os.setxattr(path, "user.kept", b"1")
    return path


def state(path: Path) -> tuple[object, ...]:
    at = path.stat()
    names = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    flags = subprocess.run(["lsattr", "-d", path], capture_output=True, text=True, check=False).stdout
    return at.st_mode, at.st_uid, at.st_gid, at.st_mtime_ns, at.st_ctime_ns, names, flags


def test_a_file_of_the_user(walled: Arena, unwalled: Arena, kept: Path) -> None:
    before, at = state(kept), kept.stat()
    facts = {"path": kept, "mode": 0o755, "uid": at.st_uid, "gid": at.st_gid}
    seen = walled.attack(CHANGES, **facts)
    assert state(kept) == before
    seen.assert_trained_honestly()
    bites = unwalled.attack(CHANGES, **facts)
    assert {"chmod", "fchmodat2", "chown", "setxattr", "utime", "removexattr"} <= set(bites.done())
    assert state(kept) != before
    seen.assert_all_refused(*bites.outcomes)


READABLE = """
for path, mode, uid, gid in FACTS["files"]:
    attempt("chmod " + path, lambda: os.chmod(path, mode))
    attempt("chown " + path, lambda: os.chown(path, uid, gid))
"""


def test_files_that_it_may_read(walled: Arena) -> None:
    """Changed to what they are already, which moves nothing but the time of their last change."""
    paths = [Path(torch.__file__), Path(torch.__file__).parent, Path(os.__file__), walled.slot_folder / "library"]
    paths += [walled.slot_folder / "library/prepare.py", PREPARE, Path("/dev/null"), Path("/dev/urandom"), Path("/")]
    found = [(path, path.stat()) for path in paths]
    seen = walled.attack(READABLE, files=[(str(p), at.st_mode & 0o7777, at.st_uid, at.st_gid) for p, at in found])
    assert [path.stat().st_ctime_ns for path in paths] == [at.st_ctime_ns for _, at in found]
    seen.assert_all_refused("chmod /dev/null", "chown /dev/null", "chmod /")
    seen.assert_trained_honestly()


LOCKS = """
import fcntl, signal
for path in FACTS["paths"]:
    def lock():
        fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    attempt("lock " + path, lock)
    attempt("lease on " + path, lambda: fcntl.fcntl(os.open(path, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_WRLCK))
"""


def test_locks_on_what_we_open(walled: Arena, outside: Path) -> None:
    """A lock on a run's files would stop the driver; what is locked among readable files is nothing that we lock."""
    driver = outside / "driver.lock"
    driver.touch()
    seen = walled.attack(LOCKS, paths=[driver, walled.settings.data / "meta.json", walled.settings.data])
    seen.assert_all_refused(f"lock {driver}", f"lease on {driver}")
    seen.assert_trained_honestly()
