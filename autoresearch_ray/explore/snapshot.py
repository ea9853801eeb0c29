"""What a live run looks like at one moment: plain values, taken from the driver and kept as `live.json` for `status`.

Owns the shape of that file. Does not own how it is drawn (live.py).
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoresearch_ray.errors import RunError
from autoresearch_ray.lineage import files
from autoresearch_ray.variant import variant_id

if TYPE_CHECKING:  # the search takes a second to import, and these only look at it
    from autoresearch_ray.evolution.driver import Driver
    from autoresearch_ray.evolution.state import Standing

LIVE_FILE = "live.json"


@dataclass(frozen=True, slots=True)
class Score:
    """A variant's score as it is shown: the posterior mean, its deviation, and how many trainings it rests on."""

    variant_id: str
    mean: float
    error: float | None
    """None in files of older engines, while nothing was known about the noise."""
    count: int
    hypothesis: str


@dataclass(frozen=True, slots=True)
class Activity:
    """A busy slot and what it does."""

    experiment_id: str
    variant_id: str
    operator: str
    hypothesis: str
    place: str
    phase: str
    """`queued`, `starting`, `training` or `scoring`."""
    progress: float
    """Of the training, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of a run. Times are seconds since the epoch, durations are seconds."""

    run: str
    state: str
    """`running`, `draining`, `finished`, `stopped`, `failed`; `killed` if its driver is gone without a word."""
    started_at: float
    """Of the whole run: now, less the time of all its sittings."""
    now: float
    ends_at: float | None
    """When the budget will be spent at the present pace; None while nothing has ended, and once nothing more begins."""
    slots: int
    population_size: int
    islands: int
    births: int
    """Births made so far, the seed among them."""
    experiments: int
    """Trainings that ended, lost ones not counted."""
    max_experiments: int | None
    max_hours: float | None
    ends: dict[str, int]
    """How births ended, by status."""
    sigma: float | None
    """Seed noise: the standard deviation of one score, from replicates; None without any."""
    seed: Score | None
    best: Score | None
    metric: str
    lower_is_better: bool
    activities: tuple[Activity, ...]
    train_seconds: float
    slot_seconds: float
    usd: float
    max_usd: float | None
    champion: Score | None = None
    """The confirmed best, over the fresh trainings that confirmed it; None while nothing is."""
    challenging: str | None = None
    """Id of whom the title is being decided on, on fresh seeds."""
    detectable: float | None = None
    """The smallest true gain that the last challenge would have found four times out of five; None without one."""


def take(driver: Driver, state: str) -> Snapshot:
    """Take a snapshot of a driver between two events."""
    config, spent, now = driver.config, driver.ledger.spent, driver.cluster.now()
    ends = {status.value: count for status, count in driver.state.births.items() if count}
    return Snapshot(
        run=driver.origin.run,
        state=state,
        started_at=now - 3600 * spent.hours,
        now=now,
        ends_at=_ends_at(driver, now),
        slots=driver.cluster.slots,
        population_size=driver.population_size,
        islands=len(driver.islands.capacities),
        births=driver.births + 1,
        experiments=spent.experiments,
        max_experiments=config.max_experiments,
        max_hours=config.max_hours,
        ends=ends,
        sigma=driver.state.noise.measured_sigma,
        seed=_score(driver, driver.state.seed),
        best=_score(driver, driver.state.best),
        metric=config.metric.name,
        lower_is_better=config.metric.goal == "minimize",
        activities=_activities(driver) if state in ("running", "draining") else (),
        train_seconds=spent.train_seconds,
        slot_seconds=spent.slot_seconds,
        usd=spent.usd,
        max_usd=config.max_cost_usd,
        champion=_champion(driver),
        challenging=_challenging(driver),
        detectable=_detectable(driver),
    )


def _champion(driver: Driver) -> Score | None:
    title = driver.state.title
    if title.champion is None:
        return None
    verdict, name = title.champion, variant_id(driver.origin.run, title.holder)
    return Score(name, driver.state.turn(verdict.mean), verdict.sd, verdict.pairs, driver.hypothesis(title.holder))


def _challenging(driver: Driver) -> str | None:
    challenge = driver.state.title.challenge
    return None if challenge is None else variant_id(driver.origin.run, challenge.challenger)


def _detectable(driver: Driver) -> float | None:
    last = driver.state.title.last
    return last.detectable if last is not None and math.isfinite(last.detectable) else None


def _score(driver: Driver, standing: Standing | None) -> Score | None:
    if standing is None:
        return None
    posterior = driver.state.posterior(standing)
    mean = driver.state.turn(posterior.mean)
    return Score(standing.variant_id, mean, posterior.sd, posterior.count, standing.hypothesis)


def _activities(driver: Driver) -> tuple[Activity, ...]:
    return tuple(
        Activity(
            experiment_id,
            run.variant.variant_id,
            run.variant.birth.operator.value,
            run.variant.hypothesis,
            run.place,
            run.phase.name if run.phase else "queued",
            run.phase.progress if run.phase else 0.0,
        )
        for experiment_id, run in driver.running.items()
    )


def _ends_at(driver: Driver, now: float) -> float | None:
    """Estimate the end from the slot time an experiment took so far and the time limit, whichever comes first."""
    spent, limits = driver.ledger.spent, driver.ledger.limits
    if driver.stop is not None:
        return None
    ends = [] if driver.deadline is None else [driver.deadline]
    if limits.hours is not None:
        ends.append(now + 3600 * (limits.hours - spent.hours))
    if limits.experiments is not None and spent.experiments:
        left = limits.experiments - spent.experiments - sum(_done(run.phase) for run in driver.running.values())
        ends.append(now + max(0.0, left) * spent.slot_seconds / spent.experiments / driver.cluster.slots)
    return min(ends, default=None)


def _done(phase: Any) -> float:
    return 0.0 if phase is None else {"starting": 0.0, "training": 0.9 * phase.progress, "scoring": 0.95}[phase.name]


def write(snapshot: Snapshot, folder: Path) -> None:
    """Replace the run's live file; a reader sees the old or the new one, never half. Only a run's one driver may.

    Raises:
        StorageError: the disk is full or failing.
    """
    temporary = folder / f".{LIVE_FILE}"
    with files.translated(folder):
        temporary.write_text(json.dumps(dataclasses.asdict(snapshot)), encoding="utf-8")
        temporary.replace(folder / LIVE_FILE)


def read(folder: Path) -> Snapshot:
    """Read what `write` kept.

    Raises:
        RunError: there is no live file, or it cannot be read.
    """
    try:
        values: dict[str, Any] = json.loads((folder / LIVE_FILE).read_text(encoding="utf-8"))
        scores = {key: Score(**values[key]) if values.get(key) else None for key in ("seed", "best", "champion")}
        activities = tuple(Activity(**activity) for activity in values["activities"])
        return Snapshot(**{**values, **scores, "activities": activities})
    except FileNotFoundError:
        raise RunError(
            f"{folder} says nothing of itself yet: its run has not begun, was imported, or {LIVE_FILE} was "
            "removed; `lineage tree` shows what was recorded."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / LIVE_FILE} cannot be read ({error}).") from error


def interrupted(snapshot: Snapshot) -> Snapshot:
    """Return what is left of a run whose driver died: nothing is busy any more."""
    return dataclasses.replace(snapshot, state="killed", activities=(), ends_at=None)


def gain(snapshot: Snapshot) -> float | None:
    """Return how much better the best score is than the seed's; None while one of them is unknown."""
    if snapshot.seed is None or snapshot.best is None:
        return None
    gain = snapshot.seed.mean - snapshot.best.mean
    return gain if snapshot.lower_is_better else -gain


def gain_error(first: Score | None, second: Score | None) -> float | None:
    """Return the standard error of the difference between two scores; None where one of theirs is not known."""
    if first is None or second is None or first.error is None or second.error is None:
        return None
    return math.hypot(first.error, second.error)
