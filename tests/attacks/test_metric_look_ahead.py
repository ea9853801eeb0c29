from __future__ import annotations

import pytest
from arena import Arena
from metric import LOOKS_AHEAD, assert_rejected, scored_with

from autoresearch_ray.variant import Result

AHEAD = {
    "everywhere": "expecting(table[x], later(x), 0.95)",
    "a little everywhere": "expecting(table[x], later(x), 0.02)",
    "by two tokens": "expecting(table[x], later(x), 0.0) + 2 * table.T[later(x, 2)]",
    "at one position in eight": "expecting(table[x], later(x), 0.95 * (torch.arange(x.shape[1]) % 8 == 5))",
    "on some contents": "expecting(table[x], later(x), 0.95 * (x % 11 == 4))",
    "on some rows": "expecting(table[x], later(x), 0.95 * (x[:, 5:6] % 4 == 1))",
    "only late in a row": "expecting(table[x], later(x), 0.95 * (torch.arange(x.shape[1]) > 48))",
    "from the average of what follows": "table[x] + 3 * sum(one_hot(later(x, k), VOCAB_SIZE) for k in range(1, 9)) / 8",
    "both ways, in each row": "table[x] + 4 * one_hot(x, VOCAB_SIZE).float().mean(1, keepdim=True)",
}


@pytest.mark.parametrize("logits", AHEAD.values(), ids=AHEAD.keys())
def test_a_model_that_looks_ahead_is_rejected(measured: Arena, honest: Result, logits: str) -> None:
    assert_rejected(measured.run(scored_with(f"lambda x: {logits}")), LOOKS_AHEAD)


ATTENTION = """
class Bidirectional(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embed = torch.nn.Embedding(VOCAB_SIZE, 32)
        self.attend = torch.nn.MultiheadAttention(32, 4, batch_first=True)
        self.head = torch.nn.Linear(32, VOCAB_SIZE)
    def forward(self, x):
        h = self.embed(x)
        return table[x] + self.head(h + self.attend(h, h, h, need_weights=False)[0])
"""


def test_attention_without_a_mask_is_rejected(measured: Arena) -> None:
    assert_rejected(measured.run(scored_with("Bidirectional()", ATTENTION)), LOOKS_AHEAD)


@pytest.mark.parametrize("noise", [0.03, 1.0])
def test_noise_does_not_hide_looking_ahead(measured: Arena, noise: float) -> None:
    """Otherwise its own noise would pass for dropout, and what it sees for the noise."""
    hidden = f"lambda x: expecting(table[x], later(x), 0.5) + {noise} * torch.randn(*x.shape, VOCAB_SIZE)"
    assert_rejected(measured.run(scored_with(hidden)), LOOKS_AHEAD)


def test_looking_ahead_now_and_then_by_chance_is_rejected(measured: Arena) -> None:
    by_chance = "lambda x: expecting(table[x], later(x), 0.95 * (torch.rand(len(x), 1) < 0.25))"
    assert_rejected(measured.run(scored_with(by_chance)), LOOKS_AHEAD)
