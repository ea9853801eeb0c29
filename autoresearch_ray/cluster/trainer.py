"""What a node needs to know to train, and the warm supervisor that a worker process keeps between experiments.

Knows nothing of Ray: `score` uses it in its own process. Does not own how an experiment runs (training/).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autoresearch_ray.config import Config
from autoresearch_ray.errors import DataError
from autoresearch_ray.training import preparation
from autoresearch_ray.training.data import open_data
from autoresearch_ray.training.supervisor import Phase, Supervisor, SupervisorSettings
from autoresearch_ray.variant import Experiment, Result


@dataclass(frozen=True, slots=True)
class Trainer:
    """How experiments of one run are trained, the same on every node; small enough to be sent with each task."""

    data: Path
    """The prepared folder; it must lie at the same place on every node."""
    data_hash: str
    prepare: Path
    """prepare.py on the machine that started the run."""
    prepare_source: str
    """Its text, for nodes that do not have it."""
    device: Literal["cpu", "cuda"]
    threads: int
    train_seconds: float
    startup_seconds: float
    scoring_seconds: float

    @property
    def class_name(self) -> str:
        """What must agree before two scores are compared, as far as the configuration fixes it."""
        torch = importlib.metadata.version("torch")
        prepare = hashlib.sha256(self.prepare_source.encode()).hexdigest()[:8]
        device = "cuda" if self.device == "cuda" else f"cpu {platform.machine()} x{self.threads}"
        return f"{device}, {self.train_seconds:g} s, torch {torch}, data {self.data_hash[:8]}, prepare {prepare}"

    def run(self, experiment: Experiment, gpu: str | None) -> Iterator[tuple[str, Phase] | Result]:
        """Train and score one variant in this process's warm supervisor, started if need be.

        Args:
            experiment: what to train.
            gpu: the id of the GPU that this process may use, None on the CPU.

        Yields:
            Where it runs and how far it has come, now and then; at last one result.

        Raises:
            DataError: this node does not have the prepared data, or others.
            SupervisionError: the trusted processes cannot be started.
        """
        place = f"GPU {gpu}" if gpu is not None else "cpu"
        for item in _warm.supervisor(self, gpu).run(experiment):
            yield item if isinstance(item, Result) else (place, item)

    def start(self) -> Supervisor:
        """Return a supervisor for this node (Raises DataError, SupervisionError)."""
        held = open_data(self.data)
        if held.data_hash != self.data_hash:
            raise DataError(f"{self.data} holds other data here than where the run was started: prepare it here again.")
        return Supervisor(
            SupervisorSettings(
                data=self.data,
                prepare=self._local_prepare(),
                device=self.device,
                threads=self.threads,
                train_seconds=self.train_seconds,
                startup_seconds=self.startup_seconds,
                scoring_seconds=self.scoring_seconds,
            )
        )

    def _local_prepare(self) -> Path:
        """Return a file with exactly the run's prepare.py, written here if this node has none or another."""
        if self.prepare.is_file() and self.prepare.read_text(encoding="utf-8") == self.prepare_source:
            return self.prepare
        folder = Path(tempfile.mkdtemp(prefix="autoresearch-prepare-"))
        path = folder / "prepare.py"
        path.write_text(self.prepare_source, encoding="utf-8")
        return path


def trainer_of(config: Config) -> Trainer:
    """Return what a configuration says about training (Raises DataError: the data are not prepared, or damaged)."""
    script = (config.seed_model / "prepare.py").resolve()
    folder = preparation.locate(script, config.data)
    return Trainer(
        data=folder,
        data_hash=open_data(folder).data_hash,
        prepare=script,
        prepare_source=script.read_text(encoding="utf-8"),
        device=config.device,
        threads=config.num_cpus,
        train_seconds=config.train_seconds,
        startup_seconds=config.startup_seconds,
        scoring_seconds=config.scoring_seconds,
    )


class _Warm:
    """The one supervisor of this process: it owns processes, so it belongs to a process and not to a value."""

    def __init__(self) -> None:
        self._key: tuple[Trainer, str | None] | None = None
        self._supervisor: Supervisor | None = None

    def supervisor(self, trainer: Trainer, gpu: str | None) -> Supervisor:
        if self._supervisor is None or self._key != (trainer, gpu):
            if self._supervisor is not None:
                self._supervisor.close()
            self._supervisor, self._key = trainer.start(), (trainer, gpu)
        return self._supervisor


_warm = _Warm()
