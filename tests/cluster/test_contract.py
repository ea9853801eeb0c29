"""What the driver relies on, asked of both clusters: the one on Ray and the simulated one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import doubles
import pytest
import ray
from doubles import ScriptedTrainer
from events import events_until, experiment, final, trains

from autoresearch_ray.cluster.landscape import Landscape
from autoresearch_ray.cluster.ray import RayCluster
from autoresearch_ray.cluster.simulated import SimulatedCluster, World, workers
from autoresearch_ray.cluster.slots import Slot
from autoresearch_ray.evolution.cluster import Emigrated, IslandLost, Mated, Measured, Progressed, Proposed
from autoresearch_ray.evolution.island import Member
from autoresearch_ray.evolution.noise import Noise
from autoresearch_ray.operators.proposal import Proposal
from autoresearch_ray.operators.request import Parent, Request
from autoresearch_ray.variant import Birth, Operator, Status, Variant, variant_id

ray.cloudpickle.register_pickle_by_value(doubles)  # workers do not see the tests

NOISE = Noise(0.001)


@dataclass(frozen=True)
class Spoken(Landscape):
    """Obeys the same sources as `ScriptedTrainer`; who waits for a file waits for the virtual clock."""

    def score(self, source: str) -> float | None:
        word, _, rest = source.partition(" ")
        return float(rest) if word == "score" else 1.0


class Stage:
    """A cluster, and how to break its islands."""

    def __init__(self, cluster: Any, folder: Path) -> None:
        self.cluster = cluster
        self.gate = folder / "gate"

    def lose(self, island: int) -> None:
        if isinstance(self.cluster, RayCluster):
            ray.kill(self.cluster._islands[island])
        else:
            self.cluster._lose_island(island)


@pytest.fixture(scope="module", params=["simulated", "ray"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "simulated":
        yield SimulatedCluster(World(Spoken(0.0, (), sigma=0.0), workers(2)))
        return
    with RayCluster(ScriptedTrainer(), Slot(1, 0.0), max_slots=2) as cluster:  # type: ignore[arg-type]
        yield cluster


@pytest.fixture
def stage(cluster: Any, tmp_path: Path) -> Stage:
    return Stage(cluster, tmp_path)


def variant(number: int, source: str = "LR = 0.5\n") -> Variant:
    birth = Birth(number, variant_id("t", number), 0, Operator.PARAMETERS, number)
    return Variant(birth, (), 0, source, "", datetime(2026, 1, 1, tzinfo=timezone.utc))


def member(number: int, score: float) -> Member:
    return Member(variant(number), (score,))


def birth(number: int, island: int = 0) -> Birth:
    return Birth(number, variant_id("t", number), island, Operator.PARAMETERS, number)


def test_a_training_tells_of_its_progress_and_ends_once(stage: Stage) -> None:
    before = stage.cluster.now()
    stage.cluster.train(experiment("a-0", "score 1.25"))
    seen = events_until(stage.cluster, lambda seen: bool(seen) and isinstance(seen[-1], Measured))
    assert seen[:-1]
    assert all(isinstance(event, Progressed) and event.experiment_id == "a-0" for event in seen[:-1])
    assert "training" in [event.phase.name for event in seen if isinstance(event, Progressed)]
    assert isinstance(seen[-1], Measured)
    assert (seen[-1].experiment_id, seen[-1].result.status, seen[-1].result.val_bpb) == ("a-0", Status.COMPLETED, 1.25)
    assert stage.cluster.now() >= before
    assert stage.cluster.next_event(0.0) is None


def test_no_more_train_at_a_time_than_there_are_slots_and_all_end(stage: Stage) -> None:
    count = stage.cluster.slots + 2
    for number in range(count):
        stage.cluster.train(experiment(f"g-{number}", f"wait {stage.gate}"))
    seen = events_until(stage.cluster, lambda seen: sum(trains(event) for event in seen) == stage.cluster.slots)
    assert not [event for event in seen if isinstance(event, Measured)]
    assert stage.cluster.next_event(0.0) is None  # the others wait for a slot
    stage.gate.touch()
    assert {event.experiment_id for event in final(stage.cluster, count)} == {f"g-{number}" for number in range(count)}


def test_what_waits_for_a_slot_can_be_taken_back_and_says_nothing_more(stage: Stage) -> None:
    count = stage.cluster.slots + 2
    for number in range(count):
        stage.cluster.train(experiment(f"b-{number}", f"wait {stage.gate}"))
    seen = events_until(stage.cluster, lambda seen: sum(trains(event) for event in seen) == stage.cluster.slots)
    begun = {event.experiment_id for event in seen if isinstance(event, Progressed)}
    queued = [f"b-{number}" for number in range(count) if f"b-{number}" not in begun]
    assert stage.cluster.withdraw(queued) == queued
    assert stage.cluster.withdraw(queued) == []
    stage.gate.touch()
    assert {event.experiment_id for event in final(stage.cluster, stage.cluster.slots)} == begun
    assert stage.cluster.next_event(0.5) is None


def test_an_island_carries_orders_out_in_the_order_given(stage: Stage) -> None:
    births = [birth(10), birth(11)]
    stage.cluster.rebuild(0, 2, [member(1, 3.0)])
    stage.cluster.absorb(0, [member(2, 2.0)], NOISE)
    stage.cluster.mate(0, births, NOISE, 8)
    stage.cluster.absorb(0, [member(3, 1.0)], NOISE)
    stage.cluster.emigrate(0, 1, NOISE)
    answers = final(stage.cluster, 2)
    [mated] = [event for event in answers if isinstance(event, Mated)]
    [emigrated] = [event for event in answers if isinstance(event, Emigrated)]
    assert mated.births == tuple(births)
    assert [candidates[0].birth.number for candidates in mated.candidates] == [2, 2]
    assert [gone.variant.birth.number for gone in emigrated.members] == [3]


def test_an_island_that_shrinks_keeps_its_best(stage: Stage) -> None:
    stage.cluster.rebuild(0, 3, [member(1, 3.0), member(2, 1.0), member(3, 2.0)])
    stage.cluster.resize(0, 1, NOISE)
    stage.cluster.emigrate(0, 3, NOISE)
    [emigrated] = final(stage.cluster)
    assert [gone.variant.birth.number for gone in emigrated.members] == [2]


def test_a_lost_island_is_one_event_whatever_it_had_been_asked(stage: Stage) -> None:
    asked = birth(12, island=1)
    stage.cluster.rebuild(1, 2, [member(1, 3.0)])
    stage.cluster.mate(1, [asked], NOISE, 2)
    final(stage.cluster)
    stage.lose(1)
    stage.cluster.absorb(1, [member(5, 0.5)], NOISE)  # nobody hears it
    stage.cluster.mate(1, [asked], NOISE, 2)
    stage.cluster.emigrate(1, 1, NOISE)
    stage.cluster.mate(1, [asked], NOISE, 2)
    seen = events_until(stage.cluster, lambda seen: IslandLost(1) in seen)
    assert all(isinstance(event, Mated) for event in seen[:-1])  # it may answer once more before it is gone
    assert stage.cluster.next_event(0.5) is None
    stage.cluster.rebuild(1, 2, [member(4, 1.0)])
    stage.cluster.mate(1, [asked], NOISE, 2)
    [mated] = final(stage.cluster)
    assert mated.candidates[0][0].birth.number == 4


def test_an_operator_answers_for_its_birth(stage: Stage) -> None:
    asked = birth(20)
    stage.cluster.propose(Request(asked, (Parent(variant(1), 1.0, None, 1),), None, "", (), (), language=False))
    [event] = final(stage.cluster)
    assert isinstance(event, Proposed)
    assert event.birth == asked
    assert isinstance(event.answer, Proposal)
    assert event.answer.source != variant(1).source
