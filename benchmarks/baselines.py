"""Searches to compare with, on a landscape and with the engine's own proposals: greedy, random, a plain genetic one.

Each takes a landscape, a number of experiments and a seed, and returns the true score of what it holds for the best
after each experiment. None of them knows of noise: a score is taken as it comes. What repeats an earlier source costs
nothing, as in the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from autoresearch_ray.cluster.landscape import Landscape
from autoresearch_ray.operators import crossover, steps
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.variant import Birth, Operator, Variant

NUMBERS = 0.5
"""Share of proposals that turn numbers; the others stand for a language model's. The engine's default."""
GENERATION, TOURNAMENT, CROSSOVERS = 16, 3, 0.5


@dataclass(frozen=True)
class Tried:
    """A variant that was trained once."""

    variant: Variant
    score: float
    truth: float


class Trainer:
    """Trains variants on a landscape and remembers the course of the best. `Spent` ends a search."""

    class Spent(Exception):
        """All experiments are used up."""

    def __init__(self, landscape: Landscape, experiments: int, seed: int) -> None:
        self.landscape = landscape
        self.rng = np.random.default_rng(seed)
        self.experiments = experiments
        self.best: Tried | None = None
        self.course: list[float] = []
        self.kept: list[float] = []
        self.crashed = 0
        self._seen: set[str] = set()

    def train(self, source: str, step_size: float | None = None) -> Tried | None:
        """Train a source once; None if it is a repetition, which is free, or crashes, which is not."""
        if source in self._seen:
            return None
        if len(self.course) == self.experiments:
            raise self.Spent
        self._seen.add(source)
        truth = self.landscape.score(source)
        tried = None
        if truth is None:
            self.crashed += 1
        else:
            birth = Birth(len(self._seen), f"{len(self._seen):012x}", 0, Operator.PARAMETERS, 0)
            variant = Variant(birth, (), 0, source, "", datetime.now(timezone.utc), step_size=step_size)
            tried = Tried(variant, truth + self.landscape.sigma * self.rng.normal(), truth)
            if self.best is None or tried.score < self.best.score:
                self.best = tried
                self.kept.append(tried.score)
        assert self.best is not None, "the first variant crashes"
        self.course.append(self.best.truth)
        return tried

    def child(self, parent: Variant) -> Tried | None:
        """Train a proposal from one parent."""
        numbers = not self.landscape.parts or (self.landscape.literals and self.rng.random() < NUMBERS)
        if numbers:
            return self._answer(steps.mutate(parent, self.rng), parent)
        return self._answer(self.landscape.propose(parent.source, self.rng), parent)

    def cross(self, first: Variant, second: Variant, ancestor: Variant) -> Tried | None:
        """Train a merge of two."""
        return self._answer(crossover.merge(first, second, ancestor, self.rng), first)

    def _answer(self, answer: Proposal | Failure, parent: Variant) -> Tried | None:
        if isinstance(answer, Failure):
            return None
        return self.train(answer.source, answer.step_size or parent.step_size)


def greedy(trainer: Trainer) -> Iterator[None]:
    """Breed from whatever scored lowest so far: autoresearch's keep or discard."""
    while True:
        assert trainer.best is not None
        trainer.child(trainer.best.variant)
        yield


def random_search(trainer: Trainer) -> Iterator[None]:
    """Breed from any variant that was ever scored, each as likely."""
    assert trainer.best is not None
    pool = [trainer.best.variant]
    while True:
        tried = trainer.child(pool[trainer.rng.integers(len(pool))])
        if tried is not None:
            pool.append(tried.variant)
        yield


def genetic(trainer: Trainer) -> Iterator[None]:
    """Replace a generation at a time, but for its best; tournaments of three, half of the children by crossover."""
    assert trainer.best is not None
    ancestor = trainer.best.variant
    parents = [trainer.best]
    while True:
        children: list[Tried] = []
        for _ in range(50 * GENERATION):
            first, second = (_winner(parents, trainer.rng) for _ in range(2))
            if trainer.rng.random() < CROSSOVERS and first is not second:
                tried = trainer.cross(first.variant, second.variant, ancestor)
            else:
                tried = trainer.child(first.variant)
            children += [] if tried is None else [tried]
            if len(children) == GENERATION:
                break
            yield
        parents = [min(parents, key=lambda each: each.score), *children]


def _winner(pool: list[Tried], rng: np.random.Generator) -> Tried:
    drawn = rng.choice(len(pool), size=min(TOURNAMENT, len(pool)), replace=False)
    return min((pool[index] for index in drawn), key=lambda each: each.score)


def course(search: Callable[[Trainer], Iterator[None]], landscape: Landscape, experiments: int, seed: int) -> Trainer:
    """Run one of the searches to its end; its trainer holds the course."""
    trainer = Trainer(landscape, experiments, seed)
    try:
        trainer.train(landscape.seed)
        for attempts, _ in enumerate(search(trainer)):
            if attempts > 200 * experiments:  # a landscape so small that everything has been tried
                trainer.course += trainer.course[-1:] * (experiments - len(trainer.course))
                break
    except Trainer.Spent:
        pass
    return trainer


SEARCHES: dict[str, Callable[[Trainer], Iterator[None]]] = {
    "greedy": greedy,
    "random": random_search,
    "genetic": genetic,
}
