"""When a search ends before its ledger is spent. Pure.

Does not own the ledger's own limits on births and experiments (ledger.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autoresearch_ray.config import Config
from autoresearch_ray.evolution.state import State
from autoresearch_ray.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Stop:
    """Why nothing new is started any more."""

    kind: Literal["interrupted", "asked", "hours", "deadline", "target", "plateau"]
    sentence: str

    @property
    def final(self) -> bool:
        """Whether there is no time left to confirm the best before the end."""
        return self.kind not in ("target", "plateau")


def stop_reason(config: Config, state: State, ledger: Ledger, now: float, deadline: float | None) -> Stop | None:
    """Return why the search should end now; None to go on.

    Args:
        config: `target` and `plateau`.
        state: the standings; the best is judged by its posterior mean, not by its luckiest score.
        ledger: hours, and the slot time an experiment has taken so far.
        now: seconds since the epoch.
        deadline: when everything shall have ended; a training that would end later is not begun.
    """
    hours = ledger.limits.hours
    if hours is not None and ledger.spent.hours >= hours:
        return Stop("hours", f"max_hours ({hours:g}) is spent")
    if deadline is not None and now + typical_seconds(config, ledger) > deadline:
        return Stop("deadline", "another training would not end by finish_by")
    best = state.best
    if best and config.target is not None and state.posterior(best).mean <= state.turn(config.target):
        return Stop("target", f"the target {config.target:g} is reached")
    if config.plateau is not None and state.since_best >= config.plateau:
        return Stop("plateau", f"{state.since_best} births without a better best")
    return None


def typical_seconds(config: Config, ledger: Ledger) -> float:
    """Return the wall-clock seconds of an experiment: as they were so far, or else its training budget."""
    if ledger.spent.experiments:
        return ledger.spent.slot_seconds / ledger.spent.experiments
    return config.train_seconds
