from __future__ import annotations

import numpy as np
import pytest

from autoresearch_ray.operators.bandit import EXPLORED, Arm, chances, win
from autoresearch_ray.operators.bench import FAILURES, FIRST_SECONDS, LONGEST_SECONDS, Bench


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_without_outcomes_the_weights_decide() -> None:
    shares = np.mean([chances([Arm(3, 0.1), Arm(1, 0.1)], rng(seed)) for seed in range(50)], axis=0)
    assert shares == pytest.approx([0.75, 0.25], abs=0.02)
    assert chances([Arm(2, 0.0)], rng()) == pytest.approx([1.0])


def test_the_model_that_wins_more_often_is_preferred_but_the_other_is_not_forgotten() -> None:
    shares = chances([Arm(1, 0.1, 12, 8), Arm(1, 0.1, 2, 18)], rng())
    assert shares.sum() == pytest.approx(1)
    assert shares[0] > 0.9
    assert shares[1] >= EXPLORED / 2 - 1e-9


def test_what_a_birth_costs_counts() -> None:
    dear, cheap = Arm(1, 0.5, 6, 14), Arm(1, 0.05, 4, 16)
    assert chances([dear, cheap], rng())[1] > 0.9
    training = 2.0  # next to a dear training the price of a call does not matter
    assert chances([Arm(1, 0.5 + training, 9, 11), Arm(1, 0.05 + training, 3, 17)], rng())[0] > 0.85


def test_the_same_seed_chooses_the_same() -> None:
    arms = [Arm(1, 0.1, 3, 4), Arm(2, 0.2, 5, 6)]
    assert (chances(arms, rng(7)) == chances(arms, rng(7))).all()


def test_a_bandit_finds_the_better_model() -> None:
    """Two models, one wins 30 % of the time and the other 10 %: over 400 births the better gets most of them."""
    taken = np.zeros(2)
    generator = rng(3)
    arms = [Arm(1, 0.1), Arm(1, 0.1)]
    for _ in range(400):
        index = int(generator.choice(2, p=chances(arms, generator)))
        taken[index] += 1
        won = float(generator.random() < (0.3, 0.1)[index])
        arms = [arm.faded() for arm in arms]
        arms[index] = Arm(1, 0.1, arms[index].wins + won, arms[index].losses + 1 - won)
    assert taken[0] > 1.5 * taken[1]


def test_a_win_is_the_probability_of_a_gain() -> None:
    assert win(None, None) == 0.0
    assert win(0.1, None) == win(0.1, 0.0) == 1.0
    assert win(-0.1, None) == 0.0
    assert win(0.0, 0.01) == 0.5
    assert win(0.0196, 0.01) == pytest.approx(0.975, abs=1e-3)


def test_a_model_that_keeps_failing_is_benched_for_longer_each_time() -> None:
    bench, now, pauses = Bench(), 100.0, []
    for _ in range(FAILURES - 1):
        bench.failed("m", now, "overloaded")
        assert bench.seconds_left("m", now) == 0
    for _ in range(8):
        bench.failed("m", now, "overloaded")
        pauses.append(bench.seconds_left("m", now))
        now += pauses[-1]
        assert bench.seconds_left("m", now) == 0
    assert pauses == [min(FIRST_SECONDS * 2**n, LONGEST_SECONDS) for n in range(8)]
    assert bench.reason("m") == "overloaded"
    assert bench.seconds_left("other", now) == 0
    assert bench.reason("other") == ""


def test_calls_that_fail_together_bench_once_and_an_answer_forgives() -> None:
    bench = Bench()
    for _ in range(16):
        bench.failed("m", 0.0, "")
    assert bench.seconds_left("m", 0.0) == FIRST_SECONDS
    bench.answered("m")
    assert bench.seconds_left("m", 0.0) == 0
    bench.failed("m", 0.0, "")
    assert bench.seconds_left("m", 0.0) == 0
