"""Looks at process trees and ends them. Standard library only: the launcher, which must not import more, uses it too.

Does not own whom to end, or when.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import sys
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

LINUX = sys.platform == "linux"
_LISTS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process has used so far."""

    parent: int
    born: float
    """Tells processes apart that had the same number one after the other."""
    own: float
    """CPU seconds of the process itself."""
    reaped: float
    """CPU seconds of its children that have ended and that it has waited for, and of theirs."""


def usage(pid: int) -> Usage | None:
    """Return what a process has used, or None when there is no such process."""
    if not LINUX:
        return _usage_elsewhere(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in parentheses, may hold anything; field 3 (the state) follows it.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    own, reaped = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return Usage(int(fields[1]), float(fields[19]), own / _TICKS, reaped / _TICKS)


def memory(pids: Iterable[int], enough: float = 0.0) -> int:
    """Return the bytes of memory that processes hold together.

    Args:
        pids: the processes; those that are gone hold nothing.
        enough: a sum of their resident sizes up to this is returned as it is. Beyond it, pages that several of them
            share are counted once (proportional set size), where the system says so, which takes longer.
    """
    pids = list(pids)
    resident = sum(map(_resident, pids))
    if resident <= enough or not LINUX:
        return resident
    return sum(map(_proportional, pids))


def descendants(root: int, spared: Collection[int] = ()) -> list[int]:
    """Return the processes below `root`, without the `spared` ones and what is below them; zombies are included."""
    found: list[int] = []
    ahead = children(root)
    while ahead:
        pid = ahead.pop()
        if pid not in spared:
            found.append(pid)
            ahead += children(pid)
    return found


def kill(pid: int, born: float | None = None) -> None:
    """Send SIGKILL, unless the process is gone; with `born`, unless its number has gone to another one."""
    if born is not None:
        now = usage(pid)
        if now is None or now.born != born:
            return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def end_descendants(spared: Collection[int], patience: float) -> dict[int, tuple[int, int]] | None:
    """Kill everything below this process but the `spared` children, until nothing is left.

    With `adopt_orphans` in force nothing gets away: whoever loses its parent becomes our child.

    Args:
        spared: children to leave alone.
        patience: seconds after which it is given up.

    Returns:
        What was waited for, as (wait status, peak resident bytes) by process; None when something would not die.
    """
    ended: dict[int, tuple[int, int]] = {}
    deadline = time.monotonic() + patience
    clean = 0
    while clean < 2:  # a list read while processes come and go may lack one
        left = descendants(os.getpid(), spared)
        clean = 0 if left else clean + 1
        for pid in left:
            kill(pid)
        ended |= reap(pid for pid in children(os.getpid()) if pid not in spared)
        if left:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.001)
    return ended


def reap(pids: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Wait for those of these children that have ended; return their (wait status, peak resident bytes) by process."""
    ended = {}
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            done, status, used = os.wait4(pid, os.WNOHANG)
            if done:
                ended[pid] = (status, used.ru_maxrss * (1024 if LINUX else 1))
    return ended


def adopt_orphans() -> bool:
    """Become the parent of every descendant that loses its own; False where the system has no such thing."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have this process killed when its parent ends, where the system can; exits if that has happened already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def gain_no_privileges() -> bool:
    """Make set-user-id programs without effect for this process and its children; False where that is not possible."""
    return _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def children(pid: int) -> list[int]:
    """Return the processes whose parent is `pid`, zombies included; none when there is no such process."""
    if not _LISTS_CHILDREN:
        return _children_elsewhere(pid)
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, NotADirectoryError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def _resident(pid: int) -> int:
    if not LINUX:
        return _resident_elsewhere(pid)
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except PermissionError:
        return _resident(pid)
    return 0


def _prctl(option: int, value: int) -> bool:
    return LINUX and bool(_libc().prctl(option, value, 0, 0, 0) == 0)


@functools.cache
def _libc() -> ctypes.CDLL:
    """Return the C library, opened once: each child of the launcher calls it five times."""
    return ctypes.CDLL(None)


def _usage_elsewhere(pid: int) -> Usage | None:
    import psutil

    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return Usage(process.ppid(), process.create_time(), times.user + times.system, 0.0)
    except psutil.Error:
        return None


def _resident_elsewhere(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _children_elsewhere(pid: int) -> list[int]:
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []
