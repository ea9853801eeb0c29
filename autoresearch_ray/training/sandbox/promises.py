"""What the sandbox promises of a variant, act by act, and what became of each promise on one machine.

Owns names and words. Does not own the walls (walls.py) or the attempts to break them (probe.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PROMISES = {
    "reading": "reads nothing but its own files, the interpreter, torch, numpy and what `readable` lists",
    "writing": "writes, makes, renames and deletes nothing outside its scratch folder",
    "metadata": "changes no mode, owner, attribute or time outside its scratch folder",
    "network": "has no network: no TCP, no UDP, no names looked up",
    "local_sockets": "connects to no other program of this machine, by path or abstract name",
    "signals": "signals no process but its own",
    "inspection": "traces and reads no process but its own, also not through /proc",
    "scheduling": "changes priority, affinity and limits of no process but its own",
    "shared_memory": "shares no memory, semaphore or message queue with anybody else",
    "kernel": "has no io_uring, bpf, perf, keyrings, mounts or new namespaces",
    "privileges": "has another identity, no capability, and gains none",
    "memory": "is ended when it takes more memory than its share",
    "processes": "starts no more processes and threads than its share",
    "disk": "fills no more of the disk than its scratch folder may hold",
    "descriptors": "inherits no descriptor but its own, and opens a bounded number of files",
    "environment": "sees no environment variable but those on a short list",
    "ending": "leaves no process behind, however it was started",
    "gpu_memory": "is ended when it takes more of the GPU's memory than its share",
}
"""What a variant can do and cannot, by the name that rows and `doctor` give it; `gpu_memory` only where it trains on a
GPU."""


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise, as it was found by trying to break it on this machine."""

    name: str
    """A key of `PROMISES`."""
    held: bool
    why_not: str = ""
    """What got through, in half a sentence; empty when held."""
    remedy: str = ""
    """What a person can do about it; empty when held."""
    by: tuple[str, ...] = ()
    """The walls that stand for it, as `landlock`, `seccomp`, `identity`, `mounts`, `cgroup`, `limits`, `watch`."""

    @property
    def says(self) -> str:
        """The promise as half a sentence about a variant."""
        return PROMISES[self.name]


_STANDS_FOR = {
    "reading": ("landlock", "identity"),
    "writing": ("landlock", "scratch", "identity"),
    "metadata": ("scratch", "identity", "seccomp"),
    "network": ("seccomp", "namespaces", "landlock"),
    "local_sockets": ("seccomp", "landlock"),
    "signals": ("landlock", "identity"),
    "inspection": ("seccomp", "landlock", "identity"),
    "scheduling": ("seccomp", "identity"),
    "shared_memory": ("seccomp", "namespaces", "landlock"),
    "kernel": ("seccomp",),
    "privileges": ("identity", "namespaces"),
    "memory": ("group", "limits"),
    "processes": ("group", "limits"),
    "disk": ("scratch",),
    "descriptors": ("limits",),
    "environment": (),
    "ending": (),
}
"""The walls that stand for a promise, the strongest first."""
_REMEDIES = {
    "group": "let this user make control groups (as root, or with a delegated memory controller)",
    "limits": "raise the hard limits of this user above those of the configuration",
    "namespaces": "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces, "
    "kernel.apparmor_restrict_unprivileged_userns=0), or start as root with CAP_SYS_ADMIN",
    "identity": "start as root with CAP_SETUID and CAP_SETGID, or allow user namespaces to an ordinary user",
    "landlock": "use Linux 6.12 or newer with Landlock switched on (kernel parameter lsm=landlock,...)",
    "seccomp": "use Linux on x86_64 or aarch64 with seccomp",
}
_REMEDIES["scratch"] = _REMEDIES["namespaces"]


def judge(found: Mapping[str, Sequence[str]], missing: Mapping[str, str], names: Sequence[str]) -> tuple[Promise, ...]:
    """Return what became of each promise.

    Args:
        found: what got through, by promise.
        missing: the walls that do not stand, with the reason.
        names: the promises that are made here.
    """
    return tuple(_judge(name, list(found.get(name, ())), missing) for name in names)


def _judge(name: str, got_through: list[str], missing: Mapping[str, str]) -> Promise:
    walls = _STANDS_FOR[name]
    standing = tuple(wall for wall in walls if wall not in missing)
    if not got_through:
        return Promise(name, True, by=standing)
    lacking = [wall for wall in walls if wall in missing]
    why = "a variant " + ", ".join(got_through[:3]) + (", ..." if len(got_through) > 3 else "")
    why += "".join(f"; {wall}: {missing[wall]}" for wall in lacking)
    return Promise(name, False, why, "; ".join(dict.fromkeys(_REMEDIES[wall] for wall in lacking or walls)), standing)
