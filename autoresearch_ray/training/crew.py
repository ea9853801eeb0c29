"""The trusted processes of one slot that trains and scores: a launcher and a scorer, and the fixed prepare.py.

Owns the read-only copy of prepare.py. Does not own what an experiment is (session.py).
"""

from __future__ import annotations

import py_compile
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoresearch_ray.errors import SupervisionError
from autoresearch_ray.training.confinement import Confinement
from autoresearch_ray.training.launching import ANSWER_SECONDS, READY_SECONDS, LauncherClient
from autoresearch_ray.training.limits import SupervisorSettings
from autoresearch_ray.training.wire import Wire, WireClosed, WireTimeout


class Crew(LauncherClient):
    """One launcher and one scorer. Starting does not wait; `wait_ready` does."""

    def __init__(self, settings: SupervisorSettings) -> None:
        """Start the launcher (Raises SupervisionError: prepare.py cannot be read)."""
        self._prepare = _read(settings.prepare)
        confinement = Confinement(settings.sandbox, settings.device)
        super().__init__(settings.device, settings.threads, settings.scratch, confinement)
        self._settings = settings
        self.scorer: Wire | None = None
        self.scorer_pid = 0
        self.hardware = ""
        self.gpu: str | None = None
        self._turn = 0

    def fork_variant(self, scratch: Path, environment: Mapping[str, str], descriptors: Sequence[int]) -> int:
        """Start a variant and return its process.

        Args:
            scratch: its folder, with train.py in it.
            environment: all of its environment.
            descriptors: the log, the channel, the memory for tokens and the memory for logits.

        Raises:
            CrewLost: the launcher is gone, or cannot fork.
        """
        order = {"op": "variant", "scratch": str(scratch), "library": str(self.library), "environment": environment}
        return self.fork(order, descriptors)

    def hear_scorer(self) -> Iterator[dict[str, Any]]:
        """Yield what the scorer has to say, if anything (Raises CrewLost)."""
        assert self.scorer is not None
        return self._heard(self.scorer, "the scorer died")

    def ask_scorer(self, request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> int:
        """Send a request; return the `turn` that its answer will carry (Raises CrewLost)."""
        assert self.scorer is not None
        self._turn += 1
        try:
            self.scorer.send({**request, "turn": self._turn}, descriptors)
        except WireClosed:
            self._lose("the scorer died")
        return self._turn

    def allocate_logits(self, size: int) -> int:
        """Have the scorer allocate memory of the GPU for logits; return its descriptor, which the caller owns.

        Raises:
            CrewLost: the scorer is gone, cannot allocate it, or does not answer.
        """
        assert self.scorer is not None
        turn = self.ask_scorer({"op": "allocate", "bytes": size})
        try:
            while True:
                answer, descriptors = self.scorer.receive(ANSWER_SECONDS)
                if answer["turn"] == turn:
                    break
        except WireClosed:
            self._lose("the scorer died")
        except WireTimeout:
            self._lose("the scorer does not answer")
        if "failed" in answer:
            self._lose(answer["failed"])
        return descriptors[0]

    def close(self) -> None:
        """End both processes and what they started, and delete the slot's folder; twice does no harm."""
        if self.scorer is not None:
            self.scorer.close()
        super().close()

    def _furnish(self) -> None:
        self.library = _make_library(self._prepare, self.folder)

    def _complete(self) -> None:
        """Start the scorer, and wait until it has opened the targets (Raises SupervisionError)."""
        ours, theirs = socket.socketpair()
        self.scorer = Wire(ours)
        with theirs:
            self.scorer_pid = self._fork({"op": "scorer"}, [theirs.fileno()])
        opened = {"op": "open", "data": str(self._settings.data.resolve()), "device": self._settings.device}
        self.scorer.send({**opened, "threads": self._settings.threads})
        answer, _ = self.scorer.receive(READY_SECONDS)
        if "failed" in answer:
            raise SupervisionError(answer["failed"])
        self.hardware, self.gpu = answer["hardware"], answer["gpu"]


def _read(prepare: Path) -> bytes:
    try:
        return prepare.read_bytes()
    except OSError as error:
        raise SupervisionError(f"{prepare}: cannot be read ({error.strerror}).") from error


def _make_library(prepare: bytes, folder: Path) -> Path:
    """Write prepare.py, with its bytecode, to a read-only folder of its own."""
    library = folder / "library"
    library.mkdir()
    copy = library / "prepare.py"
    copy.write_bytes(prepare)
    bytecode = py_compile.compile(str(copy), quiet=2)
    for path in (copy, *([Path(bytecode)] if bytecode else [])):
        path.chmod(0o444)
    for path in (library / "__pycache__", library):
        if path.exists():
            path.chmod(0o555)
    return library
