import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import synthetic

from autoresearch_ray.lineage.repository import Repository
from autoresearch_ray.lineage.sealing import Sealing
from autoresearch_ray.lineage.store import LineageStore


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of what is called when, and of kills of a process, need no real fsync; drivers in other processes do it."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
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
