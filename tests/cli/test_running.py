"""What becomes of a run's folder when a sitting ends early, without Ray."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from autoresearch_ray.cli import running
from autoresearch_ray.config import Config
from autoresearch_ray.errors import ClusterError, RepositoryError, SeedError, StorageError
from autoresearch_ray.lineage import schema, snapshot
from autoresearch_ray.lineage.repository import Repository
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Experiment, Result, Status

ENDS = [ClusterError("the cluster is gone"), SeedError("it crashed"), KeyboardInterrupt()]


def record(lineage: LineageStore, status: Status) -> None:
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    result = Result(status, val_bpb=1.0 if status is Status.COMPLETED else None, started_at=now, ended_at=now)
    experiment = Experiment("a-0", "a", "LR = 1.0\n", 0)
    lineage.append("experiments", schema.experiment_row(Origin("mar5"), experiment, result))
    lineage.commit()


def sit(folder: Path, end: BaseException, status: Status | None) -> None:
    """Begin a run and end it so, with one experiment of that status or none."""
    with running._opened(folder, Config()) as lineage:
        if status is not None:
            record(lineage, status)
        raise end


@pytest.mark.parametrize("end", [*ENDS, StorageError("the disk is full")], ids=lambda end: type(end).__name__)
def test_what_has_finished_stays_however_the_first_sitting_ends(tmp_path: Path, end: BaseException) -> None:
    folder = tmp_path / "runs" / "mar5"
    with pytest.raises(type(end)):
        sit(folder, end, Status.COMPLETED)
    assert len(snapshot.read(folder).experiments) == 1
    assert (folder / "config.yaml").is_file()


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
@pytest.mark.parametrize("status", [None, Status.LOST])
def test_a_run_that_never_trained_leaves_nothing_behind(
    tmp_path: Path, end: BaseException, status: Status | None
) -> None:
    folder = tmp_path / "runs" / "mar5"
    with pytest.raises(type(end)):
        sit(folder, end, status)
    assert not folder.parent.exists()


def test_a_later_sitting_takes_nothing_away(tmp_path: Path) -> None:
    folder = tmp_path / "mar5"
    with running._opened(folder, Config()):
        pass
    with pytest.raises(KeyboardInterrupt), running._opened(folder, Config()):
        raise KeyboardInterrupt
    assert snapshot.read(folder).run == "mar5"


def test_a_repository_that_fails_at_the_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(repository: Repository) -> int:
        raise RepositoryError("git failed")

    with running._opened(tmp_path / "mar5", Config()):
        projection = running._Projection(tmp_path / "mar5")
        assert projection.update(now=True) is None
        monkeypatch.setattr(Repository, "update", fail)
        assert "git failed" in (projection.close() or "")
