"""A cluster on a virtual clock: the second implementation of the driver's Protocol, seeded and deterministic.

Owns time, nodes, slots, faults and noise. Does not own true scores (landscape.py); islands and operators are the real
ones.
"""

from __future__ import annotations

import heapq
import math
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from hashlib import blake2b
from statistics import NormalDist

import numpy as np

from autoresearch_ray.cluster.landscape import Landscape
from autoresearch_ray.errors import ClusterError
from autoresearch_ray.evolution.cluster import Emigrated, Event, IslandLost, Mated, Measured, Progressed, Proposed
from autoresearch_ray.evolution.island import Island, Member
from autoresearch_ray.evolution.noise import Noise
from autoresearch_ray.operators import dispatch
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Request
from autoresearch_ray.training.preflight import Inspected
from autoresearch_ray.training.supervisor import Phase
from autoresearch_ray.variant import Birth, Experiment, Operator, Result, Status, Usage

Operators = Callable[[Request], Proposal | Failure]
"""Answers for operators that need no language model."""

EPOCH = 1_800_000_000.0
"""Where the virtual clock starts, in seconds since the epoch."""

_HOLDOUT_OFFSET = 0.01
_CRASH_PART = 0.2
_TOKENS = 1000
_TRAINS = Phase("training")
_NORMAL = NormalDist()
_OPERATOR_STREAM, _TRAINING_STREAM = 0, 1


@dataclass(frozen=True, slots=True)
class Node:
    """A machine and its fate; times are seconds after the clock's start."""

    name: str
    slots: int
    joins_at: float = 0.0
    dies_at: float = math.inf
    """What trains on it is then lost."""
    slows_at: float = math.inf
    """What begins after that takes `slowdown` times as long."""
    slowdown: float = 1.0


@dataclass(frozen=True, slots=True)
class World:
    """What is simulated. Durations are seconds, shares are probabilities; they spare the first variant's trainings."""

    landscape: Landscape
    nodes: tuple[Node, ...]
    experiment_seconds: float = 351.0
    """Wall-clock time of an experiment in a slot: autoresearch's, whose training budget is 300."""
    train_seconds: float = 300.0
    spread: float = 0.02
    """Standard deviation of the logarithm of every duration."""
    crash_share: float = 0.0
    """Trainings that crash wherever they lie, besides the landscape's own crash regions."""
    timeout_share: float = 0.0
    """Trainings that take too long and are killed."""
    lost_share: float = 0.0
    """Trainings that their machine loses, besides those on nodes that die."""
    model_seconds: float = 30.0
    """Time of a language model's answer."""
    model_failures: float = 0.0
    """Answers that cannot be used."""
    model_usd: float = 0.0
    """Cost of an answer, usable or not."""
    offline_seconds: float = 0.02
    """Time of an operator without a language model."""
    askers: int = 16
    """Calls of operators at one time; further ones wait."""
    island_seconds: float = 0.01
    """Time in which an island answers."""
    island_losses: tuple[tuple[float, int], ...] = ()
    """(time, island): the holder of that island dies; it is noticed when it is asked next."""
    tick: float = 0.0
    """Events within so many seconds of the first are handed over in one batch, as to a driver that is busy."""
    observed: bool = True
    """False: nothing is said of experiments before they end and no true score is kept, as large simulations want it."""

    def lasting(self, seconds: float) -> World:
        """Return the same world with experiments of that wall-clock time, and as large a part of it for training."""
        share = self.train_seconds / self.experiment_seconds
        return replace(self, experiment_seconds=seconds, train_seconds=share * seconds)


def workers(slots: int, count: int = 1) -> tuple[Node, ...]:
    """Return `count` nodes that are there from the start to the end, with so many slots each."""
    return tuple(Node(f"node-{number}", slots) for number in range(count))


def inspected(source: str) -> Inspected:
    """Look at a landscape's source: its text is its identity. A stand-in for the preflight where milliseconds count."""
    return Inspected(None, blake2b(source.encode(), digest_size=16).hexdigest())


def _uniforms(seed: int, stream: int, key: int) -> tuple[float, float, float, float]:
    """Return four numbers in (0, 1) that depend on the arguments alone; a tenth of a generator's cost."""
    bits = struct.unpack("<4Q", blake2b(f"{seed}/{stream}/{key}".encode(), digest_size=32).digest())
    first, second, third, fourth = (((each >> 11) + 0.5) * 2.0**-53 for each in bits)
    return first, second, third, fourth


@dataclass(slots=True)
class _Machine:
    node: Node
    free: int
    alive: bool = True


@dataclass(frozen=True, slots=True)
class _Running:
    experiment: Experiment
    machine: _Machine
    began: float


class SimulatedCluster:
    """Carries the driver's orders out on a clock of its own: the same orders give the same events.

    A training's score, duration and fate depend on the world, the seed and the experiment's own seed, not on when or
    where it runs. Abandon the object half-way and give a new one `begins_at` to play a killed driver.

    Attributes:
        world: what is simulated.
        busy_seconds: slot time in which an experiment ran.
        slot_seconds: slot time there was.
        truths: the true score of each variant trained so far, by id; those that crash are missing.
    """

    def __init__(
        self, world: World, seed: int = 0, *, begins_at: float = 0.0, operators: Operators = dispatch.propose
    ) -> None:
        """Start the clock.

        Args:
            world: what is simulated.
            seed: of noise, durations, faults and simulated language models.
            begins_at: seconds after the clock's start; nodes that have joined by then are there.
            operators: makes variants without a language model: the real operators, unless their own cost matters.
        """
        self.world = world
        self.busy_seconds = 0.0
        self.slot_seconds = 0.0
        self.truths: dict[str, float] = {}
        self._seed = seed
        self._operators = operators
        self._clock = begins_at
        self._batch_until = begins_at
        self._events: list[tuple[float, int, Callable[[], Event | None]]] = []
        self._count = 0
        self._islands: dict[int, Island] = {}
        self._unanswered: dict[int, int] = {}
        self._reported: set[int] = set()
        self._machines: dict[str, _Machine] = {}
        self._open: list[_Machine] = []
        self._slots = 0
        self._queue: deque[Experiment] = deque()
        self._running: dict[str, _Running] = {}
        self._askers = [begins_at] * world.askers
        for node in world.nodes:
            self._schedule_node(node, begins_at)
        for time, island in world.island_losses:
            if time > begins_at:
                self._at(time, partial(self._lose_island, island))

    # ------------------------------------------------------------------------------------------------------- orders

    @property
    def slots(self) -> int:
        """Experiments that can run at one time; at least 1, as if a machine were on its way."""
        return max(1, self._slots)

    def now(self) -> float:
        """Return seconds since the epoch on the virtual clock."""
        return EPOCH + self._clock

    @property
    def elapsed(self) -> float:
        """Seconds since the clock's start."""
        return self._clock

    def rebuild(self, island: int, capacity: int, members: Sequence[Member]) -> None:
        """(Re)place an island."""
        self._islands[island] = Island(capacity, members)
        self._unanswered[island] = 0
        self._reported.discard(island)

    def absorb(self, island: int, members: Sequence[Member], noise: Noise) -> None:
        """Let an island take members in; a lost one hears nothing."""
        if island in self._islands:
            for member in members:
                self._islands[island].absorb(member, noise)

    def revise(self, island: int, member: Member) -> None:
        """Let an island replace a member it still holds; a lost one hears nothing."""
        if island in self._islands:
            self._islands[island].revise(member)

    def mate(self, island: int, births: Sequence[Birth], noise: Noise, tournament_size: int) -> None:
        """Ask an island for parents."""
        if self._is_there(island):
            held = self._islands[island]
            chosen = tuple(held.mate(birth, noise, tournament_size) for birth in births)
            self._answer(island, held, Mated(island, tuple(births), chosen))

    def emigrate(self, island: int, count: int, noise: Noise) -> None:
        """Ask an island for copies of its best."""
        if self._is_there(island):
            held = self._islands[island]
            self._answer(island, held, Emigrated(island, tuple(held.emigrants(count, noise))))

    def resize(self, island: int, capacity: int, noise: Noise) -> None:
        """Change an island's capacity."""
        if island in self._islands:
            self._islands[island].resize(capacity, noise)

    def propose(self, request: Request) -> None:
        """Let a real operator, or the landscape in the place of a language model, answer in its own time."""
        answer, seconds = self._proposal(request)
        begins = max(self._clock, self._askers[0])
        heapq.heapreplace(self._askers, begins + seconds)
        self._at(begins + seconds, partial(Proposed, request.birth, answer))

    def train(self, experiment: Experiment) -> None:
        """Queue an experiment for the next free slot."""
        self._queue.append(experiment)
        self._start()

    def withdraw(self, experiment_ids: Sequence[str]) -> list[str]:
        """Take experiments back that have not begun."""
        wanted = set(experiment_ids)
        taken = [experiment.experiment_id for experiment in self._queue if experiment.experiment_id in wanted]
        self._queue = deque(experiment for experiment in self._queue if experiment.experiment_id not in wanted)
        return taken

    # ------------------------------------------------------------------------------------------------------- events

    def next_event(self, timeout: float) -> Event | None:
        """Return the next event, moving the clock to it; with timeout 0, only one of the present batch.

        Raises:
            ClusterError: experiments wait, and no machine will ever come.
        """
        while self._events:
            time = self._events[0][0]
            if timeout == 0.0 and time > self._batch_until:
                return None
            if time > self._batch_until:
                self._batch_until = time + self.world.tick
            _, _, happen = heapq.heappop(self._events)
            self._advance(time)
            event = happen()
            if event is not None:
                return event
        if timeout > 0.0 and self._queue:
            raise ClusterError("every simulated machine is gone, and experiments are waiting for one.")
        self._advance(self._clock + timeout)
        return None

    def _advance(self, time: float) -> None:
        passed = max(0.0, time - self._clock)
        self.slot_seconds += passed * self._slots
        self.busy_seconds += passed * len(self._running)
        self._clock += passed

    def _at(self, time: float, happen: Callable[[], Event | None]) -> None:
        heapq.heappush(self._events, (time, self._count, happen))
        self._count += 1

    # ----------------------------------------------------------------------------------------------- nodes and slots

    def _schedule_node(self, node: Node, begins_at: float) -> None:
        if node.dies_at <= max(begins_at, node.joins_at):
            return
        if node.joins_at <= begins_at:
            self._join(node)
        else:
            self._at(node.joins_at, partial(self._join, node))
        if node.dies_at < math.inf:
            self._at(node.dies_at, partial(self._die, node))

    def _join(self, node: Node) -> None:
        machine = _Machine(node, node.slots)
        self._machines[node.name] = machine
        self._open.append(machine)
        self._slots += node.slots
        self._start()

    def _die(self, node: Node) -> None:
        machine = self._machines.pop(node.name)
        machine.alive = False
        self._slots -= node.slots
        lost = Result(Status.LOST, f"{node.name} died", node=node.name)
        for name, running in list(self._running.items()):
            if running.machine is machine:
                self._at(self._clock, partial(self._ended, self._running.pop(name), lost))

    def _start(self) -> None:
        """Begin experiments while there are free slots: first come, first served."""
        while self._queue and self._open:
            machine = self._open[-1]
            if not machine.alive or not machine.free:
                self._open.pop()
                continue
            machine.free -= 1
            experiment = self._queue.popleft()
            running = _Running(experiment, machine, self._clock)
            self._running[experiment.experiment_id] = running
            result = self._result(experiment, machine.node)
            self._at(self._clock + result.wall_seconds, partial(self._finish, running, result))
            if self.world.observed:
                self._at(self._clock, partial(Progressed, experiment.experiment_id, _TRAINS, machine.node.name))

    def _finish(self, running: _Running, result: Result) -> Event | None:
        """End an experiment and free its slot, unless its machine died before."""
        if self._running.pop(running.experiment.experiment_id, None) is not running:
            return None
        if not running.machine.free:
            self._open.append(running.machine)
        running.machine.free += 1
        self._start()
        return self._ended(running, result)

    def _ended(self, running: _Running, result: Result) -> Event:
        started, ended = (datetime.fromtimestamp(EPOCH + at, timezone.utc) for at in (running.began, self._clock))
        seconds = self._clock - running.began
        result = replace(result, wall_seconds=seconds, started_at=started, ended_at=ended)
        return Measured(running.experiment.experiment_id, result)

    # ----------------------------------------------------------------------------------------- trainings and answers

    def _result(self, experiment: Experiment, node: Node) -> Result:
        """Decide how an experiment ends: by its own seed, whenever and wherever it runs; the node decides how fast."""
        world = self.world
        fate, *chances = _uniforms(self._seed, _TRAINING_STREAM, experiment.seed)
        duration, noise, holdout_noise = map(_NORMAL.inv_cdf, chances)
        slow = node.slowdown if self._clock >= node.slows_at else 1.0
        seconds = world.experiment_seconds * math.exp(world.spread * duration) * slow
        score = world.landscape.score(experiment.source)
        if world.observed and score is not None:
            self.truths[experiment.variant_id] = score
        if experiment.source == world.landscape.seed:
            fate = 1.0
        if fate < world.lost_share:
            return Result(Status.LOST, "the simulated machine failed", wall_seconds=seconds * fate / world.lost_share)
        fate -= world.lost_share
        if fate < world.timeout_share:
            return Result(Status.TIMED_OUT, "took longer than its allowance", wall_seconds=2 * seconds, node=node.name)
        if score is None or fate - world.timeout_share < world.crash_share:
            return Result(Status.CRASHED, "diverged", wall_seconds=_CRASH_PART * seconds, node=node.name)
        return Result(
            Status.COMPLETED,
            val_bpb=score + world.landscape.sigma * noise,
            holdout_bpb=score + _HOLDOUT_OFFSET + world.landscape.sigma * holdout_noise,
            verified=True,
            train_seconds=world.train_seconds,
            wall_seconds=seconds,
            hardware="simulated",
            node=node.name,
        )

    def _proposal(self, request: Request) -> tuple[Proposal | Failure, float]:
        """Return the answer and the seconds that it takes."""
        world, birth = self.world, request.birth
        fate, chance, *_ = _uniforms(self._seed, _OPERATOR_STREAM, birth.seed)
        duration = math.exp(world.spread * _NORMAL.inv_cdf(chance))
        if birth.operator not in (Operator.MUTATION, Operator.REPAIR):
            return self._operators(request), world.offline_seconds * duration
        usage = Usage(tokens_in=_TOKENS, tokens_out=_TOKENS, usd=world.model_usd)
        if fate < world.model_failures:
            return Failure("The simulated model gave no usable reply.", usage), world.model_seconds * duration
        rng = np.random.default_rng([self._seed, birth.seed])
        answer = world.landscape.propose(request.parents[0].variant.source, rng)
        return replace(answer, usage=usage), world.model_seconds * duration

    # ------------------------------------------------------------------------------------------------------- islands

    def _is_there(self, island: int) -> bool:
        """Say whether an island can be asked; one that was lost says so once, however often it is asked."""
        if island in self._islands:
            return True
        if island not in self._reported:
            self._reported.add(island)
            self._at(self._clock + self.world.island_seconds, partial(IslandLost, island))
        return False

    def _answer(self, island: int, held: Island, event: Event) -> None:
        self._unanswered[island] += 1
        self._at(self._clock + self.world.island_seconds, partial(self._answered, island, held, event))

    def _answered(self, island: int, held: Island, event: Event) -> Event | None:
        """Deliver an answer, unless the island died before giving it."""
        if self._islands.get(island) is not held:
            return None
        self._unanswered[island] -= 1
        return event

    def _lose_island(self, island: int) -> None:
        if self._islands.pop(island, None) is not None and self._unanswered[island]:
            self._is_there(island)  # whoever waits for it finds out
