"""One bounded subpopulation: who stays, who breeds, who emigrates. Pure: no clock, no I/O, and no generator of its own.

Does not own the actor that holds it (cluster/ray_actors.py), nor when births and migrations happen (driver.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoresearch_ray.evolution.noise import Noise
from autoresearch_ray.evolution.selection import Member, ranked, tournament, worst
from autoresearch_ray.variant import Birth, Operator, Variant

__all__ = ["SECOND_PARENTS", "Island", "Member"]

SECOND_PARENTS = 3
"""Candidates for the second parent of a crossover: the first may be an ancestor or a descendant of the other parent."""

# The operator draws from the same birth's seed; this keeps the tournament's draws apart from its.
_STREAM = 1


class Island:
    """At most `capacity` members, one a variant. The same calls in the same order give the same island.

    With capacity 1 it is a greedy hill-climber: the best so far breeds, and only a better one replaces it.
    """

    def __init__(self, capacity: int, members: Sequence[Member] = ()) -> None:
        """Make an island, for instance from what a lost actor's island held.

        Raises:
            ValueError: capacity < 1, or more members than that.
        """
        self._capacity = _checked(capacity)
        self._members = {member.variant.variant_id: member for member in members}
        if len(self._members) > capacity:
            raise ValueError(f"Island: expected at most {capacity} members, got {len(self._members)}")

    @property
    def capacity(self) -> int:
        """Members that the island holds at most."""
        return self._capacity

    @property
    def members(self) -> tuple[Member, ...]:
        """The members in the order in which they came."""
        return tuple(self._members.values())

    def absorb(self, member: Member, noise: Noise) -> list[str]:
        """Insert a member, or replace the one of the same variant (say, after a replicate), and evict the worst.

        Returns:
            The ids evicted to stay within capacity, perhaps the newcomer's own.
        """
        self._members[member.variant.variant_id] = member
        return self._trim(noise)

    def revise(self, member: Member) -> None:
        """Replace the member of the same variant, if it is still here: a guest's scores must not stay as it came."""
        if member.variant.variant_id in self._members:
            self._members[member.variant.variant_id] = member

    def resize(self, capacity: int, noise: Noise) -> list[str]:
        """Change the capacity and return the ids of the worst, evicted to fit (Raises ValueError: capacity < 1)."""
        self._capacity = _checked(capacity)
        return self._trim(noise)

    def mate(self, birth: Birth, noise: Noise, tournament_size: int) -> tuple[Variant, ...]:
        """Choose parents for a birth; everything random about it comes from the birth's seed.

        Returns:
            The winner of a tournament. For a crossover, behind it up to `SECOND_PARENTS` winners of further tournaments
            among those not yet chosen: candidates for the second parent, in order of preference; none if the island has
            one member.

        Raises:
            ValueError: the island is empty, or tournament_size < 1.
        """
        rng = np.random.default_rng([birth.seed, _STREAM])
        pool = list(self._members.values())
        chosen = [tournament(pool, tournament_size, noise, rng)]
        if birth.operator is Operator.CROSSOVER:
            for _ in range(min(SECOND_PARENTS, len(pool) - 1)):
                pool = [member for member in pool if member is not chosen[-1]]
                chosen.append(tournament(pool, tournament_size, noise, rng))
        return tuple(member.variant for member in chosen)

    def emigrants(self, count: int, noise: Noise) -> list[Member]:
        """Return copies of the `count` best scored members, best first; they stay here as well."""
        scored = [member for member in self._members.values() if member.scores]
        return ranked(scored, noise)[: max(count, 0)]

    def _trim(self, noise: Noise) -> list[str]:
        excess = len(self._members) - self._capacity
        if excess <= 0:
            return []
        evicted = [member.variant.variant_id for member in worst(self.members, excess, noise)]
        for variant_id in evicted:
            del self._members[variant_id]
        return evicted


def _checked(capacity: int) -> int:
    if capacity < 1:
        raise ValueError(f"Island: expected a capacity of at least 1, got {capacity}")
    return capacity
