"""Scores models in this process as the scorer does, without a supervisor: the logits go straight to it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from autoresearch_ray.training import memory
from autoresearch_ray.training.scorer import Refusal, Scoring, Targets, plan_for
from autoresearch_ray.training.session import bits_per_byte

Model = Callable[[torch.Tensor], torch.Tensor]
"""(n, T) int64 -> (n, T, V)."""


@dataclass
class Held:
    """Logits memory that is a tensor."""

    size: int
    logits: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    def copy_to(self, private: torch.Tensor) -> None:
        flat = self.logits.to(private.dtype).reshape(-1)
        private[: len(flat)] = flat


@dataclass(frozen=True)
class Judged:
    scoring: Scoring
    refusal: Refusal | None

    @property
    def val_bpb(self) -> float:
        return bits_per_byte(self.scoring.sums["val"].nats, self.scoring.sums["val"].bytes)

    @property
    def holdout_bpb(self) -> float:
        return bits_per_byte(self.scoring.sums["holdout"].nats, self.scoring.sums["holdout"].bytes)

    @property
    def rule(self) -> str | None:
        return None if self.refusal is None else self.refusal.reason


@contextlib.contextmanager
def token_memory() -> Iterator[int]:
    descriptor = memory.allocate("tokens", 1 << 25)
    yield descriptor
    os.close(descriptor)


@torch.no_grad()
def judge(targets: Targets, model: Model, seed: int, dtype: str = "float32", holdout: bool = False) -> Judged:
    """Play the variant until there are no more rows or a rule is broken."""
    size = memory.logits_bytes(targets.device, targets.sequence_length, targets.vocab_size)
    held = Held(size)
    with token_memory() as tokens:
        rng = np.random.default_rng(seed)
        plan = plan_for(targets, size, dtype, holdout, rng)
        scoring = Scoring(targets, plan, tokens, held, dtype, rng)
        rows = scoring.send_rows()
        while rows is not None:
            x = np.empty((rows["rows"], rows["length"]), dtype=np.uint16)
            memory.read(tokens, x.data, rows["offset"])
            held.logits = model(torch.from_numpy(x.astype(np.int64)).to(targets.device))
            logits = scoring.take_logits()
            rows = scoring.send_rows()
            refusal = scoring.score(logits)
            if refusal is None and rows is None and scoring.look_closer():
                rows = scoring.send_rows()
            if refusal is not None:
                return Judged(scoring, refusal)
        return Judged(scoring, scoring.verdict())
