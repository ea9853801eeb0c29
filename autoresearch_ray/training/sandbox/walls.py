"""All walls of one slot together: made once in the launcher, put around each child in the one order that works.

Owns which walls stand on this machine, and what stands in for one that does not. Does not own proof (probe.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from autoresearch_ray.training import processes
from autoresearch_ray.training.sandbox import cgroups, identity, imports, kernel, landlock, namespaces, seccomp
from autoresearch_ray.training.sandbox.landlock import Right

USES_OF_A_RULESET = 64
"""Children that add their own folder to one set of rules before a new one is made: making it takes a millisecond, and
what is added of children that are gone names nothing any more."""
WALLS = ("group", "limits", "namespaces", "scratch", "identity", "landlock", "seccomp")
"""In the order in which they are put up."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the trusted side wants of a slot's walls; plain values, to be sent to the launcher."""

    required: bool
    folder: str
    """The slot's own, where scratch folders are made."""
    read: tuple[str, ...]
    listed: tuple[str, ...]
    used: tuple[str, ...]
    hidden: Mapping[str, str]
    """Packages that a script does not find, with where they lie."""
    cuda: bool
    gpu_fraction: float
    """Of a GPU's memory, which torch is told not to exceed."""
    memory_bytes: int | None
    processes: int
    open_files: int
    scratch_bytes: int
    scratch_files: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Plan:
        """Return what `to_json` wrote."""
        lists = {name: tuple(values[name]) for name in ("read", "listed", "used")}
        return Plan(**{**values, **lists})


@dataclass(slots=True)
class Walls:
    """The walls of one slot. `missing` says which do not stand, and why."""

    plan: Plan
    hider: imports.Hider
    """Keeps a script from finding the packages that it may not read."""
    missing: dict[str, str] = field(default_factory=dict)
    uid: int | None = None
    """Of variants, when it is not ours."""
    searching: bool = False
    """Variants keep the capability to enter folders of others."""
    group: cgroups.Group | None = None
    _claim: identity.Claim | None = None
    _pen: namespaces.Pen | None = None
    _paths: list[tuple[str, Right]] = field(default_factory=list)
    _spoken: int = 0
    _ruleset: landlock.Ruleset | None = None
    _uses: int = 0
    _filter: bytes | None = None

    def lacks(self, wall: str) -> bool:
        """Return whether a wall does not stand."""
        return wall in self.missing

    def kills(self) -> int:
        """Return how many processes the kernel has killed so far because the memory of the group was used up."""
        return 0 if self.group is None or self.lacks("group") else self.group.kills()

    def close(self) -> None:
        """Give back what the slot holds."""
        if self.group is not None:
            self.group.remove()

    def prepare(self) -> None:
        """Make ready for the next child, in the launcher."""
        if self.lacks("landlock"):
            return
        if self._ruleset is None or self._uses >= USES_OF_A_RULESET:
            if self._ruleset is not None:
                self._ruleset.close()
            self._ruleset, self._uses = landlock.Ruleset(self._opened(), self._spoken), 0
        self._uses += 1

    def _opened(self) -> Iterator[tuple[int, Right]]:
        """Yield a descriptor of each path that may be used, open until the next one is asked for."""
        for path, right in self._paths:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
                try:
                    yield descriptor, right
                finally:
                    os.close(descriptor)

    def enter(self, scratch: Path, failed: dict[str, str] | None = None) -> None:
        """Put the walls around this process, a fresh child with one thread.

        Args:
            scratch: its folder.
            failed: takes the walls that cannot be put up, with the reason; None raises instead.

        Raises:
            OSError: a wall that stood when the slot started cannot be put up now.
        """
        steps: dict[str, Callable[[Path], None]] = {
            "group": self._join_group,
            "limits": self._limit,
            "namespaces": self._enter_namespaces,
            "scratch": self._mount_scratch,
            "identity": self._change_identity,
            "landlock": self._restrict,
            "seccomp": self._filter_calls,
        }
        for wall in WALLS:
            if self.lacks(wall):
                if wall == "identity":
                    with contextlib.suppress(OSError):
                        identity.give_up_capabilities()
                continue
            try:
                steps[wall](scratch)
            except OSError as error:
                if failed is None:
                    raise
                failed[wall] = error.strerror or str(error)
        processes.gain_no_privileges()

    def _join_group(self, _: Path) -> None:
        assert self.group is not None
        self.group.join()

    def _limit(self, _: Path) -> None:
        plan = self.plan
        wanted = {resource.RLIMIT_CORE: 0}
        if self.lacks("scratch"):
            wanted[resource.RLIMIT_FSIZE] = plan.scratch_bytes
        if self.uid is not None or not self.lacks("namespaces"):
            wanted[resource.RLIMIT_NPROC] = plan.processes  # counts those of a user, and within a user namespace
        if self.watched_memory and not plan.cuda and plan.memory_bytes is not None:
            wanted[resource.RLIMIT_DATA] = plan.memory_bytes
        for kind, limit in wanted.items():
            _lower(kind, limit)

    def settle(self) -> None:
        """Limit the open files of this process; once it stands inside, and has closed what is not its own."""
        if not self.lacks("limits"):
            _lower(resource.RLIMIT_NOFILE, self.plan.open_files)

    @property
    def watched_memory(self) -> bool:
        """Whether no control group limits the memory, so that it must be watched."""
        return self.group is None or self.group.memory is None or self.lacks("group")

    @property
    def counts_time(self) -> bool:
        """Whether a control group counts the CPU time, also that of processes nobody waited for."""
        return self.group is not None and self.group.time is not None and not self.lacks("group")

    def _enter_namespaces(self, _: Path) -> None:
        assert self._pen is not None
        self._pen.enter()

    def _mount_scratch(self, scratch: Path) -> None:
        namespaces.mount_scratch(scratch, self.plan.scratch_bytes, self.plan.scratch_files, self.uid)

    def _change_identity(self, scratch: Path) -> None:
        if self.uid is None:
            identity.give_up_capabilities()
            return
        if self.lacks("scratch"):
            namespaces.give(scratch, self.uid)
        identity.fall(self.uid, searching=self.searching)

    def _restrict(self, scratch: Path) -> None:
        processes.gain_no_privileges()
        assert self._ruleset is not None
        own = [(scratch, landlock.OWN), (Path("/proc/self"), landlock.READ | Right.WRITE_FILE | Right.TRUNCATE)]
        if not self.lacks("scratch"):
            own.append((Path("/dev/shm"), landlock.OWN))
        for path, right in own:
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
                self._ruleset.allow(descriptor, right)
                os.close(descriptor)
        self._ruleset.restrict()

    def _filter_calls(self, _: Path) -> None:
        processes.gain_no_privileges()
        assert self._filter is not None
        seccomp.install(self._filter)


def _lower(kind: int, limit: int) -> None:
    most = resource.getrlimit(kind)[1]
    limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
    resource.setrlimit(kind, (limit, limit))


def build(plan: Plan) -> Walls:
    """Make the walls that this machine can have; what a first child cannot put up is left out.

    Where one is missing its place is taken as far as possible: without mounts the filter refuses every change of modes,
    owners, attributes and times; without a memory group it refuses memory that no process maps.
    """
    walls = Walls(plan, imports.Hider(plan.hidden))
    _claim(walls)
    _pen(walls)
    _group(walls)
    _list_paths(walls)
    for _ in WALLS:
        _choose_filter(walls)
        failed = _try(walls)
        if not failed:
            break
        walls.missing |= failed
        if failed.keys() & {"namespaces", "scratch"}:
            _drop_view(walls, "; ".join(failed.values()))
    return walls


def _claim(walls: Walls) -> None:
    if os.geteuid() != 0:
        return
    try:
        walls._claim = identity.claim()
        walls.uid = walls._claim.uid
    except OSError as error:
        walls.missing["identity"] = error.strerror or str(error)


def _pen(walls: Walls) -> None:
    walls._pen = namespaces.build(_needed(walls.plan), walls.uid)
    if not walls._pen.descriptors:
        walls.missing["namespaces"] = "; ".join(dict.fromkeys(walls._pen.missing.values()))
    if "mnt" not in walls._pen.descriptors:
        _drop_view(walls, walls._pen.missing["mnt"])


def _drop_view(walls: Walls, why: str) -> None:
    """Do without a view of the files of its own, and without the scratch folder that is mounted into it."""
    assert walls._pen is not None
    walls._pen.drop_view()
    walls.missing.setdefault("scratch", why)
    walls.searching = walls.uid is not None and bool(namespaces.blocked(_needed(walls.plan), walls.uid))


def _needed(plan: Plan) -> list[Path]:
    paths = {Path(path) for path in (plan.folder, *plan.read, *plan.listed)}
    return sorted(paths | {path.resolve() for path in paths})


def _group(walls: Walls) -> None:
    with contextlib.suppress(OSError):
        walls.group = cgroups.make(walls.plan.memory_bytes, walls.plan.processes)
    if walls.group is None or not walls.group.folders:
        walls.missing["group"] = "no control group can be made here"


def _list_paths(walls: Walls) -> None:
    walls._spoken = landlock.version()
    if not walls._spoken:
        walls.missing["landlock"] = "this kernel has no Landlock, or it is switched off"
        return
    plan = walls.plan
    walls._paths += [(path, landlock.READ) for path in (*plan.read, f"{plan.folder}/library")]
    walls._paths += [(path, landlock.LIST) for path in plan.listed]
    walls._paths += [(path, landlock.USE | Right.IOCTL_DEV) for path in plan.used]


def _choose_filter(walls: Walls) -> None:
    refused = seccomp.rules(
        sockets=walls.plan.cuda,
        metadata=not walls.lacks("scratch"),
        memfd=walls.plan.cuda or not walls.watched_memory,
        reaping=walls.plan.cuda or walls.counts_time,
    )
    walls._filter = seccomp.assemble(refused)
    if walls._filter is None:
        walls.missing["seccomp"] = f"the system calls of {kernel.MACHINE} are not known"


def _try(walls: Walls) -> dict[str, str]:
    """Put the walls around a child that does nothing else; return those that fail."""
    scratch = Path(walls.plan.folder) / "trial"
    scratch.mkdir(exist_ok=True)
    walls.prepare()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        failed: dict[str, str] = {"seccomp": "the child that tried the walls died"}
        try:
            mine: dict[str, str] = {}
            walls.enter(scratch, mine)
            failed = mine
        finally:
            os.write(write, json.dumps(failed).encode())
            os._exit(0)
    os.close(write)
    with open(read, "rb") as answer:
        told = answer.read()
    os.waitpid(child, 0)
    scratch.rmdir()
    return dict(json.loads(told)) if told else {"seccomp": "the child that tried the walls was killed"}
