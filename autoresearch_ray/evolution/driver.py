"""The loop: breed, train, absorb, until the ledger is spent. Every decision is here or in a pure function called here.

Owns births in the making and the reaction to each event. Does not own where work is carried out (cluster), how a search
begins (opening.py), how rows are kept (records.py, lineage), or an experiment's way through the slots (queue.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from autoresearch_ray.config import Config
from autoresearch_ray.errors import UsageError
from autoresearch_ray.evolution import opening, verifying
from autoresearch_ray.evolution.aftercare import crash_of, repairable
from autoresearch_ray.evolution.archipelago import Archipelago
from autoresearch_ray.evolution.asking import Asking
from autoresearch_ray.evolution.availability import Availability
from autoresearch_ray.evolution.breeding import TOURNAMENT, conceive, couple, entropy
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
from autoresearch_ray.evolution.flight import Ended, Running, made, seed_error
from autoresearch_ray.evolution.inheritance import Inheritance
from autoresearch_ray.evolution.island import Member
from autoresearch_ray.evolution.memory import Memory
from autoresearch_ray.evolution.pacing import (
    Generational,
    Pacing,
    SteadyState,
    automatic_population,
    capacities,
    planned_experiments,
    width,
)
from autoresearch_ray.evolution.queue import LOST_LIMIT, Queue
from autoresearch_ray.evolution.records import Records
from autoresearch_ray.evolution.replay import replay
from autoresearch_ray.evolution.state import State
from autoresearch_ray.evolution.stopping import Stop, stop_reason, typical_seconds
from autoresearch_ray.ledger import Ledger, Limits
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.training.preflight import Inspected, inspect
from autoresearch_ray.variant import Birth, Operator, Purpose, Result, Status, Usage, Variant, variant_id


class Driver:
    """One run's search: `begin` or `resume` it, then `run` until the ledger is spent.

    Attributes:
        state: what the rows so far add up to.
        ledger: what is spent and reserved.
        queue: experiments waiting for a slot, and those that train.
        islands: what each may hold, and has been asked.
        memory: recent variants and ideas.
        records: writes rows.
        asking: births whose operators are at work.
        founder: the seed as every island began with it.
        replicating: replicates ordered and not ended, by variant.
        closing: why nothing more is born, while the best may still be confirmed; None while the search goes on.
        stop: why nothing new is started any more; None while the search goes on.
        halted: set it to end `run` between two events, whatever is in flight; `resume` begins that again.
        watch: called after every batch of events, before the loop waits for more.
    """

    founder: Member

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
        self.config, self.cluster, self.lineage, self.origin = config, cluster, lineage, origin
        self.inspect, self.watch, self.deadline = inspect, watch, deadline
        self.ledger = Ledger(Limits.of(config))
        self.queue = Queue(cluster, config.seed)
        self.take_up(State(config.metric.goal))
        size = config.population_size
        if isinstance(size, str):
            size = automatic_population(planned_experiments(config, cluster.slots), cluster.slots)
        self.islands = Archipelago(cluster, config, self.state, capacities(size, config.num_islands))
        self.asking = Asking(self, program, facts, call_usd)
        self.started_at = cluster.now()
        self.hours_before = 0.0
        self.next_number = 1
        self.closing: Stop | None = None
        self.stop: Stop | None = None
        self.halted = False
        self.replicating: Counter[int] = Counter()

    def take_up(self, state: State) -> None:
        """Go on from these standings."""
        self.state = state
        self.memory = Memory(self.lineage, state)
        self.records = Records(self.lineage, self.origin, state, self.memory, self.cluster.now)

    @property
    def population_size(self) -> int:
        """Members that all islands may hold."""
        return sum(self.islands.capacities)

    @property
    def births(self) -> int:
        """Births made so far, the seed not counted."""
        return self.next_number - 1

    @property
    def waiting(self) -> int:
        """Births and replicates begun but not handed to the cluster for training."""
        return len(self.islands.asked) + len(self.asking) + len(self.queue.ready)

    @property
    def availability(self) -> Availability:
        """Whether language models may be asked."""
        return self.asking.availability

    @property
    def running(self) -> dict[str, Running]:
        """Experiments handed to the cluster, by id."""
        return self.queue.running

    @property
    def ended(self) -> list[Ended]:
        """Births and replicates that ended since `watch` was last called."""
        return self.records.ended

    def hypothesis(self, number: int) -> str:
        """Return what a variant tried, of one that has a score."""
        return self.memory.recall(number).hypothesis

    def begin(self, source: str, inherited: Inheritance | None = None) -> None:
        """Start a new search from a seed, with what another run leaves (Raises SeedError: it cannot be trained)."""
        opening.begin(self, source, inherited)

    def resume(self) -> None:
        """Go on with a search where its last driver left it (Raises RunError: the lineage has no seed)."""
        opening.resume(self)

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
                verifying.verify(self)
                self._breed()
                self.queue.dispatch()
            else:
                self.queue.withdraw()
            self.lineage.commit()
            self.watch(self)
            self.ended.clear()
            if self.halted:
                return
            if not self.running and not len(self.asking) and (self.stop is not None or not self.waiting):
                self.stop = self.stop or self.closing
                return
            event = self.cluster.next_event(1.0)
            while event is not None:
                self._take(event)
                if self.stop is None:
                    self.queue.dispatch()
                event = None if self.halted else self.cluster.next_event(0.0)

    def drain(self, stop: Stop) -> None:
        """Start nothing more; what trains is finished, and what waits is left for `resume`."""
        self.stop = self.stop or stop

    def resize(self, population_size: int) -> None:
        """Let the islands hold so many members in all, from now on; the worst are evicted where that is fewer.

        Raises:
            UsageError: fewer members than islands.
        """
        self.islands.resize(population_size)
        self.records.event("resize", capacities=self.islands.capacities)

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
        self.records.reserve(birth)
        self.asking.put(birth, self.founder.variant)
        self._proposed(birth, Proposal(source, hypothesis))
        return birth.variant_id

    def charge(self, usage: Usage) -> None:
        """Pay for calls that belong to no birth, as the check of the models before the first one."""
        self.ledger.settle_operator(usage.tokens_in, usage.tokens_out, usage.usd)
        self.records.event("models_checked", **asdict(usage))

    def _look_at_the_clock(self) -> None:
        now = self.cluster.now()
        self.ledger.clock(self.hours_before + (now - self.started_at) / 3600)
        if self.stop is None:
            self.closing = self.closing or stop_reason(self.config, self.state, self.ledger, now, self.deadline)
            if self.closing is not None and (self.closing.final or (not len(self.queue) and verifying.settled(self))):
                self.stop = self.closing

    # ------------------------------------------------------------------------------------------------------- breeding

    def _breed(self) -> None:
        """Begin as many births as there is room and money for, and ask the islands for their parents."""
        asked = []
        for _ in range(min(self.room, verifying.spare(self))):
            if not self.ledger.reserve_birth():
                break
            number, language = self._count_up(), self.asking.language()
            birth = conceive(
                self.config, self.origin.run, number, self.islands.capacities, self.state, language=language
            )
            self.records.reserve(birth)
            asked.append(birth)
            self.islands.migrate_after(number)
        self.islands.mate(asked)

    @property
    def room(self) -> int:
        """Births and replicates that may begin now, as far as slots are concerned."""
        return self._pacing().room(self.waiting + len(self.running), self.births)

    def _pacing(self) -> Pacing:
        if self.config.pacing == "generational":
            return Generational(self.population_size)
        experiment_seconds = typical_seconds(self.config, self.ledger)
        return SteadyState(width(self.cluster.slots, self.asking.seconds, experiment_seconds))

    def _count_up(self) -> int:
        self.next_number += 1
        return self.next_number - 1

    # --------------------------------------------------------------------------------------------------------- events

    def _take(self, event: Event) -> None:
        match event:
            case Progressed():
                self.queue.progressed(event)
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
        language = self.asking.language()
        alone = birth.operator is Operator.CROSSOVER and len(chosen.parents) == 1
        if alone or birth.operator in (Operator.MUTATION, Operator.REPAIR):  # what was to be repaired is not known here
            birth = replace(birth, operator=Operator.MUTATION if language else Operator.PARAMETERS)
        self.asking.ask(birth, chosen.parents, chosen.ancestor, language=language)

    def _proposed(self, birth: Birth, answer: Proposal | Failure) -> None:
        parents = self.asking.answered(birth, answer)
        if isinstance(answer, Proposal) and answer.operator is not None:
            birth = replace(birth, operator=answer.operator)
        variant = made(birth, parents, answer, self.records.now())
        self.ledger.settle_operator(answer.usage.tokens_in, answer.usage.tokens_out, answer.usage.usd)
        if isinstance(answer, Failure):
            self._give_up(variant, None, Status.OPERATOR_FAILED, answer.reason)
            return
        found = self.inspect(answer.source)
        reason = found.refusal or self._repeats(found.identity, parents) or answer.refusal
        if reason or found.identity is None:
            self._give_up(variant, found.identity, Status.REJECTED, reason or "the source does not parse")
            return
        numbers = tuple(parent.birth.number for parent in parents)
        self.asking.judged(trained=True)
        self.records.proposed(variant, numbers, found.identity, answer.literals)
        self.queue.enqueue(variant, found.identity)

    def _give_up(self, variant: Variant, identity: str | None, status: Status, reason: str) -> None:
        """End a birth that is not worth a training."""
        self.asking.judged(trained=False)
        self.records.end(variant, identity, status, reason)
        self.ledger.release_experiment()

    def _repeats(self, identity: str | None, parents: Sequence[Variant]) -> str | None:
        number = None if identity is None else self.state.duplicate_of(identity)
        if number is None:
            return None
        if number in (parent.birth.number for parent in parents):
            return "no change: the same program as its parent"
        return f"duplicate: the same program as {variant_id(self.origin.run, number)}"

    def _measured(self, run: Running, result: Result) -> None:
        """Record an experiment; the first one that counts ends the birth. What was lost is trained again."""
        variant, number = run.variant, run.variant.birth.number
        lost, first = result.status is Status.LOST, number in self.records.open
        self.ledger.settle_experiment(result.train_seconds, result.wall_seconds, lost=lost)
        if lost and run.losses + 1 < LOST_LIMIT and self.ledger.reserve_experiment():
            self.records.measured(variant, run.experiment, result)
            self.queue.again(run, ended=not first)
            verifying.lost(self, run)
            return
        if run.experiment.purpose is Purpose.REPLICATE:
            self.replicating -= Counter([number])
        if first and not (lost and self.queue.pending(variant.variant_id)):  # the seed begins with several trainings
            if number == 0 and result.status is not Status.COMPLETED:
                raise seed_error(result, LOST_LIMIT)
            self.records.end(variant, run.identity, result.status, result.reason)
            if number:
                self.queue.trainings.end(variant.variant_id)
        scores = self.records.measured(variant, run.experiment, result)
        if scores is not None:
            self.islands.absorb(variant)
        if first:
            self._mend(variant, result)

    def _mend(self, variant: Variant, result: Result) -> None:
        """Give a variant that crashed early back to be repaired, if it is worth it and there is somebody to ask."""
        if (
            self.stop is not None
            or self.closing is not None
            or not repairable(variant, result, self.config, self._recall)
        ):
            return
        if not self.asking.language() or not self.ledger.reserve_birth():
            return
        number, island = self._count_up(), variant.birth.island
        seed = entropy(self.config.seed, number, TOURNAMENT)
        birth = Birth(number, variant_id(self.origin.run, number), island, Operator.REPAIR, seed)
        self.records.reserve(birth)
        self.islands.migrate_after(number)
        ancestor = self.state.ancestry.parents(variant.birth.number)[0]
        self.asking.ask(birth, (variant,), ancestor, language=True, crash=crash_of(result))

    def _recall(self, number: int) -> Variant:
        return self.memory.recall(self.state.ancestry.parents(number)[0])

    def _emigrated(self, event: Emigrated) -> None:
        target, migrants = self.islands.emigrated(event)
        if migrants:
            names = [variant.variant_id for variant in migrants]
            self.records.event("migration", island=event.island, target=target, variants=names)

    def _rebuild(self, island: int) -> None:
        """Put a lost island back as the lineage has it."""
        self.lineage.commit()
        self.islands.restore(island, replay(self.lineage).islands[island])
