"""All that was asked and answered, kept under `logs/llm/` of a run's folder: written by operators, read by anyone.

One file of gzip-compressed JSON lines for a hundred births (`zcat` reads it). Does not own what is asked (prompt.py).
"""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from autoresearch_ray.operators.request import Message
from autoresearch_ray.variant import Birth, Usage

FOLDER = Path("logs", "llm")
"""Inside a run's folder."""
BIRTHS_A_FILE = 100
_GZIP = 31


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question and its answer."""

    variant_id: str
    number: int
    """Of the birth."""
    purpose: str
    """`mutation`, `crossover`, `repair` or `reflection`."""
    asked_at: datetime
    seconds: float
    """From the question to the answer, all attempts and waiting included."""
    model: str
    """Who was asked: a model by its name in the configuration, an agent by its command, or `inbox`."""
    messages: tuple[Message, ...]
    """The whole conversation up to the question."""
    prompt_hash: str
    """Of the messages; the row of the variant has it too."""
    reply: str | None
    """None when there was none."""
    failure: str
    """Why there was no reply; empty when there was one."""
    attempts: tuple[str, ...]
    """What went wrong on the way, oldest first, attempts that were repeated included."""
    usage: Usage

    @property
    def text(self) -> str:
        """The exchange as a person reads it."""
        asked = "\n\n".join(f"--- {message.role} ---\n{message.content.rstrip()}" for message in self.messages)
        failed = "".join(f"(failed: {attempt})\n" for attempt in self.attempts)
        answer = f"(no reply: {self.failure})" if self.reply is None else self.reply.rstrip()
        return f"{asked}\n\n--- {self.model} answers ---\n{failed}{answer}\n"


class Transcripts:
    """Writes exchanges, one after the other, at the same time from several threads. One writer a run."""

    def __init__(self, run: Path, redact: Callable[[str], str] = lambda text: text) -> None:
        """Write nothing yet.

        Args:
            run: the run's folder.
            redact: takes secrets out of a text.
        """
        self._folder = run / FOLDER
        self._redact = redact
        self._mended: set[Path] = set()
        self._lock = threading.Lock()

    def keep(self, exchange: Exchange) -> None:
        """Append an exchange to its file. Where the disk is full it is lost, and the search goes on."""
        line = json.dumps(_plain(exchange), ensure_ascii=False)
        packed = gzip.compress(self._redact(line).encode("utf-8", "replace") + b"\n", mtime=0)
        path = _path(self._folder, exchange.number)
        with self._lock, contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            if path not in self._mended:
                _mend(path)
                self._mended.add(path)
            with path.open("ab") as file:
                file.write(packed)


def of_variant(run: Path, birth: Birth) -> list[Exchange]:
    """Return what was asked and answered for a birth, in order; nothing when no language model took part.

    What a kill has cut off is left out, as is a file that is damaged from there on.

    Args:
        run: the run's folder.
        birth: its number and variant id.
    """
    return [
        exchange for exchange in _read(_path(run / FOLDER, birth.number)) if exchange.variant_id == birth.variant_id
    ]


def everything(run: Path) -> Iterator[Exchange]:
    """Yield all exchanges of a run, birth by birth of a hundred, within these in the order of the answers."""
    for path in sorted((run / FOLDER).glob("births-*.jsonl.gz")):
        yield from _read(path)


def _path(folder: Path, number: int) -> Path:
    return folder / f"births-{number // BIRTHS_A_FILE * BIRTHS_A_FILE:07d}.jsonl.gz"


def _plain(exchange: Exchange) -> dict[str, Any]:
    return asdict(exchange) | {"asked_at": exchange.asked_at.isoformat()}


def _exchange(values: Mapping[str, Any]) -> Exchange:
    fields = {name: values[name] for name in Exchange.__dataclass_fields__}
    messages: Sequence[Mapping[str, Any]] = values["messages"]
    return Exchange(
        **fields
        | {
            "asked_at": datetime.fromisoformat(values["asked_at"]),
            "messages": tuple(Message(message["role"], message["content"]) for message in messages),
            "attempts": tuple(values["attempts"]),
            "usage": Usage(**values["usage"]),
        }
    )


def _read(path: Path) -> Iterator[Exchange]:
    try:
        packed = path.read_bytes()
    except OSError:
        return
    for line, _ in _members(packed):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            yield _exchange(json.loads(line))


def _members(packed: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield each whole gzip member's content and where it ends, up to the first that is cut off or damaged."""
    end = 0
    while end < len(packed):
        unpacker = zlib.decompressobj(_GZIP)
        try:
            content = unpacker.decompress(packed[end:])
        except zlib.error:
            return
        if not unpacker.eof:
            return
        end = len(packed) - len(unpacker.unused_data)
        yield content, end


def _mend(path: Path) -> None:
    """Cut off what an earlier writer was killed in the middle of: nothing after it could be read."""
    with contextlib.suppress(FileNotFoundError):
        packed = path.read_bytes()
        whole = max((end for _, end in _members(packed)), default=0)
        if whole < len(packed):
            with path.open("r+b") as file:
                file.truncate(whole)
