"""A lineage as commits: what each birth's commit says, whose child it is, which branches and notes there are. Pure.

The same rows give the same commits, in however many steps. Does not own git (repository.py, fast_import.py).
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from autoresearch_ray.lineage.fast_import import Commit, branch_ref, variant_ref
from autoresearch_ray.lineage.schema import Row, TableName, event_details
from autoresearch_ray.lineage.store import Recorded
from autoresearch_ray.variant import Operator, Status

COLUMNS: dict[TableName, tuple[str, ...]] = {
    "variants": (
        "sequence", "variant_id", "number", "island", "generation", "operator", "parents", "hypothesis", "status",
        "reason", "model", "created_at", "source_hash",
    ),
    "experiments": ("sequence", "variant_id", "status", "val_bpb"),
    "champions": ("sequence", "variant_id", "confirmed_at", "p_better"),
    "events": ("sequence", "kind", "details"),
}  # fmt: skip
"""What a projection reads; sources are fetched for those commits that are made."""

SUBJECT = 100
PARAGRAPH = 4000
"""Characters of a hypothesis in the subject and in the body, and of any other text of a variant's."""

SHORT = 7

_HOSTILE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
"""Control characters, and what hides or reorders text; spelt out, as what Python calls printable varies by version."""


@dataclass(frozen=True, slots=True)
class Birth:
    """A commit to be made, and where its source is."""

    commit: Commit
    sequence: int
    """Of the row of `variants` that has the source."""
    source: str | None
    """None: it is to be fetched from the lineage."""


class Projection:
    """Takes rows in the order of `sequence`; gives commits so that parents come before children.

    A commit says what was known when its birth ended, so that it never changes; scores that come later are notes.

    Args:
        done: refs that exist already: no commit is given for them.
    """

    def __init__(self, done: Collection[str] = ()) -> None:
        self.now = datetime.fromtimestamp(0, timezone.utc)
        """The latest time that a row told."""
        self._done = done
        self._metric = "val_bpb"
        self._sign = 1.0
        """Turns a score into a cost; -1 where higher is better."""
        self._refs: dict[str, str | None] = {}
        """Ids whose row came and whose parents are there: their ref, None without a source."""
        self._waiting: dict[str, list[_Waiting]] = {}
        """By the id of a parent whose own row has not come: a child of the seed may end before the seed."""
        self._scores: dict[str, _Score] = {}
        self._noise = _Noise()
        self._completed: dict[str, int] = {}
        """The sequences of completed variants by id."""
        self._seed: str | None = None
        self._champion: str | None = None
        self._confirmed: dict[str, str] = {}
        self._best: tuple[float, int, str] | None = None
        self._best_is_stale = False
        self._revised: dict[str, str] = {}
        """Notes by id, in the words of the moment: the noise, and with it the ±, goes on changing."""

    # ---------------------------------------------------------------------------------------------------------- rows

    def take(self, recorded: Recorded) -> list[Birth]:
        """Take one row; return the commits that can be made now, parents first."""
        row = recorded.row
        if recorded.table == "experiments":
            self._measured(row)
        elif recorded.table == "champions":
            self._confirm(row)
        elif recorded.table == "variants":
            return self._born(row)
        elif row["kind"] == "started":
            details = event_details(row)
            self._metric = one_line(details.get("metric", "val_bpb"))
            self._sign = -1.0 if details.get("goal") == "maximize" else 1.0
        return []

    def abandon(self) -> list[Birth]:
        """Give up on parents whose rows are lost (a damaged part): return the commits that waited for them."""
        waiting = {held.variant_id for group in self._waiting.values() for held in group}
        return [birth for lost in self._waiting.keys() - waiting for birth in self._settle(lost, None)]

    def _measured(self, row: Row) -> None:
        score = row["val_bpb"]
        if row["status"] != Status.COMPLETED.value or score is None:
            return
        name = row["variant_id"]
        self._noise.add(self._scores.setdefault(name, _Score()), score)
        if name in self._completed:
            self._revised[name] = self._note(name)
            self._rank(name)

    def _confirm(self, row: Row) -> None:
        self._champion = name = row["variant_id"]
        at = row["confirmed_at"].astimezone(timezone.utc)
        self.now = max(self.now, at)
        self._confirmed[name] = f"Confirmed as champion at {at:%Y-%m-%d %H:%M} UTC, P(better) {row['p_better']:.3f}"
        self._revised[name] = self._note(name)

    def _born(self, row: Row) -> list[Birth]:
        name = row["variant_id"]
        if name in self._refs:
            return []
        self.now = max(self.now, row["created_at"])
        if row["operator"] == Operator.SEED.value and self._seed is None:
            self._seed = name
        if row["source_hash"] is None:
            return self._settle(name, None)
        if row["status"] == Status.COMPLETED.value:
            self._completed[name] = row["sequence"]
        ref = variant_ref(name)
        if ref in self._done:
            return self._settle(name, ref)
        parents = tuple(parent for parent in dict.fromkeys(row["parents"]) if parent != name)
        held = _Waiting(name, parents, ref, self._message(row, parents), row)
        birth = self._advance(held)
        return [birth, *self._settle(name, ref)] if birth else []

    def _advance(self, held: _Waiting) -> Birth | None:
        """Return a commit that can be made; else let it wait for the next parent that it lacks."""
        for parent in held.parents:
            if parent not in self._refs:
                self._waiting.setdefault(parent, []).append(held)
                return None
        parents = tuple(ref for ref in map(self._refs.__getitem__, held.parents) if ref is not None)
        commit = Commit(held.ref, parents, held.message, held.row["created_at"])
        return Birth(commit, held.row["sequence"], held.row.get("source"))

    def _settle(self, name: str, ref: str | None) -> list[Birth]:
        """Note that a variant has its ref, or never will; return the descendants that waited for it and can go on."""
        made: list[Birth] = []
        settled = deque([(name, ref)])
        while settled:
            name, ref = settled.popleft()
            self._refs[name] = ref
            if ref is not None and name in self._completed:
                self._rank(name)
            for held in self._waiting.pop(name, ()):
                if birth := self._advance(held):
                    made.append(birth)
                    settled.append((held.variant_id, held.ref))
        return made

    # --------------------------------------------------------------------------------------------- branches and notes

    def branches(self) -> dict[str, str]:
        """Return where the branches point: `seed`, `best` and `champion`, as far as there are such."""
        found = {"seed": self._seed, "best": self._leading(), "champion": self._champion}
        refs = {branch_ref(branch): self._refs.get(name) for branch, name in found.items() if name is not None}
        return {branch: ref for branch, ref in refs.items() if ref is not None}

    def pop_notes(self) -> dict[str, str]:
        """Return what came to be known of commits after they were made, by ref, since this was last asked."""
        notes = {}
        for name in list(self._revised):
            ref = self._refs.get(name)
            if ref is not None:
                notes[ref] = self._revised.pop(name)
        return notes

    def _rank(self, name: str) -> None:
        """Keep the best mean at hand; when the best one itself got worse, look again when next asked."""
        score = self._scores.get(name)
        if score is None or self._refs.get(name) is None:
            return
        key = (self._sign * score.mean, self._completed[name], name)
        if self._best is None or key < self._best:
            self._best = key
        elif self._best[2] == name:
            self._best_is_stale = True

    def _leading(self) -> str | None:
        if self._best_is_stale:
            self._best, self._best_is_stale = None, False
            for name in self._completed:
                self._rank(name)
        return self._best[2] if self._best else None

    # ------------------------------------------------------------------------------------------------------- messages

    def _message(self, row: Row, parents: Sequence[str]) -> str:
        """Return a commit's message: the hypothesis, what came of it in words, and trailers for programs."""
        hypothesis = one_line(row["hypothesis"]) or "(no hypothesis)"
        subject = _cut(hypothesis, SUBJECT)
        whole = [_cut(hypothesis, PARAGRAPH)] if subject != hypothesis else []
        paragraphs = [subject, *whole, self._outcome(row, parents), self._trailers(row, parents)]
        return "\n\n".join(paragraphs) + "\n"

    def _outcome(self, row: Row, parents: Sequence[str]) -> str:
        score = self._scores.get(row["variant_id"])
        if row["status"] != Status.COMPLETED.value or score is None:
            word = one_line(row["status"]).replace("_", " ").capitalize()
            reason = _cut(one_line(row["reason"]), PARAGRAPH)
            return f"{word}: {reason}" if reason else f"{word}."
        lines = [f"{self._metric} {self._words(score)}"]
        scored = [(name, self._scores[name]) for name in parents if name in self._scores]
        lines += [f"{self._gain_words(score, parent)} than {one_line(name)[:SHORT]}" for name, parent in scored]
        return "\n".join(lines)

    def _trailers(self, row: Row, parents: Sequence[str]) -> str:
        score = self._scores.get(row["variant_id"]) if row["status"] == Status.COMPLETED.value else None
        error = self._error(score)
        costs = [self._sign * self._scores[name].mean for name in parents if name in self._scores]
        found: list[tuple[str, object]] = [
            ("Variant-Id", row["variant_id"]),
            ("Number", row["number"]),
            *(("Parent-Id", parent) for parent in parents),
            ("Operator", row["operator"]),
            ("Model", row["model"]),
            ("Island", row["island"]),
            ("Generation", row["generation"]),
            ("Status", row["status"]),
            ("Reason", row["reason"] or None),
            ("Val-Bpb", score and f"{score.mean:.9g}"),
            ("Val-Bpb-Error", None if error is None else f"{error:.3g}"),
            ("Trainings", score and score.count),
            ("Gain", f"{min(costs) - self._sign * score.mean:.9g}" if score and costs else None),
        ]
        return "\n".join(f"{key}: {_cut(one_line(str(value)), PARAGRAPH)}" for key, value in found if value is not None)

    def _note(self, name: str) -> str:
        score = self._scores.get(name)
        lines = [f"{self._metric} {self._words(score)}"] if score else []
        return "\n".join([*lines, *([self._confirmed[name]] if name in self._confirmed else [])]) + "\n"

    def _words(self, score: _Score) -> str:
        error = self._error(score)
        spread = "" if error is None else f" ±{error:.4f}"
        return f"{score.mean:.4f}{spread} ({score.count} training{'s' if score.count > 1 else ''})"

    def _gain_words(self, score: _Score, parent: _Score) -> str:
        gain = parent.mean - score.mean
        errors = [error for error in (self._error(score), self._error(parent)) if error is not None]
        spread = f" ±{math.hypot(*errors):.4f}" if len(errors) == 2 else ""
        return f"{abs(gain):.4f}{spread} {'lower' if gain >= 0 else 'higher'}"

    def _error(self, score: _Score | None) -> float | None:
        sigma = self._noise.sigma
        return sigma / math.sqrt(score.count) if score and sigma is not None else None


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A birth whose commit is composed and whose parents are not all there."""

    variant_id: str
    parents: tuple[str, ...]
    ref: str
    message: str
    row: Row


@dataclass(slots=True)
class _Score:
    count: int = 0
    total: float = 0.0

    @property
    def mean(self) -> float:
        return self.total / self.count


@dataclass(slots=True)
class _Noise:
    """The spread of a score over random seeds, pooled over the replicates so far (Welford's update)."""

    squares: float = 0.0
    degrees: int = 0

    def add(self, score: _Score, value: float) -> None:
        before = score.mean if score.count else value
        score.count += 1
        score.total += value
        self.squares += max(0.0, (value - before) * (value - score.mean))
        self.degrees += score.count > 1

    @property
    def sigma(self) -> float | None:
        return math.sqrt(self.squares / self.degrees) if self.degrees else None


def one_line(text: str) -> str:
    """Return text as one line that neither a terminal obeys nor git takes for the end of a message."""
    line = _HOSTILE.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))
    return line.lstrip("- ") if line.startswith("---") else line


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
