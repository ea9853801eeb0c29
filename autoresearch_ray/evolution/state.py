"""What the lineage so far adds up to: standings, noise, ancestry, counts. One fold, live and on replay alike.

Owns no decision and no I/O. The islands' members are not kept here: `measured` says what an island should absorb.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from autoresearch_ray.evolution.allocation import Allocation
from autoresearch_ray.evolution.ancestry import Ancestry
from autoresearch_ray.evolution.challenge import Title
from autoresearch_ray.evolution.noise import NoiseEstimator, Posterior, Prior
from autoresearch_ray.evolution.selection import Member
from autoresearch_ray.variant import Birth, Purpose, Result, Status, Variant

_SHORTLISTED = 64
"""Variants among which the next best is looked for when a replicate makes the best worse."""
_HORIZON = 32
"""Births over which progress is measured."""

Goal = Literal["minimize", "maximize"]


@dataclass(frozen=True, slots=True)
class Standing:
    """A variant and all its scores so far, as costs."""

    number: int
    variant_id: str
    hypothesis: str
    scores: tuple[float, ...]
    prior: Prior | None = None
    """What its parents let expect."""

    @property
    def mean(self) -> float:
        """The mean score; NaN without one."""
        return sum(self.scores) / len(self.scores) if self.scores else math.nan


class State:
    """Folded from the rows in the order of their `sequence`; equal rows give an equal state.

    All scores in here are costs, which are minimized: the metric itself, or minus the metric where higher is better.
    This is the one place where the sign turns; rows and views have the metric as it was measured.

    Attributes:
        births: how births ended, counted by status.
        experiments: how experiments ended, counted by status.
        purposes: experiments that ended, but for lost ones, counted by what they were for.
        title: who is confirmed best, and who challenges it.
        allocation: what each operator has brought.
        best: the lowest posterior mean so far, not confirmed.
        since_best: births that ended since the best last changed.
    """

    def __init__(self, goal: Goal = "minimize") -> None:
        self.goal = goal
        self.noise = NoiseEstimator()
        self.ancestry = Ancestry()
        self.births: Counter[Status] = Counter()
        self.experiments: Counter[Status] = Counter()
        self.purposes: Counter[Purpose] = Counter()
        self.title = Title()
        self.allocation = Allocation()
        self.seed: Standing | None = None
        self.best: Standing | None = None
        self.since_best = 0
        self._first_scores = array("d")
        self._sequences = array("q")
        self._prior_means = array("d")
        self._prior_variances = array("d")
        self._bests: deque[float] = deque(maxlen=_HORIZON)
        self._replicates: dict[int, tuple[float, ...]] = {}
        self._sources: dict[int, int] = {}
        self._shortlist: dict[int, Standing] = {}
        self._pairs: set[int] = set()

    def crossed(self, first: int, second: int) -> bool:
        """Return whether these two have been parents together: an offline merge of them would say the same again."""
        return _pair(first, second) in self._pairs

    def cross(self, parents: Sequence[int]) -> None:
        """Note that two variants are parents together, as soon as that is decided."""
        if len(parents) == 2:
            self._pairs.add(_pair(*parents))

    def duplicate_of(self, identity: str) -> int | None:
        """Return the number of the first variant that is the same program, None if there is none."""
        return self._sources.get(_key(identity))

    def conceived(self, number: int, parents: tuple[int, ...], identity: str) -> None:
        """Take in a variant that will be trained, so that nothing else may repeat it."""
        self.ancestry.record(number, parents)
        self.cross(parents)
        self._sources.setdefault(_key(identity), number)

    def born(self, birth: Birth, status: Status, sequence: int, usd: float = 0.0) -> None:
        """Take in the final row of a birth; that of its first score, if it has one, follows it."""
        self.births[status] += 1
        self.since_best += 1
        if self.best is not None:
            self._bests.append(self._expected(self.best))
        self._sequences.extend(0 for _ in range(len(self._sequences), birth.number + 1))
        self._sequences[birth.number] = sequence
        if status is not Status.LOST:
            trained = status in (Status.COMPLETED, Status.CRASHED, Status.TIMED_OUT)
            self.allocation.ended(birth.operator, usd, trained=trained)

    def sequence(self, number: int) -> int:
        """Return the sequence of the final row of a birth (Raises LookupError: it has none yet)."""
        if number >= len(self._sequences) or not self._sequences[number]:
            raise LookupError(f"birth {number} has not ended")
        return self._sequences[number]

    def measured(self, variant: Variant, result: Result, purpose: Purpose = Purpose.BIRTH) -> tuple[float, ...] | None:
        """Take in an experiment's row; return all scores of the variant if this one added one.

        What was carried over counts as nobody's training here, and noise and operators have been told of it: `inherit`.
        """
        carried = purpose is Purpose.CARRIED
        self.experiments[result.status] += not carried
        if result.status is not Status.LOST:
            self.purposes[purpose] += 1
        if purpose is Purpose.CHALLENGE:
            cost = None if result.val_bpb is None else self.turn(result.val_bpb)
            failed = result.status not in (Status.COMPLETED, Status.LOST)
            self.title.trained(variant.birth.number, None if failed else cost, failed=failed)
        if result.status is not Status.COMPLETED or result.val_bpb is None:
            return None
        number, cost = variant.birth.number, self.turn(result.val_bpb)
        scores = (*self.scores(number), cost)
        if len(scores) > 1:
            self._replicates[number] = scores
            if not carried:
                self.noise.observe(variant.variant_id, cost)
        else:
            self._first(variant, cost, learn=not carried)
        self._rank(Standing(number, variant.variant_id, variant.hypothesis, scores, self.prior(number)))
        return scores

    def inherit(self, noise: Mapping[str, Any] | None, operators: Mapping[str, Any] | None) -> None:
        """Take over what another run has learned of its noise and its operators, as their `recorded` gave it."""
        if noise is not None:
            self.noise.restore(noise)
        if operators is not None:
            self.allocation.restore(operators)

    def _first(self, variant: Variant, cost: float, *, learn: bool) -> None:
        """Take in a first score: what was to be expected of it, and, to `learn`, what it says of other children."""
        number, operator = variant.birth.number, variant.birth.operator
        for column, filler in ((self._first_scores, math.nan), (self._prior_means, math.nan)):
            column.extend(filler for _ in range(len(column), number + 1))
        self._prior_variances.extend(0.0 for _ in range(len(self._prior_variances), number + 1))
        self._first_scores[number] = cost
        parents = [self.belief(parent) for parent in self.ancestry.parents(number) if self.scores(parent)]
        if not parents:
            if learn:
                self.noise.observe(variant.variant_id, cost)
            return
        parent = min(parents, key=lambda posterior: posterior.mean)
        prior = self.noise.estimate().prior(parent)
        if prior is not None:
            self._prior_means[number], self._prior_variances[number] = prior.mean, prior.variance
        if not learn:
            return
        # All that a score says of the noise goes in before it is asked for again: one fit a score.
        self.noise.inherit(parent, cost)
        self.noise.observe(variant.variant_id, cost)
        self.allocation.gained(operator, parent.mean - self.noise.estimate().expected([cost], prior))

    def turn(self, value: float) -> float:
        """Return the cost of a value of the metric, or the value of a cost: its own inverse."""
        return -value if self.goal == "maximize" else value

    def scores(self, number: int) -> tuple[float, ...]:
        """Return the scores of birth `number`, in the order in which they came."""
        if number in self._replicates:
            return self._replicates[number]
        first = self._first_scores[number] if number < len(self._first_scores) else math.nan
        return () if math.isnan(first) else (first,)

    def best_parent(self, number: int) -> tuple[float, ...] | None:
        """Return the scores of the parent with the better average, as costs; None while no parent has one."""
        known = [scores for parent in self.ancestry.parents(number) if (scores := self.scores(parent))]
        return min(known, key=_average, default=None)

    def prior(self, number: int) -> Prior | None:
        """Return what was expected of birth `number` before its first score; None where nothing was known."""
        if number >= len(self._prior_means) or math.isnan(self._prior_means[number]):
            return None
        return Prior(self._prior_means[number], self._prior_variances[number])

    def posterior(self, standing: Standing) -> Posterior:
        """Return what is believed of a variant's true score."""
        return self.noise.estimate().posterior(standing.scores, standing.prior)

    def _expected(self, standing: Standing) -> float:
        """Return the mean of `posterior`."""
        return self.noise.estimate().expected(standing.scores, standing.prior)

    def belief(self, number: int) -> Posterior:
        """Return what is believed of the true score of birth `number` (Raises ValueError: it has no score)."""
        return self.noise.estimate().posterior(self.scores(number), self.prior(number))

    def member(self, variant: Variant) -> Member:
        """Return a variant as a member of a population, as its scores stand now."""
        number = variant.birth.number
        return Member(variant, self.scores(number), self.prior(number))

    @property
    def contenders(self) -> list[Standing]:
        """Return the variants among which the next best is looked for, in no order."""
        return list(self._shortlist.values())

    @property
    def progress(self) -> float:
        """What a birth has lowered the best's expected score by lately; infinite while too few have ended."""
        if len(self._bests) < _HORIZON:
            return math.inf
        return max(0.0, self._bests[0] - self._bests[-1]) / (_HORIZON - 1)

    def _rank(self, standing: Standing) -> None:
        if standing.number == 0:
            self.seed = standing
        self._shortlist[standing.number] = standing
        if len(self._shortlist) > 2 * _SHORTLISTED:
            self._shortlist = {known.number: known for known in self._best_first()[:_SHORTLISTED]}
        if self.best is not None and self.best.number == standing.number:
            # A replicate may have made the best worse than another.
            self.best = self._best_first()[0]
        elif self.best is None or self._expected(standing) < self._expected(self.best):
            self.best, self.since_best = standing, 0

    def _best_first(self) -> list[Standing]:
        """Return the shortlist in the order of what is expected of it; at a tie who came first."""
        known = list(self._shortlist.values())
        means = self.noise.estimate().all_expected(known)
        return [known[place] for _, place in sorted(zip(means, range(len(known)), strict=True))]


def homes(birth: Birth, islands: int) -> Sequence[int]:
    """Return the islands that take a scored variant in: the seed lives on all of them, others where they were born."""
    return range(islands) if birth.number == 0 else (birth.island,)


def _average(scores: Sequence[float]) -> float:
    return math.fsum(scores) / len(scores)


def _pair(first: int, second: int) -> int:
    return min(first, second) << 32 | max(first, second)


def _key(digest: str) -> int:
    """Eight bytes of a hash: among a million sources, a chance of 3 in 100 million that two share them."""
    return int(digest[:16], 16)
