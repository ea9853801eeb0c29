"""What a user's own lineage tells a simulation: how noisy, how often a child is better, what fails, how long it takes.

Owns reading it off, and a landscape that behaves alike. Does not own the simulation (simulation.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pyarrow.compute as pc

from autoresearch_ray.cluster.calibrated import CALIBRATED, OPTIMUM, START
from autoresearch_ray.cluster.landscape import Landscape, Literal, Part
from autoresearch_ray.cluster.simulated import Node, World
from autoresearch_ray.errors import UsageError
from autoresearch_ray.evolution.noise import RELATIVE_SIGMA
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.operators import steps, transcripts
from autoresearch_ray.operators.proposal import Failure
from autoresearch_ray.variant import Birth, Operator, Status, Variant

CHILDREN = 20
"""Fewer scored children of scored parents than this say too little."""
MODEL_SECONDS = 30.0
"""Assumed of a language model whose exchanges were not kept."""
_EQUALS = 5
"""Among about so many that are as good, the best of a search is the luckiest."""
_DISTANCES = (0.3, 0.45, 0.7, 1.0, 1.4)
_WALKS, _ROUNDS = 6, 3
_HEADROOM = START - OPTIMUM
_NEVER = datetime.fromtimestamp(0, timezone.utc)


@dataclass(frozen=True, slots=True)
class Observed:
    """What a lineage says. Scores are costs: the metric, or minus the metric where higher is better."""

    run: str
    children: int
    """Scored variants whose parents have scores."""
    start: float
    """The seed's mean cost."""
    lower_is_better: bool
    sigma: float
    """Of one score, or what is assumed without replicates."""
    replicated: bool
    """Whether sigma was measured."""
    improved: float
    """Share of children that scored better than their better parent, noise included."""
    gain: float
    """By how much the best's mean score is better than the seed's, less what luck alone would have brought; > 0."""
    crash_share: float
    timeout_share: float
    lost_share: float
    experiment_seconds: float
    """Median wall-clock time of a completed experiment."""
    train_seconds: float
    spread: float
    """Standard deviation of the logarithm of that time."""
    model_seconds: float | None
    """Median time of a language model's answer; None when none took part."""
    model_failures: float
    parameters_share: float
    """Share of one-parent births without a language model."""


def observe(folder: Path) -> Observed:
    """Read off a run what a simulation wants to know.

    Raises:
        UsageError: too few children have been scored.
        RunError: the folder is not a run.
    """
    lineage = Lineage.open(folder)
    seed = lineage.seed
    primary = lineage.primary
    changes = lineage.costs - np.append(lineage.costs, np.nan)[primary]
    changes = changes[np.isfinite(changes) & (primary >= 0)]
    if seed is None or not math.isfinite(lineage.costs[seed]) or len(changes) < CHILDREN:
        raise UsageError(
            f"{lineage.tables.run} has {len(changes)} scored children of scored parents: a plan from it needs at least "
            f"{CHILDREN}. Let it go on with `autoresearch-ray resume`, or plan without --from."
        )
    sigma = lineage.sigma or RELATIVE_SIGMA * abs(float(lineage.costs[seed]))
    luck = sigma * NormalDist().inv_cdf(1 - 0.5 / _EQUALS)
    experiments = lineage.tables.experiments
    statuses = experiments["status"].to_pylist()
    completed = experiments.filter(pc.equal(experiments["status"], Status.COMPLETED.value))
    seconds = np.maximum(completed["wall_seconds"].to_numpy(), 1e-3)
    answers = [exchange.seconds for exchange in transcripts.everything(folder) if exchange.purpose == "mutation"]
    numbers = lineage.operators.count(Operator.PARAMETERS.value)
    mutations = lineage.operators.count(Operator.MUTATION.value)
    return Observed(
        run=lineage.tables.run,
        children=len(changes),
        start=float(lineage.costs[seed]),
        lower_is_better=lineage.lower_is_better,
        sigma=sigma,
        replicated=bool(lineage.sigma),
        improved=float(np.mean(changes < 0)),
        gain=max(
            float(lineage.costs[seed] - np.nanmin(np.where(lineage.completed, lineage.costs, np.nan))) - luck, sigma
        ),
        crash_share=statuses.count(Status.CRASHED.value) / len(statuses),
        timeout_share=statuses.count(Status.TIMED_OUT.value) / len(statuses),
        lost_share=statuses.count(Status.LOST.value) / len(statuses),
        experiment_seconds=float(np.median(seconds)),
        train_seconds=float(np.median(completed["train_seconds"].to_numpy())),
        spread=float(np.std(np.log(seconds))),
        model_seconds=(float(np.median(answers)) if answers else MODEL_SECONDS) if mutations else None,
        model_failures=_share(lineage, Operator.MUTATION, Status.OPERATOR_FAILED),
        parameters_share=numbers / max(1, numbers + mutations),
    )


def _share(lineage: Lineage, operator: Operator, status: Status) -> float:
    """Return the share of an operator's births that ended so; 0 without any."""
    ended = [found for made, found in zip(lineage.operators, lineage.statuses, strict=True) if made == operator.value]
    return ended.count(status.value) / len(ended) if ended else 0.0


def world_like(observed: Observed, nodes: tuple[Node, ...]) -> World:
    """Return a world whose experiments and operators behave as those of a lineage did."""
    return World(
        landscape_like(observed),
        nodes,
        experiment_seconds=observed.experiment_seconds,
        train_seconds=observed.train_seconds,
        spread=min(observed.spread, 0.5),
        crash_share=observed.crash_share,
        timeout_share=observed.timeout_share,
        lost_share=min(observed.lost_share, 0.5),
        model_seconds=observed.model_seconds or 0.0,
        model_failures=min(observed.model_failures, 0.9),
    )


def landscape_like(observed: Observed) -> Landscape:
    """Return the calibrated landscape, moved and stretched until its children behave as those of a lineage did.

    Two numbers are fitted. How far the literals start from their optima decides how often a child is better, and a
    factor on all effects what such a search gains. A fit to so few children is rough: it says which size does well for
    searches like this one, not what this one will reach.
    """
    fits = (_stretched(observed, distance) for distance in _DISTANCES)
    return min(fits, key=lambda fit: abs(fit[1] - observed.improved))[0]


def _stretched(observed: Observed, distance: float) -> tuple[Landscape, float]:
    """Return the landscape at one distance on which as much is gained, and its share of better children."""
    factor = observed.gain / _HEADROOM
    improved = 0.0
    for _ in range(_ROUNDS):
        landscape = _moved(observed, distance, factor)
        walks = [_walk(observed, landscape, np.random.default_rng(seed)) for seed in range(_WALKS)]
        improved = float(np.mean([walk[1] for walk in walks]))
        gained = float(np.median([walk[0] for walk in walks]))
        factor *= float(np.clip(observed.gain / max(gained, 1e-12), 0.05, 20.0))
    return _moved(observed, distance, factor), improved


def _moved(observed: Observed, distance: float, factor: float) -> Landscape:
    base = CALIBRATED
    literals = tuple(map(partial(_start_at, distance=distance, factor=factor), base.literals))
    parts: tuple[Part, ...] = ()
    if observed.model_seconds is not None:
        gain = min(distance, 1.0)
        parts = tuple(
            replace(part, effects={name: factor * (e if e > 0 else e * gain) for name, e in part.effects.items()})
            for part in base.parts
        )
    landscape = replace(base, literals=literals, parts=parts, sigma=observed.sigma, taste=base.taste * factor)
    start = landscape.score(landscape.seed)
    assert start is not None
    return replace(landscape, best=landscape.best + observed.start - start)


def _start_at(literal: Literal, distance: float, factor: float) -> Literal:
    """Let a literal start so many times as far from its optimum, on the same bowl."""
    if distance == 1.0:
        return replace(literal, gain=factor * literal.gain)
    value, optimum = literal.value, literal.coordinate(literal.optimum)
    started = literal.at(optimum + distance * (literal.coordinate(value) - optimum))
    whole = value > 1 and "." not in literal.text
    text = str(max(1, round(started))) if whole else f"{started:.3g}"
    return replace(literal, text=text, gain=factor * literal.gain * distance**2)


def _walk(observed: Observed, landscape: Landscape, rng: np.random.Generator) -> tuple[float, float]:
    """Breed as many children as the lineage had, greedily; return the true gain and the share that scored better."""
    birth = Birth(0, "", 0, Operator.SEED, 0)
    source, truth = landscape.seed, observed.start
    score, better = truth, 0
    for _ in range(observed.children):
        if not landscape.parts or rng.random() < observed.parameters_share:
            answer = steps.mutate(Variant(birth, (), 0, source, "", _NEVER), rng)
        else:
            answer = landscape.propose(source, rng)
        found = None if isinstance(answer, Failure) else landscape.score(answer.source)
        if found is None or isinstance(answer, Failure):
            continue
        scored = found + landscape.sigma * rng.normal()
        if scored < score:
            source, truth, score = answer.source, found, scored
            better += 1
    return observed.start - truth, better / observed.children
