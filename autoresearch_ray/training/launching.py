"""The launcher of one slot, as its supervisor holds it: started once, spoken to, ended with all that it started.

Owns the slot's folder and the environment of what runs in it. Does not own what is launched (crew.py, reported.py).
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, NoReturn

from autoresearch_ray.errors import SupervisionError
from autoresearch_ray.training import processes, slot_folder
from autoresearch_ray.training.card import open_cards
from autoresearch_ray.training.confinement import Confinement
from autoresearch_ray.training.denials import explain
from autoresearch_ray.training.launcher import PATIENCE
from autoresearch_ray.training.limits import Verdict
from autoresearch_ray.training.logs import last_exception
from autoresearch_ray.training.sandbox import cgroups
from autoresearch_ray.training.sandbox.promises import Promise
from autoresearch_ray.training.wire import Wire, WireClosed, WireTimeout
from autoresearch_ray.variant import Status

READY_SECONDS = 300.0
"""To import torch, which a cold network disk can make slow."""
ANSWER_SECONDS = PATIENCE + 10.0
UNCONFINED = Confinement()
ALLOWED_VARIABLES = (
    "CUDA_DEVICE_ORDER",
    "CUDA_HOME",
    "CUDA_MPS_LOG_DIRECTORY",
    "CUDA_MPS_PIPE_DIRECTORY",
    "CUDA_PATH",
    "CUDA_VISIBLE_DEVICES",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_VISIBLE_DEVICES",
    "PATH",
    "TZ",
)
"""What a variant's process, and the launcher before it, may see of our environment."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the variant's own process ended."""

    code: int | None
    """Its exit code, minus the number of a signal, or None if it is not known."""
    peak_memory_bytes: int | None
    """Its peak resident memory."""
    memory_exceeded: bool = False
    """Whether the kernel killed one of its processes because they had used up their memory."""


class CrewLost(Exception):
    """The launcher or the scorer died or does not answer; `str(error)` says which."""


class LauncherClient:
    """One launcher. Starting does not wait; `wait_ready` does."""

    def __init__(
        self,
        preload: Literal["cpu", "cuda", "meta", "nothing"],
        threads: int,
        scratch: Path | None,
        confinement: Confinement = UNCONFINED,
    ) -> None:
        """Start the launcher.

        Args:
            preload: what it imports before it forks, a key of `launcher.PRELOADED`.
            threads: that a variant may use.
            scratch: where the slot's folder is made; None is the system's folder for temporary files.
            confinement: how variants are confined.
        """
        made = slot_folder.make(scratch)
        self.folder = made.path
        self._furnish()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
        ours, theirs = socket.socketpair()
        self.launcher = Wire(ours)
        command = [sys.executable, "-m", "autoresearch_ray.training.launcher", str(theirs.fileno()), str(made.lock)]
        self._process = subprocess.Popen(
            [*command, preload, str(self.folder)],
            cwd=Path(__file__).parents[2],
            env=base_environment(os.environ, threads),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            pass_fds=[theirs.fileno(), made.lock],
            start_new_session=True,
        )
        theirs.close()
        os.close(made.lock)  # the launcher holds it now
        self._confinement = confinement
        shared = confinement.sandbox.on and 0 < confinement.sandbox.slot_gpus < 1
        self._cards = open_cards() if shared else None
        plan = confinement.plan(self.folder)
        self._hidden = {} if plan is None else plan.hidden
        with contextlib.suppress(WireClosed):  # `wait_ready` says why it died
            self.launcher.send({"plan": None if plan is None else plan.to_json()})
        self.promises: tuple[Promise, ...] = ()
        """What became of each promise of the sandbox, once the launcher is ready; none without walls."""
        self.memory_bytes = confinement.memory_bytes if confinement.sandbox.on else None
        """What a variant's processes may hold together; None is no limit."""
        self._counters: dict[str, Path] = {}
        self._refused_before = 0
        self.watches_memory = False
        """Whether that limit is ours to watch, since the kernel does not."""
        self.pid = 0
        """The launcher's process, once it is ready. It is not our child."""
        self._born = 0.0
        self._ready = False
        self.ended: Ended | None = None
        self.lost = False
        self._closed = False

    def __enter__(self) -> LauncherClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def wait_ready(self) -> None:
        """Wait until the launcher has imported what it preloads.

        Raises:
            SupervisionError: it failed to start.
        """
        if self._ready:
            return
        self.lost = True  # until the end is reached
        try:
            ready = self.launcher.receive(READY_SECONDS)[0]
            self.pid = ready["ready"]
            used = processes.usage(self.pid)
            self._born = used.born if used else 0.0
            self.promises = self._confinement.promises(ready["walls"])
            built = ready["walls"] or {"counters": {}, "watched_memory": True}
            self._counters = {name: Path(path) for name, path in built["counters"].items()}
            self.watches_memory = self.memory_bytes is not None and built["watched_memory"]
            self._complete()
        except (WireClosed, WireTimeout, CrewLost):
            raise SupervisionError(f"The launcher of experiments did not start: {self._last_error()}") from None
        self._ready, self.lost = True, False

    def fork(self, order: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        """Start a variant and return its process (Raises CrewLost: the launcher is gone, or cannot fork)."""
        self.ended = None
        self._refused_before = self._refused()
        pid = self._fork(order, descriptors)
        self.hear_launcher()  # it may have ended already, and its end been read together with the answer
        return pid

    def hear_launcher(self) -> None:
        """Take what the launcher has to say about who ended (Raises CrewLost)."""
        for message in self._heard(self.launcher, "the launcher died"):
            self._note(message)

    def clear(self, known: Mapping[int, float]) -> None:
        """End everything that the variant started; when the launcher is gone too, at least what is known of it.

        Never raises: a launcher that cannot do it is marked as lost, and ended.

        Args:
            known: processes seen lately, as time of birth by number.
        """
        try:
            if not self.lost:
                answer = self._request({"op": "clear"}, (), "cleared")
                if self.ended is None:
                    self.ended = _ended(answer)
                return
        except CrewLost:
            pass
        for pid, born in known.items():
            processes.kill(pid, born)
        self.close()

    def close(self) -> None:
        """End the launcher and what it started, and delete the slot's folder; twice does no harm."""
        self.lost = True
        if self._closed:
            return
        self._closed = True
        if not self.launcher.finish(ANSWER_SECONDS) and self.pid:
            processes.kill(self.pid, self._born)
        self.launcher.close()
        self._process.wait()
        self._errors.close()
        slot_folder.remove(self.folder)

    @property
    def held(self) -> tuple[str, ...]:
        """The names of the promises of the sandbox that hold."""
        return tuple(promise.name for promise in self.promises if promise.held)

    def explain(self, reason: str, log: str) -> str:
        """Return the reason of a crash, with the wall that was in the way if it looks like one."""
        return explain(reason, log, self._confinement.sandbox, self.memory_bytes, self._hidden)

    @property
    def refusals(self) -> int:
        """How many processes the present variant could not start since it has enough, where the kernel counts them."""
        return self._refused() - self._refused_before

    def _refused(self) -> int:
        return cgroups.refusals(self._counters["pids"]) if "pids" in self._counters else 0

    def cpu_seconds(self) -> float | None:
        """Return the CPU seconds of all variants of this slot so far, None where the kernel does not add them up."""
        return cgroups.cpu_seconds(self._counters["time"]) if "time" in self._counters else None

    def gpu_verdict(self, pids: Collection[int]) -> Verdict | None:
        """Return the verdict on a variant whose processes hold more of the GPU than their slot has, None while not."""
        share = self._confinement.sandbox.slot_gpus
        if self._cards is None or self._cards.smallest is None:
            return None
        held, most = self._cards.held_by(pids), share * self._cards.smallest
        if held <= most:
            return None
        told = f"{held / 2**30:.1f} GB of the GPU's memory; its slot has {most / 2**30:.1f} (num_gpus is {share:g})"
        return Verdict(Status.CRASHED, f"used {told}: CUDA out of memory")

    def memory_verdict(self, held: int | None) -> Verdict | None:
        """Return the verdict on a variant that took more memory than its share, or None while it has not.

        Args:
            held: what its processes hold now, None if only the kernel has counted.
        """
        if self.memory_bytes is None:
            return None
        killed = self.ended is not None and self.ended.memory_exceeded and self.ended.code != 0
        if killed or (self.watches_memory and held is not None and held > self.memory_bytes):
            share = f"{self.memory_bytes / 2**30:.3g} GB"
            return Verdict(
                Status.CRASHED, f"used more memory than its share (the sandbox gives it {share}: out of memory)"
            )
        return None

    def _furnish(self) -> None:
        """Put into the slot's folder what variants find there."""

    def _complete(self) -> None:
        """Do what else a slot needs before its first experiment."""

    def _heard(self, wire: Wire, when_closed: str) -> Iterator[dict[str, Any]]:
        try:
            while True:
                yield wire.receive(0.0)[0]
        except WireTimeout:
            return
        except WireClosed:
            self._lose(when_closed)

    def _fork(self, order: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        pid: int = self._request(order, descriptors, "forked")["forked"]
        return pid

    def _request(self, order: Mapping[str, Any], descriptors: Sequence[int], expected: str) -> dict[str, Any]:
        """Ask the launcher and return its answer; who ended meanwhile is noted."""
        deadline = time.monotonic() + ANSWER_SECONDS
        try:
            self.launcher.send(order, descriptors)
            while True:
                answer, _ = self.launcher.receive(max(0.0, deadline - time.monotonic()))
                if expected in answer:
                    return answer
                if "failed" in answer:
                    self._lose(f"the launcher failed ({answer['failed']})")
                self._note(answer)
        except WireClosed:
            self._lose("the launcher died")
        except WireTimeout:
            self._lose("the launcher does not answer")

    def _note(self, message: Mapping[str, Any]) -> None:
        if message["ended"] == "scorer":
            self._lose("the scorer died")
        self.ended = _ended(message)

    def _lose(self, reason: str) -> NoReturn:
        self.lost = True
        cause = last_exception(self._printed())
        raise CrewLost(f"{reason} ({cause})" if cause else reason)

    def _last_error(self) -> str:
        lines = self._printed().strip().splitlines()
        return lines[-1] if lines else "it ended without a word"

    def _printed(self) -> str:
        """Return what the launcher, and a scorer, wrote to their standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")


def check_sandbox(confinement: Confinement) -> tuple[Promise, ...]:
    """Try each promise of the sandbox on this machine, in the very walls that a variant gets; takes a second.

    Whatever the level says, all walls are built and nothing is demanded.

    Raises:
        SupervisionError: the launcher cannot start.
    """
    tried = replace(confinement, sandbox=replace(confinement.sandbox, level="best_effort"))
    with LauncherClient("nothing", threads=1, scratch=None, confinement=tried) as client:
        client.wait_ready()
        return client.promises


def _ended(message: Mapping[str, Any]) -> Ended:
    return Ended(message["code"], message["peak_memory_bytes"], message.get("memory_exceeded", False))


def base_environment(ours: Mapping[str, str], threads: int) -> dict[str, str]:
    """Return the environment of the launcher: what is allowed of ours, and what torch and Python should know."""
    kept = {name: ours[name] for name in ALLOWED_VARIABLES if name in ours}
    return kept | {
        "MKL_NUM_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
    }
