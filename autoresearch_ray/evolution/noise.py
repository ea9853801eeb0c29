"""What a score is worth: the noise of one training, pooled over replicates, and the posterior of a true score.

Pure arithmetic on scores of one class. Does not own which variant is replicated or who becomes champion.
"""

from __future__ import annotations

import math
import statistics
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

RELATIVE_SIGMA = 0.0005 / 0.9979
"""The noise assumed before there are replicates, as a part of the score: autoresearch's on an H100 (another seed moved
0.9731 by 0.0007, so sigma is about 0.0005)."""
PRIOR_WEIGHT = 2.0
"""Degrees of freedom that the assumption is worth: two replicates outweigh it."""
MINIMUM_SCORES = 8
"""With fewer variants scored, no distribution of true scores is fitted and nothing is shrunk."""

_WINDOW = 128
_REMEMBERED = 4096
_SPREADS = 2.0
_MAD_TO_SD = 1.4826


@dataclass(frozen=True, slots=True)
class Posterior:
    """What is believed of a variant's true score."""

    mean: float
    sd: float
    count: int
    """Scores that it rests on."""


@dataclass(frozen=True, slots=True)
class Noise:
    """A normal model: true scores ~ N(mean, sd²), and a score ~ N(true, sigma²)."""

    sigma: float
    """Standard deviation of one score about the variant's true score, > 0."""
    mean: float = 0.0
    sd: float = math.inf
    """Spread of the true scores among recent variants; infinite while too few are known to say."""

    def posterior(self, scores: Sequence[float]) -> Posterior:
        """Return the belief after some scores of one variant, by normal shrinkage; the prior itself if there are none.

        The weight of the data depends on their count alone, so variants with equally many scores keep the order of
        their average scores.
        """
        count = len(scores)
        if count == 0:
            return Posterior(self.mean, self.sd, 0)
        weight = count / (count + (self.sigma / self.sd) ** 2)
        average = math.fsum(scores) / count
        return Posterior(self.mean + weight * (average - self.mean), self.sigma * math.sqrt(weight / count), count)


    def expected(self, scores: Sequence[float]) -> float:
        """Return the mean of `posterior`, which is all that a ranking asks for."""
        count = len(scores)
        if count == 0:
            return self.mean
        average = scores[0] if count == 1 else math.fsum(scores) / count
        return self.mean + count / (count + (self.sigma / self.sd) ** 2) * (average - self.mean)


class NoiseEstimator:
    """A running `Noise`: constant time an observation, and memory bounded whatever the run's length.

    sigma² is (prior weight x prior sigma² + squares within variants) / (prior weight + their degrees of freedom), the
    mean of a scaled inverse chi-squared posterior, so the assumption fades as replicates come in. Left out: whether the
    noise depends on the variant. One that diverges under some seeds would raise sigma for all, hence the ceiling of
    twice the spread of all recent scores, which holds the noise within it.
    """

    def __init__(self) -> None:
        # Welford state (count, mean) of the variants scored last; a replicate of one long forgotten starts it anew and
        # loses one degree of freedom, which harms nothing.
        self._variants: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._recent: deque[float] = deque(maxlen=_WINDOW)
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
            self._recent.append(score)
        else:
            self._squares += difference * (score - mean)
            self._freedom += 1
        self._variants[variant_id] = (count, mean)
        self._estimate = None
        if len(self._variants) > _REMEMBERED:
            self._variants.popitem(last=False)

    @property
    def measured_sigma(self) -> float | None:
        """The standard deviation within variants, pooled over replicates, without the assumption; None without any."""
        return math.sqrt(self._squares / self._freedom) if self._freedom else None

    def estimate(self) -> Noise:
        """Return the noise and the prior of true scores, as far as they are known; defined from no observation on.

        The prior is the median and the median absolute deviation of the variants scored last (their first scores),
        less the noise in them: broken variants, which score several bits worse, do not widen it.
        """
        if self._estimate is None:
            self._estimate = self._fit()
        return self._estimate

    def _fit(self) -> Noise:
        middle = statistics.median(self._recent) if self._recent else 1.0
        assumed = RELATIVE_SIGMA * max(abs(middle), 1e-6)
        sigma = math.sqrt((PRIOR_WEIGHT * assumed**2 + self._squares) / (PRIOR_WEIGHT + self._freedom))
        if len(self._recent) < MINIMUM_SCORES:
            return Noise(sigma)
        spread = _MAD_TO_SD * statistics.median(abs(score - middle) for score in self._recent)
        sigma = min(sigma, max(_SPREADS * spread, assumed))
        return Noise(sigma, middle, math.sqrt(max(spread**2 - sigma**2, sigma**2)))
