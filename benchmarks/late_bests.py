"""How often a search ends with a best that is not its champion, and why.

Simulated nights by the real driver, with its own replicates, challenges and end phase; numbers take plain random steps,
which costs less and is as good for this. `unconfirmed` are all that end with another best than champion:
`refused`, after a challenge that it did not win; `too close`, where the pairs that a run may spend would hardly tell
the two apart; `late`, where they would have, but nothing was left for it. The last is what the reserve is for.

    python benchmarks/late_bests.py [--seeds 40] [--first-seed 0] [--nights 36x2 125x4 125x16 300x16] [--output FILE]
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from autoresearch_ray.cluster.calibrated import CALIBRATED
from autoresearch_ray.cluster.simulated import SimulatedCluster, World, workers
from autoresearch_ray.cluster.simulation import language, simulate
from autoresearch_ray.config import Config
from autoresearch_ray.evolution import verification
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.operators import dispatch, steps
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Request
from autoresearch_ray.variant import Operator


def plain(request: Request) -> Proposal | Failure:
    """Answer as the real operators do, but for numbers."""
    if request.birth.operator is Operator.PARAMETERS:
        return steps.mutate(request.parents[0].variant, np.random.default_rng(request.birth.seed))
    return dispatch.propose(request)


def end_of(driver: Driver) -> str:
    """Say how the best of a search that has ended stands to its champion."""
    state = driver.state
    assert state.best is not None
    if state.best.number == state.title.holder:
        return "confirmed" if state.title.champion is not None else "the seed"
    if state.title.met(state.best.number):
        return "refused"
    return "late" if verification.worth_a_challenge(driver.config, state) else "too close"


def night(experiments: int, slots: int, seed: int) -> tuple[str, int]:
    """Run one night; return how it ended, and the experiments that it left unused."""
    ends: list[tuple[str, int]] = []

    def look(driver: Driver, cluster: SimulatedCluster) -> None:
        ends.append((end_of(driver), experiments - driver.ledger.spent.experiments))

    config = language(Config(max_experiments=experiments, seed=seed))
    simulate(config, World(CALIBRATED, workers(slots)), operators=plain, finished=look)
    return ends[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--nights", nargs="+", default=["36x2", "125x4", "125x16", "300x16"], help="experiments x slots"
    )
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    options = parser.parse_args()
    figures: dict[str, object] = {"command": " ".join(sys.argv), "date": datetime.date.today().isoformat()}
    for text in options.nights:
        experiments, slots = map(int, text.split("x"))
        ends = [night(experiments, slots, options.first_seed + seed) for seed in range(options.seeds)]
        counts = dict(Counter(end for end, _ in ends).most_common())
        figures[text] = {"nights": options.seeds, **counts, "experiments unused": sum(left for _, left in ends)}
        print(text, json.dumps(figures[text]), flush=True)
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
