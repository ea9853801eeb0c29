"""The training clock: what an experiment has used of its budget, as seen from outside its processes.

Owns how seconds are counted. Does not own the limits (limits.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from autoresearch_ray.training import processes
from autoresearch_ray.training.processes import Usage

SAMPLE_SECONDS = 0.02
"""A reading younger than this is good enough; the system counts in hundredths of a second anyway."""
LISTING_SECONDS = 0.25
"""How often new processes are looked for. One that starts, ends and is never waited for in between is not counted;
the wall-clock limit bounds what can be gained by that."""


class Clock(Protocol):
    """Counts from `start` on."""

    def start(self) -> None:
        """Begin to count."""

    def seconds(self) -> float:
        """Return the seconds counted so far; 0.0 before the start. Never goes back."""
        ...


class GpuClock:
    """Wall-clock seconds times the share of the GPU that the experiment has: exclusive-equivalent seconds."""

    def __init__(self, share: float = 1.0, now: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._now = now
        self._started: float | None = None

    def start(self) -> None:
        """Begin to count."""
        self._started = self._now()

    def seconds(self) -> float:
        """Return the seconds counted so far."""
        return 0.0 if self._started is None else (self._now() - self._started) * self._share


class GroupClock:
    """CPU seconds of a control group divided by the threads that it may use: nothing in it can hide from the kernel."""

    def __init__(self, used: Callable[[], float], threads: int) -> None:
        """Take what reads the group's CPU seconds so far."""
        self._used = used
        self._threads = threads
        self._start: float | None = None

    def start(self) -> None:
        """Begin to count; what was used before does not count."""
        self._start = self._used()

    def seconds(self) -> float:
        """Return the seconds counted so far."""
        return 0.0 if self._start is None else (self._used() - self._start) / self._threads


class CpuClock:
    """CPU seconds of a process tree divided by the threads that it may use."""

    def __init__(self, tree: ProcessTree, threads: int, now: Callable[[], float] = time.monotonic) -> None:
        self._tree = tree
        self._threads = threads
        self._now = now
        self._read = float("-inf")
        self._start: float | None = None

    def start(self) -> None:
        """Begin to count; what the processes have used before does not count."""
        self._tree.look()
        self._start = self._tree.cpu_seconds

    def seconds(self) -> float:
        """Return the seconds counted so far; looks at the processes if the last look is too old."""
        if self._start is None:
            return 0.0
        if self._now() - self._read >= SAMPLE_SECONDS:
            self._tree.look(known_only=self._now() - self._tree.listed < LISTING_SECONDS)
            self._read = self._now()
        return (self._tree.cpu_seconds - self._start) / self._threads


class ProcessTree:
    """Everything below the launcher but the scorer: keeps count of CPU seconds, and remembers who was there."""

    def __init__(self, root: int, spared: int, now: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._spared = spared
        self._now = now
        first = processes.usage(root)
        self._usages: dict[int, Usage] = {} if first is None else {root: first}
        self.cpu_seconds = 0.0
        self.listed = float("-inf")
        """When the processes were listed last, by `now`."""

    def look(self, known_only: bool = False) -> None:
        """Read what the processes have used; with `known_only`, without looking for new ones."""
        if known_only:
            pids = list(self._usages)
        else:
            pids = [self._root, *processes.descendants(self._root, (self._spared,))]
            self.listed = self._now()
        usages = {pid: used for pid in pids if (used := processes.usage(pid)) is not None}
        self.cpu_seconds += spent(self._usages, usages, self._root)
        self._usages = usages

    def members(self) -> dict[int, float]:
        """Return the processes seen last without the root, as time of birth by number."""
        return {pid: used.born for pid, used in self._usages.items() if pid != self._root}


def spent(before: Mapping[int, Usage], after: Mapping[int, Usage], root: int) -> float:
    """Return the CPU seconds that a process tree has used between two looks at it.

    A process that has ended turns up in what its parent has reaped; what was counted of it while it lived is not
    counted again. A parent that does not wait for its children hides only what they used since the last look.

    Args:
        before: what was seen first, by process; holds `root`.
        after: what was seen next.
        root: the process at the top, whose own CPU seconds do not count.
    """
    same = {pid for pid, used in after.items() if pid in before and before[pid].born == used.born}
    counted: dict[int, float] = dict.fromkeys(same, 0.0)
    for pid, used in before.items():
        if pid not in same:
            heir = used.parent
            while heir not in same and heir in before and heir != root:
                heir = before[heir].parent
            if heir in same:
                counted[heir] += used.own + used.reaped
    total = 0.0
    for pid, used in after.items():
        if pid not in same:
            total += used.own + used.reaped
            continue
        total += max(0.0, used.reaped - before[pid].reaped - counted[pid])
        if pid != root:
            total += max(0.0, used.own - before[pid].own)
    return total
