"""How an experiment of any kind is entered and left: what it holds, and what must be released however it ends.

Does not own what happens in between: training and scoring (trial.py), or a program that reports (reported.py).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Generic, Literal, TypeVar

from autoresearch_ray.training.clock import ProcessTree
from autoresearch_ray.training.launching import LauncherClient
from autoresearch_ray.training.limits import Verdict
from autoresearch_ray.training.logs import LogTail
from autoresearch_ray.training.slot_folder import remove
from autoresearch_ray.variant import Result

STEP_SECONDS = 0.1
"""The event loop looks at clock and limits at least so often."""
PHASE_SECONDS = 0.5
READ_BYTES = 65_536
_READS_A_STEP = 16

ClientT = TypeVar("ClientT", bound=LauncherClient)


@dataclass(frozen=True, slots=True)
class Phase:
    """How far an experiment has come."""

    name: Literal["starting", "training", "scoring"]
    progress: float = 0.0
    """Of the training budget, in [0, 1]."""
    train_seconds: float = 0.0
    tokens: int = 0
    loss: float | None = None
    """The training loss that the variant reported last."""


class Attempt(ABC, Generic[ClientT]):
    """One experiment under way; as a context manager it leaves neither process nor file behind, however it is left."""

    def __init__(self, crew: ClientT, spared: int = 0) -> None:
        """Note when it began; nothing is started yet.

        Args:
            crew: the slot's trusted processes.
            spared: the process of theirs that is not the experiment's; 0 for none.
        """
        self._crew = crew
        self._verdict: Verdict | None = None
        self._memory: int | None = None
        """Bytes that its processes were last seen to hold together."""
        self._log_tail = LogTail()
        self._resources = contextlib.ExitStack()
        self._started_at = datetime.now(timezone.utc)
        self._started = self._ended = time.monotonic()
        self._tree = ProcessTree(crew.pid, spared)

    def __enter__(self) -> Attempt[ClientT]:
        """Make all that it needs."""
        try:
            self._acquire()
        except BaseException:
            self._resources.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End every process that was started, and release the rest."""
        try:
            self._crew.clear(self._tree.members())
            self._read_log()
        finally:
            self._resources.close()
            self._ended = time.monotonic()

    @abstractmethod
    def phases(self) -> Iterator[Phase]:
        """Run to the end; yield now and then how far it has come."""

    @abstractmethod
    def result(self) -> Result:
        """Return what came of it; after the context was left."""

    @abstractmethod
    def _acquire(self) -> None:
        """Make what it needs; what must be released goes to `_resources`."""

    @abstractmethod
    def _read_log(self) -> None:
        """Take what was printed, but never for long."""

    def _make_scratch(self) -> Path:
        """Make its folder in the slot's, which is deleted at the end."""
        scratch = Path(tempfile.mkdtemp(prefix="scratch-", dir=self._crew.folder))
        self._resources.callback(remove, scratch)
        return scratch

    def _keep(self, descriptor: int) -> int:
        """Have a descriptor closed at the end, and return it."""
        self._resources.callback(os.close, descriptor)
        return descriptor

    def _listing_is_due(self, seconds: float) -> bool:
        """Return whether its processes were listed too long ago: so many seconds, less where memory is watched."""
        longest = STEP_SECONDS if self._crew.watches_memory else seconds
        return time.monotonic() - self._tree.listed > longest


def printed(descriptor: int) -> Iterator[bytes]:
    """Yield what can be read now, but never for long: the rest is there the next time. An empty piece is the end."""
    for _ in range(_READS_A_STEP):
        try:
            received = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return
        yield received
        if not received:
            return
