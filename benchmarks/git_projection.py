"""What the git projection of a lineage costs: milliseconds a variant, built at once and while a run goes on.

    python benchmarks/git_projection.py [--births 10000] [--updates 200] [--folder DIR]

Each variant is seed_model/train.py with a line changed. The lineage is written first; only git's part is timed.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.git_export import export
from autoresearch_ray.lineage.repository import FOLDER, Repository
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Birth, Experiment, Operator, Result, Status, Variant, variant_id

ORIGIN = schema.Origin("bench", "cpu", "d0d0cafe")
SOURCE = (Path(__file__).resolve().parent.parent / "seed_model" / "train.py").read_text(encoding="utf-8")
START = datetime(2025, 11, 24, 21, 0, tzinfo=timezone.utc)


def add(store: LineageStore, number: int, rng: np.random.Generator) -> None:
    """Record a birth with one experiment, and a second experiment of an earlier one now and then."""
    name = variant_id("bench", number)
    parents = tuple(variant_id("bench", int(parent)) for parent in rng.integers(number, size=min(number, 2)))
    operator = (Operator.SEED, Operator.CROSSOVER, Operator.PARAMETERS)[0 if number == 0 else 1 + (rng.random() < 0.8)]
    source = f"{SOURCE}\n# {number}\n"
    birth = Birth(number, name, number % 4, operator, number)
    parents = parents[: 2 if operator is Operator.CROSSOVER else 1]
    at = START + timedelta(seconds=number)
    variant = Variant(birth, parents, number, source, f"change number {number}", at)
    train(store, variant, 0, rng)
    store.append("variants", schema.variant_row(ORIGIN, variant, Status.COMPLETED, ast_hash="0"))
    if number % 10 == 0:
        train(store, variant, 1, rng)


def train(store: LineageStore, variant: Variant, replicate: int, rng: np.random.Generator) -> None:
    experiment = Experiment(f"{variant.variant_id}-{replicate}", variant.variant_id, "", replicate)
    result = Result(Status.COMPLETED, val_bpb=4 - variant.birth.number * 1e-5 + float(rng.normal(0, 0.004)))
    store.append("experiments", schema.experiment_row(ORIGIN, experiment, result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--births", type=int, default=10_000)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        measure(Path(name), arguments.births, arguments.updates)


def measure(folder: Path, births: int, updates: int) -> None:
    rng = np.random.default_rng(0)
    run = folder / "bench"
    with LineageStore.create(run, "bench") as store:
        for number in range(births):
            add(store, number, rng)
            if number % 100 == 0:
                store.commit()
    print(f"{births:,} births, sources of {len(SOURCE):,} characters")
    with Repository.open(run) as repository:
        report("at once", births, [timed(repository.update)])
        report("thrown away and rebuilt", births, [timed(repository.rebuild)])
    report("opened again, nothing new", 1, [timed(lambda: reopen(run))])
    report("exported with a working tree", births, [timed(lambda: export(run, folder / "out"))])
    number = births
    for together in (1, 10):
        with LineageStore.open(run) as store, Repository.open(run) as repository:
            repository.update()
            report("update, nothing new", 1, [timed(repository.update)])
            costs = []
            for _ in range(updates):
                for _ in range(together):
                    add(store, number, rng)
                    number += 1
                store.commit()
                costs.append(timed(repository.update))
            costs.append(Cost(0, timed(repository.close).cpu))
        walls = [cost.wall * 1e3 for cost in costs[:-1]]
        spread = f"median {statistics.median(walls):.1f} ms, longest {max(walls):.0f} ms an update"
        report(f"live, {together} an update ({spread})", updates * together, costs)
    size = sum(path.stat().st_size for path in (run / FOLDER).rglob("*") if path.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"variants.git {size / 2**20:.1f} MiB; peak memory of this process {peak:.0f} MiB")


def reopen(run: Path) -> None:
    with Repository.open(run) as repository:
        repository.update()


@dataclass(frozen=True)
class Cost:
    """Seconds that passed, and seconds of CPU that this process and its gits took."""

    wall: float
    cpu: float


def timed(call: Callable[[], object]) -> Cost:
    wall, before = time.perf_counter(), os.times()
    call()
    return Cost(time.perf_counter() - wall, sum(os.times()[:4]) - sum(before[:4]))


def report(what: str, variants: int, costs: Sequence[Cost]) -> None:
    wall, cpu = sum(cost.wall for cost in costs), sum(cost.cpu for cost in costs)
    print(f"{wall * 1e3 / variants:8.2f} ms a variant ({cpu * 1e3 / variants:6.2f} ms CPU), {wall:6.2f} s: {what}")


if __name__ == "__main__":
    main()
