"""A trainer for tests of the Ray side: no torch, what happens is written in the experiment's source."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoresearch_ray.errors import DataError
from autoresearch_ray.training.supervisor import Phase
from autoresearch_ray.variant import Experiment, Result, Status


@dataclass(frozen=True)
class ScriptedTrainer:
    """Obeys sources such as `score 1.5`, `die`, `refuse`, or `wait FILE` (until FILE exists, then score 1)."""

    def run(self, experiment: Experiment, gpu: str | None) -> Iterator[tuple[str, Phase] | Result]:
        place = f"GPU {gpu}" if gpu is not None else "cpu"
        yield place, Phase("starting")
        yield place, Phase("training", 0.5)
        word, _, rest = experiment.source.partition(" ")
        if word == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "refuse":
            raise DataError("this node does not have the data")
        if word == "wait":
            deadline = time.monotonic() + 60
            Path(rest + "." + str(os.getpid())).touch()
            while not Path(rest).exists() and time.monotonic() < deadline:
                time.sleep(0.02)
        score = float(rest) if word == "score" else 1.0
        yield Result(status=Status.COMPLETED, val_bpb=score, hardware=str(os.getpid()), gpu=gpu)
