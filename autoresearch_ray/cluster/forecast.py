"""Which population size does best on so many slots in so many hours: many simulated searches of each, compared.

Owns how many are run and what is concluded. Does not own one of them (simulation.py), nor how it is shown (cli/).
"""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from autoresearch_ray.cluster.simulated import World
from autoresearch_ray.cluster.simulation import simulate
from autoresearch_ray.config import Config
from autoresearch_ray.errors import ClusterError
from autoresearch_ray.operators import dispatch, steps
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Request
from autoresearch_ray.variant import Operator

GREEDY = 1
"""The size that is always among the candidates: a hill-climber that keeps the best."""
MARKS = 60
"""Moments at which the searches are compared, evenly over the simulated time."""
FEWEST, MOST = 4, 32
"""Searches of each size."""
LARGEST = 1500
"""Experiments of one simulated search at most; a longer one is simulated for as long as it has so many."""
LEARNS = 120
"""Up to so many experiments, numbers are set by the operator that learns, as in a real run. It takes some 20 ms a
birth, so longer searches are simulated with plain random steps."""

Truths = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Night:
    """What a forecast is asked for."""

    sizes: tuple[int, ...]
    hours: float
    config: Config
    """Of the searches; size, hours and seed are set here."""
    world: World

    @property
    def experiments(self) -> float:
        """Trainings that the slots have time for."""
        slots = sum(node.slots for node in self.world.nodes)
        return self.hours * 3600 * slots / self.world.experiment_seconds

    @property
    def learns(self) -> bool:
        """Whether there is time to simulate the operator that learns."""
        return self.experiments <= LEARNS

    @property
    def simulated_hours(self) -> float:
        """How much of the time is simulated."""
        return self.hours * min(1.0, LARGEST / self.experiments)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What searches of one size came to: the true score of their best guess, lower is better."""

    population_size: int
    truths: Truths
    """(searches, MARKS)."""

    @property
    def expected(self) -> Truths:
        """The mean at each mark."""
        return np.asarray(self.truths.mean(axis=0))

    @property
    def uncertainty(self) -> Truths:
        """Half the width of the 95 % interval of that mean, from the searches' own scatter."""
        count = len(self.truths)
        return np.asarray(1.96 * self.truths.std(axis=0, ddof=1) / math.sqrt(count))

    def quantile(self, share: float) -> Truths:
        """Return what that share of the searches reached or went below, at each mark."""
        return np.asarray(np.quantile(self.truths, share, axis=0))


@dataclass(frozen=True, slots=True)
class Forecast:
    """All sizes compared, over the same seeds."""

    hours: tuple[float, ...]
    """The marks."""
    outlooks: tuple[Outlook, ...]
    start: float
    """The true score of the first variant."""

    @property
    def searches(self) -> int:
        """Simulated searches of each size."""
        return len(self.outlooks[0].truths)

    @property
    def recommended(self) -> Outlook:
        """The smallest size that nothing beats for certain: its mean is within the noise of the best one's."""
        best = min(self.outlooks, key=lambda each: each.expected[-1])
        for outlook in sorted(self.outlooks, key=lambda each: each.population_size):
            behind = outlook.truths[:, -1] - best.truths[:, -1]
            if behind.mean() <= behind.std(ddof=1) / math.sqrt(len(behind)):
                return outlook
        return best


def forecast(night: Night, seconds: float, processes: int | None = None) -> Iterator[Forecast]:
    """Simulate searches of every size, one of each after the other, and yield what is known after each round.

    Rounds go on while another one ends in time, at least `FEWEST` and at most `MOST`; all sizes see the same seeds.

    Args:
        night: what is asked.
        seconds: wall-clock time to spend.
        processes: at a time; None is one a core.

    Raises:
        ClusterError: a simulating process was ended from outside, as by a machine that runs out of memory.
    """
    sizes = sorted({GREEDY, *night.sizes})
    marks = np.linspace(night.simulated_hours / MARKS, night.simulated_hours, MARKS)
    start = night.world.landscape.score(night.world.landscape.seed)
    assert start is not None
    began = time.monotonic()
    courses: list[list[Truths]] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes or os.cpu_count() or 1, mp_context=context) as pool:
        for seed in range(MOST):
            if seed >= FEWEST and (time.monotonic() - began) * (seed + 1) / seed > seconds:
                break
            try:
                courses.append(list(pool.map(_course, *zip(*((night, size, seed) for size in sizes), strict=True))))
            except BrokenProcessPool:
                raise ClusterError(
                    "A process that simulates was ended from outside (out of memory?): plan fewer sizes or hours."
                ) from None
            if seed:
                stacked = map(np.stack, zip(*courses, strict=True))
                yield Forecast(tuple(marks.tolist()), tuple(map(Outlook, sizes, stacked)), start)


def _course(night: Night, size: int, seed: int) -> Truths:
    """Return the true score of one search's best guess at each mark."""
    settings = {"population_size": size, "max_hours": night.simulated_hours, "max_experiments": None, "seed": seed}
    world = replace(night.world, tick=_tick(night.world))
    operators = dispatch.propose if night.learns else _plain
    course = simulate(night.config.model_copy(update=settings), world, operators=operators)
    hours = night.simulated_hours
    return np.array([course.at(3600 * mark) for mark in np.linspace(hours / MARKS, hours, MARKS)])


def _plain(request: Request) -> Proposal | Failure:
    """Answer as the real operators do, but for numbers: they take plain random steps."""
    if request.birth.operator is Operator.PARAMETERS:
        return steps.mutate(request.parents[0].variant, np.random.default_rng(request.birth.seed))
    return dispatch.propose(request)


def _tick(world: World) -> float:
    """Return how long a batch of events lasts: a tenth of the slots end in it where there are many, to save time."""
    slots = sum(node.slots for node in world.nodes)
    return world.experiment_seconds / 10 if slots >= 64 else 0.0
