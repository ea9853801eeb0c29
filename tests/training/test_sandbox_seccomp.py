from __future__ import annotations

import errno
import struct

import pytest
from sandbox_runs import EVERYBODY, LINUX, told

from autoresearch_ray.training.sandbox import kernel, seccomp

ALLOW, KILL = 0x7FFF0000, 0x80000000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def run(program: bytes, number: int, arguments: tuple[int, ...] = (), architecture: int = 0xC000003E) -> int:
    """Do what the kernel does with a filter."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=iIQ6Q", number, architecture, 0, *(value & (1 << 64) - 1 for value in padded))
    instructions = list(struct.iter_unpack("=HBBI", program))
    at, held = 0, 0
    while True:
        code, if_true, if_false, value = instructions[at]
        at += 1
        if code == 0x20:
            held = struct.unpack_from("=I", data, value)[0]
        elif code == 0x54:
            held &= value
        elif code == 0x06:
            return int(value)
        else:
            at += if_true if (held == value if code == 0x15 else held >= value) else if_false


def refused(error: int) -> int:
    return 0x00050000 | error


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(kernel, "MACHINE", request.param)
    return str(request.param)


def program(sockets: bool = False, metadata: bool = True, memfd: bool = True) -> bytes:
    made = seccomp.assemble(seccomp.rules(sockets=sockets, metadata=metadata, memfd=memfd))
    assert made is not None
    return made


def ask(made: bytes, machine: str, name: str, *arguments: int) -> int:
    number = kernel.number(name)
    assert number is not None
    return run(made, number, arguments, ARCHITECTURES[machine])


def test_what_is_never_needed_is_refused(machine: str) -> None:
    made = program()
    for name in ("ptrace", "process_vm_readv", "bpf", "mount", "unshare", "setns", "keyctl", "open_by_handle_at"):
        assert ask(made, machine, name) == refused(errno.EPERM), name
    for name in ("io_uring_setup", "clone3", "shmget", "semget", "msgget", "mq_open", "memfd_secret"):
        assert ask(made, machine, name) == refused(errno.ENOSYS), name
    read = {"x86_64": 0, "aarch64": 63}[machine]
    assert run(made, read, (), ARCHITECTURES[machine]) == ALLOW


def test_a_process_may_do_to_itself_what_it_may_not_do_to_others(machine: str) -> None:
    made = program()
    for name in ("prlimit64", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"):
        assert ask(made, machine, name, 0) == ALLOW
        assert ask(made, machine, name, 1) == refused(errno.EPERM)
        assert ask(made, machine, name, 1 << 32 | 7) == refused(errno.EPERM)
    assert ask(made, machine, "setpriority", 0, 0, 5) == ALLOW
    assert ask(made, machine, "setpriority", 0, 7, 5) == refused(errno.EPERM)
    assert ask(made, machine, "setpriority", 2, 0, 5) == refused(errno.EPERM)
    assert ask(made, machine, "ioprio_set", 1, 0, 0) == ALLOW
    assert ask(made, machine, "ioprio_set", 3, 0, 0) == refused(errno.EPERM)


def test_processes_are_cloned_but_not_into_new_namespaces(machine: str) -> None:
    made = program()
    assert ask(made, machine, "clone", 0x11) == ALLOW
    assert ask(made, machine, "clone", 0x003D0F00) == ALLOW  # as a thread
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert ask(made, machine, "clone", flag | 0x11) == refused(errno.EPERM)


def test_no_socket_but_pairs_that_reach_nobody(machine: str) -> None:
    made = program()
    assert ask(made, machine, "socketpair", 1, 1 | 0o2000000) == ALLOW
    assert ask(made, machine, "socketpair", 1, 5) == ALLOW
    assert ask(made, machine, "socketpair", 1, 2) == refused(
        errno.EACCES
    )  # from a datagram socket one can send by name
    assert ask(made, machine, "socketpair", 2, 1) == refused(errno.EACCES)
    for name in ("socket", "connect", "bind", "listen", "accept"):
        assert ask(made, machine, name, 1, 1) == refused(errno.EACCES)


def test_for_cuda_a_process_may_listen_but_never_connect(machine: str) -> None:
    made = program(sockets=True)
    assert ask(made, machine, "socket", 1, 5 | 0o2000000) == ALLOW
    assert ask(made, machine, "socket", 1, 2) == refused(errno.EACCES)
    assert ask(made, machine, "socket", 2, 1) == refused(errno.EACCES)
    assert ask(made, machine, "bind", 3) == ask(made, machine, "listen", 3) == ALLOW
    assert ask(made, machine, "connect", 3) == refused(errno.EACCES)


def test_what_stands_in_for_a_missing_wall(machine: str) -> None:
    made = program(metadata=False, memfd=False)
    for name in ("fchmod", "fchmodat", "fchownat", "utimensat", "setxattr", "fremovexattr"):
        assert ask(made, machine, name) == refused(errno.EPERM)
        assert ask(program(), machine, name) == ALLOW
    assert ask(made, machine, "ioctl", 3, 0x40086602) == refused(errno.EPERM)
    assert ask(made, machine, "ioctl", 3, 0x5401) == ALLOW
    assert ask(made, machine, "memfd_create") == refused(errno.ENOSYS)


def test_other_ways_to_name_a_call_are_shut() -> None:
    made = seccomp.assemble(seccomp.rules(sockets=False, metadata=True, memfd=True))
    if kernel.MACHINE != "x86_64" or made is None:
        pytest.skip("x32 is x86_64's")
    assert run(made, 0x40000000 | 1) == refused(errno.ENOSYS)
    assert run(made, 1, architecture=0x40000003) == KILL  # 32 bits


def test_a_machine_whose_calls_are_not_known_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "MACHINE", "riscv64")
    assert seccomp.assemble(seccomp.rules(sockets=False, metadata=True, memfd=True)) is None
    with pytest.raises(OSError, match="no such system call"):
        kernel.call("mount", None, None, None, 0, None)


ALONE = """
processes.gain_no_privileges()
import ctypes, socket, threading
from autoresearch_ray.training.sandbox import seccomp
seccomp.install(seccomp.assemble(seccomp.rules(sockets=False, metadata=True, memfd=True)))
seen = {"socket": refusal(socket.socket), "pair": refusal(socket.socketpair), "nice": refusal(lambda: os.nice(1))}
thread = threading.Thread(target=seen.update, args=({"thread": "done"},)); thread.start(); thread.join()
pid = os.fork()
if pid == 0: os._exit(7)
seen["child"] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
seen["others"] = refusal(lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 19))
tell(seen)
"""


@LINUX
@EVERYBODY
def test_the_kernel_agrees(user: int | None) -> None:
    assert told(ALONE, user) == {
        "socket": "PermissionError",
        "pair": "done",
        "nice": "done",
        "thread": "done",
        "child": 7,
        "others": "PermissionError",
    }
