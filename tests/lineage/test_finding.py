"""Finding runs by name, and which of them are live."""

import os
from pathlib import Path

import pytest
import synthetic

from autoresearch_ray.errors import RunError
from autoresearch_ray.lineage import finding
from autoresearch_ray.lineage.store import LineageStore


def test_runs_are_found_by_name_by_path_or_as_the_newest(tmp_path: Path) -> None:
    for place, name in enumerate(("mar5", "mar6", "nov24")):
        folder = synthetic.make(tmp_path / name, 2)
        for path in (folder / "lineage" / "journal").iterdir():
            os.utime(path, (1000 - place, 1000 - place))
    assert [path.name for path in finding.runs(tmp_path)] == ["mar5", "mar6", "nov24"]
    assert finding.find_run(tmp_path) == tmp_path / "mar5"
    assert finding.find_run(tmp_path, "nov24") == tmp_path / "nov24"
    assert finding.find_run(tmp_path / "elsewhere", str(tmp_path / "mar6")) == tmp_path / "mar6"


def test_a_run_that_is_not_there_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run in"):
        finding.find_run(tmp_path / "runs")
    synthetic.make(tmp_path / "nov24", 1)
    with pytest.raises(RunError, match=r"no run 'nov25' in .*: did you mean nov24\?"):
        finding.find_run(tmp_path, "nov25")
    with pytest.raises(RunError, match=r"there are nov24\."):
        finding.find_run(tmp_path, "zzzzzz")
    (tmp_path / "notes").mkdir()
    with pytest.raises(RunError, match="notes is not a run"):
        finding.find_run(tmp_path, "notes")


def test_a_run_is_live_while_a_driver_holds_it_and_looking_does_not_disturb(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", 1)
    assert not finding.is_live(folder)
    with LineageStore.open(folder):
        assert finding.is_live(folder)
    assert not finding.is_live(folder)
    assert not finding.is_live(tmp_path)
