"""What the trusted side wants of the walls around one slot's variants, worked out for this machine.

Does not own the walls (sandbox/), which the launcher builds from it.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autoresearch_ray.errors import DataError, SupervisionError
from autoresearch_ray.training.card import open_cards
from autoresearch_ray.training.sandbox import readable
from autoresearch_ray.training.sandbox.kernel import LINUX
from autoresearch_ray.training.sandbox.promises import PROMISES, Promise, judge
from autoresearch_ray.training.sandbox.settings import OFF, SandboxSettings
from autoresearch_ray.training.sandbox.walls import Plan

if TYPE_CHECKING:  # whoever brings settings of their own needs no pydantic
    from autoresearch_ray.config import Config

ON_THE_GPU = "gpu_memory"
NO_WALLS = ["may do what this user may: the walls are Linux's"]
USABLE_MEMORY = 0.9
"""Of a machine's memory; the rest is the system's, Ray's and ours."""
CONTAINERS_MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where control groups of either version say what a container may have of its machine's memory."""
LEAST_MEMORY = 1 << 30
"""Bytes: with less torch does not start."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """How the variants of one slot are confined."""

    sandbox: SandboxSettings = OFF
    device: Literal["cpu", "cuda"] = "cpu"
    packages: tuple[str, ...] = readable.ROOTS
    """Distributions that a variant may import, with what they require."""
    command: str | None = None
    """A program that is run instead of a script in this interpreter."""

    @property
    def memory_bytes(self) -> int:
        """What the processes of a variant may hold together on this machine, its scratch folder included."""
        return self.sandbox.memory_bytes or share_of_memory(self.sandbox.slot_cpus, self.sandbox.slot_gpus)

    def plan(self, folder: Path) -> Plan | None:
        """Return what the launcher is to build for a slot with that folder, None for no walls."""
        if not self.sandbox.on or not LINUX:
            return None
        sandbox = self.sandbox
        access = readable.access(self.device, sandbox.readable, self.packages, self.command)
        return Plan(
            required=sandbox.level == "required",
            folder=str(folder),
            read=access.read,
            listed=access.listed,
            used=access.used,
            hidden=access.hidden,
            cuda=self.device == "cuda",
            gpu_fraction=sandbox.gpu_fraction,
            memory_bytes=self.memory_bytes,
            processes=sandbox.processes,
            open_files=sandbox.open_files,
            scratch_bytes=sandbox.scratch_bytes,
            scratch_files=sandbox.scratch_files,
        )

    def promises(self, report: Mapping[str, Any] | None) -> tuple[Promise, ...]:
        """Return what became of each promise, from what the launcher found; none without walls.

        Raises:
            SupervisionError: one does not hold, and all are required.
        """
        names = [name for name in PROMISES if name != ON_THE_GPU]
        if report is None and self.sandbox.on:
            report = {"found": dict.fromkeys(names, NO_WALLS), "missing": {}, "watched_memory": False}
        if report is None:
            return ()
        promises = judge(report["found"], report["missing"], names)
        if report["watched_memory"]:
            by = ("watch",) if self.device == "cuda" else ("limits", "watch")
            promises = tuple(replace(promise, by=by) if promise.name == "memory" else promise for promise in promises)
        if self.device == "cuda":
            promises += (_on_the_gpu(self.sandbox.slot_gpus),)
        if self.sandbox.level == "required":
            demand(promises)
        return promises


def _on_the_gpu(share: float) -> Promise:
    """Return whether a variant that takes more than its share of a GPU's memory would be noticed."""
    if not 0 < share < 1:
        return Promise(ON_THE_GPU, True, by=("exclusive",))
    cards = open_cards()
    if cards is not None and cards.smallest is not None:
        return Promise(ON_THE_GPU, True, by=("watch", "torch"))
    return Promise(
        ON_THE_GPU,
        False,
        "a variant that goes round torch is not noticed: the driver's library (NVML) does not answer",
        "make libnvidia-ml.so.1 available, or give each slot a GPU of its own (num_gpus: 1.0)",
        ("torch",),
    )


def share_of_memory(cpus: float, gpus: float) -> int:
    """Return the bytes of this machine's memory that belong to a slot with so many CPU cores or GPUs; both 0: all."""
    if gpus:
        share = gpus / max(1, len(glob.glob("/dev/nvidia[0-9]*")))
    else:
        share = cpus / (os.cpu_count() or 1) if cpus else 1.0
    return max(LEAST_MEMORY, int(USABLE_MEMORY * machine_memory() * min(1.0, share)))


def machine_memory() -> int:
    """Return the bytes of memory that this machine has, or that the container has in which we run."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in CONTAINERS_MEMORY:
        with contextlib.suppress(OSError, ValueError):  # ValueError: `max`, which is no limit
            total = min(total, int(limit.read_text()))
    return total


def demand(promises: Sequence[Promise]) -> None:
    """Raise SupervisionError unless all hold."""
    broken = [promise for promise in promises if not promise.held]
    if broken:
        told = "; ".join(f"{promise.name} ({promise.why_not}; remedy: {promise.remedy})" for promise in broken)
        raise SupervisionError(
            f"sandbox is required, and this machine does not keep {len(broken)} of its promises: {told}. "
            "`sandbox: best_effort` goes on without them."
        )


def sandbox_of(config: Config) -> SandboxSettings:
    """Return what a configuration says about the walls (Raises DataError: what may be read is not there)."""
    readable = tuple(Path(os.path.abspath(path.expanduser())) for path in config.readable)
    for path in readable:
        if not path.exists():
            raise DataError(f"readable: {path} does not exist.")
    limits, memory = config.limits, config.limits.peak_memory_gb
    return SandboxSettings(
        level=config.sandbox,
        readable=readable,
        memory_bytes=None if memory is None or config.device == "cuda" else round(memory * 2**30),
        slot_cpus=config.num_cpus,
        slot_gpus=config.num_gpus,
        scratch_bytes=round(limits.scratch_gb * 2**30),
        scratch_files=limits.scratch_files,
        processes=limits.processes,
        open_files=limits.open_files,
        output_bytes=round(limits.output_mb * 2**20),
    )
