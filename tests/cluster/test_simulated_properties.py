"""Any schedule of faults, kills and restores: afterwards the lineage is whole, the ledger balances, islands replay.

A kill abandons driver, islands and cluster between any two events, uncommitted rows and all, and lets go of the
folder's lock, as the kernel would. The next sitting opens the folder, with a new cluster whose clock goes on.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from autoresearch_ray.cluster.calibrated import CALIBRATED
from autoresearch_ray.cluster.simulated import Node, SimulatedCluster, World, inspected
from autoresearch_ray.cluster.simulation import language
from autoresearch_ray.config import Config
from autoresearch_ray.errors import ClusterError, SeedError
from autoresearch_ray.evolution.cluster import Event
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.evolution.replay import replay
from autoresearch_ray.lineage.schema import Origin, event_details
from autoresearch_ray.lineage.sealing import Sealing
from autoresearch_ray.lineage.store import LineageStore

RUN = "property"


class Killed(BaseException):
    """The driver's process is gone."""


class Mortal(SimulatedCluster):
    """Dies when it is asked for its nth event."""

    life: int | None = None

    def next_event(self, timeout: float) -> Event | None:
        if self.life is not None:
            self.life -= 1
            if self.life < 0:
                raise Killed
        return super().next_event(timeout)


@dataclass(frozen=True)
class Schedule:
    """One history to live through."""

    config: Config
    world: World
    lives: tuple[int, ...]
    """Events after which each sitting is killed; the one behind the last runs to its end."""


def nodes() -> st.SearchStrategy[tuple[Node, ...]]:
    moment = st.floats(0, 20_000)
    mortal = st.builds(
        lambda slots, joins, stays, slows, slowdown: Node("", slots, joins, joins + stays, slows, slowdown),
        st.integers(1, 3), moment, st.floats(1, 8_000), moment, st.floats(1, 4),
    )  # fmt: skip
    return st.lists(mortal, max_size=4).map(
        lambda mortals: (
            Node("anchor", 2),  # one stays, or nothing could ever end
            *(replace(node, name=f"node-{number}") for number, node in enumerate(mortals)),
        )
    )


@st.composite
def schedules(draw: st.DrawFn, experiments: int) -> Schedule:
    config = Config(
        max_experiments=draw(st.integers(5, experiments)),
        max_births=draw(st.none() | st.integers(5, 2 * experiments)),
        max_hours=draw(st.none() | st.floats(0.5, 12)),
        population_size=draw(st.integers(1, 9)),
        num_islands=draw(st.integers(1, 3)),
        migration_interval=draw(st.integers(1, 10)),
        crossover_probability=draw(st.none() | st.floats(0, 1)),
        pacing=draw(st.sampled_from(["steady_state", "generational"])),
        max_cost_usd=draw(st.sampled_from([20.0, 1.0])),
        seed=draw(st.integers(0, 2**32)),
    )
    if draw(st.booleans()):
        config = language(config)
    world = World(
        CALIBRATED,
        draw(nodes()),
        crash_share=draw(st.floats(0, 0.2)),
        timeout_share=draw(st.floats(0, 0.1)),
        lost_share=draw(st.floats(0, 0.3)),
        model_failures=draw(st.floats(0, 0.9)),
        model_usd=draw(st.sampled_from([0.0, 0.013, 0.07])),
        model_seconds=draw(st.floats(0.1, 600)),
        island_losses=tuple(draw(st.lists(st.tuples(st.floats(1, 20_000), st.integers(0, 2)), max_size=4))),
        tick=draw(st.sampled_from([0.0, 0.0, 30.0])),
    )
    return Schedule(config, world, tuple(draw(st.lists(st.integers(0, 300), max_size=4))))


def sitting(schedule: Schedule, folder: Path, life: int | None, begins_at: float) -> tuple[Driver, Mortal]:
    """Run until the driver is killed, or the search ends by itself."""
    start = not folder.exists()
    sealing = Sealing(rows=40)
    store = LineageStore.create(folder, RUN, sealing=sealing) if start else LineageStore.open(folder, sealing=sealing)
    cluster = Mortal(schedule.world, schedule.config.seed, begins_at=begins_at)
    driver = Driver(schedule.config, cluster, store, Origin(RUN), inspect=inspected)
    try:
        driver.begin(CALIBRATED.seed) if start else driver.resume()
        cluster.life = life
        driver.run()
        store.close()
    except Killed:
        store._release()
    return driver, cluster


def live_through(schedule: Schedule, folder: Path) -> tuple[Driver, Mortal]:
    clock = 0.0
    for life in schedule.lives:
        _, cluster = sitting(schedule, folder, life, clock)
        clock = cluster.elapsed
    return sitting(schedule, folder, None, clock)


def rows(store: LineageStore, table: Any) -> list[dict[str, Any]]:
    return [recorded.row for recorded in store.replay([table])]


def check(schedule: Schedule, folder: Path, driver: Driver, cluster: Mortal) -> None:
    with LineageStore.open(folder) as store:
        check_rows(driver, store, schedule.config)
        check_money(driver, store)
        check_islands(driver, store, cluster)
        check_champions(store)


def check_rows(driver: Driver, store: LineageStore, config: Config) -> None:
    variants, experiments = rows(store, "variants"), rows(store, "experiments")
    left = {birth.number for birth in store.open_births()} | {each.birth.number for each in store.open_proposals()}
    assert driver.stop is not None or not left, "a search that ended by itself leaves nothing open"
    ended = Counter(row["number"] for row in variants)
    assert sorted([*ended.elements(), *left]) == list(range(driver.births + 1)), "one row a birth"
    assert set(Counter(row["experiment_id"] for row in experiments).values()) <= {1}, "no experiment twice"
    counted = [row for row in experiments if row["status"] != "lost"]
    assert len(counted) == driver.ledger.spent.experiments <= (config.max_experiments or math.inf)
    trained = {row["variant_id"] for row in counted}
    for row in variants:
        assert (row["variant_id"] in trained) == (row["status"] in ("completed", "crashed", "timed_out")), row
    known = {row["variant_id"] for row in variants}
    assert trained <= known
    assert all(parent in known for row in variants for parent in row["parents"]), "parents end before their children"
    assert config.max_births is None or driver.births <= config.max_births


def check_money(driver: Driver, store: LineageStore) -> None:
    variants, experiments = rows(store, "variants"), rows(store, "experiments")
    spent = driver.ledger.spent
    proposals = math.fsum(variant.usage.usd for variant in store.open_proposals())
    assert math.isclose(spent.usd, math.fsum(row["llm_usd"] for row in variants) + proposals, abs_tol=1e-9)
    assert math.isclose(spent.slot_seconds, math.fsum(row["wall_seconds"] for row in experiments), rel_tol=1e-9)
    assert math.isclose(spent.train_seconds, math.fsum(row["train_seconds"] for row in experiments), rel_tol=1e-9)
    if driver.stop is None:
        assert driver.ledger.reserved_experiments == 0


def check_islands(driver: Driver, store: LineageStore, cluster: Mortal) -> None:
    before = replay(store)
    assert before.capacities == driver.islands.capacities
    for number, capacity in enumerate(before.capacities):
        replayed = [(member.variant, member.scores) for member in before.islands[number]]
        assert len(replayed) <= capacity
        if number in cluster._islands:  # else it is lost, and nobody has asked it since
            live = [(member.variant, member.scores) for member in cluster._islands[number].members]
            assert live == replayed
    assert sum(before.capacities) == driver.population_size


def check_champions(store: LineageStore) -> None:
    """Each was shown to be better on fresh seeds, or was too close to tell and simpler, and a verdict says so."""
    experiments = [row for row in rows(store, "experiments") if row["status"] == "completed"]
    crowned = []
    for verdict in (row for row in rows(store, "events") if row["kind"] == "verdict"):
        details = event_details(verdict)
        if details["outcome"] in ("promoted", "simpler"):
            crowned.append(verdict["variant_id"])
            assert details["outcome"] == "simpler" or details["p_better"] >= 0.95
            assert details["pairs"] >= 2
            for who in (verdict["variant_id"], details["incumbent"]):
                before = [row for row in experiments if row["sequence"] < verdict["sequence"]]
                again = [row for row in before if row["variant_id"] == who]
                assert len(again) > details["pairs"], "a first score is no confirmation"
    assert [row["variant_id"] for row in rows(store, "champions")] == crowned


def keeps_its_promises(schedule: Schedule) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / RUN
        try:
            driver, cluster = live_through(schedule, folder)
        except (SeedError, ClusterError):
            assume(False)  # the seed itself crashed, or was lost three times: nothing to go on with
        check(schedule, folder, driver, cluster)


@given(schedules(experiments=30))
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_any_schedule_of_faults_leaves_a_whole_lineage(schedule: Schedule) -> None:
    keeps_its_promises(schedule)


@pytest.mark.slow
@given(schedules(experiments=120))
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_many_schedules_of_faults_leave_a_whole_lineage(schedule: Schedule) -> None:
    keeps_its_promises(schedule)
