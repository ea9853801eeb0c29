"""What the walls cost an experiment: a program that only prints its block, with and without them, turn by turn.

    python benchmarks/walls.py [--experiments 60] [--rounds 3] [--output benchmarks/results/walls.json]

Prints for each: median wall-clock time of an experiment, and CPU time of the launcher with all that it started.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import time
from pathlib import Path

from autoresearch_ray.training import processes
from autoresearch_ray.training.directory import Snapshot
from autoresearch_ray.training.reported import ReportedSettings, ReportedSupervisor
from autoresearch_ray.training.sandbox.settings import Level, SandboxSettings
from autoresearch_ray.variant import Experiment, Result, Status

SOURCE = 'print("METRIC val_bpb=1.0")\n'


def supervisor(level: Level) -> ReportedSupervisor:
    settings = ReportedSettings(
        snapshot=Snapshot((), (), ""),
        evolved_file="train.py",
        command=("python", "train.py"),
        metric="val_bpb",
        sandbox=SandboxSettings(level=level),
    )
    made = ReportedSupervisor(settings)
    made.warm_up()
    return made


def launcher_seconds(made: ReportedSupervisor) -> float:
    assert made._crew is not None
    used = processes.usage(made._crew.pid)
    assert used is not None
    return used.own + used.reaped


def measure(made: ReportedSupervisor, experiments: int) -> tuple[list[float], float]:
    """Return the seconds of each experiment, and the CPU seconds of all of them."""
    before, walls = launcher_seconds(made), []
    for _ in range(experiments):
        begun = time.perf_counter()
        *_, result = made.run(Experiment("a-0", "a", SOURCE, 0))
        walls.append(time.perf_counter() - begun)
        if not isinstance(result, Result) or result.status is not Status.COMPLETED:
            raise SystemExit(f"an experiment did not complete: {result}")
    return walls, launcher_seconds(made) - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    options = parser.parse_args()
    levels: tuple[Level, ...] = ("off", "required")
    made = {level: supervisor(level) for level in levels}
    walls: dict[str, list[float]] = {level: [] for level in levels}
    cpu = dict.fromkeys(levels, 0.0)
    for _ in range(options.rounds):
        for level in levels:
            seconds, used = measure(made[level], options.experiments)
            walls[level] += seconds
            cpu[level] += used
    for each in made.values():
        each.close()
    count = options.rounds * options.experiments
    figures = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "experiments": count,
        **{f"{level}_median_ms": round(1e3 * statistics.median(walls[level]), 1) for level in levels},
        **{f"{level}_cpu_ms": round(1e3 * cpu[level] / count, 2) for level in levels},
        "walls_cpu_ms": round(1e3 * (cpu["required"] - cpu["off"]) / count, 2),
    }
    print(json.dumps(figures, indent=2))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
