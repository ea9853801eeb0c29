"""The questions that every view asks of a lineage: who descends from whom, how good, how sure.

Read only, vectorised for hundreds of thousands of births. Does not own reading files (snapshot.py), rendering
(explore/) or what scores mean (evolution/noise.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from autoresearch_ray.errors import RunError
from autoresearch_ray.lineage import parts, snapshot
from autoresearch_ray.lineage.ids import Ids
from autoresearch_ray.lineage.schema import SCHEMAS, Row, TableName, event_details
from autoresearch_ray.lineage.snapshot import Tables
from autoresearch_ray.variant import Operator, Status

Positions = npt.NDArray[np.int64]
"""Row numbers in the table `variants`; -1 where there is none."""


_GLANCE: snapshot.Columns = {
    "variants": (
        *("sequence", "variant_id", "number", "island", "generation", "operator", "parents", "hypothesis"),
        *("status", "reason", "model", "carried_from"),
    ),
    "experiments": ("sequence", "variant_id", "status", "val_bpb", "carried_from"),
}


@dataclass(frozen=True, slots=True)
class Score:
    """What a variant's completed experiments say, in bits per byte."""

    mean: float
    count: int
    error: float | None
    """Standard error of the mean; None when nothing is known about the noise."""


class Lineage:
    """One snapshot of a run, indexed. A position is a row number of `variants`.

    A position says nothing about descent: a child of the seed may end before the seed's own first training.

    Args:
        tables: what `snapshot.read` gave.
        sigma: the standard deviation of a score over random seeds, if the caller has an estimate; by default it is
            pooled over the run's replicates.
    """

    def __init__(self, tables: Tables, sigma: float | None = None) -> None:
        self.tables = tables
        self.sigma = sigma if sigma is not None else self._pooled_sigma()

    @classmethod
    def open(cls, folder: Path, sigma: float | None = None) -> Lineage:
        """Read a run and index it (Raises RunError: the folder is not a run)."""
        return cls(snapshot.read(folder), sigma)

    @classmethod
    def glance(cls, folder: Path) -> Lineage:
        """Read of a run what views of descent and scores need, in half the time; rows of single variants are whole.

        Raises:
            RunError: the folder is not a run.
        """
        return cls(snapshot.read(folder, only=_GLANCE))

    def __len__(self) -> int:
        return len(self.tables.variants)

    # ------------------------------------------------------------------------------------------------------- columns

    @cached_property
    def ids(self) -> list[str]:
        """The variant ids by position."""
        return self.column("variant_id")

    @cached_property
    def statuses(self) -> list[str]:
        """The statuses by position."""
        return self.column("status")

    @cached_property
    def completed(self) -> npt.NDArray[np.bool_]:
        """Which variants were trained, scored and not refused, by position."""
        return np.asarray(pc.equal(self.tables.variants["status"], Status.COMPLETED.value).to_numpy(), dtype=bool)

    @cached_property
    def operators(self) -> list[str]:
        """The operators by position."""
        return self.column("operator")

    @cached_property
    def hypotheses(self) -> list[str]:
        """The hypotheses by position."""
        return self.column("hypothesis")

    @cached_property
    def generations(self) -> npt.NDArray[np.int64]:
        """The generations by position; a child's is greater than its parents'."""
        return np.asarray(self.tables.variants["generation"].to_numpy())

    @cached_property
    def parents(self) -> Positions:
        """The positions of the first two parents by position, shape (births, 2)."""
        found = np.full((len(self), 2), -1, dtype=np.int64)
        column = self.tables.variants["parents"]
        counts = pc.list_value_length(column).to_numpy()
        flat = self.positions_of(pc.list_flatten(column))
        starts = np.cumsum(counts) - counts
        for place in (0, 1):
            there = np.flatnonzero(counts > place)
            found[there, place] = flat[starts[there] + place]
        return found

    @cached_property
    def means(self) -> npt.NDArray[np.float64]:
        """The mean score by position; NaN without a completed experiment."""
        positions, scores = self._scored
        sums: npt.NDArray[np.float64] = np.bincount(positions, scores, minlength=len(self)).astype(np.float64)
        return np.where(self.counts > 0, sums / np.maximum(self.counts, 1), np.nan)

    @cached_property
    def costs(self) -> npt.NDArray[np.float64]:
        """The mean score by position, negated where higher is better: lower is better here, whatever the metric."""
        return self.means if self.lower_is_better else -self.means

    @cached_property
    def lower_is_better(self) -> bool:
        """Whether the run minimizes its metric, as the row of its start says."""
        return bool(self._start.get("goal", "minimize") == "minimize")

    @cached_property
    def metric(self) -> str:
        """What the run calls its score."""
        return str(self._start.get("metric", "val_bpb"))

    @cached_property
    def _start(self) -> dict[str, Any]:
        events = self.tables.events
        kinds = events["kind"].to_pylist()
        return event_details(events.slice(kinds.index("started"), 1).to_pylist()[0]) if "started" in kinds else {}

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """The completed experiments by position."""
        return np.bincount(self._scored[0], minlength=len(self)).astype(np.int64)

    @property
    def carried(self) -> int:
        """Variants that another run left to this one."""
        return len(self.tables.variants) - int(self.tables.variants["carried_from"].null_count)

    @property
    def trainings(self) -> int:
        """Experiments of this run itself."""
        return int(self.tables.experiments["carried_from"].null_count)

    @cached_property
    def squares(self) -> npt.NDArray[np.float64]:
        """The sum of squared deviations from the mean score by position."""
        positions, scores = self._scored
        squares = (scores - self.means[positions]) ** 2
        return np.bincount(positions, squares, minlength=len(self)).astype(np.float64)

    def _pooled_sigma(self) -> float | None:
        """Return the standard deviation within variants, pooled over those with replicates; None without any."""
        replicated = self.counts > 1
        degrees = int((self.counts[replicated] - 1).sum())
        return math.sqrt(float(self.squares[replicated].sum()) / degrees) if degrees else None

    @cached_property
    def seed(self) -> int | None:
        """The position of the program that the run started from; None until its row is there."""
        place = pc.index(self.tables.variants["operator"], Operator.SEED.value).as_py()
        return None if place < 0 else int(place)

    @cached_property
    def champion(self) -> int | None:
        """The position of the confirmed best, if there is one."""
        rows = self.tables.champions
        return self._scanned(rows["variant_id"][-1].as_py()) if len(rows) else None

    def column(self, name: str) -> list[Any]:
        """Return a column of `variants` as a list by position."""
        values: list[Any] = self.tables.variants[name].to_pylist()
        return values

    def row(self, position: int) -> Row:
        """Return a row of `variants`, without its bulky columns."""
        rows: list[Row] = self.tables.variants.slice(position, 1).to_pylist()
        return self._completed("variants", rows, parts.light_columns("variants"))[0]

    def rows(self, positions: Sequence[int] | Positions, columns: Sequence[str]) -> list[Row]:
        """Return some columns of some rows of `variants`, in the order asked for; a row of nulls for -1."""
        places = np.asarray(positions, dtype=np.int64)
        found = self.tables.variants.select(list(columns)).take(pa.array(places, mask=places < 0))
        rows: list[Row] = found.to_pylist()
        return rows

    def equal(self, name: str, value: object) -> npt.NDArray[np.bool_]:
        """Return which variants have a value in a column, by position."""
        found = pc.fill_null(pc.equal(self.tables.variants[name], pa.scalar(value)), False)
        return np.asarray(found.to_numpy(), dtype=bool)

    def tally(self, name: str) -> dict[Any, int]:
        """Return how many variants have each value of a column, in the order in which the values first came."""
        counted = pc.value_counts(self.tables.variants[name])
        return {each["values"]: each["counts"] for each in counted.to_pylist()}

    def source(self, position: int) -> str:
        """Return a variant's source; empty if its operator failed or its part is damaged."""
        sequence = self.tables.variants["sequence"][position].as_py()
        found = snapshot.fetch(self.tables.folder, "variants", {sequence}, ["source"])
        return (found[sequence]["source"] or "") if sequence in found else ""

    def experiments(self, position: int) -> list[Row]:
        """Return a variant's rows of `experiments`, in their order, with curves and log tails."""
        table = self.tables.experiments
        identity = self.tables.variants["variant_id"][position]
        rows: list[Row] = table.filter(pc.equal(table["variant_id"], identity)).to_pylist()
        found = self._completed("experiments", rows, SCHEMAS["experiments"].names)
        return [row | {"curve": row["curve"] or [], "log_tail": row["log_tail"] or ""} for row in found]

    def _completed(self, table: TableName, rows: list[Row], columns: Sequence[str]) -> list[Row]:
        """Return rows with these columns, read from the run where its tables here lack them; null if they cannot be."""
        lacking = [name for name in columns if rows and name not in rows[0]]
        if not lacking:
            return rows
        found = snapshot.fetch(self.tables.folder, table, [row["sequence"] for row in rows], lacking)
        return [{name: (row | found.get(row["sequence"], {})).get(name) for name in columns} for row in rows]

    # --------------------------------------------------------------------------------------------------------- scores

    def score(self, position: int) -> Score | None:
        """Return a variant's score, None if it has none.

        The standard error comes from the pooled noise where that is known: two or three scores of one variant say too
        little about their own spread.
        """
        count = int(self.counts[position])
        if count == 0:
            return None
        if self.sigma is not None:
            error: float | None = self.sigma / math.sqrt(count)
        elif count > 1:
            error = math.sqrt(self.squares[position] / (count - 1) / count)
        else:
            error = None
        return Score(float(self.means[position]), count, error)

    def gain(self, position: int, parent: int) -> float | None:
        """Return by how much a variant's mean score is better than its parent's; None unless both have one."""
        if position < 0 or parent < 0:
            return None
        gain = float(self.costs[parent] - self.costs[position])
        return gain if math.isfinite(gain) else None

    def gain_error(self, position: int, parent: int) -> float | None:
        """Return the standard error of `gain`; None without a gain, or where the noise of one of the two is unknown."""
        scores = [] if self.gain(position, parent) is None else [self.score(position), self.score(parent)]
        errors = [score.error for score in scores if score is not None and score.error is not None]
        return math.hypot(*errors) if len(errors) == 2 else None

    def best(self, count: int = 10) -> list[int]:
        """Return the variants with the best mean scores, best first, the earlier one first among equals.

        A model that looks ahead or broke another rule has a low score and is left out: only completed variants count.
        """
        eligible = np.flatnonzero(self.completed & np.isfinite(self.costs))
        order = np.argsort(self.costs[eligible], kind="stable")[:count]
        return [int(position) for position in eligible[order]]

    @cached_property
    def records(self) -> npt.NDArray[np.bool_]:
        """Which variants beat the best mean score so far, by position: what a greedy climber would have kept."""
        scores = np.where(self.completed & np.isfinite(self.costs), self.costs, np.inf)
        before = np.concatenate([[np.inf], np.minimum.accumulate(scores)[:-1]])[: len(scores)]
        return np.asarray(scores < before)

    @cached_property
    def leader(self) -> int | None:
        """The champion, or the variant with the best mean score while nothing is confirmed."""
        if self.champion is not None:
            return self.champion
        best = self.best(1)
        return best[0] if best else None

    # -------------------------------------------------------------------------------------------------------- descent

    @cached_property
    def primary(self) -> Positions:
        """The better parent by position (the first, where scores do not tell): the tree is drawn along it."""
        first, second = self.parents[:, 0], self.parents[:, 1]
        padded = np.append(self.costs, np.nan)
        with np.errstate(invalid="ignore"):
            return np.where((second >= 0) & (padded[second] < padded[first]), second, first)

    @cached_property
    def levels(self) -> list[Positions]:
        """The positions of each generation, from the first: what parents decide for children goes along these."""
        order = np.argsort(self.generations, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.generations[order])) + 1)

    def path(self, position: int) -> list[int]:
        """Return the way from the seed to a variant along the better parent of each step, both ends included."""
        way = [position]
        while (position := int(self.primary[position])) >= 0:
            way.append(position)
        return way[::-1]

    def ancestors(self, position: int) -> list[int]:
        """Return all ancestors of a variant, over both parents, oldest first."""
        seen: set[int] = set()
        waiting = [position]
        while waiting:
            for parent in self.parents[waiting.pop()]:
                if parent >= 0 and int(parent) not in seen:
                    seen.add(int(parent))
                    waiting.append(int(parent))
        return sorted(seen)

    def children(self, position: int) -> list[int]:
        """Return the variants that have this one as a parent, oldest first."""
        starts, order = self._offspring
        return [int(child) for child in np.unique(order[starts[position] : starts[position + 1]])]

    def descendants(self, position: int) -> list[int]:
        """Return all descendants of a variant, oldest first."""
        seen = np.zeros(len(self), dtype=np.bool_)
        starts, order = self._offspring
        parents = np.asarray([position], dtype=np.int64)
        while len(parents):  # a generation a turn
            counts = starts[parents + 1] - starts[parents]
            skipped = np.repeat(starts[parents] - np.cumsum(counts) + counts, counts)
            children = np.unique(order[skipped + np.arange(len(skipped))])
            parents = children[~seen[children]]
            seen[parents] = True
        return [int(child) for child in np.flatnonzero(seen)]

    @cached_property
    def _offspring(self) -> tuple[Positions, Positions]:
        """Where each variant's children begin in the second array, and the children of all, parent by parent."""
        child, place = np.nonzero(self.parents >= 0)
        parent = self.parents[child, place]
        starts = np.concatenate([[0], np.cumsum(np.bincount(parent, minlength=len(self)))])
        return starts, child[np.argsort(parent, kind="stable")]

    # ------------------------------------------------------------------------------------------------------------ ids

    def find(self, name: str) -> int:
        """Return the position of a variant: by its id, the beginning of one, or `seed`, `best`, `champion`.

        Raises:
            RunError: there is none (near ids are offered), or several begin like that (some are listed).
        """
        if name in ("seed", "best", "champion"):
            return self._named(name)
        position = self._scanned(name)
        return self._names.find(name) if position is None else position

    def _scanned(self, identity: str) -> int | None:
        """Return what `position` does, without an index of all ids, which takes as long as many such searches."""
        place = pc.index(self.tables.variants["variant_id"], identity).as_py()
        return None if place < 0 else int(place)

    def _named(self, name: str) -> int:
        best = next(iter(self.best(1)), None)
        position = self.seed if name == "seed" else self.champion if name == "champion" else best
        if position is None:
            raise RunError(f"{self.tables.run} has no {name} yet.")
        return position

    @cached_property
    def _names(self) -> Ids:
        return Ids(self.tables.run, self.ids)

    @cached_property
    def _scored(self) -> tuple[Positions, npt.NDArray[np.float64]]:
        """The positions and scores of all completed experiments of recorded variants."""
        table = self.tables.experiments
        table = table.filter(pc.and_(pc.equal(table["status"], Status.COMPLETED.value), pc.is_valid(table["val_bpb"])))
        positions = self.positions_of(table["variant_id"])
        known = positions >= 0
        return positions[known], table["val_bpb"].to_numpy()[known]

    def position(self, identity: str) -> int | None:
        """Return the position of a variant by its whole id; None if it has no row."""
        return self._names.position(identity)

    def positions_of(self, ids: pa.ChunkedArray) -> Positions:
        """Return the positions of variants by their whole ids, -1 where one has no row."""
        found = pc.index_in(ids, value_set=self.tables.variants["variant_id"])
        return np.asarray(pc.fill_null(found, -1).to_numpy(), dtype=np.int64)
