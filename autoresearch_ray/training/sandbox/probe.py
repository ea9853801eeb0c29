"""Has a child try to break each promise from inside the walls, and says what got through.

Runs in the launcher before it imports anything. Does not own the walls (walls.py) or what is tried (acts.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from autoresearch_ray.training import processes
from autoresearch_ray.training.sandbox import acts
from autoresearch_ray.training.sandbox.acts import Surroundings
from autoresearch_ray.training.sandbox.walls import Walls

SMALL_MEMORY = 64 << 20
SMALL_COUNT = 8
"""What memory and processes are limited to while the limit itself is tried."""
PATIENCE = 10.0
_ANSWER = 3
"""The descriptor that a child writes to."""

Found = dict[str, list[str]]
"""What got through, by promise; what held is not there."""


Settle = Callable[[dict[int, int]], None]
"""Leaves a process with the descriptors that it is meant to have, {number wanted: number now}."""


def probe(walls: Walls, environment: Sequence[str], settle: Settle) -> Found:
    """Try everything.

    Args:
        walls: what is tried.
        environment: the names of the variables that may be seen.
        settle: as the launcher does it for a variant.
    """
    folder = Path(walls.plan.folder) / "probe"
    prober = _Prober(walls, folder, settle)
    with _surroundings(folder, tuple(walls.plan.hidden.values())) as around:
        prober.spared = (around.neighbour,)
        prober.inside(lambda: _try_acts(walls, around, environment))
        for promise, what in acts.seen_outside(folder / "open"):
            prober.note({promise: [what]})
    prober.spared = ()
    with _lowered(walls.group.memory_limit if walls.group else None, SMALL_MEMORY):
        prober.inside(lambda: _try_memory(walls), may_die=True)
    with _lowered(walls.group.pids_limit if walls.group else None, SMALL_COUNT):
        prober.inside(_try_processes)
    prober.end_a_daemon()
    shutil.rmtree(folder, ignore_errors=True)
    return prober.found


class _Prober:
    """Starts children inside the walls, one after the other, and collects what they found."""

    def __init__(self, walls: Walls, folder: Path, settle: Settle) -> None:
        self._walls = walls
        self._folder = folder
        self._settle = settle
        self.spared: tuple[int, ...] = ()
        self.found: Found = {}

    def note(self, found: Found) -> None:
        """Add what got through."""
        for promise, got_through in found.items():
            if got_through:
                self.found.setdefault(promise, []).extend(got_through)

    def inside(self, attempt: Callable[[], Found], may_die: bool = False) -> None:
        """Have a child try something; `may_die` when being killed is how the promise is kept."""
        told = self._answer_of(attempt)
        if told:
            self.note(json.loads(told))
        elif not may_die:
            self.note({"privileges": ["the child that tried the promises died"]})

    def end_a_daemon(self) -> None:
        """Have a child leave a daemon, and see whether it can be ended."""

        def leave() -> Found:
            acts.daemonize(_ANSWER)
            return {}

        number = self._answer_of(leave).replace(b"{}", b"")  # the daemon's, before or after its parent's answer
        if not number.isdigit() or os.path.exists(f"/proc/{int(number)}"):
            self.note({"ending": ["a daemon outlived its experiment"]})

    def _answer_of(self, attempt: Callable[[], Found]) -> bytes:
        read, write = os.pipe()
        self._fork(write, attempt)
        os.close(write)
        with open(read, "rb") as answer:
            told = answer.read()
        processes.end_descendants(self.spared, PATIENCE)
        return told

    def _fork(self, write: int, attempt: Callable[[], Found]) -> None:
        """Start a child inside the walls, in an empty scratch folder; what it finds goes to `write`."""
        scratch = self._folder / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        self._walls.prepare()
        if os.fork() == 0:
            try:
                os.setsid()
                self._walls.enter(scratch)
                self._settle({_ANSWER: write})
                self._walls.settle()
                os.chdir(scratch)
                os.write(_ANSWER, json.dumps(attempt()).encode())
            finally:
                os._exit(0)


def _try_acts(walls: Walls, around: Surroundings, environment: Sequence[str]) -> Found:
    found: Found = {}
    for promise, what, act in acts.acts(around):
        try:
            act()
        except (OSError, AttributeError):  # this Python has no name for a call that its system lacks
            continue
        if what:
            found.setdefault(promise, []).append(what)
    with open("/proc/self/environ", "rb") as file:
        names = {entry.partition(b"=")[0].decode() for entry in file.read().split(b"\0") if entry}
    plan = walls.plan
    found["environment"] = [f"saw {name}" for name in sorted(names - set(environment))]
    found["disk"] = list(acts.fill_scratch(plan.scratch_bytes, plan.scratch_files))
    # The listing itself has one open.
    inherited = len([name for name in os.listdir("/proc/self/fd") if int(name) > _ANSWER]) - 1
    found["descriptors"] = [f"inherited {inherited} descriptors"] if inherited else []
    found["descriptors"] += acts.open_files(plan.open_files)
    return found


def _try_memory(walls: Walls) -> Found:
    if walls.watched_memory:
        if walls.plan.cuda:
            return {}  # it is watched; with a limit of the process's own CUDA would not start
        resource.setrlimit(resource.RLIMIT_DATA, (SMALL_MEMORY, SMALL_MEMORY))
    try:
        acts.fill_memory(2 * SMALL_MEMORY)
    except (MemoryError, OSError):
        return {}
    return {"memory": ["held twice as much as it may"]}


def _try_processes() -> Found:
    if resource.getrlimit(resource.RLIMIT_NPROC)[1] != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NPROC, (SMALL_COUNT, SMALL_COUNT))
    started = acts.start_processes(2 * SMALL_COUNT)
    return {"processes": ["started twice as many as it may"]} if started == 2 * SMALL_COUNT else {}


@contextlib.contextmanager
def _lowered(limit: Path | None, value: int) -> Iterator[None]:
    """Lower a limit of a control group for a while."""
    if limit is None:
        yield
        return
    before = limit.read_text()
    limit.write_text(str(value))
    try:
        yield
    finally:
        limit.write_text(before.strip())


@contextlib.contextmanager
def _surroundings(folder: Path, hidden: tuple[str, ...]) -> Iterator[Surroundings]:
    """Make what the acts are aimed at, and remove it again."""
    outside = folder / "open"
    outside.mkdir(parents=True)
    outside.chmod(0o777)
    (outside / "secret").write_text("secret")
    (outside / "file").write_text("file")
    (outside / "file").chmod(0o666)
    neighbour = os.fork()
    if neighbour == 0:
        signal.pause()
        os._exit(0)
    with contextlib.ExitStack() as kept:
        tcp = kept.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = kept.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        abstract = b"\0autoresearch-probe-%d" % os.getpid()
        for kind, address in (
            (socket.SOCK_STREAM, "local"),
            (socket.SOCK_STREAM, abstract),
            (socket.SOCK_DGRAM, "data"),
        ):
            made = kept.enter_context(socket.socket(socket.AF_UNIX, kind))
            made.bind(address if isinstance(address, bytes) else str(outside / address))
            if isinstance(address, str):
                (outside / address).chmod(0o777)
            if kind == socket.SOCK_STREAM:
                made.listen()
        yield Surroundings(
            folder=outside,
            neighbour=neighbour,
            uid=os.getuid(),
            user_namespace=os.readlink("/proc/self/ns/user"),
            tcp=tcp.getsockname(),
            udp=udp.getsockname(),
            local=str(outside / "local"),
            abstract=abstract,
            datagram=str(outside / "data"),
            hidden=tuple(file for path in hidden[:3] if (file := _a_file(path))),
        )
    processes.kill(neighbour)
    os.waitpid(neighbour, 0)
    shutil.rmtree(folder, ignore_errors=True)


def _a_file(path: str) -> str | None:
    """Return a file of a package."""
    if os.path.isfile(path):
        return path
    inner = os.path.join(path, "__init__.py")
    return inner if os.path.isfile(inner) else None
