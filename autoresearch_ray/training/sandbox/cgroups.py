"""Control groups, version 1 or 2: a limit on memory and on the number of processes that the kernel itself keeps.

Owns one group a slot, below or beside our own where we may make one. Does not own what is done at the limit.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_NAME = "autoresearch-"
_CONTROLLERS = ("memory", "pids", "cpuacct")


@dataclass(frozen=True, slots=True)
class Group:
    """The folders of one slot's group; on version 2 both are the same one."""

    memory: Path | None
    pids: Path | None
    time: Path | None
    """The file that counts CPU time, also that of processes nobody waited for."""
    unified: bool

    @property
    def folders(self) -> tuple[Path, ...]:
        """Each folder once."""
        time = None if self.time is None else self.time.parent
        return tuple(dict.fromkeys(folder for folder in (self.memory, self.pids, time) if folder is not None))

    @property
    def memory_limit(self) -> Path | None:
        """The file that holds the limit on memory, in bytes."""
        return self.memory and self.memory / ("memory.max" if self.unified else "memory.limit_in_bytes")

    @property
    def pids_limit(self) -> Path | None:
        """The file that holds the limit on processes."""
        return self.pids and self.pids / "pids.max"

    def join(self) -> None:
        """Move this process into the group (Raises OSError)."""
        for folder in self.folders:
            descriptor = os.open(f"{folder}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(descriptor, b"0")
            finally:
                os.close(descriptor)

    def kills(self) -> int:
        """Return how many processes were killed so far because the memory was used up."""
        if self.memory is None:
            return 0
        text = (self.memory / ("memory.events" if self.unified else "memory.oom_control")).read_text()
        counts = dict(line.split() for line in text.splitlines())
        return int(counts.get("oom_kill", 0))

    def remove(self) -> None:
        """Delete the group, if no process is left in it."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


def refusals(pids: Path) -> int:
    """Return how often a process or thread was not started so far because the group in that folder had enough."""
    counts = dict(line.split() for line in (pids / "pids.events").read_text().splitlines())
    return int(counts.get("max", 0))


def make(memory_bytes: int | None, processes: int) -> Group:
    """Make a group with limits, as far as this machine lets us: what it does not is None in the result."""
    places = _own()
    limits = {"memory": memory_bytes, "pids": processes, "cpuacct": None}
    if "" in places:
        return _make_unified(places[""], limits)
    folders: dict[str, Path | None] = dict.fromkeys(_CONTROLLERS)
    for controller, place in places.items():
        with contextlib.suppress(OSError):
            folders[controller] = _make_one(place, controller, limits[controller])
    time = folders["cpuacct"]
    return Group(folders["memory"], folders["pids"], None if time is None else time / "cpuacct.usage", unified=False)


def _make_one(place: Path, controller: str, limit: int | None) -> Path:
    """Make a group of version 1 for one controller (Raises OSError)."""
    _sweep(place)
    folder = place / f"{_NAME}{os.getpid()}"
    folder.mkdir(exist_ok=True)
    try:
        _set_limit(folder, controller, limit, version_2=False)
    except OSError:
        folder.rmdir()
        raise
    return folder


def _make_unified(place: Path, limits: Mapping[str, int | None]) -> Group:
    """Make a group of version 2, where one is for all controllers: below our own, or beside it if that gives more.

    A group with processes of its own, as ours, may not pass controllers on to groups below it, unless it is the root.
    """
    made: list[tuple[Path, set[str]]] = []
    for parent in (place, place.parent):
        _sweep(parent)
        folder = parent / f"{_NAME}{os.getpid()}"
        kept: set[str] = set()
        with contextlib.suppress(OSError):
            folder.mkdir(exist_ok=True)
            made.append((folder, kept))
        for controller, limit in limits.items() if folder.is_dir() else ():
            with contextlib.suppress(OSError):
                _set_limit(folder, controller, limit, version_2=True)
                kept.add(controller)
        if len(kept) == len(limits):
            break
    best, kept = max(made, key=lambda item: len(item[1]), default=(place, set()))
    for folder, _ in made:
        if folder != best:
            with contextlib.suppress(OSError):
                folder.rmdir()
    time = best / "cpu.stat" if made and (best / "cpu.stat").exists() else None
    held = {name: best if name in kept and limits[name] is not None else None for name in ("memory", "pids")}
    return Group(held["memory"], held["pids"], time, unified=True)


def cpu_seconds(time: Path) -> float:
    """Return the CPU seconds that the processes of a group have used, those that ended included."""
    text = time.read_text()
    if time.name == "cpuacct.usage":
        return int(text) / 1e9
    return int(dict(line.split() for line in text.splitlines())["usage_usec"]) / 1e6


def _set_limit(folder: Path, controller: str, limit: int | None, version_2: bool) -> None:
    if limit is None:
        return
    if controller == "pids":
        _write(folder / "pids.max", str(limit))
        return
    _write(folder / ("memory.max" if version_2 else "memory.limit_in_bytes"), str(limit))
    with contextlib.suppress(OSError):  # where there is no swap there is no such file
        if version_2:
            _write(folder / "memory.swap.max", "0")
        else:
            _write(folder / "memory.memsw.limit_in_bytes", str(limit))
    if version_2:
        with contextlib.suppress(OSError):
            _write(folder / "memory.oom.group", "1")


def _write(file: Path, text: str) -> None:
    """Write to a file that is there (Raises OSError)."""
    descriptor = os.open(file, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _own() -> dict[str, Path]:
    """Return our own folder of each controller; on version 2 it is named ""."""
    mounts: dict[str, Path] = {}
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            _, target, kind, options, *_ = line.split(" ")
            if kind == "cgroup2":
                mounts[""] = Path(target)
            elif kind == "cgroup":
                mounts |= {name: Path(target) for name in _CONTROLLERS if name in options.split(",")}
    found = {}
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            _, names, path = line.rstrip("\n").split(":", 2)
            for name in names.split(","):
                if name in mounts and name in ("", *_CONTROLLERS):
                    found[name] = mounts[name] / path.lstrip("/")
    if any(name in found for name in _CONTROLLERS):
        found.pop("", None)  # a mixed system: the controllers are where version 1 has them
    return found


def _sweep(parent: Path) -> None:
    """Delete the groups of processes that are gone."""
    for folder in parent.glob(f"{_NAME}*"):
        name = folder.name.removeprefix(_NAME)
        if name.isdigit() and not Path("/proc", name).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()
