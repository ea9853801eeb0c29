"""Scoring on a GPU: seconds for so many tokens, the score beside a plain computation, and what hostile models get.

    python benchmarks/gpu_scoring.py [--tokens 20000000] [--output benchmarks/results/gpu_scoring.json]

Needs a CUDA GPU, torch and numpy, nothing else of the engine's dependencies. It makes its own data (8,192 tokens, rows
of 2,048), runs a real supervisor on CUDA, and computes the same score by itself, in float32 of the same bf16 logits.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from autoresearch_ray.training.supervisor import Supervisor, SupervisorSettings  # noqa: E402
from autoresearch_ray.variant import Experiment, Result  # noqa: E402

V, T, C = 8192, 2048, 128

MODEL = f"""
import torch
from prepare import *
from torch.nn.functional import pad

generator = torch.Generator().manual_seed(5)
embed = torch.randn(VOCAB_SIZE, {C}, generator=generator).to("cuda", torch.bfloat16)
head = (torch.randn({C}, VOCAB_SIZE, generator=generator) * 0.2).to("cuda", torch.bfloat16)

class Honest(torch.nn.Module):
    def forward(self, x):
        return embed[x] @ head

class LooksAhead(Honest):
    def forward(self, x):
        logits = super().forward(x)
        logits.scatter_add_(2, pad(x[:, 1:, None], (0, 0, 0, 1)), torch.full_like(logits[..., :1], 4.0))
        return logits

class LooksAheadSeldom(Honest):
    def forward(self, x):
        logits = super().forward(x)
        gain = 8.0 * (x[..., None] % 100 == 7).to(logits.dtype)
        logits.scatter_add_(2, pad(x[:, 1:, None], (0, 0, 0, 1)), gain)
        return logits

class Dropout(Honest):
    def forward(self, x):
        return torch.nn.functional.dropout(embed[x], 0.1, training=True) @ head

class NotANumber(Honest):
    def forward(self, x):
        logits = super().forward(x)
        logits[0, 5, 7] = float("nan")
        return logits

loader = make_dataloader(16, MAX_SEQ_LEN)
for x, y in loader:
    loader.report(9.0)
evaluate_bpb(KIND())
"""

FLIPS = """
import threading, time
import prepare

def flip(memory):
    while True:  # overwrites the logits as fast as it can, with ones that know nothing
        memory.view(torch.bfloat16).normal_()
        torch.cuda.synchronize()

opened = prepare.Channel._open_logits
def open_and_flip(channel):
    memory = opened(channel)
    threading.Thread(target=flip, args=(memory,), daemon=True).start()
    return memory
prepare.Channel._open_logits = open_and_flip
"""


def make_data(folder: Path, tokens: int) -> np.ndarray:
    """Write a prepared folder of a first-order Markov chain; return the val rows."""
    rng = np.random.default_rng(1)
    successors = rng.integers(0, V - 1, (V, 64)).astype(np.uint16)
    weights = 1.0 / np.arange(1, 65)
    counts = {"train": 1024, "val": tokens // T, "holdout": 64, "check": 512}
    val = np.empty(0, dtype=np.uint16)
    for split, n in counts.items():
        rows = np.empty((n, T + 1), dtype=np.uint16)
        rows[:, 0] = V - 1
        picks = rng.choice(64, size=(n, T), p=weights / weights.sum())
        for t in range(T):
            rows[:, t + 1] = successors[rows[:, t], picks[:, t]]
        rows.tofile(folder / f"{split}.bin")
        val = rows if split == "val" else val
    sizes = np.random.default_rng(2).integers(1, 9, V).astype(np.int32)
    sizes[V - 1] = 0
    np.save(folder / "token_bytes.npy", sizes)
    meta = {"format": 1, "corpus": "markov", "tokenizer": "bpe", "vocab_size": V, "sequence_length": T}
    meta |= {"bos_token": V - 1, "rows": counts, "data_hash": "0" * 64, "prepare_hash": "1" * 64, "settings": {}}
    (folder / "meta.json").write_text(json.dumps(meta))
    return val


def plain_score(rows: np.ndarray, folder: Path) -> float:
    """Return the bits per byte of the honest model, row by row, by nothing of the engine's."""
    generator = torch.Generator().manual_seed(5)
    embed = torch.randn(V, C, generator=generator).to("cuda", torch.bfloat16)
    head = (torch.randn(C, V, generator=generator) * 0.2).to("cuda", torch.bfloat16)
    sizes = torch.from_numpy(np.load(folder / "token_bytes.npy")).cuda()
    nats, n_bytes = 0.0, 0
    for some in np.array_split(rows, max(1, len(rows) // 8)):
        tokens = torch.from_numpy(some.astype(np.int64)).cuda()
        x, y = tokens[:, :-1], tokens[:, 1:]
        logs = torch.log_softmax((embed[x] @ head).float(), dim=-1)
        losses = -logs.gather(2, y[..., None])[..., 0].double()
        nats += float(losses[sizes[y] > 0].sum())
        n_bytes += int(sizes[y].sum())
    return nats / math.log(2) / n_bytes


class Memory:
    """Looks at what the whole card uses."""

    def __init__(self) -> None:
        self.most = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            free, total = torch.cuda.mem_get_info()
            self.most = max(self.most, total - free)

    def stop(self) -> float:
        """Return the most that was used, in GiB."""
        self._end.set()
        self._thread.join()
        return self.most / 2**30


def score(supervisor: Supervisor, source: str) -> tuple[Result, float, float]:
    watched, began = Memory(), time.monotonic()
    *_, result = supervisor.run(Experiment("x-0", "x", source, 1))
    seconds = time.monotonic() - began
    assert isinstance(result, Result)
    return result, seconds, watched.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=20_000_000)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.zeros(1, device="cuda")
    record: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "tokens": options.tokens}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = make_data(folder, options.tokens)
        settings = SupervisorSettings(
            data=folder, prepare=ROOT / "seed_model" / "prepare.py", device="cuda", threads=4, train_seconds=1.0
        )
        plain = plain_score(rows, folder)
        torch.cuda.empty_cache()
        print(f"plain score {plain:.6f} over {rows.shape[0] * T:,} tokens on {record['gpu']}", flush=True)
        with Supervisor(settings) as supervisor:
            supervisor.warm_up()
            cases = {
                "honest": MODEL.replace("KIND", "Honest"),
                "honest again": MODEL.replace("KIND", "Honest"),
                "dropout left on": MODEL.replace("KIND", "Dropout"),
                "looks ahead": MODEL.replace("KIND", "LooksAhead"),
                "looks ahead at 1 % of contents": MODEL.replace("KIND", "LooksAheadSeldom"),
                "not a number": MODEL.replace("KIND", "NotANumber"),
                "flips the memory": MODEL.replace("KIND", "Honest").replace("generator =", FLIPS + "\ngenerator =", 1),
            }
            for case, source in cases.items():
                result, seconds, memory = score(supervisor, source)
                told = f"{case:32} {result.status.value:10} {result.val_bpb or math.nan:9.6f}"
                print(f"{told} scoring {result.scoring_seconds:6.2f} s of {seconds:6.2f} s, card {memory:5.1f} GiB")
                print(f"    {result.reason or 'no reason'}", flush=True)
                if result.status.value == "crashed":
                    print("    " + result.log_tail[-600:].replace("\n", "\n    "))
                record[case] = {
                    "status": result.status.value,
                    "reason": result.reason,
                    "val_bpb": result.val_bpb,
                    "scoring_seconds": result.scoring_seconds,
                    "card_gib": memory,
                }
        record["plain"] = plain
        honest = record["honest"]["val_bpb"]
        if honest is not None:
            print(f"difference from the plain score {honest - plain:+.2e} (at most 1e-4 wanted)")
            per_second = options.tokens / record["honest again"]["scoring_seconds"]
            print(f"{per_second / 1e6:.1f} M scored tokens a second, tests of honesty included")
    if options.output:
        options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
