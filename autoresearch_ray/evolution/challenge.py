"""The title: who is confirmed best, who challenges it, and the verdict on fresh seeds. One fold, live and on replay.

Owns the test. Does not own who is worth a challenge or when (verification.py), or rows (records.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any

from scipy import special

from autoresearch_ray.evolution import sequential
from autoresearch_ray.evolution.noise import Noise
from autoresearch_ray.variant import count_nodes

FIRST_LOOK = 2
"""Pairs of trainings before the first look: one pair says nothing of its own noise."""
ERROR = 0.02
"""Chance that a challenger which is no better wins, over all looks of its challenge, for a sigma that is estimated from
scores at random. The promise is 5 %: who is trained again depends on the scores so far, so sigma now and then comes out
far too small, and over the whole path (benchmarks/aa.py) equals win half again to twice as often as this."""
_HOPE = 0.05
_AS_GOOD = 1.0


class Outcome(str, Enum):
    """How a challenge ended."""

    PROMOTED = "promoted"
    """The challenger is better, so likely as is asked for: the new champion."""
    SIMPLER = "simpler"
    """Too close to tell, and the challenger has fewer AST nodes: the new champion."""
    KEPT = "kept"
    """Not shown to be better."""
    ABANDONED = "abandoned"
    """Trainings of one of the two failed or were lost."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a challenge; scores are costs."""

    outcome: Outcome
    pairs: int
    """Trainings on each side that it rests on."""
    gain: float
    """How much better the challenger's mean is."""
    gain_sd: float
    p_better: float
    mean: float
    """The challenger's, over its fresh trainings."""
    sd: float
    detectable: float
    """The smallest true gain that so many pairs find four times out of five."""

    @property
    def promotes(self) -> bool:
        """Whether the challenger holds the title now."""
        return self.outcome in (Outcome.PROMOTED, Outcome.SIMPLER)


@dataclass
class Challenge:
    """Two variants trained under fresh seeds; what they scored before is no evidence."""

    challenger: int
    incumbent: int
    limit: int
    """Pairs at most."""
    simpler: bool
    """The challenger has fewer AST nodes: it wins where no difference can be told."""
    fresh: dict[int, list[float]] = field(init=False)
    failed: Counter[int] = field(default_factory=Counter)
    flying: Counter[int] = field(default_factory=Counter)
    """Trainings ordered and not ended, by variant; begins anew with each sitting."""
    looked: int = FIRST_LOOK - 1
    target: int = FIRST_LOOK
    """Pairs that are ordered before the next verdict."""

    def __post_init__(self) -> None:
        self.fresh = {self.challenger: [], self.incumbent: []}

    @property
    def pairs(self) -> int:
        """Pairs that are complete."""
        return min(map(len, self.fresh.values()))

    def lacking(self) -> list[int]:
        """Return whom to train so that there are `target` pairs, in turns."""
        wanted = {
            who: min(self.target, self.limit) - len(scores) - self.flying[who] for who, scores in self.fresh.items()
        }
        turns = range(max(0, *wanted.values()))
        return [who for turn in turns for who in self.fresh if turn < wanted[who]]


class Title:
    """Folded from rows and events.

    Attributes:
        holder: number of the champion; of the seed while nobody is confirmed.
        champion: how the holder was confirmed; None while nobody is.
        challenge: the one under way.
        last: the verdict on the last one.
    """

    def __init__(self) -> None:
        self.holder = 0
        self.champion: Verdict | None = None
        self.challenge: Challenge | None = None
        self.last: Verdict | None = None
        self._met: set[tuple[int, int]] = set()

    def met(self, challenger: int) -> bool:
        """Return whether a variant has challenged this holder before."""
        return (challenger, self.holder) in self._met

    def challenged(self, challenger: int, limit: int, *, simpler: bool) -> Challenge:
        """Begin a challenge (Raises ValueError: one is under way)."""
        if self.challenge is not None:
            raise ValueError("challenged: one challenge at a time")
        self._met.add((challenger, self.holder))
        self.challenge = Challenge(challenger, self.holder, limit, simpler)
        return self.challenge

    def trained(self, number: int, cost: float | None, *, failed: bool) -> None:
        """Take in a training for the challenge: its cost, or that it failed; neither if it was lost."""
        if self.challenge is None or number not in self.challenge.fresh:
            return
        self.challenge.flying[number] = max(0, self.challenge.flying[number] - 1)
        if cost is not None:
            self.challenge.fresh[number].append(cost)
        elif failed:
            self.challenge.failed[number] += 1

    def ruled(self, verdict: Verdict) -> None:
        """Take in the verdict on the challenge under way; a late training of it counts for nothing."""
        if self.challenge is None:
            return
        if verdict.promotes:
            self.holder, self.champion = self.challenge.challenger, verdict
        self.last, self.challenge = verdict, None


def judge(challenge: Challenge, noise: Noise) -> Verdict | None:
    """Return the verdict, or None while more trainings are needed.

    Each number of pairs is looked at once, in turn. The threshold is that of z, taken at the same level of Student's t
    for the degrees of freedom behind sigma (Jennison and Turnbull 2000, section 11.3).
    """
    if challenge.failed:
        who = next(iter(challenge.failed))
        return _verdict(challenge, noise, Outcome.KEPT if who == challenge.challenger else Outcome.ABANDONED)
    constant = sequential.threshold(FIRST_LOOK, max(challenge.limit, FIRST_LOOK), ERROR)
    level = float(special.ndtr(constant))
    while challenge.looked < challenge.pairs:
        challenge.looked += 1
        seen = _verdict(challenge, noise, Outcome.PROMOTED, challenge.looked)
        if seen.p_better >= level:
            return seen
        z = seen.gain / seen.gain_sd
        as_good = challenge.simpler and z > -_AS_GOOD
        if challenge.looked >= challenge.limit:
            return replace(seen, outcome=Outcome.SIMPLER if as_good else Outcome.KEPT)
        if not as_good and _hope(z, challenge.looked, challenge.limit, constant) < _HOPE:
            return replace(seen, outcome=Outcome.KEPT)
    return None


def simpler(challenger: str, incumbent: str) -> bool:
    """Return whether one source has fewer AST nodes than another."""
    return count_nodes(challenger) < count_nodes(incumbent)


def abandoned(challenge: Challenge, noise: Noise) -> Verdict:
    """Return the verdict on a challenge that cannot go on."""
    return _verdict(challenge, noise, Outcome.ABANDONED)


def verdict_of(details: Mapping[str, Any], turn: Callable[[float], float]) -> Verdict:
    """Return the verdict that an event's details hold; `turn` makes a cost of a value of the metric."""
    values: dict[str, Any] = {name: math.nan if value is None else value for name, value in details.items()}
    values |= {"outcome": Outcome(details["outcome"]), "mean": turn(values["mean"])}
    return Verdict(**{each.name: values[each.name] for each in fields(Verdict)})


def _hope(z: float, pairs: int, limit: int, constant: float) -> float:
    """Return the chance that the last look reaches the threshold, if the difference is what it looks like now."""
    part = pairs / limit
    return float(special.ndtr((z / math.sqrt(part) - constant) / math.sqrt(1 - part)))


def _verdict(challenge: Challenge, noise: Noise, outcome: Outcome, pairs: int | None = None) -> Verdict:
    pairs = challenge.pairs if pairs is None else pairs
    sigma = noise.sigma if noise.measured is None else noise.measured
    if pairs == 0:
        return Verdict(outcome, 0, 0.0, math.inf, 0.5, math.nan, math.inf, math.inf)
    means = {who: math.fsum(scores[:pairs]) / pairs for who, scores in challenge.fresh.items()}
    gain = means[challenge.incumbent] - means[challenge.challenger]
    constant = sequential.threshold(FIRST_LOOK, max(challenge.limit, FIRST_LOOK), ERROR)
    return Verdict(
        outcome=outcome,
        pairs=pairs,
        gain=gain,
        gain_sd=sigma * math.sqrt(2 / pairs),
        p_better=sequential.p_better(gain, sigma, pairs, noise.freedom),
        mean=means[challenge.challenger],
        sd=sigma / math.sqrt(pairs),
        detectable=sequential.detectable(sigma, max(challenge.limit, pairs), constant),
    )
