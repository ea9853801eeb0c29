"""A run of karpathy/autoresearch as a lineage: results.tsv says what was tried, its git branch has what was kept.

Every row is marked unverified, and what cannot be known is null. Does not own reading git (history.py).
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from autoresearch_ray.errors import UsageError, why
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.history import History, Revision
from autoresearch_ray.lineage.schema import Origin, Row
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Birth, Experiment, Operator, Result, Status, Variant, variant_id

RESULTS = "results.tsv"
COLUMNS = ("commit", "val_bpb", "memory_gb", "status", "description")
KEPT, DISCARDED, CRASHED = "keep", "discard", "crash"
CLASS = "imported from autoresearch: hardware unknown"

_UNKNOWN_OF_A_BIRTH = dict.fromkeys(("seed", "llm_tokens_in", "llm_tokens_out", "llm_usd"))
_UNKNOWN_OF_A_TRAINING = dict.fromkeys(
    ("seed", "train_seconds", "startup_seconds", "wall_seconds", "scoring_seconds", "tokens", "steps")
)


@dataclass(frozen=True, slots=True)
class Trial:
    """One line of results.tsv."""

    commit: str
    val_bpb: float | None
    memory_gb: float | None
    status: str
    description: str
    line: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import."""

    run: str
    births: int
    kept: int
    without_source: int
    """Births whose commit the repository does not have any more: their source is null."""


def import_run(folder: Path, branch: str | None, evolved: str, out: Path) -> Imported:
    """Write a run of autoresearch as a new lineage.

    The first kept line is the seed; every other one is a child of what was kept before it.

    Args:
        folder: the checkout, with results.tsv.
        branch: its branch of kept commits; None takes what is checked out.
        evolved: the evolved file's path in the checkout.
        out: the new run's folder.

    Raises:
        UsageError: the folder is not a checkout, has no such branch, or its results.tsv is missing or malformed.
        RunError: `out` holds a run already.
        RepositoryError: git failed.
    """
    trials = read_results(folder / RESULTS)
    history = History(folder)
    kept = history.branch(branch)
    written = _Writer(history, kept, evolved, Origin(out.name, CLASS))
    rows = list(written.rows(trials))
    with LineageStore.create(out, out.name) as store:
        at = kept[0].at if kept else datetime.fromtimestamp(0, timezone.utc)
        details: dict[str, Any] = {
            "goal": "minimize",
            "metric": "val_bpb",
            "imported_from": "autoresearch",
            "branch": branch or "",
        }
        store.append("events", schema.event_row(written.origin, "started", at, **details))
        for table, row in rows:
            store.append(table, row)
    return Imported(out.name, len(trials), sum(trial.status == KEPT for trial in trials), written.without_source)


def read_results(path: Path) -> list[Trial]:
    """Read results.tsv.

    Raises:
        UsageError: it is missing, has other columns, or a line cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({why(error)}): autoresearch writes it beside train.py.") from error
    table = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not table or tuple(cell.strip() for cell in table[0][: len(COLUMNS)]) != COLUMNS:
        raise UsageError(f"{path} does not begin with the columns {', '.join(COLUMNS)}.")
    trials = [_trial(path, number, cells) for number, cells in enumerate(table[1:], start=2) if any(cells)]
    if not any(trial.status == KEPT for trial in trials):
        raise UsageError(f"{path} has no line with the status keep: there is nothing to descend from.")
    return trials


def _trial(path: Path, number: int, cells: list[str]) -> Trial:
    if len(cells) < len(COLUMNS):
        raise UsageError(f"{path} line {number} has {len(cells)} cells instead of {len(COLUMNS)}.")
    commit, score, memory, status, *description = (cell.strip() for cell in cells)
    if status not in (KEPT, DISCARDED, CRASHED):
        raise UsageError(f"{path} line {number}: status {status!r} is not keep, discard or crash.")
    return Trial(
        commit, _number(path, number, score), _number(path, number, memory), status, " ".join(description), number
    )


def _number(path: Path, number: int, text: str) -> float | None:
    """Return a number; 0, which autoresearch writes for a crash, and nothing are None."""
    try:
        value = float(text or 0)
    except ValueError:
        raise UsageError(f"{path} line {number}: {text[:40]!r} is not a number.") from None
    return value if value > 0 and math.isfinite(value) else None


class _Writer:
    """Turns trials into rows, in their order."""

    def __init__(self, history: History, kept: list[Revision], evolved: str, origin: Origin) -> None:
        self.origin = origin
        self.without_source = 0
        self._history = history
        self._evolved = evolved
        self._kept = kept
        self._at = kept[0].at if kept else datetime.fromtimestamp(0, timezone.utc)

    def rows(self, trials: list[Trial]) -> Iterator[tuple[schema.TableName, Row]]:
        """Yield the rows of all trials; a trial before the first kept one is a child of it all the same."""
        seed = next(place for place, trial in enumerate(trials) if trial.status == KEPT)
        ordered = [trials[seed], *trials[:seed], *trials[seed + 1 :]]
        parent: Variant | None = None
        for number, trial in enumerate(ordered):
            born = self._variant(number, trial, parent, ordered)
            yield from self._recorded(born, trial)
            if trial.status == KEPT:
                parent = born

    def _variant(self, number: int, trial: Trial, parent: Variant | None, trials: list[Trial]) -> Variant:
        revision = self._history.find(trial.commit)
        if revision is None and number == 0:
            revision = self._before(trials)
        source = self._history.source(revision.sha, self._evolved) if revision else None
        self.without_source += source is None
        self._at = max(self._at, revision.at) if revision else self._at
        operator = Operator.SEED if parent is None else Operator.MUTATION
        birth = Birth(number, variant_id(self.origin.run, number), 0, operator, 0)
        parents = () if parent is None else (parent.variant_id,)
        generation = 0 if parent is None else parent.generation + 1
        return Variant(birth, parents, generation, source or "", trial.description, self._at)

    def _before(self, trials: list[Trial]) -> Revision | None:
        """Return what the first kept change was made to: the baseline's own line may not name its commit."""
        changes = (self._history.find(trial.commit) for trial in trials[1:] if trial.status == KEPT)
        first = next((change for change in changes if change is not None), None)
        if first is not None and first.parents:
            return self._history.find(first.parents[0])
        return self._kept[-1] if first is None and self._kept else None

    def _recorded(self, born: Variant, trial: Trial) -> Iterator[tuple[schema.TableName, Row]]:
        failed = trial.status == CRASHED or trial.val_bpb is None
        status = Status.CRASHED if failed else Status.COMPLETED
        reason = "crashed, as results.tsv says" if failed else ""
        result = Result(
            status=status,
            reason=reason,
            val_bpb=None if failed else trial.val_bpb,
            verified=False,
            peak_memory_bytes=None if trial.memory_gb is None else int(trial.memory_gb * 2**30),
        )
        experiment = Experiment(f"{born.variant_id}-0", born.variant_id, born.source, 0)
        row = schema.experiment_row(self.origin, experiment, result)
        yield "experiments", row | _UNKNOWN_OF_A_TRAINING
        yield "variants", schema.variant_row(self.origin, born, status, reason) | _UNKNOWN_OF_A_BIRTH


def default_name(folder: Path, branch: str | None) -> str:
    """Return what an imported run is called: the end of its branch, or else its folder."""
    word = (branch or folder.resolve().name).rstrip("/").rsplit("/", 1)[-1].rsplit(os.sep, 1)[-1]
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in word).lstrip(".-") or "imported"
