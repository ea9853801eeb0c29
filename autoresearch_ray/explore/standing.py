"""How good the champion is: its fresh trainings say, not the lucky score that made it a challenger.

Pure. Does not own how that is drawn, or who is champion (lineage/query.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoresearch_ray.lineage.query import Lineage, Score


@dataclass(frozen=True, slots=True)
class Standing:
    """What may be believed of the champion, or of the best while nothing is confirmed."""

    position: int
    confirmed: bool
    score: Score | None
    """Over its trainings on fresh seeds where it is confirmed, else over all it has had."""
    gain: float | None
    """Over the seed; positive is better."""
    gain_error: float | None


def standing(lineage: Lineage) -> Standing | None:
    """Return how the leader stands; None while nothing has been scored."""
    leader, seed = lineage.leader, lineage.seed
    if leader is None:
        return None
    gain = error = None
    if seed is not None and seed != leader:
        gain, error = lineage.gain(leader, seed), lineage.gain_error(leader, seed)
    score = lineage.score(leader)
    if lineage.champion is None:
        return Standing(leader, False, score, gain, error)
    row = lineage.tables.champions.slice(len(lineage.tables.champions) - 1, 1).to_pylist()[0]
    if row.get("trainings"):
        score = Score(row["posterior_mean"], row["trainings"], row["posterior_sd"])
        base = None if seed is None or seed == leader else lineage.score(seed)
        if base is not None:
            gain = (base.mean - score.mean) * (1 if lineage.lower_is_better else -1)
            error = math.hypot(row["posterior_sd"], base.error or 0.0)
    return Standing(leader, True, score, gain, error)
