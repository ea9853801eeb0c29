"""A cluster that completes work in the order in which it was asked for, in this process, on a clock of its own.

A landscape function stands for training; faults are planted by experiment or by island.
"""

from __future__ import annotations

import ast
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from autoresearch_ray.evolution.cluster import Emigrated, Event, IslandLost, Mated, Measured, Proposed
from autoresearch_ray.evolution.island import Island, Member
from autoresearch_ray.evolution.noise import Noise
from autoresearch_ray.operators import dispatch
from autoresearch_ray.operators.request import Request
from autoresearch_ray.variant import Birth, Experiment, Result, Status

SEED_SOURCE = '''"""A toy train.py: its score is a function of its literals."""
from prepare import evaluate_bpb, make_dataloader

LR = 0.5
WIDTH = 64
DEPTH = 2
DECAY = 0.1

loader = make_dataloader(4, 16)
evaluate_bpb(None)
'''


def literals(source: str) -> dict[str, float]:
    """Return the module-level numbers of a source."""
    return {
        target.id: ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.isupper()
    }


def bowl(experiment: Experiment) -> Result:
    """Score lower the nearer the literals are to an optimum: LR 0.1, WIDTH 256, DECAY 0.01; no noise."""
    values = literals(experiment.source)
    distance = sum(
        math.log(max(values[name], 1e-9) / best) ** 2 for name, best in (("LR", 0.1), ("WIDTH", 256), ("DECAY", 0.01))
    )
    return Result(
        status=Status.COMPLETED, val_bpb=1.0 + 0.01 * distance, verified=True, train_seconds=1.0, wall_seconds=1.5
    )


class ScriptedCluster:
    """First in, first out. Unless it `learns`, literals are stepped at random, which takes no time."""

    def __init__(self, train: Callable[[Experiment], Result] = bowl, slots: int = 2, *, learns: bool = False) -> None:
        self._learns = learns
        self.slots = slots
        self.islands: dict[int, Island] = {}
        self.experiments: list[Experiment] = []
        self.proposals: list[Birth] = []
        self.lose_island_at_mate: set[int] = set()
        self._train = train
        self._queue: deque[Callable[[], Event]] = deque()
        self._clock = 1_800_000_000.0
        self._mates = 0

    def now(self) -> float:
        return self._clock

    def rebuild(self, island: int, capacity: int, members: Sequence[Member]) -> None:
        self.islands[island] = Island(capacity, members)

    def absorb(self, island: int, members: Sequence[Member], noise: Noise) -> None:
        for member in members if island in self.islands else ():
            self.islands[island].absorb(member, noise)

    def revise(self, island: int, member: Member) -> None:
        if island in self.islands:
            self.islands[island].revise(member)

    def mate(self, island: int, births: Sequence[Birth], noise: Noise, tournament_size: int) -> None:
        self._mates += 1
        if island not in self.islands:  # lost: what it is asked is lost too, and the one event is on its way
            return
        if self._mates in self.lose_island_at_mate:
            del self.islands[island]
            self._queue.append(lambda: IslandLost(island))
            return
        chosen = tuple(self.islands[island].mate(birth, noise, tournament_size) for birth in births)
        self._queue.append(lambda: Mated(island, tuple(births), chosen))

    def emigrate(self, island: int, count: int, noise: Noise) -> None:
        if island not in self.islands:
            return
        members = tuple(self.islands[island].emigrants(count, noise))
        self._queue.append(lambda: Emigrated(island, members))

    def resize(self, island: int, capacity: int, noise: Noise) -> None:
        self.islands[island].resize(capacity, noise)

    def propose(self, request: Request) -> None:
        self.proposals.append(request.birth)
        answer = dispatch.propose(request if self._learns else replace(request, trials=()))
        self._queue.append(lambda: Proposed(request.birth, answer))

    def train(self, experiment: Experiment) -> None:
        self.experiments.append(experiment)

        def finish() -> Event:
            self._clock += 10.0
            return Measured(experiment.experiment_id, self._train(experiment))

        self._queue.append(finish)

    def withdraw(self, experiment_ids: Sequence[str]) -> list[str]:
        return []  # here a training begins as soon as it is asked for

    def next_event(self, timeout: float) -> Event | None:
        if timeout == 0.0 or not self._queue:  # one event a turn: the loop decides between any two
            return None
        return self._queue.popleft()()
