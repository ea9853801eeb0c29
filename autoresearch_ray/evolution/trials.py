"""The window of trainings that the operator `parameters` learns from: the latest few hundred, and the best.

Owns which are kept. Does not own scores (state.py), or what is learned from them (operators/parameters.py).
"""

from __future__ import annotations

from autoresearch_ray.evolution.state import State
from autoresearch_ray.operators import tunables
from autoresearch_ray.operators.request import Trial
from autoresearch_ray.operators.tunables import Literals
from autoresearch_ray.variant import Status

WINDOW = 224
"""Trainings that are kept whatever they came to: a surrogate's cost grows with their cube."""
BEST = 32
"""The best ones that are kept beside them."""
FLYING = 128
"""Of the trainings in flight, so many of the latest are told of: enough that none is asked for again."""


class Trials:
    """Bounded, whatever the run's length; sources are looked at once, and only if somebody asks."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._literals: dict[int, Literals | str] = {}  # a source, until it is looked at
        self._flying: dict[int, Trial | None] = {}  # None, until somebody asks
        self._ended: dict[int, Trial | None] = {}  # None: to be made anew
        self._anew: set[int] = set()
        self._window: tuple[Trial, ...] | None = None

    def begun(self, number: int, literals: Literals | str) -> None:
        """Take in a variant that will be trained: its literals, or its source to find them in."""
        self._literals[number] = literals
        self._flying[number] = None
        self._window = None

    def ended(self, number: int, status: Status) -> None:
        """Take in that a birth has ended; what never trained to an end teaches nothing."""
        self._flying.pop(number, None)
        self._window = None
        if number not in self._literals:
            return
        if status is Status.COMPLETED:
            self._ended[number] = None
            self._anew.add(number)
        elif status in (Status.CRASHED, Status.TIMED_OUT):
            self._ended[number] = Trial(self._read(number), failed=True)
        else:
            del self._literals[number]
        if len(self._ended) > WINDOW + 4 * BEST:
            self._forget()

    def scored(self, number: int) -> None:
        """Take in that a variant has another score."""
        if number in self._ended:
            self._ended[number] = None
            self._anew.add(number)
            self._window = None

    def window(self) -> tuple[Trial, ...]:
        """Return what is known, oldest first, and then what is in flight."""
        if self._window is None:
            for number in tuple(self._anew):
                if scores := self._state.scores(number):
                    self._ended[number] = Trial(self._read(number), sum(scores) / len(scores), len(scores))
                    self._anew.discard(number)
            ended = (trial for trial in self._ended.values() if trial is not None)
            self._window = (*ended, *map(self._in_flight, list(self._flying)[-FLYING:]))
        return self._window

    def _in_flight(self, number: int) -> Trial:
        trial = self._flying[number]
        if trial is None:
            trial = self._flying[number] = Trial(self._read(number))
        return trial

    def _read(self, number: int) -> Literals:
        literals = self._literals[number]
        if isinstance(literals, str):
            literals = self._literals[number] = tunables.read(literals)
        return literals

    def _forget(self) -> None:
        scored = [(sum(scores) / len(scores), at) for at in self._ended if (scores := self._state.scores(at))]
        best = {at for _, at in sorted(scored)[:BEST]}
        for number in list(self._ended)[: -(WINDOW + BEST)]:
            if number not in best:
                del self._ended[number], self._literals[number]
                self._anew.discard(number)
