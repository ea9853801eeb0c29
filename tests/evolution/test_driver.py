from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted import SEED_SOURCE, ScriptedCluster, bowl, literals

from autoresearch_ray.config import Config
from autoresearch_ray.errors import ClusterError, SeedError
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.evolution.queue import LOST_LIMIT
from autoresearch_ray.evolution.replay import replay
from autoresearch_ray.evolution.stopping import Stop
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Experiment, Operator, Result, Status

RUN = "test"


def evolve(folder: Path, cluster: ScriptedCluster, **keys: Any) -> tuple[Driver, LineageStore]:
    config = Config(**{"max_experiments": 40, "population_size": 6, "num_islands": 2, "migration_interval": 10, **keys})
    store = LineageStore.create(folder, RUN)
    driver = Driver(config, cluster, store, Origin(RUN))
    driver.begin(SEED_SOURCE)
    driver.run()
    return driver, store


def rows(store: LineageStore, table: str) -> list[dict[str, Any]]:
    return [recorded.row for recorded in store.replay((table,), bulky=True)]  # type: ignore[arg-type]


def test_every_birth_ends_as_one_row_and_every_experiment_counts(tmp_path: Path) -> None:
    cluster = ScriptedCluster()
    driver, store = evolve(tmp_path, cluster)
    variants, experiments = rows(store, "variants"), rows(store, "experiments")
    assert len(experiments) == len(cluster.experiments) == 40
    assert sorted(row["number"] for row in variants) == list(range(driver.births + 1))
    assert sum(driver.state.births.values()) == len(variants)
    assert driver.ledger.spent.experiments == 40
    assert driver.ledger.reserved_experiments == 0
    assert driver.waiting == 0
    assert not driver.running
    assert not store.open_births()
    assert not store.open_proposals()


def test_the_search_improves_on_the_seed(tmp_path: Path) -> None:
    driver, _ = evolve(tmp_path, ScriptedCluster(), max_experiments=150)
    assert driver.state.seed is not None
    assert driver.state.best is not None
    assert driver.state.best.mean < driver.state.seed.mean - 0.05


def test_the_same_seed_and_order_of_completion_give_the_same_births(tmp_path: Path) -> None:
    first, again, other = ScriptedCluster(), ScriptedCluster(), ScriptedCluster()
    evolve(tmp_path / "a", first, seed=7)
    evolve(tmp_path / "b", again, seed=7)
    evolve(tmp_path / "c", other, seed=8)
    assert first.experiments == again.experiments
    assert first.proposals == again.proposals
    assert first.experiments != other.experiments


def test_births_do_not_depend_on_how_they_are_batched(tmp_path: Path) -> None:
    def births(slots: int) -> list[tuple[int, int, int]]:
        cluster = ScriptedCluster(slots=slots)
        evolve(tmp_path / str(slots), cluster, crossover_probability=0.0)
        return sorted((birth.number, birth.island, birth.seed) for birth in cluster.proposals)

    assert births(1)[:20] == births(4)[:20]


def test_the_seed_breeds_before_its_first_score_and_its_replicates_measure_the_noise(tmp_path: Path) -> None:
    cluster = ScriptedCluster(slots=4)
    driver, _ = evolve(tmp_path, cluster, seed_replicates=3)
    first = cluster.experiments[:3]
    assert {experiment.source for experiment in first} == {SEED_SOURCE}
    seeds = {experiment.seed for experiment in first}
    assert len(seeds) == 3
    assert [row["purpose"] for row in rows(driver.lineage, "experiments") if row["seed"] in seeds] == ["birth"] * 3
    assert any(birth.number == 1 for birth in cluster.proposals)


def test_what_repeats_is_rejected_and_never_trained(tmp_path: Path) -> None:
    class Stubborn(ScriptedCluster):
        """Every third proposal repeats the seed in other words."""

        def propose(self, request: Any) -> None:
            super().propose(request)
            birth = request.birth
            if birth.number % 3 == 0:
                answer = self._queue.pop()()
                source = "# nothing new\n" + SEED_SOURCE
                self._queue.append(lambda: type(answer)(birth, type(answer.answer)(source, "say it again")))

    cluster = Stubborn()
    driver, store = evolve(tmp_path, cluster, crossover_probability=0.0)
    rejected = [row for row in rows(store, "variants") if row["status"] == "rejected"]
    assert rejected
    assert all("no change" in row["reason"] or "duplicate" in row["reason"] for row in rejected)
    assert not {row["variant_id"] for row in rejected} & {experiment.variant_id for experiment in cluster.experiments}
    assert driver.ledger.spent.experiments == 40


def test_source_that_does_not_parse_is_rejected(tmp_path: Path) -> None:
    class Broken(ScriptedCluster):
        def propose(self, request: Any) -> None:
            super().propose(request)
            birth = request.birth
            if birth.number == 2:
                answer = self._queue.pop()()
                self._queue.append(lambda: type(answer)(birth, type(answer.answer)("def f(:\n", "oops")))

    _, store = evolve(tmp_path, Broken())
    [row] = [row for row in rows(store, "variants") if row["number"] == 2]
    assert (row["status"], row["source"]) == ("rejected", "def f(:\n")
    assert "line 1" in row["reason"]


def test_crashes_are_rows_and_never_breed(tmp_path: Path) -> None:
    def sometimes(experiment: Experiment) -> Result:
        if literals(experiment.source)["LR"] > 0.5:
            return Result(status=Status.CRASHED, reason="ValueError: loss is nan")
        return bowl(experiment)

    _, store = evolve(tmp_path, ScriptedCluster(sometimes), max_experiments=80)
    variants = rows(store, "variants")
    crashed = {row["variant_id"] for row in variants if row["status"] == "crashed"}
    assert crashed
    assert not any(set(row["parents"]) & crashed for row in variants)


def test_a_lost_experiment_is_trained_again_and_counts_once(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    def flaky(experiment: Experiment) -> Result:
        seen[experiment.variant_id] += 1
        if seen[experiment.variant_id] == 1 and len(seen) % 4 == 3:
            return Result(status=Status.LOST, reason="the worker process died", wall_seconds=1.0)
        return bowl(experiment)

    driver, store = evolve(tmp_path, ScriptedCluster(flaky))
    experiments = rows(store, "experiments")
    lost = [row for row in experiments if row["status"] == "lost"]
    assert lost
    assert len(experiments) == 40 + len(lost)
    for row in lost:
        again = [other for other in experiments if other["variant_id"] == row["variant_id"]]
        assert [other["status"] for other in again][:2] == ["lost", "completed"]
        assert again[0]["experiment_id"] != again[1]["experiment_id"]
    assert driver.ledger.spent.experiments == 40


def test_a_variant_that_is_always_lost_ends_as_lost(tmp_path: Path) -> None:
    def cursed(experiment: Experiment) -> Result:
        if literals(experiment.source)["WIDTH"] == 128:
            return Result(status=Status.LOST, reason="the worker process died")
        return bowl(experiment)

    _, store = evolve(tmp_path, ScriptedCluster(cursed), max_experiments=120)
    lost = [row["variant_id"] for row in rows(store, "variants") if row["status"] == "lost"]
    assert lost
    tries = Counter(row["variant_id"] for row in rows(store, "experiments") if row["status"] == "lost")
    assert set(tries.values()) == {LOST_LIMIT}


def test_one_event_that_takes_all_trainings_of_the_seed_does_not_end_the_run(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    def reboot(experiment: Experiment) -> Result:
        seen[experiment.source] += 1
        if experiment.source == SEED_SOURCE and seen[experiment.source] <= LOST_LIMIT:
            return Result(status=Status.LOST, reason="the machine was restarted")
        return bowl(experiment)

    driver, store = evolve(tmp_path, ScriptedCluster(reboot, slots=4), seed_replicates=LOST_LIMIT)
    assert len(driver.state.scores(0)) >= LOST_LIMIT
    assert [row["number"] for row in rows(store, "variants")].count(0) == 1


def test_an_island_that_never_answers_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    cluster = ScriptedCluster()
    cluster.lose_island_at_mate = set(range(1, 1000))
    with pytest.raises(ClusterError, match="times in a row without an answer"):
        evolve(tmp_path, cluster)


@pytest.mark.parametrize(("status", "error"), [(Status.CRASHED, SeedError), (Status.LOST, ClusterError)])
def test_a_seed_that_fails_ends_the_run_with_a_sentence(tmp_path: Path, status: Status, error: type[Exception]) -> None:
    def fail(experiment: Experiment) -> Result:
        return Result(status=status, reason="ZeroDivisionError: division by zero", log_tail="Traceback\n  line 3")

    with pytest.raises(error, match="ZeroDivisionError"):
        evolve(tmp_path, ScriptedCluster(fail))


def test_a_seed_that_does_not_parse(tmp_path: Path) -> None:
    store = LineageStore.create(tmp_path, RUN)
    with pytest.raises(SeedError, match="cannot be trained"):
        Driver(Config(), ScriptedCluster(), store, Origin(RUN)).begin("def f(:\n")


def test_crossovers_have_two_unrelated_parents(tmp_path: Path) -> None:
    driver, store = evolve(tmp_path, ScriptedCluster(), max_experiments=120, crossover_probability=0.5)
    crossovers = [row for row in rows(store, "variants") if row["operator"] == "crossover"]
    numbers = {row["variant_id"]: row["number"] for row in rows(store, "variants")}
    assert crossovers
    for row in crossovers:
        first, second = (numbers[parent] for parent in row["parents"])
        assert not driver.state.ancestry.related(first, second)
        assert row["generation"] > 1


def test_generation_is_one_more_than_the_greatest_of_the_parents(tmp_path: Path) -> None:
    _, store = evolve(tmp_path, ScriptedCluster(), max_experiments=100)
    generations = {row["variant_id"]: row["generation"] for row in rows(store, "variants")}
    for row in rows(store, "variants"):
        assert row["generation"] == 1 + max((generations[parent] for parent in row["parents"]), default=-1)


def test_islands_stay_within_their_capacity_and_migrants_are_recorded(tmp_path: Path) -> None:
    def flat(experiment: Experiment) -> Result:  # so that migrants are as good as those who were born there
        return replace(bowl(experiment), val_bpb=1.0)

    cluster = ScriptedCluster(flat)
    _, store = evolve(tmp_path, cluster, max_experiments=100)
    assert [island.capacity for island in cluster.islands.values()] == [3, 3]
    assert all(len(island.members) <= 3 for island in cluster.islands.values())
    migrations = [row for row in rows(store, "events") if row["kind"] == "migration"]
    assert migrations
    born = {row["variant_id"]: row["island"] for row in rows(store, "variants")}
    strangers = [
        member
        for number, island in cluster.islands.items()
        for member in island.members
        if born[member.variant.variant_id] != number
    ]
    assert strangers


def members(islands: Any) -> list[list[tuple[str, tuple[float, ...], str]]]:
    return [
        [(member.variant.variant_id, member.scores, member.variant.source) for member in island] for island in islands
    ]


def test_a_replay_of_the_lineage_gives_the_same_islands(tmp_path: Path) -> None:
    cluster = ScriptedCluster()
    _, store = evolve(tmp_path, cluster, max_experiments=100)
    replayed = replay(store).islands
    live = [cluster.islands[number].members for number in range(len(replayed))]
    assert members(replayed) == members(live)


def test_a_guest_has_all_its_scores_as_soon_as_it_has_them_at_home(tmp_path: Path) -> None:
    def noisy(experiment: Experiment) -> Result:
        result = bowl(experiment)
        return replace(result, val_bpb=(result.val_bpb or 0.0) + experiment.seed % 1000 / 1e4)

    cluster = ScriptedCluster(noisy)
    _, store = evolve(tmp_path, cluster, max_experiments=150, replicate_share=0.4, migration_interval=5)
    scored = defaultdict(list)
    for row in rows(store, "experiments"):
        scored[row["variant_id"]].append(row["val_bpb"])
    held = [(number, member) for number, island in cluster.islands.items() for member in island.members]
    assert all(list(member.scores) == scored[member.variant.variant_id] for _, member in held)
    strangers = [member for number, member in held if member.variant.birth.island != number]
    assert any(len(member.scores) > 1 for member in strangers)


def test_a_lost_island_is_rebuilt_from_the_lineage_and_asked_again(tmp_path: Path) -> None:
    cluster = ScriptedCluster()
    cluster.lose_island_at_mate = {1, 9, 20, 21}
    driver, store = evolve(tmp_path, cluster, max_experiments=80)
    assert driver.waiting == 0
    assert sorted(row["number"] for row in rows(store, "variants")) == list(range(driver.births + 1))
    assert all(island.members for island in cluster.islands.values())


def test_draining_starts_nothing_more(tmp_path: Path) -> None:
    config = Config(max_experiments=100)
    cluster, store = ScriptedCluster(), LineageStore.create(tmp_path, RUN)

    def stop(driver: Driver) -> None:
        if driver.ledger.spent.experiments >= 10:
            driver.drain(Stop("asked", "enough"))

    driver = Driver(config, cluster, store, Origin(RUN), watch=stop)
    driver.begin(SEED_SOURCE)
    driver.run()
    assert not driver.running
    assert driver.ledger.spent.experiments == len(cluster.experiments) < 25
    open_births = {birth.number for birth in store.open_births()}
    assert len(rows(store, "variants")) + len(open_births) == driver.births + 1


def test_generational_pacing_waits_for_the_whole_brood(tmp_path: Path) -> None:
    cluster = ScriptedCluster()
    most = 0

    def watch(driver: Driver) -> None:
        nonlocal most
        most = max(most, driver.waiting + len(driver.running))

    store = LineageStore.create(tmp_path, RUN)
    config = Config(pacing="generational", population_size=5, max_experiments=32, crossover_probability=0.0)
    driver = Driver(config, cluster, store, Origin(RUN), watch=watch)
    driver.begin(SEED_SOURCE)
    driver.run()
    assert most <= 5 + config.seed_replicates
    assert driver.ledger.spent.experiments == 32


def test_hours_end_the_run(tmp_path: Path) -> None:
    driver, _ = evolve(tmp_path, ScriptedCluster(), max_experiments=None, max_hours=0.1)
    assert 36 <= driver.ledger.spent.experiments <= 45  # ten seconds each, and what was in flight is finished


def test_operators_that_always_fail_end_at_the_limit_of_births(tmp_path: Path) -> None:
    constant = "from prepare import evaluate_bpb, make_dataloader\nmake_dataloader(1, 1)\nevaluate_bpb(None)\n"
    store = LineageStore.create(tmp_path, RUN)

    def flat(experiment: Experiment) -> Result:
        return Result(status=Status.COMPLETED, val_bpb=1.0)

    driver = Driver(Config(max_births=30), ScriptedCluster(flat), store, Origin(RUN))
    driver.begin(constant)
    driver.run()
    assert driver.state.births[Status.OPERATOR_FAILED] == 30
    assert {row["operator"] for row in rows(store, "variants")} == {Operator.SEED.value, Operator.PARAMETERS.value}
