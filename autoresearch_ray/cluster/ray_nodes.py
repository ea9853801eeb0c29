"""Has every node of a Ray cluster examine itself, for `doctor`.

Does not own what is looked at (node.py).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autoresearch_ray.cluster.node import Examination, Finding, Question
from autoresearch_ray.cluster.ray_actors import examine_task
from autoresearch_ray.cluster.ray_connection import connect, nodes, sentence

_EXAMINATION_SECONDS = 120.0


def examine_nodes(address: str, question: Question) -> list[Examination]:
    """Have every node of a cluster examine itself, all at once.

    Args:
        address: of the cluster, `auto` or `host:port`.
        question: what is looked for.

    Returns:
        One examination a node; of a node that does not answer it says so.

    Raises:
        ClusterError: the address does not answer.
    """
    connect(address, None)
    try:
        asked = []
        for node in nodes():
            if node["Alive"]:
                place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}:{node['NodeManagerPort']})"
                asked.append((name, examine_task.options(scheduling_strategy=place).remote(question)))
        deadline = time.monotonic() + _EXAMINATION_SECONDS
        return [_examined(name, reference, deadline) for name, reference in asked]
    finally:
        ray.shutdown()


def _examined(name: str, reference: Any, deadline: float) -> Examination:
    try:
        found: Examination = ray.get(reference, timeout=max(0.0, deadline - time.monotonic()))
        return replace(found, node=name)
    except ray.exceptions.RayError as error:
        advice = "Is the same checkout installed there, in the same place, with its environment?"
        return Examination(name, (Finding("node", False, sentence(error), advice),), ())
