"""A large lineage without training anything: what the views are measured on.

    python benchmarks/synthetic_lineage.py FOLDER [--births 300000] [--seed 0] [--source-bytes 2000]

Gains shrink, noise is real, some births fail, crossovers have two parents, champions are confirmed and re-measured.
"""

from __future__ import annotations

import argparse
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autoresearch_ray.lineage import manifest, parts, schema
from autoresearch_ray.lineage.journal import Journal
from autoresearch_ray.lineage.manifest import Manifest, Part
from autoresearch_ray.lineage.schema import TableName
from autoresearch_ray.variant import variant_id

START = datetime(2025, 11, 24, 21, 0, tzinfo=timezone.utc)
SIGMA = 0.0005
CHUNK = 16_384
ISLANDS = 8
POPULATION = 400
FINAL = 0.969
MODELS = ("anthropic/claude-sonnet-4-5", "openai/gpt-5", "deepseek/deepseek-chat")
KNOBS = ("MATRIX_LR", "EMBEDDING_LR", "WEIGHT_DECAY", "WARMDOWN_RATIO", "DEPTH", "ASPECT_RATIO", "HEAD_DIM", "BETA2")
IDEAS = (
    "replace ReLU² by SwiGLU at equal parameters: gating helps small models",
    "value embeddings in every second layer only: fewer parameters, more steps",
    "halve the batch and double the steps: the schedule is step-limited",
    "rotary base 10,000 → 50,000: longer wavelengths for the window layers",
    "untie the first layer's value gate and start it at zero",
    "warm the learning rate down to 10 % instead of zero",
    "RMSNorm on the value path, as on queries and keys",
    "sliding window pattern SSSL → SSL: more full attention",
)
CRASHES = (
    "RuntimeError: mat1 and mat2 shapes cannot be multiplied (16x64 and 80x80)",
    "torch.OutOfMemoryError: CUDA out of memory",
    "loss is not finite at step 41",
    "NameError: name 'n_kv_head' is not defined",
)
SOURCE = """import torch

import prepare

# {idea}
{knobs}


def main() -> None:
    model = build(DEPTH)
"""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Evolution:
    """Parents, true scores and fates of all births, decided before anything is written.

    Args:
        births: how many, the seed among them.
        seed: of everything random.
    """

    def __init__(self, births: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.births = births
        self.parents = np.full((births, 2), -1, dtype=np.int64)
        self.islands = rng.integers(ISLANDS, size=births)
        self.true = np.full(births, 0.9979)
        self.generation = np.zeros(births, dtype=np.int64)
        draws = rng.random((births, 3))
        self.failed = np.where(
            draws[:, 0] < 0.05, 1, np.where(draws[:, 0] < 0.08, 2, np.where(draws[:, 0] < 0.13, 3, 0))
        )
        self.failed = np.where(draws[:, 0] > 0.985, 4, self.failed)
        self.failed[0] = 0
        self.operator = np.where(draws[:, 1] < 0.15, 2, np.where(draws[:, 1] < 0.55, 3, 1))
        self.operator[0] = 0
        steps = rng.normal(0.0016, 0.0022, size=births)
        self._breed(rng, steps)
        self.operator = np.where((self.operator == 2) & (self.parents[:, 1] < 0), 1, self.operator)
        self.replicates = self._replicates(rng)
        self.rng = rng

    def _breed(self, rng: np.random.Generator, steps: Floats) -> None:
        members: list[int] = [0]
        scores: list[float] = [0.9979]
        picks = rng.random((self.births, 6))
        for number in range(1, self.births):
            chosen = [
                min((int(p * len(members)) for p in picks[number, k : k + 3]), key=scores.__getitem__) for k in (0, 3)
            ]
            first, second = members[chosen[0]], members[chosen[1]]
            self.parents[number, 0] = first
            base = self.true[first]
            if self.operator[number] == 2 and first != second:
                self.parents[number, 1] = second
                base = min(base, self.true[second])
            self.generation[number] = 1 + max(
                self.generation[first], self.generation[second] if self.parents[number, 1] >= 0 else 0
            )
            room = max(0.02, (base - FINAL) / 0.03)
            self.true[number] = base + steps[number] * (1.0 if steps[number] > 0 else room)
            if not self.failed[number]:
                members.append(number)
                scores.append(float(self.true[number]))
                if len(members) > POPULATION:
                    worst = int(np.argmax(scores[: POPULATION // 2]))
                    members.pop(worst)
                    scores.pop(worst)

    def _replicates(self, rng: np.random.Generator) -> Integers:
        running = np.minimum.accumulate(np.where(self.failed > 0, np.inf, self.true))
        better = np.append(True, running[1:] < running[:-1])
        counts = np.where(better, 4, np.where(rng.random(self.births) < 0.05, 2, 1))
        counts[(self.failed == 3) | (self.failed == 4)] = 0
        counts[(self.failed == 1) | (self.failed == 2)] = 1
        self.champions = np.flatnonzero(better & (self.failed == 0))
        return np.asarray(counts, dtype=np.int64)


class Writer:
    """Turns births into rows and seals them, a chunk at a time.

    Args:
        folder: of the run; made.
        evolution: what happened.
        source_bytes: length of each source; real programs have 26,000.
    """

    def __init__(self, folder: Path, evolution: Evolution, source_bytes: int) -> None:
        self.folder, self.run, self.evolution = folder, folder.name, evolution
        self.source_bytes = source_bytes
        self.origin = schema.Origin(self.run, "NVIDIA H100 80GB HBM3 | torch 2.13.0 | 300 s", "d0d0cafe")
        self.ids = [variant_id(self.run, number) for number in range(evolution.births)]
        self.sequence = 0
        self.parts: list[Part] = []
        self.rows: dict[TableName, list[dict[str, Any]]] = {table: [] for table in schema.TABLES}
        self.champion: str | None = None

    def write(self) -> None:
        """Write the whole run."""
        lineage = manifest.lineage_folder(self.folder)
        for name in (*schema.TABLES, "journal"):
            (lineage / name).mkdir(parents=True, exist_ok=True)
        self._event("started", 0, goal="minimize", metric="val_bpb", slots=64)
        champions = set(self.evolution.champions.tolist())
        for number in range(self.evolution.births):
            self._birth(number, number in champions)
            if number % CHUNK == CHUNK - 1:
                self._seal(lineage)
        self._seal(lineage)
        journal = Journal.create(manifest.journal_path(lineage, "journal-00000001.log"))
        journal.close()
        manifest.write(
            self.folder,
            Manifest(self.run, journal.path.name, self.sequence - 1, len(self.parts), tuple(self.parts)),
        )

    def _seal(self, lineage: Path) -> None:
        for table, rows in self.rows.items():
            if rows:
                self.parts.append(parts.write(lineage, table, len(self.parts), rows))
        self.rows = {table: [] for table in schema.TABLES}

    def _add(self, table: TableName, row: dict[str, Any]) -> None:
        self.rows[table].append({"sequence": self.sequence, **row})
        self.sequence += 1

    def _event(self, kind: str, number: int, **details: Any) -> None:
        self._add("events", schema.event_row(self.origin, kind, self._at(number), **details))

    def _at(self, number: int) -> datetime:
        return START + timedelta(seconds=5.5 * number)

    def _birth(self, number: int, confirmed: bool) -> None:
        evolution, rng = self.evolution, self.evolution.rng
        failed, kind = int(evolution.failed[number]), int(evolution.operator[number])
        status = ("completed", "crashed", "timed_out", "rejected", "operator_failed")[failed]
        reason = (
            "",
            CRASHES[number % 4],
            "no first batch within 60 s",
            "duplicate of an earlier variant",
            "the reply had no edit",
        )[failed]
        idea = self._idea(number, kind)
        for replicate in range(int(evolution.replicates[number])):
            self._experiment(number, replicate, status, reason, confirmed, rng)
        asked = kind in (2, 3)
        model = MODELS[number % len(MODELS)] if asked else None
        parents = [self.ids[int(parent)] for parent in evolution.parents[number] if parent >= 0]
        source = None if failed == 4 else self._source(number, idea)
        self._add(
            "variants",
            {
                "variant_id": self.ids[number], "number": number, "island": int(evolution.islands[number]),
                "generation": int(evolution.generation[number]),
                "operator": ("seed", "parameters", "crossover", "mutation")[kind], "parents": parents, "seed": number,
                "hypothesis": idea, "status": status, "reason": reason, "llm_tokens_in": 14_000 * asked,
                "llm_tokens_out": 1_100 * asked, "llm_usd": 0.058 * asked, "created_at": self._at(number),
                "model": model, "prompt_hash": f"{number:016x}" if asked else None, "program_hash": "b0b0",
                "source": source, "source_hash": None if source is None else f"{number if failed != 3 else 1:064x}",
                "ast_hash": None if source is None else f"{number if failed != 3 else 1:032x}", "step_size": None,
                **self._origin(),
            },
        )  # fmt: skip
        if confirmed and number:
            self._add(
                "champions",
                schema.champion_row(
                    self.origin, self.ids[number], self._at(number + 64), posterior_mean=float(evolution.true[number]),
                    posterior_sd=SIGMA / 2, p_better=0.97, replaced=self.champion,
                ),
            )  # fmt: skip
            self.champion = self.ids[number]
        if number % 500 == 499:
            self._event("migration", number, variants=[self.ids[number - 1]])

    def _idea(self, number: int, kind: int) -> str:
        if kind == 0:
            return "the program the run started from"
        if kind == 3:
            return IDEAS[number % len(IDEAS)]
        knob = KNOBS[number % len(KNOBS)]
        return (
            f"{knob} from the second parent"
            if kind == 2
            else f"{knob} {0.01 * (number % 91):g} → {0.01 * (number % 89):g}"
        )

    def _source(self, number: int, idea: str) -> str:
        knobs = "\n".join(f"{knob} = {0.01 * ((number + place) % 91):g}" for place, knob in enumerate(KNOBS))
        text = SOURCE.format(idea=idea, knobs=knobs)
        return text + "    # padding\n" * max(0, (self.source_bytes - len(text)) // 14)

    def _experiment(
        self, number: int, replicate: int, status: str, reason: str, confirmed: bool, rng: np.random.Generator
    ) -> None:
        done = status == "completed"
        begun = self._at(number + 64 * replicate)
        score = float(self.evolution.true[number] + rng.normal(0, SIGMA))
        printed = f"step 00870 loss {2.7 * score:.4f}\n---\nval_bpb: {score:.6f}\n"
        curve = [{"progress": step / 20, "loss": 2.7 * score + 5 * 0.7**step} for step in range(21)]
        self._add(
            "experiments",
            {
                "experiment_id": f"{self.ids[number]}-{replicate}",
                "variant_id": self.ids[number],
                "seed": 42 + replicate,
                "hardware": "NVIDIA H100 80GB HBM3",
                "node": f"node-{number % 8}",
                "gpu": f"gpu-{number % 8}",
                "verified": True,
                "val_bpb": score if done else None,
                "holdout_bpb": score + 0.004 if done and confirmed else None,
                "curve": curve if done else [],
                "train_seconds": 300.0 if done else 40.0,
                "startup_seconds": 21.0,
                "wall_seconds": 352.0 if done else 61.0,
                "scoring_seconds": 24.0 if done else 0.0,
                "tokens": 456_000_000 if done else 0,
                "steps": 870 if done else 0,
                "parameters": 50_332_176,
                "peak_memory_bytes": 22 << 30,
                "status": status,
                "reason": reason,
                "log_tail": printed if done else f"Traceback (most recent call last):\n{reason}\n",
                "started_at": begun,
                "ended_at": begun + timedelta(seconds=352 if done else 61),
                **self._origin(),
            },
        )

    def _origin(self) -> dict[str, str]:
        return {
            "run": self.run,
            "engine_version": self.origin.engine_version,
            "class": self.origin.hardware_class,
            "data_hash": self.origin.data_hash,
        }


def make(folder: Path, births: int, seed: int = 0, source_bytes: int = 2000) -> Path:
    """Write a synthetic run of so many births and return its folder."""
    Writer(folder, Evolution(births, seed), source_bytes).write()
    return folder


def main() -> None:
    """Write a run and say where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--births", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source-bytes", type=int, default=2000)
    arguments = parser.parse_args()
    made = make(arguments.folder, arguments.births, arguments.seed, arguments.source_bytes)
    print(json.dumps({"folder": str(made), "births": arguments.births}))


if __name__ == "__main__":
    main()
