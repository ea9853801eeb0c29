from __future__ import annotations

from arena import HONEST, Arena

from autoresearch_ray.variant import Result, Status

FAKE = """
print("---")
print("val_bpb: 0.000001")
print("training_seconds: 1")
print("total_tokens_M: 5000")
print("num_params_M: 0.001", flush=True)
"""


def test_a_fake_block_is_a_claim_that_is_flagged(measured: Arena, honest: Result) -> None:
    result = measured.run(HONEST + FAKE)
    assert result.status is Status.COMPLETED
    assert result.val_bpb is not None
    assert result.val_bpb > 1.0
    assert result.claimed_val_bpb == 0.000001
    assert f"claims val_bpb 1e-06, measured {result.val_bpb:.6f}" in result.claim_flag
    assert "claims 5000 M tokens" in result.claim_flag
    assert (honest.claimed_val_bpb, honest.claim_flag) == (None, "")


def test_a_block_in_place_of_a_score_is_no_score(measured: Arena) -> None:
    result = measured.run(HONEST.partition("val_bpb = ")[0] + FAKE)
    assert result.status is Status.CRASHED
    assert (result.val_bpb, result.verified) == (None, False)
    assert "has no score" in result.claim_flag


def test_an_honest_block_is_not_flagged(measured: Arena) -> None:
    result = measured.run(HONEST)
    assert result.claimed_val_bpb == result.val_bpb
    assert result.claim_flag == ""
