"""The writing side of a lineage, for the one driver of a run: durable before acknowledged, sealed, compacted, replayed.

Every commit is one journal record, so a kill keeps all of it or nothing. Does not own views (query.py).
"""

from __future__ import annotations

import bisect
import contextlib
import heapq
import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import pyarrow.compute as pc

from autoresearch_ray.errors import RunError, StorageError
from autoresearch_ray.lineage import codec, files, manifest, parts, schema
from autoresearch_ray.lineage.inflight import InFlight
from autoresearch_ray.lineage.journal import Journal
from autoresearch_ray.lineage.manifest import Manifest, Obsolete, Part
from autoresearch_ray.lineage.parts import DamagedPart
from autoresearch_ray.lineage.schema import TABLES, Row, TableName
from autoresearch_ray.lineage.sealing import Sealing
from autoresearch_ray.variant import Birth, Variant

DAMAGED = ".damaged"
"""Suffix under which a corrupt journal is kept for whoever wants to look into it; nothing reads it again."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One row of the lineage, as `replay` gives it."""

    sequence: int
    table: TableName
    row: Row


class LineageStore:
    """Appends rows, makes them durable, and says what was in flight when the last driver was killed.

    Not safe for threads. Rows and transient records become durable together at the next `commit`.

    Attributes:
        folder: the run's folder.
        run: the run's name.
        damage: a sentence for each damaged file met on opening; the rest is used.
    """

    def __init__(self, folder: Path, held: Manifest, journal: Journal, lock: IO[str], sealing: Sealing) -> None:
        self.folder = folder
        self.run = held.run
        self.damage: tuple[str, ...] = ()
        self._lineage = manifest.lineage_folder(folder)
        self._manifest = held
        self._journal = journal
        self._journal_start = journal.size
        self._lock = lock
        self._sealing = sealing
        self._sequence = held.sealed
        self._committed: list[Recorded] = []
        self._uncommitted: list[Recorded] = []
        self._entries: list[str] = []
        self._in_flight = InFlight()
        self._unreadable: set[Part] = set()
        self._closed = False

    # ------------------------------------------------------------------------------------------------------- opening

    @classmethod
    def create(cls, folder: Path, run: str, *, sealing: Sealing | None = None, durable: bool = True) -> LineageStore:
        """Start the lineage of a new run in its folder, which is made if it is missing.

        Args:
            folder: the run's folder.
            run: its name.
            sealing: when rows leave the journal.
            durable: False for simulations, which may lose rows with the machine: `commit` does not wait for the disk.

        Raises:
            RunError: the folder holds a run already, or another driver is making one there.
            StorageError: the folder cannot be written.
        """
        lineage = manifest.lineage_folder(folder)
        with files.translated(folder):
            for name in (*TABLES, "journal"):
                (lineage / name).mkdir(parents=True, exist_ok=True)
            lock = files.lock(lineage / "lock")
            if manifest.exists(folder):
                lock.close()
                raise RunError(f"{folder} holds a run already: choose another name, or resume it.")
            journal = Journal.create(manifest.journal_path(lineage, _journal_name(0)))
            held = Manifest(run=run, journal=journal.path.name)
            manifest.write(folder, held)
        journal.durable = durable
        return cls(folder, held, journal, lock, sealing or Sealing())

    @classmethod
    def open(cls, folder: Path, *, sealing: Sealing | None = None) -> LineageStore:
        """Open a run to go on with it: repairs the journal and clears away what a kill left half-made.

        Raises:
            RunError: the folder is not a run, another driver holds it, or a newer engine wrote it.
            StorageError: the folder cannot be written.
        """
        manifest.read(folder)
        lineage = manifest.lineage_folder(folder)
        with files.translated(folder):
            lock = files.lock(lineage / "lock")
            try:
                held = manifest.read(folder)
                path = manifest.journal_path(lineage, held.journal)
                missing = not path.exists()
                journal, records = (Journal.create(path), ()) if missing else Journal.open(path)
                store = cls(folder, held, journal, lock, sealing or Sealing())
                store._recover(records)
                store._note_damage(missing)
                store._sweep()
            except BaseException:
                lock.close()
                raise
        return store

    # ------------------------------------------------------------------------------------------------------- writing

    def append(self, table: TableName, row: Mapping[str, Any]) -> int:
        """Add a row (of `schema.variant_row` and its siblings); durable after the next `commit`.

        A row of `variants` ends its birth: what `reserve` and `propose` noted of it is forgotten.

        Returns:
            The row's sequence: one more than that of the row before, over all tables of the run.

        Raises:
            ValueError: the row does not fit the table's schema; nothing has been added.
        """
        self._check_open()
        sequence = self._sequence + 1
        checked = codec.normalise(table, {**row, "sequence": sequence})
        self._entries.append(codec.encode({"table": table, "row": codec.known(checked)}))
        self._sequence = sequence
        self._uncommitted.append(Recorded(sequence, table, checked))
        if table == "variants":
            self._in_flight.settle(checked["variant_id"])
        return sequence

    def reserve(self, birth: Birth) -> None:
        """Note a birth that is about to be carried out; it never becomes a row by itself."""
        self._check_open()
        self._entries.append(self._in_flight.reserve(birth))

    def propose(self, variant: Variant) -> None:
        """Note an operator's reply before it is trained, so that what was paid for survives a kill."""
        self._check_open()
        self._entries.append(self._in_flight.propose(variant))

    def commit(self) -> None:
        """Make everything since the last commit durable, all of it or nothing, with one fsync; seal when it is time.

        Raises:
            StorageError: the disk is full or failing. The store is closed; opening it again shows what was kept: all
                earlier commits, and this one whole or not at all.
        """
        self._check_open()
        if self._entries:
            with self._writing():
                self._journal.append([_record(*self._entries)])
            self._entries.clear()
            self._committed += self._uncommitted
            self._uncommitted.clear()
        if self._sealing.due(len(self._committed), self._journal.size - self._journal_start):
            self.seal()

    def seal(self) -> None:
        """Move all committed rows into Parquet parts and start a new journal; merge parts when there are many.

        Raises:
            StorageError: the disk is full or failing. The store is closed; what was committed stays in the journal.
        """
        self._check_open()
        if self._entries:
            raise ValueError("seal: there are rows that are not committed")
        with self._writing():
            if self._committed:
                self._rotate(self._write_parts())
            self._compact()
            self._drop_obsolete()

    def close(self) -> None:
        """Commit, seal and let go of the run's folder."""
        try:
            if not self._closed:
                self.commit()
                self.seal()
        finally:
            self._release()

    def __enter__(self) -> LineageStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close; after an exception only let go, so that what was not committed is not recorded half."""
        if kind is None:
            self.close()
        else:
            self._release()

    # ------------------------------------------------------------------------------------------------------- reading

    @property
    def sequence(self) -> int:
        """The sequence of the last row appended; -1 when there is none."""
        return self._sequence

    def open_births(self) -> tuple[Birth, ...]:
        """Return the births that have no row yet, by number: after a kill, those to be carried out again."""
        return self._in_flight.births

    def open_proposals(self) -> tuple[Variant, ...]:
        """Return the variants that were proposed but have no row yet, by number: they need no operator again."""
        return self._in_flight.proposals

    def replay(self, tables: Collection[TableName] = TABLES, *, bulky: bool = False) -> Iterator[Recorded]:
        """Yield every committed row in the order of `sequence`, with flat memory.

        Args:
            tables: the tables to read.
            bulky: with sources, curves and log tails, which are kilobytes a row. Without, rows lack those columns.
        """
        streams = [self._sealed_rows(table, bulky) for table in TABLES if table in tables]
        yield from heapq.merge(*streams, key=lambda recorded: recorded.sequence)
        for recorded in self._committed:
            if recorded.table in tables:
                dropped = () if bulky else schema.BULKY[recorded.table]
                row = {name: value for name, value in recorded.row.items() if name not in dropped}
                yield replace(recorded, row=row)

    def fetch(self, table: TableName, sequence: int) -> Row:
        """Return one row with all its columns, committed or not, without reading the journal.

        Raises:
            LookupError: there is no such row, or it lies in a damaged part.
        """
        for held in (self._uncommitted, self._committed):
            found = bisect.bisect_left(held, sequence, key=lambda recorded: recorded.sequence)
            if found < len(held) and held[found].sequence == sequence:
                return held[found].row
        for part in self._manifest.parts_of(table):
            if part.first_sequence <= sequence <= part.last_sequence:
                for batch in parts.batches(self._lineage, part, within=(sequence, sequence)):
                    rows: list[Row] = batch.filter(pc.equal(batch["sequence"], sequence)).to_pylist()
                    if rows:
                        return rows[0]
        raise LookupError(f"{self.folder} has no row {sequence} of {table}")

    def _sealed_rows(self, table: TableName, bulky: bool) -> Iterator[Recorded]:
        columns = None if bulky else parts.light_columns(table)
        for part in self._manifest.parts_of(table):
            yield from self._part_rows(part, columns)

    def _part_rows(self, part: Part, columns: list[str] | None) -> Iterator[Recorded]:
        try:
            for batch in parts.batches(self._lineage, part, columns):
                for row in batch.to_pylist():
                    yield Recorded(row["sequence"], part.table, row)
        except (DamagedPart, FileNotFoundError) as error:
            self._lose(part, str(error))

    def _lose(self, part: Part, problem: str) -> None:
        self._unreadable.add(part)
        self._report(f"{problem}: its rows are left out, the rest is used.")

    def _report(self, sentence: str) -> None:
        if sentence not in self.damage:
            self.damage = (*self.damage, sentence)

    # ------------------------------------------------------------------------------------------------------ recovery

    def _recover(self, records: Sequence[bytes]) -> None:
        """Take up what the journal holds behind the sealed parts."""
        for record in records:
            for entry in json.loads(record):
                if not self._in_flight.recover(entry):
                    self._recover_row(entry["table"], codec.decode(entry["table"], entry["row"]))

    def _recover_row(self, table: TableName, row: Row) -> None:
        self._sequence = row["sequence"]
        self._committed.append(Recorded(row["sequence"], table, row))
        if table == "variants":
            self._in_flight.settle(row["variant_id"])

    def _note_damage(self, journal_missing: bool) -> None:
        if journal_missing:
            self._report(f"{self._journal.path} is missing: what was recorded since the last sealing is lost.")
        for hole in self._journal.holes:
            self._report(hole.sentence(self._journal.path))
        for part in self._manifest.parts:
            if problem := parts.check(self._lineage, part):
                self._lose(part, problem)

    def _sweep(self) -> None:
        """Delete what no manifest names: leftovers of a kill between two steps."""
        kept = {manifest.journal_path(self._lineage, self._manifest.journal)}
        kept |= {manifest.part_path(self._lineage, part.table, part.name) for part in self._manifest.parts}
        kept |= {manifest.part_path(self._lineage, old.table, old.name) for old in self._manifest.obsolete}
        for folder in (*TABLES, "journal"):
            for path in (self._lineage / folder).iterdir():
                if path not in kept and path.suffix != DAMAGED:
                    files.remove(path)

    # ------------------------------------------------------------------------------------------------------- sealing

    def _write_parts(self) -> tuple[Part, ...]:
        written = []
        number = self._manifest.next_part
        for table in TABLES:
            rows = [recorded.row for recorded in self._committed if recorded.table == table]
            if rows:
                written.append(parts.write(self._lineage, table, number, rows))
                number += 1
        return tuple(written)

    def _rotate(self, written: tuple[Part, ...]) -> None:
        """Make new parts and a new journal count, at the one stroke of replacing the manifest."""
        old = self._journal
        name = _journal_name(_journal_number(old.path.name) + 1)
        fresh = Journal.create(manifest.journal_path(self._lineage, name), map(_record, self._in_flight.entries()))
        fresh.durable = old.durable
        self._replace_manifest(
            replace(
                self._manifest,
                journal=fresh.path.name,
                sealed=self._committed[-1].sequence,
                next_part=self._manifest.next_part + len(written),
                parts=self._manifest.parts + written,
            )
        )
        self._journal, self._journal_start = fresh, fresh.size
        self._committed.clear()
        old.close()
        if old.holes:
            old.path.rename(old.path.with_suffix(DAMAGED))
        else:
            files.remove(old.path)

    def _compact(self) -> None:
        """Merge neighbouring parts, `fanout` at a time, while a level has so many."""
        for table in TABLES:
            while group := self._sealing.mergeable(self._readable(table)):
                number = self._manifest.next_part
                try:
                    merged = parts.merge(self._lineage, number, group)
                except DamagedPart as error:
                    self._lose(error.part, str(error))
                    continue
                now = time.time()
                self._replace_manifest(
                    replace(
                        self._manifest,
                        next_part=number + 1,
                        parts=(*(part for part in self._manifest.parts if part not in group), merged),
                        obsolete=(*self._manifest.obsolete, *(Obsolete(table, part.name, now) for part in group)),
                    )
                )

    def _readable(self, table: TableName) -> list[Part]:
        return [part for part in self._manifest.parts_of(table) if part not in self._unreadable]

    def _drop_obsolete(self) -> None:
        """Delete merged parts whose time has come."""
        due = [old for old in self._manifest.obsolete if time.time() - old.since >= self._sealing.grace_seconds]
        if not due:
            return
        kept = tuple(old for old in self._manifest.obsolete if old not in due)
        self._replace_manifest(replace(self._manifest, obsolete=kept))
        for old in due:
            files.remove(manifest.part_path(self._lineage, old.table, old.name))

    def _replace_manifest(self, held: Manifest) -> None:
        manifest.write(self.folder, held)
        self._manifest = held

    # --------------------------------------------------------------------------------------------------------- state

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Translate what goes wrong with the disk; after it only a fresh `open` knows what was kept."""
        try:
            with files.translated(self.folder):
                yield
        except StorageError:
            self._release()
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"the lineage of {self.folder} is closed")

    def _release(self) -> None:
        self._closed = True
        self._journal.close()
        self._lock.close()


def _record(*entries: str) -> bytes:
    """Return the payload of one journal record; a record is kept or lost as a whole, and so is a commit."""
    return f"[{','.join(entries)}]".encode("ascii")


def _journal_name(number: int) -> str:
    return f"journal-{number:08d}.log"


def _journal_number(name: str) -> int:
    return int(name.removeprefix("journal-").removesuffix(".log"))
