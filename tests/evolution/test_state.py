from __future__ import annotations

from datetime import datetime, timezone

import pytest

from autoresearch_ray.evolution.state import Goal, State
from autoresearch_ray.variant import Birth, Operator, Result, Status, Variant, variant_id


def variant(number: int) -> Variant:
    birth = Birth(number, variant_id("t", number), 0, Operator.PARAMETERS, number)
    return Variant(birth, (), 0, "", "", datetime(2026, 1, 1, tzinfo=timezone.utc))


def scored(goal: Goal, *scores: tuple[int, float]) -> State:
    state = State(goal)
    for number, score in scores:
        state.measured(variant(number), Result(Status.COMPLETED, val_bpb=score))
    return state


def test_the_best_gives_way_when_a_replicate_makes_it_worse_than_another() -> None:
    state = scored("minimize", (0, 1.0), (1, 1.02), (2, 1.04))
    assert state.best is not None
    assert state.best.number == 0
    state.measured(variant(0), Result(Status.COMPLETED, val_bpb=1.1))
    assert state.best.number == 1


def test_where_higher_is_better_the_highest_is_best_and_costs_are_negative() -> None:
    state = scored("maximize", (0, 0.6), (1, 0.9), (2, 0.7))
    assert state.best is not None
    assert (state.best.number, state.best.mean) == (1, -0.9)
    assert state.turn(state.best.mean) == 0.9


def test_a_failed_training_adds_no_score() -> None:
    state = scored("minimize", (0, 1.0))
    assert state.measured(variant(1), Result(Status.CRASHED, reason="x")) is None
    assert state.scores(1) == ()
    assert state.experiments[Status.CRASHED] == 1


def test_a_pair_is_crossed_once_whatever_the_order() -> None:
    state = State()
    state.cross([3, 5])
    assert state.crossed(5, 3)
    assert not state.crossed(3, 4)


def test_the_row_of_a_birth_that_has_not_ended_is_not_there() -> None:
    state = State()
    state.born(variant(2).birth, Status.COMPLETED, 17)
    assert state.sequence(2) == 17
    for number in (0, 1, 3):
        with pytest.raises(LookupError):
            state.sequence(number)
