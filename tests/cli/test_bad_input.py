"""Every mistake a user can make before a run gets one sentence, exit code 2, and leaves nothing half-made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoresearch_ray.lineage.store import LineageStore

Cli = Callable[..., Any]


def refused(outcome: Any, says: str) -> None:
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: ")
    assert says in outcome.err
    assert "Traceback (most recent call last)" not in outcome.err
    assert outcome.out == ""


def test_an_unknown_key_names_the_nearest(cli: Cli, quick: Path, tmp_path: Path) -> None:
    refused(cli("run", "-c", quick, "--set", "populaton_size=3"), "nearest known key is 'population_size'")
    assert not (tmp_path / "runs").exists()


def test_a_value_out_of_range_says_the_range(cli: Cli, quick: Path) -> None:
    refused(
        cli("run", "-c", quick, "--set", "tournament_size=100"), "tournament_size is 100: must lie between 1 and 64"
    )


def test_a_configuration_that_is_not_there(cli: Cli) -> None:
    refused(cli("run", "-c", "nowhere.yaml"), "there is no such configuration file")


def test_a_missing_and_an_empty_program(cli: Cli, quick: Path, tmp_path: Path) -> None:
    refused(cli("run", "-c", quick, "--set", f"program={tmp_path}/none.md"), "none.md: cannot be read")
    empty = tmp_path / "empty.md"
    empty.write_text(" \n")
    refused(cli("run", "-c", quick, "--set", f"program={empty}"), "empty.md is empty")
    assert not (tmp_path / "runs").exists()


def test_a_seed_that_is_not_there_or_does_not_parse(cli: Cli, quick: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    refused(cli("run", "-c", quick, "--set", f"seed_model={model}"), "there is no such file")
    model.mkdir()
    (model / "train.py").write_text("def f(:\n")
    refused(cli("run", "-c", quick, "--set", f"seed_model={model}"), "does not parse")
    (model / "train.py").write_text("print('hello')\n")
    refused(cli("run", "-c", quick, "--set", f"seed_model={model}"), "does not use make_dataloader and evaluate_bpb")
    assert not (tmp_path / "runs").exists()


def test_a_run_name_that_exists(cli: Cli, quick: Path, tmp_path: Path) -> None:
    (tmp_path / "runs" / "mar5").mkdir(parents=True)
    refused(cli("run", "-c", quick, "--name", "mar5"), "mar5 exists already")


def test_a_run_name_that_is_a_path(cli: Cli, quick: Path) -> None:
    refused(cli("run", "-c", quick, "--name", "../mar5"), "name is '../mar5'")


def test_data_that_is_not_prepared(cli: Cli, quick: Path, tmp_path: Path) -> None:
    for command in (["run"], ["score", Path(__file__).parents[2] / "seed_model" / "train.py"]):
        outcome = cli(*command, "-c", quick, "--set", "data.sequence_length=48")
        refused(outcome, "run `autoresearch-ray prepare` with the same configuration first")
    assert not (tmp_path / "runs").exists()


def test_an_address_that_nobody_answers_at(cli: Cli, quick: Path, tmp_path: Path) -> None:
    assert cli("prepare", "-c", quick).code == 0
    outcome = cli("run", "-c", quick, "--address", "127.0.0.1:1", "--json")
    refused(outcome, "No Ray cluster answers at 127.0.0.1:1")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "command", [["status"], ["confirm"], ["lineage", "tree"], ["lineage", "best"], ["lineage", "export", "tsv"]]
)
def test_a_run_that_is_not_there(cli: Cli, tmp_path: Path, command: list[str]) -> None:
    refused(cli(*command, "--storage", tmp_path), "there is no run in")
    (tmp_path / "photos").mkdir()
    refused(cli(*command, "photos", "--storage", tmp_path), "is not a run")
    refused(cli(*command, "fotos", "--storage", tmp_path), "there is no run 'fotos'")


def test_confirm_without_a_finished_experiment_or_while_the_run_lives(cli: Cli, quick: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mar5"
    with LineageStore.create(folder, "mar5"):
        (folder / "config.yaml").write_text(quick.read_text())
        refused(cli("confirm", "--storage", tmp_path / "runs"), "mar5 is running")
    refused(cli("confirm", "mar5", "--storage", tmp_path / "runs"), "no finished experiment")
    for words in (["--top", "0"], ["--seeds", "-1"], ["--seeds", "many"]):
        assert cli("confirm", *words, "--storage", tmp_path / "runs").code == 2


def test_a_file_that_cannot_be_scored(cli: Cli, quick: Path, tmp_path: Path) -> None:
    refused(cli("score", tmp_path / "none.py", "-c", quick), "none.py: cannot be read")
    broken = tmp_path / "broken.py"
    broken.write_text("x = (\n")
    refused(cli("score", broken, "-c", quick), "broken.py cannot be trained")


def test_words_that_are_no_command(cli: Cli) -> None:
    for words in (["frobnicate"], ["run", "--frobnicate"], ["lineage", "show"], ["score", "x", "--seeds", "0"]):
        outcome = cli(*words)
        assert outcome.code == 2
        assert "Traceback" not in outcome.err


def test_prepare_says_where_and_does_nothing_the_second_time(cli: Cli, quick: Path) -> None:
    first = cli("prepare", "-c", quick, "--set", "data.val_tokens=2048", "--json")
    again = cli("prepare", "-c", quick, "--set", "data.val_tokens=2048", "--json")
    assert (first.code, again.code) == (0, 0)
    assert json.loads(first.out)["made"] is True
    assert json.loads(again.out) == {"folder": json.loads(first.out)["folder"], "made": False}


def test_prepare_of_a_corpus_that_is_not_there(cli: Cli, quick: Path, tmp_path: Path) -> None:
    outcome = cli("prepare", "-c", quick, "--set", f"data.corpus={tmp_path}/none")
    assert outcome.code == 2
    assert "none" in outcome.err
