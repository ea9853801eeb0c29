"""Who is better, and who breeds: ranking by posterior mean and tournaments over it.

Pure functions; whoever is random takes a generator. Does not own the population (evolution/island.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoresearch_ray.evolution.noise import Noise, Prior
from autoresearch_ray.variant import Variant


@dataclass(frozen=True, slots=True)
class Member:
    """A variant in a population, with the scores of all its completed experiments (val_bpb, lower is better).

    Only the seed may be a member before its first score.
    """

    variant: Variant
    scores: tuple[float, ...]
    prior: Prior | None = None
    """What its parents let expect; None where nothing was known."""


def ranked(members: Sequence[Member], noise: Noise) -> list[Member]:
    """Return the members, best first: lowest posterior mean, at a tie the older birth.

    One without a score comes last: nothing is known for it, and its first score will bring it back. A total order that
    needs no source, so that ranking depends neither on the order of the argument nor on who has the sources at hand.
    """
    return [members[place] for _, _, place in sorted(_keys(members, noise))]


def worst(members: Sequence[Member], count: int, noise: Noise) -> list[Member]:
    """Return the last `count` of `ranked`, best first, without ranking the rest."""
    return [members[place] for _, _, place in reversed(heapq.nlargest(count, _keys(members, noise)))]


def tournament(members: Sequence[Member], size: int, noise: Noise, rng: np.random.Generator) -> Member:
    """Draw `size` members without replacement (all of them if there are fewer) and return the best.

    Size 1 is a uniform choice; a size of the population or more always gives the best.

    Raises:
        ValueError: there is no member, or size < 1.
    """
    if not members:
        raise ValueError("tournament: expected at least one member, got none")
    if size < 1:
        raise ValueError(f"tournament: expected a size of at least 1, got {size}")
    drawn = rng.choice(len(members), size=min(size, len(members)), replace=False)
    places: list[int] = drawn.tolist()
    chosen = [members[place] for place in places]
    return chosen[min(_keys(chosen, noise))[2]]


def _keys(members: Sequence[Member], noise: Noise) -> list[tuple[float, int, int]]:
    """Return what members are ranked by, with their places in the argument."""
    means = noise.all_expected(members)
    numbers = [member.variant.birth.number for member in members]
    return list(zip(means, numbers, range(len(members)), strict=True))
