from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch_ray.training.limits import Moments, SizeLimits, SupervisorSettings, Verdict, overdue
from autoresearch_ray.variant import Status

SETTINGS = SupervisorSettings(
    Path("data"), Path("prepare.py"), train_seconds=100.0, startup_seconds=30.0, scoring_seconds=40.0
)


@pytest.mark.parametrize(
    ("moments", "now", "clock", "words"),
    [
        (Moments(1000.0), 1030.0, 0.0, None),
        (Moments(1000.0), 1031.0, 0.0, "drew no batch within 30 s"),
        (Moments(1000.0, first_batch=1020.0), 1130.0, 105.0, None),
        (Moments(1000.0, first_batch=1020.0), 1130.0, 105.5, "did not call evaluate_bpb within 5 s of the end"),
        (Moments(1000.0, first_batch=1020.0), 1330.0, 2.0, None),
        (Moments(1000.0, first_batch=1020.0), 2051.0, 2.0, "longer than 1030 s of wall-clock time.* counted 2.0 s"),
        (Moments(1000.0, first_batch=1020.0, evaluate=1200.0), 1201.0, 105.5, None),
        (
            Moments(1000.0, first_batch=1020.0, evaluate=1200.0),
            1201.0,
            105.6,
            "but gave no logits within 5.5 s of the end",
        ),
        (Moments(1000.0, first_batch=1020.0, evaluate=1200.0, answered=1201.0), 1240.0, 999.0, None),
        (Moments(1000.0, first_batch=1020.0, evaluate=1200.0), 1241.0, 0.0, "scoring took longer than 40 s"),
        (Moments(1000.0, evaluate=1001.0, scored=1002.0), 9999.0, 0.0, None),
    ],
)
def test_who_is_late(moments: Moments, now: float, clock: float, words: str | None) -> None:
    verdict = overdue(SETTINGS, moments, now, clock)
    if words is None:
        assert verdict is None
    else:
        assert verdict is not None
        assert verdict.status is Status.TIMED_OUT
        assert re.search(words, verdict.reason)


def test_short_trainings_get_a_grace_of_seconds() -> None:
    short, long = SupervisorSettings(Path(), train_seconds=10.0, prepare=Path()), replace(SETTINGS, train_seconds=300.0)
    assert [short.grace(step) for step in (0.0, 0.1, 0.5, 100.0)] == [0.5, 0.5, 1.5, 3.0]
    assert [long.grace(step) for step in (0.0, 1.0, 100.0)] == [15.0, 15.0, 15.0]
    assert replace(short, grace_seconds=0.7).grace(100.0) == 0.7


def test_a_gpu_may_have_to_compile_before_the_first_logits() -> None:
    asked = Moments(1000.0, first_batch=1020.0, evaluate=1125.0)
    on_gpu = replace(SETTINGS, device="cuda")
    assert overdue(on_gpu, asked, 1126.0, 134.0) is None
    verdict = overdue(on_gpu, asked, 1126.0, 136.0)
    assert verdict is not None
    assert "gave no logits within 35 s" in verdict.reason


def test_a_training_that_waits_ends_too() -> None:
    assert SupervisorSettings(Path(), Path(), train_seconds=1.0).longest_training == 40.0


@pytest.mark.parametrize(
    ("limits", "memory", "parameters", "verdict"),
    [
        (SizeLimits(), 10**15, 10**15, None),
        (SizeLimits(2**30, 1e6), None, None, None),
        (SizeLimits(2**30, 1e6), 2**30, 10**6, None),
        (SizeLimits(2**30, 1e6), 2**31, 10**9, (Status.CRASHED, "used 2.00 GB of memory; limits.peak_memory_gb is 1")),
        (SizeLimits(None, 1.5e6), 1, 1_510_000, (Status.REJECTED, "has 1.51 M parameters; limits.parameters_M is 1.5")),
    ],
)
def test_what_is_too_large(
    limits: SizeLimits, memory: int | None, parameters: int | None, verdict: tuple[Status, str] | None
) -> None:
    assert limits.verdict(memory, parameters) == (None if verdict is None else Verdict(*verdict))
