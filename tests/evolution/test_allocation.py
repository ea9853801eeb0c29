"""Which operator gets the next birth."""

from __future__ import annotations

from collections import Counter

import numpy as np

from autoresearch_ray.evolution.allocation import FLOOR, Allocation
from autoresearch_ray.variant import Operator

ARMS = [Operator.PARAMETERS, Operator.MUTATION, Operator.CROSSOVER]


def chosen(allocation: Allocation, arms: list[Operator], experiments_a_dollar: float = 0.0) -> Counter[Operator]:
    draws = (allocation.choose(arms, np.random.default_rng(seed), experiments_a_dollar) for seed in range(1000))
    return Counter(draws)


def lived(*births: tuple[Operator, float, float], times: int = 40) -> Allocation:
    """Return an allocation after births of (operator, gain, dollars), in turns."""
    allocation = Allocation()
    for _ in range(times):
        for operator, gain, usd in births:
            allocation.ended(operator, usd, trained=True)
            allocation.gained(operator, gain)
    return allocation


def test_what_gains_is_asked_more_and_nothing_dies_out() -> None:
    counts = chosen(lived((Operator.PARAMETERS, 0.0, 0.0), (Operator.MUTATION, 0.01, 0.0)), ARMS)
    assert counts[Operator.MUTATION] > 600
    for operator in ARMS:
        assert counts[operator] > 1000 * FLOOR / len(ARMS) * 0.7


def test_larger_gains_count_more_than_small_ones() -> None:
    counts = chosen(lived((Operator.PARAMETERS, 0.001, 0.0), (Operator.MUTATION, 0.01, 0.0)), ARMS[:2])
    assert counts[Operator.MUTATION] > counts[Operator.PARAMETERS] + 200


def test_what_costs_more_must_gain_more() -> None:
    allocation = lived((Operator.PARAMETERS, 0.01, 0.0), (Operator.MUTATION, 0.01, 0.5))
    cheap, dear = chosen(allocation, ARMS[:2], 0.0), chosen(allocation, ARMS[:2], 10.0)
    assert dear[Operator.MUTATION] < cheap[Operator.MUTATION] - 200


def test_the_choice_follows_the_change() -> None:
    allocation = lived((Operator.PARAMETERS, 0.0, 0.0), (Operator.MUTATION, 0.01, 0.0))
    for _ in range(40):
        for operator, gain in ((Operator.PARAMETERS, 0.0005), (Operator.MUTATION, 0.0)):
            allocation.ended(operator, 0.0, trained=True)
            allocation.gained(operator, gain)
    counts = chosen(allocation, ARMS[:2])
    assert counts[Operator.PARAMETERS] > counts[Operator.MUTATION] + 200


def test_only_those_that_can_work_are_chosen() -> None:
    assert chosen(Allocation(), [Operator.PARAMETERS]) == {Operator.PARAMETERS: 1000}


def test_births_that_no_operator_made_count_for_nobody() -> None:
    allocation = Allocation()
    allocation.ended(Operator.PERSON, 0.0, trained=True)
    allocation.gained(Operator.PERSON, 1.0)
    assert chosen(allocation, ARMS) == chosen(Allocation(), ARMS)
