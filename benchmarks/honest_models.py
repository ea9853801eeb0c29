"""1,000 scorings of differently built honest models: none may be rejected.

    python benchmarks/honest_models.py [--device cuda] [--output benchmarks/results/honest_models.json]

Attention, recurrent, convolutional (short, and as long as the row by Fourier transforms), token-wise mixtures of
experts, dropout left on; float32, bfloat16 and float16 arithmetic; logits sent as float32, bfloat16 and float16;
random weights and trained ones; every one with other sizes and another seed. They are scored in this process by the
scorer's own code, on the text of a Markov chain whose val rows differ from the train rows. What is kept is the
strongest evidence that any test found against any of them, beside the evidence that rejects (15.6 nats). Needs torch
and numpy.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "training")]

import zoo  # noqa: E402
from judged import judge  # noqa: E402

from autoresearch_ray.training.data import open_data  # noqa: E402
from autoresearch_ray.training.evidence import ENOUGH  # noqa: E402
from autoresearch_ray.training.scorer import Targets, open_targets  # noqa: E402

SIZES = {"cpu": (64, 32, 128), "cuda": (2048, 512, 512)}
"""Vocabulary, tokens of a row, and scored rows, by device."""
PRECISIONS = ("float32", "float32", "bfloat16", "float16")
SENT = ("float32", "float32", "bfloat16", "float16")
STEPS = (0, 0, 5, 20)


def make_data(folder: Path, V: int, T: int, val: int) -> None:
    """Write a prepared folder of a Markov chain; a quarter of the tokens have other successors in val than in train."""
    rng = np.random.default_rng(1)
    trained = rng.integers(0, V - 1, (V, 12))
    scored = np.where(np.arange(V)[:, None] % 4 == 0, rng.integers(0, V - 1, (V, 12)), trained)
    weights = 1.0 / np.arange(1, 13)
    counts = {"train": 131_072 // T, "val": val, "holdout": 16, "check": val // 4}
    for split, n in counts.items():
        rows = np.full((n, T + 1), V - 1, dtype=np.uint16)
        for t in range(T):
            followers = (trained if split == "train" else scored)[rows[:, t]]
            rows[:, t + 1] = followers[np.arange(n), rng.choice(12, size=n, p=weights / weights.sum())]
        rows.tofile(folder / f"{split}.bin")
    sizes = np.ones(V, dtype=np.int32)
    sizes[V - 1] = 0
    np.save(folder / "token_bytes.npy", sizes)
    meta = {"format": 1, "corpus": "markov", "tokenizer": "byte", "vocab_size": V, "sequence_length": T}
    meta |= {"bos_token": V - 1, "rows": counts, "data_hash": "0" * 64, "prepare_hash": "1" * 64, "settings": {}}
    (folder / "meta.json").write_text(json.dumps(meta))


@dataclass
class Findings:
    """What came of all scorings so far."""

    scorings: collections.Counter[str] = field(default_factory=collections.Counter)
    rejected: list[str] = field(default_factory=list)
    strongest: dict[str, float] = field(default_factory=dict)


def score(targets: Targets, rows: torch.Tensor, number: int, rng: np.random.Generator, found: Findings) -> None:
    """Build a model, train it perhaps, score it, and note what was found against it."""
    name = list(zoo.BUILDS)[number % len(zoo.BUILDS)]
    precision, sent = str(rng.choice(PRECISIONS)), str(rng.choice(SENT))
    width, steps = int(rng.choice([16, 24, 32])), int(rng.choice(STEPS))
    V, T = targets.vocab_size, targets.sequence_length
    model = zoo.build(name, V, T, int(rng.integers(2**31)), width, precision).to(targets.device)
    if steps:
        zoo.train(model, rows, steps, number)
    judged = judge(targets, model, int(rng.integers(2**31)), sent)
    found.scorings[name] += 1
    for rule, logs in judged.scoring.evidence().items():
        found.strongest[rule] = max(found.strongest.get(rule, -np.inf), *logs)
    if judged.refusal is not None:
        found.rejected.append(f"{name}, {precision}, sent as {sent}, width {width}, {steps} steps: {judged.rule}")
        print(found.rejected[-1], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scorings", type=int, default=1000)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng, found, began = np.random.default_rng(options.seed), Findings(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder), *SIZES[options.device])
        targets = open_targets(Path(folder), options.device)
        train_rows = np.array(open_data(Path(folder)).open_rows("train")).astype(np.int64)
        rows = torch.from_numpy(train_rows).to(options.device)
        for number in range(options.scorings):
            score(targets, rows, number, rng, found)
            if (number + 1) % 100 == 0:
                seconds = time.monotonic() - began
                print(f"{number + 1} scorings, {len(found.rejected)} rejected, {seconds:.0f} s", flush=True)
    print(f"strongest evidence in nats ({ENOUGH:.1f} rejects):")
    for rule, log in found.strongest.items():
        print(f"  {log:6.1f}  {rule}")
    if options.output:
        record = {
            "command": " ".join(["python", "benchmarks/honest_models.py", *sys.argv[1:]]),
            "scorings": dict(found.scorings),
            "rejected": found.rejected,
            "strongest_evidence_nats": found.strongest,
            "evidence_that_rejects_nats": ENOUGH,
            "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
            "torch": torch.__version__,
        }
        options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
