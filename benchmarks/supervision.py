"""Supervised tokens a second beside the same train.py run alone: what the supervisor, its clock and its walls cost.

    python benchmarks/supervision.py [--pairs 7] [--seconds 10] [--output benchmarks/results/supervision.json]
    python benchmarks/supervision.py --device cuda --pairs 3 --seconds 60

Both run the seed model with the same data, seed and budget, one after the other in pairs, the order turned each time;
the figure is the median over the pairs of the ratio of tokens trained on. A budget is counted in CPU seconds on a CPU
and in wall-clock seconds on a GPU, by the supervisor and by prepare.py alone, so that a busy machine disturbs little.
With `--device cuda` the full-size model trains on made-up text; needs torch and numpy only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from autoresearch_ray.training.supervisor import Supervisor, SupervisorSettings  # noqa: E402
from autoresearch_ray.variant import Experiment, Result, Status  # noqa: E402

TRAIN, PREPARE = ROOT / "seed_model" / "train.py", ROOT / "seed_model" / "prepare.py"
SIZES = {"cpu": (257, 128, 4_000_000, 65_536), "cuda": (8192, 2048, 60_000_000, 2_000_000)}
"""Vocabulary, tokens of a row, of training and of scoring, by device."""


def make_data(folder: Path, device: str) -> None:
    """Write a prepared folder of a Markov chain, of the sizes of configs/quick.yaml or configs/one-gpu.yaml."""
    V, T, train, val = SIZES[device]
    rng = np.random.default_rng(1)
    followers = rng.integers(0, V - 1, (V, 16)).astype(np.uint16)
    counts = {"train": train // T, "val": val // T, "holdout": 16, "check": val // T // 4}
    for split, n in counts.items():
        rows = np.full((n, T + 1), V - 1, dtype=np.uint16)
        for t in range(T):
            rows[:, t + 1] = followers[rows[:, t], np.minimum(rng.geometric(0.3, size=n), 16) - 1]
        rows.tofile(folder / f"{split}.bin")
    sizes = np.ones(V, dtype=np.int32)
    sizes[V - 1] = 0
    np.save(folder / "token_bytes.npy", sizes)
    meta = {"format": 1, "corpus": "markov", "tokenizer": "byte", "vocab_size": V, "sequence_length": T}
    meta |= {"bos_token": V - 1, "rows": counts, "data_hash": "0" * 64, "prepare_hash": "1" * 64, "settings": {}}
    (folder / "meta.json").write_text(json.dumps(meta))


def alone(folder: Path, device: str, seconds: float, threads: int) -> dict[str, float]:
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "AUTORESEARCH_DATA": str(folder),
        "AUTORESEARCH_DEVICE": device,
        "AUTORESEARCH_TRAIN_SECONDS": str(seconds),
        "AUTORESEARCH_SEED": "1",
    }
    command = [sys.executable, str(TRAIN)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return block(run.stdout)


def supervised(supervisor: Supervisor) -> dict[str, float]:
    *_, result = supervisor.run(Experiment("x-0", "x", TRAIN.read_text(encoding="utf-8"), 1))
    assert isinstance(result, Result)
    assert result.status is Status.COMPLETED, f"{result.reason}\n{result.log_tail}"
    assert not result.claim_flag, result.claim_flag
    return block(result.log_tail) | {"scoring_seconds": result.scoring_seconds, "held": float(result.train_seconds)}


def block(printed: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^(\w+): +([\d.]+)$", printed, re.MULTILINE)}


def settings_for(folder: Path, device: Any, seconds: float, threads: int) -> SupervisorSettings:
    walls: dict[str, Any] = {}
    if "sandbox" in {field.name for field in fields(SupervisorSettings)}:
        from autoresearch_ray.training.sandbox.settings import SandboxSettings

        walls = {"sandbox": SandboxSettings(level="best_effort")}
    return SupervisorSettings(
        data=folder,
        prepare=PREPARE,
        device=device,
        threads=threads,
        train_seconds=seconds,
        scoring_seconds=900,
        **walls,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    threads = 1 if options.device == "cpu" else 4
    ratios, pairs = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder, options.device)
        settings = settings_for(folder, options.device, options.seconds, threads)
        with Supervisor(settings) as supervisor:
            supervisor.warm_up()
            for number in range(options.pairs):
                turned = number % 2 == 1
                first = supervised(supervisor) if turned else None
                by_itself = alone(folder, options.device, options.seconds, threads)
                watched = first or supervised(supervisor)
                ratios.append(watched["total_tokens_M"] / by_itself["total_tokens_M"])
                pairs.append({"alone": by_itself, "supervised": watched})
                print(
                    f"pair {number + 1}: alone {by_itself['total_tokens_M']:.3f} M tokens, supervised "
                    f"{watched['total_tokens_M']:.3f} M, ratio {ratios[-1]:.4f}; val_bpb {by_itself['val_bpb']:.4f} "
                    f"and {watched['val_bpb']:.4f}; scoring {watched['scoring_seconds']:.2f} s",
                    flush=True,
                )
    print(f"median ratio {statistics.median(ratios):.4f} of {len(ratios)} pairs (at least 0.98 is promised)")
    if options.output:
        record = {
            "command": " ".join(["python", "benchmarks/supervision.py", *sys.argv[1:]]),
            "device": options.device,
            "seconds": options.seconds,
            "median_ratio": statistics.median(ratios),
            "ratios": ratios,
            "pairs": pairs,
        }
        options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
