"""An inbox as the operator: a request is a folder, and whoever likes answers it with a file. Nothing is sent anywhere.

Owns the folder's layout and the waiting. Does not own the wording (prompt.py) or what an answer means (edit.py).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from autoresearch_ray.config import OperatorConfig
from autoresearch_ray.errors import ConfigError
from autoresearch_ray.operators.ensemble import CallFailed
from autoresearch_ray.operators.llm import Reply
from autoresearch_ray.operators.mutation import Asks
from autoresearch_ray.operators.request import Message, Request
from autoresearch_ray.operators.workplace import Workplace, counted
from autoresearch_ray.training.preflight import LARGEST_SOURCE
from autoresearch_ray.variant import Usage

NAME = "inbox"
REQUEST, REFUSED = "request.md", "refused.md"
ANSWERS = ("answer.md", "answer.py")
"""A reply as the request describes it, or the whole new file; the first that is there counts."""
_POLL_SECONDS = 0.5
_LARGEST_ANSWER = 2 * LARGEST_SOURCE
_HOW = """\
# How to answer here

Write `answer.md` in this folder, in the form that is described above, or `answer.py`, the whole new file, whose first
comment line is taken for the hypothesis. Write it under another name first and rename it, or save it in one go. The
program to change lies beside this file.
"""


class Inbox(Workplace):
    """Writes requests and waits for their answers. Thread-safe: several births wait at a time."""

    def __init__(
        self,
        folder: Path,
        settings: OperatorConfig,
        max_prompt_tokens: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Write nothing yet.

        Args:
            folder: where each request gets a folder, named after its variant.
            settings: how long one is waited for.
            max_prompt_tokens: tokens that a request may have.
            sleep: waits between two looks.
        """
        self._folder = folder
        self.settings = settings
        self.max_prompt_tokens = max_prompt_tokens
        self.sleep = sleep
        self.closed = False

    def check(self) -> None:
        """Make the folder (Raises ConfigError: it cannot be made or written)."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"operator.folder: {self._folder} cannot be made ({error.strerror}).") from error
        if not os.access(self._folder, os.W_OK):
            raise ConfigError(f"operator.folder: {self._folder} cannot be written.")

    def close(self) -> None:
        """Wait no longer; requests without an answer stay for a later sitting."""
        self.closed = True

    @contextlib.contextmanager
    def open(self, request: Request) -> Iterator[Asks]:
        """Lay a request out in its folder, which stays; an answer from an earlier sitting is found there."""
        folder = self._folder / request.birth.variant_id
        folder.mkdir(parents=True, exist_ok=True)
        for number, parent in enumerate(request.parents):
            name = Path(request.contract.file).name if number == 0 else "second_parent.py"
            _write(folder / name, parent.variant.source)
        yield _Request(self, folder)


class _Request:
    """One request, asked once or twice."""

    edits = False

    def __init__(self, inbox: Inbox, folder: Path) -> None:
        self._inbox = inbox
        self._folder = folder
        self._tries = 0
        self.max_prompt_tokens = inbox.max_prompt_tokens

    def count(self, messages: Sequence[Message]) -> int:
        """Estimate the tokens of messages."""
        return sum(counted(message.content) for message in messages)

    def ask(
        self, messages: Sequence[Message], rng: np.random.Generator, model: str | None = None
    ) -> Reply | CallFailed:
        """Write the question, and wait for the file that answers it."""
        self._tries += 1
        if self._tries == 1:
            _write(self._folder / REQUEST, "\n\n".join([*(message.content for message in messages), _HOW]))
        else:
            _write(self._folder / REFUSED, messages[-1].content)
        deadline = time.monotonic() + self._inbox.settings.timeout_seconds
        sizes: dict[str, int] = {}
        while not self._inbox.closed:
            for name in ANSWERS:
                if (text := self._settled(name, sizes)) is not None:
                    edited = name.endswith(".py")
                    return Reply(_said(text) if edited else text, NAME, Usage(), source=text if edited else None)
            if time.monotonic() > deadline:
                with contextlib.suppress(OSError):
                    self._folder.rename(self._folder.with_name(f"{self._folder.name}-expired"))
                seconds = self._inbox.settings.timeout_seconds
                return CallFailed(f"Nobody answered the request in {self._folder} within {seconds:g} s.", Usage())
            self._inbox.sleep(_POLL_SECONDS)
        return CallFailed("The run ended before the request was answered.", Usage())

    def _settled(self, name: str, sizes: dict[str, int]) -> str | None:
        """Return an answer that has the same size as at the last look, and put it aside."""
        path = self._folder / name
        try:
            size = path.stat().st_size
            if sizes.get(name) != size or size == 0:
                sizes[name] = size
                return None
            text = path.read_bytes()[:_LARGEST_ANSWER].decode("utf-8", errors="replace")
            path.rename(path.with_name(f"answered-{self._tries}{path.suffix}"))
        except OSError:
            return None
        return text


def _said(source: str) -> str:
    """Return the first comment line of a file as its hypothesis."""
    comments = (line.lstrip("# ").strip() for line in source.splitlines() if line.lstrip().startswith("#"))
    first = next(filter(None, comments), "written by hand")
    return f"HYPOTHESIS: {first.removeprefix('HYPOTHESIS:').strip()}"


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
