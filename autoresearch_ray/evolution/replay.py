"""Fold the stored rows back into a search: standings, islands, what is spent. The same rows give the same members.

Owns the fold over stored rows. Does not own what a row means to the standings (state.py), nor goes on with the search.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from autoresearch_ray.evolution.challenge import verdict_of
from autoresearch_ray.evolution.flight import Trainings
from autoresearch_ray.evolution.island import Island, Member
from autoresearch_ray.evolution.memory import ideas_of
from autoresearch_ray.evolution.state import State, homes
from autoresearch_ray.evolution.trials import WINDOW
from autoresearch_ray.ledger import Spent
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.schema import Row, TableName
from autoresearch_ray.lineage.snapshot import fetch
from autoresearch_ray.lineage.store import Recorded
from autoresearch_ray.operators.request import Idea
from autoresearch_ray.variant import Birth, Purpose, Status, Usage, Variant


@dataclass
class Replayed:
    """A search as its rows left it."""

    state: State
    founder: Member
    """The seed as every island began with it, without scores."""
    islands: list[list[Member]]
    """Each island's members, in the order in which they came."""
    capacities: list[int]
    spent: Spent
    next_number: int
    """Of the next birth."""
    numbers: dict[str, int]
    """The number of every birth that has ended, and of the seed, by variant id."""
    notes: tuple[str, int]
    """Those of the last reflection, and the number of the birth before which it was."""
    ideas: tuple[Idea, ...]
    """Those that were taken over from another run, oldest first."""
    carried: frozenset[int]
    """Numbers of the births that came from another run with their scores: this run spent nothing on them."""
    recent: list[tuple[Variant, Status]]
    """The latest births that were trained, with their sources."""
    trainings: Trainings
    """Those so far of the seed and of each variant that has not ended."""


class Rows(Protocol):
    """What a fold reads: the driver's own store, or the archive of another run."""

    @property
    def folder(self) -> Path:
        """The run's folder."""

    def open_births(self) -> tuple[Birth, ...]:
        """Return the births that have no row yet."""

    def open_proposals(self) -> tuple[Variant, ...]:
        """Return the variants that were proposed but have no row yet."""

    def replay(self, tables: Collection[TableName]) -> Iterator[Recorded]:
        """Yield every row of some tables in the order of `sequence`, without bulky columns."""


def replay(lineage: Rows) -> Replayed:
    """Fold everything committed. Sources are read for the members that are left, not for everything ever born.

    Raises:
        LookupError: the lineage has no seed, not even one in flight.
    """
    fold = _Fold(lineage, _replicated(lineage))
    for recorded in lineage.replay(["variants", "experiments", "events"]):
        fold.take(recorded.table, recorded.row, recorded.sequence)
    return fold.result()


class _Fold:
    """One pass in the order of `sequence`: a variant's row stands before that of its first score.

    Parents' rows stand before their children's, but for the seed: it breeds at once, and a child may end before it.
    """

    def __init__(self, lineage: Rows, replicated: Collection[str]) -> None:
        self._lineage = lineage
        self._replicated = replicated
        self._open = {variant.variant_id: variant for variant in lineage.open_proposals()}
        self._founder = Member(_seed(lineage), ())
        self._numbers = {self._founder.variant.variant_id: 0}
        self._scored_again: dict[str, Variant] = {self._founder.variant.variant_id: self._founder.variant}
        self._unscored: dict[str, Variant] = {}
        self._state = State()  # until the first row, which says what the run's goal is
        self._capacities: list[int] = []
        self._islands: list[Island] = []
        self._trainings = Trainings()
        self._notes = ("", 0)
        self._ideas: tuple[Idea, ...] = ()
        self._carried: set[int] = set()
        self._recent: deque[tuple[Variant, Status]] = deque(maxlen=WINDOW)
        self._spent = Spent()
        self._sitting: datetime | None = None
        self._last: datetime | None = None
        self._seconds = 0.0

    def take(self, table: str, row: Row, sequence: int) -> None:
        """Take in one row."""
        if table == "variants":
            self._born(row, sequence)
        elif table == "experiments":
            self._measured(row)
        else:
            self._happened(row)

    def result(self) -> Replayed:
        """Return what the rows amount to, with what was paid for and has not ended."""
        self._close_sitting()
        for variant in self._open.values():
            self._pay(variant.usage)
        numbers = {birth.number for birth in self._lineage.open_births()}
        numbers |= {*self._numbers.values(), *(variant.birth.number for variant in self._open.values())}
        return Replayed(
            state=self._state,
            founder=self._founder,
            islands=self._members(),
            capacities=self._capacities,
            spent=replace(self._spent, births=len(numbers - self._carried - {0}), hours=self._seconds / 3600),
            next_number=max(numbers, default=0) + 1,
            numbers=self._numbers,
            recent=self._with_sources(),
            notes=self._notes,
            ideas=self._ideas,
            carried=frozenset(self._carried),
            trainings=self._trainings,
        )

    def _born(self, row: Row, sequence: int) -> None:
        variant, status = schema.variant_of(row | {"source": None}), Status(row["status"])
        self._numbers[variant.variant_id] = variant.birth.number
        self._seen(row["created_at"])
        if status not in (Status.REJECTED, Status.OPERATOR_FAILED):
            parents = tuple(self._numbers[parent] for parent in variant.parents)
            self._state.conceived(variant.birth.number, parents, row["ast_hash"])
        self._state.born(variant.birth, status, sequence, variant.usage.usd)
        self._pay(variant.usage)
        self._recent.append((variant, status))
        if status is Status.COMPLETED and variant.birth.number:
            kept = self._scored_again if variant.variant_id in self._replicated else self._unscored
            kept[variant.variant_id] = variant
        if variant.birth.number:
            self._trainings.end(variant.variant_id)

    def _measured(self, row: Row) -> None:
        self._seen(row["ended_at"])
        lost, name = row["status"] == Status.LOST.value, row["variant_id"]
        purpose = Purpose(row.get("purpose") or Purpose.BIRTH)
        if purpose is Purpose.CARRIED:
            self._carried.add(self._numbers[name])
        self._spent = replace(
            self._spent,
            experiments=self._spent.experiments + (not lost and purpose is not Purpose.CARRIED),
            train_seconds=self._spent.train_seconds + row["train_seconds"],
            slot_seconds=self._spent.slot_seconds + row["wall_seconds"],
        )
        ended = name in self._numbers and name != self._founder.variant.variant_id
        self._trainings.note(row["experiment_id"], ended=ended)
        variant = self._scored_again.get(name) or self._unscored.pop(name, None)
        result = schema.result_of(row)
        if variant is None:  # lost before its birth ended, or not scored
            self._state.experiments[result.status] += 1
            self._state.purposes[Purpose.BIRTH] += not lost
            return
        scores = self._state.measured(variant, result, purpose)
        if scores:
            member, at_home = self._state.member(variant), homes(variant.birth, len(self._islands))
            for index, island in enumerate(self._islands):
                if index in at_home:
                    island.absorb(member, self._state.noise.estimate())
                else:
                    island.revise(member)

    def _happened(self, row: Row) -> None:
        details = schema.event_details(row)
        if row["kind"] == "started":
            self._close_sitting()
            self._sitting = self._last = row["recorded_at"]
            if not self._islands:
                self._state.goal = details["goal"]
                self._capacities = details["capacities"]
                self._islands = [Island(capacity, [self._founder]) for capacity in self._capacities]
        elif row["kind"] == "carried":
            self._state.inherit(details["noise"], details["operators"])
            self._ideas, self._notes = ideas_of(details), (details["notes"], 0)
        elif row["kind"] == "migration":
            for variant in self._migrants(details["variants"]):
                self._islands[details["target"]].absorb(self._state.member(variant), self._state.noise.estimate())
        elif row["kind"] == "challenge":
            challenger = self._numbers[row["variant_id"]]
            self._state.title.challenged(challenger, details["limit"], simpler=details["simpler"])
        elif row["kind"] == "verdict":
            self._state.title.ruled(verdict_of(details, self._state.turn))
        elif row["kind"] == "reflection":
            self._notes = (details["notes"], details["number"])
        elif row["kind"] == "models_checked":
            self._pay(Usage(**details))
        elif row["kind"] == "resize":
            self._capacities = details["capacities"]
            for island, capacity in zip(self._islands, self._capacities, strict=True):
                island.resize(capacity, self._state.noise.estimate())
        self._seen(row["recorded_at"])

    def _migrants(self, names: Sequence[str]) -> list[Variant]:
        """Return variants by id; one that was evicted between its island's answer and the record of it is fetched."""
        held = {member.variant.variant_id: member.variant for island in self._islands for member in island.members}
        gone = [self._state.sequence(self._numbers[name]) for name in names if name not in held]
        if gone:
            rows = fetch(self._lineage.folder, "variants", gone, schema.SCHEMAS["variants"].names)
            held |= {row["variant_id"]: schema.variant_of(row) for row in rows.values()}
        return [held[name] for name in names]

    def _members(self) -> list[list[Member]]:
        names = {member.variant.variant_id for island in self._islands for member in island.members}
        if self._founder.variant.variant_id in self._open:
            names.discard(self._founder.variant.variant_id)
        wanted = [self._state.sequence(self._numbers[name]) for name in names]
        rows = fetch(self._lineage.folder, "variants", wanted, ["variant_id", "source"])
        sources = {row["variant_id"]: row["source"] for row in rows.values()}
        return [[_filled(member, sources) for member in island.members] for island in self._islands]

    def _with_sources(self) -> list[tuple[Variant, Status]]:
        wanted = [self._state.sequence(variant.birth.number) for variant, _ in self._recent]
        rows = fetch(self._lineage.folder, "variants", wanted, ["variant_id", "source"])
        sources = {row["variant_id"]: row["source"] for row in rows.values() if row["source"]}
        return [
            (replace(variant, source=sources[variant.variant_id]), status)
            for variant, status in self._recent
            if variant.variant_id in sources and status is not Status.REJECTED
        ]

    def _pay(self, usage: Usage) -> None:
        spent = self._spent
        self._spent = replace(
            spent,
            tokens_in=spent.tokens_in + usage.tokens_in,
            tokens_out=spent.tokens_out + usage.tokens_out,
            usd=spent.usd + usage.usd,
        )

    def _seen(self, moment: datetime | None) -> None:
        if moment is not None and (self._last is None or moment > self._last):
            self._last = moment

    def _close_sitting(self) -> None:
        """Add the time from a sitting's start to its last row; what a killed driver did after that is not known."""
        if self._sitting is not None and self._last is not None:
            self._seconds += (self._last - self._sitting).total_seconds()


def _replicated(lineage: Rows) -> set[str]:
    """Return the ids of the variants that were trained again after their first score."""
    rows = (recorded.row for recorded in lineage.replay(["experiments"]))
    return {row["variant_id"] for row in rows if row.get("purpose") not in (None, Purpose.BIRTH.value)}


def _seed(lineage: Rows) -> Variant:
    """Return the seed, which may still be in flight (Raises LookupError)."""
    for variant in lineage.open_proposals():
        if variant.birth.number == 0:
            return variant
    for recorded in lineage.replay(["variants"]):
        if recorded.row["number"] == 0:
            rows = fetch(lineage.folder, "variants", [recorded.sequence], schema.SCHEMAS["variants"].names)
            return schema.variant_of(rows[recorded.sequence])
    raise LookupError("the lineage has no seed")


def _filled(member: Member, sources: Mapping[str, str]) -> Member:
    """Return the member with its source; the founder has its own until its row is there."""
    source = sources.get(member.variant.variant_id, member.variant.source)
    return replace(member, variant=replace(member.variant, source=source))
