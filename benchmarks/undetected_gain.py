"""How much a model that remembers prefixes can gain by looking ahead elsewhere before the stand-ins betray it.

    python benchmarks/undetected_gain.py [--steps 400] [--output benchmarks/results/undetected_gain.json]

A small GPT is trained on Python source as configs/quick.yaml has it. What it thinks of stand-ins is then changed as
a cheat would: a share of its belief put on the token that is shown next, everywhere (`mixes`), or nearly all of it at
randomly chosen positions (`peeks`). For the number of stand-ins of a configuration the largest cheat is found whose
evidence stays, on the median over draws, below the one that rejects; its gain is that of the scored tokens.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "training")]

import zoo  # noqa: E402

from autoresearch_ray.training import evidence  # noqa: E402
from autoresearch_ray.training.data import open_data  # noqa: E402
from autoresearch_ray.training.evidence import ENOUGH, Shown  # noqa: E402
from autoresearch_ray.training.plan import Kind, make_plan  # noqa: E402
from autoresearch_ray.training.scorer import Targets, open_targets  # noqa: E402

SETTINGS = ("--corpus=python", "--tokenizer=byte", "--sequence-length=128", "--val-tokens=65536")
STANDINS = {"quick.yaml": 2_250, "one-gpu.yaml": 32_768}
LEVELS = 10.0 ** np.arange(-4.5, -0.5, 0.125)


@torch.no_grad()
def observe(targets: Targets, model: torch.nn.Module, draws: int) -> tuple[list[tuple[np.ndarray, ...]], np.ndarray]:
    """Return what the model thinks of stand-ins, place by place, and its probabilities of the scored true tokens."""
    places, V = [], targets.vocab_size
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        plan = make_plan(targets.val, targets.check, targets.successors, 16, 0.5, V, rng)
        for at in np.flatnonzero(plan.kind == Kind.STANDINS).tolist():
            standins = plan.standins[at]
            p = model(torch.from_numpy(plan.inputs[at : at + 1].astype(np.int64)))[0].softmax(-1).double().numpy()
            for m, position in enumerate(standins.position):
                mine = standins.place == m
                others = p[position - 1].copy()
                others[standins.truth[m]] = 0.0
                chosen = standins.chosen[m] - int(np.argmax(mine))
                believed = p[position - 1, standins.alternative[mine]]
                places.append((standins.probability[mine], believed, np.array([chosen, others.max()])))
    rows = torch.from_numpy(targets.val.astype(np.int64))
    true = [model(some[:, :-1]).softmax(-1).gather(2, some[:, 1:, None])[..., 0].flatten() for some in rows.split(32)]
    return places, torch.cat(true).double().numpy()


def shown(places: list[tuple[np.ndarray, ...]], beliefs: np.ndarray) -> Shown:
    """Return stand-ins after so much belief was put on each one that is shown."""
    counts = np.array([len(probability) for probability, _, _ in places])
    first = np.cumsum(counts) - counts
    chosen = first + np.array([int(other[0]) for _, _, other in places])
    model = np.concatenate([(1 - b) * believed for (_, believed, _), b in zip(places, beliefs, strict=True)])
    model[chosen] += beliefs
    surest = np.maximum((1 - beliefs) * np.array([other[1] for _, _, other in places]), model[chosen])
    probability = np.concatenate([each for each, _, _ in places])
    return Shown(np.repeat(np.arange(len(places)), counts), probability, np.log(model + 1e-12), chosen, surest)


def largest(places: list[tuple[np.ndarray, ...]], true: np.ndarray, n: int, peeks: bool) -> dict[str, float]:
    """Return the largest undetected cheat: its level, and what it gains in nats a token."""
    rng, found = np.random.default_rng(n), {"level": 0.0, "nats_a_token": 0.0}
    for level in LEVELS:
        logs = []
        for _ in range(5):
            some = [places[i] for i in rng.integers(len(places), size=n)]
            beliefs = 0.95 * (rng.random(n) < level) if peeks else np.full(n, level)
            logs.append(evidence.of_shown(shown(some, beliefs)))
        if float(np.median(logs)) >= ENOUGH:
            break
        cheating = 0.05 * true + 0.95 if peeks else (1 - level) * true + level
        gain = float(np.log(cheating / true).mean()) * (level if peeks else 1.0)
        found = {"level": float(level), "nats_a_token": gain}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    prepare = [sys.executable, str(ROOT / "seed_model" / "prepare.py"), "--json", *SETTINGS]
    folder = Path(json.loads(subprocess.run(prepare, capture_output=True, text=True, check=True).stdout)["folder"])
    targets = open_targets(folder, "cpu")
    model = zoo.build("attention", targets.vocab_size, targets.sequence_length, 1, 64)
    train = np.array(open_data(folder).open_rows("train")[::50]).astype(np.int64)
    zoo.train(model, torch.from_numpy(train), options.steps, 1)
    places, true = observe(targets, model, draws=6)
    loss = -float(np.log(true).mean())
    print(f"{len(places)} stand-ins; the model's loss is {loss:.3f} nats a token, {loss / math.log(2):.3f} bits a byte")
    record = {"standins": len(places), "nats_a_token": loss, "undetected": {}}
    for name, n in STANDINS.items():
        for kind, peeks in (("mixes", False), ("peeks", True)):
            found = largest(places, true, n, peeks)
            record["undetected"][f"{name}, {kind}"] = found
            nats = found["nats_a_token"]
            bits = f"{nats / math.log(2):.4f} bits a token of one byte, {nats / math.log(2) / 4.4:.4f} a byte of 4.4"
            print(f"{name:14} {n:6} stand-ins, {kind}: level {found['level']:.5f}, gains {bits}", flush=True)
    if options.output:
        options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
