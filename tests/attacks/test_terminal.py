"""Writes to whoever looks: terminal escapes, markup, hidden and reordered text, in all that a variant says."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import synthetic
from arena import Arena
from hostile import ESCAPES, FORBIDDEN, MARKUP, TEXT
from rich.console import Console

from autoresearch_ray.cli import scoring
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Result, Status

if TYPE_CHECKING:
    from conftest import Outcome

SOURCE = f"# {TEXT!r}\nLEARNING_RATE = 0.1  # {MARKUP} \x9b2J\u202e\n"


@pytest.fixture
def hostile_run(tmp_path: Path) -> Path:
    """A run whose child says hostile things wherever a variant or a model can say something."""
    folder = tmp_path / "runs" / "evil"
    seed = synthetic.variant(0, run="evil", source="LEARNING_RATE = 0.2\n")
    child = synthetic.variant(1, (seed,), run="evil", hypothesis=TEXT, source=SOURCE, model=MARKUP)
    with LineageStore.create(folder, "evil") as store:
        for born, status, score in ((seed, Status.COMPLETED, 3.0), (child, Status.COMPLETED, 2.9)):
            store.reserve(born.birth)
            store.propose(born)
            ran = synthetic.experiment(born)
            now = synthetic.START
            result = Result(
                status, TEXT, score, log_tail=TEXT, hardware=MARKUP, node=TEXT, started_at=now, ended_at=now
            )
            store.append("experiments", schema.experiment_row(synthetic.origin("evil"), ran, result))
            store.append("variants", schema.variant_row(synthetic.origin("evil"), born, status, TEXT))
        store.commit()
    return folder


COMMANDS = (
    ("tree",),
    ("show", "1"),
    ("show", "1", "--source"),
    ("diff", "0", "1"),
    ("path", "1"),
    ("best",),
    ("search", "fooled"),
    ("sql", "SELECT hypothesis, variants.reason, source, log_tail FROM variants JOIN experiments USING (variant_id)"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command)[:20])
def test_what_the_commands_show(
    cli: Callable[..., Outcome], hostile_run: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = cli("lineage", *with_run(command, hostile_run))
    assert told.code == 0, told.err
    assert not set(FORBIDDEN) & set(told.out + told.err)
    assert "fooled" in told.out or command[0] in ("best", "diff"), told.out


def with_run(command: tuple[str, ...], run: Path) -> list[str]:
    """Return the command about that run; a number becomes the name of a variant."""
    ids = {"0": "seed", "1": "best"}
    return [*(ids.get(word, word) for word in command), "--storage", str(run.parent)]


def test_markup_is_shown_and_not_obeyed(cli: Callable[..., Outcome], hostile_run: Path) -> None:
    told = cli("lineage", *with_run(("show", "1"), hostile_run))
    assert "[bold red]fooled[/]" in told.out.replace("\n", " ")


def test_json_holds_no_escape(cli: Callable[..., Outcome], hostile_run: Path) -> None:
    told = cli("lineage", *with_run(("show", "1"), hostile_run), "--json")
    assert "\x1b" not in told.out
    assert "fooled" in json.dumps(json.loads(told.out))


SHOUTS = f"""
import sys
print({ESCAPES.encode("utf-8", "surrogatepass")!r}.decode())
print({MARKUP!r}, "\\x1b[8mhidden\\x1b[0m", "\\rover the line", "\\u202e\\u200b")
sys.stdout.buffer.write(b"\\x1b[2J\\xff\\xfe\\x9b31m\\x07")
raise ValueError("\\x1b]0;title\\x07 {MARKUP} \\x9b2J \\u202egnp\\nsecond line \\x1b[1A")
"""


def test_logs_and_reasons_of_a_real_variant(walled: Arena) -> None:
    result = walled.run(SHOUTS)
    assert result.status is Status.CRASHED
    assert not set(FORBIDDEN) & set(result.log_tail + result.reason)
    assert result.reason.startswith("ValueError")
    assert "\n" not in result.reason
    scores = scoring.Scores(Path("train.py"), "cpu", ((1, result),), None, None)
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(scoring._render(scores))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert not set(FORBIDDEN) - {"\x1b"} & set(shown)
    assert "[bold red]fooled[/]" in shown
