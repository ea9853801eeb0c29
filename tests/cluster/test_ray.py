from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import doubles
import psutil
import pytest
import ray
import ray.exceptions
from doubles import ScriptedTrainer
from events import experiment, final

from autoresearch_ray.cluster import ray_connection
from autoresearch_ray.cluster.ray import RayCluster
from autoresearch_ray.cluster.slots import Slot
from autoresearch_ray.errors import ClusterError
from autoresearch_ray.evolution.cluster import Proposed
from autoresearch_ray.evolution.island import Member
from autoresearch_ray.evolution.noise import Noise
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Parent, Request
from autoresearch_ray.variant import Birth, Operator, Status, Variant, variant_id

ray.cloudpickle.register_pickle_by_value(doubles)  # workers do not see the tests

NOISE = Noise(0.001)


def variant(number: int, source: str = "LR = 0.5\n") -> Variant:
    birth = Birth(number, variant_id("t", number), 0, Operator.PARAMETERS, number)
    return Variant(birth, (), 0, source, "", datetime(2026, 1, 1, tzinfo=timezone.utc))


def member(number: int, score: float) -> Member:
    return Member(variant(number), (score,))


def request(birth: Birth) -> Request:
    return Request(birth, (Parent(variant(1), 1.0, None, 1),), None, "", (), ())


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with RayCluster(ScriptedTrainer(), Slot(1, 0.0), max_slots=2) as cluster:  # type: ignore[arg-type]
        yield cluster


def test_slots_are_what_the_cores_allow_up_to_the_limit(cluster: RayCluster) -> None:
    assert cluster.slots == min(2, os.cpu_count() or 1)


def test_the_worker_process_stays_for_the_next_training(cluster: RayCluster) -> None:
    processes = set()
    for number in range(4):
        cluster.train(experiment(f"w-{number}", "score 1"))
        processes.add(final(cluster)[0].result.hardware)
    assert len(processes) <= cluster.slots


def test_a_worker_that_dies_is_a_lost_experiment_and_the_next_onetrains(cluster: RayCluster) -> None:
    cluster.train(experiment("d-0", "die"))
    cluster.train(experiment("d-1", "score 2"))
    results = {event.experiment_id: event.result for event in final(cluster, 2)}
    assert results["d-0"].status is Status.LOST
    assert "worker process died" in results["d-0"].reason
    assert results["d-0"].started_at is not None
    assert results["d-1"].val_bpb == 2


def test_a_node_without_the_data_loses_the_experiment_and_says_why(cluster: RayCluster) -> None:
    cluster.train(experiment("r-0", "refuse"))
    [event] = final(cluster)
    assert event.result.status is Status.LOST
    assert event.result.reason == "DataError: this node does not have the data"


def test_operators_answer_with_values_also_when_they_break(cluster: RayCluster) -> None:
    good = Birth(20, variant_id("t", 20), 0, Operator.PARAMETERS, 20)
    bad = Birth(21, variant_id("t", 21), 0, Operator.CROSSOVER, 21)
    cluster.propose(request(good))
    cluster.propose(request(bad))  # a crossover of one parent is a defect of the caller
    answers = {event.birth: event.answer for event in final(cluster, 2) if isinstance(event, Proposed)}
    assert isinstance(answers[good], Proposal)
    assert isinstance(answers[bad], Failure)
    assert "cannot breed from 1 parents" in answers[bad].reason


def test_a_dead_operator_process_is_replaced(cluster: RayCluster) -> None:
    birth = Birth(22, variant_id("t", 22), 0, Operator.PARAMETERS, 22)
    ray.kill(cluster._operators)
    for _ in range(3):
        cluster.propose(request(birth))
    [first] = final(cluster)
    assert isinstance(first.answer, Failure)
    replacement = cluster._operators
    assert all(isinstance(event.answer, Failure) for event in final(cluster, 2))
    assert cluster._operators is replacement  # once, however many calls died with it
    cluster.propose(request(birth))
    [second] = final(cluster)
    assert isinstance(second.answer, Proposal)


def test_the_token_is_this_runs_own_and_not_in_the_home_directory(cluster: RayCluster) -> None:
    assert os.environ["RAY_AUTH_MODE"] == "token"
    kept = Path.home() / ".ray" / "auth_token"
    assert not kept.exists() or kept.read_text().strip() != os.environ["RAY_AUTH_TOKEN"]


def test_every_error_that_a_task_or_actor_can_raise_has_words() -> None:
    known = tuple(kind for kind, _ in ray_connection.FAILURES)
    kinds = [kind for _, kind in inspect.getmembers(ray.exceptions, inspect.isclass) if issubclass(kind, known)]
    assert {"WorkerCrashedError", "ActorDiedError", "NodeDiedError", "OutOfMemoryError", "TaskCancelledError"} <= {
        kind.__name__ for kind in kinds
    }


@pytest.mark.parametrize(
    ("address", "says"),
    [("127.0.0.1:1", "No Ray cluster answers at 127.0.0.1:1"), ("nonsense", "is not a Ray address")],
)
def test_an_address_that_nobody_answers_at(address: str, says: str) -> None:
    with pytest.raises(ClusterError, match=says):
        ray_connection._knock(address)


@pytest.mark.parametrize(
    "error",
    [
        Exception("The current node timed out during startup. This could happen because\nsome of the raylet failed."),
        ray.exceptions.RaySystemError("the store is gone"),
        TimeoutError("no answer"),
    ],
    ids=["plain", "ray", "timeout"],
)
def test_ray_that_does_not_start_is_a_sentence(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ClusterError, match=r"^Ray does not start on this machine: .*[a-z]\. Is this machine very busy"):
        ray_connection.connect(None, Path("nowhere"))
    with pytest.raises(ClusterError, match=r"^Cannot reach the Ray cluster at 'auto': .*[a-z][.]$"):
        ray_connection.connect("auto", None)


def test_a_fault_of_our_own_in_starting_ray_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise TypeError("no such argument")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(TypeError, match="no such argument"):
        ray_connection.connect(None, Path("nowhere"))


@pytest.mark.slow
def test_nothing_runs_on_after_the_end_and_no_room_is_a_sentence() -> None:
    script = Path(__file__).with_name("open_and_close.py")
    with psutil.Popen([os.sys.executable, str(script)], stdout=-1, text=True) as process:
        output, _ = process.communicate(timeout=120)
    assert "No node has room for one experiment, which needs 1 CPU and 0.25 GPU" in output
    left = [int(word) for word in output.split("pids:")[1].split()]
    assert left
    assert not [pid for pid in left if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
