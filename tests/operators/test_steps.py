"""The operator `parameters`: every step is a real one, keeps what it must, and the step size adapts."""

from __future__ import annotations

import ast
import math
import re
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.steps import FIRST_STEP_SIZE, STEP_SIZES, mutate, step
from autoresearch_ray.operators.tunables import Kind, find, is_layers
from autoresearch_ray.variant import Birth, Operator, Usage, Variant, ast_hash, variant_id

steady = settings(deadline=None, derandomize=True)

SEED_SOURCE = (Path(__file__).parents[2] / "seed_model" / "train.py").read_text()
VARIED = """
DEPTH = 4  # layers
PATTERN = "SSSL"  # one of: SSSL, SSL, L
TOTAL = 2**19
BATCH: int = 64 * 1024
BETAS = (0.8, 0.95)
LR = 4e-2; DECAY = 0.0
WARMUP_RATIO, other = 0.0, 1
WARMDOWN_RATIO = 1.0
CAUTIOUS = True
WIDTH = 384
SHIFT = -0.5
OFFSET = -6
"""
sources = st.sampled_from([SEED_SOURCE, VARIED])
seeds = st.integers(0, 2**32)


def make_variant(source: str, step_size: float | None = None) -> Variant:
    birth = Birth(1, variant_id("run", 1), 0, Operator.PARAMETERS, 7)
    return Variant(birth, (), 0, source, "", datetime(2025, 3, 8, tzinfo=timezone.utc), step_size=step_size)


def proposed(source: str, seed: int, step_size: float | None = None) -> Proposal:
    proposal = mutate(make_variant(source, step_size), np.random.default_rng(seed))
    assert isinstance(proposal, Proposal)
    return proposal


def only_step(source: str, step_size: float, seed: int) -> object:
    (tunable,) = find(source)
    return step(tunable, step_size, np.random.default_rng(seed))


@steady
@given(sources, seeds, st.none() | st.floats(*STEP_SIZES))
def test_a_mutation_parses_and_keeps_every_name_type_and_kind(source: str, seed: int, step_size: float | None) -> None:
    proposal = proposed(source, seed, step_size)
    before, after = find(source), find(proposal.source)
    assert [t.key for t in after] == [t.key for t in before]
    assert [type(t.value) for t in after] == [type(t.value) for t in before]
    assert all(math.isfinite(t.value) for t in after if isinstance(t.value, float))
    for old, new in zip(before, after, strict=True):
        if old.kind in (Kind.UNIT, Kind.DOUBLING, Kind.CHOICE, Kind.FLAG):
            assert new.kind is old.kind
        if isinstance(old.value, (int, float)) and isinstance(new.value, (int, float)):
            assert old.value * new.value > 0 or old.value == 0 or isinstance(old.value, bool)


@steady
@given(sources, seeds)
def test_a_mutation_is_a_real_change_and_says_exactly_what_changed(source: str, seed: int) -> None:
    proposal = proposed(source, seed)
    assert ast_hash(proposal.source) != ast_hash(source)
    before, after = find(source), find(proposal.source)
    changed = [(o, n) for o, n in zip(before, after, strict=True) if o.text != n.text]
    assert all(old.value != new.value for old, new in changed)
    assert proposal.hypothesis == ", ".join(f"{old.key} {old.text} -> {new.text}" for old, new in changed)


@steady
@given(sources, seeds)
def test_nothing_but_the_literals_changes(source: str, seed: int) -> None:
    def blanked(text: str) -> str:
        for tunable in reversed(find(text)):
            text = text[: tunable.start] + "?" + text[tunable.end :]
        return text

    assert blanked(proposed(source, seed).source) == blanked(source)


@steady
@given(sources, seeds)
def test_a_mutation_depends_on_nothing_but_parent_and_seed(source: str, seed: int) -> None:
    assert proposed(source, seed, 0.2) == proposed(source, seed, 0.2)


def test_hundreds_of_generations_stay_within_bounds() -> None:
    source, step_size = VARIED, None
    for generation in range(400):
        proposal = proposed(source, generation, step_size)
        source, step_size = proposal.source, proposal.step_size
        ast.parse(source)
    values = {t.key: t.value for t in find(source)}
    assert all(0 < values[key] < 1 for key in ("BETAS[0]", "BETAS[1]", "WARMDOWN_RATIO"))
    assert values["PATTERN"] in ("SSSL", "SSL", "L")
    assert values["SHIFT"] < 0
    assert values["DEPTH"] >= 1


def test_most_mutations_step_one_or_two_literals() -> None:
    counts = [proposed(VARIED, seed).hypothesis.count("->") for seed in range(300)]
    assert 0.4 < counts.count(1) / 300 < 0.6
    assert 0.15 < counts.count(2) / 300 < 0.35
    assert max(counts) > 3


def test_every_literal_gets_its_turn() -> None:
    moved = {
        key for seed in range(400) for key in re.findall(r"(?:^|, )(\S+) [^,]+ ->", proposed(VARIED, seed).hypothesis)
    }
    assert moved == {tunable.key for tunable in find(VARIED)}


@pytest.mark.parametrize("source", ["x = 1\n", "SEED = 42\n", ""])
def test_without_a_literal_there_is_a_reason(source: str) -> None:
    failure = mutate(make_variant(source), np.random.default_rng(0))
    assert failure == Failure("The parent has no ALL_CAPS literal to step.", Usage())


def test_a_parent_that_does_not_parse_is_a_failure() -> None:
    failure = mutate(make_variant("DEPTH = "), np.random.default_rng(0))
    assert isinstance(failure, Failure)
    assert failure.reason.startswith("The parent does not parse: ")


# ---------------------------------------------------------------------------------------------------------------- steps


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("BATCH = 64", {32, 128}),
        ("BATCH = 1", {2}),
        ("BATCH = 2", {1, 4}),
        ("OFFSET = -4", {-8, -2}),
        ("BATCH = 2**59", {2**58}),
        ("FLAG = True", {False}),
        ("STEPS = 0", {1}),
        ("P = 'a'  # one of: a, b, c", {"b", "c"}),
        ("N = 2  # one of: 1, 2, 3", {1, 3}),
    ],
)
def test_discrete_steps(source: str, allowed: set[object]) -> None:
    assert {only_step(source, 0.5, seed) for seed in range(60)} == allowed


def test_layers_are_counted_one_by_one() -> None:
    steps = [only_step("DEPTH = 8", 0.05, seed) for seed in range(60)]
    assert set(steps) == {7, 9}
    assert {only_step("DEPTH = 1", 0.05, seed) for seed in range(60)} == {2}


@pytest.mark.parametrize(("value", "multiple"), [(384, 64), (640, 128), (12, 2), (100, 4), (10, 2), (7, 1), (6, 1)])
def test_an_integer_keeps_the_twos_that_it_is_divisible_by(value: int, multiple: int) -> None:
    steps = {only_step(f"WIDTH = {value}", size, seed) for size in (0.05, 0.5) for seed in range(60)}
    assert len(steps) > 2
    assert all(isinstance(new, int) and new > 0 and new != value and new % multiple == 0 for new in steps)


@steady
@given(st.floats(1e-9, 1e9), st.floats(*STEP_SIZES), seeds)
def test_a_scale_steps_by_more_than_rounding_and_at_most_a_factor_of_three(
    value: float, size: float, seed: int
) -> None:
    new = only_step(f"LR = {value!r}", size, seed)
    assert isinstance(new, float)
    assert 0.02 < abs(math.log(new / value)) < math.log(3) + 0.01
    assert float(f"{new:.3g}") == new


@steady
@given(st.floats(1e-5, 1 - 1e-5), st.floats(*STEP_SIZES), seeds)
def test_a_fraction_stays_in_the_unit_interval(value: float, size: float, seed: int) -> None:
    new = only_step(f"BETA2 = {value!r}", size, seed)
    assert isinstance(new, float)
    assert 0 < new < 1
    assert new != value


def test_a_fraction_near_one_steps_on_its_distance_from_one() -> None:
    distances = [math.log((1 - only_step("BETA = 0.99", 0.3, seed)) / 0.01) for seed in range(300)]
    assert 0.2 < np.std(distances) < 0.4
    assert abs(np.mean(distances)) < 0.1


@pytest.mark.parametrize(("source", "low", "high"), [("WD = 0.0", 1e-3, 1e-1), ("WARMUP = 0.0", 1e-3, 1e-1)])
def test_zero_is_left_for_a_small_magnitude(source: str, low: float, high: float) -> None:
    values = [only_step(source, 0.3, seed) for seed in range(60)]
    assert all(isinstance(value, float) and low * 0.99 <= value <= high * 1.01 for value in values)
    assert min(values) < 0.01 < max(values)


def test_one_is_left_inwards_by_a_fraction() -> None:
    assert all(0.89 < only_step("WARMDOWN = 1.0", 0.3, seed) < 1 for seed in range(60))


@steady
@given(seeds)
def test_no_step_returns_to_zero(seed: int) -> None:
    for source in ("LR = 1e-30", "COUNT = 1", "DEPTH = 1", "BETA = 1e-6", "SHIFT = -1e-30"):
        assert only_step(source, 1.0, seed) != 0


@steady
@given(st.floats(*STEP_SIZES), seeds)
def test_at_a_bound_the_step_goes_the_other_way(size: float, seed: int) -> None:
    assert only_step("LR = 1e-30", size, seed) > 1e-30
    assert only_step("LR = 1e18", size, seed) < 1e18
    assert only_step("BETA = 0.999999", size, seed) < 0.999999
    assert only_step("COUNT = 1_000_000_000_000_000_000", size, seed) < 10**18


# ------------------------------------------------------------------------------------------------------------ step size


def test_the_step_size_is_inherited_and_mutated_log_normally() -> None:
    ratios = np.log([proposed(VARIED, seed, 0.2).step_size / 0.2 for seed in range(300)])
    expected = 1 / math.sqrt(len(find(VARIED)))
    assert abs(np.mean(ratios)) < 4 * expected / math.sqrt(300)
    assert 0.8 * expected < np.std(ratios) < 1.2 * expected


def test_without_an_inherited_step_size_the_first_one_is_taken() -> None:
    sizes = [proposed(VARIED, seed).step_size for seed in range(300)]
    assert math.isclose(np.exp(np.mean(np.log(sizes))), FIRST_STEP_SIZE, rel_tol=0.05)


@pytest.mark.parametrize("extreme", [1e-9, 1e9])
def test_the_step_size_is_bounded(extreme: float) -> None:
    assert proposed(SEED_SOURCE, 0, extreme).step_size in STEP_SIZES


def test_the_new_step_size_is_the_one_used() -> None:
    """A child with a larger step size has made larger steps: that is how selection adapts it."""
    pairs = []
    for seed in range(2000):
        proposal = proposed("LR = 1.0\n", seed, 0.2)
        (tunable,) = find(proposal.source)
        pairs.append((math.log(proposal.step_size), abs(math.log(tunable.value))))
    assert np.corrcoef(np.array(pairs).T)[0, 1] > 0.3


def test_depth_is_a_count_in_the_seed_model() -> None:
    assert [t.key for t in find(SEED_SOURCE) if is_layers(t.name)] == ["DEPTH"]
