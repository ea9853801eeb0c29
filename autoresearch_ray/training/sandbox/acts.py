"""The forbidden acts, one by one, as a hostile variant would try them. Run inside the walls by probe.py.

Each is harmless when it succeeds: it changes only files and processes that were made for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from autoresearch_ray.training.sandbox import kernel

_REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS)
_NEW_USER_NAMESPACE, _PTRACE_ATTACH, _PRIVATE_AND_CREATE, _IOPRIO_PROCESS = 0x10000000, 16, 0o1600, 1
_SHARED_NAME = "/dev/shm/autoresearch-probe"

Act = tuple[str, str, Callable[[], object]]
"""The promise it would break, what it is, and how it is done: raises OSError when it is refused."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the acts are aimed at: all of it is ours and lies outside the walls."""

    folder: Path
    """Open to everybody, with `secret`, which everybody may read, and `file`, which everybody may write."""
    neighbour: int
    """A process of ours."""
    uid: int
    user_namespace: str
    tcp: tuple[str, int]
    udp: tuple[str, int]
    local: str
    abstract: bytes
    datagram: str
    hidden: tuple[str, ...]
    """Files of packages that may not be read."""


def acts(around: Surroundings) -> Iterator[Act]:
    """Yield every act."""
    yield from _on_files(around)
    yield from _on_metadata(around)
    yield from _on_sockets(around)
    yield from _on_processes(around)
    yield from _on_scheduling(around.neighbour)
    yield from _on_the_kernel()
    yield from _on_privileges(around)


def seen_outside(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what got through as it can be seen from outside, (promise, what), and undo it."""
    for name in ("made", "folder", "link", "moved", "node"):
        if os.path.lexists(folder / name):
            yield "writing", f"made {name} outside"
    if not os.path.exists(folder / "file"):
        yield "writing", "deleted a file outside"
    if os.path.exists(_SHARED_NAME):
        os.unlink(_SHARED_NAME)
        yield "shared_memory", "made a file in /dev/shm that others see"


def _on_files(around: Surroundings) -> Iterator[Act]:
    folder = around.folder
    for path in (str(folder / "secret"), "/etc/passwd", *around.hidden):
        if os.path.exists(path):
            yield "reading", f"read {path}", lambda path=path: open(path, "rb").close()  # type: ignore[misc]
    for listed in (str(folder), "/", os.path.expanduser("~"), "/tmp", "/proc"):
        yield "reading", f"listed {listed}", lambda listed=listed: os.listdir(listed)  # type: ignore[misc]
    yield "writing", "made a file", lambda: open(folder / "made", "xb").close()
    yield "writing", "opened a file for writing", lambda: open(folder / "file", "r+b").close()
    yield "writing", "cut a file", lambda: os.truncate(folder / "file", 0)
    yield "writing", "made a folder", lambda: os.mkdir(folder / "folder")
    yield "writing", "made a link", lambda: os.symlink("secret", folder / "link")
    yield "writing", "made a pipe", lambda: os.mkfifo(folder / "node")
    yield "writing", "took a file in by a hard link", lambda: os.link(folder / "secret", "taken")
    yield "writing", "renamed a file", lambda: os.rename(folder / "secret", folder / "moved")
    yield "writing", "deleted a file", lambda: os.unlink(folder / "file")
    yield "shared_memory", "", lambda: open(_SHARED_NAME, "xb").close()


def _on_metadata(around: Surroundings) -> Iterator[Act]:
    file = around.folder / "file"
    yield "metadata", "changed a mode", lambda: os.chmod(file, 0o666)
    yield "metadata", "changed an owner", lambda: os.chown(file, os.getuid(), os.getgid())
    yield "metadata", "changed a group", lambda: os.chown(file, -1, os.getgid())
    yield "metadata", "changed times", lambda: os.utime(file)
    yield "metadata", "set times", lambda: os.utime(file, (1, 1))
    yield "metadata", "set an attribute", lambda: os.setxattr(file, "user.probe", b"1")


def _on_sockets(around: Surroundings) -> Iterator[Act]:
    def reach(family: int, kind: int, address: object) -> Callable[[], None]:
        def do() -> None:
            with socket.socket(family, kind) as made:
                made.settimeout(1.0)
                made.connect(address)  # type: ignore[arg-type]

        return do

    def send() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with ours, theirs:
            ours.sendto(b"x", around.datagram)

    yield "network", "connected by TCP", reach(socket.AF_INET, socket.SOCK_STREAM, around.tcp)
    yield "network", "sent by UDP", reach(socket.AF_INET, socket.SOCK_DGRAM, around.udp)
    yield "network", "made an IPv6 socket", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    yield "network", "made a netlink socket", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()
    yield "local_sockets", "connected to a Unix socket", reach(socket.AF_UNIX, socket.SOCK_STREAM, around.local)
    yield "local_sockets", "connected to an abstract socket", reach(socket.AF_UNIX, socket.SOCK_STREAM, around.abstract)
    yield "local_sockets", "sent to a Unix socket", reach(socket.AF_UNIX, socket.SOCK_DGRAM, around.datagram)
    yield "local_sockets", "sent from a pair of datagram sockets", send


def _on_processes(around: Surroundings) -> Iterator[Act]:
    target = around.neighbour
    buffer = ctypes.create_string_buffer(16)

    def pidfd(then: Callable[[int], object]) -> None:
        opened = os.pidfd_open(target)
        try:
            then(opened)
        finally:
            os.close(opened)

    yield "signals", "signalled a process", lambda: os.kill(target, 0)
    yield "signals", "stopped a process", lambda: os.kill(target, signal.SIGSTOP)
    yield "signals", "signalled a group of processes", lambda: os.killpg(os.getpgid(target), 0)
    yield "signals", "signalled through a descriptor", lambda: pidfd(lambda opened: signal.pidfd_send_signal(opened, 0))
    yield "inspection", "traced a process", lambda: kernel.call("ptrace", _PTRACE_ATTACH, target, 0, 0)
    yield "inspection", "read a process's memory", lambda: _reach("process_vm_readv", target, buffer, 1, buffer, 1, 0)
    yield "inspection", "took a descriptor", lambda: pidfd(lambda opened: kernel.call("pidfd_getfd", opened, 0, 0))
    for name in ("mem", "environ", "maps", "cmdline", "status", "fd/0"):
        path = f"/proc/{target}/{name}"
        yield "inspection", f"opened {path}", lambda path=path: open(path, "rb").close()  # type: ignore[misc]
    yield "inspection", "listed a process's descriptors", lambda: os.listdir(f"/proc/{target}/fd")


def _on_scheduling(target: int) -> Iterator[Act]:
    yield "scheduling", "changed a priority", lambda: os.setpriority(os.PRIO_PROCESS, target, 19)
    yield "scheduling", "changed a user's priority", lambda: os.setpriority(os.PRIO_USER, os.getuid(), 1)
    yield "scheduling", "changed an affinity", lambda: os.sched_setaffinity(target, {min(os.sched_getaffinity(0))})
    batch = os.sched_param(0)
    yield "scheduling", "changed a scheduler", lambda: os.sched_setscheduler(target, os.SCHED_BATCH, batch)
    yield "scheduling", "changed a limit", lambda: resource.prlimit(target, resource.RLIMIT_NOFILE, (64, 64))
    yield "scheduling", "changed an I/O priority", lambda: kernel.call("ioprio_set", _IOPRIO_PROCESS, target, 3 << 13)


def _on_the_kernel() -> Iterator[Act]:
    calls: dict[str, dict[str, tuple[object, ...]]] = {
        "kernel": {
            "io_uring_setup": (1, None),
            "bpf": (0, None, 0),
            "perf_event_open": (None, 0, -1, -1, 0),
            "userfaultfd": (1,),
            "keyctl": (0, -3, 1),
            "add_key": (None, None, None, 0, 0),
            "mount": (None, None, None, 0, None),
            "fsopen": (None, 0),
            "unshare": (_NEW_USER_NAMESPACE,),
            "setns": (-1, 0),
            "open_by_handle_at": (-1, None, 0),
            "kcmp": (0, 0, 0, 0, 0),
            "memfd_secret": (0,),
        },
        "shared_memory": {
            "shmget": (0, 4096, _PRIVATE_AND_CREATE),
            "semget": (0, 1, _PRIVATE_AND_CREATE),
            "msgget": (0, _PRIVATE_AND_CREATE),
            "mq_open": (None, 0, 0, None),
        },
    }
    for promise, named in calls.items():
        for name, arguments in named.items():
            yield promise, f"reached {name}", functools.partial(_reach, name, *arguments)


def _on_privileges(around: Surroundings) -> Iterator[Act]:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())

    def refused_if(condition: bool) -> None:
        if condition:
            raise PermissionError

    for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        held = int(status[name], 16)
        yield "privileges", f"has capabilities ({name} {held:x})", lambda held=held: refused_if(held == 0)  # type: ignore[misc]
    yield "privileges", "may gain privileges", lambda: refused_if(int(status["NoNewPrivs"]) == 1)
    apart = os.getuid() != around.uid or os.readlink("/proc/self/ns/user") != around.user_namespace
    yield "privileges", "has the supervisor's identity", lambda: refused_if(apart)
    if os.getuid():
        yield "privileges", "became root", lambda: os.setuid(0)


def fill_memory(size: int) -> None:
    """Take so many bytes of memory and write to every page (Raises MemoryError)."""
    bytearray(b"\1") * size


def start_processes(count: int) -> int:
    """Start up to so many processes, then end them; return how many could be started."""
    started = []
    with contextlib.suppress(OSError):
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            started.append(pid)
    for pid in started:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return len(started)


def fill_scratch(size: int, files: int) -> Iterator[str]:
    """Yield how more than `size` bytes or `files` files fit into the folder that this process is in."""
    space = os.statvfs(".")
    if space.f_blocks * space.f_frsize > size:
        yield "has all of the disk's room for its folder"
    if space.f_files > files:
        yield f"may make {space.f_files} files"
    with open("large", "wb") as file, contextlib.suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, size + 4096)
        yield "made a file that is too large"
    os.unlink("large")


def open_files(most: int) -> Iterator[str]:
    """Yield whether more than so many descriptors can be open."""
    made: list[int] = []
    with contextlib.suppress(OSError):
        while len(made) <= most:
            made.append(os.dup(0))
        yield f"opened more than {most} files"
    for descriptor in made:
        os.close(descriptor)


def daemonize(write: int) -> None:
    """Leave session and parent, ignore what can be ignored, and stay; the pid is written to the descriptor."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.write(write, str(os.getpid()).encode())
    os.close(write)
    while True:
        signal.pause()


def _reach(name: str, *arguments: object) -> None:
    """Make a call with arguments that make no sense: any answer but a refusal shows that it can be made."""
    try:
        kernel.call(name, *arguments)
    except OSError as error:
        if error.errno in _REFUSALS:
            raise
