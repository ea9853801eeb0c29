"""Real runs: real Ray, real trainings of a second, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from autoresearch_ray.lineage import snapshot

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-c", "from autoresearch_ray.cli.app import main; main()"]


def arr(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def prepared(quick: Path) -> Path:
    assert arr("prepare", "-c", quick).returncode == 0
    return quick


def test_a_run_from_beginning_to_end(prepared: Path, tmp_path: Path) -> None:
    ended = arr("run", "-c", prepared, "--name", "mar5", "--set", "crossover_probability=0.3")
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "runs" / "mar5"
    tables = snapshot.read(folder)
    experiments = tables.experiments.to_pylist()
    assert len(experiments) == 6
    assert all(row["status"] == "completed" and row["verified"] for row in experiments)
    assert all(1.0 <= row["train_seconds"] < 4.0 and row["tokens"] > 0 for row in experiments)
    assert len(tables.variants) == 5  # the seed has two trainings
    assert "slots busy" in ended.stdout
    assert "6/6" in ended.stdout
    assert (folder / "progress.png").read_bytes().startswith(b"\x89PNG")
    assert yaml.safe_load((folder / "config.yaml").read_text())["max_experiments"] == 6
    _look_around(tmp_path / "runs")


def _look_around(storage: Path) -> None:
    status = json.loads(arr("status", "--json", "--storage", storage).stdout)
    assert (status["run"], status["state"], status["experiments"]) == ("mar5", "finished", 6)
    for words in (["tree"], ["best"], ["path", "best"], ["show", "best", "--source"], ["diff", "seed", "best"]):
        shown = arr("lineage", *words, "--storage", storage)
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout.strip()
        json.loads(arr("lineage", *words, "--storage", storage, "--json").stdout)
    header, *rows = arr("lineage", "export", "tsv", "--storage", storage).stdout.splitlines()
    assert header.split("\t")[:5] == ["commit", "val_bpb", "memory_gb", "status", "description"]
    assert len(rows) == 5


def test_a_seed_that_crashes_shows_its_traceback_and_leaves_no_run(prepared: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    root = Path(__file__).parents[2] / "seed_model"
    (model / "prepare.py").write_text((root / "prepare.py").read_text())
    text = "from prepare import evaluate_bpb, make_dataloader\nLR = 0.1\nmake_dataloader, evaluate_bpb\nprint(1 // 0)\n"
    (model / "train.py").write_text(text)
    ended = arr("run", "-c", prepared, "--set", f"seed_model={model}", "--name", "bad")
    assert ended.returncode == 2, ended.stdout
    assert "ZeroDivisionError" in ended.stderr
    assert "line 4" in ended.stderr
    assert not (tmp_path / "runs" / "bad").exists()


@pytest.fixture
def running(prepared: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that would take minutes, some trainings into it."""
    words = ["run", "-c", prepared, "--name", "long", "--set", "max_experiments=200"]
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (tmp_path / "runs" / "long" / "live.json").exists() and _experiments(tmp_path) >= 3:
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _experiments(tmp_path: Path) -> int:
    return len(snapshot.read(tmp_path / "runs" / "long").experiments)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_polite_end_finishes_what_trains(running: subprocess.Popen[str], tmp_path: Path, number: int) -> None:
    running.send_signal(number)
    output, errors = running.communicate(timeout=120)
    assert running.returncode == 130, errors
    assert "long: stopped" in output
    tables = snapshot.read(tmp_path / "runs" / "long")
    trained = {row["variant_id"] for row in tables.experiments.to_pylist()}
    assert {row["variant_id"] for row in tables.variants.to_pylist() if row["status"] == "completed"} == trained
    assert json.loads((tmp_path / "runs" / "long" / "live.json").read_text())["state"] == "stopped"


def test_a_run_does_not_go_on_under_another_class(prepared: Path, tmp_path: Path) -> None:
    assert arr("run", "-c", prepared, "--name", "mar5", "--set", "max_experiments=3").returncode == 0
    refused = arr("resume", "mar5", "--storage", tmp_path / "runs", "--set", "train_seconds=2")
    assert (refused.returncode, "cannot change within a run" in refused.stderr) == (2, True)
    path = tmp_path / "runs" / "mar5" / "config.yaml"
    path.write_text(path.read_text().replace("train_seconds: 1.0", "train_seconds: 2.0"))
    refused = arr("resume", "mar5", "--storage", tmp_path / "runs")
    assert refused.returncode == 2, refused.stdout
    assert "cannot go on: its scores were measured under" in refused.stderr
    assert "Starting Ray" not in refused.stdout  # nor is a language model asked, which would cost


def test_a_second_ctrl_c_stops_now_and_loses_nothing_finished(running: subprocess.Popen[str], tmp_path: Path) -> None:
    finished = _experiments(tmp_path)
    running.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 30
    while json.loads((tmp_path / "runs" / "long" / "live.json").read_text())["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert _experiments(tmp_path) >= finished


def test_scores_of_a_file_on_fresh_seeds(prepared: Path) -> None:
    train = Path(__file__).parents[2] / "seed_model" / "train.py"
    ended = arr("score", train, "-c", prepared, "--seeds", "2", "--holdout", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert len(found["results"]) == 2
    assert found["results"][0][0] != found["results"][1][0]
    assert all(result["verified"] for _, result in found["results"])
    assert found["error"] > 0
    kept = [result["holdout_bpb"] for _, result in found["results"]]
    assert found["holdout_mean"] == sum(kept) / 2 > 0
    assert found["results"][0][1]["val_bpb"] != kept[0]
