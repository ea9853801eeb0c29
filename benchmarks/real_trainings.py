"""Real trainings: configs/quick.yaml at several population sizes against a sequential greedy search, as it is.

Every arm has as many experiments, replicates included. Its champion, or else its best guess, and the seed are then
trained again on five fresh seeds and scored on the validation and the holdout rows. Hours on two cores; what is done is
kept in the folder, so that the same command goes on where it was interrupted.

    python benchmarks/real_trainings.py FOLDER [--seeds 3] [--sizes 1 4 8 16] [--experiments 36] [--output FILE]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
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
NEVER = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)


def arr(*arguments: str) -> dict[str, Any]:
    """Run a command of this environment and return the JSON it prints."""
    command = [sys.executable, "-c", "from autoresearch_ray.cli.app import main; main()", *arguments, "--json"]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    )
    return found


def evolve(folder: Path, name: str, size: int, seed: int, experiments: int) -> str:
    """Run the engine, or go on with it, and return the source of its champion or best guess."""
    if (folder / name / "lineage").is_dir():
        arr("resume", name, "--storage", str(folder))
    else:
        settings = (f"population_size={size}", f"seed={seed}", f"max_experiments={experiments}", f"storage={folder}")
        overrides = [word for setting in settings for word in ("--set", setting)]
        arr("run", "-c", str(CONFIG), "--name", name, *overrides)
    return str(arr("lineage", "show", "best", name, "--source", "--storage", str(folder))["source"])


def greedy(folder: Path, name: str, seed: int, experiments: int) -> str:
    """Keep whatever scored lower, one experiment after the other, plain steps on numbers; return the best source."""
    config = configuration.load(CONFIG)
    trainer = trainer_of(config)
    path = folder / f"{name}.json"
    done: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    source = (config.seed_model / "train.py").read_text(encoding="utf-8")
    step_size, best, kept = None, float("inf"), source
    for number in range(experiments):
        rng = np.random.default_rng([seed, number])
        candidate = source
        if number:
            birth = Birth(number, "", 0, Operator.PARAMETERS, 0)
            answer = steps.mutate(Variant(birth, (), 0, kept, "", NEVER, step_size=step_size), rng)
            assert not isinstance(answer, Failure), answer
            candidate, size = answer.source, answer.step_size
        if number == len(done):
            experiment = Experiment(f"{name}-{number}", f"{name}-{number}", candidate, int(rng.integers(2**31)))
            score = next(each for each in trainer.run(experiment, None) if isinstance(each, Result)).val_bpb
            done.append({"score": score})
            path.write_text(json.dumps(done))
        score = done[number]["score"]
        if score is not None and score < best:
            best, kept = score, candidate
            step_size = size if number else None
    return kept


def again(source: str, folder: Path, name: str) -> dict[str, Any]:
    """Train a source on fresh seeds, the holdout rows included."""
    path = folder / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    return arr("score", str(path), "-c", str(CONFIG), "--seeds", str(FRESH), "--holdout")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--experiments", type=int, default=36)
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    options = parser.parse_args()
    os.chdir(ROOT)
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = options.folder.resolve()
    arr("prepare", "-c", str(CONFIG))
    path = folder / "results.json"
    results: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    arms = [("seed", None, 0)]
    for seed in range(options.seeds):
        arms += [(f"greedy-{seed}", None, seed), *((f"size{size}-{seed}", size, seed) for size in options.sizes)]
    for name, size, seed in arms:
        if name not in results:
            if name == "seed":
                source = Path("seed_model/train.py").read_text(encoding="utf-8")
            elif size is None:
                source = greedy(folder, name, seed, options.experiments)
            else:
                source = evolve(folder, name, size, seed, options.experiments)
            results[name] = again(source, folder, name)
            path.write_text(json.dumps(results, indent=2))
            print(f"{name:12} {results[name]['mean']:.4f} ± {results[name]['error']:.4f}", flush=True)
    figures = {"command": " ".join(sys.argv), "date": datetime.date.today().isoformat(), "arms": results}
    figures["table"] = table(results, ["seed", "greedy", *(f"size{size}" for size in options.sizes)])
    print(json.dumps(figures["table"], indent=2))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def table(results: dict[str, dict[str, Any]], names: list[str]) -> dict[str, dict[str, Any]]:
    """Return for each kind of arm the mean over its seeds, fresh trainings only, and their spread."""
    found = {}
    for kind in names:
        arms = [result for name, result in results.items() if name.split("-")[0] == kind]
        means = [arm["mean"] for arm in arms]
        found[kind] = {
            "arms": len(arms),
            "validation": round(float(np.mean(means)), 4),
            "spread": round(float(np.std(means, ddof=1)), 4) if len(arms) > 1 else None,
            "holdout": round(float(np.mean([arm["holdout_mean"] for arm in arms])), 4),
        }
    return found


if __name__ == "__main__":
    main()
