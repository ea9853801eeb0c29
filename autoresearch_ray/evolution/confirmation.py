"""Trains the best variants of a run once more under fresh seeds, and says what they are then worth.

Owns the loop after a run. Does not own the search (driver.py) or how the outcome is shown (cli/confirming.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from autoresearch_ray.config import Config
from autoresearch_ray.errors import RunError
from autoresearch_ray.evolution import sequential
from autoresearch_ray.evolution.cluster import Cluster, Measured, Progressed
from autoresearch_ray.evolution.memory import Memory
from autoresearch_ray.evolution.noise import Posterior
from autoresearch_ray.evolution.queue import LOST_LIMIT, Queue
from autoresearch_ray.evolution.replay import replay
from autoresearch_ray.evolution.state import Standing
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Purpose, Result, Status


@dataclass(frozen=True, slots=True)
class Confirmed:
    """One variant's fresh trainings. Scores have the metric's own direction; gains are positive where it is better."""

    number: int
    variant_id: str
    hypothesis: str
    before: Posterior
    """What the run believed of it."""
    scores: tuple[float, ...]
    """Under fresh seeds."""
    holdout: tuple[float, ...]
    failed: int
    """Fresh trainings that crashed or ran out of time."""
    gain: float | None = None
    """Its fresh mean against the seed's; None where one of the two has none."""
    p_better: float | None = None
    """That it is better than the seed, by the fresh trainings alone."""

    @property
    def mean(self) -> float | None:
        """The mean of the fresh scores."""
        return math.fsum(self.scores) / len(self.scores) if self.scores else None


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What came of it: the seed first, then the best in the order in which the run had them."""

    sigma: float
    """Standard deviation of one score, pooled over all replicates of the run, the fresh ones among them."""
    freedom: int
    variants: tuple[Confirmed, ...]


def confirm(
    config: Config,
    cluster: Cluster,
    lineage: LineageStore,
    origin: Origin,
    top: int,
    seeds: int,
    watch: Callable[[str, Result], None] = lambda variant_id, result: None,
) -> Confirmation:
    """Train the best variants and the seed so many times each; every experiment becomes a row.

    Args:
        config: the run's.
        cluster: carries the trainings out.
        lineage: the run's, open for writing.
        origin: what every row says.
        top: how many of the best.
        seeds: trainings of each.
        watch: called with every result.

    Raises:
        RunError: no experiment of the run has a score.
    """
    nothing = RunError(f"{lineage.folder.name} has no finished experiment with a score: there is nothing to confirm.")
    try:
        before = replay(lineage)
    except LookupError as error:
        raise nothing from error
    state = before.state
    if state.seed is None or not state.contenders:
        raise nothing
    ranked = sorted(state.contenders, key=lambda standing: (state.posterior(standing).mean, standing.number))
    chosen = [state.seed, *(standing for standing in ranked if standing.number)][: top + 1]
    beliefs = {standing.number: state.posterior(standing) for standing in chosen}
    queue, memory = Queue(cluster, config.seed), Memory(lineage, state)
    queue.trainings = before.trainings
    for _ in range(seeds):
        for standing in chosen:
            queue.enqueue(memory.recall(standing.number), "", Purpose.CONFIRMATION, ended=True)
    results = _trained(cluster, lineage, origin, queue, watch)
    for variant_id, result in results:
        if result.status is Status.COMPLETED and result.val_bpb is not None:
            state.noise.observe(variant_id, state.turn(result.val_bpb))
    noise = state.noise.estimate()
    sigma = noise.sigma if noise.measured is None else noise.measured
    found = [_found(standing, beliefs[standing.number], results, state.turn) for standing in chosen]
    compared = [_compared(each, found[0], state.turn(1.0), sigma, noise.freedom) for each in found[1:]]
    return Confirmation(sigma, noise.freedom, (found[0], *compared))


def _found(
    standing: Standing, belief: Posterior, results: list[tuple[str, Result]], turn: Callable[[float], float]
) -> Confirmed:
    own = [result for variant_id, result in results if variant_id == standing.variant_id]
    return Confirmed(
        number=standing.number,
        variant_id=standing.variant_id,
        hypothesis=standing.hypothesis,
        before=replace(belief, mean=turn(belief.mean)),
        scores=tuple(result.val_bpb for result in own if result.val_bpb is not None),
        holdout=tuple(result.holdout_bpb for result in own if result.holdout_bpb is not None),
        failed=sum(result.status not in (Status.COMPLETED, Status.LOST) for result in own),
    )


def _trained(
    cluster: Cluster, lineage: LineageStore, origin: Origin, queue: Queue, watch: Callable[[str, Result], None]
) -> list[tuple[str, Result]]:
    """Carry out all that is queued; what is lost is trained again, a few times."""
    results: list[tuple[str, Result]] = []
    while len(queue):
        queue.dispatch()
        event = cluster.next_event(1.0)
        if isinstance(event, Progressed):
            queue.progressed(event)
        elif isinstance(event, Measured):
            run = queue.running.pop(event.experiment_id)
            lineage.append("experiments", schema.experiment_row(origin, run.experiment, event.result))
            lineage.commit()
            if event.result.status is Status.LOST and run.losses + 1 < LOST_LIMIT:
                queue.again(run, ended=True)
            results.append((run.variant.variant_id, event.result))
            watch(run.variant.variant_id, event.result)
    return results


def _compared(variant: Confirmed, seed: Confirmed, sign: float, sigma: float, freedom: int) -> Confirmed:
    """Return a variant with its gain over the seed; with unequal counts, the pairs are their harmonic mean."""
    if variant.mean is None or seed.mean is None:
        return variant
    gain = sign * (seed.mean - variant.mean)
    pairs = 2 / (1 / len(variant.scores) + 1 / len(seed.scores))
    p_better = sequential.p_better(gain, sigma, pairs, freedom)
    return replace(variant, gain=gain, p_better=p_better)
