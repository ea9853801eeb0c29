"""What a score is worth: the noise of one training, pooled over replicates, and the posterior of a true score.

Pure arithmetic on scores of one class. Does not own which variant is trained again (verification.py) or who becomes
champion (challenge.py).
"""

from __future__ import annotations

import bisect
import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

RELATIVE_SIGMA = 0.0005 / 0.9979
"""The noise assumed before there are replicates, as a part of the score: autoresearch's on an H100 (another seed moved
0.9731 by 0.0007, so sigma is about 0.0005)."""
PRIOR_WEIGHT = 2.0
"""Degrees of freedom that the assumption is worth: two replicates outweigh it."""
MINIMUM_CHILDREN = 8
"""With fewer children scored nothing is fitted to them, and a score is taken as it is."""

_WINDOW = 128
_REMEMBERED = 4096
_SPREADS = 2.0
_MAD_TO_SD = 1.4826
_LEAST_SPREAD = 0.3  # of sigma: a score always counts for a twelfth at least
_FREEDOM_OF_CERTAINTY = 2
_DETERMINISTIC = 1e-6
_CLEARLY = 1.001


@dataclass(frozen=True, slots=True)
class Posterior:
    """What is believed of a variant's true score."""

    mean: float
    sd: float
    count: int
    """Scores that it rests on."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What is expected of a variant before it has a score of its own."""

    mean: float
    variance: float


class Scored(Protocol):
    """What has scores, and an expectation from before them."""

    @property
    def scores(self) -> Sequence[float]:
        """All of them, perhaps none."""

    @property
    def prior(self) -> Prior | None:
        """What was expected; None where nothing was known."""


@dataclass(frozen=True, slots=True)
class Noise:
    """A normal model in two levels: a child's true score ~ N(parent's + shift, spread²), a score ~ N(true, sigma²)."""

    sigma: float
    """Standard deviation of one score about the variant's true score, > 0."""
    shift: float = 0.0
    """How much worse than its parent a child truly is in the middle."""
    spread: float = math.inf
    """Standard deviation of true differences from the parent, on the better side; infinite while too few are known."""
    measured: float | None = None
    """Sigma from replicates alone, without the assumption: what a test may rest on; None without replicates."""
    freedom: int = 0
    """Degrees of freedom behind `measured`."""

    def prior(self, parent: Posterior) -> Prior | None:
        """Return what is expected of a child; None while nothing can be said, so that its scores speak alone."""
        if not math.isfinite(self.spread):
            return None
        return Prior(parent.mean + self.shift, parent.sd**2 + self.spread**2)

    def posterior(self, scores: Sequence[float], prior: Prior | None = None) -> Posterior:
        """Return the belief after some scores of one variant, by normal shrinkage.

        Raises:
            ValueError: there is neither a score nor a prior.
        """
        count = len(scores)
        if count == 0:
            if prior is None:
                raise ValueError("posterior: expected a score or a prior, got neither")
            return Posterior(prior.mean, math.sqrt(prior.variance), 0)
        average = math.fsum(scores) / count
        if prior is None:
            return Posterior(average, self.sigma / math.sqrt(count), count)
        weight = count / (count + self.sigma**2 / prior.variance)
        return Posterior(prior.mean + weight * (average - prior.mean), self.sigma * math.sqrt(weight / count), count)

    def expected(self, scores: Sequence[float], prior: Prior | None = None) -> float:
        """Return the mean of `posterior`, which is all that a ranking asks for; there must be a score."""
        return _expected(scores, prior, self.sigma**2)

    def all_expected(self, variants: Iterable[Scored]) -> list[float]:
        """Return the means of many at once, infinite for those without a score: a population is ranked each birth."""
        variance = self.sigma**2
        return [_expected(each.scores, each.prior, variance) if each.scores else math.inf for each in variants]


def _expected(scores: Sequence[float], prior: Prior | None, variance: float) -> float:
    count = len(scores)
    average = scores[0] if count == 1 else math.fsum(scores) / count
    if prior is None:
        return average
    return prior.mean + count / (count + variance / prior.variance) * (average - prior.mean)


class Window:
    """The last few numbers, also in the order of their size: a median a score must not sort them all again."""

    def __init__(self, size: int, numbers: Iterable[float] = ()) -> None:
        """Begin with these numbers, in the order in which they came; the last `size` are held."""
        self._size = size
        self._arrived: deque[float] = deque(numbers, size)
        self._ordered: list[float] = sorted(self._arrived)

    def __len__(self) -> int:
        return len(self._ordered)

    def __iter__(self) -> Iterator[float]:
        return iter(self._arrived)

    def add(self, number: float) -> None:
        """Take a number in, and let the oldest go when there are too many."""
        if len(self._arrived) == self._size:
            del self._ordered[bisect.bisect_left(self._ordered, self._arrived[0])]
        self._arrived.append(number)
        bisect.insort(self._ordered, number)

    @property
    def median(self) -> float:
        """The middle one, or the mean of the two in the middle (Raises IndexError: there is none)."""
        return _middle(self._ordered)

    def not_above(self, limit: float) -> list[float]:
        """Return those that are at most `limit`, in the order of their size."""
        return self._ordered[: bisect.bisect_right(self._ordered, limit)]

    def mostly_beyond(self, center: float, distance: float) -> bool:
        """Return whether fewer than half of them are within `distance` of `center`: so is their median distance."""
        ordered = self._ordered
        low = bisect.bisect_left(ordered, center - distance)
        return 2 * (bisect.bisect_right(ordered, center + distance, low) - low) < len(ordered)

    def deviation(self, center: float) -> float:
        """Return the median distance from `center` (Raises IndexError: there is no number)."""
        # Falling and then rising: two runs, which `sorted` merges in one pass.
        return _middle(sorted([abs(number - center) for number in self._ordered]))


def _middle(ordered: Sequence[float]) -> float:
    half, odd = divmod(len(ordered), 2)
    return ordered[half] if odd else (ordered[half - 1] + ordered[half]) / 2


class NoiseEstimator:
    """A running `Noise`: constant time an observation, and memory bounded whatever the run's length.

    sigma² is (prior weight x prior sigma² + squares within variants) / (prior weight + their degrees of freedom), the
    mean of a scaled inverse chi-squared posterior, so the assumption fades as replicates come in. Left out: whether the
    noise depends on the variant. One that diverges under some seeds would raise sigma for all, hence the ceiling of
    twice the spread of all recent scores, which holds the noise within it.

    Shift and spread are fitted to the run's own children (empirical Bayes): the median of their differences from what
    was believed of their parents, and the mean square of the better half about it, less the noise in both. The worse
    half, where broken variants lie, does not count: it says nothing about how far to trust a good score.
    """

    def __init__(self) -> None:
        # Welford state (count, mean) of the variants scored last; a replicate of one long forgotten starts it anew and
        # loses one degree of freedom, which harms nothing.
        self._variants: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._recent = Window(_WINDOW)
        self._differences = Window(_WINDOW)
        self._uncertain: deque[float] = deque(maxlen=_WINDOW)
        self._squares = 0.0
        self._freedom = 0
        self._estimate: Noise | None = None

    def observe(self, variant_id: str, score: float) -> None:
        """Take in one score of a variant; its second and later ones are replicates and tell about sigma.

        Raises:
            ValueError: the score is not finite (a training without a finite score is a crash, not an observation).
        """
        if not math.isfinite(score):
            raise ValueError(f"observe: expected a finite score of {variant_id}, got {score}")
        count, mean = self._variants.pop(variant_id, (0, 0.0))
        difference = score - mean
        count += 1
        mean += difference / count
        if count == 1:
            self._recent.add(score)
        else:
            self._squares += difference * (score - mean)
            self._freedom += 1
        self._variants[variant_id] = (count, mean)
        self._estimate = None
        if len(self._variants) > _REMEMBERED:
            self._variants.popitem(last=False)

    def inherit(self, parent: Posterior, score: float) -> None:
        """Take in the first score of a child, with what was believed of its parent."""
        self._differences.add(score - parent.mean)
        self._uncertain.append(parent.sd**2)
        self._estimate = None

    def recorded(self) -> dict[str, Any]:
        """Return all that has been observed as plain JSON values, for `restore` in another run of the same class."""
        return {
            "variants": [[name, count, mean] for name, (count, mean) in self._variants.items()],
            "recent": list(self._recent),
            "differences": list(self._differences),
            "uncertain": list(self._uncertain),
            "squares": self._squares,
            "freedom": self._freedom,
        }

    def restore(self, recorded: Mapping[str, Any]) -> None:
        """Take over what `recorded` returned; what was observed before is forgotten."""
        self._variants = OrderedDict((name, (count, mean)) for name, count, mean in recorded["variants"])
        self._recent = Window(_WINDOW, recorded["recent"])
        self._differences = Window(_WINDOW, recorded["differences"])
        self._uncertain = deque(recorded["uncertain"], _WINDOW)
        self._squares, self._freedom = recorded["squares"], recorded["freedom"]
        self._estimate = None

    @property
    def measured_sigma(self) -> float | None:
        """The standard deviation within variants, pooled over replicates, without the assumption; None without any."""
        return math.sqrt(self._squares / self._freedom) if self._freedom else None

    def estimate(self) -> Noise:
        """Return the noise and what children are like, as far as they are known; defined from no observation on."""
        if self._estimate is None:
            self._estimate = self._fit()
        return self._estimate

    def _fit(self) -> Noise:
        sigma, measured = self._sigmas()
        if len(self._differences) < MINIMUM_CHILDREN:
            return Noise(sigma, measured=measured, freedom=self._freedom)
        middle = self._differences.median
        better = [(difference - middle) ** 2 for difference in self._differences.not_above(middle)]
        uncertain = sum(self._uncertain) / len(self._uncertain)
        spread = max(sum(better) / len(better) - sigma**2 - uncertain, (_LEAST_SPREAD * sigma) ** 2)
        return Noise(sigma, middle, math.sqrt(spread), measured, self._freedom)

    def _sigmas(self) -> tuple[float, float | None]:
        """Return sigma with the assumption, and without."""
        middle = self._recent.median if len(self._recent) else 1.0
        assumed = RELATIVE_SIGMA * max(abs(middle), 1e-6)
        least = _DETERMINISTIC * assumed
        within = math.sqrt(self._squares / self._freedom) if self._freedom else 0.0
        pooled = math.sqrt((PRIOR_WEIGHT * assumed**2 + self._squares) / (PRIOR_WEIGHT + self._freedom))
        most = self._ceiling(middle, assumed, max(within, pooled))
        measured = min(max(within, least), most) if self._freedom else None
        if self._freedom >= _FREEDOM_OF_CERTAINTY and self._squares == 0.0:
            return least, measured  # another seed changes nothing: every difference is real
        return min(pooled, most), measured

    def _ceiling(self, middle: float, assumed: float, needed: float) -> float:
        """Return the most that sigma may be; infinite where it is surely more than what is `needed` of it.

        To find the exact median distance takes all recent scores, to see that it is large takes two searches.
        """
        factor = _SPREADS * _MAD_TO_SD
        enough = self._recent.mostly_beyond(middle, _CLEARLY * needed / factor)
        if len(self._recent) < MINIMUM_CHILDREN or enough:
            return math.inf
        return max(factor * self._recent.deviation(middle), assumed)
