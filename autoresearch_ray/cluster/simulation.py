"""One simulated search: the real driver, islands, ledger and lineage on a simulated cluster, and what came of it.

Owns the course of the true best against time. Does not own the cluster (simulated.py), nor compares searches.
"""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from autoresearch_ray.cluster.simulated import Operators, SimulatedCluster, World, inspected
from autoresearch_ray.config import Config, LlmConfig, ModelConfig
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.ledger import Spent
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.sealing import Sealing
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators import dispatch

NAME = "simulated"


@dataclass(frozen=True, slots=True)
class Moment:
    """When the best guess of a search changed, and what it is really worth."""

    seconds: float
    experiments: int
    """Trainings that had ended by then, replicates included."""
    truth: float
    """The true score of the variant that the search takes for the best, lower is better."""


@dataclass(frozen=True, slots=True)
class Course:
    """What a simulated search came to."""

    moments: tuple[Moment, ...]
    spent: Spent
    births: int
    seconds: float
    busy: float
    """Part of the slot time in which a slot was busy."""

    def after(self, experiments: int) -> float:
        """Return the true score of the best guess once so many trainings had ended."""
        return self._at([moment.experiments for moment in self.moments], experiments)

    def at(self, seconds: float) -> float:
        """Return the true score of the best guess after so many seconds."""
        return self._at([moment.seconds for moment in self.moments], seconds)

    def reached(self, truth: float) -> int | None:
        """Return the trainings after which the best guess was truly that good for the first time; None: never."""
        return next((moment.experiments for moment in self.moments if moment.truth <= truth), None)

    def _at(self, marks: list[float] | list[int], mark: float) -> float:
        return self.moments[max(0, bisect_right(marks, mark) - 1)].truth


def language(config: Config) -> Config:
    """Return the configuration with one language model, for which the landscape stands in."""
    return config.model_copy(update={"llm": LlmConfig(models=(ModelConfig(name=NAME),))})


def simulate(
    config: Config,
    world: World,
    *,
    folder: Path | None = None,
    operators: Operators = dispatch.propose,
    finished: Callable[[Driver, SimulatedCluster], None] = lambda driver, cluster: None,
) -> Course:
    """Run one search to its end on the virtual clock; the same arguments give the same course.

    Args:
        config: of the search; its `seed` is the world's too.
        world: what it runs on; it must be `observed`.
        folder: where the lineage is kept; None throws it away.
        operators: makes variants without a language model; the real ones, unless it is not about them.
        finished: looks at driver and cluster before the lineage is closed.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="arr-simulated-") as temporary:
            return simulate(config, world, folder=Path(temporary) / NAME, operators=operators, finished=finished)
    cluster = SimulatedCluster(world, config.seed, operators=operators)
    start = world.landscape.score(world.landscape.seed)
    assert start is not None, "the first variant of the landscape crashes"
    moments = [Moment(0.0, 0, start)]
    best = 0

    def watch(driver: Driver) -> None:
        nonlocal best
        found = driver.state.best
        if found is not None and found.number != best:
            best = found.number
            truth = cluster.truths[found.variant_id]
            moments.append(Moment(cluster.elapsed, driver.ledger.spent.experiments, truth))

    with LineageStore.create(folder, NAME, sealing=Sealing(rows=20_000), durable=False) as lineage:
        driver = Driver(config, cluster, lineage, Origin(NAME), inspect=inspected, watch=watch)
        driver.begin(world.landscape.seed)
        driver.run()
        finished(driver, cluster)
        spent = replace(driver.ledger.spent)
        births = driver.births
    busy = cluster.busy_seconds / cluster.slot_seconds if cluster.slot_seconds else 0.0
    return Course(tuple(moments), spent, births, cluster.elapsed, busy)
