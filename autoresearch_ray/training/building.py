"""Builds a program's model before it may have a slot: on the meta device, in a process behind a variant's walls.

Owns that process and what its answer means. Does not own the run on the meta device (dry_run.py) or static checks
(preflight.py).
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from autoresearch_ray.config import Config
from autoresearch_ray.errors import SupervisionError
from autoresearch_ray.training.card import open_cards
from autoresearch_ray.training.confinement import Confinement, sandbox_of, share_of_memory
from autoresearch_ray.training.data import open_data
from autoresearch_ray.training.launching import CrewLost, LauncherClient, base_environment
from autoresearch_ray.training.sandbox.settings import OFF, SandboxSettings
from autoresearch_ray.training.slot_folder import remove

LONGEST_SECONDS = 20.0
"""A program that has not come to its first batches by then is left to the training to judge."""
_EAGER_FACTOR = 2.0
# A compiled program needs about half of what the same operations hold one by one: the seed model needs 22.5 GiB on an
# H100 (benchmarks/results/seed_model_h100.txt) where these add up to 37.7.
_SCRIPT = Path(__file__).with_name("dry_run.py")
_READ_BYTES = 65_536
_MOST_BYTES = 1 << 20
_GIB = 2**30
_MARK = "dry run: "
# As in dry_run.py, which needs torch to be imported.


@dataclass(frozen=True, slots=True)
class Terms:
    """What a program finds where it is trained."""

    max_seq_len: int
    vocab_size: int
    train_seconds: float
    device: str
    """`cpu` or `cuda`; no GPU is needed to build for one."""
    memory_bytes: int | None
    """What a slot has room for; None does not look."""
    sandbox: SandboxSettings = OFF

    def constants(self) -> str:
        """Return the constants of prepare.py as JSON."""
        return json.dumps(
            {
                "MAX_SEQ_LEN": self.max_seq_len,
                "VOCAB_SIZE": self.vocab_size,
                "TIME_BUDGET": self.train_seconds,
                "SEED": 1,
                "DEVICE": self.device,
            }
        )


def terms_of(config: Config, data: Path) -> Terms:
    """Return what a program finds that is trained as a configuration says, on prepared data (Raises DataError).

    A slot has room for `limits.peak_memory_gb`, else for its share of this machine's memory, or of its smallest GPU;
    where the search is started on a machine without one, that is not known, and memory is left to the training.
    """
    limit = config.limits.peak_memory_gb
    if limit is not None:
        memory: int | None = round(limit * _GIB)
    elif config.device == "cpu":
        memory = share_of_memory(config.num_cpus, 0.0)
    else:
        cards = open_cards()
        card = None if cards is None else cards.smallest
        memory = None if card is None else round(card * config.num_gpus)
    opened = open_data(data)
    return Terms(
        opened.sequence_length, opened.vocab_size, config.train_seconds, config.device, memory, sandbox_of(config)
    )


class Builder:
    """One warm process that builds models, one after the other. Thread-safe. Started by the first that is built."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._client: LauncherClient | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def refusal(self, source: str) -> str | None:
        """Return why a program cannot be trained, in one sentence without its full stop, or None.

        Only what is certain without content is held against it: an exception of its own before or in its first steps,
        shapes that do not fit, or twice the memory that a slot has. What cannot be told passes.
        """
        with self._lock:
            try:
                outcome = self._run(source)
            except (CrewLost, SupervisionError, OSError):
                self._end()
                return None
        if outcome is None:
            return None
        if refusal := outcome.get("refusal"):
            return f"the program fails before its first steps are done: {refusal}"
        return self._too_large(outcome.get("bytes"))

    def close(self) -> None:
        """End the process; twice does no harm."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _too_large(self, used: Any) -> str | None:
        room = self._terms.memory_bytes
        if room is None or not isinstance(used, int):
            return None
        least = used / (_EAGER_FACTOR if self._terms.device == "cuda" else 1.0)
        if least <= room:
            return None
        return f"the program would need about {least / _GIB:.1f} GiB of memory, and a slot has {room / _GIB:.1f} GiB"

    def _run(self, source: str) -> dict[str, Any] | None:
        """Run a program on the meta device; None when it gave no outcome."""
        if self._client is None:
            self._client = LauncherClient("meta", 1, None, Confinement(self._terms.sandbox))
            self._client.wait_ready()
        client = self._client
        scratch = Path(tempfile.mkdtemp(prefix="scratch-", dir=client.folder))
        try:
            (scratch / "train.py").write_bytes(source.encode("utf-8", errors="surrogatepass"))
            shutil.copy(_SCRIPT, scratch / "dry_run.py")
            environment = base_environment(os.environ, 1) | {"HOME": str(scratch), "TMPDIR": str(scratch)}
            order = {
                "op": "command",
                "scratch": str(scratch),
                "library": str(scratch),
                "environment": environment,
                "command": ["dry_run.py", str(scratch / "train.py"), self._terms.constants()],
            }
            printed = self._printed(client, order)
        finally:
            client.clear({})
            remove(scratch)
        return _outcome(printed)

    def _printed(self, client: LauncherClient, order: dict[str, Any]) -> str:
        """Start the process and return what it prints until it ends, or until its time is over."""
        output, theirs = os.pipe()
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            client.fork(order, [theirs, null])
        finally:
            os.close(theirs)
            os.close(null)
        received = bytearray()
        deadline = time.monotonic() + LONGEST_SECONDS
        with selectors.DefaultSelector() as selector, open(output, "rb", buffering=0) as pipe:
            selector.register(pipe, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0 and selector.select(left):
                chunk = pipe.read(_READ_BYTES)
                if not chunk:
                    break
                received += chunk
                del received[:-_MOST_BYTES]
        return received.decode(errors="replace")


def _outcome(printed: str) -> dict[str, Any] | None:
    """Return what the last marked line says; None when there is none that can be read."""
    for line in reversed(printed.splitlines()):
        if line.startswith(_MARK):
            try:
                outcome = json.loads(line.removeprefix(_MARK))
            except ValueError:
                return None
            return outcome if isinstance(outcome, dict) else None
    return None
