"""How a search begins, and how it is taken up where a driver left it, for instance killed.

Owns the first orders. Does not own the fold over stored rows (replay.py) or the loop (driver.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from autoresearch_ray.errors import RunError, SeedError
from autoresearch_ray.evolution.archipelago import Archipelago
from autoresearch_ray.evolution.breeding import TOURNAMENT, entropy, idea_of
from autoresearch_ray.evolution.inheritance import Carried, Inheritance
from autoresearch_ray.evolution.island import Member
from autoresearch_ray.evolution.memory import ideas_of
from autoresearch_ray.evolution.replay import Replayed, replay
from autoresearch_ray.ledger import Ledger, Limits
from autoresearch_ray.operators.request import Idea
from autoresearch_ray.variant import Birth, Operator, Status, Variant, variant_id

if TYPE_CHECKING:
    from autoresearch_ray.evolution.driver import Driver


def begin(driver: Driver, source: str, inherited: Inheritance | None = None) -> None:
    """Make the seed and queue its trainings under several random seeds; it may breed before its first score.

    Args:
        driver: whose lineage is empty.
        source: the seed's.
        inherited: what another run leaves to this one; of the same class with its seed, so that less is trained.

    Raises:
        SeedError: the seed cannot be trained.
    """
    found = driver.inspect(source)
    if found.refusal or found.identity is None:
        raise SeedError(f"the seed program cannot be trained: {found.refusal}.")
    name = variant_id(driver.origin.run, 0)
    birth = Birth(0, name, 0, Operator.SEED, entropy(driver.config.seed, 0, TOURNAMENT))
    seed = Variant(birth, (), 0, source, "the seed program", driver.records.now())
    _note_start(driver)
    if inherited is not None:
        _inherit(driver, inherited)
        if inherited.scored:
            _carry(driver, inherited, replace(seed, carried_from=inherited.seed.origin))
            _replicate_seed(driver, found.identity)
            return
    driver.records.reserve(birth)
    driver.records.proposed(seed, (), found.identity)
    _found(driver, Member(seed, ()), [[Member(seed, ())] for _ in driver.islands.capacities])
    _replicate_seed(driver, found.identity)
    for each in inherited.variants if inherited is not None else ():
        if not driver.ledger.reserve_birth():
            break
        _train_again(driver, each)


def _inherit(driver: Driver, inherited: Inheritance) -> None:
    """Learn what another run has learned."""
    ids = {each.variant_id: _name(driver, number) for number, each in _numbered(inherited)}
    details = inherited.details(ids)
    driver.records.event("carried", **details)
    driver.state.inherit(details["noise"], details["operators"])
    _remember(driver, ideas_of(details), details["notes"])


def _carry(driver: Driver, inherited: Inheritance, seed: Variant) -> None:
    """Take over variants of the same class: rows like any other, with their parents, and scores marked as carried."""
    _found(driver, Member(seed, ()), [[Member(seed, ())] for _ in driver.islands.capacities])
    numbers = {each.variant_id: number for number, each in _numbered(inherited)}
    made: dict[str, Variant] = {}
    for number, each in _numbered(inherited):
        parents = [made[parent] for parent in each.parents]
        variant = seed if number == 0 else _carried(driver, number, each, parents)
        made[each.variant_id] = variant
        driver.records.carried(variant, tuple(numbers[parent] for parent in each.parents), each.ast_hash)
        driver.memory.keep(variant)
        for experiment, result in each.trainings:
            name = variant.variant_id + experiment.experiment_id[len(each.variant_id) :]
            experiment = replace(experiment, experiment_id=name, variant_id=variant.variant_id)
            driver.queue.trainings.note(name, ended=number != 0)
            now = driver.records.now()
            driver.records.carried_training(variant, experiment, replace(result, started_at=now, ended_at=now))
            driver.islands.absorb(variant)
    driver.next_number = len(numbers)


def _train_again(driver: Driver, each: Carried) -> None:
    """Let a variant of another class in as a child of the seed: a foreign score is a claim, never a fact."""
    number = driver.next_number
    driver.next_number += 1
    variant = _carried(driver, number, each, [driver.founder.variant])
    found = driver.inspect(each.source)
    reason = found.refusal or ("duplicate" if driver.state.duplicate_of(found.identity or "") is not None else "")
    if reason or found.identity is None:
        driver.records.end(variant, found.identity, Status.REJECTED, reason or "the source does not parse")
        driver.ledger.release_experiment()
        return
    driver.records.reserve(variant.birth)
    driver.records.proposed(variant, (0,), found.identity)
    driver.queue.enqueue(variant, found.identity)


def _carried(driver: Driver, number: int, each: Carried, parents: Sequence[Variant]) -> Variant:
    seed = entropy(driver.config.seed, number, TOURNAMENT)
    return Variant(
        birth=Birth(number, _name(driver, number), each.island % len(driver.islands), Operator.CARRIED, seed),
        parents=tuple(parent.variant_id for parent in parents),
        generation=1 + max(parent.generation for parent in parents),
        source=each.source,
        hypothesis=each.hypothesis,
        created_at=driver.records.now(),
        model=each.model,
        step_size=each.step_size,
        carried_from=each.origin,
    )


def _numbered(inherited: Inheritance) -> Iterator[tuple[int, Carried]]:
    return enumerate((inherited.seed, *inherited.variants))


def _name(driver: Driver, number: int) -> str:
    return variant_id(driver.origin.run, number)


def _remember(driver: Driver, ideas: Sequence[Idea], notes: str) -> None:
    for idea in ideas:
        driver.memory.note(idea)
    driver.memory.notes = notes


def resume(driver: Driver) -> None:
    """Take a search up: births and trainings that were in flight are begun again.

    Raises:
        RunError: the lineage has no seed, or has lost rows that others rest on: there is nothing to go on with.
    """
    try:
        before = replay(driver.lineage)
    except LookupError as error:
        damage = " ".join(driver.lineage.damage)
        why = f"cannot go on without what is damaged. {damage}" if damage else "ended before its seed was recorded."
        raise RunError(f"{driver.lineage.folder} {why} Start a new run, or restore the files from a backup.") from error
    _restore(driver, before)
    _note_start(driver)
    _found(driver, before.founder, before.islands)
    waiting = {variant.birth.number: variant for variant in driver.lineage.open_proposals()}
    seed = before.founder.variant
    _replicate_seed(driver, driver.inspect(seed.source).identity or "", least=int(0 in waiting))
    for number, variant in sorted(waiting.items()):
        identity = driver.inspect(variant.source).identity or ""
        driver.records.conceived(variant, tuple(before.numbers[parent] for parent in variant.parents), identity)
        if number and driver.ledger.reserve_experiment():
            driver.queue.enqueue(variant, identity)
    for birth in sorted(driver.lineage.open_births(), key=lambda birth: birth.number):
        if birth.number not in waiting and driver.ledger.reserve_experiment():
            driver.islands.mate([birth])


def _restore(driver: Driver, before: Replayed) -> None:
    driver.take_up(before.state)
    _remember(driver, before.ideas, "")
    for variant, status in before.recent:
        driver.records.trials.begun(variant.birth.number, variant.source)
        driver.records.trials.ended(variant.birth.number, status)
        if variant.birth.number and variant.birth.number not in before.carried and status is not Status.LOST:
            driver.memory.note(idea_of(variant, status, "", None, before.state, before.state.noise.estimate()))
    driver.memory.notes, driver.memory.noted = before.notes
    driver.queue.trainings = before.trainings
    driver.islands = Archipelago(driver.cluster, driver.config, before.state, before.capacities)
    driver.ledger = Ledger(Limits.of(driver.config), before.spent)
    driver.hours_before, driver.next_number = before.spent.hours, before.next_number


def _note_start(driver: Driver) -> None:
    metric, sizes, slots = driver.config.metric, driver.islands.capacities, driver.cluster.slots
    driver.records.event("started", capacities=sizes, slots=slots, metric=metric.name, goal=metric.goal)


def _found(driver: Driver, founder: Member, islands: Sequence[Sequence[Member]]) -> None:
    driver.founder = founder
    driver.memory.keep(founder.variant)
    driver.islands.found(islands)


def _replicate_seed(driver: Driver, identity: str, least: int = 0) -> None:
    """Queue the trainings that the seed still lacks, lost ones counted as done; at `least` so many."""
    seed = driver.founder.variant
    lacking = driver.config.seed_replicates - driver.queue.trainings.count(seed.variant_id)
    for _ in range(max(least, lacking)):
        if driver.ledger.reserve_experiment():
            driver.queue.enqueue(seed, identity)
