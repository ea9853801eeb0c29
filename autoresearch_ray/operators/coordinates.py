"""Where a program's literals lie as a point: one axis a number, on the scale on which it steps, one a choice.

Owns the map between settings and points, both ways. Does not own what a literal is (tunables.py) or who is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoresearch_ray.operators.tunables import LARGEST, Kind, Tunable, Value, is_layers, quantum, tidy

Points = npt.NDArray[np.float64]
"""Points by row, shape (n, axes); a single point has the shape (axes,)."""

CATEGORY_DISTANCE = 1.0
"""How far apart two choices lie, in units of the logarithm: as far as a factor of e."""

_NEAR_ZERO = 1e-3
_NEAR_EDGE = 1e-2
_CLOSEST_TO_EDGE = 1e-7


@dataclass(frozen=True, slots=True)
class Axis:
    """One coordinate: a number's, or that of one alternative of a choice (1 where it is taken, else 0)."""

    tunable: Tunable
    offset: float = 0.0
    """Added before the logarithm is taken, so that zero lies at a finite distance; > 0 where zero occurs."""
    alternative: Value | None = None
    """Choices and flags only: the alternative that this coordinate stands for."""

    @property
    def discrete(self) -> bool:
        """Whether only some values between two are allowed."""
        return self.tunable.kind not in (Kind.UNIT, Kind.SCALE)

    def coordinate(self, value: Value) -> float | None:
        """Return where a value lies; None for one that has no place here (another type or sign)."""
        if self.alternative is not None:
            return CATEGORY_DISTANCE * (value == self.alternative)
        here = self.tunable.value
        assert not isinstance(here, (bool, str))
        if isinstance(value, (bool, str)) or value * here < 0:
            return None
        if self.tunable.kind is Kind.UNIT:
            return _log_odds(value, self.offset) if 0 <= value <= 1 else None
        magnitude = abs(value) + self.offset
        return math.log(magnitude) if 0 < magnitude <= LARGEST else None

    def value(self, coordinate: float) -> Value:
        """Return the allowed value nearest to a coordinate of a number's axis."""
        here = self.tunable.value
        assert not isinstance(here, (bool, str))
        if self.tunable.kind is Kind.UNIT:
            return _unit(coordinate, self.offset)
        magnitude = min(math.exp(min(coordinate, 60.0)), float(LARGEST)) - self.offset
        sign = math.copysign(1.0, here)
        if isinstance(here, float):
            return 0.0 if magnitude < self.offset / 2 else sign * tidy(magnitude, Kind.SCALE)
        if self.tunable.kind is Kind.DOUBLING:
            return int(sign) * (1 << max(0, round(math.log2(max(magnitude, 1.0)))))
        step = 1 if is_layers(self.tunable.name) else quantum(abs(here))
        return int(sign) * max(round(magnitude / step) * step, int(self.offset == 0) * step)

    def least(self, coordinate: float) -> float:
        """Return how far one must go from a coordinate to reach another value; 0 where any distance will do."""
        if not self.discrete or self.alternative is not None:
            return 0.0
        if self.tunable.kind is Kind.DOUBLING:
            return math.log(2)
        here = self.tunable.value
        assert isinstance(here, int)
        step = 1 if is_layers(self.tunable.name) else quantum(abs(here))
        return math.log1p(step / max(math.exp(coordinate), 1e-9))


@dataclass(frozen=True, slots=True)
class Space:
    """The axes of one program's literals, and what its own literals are."""

    tunables: tuple[Tunable, ...]
    axes: tuple[Axis, ...]

    @classmethod
    def of(cls, tunables: Sequence[Tunable], settings: Iterable[Mapping[str, Value]]) -> Space:
        """Return the axes of a program's literals.

        Args:
            tunables: the program's.
            settings: those of other programs that will be asked for; they say where zeros occur.
        """
        edges = {tunable.key: _at_edge(tunable, tunable.value) for tunable in tunables}
        by_key = {tunable.key: tunable for tunable in tunables}
        for setting in settings:
            for key in setting.keys() & edges.keys():
                edges[key] = edges[key] or _at_edge(by_key[key], setting[key])
        axes = [axis for tunable in tunables for axis in _axes(tunable, edges[tunable.key])]
        return cls(tuple(tunables), tuple(axes))

    @property
    def here(self) -> Points:
        """The program's own point."""
        return np.array([axis.coordinate(axis.tunable.value) or 0.0 for axis in self.axes])

    def point(self, setting: Mapping[str, Value]) -> Points:
        """Return a setting's point; what it lacks, or has of another kind, is taken to be as in this program."""
        point = self.here
        for index, axis in enumerate(self.axes):
            value = setting.get(axis.tunable.key)
            found = None if value is None else axis.coordinate(value)
            if found is not None:
                point[index] = found
        return point

    def setting(self, point: Points) -> dict[str, Value]:
        """Return the allowed setting nearest to a point; of a choice, the alternative with the greatest coordinate."""
        setting: dict[str, Value] = {}
        greatest: dict[str, float] = {}
        for axis, coordinate in zip(self.axes, map(float, point), strict=True):
            key = axis.tunable.key
            if axis.alternative is None:
                own = axis.coordinate(axis.tunable.value)
                setting[key] = axis.tunable.value if own == coordinate else axis.value(coordinate)
            elif coordinate > greatest.get(key, -math.inf):
                greatest[key], setting[key] = coordinate, axis.alternative
        return setting

    def neighbours(self, index: int, point: Points) -> list[Points]:
        """Return the points at which one discrete literal has another near value, or another alternative."""
        axis = self.axes[index]
        found = []
        if axis.alternative is not None:
            group = [place for place, other in enumerate(self.axes) if other.tunable.key == axis.tunable.key]
            other = point.copy()
            other[group] = 0.0
            other[index] = CATEGORY_DISTANCE
            return [other]
        for step in (-1.0, 1.0):
            other = point.copy()
            moved = axis.coordinate(axis.value(point[index] + step * 1.01 * axis.least(point[index])))
            if moved is not None:
                other[index] = moved
                found.append(other)
        return found


def _axes(tunable: Tunable, edge: bool) -> list[Axis]:
    if tunable.kind is Kind.FLAG:
        return [Axis(tunable, alternative=False), Axis(tunable, alternative=True)]
    if tunable.kind is Kind.CHOICE:
        return [Axis(tunable, alternative=choice) for choice in tunable.choices]
    if not edge:
        return [Axis(tunable)]
    if tunable.kind is Kind.UNIT:
        return [Axis(tunable, offset=_NEAR_EDGE)]
    return [Axis(tunable, offset=1.0 if isinstance(tunable.value, int) else _NEAR_ZERO)]


def _at_edge(tunable: Tunable, value: Value) -> bool:
    return value in (0, 1) if tunable.kind is Kind.UNIT else value == 0


def _log_odds(value: float, offset: float) -> float:
    share = (value + offset) / (1 + 2 * offset)
    share = min(max(share, _CLOSEST_TO_EDGE), 1 - _CLOSEST_TO_EDGE)
    return math.log(share / (1 - share))


def _unit(coordinate: float, offset: float) -> float:
    share = 1 / (1 + math.exp(-min(max(coordinate, -30.0), 30.0)))
    value = min(max(share * (1 + 2 * offset) - offset, 0.0), 1.0)
    if offset and min(value, 1 - value) < _NEAR_EDGE / 4:
        return float(round(value))
    return tidy(min(max(value, _CLOSEST_TO_EDGE), 1 - _CLOSEST_TO_EDGE), Kind.UNIT)
