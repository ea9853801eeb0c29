"""Real runs that are killed, with everything they started, at moments that a seed chooses; and full disks.

A process belongs to a sitting when it carries the sitting's marker in its PATH: of all variables only that one reaches
the driver, all of Ray, the launchers and the variants alike. Nothing else on this machine is ever looked for by name.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from autoresearch_ray import config as configuration
from autoresearch_ray.errors import RunError
from autoresearch_ray.evolution.replay import Replayed, replay
from autoresearch_ray.lineage import finding, manifest, snapshot
from autoresearch_ray.lineage.journal import scan
from autoresearch_ray.lineage.store import LineageStore, Recorded
from autoresearch_ray.variant import Birth, Purpose, Variant

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds a sitting's processes in /proc"),
]
COMMAND = [sys.executable, "-c", "from autoresearch_ray.cli.app import main; main()"]
RUN = "night"
RAY_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""What a raylet leaves behind when it is killed: for a minute they try to tell its end to whoever they can reach."""
PATIENCE = 180.0
"""Seconds after which a moment that does not come is a failure; Ray takes many when all cores are busy."""
KEYS = {
    "train_seconds": 0.2,
    "max_experiments": 1000,
    "population_size": 6,
    "num_islands": 2,
    "migration_interval": 6,
    "crossover_probability": 0.3,
}


# ------------------------------------------------------------------------------------------------------- the sittings


class Sitting:
    """One `arr` process, and all that it starts."""

    def __init__(self, log: Path, *words: object) -> None:
        self.log = log
        self._mark = f"/nonexistent/{secrets.token_hex(12)}"
        self._known: set[tuple[int, float]] = set()
        with log.open("w") as output:
            self.driver = subprocess.Popen(
                [*COMMAND, *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PATH": f"{os.environ['PATH']}:{self._mark}"},
                start_new_session=True,
            )
        self.started_at = time.time()

    def members(self) -> list[psutil.Process]:
        """Return who is alive of all that carries the marker, or descends from somebody seen to carry it."""
        mark, found = self._mark.encode(), set()
        for pid in psutil.pids():
            with contextlib.suppress(OSError, psutil.Error):
                if mark in Path(f"/proc/{pid}/environ").read_bytes():
                    found.add(psutil.Process(pid))
        for process in list(found):
            with contextlib.suppress(psutil.Error):
                found |= set(process.children(recursive=True))
        self._known |= {(process.pid, process.create_time()) for process in found}
        for pid, born in self._known:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.create_time() == born:
                    found.add(process)
        return [process for process in found if _lives(process)]

    def kill(self) -> None:
        """Kill the driver and all others, those too that came to be meanwhile, as a power cut would."""
        everybody = self.members()
        scratch = {folder for process in everybody for folder in _scratch(process)}
        for process in sorted(everybody, key=lambda process: process.pid != self.driver.pid):
            _kill(process)
        self.driver.wait()
        deadline = time.monotonic() + 60
        while left := self.members():
            assert time.monotonic() < deadline, left
            for process in left:
                _kill(process)
        for folder in scratch:
            shutil.rmtree(folder, ignore_errors=True)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.driver.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def end(self) -> str:
        """Wait for its own end and return what it printed."""
        self.driver.wait(PATIENCE)
        return self.log.read_text()


def _scratch(process: psutil.Process) -> list[str]:
    """Return the temporary folders that its command line names, which nobody is left to delete."""
    with contextlib.suppress(psutil.Error):
        return re.findall(r"/tmp/(?:arr|autoresearch)-\w{8}(?=/|\s|$)", " ".join(process.cmdline()))
    return []


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):  # checks that the number has not gone to somebody else
        process.kill()


class Sittings:
    """Starts sittings of one run, and leaves none behind."""

    def __init__(self, folder: Path, config: Path) -> None:
        self.run = folder / "runs" / RUN
        self._folder = folder
        self._config = config
        self._all: list[Sitting] = []

    def first(self) -> Sitting:
        return self._start("run", "-c", self._config, "--name", RUN)

    def resumed(self, **limits: object) -> Sitting:
        words = [word for key, value in limits.items() for word in ("--set", f"{key}={value}")]
        return self._start("resume", RUN, "--storage", self.run.parent, *words)

    def _start(self, *words: object) -> Sitting:
        self._all.append(Sitting(self._folder / f"sitting-{len(self._all)}.log", *words))
        return self._all[-1]

    def close(self) -> None:
        for sitting in self._all:
            sitting.kill()

    def logs(self) -> str:
        return "\n".join(sitting.log.read_text() for sitting in self._all)


@pytest.fixture
def sittings(quick: Path, tmp_path: Path) -> Iterator[Sittings]:
    values = yaml.safe_load(quick.read_text()) | KEYS
    values["data"] |= {"val_tokens": 1024, "holdout_tokens": 1024}
    quick.write_text(yaml.safe_dump(values))
    subprocess.run([*COMMAND, "prepare", "-c", str(quick)], check=True, capture_output=True, timeout=120)
    made = Sittings(tmp_path, quick)
    yield made
    made.close()


# -------------------------------------------------------------------------------------------- what can be seen of a run


def rows_of(run: Path) -> dict[tuple[str, int], str]:
    """Return every row that can be read, whole, by table and sequence; none where there is no run yet."""
    try:
        tables = snapshot.read(run, bulky=True)
    except RunError:
        return {}
    assert not tables.damage
    named = {name: getattr(tables, name) for name in ("variants", "experiments", "champions", "events")}
    return {(name, row["sequence"]): repr(row) for name, table in named.items() for row in table.to_pylist()}


def experiments(run: Path) -> int:
    try:
        return len(snapshot.read(run).experiments)
    except RunError:
        return 0


def proposals(run: Path) -> int:
    """Return how many variants have a source, trained or not, as long as nothing has been sealed."""
    try:
        path = manifest.journal_path(manifest.lineage_folder(run), manifest.read(run).journal)
    except RunError:
        return 0
    return sum("proposal" in entry for record in scan(path.read_bytes()).records for entry in json.loads(record))


def is_active(sitting: Sitting, run: Path) -> bool:
    """Say whether that sitting has begun experiments, which it tells the live view."""
    try:
        live = json.loads((run / "live.json").read_text())
    except FileNotFoundError:
        return False
    return bool(live["now"] > sitting.started_at and live["activities"])


Shown = list[list[tuple[str, tuple[float, ...], str]]]


def shown(replayed: Replayed) -> Shown:
    """Return the islands as plain values."""
    return [
        [(member.variant.variant_id, member.scores, member.variant.source) for member in island]
        for island in replayed.islands
    ]


@dataclass(frozen=True)
class Left:
    """What a kill left of a run."""

    last: int
    """The sequence of its last row."""
    open: dict[int, tuple[str, str | None]]
    """What was in flight: id, and source if there was one, by number."""
    births: tuple[Birth, ...]
    proposals: tuple[Variant, ...]
    replayed: Replayed
    counted: int
    """Experiments that were not lost."""


class Until:
    """A store of today that says what it said after an earlier kill."""

    def __init__(self, store: LineageStore, left: Left) -> None:
        self.folder = store.folder
        self._store = store
        self._left = left

    def replay(self, *arguments: Any) -> Iterator[Recorded]:
        return (recorded for recorded in self._store.replay(*arguments) if recorded.sequence <= self._left.last)

    def open_births(self) -> tuple[Birth, ...]:
        return self._left.births

    def open_proposals(self) -> tuple[Variant, ...]:
        return self._left.proposals


@contextlib.contextmanager
def opened_copy(run: Path, scratch: Path) -> Iterator[LineageStore]:
    """Open a copy, so that the run itself stays as the kill left it."""
    copy = scratch / "copy"
    shutil.copytree(run, copy)
    try:
        with LineageStore.open(copy) as store:
            assert not store.damage
            yield store
    finally:
        shutil.rmtree(copy)


def examine(run: Path, scratch: Path) -> Left | None:
    """Check that all that can be read of a run fits together; None if it has not even its seed yet."""
    with opened_copy(run, scratch) as store:
        rows = list(store.replay(bulky=True))
        if not rows:
            assert not store.open_births()
            return None
        replayed = replay(store)
        births, proposals = store.open_births(), store.open_proposals()
        store.seal()  # what came from the journal now comes from Parquet
        again = replay(store)
    assert (shown(again), again.spent, again.next_number) == (shown(replayed), replayed.spent, replayed.next_number)
    variants = [recorded.row for recorded in rows if recorded.table == "variants"]
    trained = [recorded.row for recorded in rows if recorded.table == "experiments"]
    in_flight = {birth.number: birth.variant_id for birth in births}
    sources = {variant.birth.number: variant.source for variant in proposals}
    _check_births(variants, in_flight, replayed)
    _check_experiments(trained, variants, replayed)
    _check_islands(trained, replayed)
    counted = sum(row["status"] != "lost" for row in trained)
    return Left(
        rows[-1].sequence,
        {number: (name, sources.get(number)) for number, name in in_flight.items()},
        births,
        proposals,
        replayed,
        counted,
    )


def _check_births(variants: list[dict[str, Any]], births: dict[int, str], replayed: Replayed) -> None:
    """Every number stands once: in a row, or in flight."""
    numbers = [row["number"] for row in variants]
    assert sorted(numbers + list(births)) == list(range(replayed.next_number))
    names = [row["variant_id"] for row in variants] + list(births.values())
    assert len(set(names)) == len(names)
    assert replayed.spent.births == replayed.next_number - 1


def _check_experiments(trained: list[dict[str, Any]], variants: list[dict[str, Any]], replayed: Replayed) -> None:
    """None stands twice, each trained variant has its first, and the ledger adds up to all of them."""
    names = Counter(row["experiment_id"] for row in trained)
    assert set(names.values()) <= {1}
    counted = [row for row in trained if row["status"] != "lost"]
    assert replayed.spent.experiments == len(counted)
    assert replayed.spent.train_seconds == pytest.approx(sum(row["train_seconds"] for row in trained))
    assert replayed.spent.slot_seconds == pytest.approx(sum(row["wall_seconds"] for row in trained))
    drawn = [(row["variant_id"], row["seed"]) for row in counted]
    assert len(set(drawn)) == len(drawn), "replicates and challenges are fresh draws"
    times = Counter(row["variant_id"] for row in counted if row["purpose"] == Purpose.BIRTH)
    assert {row["variant_id"] for row in counted} <= set(times), "nobody is trained again before the first time"
    for row in variants:
        expected = (1, 2) if row["number"] == 0 else (row["status"] not in ("rejected", "operator_failed"),)
        assert times.pop(row["variant_id"], 0) in expected, row
    assert not times  # nobody is trained without a row


def _check_islands(trained: list[dict[str, Any]], replayed: Replayed) -> None:
    """Nobody is there too many, and everybody has the scores of its experiments."""
    assert replayed.capacities == [3, 3]
    for island, capacity in zip(replayed.islands, replayed.capacities, strict=True):
        assert 1 <= len(island) <= capacity
        for member in island:
            own = [row for row in trained if row["variant_id"] == member.variant.variant_id]
            assert sorted(member.scores) == sorted(row["val_bpb"] for row in own if row["status"] == "completed")
            assert member.variant.source


# --------------------------------------------------------------------------------------------------------- the moments


@dataclass(frozen=True)
class Moment:
    """When a sitting is killed."""

    phase: str
    """`start`: while it starts Ray, if not later. `birth`: as soon as it has begun births. `seed`: once the seed has
    children with a source. `training`: after it has begun experiments. `end`: after the last one of its budget."""
    delay: float
    """Seconds after that."""
    experiments: int = 0
    """Experiments that the sitting is to end before that."""

    def wait(self, sitting: Sitting, run: Path, limit: int) -> None:
        before = experiments(run)
        if self.phase == "end":
            sitting.wait_for(lambda: experiments(run) >= limit)
        elif self.phase == "seed":
            sitting.wait_for(lambda: is_active(sitting, run) and proposals(run) > 1)
        elif self.phase in ("birth", "training"):
            sitting.wait_for(lambda: is_active(sitting, run) and experiments(run) >= before + self.experiments)
        time.sleep(self.delay)


def moments(seed: int) -> list[Moment]:
    """Draw 20 moments: the first before there is anything, the last when all is done, the others anywhere between."""
    draw = random.Random(seed)
    start = [Moment("start", draw.uniform(0.2, 7.0)) for _ in range(8)]
    begin = [Moment("birth", 0.0), *(Moment("seed", draw.uniform(0.0, 1.0)) for _ in range(2))]
    middle = [Moment("training", draw.uniform(0.0, 0.7), draw.randrange(6)) for _ in range(6)]
    end = [Moment("end", draw.uniform(0.0, 2.0)) for _ in range(3)]
    mixed = start[2:] + middle
    draw.shuffle(mixed)
    return [*start[:2], *begin, *mixed, *end]


@dataclass
class History:
    """What has been found after the kills so far."""

    kept: dict[tuple[str, int], str] = field(default_factory=dict)
    in_flight: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    lefts: list[Left] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)


def kill_at(moment: Moment, sittings: Sittings, history: History, scratch: Path) -> None:
    """Let the next sitting begin, kill it, and compare what is left with what could be read before."""
    run, left = sittings.run, history.lefts[-1] if history.lefts else None
    limit = 1000
    if not manifest.exists(run):
        sitting = sittings.first()
    elif moment.phase == "end" and left is not None:
        limit = left.counted + len(left.open) + 1
        sitting = sittings.resumed(max_experiments=limit)
    else:
        sitting = sittings.resumed()
    moment.wait(sitting, run, limit)
    if moment.phase == "training" and not history.seen["refused"]:
        _second_driver_is_refused(sittings, sitting)
        history.seen["refused"] += 1
    before = rows_of(run)
    sitting.kill()
    history.seen[f"{moment.phase}, killed: {sitting.driver.returncode == -signal.SIGKILL}"] += 1
    if not manifest.exists(run):
        assert not before
        return
    configuration.load(run / "config.yaml")
    after = rows_of(run)
    assert history.kept.items() <= before.items() <= after.items()
    history.kept = after
    left = examine(run, scratch)
    if left is None:
        return
    history.seen["no experiment yet"] += not left.counted
    history.seen["children of a seed without a score"] += 0 in left.open and len(left.proposals) > 1
    history.seen["in flight"] += len(left.open)
    history.seen["in flight with a source"] += sum(source is not None for _, source in left.open.values())
    for number, (name, source) in left.open.items():
        before_name, before_source = history.in_flight.get(number, (name, None))
        assert name == before_name
        assert before_source in (None, source)
        history.in_flight[number] = (name, source)
    history.lefts.append(left)


def test_twenty_kills_of_everything_lose_nothing_and_duplicate_nothing(sittings: Sittings, tmp_path: Path) -> None:
    history, run = History(), sittings.run
    planned = moments(seed=20)
    assert len(planned) == 20
    for moment in planned:
        kill_at(moment, sittings, history, tmp_path)
    assert history.seen["refused"] == 1
    ended = sittings.resumed(max_experiments=history.lefts[-1].counted + len(history.lefts[-1].open) + 3)
    printed = ended.end()
    assert ended.driver.returncode == 0, printed
    assert f"{RUN}: finished" in printed
    assert not ended.members()
    _check_end(run, history, tmp_path)
    assert "warning" not in sittings.logs()  # of a damaged journal, or of git
    assert "Traceback" not in sittings.logs()
    assert history.seen["no experiment yet"] >= 2
    assert history.seen["children of a seed without a score"] >= 1
    assert history.seen["in flight"] >= 10
    assert history.seen["in flight with a source"] >= 5
    assert history.seen["in flight"] > history.seen["in flight with a source"]
    assert history.lefts[-1].counted >= 12


def _second_driver_is_refused(sittings: Sittings, sitting: Sitting) -> None:
    """While a sitting goes on, another one on the same run ends with a sentence and changes nothing."""
    config = (sittings.run / "config.yaml").read_bytes()
    second = sittings.resumed(max_experiments=1)
    printed = second.end()
    assert second.driver.returncode == 2, printed
    assert f"is being written by another driver (process {sitting.driver.pid})" in printed
    assert "Traceback" not in printed
    assert (sittings.run / "config.yaml").read_bytes() == config
    assert sitting.driver.poll() is None


def _check_end(run: Path, history: History, scratch: Path) -> None:
    """Check a run that has ended against all that was found after its kills."""
    left = examine(run, scratch)
    assert left is not None
    assert not left.open
    assert history.kept.items() <= rows_of(run).items()
    assert json.loads((run / "live.json").read_text())["experiments"] == left.counted
    tables = snapshot.read(run, bulky=True)
    ended = {row["number"]: (row["variant_id"], row["source"]) for row in tables.variants.to_pylist()}
    for number, (name, source) in history.in_flight.items():
        assert ended[number][0] == name
        assert source in (None, ended[number][1])
    with opened_copy(run, scratch) as store:
        for earlier in history.lefts:
            found = replay(Until(store, earlier))  # type: ignore[arg-type]
            assert shown(found) == shown(earlier.replayed)
            assert found.spent == earlier.replayed.spent


# ------------------------------------------------------------------------------------------- other ends without a word


def test_what_a_killed_driver_started_ends_by_itself_and_the_run_goes_on_at_once(
    sittings: Sittings, tmp_path: Path
) -> None:
    killed, run = sittings.first(), sittings.run
    killed.wait_for(lambda: experiments(run) >= 2)
    started = {process.name() for process in killed.members()}
    assert {"raylet", "gcs_server"} <= started, started
    before = rows_of(run)
    os.kill(killed.driver.pid, signal.SIGKILL)
    killed.driver.wait()
    died_at = time.monotonic()
    assert not finding.is_live(run)
    left = examine(run, tmp_path)
    assert left is not None
    resumed = sittings.resumed(max_experiments=left.counted + len(left.open) + 2)
    _wait_until_gone(killed, spared=RAY_AGENTS, deadline=died_at + 30)
    printed = resumed.end()
    assert resumed.driver.returncode == 0, printed
    assert before.items() <= rows_of(run).items()
    ended = examine(run, tmp_path)
    assert ended is not None
    assert not ended.open
    assert ended.counted == left.counted + len(left.open) + 2
    _wait_until_gone(killed, spared=(), deadline=died_at + 120)


def _wait_until_gone(sitting: Sitting, spared: Sequence[str], deadline: float) -> None:
    while left := [name for name in map(_name, sitting.members()) if not name.startswith(tuple(spared))]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return str(process.name())
    return "gone"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte where the runs are stored."""
    folder = tmp_path / "runs"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here: it takes root on Linux")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> Path:
    """Leave not a byte to others than this file."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for size in itertools.chain(itertools.repeat(4096, 1024), itertools.repeat(1, 4096)):
            file.write(bytes(size))
    return path


def test_a_full_disk_is_a_clean_stop(small_disk: Path, sittings: Sittings, tmp_path: Path) -> None:
    run = sittings.run
    first = sittings.first()
    first.wait_for(lambda: experiments(run) >= 3)
    before = rows_of(run)
    filling = fill(small_disk / "filling")
    _check_stopped_by_the_disk(first)
    assert not finding.is_live(run)
    after = rows_of(run)
    assert before.items() <= after.items()

    filled_again = fill(small_disk / "again")
    again = sittings.resumed(max_experiments=500)
    _check_stopped_by_the_disk(again)
    assert after.items() <= rows_of(run).items()

    filling.unlink()
    filled_again.unlink()
    left = examine(run, tmp_path)
    assert left is not None
    last = sittings.resumed(max_experiments=left.counted + len(left.open) + 2)
    printed = last.end()
    assert last.driver.returncode == 0, printed
    assert after.items() <= rows_of(run).items()
    ended = examine(run, tmp_path)
    assert ended is not None
    assert not ended.open
    assert ended.counted == left.counted + len(left.open) + 2


def _check_stopped_by_the_disk(sitting: Sitting) -> None:
    printed = sitting.end()
    assert sitting.driver.returncode == 1, printed
    assert "Traceback" not in printed
    assert "No space left on device" in printed
    assert "resume the run" in printed
    assert not sitting.members()
