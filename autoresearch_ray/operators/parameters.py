"""The operator `parameters`: sets the literals of one parent where a surrogate of all recent trainings expects most.

Thompson sampling in a trust region (Eriksson and others: TuRBO, NeurIPS 2019) around the best setting known. Owns what
is asked of the surrogate. Does not own its numerics (surrogate.py) or steps without experience (steps.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoresearch_ray.operators import steps
from autoresearch_ray.operators.coordinates import CATEGORY_DISTANCE, Points, Space
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Request, Trial
from autoresearch_ray.operators.surrogate import Array, Data, Fit, Path, Surrogate, fit
from autoresearch_ray.operators.tunables import Tunable, Value, find, read, render, write
from autoresearch_ray.variant import Variant

LEAST_SCORED = 3
"""With fewer scored trials there is nothing to learn from, and literals are scattered at random."""
MOST_FITTED = 160
"""Trials that the surrogate is conditioned on: those nearest to the parent, and the latest. It costs their cube."""

_LATEST = 60
_MOST_FOR_LENGTHS = 100
_RADII = (0.15, 0.8)
_STRETCH = (0.25, 2.0)
_CANDIDATES = 200
_SPARSITY = (0.1, 0.3, 1.0)
_DESCENTS = 3
_SCATTER = 0.15
_FORGONE = 0.1
_SHOWN = 6
_INFEASIBLE = 1e3


def propose(request: Request, rng: np.random.Generator) -> Proposal | Failure:
    """Set literals of the parent; at random while too little has been scored.

    Args:
        request: the birth's parent, and the trials to learn from. Those of other structures count as well: a literal
            that the parent lacks is ignored, and each structure has an offset of its own.
        rng: everything random about it.
    """
    parent = request.parents[0].variant
    try:
        tunables = find(parent.source)
    except SyntaxError as error:
        return Failure(f"The parent does not parse: {error.msg}.")
    if not tunables:
        return Failure("The parent has no ALL_CAPS literal to set.")
    scored = [trial for trial in request.trials if trial.cost is not None]
    if len(scored) < LEAST_SCORED or min(_costs(scored)) == max(_costs(scored)):
        return scatter(parent, tunables, rng)
    known = _known(parent, tunables, request)
    setting = _chosen(known, rng)
    if setting == known.own or setting in known.tried:
        return steps.mutate(parent, rng)
    return _written(parent, tunables, setting)


def scatter(parent: Variant, tunables: Sequence[Tunable], rng: np.random.Generator) -> Proposal:
    """Step half of the parent's literals, at least two, all at once: each such trial tells about all of them."""
    count = min(len(tunables), max(2, math.ceil(len(tunables) / 2)))
    chosen = rng.choice(len(tunables), size=count, replace=False)
    return _written(parent, tunables, {tunables[at].key: steps.step(tunables[at], _SCATTER, rng) for at in chosen})


@dataclass(frozen=True)
class _Known:
    """What is known, as points around the parent."""

    space: Space
    data: Data
    """Scored trials, then those in flight, whose costs mean nothing yet."""
    scored: int
    """How many of the data are scored."""
    failed: Points
    structure: int
    own: Mapping[str, Value]
    tried: Sequence[Mapping[str, Value]]
    """Settings tried in the parent's structure."""


def _known(parent: Variant, tunables: Sequence[Tunable], request: Request) -> _Known:
    own = read(parent.source)
    space = Space.of(tunables, (trial.literals.settings for trial in request.trials))
    scored = _nearest([trial for trial in request.trials if trial.cost is not None], space)
    flying = [trial for trial in request.trials if trial.cost is None and not trial.failed][-MOST_FITTED // 2 :]
    structures = {own.structure: 0}
    for trial in (*scored, *flying):
        structures.setdefault(trial.literals.structure, len(structures))
    working = {trial.literals.structure for trial in scored}
    failed = [trial for trial in request.trials if trial.failed and trial.literals.structure in working]
    costs = _warped(np.array(_costs(scored)))
    spread = max(float(costs.std()), 1e-12)
    counts = np.array([trial.count for trial in scored] + [1] * len(flying))
    data = Data(
        points=np.array([space.point(trial.literals.settings) for trial in (*scored, *flying)]),
        costs=np.r_[(costs - costs.mean()) / spread, np.zeros(len(flying))],
        noise=((request.sigma or 0.1 * spread) / spread) ** 2 / counts + 1e-6,
        structures=np.array([structures[trial.literals.structure] for trial in (*scored, *flying)]),
    )
    return _Known(
        space=space,
        data=data,
        scored=len(scored),
        failed=np.array([space.point(trial.literals.settings) for trial in failed]).reshape(-1, len(space.axes)),
        structure=0,
        own=own.settings,
        tried=[trial.literals.settings for trial in request.trials if trial.literals.structure == own.structure],
    )


def _nearest(scored: list[Trial], space: Space) -> list[Trial]:
    """Return at most `MOST_FITTED` trials, in their order: the latest, and those nearest to the parent."""
    if len(scored) <= MOST_FITTED:
        return scored
    older, latest = scored[:-_LATEST], scored[-_LATEST:]
    here = space.here
    distances = [float(np.abs(space.point(trial.literals.settings) - here).sum()) for trial in older]
    kept = sorted(np.argsort(distances, kind="stable")[: MOST_FITTED - _LATEST])
    return [*(older[at] for at in kept), *latest]


def _warped(costs: Array) -> Array:
    """Return the costs, those far above the median drawn in: how bad a bad one is says little about the good ones."""
    best = costs.min()
    reach = 2 * max(float(np.median(costs)) - best, 1e-12)
    excess = np.maximum(costs - best - reach, 0.0)
    return np.asarray(best + np.minimum(costs - best, reach) + 0.5 * reach * np.log1p(excess / reach))


def _chosen(known: _Known, rng: np.random.Generator) -> dict[str, Value]:
    """Return the setting at which a function drawn from the surrogate is lowest within a trust region."""
    covariance = fit(_first(known.data, known.scored, _MOST_FOR_LENGTHS))
    surrogate = _conditioned(known, covariance)
    points = np.vstack([known.space.here, known.data.points[: known.scored]])
    centre = points[int(np.argmin(surrogate.mean(points)))]
    path = surrogate.sample(rng.uniform(), rng)
    feasible = _Feasible(known, covariance)
    low, high = _region(known.space, centre, covariance, math.exp(rng.uniform(*np.log(_RADII))))
    best = _minimum(path, feasible, centre, low, high, rng)
    best = _settled(known.space, path, feasible, best)
    return _simplified(known, path, feasible, best)


def _conditioned(known: _Known, covariance: Fit) -> Surrogate:
    """Return the surrogate that takes trials in flight to score what is expected of them, so that births spread out."""
    surrogate = Surrogate(_first(known.data, known.scored), covariance, known.structure)
    if known.scored == len(known.data.costs):
        return surrogate
    expected = surrogate.mean(known.data.points[known.scored :])
    costs = np.r_[known.data.costs[: known.scored], expected]
    data = Data(known.data.points, costs, known.data.noise, known.data.structures)
    return Surrogate(data, covariance, known.structure)


def _first(data: Data, count: int, most: int | None = None) -> Data:
    """Return the first `count` of the data, and of these the last `most`."""
    part = slice(max(0, count - most) if most else 0, count)
    return Data(data.points[part], data.costs[part], data.noise[part], data.structures[part])


class _Feasible:
    """Where trainings do not fail, as far as failures so far tell: a kernel regression on 1 and -1, leaning to 1."""

    def __init__(self, known: _Known, covariance: Fit) -> None:
        self._covariance = covariance
        self._points = np.vstack([known.data.points[: known.scored], known.failed])
        labels = np.r_[np.full(known.scored, 0.5), np.full(len(known.failed), -1.5)]
        correlation = covariance.correlation(self._points, self._points)
        self._weights = np.linalg.solve(correlation + 0.1 * np.eye(len(labels)), labels)
        self._any = len(known.failed) > 0

    def penalty(self, points: Points) -> Array:
        """Return what is added to values: nothing, or a lot where a failure is more likely than not."""
        if not self._any:
            return np.zeros(len(points))
        expected = 0.5 + self._covariance.correlation(points, self._points) @ self._weights
        return np.asarray(np.where(expected < 0, _INFEASIBLE, 0.0))


def _region(space: Space, centre: Points, covariance: Fit, radius: float) -> tuple[Points, Points]:
    """Return the corners of the trust region: wide where costs change slowly, narrow where they change fast.

    But never so narrow that no other value of a discrete literal could be reached.
    """
    lengths = 1 / np.sqrt(covariance.inverse_squares)
    relative = np.clip(lengths / np.exp(np.log(lengths).mean()), *_STRETCH)
    least = np.array([1.02 * axis.least(at) for axis, at in zip(space.axes, centre, strict=True)])
    reach = np.maximum(radius * relative, least)
    choices = np.array([axis.alternative is not None for axis in space.axes])
    return np.where(choices, 0.0, centre - reach), np.where(choices, CATEGORY_DISTANCE, centre + reach)


def _minimum(
    path: Path, feasible: _Feasible, centre: Points, low: Points, high: Points, rng: np.random.Generator
) -> Points:
    """Return the best of some random points near the centre, and of descents from the best of them."""
    shape = (_CANDIDATES, len(centre))
    moved = rng.random(shape) < rng.choice(_SPARSITY, size=(_CANDIDATES, 1))
    candidates = np.where(moved, rng.uniform(low, high, shape), np.clip(centre, low, high))
    values = path.values(candidates) + feasible.penalty(candidates)
    order = np.argsort(values)[:_DESCENTS]
    best: Points = candidates[order[0]]
    lowest = float(values[order[0]])
    for start in candidates[order]:
        found, value = path.descend(start, low, high)
        value += float(feasible.penalty(found[None])[0])
        if value < lowest:
            best, lowest = found, value
    return best


def _settled(space: Space, path: Path, feasible: _Feasible, point: Points) -> Points:
    """Return the best allowed setting near a point: discrete literals take whatever near value suits the others."""
    point = space.point(space.setting(point))
    for index, axis in enumerate(space.axes):
        if axis.discrete:
            options = np.array([point, *space.neighbours(index, point)])
            point = options[int(np.argmin(path.values(options) + feasible.penalty(options)))]
    return point


def _simplified(known: _Known, path: Path, feasible: _Feasible, point: Points) -> dict[str, Value]:
    """Return the setting without the changes that matter least: together they may bring a tenth of the gain."""
    setting = known.space.setting(point)
    changed = [key for key, value in setting.items() if value != known.own[key]]
    if not changed:
        return setting
    without = np.array([known.space.point({**setting, key: known.own[key]}) for key in changed])
    values = path.values(without) + feasible.penalty(without)
    here, there = (float(path.values(at[None])[0]) for at in (known.space.here, point))
    budget = _FORGONE * max(here - there, 0.0)
    for at in np.argsort(values):
        budget -= max(float(values[at]) - there, 0.0)
        if budget < 0 or sum(setting[key] != known.own[key] for key in changed) == 1:
            break
        setting[changed[at]] = known.own[changed[at]]
    return setting


def _written(parent: Variant, tunables: Sequence[Tunable], setting: Mapping[str, Value]) -> Proposal:
    changed = [tunable for tunable in tunables if setting.get(tunable.key, tunable.value) != tunable.value]
    texts = {tunable.key: render(tunable, setting[tunable.key]) for tunable in changed}
    said = [f"{tunable.key} {tunable.text} -> {texts[tunable.key]}" for tunable in changed]
    more = [f"and {len(said) - _SHOWN} more"] if len(said) > _SHOWN else []
    return Proposal(write(parent.source, tunables, texts), ", ".join(said[:_SHOWN] + more))


def _costs(scored: Sequence[Trial]) -> list[float]:
    return [trial.cost for trial in scored if trial.cost is not None]
