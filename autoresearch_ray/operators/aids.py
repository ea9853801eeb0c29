"""What an operator that reads has at hand besides whom it asks: checks, memory, and a place for what was said.

Owns nothing: a frozen bundle, put together where operators work (desk.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from autoresearch_ray.operators.novelty import Remembered
from autoresearch_ray.operators.transcripts import Exchange
from autoresearch_ray.training import preflight
from autoresearch_ray.training.preflight import Inspected


def _passes(source: str) -> str | None:
    return None


def _forgets(exchange: Exchange) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Aids:
    """By default static checks alone, and nothing is kept."""

    inspect: Callable[[str], Inspected] = preflight.inspect
    """Looks at a source without running it."""
    build: Callable[[str], str | None] = _passes
    """Builds the model without content; returns why it cannot be trained, or None."""
    builds_everything: bool = False
    """Whether proposals that cost no tokens are built too: where a training is dear."""
    remembered: Remembered = field(default_factory=Remembered)
    keep: Callable[[Exchange], None] = _forgets
    """Keeps what was asked and answered."""
    reasoned_crossovers: float = 0.25
    """Share of crossovers that ask although their parents can be merged."""
