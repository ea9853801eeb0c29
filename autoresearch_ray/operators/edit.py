"""Turns a language model's reply into an edited source, or says exactly why it cannot. Pure.

Owns the reply format that prompt.py describes: a hypothesis, and SEARCH/REPLACE blocks or a whole file. Does not own
what an edited source must be (preflight).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from autoresearch_ray.variant import parse as parse_python

LONGEST_HYPOTHESIS = 300
"""Characters; what goes beyond is cut off."""


@dataclass(frozen=True, slots=True)
class Edited:
    """The source as the reply wants it."""

    source: str
    hypothesis: str
    """One printable line."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A reply that cannot be used."""

    reason: str
    """One line, exact enough for the model to mend its reply."""


@dataclass(frozen=True, slots=True)
class Block:
    """Replace these lines by those; lines are without their line ends."""

    search: tuple[str, ...]
    replace: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a reply says: blocks in their order, or else a whole file as lines."""

    hypothesis: str
    blocks: tuple[Block, ...]
    whole: tuple[str, ...] | None


_OPENING = re.compile(r"(<{5,})[ \t]*SEARCH[ \t]*")
_CLOSING = re.compile(r"(>{5,})[ \t]*REPLACE[ \t]*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*([\w.+-]*)[ \t]*")
_HYPOTHESIS = re.compile(r"[\s>#*_`-]*hypothesis[\s*_`]*:(.*)", re.IGNORECASE)
_REASONING = re.compile(
    r"\A\s*<(think|thinking|reasoning)>.*?</\1>|\A.*^[ \t]*</(?:think|thinking|reasoning)>[ \t]*$",
    re.DOTALL | re.MULTILINE,
)
_FEWEST_LINES = 3
_SHOWN_MATCHES = 5
_COMPARED_LINES = 20
_COMPARED_CHARACTERS = 160


def apply(source: str, reply: str) -> Edited | Refused:
    """Return the source as a reply edits it.

    Blocks apply in their order, each to what those before it left; each must match whole lines at exactly one place.
    What no block names stays byte for byte, and new lines end as the source's do.
    """
    parsed = parse(reply)
    if isinstance(parsed, Refused):
        return parsed
    text = _Text(source)
    if parsed.whole is not None:
        text.splice(0, len(text.lines), parsed.whole)
    for number, block in enumerate(parsed.blocks, 1):
        reason = _place(text, block)
        if reason:
            return Refused(f"Block {number} of {len(parsed.blocks)}: {reason}.")
    edited = str(text)
    return Refused("The reply changes nothing.") if edited == source else Edited(edited, parsed.hypothesis)


def taken(source: str, edited: str, said: str) -> Edited | Refused:
    """Return a file that was edited in place; its hypothesis is the last such line of what was said, or the last."""
    if edited == source:
        return Refused("The reply changes nothing.")
    lines = said.splitlines()
    last = next((line for line in reversed(lines) if line.strip()), "an edited file")
    return Edited(edited, _hypothesis(lines) or one_line(last, LONGEST_HYPOTHESIS))


def parse(reply: str) -> Parsed | Refused:
    """Read a reply: its last hypothesis line, and its blocks or, if it has none, the longest of its fenced texts.

    Reasoning in `<think>` at the beginning, or before a line `</think>`, is ignored, as are fences around blocks and
    whatever else is said between them. Without blocks and fences, Python after the hypothesis is a whole file.
    A block's divider and end are as long as its beginning, so a longer one can hold lines that look like markers.
    """
    if not reply.strip():
        return Refused("The reply is empty.")
    lines = [line.removesuffix("\r") for line in _REASONING.sub("", reply, count=1).split("\n")]
    found = _blocks(lines)
    if isinstance(found, Refused):
        return found
    blocks, rest = found
    whole = None
    if not blocks:
        fenced = _fenced(lines)
        if isinstance(fenced, Refused):
            return fenced
        whole, rest = fenced
    hypothesis = _hypothesis(rest)
    return Parsed(hypothesis, blocks, whole) if hypothesis else Refused("The reply has no line `HYPOTHESIS: ...`.")


def _blocks(lines: Sequence[str]) -> tuple[tuple[Block, ...], list[str]] | Refused:
    """Return the blocks, and the lines outside of them."""
    blocks: list[Block] = []
    rest: list[str] = []
    index = 0
    while index < len(lines):
        opening = _OPENING.fullmatch(lines[index])
        if opening is None:
            if _CLOSING.fullmatch(lines[index]):
                return Refused(f"Line {index + 1} of the reply ends a block that has no beginning `<<<<<<< SEARCH`.")
            rest.append(lines[index])
            index += 1
            continue
        size = len(opening[1])
        divider = _find(lines, index + 1, re.compile(f"={{{size}}}[ \t]*"))
        end = _find(lines, divider + 1, re.compile(f">{{{size}}}[ \t]*REPLACE[ \t]*")) if divider else None
        if divider is None or end is None:
            wanted = "=" * size if divider is None else ">" * size + " REPLACE"
            return Refused(f"Block {len(blocks) + 1} (line {index + 1} of the reply) has no line `{wanted}`.")
        if nested := _find(lines[:end], index + 1, re.compile(f"<{{{size}}}[ \t]*SEARCH[ \t]*")):
            return Refused(
                f"Block {len(blocks) + 1} is not ended where the next begins (line {nested + 1} of the reply)."
            )
        blocks.append(Block(tuple(lines[index + 1 : divider]), tuple(lines[divider + 1 : end])))
        index = end + 1
    return tuple(blocks), rest


def _find(lines: Sequence[str], start: int, pattern: re.Pattern[str]) -> int | None:
    return next((index for index in range(start, len(lines)) if pattern.fullmatch(lines[index])), None)


def _fenced(lines: Sequence[str]) -> tuple[tuple[str, ...], list[str]] | Refused:
    """Return the longest fenced text, and the lines outside of all fences."""
    texts: list[tuple[str, ...]] = []
    rest: list[str] = []
    index = 0
    while index < len(lines):
        fence = _FENCE.fullmatch(lines[index])
        if fence is None:
            rest.append(lines[index])
            index += 1
            continue
        end = _find(lines, index + 1, re.compile(rf" {{0,3}}{fence[1][0]}{{{len(fence[1])},}}[ \t]*"))
        if end is None:
            return Refused(f"The fence in line {index + 1} of the reply is not closed: the reply was cut short.")
        texts.append(tuple(lines[index + 1 : end]))
        index = end + 1
    if not any(texts):
        bare = _bare(lines)
        if bare is None:
            return Refused("The reply has neither a SEARCH/REPLACE block nor a whole file in a fence.")
        return bare
    return max(texts, key=lambda text: sum(map(len, text)) + len(text)), rest


def _bare(lines: Sequence[str]) -> tuple[tuple[str, ...], list[str]] | None:
    """Return what follows the hypothesis where it is a Python program of some lines, and the lines before it."""
    at = next((index for index, line in enumerate(lines) if _HYPOTHESIS.match(line)), None)
    if at is None:
        return None
    program = "\n".join(lines[at + 1 :]).strip("\n")
    try:
        statements = parse_python(program).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return (tuple(program.split("\n")), list(lines[: at + 1])) if len(statements) >= _FEWEST_LINES else None


def _hypothesis(lines: Sequence[str]) -> str:
    said = [match[1].strip(" \t*") for line in lines if (match := _HYPOTHESIS.match(line))]
    return one_line((said or [""])[-1], LONGEST_HYPOTHESIS)


def one_line(text: str, longest: int) -> str:
    """Return a text as one line of printable characters, cut off after `longest` of them."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(printable.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


class _Text:
    """Lines that can be replaced while every other byte stays, whatever ends the lines."""

    def __init__(self, source: str) -> None:
        self._ended = source.endswith("\n") or not source
        self._raw = source.split("\n")
        if self._ended:
            self._raw.pop()
        self._return = "\r" if self._raw and self._raw[0].endswith("\r") else ""
        if not self._ended:
            self._raw[-1] += self._return
        self.lines = [line.removesuffix("\r") for line in self._raw]

    def splice(self, start: int, end: int, lines: Sequence[str]) -> None:
        """Replace the lines from `start` to `end` (excluded)."""
        self._raw[start:end] = [line + self._return for line in lines]
        self.lines[start:end] = lines

    def matches(self, lines: Sequence[str]) -> list[int]:
        """Return the first few indices at which these lines stand, whole; if nowhere, but for spaces at their ends."""
        return self._found(self.lines, lines) or self._found(
            [line.rstrip() for line in self.lines], [line.rstrip() for line in lines]
        )

    def _found(self, there: Sequence[str], lines: Sequence[str]) -> list[int]:
        text, wanted = "\n".join(["", *there, ""]), "\n".join(["", *lines, ""])
        found: list[int] = []
        position = text.find(wanted)
        while position >= 0 and len(found) <= _SHOWN_MATCHES:
            found.append(text.count("\n", 0, position))
            position = text.find(wanted, position + 1)
        return found

    def __str__(self) -> str:
        text = "\n".join([*self._raw, ""])
        return text if self._ended else text.removesuffix("\n").removesuffix(self._return)


def _place(text: _Text, block: Block) -> str | None:
    """Apply a block to the text, or return why it has no place there."""
    if not block.search:
        if text.lines:
            return "its SEARCH part is empty; quote the lines next to which something is to be inserted"
        text.splice(0, 0, block.replace)
        return None
    found = text.matches(block.search)
    if len(found) == 1:
        text.splice(found[0], found[0] + len(block.search), block.replace)
        return None
    if not found:
        return f"its SEARCH lines are not in the program; {_nearest(text.lines, block.search)}"
    numbers = [str(index + 1) for index in found[:_SHOWN_MATCHES]]
    places = f"{', '.join(numbers)}{' and more' if len(found) > _SHOWN_MATCHES else ''}"
    return f"its SEARCH lines stand at several places, beginning in lines {places}; quote more lines around the change"


def _nearest(lines: Sequence[str], search: Sequence[str]) -> str:
    """Say where the program comes closest to the lines that were searched for."""
    if not lines:
        return "the program is empty"
    best, same = max(
        ((index, _agreeing(lines, index, search)) for index in range(len(lines))), key=lambda pair: pair[1]
    )
    if same and best + same < len(lines):
        there, wanted = _shown(lines[best + same]), _shown(search[same])
        return f"from line {best + 1} on {same} of them agree, but then line {best + same + 1} is {there}, not {wanted}"
    if same:
        return f"from line {best + 1} on {same} of them agree, but then the program ends"
    alike = difflib.get_close_matches(_start(search[0]), list(map(_start, lines)), n=1, cutoff=0.6)
    if not alike:
        return f"no line is like {_shown(search[0])}"
    index = next(index for index, line in enumerate(lines) if _start(line) == alike[0])
    return f"line {index + 1} is {_shown(lines[index])}, not {_shown(search[0])}"


def _start(line: str) -> str:
    return line[:_COMPARED_CHARACTERS]


def _agreeing(lines: Sequence[str], start: int, search: Sequence[str]) -> int:
    count = 0
    while count < min(len(search), len(lines) - start) and lines[start + count] == search[count]:
        count += 1
    return count


def _shown(line: str) -> str:
    return repr(line if len(line) <= 120 else line[:119] + "…")
