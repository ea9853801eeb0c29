"""What a driver remembers of the births before: parents with their sources, and recent ideas.

Owns two bounded lists in front of the lineage. Does not own standings (state.py).
"""

from __future__ import annotations

from collections import OrderedDict, deque

from autoresearch_ray.evolution.state import State
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators.request import Idea
from autoresearch_ray.variant import Variant

SOURCES = 16 << 20
"""Characters of sources that are kept; an ancestor used longer ago than that is read from the lineage."""
VARIANTS = 2048
"""Variants that are kept at most, however short their sources are."""
IDEAS = 64
"""Ideas that later prompts may be told of; how many fit is the prompt's affair."""


class Memory:
    """The last variants used as parents or ancestors, and the last ideas tried."""

    def __init__(self, lineage: LineageStore, state: State) -> None:
        self._lineage = lineage
        self._state = state
        self._variants: OrderedDict[int, Variant] = OrderedDict()
        self._characters = 0
        self._ideas: deque[Idea] = deque(maxlen=IDEAS)

    @property
    def ideas(self) -> tuple[Idea, ...]:
        """The last ideas, newest first."""
        return tuple(reversed(self._ideas))

    def note(self, idea: Idea) -> None:
        """Keep an idea, and forget the oldest."""
        self._ideas.append(idea)

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
