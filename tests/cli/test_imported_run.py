"""A run of autoresearch is imported, carried on by a run of ours, looked at in every view and taken home."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoresearch_ray.lineage.query import Lineage

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-c", "from autoresearch_ray.cli.app import main; main()"]
PROGRAM = """import os
import random

LR = {rate}
WIDTH = {width}

rng = random.Random(int(os.environ["AUTORESEARCH_SEED"]))
print("---")
print(f"val_bpb: {{0.9 + (LR - 0.1) ** 2 + abs(WIDTH - 256) / 1000 + rng.gauss(0, 0.001):.6f}}")
"""
TRIED = (  # rate, width, score, status, words; as an agent of autoresearch would leave them
    (0.5, 64, 1.252, "keep", "baseline"),
    (0.4, 64, 1.182, "keep", "lower rate"),
    (0.6, 64, 1.440, "discard", "higher rate"),
    (0.4, 128, 1.118, "keep", "wider"),
)
UNKNOWN = ("model", "prompt_hash", "step_size")


def autoresearch(folder: Path) -> None:
    """Make a checkout in which an agent has kept and discarded."""

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", "-C", folder, *who, *arguments], check=True, capture_output=True, text=True
        ).stdout

    folder.mkdir()
    git("init", "-q", "-b", "autoresearch/mar5")
    lines = ["commit\tval_bpb\tmemory_gb\tstatus\tdescription"]
    for rate, width, score, status, words in TRIED:
        (folder / "train.py").write_text(PROGRAM.format(rate=rate, width=width))
        git("add", "train.py")
        git("commit", "-qm", words)
        lines.append(f"{git('rev-parse', '--short=7', 'HEAD').strip()}\t{score}\t44.0\t{status}\t{words}")
        if status == "discard":
            git("reset", "-q", "--hard", "HEAD~1")
    lines.append("abcdef1\t0.000000\t0.0\tcrash\tdouble width (OOM)")
    (folder / "results.tsv").write_text("\n".join(lines) + "\n")


def arr(*words: object) -> str:
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(*words: object) -> Any:
    return json.loads(arr(*words, "--json"))


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mar5`, imported, and `on`, which carries it on."""
    folder = tmp_path_factory.mktemp("imported")
    autoresearch(folder / "checkout")
    (folder / "program.md").write_text("Find better numbers.\n")
    config = {
        "metric": {"kind": "reported"},
        "seed_model": str(folder / "checkout"),
        "program": str(folder / "program.md"),
        "storage": str(folder / "runs"),
        "max_experiments": 10,
        "num_cpus": 0.5,
        "train_seconds": 30,
    }
    (folder / "my.yaml").write_text(yaml.safe_dump(config))
    arr("import", folder / "checkout", "--branch", "autoresearch/mar5", "--storage", folder / "runs")
    arr("run", "-c", folder / "my.yaml", "--from", "mar5", "--name", "on")
    return folder / "runs"


def test_programs_and_ideas_are_carried_and_scores_are_not(storage: Path) -> None:
    ours, theirs = Lineage.open(storage / "on"), Lineage.open(storage / "mar5")
    rows = [ours.row(place) for place in range(len(ours))]
    carried = [row for row in rows if row["carried_from"]]
    assert {row["hypothesis"] for row in carried} == {"lower rate", "higher rate", "wider"}, "a crash leaves nothing"
    for row in carried:
        run, _, name = row["carried_from"].partition("/")
        assert (run, row["operator"]) == ("mar5", "carried")
        assert ours.source(ours.find(row["variant_id"])) == theirs.source(theirs.find(name))
        assert {row[column] for column in UNKNOWN} == {None}
    experiments = ours.tables.experiments.to_pylist()
    assert not [each for each in experiments if each["carried_from"]], "another class: trained again here"
    assert ours.score(ours.find(carried[0]["variant_id"])) is not None


def test_every_view_reads_the_run_that_carries_it_on(storage: Path) -> None:
    wider = next(
        row for row in told("lineage", "best", "on", "--storage", storage)["best"] if row["hypothesis"] == "wider"
    )
    shown = told("lineage", "show", wider["variant_id"], "on", "--storage", storage)
    assert shown["carried_from"].startswith("mar5/")
    assert not any(each["verified"] for each in shown["experiments"])
    assert "carried from" in arr("lineage", "show", wider["variant_id"], "on", "--storage", storage)
    steps = told("lineage", "path", wider["variant_id"], "on", "--storage", storage)["steps"]
    assert [step["operator"] for step in steps] == ["seed", "carried"], "foreign descent is not claimed"
    tree = told("lineage", "tree", "on", "--all", "--storage", storage)
    assert sum(node["operator"] == "carried" for node in tree["nodes"]) == 3
    assert tree["births"] == len(tree["nodes"])


@pytest.mark.parametrize("run", ["mar5", "on"])
def test_its_best_goes_home_with_a_patch_and_a_commit_a_step(storage: Path, tmp_path: Path, run: str) -> None:
    taken = told("champion", run, "--storage", storage, "--out", tmp_path / "home")
    lineage = Lineage.open(storage / run)
    way = lineage.path(lineage.find(taken["variant_id"]))
    assert taken["commits"] == len(way)
    assert (tmp_path / "home" / "train.py").read_text() == lineage.source(way[-1])
    (tmp_path / "train.py").write_text(lineage.source(way[0]))
    subprocess.run(["git", "apply", tmp_path / "home" / "champion.patch"], cwd=tmp_path, check=True)
    assert (tmp_path / "train.py").read_text() == lineage.source(way[-1])
    assert "unverified" in (tmp_path / "home" / "evidence.html").read_text(encoding="utf-8")
