"""One experiment's conversation with a variant's process: answers its messages, serves its data, keeps its record.

Owns what was served, claimed and scored, and in which order things may be asked. Does not own processes (crew.py),
time limits (limits.py) or the event loop (trial.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from autoresearch_ray.training import memory
from autoresearch_ray.training.clock import Clock
from autoresearch_ray.training.data import PreparedData, TrainingOrder
from autoresearch_ray.training.launcher import DATA, LOGITS
from autoresearch_ray.training.limits import Moments, SupervisorSettings, Verdict
from autoresearch_ray.training.protocol import Batch, Evaluate, Hello, Message, ProtocolViolation
from autoresearch_ray.variant import Status

REGION_BYTES = 1 << 25
"""The tokens of one batch take at most so many bytes; there are two such regions, used in turn."""
CURVE_POINTS = 100

Answer = Mapping[str, Any]
"""What is sent to the variant."""


@dataclass(frozen=True, slots=True)
class AskScorer:
    """The variant waits for what the scorer says to this."""

    request: Mapping[str, Any]


@dataclass(slots=True)
class Record:
    """What is known of one experiment so far. Loss, curve, parameters and peak memory are the variant's claims."""

    tokens: int = 0
    steps: int = 0
    train_seconds: float = 0.0
    loss: float | None = None
    curve: list[tuple[float, float]] = field(default_factory=list)
    parameters: int | None = None
    claimed_peak: int | None = None
    val_bpb: float | None = None
    holdout_bpb: float | None = None


class Session:
    """Answers one variant; a message out of place is a `ProtocolViolation`, a request that asks too much an `error`."""

    def __init__(
        self,
        settings: SupervisorSettings,
        data: PreparedData,
        order: TrainingOrder,
        clock: Clock,
        data_memory: int,
        hello: Answer,
        holdout: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to count the start-up time.

        Args:
            settings: the slot's.
            data: what is trained on.
            order: the order of this experiment's training rows.
            clock: not yet started.
            data_memory: descriptor of the memory that tokens are written to, two regions of `REGION_BYTES`.
            hello: the answer to the first message (`greeting`).
            holdout: the holdout rows are scored too; nothing tells the variant.
            now: the monotonic clock.
        """
        self._settings = settings
        self._data = data
        self._order = order
        self._clock = clock
        self._data_memory = data_memory
        self._hello = hello
        self._holdout = holdout
        self._now = now
        self._greeted = False
        self._awaits_logits = False
        self._last_served = 0.0
        self.used_seconds = 0.0
        """What the clock has counted, also after `evaluate`."""
        self.longest_step = 0.0
        """The longest time between two batches, on the clock."""
        self._thinning = 1
        self._losses = 0
        self.moments = Moments(now())
        self.record = Record()
        self.verdict: Verdict | None = None
        """Set when the conversation is over."""

    @property
    def progress(self) -> float:
        """How much of the budget is spent, in [0, 1]."""
        return min(1.0, self.record.train_seconds / self._settings.train_seconds)

    def tick(self) -> None:
        """Read the clock, which stops when the first logits come; what it says at `evaluate` is the training's."""
        if self.moments.answered is None:
            self.used_seconds = self._clock.seconds()
        if self.moments.evaluate is None:
            self.record.train_seconds = self.used_seconds

    def answer(self, message: Message) -> Answer | AskScorer:
        """Return the answer to one message.

        Raises:
            ProtocolViolation: the message may not come now.
        """
        if isinstance(message, Hello):
            if self._greeted:
                raise ProtocolViolation("said hello twice")
            self._greeted = True
            return self._hello
        if not self._greeted:
            raise ProtocolViolation("a message came before hello")
        if isinstance(message, Batch):
            return self._serve_batch(message)
        if isinstance(message, Evaluate):
            return self._begin_scoring(message)
        return self._take_logits()

    def hear_scorer(self, heard: Mapping[str, Any]) -> Answer:
        """Return what the variant is told of the scorer's answer; its last one sets the verdict."""
        if heard.get("rows"):
            self._awaits_logits = True
            return dict(heard["rows"])
        self.moments.scored = self._now()
        if "refused" in heard:
            return self._end(Status.REJECTED if heard["broke_rule"] else Status.CRASHED, heard["refused"])
        score = bits_per_byte(*heard["val"])
        if not math.isfinite(score):
            return self._end(Status.CRASHED, "the score is not finite")
        self.record.val_bpb = score
        if self._holdout:
            self.record.holdout_bpb = bits_per_byte(*heard["holdout"])
        self.verdict = Verdict(Status.COMPLETED)
        return {"val_bpb": score}

    def _serve_batch(self, wanted: Batch) -> Answer:
        if self.moments.evaluate is not None:
            return {"error": "there are no batches after evaluate_bpb"}
        if wanted.length > self._data.sequence_length:
            return {"error": f"T is {wanted.length}; a row has {self._data.sequence_length} tokens"}
        size = 2 * wanted.batch * (wanted.length + 1)
        if size > REGION_BYTES:
            return {"error": f"a batch of {wanted.batch} x {wanted.length} tokens is too large"}
        if wanted.loss is not None and not math.isfinite(wanted.loss):
            return self._end(Status.CRASHED, f"the training loss is {wanted.loss}")
        if self.moments.first_batch is None:
            self.moments.first_batch = self._now()
            self._clock.start()
        self.tick()
        self.longest_step = max(self.longest_step, self.used_seconds - self._last_served)
        self._last_served = self.used_seconds
        if wanted.loss is not None:
            self._note_loss(wanted.loss)
        if self.progress >= 1.0:
            return {"end": True, "progress": 1.0}
        offset = self.record.steps % 2 * REGION_BYTES
        memory.write(self._data_memory, self._order.draw(wanted.batch, wanted.length).data, offset)
        self.record.steps += 1
        self.record.tokens += wanted.batch * wanted.length
        return {"offset": offset, "progress": self.progress}

    def _begin_scoring(self, wanted: Evaluate) -> Answer | AskScorer:
        if self.moments.evaluate is not None:
            return {"error": "evaluate_bpb scores once"}
        if self.moments.first_batch is None:
            return self._end(Status.CRASHED, "called evaluate_bpb without drawing a batch: nothing was trained")
        self.tick()
        self.moments.evaluate = self._now()
        self.record.parameters = wanted.parameters
        self.record.claimed_peak = wanted.peak_memory_bytes
        return AskScorer({"op": "begin", "dtype": wanted.dtype, "holdout": self._holdout})

    def _take_logits(self) -> AskScorer:
        if not self._awaits_logits:
            raise ProtocolViolation("logits came that were not asked for")
        self._awaits_logits = False
        if self.moments.answered is None:
            self.tick()
            self.moments.answered = self._now()
        return AskScorer({"op": "logits"})

    def _end(self, status: Status, reason: str) -> Answer:
        self.verdict = Verdict(status, reason)
        return {"error": reason}

    def _note_loss(self, loss: float) -> None:
        """Keep every n-th loss, with n such that at most `CURVE_POINTS` are kept."""
        self.record.loss = loss
        if self._losses % self._thinning == 0:
            self.record.curve.append((self.progress, loss))
        self._losses += 1
        if len(self.record.curve) > CURVE_POINTS:
            self.record.curve = self.record.curve[::2]
            self._thinning *= 2


def greeting(settings: SupervisorSettings, data: PreparedData, seed: int, logits_bytes: int) -> Answer:
    """Return what a variant is told at first."""
    return {
        "sequence_length": data.sequence_length,
        "vocab_size": data.vocab_size,
        "bos_token": data.bos_token,
        "seed": seed,
        "device": settings.device,
        "threads": settings.threads,
        "train_seconds": settings.train_seconds,
        "data_fd": DATA,
        "data_bytes": 2 * REGION_BYTES,
        "logits_fd": LOGITS,
        "logits_bytes": logits_bytes,
    }


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """Return nats / (ln 2 x bytes), the score; infinite when there are no bytes."""
    return nats / (math.log(2) * n_bytes) if n_bytes else math.inf
