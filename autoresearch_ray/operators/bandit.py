"""Which language model to ask: a bandit over what their variants brought and what they cost. Pure and seeded.

Does not own what counts as a win (the caller says), or whether a model answers at all (bench.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXPLORED = 0.1
"""This share of the choices is by weight alone, so that a model which was unlucky, or has become better, is seen."""
MEMORY = 0.98
"""What an outcome counts after each later one: all models win less often as a search goes on."""
_DRAWS = 256
_SMALLEST_USD = 1e-6


@dataclass(frozen=True, slots=True)
class Arm:
    """What is known of one model."""

    weight: float
    usd: float
    """What a birth with it costs on average, calls and training."""
    wins: float = 0.0
    """Births that beat their parents, each by the probability that it did; faded."""
    losses: float = 0.0

    def faded(self) -> Arm:
        """Return the arm with its outcomes counted less."""
        return Arm(self.weight, self.usd, MEMORY * self.wins, MEMORY * self.losses)


def chances(arms: Sequence[Arm], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return with which probability each model is to be asked: by weight, and by how likely it is the best choice.

    The best is the one with the most wins a dollar. Its probability is that under the beta distributions of all arms
    (Thompson sampling; Chapelle and Li 2011), times the weight. Without outcomes, at equal costs, the weights decide.

    Args:
        arms: at least one.
        rng: draws from the beta distributions.
    """
    weights = np.array([arm.weight for arm in arms])
    weights = weights / weights.sum()
    wins = np.array([arm.wins for arm in arms])
    losses = np.array([arm.losses for arm in arms])
    usd = np.array([max(arm.usd, _SMALLEST_USD) for arm in arms])
    drawn = rng.beta(1 + wins, 1 + losses, size=(_DRAWS, len(arms))) / usd
    best = np.bincount(drawn.argmax(axis=1), minlength=len(arms)) / _DRAWS
    favoured = weights * best
    total = favoured.sum()
    chosen: NDArray[np.float64] = EXPLORED * weights + (1 - EXPLORED) * (favoured / total if total > 0 else weights)
    return chosen


def win(gain: float | None, error: float | None) -> float:
    """Return the probability that a variant is better than its parent; 0 for one that has no score.

    Args:
        gain: how much better it scored, positive is better; None without a score.
        error: standard error of the gain; None or 0 takes the gain as it is.
    """
    if gain is None:
        return 0.0
    if not error:
        return float(gain > 0)
    return 0.5 * (1 + math.erf(gain / error / math.sqrt(2)))
