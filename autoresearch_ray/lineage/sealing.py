"""When rows leave the journal for Parquet, and which parts are merged: a policy, pure.

Each row is written about log(rows) / log(fanout) times. Does not own the writing (store.py, parts.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoresearch_ray.lineage.manifest import Part


@dataclass(frozen=True, slots=True)
class Sealing:
    """When rows leave the journal for Parquet, and when parts are merged."""

    rows: int = 2000
    """Committed rows that are held in memory and in the journal at most."""
    bytes: int = 16 << 20
    """Journal bytes after which rows are sealed, however few they are."""
    fanout: int = 8
    """So many parts of one level are merged into one of the next."""
    merged_rows: int = 32_768
    """Parts are not merged into larger ones than this, which bounds how long the driver waits for a merge."""
    grace_seconds: float = 60.0
    """How long merged parts are kept for readers that began before."""

    def due(self, rows: int, journal_bytes: int) -> bool:
        """Say whether so many unsealed rows, in so many bytes of journal, are to be sealed now."""
        return rows >= self.rows or (rows > 0 and journal_bytes >= self.bytes)

    def mergeable(self, parts: Sequence[Part]) -> tuple[Part, ...]:
        """Return the first `fanout` neighbours of one level that are small enough to be one part, or nothing.

        Args:
            parts: those of one table, in the order of their sequences.
        """
        for start in range(len(parts) - self.fanout + 1):
            group = tuple(parts[start : start + self.fanout])
            if len({part.level for part in group}) == 1 and sum(part.rows for part in group) <= self.merged_rows:
                return group
        return ()
