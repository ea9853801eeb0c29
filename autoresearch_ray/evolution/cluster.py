"""What passes between the driver and whatever carries its work out: one Protocol, orders and events.

Owns the seam only. Ray stands behind it in cluster/ray.py, a scripted cluster in the tests; failures arrive as values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from autoresearch_ray.evolution.island import Member
from autoresearch_ray.evolution.noise import Noise
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Request
from autoresearch_ray.training.supervisor import Phase
from autoresearch_ray.variant import Birth, Experiment, Result, Variant


@dataclass(frozen=True, slots=True)
class Mated:
    """An island chose parents: the first candidate breeds; a crossover takes its mate from the others."""

    island: int
    births: tuple[Birth, ...]
    candidates: tuple[tuple[Variant, ...], ...]
    """One tuple a birth, best first."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """An operator answered for a birth."""

    birth: Birth
    answer: Proposal | Failure


@dataclass(frozen=True, slots=True)
class Progressed:
    """An experiment got further; only the live view cares."""

    experiment_id: str
    phase: Phase
    place: str
    """Where it runs, as the user knows it: `cpu`, `GPU 3`, `node-b GPU 3`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An experiment ended, one way or another; its result may say `lost`."""

    experiment_id: str
    result: Result


@dataclass(frozen=True, slots=True)
class Emigrated:
    """An island gave copies of its best members."""

    island: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class IslandLost:
    """An island's holder died with what it had been asked; the driver rebuilds it from the lineage and asks again."""

    island: int


Event = Mated | Proposed | Progressed | Measured | Emigrated | IslandLost


class Cluster(Protocol):
    """Carries out what the driver decides.

    Every order but `absorb`, `revise`, `resize` and `rebuild` is answered by one final event. Orders to one island are
    carried out in the order given. Nothing here raises for what a variant, an operator or a machine does wrong.
    """

    @property
    def slots(self) -> int:
        """Experiments that can run at one time."""
        ...

    def now(self) -> float:
        """Seconds since the epoch, on this cluster's clock."""
        ...

    def rebuild(self, island: int, capacity: int, members: Sequence[Member]) -> None:
        """(Re)place an island by one with exactly these members."""
        ...

    def absorb(self, island: int, members: Sequence[Member], noise: Noise) -> None:
        """Let an island take members in, or replace them by id."""
        ...

    def revise(self, island: int, member: Member) -> None:
        """Let an island replace a member by id, if it still holds it."""
        ...

    def mate(self, island: int, births: Sequence[Birth], noise: Noise, tournament_size: int) -> None:
        """Ask for parents, for a batch of births: answered by `Mated` (or `IslandLost`)."""
        ...

    def emigrate(self, island: int, count: int, noise: Noise) -> None:
        """Ask for copies of the best members: answered by `Emigrated` (or `IslandLost`)."""
        ...

    def resize(self, island: int, capacity: int, noise: Noise) -> None:
        """Change how many members an island holds at most."""
        ...

    def propose(self, request: Request) -> None:
        """Ask the birth's operator for a variant: answered by `Proposed`."""
        ...

    def train(self, experiment: Experiment) -> None:
        """Queue an experiment for the next free slot: answered by any number of `Progressed` and one `Measured`."""
        ...

    def withdraw(self, experiment_ids: Sequence[str]) -> list[str]:
        """Take experiments back that have not begun; return those of them that could be. No event follows for these."""
        ...

    def next_event(self, timeout: float) -> Event | None:
        """Return the next event, waiting at most `timeout` seconds; None if there was none."""
        ...
