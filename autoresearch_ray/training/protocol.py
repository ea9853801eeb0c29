"""What a variant's process may say, and how it is framed: JSON lines, checked field by field.

Owns the words of the channel. Does not own their order or their answers (session.py). Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_LINE = 65_536
"""Bytes in one message, the line feed included."""
LOGITS_ITEMSIZE: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Types that logits may have, and their size in bytes."""
LARGEST_INTEGER = 2**53


class ProtocolViolation(ValueError):
    """What was received is not a message; `str(violation)` says why, quoting nothing that was sent."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The variant's process has loaded prepare.py and asks for its constants."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A request for `batch` x (`length` + 1) training tokens."""

    batch: int
    length: int
    loss: float | None
    """A recent training loss in nats a token, as the variant claims it; may be NaN or infinite."""


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Training is over; the model may be scored."""

    parameters: int
    """As the variant's process counted them."""
    peak_memory_bytes: int | None
    dtype: str
    """A key of `LOGITS_ITEMSIZE`."""


@dataclass(frozen=True, slots=True)
class Logits:
    """The logits of the rows sent last lie in the shared memory."""


Message = Hello | Batch | Evaluate | Logits


class LineBuffer:
    """Cuts a stream of bytes into lines of at most `longest` bytes; holds no more than that."""

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._rest = b""

    def feed(self, received: bytes) -> Iterator[bytes]:
        """Yield the lines that `received` completes, without their line feeds.

        Raises:
            ProtocolViolation: a line is too long. The buffer is of no use after that.
        """
        *lines, self._rest = (self._rest + received).split(b"\n")
        for line in lines:
            if len(line) >= self._longest:
                raise ProtocolViolation(f"a message is longer than {self._longest} bytes")
            yield line
        if len(self._rest) >= self._longest:
            raise ProtocolViolation(f"a message is longer than {self._longest} bytes")


def parse(line: bytes) -> Message:
    """Return the message that one line holds.

    Args:
        line: one JSON object in UTF-8, without its line feed; anything at all may be in it.

    Raises:
        ProtocolViolation: the line is not exactly one of the known messages.
    """
    fields = _decode(line)
    operation = fields.pop("op", None)
    if operation == "hello":
        message: Message = Hello()
    elif operation == "batch":
        message = Batch(_count(fields, "batch"), _count(fields, "length"), _number(fields, "loss"))
    elif operation == "evaluate":
        message = Evaluate(_count(fields, "parameters", least=0), _optional_count(fields), _dtype(fields))
    elif operation == "logits":
        message = Logits()
    else:
        raise ProtocolViolation("a message has no known 'op'")
    if fields:
        raise ProtocolViolation(f"a message {operation!r} has unknown fields")
    return message


def encode(answer: Mapping[str, Any]) -> bytes:
    """Return the line that carries `answer`."""
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"


def _decode(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise ProtocolViolation("a message is not UTF-8") from None
    except RecursionError:
        raise ProtocolViolation("a message is nested too deeply") from None
    except ValueError:  # also an integer of too many digits
        raise ProtocolViolation("a message is not JSON") from None
    if not isinstance(fields, dict):
        raise ProtocolViolation("a message is not a JSON object")
    return fields


def _count(fields: dict[str, Any], name: str, least: int = 1) -> int:
    value = fields.pop(name, None)
    if type(value) is not int or not least <= value <= LARGEST_INTEGER:
        raise ProtocolViolation(f"{name!r} must be an integer of at least {least}")
    return value


def _optional_count(fields: dict[str, Any]) -> int | None:
    if fields.get("peak_memory_bytes") is None:
        fields.pop("peak_memory_bytes", None)
        return None
    return _count(fields, "peak_memory_bytes", least=0)


def _number(fields: dict[str, Any], name: str) -> float | None:
    value = fields.pop(name, None)
    if value is None:
        return None
    if type(value) not in (int, float) or (type(value) is int and abs(value) > LARGEST_INTEGER):
        raise ProtocolViolation(f"{name!r} must be a number or null")
    return float(value)


def _dtype(fields: dict[str, Any]) -> str:
    value = fields.pop("dtype", None)
    if not isinstance(value, str) or value not in LOGITS_ITEMSIZE:
        raise ProtocolViolation(f"'dtype' must be one of {', '.join(LOGITS_ITEMSIZE)}")
    return value
