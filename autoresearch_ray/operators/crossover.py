"""The offline crossover: a three-way merge of two parents against their nearest common ancestor.

Literals merge one by one, whatever stands beside them; the rest of the text merges by lines. Does not own the choice of
the parents or of the ancestor.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.tunables import Kind, Tunable, find, render, tidy, write
from autoresearch_ray.variant import Variant, ast_hash

_ATTEMPTS = 4
_SHORT = 6
_FIRST, _SECOND, _BOTH, _BETWEEN = "first", "second", "both", "between"


@dataclass(frozen=True, slots=True)
class Merged:
    """The outcome of `merge_sources`, with the origin of each part."""

    source: str
    literals: tuple[tuple[str, str, str], ...]
    """(key, text, `first`, `second`, `both` or `between`) of each literal that a side changed, in order."""
    hunks: tuple[str, ...]
    """For each other change, in the order of the source: `first`, `second` or `both` (the same on both sides)."""


@dataclass(frozen=True, slots=True)
class Hunk:
    """One side replaces the ancestor's lines `start` to `end` (excluded) by `lines`."""

    start: int
    end: int
    lines: list[str]

    @property
    def start_end(self) -> tuple[int, int]:
        """Where it applies; sorts an insertion before a change of the line that follows."""
        return self.start, self.end


def merge(first: Variant, second: Variant, ancestor: Variant, rng: np.random.Generator) -> Proposal | Failure:
    """Combine what two parents changed since their nearest common ancestor.

    Where an outcome does not parse, or means the same as one of the parents, its random choices are made again a few
    times; then, as when one of the parents is the ancestor, the merge is a failure.
    """
    names = {_FIRST: _name(first), _SECOND: _name(second), _BETWEEN: _BETWEEN}
    reason = ""
    for _ in range(_ATTEMPTS):
        try:
            merged = merge_sources(first.source, second.source, ancestor.source, rng)
            meaning = ast_hash(merged.source)
        except SyntaxError:
            reason = "does not parse"
            continue
        same = [_name(parent) for parent in (first, second) if ast_hash(parent.source) == meaning]
        if not same:
            return Proposal(merged.source, _hypothesis(merged, names), step_size=_step_size(first, second))
        reason = f"is the same program as {same[0]}"
    return Failure(f"The merge of {names[_FIRST]} and {names[_SECOND]} {reason}.")


def compatible(first: str, second: str, ancestor: str) -> bool:
    """Return whether a merge leaves nothing to chance: what both sides changed, they changed in the same way."""
    try:
        ours, theirs, base = ({tunable.key: tunable for tunable in find(text)} for text in (first, second, ancestor))
    except SyntaxError:
        return False
    shared = {key: literal.text for key, literal in base.items() if _shares(ours.get(key), literal, theirs.get(key))}
    if any(len({ours[key].text, theirs[key].text, text}) == 3 for key, text in shared.items()):
        return False
    lines = _lines(ancestor)
    sides = (
        _hunks(lines, _lines(write(text, found.values(), shared))) for text, found in ((first, ours), (second, theirs))
    )
    return all(
        not (one and other) or _applied(lines, start, end, one) == _applied(lines, start, end, other)
        for start, end, one, other in _groups(*sides)
    )


def merge_sources(first: str, second: str, ancestor: str, rng: np.random.Generator) -> Merged:
    """Merge two texts by literals and lines.

    A literal that all three have, by name, takes the value of the side that changed it. If both did, it takes either
    side's or, for numbers, the midpoint on the scale on which the literal steps, each with the same probability. What
    else the sides changed is merged by lines; where such changes overlap, one side's is taken whole, at random.

    Raises:
        SyntaxError: one of the sources, or their merge by lines, does not parse.
    """
    ours, theirs, base = ({tunable.key: tunable for tunable in find(source)} for source in (first, second, ancestor))
    shared = {key: literal.text for key, literal in base.items() if _shares(ours.get(key), literal, theirs.get(key))}
    changed = [key for key, text in shared.items() if not ours[key].text == theirs[key].text == text]
    settled = {key: _settle(ours[key], theirs[key], base[key], rng) for key in changed}
    sides = write(first, ours.values(), shared), write(second, theirs.values(), shared)
    lines, hunks = _merge_lines(*sides, ancestor, rng)
    remaining = find(lines)
    source = write(lines, remaining, {key: text for key, (text, _) in settled.items()})
    literals = ((literal.key, *settled[literal.key]) for literal in remaining if literal.key in settled)
    return Merged(source, tuple(literals), tuple(hunks))


def _shares(ours: Tunable | None, base: Tunable, theirs: Tunable | None) -> bool:
    """Return whether all three have the literal, with the same choices: else it is text like any other."""
    return ours is not None and theirs is not None and ours.choices == base.choices == theirs.choices


def _settle(ours: Tunable, theirs: Tunable, base: Tunable, rng: np.random.Generator) -> tuple[str, str]:
    """Return the text of a literal that a side changed, and where it is from."""
    if ours.text == theirs.text:
        return ours.text, _BOTH
    if theirs.text == base.text:
        return ours.text, _FIRST
    if ours.text == base.text:
        return theirs.text, _SECOND
    options = [(ours.text, _FIRST), (theirs.text, _SECOND)]
    middle = _midpoint(ours, theirs)
    if middle is not None:
        options.append((render(ours, middle), _BETWEEN))
    return options[rng.integers(len(options))]


def _midpoint(ours: Tunable, theirs: Tunable) -> float | None:
    """Return the number half-way between two, of their type and kind; None where there is none."""
    if ours.kind is not theirs.kind or ours.kind in (Kind.FLAG, Kind.CHOICE):
        return None
    assert not isinstance(ours.value, str)
    assert not isinstance(theirs.value, str)
    low, high = sorted((ours.value, theirs.value))
    if ours.kind is Kind.UNIT and low > 0 and high < 1:
        odds = math.sqrt(low / (1 - low) * high / (1 - high))
        middle = odds / (1 + odds)
    elif low * high > 0:
        middle = math.copysign(math.sqrt(low * high), low)
    else:
        middle = (low + high) / 2
    if isinstance(low, int) and isinstance(high, int):
        middle = _integer_midpoint(low, high, middle, ours.kind)
    else:
        middle = tidy(middle, ours.kind)
    return middle if low < middle < high else None


def _integer_midpoint(low: int, high: int, middle: float, kind: Kind) -> int:
    if kind is Kind.DOUBLING:
        return int(math.copysign(2 ** (round(math.log2(abs(low * high))) // 2), low))
    aligned = (low | high) & -(low | high)
    return round(middle / aligned) * aligned


def _merge_lines(first: str, second: str, ancestor: str, rng: np.random.Generator) -> tuple[str, list[str]]:
    """Merge by lines as diff3 does, but settle conflicts; return the text and the origin of each change."""
    base = _lines(ancestor)
    text: list[str] = []
    origins: list[str] = []
    position = 0
    for start, end, ours, theirs in _groups(_hunks(base, _lines(first)), _hunks(base, _lines(second))):
        sides = {_FIRST: _applied(base, start, end, ours), _SECOND: _applied(base, start, end, theirs)}
        if sides[_FIRST] == sides[_SECOND]:
            origin, taken = _BOTH, sides[_FIRST]
        else:
            origin = (_FIRST, _SECOND)[rng.integers(2)] if ours and theirs else _FIRST if ours else _SECOND
            taken = sides[origin]
        text += [*base[position:start], *taken]
        origins.append(origin)
        position = end
    merged = "".join([*text, *base[position:]])
    ended = [_ended(source) for source in (first, second, ancestor)]
    ends = ended[0] if ended[0] != ended[2] else ended[1]
    return merged if ends else merged.removesuffix("\n"), origins


def _hunks(base: list[str], side: list[str]) -> list[Hunk]:
    codes = difflib.SequenceMatcher(None, base, side, autojunk=False).get_opcodes()
    return [Hunk(start, end, side[low:high]) for tag, start, end, low, high in codes if tag != "equal"]


def _groups(ours: list[Hunk], theirs: list[Hunk]) -> Iterator[tuple[int, int, list[Hunk], list[Hunk]]]:
    """Yield (start, end, hunks of ours, of theirs) for each region of the ancestor within which changes overlap.

    Changes that only touch do not overlap; two insertions at the same place do.
    """
    tagged = sorted([(hunk, 0) for hunk in ours] + [(hunk, 1) for hunk in theirs], key=lambda pair: pair[0].start_end)
    while tagged:
        (hunk, side), *tagged = tagged
        start, end = hunk.start_end
        group: tuple[list[Hunk], list[Hunk]] = ([], [])
        group[side].append(hunk)
        while tagged and (tagged[0][0].start < end or tagged[0][0].start_end == (start, end)):
            (hunk, side), *tagged = tagged
            group[side].append(hunk)
            end = max(end, hunk.end)
        yield start, end, *group


def _applied(base: list[str], start: int, end: int, hunks: list[Hunk]) -> list[str]:
    text = []
    for hunk in hunks:
        text += [*base[start : hunk.start], *hunk.lines]
        start = hunk.end
    return text + base[start:end]


def _lines(source: str) -> list[str]:
    return (source if _ended(source) else source + "\n").splitlines(keepends=True)


def _ended(source: str) -> bool:
    return source.endswith(("\n", "\r"))


def _name(variant: Variant) -> str:
    return variant.variant_id[:_SHORT]


def _hypothesis(merged: Merged, names: dict[str, str]) -> str:
    """Say in one line what came from whom."""
    parts = [f"{key} {text} ({names.get(origin, origin)})" for key, text, origin in merged.literals]
    for origin, count in Counter(merged.hunks).items():
        parts.append(f"{count} other change{'s' if count > 1 else ''} ({names.get(origin, origin)})")
    return f"merge of {names[_FIRST]} and {names[_SECOND]}: {', '.join(parts)}"


def _step_size(first: Variant, second: Variant) -> float | None:
    """Return the geometric mean of the parents' step sizes, as evolution strategies do; None if there is none."""
    sizes = [parent.step_size for parent in (first, second) if parent.step_size]
    return math.exp(math.fsum(map(math.log, sizes)) / len(sizes)) if sizes else None
