from __future__ import annotations

import re
from pathlib import Path

import pytest

from autoresearch_ray.training.preflight import (
    LARGEST_SOURCE,
    Inspected,
    inspect,
    inspect_reported,
    inspector,
    refusal,
)
from autoresearch_ray.variant import ast_hash, source_hash

GOOD = """
from prepare import evaluate_bpb, make_dataloader
for x, y in make_dataloader(4, 16):
    pass
evaluate_bpb(None)
"""
SEED_MODEL = Path(__file__).parents[2] / "seed_model" / "train.py"


@pytest.mark.parametrize(
    "source",
    [
        GOOD,
        "import prepare\nprepare.make_dataloader(1, 2)\nprepare.evaluate_bpb(None)",
        "import prepare as p\np.make_dataloader(1, 2)\np.evaluate_bpb(None)",
        "from prepare import *\nmake_dataloader(1, 2)\nevaluate_bpb(None)",
        "from prepare import make_dataloader as d, evaluate_bpb as e\nd(1, 2)\ne(None)",
        SEED_MODEL.read_text(encoding="utf-8"),
    ],
)
def test_what_may_be_trained(source: str) -> None:
    assert refusal(source) is None
    assert inspect(source).identity == ast_hash(source)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "does not use make_dataloader and evaluate_bpb"),
        ("def f(:", "does not parse: .*line 1"),
        (GOOD + "\nreturn 3", "does not parse: 'return' outside function"),
        (GOOD + "\x00", "does not parse"),
        ("(" * 5000 + ")" * 5000, "does not parse"),
        (GOOD + "x = '\ud800'", "not valid Unicode"),
        (GOOD + "#" * LARGEST_SOURCE, "at most 131072 are allowed"),
        (GOOD.replace("evaluate_bpb(None)", ""), "does not use evaluate_bpb"),
        (GOOD.replace("prepare", "mine"), "does not use make_dataloader and evaluate_bpb"),
    ],
)
def test_what_may_not(source: str, words: str) -> None:
    reason = refusal(source)
    assert reason is not None
    assert re.search(words, reason)


def test_the_same_program_in_other_words_has_the_same_identity() -> None:
    assert inspect("# a comment\n" + GOOD).identity == inspect(GOOD).identity
    assert inspect(GOOD + "\nx = 1").identity != inspect(GOOD).identity
    assert inspect("def f(:").identity is None


def test_nothing_is_run_and_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(GOOD + "\nprint(1 is 1)\nraise SystemExit") is None
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("source", ["", "print('---')", GOOD])
def test_a_program_that_reports_needs_no_prepare(source: str) -> None:
    assert inspect_reported(source, "solve.py") == Inspected(None, ast_hash(source))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def f(:", "does not parse: .*line 1"),
        ("return 3", "does not parse: 'return' outside function"),
        ("x = '\ud800'", "not valid Unicode"),
        ("#" * (LARGEST_SOURCE + 1), "at most 131072 are allowed"),
    ],
)
def test_what_may_not_report(source: str, words: str) -> None:
    found = inspect_reported(source, "solve.py")
    assert found.identity is None
    assert found.refusal is not None
    assert re.search(words, found.refusal)


def test_other_languages_are_not_parsed_and_differ_by_their_text() -> None:
    assert inspect_reported("def f(:", "solve.sh") == Inspected(None, source_hash("def f(:"))
    assert inspect_reported("# a\nx", "solve.sh").identity != inspect_reported("# b\nx", "solve.sh").identity
    assert inspect_reported("\ud800", "solve.sh").identity is None
    assert "at most" in (inspect_reported("x" * (LARGEST_SOURCE + 1), "solve.sh").refusal or "")


def test_the_configuration_says_how_variants_are_looked_at() -> None:
    assert inspector("train.py", scored=True)("x = 1").refusal is not None
    assert inspector("train.py", scored=False)("x = 1").refusal is None
    assert inspector("a.sh", scored=False)("x (").refusal is None
