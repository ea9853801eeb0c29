"""How often the engine crowns a variant that is no better: promotions of equals, over the whole path to the verdict.

Simulated searches by the real driver, with its own replicates and challenges; mutations change one number.

`equals`: nights of 60 experiments in which six of ten variants are truly worse, by eight sigma, and the others truly
equal to the first, so that scores do differ and the luckiest of the equals looks worth a challenge. Counted are
challenges between equals, and how many of them promote.
`null`: all variants are truly equal. Hardly anything is then worth a challenge; promotions are counted beside what a
greedy search keeps.
`gains`: the calibrated landscape and the real operators, where children are truly better or worse; a promotion is false
when the champion is truly no better than the one that it replaced.

    python benchmarks/aa.py [--challenges 2000] [--runs 40] [--births 300] [--slots 4] [--output FILE]
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoresearch_ray.cluster.calibrated import CALIBRATED
from autoresearch_ray.cluster.landscape import Landscape, Literal
from autoresearch_ray.cluster.simulated import SimulatedCluster, World, workers
from autoresearch_ray.cluster.simulation import language, simulate
from autoresearch_ray.config import Config
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.lineage.schema import event_details
from autoresearch_ray.operators import dispatch
from autoresearch_ray.operators.proposal import Proposal
from autoresearch_ray.operators.request import Request

START = 0.9979
NIGHT = 60
ONE = (Literal("LEARNING_RATE", "0.000000002", 0.1, 0.01),)
"""With this number `Equals` takes the first variant for one of the equals too, so that it may be challenged by one."""


@dataclass(frozen=True)
class Equals(Landscape):
    """A landscape on which nothing is better than the first variant, and a share of the others is worse."""

    worse: float = 0.0
    loss: float = 0.004

    def score(self, source: str) -> float | None:
        """Return what the source's number says: the first variant's score, or a worse one."""
        edition = int(source.rpartition("= 0.")[2].partition("\n")[0])
        return START + self.loss * (edition * 0.6180339887 % 1 > 1 - self.worse)


def idle(request: Request) -> Proposal:
    """Change one number, whatever the parent's is."""
    source, number = request.parents[0].variant.source, request.birth.number
    before, _, after = source.rpartition("= 0.")
    return Proposal(f"{before}= 0.{number + 1:09d}\n{after.partition(chr(10))[2]}", f"edition {number}")


@dataclass(frozen=True)
class Ruling:
    """A verdict, and what the two are truly worth."""

    outcome: str
    gain: float

    @property
    def promotes(self) -> bool:
        """Whether there is a new champion."""
        return self.outcome in ("promoted", "simpler")


def rulings(driver: Driver, cluster: SimulatedCluster) -> Iterator[Ruling]:
    for recorded in driver.lineage.replay(["events"]):
        if recorded.row["kind"] == "verdict":
            details = event_details(recorded.row)
            gain = cluster.truths[details["incumbent"]] - cluster.truths[recorded.row["variant_id"]]
            yield Ruling(details["outcome"], gain)


def search(landscape: Landscape, slots: int, seed: int, **limits: int | None) -> list[Ruling]:
    found: list[Ruling] = []
    config = Config(seed=seed, **limits)
    if isinstance(landscape, Equals):
        config, operators = config.model_copy(update={"crossover_probability": 0.0}), idle
    else:
        config, operators = language(config), dispatch.propose
    simulate(
        config,
        World(landscape, workers(slots)),
        operators=operators,
        finished=lambda driver, cluster: found.extend(rulings(driver, cluster)),
    )
    return found


def greedy_keeps(births: int, runs: int, sigma: float) -> float:
    """Return how many of equals a greedy search keeps, on average."""
    scores = np.random.default_rng(0).normal(0, sigma, (runs, births + 1))
    return float((scores[:, 1:] < np.minimum.accumulate(scores, axis=1)[:, :-1]).sum(axis=1).mean())


def interval(count: int, total: int) -> str:
    """Return a share and its 95 % interval (Wilson)."""
    if not total:
        return "none"
    share, z = count / total, 1.96
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return f"{share:.2%} [{max(0, middle - half):.2%}, {middle + half:.2%}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--challenges", type=int, default=2000, help="between equals, at least")
    parser.add_argument("--null", type=int, default=200, help="runs in which nothing matters")
    parser.add_argument("--gains", type=int, default=40, help="runs with real gains and losses")
    parser.add_argument("--births", type=int, default=300)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    options = parser.parse_args()
    figures: dict[str, object] = {"command": " ".join(sys.argv), "date": datetime.date.today().isoformat()}
    for name, measured in (("equals", equals), ("null", null), ("gains", gains)):
        figures[name] = measured(options)
        print(json.dumps({name: figures[name]}, indent=2), flush=True)
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def equals(options: argparse.Namespace) -> dict[str, object]:
    landscape = Equals(START, ONE, sigma=CALIBRATED.sigma, worse=0.6)
    found: list[Ruling] = []
    runs = 0
    while len(found) < options.challenges and runs < max(20, 12 * options.challenges):
        verdicts = search(landscape, options.slots, runs, max_experiments=NIGHT)
        found += [each for each in verdicts if each.gain == 0]
        runs += 1
    promoted = sum(each.promotes for each in found)
    return {"runs": runs, "challenges between equals": len(found), "promoted": interval(promoted, len(found))}


def null(options: argparse.Namespace) -> dict[str, object]:
    landscape = Equals(START, ONE, sigma=CALIBRATED.sigma)
    limits = {"max_births": options.births, "max_experiments": None}
    found = [search(landscape, options.slots, seed, **limits) for seed in range(options.null)]
    promoted = sum(each.promotes for run in found for each in run)
    return {
        "runs": options.null,
        "challenges": sum(map(len, found)),
        f"promotions in {options.births} births": round(promoted / max(1, options.null), 3),
        "kept by greedy in as many": round(greedy_keeps(options.births, 2000, CALIBRATED.sigma), 2),
    }


def gains(options: argparse.Namespace) -> dict[str, object]:
    limits = {"max_births": options.births, "max_experiments": None}
    found = [search(CALIBRATED, options.slots, seed, **limits) for seed in range(options.gains)]
    crowned = [each.gain for run in found for each in run if each.promotes]
    return {
        "runs": options.gains,
        "challenges": sum(map(len, found)),
        "promotions": len(crowned),
        "truly no better": interval(sum(gain <= 0 for gain in crowned), len(crowned)),
        "median true gain of a promotion": round(float(np.median(crowned)), 5) if crowned else None,
    }


if __name__ == "__main__":
    main()
