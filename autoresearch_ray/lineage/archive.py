"""A run's rows in their order, only read: what a new run takes over from another is folded from these.

Takes no lock, so that a live run can be read. Does not own what rows mean, or files (snapshot.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from pathlib import Path

from autoresearch_ray.lineage.schema import TABLES, TableName
from autoresearch_ray.lineage.snapshot import Tables
from autoresearch_ray.lineage.store import Recorded
from autoresearch_ray.variant import Birth, Variant

_BATCH_ROWS = 4096


class Archive:
    """One snapshot of a run, as a fold wants to read it; what is in flight there is nobody else's affair."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self._tables.folder

    def open_births(self) -> tuple[Birth, ...]:
        """Return no births."""
        return ()

    def open_proposals(self) -> tuple[Variant, ...]:
        """Return no variants."""
        return ()

    def replay(self, tables: Collection[TableName] = TABLES) -> Iterator[Recorded]:
        """Yield every row of some tables in the order of `sequence`, without sources, curves and log tails."""
        streams = [self._rows(table) for table in TABLES if table in tables]
        yield from heapq.merge(*streams, key=lambda recorded: recorded.sequence)

    def _rows(self, table: TableName) -> Iterator[Recorded]:
        for batch in getattr(self._tables, table).to_batches(_BATCH_ROWS):
            for row in batch.to_pylist():
                yield Recorded(row["sequence"], table, row)
