"""The noise of a score: what is assumed, what replicates teach, and what a score is then worth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_ray.evolution.noise import (
    MINIMUM_CHILDREN,
    RELATIVE_SIGMA,
    Noise,
    NoiseEstimator,
    Posterior,
    Prior,
    Window,
)
from autoresearch_ray.evolution.state import Standing

steady = settings(deadline=None, derandomize=True)

scores = st.floats(0.1, 10.0)
priors = st.none() | st.builds(Prior, st.floats(0.1, 10.0), st.floats(1e-8, 1.0))
sigmas = st.floats(1e-6, 1.0)


def estimator_of(observations: list[tuple[str, float]]) -> NoiseEstimator:
    estimator = NoiseEstimator()
    for variant_id, score in observations:
        estimator.observe(variant_id, score)
    return estimator


def test_without_an_observation_the_published_noise_is_assumed_and_nothing_shrinks() -> None:
    noise = NoiseEstimator().estimate()
    assert noise.sigma == pytest.approx(RELATIVE_SIGMA)
    assert noise.posterior([0.7], noise.prior(Posterior(0.5, 0.01, 3))).mean == 0.7
    with pytest.raises(ValueError, match="expected a score or a prior"):
        noise.posterior([])


def test_the_assumption_is_relative_to_the_score() -> None:
    assert estimator_of([("a", 0.9979)]).estimate().sigma == pytest.approx(0.0005)
    assert estimator_of([("a", 2 * 0.9979)]).estimate().sigma == pytest.approx(0.001)


def test_the_assumption_fades_as_replicates_come_in() -> None:
    rng = np.random.default_rng(0)
    errors = []
    for replicates in (2, 8, 64):
        observations = [(str(i % 16), 3.0 + 0.1 * (i % 16) + rng.normal(0, 0.02)) for i in range(16 * replicates)]
        errors.append(abs(estimator_of(observations).estimate().sigma - 0.02))
    assert errors[2] < 0.001
    assert errors[0] < 0.01


def test_one_pair_already_moves_sigma_most_of_the_way_in_logarithm() -> None:
    sigma = estimator_of([("seed", 3.00), ("seed", 3.04)]).estimate().sigma
    assert 0.01 < sigma < 0.03  # the assumption was 0.0015, the pair's own standard deviation is 0.028


def test_the_measured_sigma_leaves_the_assumption_out() -> None:
    assert estimator_of([("a", 1.0), ("b", 5.0)]).measured_sigma is None
    assert estimator_of([("a", 1.0), ("b", 5.0), ("a", 1.2)]).measured_sigma == pytest.approx(0.2 / 2**0.5)


def test_sigma_is_pooled_within_variants_not_across() -> None:
    observations = [(name, score) for name, score in zip("ababab", [1.0, 3.0, 1.01, 3.01, 0.99, 2.99], strict=True)]
    assert estimator_of(observations).estimate().sigma < 0.02


def test_the_order_of_observations_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    observations = [(str(i % 5), float(rng.normal(1, 0.01))) for i in range(40)]
    firsts, rest = observations[:5], observations[5:]
    shuffled = firsts + [rest[i] for i in rng.permutation(35)]
    assert estimator_of(observations).estimate().sigma == pytest.approx(estimator_of(shuffled).estimate().sigma)


def test_replicates_that_are_all_equal_say_that_every_difference_is_real() -> None:
    assert estimator_of([("a", 1.0)] * 2).estimate().sigma > RELATIVE_SIGMA / 3  # one pair may be chance
    noise = estimator_of([("a", 1.0)] * 3).estimate()
    assert 0 < noise.sigma < 1e-8
    assert noise.measured == noise.sigma


def test_a_variant_that_diverges_under_one_seed_does_not_drown_the_others() -> None:
    rng = np.random.default_rng(0)
    observations = [(str(i), float(rng.normal(1.0, 0.01))) for i in range(20)]
    quiet = estimator_of(observations).estimate()
    noisy = estimator_of([*observations, ("0", 9.0), ("0", 1.0)]).estimate()
    assert noisy.sigma < 3 * 0.01
    assert noisy.measured is not None
    assert noisy.measured < 3 * 0.01
    assert quiet.measured is None


def children(estimator: NoiseEstimator, parent: Posterior, scores: Iterable[float]) -> NoiseEstimator:
    for i, score in enumerate(scores):
        estimator.observe(f"child{i}", score)
        estimator.inherit(parent, score)
    return estimator


def test_what_children_are_like_is_fitted_and_broken_ones_do_not_count() -> None:
    rng = np.random.default_rng(0)
    seeds = estimator_of([("seed", float(score)) for score in rng.normal(1.0, 0.002, 40)])
    scores = [*rng.normal(1.003, 0.01, 90), *[3.2] * 15]
    noise = children(seeds, Posterior(1.0, 0.0003, 40), map(float, scores)).estimate()
    assert noise.sigma == pytest.approx(0.002, rel=0.3)
    assert noise.shift == pytest.approx(0.005, abs=0.003)
    assert noise.spread == pytest.approx(0.01, rel=0.3)
    prior = noise.prior(Posterior(0.9, 0.001, 1))
    assert prior is not None
    assert prior.mean == 0.9 + noise.shift
    assert prior.variance == pytest.approx(0.001**2 + noise.spread**2)


def test_where_children_are_all_alike_a_lucky_score_is_mostly_luck() -> None:
    rng = np.random.default_rng(0)
    seeds = estimator_of([("seed", float(score)) for score in rng.normal(1.0, 0.002, 400)])
    parent = Posterior(1.0, 0.0003, 40)
    noise = children(seeds, parent, map(float, rng.normal(1.0, 0.002, 120))).estimate()
    assert noise.posterior([0.995], noise.prior(parent)).mean > 0.998


def test_too_few_children_say_nothing() -> None:
    parent, scores = Posterior(1.0, 0.001, 1), [1.0 + 0.01 * i for i in range(MINIMUM_CHILDREN)]
    assert children(NoiseEstimator(), parent, scores[:-1]).estimate().prior(parent) is None
    assert children(NoiseEstimator(), parent, scores).estimate().prior(parent) is not None


def test_memory_is_bounded_and_a_forgotten_variant_costs_one_degree_of_freedom() -> None:
    estimator = estimator_of([("old", 1.0)])
    for i in range(10_000):
        estimator.observe(str(i), 1.0)
    before = estimator.estimate()
    estimator.observe("old", 5.0)
    assert estimator.estimate().sigma == before.sigma
    assert len(estimator._variants) <= 4096
    estimator.observe("9999", 1.0)
    assert estimator.estimate().sigma < before.sigma


def test_a_variant_in_use_is_not_forgotten() -> None:
    estimator = estimator_of([("best", 1.0)])
    for i in range(10_000):
        estimator.observe(str(i), 1.0 + i % 100 / 100)
        if i % 2000 == 0:
            estimator.observe("best", 1.1)
    assert estimator._freedom == 5


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused(score: float) -> None:
    estimator = NoiseEstimator()
    with pytest.raises(ValueError, match="finite score of abc"):
        estimator.observe("abc", score)
    assert estimator.estimate() == NoiseEstimator().estimate()


@steady
@given(st.lists(st.tuples(st.sampled_from("abcdefghijkl"), scores), max_size=60))
def test_an_estimate_is_always_usable(observations: list[tuple[str, float]]) -> None:
    noise = estimator_of(observations).estimate()
    assert 0 < noise.sigma < math.inf
    assert noise.measured is None or 0 < noise.measured < math.inf


@steady
@given(sigmas, priors, st.integers(1, 5), scores, scores)
def test_with_equal_counts_and_priors_the_order_is_that_of_the_scores(
    sigma: float, prior: Prior | None, count: int, first: float, second: float
) -> None:
    means = [Noise(sigma).expected([score] * count, prior) for score in (first, second)]
    assert (means[0] <= means[1]) or second < first


@steady
@given(sigmas, priors, st.lists(scores, min_size=1, max_size=6))
def test_a_posterior_lies_between_prior_and_average(sigma: float, prior: Prior | None, values: list[float]) -> None:
    posterior = Noise(sigma).posterior(values, prior)
    average = math.fsum(values) / len(values)
    low, high = sorted((prior.mean if prior else average, average))
    assert low - 1e-9 <= posterior.mean <= high + 1e-9
    assert posterior.mean == pytest.approx(Noise(sigma).expected(values, prior), abs=1e-12)
    assert posterior.count == len(values)
    assert 0 < posterior.sd <= sigma / math.sqrt(len(values)) * (1 + 1e-12)


def test_the_posterior_is_that_of_two_normals() -> None:
    posterior = Noise(sigma=1.0).posterior([6.0, 8.0], Prior(10.0, 4.0))
    precision = 1 / 2.0**2 + 2 / 1.0**2
    assert posterior.mean == pytest.approx((10.0 / 2.0**2 + 14.0) / precision)
    assert posterior.sd == pytest.approx(precision**-0.5)


def test_a_single_lucky_score_is_believed_less_than_a_replicated_one() -> None:
    noise, prior = Noise(sigma=0.5), Prior(3.0, 0.25)
    assert noise.expected([2.0], prior) > noise.expected([2.05, 2.05, 2.05, 2.05], prior)


def test_the_posterior_is_calibrated() -> None:
    """95 % of the true scores lie within 1.96 posterior deviations, and the posterior mean errs less than the score."""
    rng = np.random.default_rng(1)
    parent = Posterior(1.0, 1e-6, 100)
    truths = rng.normal(1.0, 0.004, size=3000)
    drawn = [[float(rng.normal(truth, 0.003)) for _ in range(1 + i % 3)] for i, truth in enumerate(truths)]
    estimator = NoiseEstimator()
    for i, values in enumerate(drawn):
        estimator.inherit(parent, values[0])
        for value in values:
            estimator.observe(str(i), value)
    noise = estimator.estimate()
    assert noise.sigma == pytest.approx(0.003, rel=0.05)
    assert noise.spread == pytest.approx(0.004, rel=0.3)  # of the last 128
    posteriors = [noise.posterior(values, noise.prior(parent)) for values in drawn]
    inside = [abs(p.mean - truth) < 1.96 * p.sd for p, truth in zip(posteriors, truths, strict=True)]
    assert 0.92 < np.mean(inside) < 0.975
    raw = np.array([np.mean(values) for values in drawn])
    assert np.mean((np.array([p.mean for p in posteriors]) - truths) ** 2) < 0.95 * np.mean((raw - truths) ** 2)


@steady
@given(st.lists(st.floats(-5.0, 5.0), min_size=1, max_size=40), st.integers(1, 12), st.floats(-5.0, 5.0))
def test_a_window_says_of_its_last_numbers_what_sorting_them_says(
    numbers: list[float], size: int, center: float
) -> None:
    window = Window(size)
    for number in numbers:
        window.add(number)
    last = numbers[-size:]
    assert len(window) == len(last)
    assert window.median == statistics.median(last)
    assert window.deviation(center) == statistics.median([abs(number - center) for number in last])
    assert window.not_above(center) == sorted(number for number in last if number <= center)
    for distance in (0.0, 0.5, 2.0, 6.0):
        least = min(abs(abs(number - center) - distance) for number in last)
        if least > 1e-9:  # else rounding decides
            assert window.mostly_beyond(center, distance) == (_lower_middle(last, center) > distance)


def _lower_middle(numbers: list[float], center: float) -> float:
    return sorted(abs(number - center) for number in numbers)[(len(numbers) - 1) // 2]


@steady
@given(st.lists(st.tuples(st.sampled_from("abcdefghijkl"), st.floats(0.97, 1.0)), max_size=60))
def test_the_ceiling_of_sigma_is_that_of_the_exact_spread(observations: list[tuple[str, float]]) -> None:
    quick, exact = estimator_of(observations), estimator_of(observations)
    exact._recent.mostly_beyond = lambda center, distance: False  # type: ignore[method-assign]
    assert quick.estimate() == exact.estimate()


@given(sigmas, st.lists(st.tuples(st.lists(scores, min_size=1, max_size=4), priors), max_size=8))
@steady
def test_many_expectations_at_once_are_those_of_each(
    sigma: float, variants: list[tuple[list[float], Prior | None]]
) -> None:
    noise = Noise(sigma)
    standings = [Standing(0, "", "", tuple(values), prior) for values, prior in variants]
    assert noise.all_expected(standings) == [noise.expected(values, prior) for values, prior in variants]
