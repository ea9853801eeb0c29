"""The settings of a slot's supervisor, and what its limits of time and size say. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autoresearch_ray.training.sandbox.settings import OFF, SandboxSettings
from autoresearch_ray.variant import Status

CROWDED = 0.9
"""Of the processes that a variant may have: with so many it is ended, before starting more fails."""
PATIENT_REFUSALS = 100
"""Processes that a variant may try to start in vain. One that goes on is only in the way of its neighbours."""


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """How large a variant may be; None is no limit."""

    memory_bytes: int | None = None
    """Memory of all its processes together on the CPU; on a GPU the memory of the device, as far as it says."""
    parameters: float | None = None
    """Parameters of its model, as it counts them."""

    def verdict(self, memory_bytes: int | None, parameters: int | None) -> Verdict | None:
        """Return the verdict on a variant that is too large, or None while it is not; None values are not known."""
        if self.memory_bytes is not None and memory_bytes is not None and memory_bytes > self.memory_bytes:
            used, most = memory_bytes / 2**30, self.memory_bytes / 2**30
            return Verdict(Status.CRASHED, f"used {used:.2f} GB of memory; limits.peak_memory_gb is {most:g}")
        if self.parameters is not None and parameters is not None and parameters > self.parameters:
            count, most = parameters / 1e6, self.parameters / 1e6
            return Verdict(Status.REJECTED, f"has {count:.2f} M parameters; limits.parameters_M is {most:g}")
        return None


NO_LIMITS = SizeLimits()
FIRST_ANSWER_SECONDS = {"cpu": 0.5, "cuda": 30.0}
"""From the end of training to the first logits, by device: on a GPU the model may have to be compiled for scoring."""


@dataclass(frozen=True, slots=True)
class SupervisorSettings:
    """What the experiments of one slot have in common. Seconds are wall-clock seconds unless said otherwise."""

    data: Path
    """A prepared folder."""
    prepare: Path
    """The fixed prepare.py."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    """Threads that a training may use; its clock on the CPU is divided by them."""
    train_seconds: float = 300.0
    """Budget, on the experiment's clock."""
    startup_seconds: float = 300.0
    """From the start to the first batch."""
    scoring_seconds: float = 300.0
    """From `evaluate_bpb` to the score."""
    grace_seconds: float | None = None
    """From the end of the budget to `evaluate_bpb`, on the experiment's clock; room for the last steps. None: 5 % of
    the budget or three of its longest steps, at least 0.5 s and at most 5 % or 3 s."""
    longest_training_seconds: float | None = None
    """From the first batch to `evaluate_bpb`, for a clock that does not advance. None: 10 budgets and 30 s, so that a
    machine that is busy with other things is not taken for a variant that sleeps."""
    exit_seconds: float = 5.0
    """From the score to the end of the process, before it is killed."""
    gpu_share: float = 1.0
    """Share of the GPU that one experiment has, at which its clock runs."""
    sizes: SizeLimits = NO_LIMITS
    sandbox: SandboxSettings = OFF
    scratch: Path | None = None
    """Where scratch folders are made; None is the system's folder for temporary files."""

    def grace(self, longest_step: float = 0.0) -> float:
        """Return the grace in seconds of the experiment's clock, by the longest time between two of its batches."""
        if self.grace_seconds is not None:
            return self.grace_seconds
        share = 0.05 * self.train_seconds
        return min(max(3.0, share), max(0.5, share, 3.0 * longest_step))

    @property
    def first_answer(self) -> float:
        """Seconds of the experiment's clock that the first logits may come after the grace."""
        return FIRST_ANSWER_SECONDS[self.device]

    @property
    def longest_training(self) -> float:
        """The wall-clock limit of training in seconds."""
        if self.longest_training_seconds is None:
            return 10.0 * self.train_seconds + 30.0
        return self.longest_training_seconds


@dataclass(slots=True)
class Moments:
    """When an experiment reached what, on the monotonic clock; None is not yet."""

    started: float
    first_batch: float | None = None
    evaluate: float | None = None
    answered: float | None = None
    """The first logits came."""
    scored: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an experiment ended, and why if not well."""

    status: Status
    reason: str = ""


def flood(printed: int, sandbox: SandboxSettings) -> Verdict | None:
    """Return the verdict on a variant that has printed so many bytes, or None while that is not too much."""
    if not sandbox.on or printed <= sandbox.output_bytes:
        return None
    return Verdict(Status.CRASHED, f"printed more than {sandbox.output_bytes / 2**20:g} MB: limits.output_mb")


def crowd(processes: int, refusals: int, sandbox: SandboxSettings) -> Verdict | None:
    """Return the verdict on a variant that starts processes without end, or None.

    Args:
        processes: how many it has.
        refusals: how many could not be started because there were enough, as far as somebody counts them.
        sandbox: the slot's.
    """
    if not sandbox.on or (processes < CROWDED * sandbox.processes and refusals <= PATIENT_REFUSALS):
        return None
    allowed = f"the sandbox allows {sandbox.processes} processes and threads: limits.processes"
    return Verdict(Status.CRASHED, f"starts processes without end ({allowed})")


def overdue(
    settings: SupervisorSettings, moments: Moments, now: float, train_seconds: float, longest_step: float = 0.0
) -> Verdict | None:
    """Return the verdict on an experiment that is late, or None while it is not.

    Args:
        settings: the allowances.
        moments: what was reached so far.
        now: the monotonic clock.
        train_seconds: the experiment's clock, which runs on until the first logits come: else a variant could go on
            training between `evaluate_bpb` and them.
        longest_step: the longest time between two of its batches, on that clock.
    """
    reason = None
    grace = settings.grace(longest_step)
    over = train_seconds - settings.train_seconds
    if moments.scored is not None:
        return None
    if moments.evaluate is not None:
        if now - moments.evaluate > settings.scoring_seconds:
            reason = f"scoring took longer than {settings.scoring_seconds:g} s"
        elif moments.answered is None and over > grace + settings.first_answer:
            allowed = round(grace + settings.first_answer, 2)
            reason = f"called evaluate_bpb, but gave no logits within {allowed:g} s of the end of its training budget"
    elif moments.first_batch is not None:
        if over > grace:
            reason = f"did not call evaluate_bpb within {round(grace, 2):g} s of the end of its training budget"
        elif now - moments.first_batch > settings.longest_training:
            reason = (
                f"training took longer than {settings.longest_training:g} s of wall-clock time, "
                f"of which its clock counted {train_seconds:.1f} s: it waits, or the machine is too busy"
            )
    elif now - moments.started > settings.startup_seconds:
        reason = f"drew no batch within {settings.startup_seconds:g} s"
    return None if reason is None else Verdict(Status.TIMED_OUT, reason)
