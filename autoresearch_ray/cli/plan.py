"""`plan`: which population size to choose for so many GPUs and hours, simulated before anything is spent.

Owns the words and the checks. Does not own the simulation (cluster/forecast.py) or the picture (plan_chart.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from autoresearch_ray import config as configuration
from autoresearch_ray.cli.output import errors, show
from autoresearch_ray.cluster.calibrated import CALIBRATED
from autoresearch_ray.cluster.calibration import Observed, observe, world_like
from autoresearch_ray.cluster.forecast import FEWEST, MOST, Forecast, Night, forecast
from autoresearch_ray.cluster.simulated import World, workers
from autoresearch_ray.cluster.simulation import language
from autoresearch_ray.config import Config
from autoresearch_ray.errors import UsageError

LARGEST_SIZE, MOST_SIZES = 10_000, 8
FEWEST_EXPERIMENTS = 10
LONGEST_HOURS = 24.0 * 365


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says."""

    gpus: int
    hours: float
    minutes: float | None
    """None: as the run that is planned from, or as autoresearch's."""
    sizes: str
    seconds: float
    out: Path


def plan(asked: Asked, folder: Path | None, as_json: bool) -> None:
    """Simulate, print the table and one configuration, and draw the picture.

    Raises:
        UsageError: a value makes no sense, the run is too short to calibrate from, or the picture cannot be written.
    """
    sizes = _sizes(asked.sizes)
    _check(asked)
    observed = observe(folder) if folder is not None else None
    base = configuration.load(folder / "config.yaml") if folder is not None else Config()
    night = _night(asked, sizes, observed, base)
    if night.experiments < FEWEST_EXPERIMENTS:
        raise UsageError(
            f"{asked.gpus} GPUs in {asked.hours:g} hours have time for {night.experiments:.0f} experiments: "
            f"plan for at least {FEWEST_EXPERIMENTS}."
        )
    found = _simulate(night, asked.seconds)
    from autoresearch_ray.cli import plan_chart  # matplotlib takes half a second

    lower = observed is None or observed.lower_is_better
    plan_chart.draw(found, asked.out, title=_title(asked, night), lower_is_better=lower)
    pasted = paste(found, asked, base, observed is not None)
    view = Group(table(found, lower), Text(), *notes(found, night, asked, observed), Text(), Text(pasted))
    show(view, values(found, night, observed, pasted, lower), as_json)


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = sorted({int(word) for word in text.split(",")})
    except ValueError:
        raise UsageError(
            f"--population-size is {text!r}: name whole numbers with commas between them, as in 8,16,32."
        ) from None
    if not 1 <= sizes[0] <= sizes[-1] <= LARGEST_SIZE:
        raise UsageError(f"--population-size is {text!r}: each must lie between 1 and {LARGEST_SIZE}.")
    if len(sizes) > MOST_SIZES:
        raise UsageError(f"--population-size names {len(sizes)} sizes: at most {MOST_SIZES} can be compared at a time.")
    return tuple(sizes)


def _check(asked: Asked) -> None:
    for name, value, most in (
        ("--hours", asked.hours, LONGEST_HOURS),
        ("--minutes-per-experiment", 1.0 if asked.minutes is None else asked.minutes, 60 * 24.0),
        ("--seconds", asked.seconds, 86_400.0),
    ):
        if not (math.isfinite(value) and 0 < value <= most):
            raise UsageError(f"{name} is {value:g}: must be more than 0 and at most {most:g}.")
    if not 1 <= asked.gpus <= 100_000:
        raise UsageError(f"--gpus is {asked.gpus}: must lie between 1 and 100000.")
    if asked.out.suffix != ".png" or not asked.out.parent.is_dir() or asked.out.is_dir():
        raise UsageError(f"--out is {asked.out}: must be a file ending in .png, in a folder that exists.")


def _night(asked: Asked, sizes: tuple[int, ...], observed: Observed | None, base: Config) -> Night:
    nodes = workers(asked.gpus)
    if observed is None:
        world, config = World(CALIBRATED, nodes), language(base)
    else:
        world = world_like(observed, nodes)
        config = language(base) if observed.model_seconds is not None else base.model_copy(update={"llm": Config().llm})
    if asked.minutes is not None:
        world = world.lasting(60 * asked.minutes)
    return Night(sizes, asked.hours, config.model_copy(update=_FREE), world)


_FREE: dict[str, Any] = {"max_births": None, "max_cost_usd": None, "target": None, "plateau": None, "finish_by": None}
"""Ends of a search that a plan does not ask about."""


def _simulate(night: Night, seconds: float) -> Forecast:
    found = None
    columns = (TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("Simulating searches of each size, the first two")
        for found in forecast(night, seconds):
            progress.update(task, description=f"Simulated {found.searches} searches of each size")
    assert found is not None, f"{FEWEST} to {MOST} searches yield a forecast"
    return found


# -------------------------------------------------------------------------------------------------------------- words


def table(found: Forecast, lower_is_better: bool) -> Table:
    """Draw a row for each size."""
    drawn = Table(box=None, padding=(0, 2), pad_edge=False, header_style="dim")
    half, end = len(found.hours) // 2 - 1, len(found.hours) - 1
    drawn.add_column("population", justify="right")
    for mark in (half, end):
        drawn.add_column(f"expected true best after {found.hours[mark]:.3g} h", justify="right")
    drawn.add_column("8 of 10 searches end within", justify="right")
    drawn.add_column("")
    sign = 1 if lower_is_better else -1
    digits = _digits(found)
    for outlook in found.outlooks:
        means, errors_ = outlook.expected, outlook.uncertainty
        cells = [f"{sign * means[mark]:.{digits}f} ± {errors_[mark]:.{digits}f}" for mark in (half, end)]
        middle = sorted(sign * outlook.quantile(share)[end] for share in (0.1, 0.9))
        chosen = "recommended" if outlook is found.recommended else ""
        size = "1 (greedy)" if outlook.population_size == 1 else str(outlook.population_size)
        drawn.add_row(size, *cells, f"{middle[0]:.{digits}f} to {middle[1]:.{digits}f}", chosen)
    return drawn


def notes(found: Forecast, night: Night, asked: Asked, observed: Observed | None) -> list[RenderableType]:
    """Say what was simulated, how sure it is, and from what."""
    lines = [
        f"{found.searches} simulated searches of each size, {asked.gpus} slots, about "
        f"{night.experiments:.0f} experiments each; ± is the 95 % interval of the mean over these searches."
    ]
    if night.simulated_hours < night.hours:
        lines.append(
            f"Only the first {night.simulated_hours:.3g} of {night.hours:g} hours were simulated: differences between "
            "sizes show early, and so many experiments would take too long here."
        )
    if not night.learns:
        lines.append(
            "Numbers take plain random steps here: the operator that learns needs too much time in so many searches, "
            "and would make every size better."
        )
    if observed is None:
        lines.append("The landscape is calibrated to autoresearch's 125 experiments; --from RUN takes your own run's.")
    else:
        sigma = "measured" if observed.replicated else "assumed: no variant was trained twice"
        lines.append(
            f"Calibrated from {observed.children} children of {observed.run}: {observed.improved:.0%} scored better "
            f"than their parent, gain {observed.gain:.3g}, sigma {observed.sigma:.2g} ({sigma}), "
            f"{observed.crash_share:.0%} crashed, {observed.experiment_seconds:.3g} s an experiment. What is told of "
            "sizes carries over better than the scores themselves."
        )
    lines.append(f"Picture: {asked.out}")
    return [Text(line) for line in lines]


def paste(found: Forecast, asked: Asked, base: Config, own: bool) -> str:
    """Return the recommended configuration, as YAML."""
    size = found.recommended.population_size
    islands = max(1, min(base.num_islands, size // 2))
    num_gpus = base.num_gpus if own else 1.0
    return "\n".join(
        (
            "# recommended; paste it into your configuration",
            f"population_size: {size}",
            f"num_islands: {islands}",
            f"max_hours: {asked.hours:g}",
            "max_experiments: null",
            f"num_gpus: {num_gpus:g}",
        )
    )


def values(
    found: Forecast, night: Night, observed: Observed | None, pasted: str, lower_is_better: bool
) -> dict[str, Any]:
    """Return everything that is shown, for `--json`."""
    sign = 1 if lower_is_better else -1
    return {
        "searches": found.searches,
        "experiments": round(night.experiments),
        "hours": night.hours,
        "simulated_hours": night.simulated_hours,
        "start": sign * found.start,
        "marks_hours": found.hours,
        "sizes": [
            {
                "population_size": outlook.population_size,
                "expected": (sign * outlook.expected).tolist(),
                "uncertainty_95": outlook.uncertainty.tolist(),
                "low": (sign * outlook.quantile(0.1)).tolist(),
                "high": (sign * outlook.quantile(0.9)).tolist(),
            }
            for outlook in found.outlooks
        ],
        "recommended": found.recommended.population_size,
        "configuration": pasted,
        "calibration": observed,
    }


def _title(asked: Asked, night: Night) -> str:
    gpus = f"{asked.gpus} GPU{'s' * (asked.gpus > 1)}"
    return f"{gpus}, {night.simulated_hours:.3g} hours, {night.world.experiment_seconds / 60:.3g} minutes an experiment"


def _digits(found: Forecast) -> int:
    """Return the decimals at which the uncertainty has two digits."""
    width = max(float(outlook.uncertainty[-1]) for outlook in found.outlooks)
    return min(8, max(0, 1 - math.floor(math.log10(max(width, 1e-8)))))
