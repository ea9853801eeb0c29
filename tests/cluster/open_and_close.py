"""Start Ray, note every process, end; then ask for a GPU that is not there. Run by test_ray.py."""

import doubles
import psutil
import ray
from doubles import ScriptedTrainer

from autoresearch_ray.cluster.ray import RayCluster
from autoresearch_ray.cluster.slots import Slot
from autoresearch_ray.errors import ClusterError

ray.cloudpickle.register_pickle_by_value(doubles)  # workers do not see the tests

with RayCluster(ScriptedTrainer(), Slot(1, 0.0)):  # type: ignore[arg-type]
    pids = [process.pid for process in psutil.Process().children(recursive=True)]
try:
    RayCluster(ScriptedTrainer(), Slot(1, 0.25))  # type: ignore[arg-type]
except ClusterError as error:
    print(error)
print("pids:", *pids)
