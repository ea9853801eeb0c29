"""Repositories to take home: ordinary, cloneable, and never over something else."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
import synthetic
from gitrepo import ORIGIN, call, commits, end, projected, refs
from typer.testing import CliRunner

from autoresearch_ray.cli.lineage import app
from autoresearch_ray.errors import RepositoryError, UsageError
from autoresearch_ray.lineage import fast_import, projector
from autoresearch_ray.lineage.git_export import export, write
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.store import LineageStore


def test_an_export_is_an_ordinary_repository_that_can_be_cloned(run: Path, tmp_path: Path) -> None:
    lineage = Lineage.open(run)
    exported = export(run, tmp_path / "out")
    assert exported.commits == 120
    assert commits(exported.out) == commits(run / "variants.git")
    assert exported.branches == {ref[11:]: name for ref, name in refs(exported.out, "refs/heads").items()}
    assert lineage.champion is not None
    assert (exported.out / "train.py").read_text() == lineage.source(lineage.champion)
    assert sorted(path.name for path in exported.out.iterdir()) == [".git", "train.py"]
    assert call(exported.out, "status", "--porcelain", "--branch") == "## champion"
    call(tmp_path, "clone", "--quiet", str(exported.out), "clone")
    clone = tmp_path / "clone"
    assert call(clone, "symbolic-ref", "HEAD") == "refs/heads/champion"
    path = [lineage.hypotheses[position] for position in (lineage.champion, *lineage.ancestors(lineage.champion))]
    assert sorted(call(clone, "log", "--format=%s").splitlines()) == sorted(path)
    call(tmp_path, "clone", "--quiet", str(run / "variants.git"), "bare-clone")
    assert call(tmp_path / "bare-clone", "rev-parse", "HEAD") == exported.branches["champion"]
    call(exported.out, "-c", "user.name=x", "-c", "user.email=y", "commit", "--allow-empty", "-m", "goes on")


def test_an_export_of_nothing_yet_is_an_empty_repository(tmp_path: Path) -> None:
    LineageStore.create(tmp_path / "run", "run").close()
    exported = export(tmp_path / "run", tmp_path / "out")
    assert exported.commits == 0
    assert exported.branches == {}


def test_an_export_takes_an_empty_folder_and_refuses_others(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert export(run, tmp_path / "empty").commits == 120
    with pytest.raises(UsageError, match="empty is not empty: name a new folder"):
        export(run, tmp_path / "empty")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file is a file"):
        export(run, tmp_path / "file")
    with pytest.raises(UsageError, match="cannot be made"):
        export(run, tmp_path / "file" / "below")


def test_other_histories_can_be_written_from_the_same_pieces(tmp_path: Path) -> None:
    first = fast_import.Commit("refs/variants/a", (), "one\n", synthetic.START)
    second = fast_import.Commit("refs/variants/b", (first.ref,), "two\n", synthetic.START)
    stream = (
        fast_import.commit(first, "x = 1\n"),
        fast_import.commit(second, "x = 2\n"),
        fast_import.point("refs/heads/champion", second.ref),
        fast_import.DONE,
    )
    written = write(tmp_path / "out", [projector.Segment(iter(stream), 2, "refs/heads/champion")])
    assert call(written.out, "log", "--format=%s") == "two\none"
    assert (written.out / "train.py").read_text() == "x = 2\n"


def test_a_failed_export_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_import, "commit", lambda *arguments: b"nonsense\n")
    with pytest.raises(RepositoryError, match="git failed"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_clock_of_the_notes_is_the_lineages(store: LineageStore) -> None:
    seed = synthetic.variant(0, run="run")
    end(store, seed, 3.8)
    later = synthetic.START + timedelta(hours=3)
    store.append("champions", synthetic.champion_row(ORIGIN, seed.variant_id, 3.8, later))
    folder = projected(store)
    assert call(folder, "log", "-1", "--format=%ct", "refs/notes/commits") == str(int(later.timestamp()))


def test_the_command_says_what_it_wrote_and_refuses_in_a_sentence(run: Path, tmp_path: Path) -> None:
    arguments = ["export", "git", "run", "--storage", str(run.parent), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    branches = refs(run / "variants.git", "refs/heads")
    assert json.loads(done.output)["branches"] == {ref[11:]: name for ref, name in branches.items()}
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, UsageError)
    shown = CliRunner().invoke(app, [*arguments[:-1], str(tmp_path / "other")])
    assert "Wrote 120 commits to" in shown.output
