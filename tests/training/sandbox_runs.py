"""Runs a piece of code behind the walls in an interpreter of its own, as root or as an ordinary user."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SYSTEM_PYTHON = "/usr/bin/python3"
ORDINARY = 54_321
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the walls are Linux's")
AS_ROOT = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
BEGIN = """
import json, os, sys, tempfile
from pathlib import Path
from autoresearch_ray.training import launcher, processes
from autoresearch_ray.training.sandbox import probe, readable, walls
folder = Path(tempfile.mkdtemp(dir="/tmp")); folder.chmod(0o711)
processes.adopt_orphans()
def plan(**changed):
    access = readable.access("cpu")
    values = dict(required=True, folder=str(folder), read=access.read, listed=access.listed, used=access.used,
        hidden=access.hidden, cuda=False, gpu_fraction=1.0, memory_bytes=1 << 30, processes=64, open_files=256,
        scratch_bytes=1 << 24, scratch_files=500)
    return walls.Plan(**{**values, **changed})
def inside(made, act):
    scratch = folder / "scratch"; scratch.mkdir(exist_ok=True)
    made.prepare(); read, write = os.pipe(); pid = os.fork()
    if pid == 0:
        try:
            made.enter(scratch); os.chdir(scratch); told = act()
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(write, json.dumps(told).encode()); os._exit(0)
    os.close(write); told = json.loads(open(read, "rb").read()); os.waitpid(pid, 0); return told
def refusal(act):
    try: act()
    except OSError as error: return type(error).__name__
    return "done"
def tell(value): print(json.dumps(value))
"""


def told(code: str, user: int | None = None) -> Any:
    """Return what the code tells last.

    Args:
        code: Python that comes after `BEGIN`.
        user: whom it runs as; None is ourselves.
    """
    python = sys.executable if user is None else SYSTEM_PYTHON
    options: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    done = subprocess.run(
        [python, "-c", BEGIN + code],
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@functools.lru_cache
def users() -> list[int | None]:
    """Return as whom a test can run here: as ourselves, and as an ordinary user where we are root."""
    if os.geteuid() or not os.path.exists(SYSTEM_PYTHON):
        return [None]
    reached = subprocess.run(
        [SYSTEM_PYTHON, "-c", "import sys; assert sys.version_info >= (3, 10); import autoresearch_ray"],
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        user=ORDINARY,
        group=ORDINARY,
        extra_groups=[],
        capture_output=True,
        check=False,
    )
    return [None, ORDINARY] if reached.returncode == 0 else [None]


EVERYBODY = pytest.mark.parametrize("user", users(), ids=lambda user: "ourselves" if user is None else "ordinary")
