"""A cluster of threads on the true clock: operators really ask, and trainings only take time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from scripted import ScriptedCluster, bowl

from autoresearch_ray.evolution.cluster import Event, Measured, Proposed
from autoresearch_ray.operators.desk import Desk
from autoresearch_ray.operators.request import Request
from autoresearch_ray.variant import Experiment, Result


class ThreadedCluster(ScriptedCluster):
    """Islands answer at once; so many operators ask at a time, and so many trainings take so many seconds each."""

    def __init__(self, desk: Desk, slots: int, seconds: float, train: Callable[[Experiment], Result] = bowl) -> None:
        super().__init__(train, slots)
        self._desk = desk
        self._seconds = seconds
        self._answers: queue.Queue[Event] = queue.Queue()
        self._operators = ThreadPoolExecutor(16)
        self._trainings = ThreadPoolExecutor(slots)
        self._noted = threading.Lock()
        self.busy: list[tuple[float, float]] = []

    def now(self) -> float:
        return time.time()

    def propose(self, request: Request) -> None:
        self.proposals.append(request.birth)
        self._operators.submit(self._ask, request)

    def _ask(self, request: Request) -> None:
        self._answers.put(Proposed(request.birth, self._desk.propose(request)))

    def train(self, experiment: Experiment) -> None:
        self.experiments.append(experiment)
        self._trainings.submit(self._measure, experiment)

    def _measure(self, experiment: Experiment) -> None:
        began = time.monotonic()
        time.sleep(self._seconds)
        result = replace(self._train(experiment), train_seconds=self._seconds, wall_seconds=self._seconds)
        with self._noted:
            self.busy.append((began, time.monotonic()))
        self._answers.put(Measured(experiment.experiment_id, result))

    def withdraw(self, experiment_ids: Sequence[str]) -> list[str]:
        return []

    def next_event(self, timeout: float) -> Event | None:
        if self._queue:
            return self._queue.popleft()()
        try:
            return self._answers.get(timeout=timeout) if timeout else self._answers.get_nowait()
        except queue.Empty:
            return None

    @property
    def share_busy(self) -> float:
        """Share of the slots' time, from the first training to the last one's beginning, in which they trained."""
        start, end = min(began for began, _ in self.busy), max(began for began, _ in self.busy)
        return sum(min(ended, end) - began for began, ended in self.busy) / (self.slots * (end - start))

    def close(self) -> None:
        self._operators.shutdown()
        self._trainings.shutdown()
