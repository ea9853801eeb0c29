"""Recognises a change that was made before, or is nearly one that failed, by its words alone. Thread-safe.

Owns what operators remember of the births they made. Does not own how births end (they are told through ideas), nor
duplicates of everything ever born (the driver knows those).
"""

from __future__ import annotations

import ast
import math
import re
import threading
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from autoresearch_ray.errors import RunError
from autoresearch_ray.lineage import snapshot
from autoresearch_ray.operators.edit import one_line
from autoresearch_ray.operators.ideas import clear_gain, outcome
from autoresearch_ray.operators.request import Idea
from autoresearch_ray.variant import Status, Variant, parse

MOST_REMEMBERED = 2048
MOST_RECALLED = 200
"""Of earlier sittings, when a run goes on."""
MOST_FEATURES = 256
"""Of a change: of larger ones the features with the smallest hashes stand for all (a bottom-k sketch)."""
_WORD = re.compile(r"\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\w+|[^\w\s]")
_SHORT = 6


@dataclass(frozen=True, slots=True)
class Change:
    """What a variant changed of its parent, as a set of hashed words, and what it was."""

    variant_id: str
    parent: str
    """Variant id of the first parent."""
    identity: str | None
    """As preflight gives it."""
    features: frozenset[int]


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a change may not be worth a training."""

    reason: str
    """A sentence without its full stop."""
    certain: bool
    """True: it would be the same again. False: it failed under other circumstances, and whoever insists may try."""


def features(source: str, parent: str) -> frozenset[int]:
    """Return what tells a change from others: the words of removed and added lines, without comments and layout.

    Numbers count with two digits, so that 0.1 and 0.1001 are the same; the order of lines does not count.
    """
    before, after = _lines(parent), _lines(source)
    found = set()
    for sign, lines in (("-", before - after), ("+", after - before)):
        for line in lines:
            words = [_rounded(word) for word in _WORD.findall(line)]
            pairs = zip(["", *words], [*words, ""], strict=True)
            found |= {zlib.crc32(f"{sign}{one} {other}".encode()) for one, other in pairs}
            found.add(zlib.crc32(f"{sign}{' '.join(words)}".encode()))
    return frozenset(sorted(found)[:MOST_FEATURES])


def likeness(one: frozenset[int], other: frozenset[int]) -> float:
    """Return how much two changes have in common, from 0 to 1 (Jaccard)."""
    if not one or not other:
        return 0.0
    return len(one & other) / len(one | other)


class Remembered:
    """The changes that operators made, and which of them failed; the oldest are forgotten."""

    def __init__(self, threshold: float = 0.9) -> None:
        """Remember nothing yet.

        Args:
            threshold: likeness at which a change counts as nearly one that failed.
        """
        self._threshold = threshold
        self._changes: OrderedDict[str, Change] = OrderedDict()
        self._failed: dict[str, str] = {}
        self._lock = threading.Lock()

    def note(self, change: Change) -> None:
        """Remember a change that was proposed."""
        with self._lock:
            self._changes[change.variant_id] = change
            if len(self._changes) > MOST_REMEMBERED:
                gone, _ = self._changes.popitem(last=False)
                self._failed.pop(gone, None)

    def hear(self, ideas: Iterable[Idea]) -> None:
        """Take in how births ended: what crashed, ran out of time, was rejected or clearly lost has failed."""
        with self._lock:
            for idea in ideas:
                if idea.status is not Status.LOST and clear_gain(idea) < 0 and idea.variant_id in self._changes:
                    self._failed[idea.variant_id] = f"{one_line(idea.hypothesis, 120)}: {outcome(idea)}"

    def objection(self, change: Change) -> Objection | None:
        """Return what speaks against a change that is about to be proposed, or None."""
        with self._lock:
            for other in reversed(self._changes.values()):
                same = change.identity is not None and other.identity == change.identity
                if same and other.variant_id != change.variant_id:
                    return Objection(f"duplicate: the same program as {other.variant_id[:_SHORT]}", certain=True)
            return self._nearly(change)

    def _nearly(self, change: Change) -> Objection | None:
        found = [
            (likeness(change.features, other.features), other)
            for name, other in self._changes.items()
            if name in self._failed and name != change.variant_id
        ]
        alike, other = max(found, key=lambda pair: pair[0], default=(0.0, None))
        if other is None or alike < self._threshold:
            return None
        kin = other.parent == change.parent
        where = "on the same parent" if kin else "on another parent"
        reason = (
            f"nearly the same change failed {where} ({other.variant_id[:_SHORT]}, {self._failed[other.variant_id]})"
        )
        return Objection(reason, certain=kin)


def change_of(variant_id: str, source: str, parent: Variant, identity: str | None) -> Change:
    """Return what a source changes of its first parent."""
    return Change(variant_id, parent.variant_id, identity, features(source, parent.source))


def recall(run: Path, remembered: Remembered, most: int = MOST_RECALLED) -> None:
    """Take in the last changes that earlier sittings of a run made with a language model, from its lineage.

    How they ended is told later, as of all births. Nothing is taken in from a folder that is no run yet.
    """
    with suppress(RunError, OSError):
        wanted = ("sequence", "variant_id", "parents", "ast_hash", "model")
        rows = snapshot.read(run).variants.select(wanted).to_pylist()
        sequences = {row["variant_id"]: row["sequence"] for row in rows}
        made = [row for row in rows if row["model"] is not None and row["ast_hash"] is not None][-most:]
        needed = {
            sequences[name] for row in made for name in (row["variant_id"], row["parents"][0]) if name in sequences
        }
        fetched = snapshot.fetch(run, "variants", needed, ("variant_id", "source"))
        sources = {row["variant_id"]: row["source"] or "" for row in fetched.values()}
        for row in made:
            name, parent = row["variant_id"], row["parents"][0]
            found = features(sources.get(name, ""), sources.get(parent, ""))
            remembered.note(Change(name, parent, row["ast_hash"], found))


@lru_cache(maxsize=64)
def _lines(source: str) -> Counter[str]:
    """Return the lines of a source without their indentation; those of Python as the parser has them."""
    try:
        text = ast.unparse(parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        text = source
    return Counter(line for raw in text.splitlines() if (line := raw.strip()))


def _rounded(word: str) -> str:
    """Return a number with two digits, and any other word as it is."""
    if not word[0].isdigit():
        return word
    try:
        value = float(word)
    except ValueError:
        return word
    return f"{value:.1e}" if math.isfinite(value) else word
