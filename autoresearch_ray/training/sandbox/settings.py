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
    """Memory of all its processes together, its scratch folder included; None is the slot's share of the machine."""
    slot_cpus: float = 0.0
    slot_gpus: float = 0.0
    """CPU cores and GPUs of one slot, from which its share follows; both 0 is all of the machine."""
    scratch_bytes: int = 2 << 30
    """What its files may take together."""
    scratch_files: int = 100_000
    processes: int = 512
    """Processes and threads at a time."""
    open_files: int = 4096
    """Of each process."""
    output_bytes: int = 64 << 20
    """What it may print."""

    @property
    def gpu_fraction(self) -> float:
        """What torch may take of a GPU's memory: a tenth of a slot's share is left to what CUDA itself takes."""
        return 0.9 * self.slot_gpus if 0 < self.slot_gpus < 1 else 1.0

    @property
    def on(self) -> bool:
        """Whether there are walls at all."""
        return self.level != "off"


OFF = SandboxSettings()
