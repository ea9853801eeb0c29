"""The reading side: a consistent snapshot of a run, live or finished, while its driver seals and compacts.

Never writes and takes no lock. Does not own the questions asked of the rows (query.py).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from autoresearch_ray.lineage import codec, manifest, parts
from autoresearch_ray.lineage.journal import scan
from autoresearch_ray.lineage.manifest import Manifest, Part
from autoresearch_ray.lineage.parts import DamagedPart
from autoresearch_ray.lineage.schema import SCHEMAS, TABLES, Row, TableName

_Loaded = TypeVar("_Loaded")


@dataclass(frozen=True, slots=True)
class Tables:
    """All rows of a run at one moment, each table in the order of `sequence`."""

    folder: Path
    run: str
    variants: pa.Table
    experiments: pa.Table
    champions: pa.Table
    events: pa.Table
    damage: tuple[str, ...] = ()
    """A sentence for each damaged file; the rest was read."""


def read(folder: Path, *, bulky: bool = False) -> Tables:
    """Read a run, also while its driver writes: sealed parts and the journal's rows, none twice.

    Args:
        folder: the run's folder.
        bulky: with sources, curves and log tails. Without, the tables lack those columns, and 300,000 births fit in
            memory; `fetch` gets them for single rows.

    Raises:
        RunError: the folder is not a run, or a newer engine wrote it.
    """

    def load(snapshot: _Snapshot) -> Tables:
        found = {table: snapshot.table(table, bulky) for table in TABLES}
        return Tables(folder, snapshot.held.run, **found, damage=tuple(snapshot.damage))

    return _whole(folder, load)


def fetch(folder: Path, table: TableName, sequences: Collection[int], columns: Sequence[str]) -> dict[int, Row]:
    """Read some columns of a few rows, bulky ones included, by sequence; rows in damaged parts are missing.

    Raises:
        RunError: the folder is not a run, or a newer engine wrote it.
    """
    return _whole(folder, lambda snapshot: snapshot.rows(table, frozenset(sequences), ["sequence", *columns]))


class _Snapshot:
    """One manifest, the journal it names, and its parts; FileNotFoundError when the driver has replaced them."""

    def __init__(self, folder: Path, held: Manifest, last: bool) -> None:
        self.held = held
        self.damage: list[str] = []
        self._lineage = manifest.lineage_folder(folder)
        self._last = last
        """The manifest has not changed since a file was missing, so that it is missing for good."""
        self._journaled = self._read_journal()

    def table(self, table: TableName, bulky: bool) -> pa.Table:
        """Return all rows of a table."""
        columns = SCHEMAS[table].names if bulky else parts.light_columns(table)
        pieces = [batch for part in self.held.parts_of(table) for batch in self._batches(part, columns)]
        schema = pa.schema([SCHEMAS[table].field(name) for name in columns], metadata=SCHEMAS[table].metadata)
        rows = [{name: row[name] for name in columns} for row in self._journaled[table]]
        return pa.concat_tables([*pieces, pa.Table.from_pylist(rows, schema=schema)]).combine_chunks()

    def rows(self, table: TableName, sequences: frozenset[int], columns: Sequence[str]) -> dict[int, Row]:
        """Return some rows of a table by sequence, reading no more row groups than needed."""
        found: dict[int, Row] = {}
        for part in self.held.parts_of(table):
            wanted = [sequence for sequence in sequences if part.first_sequence <= sequence <= part.last_sequence]
            if wanted:
                for batch in self._batches(part, columns, (min(wanted), max(wanted))):
                    found |= {row["sequence"]: row for row in batch.to_pylist() if row["sequence"] in sequences}
        for row in self._journaled[table]:
            if row["sequence"] in sequences:
                found[row["sequence"]] = {name: row[name] for name in columns}
        return found

    def _batches(self, part: Part, columns: Sequence[str], within: tuple[int, int] | None = None) -> Iterator[pa.Table]:
        try:
            yield from parts.batches(self._lineage, part, columns, within)
        except FileNotFoundError:
            if not self._last:
                raise
            self._note(f"{manifest.part_path(self._lineage, part.table, part.name)} is missing")
        except DamagedPart as error:
            self._note(str(error))

    def _read_journal(self) -> dict[TableName, list[Row]]:
        path = manifest.journal_path(self._lineage, self.held.journal)
        try:
            found = scan(path.read_bytes())
        except FileNotFoundError:
            if not self._last:
                raise
            self._note(f"{path} is missing")
            found = scan(b"")
        self.damage += [hole.sentence(path) for hole in found.damage]
        rows: dict[TableName, list[Row]] = {table: [] for table in TABLES}
        for entry in _entries(found.records):
            if "table" in entry:
                rows[entry["table"]].append(codec.decode(entry["table"], entry["row"]))
        return rows

    def _note(self, problem: str) -> None:
        sentence = f"{problem}: its rows are left out, the rest is shown."
        if sentence not in self.damage:
            self.damage.append(sentence)


def _entries(records: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    for record in records:
        yield from json.loads(record)


def _whole(folder: Path, load: Callable[[_Snapshot], _Loaded]) -> _Loaded:
    """Load from one snapshot, and again from a newer one as long as the driver deletes files under the reader."""
    before: Manifest | None = None
    while True:
        held = manifest.read(folder)
        with contextlib.suppress(FileNotFoundError):
            return load(_Snapshot(folder, held, last=held == before))
        before = held
