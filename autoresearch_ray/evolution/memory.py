"""What a driver remembers of the births before: recent variants with their sources, and recent ideas.

Owns two bounded lists in front of the lineage. Does not own standings (state.py).
"""

from __future__ import annotations

from collections import OrderedDict, deque

from autoresearch_ray.evolution.state import State
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.snapshot import fetch
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators.request import Idea
from autoresearch_ray.variant import Variant

VARIANTS = 256
"""Variants whose sources are kept; an ancestor older than that is read from the lineage."""
IDEAS = 64
"""Ideas that later prompts may be told of; how many fit is the prompt's affair."""


class Memory:
    """The last variants used as parents or made, and the last ideas tried."""

    def __init__(self, lineage: LineageStore, state: State) -> None:
        self._lineage = lineage
        self._state = state
        self._variants: OrderedDict[int, Variant] = OrderedDict()
        self._ideas: deque[Idea] = deque(maxlen=IDEAS)

    @property
    def ideas(self) -> tuple[Idea, ...]:
        """The last ideas, newest first."""
        return tuple(reversed(self._ideas))

    def note(self, idea: Idea) -> None:
        """Keep an idea, and forget the oldest."""
        self._ideas.append(idea)

    def keep(self, variant: Variant) -> None:
        """Keep a variant, and forget the one that was used least recently."""
        self._variants[variant.birth.number] = variant
        self._variants.move_to_end(variant.birth.number)
        if len(self._variants) > VARIANTS:
            self._variants.popitem(last=False)

    def recall(self, number: int) -> Variant:
        """Return a variant with its source (Raises LookupError: its birth has not ended and it is not remembered)."""
        if number not in self._variants:
            self._lineage.commit()
            sequence = self._state.sequence(number)
            rows = fetch(self._lineage.folder, "variants", [sequence], schema.SCHEMAS["variants"].names)
            self.keep(schema.variant_of(rows[sequence]))
        return self._variants[number]
