"""The islands as the driver sees them: how much each may hold, and what each has been asked and not answered.

Owns migration along the ring. The members themselves are held behind the cluster, and in the lineage.
"""

from __future__ import annotations

from collections.abc import Sequence

from autoresearch_ray.config import Config
from autoresearch_ray.errors import ClusterError
from autoresearch_ray.evolution.cluster import Cluster, Emigrated
from autoresearch_ray.evolution.island import Member
from autoresearch_ray.evolution.pacing import emigrant_count, migrates_after, neighbour, shared_out
from autoresearch_ray.evolution.state import State, homes
from autoresearch_ray.variant import Birth, Variant

LOSSES_IN_A_ROW = 5
"""An island that is lost so often, and never answers in between, ends the run: asking again would go on forever."""


class Archipelago:
    """All islands of a run. Orders to one island are carried out in the order given.

    Attributes:
        capacities: members each island may hold.
    """

    def __init__(self, cluster: Cluster, config: Config, state: State, capacities: Sequence[int]) -> None:
        self.capacities = list(capacities)
        self._cluster = cluster
        self._config = config
        self._state = state
        self._mating: list[dict[int, Birth]] = [{} for _ in capacities]
        self._emigrating: set[int] = set()
        self._losses = [0 for _ in capacities]

    def __len__(self) -> int:
        return len(self.capacities)

    @property
    def asked(self) -> list[Birth]:
        """Births whose parents have been asked for."""
        return [birth for births in self._mating for birth in births.values()]

    def found(self, islands: Sequence[Sequence[Member]]) -> None:
        """Place every island with its members."""
        for island, members in enumerate(islands):
            self._cluster.rebuild(island, self.capacities[island], members)

    def mate(self, births: Sequence[Birth]) -> None:
        """Ask the births' islands for parents, in one batch an island."""
        noise = self._state.noise.estimate()
        for island in sorted({birth.island for birth in births}):
            asked = tuple(birth for birth in births if birth.island == island)
            self._mating[island] |= {birth.number: birth for birth in asked}
            self._cluster.mate(island, asked, noise, self._config.tournament_size)

    def mated(self, birth: Birth) -> None:
        """Take in that a birth has its parents."""
        self._losses[birth.island] = 0
        del self._mating[birth.island][birth.number]

    def absorb(self, variant: Variant) -> None:
        """Let a scored variant into the islands it belongs to; where it is a guest, its new scores are made known."""
        member, at_home = self._state.member(variant), homes(variant.birth, len(self))
        for island in range(len(self)):
            if island in at_home:
                self._cluster.absorb(island, [member], self._state.noise.estimate())
            elif len(member.scores) > 1:
                self._cluster.revise(island, member)

    def migrate_after(self, number: int) -> None:
        """Ask every island for emigrants, if a migration is due once birth `number` has been made."""
        if len(self) < 2 or not migrates_after(number, self._config.migration_interval):
            return
        noise = self._state.noise.estimate()
        for island, capacity in enumerate(self.capacities):
            count = emigrant_count(capacity, self._config.migration_rate)
            if count and island not in self._emigrating:
                self._emigrating.add(island)
                self._cluster.emigrate(island, count, noise)

    def emigrated(self, event: Emigrated) -> tuple[int, list[Variant]]:
        """Send emigrants to the next island, with the scores as they stand now; return where to and who."""
        self._emigrating.discard(event.island)
        target = neighbour(event.island, len(self))
        migrants = [member.variant for member in event.members if member.scores]
        known = [self._state.member(variant) for variant in migrants]
        if known:
            self._cluster.absorb(target, known, self._state.noise.estimate())
        return target, migrants

    def resize(self, population_size: int) -> None:
        """Let all islands together hold so many members (Raises UsageError: fewer than islands)."""
        self.capacities = shared_out(population_size, len(self))
        for island, capacity in enumerate(self.capacities):
            self._cluster.resize(island, capacity, self._state.noise.estimate())

    def restore(self, island: int, members: Sequence[Member]) -> None:
        """Put a lost island back, and ask it again what it had been asked.

        Raises:
            ClusterError: it was lost so often without an answer that whatever it is asked must be what kills it.
        """
        self._losses[island] += 1
        if self._losses[island] >= LOSSES_IN_A_ROW:
            raise ClusterError(
                f"Island {island} was lost {self._losses[island]} times in a row without an answer: look at the "
                "cluster's logs, then `autoresearch-ray resume`."
            )
        self._cluster.rebuild(island, self.capacities[island], members)
        self._emigrating.discard(island)
        births = list(self._mating[island].values())
        self._mating[island].clear()
        self.mate(births)
