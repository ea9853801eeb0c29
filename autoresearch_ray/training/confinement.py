"""What the trusted side wants of the walls around one slot's variants, worked out for this machine.

Does not own the walls (sandbox/), which the launcher builds from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from autoresearch_ray.errors import SupervisionError
from autoresearch_ray.training.sandbox import readable
from autoresearch_ray.training.sandbox.promises import PROMISES, Promise, judge
from autoresearch_ray.training.sandbox.settings import OFF, SandboxSettings
from autoresearch_ray.training.sandbox.walls import Plan

ON_THE_GPU = "gpu_memory"


@dataclass(frozen=True, slots=True)
class Confinement:
    """How the variants of one slot are confined."""

    sandbox: SandboxSettings = OFF
    device: Literal["cpu", "cuda"] = "cpu"
    packages: tuple[str, ...] = readable.ROOTS
    """Distributions that a variant may import, with what they require."""
    command: str | None = None
    """A program that is run instead of a script in this interpreter."""

    def plan(self, folder: Path) -> Plan | None:
        """Return what the launcher is to build for a slot with that folder, None for no walls."""
        if not self.sandbox.on:
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
            memory_bytes=sandbox.memory_bytes,
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
        if report is None:
            return ()
        names = [name for name in PROMISES if name != ON_THE_GPU]
        promises = judge(report["found"], report["missing"], names)
        if self.sandbox.level == "required":
            demand(promises)
        return promises


def demand(promises: Sequence[Promise]) -> None:
    """Raise SupervisionError unless all hold."""
    broken = [promise for promise in promises if not promise.held]
    if broken:
        told = "; ".join(f"{promise.name} ({promise.why_not}; remedy: {promise.remedy})" for promise in broken)
        raise SupervisionError(
            f"sandbox is required, and this machine does not keep {len(broken)} of its promises: {told}. "
            "`sandbox: best_effort` goes on without them."
        )
