"""From a lineage on disk to streams for `git fast-import`, as far as rows have come, in pieces of bounded size.

Does not own what a commit says (projection.py) or git's processes (repository.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoresearch_ray.lineage import fast_import, snapshot
from autoresearch_ray.lineage.projection import COLUMNS, Birth, Projection
from autoresearch_ray.lineage.tail import Tail

SEGMENT = 20_000
"""Commits that one process of git writes at most: what a kill can cost, and loose refs before they are packed."""

SOURCES = 2000
"""Sources that are in memory at once: about a row group of the lineage."""

_HEADS = ("champion", "best", "seed")
"""What HEAD names: the first of these branches that there is."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stream that git takes as a whole or not at all; the next one builds on it."""

    stream: Iterator[bytes]
    commits: int
    head: str
    """The ref that HEAD is to name afterwards."""


class Projector:
    """Follows one lineage for one repository; when a segment could not be written it must not be used again.

    Args:
        folder: the run's folder.
        done: the variants' refs that the repository has already.
    """

    def __init__(self, folder: Path, done: Collection[str]) -> None:
        self._folder = folder
        self._tail = Tail(folder, COLUMNS)
        self._projection = Projection(done)
        self._branches: dict[str, str] = {}
        self._noted = False

    def segments(self) -> Iterator[Segment]:
        """Yield what is new, parents first. The first time branches and notes are set anew: a kill may have cut them.

        Raises:
            RunError: the folder is not a run, or a newer engine wrote it.
        """
        if not self._tail.has_news():
            return
        births: list[Birth] = []
        for recorded in self._tail.rows():
            births += self._projection.take(recorded)
            if len(births) >= SEGMENT:
                yield from self._segment(births)
                births = []
        if self._tail.damage:
            births += self._projection.abandon()
        yield from self._segment(births)

    def _segment(self, births: Sequence[Birth]) -> Iterator[Segment]:
        branches, notes = self._projection.branches(), self._projection.pop_notes()
        moved = {branch: ref for branch, ref in branches.items() if self._branches.get(branch) != ref}
        if births or moved or notes:
            heads = (ref for ref in map(fast_import.branch_ref, _HEADS) if ref in branches)
            head = next(heads, fast_import.branch_ref("best"))
            yield Segment(self._stream(births, moved, notes), len(births), head)
            self._branches = branches

    def _stream(self, births: Sequence[Birth], moved: Mapping[str, str], notes: Mapping[str, str]) -> Iterator[bytes]:
        for start in range(0, len(births), SOURCES):
            chunk = births[start : start + SOURCES]
            sources = self._sources(chunk)
            for birth in chunk:
                yield fast_import.commit(birth.commit, sources[birth.sequence])
        for branch, ref in moved.items():
            yield fast_import.point(branch, ref)
        if notes:
            yield fast_import.annotate(notes, self._projection.now, afresh=not self._noted)
            self._noted = True
        yield fast_import.DONE

    def _sources(self, births: Sequence[Birth]) -> dict[int, str]:
        """Return sources by sequence; one that a damaged part has lost is empty."""
        missing = {birth.sequence for birth in births if birth.source is None}
        found = snapshot.fetch(self._folder, "variants", missing, ["source"]) if missing else {}
        fetched = {sequence: found.get(sequence, {}).get("source") or "" for sequence in missing}
        return fetched | {birth.sequence: birth.source for birth in births if birth.source is not None}
