"""Every experiment, the running champion with its interval, and the holdout, along the four axes.

Owns what the page's first view is made of. Does not own drawing (static/progress.js).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from autoresearch_ray.explore.web import clock, columns
from autoresearch_ray.explore.web.clock import AXES, Clock
from autoresearch_ray.lineage.query import Lineage

NORMAL_95 = 1.96
"""Half the width of an interval that holds 95 % of a normal distribution, in standard deviations."""


def pack(lineage: Lineage) -> bytes:
    """Return the experiments as columns, and champions, records and holdouts as plain values in the header."""
    times = clock.of(lineage)
    table = lineage.tables.experiments
    positions = lineage.positions_of(table["variant_id"])
    scored = pc.and_(pc.equal(table["status"], "completed"), pc.is_valid(table["val_bpb"])).to_numpy()
    scores = np.where(scored, pc.fill_null(table["val_bpb"], np.nan).to_numpy(), np.nan)
    ended = clock.seconds(table["ended_at"])
    places = times.at(table["sequence"].to_numpy(), ended)
    return columns.pack(
        head(lineage, times),
        {
            "variant": positions.astype(np.int32),
            "score": scores.astype(np.float64),
            **{axis: places[axis] for axis in AXES},
        },
    )


def head(lineage: Lineage, times: Clock) -> dict[str, Any]:
    """Return what stands over the experiments, as plain values: seed, champions, records, holdouts."""
    seed = None if lineage.seed is None else lineage.score(lineage.seed)
    accelerated = pc.any(pc.is_valid(lineage.tables.experiments["gpu"])).as_py()
    return {
        "seed": None if seed is None else {"mean": seed.mean, "error": seed.error, "trainings": seed.count},
        "sigma": lineage.sigma,
        "slot_hours": "GPU-hours" if accelerated else "core-hours",
        "champions": _champions(lineage, times),
        "records": _records(lineage, times),
        "holdouts": _holdouts(lineage),
    }


def _champions(lineage: Lineage, times: Clock) -> list[dict[str, Any]]:
    table = lineage.tables.champions
    places = times.at(table["sequence"].to_numpy(), clock.seconds(table["confirmed_at"]))
    found = []
    for number, row in enumerate(table.to_pylist()):
        position = lineage.position(row["variant_id"])
        found.append(
            {
                "variant_id": row["variant_id"],
                "hypothesis": "" if position is None else lineage.hypotheses[position],
                "mean": row["posterior_mean"],
                "sd": row["posterior_sd"],
                "p_better": row["p_better"],
                **{axis: _number(places[axis][number]) for axis in AXES},
            }
        )
    return found


def _records(lineage: Lineage, times: Clock) -> list[dict[str, Any]]:
    """Return the variants that had the best mean score when their birth ended, as they are measured now."""
    positions = np.flatnonzero(lineage.records)
    table = lineage.tables.variants
    sequences = table["sequence"].to_numpy()[positions]
    places = times.at(sequences, clock.seconds(table["created_at"])[positions])
    found = []
    for number, position in enumerate(map(int, positions)):
        score = lineage.score(position)
        if score is not None:
            found.append(
                {
                    "variant_id": lineage.ids[position],
                    "hypothesis": lineage.hypotheses[position],
                    "mean": score.mean,
                    "error": score.error,
                    "trainings": score.count,
                    **{axis: _number(places[axis][number]) for axis in AXES},
                }
            )
    return found


def _holdouts(lineage: Lineage) -> dict[str, float]:
    """Return the mean holdout score of each champion that has one, by id."""
    names = lineage.tables.champions["variant_id"].unique()
    table = lineage.tables.experiments
    table = table.filter(pc.and_(pc.is_in(table["variant_id"], value_set=names), pc.is_valid(table["holdout_bpb"])))
    means: pa.Table = table.group_by("variant_id").aggregate([("holdout_bpb", "mean")])
    return dict(zip(means["variant_id"].to_pylist(), means["holdout_bpb_mean"].to_pylist(), strict=True))


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
