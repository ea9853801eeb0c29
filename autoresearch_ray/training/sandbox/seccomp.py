"""The filter of system calls: written by hand as BPF, made once in the launcher, put on in each child.

Owns which calls are refused and with which error. Does not own what paths may be opened (landlock.py).
"""

from __future__ import annotations

import ctypes
import errno
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from autoresearch_ray.training.sandbox import kernel

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06  # BPF: ld [k], jeq, jge, and, ret
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

_NEW_NAMESPACES = 0x7E020000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
_AF_UNIX, _SOCK_STREAM, _SOCK_SEQPACKET, _SOCK_TYPE = 1, 1, 5, 0xF
_PRIO_PROCESS, _IOPRIO_PROCESS = 0, 1
_SET_FLAGS, _SET_XATTR_FLAGS = 0x40086602, 0x401C5820  # ioctl FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


@dataclass(frozen=True, slots=True)
class Condition:
    """A call passes when its argument, masked, is one of these values; only the lower 32 bits are looked at."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Rule:
    """A call that fails with an error: always, `unless` all of some conditions hold, or only `when` one holds."""

    name: str
    error: int = errno.EPERM
    unless: tuple[Condition, ...] = ()
    when: Condition | None = None


_ABSENT = (
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("memfd_secret", "fchmodat2", "setxattrat", "removexattrat", "file_setattr", "open_tree_attr"),
    *("mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive", "mq_notify", "mq_getsetattr"),
    "clone3",  # its flags lie in memory, where no filter sees them; libc falls back to clone
)
"""As if the kernel were an old one: libraries know another way then."""
_FORBIDDEN = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "pidfd_getfd", "kcmp"),
    *("add_key", "request_key", "keyctl", "bpf", "perf_event_open", "userfaultfd", "lookup_dcookie"),
    *("mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick"),
    *("mount_setattr", "statmount", "listmount", "unshare", "setns", "open_by_handle_at", "name_to_handle_at"),
    *("init_module", "finit_module", "delete_module", "create_module", "kexec_load", "kexec_file_load"),
    *("reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "nfsservctl", "uselib", "vhangup", "syslog"),
    *("sethostname", "setdomainname", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex"),
    *("iopl", "ioperm", "modify_ldt", "migrate_pages", "move_pages", "sync", "syncfs"),
)
_SYSTEM_V = (
    *("shmget", "shmat", "shmctl", "shmdt", "semget", "semop", "semctl", "semtimedop"),
    *("msgget", "msgsnd", "msgrcv", "msgctl"),
)
_METADATA = (
    *("chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat", "utime", "utimes", "futimesat"),
    *("utimensat", "setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"),
)
"""Refused only where no mount keeps what lies outside the scratch folder as it is: a filter sees no paths."""
_OF_OTHERS = {
    "prlimit64": (Condition(0, (0,)),),
    "sched_setaffinity": (Condition(0, (0,)),),
    "sched_setscheduler": (Condition(0, (0,)),),
    "sched_setparam": (Condition(0, (0,)),),
    "sched_setattr": (Condition(0, (0,)),),
    "setpriority": (Condition(0, (_PRIO_PROCESS,)), Condition(1, (0,))),
    "ioprio_set": (Condition(0, (_IOPRIO_PROCESS,)), Condition(1, (0,))),
}
"""What a process may do to itself, which these calls name 0, and to nobody else."""


def rules(*, sockets: bool, metadata: bool, memfd: bool, reaping: bool = True) -> tuple[Rule, ...]:
    """Return what is refused.

    Args:
        sockets: whether Unix sockets may be made, bound and listened at, as CUDA does when it starts. Nobody may
            connect, not even by name from a datagram socket, so nothing can be reached with one.
        metadata: whether modes, owners, attributes and times may be changed.
        memfd: whether memory may be held that no process maps.
        reaping: whether it may be changed what the end of a child does. Who ignores it has its children vanish
            together with the CPU time that they used. Otherwise the call succeeds and changes nothing.
    """
    stream = Condition(1, (_SOCK_STREAM, _SOCK_SEQPACKET), _SOCK_TYPE)
    local = (Condition(0, (_AF_UNIX,)), stream)
    refused = [Rule(name, errno.ENOSYS) for name in _ABSENT]
    refused += [Rule(name) for name in _FORBIDDEN]
    refused += [Rule(name, errno.ENOSYS) for name in _SYSTEM_V]
    refused += [Rule(name, unless=conditions) for name, conditions in _OF_OTHERS.items()]
    refused += [
        Rule("clone", unless=(Condition(0, (0,), _NEW_NAMESPACES),)),
        Rule("socket", errno.EACCES, local if sockets else ()),
        Rule("socketpair", errno.EACCES, local),
        Rule("connect", errno.EACCES),
    ]
    if not sockets:
        refused += [Rule(name, errno.EACCES) for name in ("bind", "listen", "accept", "accept4")]
    if not metadata:
        refused += [Rule(name) for name in _METADATA]
        refused.append(Rule("ioctl", when=Condition(1, (_SET_FLAGS, _SET_XATTR_FLAGS))))
    if not memfd:
        refused.append(Rule("memfd_create", errno.ENOSYS))
    if not reaping:
        refused.append(Rule("rt_sigaction", 0, when=Condition(0, (signal.SIGCHLD,))))
    return tuple(refused)


def assemble(refused: Sequence[Rule]) -> bytes | None:
    """Return the BPF program that refuses these, None on a machine whose calls have no numbers here."""
    architecture = _ARCHITECTURES.get(kernel.MACHINE)
    if architecture is None:
        return None
    program = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
    ]
    if kernel.MACHINE == "x86_64":
        program += [(_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    for rule in refused:
        found = kernel.number(rule.name)
        if found is not None:
            body = _body(rule)
            program += [(_EQUAL, 0, len(body), found), *body]
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def install(program: bytes) -> None:
    """Put the filter on this process and all that it starts; no_new_privs must be set (Raises OSError)."""

    held = ctypes.create_string_buffer(program, len(program))
    wanted = _Program(len(program) // 8, ctypes.addressof(held))
    kernel.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(wanted))


def _body(rule: Rule) -> list[tuple[int, int, int, int]]:
    """Return what is done once the call's number has matched: ends in a return either way."""
    refuse, allow = (_RETURN, 0, 0, _ERRNO | rule.error), (_RETURN, 0, 0, _ALLOW)
    if rule.when:
        return [*_holds(rule.when), allow, refuse]
    if not rule.unless:
        return [refuse]
    checks = [[*_holds(condition), refuse] for condition in rule.unless]
    return [*(instruction for check in checks for instruction in check), allow]


def _holds(condition: Condition) -> list[tuple[int, int, int, int]]:
    """Return what goes on after the next instruction when the condition holds, and with the next when it does not."""
    load = [(_LOAD, 0, 0, 16 + 8 * condition.argument)]  # the lower half, on a little-endian machine
    if condition.mask != 0xFFFFFFFF:
        load.append((_AND, 0, 0, condition.mask))
    count = len(condition.values)
    return [*load, *((_EQUAL, count - index, 0, value) for index, value in enumerate(condition.values))]
