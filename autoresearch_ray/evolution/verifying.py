"""Carries out what verification decides: judges, begins and feeds challenges, orders replicates, guards the end phase.

Owns the orders. Does not own the decisions (verification.py), the test (challenge.py) or the loop (driver.py).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from autoresearch_ray.evolution import verification
from autoresearch_ray.evolution.challenge import Challenge, Verdict, abandoned, judge, simpler
from autoresearch_ray.evolution.flight import Running
from autoresearch_ray.evolution.state import Standing
from autoresearch_ray.evolution.stopping import typical_seconds
from autoresearch_ray.evolution.verification import Left
from autoresearch_ray.variant import Purpose, variant_id

if TYPE_CHECKING:
    from autoresearch_ray.evolution.driver import Driver


def spare(driver: Driver) -> int:
    """Return how many births the end phase leaves room for."""
    config, state, left = driver.config, driver.state, _left(driver)
    challenge, needed = state.title.challenge, 0
    if driver.closing is not None:
        return 0
    if challenge is not None:
        needed = 2 * challenge.limit - sum(map(len, challenge.fresh.values())) - challenge.flying.total()
    if left.seconds is not None and verification.ending(config, replace(left, experiments=None), driver.cluster.slots):
        worth = left.pays_for_a_challenge and verification.worth_a_challenge(config, state)
        if challenge is not None or worth:
            return 0
    if left.experiments is None:
        return sys.maxsize
    free = max(0, left.experiments - needed)
    near = free <= verification.reserve(config) and breeding(driver)
    return max(0, free - verification.kept(config, state, replace(left, experiments=free), breeding=near))


def breeding(driver: Driver) -> bool:
    """Return whether a birth that has begun may still become the best."""
    queue = driver.queue
    births = (run.experiment.purpose is Purpose.BIRTH for run in (*queue.running.values(), *queue.ready))
    return any(births) or bool(driver.islands.asked) or len(driver.asking) > 0


def _left(driver: Driver) -> Left:
    ledger, seconds = driver.ledger, []
    if ledger.limits.hours is not None:
        seconds.append(3600 * (ledger.limits.hours - ledger.spent.hours))
    if driver.deadline is not None:
        seconds.append(driver.deadline - driver.cluster.now())
    closing = driver.closing is not None or ledger.births_left == 0
    return Left(ledger.experiments_left, min(seconds, default=None), typical_seconds(driver.config, ledger), closing)


def verify(driver: Driver) -> None:
    """Judge, begin and feed challenges for the title, and order replicates where they are worth more than births."""
    title, noise, ended = driver.state.title, driver.state.noise.estimate(), driver.ledger.spent.experiments
    if title.challenge is not None and (verdict := judge(title.challenge, noise)):
        _rule(driver, title.challenge, verdict)
    if title.challenge is None:
        left, slots = _left(driver), driver.cluster.slots
        hurries = verification.ending(driver.config, replace(left, experiments=None, closing=False), slots)
        waits = not hurries and verification.ending(driver.config, left, slots) and breeding(driver)
        limit = verification.challenge(driver.config, driver.state, left, slots, ended, breeding=waits)
        if limit is not None and driver.state.best is not None:
            _challenge(driver, driver.state.best.number, limit)
    if title.challenge is not None:
        _feed(driver, title.challenge)
    room = min(driver.room, spare(driver))
    chosen = verification.replicates(driver.config, driver.state, room, driver.replicating, ended)
    for standing in chosen or _last(driver, room):
        if driver.ledger.reserve_experiment():
            _train_again(driver, standing.number, Purpose.REPLICATE)
            driver.replicating[standing.number] += 1


def _last(driver: Driver, room: int) -> list[Standing]:
    """Return whom the last few experiments train again, if it is time for them."""
    config, left = driver.config, _left(driver)
    if room < 1 or left.experiments is None or left.experiments > verification.reserve(config) or breeding(driver):
        return []
    return verification.last_replicates(config, driver.state, left, driver.replicating)


def settled(driver: Driver) -> bool:
    """Return whether there is nothing left to find out about the title."""
    worth = _left(driver).pays_for_a_challenge and verification.worth_a_challenge(driver.config, driver.state)
    return driver.state.title.challenge is None and not worth


def _challenge(driver: Driver, number: int, limit: int) -> None:
    challenger, incumbent = driver.memory.recall(number), driver.memory.recall(driver.state.title.holder)
    is_simpler = simpler(challenger.source, incumbent.source)
    pairs = verification.first_pairs(driver.config, driver.state, limit)
    driver.records.challenge(challenger, incumbent, limit, simpler=is_simpler).target = pairs


def _feed(driver: Driver, challenge: Challenge) -> None:
    """Order what the next look needs; a challenge for which nothing is left is given up."""
    if challenge.pairs >= challenge.target:
        challenge.target += max(1, driver.cluster.slots // 4)
    for number in challenge.lacking():
        if not driver.ledger.reserve_experiment():
            break
        _train_again(driver, number, Purpose.CHALLENGE)
        challenge.flying[number] += 1
    if not challenge.flying.total():
        _rule(driver, challenge, abandoned(challenge, driver.state.noise.estimate()))


def _rule(driver: Driver, challenge: Challenge, verdict: Verdict) -> None:
    challenger, incumbent = (variant_id(driver.origin.run, who) for who in (challenge.challenger, challenge.incumbent))
    driver.records.verdict(challenger, incumbent, verdict, confirmed=driver.state.title.champion is not None)


def _train_again(driver: Driver, number: int, purpose: Purpose) -> None:
    driver.queue.enqueue(driver.memory.recall(number), "", purpose, ended=True)


def lost(driver: Driver, run: Running) -> None:
    """Take in that a training was lost and is ordered once more."""
    challenge = driver.state.title.challenge
    if run.experiment.purpose is Purpose.CHALLENGE and challenge is not None:
        challenge.flying[run.variant.birth.number] += 1
