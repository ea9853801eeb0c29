"""What a driver remembers of the births before: parents with their sources, and recent ideas.

Owns two bounded lists in front of the lineage. Does not own standings (state.py).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any

from autoresearch_ray.evolution.state import State
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators.request import Idea
from autoresearch_ray.variant import Status, Variant

SOURCES = 16 << 20
"""Characters of sources that are kept; an ancestor used longer ago than that is read from the lineage."""
VARIANTS = 2048
"""Variants that are kept at most, however short their sources are."""
IDEAS = 256
"""Ideas that later prompts may be told of; which of them, and how many fit, is the prompt's affair."""
CURVES = 256
"""Training curves that are kept; a parent whose last training is longer ago is shown without."""


class Memory:
    """The last variants used as parents or ancestors, the last ideas tried, and the notes on them.

    Attributes:
        notes: what the last reflection wrote down.
        noted: number of the birth before which that was.
    """

    def __init__(self, lineage: LineageStore, state: State) -> None:
        self._lineage = lineage
        self._state = state
        self._variants: OrderedDict[int, Variant] = OrderedDict()
        self._characters = 0
        self._ideas: deque[Idea] = deque(maxlen=IDEAS)
        self._curves: OrderedDict[int, tuple[tuple[float, float], ...]] = OrderedDict()
        self.notes = ""
        self.noted = 0

    @property
    def ideas(self) -> tuple[Idea, ...]:
        """The last ideas, newest first."""
        return tuple(reversed(self._ideas))

    def note(self, idea: Idea) -> None:
        """Keep an idea, and forget the oldest."""
        self._ideas.append(idea)

    def draw(self, number: int, curve: tuple[tuple[float, float], ...]) -> None:
        """Keep the training curve of a birth, and forget the oldest."""
        if curve:
            self._curves[number] = curve
            if len(self._curves) > CURVES:
                self._curves.popitem(last=False)

    def curve(self, number: int) -> tuple[tuple[float, float], ...]:
        """Return the curve of a birth's last training, as far as it is kept."""
        return self._curves.get(number, ())

    def keep(self, variant: Variant) -> None:
        """Keep a variant, and forget those that were used least recently."""
        number = variant.birth.number
        if number not in self._variants:
            self._characters += len(variant.source)
        self._variants[number] = variant
        self._variants.move_to_end(number)
        while len(self._variants) > 1 and (len(self._variants) > VARIANTS or self._characters > SOURCES):
            self._characters -= len(self._variants.popitem(last=False)[1].source)

    def recall(self, number: int) -> Variant:
        """Return a variant with its source (Raises LookupError: its birth has not ended and it is not remembered)."""
        if number not in self._variants:
            self.keep(schema.variant_of(self._lineage.fetch("variants", self._state.sequence(number))))
        return self._variants[number]


def idea_record(idea: Idea) -> dict[str, Any]:
    """Return an idea as plain JSON values, without the log of what crashed."""
    return {
        "variant_id": idea.variant_id,
        "hypothesis": idea.hypothesis,
        "status": idea.status.value,
        "gain": idea.gain,
        "error": idea.error,
        "reason": idea.reason,
        "parents": list(idea.parents),
        "island": idea.island,
        "model": idea.model,
    }


def ideas_of(details: Mapping[str, Any]) -> tuple[Idea, ...]:
    """Return the ideas in the details of an event `carried`, oldest first."""
    return tuple(
        Idea(**{**record, "status": Status(record["status"]), "parents": tuple(record["parents"])})
        for record in details["ideas"]
    )
