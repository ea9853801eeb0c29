"""The reading side: a consistent snapshot of a run, live or finished, while its driver seals and compacts.

Never writes and takes no lock. Does not own the questions asked of the rows (query.py).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from autoresearch_ray.lineage import codec, manifest, parts
from autoresearch_ray.lineage.journal import scan
from autoresearch_ray.lineage.manifest import Manifest, Part
from autoresearch_ray.lineage.parts import DamagedPart
from autoresearch_ray.lineage.schema import SCHEMAS, TABLES, Row, TableName

if TYPE_CHECKING:
    import pyarrow.dataset as ds

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


Columns = Mapping[TableName, Sequence[str]]


def read(folder: Path, *, bulky: bool = False, only: Columns | None = None) -> Tables:
    """Read a run, also while its driver writes: sealed parts and the journal's rows, none twice.

    Args:
        folder: the run's folder.
        bulky: with sources, curves and log tails. Without, the tables lack those columns, and 300,000 births fit in
            memory; `fetch` gets them for single rows.
        only: these columns of some tables, for who looks at a large run for a moment; of the others as `bulky` says.

    Raises:
        RunError: the folder is not a run, or a newer engine wrote it.
    """

    def load(snapshot: _Snapshot) -> Tables:
        columns = {table: SCHEMAS[table].names if bulky else parts.light_columns(table) for table in TABLES}
        found = {table: snapshot.table(table, names) for table, names in (columns | dict(only or {})).items()}
        return Tables(folder, snapshot.held.run, **found, damage=tuple(snapshot.damage))

    return _whole(folder, load)


def fetch(folder: Path, table: TableName, sequences: Collection[int], columns: Sequence[str]) -> dict[int, Row]:
    """Read some columns of a few rows, bulky ones included, by sequence; rows in damaged parts are missing.

    Raises:
        RunError: the folder is not a run, or a newer engine wrote it.
    """
    wanted = list(dict.fromkeys(["sequence", *columns]))
    return _whole(folder, lambda snapshot: snapshot.rows(table, frozenset(sequences), wanted))


@dataclass(frozen=True, slots=True)
class Datasets:
    """A run's tables as datasets on its files, bulky columns included; nothing is read before it is asked for."""

    run: str
    tables: dict[TableName, ds.Dataset]
    damage: tuple[str, ...] = ()
    """A sentence for each file that is left out."""


def datasets(folder: Path) -> Datasets:
    """Return a run's tables as datasets, whose files last at least for a minute while a driver writes.

    A part whose footer cannot be read is left out and named; one with a damaged page raises when it is scanned.

    Raises:
        RunError: the folder is not a run, or a newer engine wrote it.
    """

    def load(snapshot: _Snapshot) -> Datasets:
        tables = {table: snapshot.dataset(table) for table in TABLES}
        return Datasets(snapshot.held.run, tables, tuple(snapshot.damage))

    return _whole(folder, load)


def damage(folder: Path) -> tuple[str, ...]:
    """Read every page of a run and return a sentence for each damaged file (Raises RunError: it is not a run)."""

    def load(snapshot: _Snapshot) -> tuple[str, ...]:
        for table in TABLES:
            for part in snapshot.held.parts_of(table):
                snapshot.scan(part)
        return tuple(snapshot.damage)

    return _whole(folder, load)


class _Snapshot:
    """One manifest, the journal it names, and its parts; FileNotFoundError when the driver has replaced them."""

    def __init__(self, folder: Path, held: Manifest, last: bool) -> None:
        self.held = held
        self.damage: list[str] = []
        self._lineage = manifest.lineage_folder(folder)
        self._last = last
        """The manifest has not changed since a file was missing, so that it is missing for good."""
        self._journaled = self._read_journal()

    def table(self, table: TableName, columns: Sequence[str]) -> pa.Table:
        """Return some columns of all rows of a table."""
        pieces = [piece for part in self.held.parts_of(table) for piece in self._part(part, columns)]
        schema = pa.schema([SCHEMAS[table].field(name) for name in columns], metadata=SCHEMAS[table].metadata)
        rows = [{name: row[name] for name in columns} for row in self._journaled[table]]
        return pa.concat_tables([*pieces, pa.Table.from_pylist(rows, schema=schema)]).combine_chunks()

    def dataset(self, table: TableName) -> ds.Dataset:
        """Return a table as a dataset over its sound parts and the journal's rows."""
        import pyarrow.dataset as ds  # a quarter of a second that other commands need not wait

        sound = []
        for part in self.held.parts_of(table):
            with self._noting(part):
                problem = parts.check(self._lineage, part)
                path = manifest.part_path(self._lineage, table, part.name)
                if problem is not None and not path.exists():
                    raise FileNotFoundError(path)
                if problem is not None:
                    raise DamagedPart(part, problem)
                sound.append(str(path))
        schema = SCHEMAS[table]
        fresh = pa.Table.from_pylist(self._journaled[table], schema=schema)
        pieces = [ds.dataset(sound, schema=schema, format="parquet")] if sound else []
        return ds.dataset([*pieces, ds.dataset(fresh)])

    def scan(self, part: Part) -> None:
        """Read a part's pages, to note the damage."""
        for _ in self._batches(part, SCHEMAS[part.table].names):
            pass

    def rows(self, table: TableName, sequences: frozenset[int], columns: Sequence[str]) -> dict[int, Row]:
        """Return some rows of a table by sequence, reading no more row groups than needed."""
        found: dict[int, Row] = {}
        for part in self.held.parts_of(table):
            wanted = [sequence for sequence in sequences if part.first_sequence <= sequence <= part.last_sequence]
            if wanted:
                for batch in self._batches(part, columns, (min(wanted), max(wanted))):
                    chosen = batch.filter(pc.is_in(batch["sequence"], value_set=pa.array(wanted, pa.int64())))
                    found |= {row["sequence"]: row for row in chosen.to_pylist()}
        for row in self._journaled[table]:
            if row["sequence"] in sequences:
                found[row["sequence"]] = {name: row[name] for name in columns}
        return found

    def _part(self, part: Part, columns: Sequence[str]) -> list[pa.Table]:
        found: list[pa.Table] = []
        with self._noting(part):
            found.append(parts.whole(self._lineage, part, columns))
        return found

    def _batches(self, part: Part, columns: Sequence[str], within: tuple[int, int] | None = None) -> Iterator[pa.Table]:
        with self._noting(part):
            yield from parts.batches(self._lineage, part, columns, within)

    @contextlib.contextmanager
    def _noting(self, part: Part) -> Iterator[None]:
        """Note a part that is damaged or missing for good, and go on without it."""
        try:
            yield
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
