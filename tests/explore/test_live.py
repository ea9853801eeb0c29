from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console, RenderableType
from scripted import SEED_SOURCE, ScriptedCluster, bowl

from autoresearch_ray.config import Config
from autoresearch_ray.errors import RunError
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.evolution.flight import Ended
from autoresearch_ray.explore import live, snapshot, summary
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Experiment, Result, Status


def text(renderable: RenderableType, width: int = 80) -> str:
    console = Console(width=width, force_terminal=False, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def noisy(experiment: Experiment) -> Result:
    if experiment.seed % 4 == 0 and "LR = 0.5" not in experiment.source:
        return Result(status=Status.CRASHED, reason="ValueError: \x1b[31mred\x1b[0m", wall_seconds=1.0)
    result = bowl(experiment)
    assert result.val_bpb is not None
    return dataclasses.replace(result, val_bpb=result.val_bpb + (experiment.seed % 7) * 1e-4)


class Watched:
    """A scripted run, with what the view showed at every turn."""

    def __init__(self, folder: Path, experiments: int = 30) -> None:
        self.folder = folder
        self.snapshots: list[snapshot.Snapshot] = []
        self.lines: list[str] = []
        self.last_ended: list[Ended] = []
        folder.mkdir()
        with LineageStore.create(folder, "mar5") as store:
            config = Config(max_experiments=experiments, population_size=4, seed_replicates=3)
            self.driver = Driver(config, ScriptedCluster(noisy), store, Origin("mar5"), watch=self._look)
            self.driver.begin(SEED_SOURCE)
            self.driver.run()
        snapshot.write(snapshot.take(self.driver, "finished"), folder)

    def _look(self, driver: Driver) -> None:
        self.snapshots.append(snapshot.take(driver, "running"))
        self.lines += [live.line(driver, ended) for ended in driver.ended]
        self.last_ended = list(driver.ended) or self.last_ended


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "mar5")


def test_a_snapshot_survives_its_file(watched: Watched) -> None:
    for taken in watched.snapshots[:: len(watched.snapshots) // 5]:
        snapshot.write(taken, watched.folder)
        assert snapshot.read(watched.folder) == taken


def test_a_snapshot_counts_what_the_driver_counts(watched: Watched) -> None:
    last = snapshot.take(watched.driver, "finished")
    assert last.experiments == 30
    assert last.births == sum(last.ends.values())
    assert last.seed is not None
    assert last.seed.count == len(watched.driver.state.scores(0)) >= 3
    assert last.sigma is not None
    sigma = watched.driver.state.noise.estimate().sigma
    assert last.seed.error == pytest.approx(sigma / last.seed.count**0.5)
    assert last.activities == ()
    assert snapshot.gain(last) == pytest.approx(last.seed.mean - last.best.mean)  # type: ignore[union-attr]


def test_the_estimated_end_comes_nearer(watched: Watched) -> None:
    ends = [taken.ends_at - taken.now for taken in watched.snapshots if taken.ends_at is not None]
    assert ends[-1] == 0
    assert ends[2] > ends[len(ends) // 2] > ends[-1]


def test_the_panel_fits_eighty_columns_and_says_what_matters(watched: Watched) -> None:
    busy = next(taken for taken in watched.snapshots if len(taken.activities) >= 2 and taken.best and taken.sigma)
    drawn = text(live.panel(busy))
    assert max(map(len, drawn.splitlines())) <= 80
    for words in ("mar5", "of 30", "seed", "best guess", "±", "trainings", "left"):
        assert words in drawn
    assert "lease" not in drawn


def test_a_slot_shows_what_it_does(watched: Watched) -> None:
    activity = snapshot.Activity("x-0", "4f2a11112222", "parameters", "LR 1 -> 2\x1b[2J", "GPU 3", "training", 0.62)
    taken = dataclasses.replace(watched.snapshots[-1], activities=(activity,) * 20)
    drawn = text(live.panel(taken), 120)
    assert "GPU 3" in drawn
    assert "4f2a111" in drawn
    assert "training  62%" in drawn
    assert "and 4 more" in drawn
    assert "\x1b" not in drawn


def test_one_line_for_everything_that_ends(watched: Watched) -> None:
    trained = [line for line in watched.lines if "seed" not in line]
    assert len([line for line in watched.lines if "/30" in line]) == len(watched.lines)
    assert any(" best" in line for line in trained)
    assert any("crashed: ValueError" in line for line in trained)
    assert not any("\x1b" in line for line in watched.lines)
    assert any("(-0." in line for line in trained)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")]
)
def test_durations_as_a_person_says_them(seconds: float, words: str) -> None:
    assert live.duration(seconds) == words


def test_a_killed_run_is_not_shown_as_running(watched: Watched) -> None:
    gone = snapshot.interrupted(watched.snapshots[5])
    assert gone.state == "killed"
    assert "no slot is busy" in text(live.panel(gone))


def test_no_or_a_damaged_live_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="says nothing of itself yet"):
        snapshot.read(tmp_path)
    (tmp_path / snapshot.LIVE_FILE).write_text('{"run": 1}')
    with pytest.raises(RunError, match="cannot be read"):
        snapshot.read(tmp_path)


@pytest.mark.parametrize(("found", "typed"), [("/usr/bin/arr", "arr"), (None, "{folder}/arr")])
def test_the_summarys_commands_can_be_typed_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str | None, typed: str
) -> None:
    (tmp_path / "arr").touch()
    monkeypatch.setattr("sys.argv", [str(tmp_path / "autoresearch-ray"), "run"])
    monkeypatch.setattr("shutil.which", lambda name: found)
    assert summary._program() == typed.format(folder=tmp_path)


def test_the_summary_names_the_best_its_way_and_its_change(watched: Watched) -> None:
    ended = summary.of(watched.folder)
    assert ended.best is not None
    assert ended.seed is not None
    assert ended.gain == pytest.approx(ended.seed.mean - ended.best.mean)
    assert ended.path[0].operator == "seed"
    leader = ended.champion.variant_id if ended.champion else ended.best_id
    assert ended.path[-1].variant_id == leader
    assert ended.diff.startswith("--- seed/train.py")
    drawn = text(summary.render(ended))
    assert max(map(len, drawn.splitlines())) <= 80
    added = next(line for line in ended.diff.splitlines()[2:] if line.startswith("+"))
    for words in ("champion", "arr lineage path", added):
        assert words in drawn
    assert f"{watched.folder}/progress.png" in text(summary.render(ended), 300)


def test_a_run_that_found_nothing_says_so(tmp_path: Path) -> None:
    drawn = text(summary.render(summary.of(Watched(tmp_path / "short", experiments=3).folder)))
    assert "nothing better than the seed was found" in drawn


def test_busy_is_the_part_of_all_slot_time_between_first_start_and_last_end() -> None:
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    spans = [(0, 10), (0, 6), (8, 10)]
    rows = [{"started_at": start + timedelta(seconds=a), "ended_at": start + timedelta(seconds=b)} for a, b in spans]
    table = pa.Table.from_pylist(rows)
    assert summary.busy_share(table, 2) == pytest.approx(18 / 20)
    assert summary.busy_share(table.slice(0, 0), 2) is None


def test_the_line_of_a_birth_shows_claims_that_are_not_borne_out(watched: Watched) -> None:
    ended = next(ended for ended in watched.last_ended if ended.result is not None)
    assert ended.result is not None
    flagged = dataclasses.replace(ended, result=dataclasses.replace(ended.result, claim_flag="claims val_bpb 0"))
    assert "(claims val_bpb 0)" in live.line(watched.driver, flagged)
    assert "claims" not in live.line(watched.driver, ended)
