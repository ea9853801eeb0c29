from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from autoresearch_ray.training.plan import CHECK_SHARE, CONFIRMING_ROWS, Kind, Plan, make_plan, sizes
from autoresearch_ray.training.successors import Successors, pool

V = 30


def text(rows: int, T: int, seed: int) -> np.ndarray:
    """Rows of a Markov chain, so that contexts recur."""
    rng = np.random.default_rng(seed)
    tokens = np.empty((rows, T + 1), dtype=np.uint16)
    tokens[:, 0] = V - 1
    for t in range(T):
        tokens[:, t + 1] = (tokens[:, t] * 7 + rng.integers(0, 5, rows)) % V
    return tokens


@pytest.fixture(scope="module")
def successors() -> Successors:
    return pool(text(400, 32, 1))


def drawn(
    successors: Successors, rows: int = 300, T: int = 32, batch: int = 16, seed: int = 0, share: float = 0.5
) -> Plan:
    return make_plan(text(rows, T, 2), text(60, T, 3), successors, batch, share, V, np.random.default_rng(seed))


def test_every_scored_row_is_sent_once_for_its_score_and_first(successors: Successors) -> None:
    plan, rows = drawn(successors), text(300, 32, 2)
    scored = np.flatnonzero(plan.kind == Kind.SCORE)
    assert Counter(plan.row[scored].tolist()) == Counter(range(300))
    np.testing.assert_array_equal(plan.inputs[scored], rows[plan.row[scored], :-1])
    np.testing.assert_array_equal(plan.targets[scored], rows[plan.row[scored], 1:])
    for place in np.flatnonzero(np.isin(plan.kind, (Kind.AGAIN, Kind.TWIN, Kind.REPEAT))):
        assert plan.first[place] // plan.batch < place // plan.batch
        assert plan.row[plan.first[place]] == plan.row[place]


def test_every_batch_is_full_and_the_first_ones_come_again_as_they_were(successors: Successors) -> None:
    plan = drawn(successors)
    assert len(plan) % plan.batch == 0
    assert plan.repeated == 32
    np.testing.assert_array_equal(plan.inputs[-32:], plan.inputs[:32])
    assert (plan.kind[-32:] == Kind.REPEAT).all()
    assert np.isin(plan.kind[:32], (Kind.SCORE, Kind.STANDINS)).all()


def test_rows_that_are_new_come_in_any_order(successors: Successors) -> None:
    places = [np.flatnonzero(drawn(successors, seed=seed).kind == Kind.STANDINS) for seed in range(20)]
    means = [float(place.mean()) for place in places]
    assert np.std(means) > 1
    shares = np.array([np.mean(place < 100) for place in places])
    assert 0.1 < shares.mean() < 0.6  # spread over the whole of it
    orders = [drawn(successors, seed=seed).row[:10].tolist() for seed in range(3)]
    assert orders[0] != orders[1] != orders[2]


def test_the_same_rng_draws_the_same_plan(successors: Successors) -> None:
    first, second = drawn(successors, seed=5), drawn(successors, seed=5)
    np.testing.assert_array_equal(first.inputs, second.inputs)


def test_twins_share_what_comes_before_the_cut_and_differ_right_after(successors: Successors) -> None:
    plan = drawn(successors)
    twins = np.flatnonzero(plan.kind == Kind.TWIN)
    assert len(twins) > 20
    assert len(set(plan.first[twins].tolist())) == len(twins)  # as many contents as twins
    for twin in twins:
        cut, original = plan.cut[twin], plan.first[twin]
        np.testing.assert_array_equal(plan.inputs[twin, : cut + 1], plan.inputs[original, : cut + 1])
        assert plan.inputs[twin, cut + 1] != plan.inputs[original, cut + 1]
        probe = plan.probes[int(original)]
        assert probe.positions[-1] == cut
        assert probe.positions.max() == cut
        assert probe.tokens[:2].tolist() == [plan.inputs[original, cut + 1], plan.inputs[twin, cut + 1]]


def test_cuts_fall_on_every_position(successors: Successors) -> None:
    plan = drawn(successors, rows=400)
    cuts = Counter(plan.cut[plan.kind == Kind.TWIN].tolist())
    assert set(cuts) == set(range(31))
    assert max(cuts.values()) - min(cuts.values()) <= 1


def test_stand_ins_are_isolated_and_drawn_from_what_is_said(successors: Successors) -> None:
    plan, spare = drawn(successors), text(60, 32, 3)
    assert plan.standins
    for place, standins in plan.standins.items():
        shown = plan.inputs[place]
        (row,) = [row for row in spare if (row[:3] == shown[:3]).all() and (row[:-1] != shown).mean() < 0.5][:1]
        assert (np.diff(standins.position) > 8).all()
        assert (standins.truth == row[standins.position]).all()
        assert (shown[standins.position] != standins.truth).all()
        assert (standins.alternative[standins.chosen] == shown[standins.position]).all()
        assert standins.truth.tolist() == plan_truths(standins, row)
        sums = np.bincount(standins.place, standins.probability)
        np.testing.assert_allclose(sums, 1.0)
        assert (np.bincount(standins.place) >= 2).all()
        for m in range(len(standins.position)):
            mine = standins.alternative[standins.place == m]
            assert standins.truth[m] not in mine


def plan_truths(standins: object, row: np.ndarray) -> list[int]:
    return row[standins.position].tolist()  # type: ignore[attr-defined]


def test_a_stand_in_is_drawn_as_often_as_its_probability_says(successors: Successors) -> None:
    contexts = np.array([[1, 8, 27]] * 4000, dtype=np.uint16)
    drawn_ones = list(successors.draw(contexts, np.full(4000, 29), np.ones(4000, dtype=int), np.random.default_rng(1)))
    first = drawn_ones[0]
    assert first is not None
    counts = Counter(int(each.tokens[0]) for each in drawn_ones if each is not None)
    assert 29 not in counts
    for token, probability in zip(first.alternatives.tolist(), first.probabilities.tolist(), strict=True):
        assert counts[token] / 4000 == pytest.approx(probability, abs=0.04)


def test_a_context_that_is_nowhere_gives_way_to_a_shorter_one_or_to_none() -> None:
    rows = np.full((50, 20), 3, dtype=np.uint16)
    rows[:, 10] = np.arange(50) % 5
    found = Successors(rows)
    contexts = np.array([[9, 9, 3], [9, 9, 9]], dtype=np.uint16)
    shorter, none = found.draw(contexts, np.array([3, 3]), np.array([2, 2]), np.random.default_rng(1))
    assert shorter is not None
    assert set(shorter.alternatives.tolist()) == {0, 1, 2, 4}
    assert none is None


@pytest.mark.parametrize(
    ("rows", "T", "batch", "spare", "device"),
    [
        (1, 16, 1, 1, "cpu"),
        (3, 16, 3, 1, "cpu"),
        (16, 2048, 1, 4, "cpu"),
        (64, 64, 32, 16, "cpu"),
        (512, 128, 16, 128, "cpu"),
        (512, 128, 16, 288, "cpu"),
    ],
)
def test_tests_take_a_bounded_share_of_the_rows(rows: int, T: int, batch: int, spare: int, device: str) -> None:
    wanted = sizes(rows, T, batch, spare, CHECK_SHARE[device])
    extra = wanted.repeats + wanted.again + wanted.twins + wanted.standins
    assert extra <= max(CHECK_SHARE[device] * rows, 192, 4) + wanted.repeats + batch + min(288, 288 * 128 // T)
    assert (rows + wanted.again + wanted.twins + wanted.standins) % batch == 0
    if rows == 512:
        assert (extra, wanted.standins) == ({128: 288, 288: 448}[spare], spare)
        assert wanted.twins == 96
    rng = np.random.default_rng(1)
    plan = make_plan(text(rows, T, 2), text(spare, T, 3), pool(text(40, T, 1)), batch, CHECK_SHARE[device], V, rng)
    assert (plan.kind == Kind.SCORE).sum() == rows
    assert len(plan) == rows + extra


def test_a_second_look_sends_the_twin_and_its_original_among_others(successors: Successors) -> None:
    plan = drawn(successors, batch=24)
    twin, before = int(np.flatnonzero(plan.kind == Kind.TWIN)[3]), len(plan)
    plan.confirm(twin, np.random.default_rng(1))
    assert len(plan) % 24 == 0
    added = plan.inputs[before:][plan.kind[before:] == Kind.CONFIRM]
    originals = (added == plan.inputs[plan.first[twin]]).all(axis=1)
    twins = (added == plan.inputs[twin]).all(axis=1)
    assert (originals.sum(), twins.sum(), len(added)) == (CONFIRMING_ROWS, CONFIRMING_ROWS, 2 * CONFIRMING_ROWS)
    assert (plan.kind[before:] == Kind.FILLING).sum() == len(plan) - before - 2 * CONFIRMING_ROWS
