"""Evidence that a model broke a rule of scoring: tests whose chance of blaming an honest model is known. Pure.

Owns statistics only: log e-values, numbers whose exponential has a mean of at most 1 for every honest model. Does not
own what is sent to a model (plan.py) nor what is observed of its answers (checks.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FALSE_REJECTIONS = 1e-6
"""Chance that an honest model's experiment is rejected by any of the tests, at most."""
TESTS = 6
ENOUGH = math.log(TESTS / FALSE_REJECTIONS)
"""A log e-value of at least this rejects. By Markov's inequality an honest model reaches it with a chance of at most
`FALSE_REJECTIONS / TESTS`, however it is built, noisy or not."""

_SCALES = 10.0 ** np.arange(-1, 4)
"""Per nat: at which difference between two answers a test of signs gets sure, tried all and averaged."""
_TILTS = (0.25, 0.5, 1.0)
_STAKES = ((0.01, 0.0), (0.1, 0.0), (0.5, 0.0), (1.0, 0.0), (0.1, 2.0), (0.5, 2.0), (0.9, 2.0))
"""(share, power) of what is staked on each shown token: share x (largest probability of a wrong token)^power."""
LEAST_LOG_PROBABILITY = -20.0
"""Smaller log-probabilities count as this."""


def of_signs(differences: Floats) -> float:
    """Return the log e-value against `each difference is as often positive as negative, whatever its size`.

    For a symmetric d the mean of 2 / (1 + exp(-k d)) is exactly 1 for every k, so the product over independent ones is
    an e-value, and so is the average of the products over several k. It grows when positive differences prevail.

    Args:
        differences: (n,), independent of each other, in nats.
    """
    if not len(differences):
        return 0.0
    exponents = np.clip(_SCALES[:, None] * differences[None], -50.0, 50.0)
    return _log_mean_exp((math.log(2.0) - np.logaddexp(0.0, -exponents)).sum(axis=1))


@dataclass(frozen=True, slots=True)
class Shown:
    """Tokens shown in place of the true ones, and what the model thought of them one position before.

    The token shown at each of m places was drawn from a distribution that is known: k alternatives in all, flat.
    """

    place: npt.NDArray[np.int64]
    """(k,): which of the m places an alternative belongs to."""
    probability: Floats
    """(k,): with which it was drawn; sums to 1 over each place."""
    log_model: Floats
    """(k,): its log-probability by the model."""
    chosen: npt.NDArray[np.int64]
    """(m,): the index among the k of the token that was shown."""
    surest: Floats
    """(m,): the model's largest probability of a token other than the true one."""


def of_shown(shown: Shown) -> float:
    """Return the log e-value against `what the model expects does not depend on what it is shown next`.

    An honest model's distribution p is fixed before the shown token s is drawn from q, so p(s)^a / sum_v q(v) p(v)^a
    has a mean of exactly 1 for every a, and so has 1 + stake x (that - 1) for every stake in [0, 1] that depends on p
    and q alone. The product over all places is a martingale (places of one row are drawn in order, each given the
    tokens before it); the average over several tilts a and stakes is one too.
    """
    m = len(shown.chosen)
    if not m:
        return 0.0
    logs = np.maximum(shown.log_model, LEAST_LOG_PROBABILITY)
    totals = []
    for tilt in _TILTS:
        expected = np.bincount(shown.place, shown.probability * np.exp(tilt * logs), minlength=m)
        gain = np.exp(tilt * logs[shown.chosen]) / expected
        for share, power in _STAKES:
            stake = share * np.clip(shown.surest, 0.0, 1.0) ** power
            totals.append(np.log(np.maximum(1.0 - stake + stake * gain, 1e-300)).sum())
    return _log_mean_exp(np.array(totals))


def of_trend(losses: Floats, covariates: Floats) -> float:
    """Return the log e-value against `the order in which rows were sent has nothing to do with their losses`.

    Rows are sent in random order, so every order of their losses is equally likely for a frozen model. What a row's
    covariates explain of its loss is taken out first, which leaves the test valid and makes it sharper; what is left
    is replaced by its rank. Learning while scoring makes later losses lower.

    Args:
        losses: (n,) mean loss of each row, in the order of sending.
        covariates: (n, k), properties of the rows that do not depend on the order, as how compressible they are.
    """
    n = len(losses)
    if n < _LEAST_ROWS:
        return 0.0
    design = np.column_stack([np.ones(n), covariates, covariates**2])
    left = losses - design @ np.linalg.lstsq(design, losses, rcond=None)[0]
    scores = _centred_ranks(left)
    time = np.arange(n)
    totals = []
    for lateness in (time / n, np.log1p(time) / math.log(n)):
        centred = lateness - lateness.mean()
        scale = math.sqrt(float(scores @ scores) * float(centred @ centred) / (n - 1))
        z = -float(scores @ centred) / scale
        # exp(c z - c^2 / 2) has a mean of 1 for a normal z; that of a permutation's z has lighter tails.
        totals += [c * z - c * c / 2.0 for c in (3.0, 6.0, 12.0)]
    return _log_mean_exp(np.array(totals))


def separated(originals: Floats, others: Floats, least: float) -> bool:
    """Return whether two samples of distances lie apart: every one of `others` above all `originals`, and `least`.

    If both come from one distribution, n and n of them do so with a chance of 1 / (2 n choose n): 2e-9 for n = 16.
    """
    return bool(len(originals) and len(others) and others.min() > max(float(originals.max()), least))


_LEAST_ROWS = 64


def _centred_ranks(values: Floats) -> Floats:
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    centred: Floats = ranks - ranks.mean()
    return centred


def _log_mean_exp(logs: Floats) -> float:
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))
