"""A directory with a short script that prints its score evolves, without torch and without prepare.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from autoresearch_ray.lineage import snapshot

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-c", "from autoresearch_ray.cli.app import main; main()"]
SCRIPT = """
import os
import random

LR = 0.5
WIDTH = 64

assert "torch" not in __import__("sys").modules
rng = random.Random({seed})
loss = (LR - 0.1) ** 2 + abs(WIDTH - 256) / 1000 + rng.gauss(0, 0.001)
print("---")
print(f"accuracy: {{1 - loss:.6f}}")
"""


def evolve(tmp_path: Path, seed: str, **keys: object) -> tuple[subprocess.CompletedProcess[str], Path]:
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "train.py").write_text(SCRIPT.format(seed=seed))
    (tmp_path / "program.md").write_text("Find better numbers.\n")
    config = {
        "metric": {"kind": "reported", "name": "accuracy", "goal": "maximize"},
        "seed_model": str(tmp_path / "program"),
        "program": str(tmp_path / "program.md"),
        "storage": str(tmp_path / "runs"),
        "max_experiments": 40,
        "num_cpus": 0.5,
        "train_seconds": 30,
        **keys,
    }
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(config))
    command = [*COMMAND, "run", "-c", str(tmp_path / "my.yaml"), "--name", "mine"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return ended, tmp_path / "runs" / "mine"


def test_a_program_that_reports_its_score_evolves_upwards(tmp_path: Path) -> None:
    ended, folder = evolve(tmp_path, 'int(os.environ["AUTORESEARCH_SEED"])', max_experiments=60)
    assert ended.returncode == 0, ended.stderr
    tables = snapshot.read(folder)
    scores = [row["val_bpb"] for row in tables.experiments.to_pylist() if row["status"] == "completed"]
    assert len(tables.experiments) == 60
    assert not any(row["verified"] for row in tables.experiments.to_pylist())
    assert max(scores) > 0.9  # from 0.648: higher is better, and that is where the search went
    assert "accuracy" in ended.stdout
    assert "bits per byte" not in ended.stdout
    assert "cannot be known" not in ended.stdout
    best = subprocess.run(
        [*COMMAND, "lineage", "best", "--storage", str(folder.parent)], capture_output=True, text=True
    )
    first = best.stdout.splitlines()[1].split()
    name, shown = next((word, first[place + 1]) for place, word in enumerate(first) if len(word) == 7)
    own = [row["val_bpb"] for row in tables.experiments.to_pylist() if row["variant_id"].startswith(name)]
    assert shown == f"{sum(own) / len(own):.4f}"  # the mean of its trainings, not the luckiest
    assert float(shown) > 0.9
    path = subprocess.run(
        [*COMMAND, "lineage", "path", "best", "--storage", str(folder.parent)], capture_output=True, text=True
    )
    assert "+0." in path.stdout


def test_a_program_without_randomness_is_told_that_its_noise_cannot_be_known(tmp_path: Path) -> None:
    ended, _ = evolve(tmp_path, "7", max_experiments=8)
    assert ended.returncode == 0, ended.stderr
    assert "cannot be known" in ended.stdout
