"""Finds what a program reports in what it prints: the last autoresearch block, or `METRIC name=value` lines.

Reads output of any size in bounded memory. Does not own what is believed of it (reported.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MOST_NAMES = 256
"""Names kept of one block; what else it names is passed over."""
LONGEST_LINE = 4096
"""Bytes of a line that can say something; the beginning of a longer one is forgotten."""

_RULE = b"---"
_MARK = b"METRIC"
_OVERFLOWED = b"\0"
_NAMED = re.compile(rb"\s*([A-Za-z_][\w./-]{0,63})\s*:\s*(\S[^\n]{0,127}?)\s*")
_METRIC = re.compile(rb"\s*METRIC\s+([A-Za-z_][\w./-]{0,63})\s*=\s*(\S{1,128})\s*")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a program said of itself, as text by name. Nothing in it is believed."""

    values: Mapping[str, str] = field(default_factory=dict)

    def number(self, name: str) -> float | None:
        """Return a finite number that was claimed, None if there is none."""
        text = self.values.get(name, "")
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        return value if math.isfinite(value) else None


class BlockReader:
    """Takes output as it comes and keeps the last claims that name the metric.

    A block is a line `---` and the lines `name: value` right after it; blank lines do not end it. Lines
    `METRIC name=value` count wherever they stand, and belong together. The last mention of the metric decides, also
    when its value is of no use: a program whose last score is `nan` has no earlier one.
    """

    def __init__(self, metric: str) -> None:
        self._metric = metric.encode()
        self._rest = b""
        self._block: dict[bytes, bytes] | None = None
        self._marked: dict[bytes, bytes] = {}
        self._found: dict[bytes, bytes] = {}

    def feed(self, received: bytes) -> None:
        """Take more output."""
        received = self._rest + received
        if self._block is None and _RULE not in received and _MARK not in received:
            self._rest = _kept(received[received.rfind(b"\n") + 1 :])
            return
        *lines, rest = received.split(b"\n")
        for line in lines:
            self._read(line)
        self._rest = _kept(rest)

    def claims(self) -> Claims:
        """Return what was claimed, after all output; a last line needs no line end."""
        self._read(self._rest)
        self._rest = b""
        self._end_block()
        return Claims({_text(name): _text(value) for name, value in self._found.items()})

    def _read(self, line: bytes) -> None:
        line = line.rstrip(b"\r").rpartition(b"\r")[2]  # as a terminal shows it
        if line.strip() == _RULE:
            self._end_block()
            self._block = {}
        elif self._block is not None and (named := _NAMED.fullmatch(line)):
            self._note(self._block, named[1], named[2])
        elif line.strip():
            self._end_block()
            if marked := _METRIC.fullmatch(line):
                self._note(self._marked, marked[1], marked[2])
                if marked[1] == self._metric:
                    self._found = self._marked

    def _end_block(self) -> None:
        if self._block and self._metric in self._block:
            self._found = self._block
        self._block = None

    def _note(self, where: dict[bytes, bytes], name: bytes, value: bytes) -> None:
        if name in where or name == self._metric or len(where) < MOST_NAMES:
            where[name] = value


def _kept(line: bytes) -> bytes:
    """Return an unfinished line, or the end of a long one, marked so that it is not taken for a whole line."""
    return line if len(line) <= LONGEST_LINE else _OVERFLOWED + line[-LONGEST_LINE:]


def _text(value: bytes) -> str:
    return value.decode("utf-8", errors="replace")
