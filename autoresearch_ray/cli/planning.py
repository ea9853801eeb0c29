"""`run --dry-run`: what a configuration would spend at most, without starting anything."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rich.table import Table

from autoresearch_ray.config import Config
from autoresearch_ray.evolution.pacing import automatic_population, capacities, planned_experiments
from autoresearch_ray.explore.live import duration
from autoresearch_ray.ledger import Limits


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may spend at most; None is no limit."""

    births: int | None
    experiments: int | None
    hours: float | None
    """Wall-clock, if every experiment took its training budget and a fifth of it for start-up and scoring."""
    usd: float | None
    slots: int | None
    """As many as this machine would have; None on a cluster, which is not asked."""
    population: tuple[int, ...]
    """Members an island."""


def budget(config: Config) -> Budget:
    """Work out what a configuration would spend at most."""
    limits = Limits.of(config)
    slots = _slots(config)
    hours = limits.hours
    if limits.experiments is not None and slots:
        needed = limits.experiments * config.train_seconds * 1.2 / slots / 3600
        hours = needed if hours is None else min(hours, needed)
    size = config.population_size
    if isinstance(size, str):
        size = automatic_population(planned_experiments(config, slots or 1), slots or 1)
    usd = limits.usd if config.llm.models or config.operator.kind == "agent" else 0.0
    return Budget(limits.births, limits.experiments, hours, usd, slots, tuple(capacities(size, config.num_islands)))


def table(planned: Budget) -> Table:
    """Draw a budget."""
    drawn = Table.grid(padding=(0, 2))
    drawn.add_column(style="dim")
    drawn.add_row("births", _most(planned.births))
    drawn.add_row("experiments", _most(planned.experiments))
    drawn.add_row("time", "no limit" if planned.hours is None else f"about {duration(planned.hours * 3600)}")
    drawn.add_row("dollars", "no limit" if planned.usd is None else f"at most {planned.usd:.2f}")
    drawn.add_row("slots", "what the cluster has room for" if planned.slots is None else str(planned.slots))
    drawn.add_row("population", " + ".join(map(str, planned.population)))
    return drawn


def _slots(config: Config) -> int | None:
    if config.address:
        return None
    slots = int((os.cpu_count() or 1) / config.num_cpus + 1e-9)
    return max(1, min(slots, config.max_slots) if config.max_slots else slots) if config.device == "cpu" else None


def _most(limit: int | None) -> str:
    return "no limit" if limit is None else f"at most {limit}"
