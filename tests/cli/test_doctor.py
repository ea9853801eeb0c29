from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from autoresearch_ray.cli import diagnosis
from autoresearch_ray.cli.diagnosis import Diagnosis
from autoresearch_ray.cluster import node
from autoresearch_ray.cluster.node import Examination, Finding, Question, examine
from autoresearch_ray.errors import SupervisionError
from autoresearch_ray.training.confinement import Confinement
from autoresearch_ray.training.sandbox.promises import PROMISES, Promise

if TYPE_CHECKING:
    from conftest import Outcome

HELD = tuple(Promise(name, True, by=("landlock", "seccomp")) for name in PROMISES)
BROKEN = replace(
    HELD[3], held=False, why_not="a variant reached a server; seccomp: not there", remedy="use Linux on x86_64"
)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "check_sandbox", lambda confinement: HELD)


def drawn(found: Diagnosis) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(diagnosis._render(found))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_promise_of_this_machine_is_tried(cli: Callable[..., Outcome], quick: Path) -> None:
    told = cli("doctor", "-c", quick, "--json")
    found = json.loads(told.out)
    assert found["sandbox"] == "best_effort"
    promises = {promise["name"]: promise for promise in found["nodes"][0]["promises"]}
    assert set(promises) == set(PROMISES) - {"gpu_memory"}
    assert all(promise["held"] or (promise["why_not"] and promise["remedy"]) for promise in promises.values())
    assert found["holds"] is all(promise["held"] for promise in promises.values())
    assert told.code == (0 if found["holds"] else 1)
    names = [finding["name"] for finding in found["nodes"][0]["findings"]]
    assert {"system", "Python", "torch", "Ray", "git", "room", "GPU", "data"} <= set(names)


@pytest.mark.usefixtures("kept")
def test_a_machine_that_keeps_all(
    cli: Callable[..., Outcome], quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))  # other tests prepare this corpus
    told = cli("doctor", "-c", quick)
    assert told.code == 0
    assert "`sandbox: required` is possible" in told.out
    assert "run`autoresearch-rayprepare`" in "".join(told.out.split())  # a line may end at its hyphen
    assert all(says in " ".join(told.out.split()) for says in PROMISES.values())


def test_a_promise_that_does_not_hold(
    cli: Callable[..., Outcome], quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "check_sandbox", lambda confinement: (*HELD[:3], BROKEN, *HELD[4:]))
    told = cli("doctor", "-c", quick)
    assert told.code == 1
    words = " ".join(told.out.split())
    assert "Not here: a variant reached a server; seccomp: not there." in words
    assert "To mend it: use Linux on x86_64." in words
    assert "`sandbox: required` does not start" in words


def test_a_sandbox_that_cannot_be_tried(
    cli: Callable[..., Outcome], quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(confinement: Confinement) -> None:
        raise SupervisionError("The launcher did not start: no memory")

    monkeypatch.setattr(node, "check_sandbox", fail)
    told = cli("doctor", "-c", quick, "--json")
    assert told.code == 1
    assert json.loads(told.out)["nodes"][0]["promises"] == []
    assert "no memory" in told.out


@pytest.mark.usefixtures("kept")
def test_walls_that_are_switched_off_are_said(cli: Callable[..., Outcome], quick: Path) -> None:
    assert "its variants run without walls" in cli("doctor", "-c", quick, "--set", "sandbox=off").out


def test_eighty_columns_hold_it() -> None:
    findings = (Finding("/a/very/long/path" * 8, False, "cannot be written", "Give somebody the right to write. " * 5),)
    text = drawn(Diagnosis("required", False, (Examination("node[red]", findings, (*HELD, BROKEN)),)))
    assert max(map(len, text.splitlines())) <= 80
    assert "node[red]" in text
    assert "says `required`" in text


def test_a_cluster_says_which_nodes_fail() -> None:
    good, bad = Examination("one", (), HELD), Examination("two", (), (BROKEN,))
    text = " ".join(drawn(Diagnosis("required", False, (good, bad))).split())
    assert "On 1 of 2 nodes" in text
    both = Diagnosis("required", True, (good, replace(good, node="two")))
    assert "on all 2 nodes" in " ".join(drawn(both).split())


def finding(name: str, question: Question) -> Finding:
    return next(found for found in examine(question).findings if found.name == name)


@pytest.mark.usefixtures("kept")
def test_what_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question = Question(Confinement(device="cuda"), tmp_path, "0" * 64, written=(Path("/proc/runs"), tmp_path / "new"))
    monkeypatch.setattr(node, "open_cards", lambda: None)
    assert not finding("GPU", question).good
    assert finding("GPU", replace(question, confinement=Confinement())).good
    assert finding("data", question).says == "not prepared here"
    assert finding("data", replace(question, data_hash=None, data_advice="prepare it")).advice == "prepare it"
    assert finding("data", replace(question, data=None)).good
    assert finding("/proc/runs", question).good is False
    assert finding(str(tmp_path / "new"), question).good
    assert not (tmp_path / "new").exists()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Install git" in finding("git", question).advice
    monkeypatch.setattr(node, "LEAST_FREE_BYTES", 1 << 62)
    assert "Make room" in finding(str(tmp_path / "new"), question).advice
