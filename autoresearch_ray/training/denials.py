"""Which wall of the sandbox made a program fail, in words that say what its author can do. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from autoresearch_ray.training.sandbox.settings import SandboxSettings

_LOOKED_AT_LINES = 30
_MARK = "(the sandbox "
_NETWORK = (
    "Temporary failure in name resolution",
    "Name or service not known",
    "gaierror",
    "Network is unreachable",
    "URLError",
    "Max retries exceeded",
    "in create_connection",
    "_socket.socket.__init__",
    "socket.socket(",
)
NOTHING: Mapping[str, str] = {}
_MODULE = re.compile(r"No module named '(?P<name>[A-Za-z_0-9]+)")
_PATH = r"['\"]?(?P<path>/[^\s'\":,]+)['\"]?"
_UNREADABLE = (
    re.compile(r"Errno 13\] Permission denied: " + _PATH),
    re.compile(
        _PATH + r": (?:cannot open shared object file|failed to map segment from shared object): Permission denied"
    ),
    re.compile(_PATH + r": Permission denied"),
    re.compile(r"Permission denied:? " + _PATH),
)


def explain(
    reason: str, log: str, sandbox: SandboxSettings, memory_bytes: int | None, hidden: Mapping[str, str] = NOTHING
) -> str:
    """Return the reason of a crash, with the wall that was in the way if it looks like one.

    Args:
        reason: one line, the exception that ended the program.
        log: the end of what it printed.
        sandbox: the slot's; without walls nothing is added.
        memory_bytes: what its processes may hold together, None if that is not limited.
        hidden: packages that are not found inside the walls, with where they lie.
    """
    if not sandbox.on or _MARK in reason:
        return reason
    said = "\n".join(log.splitlines()[-_LOOKED_AT_LINES:])
    text = said if reason.startswith("exited with code") else reason  # else the log may speak of something else
    missing = _MODULE.search(text)
    if missing and missing["name"] in hidden:
        return f"{reason} {_MARK}denies reading {hidden[missing['name']]}: list it under readable:)"
    hint = next(_hints(text, said, sandbox, memory_bytes), None)
    return f"{reason} {_MARK}{hint})" if hint else reason


def _hints(text: str, log: str, sandbox: SandboxSettings, memory_bytes: int | None) -> Iterator[str]:
    for pattern in _UNREADABLE:
        if found := pattern.search(text):
            path = Path(found["path"])
            if any(path == listed or listed in path.parents for listed in sandbox.readable):
                yield f"runs it as another user, who may not read {path}: `chmod -R o+rX` what readable: lists"
            yield f"denies reading {path}: list it under readable:"
    if any(word in text for word in _NETWORK) or ("Errno 13]" in text and any(word in log for word in _NETWORK)):
        yield "has no network and no sockets"
    if "Errno 30]" in text or "Read-only file system" in text:
        yield "lets a program write in its scratch folder only"
    told: dict[tuple[str, ...], Callable[[], str]] = {
        ("Errno 28]", "No space left on device"): lambda: (
            f"gives it {_gigabytes(sandbox.scratch_bytes)} GB and {sandbox.scratch_files} files: limits.scratch_gb"
        ),
        ("Errno 24]", "Too many open files"): lambda: f"allows {sandbox.open_files} open files: limits.open_files",
        ("Errno 11]", "can't start new thread", "Resource temporarily unavailable"): lambda: (
            f"allows {sandbox.processes} processes and threads: limits.processes"
        ),
        ("CUDA out of memory",): lambda: f"gives it {sandbox.gpu_fraction:.0%} of the GPU's memory",
        ("MemoryError", "Cannot allocate memory", "can't allocate memory"): lambda: (
            "limits its memory" if memory_bytes is None else f"gives it {_gigabytes(memory_bytes)} GB of memory"
        ),
        ("Errno 1]", "Operation not permitted", "Errno 38]"): lambda: "denies this call to the kernel",
    }
    for words, hint in told.items():
        if any(word in text for word in words):
            yield hint()


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:.3g}"
