"""How strict a slot's sandbox is, and how much a variant may take: frozen records that travel to every node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["required", "best_effort", "off"]


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """What the sandboxes of one run have in common."""

    level: Level = "off"
    """`required` starts nothing where a promise does not hold; `best_effort` does what the machine can; `off` builds no
    walls."""
    readable: tuple[Path, ...] = ()
    """Files and folders that a variant may read besides what it needs to run; absolute."""
    memory_bytes: int | None = None
    """Memory of all its processes together, its scratch folder included; None is this machine's share of a slot, which
    the caller must have worked out: no limit."""
    scratch_bytes: int = 2 << 30
    """What its files may take together."""
    scratch_files: int = 100_000
    processes: int = 512
    """Processes and threads at a time."""
    open_files: int = 4096
    """Of each process."""
    output_bytes: int = 64 << 20
    """What it may print."""
    gpu_fraction: float = 1.0
    """Of a GPU's memory."""

    @property
    def on(self) -> bool:
        """Whether there are walls at all."""
        return self.level != "off"


OFF = SandboxSettings()
