"""The git projection with a real git: what it shows, that it can always be made again, and what cannot break it."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import git.exc
import pytest
import synthetic
from typer.testing import CliRunner

from autoresearch_ray.cli.lineage import app
from autoresearch_ray.errors import RepositoryError, RunError, UsageError
from autoresearch_ray.lineage import fast_import, files, manifest, projector, repository, schema
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.repository import Repository, export
from autoresearch_ray.lineage.sealing import Sealing
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Operator, Result, Status, Variant

ORIGIN = synthetic.origin("run")


def call(folder: Path, *arguments: str, check: bool = True) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=check, capture_output=True, text=True).stdout.rstrip("\n")


def refs(folder: Path, *prefixes: str) -> dict[str, str]:
    lines = call(folder, "for-each-ref", "--format=%(refname) %(objectname)", *prefixes).splitlines()
    return dict(line.split(" ") for line in lines)


def commits(folder: Path) -> dict[str, str]:
    """Everything that does not depend on when updates were made."""
    return refs(folder, "refs/variants", "refs/heads")


def trailer(folder: Path, commit: str, key: str) -> list[str]:
    form = f"--format=%(trailers:key={key},valueonly)"
    return call(folder, "log", "-1", form, commit).split("\n")


def notes(folder: Path) -> dict[str, str]:
    lines = call(folder, "notes", "list").splitlines()
    return {commit: call(folder, "cat-file", "blob", note) for note, commit in (line.split() for line in lines)}


def fsck(folder: Path) -> None:
    done = subprocess.run(
        ["git", "-C", str(folder), "fsck", "--strict", "--full"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not re.search("error|warning|missing|broken", done.stdout + done.stderr)


def end(
    store: LineageStore, born: Variant, score: float | None = None, status: Status = Status.COMPLETED, why: str = ""
) -> None:
    """End a birth, with one experiment if it has a score."""
    if score is not None:
        measure(store, born, score)
    store.append("variants", schema.variant_row(ORIGIN, born, status, why))


def measure(store: LineageStore, born: Variant, score: float, replicate: int = 0) -> None:
    result = Result(Status.COMPLETED, val_bpb=score)
    store.append("experiments", schema.experiment_row(ORIGIN, synthetic.experiment(born, replicate), result))


def ref_of(born: Variant) -> str:
    return fast_import.variant_ref(born.variant_id)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 120 births with its repository; tests only read it."""
    folder = synthetic.make(tmp_path_factory.mktemp("runs") / "run", 120, sealing=Sealing(rows=50))
    with Repository.open(folder) as opened:
        assert opened.update() == 120
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LineageStore]:
    with LineageStore.create(tmp_path / "run", "run") as opened:
        yield opened


def projected(store: LineageStore) -> Path:
    """Commit what the store has, project it, and return the repository."""
    store.commit()
    with Repository.open(store.folder) as opened:
        opened.update()
        return opened.directory


# ------------------------------------------------------------------------------------------------------- what it shows


def test_each_birth_is_a_commit_with_its_source_its_parents_and_its_date(run: Path) -> None:
    lineage, folder = Lineage.open(run), run / "variants.git"
    shown = refs(folder, "refs/variants")
    assert len(shown) == len(lineage)
    assert {"crashed", "rejected"} <= set(lineage.statuses)
    parents = lineage.column("parents")
    fields = ("refname:lstrip=2", "parent", "tree", "authordate:iso8601-strict", "committerdate:unix", "author")
    form = "%09".join(f"%({field})" for field in fields)
    lines = call(folder, "for-each-ref", f"--format={form}", "refs/variants").splitlines()
    for line in lines:
        name, found, tree, authored, committed, author = line.split("\t")
        position = lineage.find(name)
        assert found.split() == [shown[f"refs/variants/{parent}"] for parent in parents[position]]
        at = lineage.column("created_at")[position].replace(microsecond=0)
        assert authored == at.isoformat()
        assert int(committed) == int(at.timestamp())
        assert author.startswith("autoresearch-ray <autoresearch-ray@localhost>")
        assert call(folder, "ls-tree", "--name-only", tree) == "train.py"
    assert sum(len(line.split("\t")[1].split()) == 2 for line in lines) > 5  # crossovers are merges
    for position in (0, 17, 119):
        blob = subprocess.run(
            ["git", "-C", folder, "cat-file", "blob", f"refs/variants/{lineage.ids[position]}:train.py"],
            capture_output=True,
            check=True,
        ).stdout
        assert blob.decode() == lineage.source(position)


def test_a_strict_fsck_is_clean(run: Path) -> None:
    fsck(run / "variants.git")


def test_branches_are_those_of_the_lineage_and_head_is_the_champion(run: Path) -> None:
    lineage, folder = Lineage.open(run), run / "variants.git"
    wanted = {"seed": lineage.seed, "best": lineage.best(1)[0], "champion": lineage.champion}
    for branch, position in wanted.items():
        assert position is not None
        assert call(folder, "rev-parse", branch) == call(folder, "rev-parse", f"refs/variants/{lineage.ids[position]}")
    assert call(folder, "symbolic-ref", "HEAD") == "refs/heads/champion"
    assert call(folder, "config", "core.bare") == "true"


def test_a_message_says_what_came_of_it(store: LineageStore) -> None:
    seed = synthetic.variant(0, run="run")
    end(store, seed, 3.80)
    measure(store, seed, 3.82, 1)
    child = synthetic.variant(
        1, (seed,), run="run", hypothesis="halve the batch", operator=Operator.MUTATION, model="anthropic/claude-test"
    )
    end(store, child, 3.70)
    failed = synthetic.variant(2, (child,), run="run", hypothesis="double it")
    end(store, failed, status=Status.CRASHED, why="ValueError: no")
    folder = projected(store)
    assert call(folder, "log", "-1", "--format=%B", ref_of(child)) == (
        "halve the batch\n\n"
        "val_bpb 3.7000 ±0.0141 (1 training)\n"
        f"0.1100 ±0.0173 lower than {seed.variant_id[:7]}\n\n"
        f"Variant-Id: {child.variant_id}\nNumber: 1\nParent-Id: {seed.variant_id}\nOperator: mutation\n"
        "Model: anthropic/claude-test\nIsland: 1\nGeneration: 1\nStatus: completed\n"
        "Val-Bpb: 3.7\nVal-Bpb-Error: 0.0141\nTrainings: 1\nGain: 0.11"
    )
    body = call(folder, "log", "-1", "--format=%b", ref_of(failed))
    assert body.startswith("Crashed: ValueError: no\n\nVariant-Id: ")
    assert trailer(folder, ref_of(failed), "Reason") == ["ValueError: no"]
    assert trailer(folder, ref_of(failed), "Val-Bpb") == [""]


def test_a_refused_variant_is_shown_without_the_score_it_cheated_for(store: LineageStore) -> None:
    seed = synthetic.variant(0, run="run")
    end(store, seed, 3.8)
    cheat = synthetic.variant(1, (seed,), run="run")
    end(store, cheat, 0.01, Status.REJECTED, "looks ahead")
    folder = projected(store)
    assert "0.01" not in call(folder, "log", "-1", "--format=%B", ref_of(cheat))
    assert call(folder, "rev-parse", "best") == call(folder, "rev-parse", ref_of(seed))


def test_scores_that_come_later_are_notes_and_change_no_commit(store: LineageStore) -> None:
    seed = synthetic.variant(0, run="run")
    child = synthetic.variant(1, (seed,), run="run")
    end(store, seed, 3.80)
    end(store, child, 3.70)
    folder = projected(store)
    assert call(folder, "symbolic-ref", "HEAD") == "refs/heads/best"
    assert call(folder, "rev-parse", "best") == call(folder, "rev-parse", ref_of(child))
    before = refs(folder, "refs/variants")
    measure(store, child, 3.96, 1)
    assert refs(projected(store), "refs/variants") == before
    assert call(folder, "rev-parse", "best") == before[ref_of(seed)]  # the better score had been luck
    assert notes(folder) == {before[ref_of(child)]: "val_bpb 3.8300 ±0.1300 (2 trainings)"}
    store.append("champions", synthetic.champion_row(ORIGIN, seed.variant_id, 3.8, synthetic.START))
    assert refs(projected(store), "refs/variants") == before
    assert call(folder, "symbolic-ref", "HEAD") == "refs/heads/champion"
    shown = call(folder, "log", "-1", "champion")
    assert "Notes:\n    val_bpb 3.8000 ±0.1838 (1 training)\n    Confirmed as champion at 2025-11-24 21:00 UTC" in shown


def test_an_operator_that_failed_leaves_no_commit_and_no_child_waiting(store: LineageStore) -> None:
    seed = synthetic.variant(0, run="run")
    end(store, seed, 3.8)
    silent = synthetic.variant(1, (seed,), run="run", source="")
    end(store, silent, status=Status.OPERATOR_FAILED, why="no reply")
    folder = projected(store)
    assert list(refs(folder, "refs/variants")) == [ref_of(seed)]


def test_a_child_that_ends_before_its_parents_waits_for_them(store: LineageStore) -> None:
    seed = synthetic.variant(0, run="run")
    child = synthetic.variant(1, (seed,), run="run")
    both = synthetic.variant(2, (child, seed), run="run")
    end(store, both, 3.6)
    end(store, child, 3.7)
    folder = projected(store)
    assert refs(folder) == {}
    with Repository.open(store.folder) as opened:
        assert opened.update() == 0
        end(store, seed, 3.8)
        store.commit()
        assert opened.update() == 3
    shown = refs(folder)
    assert call(folder, "log", "-1", "--format=%P", ref_of(both)).split() == [shown[ref_of(child)], shown[ref_of(seed)]]
    assert shown["refs/heads/best"] == shown[ref_of(both)]


def test_a_long_line_of_waiting_children_is_no_recursion(store: LineageStore) -> None:
    line = [synthetic.variant(0, run="run")]
    for number in range(1, 600):
        line.append(synthetic.variant(number, (line[-1],), run="run"))
    for born in reversed(line):
        end(store, born, 3.0)
    folder = projected(store)
    assert call(folder, "rev-list", "--count", ref_of(line[-1])) == "600"


def test_equal_births_at_one_moment_are_different_commits(store: LineageStore) -> None:
    same = {"source": "x = 1\n", "hypothesis": "the same", "created_at": synthetic.START}
    twins = [synthetic.variant(number, run="run", **same) for number in (0, 2)]
    for twin in twins:
        end(store, twin, 3.8)
    shown = refs(projected(store), "refs/variants")
    assert len(set(shown.values())) == 2


# ------------------------------------------------------------------------------------------------------ made again


@pytest.mark.parametrize("every", [1, 7])
def test_rebuilding_equals_following_a_live_run(tmp_path: Path, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, births = tmp_path / "run", 50
    evolution = synthetic.Evolution(0, "run")
    sealing = Sealing(rows=30, fanout=2, grace_seconds=0)
    with LineageStore.create(folder, "run", sealing=sealing) as store, Repository.open(folder) as opened:
        for number in range(births):
            evolution._birth(store, number)
            store.commit()
            if number % every == 0 or number == births - 1:
                opened.update()
        best = min(evolution.members, key=lambda member: member[1])
        store.append("champions", synthetic.champion_row(ORIGIN, best[0].variant_id, best[1], evolution.clock))
        store.commit()
        assert opened.update() == 0
    followed, annotated = commits(opened.directory), notes(opened.directory)
    assert "Confirmed as champion" in "".join(annotated.values())
    fsck(opened.directory)
    with Repository.open(folder) as opened:
        assert opened.update() == 0
        monkeypatch.setattr(projector, "SEGMENT", 4)
        assert opened.rebuild() == births
    assert commits(opened.directory) == commits(export(folder, tmp_path / "out").out) == followed
    assert notes(opened.directory) == notes(tmp_path / "out") == annotated
    fsck(opened.directory)


def test_packs_and_refs_stay_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "PACKS", 5)
    with LineageStore.create(tmp_path, "run") as store, Repository.open(tmp_path) as opened:
        for number in range(30):
            end(store, synthetic.variant(number, run="run"), 3.8)
            store.commit()
            opened.update()
        opened._git.finish()
        assert len(list((opened.directory / "objects" / "pack").glob("*.pack"))) < 12
        assert len(list((opened.directory / "refs" / "variants").iterdir())) < 12
    assert len(refs(opened.directory, "refs/variants")) == 30
    fsck(opened.directory)


def test_nothing_new_starts_no_git(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Repository.open(run) as opened:
        assert opened.update() == 0
        monkeypatch.setattr(repository._Git, "_execute", None)
        assert opened.update() == 0


def test_a_repository_thrown_away_while_it_is_open_comes_back(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", 10)
    with Repository.open(folder) as opened:
        assert opened.update() == 10
        before = commits(opened.directory)
        opened.directory.rename(tmp_path / "away")
        assert opened.update() == 10
        assert commits(opened.directory) == before


def test_a_damaged_repository_says_so_and_is_rebuilt(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", 10)
    with Repository.open(folder) as opened:
        opened.update()
        before = commits(opened.directory)
    with LineageStore.open(folder) as store, Repository.open(folder) as opened:
        (opened.directory / "config").write_text("not a configuration [")
        end(store, synthetic.variant(99, run="run"), 3.9)
        store.commit()
        with pytest.raises(
            RepositoryError, match=r"git failed in .*variants.git .*bad config.*can be deleted and made"
        ):
            opened.update()
        assert opened.rebuild() == 11
    assert before.items() <= commits(opened.directory).items()


def test_a_lost_part_holds_nobody_up(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", 60, sealing=Sealing(rows=20))
    lost = manifest.read(folder).parts_of("variants")[0]
    manifest.part_path(manifest.lineage_folder(folder), "variants", lost.name).unlink()
    with Repository.open(folder) as opened:
        assert opened.update() == 60 - lost.rows
    fsck(opened.directory)


# ------------------------------------------------------------------------------------------------------------- kills

PROJECTOR = """
import os, signal, sys
from pathlib import Path
from autoresearch_ray.lineage import fast_import, repository
folder, last = Path(sys.argv[1]), int(sys.argv[2])
made, count = fast_import.commit, 0
def commit(*arguments):
    global count
    count += 1
    if count == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return made(*arguments)
fast_import.commit = commit
with repository.Repository.open(folder) as opened:
    print("open", flush=True)
    opened.update()
"""


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = synthetic.make(tmp_path_factory.mktemp("long") / "run", 400)
    out = folder.parent / "out"
    assert export(folder, out).commits == 400
    return folder, commits(out)


def start(folder: Path, last: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROJECTOR, str(folder), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def mended(folder: Path, expected: dict[str, str]) -> None:
    with Repository.open(folder) as opened:
        opened.update()
    assert commits(opened.directory) == expected
    leftovers = [path for path in opened.directory.rglob("*") if re.search(r"\.lock$|tmp_|crash|\.keep$", path.name)]
    assert leftovers == []
    fsck(opened.directory)


@pytest.mark.parametrize("last", [1, 400])
def test_a_kill_in_the_middle_of_a_stream_is_mended(long_run: Any, tmp_path: Path, last: int) -> None:
    folder = linked(long_run[0], tmp_path)
    assert start(folder, last).wait() == -signal.SIGKILL
    mended(folder, long_run[1])


@pytest.mark.parametrize("wanted", [1, 200])
def test_a_kill_of_python_and_git_while_refs_are_written_is_mended(long_run: Any, tmp_path: Path, wanted: int) -> None:
    folder = linked(long_run[0], tmp_path)
    process = start(folder)
    variants = folder / "variants.git" / "refs" / "variants"
    while process.poll() is None and (not variants.exists() or len(os.listdir(variants)) < wanted):
        pass
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    mended(folder, long_run[1])


def linked(folder: Path, tmp_path: Path) -> Path:
    """Return another run's folder with the same lineage."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lineage").symlink_to(folder / "lineage")
    return tmp_path / "run"


def test_what_a_killed_git_leaves_behind_is_cleared_away(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", 20)
    with Repository.open(folder) as opened:
        opened.update()
    before = commits(opened.directory)
    variants = sorted((opened.directory / "refs" / "variants").iterdir())
    variants[3].write_bytes(b"")  # a power failure
    variants[4].unlink()
    (opened.directory / "refs" / "heads" / "best").unlink()
    (opened.directory / "HEAD").write_bytes(b"")
    for name in ("HEAD.lock", "config.lock", "packed-refs.lock", "packed-refs.new", "fast_import_crash_7"):
        (opened.directory / name).touch()
    (variants[5].parent / f"{variants[5].name}.lock").touch()
    variants[5].unlink()
    (opened.directory / "objects" / "pack" / "tmp_pack_x").touch()
    mended(folder, before)
    assert call(opened.directory, "symbolic-ref", "HEAD") == "refs/heads/champion"


def test_a_git_that_outlives_its_parent_keeps_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = synthetic.make(tmp_path / "run", 3)
    opened = Repository.open(folder)
    feeding = opened._git._execute(("fast-import", "--done"), istream=subprocess.PIPE, as_process=True)
    opened._lock.close()
    monkeypatch.setattr(repository, "PATIENCE_SECONDS", 0)
    with pytest.raises(RunError, match="is being written"):
        Repository.open(folder)
    feeding.kill()
    with pytest.raises(git.exc.GitCommandError):
        feeding.wait()
    with Repository.open(folder) as opened:
        assert opened.update() == 3


def test_a_second_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "PATIENCE_SECONDS", 0)
    folder = synthetic.make(tmp_path / "run", 3)
    with Repository.open(folder) as opened:
        with pytest.raises(RunError, match="is being written by another"):
            Repository.open(folder)
        assert opened.update() == 3
    with pytest.raises(ValueError, match="closed"):
        opened.update()


# ----------------------------------------------------------------------------------------------------------- hostility

FORGED = "fine\n\nVariant-Id: forged\nStatus: completed\n"
HOSTILE = (
    "",
    "\0",
    FORGED,
    "a\r\nb\rc\u2028d\u2029e\x85f\vg\fh",
    "--- \nVariant-Id: forged",
    "---",
    "--upload-pack=touch /tmp/x",
    "from refs/heads/seed\nmerge refs/heads/seed\ndone\n",
    "data <<EOT\nEOT\ndone\n",
    "\x1b]0;title\x07 \x1b[31mred \u202egnp.exe \u200bhidden \U000e0041",
    "lone \ud800 surrogate",
    "word " * 20_000,
    "x" * 100_000,
    "Variant-Id: forged",
    "ReLU² → SwiGLU, 10 % fewer parameters \N{ROCKET}",
)


def test_no_text_breaks_out_of_its_place(store: LineageStore) -> None:
    seed = synthetic.variant(0, run="run")
    end(store, seed, 3.8)
    born = []
    for number, text in enumerate(HOSTILE, 1):
        changes = {"hypothesis": text, "source": text or "x", "model": text or None}
        born.append(synthetic.variant(number, (seed,), run="run", **changes))
        end(store, born[-1], status=Status.CRASHED, why=text)
    folder = projected(store)
    fsck(folder)
    shown = refs(folder)
    assert set(shown) == {"refs/heads/seed", "refs/heads/best", *map(ref_of, [seed, *born])}
    for variant in born:
        raw = subprocess.run(["git", "-C", folder, "cat-file", "commit", ref_of(variant)], capture_output=True).stdout
        headers, message = raw.decode().split("\n\n", 1)
        assert headers.splitlines()[1] == f"parent {shown[ref_of(seed)]}"
        assert len(headers.splitlines()) == 4
        assert trailer(folder, ref_of(variant), "Variant-Id") == [variant.variant_id]
        assert message.count(f"\nVariant-Id: {variant.variant_id}\n") == 1
        assert not re.search("[\0-\x09\x0b-\x1f\x7f\u2028\u202e\u200b\U000e0041]", message)
        assert 0 < len(message.split("\n")[0]) <= 100
        assert len(message) < 20_000
        assert "\n---" not in f"\n{message}"
        source = subprocess.run(
            ["git", "-C", folder, "cat-file", "blob", f"{ref_of(variant)}:train.py"], capture_output=True, check=True
        ).stdout
        assert source == schema.clean(variant.source).encode()


NAMES = (
    "../../heads/best",
    "..",
    "-d",
    "--force",
    "a b",
    "a\nfrom x",
    "x.lock",
    "x/y",
    "",
    "@{1}",
    "ABC",
    "\0",
    "é",
    "~",
)


@pytest.mark.parametrize("name", NAMES)
def test_an_id_cannot_be_another_ref(name: str) -> None:
    ref = fast_import.variant_ref(name)
    assert re.fullmatch(r"refs/variants/id-[0-9a-f]{24}", ref)


def test_a_hostile_id_from_a_foreign_lineage_is_shown_under_its_hash(store: LineageStore) -> None:
    seed = synthetic.variant(0, run="run")
    row = schema.variant_row(ORIGIN, seed, Status.REJECTED)
    row["variant_id"], row["parents"], row["operator"] = "../heads/best\ndone", ["../heads/best\ndone", "-x"], "none"
    other = schema.variant_row(ORIGIN, seed, Status.REJECTED) | {"variant_id": "-x"}
    store.append("variants", row)
    store.append("variants", other)
    folder = projected(store)
    fsck(folder)
    assert len(refs(folder, "refs/variants")) == 2
    assert set(refs(folder)) == {*refs(folder, "refs/variants"), "refs/heads/seed"}


def test_times_before_1970_and_long_after_are_dates_git_accepts(store: LineageStore) -> None:
    for number, year in enumerate((1901, 9999)):
        at = synthetic.START.replace(year=year)
        end(store, synthetic.variant(number, run="run", created_at=at), 3.8)
    fsck(projected(store))


def test_the_users_configuration_and_environment_change_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks, template = tmp_path / "hooks", tmp_path / "template"
    hook = f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n"
    names = ("reference-transaction", "post-checkout", "post-index-change", "pre-commit", "post-rewrite")
    for place in (hooks, template / "hooks"):
        place.mkdir(parents=True)
        for name in names:
            (place / name).write_text(hook)
            (place / name).chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f"[core]\n hooksPath={hooks}\n autocrlf=true\n fsmonitor={hooks}/pre-commit\n[commit]\n gpgsign=true\n"
        f"[init]\n templateDir={template}\n defaultBranch=x\n[user]\n useConfigOnly=true\n"
        "[safe]\n bareRepository=explicit\n"
    )
    hostile = {
        "HOME": home,
        "GIT_TEMPLATE_DIR": template,
        "GIT_DIR": tmp_path / "elsewhere",
        "GIT_WORK_TREE": tmp_path / "elsewhere",
        "GIT_INDEX_FILE": tmp_path / "index",
        "GIT_OBJECT_DIRECTORY": tmp_path / "objects",
        "GIT_NAMESPACE": "other",
        "GIT_CONFIG_PARAMETERS": f"'core.hooksPath'='{hooks}'",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_CONFIG_VALUE_0": hooks,
        "GIT_DEFAULT_HASH": "sha256",
        "GIT_AUTHOR_DATE": "2001-01-01",
        "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1",
    }
    folder = linked(run, tmp_path)
    with monkeypatch.context() as patched:
        for name, value in hostile.items():
            patched.setenv(name, str(value))
        with Repository.open(folder) as opened:
            (opened.directory / "hooks").mkdir()
            for name in names:
                (opened.directory / "hooks" / name).write_text(hook)
                (opened.directory / "hooks" / name).chmod(0o755)
            assert opened.update() == 120
        export(folder, tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    for name in ("elsewhere", "index", "objects"):
        assert not (tmp_path / name).exists()
    assert commits(opened.directory) == commits(tmp_path / "out") == commits(run / "variants.git")
    assert not (tmp_path / "out" / ".git" / "hooks").exists()


# ------------------------------------------------------------------------------------------------------------- failures


def test_no_git_is_one_sentence(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = linked(run, tmp_path)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(tmp_path))
        with pytest.raises(RepositoryError, match=r"^git was not found: install git"):
            Repository.open(folder)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "git", None)  # GitPython refuses to be imported where there is no git
        with pytest.raises(RepositoryError, match=r"^git was not found: install git"):
            Repository.open(folder)
    with Repository.open(folder) as opened:
        assert opened.update() == 120


def test_a_git_that_dies_in_the_middle_is_one_sentence_and_the_next_update_mends_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = linked(run, tmp_path)
    bad = b"nonsense\n" * 100_000  # more than a pipe holds: git ends while it is written to
    with Repository.open(folder) as opened:
        with monkeypatch.context() as patched:
            patched.setattr(fast_import, "commit", lambda *arguments: bad)
            with pytest.raises(RepositoryError, match=r"git failed in .*Unsupported command: nonsense"):
                opened.update()
        with monkeypatch.context() as patched:
            patched.setattr(fast_import, "commit", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                opened.update()
        assert opened.update() == 120
    assert commits(opened.directory) == commits(run / "variants.git")


def test_a_full_disk_is_one_sentence(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_atomically", full)
    with pytest.raises(
        RepositoryError, match=r"variants.git cannot be written \(No space left on device\); the lineage"
    ):
        Repository.open(linked(run, tmp_path))


def test_every_exception_of_gitpython_has_its_sentence() -> None:
    kinds = [kind for _, kind in inspect.getmembers(git.exc, inspect.isclass) if issubclass(kind, Exception)]
    foreign = [kind for kind in kinds if kind.__module__ == "git.exc"]
    assert len(foreign) > 8
    for kind in foreign:
        assert issubclass(kind, tuple(repository._sentences())), kind


# --------------------------------------------------------------------------------------------------------------- export


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
    assert json.loads(done.output)["branches"] == {
        ref[11:]: name for ref, name in refs(run / "variants.git", "refs/heads").items()
    }
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, UsageError)
    shown = CliRunner().invoke(app, [*arguments[:-1], str(tmp_path / "other")])
    assert "Wrote 120 commits to" in shown.output
