"""The run's repository with a real git: it can always be made again, whatever is killed, damaged or missing."""

from __future__ import annotations

import inspect
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import git.exc
import pytest
import synthetic
from gitrepo import ORIGIN, call, commits, end, fsck, linked, measure, notes, refs

from autoresearch_ray.errors import RepositoryError, RunError
from autoresearch_ray.lineage import fast_import, files, manifest, projector, repository
from autoresearch_ray.lineage.git_export import export
from autoresearch_ray.lineage.repository import Repository
from autoresearch_ray.lineage.sealing import Sealing
from autoresearch_ray.lineage.store import LineageStore


@pytest.mark.parametrize("every", [1, 7])
def test_rebuilding_equals_following_a_live_run(tmp_path: Path, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, births = tmp_path / "run", 50
    evolution = synthetic.Evolution(0, "run")
    sealing = Sealing(rows=30, fanout=2, grace_seconds=0)
    with LineageStore.create(folder, "run", sealing=sealing) as store, Repository.open(folder) as opened:
        for number in range(births):
            evolution._birth(store, number)
            if number % 4 == 3:  # a replicate of an earlier one
                again = evolution.members[(7 * number) % len(evolution.members)][0]
                measure(store, again, 3.7 + number / 100, number)
            store.commit()
            if number % every == 0 or number == births - 1:
                opened.update()
        best = min(evolution.members, key=lambda member: member[1])
        store.append("champions", synthetic.champion_row(ORIGIN, best[0].variant_id, best[1], evolution.clock))
        store.commit()
        assert opened.update() == 0
    followed, annotated = commits(opened.directory), notes(opened.directory)
    assert len(annotated) > 3
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
        monkeypatch.setattr(repository.Git, "_execute", None)
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
    with Repository.open(folder) as opened:
        assert refs(opened.directory) == {}  # half a stream is none
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
