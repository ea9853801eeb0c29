"""A run that carries another on: the same class with scores and descent, another class with sources to train again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scripted import SEED_SOURCE, ScriptedCluster, bowl

from autoresearch_ray.config import Config, MetricConfig
from autoresearch_ray.errors import UsageError
from autoresearch_ray.evolution import inheritance
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.evolution.inheritance import Inheritance
from autoresearch_ray.evolution.replay import replay
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Experiment, Result, Status

CONFIG = Config(max_experiments=40, population_size=6, num_islands=2, migration_interval=8, crossover_probability=0.3)
CLASS, DATA = "one class", "d1"


def noisy(experiment: Experiment) -> Result:
    """The bowl, with noise that the random seed decides, and some crashes."""
    if experiment.seed % 7 == 3 and experiment.purpose.value == "birth" and not experiment.experiment_id.endswith("-0"):
        return bowl(experiment)
    scored = bowl(experiment)
    assert scored.val_bpb is not None
    value = scored.val_bpb + (experiment.seed % 1000 - 500) * 4e-6
    return Result(Status.COMPLETED, val_bpb=value, verified=True, train_seconds=1.0, wall_seconds=1.5)


def finished(folder: Path, origin: Origin, left: Inheritance | None = None, config: Config = CONFIG) -> Driver:
    with LineageStore.create(folder, folder.name) as store:
        driver = Driver(config, ScriptedCluster(noisy), store, origin)
        driver.begin(SEED_SOURCE, left)
        driver.run()
    return driver


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Driver]:
    folder = tmp_path_factory.mktemp("runs") / "old"
    return folder, finished(folder, Origin("old", CLASS, DATA))


def started(folder: Path, left: Inheritance, origin: Origin) -> tuple[LineageStore, Driver]:
    store = LineageStore.create(folder, folder.name)
    driver = Driver(CONFIG, ScriptedCluster(noisy), store, origin)
    driver.begin(SEED_SOURCE, left)
    store.commit()
    return store, driver


def members(driver: Driver) -> list[list[str]]:
    cluster: Any = driver.cluster
    return [[member.variant.variant_id for member in island.members] for _, island in sorted(cluster.islands.items())]


def test_population_noise_ideas_and_operators_are_carried_and_cost_nothing(
    old: tuple[Path, Driver], tmp_path: Path
) -> None:
    folder, before = old
    origin = Origin("new", CLASS, DATA)
    left = inheritance.gather(folder, CONFIG, origin)
    store, driver = started(tmp_path / "new", left, origin)
    with store:
        assert left.scored
        assert driver.ledger.spent.experiments == driver.ledger.spent.births == 0
        assert driver.state.noise.estimate() == before.state.noise.estimate()
        assert driver.state.allocation == before.state.allocation
        assert driver.state.best is not None
        assert before.state.best is not None
        assert driver.state.best.scores == before.state.best.scores
        assert driver.state.scores(0) == before.state.scores(0), "the seed need not be trained again"
        assert not driver.queue.ready
        told = {idea.hypothesis for idea in driver.memory.ideas}
        assert {idea.hypothesis for idea in before.memory.ideas} <= told
        failed = [idea for idea in before.memory.ideas if idea.status is not Status.COMPLETED]
        assert failed
        assert {idea.hypothesis for idea in failed} <= told
        population = {driver.memory.recall(n).source for n in range(driver.next_number)}
        for island in before.cluster.islands.values():  # type: ignore[attr-defined]
            assert {member.variant.source for member in island.members} <= population


def test_carried_variants_keep_their_descent_and_say_where_they_come_from(
    old: tuple[Path, Driver], tmp_path: Path
) -> None:
    folder, _ = old
    origin = Origin("new", CLASS, DATA)
    finished(tmp_path / "new", origin, inheritance.gather(folder, CONFIG, origin))
    theirs, ours = Lineage.open(folder), Lineage.open(tmp_path / "new")
    rows = ours.tables.variants.to_pylist()
    carried = [place for place, row in enumerate(rows) if row["carried_from"]]
    assert len(carried) > 6
    for place in carried:
        run, _, name = rows[place]["carried_from"].partition("/")
        there = theirs.find(name)
        assert run == "old"
        assert ours.source(place) == theirs.source(there)
        assert ours.score(place).mean == pytest.approx(theirs.score(there).mean, abs=5e-3)  # type: ignore[union-attr]
        assert [ours.source(step) for step in ours.path(place)] == [theirs.source(step) for step in theirs.path(there)]
    trained = ours.tables.experiments.to_pylist()
    foreign = [row for row in trained if row["purpose"] == "carried"]
    assert foreign
    assert all(row["carried_from"].startswith("old/") and row["wall_seconds"] == 0 for row in foreign)
    assert len({row["experiment_id"] for row in trained}) == len(trained)
    assert len(trained) - len(foreign) == CONFIG.max_experiments, "the whole budget is this run's own"


def test_replay_rebuilds_a_run_that_was_carried_on(old: tuple[Path, Driver], tmp_path: Path) -> None:
    folder, _ = old
    origin = Origin("new", CLASS, DATA)
    left = inheritance.gather(folder, CONFIG, origin)
    store, driver = started(tmp_path / "new", left, origin)
    with store:
        again = replay(store)
        assert [[m.variant.variant_id for m in island] for island in again.islands] == members(driver)
        assert again.state.noise.estimate() == driver.state.noise.estimate()
        assert again.state.allocation == driver.state.allocation
        assert again.spent.experiments == again.spent.births == 0
        assert again.next_number == driver.next_number
        resumed = Driver(CONFIG, ScriptedCluster(noisy), store, origin)
        resumed.resume()
        assert [idea.variant_id for idea in resumed.memory.ideas] == [idea.variant_id for idea in driver.memory.ideas]
        assert members(resumed) == members(driver)
        resumed.run()
        assert resumed.ledger.spent.experiments == CONFIG.max_experiments


def test_another_class_gets_sources_which_it_trains_again(old: tuple[Path, Driver], tmp_path: Path) -> None:
    folder, _ = old
    origin = Origin("new", "another class", DATA)
    left = inheritance.gather(folder, CONFIG, origin)
    assert not left.scored
    assert left.noise is None
    assert left.operators is not None
    driver = finished(tmp_path / "new", origin, left)
    ours = Lineage.open(tmp_path / "new")
    rows = ours.tables.variants.to_pylist()
    carried = [row for row in rows if row["carried_from"]]
    assert {row["parents"][0] for row in carried} == {ours.ids[ours.seed or 0]}
    assert not rows[0]["carried_from"]
    assert [row["number"] for row in carried] == list(range(1, len(carried) + 1))
    assert not [row for row in ours.tables.experiments.to_pylist() if row["carried_from"]]
    assert driver.ledger.spent.births == len(rows) - 1


def test_a_run_that_was_carried_on_can_be_carried_on(old: tuple[Path, Driver], tmp_path: Path) -> None:
    folder, _ = old
    second, third = Origin("second", CLASS, DATA), Origin("third", CLASS, DATA)
    finished(tmp_path / "second", second, inheritance.gather(folder, CONFIG, second))
    left = inheritance.gather(tmp_path / "second", CONFIG, third)
    assert {each.origin.partition("/")[0] for each in left.variants} <= {"old", "second"}
    assert left.seed.origin.startswith("old/")
    finished(tmp_path / "third", third, left)
    trained = Lineage.open(tmp_path / "third").tables.experiments.to_pylist()
    assert len([row for row in trained if row["purpose"] != "carried"]) == CONFIG.max_experiments


def test_what_is_too_much_leaves_the_farthest_ancestors_out(
    old: tuple[Path, Driver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = old
    monkeypatch.setattr(inheritance, "CARRIED", 3)
    origin = Origin("new", CLASS, DATA)
    left = inheritance.gather(folder, CONFIG, origin)
    kept = {left.seed.variant_id, *(each.variant_id for each in left.variants)}
    assert len(left.variants) == 3
    assert all(each.parents and set(each.parents) <= kept for each in left.variants)
    store, driver = started(tmp_path / "new", left, origin)
    with store:
        assert driver.next_number == 4


@pytest.mark.parametrize(
    ("origin", "config", "words"),
    [
        (Origin("new", CLASS, "d2"), CONFIG, "other data"),
        (Origin("new", CLASS, DATA), CONFIG.model_copy(update={"metric": MetricConfig(name="loss")}), "val_bpb"),
    ],
)
def test_what_cannot_be_carried_is_refused(
    old: tuple[Path, Driver], origin: Origin, config: Config, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        inheritance.gather(old[0], config, origin)


def test_a_run_without_a_score_is_refused(tmp_path: Path) -> None:
    origin = Origin("empty", CLASS, DATA)
    LineageStore.create(tmp_path / "empty", "empty").close()
    with pytest.raises(UsageError, match="nothing was scored"):
        inheritance.gather(tmp_path / "empty", CONFIG, origin)
