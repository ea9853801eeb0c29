"""Agents end with whoever runs them, however that ends: real processes, really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoresearch_ray.operators import guard
from autoresearch_ray.training import processes

ROOT = Path(__file__).parents[2]
AGENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)
with open('pids.part', 'w') as file:
    file.write(f'{os.getpid()} {child.pid}')
os.rename('pids.part', 'pids')
time.sleep(600)
"""
OWNER = """
import sys
from pathlib import Path
from autoresearch_ray.config import OperatorConfig
from autoresearch_ray.operators.agent import Agent
folder = Path(sys.argv[1])
agent = Agent(OperatorConfig(command=(sys.executable, str(folder / 'agent.py'))), {}, folder / 'notes.md', 30_000)
agent.run(folder, 'Edit.', 'train.py')
"""


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if processes.usage(pid) is None or Path(f"/proc/{pid}/cmdline").read_bytes() == b"":
            return True  # a zombie has no command line
        time.sleep(0.01)
    return False


def written(path: Path) -> list[int]:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return list(map(int, path.read_text().split()))


def started(*words: str, folder: Path) -> tuple[subprocess.Popen[str], int]:
    """A guard on its own, and the end of its lifeline."""
    theirs, ours = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", guard.__name__, str(theirs), str(folder), *words],
        stdout=subprocess.PIPE, text=True, pass_fds=(theirs,), cwd=ROOT,
    )  # fmt: skip
    os.close(theirs)
    return process, ours


def test_an_agent_and_what_it_started_end_when_their_owner_is_killed(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(AGENT)
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], cwd=ROOT)
    pids = written(tmp_path / "pids")
    (watching,) = processes.children(owner.pid)
    assert not any(map(gone_now, pids))
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert all(map(gone, (*pids, watching)))


def gone_now(pid: int) -> bool:
    return processes.usage(pid) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_guard_that_is_ended_does_not_leave_the_agent_behind(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "agent.py").write_text(AGENT)
    process, lifeline = started(sys.executable, "agent.py", folder=tmp_path)
    agent, child = written(tmp_path / "pids")
    process.send_signal(number)
    process.wait(60)  # not for its output: what the agent started may still hold it
    os.close(lifeline)
    assert gone(agent)
    if number is signal.SIGTERM:  # killed, it can only take the agent itself along
        assert gone(child)
    else:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("code", "ends"), [("print('done')", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_it_ends_as_the_command_does_without_what_that_left_behind(tmp_path: Path, code: str, ends: int) -> None:
    left = "import subprocess, sys; left = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], "
    left += "start_new_session=True, stdout=subprocess.DEVNULL); open('left', 'w').write(str(left.pid))"
    process, lifeline = started(sys.executable, "-c", f"{left}\n{code}", folder=tmp_path)
    process.communicate(timeout=60)
    os.close(lifeline)
    assert process.returncode == ends
    assert gone(int((tmp_path / "left").read_text()))


def test_a_command_that_cannot_be_started_is_told_apart(tmp_path: Path) -> None:
    process, lifeline = started("no-such-agent-here", folder=tmp_path)
    printed, _ = process.communicate(timeout=60)
    os.close(lifeline)
    assert (process.returncode, printed) == (guard.NOT_STARTED, "No such file or directory\n")
