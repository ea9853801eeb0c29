"""One island: bounded, keeps the best, breeds reproducibly."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_ray.evolution.island import SECOND_PARENTS, Island, Member
from autoresearch_ray.evolution.noise import Noise
from autoresearch_ray.variant import Birth, Operator, Variant, variant_id

steady = settings(deadline=None, derandomize=True)

NOISE = Noise(sigma=0.01)


def make_member(number: int, *scores: float, source: str = "x = 1\n") -> Member:
    birth = Birth(number, variant_id("run", number), 0, Operator.PARAMETERS, number)
    return Member(Variant(birth, (), 0, source, "", datetime(2025, 3, 8, tzinfo=timezone.utc)), scores)


def make_birth(seed: int, operator: Operator = Operator.PARAMETERS) -> Birth:
    return Birth(99, "birth", 0, operator, seed)


def make_island(capacity: int, *scores: float) -> Island:
    return Island(capacity, [make_member(number, score) for number, score in enumerate(scores)])


def numbers(island: Island) -> set[int]:
    return {member.variant.birth.number for member in island.members}


def test_the_worst_goes_when_the_island_is_full() -> None:
    island = make_island(2, 0.5, 0.7)
    assert island.absorb(make_member(2, 0.6), NOISE) == [variant_id("run", 1)]
    assert numbers(island) == {0, 2}


def test_the_newcomer_itself_may_go() -> None:
    island = make_island(2, 0.5, 0.7)
    assert island.absorb(make_member(2, 0.8), NOISE) == [variant_id("run", 2)]
    assert numbers(island) == {0, 1}


def test_there_is_room_until_capacity() -> None:
    island = make_island(3, 0.5)
    assert island.absorb(make_member(1, 9.0), NOISE) == []
    assert numbers(island) == {0, 1}


def test_at_a_tie_the_older_stays() -> None:
    island = make_island(1, 0.5)
    assert island.absorb(make_member(1, 0.5, source=""), NOISE) == [variant_id("run", 1)]
    assert numbers(island) == {0}


def test_a_replicate_replaces_the_member_and_may_end_it() -> None:
    island = make_island(2, 0.5, 0.6)
    assert island.absorb(make_member(0, 0.5, 0.9), NOISE) == []
    assert [member.scores for member in island.members] == [(0.5, 0.9), (0.6,)]
    assert island.absorb(make_member(2, 0.65), NOISE) == [variant_id("run", 0)]


def test_the_first_scored_child_takes_the_place_of_the_unscored_seed_and_the_seed_comes_back() -> None:
    island = Island(1, [make_member(0)])
    assert island.mate(make_birth(1), NOISE, 3)[0].birth.number == 0
    assert island.absorb(make_member(1, 0.6), NOISE) == [variant_id("run", 0)]
    assert island.absorb(make_member(0, 0.5), NOISE) == [variant_id("run", 1)]


def test_resizing_evicts_the_worst_and_makes_room() -> None:
    island = make_island(4, 0.5, 0.8, 0.6, 0.7)
    assert island.resize(2, NOISE) == [variant_id("run", 3), variant_id("run", 1)]
    assert island.capacity == 2
    assert island.resize(3, NOISE) == []
    assert island.absorb(make_member(9, 0.9), NOISE) == []


@pytest.mark.parametrize("capacity", [0, -1])
def test_an_island_holds_somebody(capacity: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Island(capacity)
    with pytest.raises(ValueError, match="at least 1"):
        make_island(1, 0.5).resize(capacity, NOISE)


def test_more_members_than_capacity_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 1 members, got 2"):
        make_island(1, 0.5, 0.6)


@steady
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0.1, 9.0)), max_size=40), st.integers(1, 5))
def test_an_island_is_bounded_keeps_the_best_and_accounts_for_everyone(
    arrivals: list[tuple[int, float]], capacity: int
) -> None:
    """Each variant arrives with one score; whatever the order, the best `capacity` of them stay."""
    first_scores = dict(reversed(arrivals))
    island = Island(capacity)
    gone: list[str] = []
    for number in dict.fromkeys(number for number, _ in arrivals):
        gone += island.absorb(make_member(number, first_scores[number]), NOISE)
        assert len(island.members) <= capacity
    best = sorted(first_scores, key=lambda number: (first_scores[number], number))[:capacity]
    assert numbers(island) == set(best)
    assert sorted(gone) == sorted(variant_id("run", number) for number in first_scores if number not in best)


def test_capacity_one_is_greedy_keep_the_best() -> None:
    rng = np.random.default_rng(0)
    island, best, keeper = Island(1), float("inf"), -1
    for number in range(200):
        score = float(rng.normal())
        island.absorb(make_member(number, score), NOISE)
        if score < best:
            best, keeper = score, number
        assert numbers(island) == {keeper}
        assert [parent.birth.number for parent in island.mate(make_birth(number, Operator.CROSSOVER), NOISE, 3)] == [
            keeper
        ]


# --------------------------------------------------------------------------------------------------------------- mating


@steady
@given(st.integers(0, 2**63), st.sampled_from([Operator.PARAMETERS, Operator.CROSSOVER]), st.integers(1, 9))
def test_mating_depends_on_the_birth_alone(seed: int, operator: Operator, size: int) -> None:
    scores = [0.5, 0.9, 0.7, 0.8, 0.6]
    first, second = make_island(5, *scores), make_island(5, *scores)
    first.mate(make_birth(seed + 1), NOISE, size)
    assert first.mate(make_birth(seed, operator), NOISE, size) == second.mate(make_birth(seed, operator), NOISE, size)


def test_one_parent_unless_it_is_a_crossover() -> None:
    island = make_island(5, 0.5, 0.6, 0.7, 0.8, 0.9)
    assert len(island.mate(make_birth(0), NOISE, 2)) == 1
    assert len(island.mate(make_birth(0, Operator.MUTATION), NOISE, 2)) == 1
    assert len(island.mate(make_birth(0, Operator.CROSSOVER), NOISE, 2)) == 1 + SECOND_PARENTS


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_candidates_are_distinct_and_no_more_than_there_are(count: int) -> None:
    island = make_island(8, *(0.1 * n for n in range(count)))
    for seed in range(30):
        parents = island.mate(make_birth(seed, Operator.CROSSOVER), NOISE, 2)
        assert len({parent.variant_id for parent in parents}) == len(parents) == min(count, 1 + SECOND_PARENTS)


def test_a_tournament_of_everybody_lines_up_the_best() -> None:
    island = make_island(6, 0.9, 0.5, 0.8, 0.6, 0.7, 1.0)
    parents = island.mate(make_birth(3, Operator.CROSSOVER), NOISE, 6)
    assert [parent.birth.number for parent in parents] == [1, 3, 4, 2]


def test_tournaments_press_towards_the_best_but_not_only() -> None:
    island = make_island(5, 0.5, 0.6, 0.7, 0.8, 0.9)
    wins = Counter(island.mate(make_birth(seed), NOISE, 2)[0].birth.number for seed in range(1000))
    assert [0.36 < wins[0] / 1000 < 0.44, wins[1] > wins[2] > wins[3] > 0, wins[4] == 0] == [True] * 3


def test_the_operator_may_draw_from_the_same_seed() -> None:
    """The tournament's draws are not the first draws of the generator that the operator makes of the birth's seed."""
    island = make_island(2, 0.5, 0.6)
    chosen = [island.mate(make_birth(seed), NOISE, 1)[0].birth.number for seed in range(400)]
    drawn = [int(np.random.default_rng(seed).choice(2, size=1, replace=False)[0]) for seed in range(400)]
    assert abs(np.corrcoef(chosen, drawn)[0, 1]) < 0.2


def test_an_empty_island_cannot_mate() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        Island(3).mate(make_birth(0), NOISE, 3)


# ------------------------------------------------------------------------------------------------------------ emigrants


def test_emigrants_are_copies_of_the_best() -> None:
    island = make_island(4, 0.9, 0.5, 0.8, 0.6)
    assert [member.variant.birth.number for member in island.emigrants(2, NOISE)] == [1, 3]
    assert numbers(island) == {0, 1, 2, 3}
    assert len(island.emigrants(9, NOISE)) == 4
    assert island.emigrants(0, NOISE) == island.emigrants(-1, NOISE) == []


def test_nobody_emigrates_unscored() -> None:
    assert Island(1, [make_member(0)]).emigrants(1, NOISE) == []


def test_who_is_revised_keeps_its_place_and_who_is_gone_stays_gone() -> None:
    island = make_island(2, 0.5, 0.7)
    island.revise(make_member(1, 0.7, 0.9))
    island.revise(make_member(2, 0.1, 0.2))
    assert [member.scores for member in island.members] == [(0.5,), (0.7, 0.9)]
