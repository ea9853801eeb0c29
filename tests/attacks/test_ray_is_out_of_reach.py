"""Reaches for the Ray that it runs on: its ports, sockets, session folder, object store, token, worker processes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import ray
from arena import HONEST, PREPARE, Attempts, attacking
from events import experiment, final
from small_data import make_data

from autoresearch_ray.cluster.ray import RayCluster
from autoresearch_ray.cluster.slots import Slot
from autoresearch_ray.cluster.trainer import ScoringTrainer
from autoresearch_ray.training.data import open_data
from autoresearch_ray.training.limits import NO_LIMITS
from autoresearch_ray.training.sandbox.settings import Level, SandboxSettings

REACHES = """
import socket
from pathlib import Path

def connect(family, address):
    with socket.socket(family) as ours:
        ours.settimeout(5)
        ours.connect(address)

def find_token():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if FACTS["token"].encode()[::-1] in Path(f"/proc/{pid}/environ").read_bytes()[::-1]:
                return pid
        except OSError: pass
    raise LookupError("no process shows it")

for name, port in FACTS["ports"].items():
    attempt(name, lambda: connect(socket.AF_INET, ("127.0.0.1", port)))
for name, path in FACTS["sockets"].items():
    attempt(name, lambda: connect(socket.AF_UNIX, path))
attempt("session folder", lambda: os.listdir(FACTS["session"]))
attempt("object store", lambda: [name for name in os.listdir("/dev/shm") if "plasma" in name][0])
attempt("token of processes", find_token)
attempt("token in the environment", lambda: os.environ["RAY_AUTH_TOKEN"])
attempt("its own package", lambda: __import__("ray").__version__)
attempt("the worker's memory", lambda: open(f"/proc/{FACTS['driver']}/mem", "rb").read(0))
"""


def reach(folder: Path, level: Level) -> Attempts:
    """Run the attack as an experiment on a real Ray, and return what it told."""
    data = make_data(folder / "data")
    trainer = ScoringTrainer(
        data=data,
        data_hash=open_data(data).data_hash,
        prepare=PREPARE,
        prepare_source=PREPARE.read_text(),
        device="cpu",
        threads=1,
        train_seconds=0.1,
        startup_seconds=60.0,
        scoring_seconds=60.0,
        sizes=NO_LIMITS,
        sandbox=SandboxSettings(level=level),
    )
    with RayCluster(trainer, Slot(1, 0.0), max_slots=1) as cluster:
        cluster.train(experiment("x-0", attacking(REACHES, facts(cluster)) + HONEST))
        (measured,) = final(cluster, 1)
    return Attempts.told_by(measured.result)


def facts(cluster: RayCluster) -> dict[str, Any]:
    (node,) = ray.nodes()  # type: ignore[no-untyped-call]
    gcs = int(ray.get_runtime_context().gcs_address.rpartition(":")[2])
    return {
        "ports": {"gcs": gcs} | {name: node[name] for name in ("NodeManagerPort", "ObjectManagerPort")},
        "sockets": {name: node[name] for name in ("RayletSocketName", "ObjectStoreSocketName")},
        "session": str(cluster._folder),
        "token": os.environ["RAY_AUTH_TOKEN"],
        "driver": os.getpid(),
    }


@pytest.mark.slow
def test_ray(tmp_path: Path, ground: Path) -> None:
    bites = reach(tmp_path / "off", "off")
    bites.assert_trained_honestly()
    assert set(bites.refused()) <= {"token in the environment", "object store"}, bites.refused()
    seen = reach(ground / "ray", "required")
    seen.assert_trained_honestly()
    seen.assert_all_refused(*bites.outcomes)
    assert json.dumps(os.environ["RAY_AUTH_TOKEN"]) not in seen.result.log_tail
