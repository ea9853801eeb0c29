"""`run` and `resume`: make or open the run folder, start the cluster, show the live view, and sum up at the end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from rich.live import Live

from autoresearch_ray import config as configuration
from autoresearch_ray.cli import carrying, sandboxing
from autoresearch_ray.cli.controls import Controls, forget_stops
from autoresearch_ray.cli.notify import Teller
from autoresearch_ray.cli.output import console, errors, show
from autoresearch_ray.cluster.ray import RayCluster
from autoresearch_ray.cluster.slots import Slot
from autoresearch_ray.cluster.trainer import ScoringTrainer, Trainer, trainer_of
from autoresearch_ray.config import Config
from autoresearch_ray.errors import ConfigError, RepositoryError, RunError, SeedError, StorageError, UsageError, why
from autoresearch_ray.evolution.breeding import facts_of
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.evolution.inheritance import Inheritance
from autoresearch_ray.evolution.replay import replay
from autoresearch_ray.evolution.stopping import Stop
from autoresearch_ray.explore import live, snapshot, summary
from autoresearch_ray.lineage import files, manifest
from autoresearch_ray.lineage import snapshot as tables
from autoresearch_ray.lineage.repository import Repository
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators import credentials, tunables
from autoresearch_ray.operators.desk import terms_of
from autoresearch_ray.training import preflight
from autoresearch_ray.variant import Status

_REDRAW_SECONDS = 0.5
_PROJECT_SECONDS = 2.0
_UNPRICED = (
    "warning: the agent does not say what it cost, so max_cost_usd={cap:g} cannot hold: set "
    "operator.usd_per_million_input and operator.usd_per_million_output (0 on a subscription), or max_cost_usd=null"
)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FIXED = (
    "name", "storage", "seed", "seed_model", "data", "num_islands", "train_seconds", "num_gpus", "num_cpus",
    "seed_replicates", "carry_from", "metric", "evolved_file", "command", "readable", "limits",
)  # fmt: skip
"""Keys that make a run what it is: another value would mean another class, or other births."""


def run(config: Config, as_json: bool) -> int:
    """Evolve until the budget is spent; return the exit code.

    Raises:
        UsageError: something is wrong that the user can mend; no run folder is left behind.
    """
    source = _seed_source(config)
    _read_program(config.program)
    folder = _new_folder(config)
    return _drive(config, folder, lambda driver, left: carrying.begin(driver, source, left), as_json)


def resume(folder: Path, overrides: Sequence[str], address: str | None, as_json: bool) -> int:
    """Take a run up where it stopped or was killed; return the exit code.

    Args:
        folder: the run.
        overrides: `key=value`; limits are totals over all sittings.
        address: another Ray cluster than before; None keeps the configured one.

    Raises:
        UsageError: it is no run, runs already, or a key cannot be changed any more.
    """
    keys = {override: override.partition("=")[0].strip() for override in overrides}
    for override, key in keys.items():
        if key.split(".")[0] in _FIXED:
            raise ConfigError(f"--set {override}: {key} cannot change within a run; start a new one.")
    extra = [] if address is None else [f"address={address}"]
    config = configuration.load(folder / "config.yaml", [*overrides, *extra])
    _read_program(config.program)

    def begin(driver: Driver, inherited: Inheritance | None) -> None:
        if driver.lineage.sequence < 0:  # killed before there was anything, as while Ray started
            carrying.begin(driver, _seed_source(config), carrying.inherited(config, driver.origin))
        else:
            driver.resume()
        if "population_size" in keys.values():
            driver.resize(driver.population_size if isinstance(config.population_size, str) else config.population_size)

    return _drive(config, folder, begin, as_json)


def _drive(config: Config, folder: Path, begin: Callable[[Driver, Inheritance | None], None], as_json: bool) -> int:
    keys = credentials.take(os.environ)  # before anything is started that would inherit them
    trainer = trainer_of(config)
    sandboxing.check(trainer)
    slot = Slot(config.num_cpus, config.num_gpus)
    new = not folder.exists()
    with _opened(folder, config) as lineage:
        forget_stops(folder)
        if config.device == "cpu":  # before a model is asked; which GPU trains, only the cluster can say
            same_class(lineage, origin_of(folder, trainer, ""))
        for damage in lineage.damage:
            errors.print(f"warning: {damage}", markup=False, soft_wrap=True)
        data = trainer.data if isinstance(trainer, ScoringTrainer) else None
        terms = terms_of(config, keys, folder, data, _spent_usd(lineage))
        if not as_json:
            console.print("Starting Ray ...", style="dim")
        with RayCluster(
            trainer,
            slot,
            max_slots=config.max_slots,
            address=config.address,
            terms=terms,
            gpu_model=config.gpu_model,
        ) as cluster:
            origin = origin_of(folder, trainer, cluster.gpu_model)
            same_class(lineage, origin)
            inherited = carrying.inherited(config, origin) if new else None
            driver = Driver(
                config,
                cluster,
                lineage,
                origin,
                inspect=preflight.inspector(config.evolved_file, scored=config.metric.kind == "scored"),
                program=_Program(config.program, folder / "program").read,
                facts=facts_of(config, origin.hardware_class),
                deadline=_deadline(config.finish_by),
                call_usd=cluster.readiness.call_usd,
            )
            if config.operator.kind == "inbox" and not as_json:
                console.print(f"Requests are in {config.operator.folder or folder / 'inbox'}", markup=False)
            _evolve(driver, cluster, lambda driver: begin(driver, inherited), folder, as_json)
            interrupted = driver.stop is not None and driver.stop.kind == "interrupted"
    ended = summary.of(folder)
    from autoresearch_ray.explore import report  # matplotlib takes half a second

    report.progress(folder)
    show(summary.render(ended), ended, as_json)
    return 130 if interrupted else 0


def _evolve(driver: Driver, cluster: RayCluster, begin: Callable[[Driver], None], folder: Path, as_json: bool) -> None:
    """Run the driver under a live view, and leave its last state in the folder, however it ends."""
    view = _View(driver, folder, as_json, cluster.warnings)
    state = "failed"
    try:
        with view, _interruptible(driver):
            driver.watch = view.update
            begin(driver)
            if driver.config.llm.models:
                driver.charge(cluster.readiness.usage)
            driver.run()
        state = "stopped" if driver.stop is not None and driver.stop.kind in ("interrupted", "asked") else "finished"
    finally:
        try:
            snapshot.write(snapshot.take(driver, state), folder)
        finally:
            view.end(state)


class _View:
    """Keeps `live.json` current, and draws the run: a panel on a terminal, else a line for everything that ended."""

    def __init__(self, driver: Driver, folder: Path, as_json: bool, warnings: Callable[[], Sequence[str]]) -> None:
        self._run = driver.origin.run
        self._warnings = warnings
        self._folder = folder
        self._silent = as_json
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal and not as_json else None
        self._controls = Controls(folder)
        self._teller = Teller(driver.config.notify)
        self._down = self._unpriced = False
        self._projection = _Projection(folder)
        self._drawn_at = 0.0

    def __enter__(self) -> _View:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, driver: Driver) -> None:
        """Carry out orders, tell and draw what changed since the last call."""
        for answer in self._controls.obey(driver):
            self._say(answer)
        for warning in self._warnings():
            self._say(f"warning: {warning}")
        if self._live is None:
            for ended in driver.ended:
                self._say(live.line(driver, ended))
        self._teller.look(driver)
        if driver.availability.down and not self._down:
            said = f"warning: nobody answers ({driver.asking.trouble.rstrip('.')})"
            self._say(f"{said}: the search goes on with numbers and merges, and asks again later")
        self._down = driver.availability.down
        if driver.asking.unpriced and not self._unpriced and driver.config.max_cost_usd is not None:
            self._unpriced = True
            self._say(_UNPRICED.format(cap=driver.config.max_cost_usd))
        if failure := self._projection.update():
            self._say(failure)
        if time.monotonic() - self._drawn_at < _REDRAW_SECONDS:
            return
        self._drawn_at = time.monotonic()
        taken = snapshot.take(driver, "running" if driver.stop is None else "draining")
        snapshot.write(taken, self._folder)
        if self._live:
            self._live.update(live.panel(taken), refresh=True)

    def end(self, state: str) -> None:
        """Bring the repository up to date, and tell that the run has ended."""
        if failure := self._projection.close():
            self._say(failure)
        if failure := self._teller.end(self._run, f"the run is {state}"):
            self._say(failure)

    def _say(self, line: str) -> None:
        if not self._silent:
            console.print(line, markup=False, soft_wrap=True)


@contextlib.contextmanager
def _interruptible(driver: Driver) -> Iterator[None]:
    """First Ctrl-C: nothing new is started and what trains is finished. Second: stop within a second.

    A terminal that goes away and a polite kill, as service managers send it, count as Ctrl-C. Never an exception: it
    could strike between two rows that belong together.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        if driver.stop is not None:
            driver.halted = True
        driver.drain(Stop("interrupted", "interrupted by Ctrl-C"))

    before: dict[int, Any] = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _opened(folder: Path, config: Config) -> Iterator[LineageStore]:
    """Open the run's lineage, or make it; one that ends before any training did is taken away again.

    What has finished stays, whatever ends the run: an impatient Ctrl-C while Ray shuts down, a cluster that is gone.
    """
    new, storage_is_new = not folder.exists(), not folder.parent.exists()
    if new:
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise RunError(f"{folder} cannot be made ({error.strerror or error}): choose another storage.") from error
    try:
        if new:  # before the lineage makes a run of the folder: a kill in between must leave one that can be resumed
            _keep(config, folder)
        with LineageStore.create(folder, folder.name) if new else LineageStore.open(folder) as lineage:
            if not new:
                _keep(config, folder)
            yield lineage
    except (UsageError, StorageError, KeyboardInterrupt) as error:
        if new and not (manifest.exists(folder) and (isinstance(error, StorageError) or _has_trained(folder))):
            shutil.rmtree(folder, ignore_errors=True)
        if storage_is_new:
            with contextlib.suppress(OSError):  # another run has begun in it
                folder.parent.rmdir()
        raise


def _has_trained(folder: Path) -> bool:
    """Return whether a training of the run has ended that its machine did not lose."""
    statuses = tables.read(folder).experiments["status"].to_pylist()
    return any(status != Status.LOST.value for status in statuses)


def _keep(config: Config, folder: Path) -> None:
    """Write down what `resume` goes on with, at one stroke: a kill or a full disk leaves the configuration before."""
    with files.translated(folder):
        files.write_atomically(folder / "config.yaml", configuration.dump(config).encode())


class _Projection:
    """Keeps the git repository of a run up to date; where git fails the run goes on without, and says so once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._repository: Repository | None = None
        self._gone = False
        self._updated_at = 0.0

    def update(self, *, now: bool = False) -> str | None:
        """Project what is new, once in a while or `now`; return a line if git failed."""
        if self._gone or not (now or time.monotonic() - self._updated_at > _PROJECT_SECONDS):
            return None
        self._updated_at = time.monotonic()
        return self._try(self._project)

    def close(self) -> str | None:
        """Project the rest and let go."""
        failure = self.update(now=True)
        closing = self._try(self._repository.close) if self._repository else None
        return failure or closing

    def _project(self) -> None:
        if self._repository is None:
            self._repository = Repository.open(self._folder)
        self._repository.update()

    def _try(self, action: Callable[[], None]) -> str | None:
        try:
            action()
        except (RepositoryError, RunError) as error:
            self._gone = True
            return f"warning: the run goes on without its git repository: {error}"
        return None


class _Program:
    """program.md as it reads now; each version is kept under its hash."""

    def __init__(self, path: Path, versions: Path) -> None:
        self._path = path
        self._versions = versions
        self._text = ""

    def read(self) -> str:
        """Return the text; a file that is gone or empty for a moment (an editor saves) reads as before."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = self._path.read_text(encoding="utf-8")
            if text.strip() and text != self._text:
                self._text = text
                self._versions.mkdir(exist_ok=True)
                (self._versions / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.md").write_text(text, "utf-8")
        return self._text


def _spent_usd(lineage: LineageStore) -> float:
    """Return what earlier sittings of a run paid for language models."""
    try:
        return replay(lineage).spent.usd
    except LookupError:  # a new run
        return 0.0


def origin_of(folder: Path, trainer: Trainer, gpu_model: str) -> Origin:
    """Return what every row of a run says of it, the GPU model included that trains."""
    return Origin(run=folder.name, hardware_class=trainer.class_on(gpu_model), data_hash=trainer.data_hash)


def same_class(lineage: LineageStore, origin: Origin) -> None:
    """Refuse to go on with a run under conditions that make its scores incomparable.

    Raises:
        RunError: the data, prepare.py, torch or the slots are not what they were.
    """
    for recorded in lineage.replay(["events"]):
        before, data = recorded.row["class"], recorded.row["data_hash"]
        if (before, data) != (origin.hardware_class, origin.data_hash):
            raise RunError(
                f"{lineage.run} cannot go on: its scores were measured under {before!r}, and new ones would be under "
                f"{origin.hardware_class!r}. Put back what has changed, or start a new run."
            )
        return


def _seed_source(config: Config) -> str:
    path = config.seed_model / config.evolved_file
    try:
        source = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SeedError(f"{path}: there is no such file; seed_model must name a folder with it.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SeedError(f"{path}: cannot be read ({why(error)}).") from error
    reason = preflight.inspector(config.evolved_file, scored=config.metric.kind == "scored")(source).refusal
    if reason:
        raise SeedError(f"{path} cannot be trained: {reason}.")
    if not config.language and not (path.suffix == ".py" and tunables.find(source)):
        raise SeedError(
            f"{path} has no ALL_CAPS numbers that could be turned: write some, as in LR = 0.01, or name a --model."
        )
    return source


def _read_program(path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({why(error)}); name a direction with --set program=FILE."
        ) from error
    if not text.strip():
        raise ConfigError(f"{path} is empty: write down what the search should try, or --set program=FILE.")


def _new_folder(config: Config) -> Path:
    """Choose the run's folder: its name, or the date with a number where that is taken."""
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


def _deadline(finish_by: str | None) -> float | None:
    """Return the next moment, in seconds since the epoch, at which this machine's clock shows that time of day."""
    if finish_by is None:
        return None
    hour, minute = map(int, finish_by.split(":"))
    now = datetime.now()
    moment = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return (moment if moment > now else moment + timedelta(days=1)).timestamp()
