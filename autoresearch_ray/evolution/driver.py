"""The loop: breed, train, absorb, until the ledger is spent. Every decision is here or in a pure function called here.

Owns births and experiments in flight. Does not own where work is carried out (cluster), or how rows are kept (lineage).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import Any

from autoresearch_ray.config import Config
from autoresearch_ray.errors import RunError, SeedError, UsageError
from autoresearch_ray.evolution.archipelago import Archipelago
from autoresearch_ray.evolution.availability import Availability
from autoresearch_ray.evolution.breeding import (
    TOURNAMENT,
    TRAINING,
    conceive,
    contract_of,
    couple,
    entropy,
    idea_of,
    parent_of,
)
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
from autoresearch_ray.evolution.flight import Ended, Running, Trainings, experiment_name, made, seed_error
from autoresearch_ray.evolution.island import Member
from autoresearch_ray.evolution.memory import Memory
from autoresearch_ray.evolution.pacing import (
    Generational,
    Pacing,
    SteadyState,
    automatic_population,
    capacities,
    planned_experiments,
    ready_ahead,
    width,
)
from autoresearch_ray.evolution.replay import replay
from autoresearch_ray.evolution.state import State
from autoresearch_ray.evolution.stopping import Stop, stop_reason, typical_seconds
from autoresearch_ray.ledger import Ledger, Limits
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Parent, Request
from autoresearch_ray.training.preflight import Inspected, inspect
from autoresearch_ray.variant import Birth, Experiment, Operator, Result, Status, Usage, Variant, variant_id

LOST_LIMIT = 3
"""So many times a variant's experiment may be lost before the variant itself counts as lost."""

_SMOOTHING = 0.2


class Driver:
    """One run's search: `begin` or `resume` it, then `run` until the ledger is spent.

    Attributes:
        state: what the rows so far add up to.
        ledger: what is spent and reserved.
        running: experiments handed to the cluster, by id.
        ended: births and replicates that ended since `watch` was last called.
        islands: what each may hold, and has been asked.
        availability: whether language models may be asked.
        stop: why nothing new is started any more; None while the search goes on.
        halted: set it to end `run` between two events, whatever is in flight; `resume` begins that again.
        watch: called after every batch of events, before the loop waits for more.
    """

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        lineage: LineageStore,
        origin: Origin,
        *,
        inspect: Callable[[str], Inspected] = inspect,
        program: Callable[[], str] = lambda: "",
        facts: Sequence[str] = (),
        deadline: float | None = None,
        call_usd: float = 0.0,
        watch: Callable[[Driver], None] = lambda driver: None,
    ) -> None:
        """Put a search together; nothing happens yet.

        Args:
            config: the run's configuration.
            cluster: carries the work out.
            lineage: remembers it; empty for `begin`, with rows for `resume`.
            origin: what every row says of the run.
            inspect: looks at a source before it is trained.
            program: returns the research direction as it reads now.
            facts: sentences about budget and hardware for operators that read.
            deadline: seconds since the epoch by which everything shall have ended.
            call_usd: the most that one call of a language model may cost.
            watch: see the attribute.
        """
        self.config = config
        self.cluster = cluster
        self.lineage = lineage
        self.origin = origin
        self.watch = watch
        self.state = State(config.metric.goal)
        self.ledger = Ledger(Limits.of(config))
        self.running: dict[str, Running] = {}
        self.ended: list[Ended] = []
        size = config.population_size
        if isinstance(size, str):
            size = automatic_population(planned_experiments(config, cluster.slots), cluster.slots)
        self.islands = Archipelago(cluster, config, self.state, capacities(size, config.num_islands))
        self.started_at = cluster.now()
        self.stop: Stop | None = None
        self.halted = False
        self.ready: deque[Running] = deque()
        self._inspect = inspect
        self._program = program
        self._facts = tuple(facts)
        self._contract = contract_of(config)
        self.deadline = deadline
        self.availability = Availability(int(config.language), call_usd)
        self._hours_before = 0.0
        self._next_number = 1
        self._proposing: dict[int, Request] = {}
        self._asked_at: dict[int, float] = {}
        self._operator_seconds = 0.0
        self._losses: Counter[str] = Counter()
        self._trainings = Trainings()
        self._unended: set[int] = set()
        self._memory = Memory(lineage, self.state)

    @property
    def population_size(self) -> int:
        """Members that all islands may hold."""
        return sum(self.islands.capacities)

    @property
    def births(self) -> int:
        """Births made so far, the seed not counted."""
        return self._next_number - 1

    @property
    def waiting(self) -> int:
        """Births and replicates begun but not handed to the cluster for training."""
        return len(self.islands.asked) + len(self._proposing) + len(self.ready)

    # ---------------------------------------------------------------------------------------- beginning and going on

    def begin(self, source: str) -> None:
        """Make the seed and queue its trainings under several random seeds; it may breed before its first score.

        Raises:
            SeedError: the seed cannot be trained.
        """
        found = self._inspect(source)
        if found.refusal or found.identity is None:
            raise SeedError(f"the seed program cannot be trained: {found.refusal}.")
        name = variant_id(self.origin.run, 0)
        birth = Birth(0, name, 0, Operator.SEED, entropy(self.config.seed, 0, TOURNAMENT))
        seed = Variant(birth, (), 0, source, "the seed program", self._time())
        self._note_start()
        self.lineage.reserve(birth)
        self.lineage.propose(seed)
        self.state.conceived(0, (), found.identity)
        self._unended.add(0)
        self._found(Member(seed, ()), [[Member(seed, ())] for _ in self.islands.capacities])
        self._replicate_seed(seed, found.identity)

    def resume(self) -> None:
        """Take up a search where its last driver left it: births and trainings that were in flight are begun again.

        Raises:
            RunError: the lineage has no seed, so there is nothing to go on with.
        """
        try:
            before = replay(self.lineage)
        except LookupError as error:
            raise RunError(f"{self.lineage.folder} ended before its seed was recorded: start a new run.") from error
        self.state, self._trainings = before.state, before.trainings
        self.islands = Archipelago(self.cluster, self.config, self.state, before.capacities)
        self._memory = Memory(self.lineage, self.state)
        self.ledger = Ledger(Limits.of(self.config), before.spent)
        self._hours_before, self._next_number = before.spent.hours, before.next_number
        self._note_start()
        self._found(before.founder, before.islands)
        waiting = {variant.birth.number: variant for variant in self.lineage.open_proposals()}
        seed = before.founder.variant
        self._replicate_seed(seed, self._inspect(seed.source).identity or "", least=int(0 in waiting))
        for number, variant in sorted(waiting.items()):
            self._memory.keep(variant)
            identity = self._inspect(variant.source).identity or ""
            self.state.conceived(number, tuple(before.numbers[parent] for parent in variant.parents), identity)
            self._unended.add(number)
            if number and self.ledger.reserve_experiment():
                self._enqueue(variant, identity)
        for birth in sorted(self.lineage.open_births(), key=lambda birth: birth.number):
            if birth.number not in waiting and self.ledger.reserve_experiment():
                self.islands.mate([birth])

    def _note_start(self) -> None:
        metric, sizes, slots = self.config.metric, self.islands.capacities, self.cluster.slots
        self._record("started", capacities=sizes, slots=slots, metric=metric.name, goal=metric.goal)

    def _found(self, founder: Member, islands: Sequence[Sequence[Member]]) -> None:
        self._founder = founder
        self._memory.keep(founder.variant)
        self.islands.found(islands)

    def _replicate_seed(self, seed: Variant, identity: str, least: int = 0) -> None:
        """Queue the trainings that the seed still lacks, lost ones counted as done; at `least` so many."""
        for _ in range(max(least, self.config.seed_replicates - self._trainings.count(seed.variant_id))):
            if self.ledger.reserve_experiment():
                self._enqueue(seed, identity)

    # ------------------------------------------------------------------------------------------------------- the loop

    def run(self) -> None:
        """Breed, train and absorb variants until the ledger is spent or something says stop.

        Raises:
            SeedError: the seed failed its first training.
            ClusterError: the seed's experiments were lost again and again.
            StorageError: the lineage cannot be written any more.
        """
        while True:
            self._look_at_the_clock()
            if self.stop is None:
                self._breed()
                self._dispatch()
            else:
                self._withdraw()
            self.lineage.commit()
            self.watch(self)
            self.ended.clear()
            if self.halted:
                return
            if not self.running and not self._proposing and (self.stop is not None or not self.waiting):
                return
            event = self.cluster.next_event(1.0)
            while event is not None:
                self._take(event)
                if self.stop is None:
                    self._dispatch()
                event = None if self.halted else self.cluster.next_event(0.0)

    def drain(self, stop: Stop) -> None:
        """Start nothing more; what trains is finished, and what waits is left for `resume`."""
        self.stop = self.stop or stop

    def _withdraw(self) -> None:
        """Take back what was handed to the cluster and has not begun, for `resume`."""
        queued = [name for name, run in self.running.items() if run.phase is None]
        for name in self.cluster.withdraw(queued) if queued else ():
            self.ready.appendleft(self.running.pop(name))

    def resize(self, population_size: int) -> None:
        """Let the islands hold so many members in all, from now on; the worst are evicted where that is fewer.

        Raises:
            UsageError: fewer members than islands.
        """
        self.islands.resize(population_size)
        self._record("resize", capacities=self.islands.capacities)

    def add(self, source: str, hypothesis: str) -> str:
        """Put a person's own variant into the search, as a child of the seed; return its id.

        Raises:
            UsageError: it cannot be trained, or nothing more may be started.
        """
        if self.stop is not None or not self.ledger.reserve_birth():
            raise UsageError("nothing more may be started in this run: its budget is spent, or it is stopping.")
        number = self._count_up()
        island = number % len(self.islands)
        seed = entropy(self.config.seed, number, TOURNAMENT)
        birth = Birth(number, variant_id(self.origin.run, number), island, Operator.PERSON, seed)
        self.lineage.reserve(birth)
        parent = Parent(self._founder.variant, None, None, 0)
        self._proposing[number] = Request(birth, (parent,), None, "", (), (), language=False)
        self._proposed(birth, Proposal(source, hypothesis))
        return birth.variant_id

    def charge(self, usage: Usage) -> None:
        """Pay for calls that belong to no birth, as the check of the models before the first one."""
        self.ledger.settle_operator(usage.tokens_in, usage.tokens_out, usage.usd)
        self._record("models_checked", **asdict(usage))

    def _look_at_the_clock(self) -> None:
        now = self.cluster.now()
        self.ledger.clock(self._hours_before + (now - self.started_at) / 3600)
        if self.stop is None:
            self.stop = stop_reason(self.config, self.state, self.ledger, now, self.deadline)

    # ------------------------------------------------------------------------------------------------------- breeding

    def _breed(self) -> None:
        """Begin as many births as there is room and money for, and ask the islands for their parents."""
        asked = []
        for _ in range(self._pacing().room(self.waiting + len(self.running), self.births)):
            if not self.ledger.reserve_birth():
                break
            number, language = self._count_up(), self._language()
            birth = conceive(
                self.config, self.origin.run, number, self.islands.capacities, self.state, language=language
            )
            self.lineage.reserve(birth)
            asked.append(birth)
            self.islands.migrate_after(number)
        self.islands.mate(asked)

    def _language(self) -> bool:
        """Whether the next birth may ask a language model; those that ask already are counted at their dearest."""
        asking = sum(request.language for request in self._proposing.values())
        asking += sum(birth.operator is Operator.MUTATION for birth in self.islands.asked)
        return self.availability.now(self.cluster.now(), self.ledger, asking)

    def _pacing(self) -> Pacing:
        if self.config.pacing == "generational":
            return Generational(self.population_size)
        experiment_seconds = typical_seconds(self.config, self.ledger)
        return SteadyState(width(self.cluster.slots, self._operator_seconds, experiment_seconds))

    def _count_up(self) -> int:
        self._next_number += 1
        return self._next_number - 1

    def _dispatch(self) -> None:
        """Hand experiments to the cluster: all its slots, and a few more so that none waits for this loop."""
        most = self.cluster.slots + ready_ahead(self.cluster.slots)
        while self.ready and len(self.running) < most:
            run = self.ready.popleft()
            self.running[run.experiment.experiment_id] = run
            self.cluster.train(run.experiment)

    # --------------------------------------------------------------------------------------------------------- events

    def _take(self, event: Event) -> None:
        match event:
            case Progressed(experiment_id, phase, place):
                if experiment_id in self.running:
                    self.running[experiment_id].phase = phase
                    self.running[experiment_id].place = place
            case Mated(_, births, candidates):
                if self.stop is None:  # else they stay reserved, for `resume`
                    for birth, choice in zip(births, candidates, strict=True):
                        self.islands.mated(birth)
                        self._propose(birth, choice)
            case Proposed(birth, answer):
                self._proposed(birth, answer)
            case Measured(experiment_id, result):
                self._measured(self.running.pop(experiment_id), result)
            case Emigrated():
                self._emigrated(event)
            case IslandLost(island):
                self._rebuild(island)

    def _propose(self, birth: Birth, candidates: Sequence[Variant]) -> None:
        """Ask the operator; a crossover whose candidates are all kin becomes a birth with one parent."""
        chosen = couple(birth, candidates, self.state)
        self.state.cross([parent.birth.number for parent in chosen.parents])
        language = self._language()
        if birth.operator is Operator.CROSSOVER and len(chosen.parents) == 1:
            birth = replace(birth, operator=Operator.MUTATION if language else Operator.PARAMETERS)
        if birth.operator is Operator.MUTATION and not language:
            birth = replace(birth, operator=Operator.PARAMETERS)
        language = language and birth.operator is not Operator.PARAMETERS
        for parent in chosen.parents:
            self._memory.keep(parent)
        noise = self.state.noise.estimate()
        request = Request(
            birth=birth,
            parents=tuple(parent_of(parent, self.state, noise) for parent in chosen.parents),
            ancestor=None if chosen.ancestor is None else self._memory.recall(chosen.ancestor),
            program=self._program() if language else "",
            ideas=self._memory.ideas if language else (),
            facts=self._facts if language else (),
            contract=self._contract,
            language=language,
        )
        self._proposing[birth.number] = request
        self._asked_at[birth.number] = self.cluster.now()
        self.cluster.propose(request)

    def _proposed(self, birth: Birth, answer: Proposal | Failure) -> None:
        request = self._proposing.pop(birth.number)
        if birth.number in self._asked_at:
            seconds = self.cluster.now() - self._asked_at.pop(birth.number)
            self._operator_seconds += _SMOOTHING * (seconds - self._operator_seconds)
        parents = [parent.variant for parent in request.parents]
        if request.language and (isinstance(answer, Failure) or answer.model is not None):
            self.availability.answered(isinstance(answer, Proposal), self.cluster.now())
        variant = made(birth, parents, answer, self._time())
        self.ledger.settle_operator(answer.usage.tokens_in, answer.usage.tokens_out, answer.usage.usd)
        if isinstance(answer, Failure):
            self._end(variant, None, Status.OPERATOR_FAILED, answer.reason)
            self.ledger.release_experiment()
            return
        found = self._inspect(answer.source)
        reason = found.refusal or self._repeats(found.identity, parents)
        if reason or found.identity is None:
            self._end(variant, found.identity, Status.REJECTED, reason or "the source does not parse")
            self.ledger.release_experiment()
            return
        self.lineage.propose(variant)
        self.state.conceived(birth.number, tuple(parent.birth.number for parent in parents), found.identity)
        self._unended.add(birth.number)
        self._memory.keep(variant)
        self._enqueue(variant, found.identity)

    def _repeats(self, identity: str | None, parents: Sequence[Variant]) -> str | None:
        number = None if identity is None else self.state.duplicate_of(identity)
        if number is None:
            return None
        if number in (parent.birth.number for parent in parents):
            return "no change: the same program as its parent"
        return f"duplicate: the same program as {variant_id(self.origin.run, number)}"

    def _measured(self, run: Running, result: Result) -> None:
        """Record an experiment; the first one that counts ends the birth."""
        variant, number = run.variant, run.variant.birth.number
        lost, first = result.status is Status.LOST, run.variant.birth.number in self._unended
        self.ledger.settle_experiment(result.train_seconds, result.wall_seconds, lost=lost)
        if lost and first:
            self._losses[variant.variant_id] += 1
            if self._losses[variant.variant_id] < LOST_LIMIT and self.ledger.reserve_experiment():
                self.lineage.append("experiments", schema.experiment_row(self.origin, run.experiment, result))
                self.state.measured(variant, result)
                self._enqueue(variant, run.identity)
                return
        if first and number == 0 and result.status is not Status.COMPLETED:
            raise seed_error(result, LOST_LIMIT)
        if first:
            self._end(variant, run.identity, result.status, result.reason)
        self.lineage.append("experiments", schema.experiment_row(self.origin, run.experiment, result))
        scores = self.state.measured(variant, result)
        self._note(variant, result.status, result.reason, result)
        if scores is not None:
            self.islands.absorb(variant, scores)

    def _emigrated(self, event: Emigrated) -> None:
        target, migrants = self.islands.emigrated(event)
        if migrants:
            names = [variant.variant_id for variant in migrants]
            self._record("migration", island=event.island, target=target, variants=names)

    def _rebuild(self, island: int) -> None:
        """Put a lost island back as the lineage has it."""
        self.lineage.commit()
        self.islands.restore(island, replay(self.lineage).islands[island])

    # -------------------------------------------------------------------------------------------------------- helpers

    def _enqueue(self, variant: Variant, identity: str) -> None:
        """Put a variant's next training behind what waits for a slot; the ledger has reserved it already."""
        number, replicate = variant.birth.number, self._trainings.take(variant.variant_id)
        seed = entropy(self.config.seed, number, TRAINING + replicate) % 2**31
        name = experiment_name(variant.variant_id, replicate)
        self.ready.append(Running(Experiment(name, variant.variant_id, variant.source, seed), variant, identity))

    def _end(self, variant: Variant, identity: str | None, status: Status, reason: str) -> None:
        """Write the one row of a birth."""
        number = variant.birth.number
        row = schema.variant_row(self.origin, variant, status, reason, ast_hash=identity)
        self.state.born(variant.birth, status, self.lineage.append("variants", row))
        self._unended.discard(number)
        if number:
            self._trainings.forget(variant.variant_id)
            self._losses.pop(variant.variant_id, None)
        if status in (Status.REJECTED, Status.OPERATOR_FAILED):
            self._note(variant, status, reason, None)

    def _note(self, variant: Variant, status: Status, reason: str, result: Result | None) -> None:
        """Keep what ended for the watcher, and for what later prompts say of it."""
        self.ended.append(Ended(variant, status, reason, result))
        if variant.birth.number and status is not Status.LOST:
            noise = self.state.noise.estimate()
            self._memory.note(idea_of(variant, status, reason, result, self.state, noise))

    def _record(self, kind: str, island: int | None = None, **details: Any) -> None:
        self.lineage.append("events", schema.event_row(self.origin, kind, self._time(), island=island, **details))

    def _time(self) -> datetime:
        return datetime.fromtimestamp(self.cluster.now(), timezone.utc)
