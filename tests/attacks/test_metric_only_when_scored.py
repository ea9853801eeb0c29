from __future__ import annotations

import pytest
from arena import Arena
from metric import LOOKS_AHEAD, assert_rejected, scored_with

SIGNS_OF_SCORING = {
    "no gradient": "not torch.is_grad_enabled()",
    "not training": "not self.training",
    "the batch is not one of training": "len(x) != 16",
    "the second call and later ones": "self.calls > 1",
    "called from evaluate_bpb": "any(frame.function == 'evaluate_bpb' for frame in inspect.stack(0))",
}

MODEL = """
import inspect

class Sly(torch.nn.Module):
    calls = 0
    def forward(self, x):
        self.calls += 1
        return expecting(table[x], later(x), 0.9 if SIGN else 0.0)

sly = Sly()
sly.train()
with torch.enable_grad():
    seen = torch.randint(VOCAB_SIZE, (16, MAX_SEQ_LEN))
    changed = seen.clone()
    changed[:, 40:] = 5
    assert torch.equal(sly(seen)[:, :40], sly(changed)[:, :40]) or "self.calls" in "SIGN" or "16" in "SIGN"
"""


@pytest.mark.parametrize("sign", SIGNS_OF_SCORING.values(), ids=SIGNS_OF_SCORING.keys())
def test_a_model_that_looks_ahead_only_when_scored_is_rejected(measured: Arena, sign: str) -> None:
    assert_rejected(measured.run(scored_with("sly", MODEL.replace("SIGN", sign))), LOOKS_AHEAD)
