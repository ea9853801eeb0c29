from __future__ import annotations

from arena import Arena
from metric import READS_OTHERS, assert_rejected, scored_with

from autoresearch_ray.variant import Status

CROSS_ROWS = "lambda x: table[x] + 4 * one_hot(x, VOCAB_SIZE).float().mean((0, 1))"
FROM_THE_NEXT_ROW = "lambda x: table[x] + one_hot(x.roll(1, 0), VOCAB_SIZE)"

BATCH_NORM = """
torch.manual_seed(1)
norm, head = torch.nn.BatchNorm1d(16), torch.nn.Linear(16, VOCAB_SIZE)
embed = torch.nn.Embedding(VOCAB_SIZE, 16)
def normalized(x):
    norm.train()
    return table[x] + 2 * head(norm(embed(x).transpose(1, 2)).transpose(1, 2))
"""

EXPERT_CHOICE = """
torch.manual_seed(1)
embed, router = torch.nn.Embedding(VOCAB_SIZE, 16), torch.nn.Linear(16, 4)
experts = [torch.nn.Linear(16, VOCAB_SIZE) for _ in range(4)]
def routed(x):
    "Each expert takes the tokens of the whole batch that suit it best, as many as its capacity allows."
    h = embed(x).flatten(0, 1)
    out = table[x].flatten(0, 1).clone()
    for scores, expert in zip(router(h).T, experts):
        mine = scores.topk(len(h) // 8).indices
        out[mine] += 3 * expert(h[mine])
    return out.view(*x.shape, -1)
"""


def test_a_model_that_reads_the_other_rows_is_rejected(measured: Arena) -> None:
    assert_rejected(measured.run(scored_with(CROSS_ROWS)), READS_OTHERS)
    assert_rejected(measured.run(scored_with(FROM_THE_NEXT_ROW)), READS_OTHERS)


def test_batch_norm_left_in_training_mode_is_rejected(measured: Arena) -> None:
    assert_rejected(measured.run(scored_with("normalized", BATCH_NORM)), READS_OTHERS)


def test_routing_by_the_experts_choice_is_rejected(measured: Arena) -> None:
    result = measured.run(scored_with("routed", EXPERT_CHOICE))
    assert result.status is Status.REJECTED
    assert result.val_bpb is None
    assert READS_OTHERS in result.reason or "later tokens" in result.reason  # it is both
