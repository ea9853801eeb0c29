"""Signals, priorities, affinity, limits and memory of the supervisor, the launcher, the scorer and a neighbour."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

import psutil
import pytest
from arena import Arena

if TYPE_CHECKING:
    from conftest import Neighbour

ACTS = """
import ctypes, fcntl, resource, signal, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
pid, address = FACTS["pid"], FACTS["address"]

def call(*arguments):
    if (got := libc.syscall(*arguments)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got

def pidfd_signal():
    call(424, call(434, pid, 0), signal.SIGUSR2, None, 0)

def signal_by_owner():
    'The kernel sends the signal: when data arrive at one of our own descriptors.'
    one, other = socket.socketpair()
    fcntl.fcntl(one, fcntl.F_SETOWN, pid)
    fcntl.fcntl(one, 10, signal.SIGUSR2)  # F_SETSIG
    fcntl.fcntl(one, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    other.send(b"x")
    raise PermissionError("nothing tells whether it was sent: the victim's state does")

def queue():
    information = struct.pack("iii", signal.SIGUSR2, 0, -1) + bytes(116)
    call(129, pid, signal.SIGUSR2, information)  # rt_sigqueueinfo

def vector(number):
    local = ctypes.create_string_buffer(12)
    ours = struct.pack("QQ", ctypes.addressof(local), 12)
    theirs = struct.pack("QQ", address, 12)
    call(number, pid, ours, 1, theirs, 1, 0)
    return local.raw

def memory(mode):
    with open(f"/proc/{pid}/mem", mode, 0) as file:
        file.seek(address)
        return file.read(1) if mode == "rb" else file.write(b"broken")

def trace(request):
    libc.ptrace.restype = ctypes.c_long
    if libc.ptrace(request, pid, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if request == 16:
        os.waitpid(pid, 0x40000000)
        libc.ptrace(17, pid, 0, 0)

attempt("kill", lambda: os.kill(pid, signal.SIGUSR2))
attempt("exists?", lambda: os.kill(pid, 0))
attempt("tgkill", lambda: call(234, pid, pid, signal.SIGUSR2))
attempt("tkill", lambda: call(200, pid, signal.SIGUSR2))
attempt("sigqueue", queue)
attempt("pidfd", pidfd_signal)
attempt("F_SETOWN", signal_by_owner)
attempt("group", lambda: os.killpg(os.getpgid(pid), signal.SIGUSR2) if FACTS["alone"] else 1 / 0)
attempt("setpriority", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
attempt("affinity", lambda: os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))}))
attempt("scheduler", lambda: os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0)))
attempt("sched_setattr", lambda: call(314, pid, struct.pack("IIQiIQQQ", 48, 5, 0, 0, 0, 0, 0, 0), 0))
attempt("io priority", lambda: call(251, 1, pid, 3 << 13))
attempt("limits", lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, 8)))
attempt("read limits", lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE))
attempt("oom_score_adj", lambda: open(f"/proc/{pid}/oom_score_adj", "w").write("1000"))
attempt("process_vm_readv", lambda: vector(310))
attempt("process_vm_writev", lambda: vector(311))
attempt("/proc/PID/mem", lambda: memory("rb"))
attempt("write /proc/PID/mem", lambda: memory("r+b"))
attempt("ptrace attach", lambda: trace(16))
attempt("ptrace seize", lambda: trace(0x4206))
attempt("pidfd_getfd", lambda: call(438, call(434, pid, 0), 0, 0))
attempt("process_madvise", lambda: call(440, call(434, pid, 0), struct.pack("QQ", address & ~4095, 4096), 1, 20, 0))
attempt("kcmp", lambda: call(312, pid, os.getpid(), 1, 0, 0))
attempt("move_pages", lambda: call(279, pid, 1, struct.pack("Q", address & ~4095), None, struct.pack("i", 0), 0))
attempt("migrate_pages", lambda: call(256, pid, 1, struct.pack("Q", 1), struct.pack("Q", 1)))
attempt("robust list", lambda: call(274, pid, ctypes.create_string_buffer(8), ctypes.create_string_buffer(8)))
attempt("setpgid", lambda: os.setpgid(pid, 0))
attempt("perf", lambda: call(298, struct.pack("IIQ", 1, 112, 0) + bytes(96), pid, -1, -1, 0))
"""
DAMAGE = {
    "kill",
    "tgkill",
    "setpriority",
    "affinity",
    "limits",
    "process_vm_readv",
    "process_vm_writev",
    "/proc/PID/mem",
}


def act(arena: Arena, pid: int, address: int = 0, alone: bool = False):  # type: ignore[no-untyped-def]
    return arena.attack(ACTS, pid=pid, address=address, alone=alone)


def test_a_neighbour_is_as_it_was(walled: Arena, neighbour: Neighbour) -> None:
    before = neighbour.state()
    seen = act(walled, neighbour.pid, neighbour.address)
    assert neighbour.state() == before
    seen.assert_all_refused(*DAMAGE)
    seen.assert_trained_honestly()


def test_without_walls_the_neighbour_suffers(unwalled: Arena, neighbour: Neighbour) -> None:
    seen = act(unwalled, neighbour.pid, neighbour.address)
    neighbour.process.wait()  # SIGUSR2 ended it
    assert "kill" in seen.done()


def test_without_walls_the_neighbours_memory_is_open(unwalled: Arena, neighbour: Neighbour) -> None:
    signals = ("kill", "tgkill", "tkill", "sigqueue", "pidfd", "F_SETOWN")
    body = ACTS
    for name in signals:
        body = body.replace(f'attempt("{name}"', "(lambda *_: None)(1")
    seen = unwalled.attack(body, pid=neighbour.pid, address=neighbour.address, alone=False)
    assert {"setpriority", "affinity", "limits"} <= set(seen.done())
    if os.geteuid() == 0:
        assert {"process_vm_readv", "process_vm_writev", "/proc/PID/mem", "ptrace attach"} <= set(seen.done())


@pytest.mark.parametrize("who", ["supervisor", "launcher", "scorer"])
def test_the_trusted_processes_are_as_they_were(walled: Arena, who: str) -> None:
    held = ctypes.create_string_buffer(12)
    pid = {"supervisor": os.getpid(), "launcher": walled.launcher, "scorer": walled.scorer}[who]
    process = psutil.Process(pid)

    def state() -> tuple[object, ...]:
        return (
            process.create_time(),
            process.nice(),
            process.cpu_affinity(),
            os.sched_getscheduler(pid),
            process.ionice(),
        )

    before = state()
    seen = act(walled, pid, ctypes.addressof(held))
    assert state() == before
    assert held.raw == bytes(12)
    seen.assert_all_refused(*DAMAGE)
    seen.assert_trained_honestly()
    assert walled.launcher == {"launcher": pid}.get(who, walled.launcher)


EVERYBODY = """
import signal
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def io_priority(which):
    if libc.syscall(251, which, 0, (2 << 13) | 7) < 0:
        raise OSError(ctypes.get_errno(), "ioprio_set")
    raise PermissionError("only this process")
attempt("signal everybody", lambda: os.kill(-1, FACTS["signal"]))
attempt("priority of a user", lambda: os.setpriority(os.PRIO_USER, FACTS["uid"], 19))
attempt("priority of the supervisor's group", lambda: os.setpriority(os.PRIO_PGRP, FACTS["group"], 19))
attempt("io priority of a user", lambda: io_priority(3))
attempt("higher priority", lambda: os.setpriority(os.PRIO_PROCESS, 0, -20))
attempt("real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
"""


def test_everybody_at_once(walled: Arena, neighbour: Neighbour) -> None:
    """kill(-1) and whole-user calls reach nobody else; a variant takes no better priority than its neighbours."""
    before = neighbour.state()
    seen = walled.attack(EVERYBODY, signal=0, uid=os.getuid(), group=os.getpgid(0))
    assert neighbour.state() == before
    assert {"priority of a user", "priority of the supervisor's group", "higher priority", "real time"} <= set(
        seen.refused()
    )
    seen.assert_trained_honestly()
