"""Warm supervisors for attacks: one behind the walls, one without, and an impatient one behind them."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from arena import KEY, OPENED, SHARE, Arena, opened
from metric import make_text, scored_with

from autoresearch_ray.training.limits import SizeLimits
from autoresearch_ray.variant import Result, Status


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Close all supervisors after the last attack: other tests shall not run beside them."""
    if nextitem is None or nextitem.path.parent != item.path.parent:
        for supervisor in OPENED:
            supervisor.close()


@pytest.fixture(scope="session")
def ground() -> Iterator[Path]:
    """A folder that every user of this machine may enter, unlike pytest's own: walls must do what modes do not."""
    folder = Path(tempfile.mkdtemp(prefix="attacked-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def outside(ground: Path) -> Iterator[Path]:
    """An empty folder outside the sandbox that anybody may write to, with a file that anybody may read and write."""
    folder = Path(tempfile.mkdtemp(dir=ground))
    folder.chmod(0o777)
    secret = folder / "secret"
    secret.write_text("sk-outside")
    secret.chmod(0o666)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def walled(ground: Path) -> Iterator[Arena]:
    """Behind the walls, and patient."""
    with opened(ground / "walled", "required") as made:
        yield made


@pytest.fixture(scope="session")
def unwalled(ground: Path) -> Iterator[Arena]:
    """Without walls: shows that an attack works where nothing stops it."""
    with opened(ground / "unwalled", "off") as made:
        yield made


@pytest.fixture(scope="session")
def strict(ground: Path) -> Iterator[Arena]:
    """Behind the walls, and impatient, for attacks that wait for ever anyway."""
    limits = {"startup_seconds": 3.0, "scoring_seconds": 0.5, "grace_seconds": 0.2}
    with opened(ground / "strict", "required", longest_training_seconds=3.0, exit_seconds=0.2, **limits) as made:
        yield made


@pytest.fixture(scope="session")
def measured(ground: Path) -> Iterator[Arena]:
    """Behind the walls, with text on which looking ahead would pay: for attacks on the metric."""
    with opened(ground / "measured", "required", data=make_text(ground / "measured" / "data")) as made:
        yield made


@pytest.fixture(scope="session")
def honest(measured: Arena) -> Result:
    """What the honest model gets there."""
    result = measured.run(scored_with("Honest()"))
    assert (result.status, result.reason) == (Status.COMPLETED, "")
    return result


@pytest.fixture(scope="session")
def small(ground: Path) -> Iterator[Arena]:
    """Behind walls that leave little room, for attacks that take all there is."""
    limits = {"startup_seconds": 8.0, "scoring_seconds": 20.0, "exit_seconds": 1.0}
    with opened(ground / "small", "required", walls=SHARE, sizes=SizeLimits(SHARE.memory_bytes), **limits) as made:
        yield made


NEIGHBOUR = """
import ctypes, os, sys, time
held = ctypes.create_string_buffer(bytes(reversed(b"ruobhgien-ks")))
print(ctypes.addressof(held), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Neighbour:
    """A process of the user's own: it stands for a raylet, an editor, another experiment's trusted side."""

    process: subprocess.Popen[bytes]
    address: int
    """Where its memory holds `sk-neighbour`."""

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    def state(self) -> tuple[object, ...]:
        """Return what must not change: alive and not stopped, priorities, affinity, limits, memory."""
        pid, process = self.pid, psutil.Process(self.pid)
        with open(f"/proc/{pid}/mem", "rb") as memory:
            memory.seek(self.address)
            held = memory.read(12)
        return (
            self.process.poll(),
            process.status() in (psutil.STATUS_SLEEPING, psutil.STATUS_RUNNING),
            process.nice(),
            process.ionice(),
            process.cpu_affinity(),
            os.sched_getscheduler(pid),
            [resource.prlimit(pid, limit) for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU)],
            Path(f"/proc/{pid}/oom_score_adj").read_text(),
            held,
        )


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    """A process with a secret in its environment and in its memory; afterwards it must be as it was."""
    environment = {**os.environ, "NEIGHBOUR_API_KEY": "sk-neighbour"}
    command = [sys.executable, "-c", NEIGHBOUR]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        yield Neighbour(process, int(process.stdout.readline()))
        process.kill()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API key in our environment when a variant starts."""
    monkeypatch.setenv(*KEY)
