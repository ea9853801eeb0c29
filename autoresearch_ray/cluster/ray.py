"""Carries births out on Ray: islands and operators as actors, trainings as tasks with a fraction of a GPU or CPU cores.

Owns orders, what is unanswered, and the events that answers become. Decides nothing: the driver does
(evolution/driver.py). Does not own the connection (ray_connection.py) or what runs elsewhere (ray_actors.py).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autoresearch_ray.cluster.ray_actors import Order, island_actor, operator_actor, train_task
from autoresearch_ray.cluster.ray_connection import connect, nodes, sentence
from autoresearch_ray.cluster.slots import Slot, gpu_model_of, most_common_model, slots_of
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
from autoresearch_ray.evolution.island import Member
from autoresearch_ray.evolution.noise import Noise
from autoresearch_ray.operators.desk import Terms
from autoresearch_ray.operators.ensemble import Readiness
from autoresearch_ray.operators.proposal import Failure
from autoresearch_ray.operators.request import Request
from autoresearch_ray.variant import Birth, Experiment, Result, Status, Usage

_FAREWELL_SECONDS = 5.0
_RESOURCES_SECONDS = 5.0
_ORDERS_AT_ONCE = 32
"""Orders that an island is sent at the latest, where it is asked nothing."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """What an unanswered call to Ray is about."""

    kind: Literal["mate", "emigrate", "propose", "train"]
    subject: Any
    """An island's number (mate, emigrate), a request (propose), or an experiment (train)."""
    births: tuple[Birth, ...] = ()
    actor: Any = None
    """Who was asked to propose."""


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
        gpu_model: str | None = None,
    ) -> None:
        """Start Ray on this machine, or join the cluster at `address` (`auto` or `host:port`).

        Args:
            trainer: how experiments are trained.
            slot: what one of them occupies.
            max_slots: at most so many at a time; None is what there is room for.
            address: a running cluster; None starts Ray here.
            terms: language models; None works offline.
            gpu_model: nodes with GPUs of another model are left out; None takes the one with the most slots.

        Raises:
            ClusterError: the address does not answer, or no node has room for a single experiment.
            ConfigError: a language model is unknown, has no key or price, or does not answer.
        """
        self._slot = slot
        self._max_slots = max_slots
        self._folder = None if address else Path(tempfile.mkdtemp(prefix="arr-", dir="/tmp"))
        self._islands: dict[int, Any] = {}
        self._orders: dict[int, list[Order]] = {}
        self._operators: Any = None
        self._pending: dict[Any, _Pending] = {}
        self._events: deque[Event] = deque()
        try:
            connect(address, self._folder)
            self.gpu_model = (gpu_model or most_common_model(nodes(), slot)) if slot.num_gpus else ""
            self._left_out: dict[str, str] = {}
            self._slots, self._counted_at = self._count_slots(), time.monotonic()
            if self._slots < 1:
                raise ClusterError(_no_room(slot, self.gpu_model))
            self._trainer = ray.put(trainer)
            self._train = train_task.options(
                num_cpus=slot.num_cpus, num_gpus=slot.num_gpus, accelerator_type=self.gpu_model or None
            )
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

    def warnings(self) -> list[str]:
        """Return a sentence for each node that is left out and was not told of before."""
        told = [sentence for sentence in self._left_out.values() if sentence]
        self._left_out = dict.fromkeys(self._left_out, "")
        return told

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def rebuild(self, island: int, capacity: int, members: Sequence[Member]) -> None:
        """(Re)place an island's actor."""
        self._islands[island] = island_actor.remote(capacity, list(members))
        self._orders[island] = []

    def absorb(self, island: int, members: Sequence[Member], noise: Noise) -> None:
        """Let an island take members in; if its actor is dead the next `mate` or `emigrate` finds out."""
        for member in members:
            self._order(island, "absorb", member, noise)

    def revise(self, island: int, member: Member) -> None:
        """Let an island that may hold a member know its new scores."""
        self._order(island, "revise", member)

    def mate(self, island: int, births: Sequence[Birth], noise: Noise, tournament_size: int) -> None:
        """Ask an island for parents."""
        orders, self._orders[island] = self._orders[island], []
        reference = self._islands[island].mate.remote(orders, list(births), noise, tournament_size)
        self._pending[reference] = _Pending("mate", island, tuple(births))

    def emigrate(self, island: int, count: int, noise: Noise) -> None:
        """Ask an island for copies of its best."""
        orders, self._orders[island] = self._orders[island], []
        self._pending[self._islands[island].emigrants.remote(orders, count, noise)] = _Pending("emigrate", island)

    def resize(self, island: int, capacity: int, noise: Noise) -> None:
        """Change an island's capacity."""
        self._order(island, "resize", capacity, noise)

    def _order(self, island: int, *order: Any) -> None:
        """Send what needs no answer along with the next question: a message a birth less."""
        self._orders[island].append(order)
        if len(self._orders[island]) >= _ORDERS_AT_ONCE:
            self._islands[island].carry_out.remote(self._orders[island])
            self._orders[island] = []

    def propose(self, request: Request) -> None:
        """Ask the operators' actor for a variant."""
        group = "asking" if request.language else "offline"
        reference = self._operators.propose.options(concurrency_group=group).remote(request)
        self._pending[reference] = _Pending("propose", request, actor=self._operators)

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
        reason = sentence(error)
        if pending.kind == "train":
            self._events.append(Measured(pending.subject.experiment_id, _lost(reason)))
        elif pending.kind == "propose":
            gone = not isinstance(error, ray.exceptions.RayTaskError)  # the actor, not only this call
            if gone and pending.actor is self._operators:  # else the first that failed has replaced it
                self._open_desk(pending)
            failure = Failure(f"The operator's process failed: {reason}")
            self._events.append(Proposed(pending.subject.birth, failure))
        else:  # whatever else that island was asked died with it: one event for all
            island = pending.subject
            lost = [key for key, other in self._pending.items() if _asks(other, island)]
            for key in lost:
                del self._pending[key]
            self._events.append(IslandLost(island))

    def _open_desk(self, *failed: _Pending) -> None:
        """Start the operators' actor, or replace it: calls that died with one are taken for paid in full.

        Raises:
            ClusterError: it does not start.
        """
        # Here, and not on another node: logs, notes, inboxes and the user's coding agents are on this machine.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        if self._operators is not None:
            ray.kill(self._operators)  # it may only be out of reach
        self._operators = operator_actor.options(scheduling_strategy=here).remote()
        if self._terms is not None:
            asked = (*failed, *(pending for pending in self._pending.values() if pending.kind == "propose"))
            asking = sum(pending.subject.language for pending in asked)
            self._spent_usd += 2 * asking * self.readiness.call_usd
            # Awaited: an actor with several threads does not keep the order of its calls.
            _awaited(self._operators.hire.remote(self._terms, self._spent_usd))

    def _check(self) -> Readiness:
        readiness: Readiness = _awaited(self._operators.check.remote())
        self._spent_usd += readiness.usage.usd
        return readiness

    def _count_slots(self) -> int:
        slots = 0
        for node in nodes():
            held = slots_of(node, self._slot)
            if held and self.gpu_model and (model := gpu_model_of(node)) != self.gpu_model:
                self._left_out.setdefault(node["NodeID"], _left_out(node, model, self.gpu_model))
            else:
                slots += held
        return min(slots, self._max_slots) if self._max_slots else slots


def _awaited(reference: Any) -> Any:
    """Return what the operators' actor answers.

    Raises:
        AutoresearchError: what it raised on purpose; ClusterError when its process is gone.
    """
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, AutoresearchError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise ClusterError(f"The operators' process cannot be started: {sentence(error)}.") from error


def _event(pending: _Pending, value: Any) -> Event:
    match pending.kind:
        case "mate":
            return Mated(pending.subject, pending.births, tuple(value))
        case "emigrate":
            return Emigrated(pending.subject, tuple(value))
        case "propose":
            return Proposed(pending.subject.birth, value)
        case "train":
            return Measured(pending.subject.experiment_id, value)


def _asks(pending: _Pending, island: int) -> bool:
    return pending.kind in ("mate", "emigrate") and pending.subject == island


def _lost(reason: str) -> Result:
    now = datetime.now(timezone.utc)
    return Result(status=Status.LOST, reason=reason, started_at=now, ended_at=now)


def _left_out(node: dict[str, Any], model: str, wanted: str) -> str:
    return (
        f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}) is left out: its GPU is "
        f"{model or 'of a model that Ray does not know'}, and scores of this run are measured on {wanted}"
    )


def _no_room(slot: Slot, gpu_model: str) -> str:
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    needs = f"{slot.num_cpus:g} CPU" + (f" and {slot.num_gpus:g} GPU" if slot.num_gpus else "")
    needs += f" of model {gpu_model}" if gpu_model else ""
    has = f"{total.get('CPU', 0):g} CPU and {total.get('GPU', 0):g} GPU"
    return (
        f"No node has room for one experiment, which needs {needs} (the cluster has {has}): lower num_cpus or num_gpus."
    )
