"""What is under way between the driver's decisions: experiments waiting or training, and what has just ended.

Frozen values and pure functions between them. Does not own what happens next (driver.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from autoresearch_ray.errors import ClusterError, SeedError
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.training.supervisor import Phase
from autoresearch_ray.variant import Birth, Experiment, Result, Status, Variant


@dataclass
class Running:
    """An experiment waiting or in flight, and how far it got."""

    experiment: Experiment
    variant: Variant
    identity: str
    losses: int = 0
    """How often this very training was lost before."""
    phase: Phase | None = None
    place: str = ""


class Trainings:
    """Which trainings variants have had, or are having: replicates, numbered from 0. A kill can leave holes.

    One bit a training; of a variant that has ended, nothing is kept while it had its first training only.
    """

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def take(self, variant_id: str, *, ended: bool = False) -> int:
        """Return the number of the variant's next training: the first that is not taken, and take it.

        Args:
            variant_id: whose.
            ended: its birth has ended, so it had its first training.
        """
        taken = self._taken.get(variant_id, int(ended))
        free = (~taken & (taken + 1)).bit_length() - 1
        self._taken[variant_id] = taken | 1 << free
        return free

    def note(self, experiment_id: str, *, ended: bool = False) -> None:
        """Take the number that a recorded experiment has, which `experiment_name` gave it."""
        variant_id, _, number = experiment_id.rpartition("-")
        taken = self._taken.get(variant_id, int(ended)) | 1 << int(number)
        if taken > 1 or not ended:
            self._taken[variant_id] = taken

    def count(self, variant_id: str) -> int:
        """Return how many are taken, of a variant that has not ended or is trained again."""
        return self._taken.get(variant_id, 0).bit_count()

    def end(self, variant_id: str) -> None:
        """Take in that a birth has ended."""
        if self._taken.get(variant_id, 0) <= 1:
            self._taken.pop(variant_id, None)


def experiment_name(variant_id: str, number: int) -> str:
    """Return the id of a variant's training."""
    return f"{variant_id}-{number}"


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a birth or a replicate."""

    variant: Variant
    status: Status
    reason: str
    result: Result | None
    """None: never trained."""


def made(birth: Birth, parents: Sequence[Variant], answer: Proposal | Failure, now: datetime) -> Variant:
    """Return the variant that an operator's answer makes of a birth; without a source if it failed."""
    proposal = answer if isinstance(answer, Proposal) else None
    return Variant(
        birth=birth,
        parents=tuple(parent.variant_id for parent in parents),
        generation=1 + max(parent.generation for parent in parents),
        source=proposal.source if proposal else "",
        hypothesis=proposal.hypothesis if proposal else "",
        created_at=now,
        model=answer.model,
        prompt_hash=answer.prompt_hash,
        program_hash=answer.program_hash,
        usage=answer.usage,
        step_size=proposal.step_size if proposal else None,
    )


def seed_error(result: Result, losses: int) -> SeedError | ClusterError:
    """Return the error that ends a run whose seed failed its first training, or was lost so many times."""
    if result.status is Status.LOST:
        return ClusterError(f"The seed's training was lost {losses} times: {result.reason}")
    tail = "\n".join(result.log_tail.splitlines()[-15:])
    return SeedError(f"The seed program failed its first training ({result.status.value}: {result.reason}).\n{tail}")
