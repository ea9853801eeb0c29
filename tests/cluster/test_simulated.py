from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest
from events import experiment, final

from autoresearch_ray.cluster.calibrated import CALIBRATED, separable
from autoresearch_ray.cluster.landscape import Interaction, Landscape, Literal, Part
from autoresearch_ray.cluster.simulated import EPOCH, Node, SimulatedCluster, World, inspected, workers
from autoresearch_ray.cluster.simulation import language, simulate
from autoresearch_ray.config import Config
from autoresearch_ray.errors import ClusterError
from autoresearch_ray.evolution.cluster import Proposed
from autoresearch_ray.operators import crossover, tunables
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Parent, Request
from autoresearch_ray.training import preflight
from autoresearch_ray.variant import Birth, Experiment, Operator, Status, Variant, variant_id

SEED = CALIBRATED.seed


def world(*nodes: Node, **keys: object) -> World:
    return replace(World(CALIBRATED, nodes or workers(2), spread=0.0, experiment_seconds=100.0), **keys)  # type: ignore[arg-type]


def trained(cluster: SimulatedCluster, count: int) -> list[object]:
    for number in range(count):
        cluster.train(Experiment(f"{number}-0", f"{number}", SEED, number))
    return [event.result for event in final(cluster, count)]


def mutation(number: int, source: str = SEED) -> Request:
    birth = Birth(number, variant_id("t", number), 0, Operator.MUTATION, number)
    seed = Variant(Birth(0, "0", 0, Operator.SEED, 0), (), 0, source, "", datetime(2026, 1, 1, tzinfo=timezone.utc))
    return Request(birth, (Parent(seed, None, None, 0),), None, "", (), ())


# ------------------------------------------------------------------------------------------------------ the landscape


def optimum(landscape: Landscape) -> str:
    """Return the best source there is."""
    source = landscape.seed
    for literal in landscape.literals:
        source = source.replace(f"{literal.name} = {literal.text}\n", f"{literal.name} = {literal.optimum}\n")
    for part in landscape.parts:
        first, best = next(iter(part.effects)), min(part.effects, key=lambda name: part.effects[name])
        source = source.replace(f'use("{part.name}", "{first}")', f'use("{part.name}", "{best}")')
    return source


@pytest.mark.parametrize("landscape", [CALIBRATED, separable()])
def test_the_best_source_scores_the_best_and_nothing_beats_it(landscape: Landscape) -> None:
    best = optimum(landscape)
    assert landscape.score(best) == pytest.approx(landscape.best, abs=1e-12)
    rng = np.random.default_rng(0)
    for _ in range(200):
        answer = landscape.propose(best, rng)
        assert isinstance(answer, Proposal)
        worse = landscape.score(answer.source)
        assert worse is None or worse > landscape.best


def test_the_calibrated_landscape_begins_where_autoresearch_did() -> None:
    assert CALIBRATED.score(SEED) == pytest.approx(0.9979, abs=2e-5)
    assert preflight.inspect(SEED).refusal is None
    assert {tunable.name for tunable in tunables.find(SEED)} == {literal.name for literal in CALIBRATED.literals}


def test_a_literal_scores_by_its_value_not_by_its_spelling() -> None:
    spelled = [SEED.replace("2**19", text) for text in ("2**19", "524288", "524_288", "512 * 1024")]
    assert len({CALIBRATED.score(source) for source in spelled}) == 1


@pytest.mark.parametrize(
    "change",
    [
        ("EMBEDDING_LR = 0.6", "EMBEDDING_LR = 8.1"),  # diverges
        ('use("head", "untied")', 'use("head", "tied")'),
        ('use("head", "untied")', 'use("head", "unheard_of")'),
        ('use("head", "untied")\n', ""),
        ("DEPTH = 8", "DEPTH = deep"),
        ("DEPTH = 8\n", ""),
        ("DEPTH = 8", "DEPTH = 9" + "0" * 400),
    ],
)
def test_what_cannot_train_crashes(change: tuple[str, str]) -> None:
    assert CALIBRATED.score(SEED.replace(*change)) is None


def test_two_literals_that_interact_want_to_move_together() -> None:
    both = (Literal("A", "1.0", 2.0, 0.01), Literal("B", "1.0", 2.0, 0.01))
    alone = Landscape(1.0, both)
    together = Landscape(1.0, both, interactions=(Interaction("A", "B", -0.6),))

    def gain(landscape: Landscape, first: str, second: str) -> float:
        source = f"A = {first}\nB = {second}\n"
        return (landscape.score("A = 2.0\nB = 2.0\n") or 0) - (landscape.score(source) or 0)

    assert gain(alone, "4.0", "4.0") == pytest.approx(2 * gain(alone, "4.0", "2.0"))
    assert gain(together, "4.0", "4.0") > 2 * gain(together, "4.0", "2.0")  # less is lost by going too far in both
    assert gain(together, "4.0", "1.0") < gain(together, "4.0", "4.0")


def test_parts_that_only_help_together() -> None:
    parts = (Part("a", {"x": 0.0, "y": 0.001}), Part("b", {"x": 0.0, "y": 0.001}))
    landscape = Landscape(1.0, (), parts, pairs={("a:y", "b:y"): -0.01})
    one = landscape.seed.replace('use("a", "x")', 'use("a", "y")')
    both = one.replace('use("b", "x")', 'use("b", "y")')
    assert landscape.score(one) == pytest.approx(1.001)
    assert landscape.score(both) == pytest.approx(0.992)


def test_an_edit_exchanges_one_part_and_taste_prefers_what_helps() -> None:
    rng = np.random.default_rng(1)
    blind = replace(CALIBRATED, taste=math.inf)
    shares = {}
    for name, landscape in (("tasteful", CALIBRATED), ("blind", blind)):
        edits = [landscape.propose(SEED, rng) for _ in range(400)]
        assert all(isinstance(edit, Proposal) for edit in edits)
        for edit in edits:
            assert isinstance(edit, Proposal)
            changed = [pair for pair in zip(SEED.split("\n"), edit.source.split("\n"), strict=True) if len({*pair}) > 1]
            assert len(changed) == 1
        helped = [
            edit for edit in edits if isinstance(edit, Proposal) and (CALIBRATED.score(edit.source) or 2) < 0.9975
        ]
        shares[name] = len(helped) / len(edits)
    assert shares["blind"] == pytest.approx(3 / 21, abs=0.05)
    assert shares["tasteful"] > 2 * shares["blind"]
    assert isinstance(Landscape(1.0, ()).propose("x = 1\n", rng), Failure)


def test_a_merge_unites_separable_gains() -> None:
    landscape = separable()
    first = landscape.seed.replace('use("place1", "a")', 'use("place1", "good")')
    second = landscape.seed.replace('use("place7", "a")', 'use("place7", "good")')
    merged = crossover.merge_sources(first, second, landscape.seed, np.random.default_rng(0)).source
    assert landscape.score(merged) == pytest.approx((landscape.score(landscape.seed) or 0) - 0.006)


# -------------------------------------------------------------------------------------------------------- the cluster


def test_a_training_depends_on_its_own_seed_not_on_when_or_where_it_runs() -> None:
    alone = SimulatedCluster(world(spread=0.1), 5)
    alone.train(Experiment("3-0", "3", SEED, 3))
    [event] = final(alone)
    crowded = SimulatedCluster(world(Node("other", 1), spread=0.1), 5, begins_at=5000.0)
    again = trained(crowded, 6)
    assert event.result.val_bpb in {result.val_bpb for result in again}  # type: ignore[attr-defined]
    other = trained(SimulatedCluster(world(spread=0.1), 6), 6)
    assert event.result.val_bpb not in {result.val_bpb for result in other}  # type: ignore[attr-defined]


def test_scores_scatter_by_sigma_about_the_truth() -> None:
    results = trained(SimulatedCluster(world(Node("big", 400))), 400)
    scores = np.array([result.val_bpb for result in results])  # type: ignore[attr-defined]
    assert scores.mean() == pytest.approx(CALIBRATED.score(SEED), abs=4 * 0.0005 / 20)
    assert scores.std() == pytest.approx(0.0005, rel=0.15)


def test_time_passes_only_from_event_to_event() -> None:
    cluster = SimulatedCluster(world())
    trained(cluster, 4)
    assert cluster.now() == EPOCH + 200.0
    assert (cluster.busy_seconds, cluster.slot_seconds) == (400.0, 400.0)
    assert cluster.next_event(7.0) is None
    assert cluster.elapsed == 207.0


def test_a_node_that_dies_loses_what_trains_on_it_and_its_slots() -> None:
    cluster = SimulatedCluster(world(Node("stays", 1), Node("dies", 2, dies_at=50.0)))
    assert cluster.slots == 3
    results = trained(cluster, 4)
    lost = [result for result in results if result.status is Status.LOST]  # type: ignore[attr-defined]
    assert [(result.reason, result.wall_seconds) for result in lost] == [("dies died", 50.0)] * 2  # type: ignore[attr-defined]
    assert cluster.slots == 1
    assert cluster.elapsed == 200.0


def test_a_node_that_joins_takes_what_waits_and_one_that_slows_down_takes_longer() -> None:
    cluster = SimulatedCluster(world(Node("slow", 1, slows_at=50.0, slowdown=3.0), Node("late", 1, joins_at=30.0)))
    results = trained(cluster, 4)
    taken = [(result.node, result.wall_seconds) for result in results]  # type: ignore[attr-defined]
    assert taken == [("slow", 100.0), ("late", 100.0), ("late", 100.0), ("slow", 300.0)]


def test_a_later_sitting_finds_the_nodes_as_they_are_by_then() -> None:
    nodes = (Node("gone", 4, dies_at=100.0), Node("there", 2), Node("late", 1, joins_at=300.0))
    assert SimulatedCluster(world(*nodes), begins_at=200.0).slots == 2
    assert SimulatedCluster(world(*nodes), begins_at=300.0).slots == 3


def test_waiting_for_a_machine_that_never_comes_is_an_error() -> None:
    cluster = SimulatedCluster(world(Node("dies", 1, dies_at=10.0)))
    trained(cluster, 1)
    cluster.train(experiment("x-0", SEED))
    with pytest.raises(ClusterError, match="every simulated machine is gone"):
        cluster.next_event(1.0)


def test_faults_come_about_as_often_as_their_shares_say() -> None:
    faulty = world(Node("big", 500), crash_share=0.1, timeout_share=0.2, lost_share=0.3)
    cluster = SimulatedCluster(faulty)
    assert {result.status for result in trained(cluster, 200)} == {Status.COMPLETED}  # type: ignore[attr-defined]
    other = SEED.replace("DEPTH = 8", "DEPTH = 9")
    for number in range(500):
        cluster.train(Experiment(f"{number}-1", f"{number}", other, number))
    statuses = [event.result.status for event in final(cluster, 500)]
    for status, share in ((Status.CRASHED, 0.1), (Status.TIMED_OUT, 0.2), (Status.LOST, 0.3), (Status.COMPLETED, 0.4)):
        assert statuses.count(status) / 500 == pytest.approx(share, abs=0.07)


def test_language_models_take_time_fail_and_cost_and_wait_for_a_free_line() -> None:
    cluster = SimulatedCluster(world(model_seconds=10.0, model_usd=0.02, model_failures=0.5, askers=2))
    for number in range(40):
        cluster.propose(mutation(number))
    answers = [event.answer for event in final(cluster, 40) if isinstance(event, Proposed)]
    assert cluster.elapsed == pytest.approx(200.0)
    assert {answer.usage.usd for answer in answers} == {0.02}
    failed = sum(isinstance(answer, Failure) for answer in answers)
    assert 10 <= failed <= 30


def test_events_within_a_tick_are_one_batch() -> None:
    nodes = (Node("a", 1), Node("b", 1, slows_at=0.0, slowdown=1.05), Node("c", 1, slows_at=0.0, slowdown=2.0))
    cluster = SimulatedCluster(world(*nodes, tick=10.0, observed=False))
    for number in range(3):
        cluster.train(experiment(f"{number}-0", SEED))
    assert cluster.next_event(1.0) is not None
    assert cluster.next_event(0.0) is not None
    assert cluster.next_event(0.0) is None
    assert cluster.elapsed == pytest.approx(105.0)
    assert cluster.next_event(1.0) is not None
    assert cluster.truths == {}


def test_two_sources_are_the_same_program_when_their_texts_are() -> None:
    assert inspected("A = 1\n") == inspected("A = 1\n") != inspected("A = 2\n")


# --------------------------------------------------------------------------------------------------------- simulations


def test_a_simulation_is_the_real_search_and_the_same_every_time() -> None:
    config = language(Config(max_experiments=60, population_size=4))
    first, again = (simulate(config, World(CALIBRATED, workers(4))) for _ in range(2))
    other = simulate(config.model_copy(update={"seed": 1}), World(CALIBRATED, workers(4)))
    assert first == again
    assert first.moments != other.moments
    assert first.spent.experiments == 60
    assert first.moments[0].truth == CALIBRATED.score(SEED)
    assert first.after(60) < first.after(1)
    assert first.at(first.seconds) == first.after(60)
    assert first.reached(first.after(60)) is not None
    assert first.reached(0.9) is None
    assert 0.5 < first.busy <= 1.0
