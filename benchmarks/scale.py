"""1,000 simulated GPUs for 24 hours of 5-minute experiments, about 288,000, through the real driver and lineage.

Measured on one core: time in all and a birth, how busy the slots were, and what a birth leaves in the driver's memory.
Islands, driver, ledger, lineage store and its parts are the real ones, commits included; stand-ins are the training, an
operator that changes one number of a source of 350 bytes, and the look at a source (a hash of its text), which in a
real run happens beside the driver or takes a millisecond of each five-minute experiment.

On a machine that is now faster and now slower: at each mark a fixed piece of work is timed as a yardstick, and `growth`
compares a birth's time in the last tenth with that in the first tenth, each divided by its yardstick.

    python benchmarks/scale.py [--gpus 1000] [--hours 24] [--plot FILE.png] [--output FILE]
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from autoresearch_ray.cluster.calibrated import CALIBRATED
from autoresearch_ray.cluster.simulated import SimulatedCluster, World, inspected, workers
from autoresearch_ray.cluster.simulation import NAME
from autoresearch_ray.config import Config
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators.proposal import Proposal
from autoresearch_ray.operators.request import Request
from autoresearch_ray.operators.tunables import Literals

LITERALS = 12
LANDSCAPE = replace(CALIBRATED, literals=CALIBRATED.literals[:LITERALS], parts=(), interactions=())
POPULATION, TICK = 64, 5.0
FIRST_LINE = LANDSCAPE.seed[: LANDSCAPE.seed.index(LANDSCAPE.literals[0].name)].count("\n")


def step(request: Request) -> Proposal:
    """Change one number by a few percent, at a hundredth of the real operators' cost."""
    lines, bits = request.parents[0].variant.source.split("\n"), request.birth.seed
    line = FIRST_LINE + bits % LITERALS
    name, _, text = lines[line].partition(" = ")
    value = float(2**19 if "**" in text else text) or 0.001
    factor = 1.02 + (bits >> 8) % 1000 / 4000
    value = value * factor if (bits >> 20) % 2 else value / factor
    value = float(f"{value:.5g}")
    lines[line] = f"{name} = {value}"
    literals = Literals(
        {
            each: float(2**19 if "**" in number else number)
            for each, number in map(split, lines[FIRST_LINE : FIRST_LINE + LITERALS])
        },
        "",
    )
    return Proposal("\n".join(lines), f"{name} {text} -> {value}", literals=literals)


def split(line: str) -> list[str]:
    return line.split(" = ")


@dataclass
class Meter:
    """Notes time and memory as the lineage grows."""

    every: int
    began: float = field(default_factory=time.process_time)
    marks: list[dict[str, float]] = field(default_factory=list)

    def __call__(self, driver: Driver) -> None:
        """Take a reading when it is time."""
        births = driver.births
        if births < self.every * (len(self.marks) + 1):
            return
        gc.collect()
        seconds = time.process_time() - self.began
        memory = psutil.Process().memory_info().rss
        mark = {"births": births, "seconds": round(seconds, 2), "memory_mb": round(memory / 1e6, 1)}
        self.marks.append(mark | {"yardstick_ms": round(1e3 * yardstick(), 1)})
        self.began = time.process_time() - seconds
        print(f"{births:8,} births  {seconds:7.1f} s  {memory / 1e6:7.1f} MB", flush=True)

    def milliseconds(self, first: int, last: int) -> float:
        """Return the time a birth took between two marks."""
        low, high = self.marks[first], self.marks[last]
        return 1e3 * (high["seconds"] - low["seconds"]) / (high["births"] - low["births"])

    def yardsticks(self, first: int, last: int) -> float:
        """Return the time a birth took between two marks, in yardsticks of the marks between them."""
        sticks = [mark["yardstick_ms"] for mark in self.marks[first:][: last - first + 1]]
        return self.milliseconds(first, last) / statistics.median(sticks)


def yardstick() -> float:
    """Return the CPU seconds of a fixed piece of work like the driver's: objects, dictionaries, text, arithmetic."""
    began = time.process_time()
    for turn in range(20):
        table = {f"{turn}/{number}": (number, [0.5 * number]) for number in range(1000)}
        json.dumps({name: sum(values) + number for name, (number, values) in table.items()})
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=1000)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--plot", type=Path, help="draw the time a birth against births there")
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    world = World(
        LANDSCAPE, workers(options.gpus), experiment_seconds=300.0, train_seconds=250.0, observed=False, tick=TICK
    )
    config = Config(max_hours=options.hours, max_experiments=None, population_size=POPULATION)
    meter = Meter(max(1000, round(options.gpus * options.hours * 12 / 60 / 1000) * 1000))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, LineageStore.create(Path(folder) / NAME, NAME) as lineage:
        cluster = SimulatedCluster(world, operators=step)
        driver = Driver(config, cluster, lineage, Origin(NAME), inspect=inspected, watch=meter)
        driver.begin(LANDSCAPE.seed)
        driver.run()
        experiments, births = driver.ledger.spent.experiments, driver.births
    seconds, wall = time.process_time() - meter.began, time.monotonic() - began
    tenth, last = len(meter.marks) // 10, len(meter.marks) - 1
    low, high = meter.marks[tenth], meter.marks[last]
    grown = (high["memory_mb"] - low["memory_mb"]) * 1e6 / (high["births"] - low["births"])
    figures = {
        "command": " ".join(sys.argv),
        "date": datetime.date.today().isoformat(),
        "experiments": experiments,
        "births": births,
        "cpu_seconds": round(seconds, 1),
        "wall_seconds": round(wall, 1),
        "load_before": os.getloadavg()[0],
        "ms_an_experiment": round(1e3 * seconds / experiments, 3),
        "slots_busy": round(cluster.busy_seconds / cluster.slot_seconds, 4),
        "bytes_a_birth": round(grown),
        "ms_a_birth_first_tenth": round(meter.milliseconds(0, 1 + tenth), 3),
        "ms_a_birth_last_tenth": round(meter.milliseconds(last - 1 - tenth, last), 3),
        "growth": round(meter.yardsticks(last - 1 - tenth, last) / meter.yardsticks(0, 1 + tenth), 3),
        "source_bytes": len(LANDSCAPE.seed),
        "marks": meter.marks,
    }
    print(json.dumps({name: value for name, value in figures.items() if name != "marks"}, indent=2))
    if options.plot:
        plot(meter, options.plot)
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def plot(meter: Meter, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    places = range(1, len(meter.marks))
    axes.plot(
        [meter.marks[place]["births"] for place in places],
        [meter.milliseconds(place - 1, place) for place in places],
        marker=".",
        color="#0b7a5b",
    )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("births in the lineage")
    axes.set_ylabel("CPU milliseconds a birth")
    axes.set_title("Driver, islands, ledger and lineage together, on one core", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
