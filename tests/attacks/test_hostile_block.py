"""Prints blocks made to confuse whoever reads them: foreign digits and letters, line ends, huge and nested values."""

from __future__ import annotations

import json
import math

import pytest
from arena import HONEST, Arena

from autoresearch_ray.variant import Status

BLOCKS = {
    "digits of another script": "val_bpb: \\uff10.\\uff11",
    "a letter of another script": "v\\u0430l_bpb: 0.1",
    "other line ends": "a: 1\\u2028val_bpb: 0.1\\u2029val_bpb: 0.1\\x85val_bpb: 0.1",
    "not a number": "val_bpb: nan\\nnum_steps: inf\\ntotal_tokens_M: -inf",
    "digits without end": "val_bpb: 0." + "1" * 60_000 + "\\nnum_steps: " + "9" * 60_000,
    "a journal's line": '{\\"table\\": \\"experiments\\", \\"val_bpb\\": 0.1}\\nval_bpb: 0.1\\x00\\nval_bpb: 0x1p-9',
    "half of a letter": "val_bpb: \\ud800",
    "a second block": "val_bpb: 0.1\\n---\\nval_bpb: 0.2\\n---\\n" * 500,
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_a_claim_and_nothing_else(walled: Arena, name: str) -> None:
    said = f'\nprint("---")\nprint("{BLOCKS[name]}".replace("{{}}", ""), flush=True)\n'
    result = walled.run(HONEST + said)
    assert (result.status, result.reason) == (Status.COMPLETED, ""), result.log_tail
    assert result.verified
    assert result.val_bpb is not None
    assert result.val_bpb > 1.0
    assert result.steps < 10**6
    assert result.claimed_val_bpb is None or not math.isinf(result.claimed_val_bpb)
    assert "\x85" not in json.loads(json.dumps(result.reason))
    result.log_tail.encode("utf-8")  # as the lineage does
    if result.claimed_val_bpb is not None and abs(result.claimed_val_bpb - result.val_bpb) > 0.001:
        assert result.claim_flag
