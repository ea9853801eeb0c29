"""The test on fresh seeds: how often it errs, what it finds, how it ends."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autoresearch_ray.evolution import sequential
from autoresearch_ray.evolution.challenge import ERROR, FIRST_LOOK, Outcome, Title, Verdict, judge, simpler, verdict_of
from autoresearch_ray.evolution.noise import Noise, NoiseEstimator

NOISE = Noise(sigma=1.0, measured=1.0, freedom=10_000)


def contest(gain: float, rng: np.random.Generator, limit: int = 8, *, fewer: bool = False) -> Verdict:
    """Carry out a challenge by a variant that is truly so much better, at sigma 1."""
    challenge = Title().challenged(7, limit, simpler=fewer)
    while True:
        challenge.fresh[7].append(float(rng.normal(-gain)))
        challenge.fresh[0].append(float(rng.normal()))
        if verdict := judge(challenge, NOISE):
            return verdict


@pytest.mark.parametrize(("first", "last", "error"), [(2, 8, 0.03), (2, 4, 0.05), (1, 12, 0.05)])
def test_the_threshold_keeps_the_error_over_all_looks(first: int, last: int, error: float) -> None:
    constant = sequential.threshold(first, last, error)
    sums = np.random.default_rng(0).normal(size=(40_000, last)).cumsum(axis=1)
    z = sums / np.sqrt(np.arange(1, last + 1))
    assert (z[:, first - 1 :] >= constant).any(axis=1).mean() == pytest.approx(error, abs=0.004)
    assert (z[:, -1] >= constant).mean() < error / 1.3  # a single look at this threshold would err less


def test_an_equal_challenger_wins_rarely_and_a_better_one_mostly() -> None:
    rng = np.random.default_rng(1)
    equal = sum(contest(0.0, rng).promotes for _ in range(3000)) / 3000
    assert equal <= 0.05
    assert equal == pytest.approx(ERROR, abs=0.012)
    assert sum(contest(-0.5, rng).promotes for _ in range(1000)) < 10
    better = [contest(3.0, rng) for _ in range(300)]
    assert sum(verdict.promotes for verdict in better) > 285
    assert np.mean([verdict.pairs for verdict in better]) < 3


def test_what_is_detectable_is_detected_four_times_out_of_five() -> None:
    rng = np.random.default_rng(2)
    constant = sequential.threshold(FIRST_LOOK, 8, ERROR)
    gain = sequential.detectable(1.0, 8, constant)
    assert sequential.pairs_needed(gain, 1.0, constant) == pytest.approx(8)
    assert sum(contest(gain, rng).promotes for _ in range(1000)) > 720  # giving up early costs some
    assert sequential.pairs_needed(0.0, 1.0, constant) == math.inf


def test_the_error_holds_where_sigma_is_estimated_from_few_trainings() -> None:
    rng = np.random.default_rng(3)
    promoted = 0
    for _ in range(1500):
        estimator = NoiseEstimator()
        for score in rng.normal(3.0, 0.02, 2):  # the prior believes in 0.0015
            estimator.observe("seed", float(score))
        challenge = Title().challenged(7, 8, simpler=False)
        verdict = None
        while verdict is None:
            for number in (7, 0):
                score = float(rng.normal(3.0, 0.02))
                estimator.observe("seed" if number == 0 else "challenger", score)
                challenge.fresh[number].append(score)
            verdict = judge(challenge, estimator.estimate())
        promoted += verdict.promotes
    assert promoted / 1500 <= 0.05


def test_a_tie_goes_to_the_simpler_source() -> None:
    rng = np.random.default_rng(4)
    outcomes = [contest(0.0, rng, fewer=True).outcome for _ in range(200)]
    assert outcomes.count(Outcome.SIMPLER) > 100
    assert Outcome.SIMPLER not in [contest(0.0, rng).outcome for _ in range(200)]
    assert sum(contest(-3.0, rng, fewer=True).promotes for _ in range(200)) == 0
    assert simpler("a = 1\n", "a = 1\nb = 2\n")
    assert not simpler("a = 2\n", "a = 1  # the same\n")


def test_a_challenger_that_crashes_under_another_seed_is_not_promoted() -> None:
    title = Title()
    title.challenged(7, 8, simpler=False)
    title.trained(7, None, failed=True)
    assert title.challenge is not None
    verdict = judge(title.challenge, NOISE)
    assert verdict is not None
    assert verdict.outcome is Outcome.KEPT


def test_a_title_is_held_and_defended() -> None:
    title = Title()
    challenge = title.challenged(7, 8, simpler=False)
    assert challenge.lacking() == [7, 0, 7, 0]
    with pytest.raises(ValueError, match="one challenge at a time"):
        title.challenged(9, 8, simpler=False)
    for _ in range(2):
        title.trained(7, -9.0, failed=False)
        title.trained(0, 0.0, failed=False)
        title.trained(5, -99.0, failed=False)  # not part of it
    verdict = judge(challenge, NOISE)
    assert verdict is not None
    title.ruled(verdict)
    assert (title.holder, title.challenge, title.champion) == (7, None, verdict)
    assert (verdict.gain, verdict.pairs, verdict.mean) == (9.0, 2, -9.0)
    title.challenged(9, 8, simpler=False)
    assert title.met(9)
    assert not title.met(7)


def test_a_verdict_is_read_back_from_its_event() -> None:
    verdict = contest(2.0, np.random.default_rng(5))
    details = {name: getattr(verdict, name) for name in Verdict.__dataclass_fields__} | {"mean": -verdict.mean}
    assert (
        verdict_of({**details, "outcome": verdict.outcome.value, "incumbent": "abc"}, lambda value: -value) == verdict
    )
