"""A language model breeds in a real run: real LiteLLM over real HTTP to a server that counts for itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import git
import llm_server
import pytest

from autoresearch_ray.lineage import snapshot

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-c", "from autoresearch_ray.cli.app import main; main()"]


def arr(*arguments: object, key: str | None = llm_server.KEY) -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if not name.endswith("_API_KEY")}
    if key:
        environment["OPENAI_API_KEY"] = key
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)


@pytest.fixture(scope="module")
def server() -> Iterator[llm_server.Server]:
    with llm_server.running(key=True) as server:
        yield server


def model(server: llm_server.Server, price: float | None = 1.0) -> list[str]:
    priced = {} if price is None else {"usd_per_million_input": price, "usd_per_million_output": 2 * price}
    models = json.dumps([{"name": "openai/test", "max_output_tokens": 4096, **priced}])
    return ["--set", f"llm.models={models}", "--set", f"llm.api_base={server.api_base}"]


def test_variants_of_a_language_model(server: llm_server.Server, quick: Path, tmp_path: Path) -> None:
    assert arr("prepare", "-c", quick).returncode == 0
    server.reset()
    words = ["--set", "max_experiments=16", "--set", "crossover_probability=1", "--set", "llm.parameters_share=0"]
    words += ["--set", "population_size=4", "--set", "num_islands=1", "--set", "train_seconds=0.5"]
    words += ["--set", "llm.reasoned_crossovers=1"]
    ended = arr("run", "-c", quick, "--name", "llm", *words, *model(server))
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "runs" / "llm"
    tables = snapshot.read(folder, bulky=True)
    rows = tables.variants.to_pylist()
    asked = [row for row in rows if row["model"]]
    assert all(row["model"] == "openai/test" and row["prompt_hash"] and row["program_hash"] for row in asked)
    assert {row["operator"] for row in asked} == {"mutation", "crossover"}
    assert any(row["status"] == "completed" for row in asked)
    crossovers = [row for row in rows if row["operator"] == "crossover"]
    assert all(len(row["parents"]) == 2 for row in crossovers)
    _same_account(server, folder, rows)
    _merge_commits(folder, crossovers)
    assert list((folder / "program").glob("*.md"))
    _nowhere(llm_server.KEY, folder, ended)


def _same_account(server: llm_server.Server, folder: Path, rows: list[dict[str, object]]) -> None:
    """The lineage, the ledger's last state and the server agree on tokens and dollars."""
    counts = server.counts()
    checks = [
        json.loads(row["details"])
        for row in snapshot.read(folder).events.to_pylist()
        if row["kind"] == "models_checked"
    ]
    tokens_in = sum(row["llm_tokens_in"] for row in rows) + sum(check["tokens_in"] for check in checks)  # type: ignore[misc]
    tokens_out = sum(row["llm_tokens_out"] for row in rows) + sum(check["tokens_out"] for check in checks)  # type: ignore[misc]
    usd = sum(row["llm_usd"] for row in rows) + sum(check["usd"] for check in checks)  # type: ignore[misc]
    assert (tokens_in, tokens_out) == (counts["prompt_tokens"], counts["completion_tokens"])
    assert usd == pytest.approx((counts["prompt_tokens"] + 2 * counts["completion_tokens"]) / 1e6)
    assert json.loads((folder / "live.json").read_text())["usd"] == pytest.approx(usd)


def _merge_commits(folder: Path, crossovers: list[dict[str, object]]) -> None:
    repository = git.Repo(folder / "variants.git")
    for row in crossovers:
        if row["source"]:
            commit = repository.commit(f"refs/variants/{row['variant_id']}")
            named = [repository.commit(f"refs/variants/{parent}") for parent in row["parents"]]  # type: ignore[attr-defined]
            assert list(commit.parents) == named


def _nowhere(secret: str, folder: Path, ended: subprocess.CompletedProcess[str]) -> None:
    assert secret not in ended.stdout + ended.stderr
    for path in folder.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_a_cap_is_kept_and_the_search_goes_on_without(server: llm_server.Server, quick: Path, tmp_path: Path) -> None:
    assert arr("prepare", "-c", quick).returncode == 0
    server.reset()
    words = ["--set", "max_experiments=12", "--set", "llm.parameters_share=0", "--set", "max_cost_usd=0.13"]
    ended = arr("run", "-c", quick, "--name", "cap", *words, "--set", "train_seconds=0.5", *model(server))
    assert ended.returncode == 0, ended.stderr
    rows = snapshot.read(tmp_path / "runs" / "cap").variants.to_pylist()
    assert sum(row["llm_usd"] for row in rows) <= 0.13
    assert {"mutation", "parameters"} <= {row["operator"] for row in rows}
    assert json.loads((tmp_path / "runs" / "cap" / "live.json").read_text())["experiments"] == 12


def test_with_every_model_down_the_run_goes_on_and_says_so(
    server: llm_server.Server, quick: Path, tmp_path: Path
) -> None:
    assert arr("prepare", "-c", quick).returncode == 0
    server.reset()
    server.script({"fault": "none"}, *[{"fault": "status", "status": 401}] * 1000)
    words = ["--set", "max_experiments=14", "--set", "llm.parameters_share=0", "--set", "train_seconds=0.5"]
    words += ["--set", "crossover_probability=0"]
    ended = arr("run", "-c", quick, "--name", "down", *words, *model(server))
    assert ended.returncode == 0, ended.stderr
    assert "warning: nobody answers (" in ended.stdout
    assert "the search goes on with numbers and merges, and asks again later" in ended.stdout
    rows = snapshot.read(tmp_path / "runs" / "down").variants.to_pylist()
    failed = [row for row in rows if row["status"] == "operator_failed"]
    assert len(failed) <= 5
    assert any(row["operator"] == "parameters" and row["status"] == "completed" for row in rows)
    assert server.counts()["requests"] < 20


@pytest.mark.parametrize(
    ("words", "key", "says"),
    [
        (["--model", "openai/test", "--set", "llm.api_base=http://127.0.0.1:9/v1"], llm_server.KEY, "max_cost_usd"),
        (["--model", "nobody/nothing"], llm_server.KEY, "nobody/nothing"),
        (["--model", "openai/gpt-4o"], None, "OPENAI_API_KEY"),
    ],
)
def test_a_model_that_cannot_be_asked_ends_the_run_before_its_first_birth(
    quick: Path, tmp_path: Path, words: list[str], key: str | None, says: str
) -> None:
    assert arr("prepare", "-c", quick).returncode == 0
    ended = arr("run", "-c", quick, "--name", "bad", *words, key=key)
    assert ended.returncode == 2, ended.stdout
    assert says in ended.stderr
    assert ended.stderr.count("error: ") == 1
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "runs").exists()
