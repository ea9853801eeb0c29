from __future__ import annotations

import math

import pytest
from arena import GREETED, Arena
from metric import assert_gains_nothing, scored_with

from autoresearch_ray.variant import Result, Status


def test_zeros_get_the_score_of_who_knows_nothing(measured: Arena) -> None:
    result = measured.run(scored_with("lambda x: torch.zeros(*x.shape, VOCAB_SIZE)"))
    assert result.status is Status.COMPLETED
    assert result.val_bpb == pytest.approx(math.log2(64), abs=1e-6)  # each token is a byte long


NO_LOGITS = {
    "NaN": ("table[x].index_fill(0, torch.tensor(0), float('nan'))", "non-finite logits"),
    "one NaN": ("table[x].index_put((torch.tensor(3),) * 3, torch.tensor(float('nan')))", "non-finite logits"),
    "infinite": ("table[x] + float('inf')", "non-finite logits"),
    "minus infinity everywhere": ("torch.full((*x.shape, VOCAB_SIZE), -float('inf'))", "non-finite logits"),
    "too few tokens": ("table[x][:, :-1]", "logits of shape"),
    "too few rows": ("table[x][1:]", "logits of shape"),
    "a smaller vocabulary": ("table[x][..., :32]", "logits of shape"),
    "losses instead of logits": ("table[x].logsumexp(-1)", "logits of shape"),
    "nothing": ("None", "AttributeError"),
    "an array": ("table[x].numpy()", "Error"),
}


@pytest.mark.parametrize(("logits", "words"), NO_LOGITS.values(), ids=NO_LOGITS.keys())
def test_what_is_no_logits_ends_the_experiment(measured: Arena, logits: str, words: str) -> None:
    result = measured.run(scored_with(f"lambda x: {logits}"))
    assert result.status is Status.CRASHED
    assert words in result.reason
    assert (result.val_bpb, result.verified) == (None, False)


SCALED = {
    "a constant is added": "table[x] + 500.0",
    "another constant for each position": "table[x] + 100.0 * torch.arange(x.shape[1])[:, None]",
    "not normalized, and huge": "table[x] * 1e4",
    "integers": "(table[x] * 4).round().long()",
    "double precision": "table[x].double()",
}


@pytest.mark.parametrize("logits", SCALED.values(), ids=SCALED.keys())
def test_logits_are_normalized_by_the_scorer(measured: Arena, honest: Result, logits: str) -> None:
    assert_gains_nothing(measured.run(scored_with(f"lambda x: {logits}")), honest)


def test_logits_of_another_type_than_was_said_gain_nothing(measured: Arena, honest: Result) -> None:
    """Bytes of float32 logits are read as the bfloat16 that it announced."""
    by_hand = """
import torch
while "end" not in batch():
    pass
memory = torch.frombuffer(mmap.mmap(hello["logits_fd"], hello["logits_bytes"]), dtype=torch.float32)
answer = evaluate(dtype="bfloat16")
while "rows" in answer:
    memory[:1_000_000] = 1.0
    answer = ask({"op": "logits"})
print(answer)
"""
    result = measured.run(GREETED + by_hand)
    assert honest.val_bpb is not None
    assert result.val_bpb is None or result.val_bpb > honest.val_bpb
