"""The seed model beside a plain GPT: same data, same seconds on one CPU thread, same seeds, the same score.

    python benchmarks/seed_model.py [--seconds 10] [--seeds 3] [--output benchmarks/results/seed_model.json]

The plain one has 2 layers of 64 channels, learned positions, LayerNorm, GELU and AdamW, as a first tutorial would write
it. Both import prepare.py, which holds the clock (CPU seconds) and the score.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = (
    "--corpus=python",
    "--tokenizer=byte",
    "--sequence-length=128",
    "--val-tokens=131072",
    "--holdout-tokens=131072",
)

PLAIN = """
import torch, torch.nn as nn, torch.nn.functional as F
from prepare import DEVICE, MAX_SEQ_LEN, SEED, VOCAB_SIZE, evaluate_bpb, make_dataloader

class PlainGPT(nn.Module):
    def __init__(self, layers=2, channels=64, heads=4):
        super().__init__()
        self.tokens = nn.Embedding(VOCAB_SIZE, channels)
        self.positions = nn.Embedding(MAX_SEQ_LEN, channels)
        layer = lambda: nn.ModuleDict({
            "norm1": nn.LayerNorm(channels), "qkv": nn.Linear(channels, 3 * channels),
            "project": nn.Linear(channels, channels), "norm2": nn.LayerNorm(channels),
            "expand": nn.Linear(channels, 4 * channels), "shrink": nn.Linear(4 * channels, channels)})
        self.layers = nn.ModuleList(layer() for _ in range(layers))
        self.norm, self.head, self.heads = nn.LayerNorm(channels), nn.Linear(channels, VOCAB_SIZE), heads
        self.apply(self.initialize)
    def initialize(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    def forward(self, tokens):
        B, T = tokens.shape
        x = self.tokens(tokens) + self.positions(torch.arange(T, device=tokens.device))
        for layer in self.layers:
            qkv = layer["qkv"](layer["norm1"](x)).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(*qkv, is_causal=True)
            x = x + layer["project"](y.transpose(1, 2).reshape(B, T, -1))
            x = x + layer["shrink"](F.gelu(layer["expand"](layer["norm2"](x))))
        return self.head(self.norm(x))

torch.manual_seed(SEED)
model = PlainGPT().to(DEVICE)
optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
loader, step = make_dataloader(16, MAX_SEQ_LEN), 0
for x, y in loader:
    loss = F.cross_entropy(model(x).view(-1, VOCAB_SIZE), y.view(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    step += 1
print("---")
print(f"val_bpb: {evaluate_bpb(model):.6f}")
print(f"num_steps: {step}")
"""


def train(source: Path | str, folder: str, seconds: float, seed: int) -> dict[str, float]:
    """Run one training on one thread; returns its score and steps."""
    program = [str(source)] if isinstance(source, Path) else ["-c", source]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT / "seed_model"),
        "AUTORESEARCH_DATA": folder,
        "AUTORESEARCH_DEVICE": "cpu",
        "AUTORESEARCH_TRAIN_SECONDS": str(seconds),
        "AUTORESEARCH_SEED": str(seed),
    }
    run = subprocess.run([sys.executable, *program], env=environment, capture_output=True, text=True, check=True)
    values = dict(re.findall(r"^(\w+): +([\d.]+)$", run.stdout, re.MULTILINE))
    return {"val_bpb": float(values["val_bpb"]), "steps": int(values["num_steps"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    prepare = [sys.executable, str(ROOT / "seed_model" / "prepare.py"), "--json", *SETTINGS]
    folder = json.loads(subprocess.run(prepare, capture_output=True, text=True, check=True).stdout)["folder"]

    contestants: dict[str, Path | str] = {
        "plain GPT, AdamW 1e-3": PLAIN.replace("LEARNING_RATE", "1e-3"),
        "plain GPT, AdamW 3e-3": PLAIN.replace("LEARNING_RATE", "3e-3"),
        "seed model": ROOT / "seed_model" / "train.py",
    }
    results: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    print(f"{'val_bpb':24}" + "".join(f"seed {seed:<5}" for seed in range(options.seeds)) + "mean     steps")
    for name, source in contestants.items():
        print(f"{name:24}", end="", flush=True)
        for seed in range(options.seeds):
            results[name].append(train(source, folder, options.seconds, seed))
            print(f"{results[name][-1]['val_bpb']:<10.4f}", end="", flush=True)
        steps = np.mean([run["steps"] for run in results[name]])
        print(f"{np.mean([run['val_bpb'] for run in results[name]]):<9.4f}{steps:.0f}")

    ours, *others = (np.array([run["val_bpb"] for run in results[name]]) for name in reversed(contestants))
    for name, theirs in zip(reversed(list(contestants)[:-1]), others, strict=True):
        difference = ours - theirs
        error = difference.std(ddof=1) / len(difference) ** 0.5 if len(difference) > 1 else float("nan")
        print(f"seed model - {name}: {difference.mean():+.4f} ± {error:.4f} (ratio {ours.mean() / theirs.mean():.3f})")
    if options.output:
        record = {
            "command": " ".join(["python", "benchmarks/seed_model.py", *sys.argv[1:]]),
            "date": datetime.date.today().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread a training",
            "seconds": options.seconds,
            "data": json.loads((Path(folder) / "meta.json").read_text(encoding="utf-8"))["data_hash"],
            "results": results,
        }
        options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
