"""Requests for tests: one or two parents, made of sources."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from autoresearch_ray.operators.request import Idea, Parent, Request
from autoresearch_ray.variant import Birth, Operator, Status, Variant

ROOT = Path(__file__).parents[2]
SEED = (ROOT / "seed_model" / "train.py").read_text(encoding="utf-8")
PROGRAM = "# Research\n\nLower is better.\n"


def variant(number: int, source: str) -> Variant:
    birth = Birth(number, f"{number:x}" * 12, 0, Operator.SEED, 0)
    return Variant(birth, (), 0, source, f"hypothesis {number}", datetime(2026, 1, 1, tzinfo=timezone.utc))


def request(*sources: str, number: int = 9, **changes: Any) -> Request:
    operator = Operator.MUTATION if len(sources) == 1 else Operator.CROSSOVER
    birth = Birth(number, f"{number:012d}", 0, operator, number)
    parents = tuple(Parent(variant(index, source), 1.0, 0.01, 2) for index, source in enumerate(sources, 1))
    ancestor = None if len(sources) == 1 else variant(0, SEED)
    return replace(Request(birth, parents, ancestor, PROGRAM, (), ()), **changes)


def idea(name: str, status: Status = Status.CRASHED, gain: float | None = None, **changes: Any) -> Idea:
    error = None if gain is None else 0.001
    return replace(Idea(name, f"the idea of {name}", status, gain, error, "RuntimeError: no"), **changes)


def edit(old: str, new: str, hypothesis: str = "") -> str:
    return (
        f"HYPOTHESIS: {hypothesis or f'{old} becomes {new}'}\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE\n"
    )
