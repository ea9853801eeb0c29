"""Ranking and tournaments."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_ray.evolution.noise import Noise, Prior
from autoresearch_ray.evolution.selection import Member, ranked, tournament, worst
from autoresearch_ray.variant import Birth, Operator, Variant, variant_id

steady = settings(deadline=None, derandomize=True)

NOISE = Noise(sigma=0.01)


def make_member(number: int, *scores: float, source: str = "x = 1\n", prior: Prior | None = None) -> Member:
    birth = Birth(number, variant_id("run", number), 0, Operator.PARAMETERS, number)
    return Member(Variant(birth, (), 0, source, "", datetime(2025, 3, 8, tzinfo=timezone.utc)), scores, prior)


def numbers(members: list[Member]) -> list[int]:
    return [member.variant.birth.number for member in members]


def test_the_lowest_score_is_best() -> None:
    assert numbers(ranked([make_member(1, 0.9), make_member(2, 0.7), make_member(3, 0.8)], NOISE)) == [2, 3, 1]


def test_posterior_means_rank_not_single_draws() -> None:
    prior = Prior(1.0, 0.01)
    lucky, proven = make_member(1, 0.90, prior=prior), make_member(2, 0.91, 0.91, 0.91, 0.91, prior=prior)
    assert numbers(ranked([lucky, proven], Noise(sigma=0.1))) == [2, 1]
    assert numbers(ranked([lucky, proven], Noise(sigma=0.001))) == [1, 2]


def test_a_tie_goes_to_the_older_birth_whatever_the_sources() -> None:
    old, young, middle = make_member(1, 0.9, source="def ("), make_member(3, 0.9, source=""), make_member(2, 0.9)
    assert numbers(ranked([young, old, middle], NOISE)) == [1, 2, 3]


def test_without_a_score_a_member_comes_last() -> None:
    assert numbers(ranked([make_member(0), make_member(1, 99.0)], Noise(sigma=0.1))) == [1, 0]


@steady
@given(st.permutations([make_member(n, 0.1 * (n // 2), source="x = 1\n" * (n % 3)) for n in range(8)]))
def test_ranking_does_not_depend_on_the_order_given(members: list[Member]) -> None:
    assert ranked(members, NOISE) == ranked(sorted(members, key=lambda member: member.variant.birth.number), NOISE)


@steady
@given(st.permutations([make_member(n, n % 7 / 7) for n in range(12)] + [make_member(12)]), st.integers(0, 13))
def test_the_worst_are_the_last_of_the_ranking(members: list[Member], count: int) -> None:
    assert worst(members, count, NOISE) == ranked(members, NOISE)[len(members) - count :]


@pytest.mark.parametrize(("size", "chances"), [(1, [0.2] * 5), (2, [0.4, 0.3, 0.2, 0.1, 0.0]), (5, [1, 0, 0, 0, 0])])
def test_a_tournament_draws_without_replacement(size: int, chances: list[float]) -> None:
    members = [make_member(number, float(number)) for number in range(5)]
    rng = np.random.default_rng(0)
    wins = Counter(tournament(members, size, NOISE, rng).variant.birth.number for _ in range(2000))
    for number, chance in enumerate(chances):
        assert abs(wins[number] / 2000 - chance) < 0.04
    assert (wins[4] == 0) == (size > 1)


def test_a_tournament_larger_than_the_population_gives_the_best() -> None:
    members = [make_member(2, 0.5), make_member(1, 0.4)]
    assert tournament(members, 64, NOISE, np.random.default_rng(0)) == members[1]


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        tournament([], 3, NOISE, np.random.default_rng(0))
    with pytest.raises(ValueError, match="size of at least 1, got 0"):
        tournament([make_member(1, 0.5)], 0, NOISE, np.random.default_rng(0))
