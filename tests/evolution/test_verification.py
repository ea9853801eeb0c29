"""The end phase: what is kept for it, when it begins, and what the last few experiments are for."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from autoresearch_ray.cluster.calibrated import CALIBRATED
from autoresearch_ray.cluster.simulated import SimulatedCluster, World, workers
from autoresearch_ray.cluster.simulation import simulate
from autoresearch_ray.config import Config
from autoresearch_ray.evolution import verification
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.evolution.state import State
from autoresearch_ray.evolution.verification import Left
from autoresearch_ray.variant import Birth, Operator, Purpose, Result, Status, Variant

CONFIG = Config(max_experiments=125)


def state_of(*scores: float) -> State:
    """A seed and a child of it for each further score."""
    state = State()
    for number, score in enumerate(scores):
        operator = Operator.PARAMETERS if number else Operator.SEED
        birth = Birth(number, f"{number:012x}", 0, operator, 0)
        variant = Variant(birth, ("0" * 12,) if number else (), 0, "", "", datetime.now(timezone.utc))
        state.conceived(number, (0,) if number else (), f"{number:064x}")
        state.born(birth, Status.COMPLETED, number + 1)
        state.measured(variant, Result(Status.COMPLETED, val_bpb=score))
    return state


GAINED = state_of(1.0, 0.99)
"""The best is twenty sigma better than the seed."""
NOTHING = state_of(1.0, 1.01)


def left(experiments: int | None) -> Left:
    return Left(experiments, None, 300.0)


@pytest.mark.parametrize(
    ("state", "experiments", "breeding", "kept"),
    [
        (GAINED, 60, False, 12),
        (NOTHING, 60, False, 12),
        (GAINED, 12, True, 12),
        (NOTHING, 12, True, 12),  # what trains may yet become the best
        (GAINED, 12, False, 12),
        (NOTHING, 12, False, 4),  # nothing to confirm: it falls to births, but for one first look
        (NOTHING, 4, False, 0),
        (GAINED, 3, False, 0),
    ],
)
def test_the_reserve_is_kept_while_it_may_be_needed(state: State, experiments: int, breeding: bool, kept: int) -> None:
    assert verification.kept(CONFIG, state, left(experiments), breeding=breeding) == kept


def test_the_last_challenge_waits_for_what_trains() -> None:
    assert verification.challenge(CONFIG, GAINED, left(12), 4, 113, breeding=True) is None
    assert verification.challenge(CONFIG, GAINED, left(12), 4, 113, breeding=False) == 6


def test_the_last_few_experiments_measure_the_best_again() -> None:
    chosen = verification.last_replicates(CONFIG, NOTHING, left(4), {})
    assert {standing.number for standing in chosen} == {0, 1}
    assert [standing.number for standing in verification.last_replicates(CONFIG, NOTHING, left(4), {0: 1})] == [1]
    assert verification.last_replicates(CONFIG, NOTHING, left(5), {}) == []
    assert verification.last_replicates(Config(max_experiments=10), NOTHING, left(4), {}) == []


def test_the_best_of_a_night_is_seldom_left_unconfirmed() -> None:
    late = 0
    for seed in range(8):
        ends: list[Driver] = []

        def look(driver: Driver, cluster: SimulatedCluster, ends: list[Driver] = ends) -> None:
            ends.append(driver)

        course = simulate(Config(max_experiments=36, seed=seed), World(CALIBRATED, workers(2)), finished=look)
        state = ends[0].state
        assert course.spent.experiments == 36, "nothing is left unused"
        assert state.best is not None
        assert state.purposes[Purpose.CHALLENGE] > 0
        late += state.best.number != state.title.holder and verification.worth_a_challenge(ends[0].config, state)
    assert late <= 2  # of 8; 4 or more when what trains at the end is not waited for
