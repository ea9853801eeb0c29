"""How busy the slots are when operators are slow: 8 slots, experiments of 1 s, operators of 0.5 s, through real Ray.

The bound for an engine in which a slot waits while its model thinks is 1 / 1.5 = 0.667. The driver, islands, ledger and
lineage are the real ones; the training sleeps a second and the operator half a second before it mutates.

    .venv/bin/python benchmarks/utilization.py [--slots 8] [--experiments 240]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import ray

from autoresearch_ray.cluster import ray as ray_room
from autoresearch_ray.cluster.ray import RayCluster
from autoresearch_ray.cluster.ray_actors import OperatorDesk
from autoresearch_ray.cluster.slots import Slot
from autoresearch_ray.config import Config
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.explore.summary import busy_share
from autoresearch_ray.lineage import snapshot
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators.request import Request
from autoresearch_ray.variant import Experiment, Result, Status

EXPERIMENT_SECONDS, OPERATOR_SECONDS = 1.0, 0.5
SEED = """from prepare import evaluate_bpb, make_dataloader
LR = 0.5
WIDTH = 64
DECAY = 0.1
SCALE = 1.0
MOMENTUM = 0.9
make_dataloader(1, 1)
evaluate_bpb(None)
"""


@dataclass(frozen=True)
class Sleeper:
    """A trainer that waits instead of training."""

    def run(  # noqa: D102
        self, experiment: Experiment, gpu: str | None
    ) -> Iterator[Result]:
        started = datetime.now(timezone.utc)
        time.sleep(EXPERIMENT_SECONDS)
        score = 1.0 + (hash(experiment.source) % 1000) / 1e4
        yield Result(
            Status.COMPLETED, val_bpb=score, wall_seconds=EXPERIMENT_SECONDS, started_at=started,
            ended_at=datetime.now(timezone.utc),
        )  # fmt: skip


_remote: Any = ray.remote


class SlowDesk(OperatorDesk):
    """Operators that think for half a second."""

    def propose(self, request: Request) -> Any:  # noqa: D102
        time.sleep(OPERATOR_SECONDS)
        return super().propose(request)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--experiments", type=int, default=240)
    options = parser.parse_args()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray_room.operator_actor = _remote(num_cpus=0, concurrency_groups={"asking": 16, "offline": 16})(SlowDesk)
    config = Config(max_experiments=options.experiments)
    with (
        tempfile.TemporaryDirectory() as folder,
        RayCluster(Sleeper(), Slot(0.125, 0.0), max_slots=options.slots) as cluster,  # type: ignore[arg-type]
        LineageStore.create(Path(folder), "utilization") as lineage,
    ):
        driver = Driver(config, cluster, lineage, Origin("utilization"))
        driver.begin(SEED)
        started = time.monotonic()
        driver.run()
        seconds = time.monotonic() - started
        experiments = snapshot.read(Path(folder)).experiments
        # The last round ends in its own time: what is asked here is whether a slot ever waits for work.
        steady = experiments.slice(0, len(experiments) - options.slots)
        result = {
            "command": " ".join(sys.argv),
            "date": date.today().isoformat(),
            "slots": cluster.slots,
            "experiments": len(experiments),
            "seconds": round(seconds, 1),
            "busy": round(busy_share(experiments, cluster.slots) or 0, 4),
            "busy_before_the_last_round": round(busy_share(steady, cluster.slots) or 0, 4),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
