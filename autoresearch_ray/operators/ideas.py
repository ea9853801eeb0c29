"""Which earlier births a prompt tells of, in which order, and how one is worded in a line. Pure.

Does not own how many fit (prompt.py), or where ideas come from (the driver).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoresearch_ray.operators.edit import one_line
from autoresearch_ray.operators.request import Idea, Request
from autoresearch_ray.variant import Status

MOST_NEARBY = 24
MOST_BEST = 6
MOST_OTHERS = 24
TAIL_LINES = 8
_TAIL_CHARACTERS = 200
_LONGEST_LINE = 300
_SHORT = 6
CLEAR = 2.0
"""A gain or loss is clear when it is larger than so many of its standard errors."""


@dataclass(frozen=True, slots=True)
class Told:
    """The ideas of a prompt, each in one of three lists."""

    nearby: tuple[Idea, ...]
    """Children of the parents and of their parents, newest first."""
    best: tuple[Idea, ...]
    """Those of the island that gained most, the largest gain first; only what is beyond the noise."""
    others: tuple[Idea, ...]
    """The rest, newest first."""


def choose(request: Request) -> Told:
    """Sort a request's ideas (newest first) into what is nearby, what was best, and the rest."""
    parents = {parent.variant.variant_id for parent in request.parents}
    kin = parents | {name for parent in request.parents for name in parent.variant.parents}
    own = [idea for idea in request.ideas if idea.variant_id not in parents and _says_something(idea)]
    nearby = [idea for idea in own if kin.intersection(idea.parents)][:MOST_NEARBY]
    taken = {idea.variant_id for idea in nearby}
    home = request.birth.island
    gained = [idea for idea in own if clear_gain(idea) > 0 and idea.island in (None, home)]
    best = sorted(gained, key=lambda idea: -(idea.gain or 0.0))[:MOST_BEST]
    best = [idea for idea in best if idea.variant_id not in taken]
    taken |= {idea.variant_id for idea in best}
    others = [idea for idea in own if idea.variant_id not in taken][:MOST_OTHERS]
    return Told(tuple(nearby), tuple(best), tuple(others))


def _says_something(idea: Idea) -> bool:
    """Return whether there was an idea: of an operator that failed there often is none."""
    return idea.status is not Status.OPERATOR_FAILED or bool(idea.hypothesis)


def clear_gain(idea: Idea) -> int:
    """Return 1 for a gain beyond the noise, -1 for a loss beyond it, else 0; what was not scored has lost."""
    if idea.gain is None:
        return 0 if idea.status is Status.COMPLETED else -1
    if abs(idea.gain) <= CLEAR * (idea.error or 0.0):
        return 0
    return 1 if idea.gain > 0 else -1


def worded(ideas: Sequence[Idea], tails: Sequence[str] = ()) -> str:
    """Return a line an idea; those whose variant ids are in `tails` with the end of what they printed below."""
    lines = []
    for idea in ideas:
        lines.append(f"- {idea.variant_id[:_SHORT]} | {one_line(idea.hypothesis, _LONGEST_LINE)} | {outcome(idea)}")
        if idea.variant_id in tails:
            lines += tail(idea.tail)
    return "\n".join(lines)


def outcome(idea: Idea) -> str:
    """Say how a birth ended: the gain or loss with its error, or status and reason."""
    if idea.gain is None:
        return idea.status.value + (f": {one_line(idea.reason, _LONGEST_LINE)}" if idea.reason else "")
    error = "" if idea.error is None else f" ± {idea.error:.2g}"
    noise = ", within the noise" if idea.error is not None and not clear_gain(idea) else ""
    return f"{'better' if idea.gain > 0 else 'worse'} by {abs(idea.gain):.2g}{error}{noise}"


def tail(text: str, most: int = TAIL_LINES) -> list[str]:
    """Return the last lines of a log, indented, each cut to a width."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return [f"    {line[:_TAIL_CHARACTERS]}" for line in lines[-most:]]
