"""Two runs beside each other at equal budgets; refuses what cannot be compared.

Owns the words about what two runs can and cannot tell. Does not own drawing (static/compare.js).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from autoresearch_ray.errors import UsageError
from autoresearch_ray.explore.web import clock
from autoresearch_ray.explore.web.clock import AXES
from autoresearch_ray.lineage.query import Lineage

MOST_STEPS = 2000
CAUTION = (
    "One run of each cannot rank two configurations: the same configuration under another random seed may end as far "
    "away. Repeat each a few times before you believe a difference."
)


def compare(first: Lineage, second: Lineage) -> dict[str, Any]:
    """Return the best score so far of two runs along each axis, and where the shorter one ends.

    Raises:
        UsageError: they were trained on different data, in different classes, or under different metrics.
    """
    _check(first, second)
    curves = [_curve(lineage) for lineage in (first, second)]
    return {
        "runs": [lineage.tables.run for lineage in (first, second)],
        "metric": first.metric,
        "lower_is_better": first.lower_is_better,
        "curves": curves,
        "equal": {axis: min(curve["end"][axis] for curve in curves) for axis in AXES},
        "caution": CAUTION,
    }


def _check(first: Lineage, second: Lineage) -> None:
    names = f"{first.tables.run} and {second.tables.run}"
    for what, column in (("the data", "data_hash"), ("the class", "class")):
        values = [set(lineage.tables.experiments[column].unique().to_pylist()) for lineage in (first, second)]
        if not all(values):
            raise UsageError(f"{names} cannot be compared: one of them has no experiment yet.")
        if values[0] != values[1]:
            said = " and ".join(", ".join(sorted(value)) for value in values)
            raise UsageError(f"{names} cannot be compared: {what} differs ({said}).")
    if (first.metric, first.lower_is_better) != (second.metric, second.lower_is_better):
        raise UsageError(f"{names} cannot be compared: their metrics differ ({first.metric} and {second.metric}).")


def _curve(lineage: Lineage) -> dict[str, Any]:
    """Return the running best of a run: its variants' mean scores as they are known now."""
    times = clock.of(lineage)
    table = lineage.tables.variants
    positions = np.flatnonzero(lineage.records)[-MOST_STEPS:]
    places = times.at(table["sequence"].to_numpy(), clock.seconds(table["created_at"]))
    scores = [lineage.score(int(position)) for position in positions]
    last = {axis: float(np.nanmax(places[axis])) if len(table) else 0.0 for axis in AXES}
    return {
        "run": lineage.tables.run,
        "births": len(lineage),
        "experiments": len(lineage.tables.experiments),
        "sigma": lineage.sigma,
        "confirmed": lineage.champion is not None,
        "means": [score.mean if score else None for score in scores],
        "errors": [score.error if score else None for score in scores],
        "trainings": [score.count if score else 0 for score in scores],
        "ids": [lineage.ids[position] for position in positions],
        **{axis: [float(value) for value in places[axis][positions]] for axis in AXES},
        "end": last,
    }
