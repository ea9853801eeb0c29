"""`score`: the ordinary experiment path without a run. Trains one train.py under fresh seeds and prints the scores."""

from __future__ import annotations

import math
import secrets
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from autoresearch_ray.cli import sandboxing
from autoresearch_ray.cli.output import console, show
from autoresearch_ray.cluster.trainer import Trainer, trainer_of
from autoresearch_ray.config import Config
from autoresearch_ray.explore.text import plain
from autoresearch_ray.training.card import open_cards
from autoresearch_ray.variant import Experiment, Result, Status, source_hash


@dataclass(frozen=True, slots=True)
class Scores:
    """What `score` found."""

    file: Path
    class_name: str
    results: tuple[tuple[int, Result], ...]
    """(seed, result), in order."""
    mean: float | None
    error: float | None
    """Standard error of the mean; None with fewer than two scores."""
    holdout_mean: float | None = None
    """Of the holdout rows' scores, where they were asked for."""


def score(file: Path, source: str, seeds: int, config: Config, as_json: bool, holdout: bool = False) -> int:
    """Train and score a source so many times; return 0 if every training was scored, else 1.

    With `holdout` the rows that are never selected on are scored too.

    Raises:
        DataError: the data are not prepared.
    """
    trainer = trainer_of(config)
    sandboxing.check(trainer)
    first = secrets.randbelow(2**31 - seeds)  # fresh seeds: nothing has been selected on them
    results = []
    with (
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[phase]}"),
            console=console,
            disable=as_json or not console.is_terminal,
            transient=True,
        ) as progress,
        trainer.start() as supervisor,
    ):
        for seed in range(first, first + seeds):
            task = progress.add_task(f"seed {seed}", total=1.0, phase="starting")
            experiment = Experiment(
                f"{source_hash(source)[:12]}-{seed - first}", source_hash(source)[:12], source, seed, holdout
            )
            for item in supervisor.run(experiment):
                if isinstance(item, Result):
                    results.append((seed, item))
                else:
                    progress.update(task, completed=item.progress, phase=item.name)
            if not as_json and not console.is_terminal:
                console.print(_line(*results[-1]))
    scores = _scores(file, trainer, results)
    show(_render(scores), scores, as_json)
    return 0 if all(result.status is Status.COMPLETED for _, result in results) else 1


def _scores(file: Path, trainer: Trainer, results: list[tuple[int, Result]]) -> Scores:
    values = [result.val_bpb for _, result in results if result.val_bpb is not None]
    mean = statistics.fmean(values) if values else None
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    kept = [result.holdout_bpb for _, result in results if result.holdout_bpb is not None]
    kept_mean = statistics.fmean(kept) if kept else None
    return Scores(file, trainer.class_on(_gpu_model(trainer)), tuple(results), mean, error, kept_mean)


def _gpu_model(trainer: Trainer) -> str:
    """Return what the driver calls the GPU that trains, nothing on the CPU."""
    cards = open_cards() if trainer.confinement.device == "cuda" else None
    return next(iter(cards.names), "") if cards else ""


def _render(scores: Scores) -> RenderableType:
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for name, justify in (
        ("seed", "right"),
        ("val_bpb", "right"),
        ("train s", "right"),
        ("start s", "right"),
        ("scoring s", "right"),
        ("steps", "right"),
        ("tokens", "right"),
        ("parameters", "right"),
        ("", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for seed, result in scores.results:
        value = f"{result.val_bpb:.4f}" if result.val_bpb is not None else result.status.value.replace("_", " ")
        table.add_row(
            str(seed),
            value,
            f"{result.train_seconds:.1f}",
            f"{result.startup_seconds:.2f}",
            f"{result.scoring_seconds:.1f}",
            f"{result.steps:,}",
            f"{result.tokens:,}",
            f"{result.parameters:,}" if result.parameters else "",
            Text(plain(result.reason) or _verified(result)),
        )
    return Group(table, *_closing(scores))


def _closing(scores: Scores) -> Iterator[Text]:
    if scores.mean is not None:
        error = f" ± {scores.error:.4f}" if scores.error is not None else ""
        count = sum(result.val_bpb is not None for _, result in scores.results)
        runs = "1 training; --seeds 3 shows the noise" if count == 1 else f"{count} trainings"
        yield Text(f"\n{scores.mean:.4f}{error} bits per byte ({runs}; {scores.class_name})", style="bold")
    if scores.holdout_mean is not None:
        yield Text(f"{scores.holdout_mean:.4f} on the holdout rows, which nothing is selected on")
    for seed, result in scores.results:
        if result.claim_flag:
            yield Text(f"seed {seed}: {plain(result.claim_flag)}", style="yellow")
    for seed, result in scores.results:
        if result.status is not Status.COMPLETED and result.log_tail:
            yield Text(f"\nThe end of what seed {seed} printed:", style="bold")
            yield Text("\n".join(result.log_tail.splitlines()[-15:]))


def _verified(result: Result) -> str:
    return "verified" if result.verified else "unverified"


def _line(seed: int, result: Result) -> str:
    value = f"{result.val_bpb:.4f}" if result.val_bpb is not None else f"{result.status.value}: {plain(result.reason)}"
    return f"seed {seed}: {value}"
