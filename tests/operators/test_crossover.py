"""The three-way merge: literals one by one, lines as diff3, conflicts settled at random but reproducibly."""

from __future__ import annotations

import ast
import math
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_ray.operators.crossover import Merged, merge, merge_sources
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.steps import mutate
from autoresearch_ray.operators.tunables import Kind, Tunable, find
from autoresearch_ray.variant import Birth, Operator, Variant, ast_hash

steady = settings(deadline=None, derandomize=True)

SEED_SOURCE = (Path(__file__).parents[2] / "seed_model" / "train.py").read_text()
VARIED = """
DEPTH = 4
PATTERN = "SSSL"  # one of: SSSL, SSL, L
TOTAL = 2**19
BETAS = (0.8, 0.95)
LR = 4e-2; DECAY = 0.0
WARMDOWN = 1.0
CAUTIOUS = True
WIDTH = 384
SHIFT = -0.5
"""
seeds = st.integers(0, 2**32)
programs = st.lists(
    st.sampled_from(["LR = 0.1\n", "x = 1\n", "y = 2\n", "if x:\n    y = 3\n", "\n", "B = 4\n"]), max_size=8
)


def make_variant(number: int, source: str, step_size: float | None = None) -> Variant:
    birth = Birth(number, f"{number:06d}abcdef", 0, Operator.PARAMETERS, number)
    return Variant(birth, (), 0, source, "", datetime(2025, 3, 8, tzinfo=timezone.utc), step_size=step_size)


def merged_with(first: str, second: str, ancestor: str, seed: int = 0) -> Merged:
    return merge_sources(first, second, ancestor, np.random.default_rng(seed))


def outcomes(first: str, second: str, ancestor: str) -> set[str]:
    return {merged_with(first, second, ancestor, seed).source for seed in range(60)}


def crossed(first: str, second: str, ancestor: str, seed: int = 0) -> Proposal | Failure:
    parents = (make_variant(1, first), make_variant(2, second), make_variant(0, ancestor))
    return merge(*parents, np.random.default_rng(seed))


def descend(source: str, seed: int, generations: int = 3) -> str:
    for generation in range(generations):
        proposal = mutate(make_variant(0, source), np.random.default_rng([seed, generation]))
        assert isinstance(proposal, Proposal)
        source = proposal.source
    return source


# ------------------------------------------------------------------------------------------------------------- literals


def test_each_literal_comes_from_the_side_that_changed_it() -> None:
    merged = merged_with("A = 0.2\nB = 3\nC = 5", "A = 0.1\nB = 6\nC = 5", "A = 0.1\nB = 3\nC = 5")
    assert merged.source == "A = 0.2\nB = 6\nC = 5"
    assert merged.literals == (("A", "0.2", "first"), ("B", "6", "second"))
    assert merged.hunks == ()


def test_literals_on_one_line_do_not_conflict() -> None:
    ancestor = "BETAS = (0.8, 0.95); LR = 0.1\n"
    merged = merged_with("BETAS = (0.7, 0.95); LR = 0.1\n", "BETAS = (0.8, 0.99); LR = 0.3\n", ancestor)
    assert merged.source == "BETAS = (0.7, 0.99); LR = 0.3\n"


def test_a_literal_merges_though_the_text_beside_it_changed() -> None:
    merged = merged_with("LR = 0.2\n", "# tuned\nLR = 0.1  # of Muon\n", "LR = 0.1\n")
    assert merged.source == "# tuned\nLR = 0.2  # of Muon\n"


def test_a_literal_that_both_changed_is_from_either_or_from_between() -> None:
    assert outcomes("LR = 0.4\n", "LR = 0.9\n", "LR = 0.1\n") == {"LR = 0.4\n", "LR = 0.9\n", "LR = 0.6\n"}


def test_the_same_change_on_both_sides_stays() -> None:
    merged = merged_with("LR = 0.4\nB = 3\n", "LR = 0.4\nB = 4\n", "LR = 0.1\nB = 3\n")
    assert merged.literals == (("LR", "0.4", "both"), ("B", "4", "second"))


@pytest.mark.parametrize(
    ("ancestor", "first", "second", "middle"),
    [
        ("B = 64", "B = 32", "B = 128", "B = 64"),
        ("B = 2**10", "B = 2**8", "B = 2**13", "B = 2**10"),
        ("B = 8", "B = 16", "B = 32", None),  # no power of two between
        ("DEPTH = 3", "DEPTH = 4", "DEPTH = 9", "DEPTH = 6"),
        ("DEPTH = 3", "DEPTH = 4", "DEPTH = 5", None),
        ("WIDTH = 384", "WIDTH = 320", "WIDTH = 640", "WIDTH = 448"),  # keeps the multiple of 64
        ("LR = 0.1", "LR = 0.01", "LR = 0.04", "LR = 0.02"),
        ("S = -0.1", "S = -0.01", "S = -0.04", "S = -0.02"),
        ("WD = 0.1", "WD = 0.0", "WD = 0.2", "WD = 0.1"),
        ("S = 0.1", "S = -0.2", "S = 0.4", "S = 0.1"),
        ("BETA = 0.9", "BETA = 0.99", "BETA = 0.9999", "BETA = 0.999"),
        ("P = 'a'  # one of: a, b, c", "P = 'b'  # one of: a, b, c", "P = 'c'  # one of: a, b, c", None),
        ("X = 1.0", "X = 2", "X = 8.0", None),  # of different types
    ],
)
def test_midpoints(ancestor: str, first: str, second: str, middle: str | None) -> None:
    assert outcomes(first, second, ancestor) == {first, second} | ({middle} if middle else set())


@pytest.mark.parametrize("source", [SEED_SOURCE, VARIED], ids=["seed model", "varied"])
def test_every_literal_of_many_merges_is_from_a_parent_or_between(source: str) -> None:
    relatives = [descend(source, seed) for seed in range(12)]
    known = {text: {tunable.key: tunable for tunable in find(text)} for text in (source, *relatives)}
    rng = np.random.default_rng(0)
    for seed in range(80):
        first, second = rng.choice(relatives, size=2, replace=False)
        merged = merged_with(first, second, source, seed)
        tables = [{t.key: t for t in find(merged.source)}, known[first], known[second], known[source]]
        assert all(table.keys() == tables[3].keys() for table in tables)
        origins = {key: origin for key, _, origin in merged.literals}
        for key in tables[0]:
            check_literal(*(table[key] for table in tables), origins.get(key))


def check_literal(new: Tunable, ours: Tunable, theirs: Tunable, base: Tunable, origin: str | None) -> None:
    assert type(new.value) is type(base.value)
    if ours.text == base.text:
        assert new.text == theirs.text
    elif theirs.text == base.text:
        assert new.text == ours.text
    elif origin == "between":
        assert min(ours.value, theirs.value) < new.value < max(ours.value, theirs.value)
        assert new.kind is Kind.DOUBLING or ours.kind is not Kind.DOUBLING
    else:
        assert new.text == (theirs if origin == "second" else ours).text


# ---------------------------------------------------------------------------------------------------------------- lines

LINES = "import a\n\n\ndef f(x):\n    y = x + 1\n    return y\n\n\nprint(f(1))\n"


def test_changes_of_different_lines_merge() -> None:
    first = LINES.replace("x + 1", "x + 2")
    second = LINES.replace("print(f(1))", "print(f(2))\nprint(f(3))").replace("import a\n", "")
    merged = merged_with(first, second, LINES)
    assert merged.source == second.replace("x + 1", "x + 2")
    assert merged.hunks == ("second", "first", "second")


def test_changes_that_only_touch_merge() -> None:
    merged = merged_with(LINES.replace("x + 1", "x + 2"), LINES.replace("return y", "return -y"), LINES)
    assert merged.source == LINES.replace("x + 1", "x + 2").replace("return y", "return -y")


def test_an_insertion_beside_a_change_merges() -> None:
    second = LINES.replace("    y = x + 1\n", "    y = x + 1\n    y *= 2\n")
    assert merged_with(LINES.replace("x + 1", "x + 2"), second, LINES).source == second.replace("x + 1", "x + 2")


def test_the_same_change_of_lines_is_made_once() -> None:
    both = LINES.replace("    return y\n", "    y += 1\n    return y\n")
    merged = merged_with(both, both.replace("import a", "import b"), LINES)
    assert merged.source == both.replace("import a", "import b")
    assert merged.hunks == ("second", "both")


def test_overlapping_changes_are_taken_whole_from_one_side() -> None:
    first = LINES.replace("    y = x + 1\n    return y\n", "    z = x + 2\n    return z\n")
    second = LINES.replace("x + 1", "x - 1").replace("import a", "import b")
    assert outcomes(first, second, LINES) == {first.replace("import a", "import b"), second}


def test_two_insertions_at_one_place_are_a_conflict() -> None:
    first, second = LINES + "print(2)\n", LINES + "print(3)\n"
    assert outcomes(first, second, LINES) == {first, second}


def test_a_long_change_swallows_the_short_ones_that_it_overlaps() -> None:
    ancestor = "".join(f"x{i} = f({i})\n" for i in range(9))
    first = ancestor.replace("x1 = f(1)\nx2 = f(2)\nx3 = f(3)\nx4 = f(4)\n", "y = g()\n")
    second = ancestor.replace("f(1)", "h(1)").replace("f(3)", "h(3)").replace("f(7)", "h(7)")
    assert outcomes(first, second, ancestor) == {first.replace("f(7)", "h(7)"), second}


@pytest.mark.parametrize("ends", [(a, b, c) for a in ("", "\n") for b in ("", "\n") for c in ("", "\n")])
def test_the_end_of_the_file_merges_too(ends: tuple[str, str, str]) -> None:
    first, second, ancestor = ("print(1)" + end for end in ends)
    changed = second if second != ancestor else first
    assert merged_with(first, second, ancestor).source == changed


@steady
@given(programs, programs, seeds)
def test_merging_with_the_ancestor_gives_the_other_side(ancestor: list[str], other: list[str], seed: int) -> None:
    base, changed = "".join(ancestor), "".join(other)
    assert merged_with(changed, base, base, seed).source == changed
    assert merged_with(base, changed, base, seed).source == changed
    assert merged_with(changed, changed, base, seed).source == changed


# --------------------------------------------------------------------------------------------------------- the operator


@steady
@given(programs, programs, programs, seeds)
def test_a_merge_parses_and_differs_from_its_parents_or_is_a_failure(
    first: list[str], second: list[str], ancestor: list[str], seed: int
) -> None:
    sources = ["".join(lines) for lines in (first, second, ancestor)]
    outcome = crossed(*sources, seed)
    assert outcome == crossed(*sources, seed)
    if isinstance(outcome, Proposal):
        ast.parse(outcome.source)
        assert ast_hash(outcome.source) not in (ast_hash(sources[0]), ast_hash(sources[1]))
    else:
        assert outcome.reason.startswith("The merge of 000001 and 000002 ")


def test_merges_of_the_seed_model_are_almost_always_new_programs() -> None:
    relatives = [descend(SEED_SOURCE, seed) for seed in range(8)]
    outcomes = [crossed(relatives[i], relatives[i + 1], SEED_SOURCE, i) for i in range(7)]
    assert sum(isinstance(outcome, Proposal) for outcome in outcomes) >= 6


def test_the_hypothesis_says_what_came_from_whom() -> None:
    first = "LR = 0.4\nB = 8\nD = 3\nx = 1\nk()\ny = 1\nk()\nz = 1\n"
    second = "LR = 0.1\nB = 16\nD = 3\nx = 0\nk()\ny = 2\nk()\nz = 2\n"
    ancestor = "LR = 0.1\nB = 8\nD = 3\nx = 0\nk()\ny = 1\nk()\nz = 1\n"
    outcome = crossed(first, second, ancestor)
    assert isinstance(outcome, Proposal)
    assert outcome.source == "LR = 0.4\nB = 16\nD = 3\nx = 1\nk()\ny = 2\nk()\nz = 2\n"
    assert outcome.hypothesis == (
        "merge of 000001 and 000002: LR 0.4 (000001), B 16 (000002), 1 other change (000001), 2 other changes (000002)"
    )


def test_the_same_program_as_a_parent_is_a_failure_with_its_name() -> None:
    failure = crossed("LR = 0.4\n", "LR = 0.1  # as before\n", "LR = 0.1\n")
    assert failure == Failure("The merge of 000001 and 000002 is the same program as 000001.")


def test_another_settlement_is_tried_before_giving_up() -> None:
    proposals = [crossed("LR = 0.4\n", "LR = 0.9\n", "LR = 0.1\n", seed) for seed in range(40)]
    assert sum(isinstance(outcome, Proposal) for outcome in proposals) > 25


def test_a_merge_that_never_parses_is_a_failure() -> None:
    """Both sides parse, and so does neither combination: one opened a bracket where the other closed it."""
    ancestor = "x = (\n1,\n2,\n3,\n4,\n)\n"
    first, second = ancestor.replace("2,", "2, ("), ancestor.replace("4,", "4),")
    first, second = first.replace("4,\n)", "4,)\n)"), second.replace("x = (", "x = ((")
    assert crossed(first, second, ancestor) == Failure("The merge of 000001 and 000002 does not parse.")


def test_a_parent_that_does_not_parse_is_a_failure() -> None:
    assert crossed("x = 1\n", "x = (\n", "x = 2\n") == Failure("The merge of 000001 and 000002 does not parse.")


def test_a_name_that_only_one_side_has_merges_as_text() -> None:
    merged = merged_with("A = 1.5\nNEW = 2.5\n", "A = 3.5\n", "A = 1.0\n")
    assert merged.source in ("A = 1.5\nNEW = 2.5\n", "A = 3.5\nNEW = 2.5\n", "A = 2.29\nNEW = 2.5\n")
    assert merged.hunks == ("first",)
    assert merged_with("B = 2\n", "A = 3.5\nB = 2\n", "A = 1.0\nB = 2\n", 1).hunks


def test_a_choice_whose_list_changed_merges_as_text() -> None:
    first, second = 'P = "c"  # one of: c, d\nB = 3\n', 'P = "a"  # one of: a, b\nB = 6\n'
    merged = merged_with(first, second, 'P = "a"  # one of: a, b\nB = 3\n')
    assert merged.source == 'P = "c"  # one of: c, d\nB = 6\n'
    assert merged.literals == (("B", "6", "second"),)


def test_a_literal_that_a_conflict_doubled_is_not_claimed() -> None:
    """One side moved the line, the other explained it; taking the explanation leaves both lines, to be bound twice."""
    ancestor, moved, explained = "B = 3\nf()\ng()\n", "f()\ng()\nB = 6\n", "B = 3  # rows\nf()\ng()\n"
    results = {
        merged.source: merged.literals for merged in (merged_with(moved, explained, ancestor, n) for n in range(20))
    }
    assert results == {moved: (("B", "6", "first"),), "B = 3  # rows\nf()\ng()\nB = 3\n": ()}


def test_the_step_size_is_the_geometric_mean() -> None:
    def step_size(first: float | None, second: float | None) -> float | None:
        ancestor = make_variant(0, "A = 0.5\nB = 0.5\n")
        parents = make_variant(1, "A = 0.6\nB = 0.5\n", first), make_variant(2, "A = 0.5\nB = 0.6\n", second)
        outcome = merge(*parents, ancestor, np.random.default_rng(0))
        assert isinstance(outcome, Proposal)
        return outcome.step_size

    combined = step_size(0.1, 0.4)
    assert combined is not None
    assert math.isclose(combined, 0.2)
    assert step_size(None, 0.3) == pytest.approx(0.3)
    assert step_size(None, None) is None


def test_both_parents_matter_equally() -> None:
    origins = [merged_with("LR = 0.4\n", "LR = 0.9\n", "LR = 0.1\n", seed).literals[0][2] for seed in range(600)]
    assert all(150 < origins.count(origin) < 250 for origin in ("first", "second", "between"))
