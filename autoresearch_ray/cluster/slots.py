"""How many experiments a node has room for, and on which GPU: pure, on what Ray says of its nodes.

Does not own the connection (ray_connection.py) or who is left out (ray.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MODEL = "accelerator_type:"


@dataclass(frozen=True, slots=True)
class Slot:
    """What one experiment occupies: CPU cores, and a share of a GPU (0 trains on the CPU)."""

    num_cpus: float
    num_gpus: float


def slots_of(node: Mapping[str, Any], slot: Slot) -> int:
    """Return how many experiments a node has room for; none once it is gone.

    Args:
        node: as `ray.nodes` lists it.
        slot: what one experiment occupies.
    """
    if not node["Alive"]:
        return 0
    resources = node["Resources"]
    cpus = int(resources.get("CPU", 0) / slot.num_cpus + 1e-9)
    return min(cpus, int(resources.get("GPU", 0)) * round(1 / slot.num_gpus)) if slot.num_gpus else cpus


def gpu_model_of(node: Mapping[str, Any]) -> str:
    """Return the model of a node's GPUs by Ray's name, as `H100`; nothing where Ray has not recognized one."""
    return next((name.removeprefix(_MODEL) for name in sorted(node["Resources"]) if name.startswith(_MODEL)), "")


def most_common_model(nodes: Sequence[Mapping[str, Any]], slot: Slot) -> str:
    """Return the GPU model with the most slots, by name at a tie; nothing where Ray has recognized none."""
    counts: Counter[str] = Counter()
    for node in nodes:
        if (model := gpu_model_of(node)) and (held := slots_of(node, slot)):
            counts[model] += held
    return min(counts, key=lambda model: (-counts[model], model), default="")
