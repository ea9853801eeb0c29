"""What a node needs to know to run experiments, and the warm supervisor that a worker keeps between them.

Knows nothing of Ray: `score` uses it in its own process. Does not own how an experiment runs (training/).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from autoresearch_ray.config import Config
from autoresearch_ray.errors import DataError
from autoresearch_ray.training import exposure, preparation
from autoresearch_ray.training.confinement import Confinement, sandbox_of
from autoresearch_ray.training.data import open_data
from autoresearch_ray.training.directory import Snapshot, take
from autoresearch_ray.training.limits import SizeLimits
from autoresearch_ray.training.reported import ReportedSettings, ReportedSupervisor, confinement_of
from autoresearch_ray.training.sandbox.readable import ROOTS, imported
from autoresearch_ray.training.sandbox.settings import SandboxSettings
from autoresearch_ray.training.supervisor import Phase, SlotSupervisor, Supervisor, SupervisorSettings
from autoresearch_ray.variant import Experiment, Result


class Trainer(ABC):
    """How experiments of one run are made, the same on every node; small enough to be sent with each task."""

    __slots__ = ()

    data_hash: str
    """What is trained and scored on, and what surrounds the evolved file."""

    @property
    @abstractmethod
    def confinement(self) -> Confinement:
        """How variants are confined on the machine that asks."""

    @abstractmethod
    def class_on(self, gpu_model: str) -> str:
        """Return what must agree before two scores are compared.

        Args:
            gpu_model: what trains, as far as it is known; nothing on the CPU.
        """

    @abstractmethod
    def start(self) -> SlotSupervisor[Any]:
        """Return a supervisor for this node (Raises DataError, SupervisionError)."""

    def run(self, experiment: Experiment, gpu: str | None) -> Iterator[tuple[str, Phase] | Result]:
        """Run one experiment in this process's warm supervisor, started if need be.

        Args:
            experiment: what to run.
            gpu: the id of the GPU that this process may use, None on the CPU.

        Yields:
            Where it runs and how far it has come, now and then; at last one result.

        Raises:
            DataError: this node does not have the prepared data, or others, or lacks what may be read.
            SupervisionError: the trusted processes cannot be started.
        """
        place = f"GPU {gpu}" if gpu is not None else "cpu"
        for item in _warm.supervisor(self, gpu).run(experiment):
            yield item if isinstance(item, Result) else (place, item)


@dataclass(frozen=True, slots=True)
class ScoringTrainer(Trainer):
    """Trains on prepared data and computes the score itself (`metric: scored`)."""

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
    sizes: SizeLimits
    sandbox: SandboxSettings

    @property
    def confinement(self) -> Confinement:
        """Read what torch and numpy need, and what a person allows."""
        return Confinement(self.sandbox, self.device)

    def class_on(self, gpu_model: str) -> str:
        """Return the device and the share of it, the budget, the versions of torch and prepare.py, and the data."""
        torch = importlib.metadata.version("torch")
        prepare = hashlib.sha256(self.prepare_source.encode()).hexdigest()[:8]
        device = _device_class(self.device, self.threads, self.sandbox.slot_gpus, gpu_model)
        return f"{device}, {self.train_seconds:g} s, torch {torch}, data {self.data_hash[:8]}, prepare {prepare}"

    def start(self) -> Supervisor:
        """Return a supervisor for this node (Raises DataError, SupervisionError)."""
        held = open_data(self.data)
        if held.data_hash != self.data_hash:
            raise DataError(f"{self.data} holds other data here than where the run was started: prepare it here again.")
        _check_readable(self.sandbox.readable)
        return Supervisor(
            SupervisorSettings(
                data=self.data,
                prepare=self._local_prepare(),
                device=self.device,
                threads=self.threads,
                train_seconds=self.train_seconds,
                startup_seconds=self.startup_seconds,
                scoring_seconds=self.scoring_seconds,
                sizes=self.sizes,
                sandbox=self.sandbox,
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


@dataclass(frozen=True, slots=True)
class ReportingTrainer(Trainer):
    """Runs programs that report their own score, in a copy of a directory (`metric: reported`)."""

    settings: ReportedSettings
    data_hash: str
    """Of the directory without the evolved file, and of how it is run."""

    @property
    def confinement(self) -> Confinement:
        """Read what the program's command and its directory name besides."""
        return confinement_of(self.settings)

    def class_on(self, gpu_model: str) -> str:
        """Return the device and the share of it, the budget, what is reported, and what surrounds the evolved file."""
        settings = self.settings
        device = _device_class(settings.device, settings.threads, settings.sandbox.slot_gpus, gpu_model)
        return f"{device}, {settings.train_seconds:g} s, {settings.metric} as reported, program {self.data_hash[:8]}"

    def start(self) -> ReportedSupervisor:
        """Return a supervisor for this node (Raises DataError: what may be read is not there)."""
        _check_readable(self.settings.readable)
        return ReportedSupervisor(self.settings)


def _device_class(device: Literal["cpu", "cuda"], threads: int, gpus: float, model: str) -> str:
    """Return what of a slot decides how far a training gets; neighbours on a GPU take their part of every second."""
    if device == "cpu":
        return f"cpu {platform.machine()} x{threads}"
    return " ".join(["cuda", *([model] if model else []), *([f"x{gpus:g}"] if 0 < gpus < 1 else [])])


def trainer_of(config: Config) -> Trainer:
    """Return what a configuration says about experiments.

    Raises:
        DataError: the data are not prepared, or damaged; or the directory of a program is too large to be copied.
    """
    return _scoring(config) if config.metric.kind == "scored" else _reporting(config)


def _check_readable(paths: Iterable[Path]) -> None:
    for path in paths:
        if not path.exists():
            raise DataError(f"readable: {path} is not on this machine ({platform.node()}).")


def _scoring(config: Config) -> ScoringTrainer:
    script = (config.seed_model / "prepare.py").resolve()
    folder = preparation.locate(script, config.data)
    sandbox = sandbox_of(config)
    exposure.refuse_scored(sandbox.readable, folder, Path(config.data.corpus).expanduser())
    exposure.refuse_private(sandbox.readable, config.storage)
    return ScoringTrainer(
        data=folder,
        data_hash=open_data(folder).data_hash,
        prepare=script,
        prepare_source=script.read_text(encoding="utf-8"),
        device=config.device,
        threads=config.threads,
        train_seconds=config.train_seconds,
        startup_seconds=config.startup_seconds,
        scoring_seconds=config.scoring_seconds,
        sizes=_sizes(config),
        sandbox=sandbox,
    )


def _reporting(config: Config) -> ReportingTrainer:
    sandbox = sandbox_of(config)
    readable = sandbox.readable
    exposure.refuse_private(readable, config.storage)
    if not config.seed_model.is_dir():
        raise DataError(f"{config.seed_model}: there is no such folder; seed_model must name the program's.")
    snapshot = take(config.seed_model, config.evolved_file, readable, excluded=[config.storage])
    settings = ReportedSettings(
        snapshot=snapshot,
        evolved_file=config.evolved_file,
        command=config.words,
        metric=config.metric.name,
        train_seconds=config.train_seconds,
        longest_seconds=config.startup_seconds + config.train_seconds + config.scoring_seconds,
        readable=readable,
        device=config.device,
        threads=config.threads,
        sizes=_sizes(config),
        sandbox=sandbox,
        packages=(*ROOTS, *imported(_sources(config.seed_model / config.evolved_file, snapshot))),
    )
    told = "\0".join([snapshot.digest, config.evolved_file, *config.words, config.metric.name, config.metric.goal])
    return ReportingTrainer(settings=settings, data_hash=hashlib.sha256(told.encode()).hexdigest())


def _sources(evolved: Path, snapshot: Snapshot) -> Iterator[str]:
    """Yield the text of every Python file of a program."""
    contents = [file.content for file in snapshot.files if file.path.endswith(".py")]
    if evolved.suffix == ".py" and evolved.is_file():
        contents.append(evolved.read_bytes())
    for content in contents:
        yield content.decode(errors="replace")


def _sizes(config: Config) -> SizeLimits:
    memory, millions = config.limits.peak_memory_gb, config.limits.parameters_M
    return SizeLimits(
        None if memory is None else round(memory * 2**30), None if millions is None else round(millions * 1e6)
    )


class _Warm:
    """The one supervisor of this process: it owns processes, so it belongs to a process and not to a value."""

    def __init__(self) -> None:
        self._key: tuple[Trainer, str | None] | None = None
        self._supervisor: SlotSupervisor[Any] | None = None

    def supervisor(self, trainer: Trainer, gpu: str | None) -> SlotSupervisor[Any]:
        if self._supervisor is None or self._key != (trainer, gpu):
            if self._supervisor is not None:
                self._supervisor.close()
            self._supervisor, self._key = trainer.start(), (trainer, gpu)
        return self._supervisor


_warm = _Warm()
