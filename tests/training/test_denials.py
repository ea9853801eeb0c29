from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch_ray.training.denials import explain
from autoresearch_ray.training.sandbox.settings import OFF, SandboxSettings

WALLS = SandboxSettings(level="best_effort", slot_gpus=0.5, processes=64, open_files=128, scratch_bytes=1 << 30)
SOCKET_LOG = '  File "socket.py", line 232, in __init__\n    _socket.socket.__init__(self, family, type, proto, fileno)'


@pytest.mark.parametrize(
    ("reason", "log", "hint"),
    [
        (
            "PermissionError: [Errno 13] Permission denied: '/opt/k/x.py'",
            "",
            "denies reading /opt/k/x.py: list it under",
        ),
        ("ImportError: /opt/k.so: cannot open shared object file: Permission denied", "", "denies reading /opt/k.so"),
        ("PermissionError: [Errno 13] Permission denied", SOCKET_LOG, "has no network and no sockets"),
        ("urllib.error.URLError: <urlopen error [Errno 13] Permission denied>", "", "has no network"),
        ("OSError: [Errno 30] Read-only file system: '/etc/x'", "", "write in its scratch folder only"),
        ("OSError: [Errno 28] No space left on device", "", "gives it 1 GB and 100000 files: limits.scratch_gb"),
        ("OSError: [Errno 24] Too many open files: 'x'", "", "allows 128 open files: limits.open_files"),
        ("RuntimeError: can't start new thread", "", "allows 64 processes and threads: limits.processes"),
        ("BlockingIOError: [Errno 11] Resource temporarily unavailable", "", "allows 64 processes"),
        ("MemoryError", "", "gives it 2 GB of memory"),
        ("PermissionError: [Errno 1] Operation not permitted", "", "denies this call to the kernel"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried", "", "gives it 45% of the GPU's memory"),
        ("ModuleNotFoundError: No module named 'kernels.fast'", "", "denies reading /env/kernels: list it under"),
        ("exited with code 2", "cat: /opt/data.txt: Permission denied\n", "denies reading /opt/data.txt"),
    ],
)
def test_a_reason_says_which_wall_was_in_the_way(reason: str, log: str, hint: str) -> None:
    said = explain(reason, log, WALLS, 2 << 30, {"kernels": "/env/kernels"})
    assert said.startswith(f"{reason} (the sandbox ")
    assert hint in said
    assert explain(reason, log, OFF, None, {"kernels": "/env/kernels"}) == reason
    assert explain(said, log, WALLS, 2 << 30) == said


def test_what_is_listed_but_belongs_to_somebody_else_is_told_apart() -> None:
    walls = replace(WALLS, readable=(Path("/data"),))
    said = explain("PermissionError: [Errno 13] Permission denied: '/data/x'", "", walls, None)
    assert said.endswith(
        "(the sandbox runs it as another user, who may not read /data/x: `chmod -R o+rX` what readable: lists)"
    )


@pytest.mark.parametrize(
    ("reason", "log"),
    [
        ("ValueError: shapes do not match", "a warning: Operation not permitted\n" + SOCKET_LOG),
        ("ModuleNotFoundError: No module named 'misspelt'", ""),
        ("exited with code 1", "assertion failed"),
    ],
)
def test_other_reasons_stay_as_they_are(reason: str, log: str) -> None:
    assert explain(reason, log, WALLS, 2 << 30, {"kernels": "/env/kernels"}) == reason
