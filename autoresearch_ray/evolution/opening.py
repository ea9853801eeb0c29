"""How a search begins, and how it is taken up where a driver left it, for instance killed.

Owns the first orders. Does not own the fold over stored rows (replay.py) or the loop (driver.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autoresearch_ray.errors import RunError, SeedError
from autoresearch_ray.evolution.archipelago import Archipelago
from autoresearch_ray.evolution.breeding import TOURNAMENT, entropy, idea_of
from autoresearch_ray.evolution.island import Member
from autoresearch_ray.evolution.replay import Replayed, replay
from autoresearch_ray.ledger import Ledger, Limits
from autoresearch_ray.variant import Birth, Operator, Status, Variant, variant_id

if TYPE_CHECKING:
    from autoresearch_ray.evolution.driver import Driver


def begin(driver: Driver, source: str) -> None:
    """Make the seed and queue its trainings under several random seeds; it may breed before its first score.

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
    driver.records.reserve(birth)
    driver.records.proposed(seed, (), found.identity)
    _found(driver, Member(seed, ()), [[Member(seed, ())] for _ in driver.islands.capacities])
    _replicate_seed(driver, found.identity)


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
    for variant, status in before.recent:
        driver.records.trials.begun(variant.birth.number, variant.source)
        driver.records.trials.ended(variant.birth.number, status)
        if variant.birth.number and status is not Status.LOST:
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
