"""A realistic lineage without training anything: gains shrink, noise is real, some births fail."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.sealing import Sealing
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Birth, Experiment, Operator, Result, Status, Usage, Variant, variant_id

START = datetime(2025, 11, 24, 21, 0, tzinfo=timezone.utc)
SIGMA = 0.004
KNOBS = ("MATRIX_LR", "EMBEDDING_LR", "WEIGHT_DECAY", "WARMUP", "DEPTH", "WIDTH", "HEADS", "WINDOW", "BATCH", "BETA2")
IDEAS = (
    "replace ReLU² by SwiGLU, same parameters",
    "value embeddings in every second layer only: fewer parameters, more steps",
    "warm the learning rate down linearly to zero over the last half of training",
    "halve the batch and double the steps",
    "rotary base 10,000 → 50,000",
)
SOURCE = """\"\"\"Train a small GPT.\"\"\"
import torch
import prepare

{knobs}

model = torch.nn.Linear(WIDTH, WIDTH)
print("---")
"""


def origin(run: str = "nov24") -> schema.Origin:
    return schema.Origin(run, "cpu x86_64 | torch 2.13.0 | 10 s", "d0d0cafe")


def variant(number: int, parents: tuple[Variant, ...] = (), *, run: str = "nov24", **changes: object) -> Variant:
    values: dict[str, object] = {
        "source": f"x = {number}\n",
        "hypothesis": f"step {number}",
        "created_at": START + timedelta(seconds=number),
    }
    operator = Operator.SEED if not parents else Operator.CROSSOVER if len(parents) == 2 else Operator.PARAMETERS
    birth = Birth(number, variant_id(run, number), number % 2, changes.pop("operator", operator), 1000 + number)
    generation = 1 + max((parent.generation for parent in parents), default=-1)
    return Variant(birth, tuple(p.variant_id for p in parents), generation, **{**values, **changes})


def experiment(of: Variant, replicate: int = 0) -> Experiment:
    return Experiment(f"{of.variant_id}-{replicate}", of.variant_id, of.source, 42 + replicate)


class Evolution:
    """Breeds `births` variants greedily from the better ones, and records them as a driver would."""

    def __init__(self, seed: int = 0, run: str = "nov24", start: float = 3.80) -> None:
        self.rng = np.random.default_rng(seed)
        self.origin = origin(run)
        self.start = start
        self.members: list[tuple[Variant, float, float, dict[str, float]]] = []  # variant, true, measured, knobs
        self.clock = START

    def record(self, store: LineageStore, births: int, commit_every: int = 1) -> None:
        for number in range(births):
            self._birth(store, number)
            if number % commit_every == 0:
                store.commit()
        store.commit()

    def _birth(self, store: LineageStore, number: int) -> None:
        parents = self._parents(number)
        knobs = dict(parents[0][3]) if parents else dict.fromkeys(KNOBS, 8.0)
        hypothesis = "the program the run started from" if not parents else self._change(knobs, parents)
        source = SOURCE.format(knobs="\n".join(f"{knob} = {value:g}" for knob, value in knobs.items()))
        model = "anthropic/claude-test" if hypothesis in IDEAS else None
        born = variant(
            number,
            tuple(parent[0] for parent in parents),
            run=self.origin.run,
            source=source,
            hypothesis=hypothesis,
            created_at=self.clock,
            model=model,
            usage=Usage(12_000, 900, 0.03) if model else Usage(),
            **({"operator": Operator.MUTATION} if model else {}),
        )
        store.reserve(born.birth)
        store.propose(born)
        status, reason = self._fate(number)
        true = self.start if not parents else self._true(parents)
        if status is not Status.REJECTED:
            for replicate in range(3 if number == 0 or true < min((m[1] for m in self.members), default=9) else 1):
                measured = true + self.rng.normal(0, SIGMA)
                self._train(store, born, replicate, status, reason, measured)
            if status is Status.COMPLETED:
                self.members.append((born, true, measured, knobs))
        store.append("variants", schema.variant_row(self.origin, born, status, reason))

    def _parents(self, number: int) -> list[tuple[Variant, float, float, dict[str, float]]]:
        if number == 0 or not self.members:
            return []
        drawn = self.rng.integers(len(self.members), size=(2, 3))
        best = [min((self.members[i] for i in row), key=lambda member: member[2]) for row in drawn]
        crossed = self.rng.random() < 0.15 and best[0][0] != best[1][0]
        return best if crossed else best[:1]

    def _change(self, knobs: dict[str, float], parents: list[tuple[Variant, float, float, dict[str, float]]]) -> str:
        if len(parents) == 2:
            taken = [knob for knob in KNOBS if self.rng.random() < 0.4]
            knobs.update({knob: parents[1][3][knob] for knob in taken})
            return f"{', '.join(taken) or 'nothing'} from the second parent"
        if self.rng.random() < 0.3:
            return IDEAS[self.rng.integers(len(IDEAS))]
        knob = KNOBS[self.rng.integers(len(KNOBS))]
        old = knobs[knob]
        knobs[knob] = round(old * float(np.exp(self.rng.normal(0, 0.3))), 3)
        return f"{knob} {old:g} → {knobs[knob]:g}"

    def _fate(self, number: int) -> tuple[Status, str]:
        draw = self.rng.random() if number else 1.0
        if draw < 0.06:
            return Status.CRASHED, "RuntimeError: mat1 and mat2 shapes cannot be multiplied (16x64 and 80x80)"
        if draw < 0.09:
            return Status.TIMED_OUT, "no first batch within 60 s"
        if draw < 0.15:
            return Status.REJECTED, "duplicate of an earlier variant"
        return Status.COMPLETED, ""

    def _true(self, parents: list[tuple[Variant, float, float, dict[str, float]]]) -> float:
        base = min(parent[1] for parent in parents)
        return max(base + self.rng.normal(0.012, 0.02), self.start * 0.92 + self.rng.exponential(0.01))

    def _train(
        self, store: LineageStore, born: Variant, replicate: int, status: Status, reason: str, score: float
    ) -> None:
        begun, self.clock = self.clock, self.clock + timedelta(seconds=6.1)
        done = status is Status.COMPLETED
        result = Result(
            status=status,
            reason=reason,
            val_bpb=score if done else None,
            verified=True,
            curve=tuple((step / 20, 5.5 * float(np.exp(-step / 9)) + 2.6) for step in range(20)),
            train_seconds=10.0,
            startup_seconds=0.4,
            wall_seconds=11.5,
            scoring_seconds=1.1,
            tokens=430_000,
            steps=210,
            parameters=140_000,
            peak_memory_bytes=412 << 20,
            log_tail="---\nval_bpb: 3.7\n" if done else f"Traceback (most recent call last):\n{reason}\n",
            hardware="cpu x86_64",
            node="127.0.0.1",
            started_at=begun,
            ended_at=begun + timedelta(seconds=11.5),
        )
        store.append("experiments", schema.experiment_row(self.origin, experiment(born, replicate), result))


def make(
    folder: Path, births: int = 40, seed: int = 0, *, sealing: Sealing | None = None, champion: bool = True
) -> Path:
    """Write a synthetic run and return its folder."""
    evolution = Evolution(seed, folder.name)
    with LineageStore.create(folder, folder.name, sealing=sealing) as store:
        evolution.record(store, births)
        if champion and evolution.members:
            best = min(evolution.members, key=lambda member: member[1])
            store.append("champions", champion_row(evolution.origin, best[0].variant_id, best[1], evolution.clock))
    return folder


def champion_row(of: schema.Origin, identity: str, mean: float, at: datetime) -> schema.Row:
    return schema.champion_row(
        of, identity, at, posterior_mean=mean, posterior_sd=SIGMA / 2, p_better=0.97, replaced=None
    )
