"""What runs on Ray's side: actors that hold islands and operators, tasks that train and examine. Called by ray.py.

Owns their options. Does not own what an island, an operator or a training does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import ray

from autoresearch_ray.cluster.node import examine
from autoresearch_ray.cluster.trainer import Trainer
from autoresearch_ray.evolution.island import Island, Member
from autoresearch_ray.evolution.noise import Noise
from autoresearch_ray.operators.desk import Desk, Terms
from autoresearch_ray.operators.ensemble import Readiness
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Request
from autoresearch_ray.training.supervisor import Phase
from autoresearch_ray.variant import Birth, Experiment, Result, Variant

_OPERATOR_THREADS = 16
_OFFLINE_THREADS = 2
"""Operators that ask nobody have threads of their own: they never wait for those that do."""


Order = tuple[Any, ...]
"""What an island is to do without an answer: the name of a method of `Island` and its arguments."""


class IslandHolder:
    """Holds one island: a cache of the lineage, rebuilt by the driver when lost."""

    def __init__(self, capacity: int, members: Sequence[Member]) -> None:
        self._island = Island(capacity, members)

    def mate(
        self, orders: Sequence[Order], births: Sequence[Birth], noise: Noise, tournament_size: int
    ) -> list[tuple[Variant, ...]]:
        """Carry out what was ordered before, and return the candidates for each birth's parents."""
        self.carry_out(orders)
        return [self._island.mate(birth, noise, tournament_size) for birth in births]

    def emigrants(self, orders: Sequence[Order], count: int, noise: Noise) -> list[Member]:
        """Carry out what was ordered before, and return copies of the best members."""
        self.carry_out(orders)
        return self._island.emigrants(count, noise)

    def carry_out(self, orders: Sequence[Order]) -> None:
        """Do what needs no answer, in its order."""
        for name, *arguments in orders:
            getattr(self._island, name)(*arguments)


class OperatorDesk:
    """Carries out operators, several at a time; holds the language models, their keys and their cap."""

    def __init__(self) -> None:
        self._desk = Desk(Terms(), 0.0)

    def hire(self, terms: Terms, spent_usd: float) -> None:
        """Take the terms on. Keys come here in this call alone: not by environment, not by runtime_env."""
        self._desk = Desk(terms, spent_usd)

    def check(self) -> Readiness:
        """Find out whether everybody can be asked (Raises ConfigError: one of them cannot)."""
        return self._desk.check()

    def propose(self, request: Request) -> Proposal | Failure:
        """Return the operator's answer."""
        return self._desk.propose(request)

    def close(self) -> None:
        """End what operators started."""
        self._desk.close()


def train(trainer: Trainer, experiment: Experiment) -> Iterator[tuple[str, Phase] | Result]:
    """Train and score in this worker, whose supervisor stays warm for the next experiment."""
    yield from trainer.run(experiment, gpu=_own_gpu())


def _own_gpu() -> str | None:
    """Return the id of the GPU that Ray gave this task; None on the CPU."""
    gpus = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    return gpus[0] if gpus else None


# Ray's decorators are typed too narrowly for their own options, hence Any. `max_retries=0`: whether a crashed training
# is tried again is the driver's decision. `max_calls=0`: with a GPU Ray would end the worker, and its warm supervisor.
island_actor: Any = ray.remote(num_cpus=0, max_restarts=0)(IslandHolder)
_remote: Any = ray.remote
operator_actor = _remote(
    num_cpus=0, max_restarts=0, concurrency_groups={"asking": _OPERATOR_THREADS, "offline": _OFFLINE_THREADS}
)(OperatorDesk)
train_task: Any = ray.remote(num_returns="streaming", max_retries=0, max_calls=0)(train)
examine_task: Any = ray.remote(num_cpus=0, max_retries=0)(examine)
