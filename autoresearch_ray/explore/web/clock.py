"""How far a run had come when a row was written: births, hours, hours of slots, dollars.

Owns the four axes that progress is shown along. Does not own what is drawn along them (progress.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from autoresearch_ray.lineage.query import Lineage

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

AXES = ("births", "hours", "slot_hours", "usd")
"""Ended births; hours since the first birth; hours that experiments took, added up; dollars for language models."""


@dataclass(frozen=True, slots=True)
class Clock:
    """What was spent by the row of a sequence, along each axis."""

    start: float
    """Seconds since the epoch at the first birth or training."""
    _births: Integers
    _experiments: Integers
    _slot_hours: Floats
    _usd: Floats

    def at(self, sequences: Integers, seconds: Floats) -> dict[str, npt.NDArray[np.float32]]:
        """Return the place on each axis of rows.

        Args:
            sequences: of the rows; any table.
            seconds: since the epoch, when what the rows tell happened; NaN where unknown.
        """
        births = np.searchsorted(self._births, sequences, side="right")
        trainings = np.searchsorted(self._experiments, sequences, side="right")
        return {
            "births": births.astype(np.float32),
            "hours": ((seconds - self.start) / 3600).astype(np.float32),
            "slot_hours": self._slot_hours[trainings].astype(np.float32),
            "usd": self._usd[births].astype(np.float32),
        }


def of(lineage: Lineage) -> Clock:
    """Return a run's clock."""
    variants, experiments = lineage.tables.variants, lineage.tables.experiments
    begun = np.concatenate([seconds(variants["created_at"]), seconds(experiments["started_at"])])
    begun = begun[np.isfinite(begun)]
    return Clock(
        float(begun.min()) if len(begun) else 0.0,
        variants["sequence"].to_numpy(),
        experiments["sequence"].to_numpy(),
        _added_up(experiments["wall_seconds"].to_numpy() / 3600),
        _added_up(variants["llm_usd"].to_numpy()),
    )


def seconds(times: pa.ChunkedArray) -> Floats:
    """Return timestamps as seconds since the epoch; NaN where there is none."""
    micro = pc.cast(times, pa.int64())
    return np.asarray(pc.fill_null(pc.cast(micro, pa.float64()), np.nan).to_numpy(), dtype=np.float64) / 1e6


def _added_up(amounts: npt.NDArray[np.float64]) -> Floats:
    return np.concatenate([[0.0], np.cumsum(np.nan_to_num(amounts))])
