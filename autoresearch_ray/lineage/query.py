"""The reading side: a consistent snapshot of a run, live or finished, and the questions that every view asks of it.

Never writes and takes no lock. Does not own rendering (explore/) or what scores mean (evolution/noise.py).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from autoresearch_ray.errors import RunError
from autoresearch_ray.lineage import codec, files, manifest, parts
from autoresearch_ray.lineage.journal import scan
from autoresearch_ray.lineage.manifest import Manifest, Part
from autoresearch_ray.lineage.parts import DamagedPart
from autoresearch_ray.lineage.schema import SCHEMAS, TABLES, Row, TableName


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
    for snapshot in _snapshots(folder):
        try:
            found = {table: snapshot.table(table, bulky) for table in TABLES}
        except FileNotFoundError:
            continue
        return Tables(folder, snapshot.held.run, **found, damage=tuple(snapshot.damage))
    raise AssertionError("unreachable: the last snapshot does not raise FileNotFoundError")


def fetch(folder: Path, table: TableName, sequences: Collection[int], columns: Sequence[str]) -> dict[int, Row]:
    """Read some columns of a few rows, bulky ones included, by sequence; rows in damaged parts are missing.

    Raises:
        RunError: the folder is not a run, or a newer engine wrote it.
    """
    for snapshot in _snapshots(folder):
        try:
            return snapshot.rows(table, frozenset(sequences), ["sequence", *columns])
        except FileNotFoundError:
            continue
    raise AssertionError("unreachable: the last snapshot does not raise FileNotFoundError")


# ------------------------------------------------------------------------------------------------------ finding runs


def runs(storage: Path) -> list[Path]:
    """Return the folders of the runs in a storage folder, the one written to last first."""
    if not storage.is_dir():
        return []
    return sorted((path for path in storage.iterdir() if manifest.exists(path)), key=last_written, reverse=True)


def last_written(folder: Path) -> float:
    """Return when a run was last written to, in seconds since the epoch."""
    journals = manifest.lineage_folder(folder) / "journal"
    return max((path.stat().st_mtime for path in journals.iterdir()), default=folder.stat().st_mtime)


def find_run(storage: Path, name: str | None = None) -> Path:
    """Return the folder of a run: by its name in the storage folder, by its path, or the newest.

    Raises:
        RunError: there is none (near names are offered), or the folder is not a run.
    """
    known = runs(storage)
    if name is None:
        if not known:
            raise RunError(f"there is no run in {storage}: start one with `autoresearch-ray run`, or name its folder.")
        return known[0]
    candidates = [storage / name, Path(name)]
    for candidate in candidates:
        if manifest.exists(candidate):
            return candidate
    for candidate in candidates:
        if candidate.exists():
            raise RunError(f"{candidate} is not a run: it has no lineage/manifest.json.")
    near = difflib.get_close_matches(name, [path.name for path in known], n=3, cutoff=0.5)
    offer = f"did you mean {' or '.join(near)}?" if near else f"there are {_listing([path.name for path in known])}."
    raise RunError(f"there is no run {name!r} in {storage}: {offer}")


def is_live(folder: Path) -> bool:
    """Say whether a driver is writing the run now."""
    return files.is_locked(manifest.lineage_folder(folder) / "lock")


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "none"


# --------------------------------------------------------------------------------------------------------- snapshots


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


def _snapshots(folder: Path) -> Iterator[_Snapshot]:
    """Yield snapshots until one could be read whole: sealing and compaction may delete files under a reader."""
    before: Manifest | None = None
    while True:
        held = manifest.read(folder)
        last = held == before
        before = held
        try:
            snapshot = _Snapshot(folder, held, last)
        except FileNotFoundError:
            continue
        yield snapshot
