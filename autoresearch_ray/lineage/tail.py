"""What a run's lineage got since the last look, in the order of `sequence`: sealed parts, then the rest of the journal.

Nothing new costs two `stat` calls. Never writes. Does not own what the rows mean.
"""

from __future__ import annotations

import contextlib
import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from autoresearch_ray.lineage import codec, manifest, parts
from autoresearch_ray.lineage.journal import scan
from autoresearch_ray.lineage.manifest import Manifest, Part
from autoresearch_ray.lineage.parts import DamagedPart
from autoresearch_ray.lineage.schema import TableName
from autoresearch_ray.lineage.store import Recorded

Stamp = tuple[tuple[int, int], int]
"""Identity of the manifest file (it is replaced whenever it changes), and the bytes of the journal."""


class Tail:
    """Follows a run, live or finished, from its first row on.

    Args:
        folder: the run's folder.
        columns: the tables to follow, with the columns wanted of each, `sequence` among them.

    Attributes:
        damage: a sentence for each damaged file met so far; the rest is given.
    """

    def __init__(self, folder: Path, columns: Mapping[TableName, Sequence[str]]) -> None:
        self.folder = folder
        self.damage: tuple[str, ...] = ()
        self._columns = columns
        self._lineage = manifest.lineage_folder(folder)
        self._sequence = -1
        self._journal = ""
        self._offset = 0
        self._seen: Stamp | None = None

    def has_news(self) -> bool:
        """Say whether anything was written since `rows` last came to its end."""
        stamp = self._stamp()
        return stamp is None or stamp != self._seen

    def rows(self) -> Iterator[Recorded]:
        """Yield the rows that were not given yet, in the order of `sequence`, with flat memory.

        Rows from sealed parts have the columns asked for; those from the journal have all.

        Raises:
            RunError: the folder is not a run, or a newer engine wrote it.
        """
        before: Manifest | None = None
        while True:
            stamp, followed = self._stamp(), self._journal
            held = manifest.read(self.folder)
            with contextlib.suppress(FileNotFoundError):  # the driver has merged parts or rotated the journal
                yield from self._sealed(held, gone=held == before)
                yield from self._journaled(held, gone=held == before)
                self._seen = stamp if held.journal == followed else None
                return
            before = held

    def _stamp(self) -> Stamp | None:
        try:
            held = (self._lineage / "manifest.json").stat()
            journal = manifest.journal_path(self._lineage, self._journal).stat()
        except FileNotFoundError:
            return None
        return (held.st_ino, held.st_mtime_ns), journal.st_size

    def _sealed(self, held: Manifest, gone: bool) -> Iterator[Recorded]:
        since = self._sequence
        streams = [self._rows_of(held, table, since, gone) for table in self._columns]
        for recorded in heapq.merge(*streams, key=lambda recorded: recorded.sequence):
            self._sequence = recorded.sequence
            yield recorded

    def _rows_of(self, held: Manifest, table: TableName, since: int, gone: bool) -> Iterator[Recorded]:
        for part in held.parts_of(table):
            if part.last_sequence > since:
                yield from self._part(part, since, gone)

    def _part(self, part: Part, since: int, gone: bool) -> Iterator[Recorded]:
        within = (since + 1, part.last_sequence)
        try:
            for batch in parts.batches(self._lineage, part, self._columns[part.table], within):
                for row in batch.to_pylist():
                    if row["sequence"] > since:
                        yield Recorded(row["sequence"], part.table, row)
        except FileNotFoundError:
            if not gone:
                raise
            self._note(f"{manifest.part_path(self._lineage, part.table, part.name)} is missing")
        except DamagedPart as error:
            self._note(str(error))

    def _journaled(self, held: Manifest, gone: bool) -> Iterator[Recorded]:
        path = manifest.journal_path(self._lineage, held.journal)
        try:
            with path.open("rb") as file:
                known = held.journal == self._journal and path.stat().st_size >= self._offset
                start = file.seek(self._offset if known else 0)
                found = scan(file.read())
        except FileNotFoundError:
            if not gone:
                raise
            self._note(f"{path} is missing")
            return
        for hole in found.damage:
            self._note(f"{path} is damaged at byte {start + hole.offset}")
        for record in found.records:
            for entry in json.loads(record):
                if entry.get("table") in self._columns and entry["row"]["sequence"] > self._sequence:
                    row = codec.decode(entry["table"], entry["row"])
                    self._sequence = row["sequence"]
                    yield Recorded(row["sequence"], entry["table"], row)
        self._journal, self._offset = held.journal, start + found.end

    def _note(self, problem: str) -> None:
        sentence = f"{problem}: its rows are left out."
        if sentence not in self.damage:
            self.damage = (*self.damage, sentence)
