"""How many experiments nodes have room for, and which GPU model a run takes."""

from __future__ import annotations

from typing import Any

import pytest

from autoresearch_ray.cluster.slots import Slot, gpu_model_of, most_common_model, slots_of


def node(cpus: float, gpus: float = 0, model: str = "", alive: bool = True) -> dict[str, Any]:
    resources = {"CPU": cpus, "memory": 1e9} | ({"GPU": gpus} if gpus else {})
    return {"Alive": alive, "Resources": resources | ({f"accelerator_type:{model}": 1.0} if model else {})}


@pytest.mark.parametrize(
    ("slot", "there", "expected"),
    [
        (Slot(1, 0), node(4), 4),
        (Slot(0.3, 0), node(0.9), 3),  # 0.9 / 0.3 is less than 3 in floating point
        (Slot(2, 1), node(16, 4), 4),
        (Slot(8, 1), node(16, 4), 2),
        (Slot(1, 0.25), node(4, 1), 4),
        (Slot(1, 1), node(4), 0),
        (Slot(1, 0), node(4, alive=False), 0),
    ],
)
def test_cores_and_shares_of_gpus_bound_the_slots(slot: Slot, there: dict[str, Any], expected: int) -> None:
    assert slots_of(there, slot) == expected


def test_the_model_with_the_most_slots_is_taken() -> None:
    slot = Slot(1, 0.5)
    nodes = [node(8, 1, "H100"), node(8, 1, "H100"), node(8, 3, "A100-80G"), node(8, 8), node(8, 8, "L4", alive=False)]
    assert most_common_model(nodes, slot) == "A100-80G"
    assert most_common_model([*nodes[:2], node(8, 2, "B200")], slot) == "B200"  # a tie: by name, whatever the order
    assert most_common_model([node(8, 8)], slot) == ""
    assert gpu_model_of(nodes[0]) == "H100"
    assert gpu_model_of(nodes[3]) == ""
