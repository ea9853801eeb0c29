"""Reflection: one call that reads what worked and what failed, and writes short notes for later prompts.

Owns the call and what is kept of its reply. Does not own when it is made (the driver), or its wording (prompt.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from autoresearch_ray.operators import prompt
from autoresearch_ray.operators.aids import Aids
from autoresearch_ray.operators.ensemble import CallFailed
from autoresearch_ray.operators.mutation import Asks, keeping
from autoresearch_ray.operators.request import Request
from autoresearch_ray.variant import Usage

LONGEST_LINE = 300
"""Characters of one note; what goes beyond is cut off."""
_REASONING = re.compile(r"\A.*</(?:think|thinking|reasoning)>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reflected:
    """What a reflection wrote down."""

    notes: str | None
    """Lines that begin with `- `; None when there was no usable reply, and the earlier notes stay."""
    usage: Usage = field(default_factory=Usage)


def reflect(request: Request, asks: Asks, rng: np.random.Generator, aids: Aids) -> Reflected:
    """Let a model write the notes anew from a request's notes and ideas; without ideas nobody is asked."""
    if not request.ideas:
        return Reflected(None)
    sent = prompt.reflection(request)
    if asks.count(sent) > asks.max_prompt_tokens:
        return Reflected(None)
    answer = keeping(request, "reflection", sent, aids, lambda: asks.ask(sent, rng))
    if isinstance(answer, CallFailed):
        return Reflected(None, answer.usage)
    return Reflected(notes_of(answer.text), answer.usage)


def notes_of(reply: str) -> str | None:
    """Return the lines of a reply that begin with `- ` or `* `, at most so many; None when there are none."""
    lines = [line.strip() for line in _REASONING.sub("", reply, count=1).splitlines()]
    found = [f"- {line[2:].strip()[:LONGEST_LINE]}" for line in lines if line[:2] in ("- ", "* ") and line[2:].strip()]
    return "\n".join(found[: prompt.MOST_NOTES]) or None
