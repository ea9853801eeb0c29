"""Which population size does best at so many slots and experiments: beside what `population_size: auto` takes.

Simulated searches by the real driver on the calibrated landscape, with the same seeds for all. `behind` is by how much
a size is worse than the size with the best median, in sigma: a mean over pairs of equal seed, and its error. Numbers
take plain random steps, as in `plan`'s longer searches; `--learn` takes the operator that learns (ten times as long).

    python benchmarks/population_sizes.py [--seeds 20] [--first-seed 0] [--slots 4 16] [--experiments 60 125 300]
        [--sizes 1 3 8 16] [--learn] [--output FILE]
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path

import numpy as np
from late_bests import plain

from autoresearch_ray.cluster.calibrated import CALIBRATED
from autoresearch_ray.cluster.simulated import World, workers
from autoresearch_ray.cluster.simulation import language, simulate
from autoresearch_ray.config import Config
from autoresearch_ray.operators import dispatch


def truth(experiments: int, slots: int, size: int, seed: int, learns: bool) -> float:
    """Return the true score of what one search takes for its best at its end."""
    config = language(Config(max_experiments=experiments, population_size=size, seed=seed))
    operators = dispatch.propose if learns else plain
    return simulate(config, World(CALIBRATED, workers(slots)), operators=operators).after(experiments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--slots", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--experiments", type=int, nargs="+", default=[60, 125, 300])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 3, 8, 16])
    parser.add_argument("--learn", action="store_true", help="with the operator that learns")
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    options = parser.parse_args()
    figures: dict[str, object] = {"command": " ".join(sys.argv), "date": datetime.date.today().isoformat()}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    heads = "".join(f"size {size}: best, behind".ljust(30) for size in options.sizes)
    print(f"{'experiments':>11} {'slots':>5}  {heads}")
    for experiments in options.experiments:
        for slots in options.slots:
            found = {
                size: np.array([truth(experiments, slots, size, seed, options.learn) for seed in seeds])
                for size in options.sizes
            }
            least = min(found.values(), key=lambda truths: float(np.median(truths)))
            cells = {}
            for size, truths in found.items():
                behind = (truths - least) / CALIBRATED.sigma
                error = float(behind.std(ddof=1)) / len(behind) ** 0.5
                cells[str(size)] = f"{np.median(truths):.4f}, {behind.mean():.1f} ± {error:.1f}"
            figures[f"{experiments} experiments, {slots} slots"] = cells
            print(f"{experiments:>11} {slots:>5}  {''.join(text.ljust(30) for text in cells.values())}", flush=True)
    if options.output:
        options.output.write_text(json.dumps({**figures, "seeds": options.seeds}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
