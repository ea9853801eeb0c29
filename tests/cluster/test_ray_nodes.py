from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import doubles
import pytest
import ray
from doubles import ScriptedTrainer
from events import events_until, experiment, final, trains

from autoresearch_ray.cluster.node import Question
from autoresearch_ray.cluster.ray import RayCluster
from autoresearch_ray.cluster.ray_nodes import examine_nodes
from autoresearch_ray.cluster.slots import Slot
from autoresearch_ray.errors import ClusterError
from autoresearch_ray.evolution.cluster import Progressed
from autoresearch_ray.training.confinement import Confinement
from autoresearch_ray.training.sandbox.promises import PROMISES
from autoresearch_ray.variant import Status

ray.cloudpickle.register_pickle_by_value(doubles)  # workers do not see the tests


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    """Two real Ray nodes on this machine that say they have a GPU each."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes.add_node(num_cpus=4, num_gpus=1)
    nodes.add_node(num_cpus=4, num_gpus=1)
    nodes.wait_for_nodes()
    yield nodes
    nodes.shutdown()


@pytest.mark.slow
def test_quarters_of_gpus_on_two_nodes_and_the_loss_of_one(two_nodes: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with RayCluster(ScriptedTrainer(), Slot(1, 0.25), address=two_nodes.address) as cluster:  # type: ignore[arg-type]
        assert cluster.slots == 8
        for number in range(8):
            cluster.train(experiment(f"q-{number}", f"wait {gate}"))
        seen = events_until(cluster, lambda seen: sum(trains(event) for event in seen) == 8)
        assert {event.place for event in seen if isinstance(event, Progressed)} == {"GPU 0"}
        victim = next(iter(two_nodes.worker_nodes))
        two_nodes.remove_node(victim, allow_graceful=False)
        lost = final(cluster, 4)
        assert [event.result.status for event in lost] == [Status.LOST] * 4
        gate.touch()
        assert [event.result.status for event in final(cluster, 4)] == [Status.COMPLETED] * 4


@pytest.mark.slow
def test_nodes_with_another_gpu_model_are_left_out_and_named(two_nodes: Any, tmp_path: Path) -> None:
    two_nodes.add_node(num_cpus=4, num_gpus=1, resources={"accelerator_type:H100": 1})
    two_nodes.add_node(num_cpus=4, num_gpus=2, resources={"accelerator_type:H100": 1})
    two_nodes.add_node(num_cpus=4, num_gpus=1, resources={"accelerator_type:L4": 1})
    two_nodes.wait_for_nodes()
    with RayCluster(ScriptedTrainer(), Slot(1, 1.0), address=two_nodes.address) as cluster:  # type: ignore[arg-type]
        assert (cluster.gpu_model, cluster.slots) == ("H100", 3)
        told = cluster.warnings()
        assert sorted(sentence.partition("its GPU is ")[2].split(",")[0] for sentence in told) == [
            "L4",
            "of a model that Ray does not know",
            "of a model that Ray does not know",
        ]
        assert cluster.warnings() == []
        gate = tmp_path / "gate"
        for number in range(4):
            cluster.train(experiment(f"q-{number}", f"wait {gate}"))
        events_until(cluster, lambda seen: sum(trains(event) for event in seen) == 3)
        assert cluster.withdraw([f"q-{number}" for number in range(4)])
        gate.touch()
    with pytest.raises(ClusterError, match="1 GPU of model B200"):
        RayCluster(
            ScriptedTrainer(),  # type: ignore[arg-type]
            Slot(1, 1.0),
            address=two_nodes.address,
            gpu_model="B200",
        )


@pytest.mark.slow
def test_every_node_examines_itself(two_nodes: Any, tmp_path: Path) -> None:
    question = Question(Confinement(), tmp_path, None, "prepare it")
    examined = examine_nodes(two_nodes.address, question)
    assert len({examination.node for examination in examined}) == 3
    for examination in examined:
        assert {"Python", "torch", "data"} <= {finding.name for finding in examination.findings}
        assert {promise.name for promise in examination.promises} == set(PROMISES) - {"gpu_memory"}
