"""Landscapes of other make, which nothing in the engine was tuned on: for `search.py --landscape NAME`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from autoresearch_ray.cluster.calibrated import CALIBRATED, separable
from autoresearch_ray.cluster.landscape import Landscape, Literal, Part


def ellipsoid() -> Landscape:
    """Ten literals and nothing else: an ill-conditioned bowl, condition number about 100, whose axes are aligned."""
    gains = np.geomspace(0.012, 0.0003, 10)
    names = ("LR", "WIDTH", "DECAY", "BETA2", "CLIP", "INIT", "WARMUP_STEPS", "SCALE", "TEMPERATURE", "EPSILON")
    texts = ("0.003", "384", "0.1", "0.98", "1.0", "0.02", "400", "1.0", "1.0", "1e-8")
    optima = (0.011, 640, 0.03, 0.95, 0.4, 0.008, 120, 1.9, 0.7, 1e-9)
    literals = tuple(
        Literal(name, text, optimum, float(gain), odds=name == "BETA2")
        for name, text, optimum, gain in zip(names, texts, optima, gains, strict=True)
    )
    return Landscape(0.9606, literals)


@dataclass(frozen=True)
class Rotated(Landscape):
    """A bowl whose axes are turned against the literals', with ripples: what one literal wants depends on all."""

    turn: int = 7
    ripple: float = 0.0006

    @cached_property
    def _rotation(self) -> np.ndarray:
        matrix = np.random.default_rng(self.turn).normal(size=(len(self.literals),) * 2)
        return np.linalg.qr(np.eye(len(self.literals)) + 0.6 * matrix)[0]

    def _quadratic(self, distances) -> float:
        weights = np.array([literal.gain for literal in self.literals])
        along = self._rotation @ np.array([distances[literal.name] for literal in self.literals])
        bowl = float(np.sum(weights * np.abs(along) ** 1.5))
        return bowl + self.ripple * float(np.mean(1 - np.cos(4 * along)))


def rotated() -> Landscape:
    """Twelve literals in a rotated bowl that is steeper than a parabola near its middle, with small ripples."""
    rng = np.random.default_rng(11)
    gains = np.geomspace(0.008, 0.0006, 12)
    literals = []
    for number, gain in enumerate(gains):
        optimum = float(f"{math.exp(rng.normal(0, 0.5)):.3g}")
        literals.append(Literal(f"RATE_{'ABCDEFGHIJKL'[number]}", "1.0", optimum, float(gain)))
    made = Rotated(0.9606, tuple(literals))
    start = made.score(made.seed)
    assert start is not None
    scale = (0.9979 - 0.9606) / (start - 0.9606)
    return replace(made, literals=tuple(replace(each, gain=each.gain * scale) for each in made.literals))


def structural() -> Landscape:
    """Twenty places for parts with gains of many sizes, a few that only help together, and six literals."""
    rng = np.random.default_rng(5)
    parts = []
    for number in range(20):
        effects = {"plain": 0.0}
        for name in ("b", "c", "d", "e"):
            effects[name] = round(float(rng.choice([-1, 1], p=[0.2, 0.8]) * math.exp(rng.normal(-7.0, 0.9))), 5)
        parts.append(Part(f"place{number}", effects))
    pairs = {("place0:b", "place1:c"): -0.004, ("place2:d", "place3:e"): -0.003, ("place4:b", "place5:b"): 0.005}
    literals = tuple(replace(each, gain=0.6 * each.gain) for each in CALIBRATED.literals[:6])
    return Landscape(0.9700, literals, tuple(parts), pairs=pairs)


LANDSCAPES: dict[str, Callable[[], Landscape]] = {
    "calibrated": lambda: CALIBRATED,
    "ellipsoid": ellipsoid,
    "rotated": rotated,
    "structural": structural,
    "separable": separable,
}
