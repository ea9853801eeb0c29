"""What becomes of language models' replies: how many are trained, what they cost, and how long looking at them takes.

Three parts, each printed and kept with `--out FILE` as JSON:
1. a scripted model behind a real HTTP server edits the seed, alone and while three of ten calls fail;
2. what autoresearch's agent tried in its 125 experiments (tried_settings.py), as replies: how many apply, pass
   preflight and train (for `--seconds` each, on the CPU, with the default data);
3. the CPU time for applying a reply with all static checks, and the time for building its model in a process behind the
   walls, next to that of a process that only imports torch.

    .venv/bin/python benchmarks/operators.py [--births 100] [--seconds 1] [--known FILE] [--out FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "operators"), str(ROOT / "benchmarks")]

import llm_server
import numpy as np
import tried_settings

from autoresearch_ray import config as configuration
from autoresearch_ray.cluster.trainer import trainer_of
from autoresearch_ray.config import Config, ModelConfig
from autoresearch_ray.operators import edit, novelty
from autoresearch_ray.operators.aids import Aids
from autoresearch_ray.operators.desk import Desk, terms_of
from autoresearch_ray.operators.proposal import Proposal
from autoresearch_ray.operators.request import Idea, Parent, Request
from autoresearch_ray.training import building
from autoresearch_ray.training.building import Builder
from autoresearch_ray.training.preflight import inspect
from autoresearch_ray.variant import Birth, Experiment, Operator, Result, Status, Variant

SEED = (ROOT / "seed_model" / "train.py").read_text(encoding="utf-8")
PROGRAM = (ROOT / "program.md").read_text(encoding="utf-8")


def parent(number: int, source: str) -> Parent:
    birth = Birth(number, f"{number:012d}", 0, Operator.SEED, number)
    return Parent(Variant(birth, (), 0, source, "", datetime.now(timezone.utc)), 1.0, 0.001, 2)


def request(number: int, source: str, ideas: tuple[Idea, ...]) -> Request:
    birth = Birth(number, f"{number:012d}", 0, Operator.MUTATION, number)
    return Request(birth, (parent(0, source),), None, PROGRAM, ideas, ())


def scripted(births: int, share: float) -> dict[str, Any]:
    """Let the scripted model answer so many births, each on a child of earlier ones."""
    model = ModelConfig(
        name="openai/scripted", usd_per_million_input=1, usd_per_million_output=1, max_output_tokens=4096
    )
    with llm_server.running() as server, tempfile.TemporaryDirectory() as folder:
        config = Config(llm={"models": [model], "api_base": server.api_base})
        desk = Desk(terms_of(config, {}, Path(folder), None, 0.0), 0.0)
        desk.check()
        server.reset()
        server.script(share=share)
        sources, ends, tokens, ideas = [SEED], Counter[str](), 0, list[Idea]()
        rng = np.random.default_rng(0)
        for number in range(1, births + 1):
            source = sources[int(rng.integers(len(sources)))]
            answer = desk.propose(request(number, source, tuple(reversed(ideas[-20:]))))
            said = answer.hypothesis if isinstance(answer, Proposal) else "no reply"
            ideas.append(Idea(f"{number:012d}", said, Status.COMPLETED, 0.0, 0.01, ""))
            tokens += answer.usage.tokens_in + answer.usage.tokens_out
            trainable = (
                isinstance(answer, Proposal) and answer.refusal is None and inspect(answer.source).refusal is None
            )
            ends["trainable" if trainable else "rejected" if isinstance(answer, Proposal) else "operator_failed"] += 1
            if trainable and isinstance(answer, Proposal):
                sources.append(answer.source)
        desk.close()
        calls = server.counts()["requests"]
    trained = max(1, ends["trainable"])
    return {
        "failing_calls": share,
        "births": births,
        **ends,
        "share_trainable": round(ends["trainable"] / births, 3),
        "calls_per_trainable": round(calls / trained, 2),
        "tokens_per_trainable": round(tokens / trained),
    }


def autoresearch(config: Config, data: Path, known: Path | None) -> dict[str, Any]:
    """Apply what autoresearch's agent tried, look at it as the operators do, and train it."""
    trainer = trainer_of(config)
    setting = f"{config.train_seconds:g} s, seed {hashlib.sha256(SEED.encode()).hexdigest()[:12]}"
    ends = kept(known, setting)
    with Builder(building.terms_of(config, data)) as builder:
        for name in tried_settings.TRIED:
            if name in ends:
                continue
            edited = edit.apply(SEED, tried_settings.reply(SEED, name))
            if isinstance(edited, edit.Refused):
                ends[name] = f"not applied: {edited.reason}"
            elif refusal := inspect(edited.source).refusal or builder.refusal(edited.source):
                ends[name] = f"preflight: {refusal}"
            else:
                ends[name] = trained(trainer, name, edited.source)
            if known is not None:
                with known.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"setting": setting, "name": name, "end": ends[name]}) + "\n")
    kinds = Counter(end.partition(":")[0] for end in ends.values())
    others = {name: end for name, end in ends.items() if ":" in end}
    return {"settings": len(ends), "train_seconds": config.train_seconds, **kinds, "others": others}


def kept(known: Path | None, setting: str) -> dict[str, str]:
    """Return how settings ended in an earlier, unfinished call under the same setting."""
    if known is None or not known.exists():
        return {}
    lines = map(json.loads, known.read_text(encoding="utf-8").splitlines())
    return {line["name"]: line["end"] for line in lines if line["setting"] == setting}


def trained(trainer: Any, name: str, source: str) -> str:
    experiment = Experiment(f"{name}-0", name, source, 1)
    for item in trainer.run(experiment, None):
        if isinstance(item, Result):
            return "trained" if item.status.value == "completed" else f"{item.status.value}: {item.reason}"
    return "lost: no result"


def times(config: Config, data: Path, rounds: int = 20) -> dict[str, Any]:
    """Time the checks of a reply, and one build of its model."""
    aids, names = Aids(), list(tried_settings.TRIED)[:rounds]
    first, static = parent(0, SEED).variant, []
    for number, name in enumerate(names):
        reply = tried_settings.reply(SEED, name)
        began = time.process_time()  # CPU: what it takes when nothing else runs
        edited = edit.apply(SEED, reply)
        assert isinstance(edited, edit.Edited)
        inspected = inspect(edited.source)
        change = novelty.change_of(str(number), edited.source, first, inspected.identity)
        aids.remembered.objection(change)
        aids.remembered.note(change)
        static.append(time.process_time() - began)
    built = []
    with Builder(building.terms_of(config, data)) as builder:
        builder.refusal(SEED)
        for _ in range(5):
            began = time.perf_counter()
            builder.refusal(SEED)
            built.append(time.perf_counter() - began)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return {
        "apply_and_static_checks_cpu_ms": round(1000 * statistics.median(static), 1),
        "build_ms": round(1000 * statistics.median(built), 1),
        "a_process_that_imports_torch_ms": round(1000 * (time.perf_counter() - began), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--births", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--known", type=Path, help="keeps each of autoresearch's settings as it ends, to go on from")
    parser.add_argument("--part", action="append", help="times, scripted or autoresearch; default: all")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    quick = configuration.load(ROOT / "configs" / "quick.yaml", [f"train_seconds={arguments.seconds}"])
    quick = quick.model_copy(update={"seed_model": ROOT / "seed_model"})
    main_of = "from autoresearch_ray.cli.app import main; main()"
    subprocess.run([sys.executable, "-c", main_of, "prepare", "-c", "configs/quick.yaml"], cwd=ROOT, check=False)
    data = trainer_of(quick).data  # type: ignore[attr-defined]
    parts: dict[str, Callable[[], Any]] = {
        "times": lambda: times(quick, data),
        "scripted": lambda: [scripted(arguments.births, share) for share in (0.0, 0.3)],
        "autoresearch": lambda: autoresearch(quick, data, arguments.known),
    }
    outcome: dict[str, Any] = {"date": str(date.today())}
    for name in arguments.part or parts:
        outcome[name] = parts[name]()
        print(json.dumps({name: outcome[name]}, indent=2, ensure_ascii=False), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(outcome, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
