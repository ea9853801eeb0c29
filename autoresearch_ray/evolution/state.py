"""What the lineage so far adds up to: standings, noise, ancestry, counts. One fold, live and on replay alike.

Owns no decision and no I/O. The islands' members are not kept here: `measured` says what an island should absorb.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass

from autoresearch_ray.evolution.ancestry import Ancestry
from autoresearch_ray.evolution.noise import NoiseEstimator, Posterior
from autoresearch_ray.variant import Result, Status, Variant, ast_hash


@dataclass(frozen=True, slots=True)
class Standing:
    """A variant and all its scores so far."""

    number: int
    variant_id: str
    hypothesis: str
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean score; NaN without one."""
        return sum(self.scores) / len(self.scores) if self.scores else math.nan


class State:
    """Folded from the rows in the order of their `sequence`; equal rows give an equal state."""

    def __init__(self) -> None:
        self.noise = NoiseEstimator()
        self.ancestry = Ancestry()
        self.births: Counter[Status] = Counter()
        self.experiments: Counter[Status] = Counter()
        self.seed: Standing | None = None
        self.best: Standing | None = None
        self._first_scores = array("d")
        self._sequences = array("q")
        self._replicates: dict[int, tuple[float, ...]] = {}
        self._sources: dict[int, int] = {}

    def duplicate_of(self, source_ast_hash: str) -> int | None:
        """Return the number of the first variant with that AST hash, None if there is none."""
        return self._sources.get(_key(source_ast_hash))

    def conceived(self, variant: Variant, parents: tuple[int, ...]) -> None:
        """Take in a variant that will be trained, so that nothing else may repeat it.

        Raises:
            SyntaxError: its source does not parse.
        """
        number = variant.birth.number
        self.ancestry.record(number, parents)
        self._sources.setdefault(_key(ast_hash(variant.source)), number)

    def born(self, number: int, status: Status, sequence: int) -> None:
        """Take in the final row of a birth."""
        self.births[status] += 1
        self._sequences.extend(0 for _ in range(len(self._sequences), number + 1))
        self._sequences[number] = sequence

    def sequence(self, number: int) -> int:
        """Return the sequence of the final row of birth `number` (Raises IndexError or ValueError: it has none yet)."""
        if not self._sequences[number]:
            raise ValueError(f"birth {number} has not ended")
        return self._sequences[number]

    def measured(self, variant: Variant, result: Result) -> tuple[float, ...] | None:
        """Take in an experiment's row; return all scores of the variant if this one added one."""
        self.experiments[result.status] += 1
        if result.status is not Status.COMPLETED or result.val_bpb is None:
            return None
        number = variant.birth.number
        self.noise.observe(variant.variant_id, result.val_bpb)
        scores = (*self.scores(number), result.val_bpb)
        if len(scores) > 1:
            self._replicates[number] = scores
        else:
            self._first_scores.extend(math.nan for _ in range(len(self._first_scores), number + 1))
            self._first_scores[number] = result.val_bpb
        self._rank(Standing(number, variant.variant_id, variant.hypothesis, scores))
        return scores

    def scores(self, number: int) -> tuple[float, ...]:
        """Return the scores of birth `number`, in the order in which they came."""
        if number in self._replicates:
            return self._replicates[number]
        first = self._first_scores[number] if number < len(self._first_scores) else math.nan
        return () if math.isnan(first) else (first,)

    def posterior(self, standing: Standing) -> Posterior:
        """Return what is believed of a variant's true score."""
        return self.noise.estimate().posterior(standing.scores)

    def _rank(self, standing: Standing) -> None:
        if standing.number == 0:
            self.seed = standing
        if self.best is not None and self.best.number == standing.number:
            self.best = standing
        if self.best is None or self.posterior(standing).mean < self.posterior(self.best).mean:
            self.best = standing


def _key(digest: str) -> int:
    """Eight bytes of a hash: among a million sources, a chance of 3 in 100 million that two share them."""
    return int(digest[:16], 16)
