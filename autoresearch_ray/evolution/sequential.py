"""A test that may be looked at again and again: its threshold, and how large a difference it finds.

Pure arithmetic. Does not own what is compared (challenge.py).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import special

_GRID = 401
_WIDTH = 8.0
_BISECTIONS = 20


@lru_cache(maxsize=64)
def threshold(first: int, last: int, error: float) -> float:
    """Return the constant that z must reach at some look for a verdict; with no difference it does so that rarely.

    A group-sequential test with the same threshold at all looks (Pocock 1977), its error computed by carrying the
    density of the undecided sum from look to look (Armitage, McPherson, Rowe 1969). Stopping early for lack of hope
    only lowers the error.

    Args:
        first: pairs at the first look.
        last: pairs at the last one; there is a look at each number of pairs between.
        error: chance of a false verdict over all looks together.
    """
    low, high = -float(special.ndtri(error)), -float(special.ndtri(error / (last - first + 1)))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if crossing(middle, first, last) > error else (low, middle)
    return high


def crossing(constant: float, first: int, last: int) -> float:
    """Return the chance that z exceeds a constant at some look when there is no difference."""
    half = _WIDTH * math.sqrt(last)
    sums = np.linspace(-half, half, _GRID)
    width = sums[1] - sums[0]
    density = np.exp(-0.5 * sums**2 / first) / math.sqrt(2 * math.pi * first)
    step = np.exp(-0.5 * (sums[:, None] - sums[None, :]) ** 2) / math.sqrt(2 * math.pi)
    total = 0.0
    for pairs in range(first, last + 1):
        if pairs > first:
            density = step @ density * width
        edge = constant * math.sqrt(pairs)
        inside = np.clip((edge - sums) / width + 0.5, 0.0, 1.0)  # a cell that the edge cuts counts in part
        total += float(((1 - inside) * density).sum() * width)
        density = density * inside
    return total


def p_better(difference: float, sigma: float, pairs: float, freedom: int) -> float:
    """Return the probability that the first of two is better, given a flat prior and that sigma was estimated.

    Args:
        difference: by how much its mean is better.
        sigma: standard deviation of one score.
        pairs: scores on each side.
        freedom: degrees of freedom behind sigma.
    """
    return float(special.stdtr(max(freedom, 1), difference / (sigma * math.sqrt(2 / pairs))))


def pairs_needed(gain: float, sigma: float, constant: float, power: float = 0.8) -> float:
    """Return the pairs with which a true gain is found with such a power; infinite for no gain."""
    if gain <= 0:
        return math.inf
    return 2 * (sigma * (constant + float(special.ndtri(power))) / gain) ** 2


def detectable(sigma: float, pairs: int, constant: float, power: float = 0.8) -> float:
    """Return the smallest true gain that so many pairs find with such a power."""
    return sigma * (constant + float(special.ndtri(power))) * math.sqrt(2 / pairs)
