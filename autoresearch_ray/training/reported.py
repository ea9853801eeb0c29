"""Experiments whose program reports its own score: any command, run in a copy of a directory. Nothing is verified.

Owns the copy, the environment and what is made of the program's claims. Does not own finding them (block.py).
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Literal

from autoresearch_ray.training import processes
from autoresearch_ray.training.attempt import PHASE_SECONDS, STEP_SECONDS, Attempt, Phase, printed
from autoresearch_ray.training.block import BlockReader, Claims
from autoresearch_ray.training.confinement import Confinement
from autoresearch_ray.training.directory import Snapshot
from autoresearch_ray.training.launching import CrewLost, Ended, LauncherClient, base_environment
from autoresearch_ray.training.limits import NO_LIMITS, SizeLimits, Verdict, crowd, flood
from autoresearch_ray.training.logs import reason_of_exit
from autoresearch_ray.training.sandbox.readable import ROOTS
from autoresearch_ray.training.sandbox.settings import OFF, SandboxSettings
from autoresearch_ray.training.supervisor import SlotSupervisor
from autoresearch_ray.variant import Experiment, Result, Status

LISTING_SECONDS = 0.25
"""How often processes are looked at, where they are limited."""
LARGEST_COUNT = 2**63 - 1
"""Claims of more tokens, steps, parameters or bytes than a row can hold are passed over."""

_SHOWN_CHARACTERS = 120
_PYTHONS = ("python", "python3")


@dataclass(frozen=True, slots=True)
class ReportedSettings:
    """What the experiments of one slot have in common. Seconds are wall-clock seconds."""

    snapshot: Snapshot
    """The directory, the evolved file apart."""
    evolved_file: str
    """Where the variant's text goes, relative to the directory."""
    command: tuple[str, ...]
    """What is run there. `python` is this interpreter."""
    metric: str
    """What the program calls its score."""
    train_seconds: float = 300.0
    """What the program is told of its budget; it keeps it or not."""
    longest_seconds: float = 900.0
    """From the start to the end of its process, before it is killed."""
    readable: tuple[Path, ...] = ()
    """What the program may read besides; those in the home directory are linked into the one that it sees."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    sizes: SizeLimits = NO_LIMITS
    sandbox: SandboxSettings = OFF
    packages: tuple[str, ...] = ROOTS
    """Distributions that the program may import, with what they require."""
    scratch: Path | None = None
    """Where scratch folders are made; None is the system's folder for temporary files."""


class ReportedSupervisor(SlotSupervisor[LauncherClient]):
    """Runs programs that report their own score. Its launcher imports nothing, so that a script starts in no time."""

    def __init__(self, settings: ReportedSettings) -> None:
        """Start the launcher."""
        hardware = hardware_of(settings.device)
        super().__init__(
            lambda: LauncherClient("nothing", settings.threads, settings.scratch, confinement_of(settings)),
            lambda crew, experiment: ReportedTrial(settings, hardware, crew, experiment),
        )


class ReportedTrial(Attempt[LauncherClient]):
    """Runs one program that reports its own score."""

    def __init__(self, settings: ReportedSettings, hardware: str, crew: LauncherClient, experiment: Experiment) -> None:
        """Begin nothing yet; see `Attempt`."""
        super().__init__(crew)
        self._settings = settings
        self._hardware = hardware
        self._experiment = experiment
        self._claims = Claims()
        self._block = BlockReader(settings.metric)
        self._open: dict[int, bool] = {}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave it, then judge what it printed to the last."""
        super().__exit__(kind, error, at)
        if self._verdict is None and self._crew.ended is not None:
            self._judge(self._crew.ended)

    def phases(self) -> Iterator[Phase]:
        """Run until the program has ended or must; yield now and then how long it has run."""
        shown = self._started
        try:
            self._fork()
            while self._crew.ended is None and self._verdict is None:
                self._step(STEP_SECONDS)
                elapsed = time.monotonic() - self._started
                if self._started + elapsed - shown >= PHASE_SECONDS:
                    shown = self._started + elapsed
                    yield Phase("training", min(1.0, elapsed / self._settings.train_seconds), elapsed)
        except CrewLost as error:
            self._verdict = Verdict(Status.LOST, str(error))

    def result(self) -> Result:
        """Return what came of it; after the context was left."""
        assert self._verdict is not None, "result before the end"
        completed = self._verdict.status is Status.COMPLETED
        wall = self._ended - self._started
        seconds = self._claims.number("training_seconds")
        return Result(
            status=self._verdict.status,
            reason=self._verdict.reason,
            val_bpb=self._claims.number(self._settings.metric) if completed else None,
            train_seconds=wall if seconds is None else min(max(seconds, 0.0), wall),
            wall_seconds=wall,
            tokens=_count(self._claims, "total_tokens_M", 1e6) or 0,
            steps=_count(self._claims, "num_steps") or 0,
            parameters=_count(self._claims, "num_params_M", 1e6),
            peak_memory_bytes=self._peak_memory(),
            log_tail=self._log_tail.text(),
            sandbox=self._crew.held,
            hardware=self._hardware,
            node=platform.node(),
            gpu=os.environ.get("CUDA_VISIBLE_DEVICES") if self._settings.device == "cuda" else None,
            started_at=self._started_at,
            ended_at=datetime.now(timezone.utc),
        )

    def _acquire(self) -> None:
        """Make the copy and the pipes; the program's ends are kept until it has been forked."""
        scratch = self._scratch = self._make_scratch()
        self._folder, self._home = scratch / "program", scratch / "home"
        self._folder.mkdir()
        self._home.mkdir()
        settings = self._settings
        settings.snapshot.write(self._folder)
        evolved = self._folder / settings.evolved_file
        evolved.parent.mkdir(parents=True, exist_ok=True)
        evolved.write_bytes(self._experiment.source.encode("utf-8", errors="surrogatepass"))
        link_home(settings.readable, self._home)
        self._selector = self._resources.enter_context(selectors.DefaultSelector())
        self._theirs = []
        for reports in (True, False):
            ours, theirs = os.pipe()
            os.set_blocking(ours, False)
            self._keep(ours)
            self._theirs.append(theirs)
            self._open[ours] = reports
            self._selector.register(ours, selectors.EVENT_READ)
        self._selector.register(self._crew.launcher, selectors.EVENT_READ)

    def _fork(self) -> None:
        settings = self._settings
        script = warm_script(settings.command)
        order = {
            "op": "command",
            "scratch": str(self._scratch),
            "folder": str(self._folder),
            "environment": program_environment(settings, self._home, self._experiment.seed),
            "command": script or started(settings.command),
            "library": str((self._folder / script[0]).parent) if script else None,
        }
        try:
            self._crew.fork(order, self._theirs)
        finally:
            for descriptor in self._theirs:
                os.close(descriptor)

    def _step(self, timeout: float) -> None:
        """Wait for something to happen, deal with it, and look at the limits."""
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._crew.launcher:
                self._crew.hear_launcher()
        self._read_log()
        if self._listing_is_due(LISTING_SECONDS):
            self._look()
        self._verdict = self._verdict or flood(self._log_tail.taken, self._settings.sandbox)
        longest, elapsed = self._settings.longest_seconds, time.monotonic() - self._started
        if self._verdict is None and self._crew.ended is None and elapsed > longest:
            self._verdict = Verdict(Status.TIMED_OUT, f"took longer than {longest:g} s")

    def _look(self) -> None:
        """Look at the program's processes, and set the verdict if they are too many or too large."""
        settings = self._settings
        limit = settings.sizes.memory_bytes if settings.device == "cpu" else None
        if limit is None and not settings.sandbox.on:
            return
        self._tree.look()
        members = self._tree.members()
        self._verdict = crowd(len(members), self._crew.refusals, settings.sandbox)
        if settings.device == "cuda":
            self._verdict = self._verdict or self._crew.gpu_verdict(members)
        if limit is not None or self._crew.watches_memory:
            held = processes.memory(members, enough=limit or self._crew.memory_bytes or 0)
            self._memory = max(self._memory or 0, held)
            too_large = settings.sizes.verdict(self._memory, None) or self._crew.memory_verdict(held)
            self._verdict = self._verdict or too_large

    def _read_log(self) -> None:
        for descriptor, reports in list(self._open.items()):
            for received in printed(descriptor):
                if not received:
                    self._selector.unregister(descriptor)
                    del self._open[descriptor]
                    break
                self._log_tail.feed(received)
                if reports:
                    self._block.feed(received)

    def _judge(self, ended: Ended) -> None:
        self._claims = self._block.claims()
        log = self._log_tail.text()
        self._verdict = self._crew.memory_verdict(None) or judge(ended.code, self._claims, self._settings.metric, log)
        if self._verdict.status is Status.CRASHED:
            self._verdict = Verdict(Status.CRASHED, self._crew.explain(self._verdict.reason, log))
        if self._verdict.status is Status.COMPLETED:
            too_large = self._settings.sizes.verdict(self._peak_memory(), _count(self._claims, "num_params_M", 1e6))
            self._verdict = too_large or self._verdict

    def _peak_memory(self) -> int | None:
        """Return what was measured; on a GPU what the program says of the device."""
        if self._settings.device == "cuda":
            return _count(self._claims, "peak_vram_mb", 2**20)
        measured = self._crew.ended.peak_memory_bytes if self._crew.ended else None
        return max(measured or 0, self._memory or 0) or None


def confinement_of(settings: ReportedSettings) -> Confinement:
    """Return how a program is confined: it reads what its command names, and what its folder's links lead to."""
    words = started(settings.command)
    path = os.environ.get("PATH", os.defpath)
    command = None if words[0] == sys.executable else shutil.which(words[0], path=path)
    named = [Path(word) for word in words[1:] if os.path.isabs(word)]
    linked = [Path(target) for _, target in settings.snapshot.links if os.path.isabs(target)]
    readable_too = tuple(path for path in (*settings.readable, *named, *linked) if path.exists())
    sandbox = replace(settings.sandbox, readable=readable_too)
    return Confinement(sandbox, settings.device, settings.packages, command)


def judge(code: int | None, claims: Claims, metric: str, log: str) -> Verdict:
    """Return the verdict on a program that has ended by itself.

    Args:
        code: its exit code, minus the number of a signal, None if it is not known.
        claims: what it printed of itself.
        metric: what it was to report.
        log: the end of what it printed.
    """
    if code:
        return Verdict(Status.CRASHED, reason_of_exit(code, log))
    if claims.number(metric) is not None:
        return Verdict(Status.COMPLETED)
    if metric in claims.values:
        return Verdict(Status.CRASHED, f"reported {metric}: {claims.values[metric]}, which is not a finite number")
    lines = log.split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")[:_SHOWN_CHARACTERS]
    end = f"the last line it printed is {last!r}" if last else "it printed nothing"
    return Verdict(
        Status.CRASHED,
        f"reported no {metric} (a line `---` and then `{metric}: NUMBER`, or `METRIC {metric}=NUMBER`); {end}",
    )


def ignores_seed(scores: Sequence[float]) -> bool:
    """Return whether a program's scores under different seeds are all the same: then its noise cannot be known.

    Args:
        scores: of one program, each under another `AUTORESEARCH_SEED`; fewer than two say nothing.
    """
    return len(scores) > 1 and all(score == scores[0] for score in scores)


def warm_script(command: Sequence[str]) -> tuple[str, ...] | None:
    """Return script and arguments of a `python FILE ...` that the launcher's own interpreter can run, None for others.

    Options of the interpreter, and an interpreter named by its path, ask for a process started afresh.
    """
    if (
        len(command) > 1
        and command[0] in _PYTHONS
        and command[1].endswith(".py")
        and not command[1].startswith(("-", "/"))
    ):
        return tuple(command[1:])
    return None


def started(command: Sequence[str]) -> tuple[str, ...]:
    """Return a command as it is started: `python` is the interpreter that runs this."""
    return (sys.executable if command[0] in _PYTHONS else command[0], *command[1:])


def program_environment(settings: ReportedSettings, home: Path, seed: int) -> dict[str, str]:
    """Return all of the environment that a program sees."""
    folder = str(home)
    return base_environment(os.environ, settings.threads) | {
        "AUTORESEARCH_DEVICE": settings.device,
        "AUTORESEARCH_SEED": str(seed),
        "AUTORESEARCH_TRAIN_SECONDS": f"{settings.train_seconds:g}",
        "HOME": folder,
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": folder,
        "USER": "variant",
    }


def link_home(readable: Sequence[Path], home: Path) -> None:
    """Make what lies in our home directory be found under the same name in the one that a program sees."""
    ours = Path.home()
    for path in readable:
        if ours in path.parents and not any(outer in path.parents for outer in readable):
            link = home / path.relative_to(ours)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)


def hardware_of(device: Literal["cpu", "cuda"]) -> str:
    """Return the class of this machine, as `NVIDIA H100 80GB HBM3` or `cpu x86_64`, without torch."""
    if device == "cuda":
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        if mine := os.environ.get("CUDA_VISIBLE_DEVICES"):
            command.append(f"--id={mine}")
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            names = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
            return names[0].strip() if names else "cuda"
        return "cuda"
    return f"cpu {platform.machine()}"


def _count(claims: Claims, name: str, unit: float = 1.0) -> int | None:
    """Return a claim as a whole number, None if there is none or it makes no sense."""
    value = claims.number(name)
    if value is None or not 0 <= value * unit <= LARGEST_COUNT or math.isinf(value * unit):
        return None
    return min(round(value * unit), LARGEST_COUNT)
