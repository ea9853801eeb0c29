"""The loop: breed, train, absorb, until the ledger is spent. Every decision is here or in a pure function called here.

Owns births and experiments in flight. Does not own where work is carried out (cluster), or how rows are kept (lineage).
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import numpy as np

from autoresearch_ray.config import Config
from autoresearch_ray.errors import ClusterError, SeedError
from autoresearch_ray.evolution.cluster import (
    Cluster,
    Emigrated,
    Event,
    IslandLost,
    Mated,
    Measured,
    Progressed,
    Proposed,
)
from autoresearch_ray.evolution.island import Member
from autoresearch_ray.evolution.pacing import (
    Generational,
    Pacing,
    SteadyState,
    Tally,
    automatic_population,
    capacities,
    crossover_share,
    emigrant_count,
    migrates_after,
    neighbour,
    operator_for,
)
from autoresearch_ray.evolution.replay import replay_islands
from autoresearch_ray.evolution.state import State
from autoresearch_ray.ledger import Ledger, Limits
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.snapshot import fetch
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.training import preflight
from autoresearch_ray.training.supervisor import Phase
from autoresearch_ray.variant import (
    Birth,
    Experiment,
    Operator,
    Result,
    Status,
    Variant,
    ast_hash,
    variant_id,
)

LOST_LIMIT = 3
"""So many times a variant's experiment may be lost before the variant itself counts as lost."""

_REMEMBERED = 256


@dataclass
class Running:
    """An experiment in flight, and how far it got."""

    experiment: Experiment
    variant: Variant
    phase: Phase | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a birth or a replicate."""

    variant: Variant
    status: Status
    reason: str
    result: Result | None


class Driver:
    """One run's search. `run` blocks until the ledger is spent or `drain` was called and all in flight has ended.

    Attributes:
        state: what the rows so far add up to.
        ledger: what is spent and reserved.
        running: experiments handed to the cluster, by id.
        ended: births and replicates that ended since `watch` was last called, with their results (None: not trained).
        capacities: members each island may hold.
        founder: the seed as every island began with it.
        watch: called after every batch of events, before the loop waits for more.
    """

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        lineage: LineageStore,
        origin: Origin,
        *,
        watch: Callable[[Driver], None] = lambda driver: None,
    ) -> None:
        self.config = config
        self.cluster = cluster
        self.lineage = lineage
        self.origin = origin
        self.state = State()
        self.ledger = Ledger(Limits.of(config))
        self.running: dict[str, Running] = {}
        self.ended: list[Ended] = []
        size = config.population_size
        self.population_size = (
            automatic_population(config.max_experiments, cluster.slots) if isinstance(size, str) else size
        )
        self.capacities = capacities(self.population_size, config.num_islands)
        self.started_at = cluster.now()
        self.draining = False
        self.watch = watch
        self._pacing: Pacing = (
            Generational(self.population_size)
            if config.pacing == "generational"
            else SteadyState(cluster.slots + ready_ahead(cluster.slots))
        )
        self._next_number = 1
        self._mating: dict[int, list[Birth]] = {island: [] for island in range(len(self.capacities))}
        self._emigrating: set[int] = set()
        self._proposing: dict[int, tuple[Variant, ...]] = {}
        self._ready: deque[Running] = deque()
        self._untrained: dict[int, int] = {}
        self._replicates: dict[int, int] = {}
        self._tallies = {Operator.CROSSOVER: Tally(), Operator.PARAMETERS: Tally()}
        self._recent: OrderedDict[str, Variant] = OrderedDict()

    @property
    def in_flight(self) -> int:
        """Births and replicates begun and not ended."""
        return sum(map(len, self._mating.values())) + len(self._proposing) + len(self._ready) + len(self.running)

    @property
    def births(self) -> int:
        """Births made so far, the seed not counted."""
        return self._next_number - 1

    def drain(self) -> None:
        """Start nothing more; what trains is finished, then `run` returns."""
        self.draining = True

    def run(self, seed_source: str) -> None:
        """Breed, train and absorb variants until the ledger is spent.

        Raises:
            SeedError: the seed failed its first training.
            ClusterError: the seed's experiments were lost again and again.
            StorageError: the lineage cannot be written any more.
        """
        self._sow(seed_source)
        while True:
            self.ledger.clock((self.cluster.now() - self.started_at) / 3600)
            self._breed()
            self._dispatch()
            self.lineage.commit()
            self.watch(self)
            self.ended.clear()
            if not self.in_flight:
                return
            event = self.cluster.next_event(1.0)
            while event is not None:
                self._take(event)
                self._dispatch()
                event = self.cluster.next_event(0.0)

    # ------------------------------------------------------------------------------------------------------ starting

    def _sow(self, source: str) -> None:
        """Make the seed and train it under several seeds; it may breed before its first score is known."""
        number = 0
        birth = Birth(number, variant_id(self.origin.run, number), 0, Operator.SEED, self._entropy(number, 0))
        seed = Variant(birth, (), 0, source, "the seed program", self._time())
        reason = preflight.refusal(source)
        if reason:
            raise SeedError(f"The seed program cannot be trained: {reason}")
        self.lineage.reserve(birth)
        self.lineage.propose(seed)
        self.state.conceived(seed, ())
        self._remember(seed)
        self.founder = Member(seed, ())
        for island, capacity in enumerate(self.capacities):
            self.cluster.rebuild(island, capacity, [self.founder])
        for _ in range(self.config.seed_replicates):
            if self.ledger.reserve_experiment():
                self._enqueue(seed)

    # ------------------------------------------------------------------------------------------------------- breeding

    def _breed(self) -> None:
        """Begin as many births as there is room and money for, and ask the islands for their parents."""
        if self.draining:
            return
        asked: dict[int, list[Birth]] = {}
        for _ in range(self._pacing.room(self.in_flight, self.births)):
            if not self.ledger.reserve_birth():
                break
            birth = self._conceive(self._next_number)
            self._next_number += 1
            self.lineage.reserve(birth)
            asked.setdefault(birth.island, []).append(birth)
            if migrates_after(birth.number, self.config.migration_interval):
                self._migrate()
        noise = self.state.noise.estimate()
        for island, births in asked.items():
            self._mating[island] += births
            self.cluster.mate(island, births, noise, self.config.tournament_size)

    def _conceive(self, number: int) -> Birth:
        """Decide a birth's island and operator; all that is random derives from the run's seed and its number."""
        share = self.config.crossover_probability
        if share is None:
            share = crossover_share(self._tallies[Operator.CROSSOVER], self._tallies[Operator.PARAMETERS])
        island = number % len(self.capacities)
        operator = operator_for(np.random.default_rng(self._entropy(number, 1)), share, members=self.capacities[island])
        return Birth(number, variant_id(self.origin.run, number), island, operator, self._entropy(number, 0))

    def _migrate(self) -> None:
        if len(self.capacities) < 2:
            return
        noise = self.state.noise.estimate()
        for island, capacity in enumerate(self.capacities):
            count = emigrant_count(capacity, self.config.migration_rate)
            if count and island not in self._emigrating:
                self._emigrating.add(island)
                self.cluster.emigrate(island, count, noise)

    # --------------------------------------------------------------------------------------------------------- events

    def _take(self, event: Event) -> None:
        match event:
            case Progressed(experiment_id, phase, place):
                if experiment_id in self.running:
                    self.running[experiment_id].phase = phase
                    self.running[experiment_id].place = place
            case Mated(island, births, candidates):
                for birth, choice in zip(births, candidates, strict=True):
                    self._mating[island].remove(birth)
                    self._propose(birth, choice)
            case Proposed(birth, answer):
                self._proposed(birth, answer)
            case Measured(experiment_id, result):
                self._measured(self.running.pop(experiment_id), result)
            case Emigrated(island, members):
                self._emigrated(island, members)
            case IslandLost(island):
                self._rebuild(island)

    def _propose(self, birth: Birth, candidates: Sequence[Variant]) -> None:
        """Ask the operator; a crossover whose candidates are all kin becomes a birth with one parent."""
        parents, ancestor = self._couple(birth, candidates)
        if birth.operator is Operator.CROSSOVER and len(parents) == 1:
            birth = replace(birth, operator=Operator.PARAMETERS)
        for parent in parents:
            self._remember(parent)
        self._proposing[birth.number] = parents
        self.cluster.propose(birth, parents, ancestor)

    def _couple(self, birth: Birth, candidates: Sequence[Variant]) -> tuple[tuple[Variant, ...], Variant | None]:
        first = candidates[0]
        if birth.operator is Operator.CROSSOVER:
            for second in candidates[1:]:
                number = self.state.ancestry.common_ancestor(first.birth.number, second.birth.number)
                if number is not None and number not in (first.birth.number, second.birth.number):
                    return (first, second), self._recall(number)
        return (first,), None

    def _proposed(self, birth: Birth, answer: Proposal | Failure) -> None:
        parents = self._proposing.pop(birth.number)
        variant = self._variant(birth, parents, answer)
        usage = answer.usage
        self.ledger.settle_operator(usage.tokens_in, usage.tokens_out, usage.usd)
        if isinstance(answer, Failure):
            self._end(variant, Status.OPERATOR_FAILED, answer.reason)
            self.ledger.release_experiment()
            return
        reason = preflight.refusal(answer.source) or self._repeats(answer.source, parents)
        if reason:
            self._end(variant, Status.REJECTED, reason)
            self.ledger.release_experiment()
            return
        self.lineage.propose(variant)
        self.state.conceived(variant, tuple(parent.birth.number for parent in parents))
        self._remember(variant)
        self._enqueue(variant)

    def _variant(self, birth: Birth, parents: Sequence[Variant], answer: Proposal | Failure) -> Variant:
        made = Variant(
            birth=birth,
            parents=tuple(parent.variant_id for parent in parents),
            generation=1 + max(parent.generation for parent in parents),
            source="",
            hypothesis="",
            created_at=self._time(),
            usage=answer.usage,
        )
        if isinstance(answer, Failure):
            return made
        return replace(
            made,
            source=answer.source,
            hypothesis=answer.hypothesis,
            model=answer.model,
            prompt_hash=answer.prompt_hash,
            program_hash=answer.program_hash,
            step_size=answer.step_size,
        )

    def _repeats(self, source: str, parents: Sequence[Variant]) -> str | None:
        number = self.state.duplicate_of(ast_hash(source))
        if number is None:
            return None
        if number in (parent.birth.number for parent in parents):
            return "no change: the same program as its parent"
        return f"duplicate: the same program as {variant_id(self.origin.run, number)}"

    def _measured(self, run: Running, result: Result) -> None:
        """Record an experiment; the first one that counts ends the birth."""
        variant, number = run.variant, run.variant.birth.number
        lost = result.status is Status.LOST
        self.ledger.settle_experiment(result.train_seconds, result.wall_seconds, lost=lost)
        self.lineage.append("experiments", schema.experiment_row(self.origin, run.experiment, result))
        losses = self._untrained.get(number)
        if lost and losses is not None:
            self._untrained[number] = losses + 1
            if losses + 1 < LOST_LIMIT and self.ledger.reserve_experiment():
                self.state.measured(variant, result)
                self._enqueue(variant)
                return
        if losses is not None:
            del self._untrained[number]
            if number == 0 and result.status is not Status.COMPLETED:
                raise _seed_error(result)
            self._end(variant, result.status, result.reason)
        scores = self.state.measured(variant, result)
        self.ended.append(Ended(variant, result.status, result.reason, result))
        if losses is not None and not lost:
            self._tally(variant, scores[0] if scores else math.inf)
        if scores is None:
            return
        noise = self.state.noise.estimate()
        homes = range(len(self.capacities)) if number == 0 else (variant.birth.island,)
        for island in homes:
            self.cluster.absorb(island, [Member(variant, scores)], noise)

    def _emigrated(self, island: int, members: Sequence[Member]) -> None:
        self._emigrating.discard(island)
        scored = [member for member in members if self.state.scores(member.variant.birth.number)]
        if not scored:
            return
        target = neighbour(island, len(self.capacities))
        row = schema.event_row(
            self.origin,
            "migration",
            self._time(),
            island=island,
            target=target,
            variants=[member.variant.variant_id for member in scored],
        )
        self.lineage.append("events", row)
        known = [Member(member.variant, self.state.scores(member.variant.birth.number)) for member in scored]
        self.cluster.absorb(target, known, self.state.noise.estimate())

    def _rebuild(self, island: int) -> None:
        """Put a lost island back as the lineage has it, and ask it again what it had been asked."""
        self.lineage.commit()
        islands = replay_islands(self.lineage, self.capacities, self.founder)
        self.cluster.rebuild(island, self.capacities[island], islands[island])
        self._emigrating.discard(island)
        if self._mating[island]:
            noise = self.state.noise.estimate()
            self.cluster.mate(island, tuple(self._mating[island]), noise, self.config.tournament_size)

    # -------------------------------------------------------------------------------------------------------- helpers

    def _enqueue(self, variant: Variant) -> None:
        """Put the next replicate of a variant behind what waits for a slot; its experiment is reserved already."""
        number = variant.birth.number
        replicate = self._replicates.get(number, 0)
        self._replicates[number] = replicate + 1
        if replicate == 0:
            self._untrained[number] = 0
        seed = self._entropy(number, 2 + replicate) % 2**31
        experiment = Experiment(f"{variant.variant_id}-{replicate}", variant.variant_id, variant.source, seed)
        self._ready.append(Running(experiment, variant))

    def _dispatch(self) -> None:
        """Hand experiments to the cluster: all its slots, and a few more so that none waits for this loop."""
        most = self.cluster.slots + ready_ahead(self.cluster.slots)
        while self._ready and len(self.running) < most:
            run = self._ready.popleft()
            self.running[run.experiment.experiment_id] = run
            self.cluster.train(run.experiment)

    def _end(self, variant: Variant, status: Status, reason: str) -> None:
        sequence = self.lineage.append("variants", schema.variant_row(self.origin, variant, status, reason))
        self.state.born(variant.birth.number, status, sequence)
        if status in (Status.REJECTED, Status.OPERATOR_FAILED):
            self.ended.append(Ended(variant, status, reason, None))
        if variant.birth.number and status is not Status.COMPLETED:
            self._replicates.pop(variant.birth.number, None)

    def _tally(self, variant: Variant, score: float) -> None:
        """Count whether a birth's first score beat all its parents', for the share of crossovers."""
        tally = self._tallies.get(variant.birth.operator)
        if tally is None:
            return
        parents = map(self.state.scores, self.state.ancestry.parents(variant.birth.number))
        best = min((min(scores) for scores in parents if scores), default=math.inf)
        self._tallies[variant.birth.operator] = Tally(tally.births + 1, tally.gains + (score < best))

    def _remember(self, variant: Variant) -> None:
        self._recent[variant.variant_id] = variant
        self._recent.move_to_end(variant.variant_id)
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)

    def _recall(self, number: int) -> Variant:
        """Return a variant that has ended, from memory or else from the lineage."""
        wanted = variant_id(self.origin.run, number)
        if wanted not in self._recent:
            self.lineage.commit()
            sequence = self.state.sequence(number)
            rows = fetch(self.lineage.folder, "variants", [sequence], schema.SCHEMAS["variants"].names)
            self._remember(schema.variant_of(rows[sequence]))
        return self._recent[wanted]

    def _entropy(self, number: int, stream: int) -> int:
        """Return 63 random bits that depend on the run's seed, a birth's number and a stream, and on nothing else."""
        sequence = np.random.SeedSequence([self.config.seed, number, stream])
        return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))

    def _time(self) -> datetime:
        return datetime.fromtimestamp(self.cluster.now(), timezone.utc)


def ready_ahead(slots: int) -> int:
    """Return how many proposals are kept ready: enough that a slot never waits, few enough that parents are recent."""
    return max(2, slots // 4)


def _seed_error(result: Result) -> SeedError | ClusterError:
    if result.status is Status.LOST:
        return ClusterError(f"The seed's training was lost {LOST_LIMIT} times: {result.reason}")
    tail = "\n".join(result.log_tail.splitlines()[-15:])
    return SeedError(f"The seed program failed its first training ({result.status.value}: {result.reason}).\n{tail}")
