"""Looks ahead with logits so extreme that the arithmetic of a test might break: a NaN in it would acquit."""

from __future__ import annotations

import pytest
from arena import Arena
from metric import assert_rejected, scored_with

from autoresearch_ray.variant import Status

EXTREMES = {
    "minus infinity elsewhere": "-float('inf')",
    "the least float elsewhere": "-3.4e38",
    "far below elsewhere": "-1e30",
}
SURE = """
def sure(x):
    logits = torch.full((*x.shape, VOCAB_SIZE), ELSEWHERE)
    logits.scatter_(2, later(x)[..., None], 0.0)
    logits[:, -1] = table[x[:, -1]]
    return logits
"""


@pytest.mark.parametrize("name", EXTREMES)
def test_who_is_sure_of_what_comes_next_is_rejected(measured: Arena, name: str) -> None:
    result = measured.run(scored_with("sure", SURE.replace("ELSEWHERE", EXTREMES[name])))
    assert_rejected(result, "looks ahead")


HUGE = "def huge(x): return table[x] + SIGN * 3e38 * (torch.arange(len(x)) % 2)[:, None, None]"


@pytest.mark.parametrize("sign", ["1.0", "-1.0"])
def test_a_shift_that_swallows_all_differences_gains_nothing(measured: Arena, sign: str) -> None:
    """Every second row's logits are equal then: it costs what knowing nothing costs."""
    result = measured.run(scored_with("huge", HUGE.replace("SIGN", sign)))
    assert result.status is not Status.COMPLETED or (result.val_bpb or 0) > 3.0
