"""Where to put words on a picture so that they cover nothing: greedy, in pixels, most important first.

Pure geometry. Does not own the picture (report.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels, y upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: Box) -> bool:
        """Say whether two boxes overlap."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def within(self, other: Box) -> bool:
        """Say whether this box lies inside another."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.bottom >= other.bottom
            and self.top <= other.top
        )

    def grown(self, margin: float) -> Box:
        """Return the box with a margin on each side."""
        return Box(self.left - margin, self.bottom - margin, self.right + margin, self.top + margin)

    def crossed(self, start: tuple[float, float], end: tuple[float, float]) -> bool:
        """Say whether a straight line passes through the box (Liang and Barsky's clipping)."""
        enter, leave = 0.0, 1.0
        for place, low, high in ((0, self.left, self.right), (1, self.bottom, self.top)):
            step = end[place] - start[place]
            if step == 0:
                if not low < start[place] < high:
                    return False
                continue
            first, last = sorted(((low - start[place]) / step, (high - start[place]) / step))
            enter, leave = max(enter, first), min(leave, last)
        return enter < leave


@dataclass(frozen=True, slots=True)
class Wish:
    """A label that wants to stand near a point."""

    x: float
    y: float
    width: float
    height: float


_DISTANCES = (16.0, 30.0, 48.0, 70.0, 100.0, 140.0, 190.0, 250.0)
_DIRECTIONS = (215, 235, 255, 275, 295, 195, 315, 60, 40, 80, 110)
"""Degrees, counted from the right against the clock: below to the left first, where a falling curve leaves room."""


def place(wishes: Sequence[Wish], obstacles: Sequence[Box], bounds: Box, padding: float = 3.0) -> list[Box | None]:
    """Return a box for each label, or None where none is free; earlier wishes choose first.

    No box meets an obstacle or another box, and no line from a point to its box crosses another box.

    Args:
        wishes: the labels, most important first.
        obstacles: what must stay visible.
        bounds: where labels may be.
        padding: pixels between two labels.
    """
    placed: list[Box | None] = []
    taken: list[Box] = []
    lines: list[tuple[tuple[float, float], tuple[float, float]]] = []
    for wish in wishes:
        found = None
        for box in _candidates(wish):
            line = ((wish.x, wish.y), nearest(box, wish.x, wish.y))
            free = (
                box.within(bounds)
                and not any(box.meets(obstacle) for obstacle in obstacles)
                and not any(box.grown(padding).meets(other) or other.crossed(*line) for other in taken)
                and not any(box.crossed(*other) for other in lines)
            )
            if free:
                found = box
                taken.append(box)
                lines.append(line)
                break
        placed.append(found)
    return placed


def nearest(box: Box, x: float, y: float) -> tuple[float, float]:
    """Return the point of a box that is nearest to a point."""
    return min(max(x, box.left), box.right), min(max(y, box.bottom), box.top)


def _candidates(wish: Wish) -> list[Box]:
    boxes = []
    for distance in _DISTANCES:
        for degrees in _DIRECTIONS:
            angle = math.radians(degrees)
            x, y = wish.x + distance * math.cos(angle), wish.y + distance * math.sin(angle)
            left = x - wish.width if math.cos(angle) < -0.1 else x if math.cos(angle) > 0.1 else x - wish.width / 2
            bottom = y - wish.height if math.sin(angle) < 0 else y
            boxes.append(Box(left, bottom, left + wish.width, bottom + wish.height))
    return boxes
