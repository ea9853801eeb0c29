import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "lineage"))

import synthetic

from autoresearch_ray.explore import snapshot
from autoresearch_ray.lineage import autoresearch

HEAD = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of ours, and one imported without a single program."""
    runs = tmp_path_factory.mktemp("runs")
    synthetic.make(runs / "nov23", 20)
    checkout = runs.parent / f"{runs.name}-checkout"
    checkout.mkdir()
    subprocess.run(["git", "init", "-q", checkout], check=True)
    commit = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"]
    subprocess.run(["git", "-C", checkout, *commit], check=True)
    lines = [
        "baseline\t0.9979\t44.0\tkeep\tbaseline",
        "abcd123\t0.99\t44.0\tkeep\tdeeper",
        "abcd124\t0\t0\tcrash\twider",
    ]
    (checkout / "results.tsv").write_text(HEAD + "\n".join(lines) + "\n")
    autoresearch.import_run(checkout, None, "train.py", runs / "mar5")
    synthetic.make(runs / "nov24", 60)
    return runs


COMMANDS = (
    ("tree",),
    ("best",),
    ("path", "best"),
    ("show", "best", "--source", "--log", "--prompt"),
    ("diff", "seed", "best"),
    ("sql", "SELECT * FROM variants JOIN scores USING (variant_id)"),
    ("export", "tsv"),
    ("export", "csv"),
    ("export", "csv", "--table", "experiments"),
)


@pytest.mark.parametrize("run", ["nov24", "mar5"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command)[:20])
def test_every_view_of_the_terminal_prints_and_gives_json(cli: Callable, storage: Path, run: str, command) -> None:
    printed = cli("lineage", *command, run, "--storage", storage)
    assert (printed.code, printed.err) == (0, "")
    assert printed.out.strip()
    told = cli("lineage", *command, run, "--storage", storage, "--json")
    assert told.code == 0
    assert json.loads(told.out)


@pytest.mark.parametrize("run", ["nov24", "mar5"])
def test_the_report_is_two_files(cli: Callable, storage: Path, tmp_path: Path, run: str) -> None:
    assert cli("report", run, "--storage", storage, "--out", tmp_path / "out").code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"progress.png", "report.html"}


def test_the_champion_goes_home(cli: Callable, storage: Path, tmp_path: Path) -> None:
    done = cli("champion", "nov24", "--storage", storage, "--out", tmp_path / "home", "--json")
    assert json.loads(done.out)["confirmed"] is True
    assert (tmp_path / "home" / "train.py").exists()
    again = cli("champion", "nov24", "--storage", storage, "--out", tmp_path / "home")
    assert (again.code, "not empty" in again.err) == (2, True)
    lost = cli("champion", "mar5", "--storage", storage, "--out", tmp_path / "other")
    assert (lost.code, "not in the lineage" in lost.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("lineage", "show", "zzzz", "nov24"), "near ids"),
        (("lineage", "show", "", "nov24"), "is the beginning of 60 ids"),
        (("lineage", "tree", "nov25"), "did you mean"),
        (("lineage", "sql", "SELEC 1", "nov24"), "syntax error"),
        (("lineage", "sql", "DROP VIEW scores", "nov24"), "read only"),
        (("lineage", "export", "csv", "nov24", "--out", "/nowhere/x"), "cannot be written"),
        (("explore", "nov25"), "did you mean"),
        (("explore", "nov24", "--host", "203.0.113.7"), "cannot be used"),
        (("explore", "nov24", "--token", ""), "--token is empty"),
        (("explore", "file:///no/such/run"), "is not a run"),
        (("import", "/nowhere"), "results.tsv cannot be read"),
        (("report", "nov24", "--out", "/dev/null/x"), "cannot be written"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_mistakes_are_a_sentence_and_exit_code_2(cli: Callable, storage: Path, arguments, words: str) -> None:
    done = cli(*arguments, "--storage", storage)
    assert done.code == 2
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("resize", "--population-size", "0"), "'--population-size'"),
        (("score", "x.py", "--seeds", "many"), "'--seeds'"),
        (("lineage", "tree", "--status", "nope"), "'nope' is not one of 'completed'"),
        (("lineage", "show"), "Missing argument 'ID'"),
        (("status", "--nope"), "--nope"),
        (("frobnicate",), "No such command 'frobnicate'"),
        (("report", "file:///tmp/run"), "--out"),
        (("run", "--set", "storage=s3://bucket/runs"), "written to a local folder"),
        (("run", "--from", "no-such-run"), "there is no run 'no-such-run'"),
        (("run", "--from", "nov24:"), "names no variant"),
        (("import", "/nowhere"), "/nowhere/results.tsv cannot be read (No such file or directory)"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_a_command_line_that_cannot_be_used_is_a_sentence_and_exit_code_2(cli: Callable, arguments, words: str) -> None:
    done = cli(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_a_group_without_a_command_shows_its_help(cli: Callable) -> None:
    done = cli("lineage")
    assert done.code == 2
    assert "search" in done.out
    assert len(done.err.strip().splitlines()) == 1


def test_a_port_that_is_taken_is_a_sentence(cli: Callable, storage: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = cli("explore", "nov24", "--port", port, "--storage", storage)
    assert done.code == 2
    assert f"port {port} cannot be used" in done.err


@pytest.mark.parametrize("command", [("lineage", "tree"), ("lineage", "sql", "SELECT 1"), ("explore",), ("report",)])
def test_a_run_of_a_newer_engine_is_a_sentence(cli: Callable, tmp_path: Path, command) -> None:
    folder = synthetic.make(tmp_path / "runs" / "new", 5)
    path = folder / "lineage" / "manifest.json"
    path.write_text(re.sub(r'"schema_version": \d+', '"schema_version": 999', path.read_text()))
    done = cli(*command, "new", "--storage", tmp_path / "runs")
    assert done.code == 2
    assert "newer autoresearch-ray" in done.err


def test_a_run_elsewhere_is_opened_by_its_uri(cli: Callable, storage: Path) -> None:
    uri = (storage / "nov24").as_uri()
    here = cli("lineage", "best", "nov24", "--storage", storage, "--json")
    there = cli("lineage", "best", uri, "--json")
    assert json.loads(there.out) == json.loads(here.out)


def test_a_run_that_lies_elsewhere_says_what_its_driver_said_last(
    cli: Callable, storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    silent = cli("status", (storage / "mar5").as_uri())
    assert (silent.code, "was imported" in silent.err) == (2, True)
    numbers = dict.fromkeys(("slots", "population_size", "islands", "births", "experiments"), 1)
    seconds = dict.fromkeys(("started_at", "now", "train_seconds", "slot_seconds", "usd"), 1.0)
    unknown = dict.fromkeys(("ends_at", "max_experiments", "max_hours", "sigma", "seed", "best", "max_usd"))
    words = {"run": "nov24", "state": "running", "metric": "val_bpb", "lower_is_better": True}
    (storage / "nov24" / snapshot.LIVE_FILE).write_text(
        json.dumps({**words, **numbers, **seconds, **unknown, "ends": {}, "activities": []})
    )
    said = cli("status", (storage / "nov24").as_uri())
    (storage / "nov24" / snapshot.LIVE_FILE).unlink()
    assert said.code == 0
    assert "running" in said.out
    assert "cannot tell whether it still runs" in " ".join(said.err.split())


def test_a_run_named_among_the_words_of_a_search_is_pointed_at(cli: Callable, storage: Path) -> None:
    done = cli("lineage", "search", "nowhere-said", "nov24", "--storage", storage)
    assert "--run nov24" in done.err
