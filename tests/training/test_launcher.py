from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRELOAD = """
import os, sys, torch
def ask(): raise SystemExit("asked for a GPU")
torch.cuda.is_available = ask
torch.cuda.init = ask
from autoresearch_ray.training.launcher import PRELOADED, _import_torch
_import_torch(sys.argv[1])
assert torch.cuda.is_available is ask
assert all(name in sys.modules for name in PRELOADED[sys.argv[1]])
print(len(os.listdir("/proc/self/task")), [m for m in ("ray", "pyarrow", "psutil", "pydantic") if m in sys.modules])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_importing_ahead_starts_no_thread_and_no_gpu(device: str) -> None:
    """A process that has done either cannot fork a child that trains."""
    environment = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PRELOAD, device]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "1 []\n", done.stderr
