"""What a simulated training would score: a function of a small source's ALL_CAPS literals and of its parts.

Owns true scores, crash regions and the edits that stand for a language model's. Does not own noise or time
(simulated.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from autoresearch_ray.operators.proposal import Failure, Proposal

_ASSIGNMENT = re.compile(r"^([A-Z][A-Z0-9_]*) = ([^#\n]*)", re.MULTILINE)
_PART = re.compile(r'^use\("([a-z0-9_]+)", "([a-z0-9_]+)"\)$', re.MULTILINE)
_HEAD = "from prepare import evaluate_bpb, make_dataloader\nfrom parts import train, use\n"
_TAIL = "evaluate_bpb(train(make_dataloader))\n"


@dataclass(frozen=True, slots=True)
class Literal:
    """A number of the source. It costs `gain` where it starts and nothing at its optimum."""

    name: str
    text: str
    """As the first variant spells it."""
    optimum: float
    gain: float
    """What moving from the start to the optimum brings, the other literals being at theirs; > 0."""
    odds: bool = False
    """True: distances are measured on log-odds, for fractions; False: on the logarithm."""
    floor: float = 1e-12
    """Magnitudes below are as good as this one, so that zero is at a finite distance."""
    ceiling: float = math.inf
    """Above, the training crashes."""

    @property
    def value(self) -> float:
        """What the first variant has."""
        return _number(self.text)

    def coordinate(self, value: float) -> float:
        """Return where a value lies on the literal's own scale."""
        value = max(abs(value), self.floor)
        if not self.odds:
            return math.log(value)
        value = min(value, 1 - self.floor)
        return math.log(value / (1 - value))

    def at(self, coordinate: float) -> float:
        """Return the value that lies there."""
        value = math.exp(coordinate)
        return value / (1 + value) if self.odds else value


@dataclass(frozen=True, slots=True)
class Part:
    """A place in the program for one of several parts: what a language model exchanges."""

    name: str
    effects: Mapping[str, float]
    """By alternative: what it adds to the score, the one of the first variant 0; infinite crashes the training."""


@dataclass(frozen=True, slots=True)
class Interaction:
    """Two literals that want to move together: their joint distance costs more (or, below 0, less) than its sum."""

    first: str
    second: str
    weight: float
    """In (-1, 1): the correlation in the quadratic form of the two normalised distances."""


@dataclass(frozen=True)
class Landscape:
    """A program's true score, lower is better, as a function of its source. Immutable; nothing in it is random.

    The score is `best` plus a quadratic form in the normalised distances of the literals, which turns linear far out,
    plus the effects of the parts, plus `pairs`. The sources are small and are real Python for the operators.
    """

    best: float
    """The score of the optimum."""
    literals: tuple[Literal, ...]
    parts: tuple[Part, ...] = ()
    interactions: tuple[Interaction, ...] = ()
    pairs: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """By two parts, each written `name:alternative`: what both together add."""
    sigma: float = 0.0005
    """Standard deviation of one score about the true one."""
    taste: float = math.inf
    """How well a language model knows what helps: an edit that gains so much is e times as likely as one that does
    nothing, at most five times. Infinite: it knows nothing."""

    @cached_property
    def seed(self) -> str:
        """The source of the first variant."""
        lines = [f"{literal.name} = {literal.text}\n" for literal in self.literals]
        lines += [f'use("{part.name}", "{next(iter(part.effects))}")\n' for part in self.parts]
        return "".join([_HEAD, *lines, _TAIL])

    def score(self, source: str) -> float | None:
        """Return the true score of a source; None if its training crashes."""
        values = dict(_ASSIGNMENT.findall(source))
        chosen = dict(_PART.findall(source))
        distances: dict[str, float] = {}
        try:
            for literal, start, scale in self._scales:
                value = _number(values[literal.name])
                if not value <= literal.ceiling:
                    return None
                distances[literal.name] = (literal.coordinate(value) - start) / scale
            total = sum(part.effects[chosen[part.name]] for part in self.parts)
        except (KeyError, ValueError, OverflowError):
            return None
        total += self._quadratic(distances)
        if self.pairs:
            present = {f"{name}:{alternative}" for name, alternative in chosen.items()}
            total += sum(extra for pair, extra in self.pairs.items() if present.issuperset(pair))
        score = self._base + total
        return score if math.isfinite(score) else None

    def propose(self, source: str, rng: np.random.Generator) -> Proposal | Failure:
        """Exchange one part for another, as a language model of this `taste` would."""
        chosen = dict(_PART.findall(source))
        edits = [
            (part.name, alternative)
            for part in self.parts
            for alternative in part.effects
            if chosen.get(part.name) not in (None, alternative)
        ]
        if not edits:
            return Failure("The parent has no part to exchange.")
        effects = self._effects
        deltas = np.array([effects[name][alternative] - effects[name][chosen[name]] for name, alternative in edits])
        weights = np.exp(np.clip(np.clip(-deltas, -1.0, 1.0) / self.taste, -1.6, 1.6))
        name, alternative = edits[rng.choice(len(edits), p=weights / weights.sum())]
        old, new = f'use("{name}", "{chosen[name]}")', f'use("{name}", "{alternative}")'
        return Proposal(source.replace(old, new), f"{name}: {chosen[name]} -> {alternative}", model="simulated")

    @cached_property
    def _scales(self) -> tuple[tuple[Literal, float, float], ...]:
        """Each literal with its optimum's coordinate and the distance from its start to there."""
        scaled = []
        for literal in self.literals:
            optimum = literal.coordinate(literal.optimum)
            distance = abs(literal.coordinate(literal.value) - optimum)
            scaled.append((literal, optimum, distance or 1.0))
        return tuple(scaled)

    @cached_property
    def _effects(self) -> dict[str, Mapping[str, float]]:
        return {part.name: part.effects for part in self.parts}

    @cached_property
    def _gains(self) -> dict[str, float]:
        return {literal.name: literal.gain for literal in self.literals}

    @cached_property
    def _base(self) -> float:
        """The score with all literals at their optima and the parts of the first variant."""
        return self.best - sum(min(part.effects.values()) for part in self.parts)

    def _quadratic(self, distances: Mapping[str, float]) -> float:
        gains = self._gains
        total = sum(gains[name] * _bowl(distance) for name, distance in distances.items())
        for pair in self.interactions:
            product = distances[pair.first] * distances[pair.second]
            product /= 1 + 0.25 * abs(product)
            total += 2 * pair.weight * math.sqrt(gains[pair.first] * gains[pair.second]) * product
        return total


def _bowl(distance: float) -> float:
    """Return about distance² near 0, growing linearly far out; 1 at 1."""
    return 3.0 * (math.sqrt(1 + distance * distance * _CURVE) - 1)


_CURVE = (1 + 1 / 3.0) ** 2 - 1


def _number(text: str) -> float:
    """Read a number as an operator may spell it: `0.04`, `65_536`, `2**19`, `64 * 1024` (Raises ValueError)."""
    if "*" not in text:
        return float(text)
    base, power, exponent = text.partition("**")
    if power:
        return float(float(base) ** float(exponent))
    return math.prod(map(float, text.split("*")))
