"""What a run has spent and may still spend: births, experiments, hours, GPU-seconds and dollars.

Pure arithmetic; the caller says what time it is. Does not own one experiment's training budget (training/clock.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from autoresearch_ray.config import Config


@dataclass(frozen=True, slots=True)
class Limits:
    """What the run may spend; None is no limit."""

    births: int | None = None
    experiments: int | None = None
    hours: float | None = None
    usd: float | None = None

    @classmethod
    def of(cls, config: Config) -> Limits:
        """Return the limits that a configuration sets; births default to 20 times the experiments."""
        births = config.max_births
        if births is None and config.max_experiments is not None:
            births = 20 * config.max_experiments
        return cls(births, config.max_experiments, config.max_hours, config.max_cost_usd)


@dataclass(slots=True)
class Spent:
    """What the run has spent so far; `experiments` counts every training but the lost ones.

    A running total that its ledger adds to in place, several times a birth: `dataclasses.replace` it to keep one.
    """

    births: int = 0
    experiments: int = 0
    hours: float = 0.0
    train_seconds: float = 0.0
    """On the experiments' own clocks, summed."""
    slot_seconds: float = 0.0
    """Wall-clock seconds in which a slot was busy, lost experiments included."""
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0


class Ledger:
    """Reserve before spending, settle after: `spent + reserved` never passes a limit.

    A birth reserves itself and its first experiment. A birth that is never trained gives the experiment back.
    """

    def __init__(self, limits: Limits, spent: Spent | None = None) -> None:
        self.limits = limits
        self.spent = replace(spent) if spent else Spent()
        self.reserved_experiments = 0

    def reserve_birth(self) -> bool:
        """Count one birth and reserve its first experiment; False, and nothing changed, if a limit forbids it."""
        limit = self.limits.births
        if self._closed() or (limit is not None and self.spent.births >= limit) or not self.reserve_experiment():
            return False
        self.spent.births += 1
        return True

    def reserve_experiment(self) -> bool:
        """Reserve one more experiment; False, and nothing changed, if a limit forbids it."""
        limit = self.limits.experiments
        if self._closed() or (limit is not None and self.spent.experiments + self.reserved_experiments >= limit):
            return False
        self.reserved_experiments += 1
        return True

    def release_experiment(self) -> None:
        """Give a reserved experiment back: its birth was rejected, or its operator failed."""
        if self.reserved_experiments < 1:
            raise ValueError("release_experiment: no experiment is reserved")
        self.reserved_experiments -= 1

    def settle_experiment(self, train_seconds: float, slot_seconds: float, *, lost: bool = False) -> None:
        """Turn a reservation into spending; a lost experiment costs slot time but is not counted."""
        self.release_experiment()
        self.spent.experiments += not lost
        self.spent.train_seconds += train_seconds
        self.spent.slot_seconds += slot_seconds

    def settle_operator(self, tokens_in: int, tokens_out: int, usd: float) -> None:
        """Add what an operator's calls cost."""
        self.spent.tokens_in += tokens_in
        self.spent.tokens_out += tokens_out
        self.spent.usd += usd

    def clock(self, hours: float) -> None:
        """Say how many hours the run has taken so far, earlier sittings included."""
        self.spent.hours = hours

    @property
    def births_left(self) -> int | None:
        """Births that may still begin; None without a limit."""
        return None if self.limits.births is None else max(0, self.limits.births - self.spent.births)

    @property
    def experiments_left(self) -> int | None:
        """Experiments neither spent nor reserved; None without a limit."""
        limit = self.limits.experiments
        return None if limit is None else max(0, limit - self.spent.experiments - self.reserved_experiments)

    @property
    def closed(self) -> bool:
        """True when nothing more may be started."""
        births, experiments = self.limits.births, self.limits.experiments
        return (
            self._closed()
            or (births is not None and self.spent.births >= births)
            or (experiments is not None and self.spent.experiments + self.reserved_experiments >= experiments)
        )

    def _closed(self) -> bool:
        return self.limits.hours is not None and self.spent.hours >= self.limits.hours
