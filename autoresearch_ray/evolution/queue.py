"""Experiments that wait for a slot and those handed to the cluster: numbered, seeded, taken back, begun once more.

Owns the way of an experiment from its order to its result. Does not own what is ordered, or what a result means.
"""

from __future__ import annotations

from collections import deque

from autoresearch_ray.evolution.breeding import TRAINING, entropy
from autoresearch_ray.evolution.cluster import Cluster, Progressed
from autoresearch_ray.evolution.flight import Running, Trainings, experiment_name
from autoresearch_ray.evolution.pacing import ready_ahead
from autoresearch_ray.variant import Experiment, Purpose, Variant

LOST_LIMIT = 3
"""So many times a training may be lost before it is given up."""


class Queue:
    """First in, first out; a variant's trainings differ in their random seeds.

    Attributes:
        ready: experiments that wait, in their order.
        running: those handed to the cluster, by id.
        trainings: which trainings variants have had.
    """

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.ready: deque[Running] = deque()
        self.running: dict[str, Running] = {}
        self.trainings = Trainings()
        self._cluster = cluster
        self._seed = seed

    def __len__(self) -> int:
        return len(self.ready) + len(self.running)

    def enqueue(
        self,
        variant: Variant,
        identity: str,
        purpose: Purpose = Purpose.BIRTH,
        *,
        ended: bool = False,
        losses: int = 0,
    ) -> Running:
        """Order a variant's next training; the ledger has reserved it already.

        Args:
            variant: with its source.
            identity: what it shares with those that are the same program.
            purpose: why it is trained.
            ended: its birth has ended.
            losses: how often this training was lost before.
        """
        number, replicate = variant.birth.number, self.trainings.take(variant.variant_id, ended=ended)
        seed = entropy(self._seed, number, TRAINING + replicate) % 2**31
        name = experiment_name(variant.variant_id, replicate)
        holdout = purpose in (Purpose.CHALLENGE, Purpose.CONFIRMATION)
        experiment = Experiment(name, variant.variant_id, variant.source, seed, holdout=holdout, purpose=purpose)
        run = Running(experiment, variant, identity, losses)
        if purpose is Purpose.CHALLENGE:  # a verdict is waited for, and the end of the run may be near
            self.ready.appendleft(run)
        else:
            self.ready.append(run)
        return run

    def again(self, run: Running, *, ended: bool) -> Running:
        """Order a lost training once more, under a number of its own."""
        purpose, losses = run.experiment.purpose, run.losses + 1
        return self.enqueue(run.variant, run.identity, purpose, ended=ended, losses=losses)

    def dispatch(self) -> None:
        """Hand experiments to the cluster: all its slots, and a few more so that none waits for the loop."""
        most = self._cluster.slots + ready_ahead(self._cluster.slots)
        while self.ready and len(self.running) < most:
            run = self.ready.popleft()
            self.running[run.experiment.experiment_id] = run
            self._cluster.train(run.experiment)

    def withdraw(self) -> None:
        """Take back what was handed to the cluster and has not begun, for `resume`."""
        queued = [name for name, run in self.running.items() if run.phase is None]
        for name in self._cluster.withdraw(queued) if queued else ():
            self.ready.appendleft(self.running.pop(name))

    def progressed(self, event: Progressed) -> None:
        """Take in how far an experiment got."""
        if event.experiment_id in self.running:
            run = self.running[event.experiment_id]
            run.phase, run.place = event.phase, event.place

    def pending(self, variant_id: str) -> int:
        """Return how many trainings of a variant wait or run."""
        return sum(run.variant.variant_id == variant_id for run in (*self.ready, *self.running.values()))
