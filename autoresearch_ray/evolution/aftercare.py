"""What a birth may be followed by besides its row: the repair of an early crash, and new notes. Pure decisions.

Does not own how they are carried out (driver.py, operators/), or what they are told (breeding.py).
"""

from __future__ import annotations

from collections.abc import Callable

from autoresearch_ray.config import Config
from autoresearch_ray.operators.request import Crash
from autoresearch_ray.variant import Operator, Result, Status, Variant

EARLY = 0.1
"""A crash within this share of the training budget, start-up included, is one that a look at the code can mend."""
MENDED = (Operator.MUTATION, Operator.CROSSOVER, Operator.REPAIR)
"""Whose crashes are given back; a number turned too far says nothing that is worth tokens."""


def attempts(variant: Variant, parent: Callable[[int], Variant]) -> int:
    """Return how many repairs in a row have led to a variant; `parent` returns that of a birth, by its number."""
    count = 0
    while variant.birth.operator is Operator.REPAIR:
        count += 1
        variant = parent(variant.birth.number)
    return count


def repairable(variant: Variant, result: Result, config: Config, parent: Callable[[int], Variant]) -> bool:
    """Return whether a crash is to be given back: early, of an operator that reads, and not too often."""
    return (
        result.status is Status.CRASHED
        and variant.birth.operator in MENDED
        and result.train_seconds <= EARLY * config.train_seconds
        and attempts(variant, parent) < config.llm.repair_attempts
    )


def crash_of(result: Result) -> Crash:
    """Return what whoever mends a crash is told of it."""
    return Crash(result.reason, result.log_tail)


def reflects(config: Config, number: int, last: int) -> bool:
    """Return whether notes are due before a birth; `last` is the number of the birth before which they were written."""
    every = config.llm.reflect_every
    return every is not None and number - last >= every
