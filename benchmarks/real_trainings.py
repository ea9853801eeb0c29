"""Real trainings: configs/quick.yaml at several population sizes against a sequential greedy search, as it is.

Every arm has as many experiments, replicates included. Its champion, or else its best guess, and the seed are then
trained again on five fresh seeds and scored on the validation and the holdout rows. At most two trainings run at a
time. What is done is kept in the folder: the same command goes on where it was ended, by whatever means.

In full (10 s a training, 36 experiments an arm) it takes about three hours on two cores. `--reduced` has 24 experiments
of 3 s an arm instead, all else being equal: the same three seeds, sizes and fresh trainings in about 40 minutes.

    python benchmarks/real_trainings.py FOLDER [--reduced] [--seeds 3] [--sizes 1 4 8 16] [--output FILE]
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoresearch_ray import config as configuration
from autoresearch_ray.cluster.trainer import trainer_of
from autoresearch_ray.operators import steps
from autoresearch_ray.operators.proposal import Failure
from autoresearch_ray.variant import Birth, Experiment, Operator, Result, Variant

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "quick.yaml"
FRESH = 5
AT_A_TIME = 2
REDUCED_SECONDS, REDUCED_EXPERIMENTS, EXPERIMENTS = 3.0, 24, 36
NEVER = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)


@dataclass(frozen=True)
class Bench:
    """What all arms share."""

    folder: Path
    experiments: int
    settings: tuple[str, ...]
    """Overrides of configs/quick.yaml."""


@dataclass(frozen=True)
class Arm:
    """One search, or the seed alone."""

    kind: str
    seed: int
    size: int | None = None
    """None: not the engine's."""

    @property
    def name(self) -> str:
        """The name of its run and of its files."""
        return f"{self.kind}-{self.seed}"


def words(settings: Iterable[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def arr(*arguments: str, allowed: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """Run a command of this environment and return the JSON it prints."""
    command = [sys.executable, "-c", "from autoresearch_ray.cli.app import main; main()", *arguments, "--json"]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode not in allowed:
        raise SystemExit(f"{' '.join(arguments)} ended with {ended.returncode}")
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def evolve(bench: Bench, arm: Arm) -> str:
    """Run the engine, or go on with it, and return the source of its champion or best guess."""
    storage = ("--storage", str(bench.folder))
    if (bench.folder / arm.name / "lineage").is_dir():
        arr("resume", arm.name, *storage)
    else:
        own = (f"population_size={arm.size}", f"seed={arm.seed}", f"max_experiments={bench.experiments}")
        settings = words((*bench.settings, *own, f"storage={bench.folder}", f"max_slots={AT_A_TIME}"))
        arr("run", "-c", str(CONFIG), "--name", arm.name, *settings)
    return str(arr("lineage", "show", "best", arm.name, "--source", *storage)["source"])


def greedy(bench: Bench, arm: Arm) -> str:
    """Keep whatever scored lower, one experiment after the other, plain steps on numbers; return the best source."""
    config = configuration.load(CONFIG, bench.settings)
    trainer = trainer_of(config)
    path = bench.folder / f"{arm.name}.json"
    done: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    source = (config.seed_model / "train.py").read_text(encoding="utf-8")
    step_size, best, kept = None, float("inf"), source
    for number in range(bench.experiments):
        rng = np.random.default_rng([arm.seed, number])
        candidate, size = source, step_size
        if number:
            birth = Birth(number, "", 0, Operator.PARAMETERS, 0)
            answer = steps.mutate(Variant(birth, (), 0, kept, "", NEVER, step_size=step_size), rng)
            assert not isinstance(answer, Failure), answer
            candidate, size = answer.source, answer.step_size
        if number == len(done):
            name = f"{arm.name}-{number}"
            experiment = Experiment(name, name, candidate, int(rng.integers(2**31)))
            score = next(each for each in trainer.run(experiment, None) if isinstance(each, Result)).val_bpb
            done.append({"score": score})
            keep(path, json.dumps(done))
        score = done[number]["score"]
        if score is not None and score < best:
            best, kept, step_size = score, candidate, size
    return kept


def again(bench: Bench, arm: Arm) -> dict[str, Any]:
    """Train what an arm came to on fresh seeds, the holdout rows included."""
    path = bench.folder / f"{arm.name}.py"
    arguments = (str(path), "-c", str(CONFIG), "--seeds", str(FRESH), "--holdout", *words(bench.settings))
    return arr("score", *arguments, allowed=(0, 1))  # 1: a training of it failed, which is a result


def keep(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def search(bench: Bench, arms: list[Arm]) -> None:
    """Let every arm find its best, which is then FOLDER/ARM.py: two greedy ones at a time, then the engine's."""
    left = [arm for arm in arms if not (bench.folder / f"{arm.name}.py").exists()]
    with ProcessPoolExecutor(AT_A_TIME, mp_context=multiprocessing.get_context("spawn")) as pool:
        climbing = {pool.submit(greedy, bench, arm): arm for arm in left if arm.kind == "greedy"}
        for each in as_completed(climbing):
            found(bench, climbing[each], each.result())
    for arm in left:
        if arm.kind == "seed":
            found(bench, arm, (ROOT / "seed_model" / "train.py").read_text(encoding="utf-8"))
        elif arm.kind != "greedy":
            found(bench, arm, evolve(bench, arm))


def found(bench: Bench, arm: Arm, source: str) -> None:
    keep(bench.folder / f"{arm.name}.py", source)
    print(f"{time.strftime('%X')} {arm.name} has its best", flush=True)


def rescore(bench: Bench, arms: list[Arm]) -> dict[str, dict[str, Any]]:
    """Train on fresh seeds whatever lacks it, two arms at a time; return the scores of all."""
    path = bench.folder / "results.json"
    results: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        training: dict[Future[dict[str, Any]], Arm] = {
            pool.submit(again, bench, arm): arm for arm in arms if arm.name not in results
        }
        for each in as_completed(training):
            results[training[each].name] = scored = each.result()
            keep(path, json.dumps(results, indent=2))
            text = f"{scored['mean']:.4f} ± {scored['error'] or float('nan'):.4f}" if scored["mean"] else "failed"
            print(f"{time.strftime('%X')} {training[each].name:12} {text}", flush=True)
    return results


def summed(scored: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of an arm's fresh trainings: neither sources nor logs."""
    kept = {name: scored[name] for name in ("mean", "error", "holdout_mean")}
    return {**kept, "scores": [row[1]["val_bpb"] for row in scored["results"]]}


def table(results: dict[str, dict[str, Any]], kinds: list[str]) -> dict[str, dict[str, Any]]:
    """Return for each kind of arm the mean over its seeds, fresh trainings only, and their spread."""
    rows = {}
    for kind in kinds:
        arms = [result for name, result in results.items() if name.split("-")[0] == kind]
        means = [arm["mean"] for arm in arms if arm["mean"] is not None]
        holdout = [arm["holdout_mean"] for arm in arms if arm["holdout_mean"] is not None]
        rows[kind] = {
            "arms": len(arms),
            "validation": round(float(np.mean(means)), 4) if means else None,
            "spread": round(float(np.std(means, ddof=1)), 4) if len(means) > 1 else None,
            "holdout": round(float(np.mean(holdout)), 4) if holdout else None,
            "trainings that failed": sum(row[1]["val_bpb"] is None for arm in arms for row in arm["results"]),
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reduced", action="store_true", help="24 experiments of 3 s an arm instead of 36 of 10 s")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--experiments", type=int, help="of an arm")
    parser.add_argument("--train-seconds", type=float, help="of a training, in CPU seconds")
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    options = parser.parse_args()
    began = time.monotonic()
    output = options.output and options.output.resolve()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)
    seconds = options.train_seconds or (
        REDUCED_SECONDS if options.reduced else configuration.load(CONFIG).train_seconds
    )
    experiments = options.experiments or (REDUCED_EXPERIMENTS if options.reduced else EXPERIMENTS)
    bench = Bench(folder, experiments, (f"train_seconds={seconds:g}",))
    arr("prepare", "-c", str(CONFIG))
    arms = [Arm("seed", 0)]
    for seed in range(options.seeds):
        arms += [Arm("greedy", seed), *(Arm(f"size{size}", seed, size) for size in options.sizes)]
    search(bench, arms)
    results = rescore(bench, arms)
    figures = {
        "command": " ".join(sys.argv),
        "date": datetime.date.today().isoformat(),
        "seconds a training": seconds,
        "experiments an arm": experiments,
        "minutes, this sitting": round((time.monotonic() - began) / 60, 1),
        "table": table(results, ["seed", "greedy", *(f"size{size}" for size in options.sizes)]),
    }
    print(json.dumps(figures, indent=2))
    if output:
        keep(
            output, json.dumps({**figures, "arms": {name: summed(results[name]) for name in results}}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
