"""`plan`: what makes no sense is a sentence, and what is recommended can be pasted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoresearch_ray.cluster.calibrated import CALIBRATED
from autoresearch_ray.cluster.simulated import World, workers
from autoresearch_ray.cluster.simulation import simulate
from autoresearch_ray.config import Config

Cli = Callable[..., Any]
QUICK = ("--gpus", "4", "--hours", "0.3", "--population-size", "3", "--seconds", "0.1")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--gpus", "0"), "--gpus is 0: must lie between 1 and 100000"),
        (("--gpus", "-3"), "--gpus is -3"),
        (("--hours", "0"), "--hours is 0: must be more than 0"),
        (("--hours", "nan"), "--hours is nan"),
        (("--hours", "inf"), "--hours is inf"),
        (("--minutes-per-experiment", "-5"), "--minutes-per-experiment is -5"),
        (("--minutes-per-experiment", "1e9"), "--minutes-per-experiment is 1e+09"),
        (("--seconds", "0"), "--seconds is 0"),
        (("--population-size", "8,many"), "--population-size is '8,many': name whole numbers"),
        (("--population-size", ""), "name whole numbers with commas"),
        (("--population-size", "8,0"), "each must lie between 1 and 10000"),
        (("--population-size", "99999"), "each must lie between 1 and 10000"),
        (("--population-size", "2,3,4,5,6,7,8,9,10"), "at most 8 can be compared"),
        (("--gpus", "1", "--hours", "0.2"), "have time for 2 experiments: plan for at least 10"),
        (("--out", "plan.pdf"), "must be a file ending in .png"),
        (("--out", "nowhere/plan.png"), "in a folder that exists"),
        (("--from", "nothing"), "nothing"),
    ],
)
def test_nonsense_is_a_sentence(
    cli: Cli, arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = cli("plan", *arguments)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert says in outcome.err
    assert outcome.out == ""
    assert not list(tmp_path.glob("*.png"))


def test_a_lineage_too_short_to_calibrate_from(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "short"
    simulate(Config(max_experiments=8), World(CALIBRATED, workers(2)), folder=folder)
    (folder / "config.yaml").write_text("{}\n")
    outcome = cli("plan", "--from", "short", "--storage", tmp_path / "runs")
    assert outcome.code == 2
    assert "a plan from it needs at least 20" in outcome.err


def test_a_plan_is_a_table_a_picture_and_a_configuration(cli: Cli, tmp_path: Path) -> None:
    picture = tmp_path / "plan.png"
    outcome = cli("plan", *QUICK, "--out", picture)
    assert outcome.code == 0, outcome.err
    assert "1 (greedy)" in outcome.out
    assert "recommended" in outcome.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    pasted = yaml.safe_load(outcome.out[outcome.out.index("# recommended") :])
    config = Config(**pasted)
    assert config.population_size in (1, 3)
    assert (config.max_hours, config.max_experiments) == (0.3, None)


def test_a_plan_from_a_run_takes_its_own_figures(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "night"
    slow = World(CALIBRATED, workers(2), experiment_seconds=60.0, train_seconds=50.0)
    simulate(Config(max_experiments=40), slow, folder=folder)
    (folder / "config.yaml").write_text("num_gpus: 0\nnum_islands: 1\n")
    out = tmp_path / "plan.png"
    asked = ("--gpus", "2", "--hours", "0.3", "--population-size", "1", "--seconds", "0.1", "--json", "--out", out)
    outcome = cli("plan", "--from", "night", "--storage", tmp_path / "runs", *asked)
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["experiments"] == pytest.approx(36, abs=2)  # 18 minutes of one each, on two slots
    assert found["calibration"]["run"] == "simulated"
    assert [each["population_size"] for each in found["sizes"]] == [1]
    assert found["start"] == pytest.approx(0.9979, abs=0.002)
    assert all(each["expected"][-1] < found["start"] for each in found["sizes"])
    assert yaml.safe_load(found["configuration"])["num_gpus"] == 0
