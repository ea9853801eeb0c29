"""How many experiments the engine needs for what a sequential greedy search has after 125, and who is best after 300.

The real driver, islands, ledger and lineage on a simulated cluster; all replicates count as experiments. The searches
to compare with get the same proposals (baselines.py). `true` is the score without noise of what a search takes for its
best. Medians over seeds, with the middle half of them in brackets.

    python benchmarks/search.py [--landscape calibrated] [--seeds 20] [--first-seed 0] [--slots 4 16]
        [--set key=value] [--output FILE]
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from baselines import SEARCHES, course
from heldout import LANDSCAPES

from autoresearch_ray import config as configuration
from autoresearch_ray.cluster.landscape import Landscape
from autoresearch_ray.cluster.simulated import World, workers
from autoresearch_ray.cluster.simulation import Course, language, simulate

MARKS = (50, 125, 300)
BASELINE_SEEDS = 60
"""At least so many for the cheap searches, so that the level to reach is not itself a matter of luck."""


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Return the median and the middle half."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], method="inverted_cdf")
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def engine(landscape: Landscape, slots: int, seed: int, overrides: Sequence[str]) -> Course:
    settings = configuration.load(None, [f"max_experiments={MARKS[-1]}", f"seed={seed}", *overrides])
    if landscape.parts:
        settings = language(settings)
    if not landscape.literals:
        settings = settings.model_copy(update={"llm": settings.llm.model_copy(update={"parameters_share": 0.0})})
    return simulate(settings, World(landscape, workers(slots)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--landscape", choices=LANDSCAPES, nargs="+", default=["calibrated"])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0, help="for seeds that nothing was tuned on")
    parser.add_argument("--slots", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    options = parser.parse_args()
    figures: dict[str, object] = {"command": " ".join(sys.argv), "date": datetime.date.today().isoformat()}
    for name in options.landscape:
        figures[name] = compare(LANDSCAPES[name](), name, options)
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def compare(landscape: Landscape, name: str, options: argparse.Namespace) -> dict[str, object]:
    start = landscape.score(landscape.seed)
    print(f"{name}: starts at {start:.4f}, best {landscape.best:.4f}, sigma {landscape.sigma:g}")
    print(f"{'':18}{''.join(f'true after {mark}'.ljust(26) for mark in MARKS)}to greedy's 125")
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    more = range(options.first_seed, options.first_seed + max(BASELINE_SEEDS, options.seeds))
    found: dict[str, object] = {"seeds": options.seeds, "first seed": options.first_seed}
    level = math.nan
    for search, run in SEARCHES.items():
        courses = [course(run, landscape, MARKS[-1], seed).course for seed in more]
        truths = {mark: [each[mark - 1] for each in courses] for mark in MARKS}
        if search == "greedy":
            level = float(np.median(truths[125]))
        needed = [next((n + 1 for n, truth in enumerate(each) if truth <= level), math.inf) for each in courses]
        found[search] = line(search, truths, needed)
    for slots in options.slots:
        began = time.process_time()
        runs = [engine(landscape, slots, seed, options.set) for seed in seeds]
        truths = {mark: [each.after(mark) for each in runs] for mark in MARKS}
        needed = [each.reached(level) or math.inf for each in runs]
        found[f"engine, {slots} slots"] = line(f"engine, {slots} slots", truths, needed)
        seconds = (time.process_time() - began) / options.seeds
        print(f"{'':18}{seconds:.1f} s a run, {np.median([each.births for each in runs]):.0f} births")
    return {"level": level, **found}


def line(name: str, truths: dict[int, list[float]], needed: list[float]) -> dict[str, object]:
    texts = [spread(truths[mark]) for mark in MARKS]
    print(f"{name:18}{''.join(text.ljust(26) for text in texts)}{spread(needed, 0)}", flush=True)
    return {"truth": dict(zip(map(str, MARKS), texts, strict=True)), "experiments to greedy's 125": spread(needed, 0)}


if __name__ == "__main__":
    main()
