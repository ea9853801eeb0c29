"""How many births, of which kind, and where their islands are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_ray.evolution.pacing import (
    NEAR_GREEDY,
    Generational,
    SteadyState,
    automatic_population,
    capacities,
    emigrant_count,
    migrates_after,
    neighbour,
)

steady = settings(deadline=None, derandomize=True)


@steady
@given(st.integers(1, 50), st.integers(0, 80), st.integers(0, 1000))
def test_steady_state_fills_up_to_its_width(width: int, in_flight: int, started: int) -> None:
    room = SteadyState(width).room(in_flight, started)
    assert room == max(0, width - in_flight)


@steady
@given(st.integers(1, 9), st.integers(0, 2**32))
def test_a_brood_ends_before_the_next_begins(brood: int, seed: int) -> None:
    """Births begin one at a time or all at once and end in any order; no two generations overlap."""
    rng = np.random.default_rng(seed)
    pacing, in_flight, started = Generational(brood), 0, 0
    for _ in range(100):
        room = pacing.room(in_flight, started)
        assert in_flight + room <= brood
        if started % brood == 0:
            assert room == (0 if in_flight else brood)
        beginning = min(room, int(rng.integers(1, brood + 1)))
        if beginning == 0 or (in_flight and rng.random() < 0.5):
            in_flight -= 1
        else:
            in_flight, started = in_flight + beginning, started + beginning
    assert started > 0


def test_a_resumed_brood_is_completed_first() -> None:
    assert Generational(8).room(in_flight=0, started=13) == 3


@pytest.mark.parametrize(
    ("experiments", "slots", "members"),
    [
        (1, 1, 3),
        (30, 2, 3),
        (100, 2, 3),
        (125, 16, 4),
        (300, 4, 3),
        (1600, 2, 16),
        (1000, 1000, 50),
        (10**6, 2, 64),
        (10**6, 1000, 1000),
    ],
)
def test_automatic_population(experiments: int, slots: int, members: int) -> None:
    assert automatic_population(experiments, slots) == members


def test_without_a_limit_a_week_is_assumed() -> None:
    assert automatic_population(None, 2) == automatic_population(1600, 2)


@steady
@given(st.integers(1, 10**6), st.integers(1, 2000), st.integers(0, 1000))
def test_more_experiments_or_slots_never_make_a_smaller_population(experiments: int, slots: int, more: int) -> None:
    members = automatic_population(experiments, slots)
    assert NEAR_GREEDY <= members <= max(64, slots)
    assert automatic_population(experiments + more, slots) >= members
    assert automatic_population(experiments, slots + more) >= members


@pytest.mark.parametrize(
    ("population", "islands", "shares"),
    [(1, 2, [1]), (3, 2, [3]), (4, 2, [2, 2]), (5, 2, [3, 2]), (10, 4, [3, 3, 2, 2]), (9, 1, [9]), (10, 256, [2] * 5)],
)
def test_capacities(population: int, islands: int, shares: list[int]) -> None:
    assert capacities(population, islands) == shares


@steady
@given(st.integers(1, 5000), st.integers(1, 256))
def test_capacities_share_everything_out_evenly(population: int, islands: int) -> None:
    shares = capacities(population, islands)
    assert sum(shares) == population
    assert len(shares) <= islands
    assert max(shares) - min(shares) <= 1
    assert min(shares) >= min(2, population)


@pytest.mark.parametrize(("population", "islands"), [(0, 1), (1, 0)])
def test_nobody_or_nowhere_is_refused(population: int, islands: int) -> None:
    with pytest.raises(ValueError, match="at least one member and island"):
        capacities(population, islands)


def test_migration_is_due_every_interval_but_not_at_the_seed() -> None:
    assert [number for number in range(65) if migrates_after(number, 20)] == [20, 40, 60]
    assert all(migrates_after(number, 1) for number in range(1, 5))


def test_the_ring_visits_every_island() -> None:
    visited = [0]
    for _ in range(5):
        visited.append(neighbour(visited[-1], 5))
    assert visited == [0, 1, 2, 3, 4, 0]
    assert neighbour(0, 1) == 0


@pytest.mark.parametrize(("capacity", "rate", "count"), [(20, 0.1, 2), (2, 0.1, 1), (20, 0.0, 0), (8, 1.0, 8)])
def test_emigrants(capacity: int, rate: float, count: int) -> None:
    assert emigrant_count(capacity, rate) == count
