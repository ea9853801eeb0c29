"""A run as it is opened from Python, in a notebook or a script: PyArrow tables, and the questions of descent.

Does not own reading files (snapshot.py), nor descent and scores (query.py).
"""

from __future__ import annotations

import importlib.util
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from autoresearch_ray.errors import UsageError
from autoresearch_ray.lineage import finding
from autoresearch_ray.lineage.mirror import Mirror, is_uri
from autoresearch_ray.lineage.query import Lineage


class Run:
    """One run, as it was when it was opened.

    The tables `variants`, `experiments`, `champions` and `events` are PyArrow's, without sources, curves and log tails
    (docs/lineage.md has the columns). A variant is named by its id, the beginning of one, `seed`, `best` or `champion`.
    """

    def __init__(self, lineage: Lineage) -> None:
        self._lineage = lineage
        self.name: str = lineage.tables.run
        self.variants: pa.Table = lineage.tables.variants
        self.experiments: pa.Table = lineage.tables.experiments
        self.champions: pa.Table = lineage.tables.champions
        self.events: pa.Table = lineage.tables.events
        self.damage: tuple[str, ...] = lineage.tables.damage
        """A sentence for each damaged file; the rest was read."""

    def __repr__(self) -> str:
        return f"<run {self.name}: {len(self.variants)} variants, {len(self.experiments)} experiments>"

    @property
    def sigma(self) -> float | None:
        """The standard deviation of one score over random seeds; None when nothing was trained twice."""
        return self._lineage.sigma

    @cached_property
    def scores(self) -> pa.Table:
        """One row a variant, in the order of `variants`: variant_id, val_bpb (mean), trainings, standard_error, gain.

        `gain` is the improvement over the better parent. What is not known is null.
        """
        lineage = self._lineage
        scored = [lineage.score(place) if lineage.completed[place] else None for place in range(len(lineage))]
        gains = [lineage.gain(place, int(lineage.primary[place])) for place in range(len(lineage))]
        return pa.table(
            {
                "variant_id": pa.array(lineage.ids, pa.string()),
                "val_bpb": pa.array([score.mean if score else None for score in scored], pa.float64()),
                "trainings": pa.array([score.count if score else 0 for score in scored], pa.int64()),
                "standard_error": pa.array([score.error if score else None for score in scored], pa.float64()),
                "gain": pa.array([g if s else None for g, s in zip(gains, scored, strict=True)], pa.float64()),
            }
        )

    def to_pandas(self) -> Any:
        """Return `variants` and `scores` as one pandas DataFrame, a row a variant.

        Raises:
            UsageError: pandas is not installed.
        """
        if importlib.util.find_spec("pandas") is None:
            raise UsageError("pandas is not installed: install it, or use the PyArrow tables as they are.")
        table = self.variants
        for name in ("val_bpb", "trainings", "standard_error", "gain"):
            table = table.append_column(name, self.scores[name])
        return table.to_pandas()

    def best(self, count: int = 10) -> pa.Table:
        """Return the variants with the best mean scores, best first."""
        return self.variants.take(self._lineage.best(count))

    def path(self, name: str = "best") -> pa.Table:
        """Return the variants from the seed to this one, along the better parent of each step."""
        return self.variants.take(self._lineage.path(self._lineage.find(name)))

    def ancestors(self, name: str) -> pa.Table:
        """Return all ancestors of a variant, over both parents, in the order of `variants`.

        Raises:
            RunError: there is no such variant, or several.
        """
        return self.variants.take(pa.array(self._lineage.ancestors(self._lineage.find(name)), pa.int64()))

    def descendants(self, name: str) -> pa.Table:
        """Return all descendants of a variant, in the order of `variants` (Raises RunError: there is none such)."""
        return self.variants.take(pa.array(self._lineage.descendants(self._lineage.find(name)), pa.int64()))

    def source(self, name: str) -> str:
        """Return a variant's program; empty if there is none (Raises RunError: there is no such variant)."""
        return self._lineage.source(self._lineage.find(name))


def open_run(path: str | os.PathLike[str]) -> Run:
    """Open a run, live or finished: by its folder, by its name in `runs/`, or by a URI of `pyarrow.fs`.

    Raises:
        RunError: there is no run.
    """
    name = os.fspath(path)
    folder = Mirror(name).folder if is_uri(name) else finding.find_run(Path("runs"), name)
    return Run(Lineage.open(folder))
