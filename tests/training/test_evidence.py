from __future__ import annotations

import math

import numpy as np
import pytest

from autoresearch_ray.training import evidence
from autoresearch_ray.training.evidence import ENOUGH, Shown

TRIALS = 3000


def mean_of_e(logs: list[float]) -> float:
    return float(np.exp(np.array(logs)).mean())


def shown(rng: np.random.Generator, m: int, mix: float = 0.0, sharp: float = 1.0) -> Shown:
    """Places with 6 alternatives out of 20 tokens; the model puts `mix` of its belief on what is shown next."""
    q = rng.dirichlet(np.ones(6), size=m)
    model = rng.dirichlet(np.full(20, 1.0 / sharp), size=m)
    chosen = np.array([rng.choice(6, p=each) for each in q])
    model *= 1.0 - mix
    model[np.arange(m), chosen] += mix
    flat = model[:, :6].reshape(-1)
    surest = model[:, :19].max(axis=1)  # token 19 is the true one
    return Shown(np.repeat(np.arange(m), 6), q.reshape(-1), np.log(flat + 1e-30), np.arange(m) * 6 + chosen, surest)


@pytest.mark.parametrize("sharp", [0.1, 1.0, 10.0])
def test_shown_tokens_are_no_evidence_against_who_does_not_see_them(sharp: float) -> None:
    rng = np.random.default_rng(1)
    logs = [evidence.of_shown(shown(rng, 3, sharp=sharp)) for _ in range(TRIALS)]
    assert mean_of_e(logs) == pytest.approx(1.0, abs=0.12)
    assert max(evidence.of_shown(shown(rng, 500, sharp=sharp)) for _ in range(100)) < 7.0


@pytest.mark.parametrize("mix", [0.9, 0.1, 0.03])
def test_shown_tokens_betray_who_sees_them(mix: float) -> None:
    assert evidence.of_shown(shown(np.random.default_rng(2), 500, mix)) > ENOUGH


def test_shown_tokens_betray_who_looks_seldom() -> None:
    rng = np.random.default_rng(3)
    honest, cheating = shown(rng, 970, sharp=5.0), shown(rng, 30, mix=0.97)
    both = Shown(
        np.concatenate([honest.place, cheating.place + 970]),
        np.concatenate([honest.probability, cheating.probability]),
        np.concatenate([honest.log_model, cheating.log_model]),
        np.concatenate([honest.chosen, cheating.chosen + len(honest.place)]),
        np.concatenate([honest.surest, cheating.surest]),
    )
    assert evidence.of_shown(both) > ENOUGH


@pytest.mark.parametrize("spread", [1e-6, 0.1, 3.0, 100.0])
def test_signs_are_no_evidence_where_they_are_even(spread: float) -> None:
    rng = np.random.default_rng(4)
    logs = [evidence.of_signs(spread * rng.standard_cauchy(3)) for _ in range(TRIALS)]
    assert mean_of_e(logs) == pytest.approx(1.0, abs=0.12)
    assert max(evidence.of_signs(spread * rng.standard_normal(200)) for _ in range(200)) < 7.0


def test_signs_are_evidence_where_they_all_point_one_way() -> None:
    rng = np.random.default_rng(5)
    assert evidence.of_signs(np.full(30, 0.01)) > ENOUGH
    assert evidence.of_signs(np.full(200, 1e-7)) < 1.0  # rounding
    assert evidence.of_signs(0.3 + 0.2 * rng.standard_normal(60)) > ENOUGH
    assert evidence.of_signs(-np.full(100, 1.0)) < 0.0


def test_a_trend_is_evidence_and_chance_is_not() -> None:
    rng = np.random.default_rng(6)
    covariates = rng.standard_normal((500, 2))
    rows = 3.0 + covariates @ [0.5, 0.2] + 0.2 * rng.standard_t(3, 500)
    by_chance = []
    for _ in range(1000):
        order = rng.permutation(500)
        by_chance.append(evidence.of_trend(rows[order], covariates[order]))
    assert mean_of_e(by_chance) < 1.3
    assert max(by_chance) < 8.0
    fading = 0.3 * np.arange(500) / 500
    assert evidence.of_trend(rows - fading, covariates) > ENOUGH
    assert evidence.of_trend(rows + fading, covariates) < 0.0
    assert evidence.of_trend(rows[:20], covariates[:20]) == 0.0


def test_equal_rows_show_no_trend() -> None:
    assert evidence.of_trend(np.ones(100), np.zeros((100, 2))) < ENOUGH


def test_two_samples_are_apart_or_not() -> None:
    assert evidence.separated(np.zeros(16), np.full(16, 1.0), least=0.1)
    assert not evidence.separated(np.zeros(16), np.full(16, 0.05), least=0.1)
    assert not evidence.separated(np.array([0.0, 2.0]), np.array([1.0, 3.0]), least=0.1)
    assert not evidence.separated(np.empty(0), np.full(16, 1.0), least=0.1)


def test_nothing_seen_is_no_evidence() -> None:
    nothing = np.empty(0)
    assert evidence.of_signs(nothing) == 0.0
    empty = np.empty(0, dtype=np.int64)
    assert evidence.of_shown(Shown(empty, nothing, nothing, empty, nothing)) == 0.0


def test_the_chance_of_a_false_rejection_is_the_promised_one() -> None:
    assert evidence.TESTS * math.exp(-ENOUGH) == pytest.approx(1e-6)
