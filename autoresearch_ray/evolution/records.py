"""What the driver writes down: one row a birth, one an experiment, events; each folded into the standings at once.

Owns the order of rows that belong together. Does not own the store (lineage/) or what follows from a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from autoresearch_ray.evolution.breeding import idea_of
from autoresearch_ray.evolution.challenge import Challenge, Verdict
from autoresearch_ray.evolution.flight import Ended
from autoresearch_ray.evolution.memory import Memory
from autoresearch_ray.evolution.state import State
from autoresearch_ray.evolution.trials import Trials
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators.tunables import Literals
from autoresearch_ray.variant import Birth, Experiment, Result, Status, Variant


class Records:
    """Writes rows and keeps the standings and the memory in step with them.

    Attributes:
        ended: births and replicates that ended since the list was last cleared.
        open: numbers of the births that train and have no row yet.
        trials: what the operator `parameters` learns from.
    """

    def __init__(
        self, lineage: LineageStore, origin: Origin, state: State, memory: Memory, clock: Callable[[], float]
    ) -> None:
        self.trials = Trials(state)
        self.ended: list[Ended] = []
        self.open: set[int] = set()
        self._lineage = lineage
        self._origin = origin
        self._state = state
        self._memory = memory
        self._clock = clock

    def now(self) -> datetime:
        """Return the time on the cluster's clock."""
        return datetime.fromtimestamp(self._clock(), timezone.utc)

    def reserve(self, birth: Birth) -> None:
        """Note a birth that is about to be carried out."""
        self._lineage.reserve(birth)

    def proposed(
        self, variant: Variant, parents: tuple[int, ...], identity: str, literals: Literals | None = None
    ) -> None:
        """Note a variant that will be trained, with its literals if somebody has looked already."""
        self._lineage.propose(variant)
        self.conceived(variant, parents, identity, literals)

    def conceived(
        self, variant: Variant, parents: tuple[int, ...], identity: str, literals: Literals | None = None
    ) -> None:
        """Take in a variant that will be trained and is noted already."""
        self.trials.begun(variant.birth.number, literals or variant.source)
        self._state.conceived(variant.birth.number, parents, identity)
        self.open.add(variant.birth.number)

    def end(self, variant: Variant, identity: str | None, status: Status, reason: str) -> None:
        """Write the one row of a birth."""
        row = schema.variant_row(self._origin, variant, status, reason, ast_hash=identity)
        self._state.born(variant.birth, status, self._lineage.append("variants", row), variant.usage.usd)
        self.open.discard(variant.birth.number)
        self.trials.ended(variant.birth.number, status)
        if status in (Status.REJECTED, Status.OPERATOR_FAILED):
            self._note(variant, status, reason, None)

    def carried(self, variant: Variant, parents: tuple[int, ...], identity: str | None) -> None:
        """Write the row of a variant that was scored in another run of the same class; its trainings follow."""
        self._state.conceived(variant.birth.number, parents, identity or "")
        self.trials.begun(variant.birth.number, variant.source)
        row = schema.variant_row(self._origin, variant, Status.COMPLETED, ast_hash=identity)
        self._state.born(variant.birth, Status.COMPLETED, self._lineage.append("variants", row))
        self.trials.ended(variant.birth.number, Status.COMPLETED)

    def carried_training(self, variant: Variant, experiment: Experiment, result: Result) -> None:
        """Write the row of a training in another run; nobody here waited for it, and it is no news to later prompts."""
        self._lineage.append("experiments", schema.experiment_row(self._origin, experiment, result))
        self._state.measured(variant, result, experiment.purpose)
        self.trials.scored(variant.birth.number)
        self._memory.draw(variant.birth.number, result.curve)

    def measured(self, variant: Variant, experiment: Experiment, result: Result) -> tuple[float, ...] | None:
        """Write the row of an experiment; return all scores of the variant if this one added one."""
        self._lineage.append("experiments", schema.experiment_row(self._origin, experiment, result))
        scores = self._state.measured(variant, result, experiment.purpose)
        if scores:
            self.trials.scored(variant.birth.number)
            self._memory.draw(variant.birth.number, result.curve)
        self._note(variant, result.status, result.reason, result)
        return scores

    def challenge(self, challenger: Variant, incumbent: Variant, limit: int, *, simpler: bool) -> Challenge:
        """Write down that a challenge begins."""
        against = incumbent.variant_id
        self.event("challenge", variant_id=challenger.variant_id, incumbent=against, limit=limit, simpler=simpler)
        return self._state.title.challenged(challenger.birth.number, limit, simpler=simpler)

    def verdict(self, challenger: str, incumbent: str, verdict: Verdict, *, confirmed: bool) -> None:
        """Write down how a challenge ended, and its row if there is a new champion.

        Args:
            challenger: id of the challenger.
            incumbent: id of whoever held the title.
            verdict: on costs; the rows have the metric's own direction.
            confirmed: the incumbent was a champion, not just the seed.
        """
        turned = self._state.turn(verdict.mean)
        details: dict[str, Any] = asdict(verdict) | {"mean": turned}
        details = {name: _plain(value) for name, value in details.items()}
        self.event("verdict", variant_id=challenger, incumbent=incumbent, **details)
        self._state.title.ruled(verdict)
        if verdict.promotes:
            row = schema.champion_row(
                self._origin,
                challenger,
                self.now(),
                posterior_mean=turned,
                posterior_sd=verdict.sd,
                p_better=verdict.p_better,
                replaced=incumbent if confirmed else None,
                trainings=verdict.pairs,
                gain=verdict.gain,
                gain_sd=verdict.gain_sd,
                against=incumbent,
            )
            self._lineage.append("champions", row)

    def event(self, kind: str, *, variant_id: str | None = None, island: int | None = None, **details: Any) -> None:
        """Write the row of an event; details must be plain JSON values."""
        row = schema.event_row(self._origin, kind, self.now(), variant_id=variant_id, island=island, **details)
        self._lineage.append("events", row)

    def _note(self, variant: Variant, status: Status, reason: str, result: Result | None) -> None:
        """Keep what ended for the watcher, and for what later prompts say of it."""
        self.ended.append(Ended(variant, status, reason, result))
        if variant.birth.number and status is not Status.LOST:
            noise = self._state.noise.estimate()
            self._memory.note(idea_of(variant, status, reason, result, self._state, noise))


def _plain(value: Any) -> Any:
    """Return what JSON can hold: no infinities."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
