"""`run`: makes the run folder, starts the cluster, shows the live view, and sums up at the end."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

from rich.live import Live

from autoresearch_ray import config as configuration
from autoresearch_ray.cli.output import console, show
from autoresearch_ray.cluster.ray import RayCluster, Slot
from autoresearch_ray.cluster.trainer import trainer_of
from autoresearch_ray.config import Config
from autoresearch_ray.errors import ConfigError, RunError, SeedError, UsageError
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.explore import live, report, snapshot, summary
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.training import preflight

_REDRAW_SECONDS = 0.5


def run(config: Config, as_json: bool) -> int:
    """Evolve until the budget is spent; return the exit code.

    Raises:
        UsageError: something is wrong that the user can mend; no run folder is left behind.
    """
    source = _seed_source(config)
    _check_program(config.program)
    folder = _new_folder(config)
    trainer = trainer_of(config)
    slot = Slot(config.num_cpus, config.num_gpus)
    with _starting(as_json), RayCluster(trainer, slot, max_slots=config.max_slots, address=config.address) as cluster:
        origin = Origin(run=folder.name, hardware_class=trainer.class_name, data_hash=trainer.data_hash)
        with _made(folder, config), LineageStore.create(folder, folder.name) as lineage:
            driver = Driver(config, cluster, lineage, origin)
            stopped = _evolve(driver, source, folder, as_json)
    ended = summary.of(folder)
    report.progress(folder)
    show(summary.render(ended), ended, as_json)
    return 130 if stopped else 0


def _evolve(driver: Driver, source: str, folder: Path, as_json: bool) -> bool:
    """Run the driver under a live view; return whether the user stopped it."""
    view = _View(driver, folder, as_json)
    state = "failed"
    try:
        with view, _interruptible(driver):
            driver.watch = view.update
            driver.run(source)
        state = "stopped" if driver.draining else "finished"
    except KeyboardInterrupt:
        state = "stopped"
    finally:
        snapshot.write(snapshot.take(driver, state), folder)
    return state == "stopped"


class _View:
    """Keeps `live.json` current, and draws the run: a panel on a terminal, else a line for everything that ended."""

    def __init__(self, driver: Driver, folder: Path, as_json: bool) -> None:
        self._folder = folder
        self._lines = not as_json and not console.is_terminal
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal and not as_json else None
        self._drawn_at = 0.0

    def __enter__(self) -> _View:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, driver: Driver) -> None:
        """Draw what changed since the last call."""
        if self._lines:
            for ended in driver.ended:
                console.print(live.line(driver, ended), markup=False, soft_wrap=True)
        if time.monotonic() - self._drawn_at < _REDRAW_SECONDS:
            return
        self._drawn_at = time.monotonic()
        taken = snapshot.take(driver, "draining" if driver.draining else "running")
        snapshot.write(taken, self._folder)
        if self._live:
            self._live.update(live.panel(taken), refresh=True)


@contextlib.contextmanager
def _interruptible(driver: Driver) -> Iterator[None]:
    """First Ctrl-C: nothing new is started and what trains is finished. Second: stop now."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        if driver.draining:
            raise KeyboardInterrupt
        driver.drain()

    before: Callable[[int, FrameType | None], Any] | int | None = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _starting(as_json: bool) -> Iterator[None]:
    if not as_json:
        console.print("Starting Ray ...", style="dim")
    yield


@contextlib.contextmanager
def _made(folder: Path, config: Config) -> Iterator[None]:
    """Make the run folder; take it away again if the seed is unusable, so that nothing half-made is left."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(configuration.dump(config), encoding="utf-8")
    try:
        yield
    except UsageError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _seed_source(config: Config) -> str:
    path = config.seed_model / "train.py"
    try:
        source = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SeedError(f"{path}: there is no such file; seed_model must name a folder with train.py.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SeedError(f"{path}: cannot be read ({error}).") from error
    reason = preflight.refusal(source)
    if reason:
        raise SeedError(f"{path} cannot be trained: {reason}")
    return source


def _check_program(path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); name a research direction, --set program=FILE."
        ) from error
    if not text.strip():
        raise ConfigError(
            f"{path} is empty: write down what the search should try, or name another, --set program=FILE."
        )


def _new_folder(config: Config) -> Path:
    """Choose the run's folder: its name, or the date with a letter where that is taken."""
    if config.name:
        folder = config.storage / config.name
        if folder.exists():
            raise RunError(f"{folder} exists already: choose another --name.")
        return folder
    day = datetime.now().strftime("%b%d").lower()
    for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
        if not (config.storage / f"{day}{suffix}").exists():
            return config.storage / f"{day}{suffix}"
    raise RunError(f"{config.storage} holds a thousand runs of today: choose a --name.")
