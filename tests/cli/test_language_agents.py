"""Runs whose mutations come from a command-line agent, or from whoever answers an inbox."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoresearch_ray.lineage import snapshot
from autoresearch_ray.operators import transcripts
from autoresearch_ray.training import processes
from autoresearch_ray.variant import Birth, Operator

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-c", "from autoresearch_ray.cli.app import main; main()"]
PROGRAM = "LR = 0.5\nSTEPS = 3\nprint(f'METRIC score={(LR - 0.1) ** 2 + STEPS / 100}')\n"
AGENT = """
import re, sys
prompt = sys.stdin.read()
assert 'Lower the score' in prompt
text = open('solve.py').read()
number = float(re.search(r'LR = (\\S+)', text)[1])
open('solve.py', 'w').write(re.sub(r'LR = \\S+', f'LR = {number * 0.9:.4g}', text))
open('notes.md', 'a').write(f'{number}\\n')
print('HYPOTHESIS: a lower rate')
"""

COSTS = """
import json, re
tried = len(open('notes.md').read())
text = open('solve.py').read()
open('solve.py', 'w').write(re.sub(r'LR = \\S+', f'LR = {0.4 - 0.05 * tried:.4g}', text))
open('notes.md', 'a').write('x')
print(json.dumps({'type': 'result', 'is_error': False, 'result': 'HYPOTHESIS: a lower rate', 'total_cost_usd': 0.4}))
"""
HANGS = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)
with open({part!r}, 'w') as file:
    file.write(f'{{os.getpid()}} {{child.pid}}')
os.rename({part!r}, {pids!r})
time.sleep(600)
"""


def config(folder: Path, operator: Any, **keys: Any) -> Path:
    (folder / "program").mkdir()
    (folder / "program" / "solve.py").write_text(PROGRAM)
    (folder / "program.md").write_text("Lower the score.\n")
    values = {
        "storage": str(folder / "runs"),
        "program": str(folder / "program.md"),
        "seed_model": str(folder / "program"),
        "evolved_file": "solve.py",
        "metric": {"kind": "reported", "name": "score"},
        "operator": operator,
        "llm": {"parameters_share": 0.3},
        "crossover_probability": 0.0,
        "train_seconds": 1,
        "max_births": 8,
        "max_experiments": None,
        "seed_replicates": 1,
        **keys,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def run(path: Path, name: str = "run") -> subprocess.CompletedProcess[str]:
    words = [*COMMAND, "run", "-c", str(path), "--name", name]
    return subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)


def asked(folder: Path) -> list[dict[str, Any]]:
    rows = snapshot.read(folder / "runs" / "run", bulky=True).variants.to_pylist()
    assert len(rows) == 9
    return [row for row in rows if row["operator"] == "mutation"]


def test_an_agent_breeds(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(AGENT)
    path = config(tmp_path, {"command": [sys.executable, str(tmp_path / "agent.py")]})
    ended = run(path)
    assert ended.returncode == 0, ended.stderr
    rows = asked(tmp_path)
    assert rows
    completed = [row for row in rows if row["status"] == "completed"]
    assert completed
    assert all(row["hypothesis"] == "a lower rate" and row["llm_usd"] is None for row in completed)
    assert ended.stdout.count("warning: the agent does not say what it cost, so max_cost_usd=20 cannot hold: set") == 1
    folder = tmp_path / "runs" / "run"
    assert len((folder / "agent" / "notes.md").read_text().splitlines()) >= len(completed)
    first = completed[0]
    birth = Birth(first["number"], first["variant_id"], 0, Operator.MUTATION, 0)
    (exchange,) = transcripts.of_variant(folder, birth)
    assert exchange.prompt_hash == first["prompt_hash"]
    assert "HYPOTHESIS: a lower rate" in (exchange.reply or "")


def test_what_an_agent_says_that_it_cost_is_held_against_the_cap(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(COSTS)
    operator = {"command": [sys.executable, str(tmp_path / "agent.py")], "at_once": 1}
    ended = run(config(tmp_path, operator, llm={"parameters_share": 0.0}, max_cost_usd=1.0))
    assert ended.returncode == 0, ended.stderr
    assert "warning" not in ended.stdout
    costs = [row["llm_usd"] for row in asked(tmp_path)]
    assert costs == [0.4, 0.4]  # a third might pass the cap
    assert json.loads((tmp_path / "runs" / "run" / "live.json").read_text())["usd"] == 0.8


def test_a_driver_that_is_killed_leaves_no_agent_behind(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(HANGS.format(part=str(tmp_path / "part"), pids=str(tmp_path / "pids")))
    path = config(tmp_path, {"command": [sys.executable, str(tmp_path / "agent.py")]}, llm={"parameters_share": 0.0})
    driver = subprocess.Popen([*COMMAND, "run", "-c", str(path), "--name", "run"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 150
    while not (tmp_path / "pids").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    driver.kill()
    driver.wait()
    agent, child = map(int, (tmp_path / "pids").read_text().split())
    deadline = time.monotonic() + 60
    while processes.usage(agent) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes.usage(agent) is None
    processes.kill(child)  # in a session of its own it goes on where Ray kills the guard first


def unanswered(folder: Path) -> bool:
    """Whether a request, or a refusal of its first answer, waits."""
    if (folder / "answer.py").exists() or folder.name.endswith("-expired"):
        return False
    return len(list(folder.glob("answered-*"))) < 1 + (folder / "refused.md").exists()


def test_an_inbox_is_answered_while_the_run_goes_on(tmp_path: Path) -> None:
    path = config(tmp_path, {"kind": "inbox", "timeout_seconds": 60, "at_once": 2})
    inbox, done = tmp_path / "runs" / "run" / "inbox", threading.Event()
    open_at_once = 0

    def answer() -> None:
        nonlocal open_at_once
        number = 0.4
        while not done.is_set():
            waiting = [each.parent for each in inbox.glob("*/request.md") if unanswered(each.parent)]
            open_at_once = max(open_at_once, len(waiting))
            for folder in waiting:
                number *= 0.9
                (folder / "answer.py").write_text(f"# by hand\n{PROGRAM.replace('0.5', str(number))}")
            time.sleep(0.3)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        ended = run(path)
    finally:
        done.set()
        thread.join()
    assert ended.returncode == 0, ended.stderr
    completed = [row for row in asked(tmp_path) if row["status"] == "completed"]
    assert completed
    assert all(row["model"] == "inbox" and row["hypothesis"] == "by hand" for row in completed)
    assert 1 <= open_at_once <= 2


@pytest.mark.parametrize(
    ("operator", "says"),
    [
        ({"command": ["no-such-agent", "-p"]}, "the command 'no-such-agent' is not found"),
        ({"preset": "aider", "environment": ["NO_SUCH_API_KEY"]}, "'aider' is not found"),
        ({"command": []}, "operator has no command: name one word by word"),
        ("claud", "operator.kind is 'claud'"),
    ],
    ids=["missing", "preset", "empty", "misspelt"],
)
def test_an_agent_that_cannot_be_asked_ends_the_run_before_its_first_birth(
    tmp_path: Path, operator: Any, says: str
) -> None:
    ended = run(config(tmp_path, operator))
    assert ended.returncode == 2, ended.stdout
    assert says in ended.stderr
    assert ended.stderr.count("error: ") == 1
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "runs").exists()


def test_an_agent_that_hangs_costs_a_birth_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text("import time; time.sleep(600)")
    operator = {"command": [sys.executable, str(tmp_path / "agent.py")], "timeout_seconds": 1}
    ended = run(config(tmp_path, operator))
    assert ended.returncode == 0, ended.stderr
    failed = [row for row in asked(tmp_path) if row["status"] == "operator_failed"]
    assert failed
    assert all("did not end within 1 s, and was killed" in row["reason"] for row in failed)
    assert json.loads((tmp_path / "runs" / "run" / "live.json").read_text())["state"] == "finished"
