from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from autoresearch_ray.cli import sandboxing
from autoresearch_ray.cluster.trainer import trainer_of
from autoresearch_ray.config import Config
from autoresearch_ray.errors import ConfigError, DataError
from autoresearch_ray.training.sandbox.promises import Promise

BROKEN = (Promise("reading", True), Promise("network", False, "a variant connected by TCP", "use Linux"))


@pytest.fixture
def program(tmp_path: Path) -> Path:
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "train.py").write_text("import yaml\nprint('METRIC val_bpb=1')\n")
    return folder


def configured(program: Path, **changed: object) -> Config:
    return Config(metric={"kind": "reported"}, seed_model=program, storage=program.parent, **changed)  # type: ignore[arg-type]


def test_required_refuses_with_the_reason(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxing, "check_sandbox", lambda _: BROKEN)
    with pytest.raises(ConfigError, match=r"network \(a variant connected by TCP; remedy: use Linux\)"):
        sandboxing.check(trainer_of(configured(program, sandbox="required")))


def test_best_effort_says_one_line(
    program: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sandboxing, "check_sandbox", lambda _: BROKEN)
    sandboxing.check(trainer_of(configured(program)))
    assert capsys.readouterr().err.count("\n") == 1
    assert sandboxing.missing(BROKEN) == (
        "warning: the sandbox does not keep 1 of 2 promises on this machine (network): "
        "`arr doctor` says why and what to do."
    )
    assert sandboxing.missing(BROKEN[:1]) is None


def test_off_tries_nothing_and_says_so(
    program: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(sandboxing, "check_sandbox")
    sandboxing.check(trainer_of(configured(program, sandbox="off")))
    assert "sandbox is off" in capsys.readouterr().err


def test_a_program_may_import_what_its_files_import(program: Path) -> None:
    access = trainer_of(configured(program)).confinement
    assert {"torch", "numpy", "PyYAML"} <= set(access.packages)
    assert access.command is None


def test_a_command_may_read_what_it_names(program: Path, tmp_path: Path) -> None:
    (tmp_path / "table.txt").touch()
    command = ("bash", "-c", "true", str(tmp_path / "table.txt"), str(tmp_path / "none"))
    confinement = trainer_of(configured(program, command=command)).confinement
    assert confinement.command is not None
    assert confinement.command.endswith("/bash")
    assert confinement.sandbox.readable == (tmp_path / "table.txt",)


def test_what_is_scored_on_cannot_be_made_readable(cli: Callable[..., object], quick: Path, corpus: Path) -> None:
    prepared: object = cli("prepare", "-c", quick)
    assert getattr(prepared, "code", None) == 0
    for shown in (corpus, corpus.parent, corpus / "000.txt"):
        refused = cli("score", Path("seed_model/train.py").resolve(), "-c", quick, "--set", f"readable=[{shown}]")
        assert getattr(refused, "code", None) == 2
        assert "would show variants what they are scored on" in getattr(refused, "err", "")


def test_what_is_not_there_cannot_be_read(program: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        trainer_of(configured(program, readable=("/nowhere",)))
