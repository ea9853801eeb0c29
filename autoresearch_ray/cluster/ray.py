"""Carries births out on Ray: islands and operators as actors, trainings as tasks with a fraction of a GPU or CPU cores.

Owns every call to Ray and what its failures mean. Decides nothing: the driver does (evolution/driver.py).
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autoresearch_ray.cluster.node import Examination, Finding, Question, examine
from autoresearch_ray.cluster.trainer import Trainer
from autoresearch_ray.errors import AutoresearchError, ClusterError
from autoresearch_ray.evolution.cluster import (
    Emigrated,
    Event,
    IslandLost,
    Mated,
    Measured,
    Progressed,
    Proposed,
)
from autoresearch_ray.evolution.island import Island, Member
from autoresearch_ray.evolution.noise import Noise
from autoresearch_ray.operators.desk import Desk, Terms
from autoresearch_ray.operators.ensemble import Readiness
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Request
from autoresearch_ray.training.supervisor import Phase
from autoresearch_ray.variant import Birth, Experiment, Result, Status, Usage, Variant

_OPERATOR_THREADS = 16
_OFFLINE_THREADS = 2
"""Operators that ask nobody have threads of their own: they never wait for those that do."""
_FAREWELL_SECONDS = 5.0
_RESOURCES_SECONDS = 5.0
_EXAMINATION_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Slot:
    """What one experiment occupies: CPU cores, and a share of a GPU (0 trains on the CPU)."""

    num_cpus: float
    num_gpus: float


# --------------------------------------------------------------------------------------------------- the remote side


class IslandHolder:
    """Holds one island: a cache of the lineage, rebuilt by the driver when lost."""

    def __init__(self, capacity: int, members: Sequence[Member]) -> None:
        self._island = Island(capacity, members)

    def absorb(self, members: Sequence[Member], noise: Noise) -> None:
        """Take members in, in order."""
        for member in members:
            self._island.absorb(member, noise)

    def mate(self, births: Sequence[Birth], noise: Noise, tournament_size: int) -> list[tuple[Variant, ...]]:
        """Return the candidates for each birth's parents."""
        return [self._island.mate(birth, noise, tournament_size) for birth in births]

    def resize(self, capacity: int, noise: Noise) -> None:
        """Change how many members it may hold."""
        self._island.resize(capacity, noise)

    def emigrants(self, count: int, noise: Noise) -> list[Member]:
        """Return copies of the best members."""
        return self._island.emigrants(count, noise)


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
_island_actor: Any = ray.remote(num_cpus=0, max_restarts=0)(IslandHolder)
_remote: Any = ray.remote
_operator_actor = _remote(
    num_cpus=0, max_restarts=0, concurrency_groups={"asking": _OPERATOR_THREADS, "offline": _OFFLINE_THREADS}
)(OperatorDesk)
_train_task: Any = ray.remote(num_returns="streaming", max_retries=0, max_calls=0)(train)
_examine_task: Any = ray.remote(num_cpus=0, max_retries=0)(examine)


# --------------------------------------------------------------------------------------------------- the driver's side


@dataclass(frozen=True, slots=True)
class _Pending:
    """What an unanswered call to Ray is about."""

    kind: Literal["mate", "emigrate", "propose", "train"]
    subject: Any
    """An island's number (mate, emigrate), a birth (propose), or an experiment (train)."""
    births: tuple[Birth, ...] = ()


class RayCluster:
    """The Ray side of `evolution.cluster.Cluster`; a context manager that leaves nothing running."""

    def __init__(
        self,
        trainer: Trainer,
        slot: Slot,
        *,
        max_slots: int | None = None,
        address: str | None = None,
        terms: Terms | None = None,
    ) -> None:
        """Start Ray on this machine, or join the cluster at `address` (`auto` or `host:port`).

        Args:
            trainer: how experiments are trained.
            slot: what one of them occupies.
            max_slots: at most so many at a time; None is what there is room for.
            address: a running cluster; None starts Ray here.
            terms: language models; None works offline.

        Raises:
            ClusterError: the address does not answer, or no node has room for a single experiment.
            ConfigError: a language model is unknown, has no key or price, or does not answer.
        """
        self._slot = slot
        self._max_slots = max_slots
        self._folder = None if address else Path(tempfile.mkdtemp(prefix="arr-", dir="/tmp"))
        self._islands: dict[int, Any] = {}
        self._operators: Any = None
        self._pending: dict[Any, _Pending] = {}
        self._events: deque[Event] = deque()
        _connect(address, self._folder)
        try:
            self._slots, self._counted_at = self._count_slots(), time.monotonic()
            if self._slots < 1:
                raise ClusterError(_no_room(slot))
            self._trainer = ray.put(trainer)
            self._train = _train_task.options(num_cpus=slot.num_cpus, num_gpus=slot.num_gpus)
            self._terms = terms
            self._spent_usd = terms.spent_usd if terms else 0.0
            self.readiness = Readiness(Usage(), 0.0)
            self._open_desk()
            self.readiness = self._check()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything this run has on the cluster; a Ray started here is stopped, one that was joined goes on."""
        if ray.is_initialized():
            if self._operators is not None:  # or the agents that it runs would go on without it
                goodbye = self._operators.close.options(concurrency_group="offline").remote()
                ray.wait([goodbye], timeout=_FAREWELL_SECONDS)
            for actor in (*self._islands.values(), self._operators):
                if actor is not None:
                    ray.kill(actor)
            ray.shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    # ------------------------------------------------------------------------------------------------------- orders

    @property
    def slots(self) -> int:
        """Experiments that can run at one time; nodes that join or leave are noticed within seconds."""
        if time.monotonic() - self._counted_at > _RESOURCES_SECONDS:
            self._slots, self._counted_at = max(1, self._count_slots()), time.monotonic()
        return self._slots

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def rebuild(self, island: int, capacity: int, members: Sequence[Member]) -> None:
        """(Re)place an island's actor."""
        self._islands[island] = _island_actor.remote(capacity, list(members))

    def absorb(self, island: int, members: Sequence[Member], noise: Noise) -> None:
        """Send members to an island; if its actor is dead the next `mate` or `emigrate` finds out."""
        self._islands[island].absorb.remote(list(members), noise)

    def mate(self, island: int, births: Sequence[Birth], noise: Noise, tournament_size: int) -> None:
        """Ask an island for parents."""
        reference = self._islands[island].mate.remote(list(births), noise, tournament_size)
        self._pending[reference] = _Pending("mate", island, tuple(births))

    def emigrate(self, island: int, count: int, noise: Noise) -> None:
        """Ask an island for copies of its best."""
        self._pending[self._islands[island].emigrants.remote(count, noise)] = _Pending("emigrate", island)

    def resize(self, island: int, capacity: int, noise: Noise) -> None:
        """Change an island's capacity."""
        self._islands[island].resize.remote(capacity, noise)

    def propose(self, request: Request) -> None:
        """Ask the operators' actor for a variant."""
        group = "asking" if request.language else "offline"
        reference = self._operators.propose.options(concurrency_group=group).remote(request)
        self._pending[reference] = _Pending("propose", request.birth)

    def train(self, experiment: Experiment) -> None:
        """Queue a training task; Ray starts it as soon as a slot is free."""
        self._pending[self._train.remote(self._trainer, experiment)] = _Pending("train", experiment)

    def withdraw(self, experiment_ids: Sequence[str]) -> list[str]:
        """Cancel training tasks that wait for a slot."""
        wanted = set(experiment_ids)
        queued = {
            reference: pending.subject.experiment_id
            for reference, pending in self._pending.items()
            if pending.kind == "train" and pending.subject.experiment_id in wanted
        }
        for reference in queued:
            ray.cancel(reference)
            del self._pending[reference]
        return list(queued.values())

    # ------------------------------------------------------------------------------------------------------- events

    def next_event(self, timeout: float) -> Event | None:
        """Return the next event, waiting at most `timeout` seconds; None if there was none."""
        deadline = time.monotonic() + timeout
        while not self._events:
            if not self._pending:
                return None
            left = max(0.0, deadline - time.monotonic())
            ready, _ = ray.wait(list(self._pending), num_returns=1, timeout=left)
            if not ready:
                return None
            self._answer(ready[0], self._pending[ready[0]])
        return self._events.popleft()

    def _answer(self, reference: Any, pending: _Pending) -> None:
        """Turn one ready reference into events."""
        try:
            value = ray.get(next(reference) if pending.kind == "train" else reference)
        except StopIteration:
            # A stream that ended without a result has been answered by its error, or was cut short.
            del self._pending[reference]
            self._events.append(Measured(pending.subject.experiment_id, _lost("the training ended without a result")))
            return
        except ray.exceptions.RayError as error:
            del self._pending[reference]
            self._failed(pending, error)
            return
        if pending.kind == "train" and not isinstance(value, Result):
            place, phase = value
            self._events.append(Progressed(pending.subject.experiment_id, phase, place))
            return
        del self._pending[reference]
        if pending.kind == "propose":
            self._spent_usd += value.usage.usd
        self._events.append(_event(pending, value))

    def _failed(self, pending: _Pending, error: ray.exceptions.RayError) -> None:
        reason = _sentence(error)
        if pending.kind == "train":
            self._events.append(Measured(pending.subject.experiment_id, _lost(reason)))
        elif pending.kind == "propose":
            if not isinstance(error, ray.exceptions.RayTaskError):  # the actor is gone, not only this call
                self._open_desk()
            self._events.append(Proposed(pending.subject, Failure(f"The operator's process failed: {reason}")))
        else:  # whatever else that island was asked died with it: one event for all
            island = pending.subject
            lost = [key for key, other in self._pending.items() if _asks(other, island)]
            for key in lost:
                del self._pending[key]
            self._events.append(IslandLost(island))

    def _open_desk(self) -> None:
        """Start the operators' actor, or replace it; calls that died with one are taken for paid in full."""
        # Here, and not on another node: logs, notes, inboxes and the user's coding agents are on this machine.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._operators = _operator_actor.options(scheduling_strategy=here).remote()
        if self._terms is not None:
            asking = sum(pending.kind == "propose" for pending in self._pending.values())
            self._spent_usd += 2 * asking * self.readiness.call_usd
            # Awaited: an actor with several threads does not keep the order of its calls.
            ray.get(self._operators.hire.remote(self._terms, self._spent_usd))

    def _check(self) -> Readiness:
        try:
            readiness: Readiness = ray.get(self._operators.check.remote())
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, AutoresearchError):
                raise error.cause from None
            raise
        self._spent_usd += readiness.usage.usd
        return readiness

    def _count_slots(self) -> int:
        slots = 0
        for node in _nodes():
            if node["Alive"]:
                resources = node["Resources"]
                cpus = int(resources.get("CPU", 0) / self._slot.num_cpus + 1e-9)
                share = self._slot.num_gpus
                gpus = int(resources.get("GPU", 0)) * round(1 / share) if share else cpus
                slots += min(cpus, gpus)
        return min(slots, self._max_slots) if self._max_slots else slots


def examine_nodes(address: str, question: Question) -> list[Examination]:
    """Have every node of a cluster examine itself, all at once.

    Args:
        address: of the cluster, `auto` or `host:port`.
        question: what is looked for.

    Returns:
        One examination a node; of a node that does not answer it says so.

    Raises:
        ClusterError: the address does not answer.
    """
    _connect(address, None)
    try:
        asked = []
        for node in _nodes():
            if node["Alive"]:
                place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}:{node['NodeManagerPort']})"
                asked.append((name, _examine_task.options(scheduling_strategy=place).remote(question)))
        deadline = time.monotonic() + _EXAMINATION_SECONDS
        return [_examined(name, reference, deadline) for name, reference in asked]
    finally:
        ray.shutdown()


def _examined(name: str, reference: Any, deadline: float) -> Examination:
    try:
        found: Examination = ray.get(reference, timeout=max(0.0, deadline - time.monotonic()))
        return replace(found, node=name)
    except ray.exceptions.RayError as error:
        advice = "Is the same checkout installed there, in the same place, with its environment?"
        return Examination(name, (Finding("node", False, _sentence(error), advice),), ())


def _nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes


def _event(pending: _Pending, value: Any) -> Event:
    match pending.kind:
        case "mate":
            return Mated(pending.subject, pending.births, tuple(value))
        case "emigrate":
            return Emigrated(pending.subject, tuple(value))
        case "propose":
            return Proposed(pending.subject, value)
        case "train":
            return Measured(pending.subject.experiment_id, value)


def _asks(pending: _Pending, island: int) -> bool:
    return pending.kind in ("mate", "emigrate") and pending.subject == island


def _lost(reason: str) -> Result:
    now = datetime.now(timezone.utc)
    return Result(status=Status.LOST, reason=reason, started_at=now, ended_at=now)


_FAILURES: tuple[tuple[type[ray.exceptions.RayError], str], ...] = (
    (ray.exceptions.OutOfMemoryError, "Ray ended the worker: the node ran out of memory"),
    (ray.exceptions.NodeDiedError, "the node died"),
    (ray.exceptions.WorkerCrashedError, "the worker process died"),
    (ray.exceptions.ActorDiedError, "the actor's process died"),
    (ray.exceptions.ActorUnavailableError, "the actor cannot be reached"),
    (ray.exceptions.ObjectLostError, "its data were lost with a node"),
    (ray.exceptions.TaskCancelledError, "it was cancelled"),
    (ray.exceptions.GetTimeoutError, "it does not answer"),
)
"""What Ray's errors mean, most telling first; tests check that the table covers what tasks and actors can raise."""


def _sentence(error: ray.exceptions.RayError) -> str:
    """Return one line: a known failure in our words, anything else by name and first line."""
    if words := next((words for kind, words in _FAILURES if isinstance(error, kind)), None):
        return words
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    return f"{type(cause).__name__}: {next(iter(str(cause).splitlines()), '')[:300]}"


def _connect(address: str | None, folder: Path | None) -> None:
    """Start or join Ray.

    Raises:
        ClusterError: nobody answers at the address, or Ray cannot start.
    """
    if address and address != "auto":
        _knock(address)
    options: dict[str, Any] = {"address": address} if address else _local_options(folder)
    try:
        ray.init(log_to_driver=False, configure_logging=False, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
        where = f"the Ray cluster at {address!r}" if address else "Ray on this machine"
        raise ClusterError(f"Cannot reach {where}: {' '.join(str(error).split())[:300]}") from error


def _local_options(folder: Path | None) -> dict[str, Any]:
    """Return what starts Ray for this run alone, protected by a token of its own unless the user decided otherwise."""
    # Ray turns token authentication on and, left to itself, keeps one token for all runs in the home directory.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    return {"include_dashboard": False, "_temp_dir": str(folder)}


def _knock(address: str) -> None:
    """Fail in seconds, not minutes, where nobody listens (Raises ClusterError)."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit() or "://" in address:
        raise ClusterError(f"{address!r} is not a Ray address: expected `auto` or `host:port`, as in 10.0.0.5:6379.")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ClusterError(
            f"No Ray cluster answers at {address} ({error.strerror or error}): is `ray start --head` running there?"
        ) from error


def _no_room(slot: Slot) -> str:
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    needs = f"{slot.num_cpus:g} CPU" + (f" and {slot.num_gpus:g} GPU" if slot.num_gpus else "")
    has = f"{total.get('CPU', 0):g} CPU and {total.get('GPU', 0):g} GPU"
    return (
        f"No node has room for one experiment, which needs {needs} (the cluster has {has}): lower num_cpus or num_gpus."
    )
