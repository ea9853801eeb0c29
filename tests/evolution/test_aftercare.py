from __future__ import annotations

from datetime import datetime, timezone

import pytest

from autoresearch_ray.config import Config
from autoresearch_ray.evolution.aftercare import attempts, crash_of, reflects, repairable
from autoresearch_ray.variant import Birth, Operator, Result, Status, Variant


def variant(number: int, operator: Operator, *parents: str) -> Variant:
    birth = Birth(number, str(number), 0, operator, 0)
    return Variant(birth, parents, number, "", "", datetime(2026, 1, 1, tzinfo=timezone.utc))


CHAIN = [
    variant(1, Operator.MUTATION, "0"),
    variant(2, Operator.REPAIR, "1"),
    variant(3, Operator.REPAIR, "2"),
]


def parent(number: int) -> Variant:
    return CHAIN[number - 2]


def test_repairs_in_a_row_are_counted() -> None:
    assert [attempts(each, parent) for each in CHAIN] == [0, 1, 2]


@pytest.mark.parametrize(("most", "mended"), [(0, [False] * 3), (1, [True, False, False]), (2, [True, True, False])])
def test_a_crash_is_given_back_so_many_times(most: int, mended: list[bool]) -> None:
    config = Config.model_validate({"llm": {"repair_attempts": most}})
    crash = Result(Status.CRASHED, "no", train_seconds=0.5)
    assert [repairable(each, crash, config, parent) for each in CHAIN] == mended


@pytest.mark.parametrize(
    ("status", "seconds", "operator", "mended"),
    [
        (Status.CRASHED, 0.0, Operator.MUTATION, True),
        (Status.CRASHED, 30.0, Operator.CROSSOVER, True),
        (Status.CRASHED, 31.0, Operator.MUTATION, False),
        (Status.TIMED_OUT, 0.0, Operator.MUTATION, False),
        (Status.LOST, 0.0, Operator.MUTATION, False),
        (Status.COMPLETED, 0.0, Operator.MUTATION, False),
        (Status.CRASHED, 0.0, Operator.PARAMETERS, False),
        (Status.CRASHED, 0.0, Operator.PERSON, False),
        (Status.CRASHED, 0.0, Operator.SEED, False),
    ],
)
def test_only_early_crashes_of_operators_that_read_are_mended(
    status: Status, seconds: float, operator: Operator, mended: bool
) -> None:
    result = Result(status, "no", train_seconds=seconds)
    assert repairable(variant(1, operator, "0"), result, Config(train_seconds=300), parent) is mended


def test_what_is_told_of_a_crash() -> None:
    told = crash_of(Result(Status.CRASHED, "why", log_tail="Traceback"))
    assert (told.reason, told.tail) == ("why", "Traceback")


def test_notes_are_due_after_so_many_births() -> None:
    config = Config.model_validate({"llm": {"reflect_every": 5}})
    assert [reflects(config, number, 3) for number in (4, 7, 8, 9)] == [False, False, True, True]
    assert not reflects(Config(), 500, 0)
