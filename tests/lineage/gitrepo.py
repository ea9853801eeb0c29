"""What the tests of git repositories share: git's own words, births in a line, and checks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import synthetic

from autoresearch_ray.lineage import fast_import, schema
from autoresearch_ray.lineage.repository import Repository
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Result, Status, Variant

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


def projected(store: LineageStore) -> Path:
    """Commit what the store has, project it, and return the repository."""
    store.commit()
    with Repository.open(store.folder) as opened:
        opened.update()
        return opened.directory


def linked(folder: Path, tmp_path: Path) -> Path:
    """Return another run's folder with the same lineage."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lineage").symlink_to(folder / "lineage")
    return tmp_path / "run"
