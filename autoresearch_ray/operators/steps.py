"""Random steps on numeric literals of one parent, their size inherited and mutated: what needs no experience.

An evolution strategy with one log-normally self-adapted step size (Schwefel; Beyer and Schwefel 2002). Does not own
what a literal is or how it is written (tunables.py), nor the learning from what was trained (parameters.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.tunables import (
    LARGEST,
    Kind,
    Tunable,
    Value,
    find,
    is_layers,
    quantum,
    render,
    tidy,
    write,
)
from autoresearch_ray.variant import Variant

FIRST_STEP_SIZE = 0.3
"""Standard deviation of the log step of a lineage's first child. The steps on constants that autoresearch kept have a
median of 0.34: half as much again, a third less."""
STEP_SIZES = (0.05, 1.0)
"""Bounds of the step size; below, no step could be told from the noise of training."""

_LOG_STEP_BOUNDS = (0.03, math.log(3))
_SCALE_BOUNDS = (1e-30, float(LARGEST))
_UNIT_BOUNDS = (1e-6, 1 - 1e-6)
_LEAVING_ZERO = (1e-3, 1e-1)


def mutate(parent: Variant, rng: np.random.Generator) -> Proposal | Failure:
    """Step a few literals of the parent: one half of the time, two a quarter, and so on.

    The step size is inherited, mutated first and then used, so that a child which survives has proved it. Each chosen
    literal really changes, keeps its type and sign, and stays where its `Kind` allows. Zero is left for a small
    magnitude (1 for an integer), and no step returns to it: only a crossover can bring a zero back, from a relative
    that still has it.
    """
    try:
        tunables = find(parent.source)
    except SyntaxError as error:
        return Failure(f"The parent does not parse: {error.msg}.")
    if not tunables:
        return Failure("The parent has no ALL_CAPS literal to step.")
    step_size = _mutated_step_size(parent.step_size, len(tunables), rng)
    chosen = np.sort(rng.permutation(len(tunables))[: rng.geometric(0.5)])
    texts, changes = {}, []
    for tunable in (tunables[index] for index in chosen):
        text = render(tunable, step(tunable, step_size, rng))
        texts[tunable.key] = text
        changes.append(f"{tunable.key} {tunable.text} -> {text}")
    return Proposal(write(parent.source, tunables, texts), ", ".join(changes), step_size=step_size)


def step(tunable: Tunable, step_size: float, rng: np.random.Generator) -> Value:
    """Return another value for a literal: of its type, never the same, about `step_size` (log scale) away.

    Steps of less than 3 % are taken as 3 %, so that they survive rounding to three digits; none exceeds a factor of
    three, except that integers move by at least one and powers of two by exactly a factor of two.
    """
    value = tunable.value
    if tunable.kind is Kind.CHOICE:
        others = [choice for choice in tunable.choices if choice != value]
        return others[rng.integers(len(others))]
    if isinstance(value, bool):
        return not value
    assert not isinstance(value, str)
    draw = rng.normal()
    delta = math.copysign(np.clip(abs(step_size * draw), *_LOG_STEP_BOUNDS), draw)
    if value == 0:
        return 1 if isinstance(value, int) else _leave_zero(rng)
    if isinstance(value, int):
        move = _double if tunable.kind is Kind.DOUBLING else _counter(is_layers(tunable.name))
        magnitude: float = _moved(move, abs(value), delta)
        return int(math.copysign(magnitude, value))
    if tunable.kind is Kind.UNIT:
        return tidy(1 - _leave_zero(rng), Kind.UNIT) if value == 1 else _moved(_shift_log_odds, value, delta)
    return math.copysign(_moved(_scale, abs(value), delta), value)


def _mutated_step_size(inherited: float | None, dimensions: int, rng: np.random.Generator) -> float:
    learning_rate = min(0.5, 1 / math.sqrt(dimensions))
    step_size = (inherited or FIRST_STEP_SIZE) * math.exp(learning_rate * rng.normal())
    return float(np.clip(step_size, *STEP_SIZES))


def _moved(move: Callable[[float, float], float], value: float, delta: float) -> float:
    """Move by `delta`, or the other way where a bound forbids it."""
    moved = move(value, delta)
    return moved if moved != value else move(value, -delta)


def _double(value: float, delta: float) -> float:
    if delta > 0:
        return value * 2 if value * 2 <= LARGEST else value
    return max(value // 2, 1)


def _counter(layers: bool) -> Callable[[float, float], float]:
    """Return the step of an integer: in whole quanta, so that 384 stays a multiple of 64 and divisible into heads."""

    def move(value: float, delta: float) -> float:
        unit = 1 if layers else quantum(int(value))
        moved = round(value * math.exp(delta) / unit) * unit
        if moved == value:
            moved = int(value + math.copysign(unit, delta))
        return moved if 1 <= moved <= LARGEST else value

    return move


def _scale(value: float, delta: float) -> float:
    return float(np.clip(tidy(value * math.exp(delta), Kind.SCALE), *_SCALE_BOUNDS))


def _shift_log_odds(value: float, delta: float) -> float:
    odds = value / (1 - value) * math.exp(delta)
    return tidy(float(np.clip(odds / (1 + odds), *_UNIT_BOUNDS)), Kind.UNIT)


def _leave_zero(rng: np.random.Generator) -> float:
    return tidy(math.exp(rng.uniform(*np.log(_LEAVING_ZERO))), Kind.SCALE)
