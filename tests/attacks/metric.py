"""What attacks on the metric share: text on which looking ahead pays, an honest model of it, what a refusal must say.

The models are texts of train.py. `BASE` counts which token follows which in the training batches; attacks inherit its
`Honest` and cheat on top of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from autoresearch_ray.variant import Result, Status

V, T = 64, 64
ROWS = {"train": 2000, "val": 512, "holdout": 64, "check": 128}

BASE = """
import torch
from torch.nn.functional import one_hot, pad
from prepare import *

counts = torch.ones(VOCAB_SIZE, VOCAB_SIZE)
for _, (x, y) in zip(range(30), make_dataloader(16, MAX_SEQ_LEN)):  # always the same ones
    counts.index_put_((x.flatten(), y.flatten()), torch.ones(x.numel()), accumulate=True)
table = (counts / counts.sum(1, keepdim=True)).log()

class Honest(torch.nn.Module):
    def forward(self, x):
        return table[x].clone()

def later(x, by=1):
    "The tokens `by` places later; at the end of a row the first one stands in."
    return pad(x[:, by:], (0, by))

def expecting(logits, tokens, belief):
    "Put so much belief, (n, T) or a number, on these tokens."
    p = logits.softmax(-1)
    belief = torch.as_tensor(belief, dtype=p.dtype).expand(tokens.shape)[..., None]
    return (p * (1 - belief) + one_hot(tokens, VOCAB_SIZE) * belief).log()

class Remembering:
    "Answers every prefix that it has seen before as it did then, and asks the model only for what is new."
    def __init__(self, model):
        self.model, self.seen = model, {}
    def __call__(self, x):
        logits = self.model(x)
        for row, answer in zip(x.tolist(), logits):
            known = next((n for n in range(len(row), 0, -1) if tuple(row[:n]) in self.seen), 0)
            if known:
                answer[:known] = self.seen[tuple(row[:known])][:known]
            kept = answer.clone()
            for n in range(1, len(row) + 1):
                self.seen.setdefault(tuple(row[:n]), kept)
        return logits

class Model(torch.nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call
    def forward(self, x):
        return self.call(x)
"""

LOOKS_AHEAD = "looks ahead"
LEARNS = "learns while scoring"
READS_OTHERS = "depend on the other rows of its batch"


def make_text(folder: Path, counts: Mapping[str, int] = ROWS) -> Path:
    """Write a prepared folder of a Markov chain; a third of the tokens are followed by others in val than in train."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    trained = rng.integers(0, V - 1, (V, 6))
    scored = np.where(np.arange(V)[:, None] % 3 == 0, rng.integers(0, V - 1, (V, 6)), trained)
    weights = np.array([0.35, 0.25, 0.15, 0.1, 0.1, 0.05])
    for split, count in counts.items():
        successors = trained if split == "train" else scored
        rows = np.full((count, T + 1), V - 1, dtype=np.uint16)
        for t in range(T):
            rows[:, t + 1] = successors[rows[:, t], rng.choice(6, size=count, p=weights)]
        rows.tofile(folder / f"{split}.bin")
    sizes = np.ones(V, dtype=np.int32)
    sizes[V - 1] = 0
    np.save(folder / "token_bytes.npy", sizes)
    meta = {"format": 1, "corpus": "markov", "tokenizer": "byte", "vocab_size": V, "sequence_length": T}
    meta |= {"bos_token": V - 1, "rows": dict(counts), "data_hash": "0" * 64, "prepare_hash": "1" * 64, "settings": {}}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def scored_with(call: str, setting: str = "") -> str:
    """Return a program that trains honestly and is scored with a model that is called `call(x)`."""
    return f"{BASE}\n{setting}\nprint('it thinks', evaluate_bpb(Model({call})), flush=True)\n"


def assert_rejected(result: Result, words: str) -> None:
    """Assert that a rule was found broken, that the row says which, and that no score entered."""
    assert result.status is Status.REJECTED, (result.status, result.reason, result.val_bpb, result.log_tail)
    assert words in result.reason
    assert (result.val_bpb, result.holdout_bpb, result.verified) == (None, None, False)
    assert "it thinks 0" not in result.log_tail


def assert_gains_nothing(result: Result, honest: Result) -> None:
    """Assert that the score is that of the honest model, or worse."""
    assert result.status is Status.COMPLETED, result.reason
    assert result.val_bpb is not None
    assert honest.val_bpb is not None
    assert result.val_bpb > honest.val_bpb - 1e-3
    assert math.isfinite(result.val_bpb)
