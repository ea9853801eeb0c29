"""One experiment that is trained and scored: its files, descriptors and event loop, from the fork to the verdict.

Does not own how it is entered and left (attempt.py), the answers (session.py) or the launcher (crew.py).
"""

from __future__ import annotations

import contextlib
import os
import platform
import selectors
import socket
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from autoresearch_ray.training import memory, processes
from autoresearch_ray.training.attempt import PHASE_SECONDS, READ_BYTES, STEP_SECONDS, Attempt, Phase, printed
from autoresearch_ray.training.block import BlockReader
from autoresearch_ray.training.claims import Measured, disagreements
from autoresearch_ray.training.clock import Clock, CpuClock, GpuClock, GroupClock
from autoresearch_ray.training.crew import Crew
from autoresearch_ray.training.data import PreparedData, TrainingOrder
from autoresearch_ray.training.launcher import CHANNEL
from autoresearch_ray.training.launching import CrewLost, base_environment
from autoresearch_ray.training.limits import SupervisorSettings, Verdict, crowd, flood, overdue
from autoresearch_ray.training.logs import reason_of_exit
from autoresearch_ray.training.protocol import LineBuffer, ProtocolViolation, encode, parse
from autoresearch_ray.training.session import REGION_BYTES, Answer, AskScorer, Session, greeting
from autoresearch_ray.variant import Experiment, Result, Status

LISTING_SECONDS = 1.0
CLOSED_CHANNEL_SECONDS = 2.0
"""A process that closed its channel has so long to end by itself, which says more about why."""


class Trial(Attempt[Crew]):
    """Trains and scores one variant."""

    def __init__(self, settings: SupervisorSettings, data: PreparedData, crew: Crew, experiment: Experiment) -> None:
        """Begin nothing yet; see `Attempt`."""
        super().__init__(crew, crew.scorer_pid)
        self._settings = settings
        self._data = data
        self._seed = experiment.seed
        self._holdout = experiment.holdout
        self._source = experiment.source
        self._awaited_turn: int | None = None
        self._channel_closed: float | None = None
        self._lines = LineBuffer()
        self._block = BlockReader("val_bpb")

    def phases(self) -> Iterator[Phase]:
        """Run until there is a verdict; yield now and then how far it has come."""
        shown, shown_at = None, 0.0
        try:
            self._fork()
            while self._verdict is None:
                self._step(STEP_SECONDS)
                phase = self._phase()
                if self._verdict is None and (phase.name != shown or time.monotonic() - shown_at >= PHASE_SECONDS):
                    shown, shown_at = phase.name, time.monotonic()
                    yield phase
            if self._verdict.status is Status.COMPLETED:
                self._wait_for_exit()
        except CrewLost as error:
            if self._verdict is None:  # else the score is known, and nothing was lost
                self._verdict = Verdict(Status.LOST, str(error))

    def result(self) -> Result:
        """Return what came of it; after the context was left."""
        assert self._verdict is not None, "result before the end"
        record, moments = self._session.record, self._session.moments
        first = moments.first_batch or moments.evaluate or self._ended
        scoring_end = moments.scored or self._ended
        wall = self._ended - self._started
        training = (moments.evaluate or self._ended) - first
        measured = Measured(record.val_bpb, record.tokens, record.steps, record.train_seconds, training, wall)
        claims = self._block.claims()
        return Result(
            status=self._verdict.status,
            reason=self._verdict.reason,
            val_bpb=record.val_bpb,
            holdout_bpb=record.holdout_bpb,
            verified=record.val_bpb is not None,
            curve=tuple(record.curve),
            train_seconds=record.train_seconds,
            startup_seconds=first - self._started,
            wall_seconds=wall,
            scoring_seconds=0.0 if moments.evaluate is None else scoring_end - moments.evaluate,
            tokens=record.tokens,
            steps=record.steps,
            parameters=record.parameters,
            peak_memory_bytes=record.claimed_peak if self._settings.device == "cuda" else self._measured_peak(),
            claimed_val_bpb=claims.number("val_bpb"),
            claim_flag=disagreements(claims, measured),
            log_tail=self._log_tail.text(),
            sandbox=self._crew.held,
            hardware=self._crew.hardware,
            node=platform.node(),
            gpu=self._crew.gpu,
            started_at=self._started_at,
            ended_at=datetime.now(timezone.utc),
        )

    def _measured_peak(self) -> int | None:
        return self._crew.ended.peak_memory_bytes if self._crew.ended else None

    def _acquire(self) -> None:
        """Make scratch folder, memories, channel and log; the variant's ends are kept until it has been forked."""
        self._scratch = self._make_scratch()
        (self._scratch / "train.py").write_bytes(self._source.encode("utf-8", errors="surrogatepass"))
        size = memory.logits_bytes(self._settings.device, self._data.sequence_length, self._data.vocab_size)
        self._data_memory = self._keep(memory.allocate("tokens", 2 * REGION_BYTES))
        self._logits_bytes = size
        self._channel, self._their_channel = socket.socketpair()
        self._channel.setblocking(False)
        self._resources.callback(self._channel.close)
        self._resources.callback(self._their_channel.close)
        log, self._their_log = os.pipe()
        self._log = self._keep(log)
        os.set_blocking(log, False)
        self._selector = self._resources.enter_context(selectors.DefaultSelector())
        for source in (self._channel, self._log, self._crew.launcher, self._crew.scorer):
            assert source is not None
            self._selector.register(source, selectors.EVENT_READ)
        order = TrainingOrder(self._data.open_rows("train"), self._seed)
        hello = greeting(self._settings, self._data, self._seed, size)
        clock, tokens = self._clock(), self._data_memory
        self._session = Session(self._settings, self._data, order, clock, tokens, hello, self._holdout)

    def _clock(self) -> Clock:
        if self._settings.device == "cuda":
            return GpuClock(self._settings.gpu_share)
        if self._crew.cpu_seconds() is not None:
            return GroupClock(lambda: self._crew.cpu_seconds() or 0.0, self._settings.threads)
        return CpuClock(self._tree, self._settings.threads)

    def _fork(self) -> None:
        on_gpu, size = self._settings.device == "cuda", self._logits_bytes
        self._logits_memory = self._keep(
            self._crew.allocate_logits(size) if on_gpu else memory.allocate("logits", size)
        )
        shared = [self._data_memory] if on_gpu else [self._data_memory, self._logits_memory]
        theirs = [memory.open_apart(descriptor) for descriptor in shared]
        memories = [*theirs, self._logits_memory] if on_gpu else theirs
        descriptors = [self._their_log, self._their_channel.fileno(), *memories]
        try:
            self._crew.fork_variant(self._scratch, variant_environment(self._settings, self._scratch), descriptors)
        finally:
            self._their_channel.close()
            for descriptor in (self._their_log, *theirs):
                os.close(descriptor)
        self._crew.ask_scorer({"op": "plan", "logits_bytes": size, "holdout": self._holdout})

    def _step(self, timeout: float) -> None:
        """Wait for something to happen, deal with it, and look at the limits."""
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._channel:
                self._read_channel()
            elif key.fileobj == self._log:
                self._read_log()
            elif key.fileobj is self._crew.launcher:
                self._crew.hear_launcher()
            else:
                self._hear_scorer()
        self._session.tick()
        if self._listing_is_due(LISTING_SECONDS):
            self._tree.look()
            self._measure_memory()
            self._verdict = self._verdict or crowd(
                len(self._tree.members()), self._crew.refusals, self._settings.sandbox
            )
        self._settle(time.monotonic())

    def _measure_memory(self) -> None:
        """Look at the memory of the variant's processes, where there is a limit to compare it with."""
        if self._settings.device == "cuda" and self._verdict is None:
            self._verdict = self._crew.gpu_verdict(self._tree.members())
        limit = self._settings.sizes.memory_bytes if self._settings.device == "cpu" else None
        if limit is not None or self._crew.watches_memory:
            self._memory = processes.memory(self._tree.members(), enough=limit or self._crew.memory_bytes or 0)
            if self._verdict is None:
                self._verdict = self._crew.memory_verdict(self._memory)

    def _settle(self, now: float) -> None:
        """Set the verdict if there is one."""
        if self._verdict is None:
            self._verdict = self._session.verdict
        if self._verdict is None and self._crew.ended is not None:
            self._read_log()
            self._verdict = self._crew.memory_verdict(None) or Verdict(Status.CRASHED, self._reason_of_exit())
        if self._verdict is None and self._channel_closed and now - self._channel_closed > CLOSED_CHANNEL_SECONDS:
            self._verdict = Verdict(Status.CRASHED, "closed its channel to the supervisor")
        if self._verdict is None:
            record, moments = self._session.record, self._session.moments
            used = self._memory if self._settings.device == "cpu" else record.claimed_peak
            session = self._session
            late = overdue(self._settings, moments, now, session.used_seconds, session.longest_step)
            self._verdict = self._settings.sizes.verdict(used, record.parameters) or late

    def _reason_of_exit(self) -> str:
        assert self._crew.ended is not None
        log = self._log_tail.text()
        reason = reason_of_exit(self._crew.ended.code or 0, log)
        return self._crew.explain(reason, log)

    def _wait_for_exit(self) -> None:
        """Let a scored variant print its block and end; what it says on its channel no longer matters."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._channel)
        deadline = time.monotonic() + self._settings.exit_seconds
        while self._crew.ended is None and (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                if key.fileobj == self._log:
                    self._read_log()
                elif key.fileobj is self._crew.launcher:
                    self._crew.hear_launcher()

    def _read_channel(self) -> None:
        try:
            received = self._channel.recv(READ_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            received = b""
        if not received:
            self._selector.unregister(self._channel)
            self._channel_closed = time.monotonic()
            return
        try:
            for line in self._lines.feed(received):
                if self._awaited_turn is not None:
                    raise ProtocolViolation("sent a message before the last one was answered")
                answer = self._session.answer(parse(line))
                if isinstance(answer, AskScorer):
                    self._ask_scorer(answer.request)
                else:
                    self._send(answer)
                if self._session.verdict is not None:
                    return
        except ProtocolViolation as violation:
            self._verdict = Verdict(Status.CRASHED, f"protocol violation: {violation}")

    def _ask_scorer(self, request: Mapping[str, Any]) -> None:
        if request["op"] == "begin":
            shared = (self._data_memory, self._logits_memory)
            self._awaited_turn = self._crew.ask_scorer({**request, "logits_bytes": self._logits_bytes}, shared)
        else:
            self._awaited_turn = self._crew.ask_scorer(request)

    def _hear_scorer(self) -> None:
        for heard in self._crew.hear_scorer():
            if heard["turn"] == self._awaited_turn:
                self._awaited_turn = None
                self._send(self._session.hear_scorer(heard))

    def _send(self, answer: Answer) -> None:
        """Send an answer without waiting; a variant that does not read its answers has broken the protocol."""
        line = encode(answer)
        try:
            sent = self._channel.send(line)
        except BlockingIOError:
            sent = 0
        except ConnectionError:
            return
        if sent < len(line) and self._session.verdict is None:
            self._verdict = Verdict(Status.CRASHED, "protocol violation: does not read the answers to its messages")

    def _read_log(self) -> None:
        for received in printed(self._log):
            if not received:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(self._log)
                return
            self._log_tail.feed(received)
            self._block.feed(received)
            if self._verdict is None:
                self._verdict = flood(self._log_tail.taken, self._settings.sandbox)

    def _phase(self) -> Phase:
        record, moments = self._session.record, self._session.moments
        if moments.evaluate is not None:
            name: Literal["starting", "training", "scoring"] = "scoring"
        else:
            name = "starting" if moments.first_batch is None else "training"
        return Phase(name, self._session.progress, record.train_seconds, record.tokens, record.loss)


def variant_environment(settings: SupervisorSettings, scratch: Path) -> dict[str, str]:
    """Return all of the environment that a variant's process sees."""
    folder = str(scratch)
    return base_environment(os.environ, settings.threads) | {
        "AUTORESEARCH_CHANNEL": str(CHANNEL),
        "HOME": folder,
        "TMPDIR": folder,
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "TRITON_CACHE_DIR": str(scratch / "triton"),
        "USER": "variant",
    }
