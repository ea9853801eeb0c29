"""What crossover is worth: on a landscape planted with separable gains, and on the calibrated one.

Separable: twelve places, one good part among seven at each, all independent: the same search with and without births of
two parents, at equal experiments, with the true score of the best. Calibrated: the share of promotions (confirmed
gains) that births with two parents have, beside their share of births.

    python benchmarks/crossover.py [--seeds 20] [--slots 4] [--output FILE]
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from search import spread

from autoresearch_ray.cluster.calibrated import CALIBRATED, separable
from autoresearch_ray.cluster.simulated import SimulatedCluster, World, workers
from autoresearch_ray.cluster.simulation import language, simulate
from autoresearch_ray.config import Config
from autoresearch_ray.evolution.driver import Driver

MARKS = (50, 100, 150)
SIZE = 8


def planted(options: argparse.Namespace) -> dict[str, object]:
    """Compare at equal experiments; population and slots are the same."""
    found: dict[str, object] = {}
    print(f"{'separable':22}{''.join(f'true after {mark}'.ljust(26) for mark in MARKS)}")
    truths = {}
    for name, share in (("mutation alone", 0.0), ("adaptive (default)", None), ("half crossovers", 0.5)):
        courses = []
        for seed in range(options.seeds):
            config = language(
                Config(max_experiments=MARKS[-1], population_size=SIZE, crossover_probability=share, seed=seed)
            )
            config = config.model_copy(update={"llm": config.llm.model_copy(update={"parameters_share": 0.0})})
            courses.append(simulate(config, World(separable(), workers(options.slots))))
        truths[name] = np.array([[course.after(mark) for mark in MARKS] for course in courses])
        texts = [spread(truths[name][:, place]) for place in range(len(MARKS))]
        print(f"{name:22}{''.join(text.ljust(26) for text in texts)}", flush=True)
        found[name] = dict(zip(map(str, MARKS), texts, strict=True))
    wins = truths["half crossovers"][:, -1] < truths["mutation alone"][:, -1]
    found["half crossovers beat mutation alone"] = f"{wins.sum()} of {len(wins)} seeds"
    print(found["half crossovers beat mutation alone"])
    return found


def calibrated(options: argparse.Namespace) -> dict[str, object]:
    births: Counter[str] = Counter()
    crowned: Counter[str] = Counter()

    def look(driver: Driver, cluster: SimulatedCluster) -> None:
        operators = {}
        for recorded in driver.lineage.replay(["variants", "champions"]):
            if recorded.table == "variants":
                operators[recorded.row["variant_id"]] = recorded.row["operator"]
            else:
                crowned[operators[recorded.row["variant_id"]]] += 1
        births.update(operators.values())

    for seed in range(options.seeds):
        config = language(Config(max_experiments=300, seed=seed))
        simulate(config, World(CALIBRATED, workers(options.slots)), finished=look)
    del births["seed"]
    shares = {
        operator: {
            "share of births": round(births[operator] / births.total(), 3),
            "share of confirmed gains": round(crowned[operator] / max(1, crowned.total()), 3),
            "confirmed gains": crowned[operator],
        }
        for operator in sorted(births)
    }
    print(json.dumps(shares, indent=2))
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    options = parser.parse_args()
    figures = {"command": " ".join(sys.argv), "date": datetime.date.today().isoformat(), "seeds": options.seeds}
    figures |= {"separable": planted(options), "calibrated": calibrated(options)}
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
