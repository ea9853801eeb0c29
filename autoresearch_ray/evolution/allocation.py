"""Which operator gets the next birth: a seeded bandit over what each has brought for what it cost.

Adaptive operator selection (Fialho, Da Costa, Schoenauer, Sebag 2010) by Thompson sampling. Owns the statistics of the
operators. Does not own which model an operator asks (operators/bandit.py).
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from autoresearch_ray.variant import Operator

FLOOR = 0.3
"""This share of the births goes to all available operators alike, so that none dies out."""
MEMORY = 0.95
"""What a birth counts after each later one: all gains shrink as a search goes on, and what helps changes."""
UNTRAINED_COST = 0.05
"""What a birth costs that is never trained, in experiments: a little of everybody's time."""

# Credit an experiment that is expected beforehand, worth so many experiments: in the log of the one genetic
# autoresearch there is, mutations set a new best 20 of 63 times, crossovers 3 of 36.
_EXPECTED = {Operator.PARAMETERS: 0.4, Operator.MUTATION: 0.3, Operator.CROSSOVER: 0.1}
_WORTH = 6.0
_LARGEST = 3.0
_GAINS = 32


@dataclass
class Tally:
    """What births of one operator have brought and cost, faded."""

    credit: float = 0.0
    """Gains, each in units of the run's recent median gain."""
    experiments: float = 0.0
    usd: float = 0.0


@dataclass
class Allocation:
    """Credits births to operators, and chooses by the credit for the cost.

    The credit of a birth is by how much it is expected to be better than its better parent, after shrinkage, so that a
    lucky score counts little; in units of the recent median gain, so that early gains do not drown late ones.
    """

    tallies: dict[Operator, Tally] = field(default_factory=lambda: {operator: Tally() for operator in _EXPECTED})
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=_GAINS))

    def ended(self, operator: Operator, usd: float, *, trained: bool) -> None:
        """Take in that a birth has ended, and what it cost."""
        if operator not in self.tallies:
            return
        for tally in self.tallies.values():
            tally.credit *= MEMORY
            tally.experiments *= MEMORY
            tally.usd *= MEMORY
        self.tallies[operator].experiments += 1.0 if trained else UNTRAINED_COST
        self.tallies[operator].usd += usd

    def gained(self, operator: Operator, gain: float) -> None:
        """Take in by how much a birth is better than its better parent; what is not better brings nothing."""
        if operator not in self.tallies or gain <= 0:
            return
        self._recent.append(gain)
        self.tallies[operator].credit += min(gain / statistics.median(self._recent), _LARGEST)

    def recorded(self) -> dict[str, Any]:
        """Return all that has been taken in as plain JSON values, for `restore` in another run."""
        tallies = {operator.value: asdict(tally) for operator, tally in self.tallies.items()}
        return {"tallies": tallies, "gains": list(self._recent)}

    def restore(self, recorded: Mapping[str, Any]) -> None:
        """Take over what `recorded` returned; what was taken in before is forgotten."""
        self.tallies |= {Operator(name): Tally(**values) for name, values in recorded["tallies"].items()}
        self._recent = deque(recorded["gains"], _GAINS)

    def choose(self, operators: Sequence[Operator], rng: np.random.Generator, experiments_a_dollar: float) -> Operator:
        """Return the operator of the next birth.

        Args:
            operators: those that can work now.
            rng: drawn from as often whatever the outcome, so that one decision does not shift the next.
            experiments_a_dollar: what a dollar is worth, for instance by what the run may spend of both.
        """
        drawn = {operator: self._draw(operator, rng, experiments_a_dollar) for operator in _EXPECTED}
        anyone, at_random = rng.random(), int(rng.integers(len(operators)))
        if anyone < FLOOR:
            return operators[at_random]
        return max(operators, key=lambda operator: drawn[operator])

    def _draw(self, operator: Operator, rng: np.random.Generator, experiments_a_dollar: float) -> float:
        """Draw the credit for an experiment's cost that an operator may really have."""
        tally = self.tallies[operator]
        cost = tally.experiments + tally.usd * experiments_a_dollar
        return float(rng.gamma(_WORTH * _EXPECTED[operator] + tally.credit) / (_WORTH + cost))
