"""The ids of a run's variants: whole, abbreviated, and those that were nearly meant.

Does not own names like `best` (query.py).
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from autoresearch_ray.errors import RunError

NEAR = 5
"""Ids that a sentence about an unknown or ambiguous one offers."""


class Ids:
    """Finds positions by ids.

    Args:
        run: the run's name, for sentences.
        ids: of all its variants, by position.
    """

    def __init__(self, run: str, ids: Sequence[str]) -> None:
        self._run = run
        self._ids = ids

    def position(self, identity: str) -> int | None:
        """Return the position of a whole id; None if there is none such."""
        return self._index.get(identity)

    def find(self, name: str) -> int:
        """Return the position of an id, or of the only one that begins so.

        Raises:
            RunError: there is none (near ids are offered), or several begin like that (some are listed).
        """
        prefix = name.lower()
        ordered = self._sorted
        start = bisect.bisect_left(ordered, prefix) if prefix else 0
        end = bisect.bisect_left(ordered, prefix + "~")
        if end == start + 1:
            return self._index[ordered[start]]
        if end > start:
            raise RunError(f"{name!r} is the beginning of {end - start} ids: {listing(ordered[start:end])}.")
        raise RunError(f"there is no variant {name!r} in {self._run}; near ids: {listing(self._near(prefix))}.")

    def _near(self, prefix: str) -> list[str]:
        """Return the ids that agree with a prefix in the most places."""
        names = np.array(self._sorted, dtype=np.bytes_)
        text = prefix.encode("ascii", "replace")[: names.itemsize]
        if not text or not self._ids:
            return self._sorted[:NEAR]
        letters = names.view(np.uint8).reshape(len(self._ids), -1)
        agree = (letters[:, : len(text)] == np.frombuffer(text, dtype=np.uint8)).sum(axis=1)
        return [self._sorted[place] for place in np.argsort(-agree, kind="stable")[:NEAR]]

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self._ids)}

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._ids)


def listing(names: Sequence[str]) -> str:
    """Return the first few names as words, and how many more there are."""
    return (
        ", ".join(names[:NEAR]) + (f" and {len(names) - NEAR} more" if len(names) > NEAR else "") if names else "none"
    )
