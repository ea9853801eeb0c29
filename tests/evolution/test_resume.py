"""A driver that dies at any moment, and the one that takes its run up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from scripted import SEED_SOURCE, ScriptedCluster, bowl

from autoresearch_ray.config import Config
from autoresearch_ray.errors import RunError, UsageError
from autoresearch_ray.evolution.cluster import Event
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.evolution.replay import replay
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Experiment, Result, Status, Usage

RUN = "test"
CONFIG = Config(max_experiments=40, population_size=6, num_islands=2, migration_interval=8, crossover_probability=0.3)


class Killed(BaseException):
    """The driver's process is gone."""


class Mortal(ScriptedCluster):
    """Dies when the loop asks for its nth event; now and then loses an experiment."""

    def __init__(self, life: int | None, **keys: Any) -> None:
        super().__init__(train=sometimes_lost, **keys)
        self._life = life

    def next_event(self, timeout: float) -> Event | None:
        if timeout and self._life is not None:
            self._life -= 1
            if self._life < 0:
                raise Killed
        return super().next_event(timeout)


def sometimes_lost(experiment: Experiment) -> Result:
    if experiment.seed % 11 == 0:
        return Result(status=Status.LOST, reason="the worker process died", wall_seconds=2.0)
    return bowl(experiment)


def live(
    folder: Path, life: int | None, config: Config = CONFIG, start: bool = False, kind: type[Mortal] = Mortal
) -> tuple[Driver, ScriptedCluster]:
    """One sitting; a death leaves the store as a kill would: nothing is committed, sealed or closed in order."""
    cluster = kind(life)
    store = LineageStore.create(folder, RUN) if start else LineageStore.open(folder)
    driver = Driver(config, cluster, store, Origin(RUN))
    try:
        driver.begin(SEED_SOURCE) if start else driver.resume()
        driver.run()
    except Killed:
        store._release()  # the kernel's part: the lock goes with the process
    else:
        store.close()
    return driver, cluster


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    with LineageStore.open(folder) as store:
        return [recorded.row for recorded in store.replay([table], bulky=True)]  # type: ignore[list-item]


def check_whole(folder: Path, driver: Driver) -> None:
    variants, experiments = rows(folder, "variants"), rows(folder, "experiments")
    assert sorted(row["number"] for row in variants) == list(range(driver.births + 1))
    names = Counter(row["experiment_id"] for row in experiments)
    assert not [name for name, count in names.items() if count > 1]
    counted = [row for row in experiments if row["status"] != "lost"]
    assert len(counted) == driver.ledger.spent.experiments == CONFIG.max_experiments
    trained = Counter(row["variant_id"] for row in counted if row["purpose"] == "birth")
    seed = next(row["variant_id"] for row in variants if row["number"] == 0)
    assert {count for name, count in trained.items() if name != seed} == {1}
    assert driver.ledger.reserved_experiments == 0


def shown(islands: Any) -> list[list[tuple[str, tuple[float, ...], str]]]:
    return [
        [(member.variant.variant_id, member.scores, member.variant.source) for member in island] for island in islands
    ]


@pytest.mark.parametrize("life", [0, 1, 2, 3, 4, 5, 7, 9, 13, 18, 25, 33, 47, 61, 80, 101, 118])
def test_a_kill_at_any_moment_loses_nothing_finished_and_duplicates_nothing(tmp_path: Path, life: int) -> None:
    folder = tmp_path / "run"
    first, _ = live(folder, life, start=True)
    finished = {row["experiment_id"] for row in rows(folder, "experiments")}
    assert len(finished) == sum(first.state.experiments.values())  # what was handled was durable at the kill
    driver, cluster = live(folder, None)
    check_whole(folder, driver)
    assert finished <= {row["experiment_id"] for row in rows(folder, "experiments")}
    with LineageStore.open(folder) as store:
        assert shown(replay(store).islands) == shown(cluster.islands[number].members for number in (0, 1))
        assert not store.open_births()
        assert not store.open_proposals()


def test_a_run_killed_again_and_again_ends_whole(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    live(folder, 12, start=True)
    for life in (3, 0, 7, 1, 15, 2, 9):
        live(folder, life)
    driver, _ = live(folder, None)
    check_whole(folder, driver)


class SeedLast(Mortal):
    """Begins births before it ends trainings, and ends the latest training first."""

    def __init__(self, life: int | None, **keys: Any) -> None:
        super().__init__(life, **keys)
        self._later: list[Any] = []

    def train(self, experiment: Experiment) -> None:
        super().train(experiment)
        self._later.append(self._queue.pop())

    def next_event(self, timeout: float) -> Event | None:
        if not self._queue and self._later:
            self._queue.append(self._later.pop())
        return super().next_event(timeout)


def test_children_of_a_seed_without_a_score_survive_kills_and_may_end_before_it(tmp_path: Path) -> None:
    found = Counter[str]()
    for life in range(1, 12):
        folder = tmp_path / str(life)
        live(folder, life, start=True, kind=SeedLast)
        for again in (life, None):
            with LineageStore.open(folder) as store:
                born = [row.row["number"] for row in store.replay(["variants"])]
                numbers = {variant.birth.number for variant in store.open_proposals()}
            found["children in flight with the seed"] += 0 in numbers and len(numbers) > 1
            found["children that ended before the seed"] += bool(born) and 0 in numbers
            driver, cluster = live(folder, again, kind=SeedLast)
        check_whole(folder, driver)
        with LineageStore.open(folder) as store:
            assert shown(replay(store).islands) == shown(cluster.islands[number].members for number in (0, 1))
            assert not store.open_births()
    assert min(found.values()) > 3, found


def test_a_run_that_has_lost_its_births_is_refused_with_the_damage(tmp_path: Path) -> None:
    live(tmp_path, None, start=True)
    for part in (tmp_path / "lineage" / "variants").iterdir():
        part.write_bytes(b"x" * part.stat().st_size)
    with LineageStore.open(tmp_path) as store:
        driver = Driver(CONFIG, ScriptedCluster(), store, Origin(RUN))
        with pytest.raises(RunError, match=r"cannot go on without what is damaged\. .*part-.*parquet"):
            driver.resume()


class OneByOne(ScriptedCluster):
    """Has one event at a time, so that each is committed."""

    def next_event(self, timeout: float) -> Event | None:
        return super().next_event(timeout) if timeout else None


def test_a_seed_whose_trainings_were_all_lost_is_trained_all_the_same(tmp_path: Path) -> None:
    def lost(experiment: Experiment) -> Result:
        return Result(status=Status.LOST, reason="the worker process died", wall_seconds=2.0)

    def die(driver: Driver) -> None:
        if driver.state.experiments[Status.LOST] == CONFIG.seed_replicates:
            raise Killed

    store = LineageStore.create(tmp_path, RUN)
    driver = Driver(CONFIG, OneByOne(train=lost), store, Origin(RUN), watch=die)
    driver.begin(SEED_SOURCE)
    with pytest.raises(Killed):
        driver.run()
    store._release()
    driver, _ = live(tmp_path, None)
    check_whole(tmp_path, driver)
    assert driver.state.seed is not None


class LatestFirst(OneByOne):
    """Ends the latest training first, and never finds parents."""

    def mate(self, *question: Any) -> None:
        pass

    def train(self, experiment: Experiment) -> None:
        super().train(experiment)
        self._queue.rotate(1)


def test_a_replicate_that_ended_before_the_first_training_is_not_repeated(tmp_path: Path) -> None:
    def die(driver: Driver) -> None:
        if driver.state.experiments[Status.COMPLETED]:
            raise Killed

    store = LineageStore.create(tmp_path, RUN)
    driver = Driver(CONFIG, LatestFirst(), store, Origin(RUN), watch=die)
    driver.begin(SEED_SOURCE)
    with pytest.raises(Killed):
        driver.run()
    store._release()
    [first] = rows(tmp_path, "experiments")
    assert first["experiment_id"].endswith("-1")
    driver, cluster = live(tmp_path, None)
    check_whole(tmp_path, driver)
    assert [experiment.experiment_id for experiment in cluster.experiments[:1]] == [f"{first['variant_id']}-0"]
    births = [row for row in rows(tmp_path, "experiments") if row["purpose"] == "birth"]
    assert len({row["seed"] for row in births if row["variant_id"] == first["variant_id"]}) == 2


def test_what_was_in_flight_is_begun_again_with_its_own_number(tmp_path: Path) -> None:
    found = Counter[str]()
    for life in range(30, 36):
        folder = tmp_path / str(life)
        live(folder, life, start=True)
        with LineageStore.open(folder) as store:
            births = {birth.number: birth.variant_id for birth in store.open_births()}
            waiting = {variant.birth.number: variant.source for variant in store.open_proposals()}
        found.update(births=len(births.keys() - waiting.keys()), waiting=len(waiting))
        live(folder, None)
        ended = {row["number"]: row for row in rows(folder, "variants")}
        assert {number: ended[number]["variant_id"] for number in births} == births
        assert {number: ended[number]["source"] for number in waiting} == waiting
    assert found["births"]
    assert found["waiting"]


def test_the_ledger_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first, _ = live(folder, 50, start=True)
    with LineageStore.open(folder) as store:
        before = replay(store).spent
    assert before.experiments == first.ledger.spent.experiments
    assert before.births == first.ledger.spent.births
    assert before.train_seconds == pytest.approx(first.ledger.spent.train_seconds)
    assert before.slot_seconds == pytest.approx(first.ledger.spent.slot_seconds)
    assert 0 < before.hours <= first.ledger.spent.hours + 1e-9


def test_limits_are_totals_over_all_sittings(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    live(folder, None, start=True)
    again, _ = live(folder, None)
    assert again.ledger.spent.experiments == 40
    more, _ = live(folder, None, CONFIG.model_copy(update={"max_experiments": 55}))
    assert more.ledger.spent.experiments == 55
    assert len([row for row in rows(folder, "experiments") if row["status"] != "lost"]) == 55


def test_dollars_of_replies_that_were_not_trained_are_not_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with LineageStore.create(folder, RUN) as store:
        driver = Driver(CONFIG, ScriptedCluster(), store, Origin(RUN))
        driver.begin(SEED_SOURCE)
        [seed] = store.open_proposals()
        store.propose(type(seed)(**{**vars_of(seed), "usage": Usage(10, 20, 0.5)}))
        store.commit()
        assert replay(store).spent.usd == 0.5


def vars_of(variant: Any) -> dict[str, Any]:
    return {name: getattr(variant, name) for name in variant.__dataclass_fields__}


def test_a_run_without_a_seed_cannot_go_on(tmp_path: Path) -> None:
    LineageStore.create(tmp_path / "run", RUN).close()
    with pytest.raises(RunError, match="ended before its seed was recorded"):
        live(tmp_path / "run", None)


def test_a_resize_holds_after_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    store = LineageStore.create(folder, RUN)
    cluster = Mortal(60)

    def grow(driver: Driver) -> None:
        if driver.ledger.spent.experiments == 12 and driver.population_size == 6:
            driver.resize(9)

    driver = Driver(CONFIG, cluster, store, Origin(RUN), watch=grow)
    driver.begin(SEED_SOURCE)
    with pytest.raises(Killed):
        driver.run()
    store._release()
    again, cluster = live(folder, None)
    assert again.islands.capacities == [5, 4]
    assert [island.capacity for island in cluster.islands.values()] == [5, 4]
    check_whole(folder, again)


def test_a_population_smaller_than_the_islands_is_refused(tmp_path: Path) -> None:
    with LineageStore.create(tmp_path / "run", RUN) as store:
        driver = Driver(CONFIG, ScriptedCluster(), store, Origin(RUN))
        driver.begin(SEED_SOURCE)
        with pytest.raises(UsageError, match="must be at least 2"):
            driver.resize(1)


def test_a_persons_variant_joins_as_a_child_of_the_seed(tmp_path: Path) -> None:
    source = SEED_SOURCE.replace("LR = 0.5", "LR = 0.11")
    added: list[str] = []

    def add(driver: Driver) -> None:
        if driver.ledger.spent.experiments == 5 and not added:
            added.append(driver.add(source, "a lower rate"))
            driver.add(source, "once more")

    with LineageStore.create(tmp_path / "run", RUN) as store:
        driver = Driver(CONFIG, ScriptedCluster(), store, Origin(RUN), watch=add)
        driver.begin(SEED_SOURCE)
        driver.run()
        with pytest.raises(UsageError, match="nothing more may be started"):
            driver.add(source, "too late")
    persons = [row for row in rows(tmp_path / "run", "variants") if row["operator"] == "person"]
    assert [(row["status"], row["hypothesis"], row["generation"]) for row in persons] == [
        ("rejected", "once more", 1),
        ("completed", "a lower rate", 1),
    ]
    assert persons[1]["variant_id"] == added[0]


@pytest.mark.parametrize(
    ("keys", "kind"), [({"target": 1.05}, "target"), ({"plateau": 5}, "plateau"), ({"max_hours": 0.05}, "hours")]
)
def test_a_search_ends_when_it_should(tmp_path: Path, keys: dict[str, Any], kind: str) -> None:
    config = Config(max_experiments=400, population_size=3, num_islands=1, **keys)
    with LineageStore.create(tmp_path / "run", RUN) as store:
        driver = Driver(config, ScriptedCluster(), store, Origin(RUN))
        driver.begin(SEED_SOURCE)
        driver.run()
        assert driver.stop is not None
        assert driver.stop.kind == kind
        assert driver.ledger.spent.experiments < 400
        assert not driver.running


def test_nothing_is_begun_that_would_end_after_the_deadline(tmp_path: Path) -> None:
    cluster = ScriptedCluster()
    deadline = cluster.now() + 205
    with LineageStore.create(tmp_path / "run", RUN) as store:
        driver = Driver(Config(max_experiments=400, train_seconds=1), cluster, store, Origin(RUN), deadline=deadline)
        driver.begin(SEED_SOURCE)
        driver.run()
        assert driver.stop is not None
        assert driver.stop.kind == "deadline"
        assert 15 <= driver.ledger.spent.experiments <= 25  # ten seconds each; what was in flight is finished
