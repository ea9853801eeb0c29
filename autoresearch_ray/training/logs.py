"""What a variant prints: kept to its tail, made harmless to look at, and asked for the reason of a crash.

Nothing in it is believed.
"""

from __future__ import annotations

import re
import signal

TAIL_BYTES = 8192
_KEPT_BYTES = 65_536
_REASON_CHARACTERS = 300
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]P_^X][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS and such: titles, links
    r"|\x1b[ -/]*[0-~]"  # two- and three-character sequences
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
_TRACEBACK = "Traceback (most recent call last):"


class LogTail:
    """Takes any amount of output and keeps the end of it."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self.taken = 0
        """Bytes taken so far."""

    def feed(self, received: bytes) -> None:
        """Take more output."""
        self.taken += len(received)
        self._kept += received
        if len(self._kept) > 2 * _KEPT_BYTES:
            del self._kept[:-_KEPT_BYTES]

    def text(self) -> str:
        """Return the last 8 kB as a terminal would show them, without anything that moves a terminal."""
        text = printable(self._kept.decode("utf-8", errors="replace"))
        tail = text.encode()[-TAIL_BYTES:]
        return tail.decode("utf-8", errors="ignore")


def printable(text: str) -> str:
    """Return `text` without escape sequences and control characters; what a carriage return overwrites goes too."""
    text = _ESCAPES.sub("", text).replace("\r\n", "\n")
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return "\n".join("".join(c for c in line if c.isprintable() or c == "\t") for line in lines)


def reason_of_exit(returncode: int, log: str) -> str:
    """Return one line that says why a process ended before its model was scored.

    Args:
        returncode: its exit code, or minus the number of the signal that killed it.
        log: what `LogTail.text` gave.
    """
    if returncode < 0:
        memory = " (out of memory?)" if returncode == -signal.SIGKILL else ""
        return f"killed by {_signal_name(-returncode)}{memory}"
    if returncode == 0:
        return "ended without calling evaluate_bpb"
    return last_exception(log) or f"exited with code {returncode}"


def last_exception(log: str) -> str | None:
    """Return the line of the last traceback that names its exception, or None when there is no traceback."""
    traceback = log.rpartition(_TRACEBACK)
    if not traceback[1]:
        return None
    for line in traceback[2].splitlines():
        if line and not line[0].isspace():
            return line[:_REASON_CHARACTERS]
    return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
