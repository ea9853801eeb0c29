"""What a scored variant says of itself, beside what was measured: kept, flagged where it disagrees, never believed.

Pure. Does not own what a block looks like (block.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from autoresearch_ray.training.block import Claims

SCORE_TOLERANCE = 1e-3
"""Bits per byte: programs print their score with three digits or more."""
TOKENS_TOLERANCE = 0.05
"""Share of the tokens served, besides a few batches that were asked for ahead and not used."""
BATCHES_AHEAD = 4
SECONDS_TOLERANCE = 0.1
"""Share of the seconds, besides one second."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the supervisor measured."""

    val_bpb: float | None
    tokens: int
    steps: int
    train_seconds: float
    """On the experiment's clock."""
    longest_training: float
    """Wall-clock seconds from the first batch to `evaluate_bpb`."""
    wall_seconds: float


def disagreements(claims: Claims, measured: Measured) -> str:
    """Return one line that says which claims are not borne out, empty when all are or there are none.

    Seconds of training may be those of the experiment's clock or of the wall, or anything between. What only the
    variant can know, as its parameters or the peak of a GPU's memory, is not compared.
    """
    found = []
    score = claims.number("val_bpb")
    if score is not None and measured.val_bpb is None:
        found.append(f"claims val_bpb {score:g}, and has no score")
    elif score is not None and measured.val_bpb is not None and abs(score - measured.val_bpb) > SCORE_TOLERANCE:
        found.append(f"claims val_bpb {score:g}, measured {measured.val_bpb:.6f}")
    millions = claims.number("total_tokens_M")
    if millions is not None:
        ahead = BATCHES_AHEAD * measured.tokens / max(1, measured.steps)
        if abs(1e6 * millions - measured.tokens) > TOKENS_TOLERANCE * measured.tokens + ahead + 1000:
            found.append(f"claims {millions:g} M tokens, served {measured.tokens / 1e6:.3f} M")
    seconds = claims.number("training_seconds")
    if seconds is not None and not _between(seconds, measured.train_seconds, measured.longest_training):
        found.append(f"claims {seconds:g} s of training, measured {measured.train_seconds:.1f} s")
    total = claims.number("total_seconds")
    if total is not None and not _between(total, measured.train_seconds, measured.wall_seconds):
        found.append(f"claims {total:g} s in all, measured {measured.wall_seconds:.1f} s")
    return "; ".join(found)


def _between(claimed: float, least: float, most: float) -> bool:
    low, high = min(least, most), max(least, most)
    return low * (1 - SECONDS_TOLERANCE) - 1 <= claimed <= high * (1 + SECONDS_TOLERANCE) + 1
