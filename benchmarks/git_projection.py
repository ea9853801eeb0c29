"""What the git projection of a lineage costs: milliseconds a variant, built at once and while a run goes on.

    python benchmarks/git_projection.py [--births 10000] [--updates 200] [--folder DIR]

Each variant is seed_model/train.py with a line changed. The lineage is written first; only git's part is timed.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.repository import FOLDER, Repository, export
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
        report("at once", births, timed(repository.update))
        report("thrown away and rebuilt", births, timed(repository.rebuild))
    report("opened again, nothing new", 1, timed(lambda: Repository.open(run).update()))
    report("exported with a working tree", births, timed(lambda: export(run, folder / "out")))
    with Repository.open(run) as repository, LineageStore.open(run) as store:
        repository.update()
        report("update, nothing new", 1, timed(repository.update))
        number = births
        for together in (1, 10):
            costs = []
            for _ in range(updates):
                for _ in range(together):
                    add(store, number, rng)
                    number += 1
                store.commit()
                costs.append(timed(repository.update))
            ordered = sorted(costs)
            spread = f"median {statistics.median(costs) * 1e3:.1f} ms, longest {ordered[-1] * 1e3:.0f} ms an update"
            report(f"live, {together} an update ({spread})", updates * together, sum(costs))
    size = sum(path.stat().st_size for path in (run / FOLDER).rglob("*") if path.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"variants.git {size / 2**20:.1f} MiB; peak memory of this process {peak:.0f} MiB")


def timed(call: object) -> float:
    began = time.perf_counter()
    assert callable(call)
    call()
    return time.perf_counter() - began


def report(what: str, variants: int, seconds: float) -> None:
    print(f"{seconds * 1e3 / variants:8.2f} ms a variant, {seconds:7.2f} s: {what}")


if __name__ == "__main__":
    main()
